#pragma once

#include <ferrule/reactor/stall_detector.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// What is at these addresses of the running program. Reads the files of the program and its libraries, which is what a
/// debugger does, of the process itself and not of the kernel behind the seam: not on a reactor's thread.
std::vector<StackFrame> look_up(std::span<const std::uintptr_t> addresses);

/// The name of a symbol as a person writes it; a coroutine's body, of GCC (`.actor`) or clang (`.resume`), by the name
/// of the coroutine.
std::string readable_name(const std::string& symbol, bool& coroutine);

}  // namespace ferrule::inline v0
