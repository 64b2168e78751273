#pragma once

#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/wait_list.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <expected>
#include <system_error>

namespace ferrule::inline v0 {

/// Something that has happened, or has not yet: set, it lets everybody through, until it is reset. It stays set however
/// many have passed; what lets one through for each time is a Semaphore with `add`, or a Channel.
///
/// Nothing is allocated, and nobody is resumed from inside `set`: who waits goes on from the ready list, in the order
/// in which they began to wait. An event that was set may be destroyed although some of them have not run yet; one that
/// somebody still waits for may not (assertion).
///
/// Thread: tasks of one host, the one on which it is awaited first; another's is an assertion.
///
/// ```cpp
/// Event loaded;
/// loaded.set();
/// if (const auto waited = co_await loaded.wait(); !waited) co_return;  // ECANCELED
/// ```
class FERRULE_EXPORT Event {
public:
    explicit Event(bool set = false) noexcept : set_(set) {}
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    /// What `wait` gives to await.
    class [[nodiscard]] FERRULE_EXPORT Wait : private detail::Waiter {
    public:
        explicit Wait(Event& event) noexcept : Waiter(&on_cancel), event_(&event) {}
        Wait(Wait&&) noexcept = default;
        ~Wait() {
            if (state() != State::idle) [[unlikely]] {
                abandon(event_->waiters_);
            }
        }

        bool await_ready() noexcept {
            Host& host = event_->waiters_.here();
            if (!event_->set_ || !host.spend_inline_budget()) {
                return false;
            }
            decide(State::granted);
            return true;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            if (event_->set_) [[unlikely]] {
                yield(event_->waiters_.here(), handle, State::granted);
                return true;
            }
            return wait(event_->waiters_, handle, environment_of(handle));
        }
        std::expected<void, std::error_code> await_resume() noexcept {
            const State ended = take();
            if (ended != State::granted) [[unlikely]] {
                return std::unexpected(detail::error_of(ended));
            }
            return {};
        }

    private:
        static void on_cancel(CancelNode& node, CancelReason reason) noexcept;

        Event* event_;
    };

    /// `co_await event.wait()`: until it is set. Whoever waits when `set` is called gets through, also when `reset`
    /// follows at once. ECANCELED when the scope of the waiting task is cancelled first; one that need not wait gets
    /// through in a cancelled scope, too.
    Wait wait() noexcept { return Wait(*this); }

    /// Sets it, and lets everybody through who waits now.
    void set() noexcept {
        waiters_.check_thread();
        set_ = true;
        if (!waiters_.empty()) {
            waiters_.end_all(detail::Waiter::State::granted);
        }
    }

    /// Who comes from now on waits.
    void reset() noexcept {
        waiters_.check_thread();
        set_ = false;
    }

    /// Whether who comes now gets through.
    bool is_set() const noexcept { return set_; }

private:
    detail::WaitList waiters_;
    bool set_;
};
static_assert(sizeof(Event::Wait) <= 64);

}  // namespace ferrule::inline v0
