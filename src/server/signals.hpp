#pragma once

#include <ferrule/ring/kernel.hpp>

#include <signal.h>

namespace ferrule::inline v0 {

/// SIGTERM and SIGINT, and SIGHUP where it is wanted, blocked in the thread that makes it and in those that this one
/// starts, and readable instead. Its end restores the thread's signal mask.
class Signals {
public:
    /// Throws StartError.
    Signals(Kernel& kernel, bool with_hangup);
    ~Signals();
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    /// Readable when there is one.
    int descriptor() const noexcept { return descriptor_; }

    /// Takes one: its number; 0 when there is none.
    int take() noexcept;

private:
    Kernel& kernel_;
    sigset_t former_;
    int descriptor_ = -1;
};

}  // namespace ferrule::inline v0
