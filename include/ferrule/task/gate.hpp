#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/wait_list.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

/// Counts those who are inside, until it is closed: then nobody comes in any more, and closing ends when the last has
/// left. It is for the owner of a thing that many tasks use and that must not go before they are through.
///
/// Nothing is allocated, and nobody is resumed from inside `leave`. It outlives those who are inside and those who wait
/// for its closing (assertion); once a close has ended it may be destroyed.
///
/// Thread: tasks of one host, the one on which it is awaited first; another's is an assertion.
///
/// ```cpp
/// Gate gate;
/// {
///     const auto inside = gate.hold();
///     if (!inside) co_return;  // EPIPE: it is closed, and what is behind it may be going
///     co_await work();
/// }
/// co_await gate.close();
/// ```
class FERRULE_EXPORT Gate {
public:
    Gate() noexcept = default;
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;
    ~Gate() { FERRULE_ASSERT(inside_ == 0 && "a gate is destroyed while somebody is inside"); }

    /// Somebody who is inside, and leaves by its end.
    class [[nodiscard]] Hold {
    public:
        Hold() noexcept = default;
        Hold(Hold&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
        Hold& operator=(Hold&& other) noexcept {
            if (this != &other) {
                leave();
                gate_ = std::exchange(other.gate_, nullptr);
            }
            return *this;
        }
        ~Hold() { leave(); }

        /// Leaves now. Nothing happens when it has left before.
        void leave() noexcept {
            if (gate_ != nullptr) {
                std::exchange(gate_, nullptr)->leave();
            }
        }

    private:
        friend Gate;
        explicit Hold(Gate& gate) noexcept : gate_(&gate) {}

        Gate* gate_ = nullptr;
    };

    /// What `close` gives to await.
    class [[nodiscard]] FERRULE_EXPORT Close : private detail::Waiter {
    public:
        explicit Close(Gate& gate) noexcept : Waiter(&on_cancel), gate_(&gate) {}
        Close(Close&&) noexcept = default;
        ~Close() {
            if (state() != State::idle) [[unlikely]] {
                abandon(gate_->closers_);
            }
        }

        bool await_ready() noexcept {
            Host& host = gate_->closers_.here();
            if (gate_->inside_ != 0 || !host.spend_inline_budget()) {
                return false;
            }
            decide(State::granted);
            return true;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            if (gate_->inside_ == 0) [[unlikely]] {
                yield(gate_->closers_.here(), handle, State::granted);
                return true;
            }
            return wait(gate_->closers_, handle, environment_of(handle));
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

        Gate* gate_;
    };

    /// Goes in, to `leave` later. EPIPE when it is closed.
    std::expected<void, std::error_code> enter() noexcept {
        closers_.check_thread();
        if (closed_) [[unlikely]] {
            return std::unexpected(detail::error_of(detail::Waiter::State::closed));
        }
        ++inside_;
        return {};
    }

    /// Goes out. Once for each `enter` that went in (assertion).
    void leave() noexcept {
        closers_.check_thread();
        FERRULE_ASSERT(inside_ != 0);
        if (--inside_ == 0 && !closers_.empty()) {
            closers_.end_all(detail::Waiter::State::granted);
        }
    }

    /// `enter` with a guard. EPIPE when it is closed.
    std::expected<Hold, std::error_code> hold() noexcept {
        if (const auto entered = enter(); !entered) [[unlikely]] {
            return std::unexpected(entered.error());
        }
        return Hold(*this);
    }

    /// `co_await gate.close()`: closed it is at once, by the call; the await ends when nobody is inside any more.
    /// ECANCELED when the scope of the waiting task is cancelled first: it stays closed, some are still inside, and who
    /// owns what they use calls `close` again. Any number of tasks may wait for it.
    Close close() noexcept {
        closers_.check_thread();
        closed_ = true;
        return Close(*this);
    }

    /// Whether nobody comes in any more.
    bool closed() const noexcept { return closed_; }
    /// How many are inside.
    std::uint64_t inside() const noexcept { return inside_; }

private:
    detail::WaitList closers_;
    std::uint64_t inside_ = 0;
    bool closed_ = false;
};
static_assert(sizeof(Gate::Close) <= 64);

}  // namespace ferrule::inline v0
