#pragma once

#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <expected>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

/// What becomes of ticks whose time was over before they were awaited.
enum class MissedTicks : std::uint8_t {
    skip,   ///< they are left out: the next tick is the next of the row that lies ahead
    burst,  ///< they come at once, one after the other, until the row is caught up with
};

/// One tick of an interval.
struct Tick {
    std::uint64_t due_ns = 0;  ///< when it was due, in the nanoseconds of Reactor::now_ns; never when it came
    std::uint64_t missed = 0;  ///< ticks since then whose time is over too; with `skip` they never come
};

/// Ticks that do not drift: each is due a period after the one before was due, however late that came and however long
/// the work between them takes.
///
/// ```cpp
/// Task<> report() {
///     Interval interval(1s);
///     while (auto tick = co_await interval.tick()) {
///         if (tick->missed != 0) std::puts("the work took longer than a second");
///         co_await work();
///     }
/// }
/// ```
///
/// Reactor's own thread. One tick awaited at a time.
class Interval {
public:
    /// The first tick is due a period from now. Throws std::invalid_argument when the period is not positive, and
    /// std::logic_error on a thread without a reactor.
    explicit Interval(std::chrono::nanoseconds period, MissedTicks missed = MissedTicks::skip)
        : Interval(period, detail::current_reactor("Interval").kernel().monotonic_ns() + checked(period), missed) {}
    /// The first tick is due at this time; one that is over makes it come at once.
    Interval(std::chrono::nanoseconds period, std::uint64_t first_ns, MissedTicks missed = MissedTicks::skip)
        : period_ns_(checked(period)), next_ns_(first_ns), missed_(missed) {}

    /// What `tick` gives to await.
    class Awaiter;

    /// Waits for the next tick. ECANCELED when the scope is cancelled, and ENOBUFS when the reactor's table of
    /// operations is full; the tick then is still to come.
    [[nodiscard]] Awaiter tick();

    /// When the next tick is due, in the nanoseconds of Reactor::now_ns.
    [[nodiscard]] std::uint64_t next_ns() const noexcept { return next_ns_; }

private:
    static std::uint64_t checked(std::chrono::nanoseconds period) {
        if (period.count() <= 0) throw std::invalid_argument("Interval: the period is not positive");
        return static_cast<std::uint64_t>(period.count());
    }
    Tick take(std::uint64_t now_ns) noexcept {
        const std::uint64_t missed = now_ns > next_ns_ ? (now_ns - next_ns_) / period_ns_ : 0;
        const Tick tick{next_ns_, missed};
        next_ns_ += missed_ == MissedTicks::skip ? (missed + 1) * period_ns_ : period_ns_;
        return tick;
    }

    std::uint64_t period_ns_;
    std::uint64_t next_ns_;
    MissedTicks missed_;
};

/// Awaits one tick.
class Interval::Awaiter {
public:
    /// For Interval::tick.
    Awaiter(Interval& interval, detail::SleepAwaiter sleep) noexcept : interval_(&interval), sleep_(std::move(sleep)) {}
    [[nodiscard]] bool await_ready() const noexcept { return sleep_.await_ready(); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        sleep_.await_suspend(handle);
    }
    std::expected<Tick, std::error_code> await_resume() noexcept {
        const auto slept = sleep_.await_resume();
        if (!slept) return std::unexpected(slept.error());
        return interval_->take(Host::current()->now_ns());
    }

private:
    Interval* interval_;
    detail::SleepAwaiter sleep_;
};

inline Interval::Awaiter Interval::tick() {
    return {*this, sleep_until(next_ns_)};
}

}  // namespace ferrule::inline v0
