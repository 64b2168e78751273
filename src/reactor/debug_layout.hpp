#pragma once

#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>

namespace ferrule::inline v0 {

class Reactor;

namespace detail {

/// Where something is in an object, by name, for tools/gdb/ferrule.py: so it reads release builds, which have no debug
/// information. A list of them ends with an empty name. The script finds the lists by their symbols.
struct DebugPlace {
    char name[40];
    std::uint64_t value;
};

/// The lists. A friend of those whose members it tells.
struct DebugLayout {
    FERRULE_EXPORT static const DebugPlace reactor[];
    FERRULE_EXPORT static const DebugPlace network[];
};

/// What the script finds on the stack of a thread that is in Reactor::run, and so the reactor: a thread-local pointer
/// needs a debugger that knows the C library.
class RunMark {
public:
    static constexpr std::uint64_t first = 0x20656c7572726566;   // "ferrule "
    static constexpr std::uint64_t second = 0x3a726f7463616572;  // "reactor:"

    explicit RunMark(const Reactor& reactor) noexcept : words_{first, second}, reactor_(&reactor) { keep(); }
    RunMark(const RunMark&) = delete;
    RunMark& operator=(const RunMark&) = delete;
    /// Cleared, so that what is left of an earlier run on the stack is not taken for one.
    ~RunMark() {
        words_[0] = 0;
        keep();
    }

private:
    // For the compiler somebody reads it.
    void keep() const noexcept { asm volatile("" : : "r"(this) : "memory"); }

    std::uint64_t words_[2];
    const Reactor* reactor_;
};

}  // namespace detail
}  // namespace ferrule::inline v0
