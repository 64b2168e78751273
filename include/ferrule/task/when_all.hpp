#pragma once

#include <ferrule/task/fan_out.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

namespace detail {

template <class T>
void rethrow_if_decisive(const FanOut& fan_out, const Task<T>& task) {
    if (fan_out.decided_by(task)) {
        task.await_resume();
    }
}

}  // namespace detail

/// Runs the tasks side by side, each started in turn until it first waits, and ends when all have ended. Gives their
/// results in order, as a tuple in which a Task<> has std::monostate.
///
/// When one of them throws, the others are cancelled; those not started yet never are. When all that were started have
/// ended, the first exception is thrown on and later ones are dropped. The tasks run below a scope of their own, whose
/// parent is the caller's: cancelling the caller cancels them (see scope_here for a task that visits another host).
/// They must end on the host's thread (assertion). Thread: the host's own.
///
/// ```cpp
/// const auto [first, second] = co_await when_all(ask("primary"), ask("replica"));
/// const bool same = first == second;
/// ```
template <class... Ts>
requires(sizeof...(Ts) > 0 &&
         !(std::is_void_v<Ts> && ...)) Task<std::tuple<detail::NonVoid<Ts>...>> when_all(Task<Ts>... tasks) {
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_failure);
    const std::tuple<Task<Ts>...> running(std::move(tasks)...);
    std::apply([&](const Task<Ts>&... task) { (fan_out.start(task), ...); }, running);
    co_await fan_out.join();
    std::apply([&](const Task<Ts>&... task) { (detail::rethrow_if_decisive(fan_out, task), ...); }, running);
    co_return std::apply(
        [](const Task<Ts>&... task) {
            // Braces: results are taken from left to right.
            return std::tuple<detail::NonVoid<Ts>...>{detail::take_result(task)...};
        },
        running);
}

/// As above, for tasks without results.
template <class... Ts>
requires(sizeof...(Ts) > 0 && (std::is_void_v<Ts> && ...)) Task<> when_all(Task<Ts>... tasks) {
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_failure);
    const std::tuple<Task<Ts>...> running(std::move(tasks)...);
    std::apply([&](const Task<Ts>&... task) { (fan_out.start(task), ...); }, running);
    co_await fan_out.join();
    std::apply([&](const Task<Ts>&... task) { (detail::rethrow_if_decisive(fan_out, task), ...); }, running);
}

/// As above, for any number of tasks of one type; none is allowed.
template <class T>
requires(!std::is_void_v<T> && !std::is_reference_v<T>) Task<std::vector<T>> when_all(std::vector<Task<T>> tasks) {
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_failure);
    const std::vector<Task<T>> running(std::move(tasks));
    for (const Task<T>& task : running) {
        fan_out.start(task);
    }
    co_await fan_out.join();
    for (const Task<T>& task : running) {
        detail::rethrow_if_decisive(fan_out, task);
    }
    std::vector<T> results;
    results.reserve(running.size());
    for (const Task<T>& task : running) {
        results.push_back(task.await_resume());
    }
    co_return results;
}

/// As above, for any number of tasks without results.
inline Task<> when_all(std::vector<Task<>> tasks) {
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_failure);
    const std::vector<Task<>> running(std::move(tasks));
    for (const Task<>& task : running) {
        fan_out.start(task);
    }
    co_await fan_out.join();
    for (const Task<>& task : running) {
        detail::rethrow_if_decisive(fan_out, task);
    }
}

}  // namespace ferrule::inline v0
