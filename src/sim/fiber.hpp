#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace ferrule::inline v0 {
class Host;
}

namespace ferrule::inline v0::sim {

/// A stack of its own, with a page below it that nobody may touch.
class FiberStack {
public:
    /// Throws std::bad_alloc.
    explicit FiberStack(std::size_t bytes);
    FiberStack(FiberStack&& other) noexcept;
    FiberStack& operator=(FiberStack&&) = delete;
    ~FiberStack();

    [[nodiscard]] void* bottom() const noexcept { return bottom_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// Never unmapped: what an abandoned fiber has on it stays reachable for the leak checker.
    void abandon() noexcept;

private:
    void* bottom_;
    std::size_t size_;
};

/// Where a stack goes on: what a switch saves, and what of the thread belongs to who runs on it.
struct FiberContext {
    void* stack_pointer = nullptr;
    /// detail::current_host of this stack.
    ferrule::Host* host = nullptr;
    /// __cxa_eh_globals: exceptions that are being handled on this stack.
    void* caught_exceptions = nullptr;
    unsigned uncaught_exceptions = 0;
    // AddressSanitizer's.
    void* fake_stack = nullptr;
    const void* stack_bottom = nullptr;
    std::size_t stack_size = 0;
};

/// What a fiber waits for, in the words of a report: `wait_on` with `object`, if there is one.
struct WaitReason {
    const char* what = nullptr;
    std::int64_t object = -1;
};

/// A thread of a simulated process: a stack that runs until it waits. Everything but the switch itself is the
/// scheduler's.
class Fiber {
public:
    /// `body` runs at the first resume; nothing may leave it.
    Fiber(FiberStack stack, std::string name, std::move_only_function<void()> body);
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    /// Runs it until it suspends or ends. From the scheduler's stack.
    void resume(FiberContext& scheduler);
    /// Back to who resumed it. On the fiber's own stack.
    void suspend();

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] bool ended() const noexcept { return ended_; }
    /// The stack, of a fiber that has ended, for the next.
    FiberStack take_stack() noexcept { return std::move(stack_); }
    void abandon_stack() noexcept { stack_.abandon(); }

    // The scheduler's notes.
    enum class Waiting : std::uint8_t {
        no,        ///< runs
        runnable,  ///< waits for its turn
        blocked,   ///< waits for `wake`, or for a time
    };
    std::uint64_t number = 0;
    /// Of the event that ends its wait; 0: none.
    std::uint64_t timeout = 0;
    WaitReason reason;
    Waiting waiting = Waiting::no;
    /// A wake has come since it last ran.
    bool woken = false;
    bool timed_out = false;
    /// The thread that runs on it, of a machine.
    void* thread = nullptr;

private:
    static void enter(Fiber* self) noexcept;

    FiberContext context_;
    FiberContext* resumer_ = nullptr;
    FiberStack stack_;
    std::string name_;
    std::move_only_function<void()> body_;
    bool ended_ = false;
};

}  // namespace ferrule::inline v0::sim
