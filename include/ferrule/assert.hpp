#pragma once

#include <ferrule/version.hpp>

namespace ferrule::inline v0 {

/// Prints `file:line: what` to standard error and aborts. Any thread.
[[noreturn]] FERRULE_EXPORT void assertion_failed(const char* file, int line, const char* what) noexcept;

}  // namespace ferrule::inline v0

/// An invariant of the library. It stays on in release builds: a broken one means that memory which the kernel may
/// touch is no longer accounted for, and going on would corrupt data.
#define FERRULE_ASSERT(condition)                                                             \
    do {                                                                                      \
        if (!(condition)) [[unlikely]] {                                                      \
            ::ferrule::assertion_failed(__FILE__, __LINE__, "assertion failed: " #condition); \
        }                                                                                     \
    } while (false)
