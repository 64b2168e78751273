#pragma once

#include <ferrule/reactor/timer_heap.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include <coroutine>
#include <cstdint>
#include <utility>

namespace ferrule::inline v0 {

class Reactor;

/// How an operation ended: the completion's result (a count, a descriptor, or a negative errno) and its flags.
struct OperationResult {
    std::int32_t result = 0;
    std::uint32_t flags = 0;
};

/// Whose memory an operation makes the kernel touch.
enum class OperationMemory : std::uint8_t {
    reactor,  ///< the reactor's own, or none: the awaiter may go away at any time
    caller,   ///< the caller's: the operation must be awaited to its end; destroying it in flight aborts the process
              ///< with its name
};

/// Whom an operation's end is told when nobody awaits it: the owner of what its completion carries (a descriptor) or of
/// what it worked on. Intrusive; it lives until it is told, or until the operation's end has been awaited.
struct AbandonedOperation {
    /// Called once, on the reactor's thread, with the result of the last completion.
    using Function = void (*)(AbandonedOperation& abandoned, std::int32_t result) noexcept;

    explicit AbandonedOperation(Function function) noexcept : ended(function) {}

    Function ended;
};

/// The state of one awaited operation. It lives in the reactor's table, so that what the kernel or a timer points to
/// outlives the coroutine that waits. Freed only when its owner is finished and its last completion has arrived.
struct OperationSlot {
    /// Who owns the slot, and whether its end is known.
    /// `queued`: it has ended, and its waiter is in the ready list.
    enum class State : std::uint8_t { free, waiting, finished, queued };

    std::coroutine_handle<> waiter;
    CancelNode cancel_node{&OperationSlot::on_cancel};
    Reactor* reactor = nullptr;
    const char* name = nullptr;
    AbandonedOperation* abandoned = nullptr;  ///< told of the end when nobody awaits it
    Timer timer;
    std::uint32_t index = 0;
    std::uint32_t generation = 1;
    std::uint32_t next_free = 0;
    std::int32_t result = 0;
    std::uint32_t flags = 0;
    State state = State::free;
    OperationMemory memory = OperationMemory::reactor;
    bool in_kernel = false;  ///< a completion is still to come
    bool detached = false;   ///< nobody waits any more

private:
    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
};

/// One operation of a reactor, to be awaited once: `auto operation = reactor.submit(...); auto ended = co_await
/// operation;`. One pointer. Destroying it before its end detaches it: the kernel is asked to cancel, and the slot is
/// freed by the last completion; an operation on the caller's memory aborts the process instead (OperationMemory).
/// Reactor's own thread.
///
/// Cancellation: the scope of the awaiting coroutine asks the kernel to cancel; the await still ends with the
/// operation's own last completion, -ECANCELED when the cancel won and the real result when it came too late.
class [[nodiscard]] FERRULE_EXPORT Operation {
public:
    explicit Operation(OperationSlot* slot) noexcept : slot_(slot) {}
    Operation(Operation&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    Operation& operator=(Operation&&) = delete;
    ~Operation() {
        if (slot_ != nullptr) release();
    }

    /// Asks the kernel to cancel; the await still ends with the last completion.
    void cancel() noexcept;

    /// Has the end told to `told` when it is not awaited: when this is destroyed before, or let go. False when nothing
    /// was submitted, and nothing will be told.
    bool when_abandoned(AbandonedOperation& told) noexcept {
        if (!has_slot()) return false;
        slot_->abandoned = &told;
        return true;
    }

    /// Lets it go on to its end, which nobody awaits: it is not cancelled. The reactor's end waits for it. Not for an
    /// operation on the caller's memory. False when nothing was submitted.
    bool let_go() && noexcept;

    [[nodiscard]] bool await_ready() const noexcept { return !waits() && go_on_inline(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        if (waits()) [[likely]] {
            suspend(handle, environment_of(handle));
        } else {
            yield(handle);
        }
    }
    /// The end of the operation. -ENOBUFS when the reactor's table of operations was full and nothing was submitted.
    OperationResult await_resume() noexcept;

private:
    [[nodiscard]] bool waits() const noexcept { return has_slot() && slot_->state != OperationSlot::State::finished; }
    [[nodiscard]] bool has_slot() const noexcept {
        return slot_ != nullptr && (reinterpret_cast<std::uintptr_t>(slot_) & yielding) == 0;
    }
    [[nodiscard]] static bool go_on_inline() noexcept;
    void suspend(std::coroutine_handle<> handle, Environment* environment) noexcept;
    void yield(std::coroutine_handle<> handle) noexcept;
    void release() noexcept;

    /// Marks in `slot_` the coroutine of an operation without a slot that waits in the ready list.
    static constexpr std::uintptr_t yielding = 1;

    OperationSlot* slot_;
};

}  // namespace ferrule::inline v0
