#pragma once

#include <ferrule/task/fan_out.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace ferrule::inline v0 {

/// The first result of several tasks of one type.
template <class T>
struct FirstResult {
    /// Which task it came from.
    std::size_t index;
    T value;
};

namespace detail {

template <class... Ts>
using AnyResult = std::variant<NonVoid<Ts>...>;

template <std::size_t index, class... Ts>
void take_if_decisive(const FanOut& fan_out, const std::tuple<Task<Ts>...>& tasks,
                      std::optional<AnyResult<Ts...>>& result) {
    if (fan_out.decided_by(std::get<index>(tasks))) {
        result.emplace(std::in_place_index<index>, take_result(std::get<index>(tasks)));
    }
}

template <class... Ts>
AnyResult<Ts...> take_decisive(const FanOut& fan_out, const std::tuple<Task<Ts>...>& tasks) {
    std::optional<AnyResult<Ts...>> result;
    [&]<std::size_t... indexes>(std::index_sequence<indexes...>) {
        (take_if_decisive<indexes>(fan_out, tasks, result), ...);
    }
    (std::index_sequence_for<Ts...>());
    return std::move(*result);
}

template <class T>
std::size_t index_of_decisive(const FanOut& fan_out, const std::vector<Task<T>>& tasks) {
    std::size_t index = 0;
    while (!fan_out.decided_by(tasks[index])) {
        ++index;
    }
    return index;
}

}  // namespace detail

/// Runs the tasks side by side, each started in turn until it first waits. The first that ends decides, by a result or
/// an exception: the others are cancelled, those not started yet never are, and when all that were started have ended,
/// the variant of the winner's index is given (std::monostate for a Task<>), or its exception is thrown on. What the
/// others give or throw is dropped.
///
/// The tasks run below a scope of their own, whose parent is the caller's: cancelling the caller cancels them (see
/// scope_here for a task that visits another host). They must end on the host's thread (assertion). Thread: the host's
/// own.
///
/// ```cpp
/// const auto first = co_await when_any(ask("primary"), work());
/// if (const auto* answer = std::get_if<0>(&first)) std::puts(answer->c_str());
/// ```
template <class... Ts>
requires(sizeof...(Ts) > 0) Task<std::variant<detail::NonVoid<Ts>...>> when_any(Task<Ts>... tasks) {
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_end);
    const std::tuple<Task<Ts>...> running(std::move(tasks)...);
    std::apply([&](const Task<Ts>&... task) { (fan_out.start(task), ...); }, running);
    co_await fan_out.join();
    co_return detail::take_decisive(fan_out, running);
}

/// As above, for tasks of one type. Throws std::invalid_argument when there is none: nothing would ever end the wait.
template <class T>
requires(!std::is_void_v<T> && !std::is_reference_v<T>) Task<FirstResult<T>> when_any(std::vector<Task<T>> tasks) {
    if (tasks.empty()) {
        throw std::invalid_argument("when_any: no tasks");
    }
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_end);
    const std::vector<Task<T>> running(std::move(tasks));
    for (const Task<T>& task : running) {
        fan_out.start(task);
    }
    co_await fan_out.join();
    const std::size_t index = detail::index_of_decisive(fan_out, running);
    co_return FirstResult<T>{index, running[index].await_resume()};
}

/// As above, for tasks without results: gives the index of the first that ended.
inline Task<std::size_t> when_any(std::vector<Task<>> tasks) {
    if (tasks.empty()) {
        throw std::invalid_argument("when_any: no tasks");
    }
    const Environment& inherited = co_await this_environment();
    detail::FanOut fan_out(inherited, detail::FanOut::Decision::first_end);
    const std::vector<Task<>> running(std::move(tasks));
    for (const Task<>& task : running) {
        fan_out.start(task);
    }
    co_await fan_out.join();
    const std::size_t index = detail::index_of_decisive(fan_out, running);
    running[index].await_resume();
    co_return index;
}

}  // namespace ferrule::inline v0
