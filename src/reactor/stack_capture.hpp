#pragma once

#include <ferrule/ring/kernel.hpp>

#include <signal.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ferrule::inline v0 {
namespace detail {

/// Where a thread writes down its stack in a signal handler. Who asks for it puts its address into
/// Host::stack_capture; the handler takes it from there, and whoever of the two takes it away owns it.
struct StackCapture {
    static constexpr std::size_t frames_max = 64;

    std::array<std::uintptr_t, frames_max> addresses;  ///< innermost first; all but the first are return addresses
    std::uint32_t count = 0;
    std::uintptr_t interrupted = 0;  ///< where the thread was: what is further in is the handler's
    std::atomic<bool> done{false};
};

}  // namespace detail

/// The action of the process for the signal that asks for stacks, while it is needed.
class StackSignal {
public:
    StackSignal(Kernel& kernel, int signal) noexcept : kernel_(kernel), signal_(signal) {}
    ~StackSignal();
    StackSignal(const StackSignal&) = delete;
    StackSignal& operator=(const StackSignal&) = delete;

    /// Puts the handler in place, unless it is there. 0; -EBUSY when somebody else handles the signal; what
    /// Kernel::signal_action answers.
    int install() noexcept;
    [[nodiscard]] int number() const noexcept { return signal_; }

private:
    Kernel& kernel_;
    int signal_;
    bool installed_ = false;
    struct sigaction former_ {};
};

}  // namespace ferrule::inline v0
