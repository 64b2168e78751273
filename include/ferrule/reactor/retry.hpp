#pragma once

#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

/// How often, and after which waits, something is tried again.
struct RetryOptions {
    std::uint32_t attempts = 5;                    ///< at most so many, the first included; 0: no bound
    std::chrono::nanoseconds base{100'000'000};    ///< the longest wait behind the first attempt; it doubles each time
    std::chrono::nanoseconds cap{10'000'000'000};  ///< no wait is longer
    std::chrono::nanoseconds timeout{0};           ///< for all attempts and waits together; 0: none
};

/// The waits between attempts: uniform between nothing and the least of `cap` and `base * 2^n`, n counting from 0. With
/// "full jitter" those who failed together do not come back together (Brooker, "Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015).
class FERRULE_EXPORT BackOff {
public:
    /// Throws std::invalid_argument, which names the field, when `base` is negative or `cap` less than `base`.
    explicit BackOff(const RetryOptions& options);

    /// The next wait. Chance comes from the kernel; when that has none, the wait is the longest that it could be.
    [[nodiscard]] std::chrono::nanoseconds next(Kernel& kernel) noexcept;
    /// The longest that the next wait can be.
    [[nodiscard]] std::chrono::nanoseconds limit() const noexcept { return limit_; }
    /// Begins anew: something has succeeded.
    void reset() noexcept { limit_ = base_; }

private:
    std::chrono::nanoseconds base_;
    std::chrono::nanoseconds cap_;
    std::chrono::nanoseconds limit_;
};

namespace detail {

template <class Function>
auto attempt_with(Function& function, std::uint32_t attempt) {
    if constexpr (std::invocable<Function&, std::uint32_t>) {
        return std::invoke(function, attempt);
    } else {
        return std::invoke(function);
    }
}
template <class Function>
using AttemptResult = typename AwaitResult<decltype(attempt_with(std::declval<Function&>(), 0u))>::Type;

struct EveryError {
    template <class Error>
    bool operator()(const Error&) const noexcept {
        return true;
    }
};

}  // namespace detail

/// Tries until something succeeds: calls `function`, with nothing or with the number of the attempt (1, 2, ...), and
/// awaits what it returns, whose result is a std::expected. While that is an error that `worth(error)` calls worth it
/// (every one, unless said otherwise), it waits as BackOff says and tries again.
///
/// Gives the last result: the success; or the error after the last attempt, at one that is not worth it, when the scope
/// is cancelled, or when the time does not suffice for the next wait, be it `timeout` or a deadline around this. So it
/// never waits in vain. `timeout` also cancels the attempt that it finds under way, with CancelReason::deadline.
///
/// What `function` throws is thrown on and not tried again. Name a capturing lambda before the co_await; it lives until
/// the end. Throws std::invalid_argument for options that cannot be. Reactor's own thread.
///
/// ```cpp
/// Task<std::expected<std::string, std::error_code>> fetch(std::string what) {
///     std::string page = co_await ask(what);
///     if (page.empty()) co_return std::unexpected(std::make_error_code(std::errc::connection_refused));
///     co_return page;
/// }
///
/// Task<> refresh(std::string what) {
///     auto attempt = [&what] { return fetch(what); };
///     auto worth = [](std::error_code error) { return error != std::errc::permission_denied; };
///     const RetryOptions options{.attempts = 4, .timeout = 3s};
///     const auto page = co_await retry(options, attempt, worth);
///     if (page) std::puts(page->c_str());
/// }
/// ```
template <class Function, class Worth = detail::EveryError>
[[nodiscard]] Task<detail::AttemptResult<Function>> retry(RetryOptions options, Function function, Worth worth = {}) {
    BackOff back_off(options);
    const Environment& inherited = co_await this_environment();
    Reactor& reactor = detail::current_reactor("retry");
    CancelScope scope{scope_here(inherited)};
    const detail::EndsWhereItBegan ends_where_it_began{&reactor};
    Environment environment{&scope, &reactor, inherited.trace};
    co_await detail::EnterEnvironment{&environment};
    if (options.timeout.count() > 0)
        scope.set_deadline(reactor.kernel().monotonic_ns() + static_cast<std::uint64_t>(options.timeout.count()));
    for (std::uint32_t attempt = 1;; ++attempt) {
        auto awaited = detail::attempt_with(function, attempt);
        auto result = co_await std::move(awaited);
        const bool last = options.attempts != 0 && attempt >= options.attempts;
        if (result || last || scope.cancelled() || !worth(std::as_const(result).error())) co_return result;
        const std::chrono::nanoseconds wait = back_off.next(reactor.kernel());
        const std::uint64_t deadline = earliest_deadline_ns(&scope);
        const std::uint64_t until = reactor.kernel().monotonic_ns() + static_cast<std::uint64_t>(wait.count());
        if (deadline != 0 && until >= deadline) co_return result;
        const auto slept = co_await sleep_until(until);
        if (!slept) co_return result;
    }
}

}  // namespace ferrule::inline v0
