#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <coroutine>

namespace ferrule::inline v0 {

namespace detail {

class EnvironmentAwaiter {
public:
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        environment_ = environment_of(handle);
        return false;
    }
    Environment& await_resume() const noexcept { return *environment_; }

private:
    Environment* environment_ = nullptr;
};

/// Awaits a task under an environment that is not the awaiting coroutine's.
template <class T>
class UnderEnvironment {
public:
    UnderEnvironment(Environment& environment, const Task<T>& task) noexcept
        : environment_(&environment), task_(&task) {}

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiting) const noexcept {
        return task_->start(*environment_, awaiting);
    }
    T await_resume() const { return task_->await_resume(); }

private:
    Environment* environment_;
    const Task<T>* task_;
};

}  // namespace detail

/// `Environment& environment = co_await this_environment();`: what the calling coroutine runs under. Never suspends.
inline detail::EnvironmentAwaiter this_environment() noexcept {
    return {};
}

/// Runs `task` so that cancelling `scope` cancels what it waits for; its result or exception is the result. `scope`
/// outlives the returned task. Give it the scope of the caller's environment (scope_here) as its parent, or else
/// cancelling the caller does not reach the task. `task` must be a task, and the scope one of this thread (assertions).
/// Thread: the host's own.
///
/// ```cpp
/// const Environment& environment = co_await this_environment();
/// CancelScope scope(scope_here(environment));
/// co_await with_scope(scope, work());  // until the work ends, or somebody calls scope.cancel
/// ```
template <class T>
Task<T> with_scope(CancelScope& scope, Task<T> task) {
    FERRULE_ASSERT(scope.host() == nullptr || scope.host() == Host::current());
    const Environment& inherited = co_await this_environment();
    Environment environment{&scope, Host::current(), inherited.trace};
    // A local: a parameter outlives the locals of a coroutine, and the task must not outlive its environment.
    Task<T> scoped = std::move(task);
    co_return co_await detail::UnderEnvironment<T>(environment, scoped);
}

}  // namespace ferrule::inline v0
