#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>

#include <chrono>
#include <coroutine>
#include <expected>
#include <system_error>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

/// Gives the awaiting coroutine, and what it awaits from then on, another environment. Never suspends.
struct EnterEnvironment {
    Environment* environment;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        handle.promise().environment = environment;
        return false;
    }
    void await_resume() const noexcept {}
};

/// A scope whose deadline a reactor keeps ends on that reactor's thread.
struct EndsWhereItBegan {
    Reactor* reactor;
    ~EndsWhereItBegan() { FERRULE_ASSERT(Host::current() == nullptr || Host::current() == reactor); }
};

/// The operation behind a sleep; ends with an error when its scope is cancelled.
class SleepAwaiter {
public:
    explicit SleepAwaiter(Operation operation) noexcept : operation_(std::move(operation)) {}
    [[nodiscard]] bool await_ready() const noexcept { return operation_.await_ready(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        operation_.await_suspend(handle);
    }
    std::expected<void, std::error_code> await_resume() noexcept {
        const OperationResult ended = operation_.await_resume();
        if (ended.result < 0) return std::unexpected(std::error_code(-ended.result, std::system_category()));
        return {};
    }

private:
    Operation operation_;
};

FERRULE_EXPORT Reactor& current_reactor(const char* what);

template <class Awaitable>
struct AwaitResult {
    using Type = decltype(std::declval<Awaitable>().await_resume());
};
template <class T>
struct AwaitResult<Task<T>> {
    using Type = T;
};

}  // namespace detail

/// Waits for at least `duration`: `co_await sleep_for(10ms)`. ECANCELED when the scope is cancelled meanwhile; ENOBUFS
/// when the reactor's table of operations is full. A sleeping reactor wakes for the earliest deadline only. Reactor's
/// own thread; elsewhere it throws std::logic_error.
[[nodiscard]] inline detail::SleepAwaiter sleep_for(std::chrono::nanoseconds duration) {
    Reactor& reactor = detail::current_reactor("sleep_for");
    const std::uint64_t now = reactor.kernel().monotonic_ns();
    const auto wait = duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0;
    return detail::SleepAwaiter{reactor.wait_until(now + wait)};
}

/// Waits until the monotonic time, in nanoseconds, that `Reactor::now_ns` counts in. As sleep_for.
[[nodiscard]] inline detail::SleepAwaiter sleep_until(std::uint64_t monotonic_ns) {
    return detail::SleepAwaiter{detail::current_reactor("sleep_until").wait_until(monotonic_ns)};
}

/// The earliest deadline of a scope and of those that it is below, in the nanoseconds of Reactor::now_ns; 0: none. How
/// long whoever waits there may wait at most. The scopes' own thread.
[[nodiscard]] inline std::uint64_t earliest_deadline_ns(const CancelScope* scope) noexcept {
    std::uint64_t earliest = 0;
    for (; scope != nullptr; scope = scope->parent()) {
        const std::uint64_t deadline = scope->deadline_ns();
        if (deadline != 0 && (earliest == 0 || deadline < earliest)) earliest = deadline;
    }
    return earliest;
}

/// Awaits anything with a deadline.
///
/// When the time is up, the scope that the awaited thing runs in is cancelled with CancelReason::deadline, and it ends
/// as its own cancellation says: a read with end_reason deadline, an operation with -ECANCELED. What has ended in time
/// is untouched, and the deadline is gone. Nests: the earlier deadline counts. Reactor's own thread. Costs one frame
/// from the pool and no entry of the ring.
///
/// A task that visits another reactor may await with a deadline there; cancellation from home does not reach what it
/// awaits so, as with all it does elsewhere. The await must end on the reactor on which it began (assertion).
///
/// ```cpp
/// auto received = co_await with_deadline(connection.read(), 5s);
/// if (!received && connection.end_reason() == EndReason::deadline) connection.write("too slow\r\n");
/// ```
template <class Awaitable>
[[nodiscard]] Task<typename detail::AwaitResult<Awaitable>::Type> with_deadline(Awaitable awaitable,
                                                                                std::chrono::nanoseconds timeout) {
    const Environment& inherited = co_await this_environment();
    Reactor& reactor = detail::current_reactor("with_deadline");
    // The scope of a task that visits this reactor is not this thread's to touch.
    CancelScope scope{inherited.host == &reactor ? inherited.scope : nullptr};
    const detail::EndsWhereItBegan ends_where_it_began{&reactor};
    Environment environment{&scope, &reactor, inherited.trace};
    co_await detail::EnterEnvironment{&environment};
    scope.set_deadline(reactor.kernel().monotonic_ns() +
                       (timeout.count() > 0 ? static_cast<std::uint64_t>(timeout.count()) : 0));
    // A local: a parameter outlives the locals of a coroutine, and what is awaited must not outlive its scope.
    Awaitable awaited = std::move(awaitable);
    co_return co_await std::move(awaited);
}

}  // namespace ferrule::inline v0
