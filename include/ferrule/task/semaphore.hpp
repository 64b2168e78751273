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

/// So many units of something, to be taken and given back: how many may do a thing at once, or how many bytes may be in
/// use. First come, first served, strictly: who wants many units is not overtaken by those behind who want few.
///
/// Nothing is allocated, and nobody is resumed from inside a call that gives units: who gets them goes on from the
/// ready list. Units that were given to a task that is destroyed before it runs go on to the next.
///
/// It outlives its units, and those who wait for them (assertion).
///
/// Thread: tasks of one host, the one on which it is awaited first; another's is an assertion.
///
/// ```cpp
/// Semaphore slots(2);
/// auto slot = co_await slots.acquire();
/// if (!slot) co_return;  // ECANCELED
/// co_await work();       // two at most, at any time; the slot is given back at the end of its scope
/// ```
class FERRULE_EXPORT Semaphore {
public:
    explicit Semaphore(std::uint64_t units) noexcept : available_(units) {}
    Semaphore(const Semaphore&) = delete;
    Semaphore& operator=(const Semaphore&) = delete;
    ~Semaphore() { FERRULE_ASSERT(taken_ == 0 && "a semaphore is destroyed before its units were given back"); }

    /// Units that were taken: given back by its end.
    class [[nodiscard]] Units {
    public:
        Units() noexcept = default;
        Units(Units&& other) noexcept
            : semaphore_(std::exchange(other.semaphore_, nullptr)), count_(std::exchange(other.count_, 0)) {}
        Units& operator=(Units&& other) noexcept {
            if (this != &other) {
                release();
                semaphore_ = std::exchange(other.semaphore_, nullptr);
                count_ = std::exchange(other.count_, 0);
            }
            return *this;
        }
        ~Units() { release(); }

        /// How many there are; 0: none, or given back.
        std::uint32_t count() const noexcept { return count_; }

        /// Gives them back now.
        void release() noexcept {
            if (count_ != 0) {
                semaphore_->give_back(std::exchange(count_, 0));
            }
        }

        /// Divides off `units` of them, at most `count()` (assertion), for somebody else to give back.
        Units split(std::uint32_t units) noexcept {
            FERRULE_ASSERT(units <= count_);
            count_ -= units;
            return Units(*semaphore_, units);
        }

        /// They are used up, and never come back: with `add`, a semaphore counts what one makes and the other uses.
        void consume() noexcept {
            if (count_ != 0) {
                semaphore_->taken_ -= std::exchange(count_, 0);
            }
        }

    private:
        friend Semaphore;
        Units(Semaphore& semaphore, std::uint32_t count) noexcept : semaphore_(&semaphore), count_(count) {}

        Semaphore* semaphore_ = nullptr;
        std::uint32_t count_ = 0;
    };

    /// What `acquire` gives to await.
    class [[nodiscard]] FERRULE_EXPORT Acquire : private detail::Waiter {
    public:
        Acquire(Semaphore& semaphore, std::uint32_t units) noexcept
            : Waiter(&on_cancel, units), semaphore_(&semaphore) {}
        Acquire(Acquire&&) noexcept = default;
        ~Acquire() {
            if (state() != State::idle) [[unlikely]] {
                give_up();
            }
        }

        bool await_ready() noexcept {
            Host& host = semaphore_->waiters_.here();
            const State now = semaphore_->state_for(amount());
            if (now == State::waiting || !host.spend_inline_budget()) {
                return false;
            }
            take_now(now);
            return true;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            const State now = semaphore_->state_for(amount());
            if (now != State::waiting) [[unlikely]] {
                take_now(now);
                yield(semaphore_->waiters_.here(), handle, now);
                return true;
            }
            return wait(semaphore_->waiters_, handle, environment_of(handle));
        }
        std::expected<Units, std::error_code> await_resume() noexcept {
            const State ended = take();
            if (ended != State::granted) [[unlikely]] {
                return std::unexpected(detail::error_of(ended));
            }
            return Units(*semaphore_, amount());
        }

    private:
        static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
        void give_up() noexcept;

        void take_now(State now) noexcept {
            decide(now);
            if (now == State::granted) {
                semaphore_->take(amount());
            }
        }

        Semaphore* semaphore_;
    };

    /// `auto held = co_await semaphore.acquire(units)`: until there are so many, and everybody who came before has got
    /// his. ECANCELED when the scope of the waiting task is cancelled first, which takes nothing and lets those behind
    /// go on; EPIPE when the semaphore is closed. What is there is given in a cancelled scope, too. For more units than
    /// there ever are it waits until it is cancelled.
    Acquire acquire(std::uint32_t units = 1) noexcept { return Acquire(*this, units); }

    /// Takes them when that needs no waiting. EAGAIN: there are too few, or somebody was here before; EPIPE: closed.
    std::expected<Units, std::error_code> try_acquire(std::uint32_t units = 1) noexcept {
        waiters_.check_thread();
        const auto now = state_for(units);
        if (now != detail::Waiter::State::granted) {
            return std::unexpected(now == detail::Waiter::State::waiting ? detail::would_wait()
                                                                         : detail::error_of(now));
        }
        take(units);
        return Units(*this, units);
    }

    /// Adds units that were not there before.
    void add(std::uint64_t units) noexcept {
        waiters_.check_thread();
        available_ += units;
        if (!waiters_.empty()) {
            grant();
        }
    }

    /// Ends all waits, now and later, with EPIPE: what the units were for is over. Those that are taken are given back
    /// as always.
    void close() noexcept;

    /// Whether all waits end with EPIPE.
    bool closed() const noexcept { return closed_; }
    /// Units that nobody has.
    std::uint64_t available() const noexcept { return available_; }
    /// Units that are taken, or given to a task that is about to run.
    std::uint64_t taken() const noexcept { return taken_; }

private:
    using State = detail::Waiter::State;

    /// What would become of somebody who comes now.
    State state_for(std::uint32_t units) const noexcept {
        if (closed_) [[unlikely]] {
            return State::closed;
        }
        return units <= available_ && waiters_.empty() ? State::granted : State::waiting;
    }

    void take(std::uint32_t units) noexcept {
        available_ -= units;
        taken_ += units;
    }

    void give_back(std::uint32_t units) noexcept {
        waiters_.check_thread();
        taken_ -= units;
        available_ += units;
        if (!waiters_.empty()) {
            grant();
        }
    }

    void grant() noexcept;

    detail::WaitList waiters_;
    std::uint64_t available_;
    std::uint64_t taken_ = 0;
    bool closed_ = false;
};
static_assert(sizeof(Semaphore::Acquire) <= 64);

}  // namespace ferrule::inline v0
