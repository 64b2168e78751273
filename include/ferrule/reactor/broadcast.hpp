#pragma once

#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>

#include <concepts>
#include <exception>
#include <expected>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

namespace detail {

template <class Function>
using CallValueOf = typename CallValue<CallReturns<Function>>::Type;

/// What came of several calls, in their order.
template <class Value>
using CallResults = std::vector<std::expected<Value, std::error_code>>;

/// Makes all calls, then waits for them in turn: they are away at the same time.
template <class Value>
Task<CallResults<Value>> await_calls(std::vector<CallAwaiter<Value>> calls) {
    const Environment& environment = co_await this_environment();
    for (CallAwaiter<Value>& each : calls) each.launch(environment);
    CallResults<Value> results;
    results.reserve(calls.size());
    std::exception_ptr first;
    for (CallAwaiter<Value>& each : calls) {
        try {
            auto result = co_await each;
            results.push_back(std::move(result));
        } catch (...) {
            if (!first) first = std::current_exception();
        }
    }
    if (first) std::rethrow_exception(first);
    co_return results;
}

}  // namespace detail

/// Runs a function on each of these reactors, on all of them at once, and gives what it returned there, in their order:
/// a std::expected for each, with the errors of `call`. Each gets a copy of the function. A reactor may be named twice,
/// and may be the own one.
///
/// It ends when all calls have: the slowest reactor decides, so give it a deadline. When the function throws anywhere,
/// the first exception in the order of the reactors is rethrown when all have ended, and the results are dropped.
/// Cancelling the caller cancels all calls. Reactor's own thread. Allocates its lists.
///
/// ```cpp
/// Task<std::uint64_t> sleeps_of_all(std::vector<Reactor*> reactors) {
///     auto count = [](Reactor& there) { return there.counters().sleeps.value(); };
///     const auto counted = co_await broadcast(reactors, count);
///     std::uint64_t sum = 0;
///     for (const auto& each : counted) sum += each.value_or(0);
///     co_return sum;
/// }
/// ```
template <class Function>
requires std::copy_constructible<std::decay_t<Function>>
[[nodiscard]] Task<detail::CallResults<detail::CallValueOf<std::decay_t<Function>>>> broadcast(
    const std::vector<Reactor*>& reactors, Function&& function) {
    std::vector<detail::CallAwaiter<detail::CallValueOf<std::decay_t<Function>>>> calls;
    calls.reserve(reactors.size());
    for (Reactor* const each : reactors) calls.push_back(call(*each, std::as_const(function)));
    return detail::await_calls(std::move(calls));
}

}  // namespace ferrule::inline v0
