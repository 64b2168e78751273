#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/wait_list.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <expected>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

/// One task at a time, over awaits. Between two awaits nobody else runs on a reactor, so what is done without waiting
/// needs no mutex; this is for what must not be interleaved although it waits in its middle. First come, first served:
/// `unlock` gives it to the one that has waited longest, and nobody overtakes.
///
/// Nothing is allocated, and nobody is resumed from inside `unlock`. A mutex that was given to a task that is destroyed
/// before it runs goes on to the next. It is not recursive: who locks it twice waits for himself, until he is
/// cancelled.
///
/// It outlives its guards and those who wait for it (assertion).
///
/// Thread: tasks of one host, the one on which it is awaited first; another's is an assertion.
///
/// ```cpp
/// Mutex one_at_a_time;
/// if (auto guard = co_await one_at_a_time.lock()) {
///     co_await work();
/// }
/// ```
class FERRULE_EXPORT Mutex {
public:
    Mutex() noexcept = default;
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;
    ~Mutex() { FERRULE_ASSERT(!locked_ && "a mutex is destroyed while it is locked"); }

    /// Has the mutex, and unlocks it by its end.
    class [[nodiscard]] Guard {
    public:
        Guard() noexcept = default;
        Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
        Guard& operator=(Guard&& other) noexcept {
            if (this != &other) {
                unlock();
                mutex_ = std::exchange(other.mutex_, nullptr);
            }
            return *this;
        }
        ~Guard() { unlock(); }

        /// Unlocks now. Nothing happens when it was unlocked before.
        void unlock() noexcept {
            if (mutex_ != nullptr) {
                std::exchange(mutex_, nullptr)->unlock();
            }
        }

        /// Whether it has not been unlocked or moved from.
        bool owns_lock() const noexcept { return mutex_ != nullptr; }

    private:
        friend Mutex;
        explicit Guard(Mutex& mutex) noexcept : mutex_(&mutex) {}

        Mutex* mutex_ = nullptr;
    };

    /// What `lock` gives to await.
    class [[nodiscard]] FERRULE_EXPORT Lock : private detail::Waiter {
    public:
        explicit Lock(Mutex& mutex) noexcept : Waiter(&on_cancel), mutex_(&mutex) {}
        Lock(Lock&&) noexcept = default;
        ~Lock() {
            if (state() != State::idle) [[unlikely]] {
                give_up();
            }
        }

        bool await_ready() noexcept {
            Host& host = mutex_->waiters_.here();
            if (mutex_->locked_ || !host.spend_inline_budget()) {
                return false;
            }
            mutex_->locked_ = true;
            decide(State::granted);
            return true;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            if (!mutex_->locked_) [[unlikely]] {
                mutex_->locked_ = true;
                yield(mutex_->waiters_.here(), handle, State::granted);
                return true;
            }
            return wait(mutex_->waiters_, handle, environment_of(handle));
        }
        std::expected<Guard, std::error_code> await_resume() noexcept {
            const State ended = take();
            if (ended != State::granted) [[unlikely]] {
                return std::unexpected(detail::error_of(ended));
            }
            return Guard(*mutex_);
        }

    private:
        static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
        void give_up() noexcept;

        Mutex* mutex_;
    };

    /// `auto guard = co_await mutex.lock()`: until everybody who came before has had it. ECANCELED when the scope of
    /// the waiting task is cancelled first; one that is free is given in a cancelled scope, too.
    Lock lock() noexcept { return Lock(*this); }

    /// Locks it when it is free; EAGAIN when it is not.
    std::expected<Guard, std::error_code> try_lock() noexcept {
        waiters_.check_thread();
        if (locked_) {
            return std::unexpected(detail::would_wait());
        }
        locked_ = true;
        return Guard(*this);
    }

    /// Whether somebody has it, or is about to run with it.
    bool locked() const noexcept { return locked_; }

private:
    void unlock() noexcept {
        waiters_.check_thread();
        if (waiters_.empty()) {
            locked_ = false;
        } else {
            // It stays locked, and is the first one's.
            waiters_.end_first(detail::Waiter::State::granted);
        }
    }

    detail::WaitList waiters_;
    bool locked_ = false;
};
static_assert(sizeof(Mutex::Lock) <= 64);

}  // namespace ferrule::inline v0
