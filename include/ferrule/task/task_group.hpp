#pragma once

#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <cstdint>
#include <exception>

namespace ferrule::inline v0 {

/// Tasks that come and go below one scope, and are waited for together. A group belongs to one task: that one spawns,
/// waits (one wait at a time), and ends the group by `join`. Destroying a group in which a task is alive is an
/// assertion: the task's environment is part of the group.
///
/// An exception that leaves a task does not touch its siblings. The first is kept for the next `join`, which throws it;
/// those that come while one is kept, and one that nobody joins for, go to Host::fault.
///
/// Tasks end on the host's thread (assertion). Thread: the host's own.
///
/// ```cpp
/// TaskGroup group(co_await this_environment(), 8);  // at most eight at once
/// for (int round = 0; round < 100; ++round) {
///     co_await group.vacancy();
///     static_cast<void>(group.spawn(work()));
/// }
/// co_await group.join();
/// ```
class FERRULE_EXPORT TaskGroup {
public:
    /// A group below `parent` (see this_environment), which outlives it: cancelling the parent's scope cancels the
    /// group (see scope_here for a task that visits another host). At most `limit` tasks are alive at once; 0: no bound
    /// of its own.
    explicit TaskGroup(const Environment& parent, std::uint32_t limit = 0) noexcept;
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;
    ~TaskGroup();

    /// Starts `task` at once, until it first waits. False when `limit` tasks are alive: then `task` is left as it was,
    /// and `co_await vacancy()` waits for a place. In a cancelled group it starts with its scope cancelled.
    [[nodiscard]] bool spawn(Task<>&& task) noexcept;

    /// Cancels what the tasks wait for, now and later.
    void cancel(CancelReason reason = CancelReason::cancelled) noexcept { scope_.cancel(reason); }

    /// The tasks that are alive.
    std::uint32_t size() const noexcept { return running_; }
    CancelScope& scope() noexcept { return scope_; }

    /// What `join` gives to await.
    class Join {
    public:
        explicit Join(TaskGroup& group) noexcept : group_(&group) {}
        Join(const Join&) = delete;
        Join& operator=(const Join&) = delete;
        ~Join() { group_->waiter_ = nullptr; }
        bool await_ready() const noexcept { return group_->running_ == 0; }
        void await_suspend(std::coroutine_handle<> handle) const noexcept { group_->wait_below(1, handle); }
        void await_resume() const { group_->rethrow_first(); }

    private:
        TaskGroup* group_;
    };

    /// What `vacancy` gives to await.
    class Vacancy {
    public:
        explicit Vacancy(TaskGroup& group) noexcept : group_(&group) {}
        Vacancy(const Vacancy&) = delete;
        Vacancy& operator=(const Vacancy&) = delete;
        ~Vacancy() { group_->waiter_ = nullptr; }
        bool await_ready() const noexcept { return !group_->full(); }
        void await_suspend(std::coroutine_handle<> handle) const noexcept {
            group_->wait_below(group_->limit_, handle);
        }
        void await_resume() const noexcept {}

    private:
        TaskGroup* group_;
    };

    /// `co_await group.join()`: waits until no task is alive. Cancelling the waiting task does not end the wait early:
    /// it cancels the group's tasks, whose end does. Throws the first exception that left a task.
    Join join() noexcept { return Join(*this); }

    /// `co_await group.vacancy()`: waits until spawn has a place.
    Vacancy vacancy() noexcept { return Vacancy(*this); }

private:
    static void on_end(void* argument, std::exception_ptr exception) noexcept;

    bool full() const noexcept { return limit_ != 0 && running_ >= limit_; }
    void wait_below(std::uint32_t tasks, std::coroutine_handle<> handle) noexcept;
    void rethrow_first();

    CancelScope scope_;
    Environment environment_;
    std::coroutine_handle<> waiter_;
    std::exception_ptr first_exception_;
    // The waiter is resumed when fewer tasks than this are alive.
    std::uint32_t awaited_below_ = 0;
    std::uint32_t running_ = 0;
    std::uint32_t limit_;
};

}  // namespace ferrule::inline v0
