#include <ferrule/reactor/cron_schedule.hpp>
#include <ferrule/reactor/interval.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <system_error>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

std::uint64_t ns(std::chrono::nanoseconds duration) {
    return static_cast<std::uint64_t>(duration.count());
}

Task<> without_drift(ClockKernel* kernel) {
    const std::uint64_t begun = kernel->monotonic_ns();
    Interval interval(10ms);
    for (std::uint64_t number = 1; number <= 1'000; ++number) {
        const auto tick = co_await interval.tick();
        EXPECT_EQ(tick->due_ns, begun + number * ns(10ms));
        EXPECT_EQ(tick->missed, 0u);
        kernel->advance(ns(3ms) + number);  // the work between two ticks
    }
    EXPECT_EQ(interval.next_ns(), begun + 1'001 * ns(10ms));
}

TEST(Interval, DoesNotDrift) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return without_drift(&kernel); });
}

Task<> skipping(ClockKernel* kernel) {
    const std::uint64_t begun = kernel->monotonic_ns();
    Interval interval(10ms);
    kernel->advance(ns(45ms));
    const auto late = co_await interval.tick();
    EXPECT_EQ(late->due_ns, begun + ns(10ms));
    EXPECT_EQ(late->missed, 3u) << "those of 20, 30 and 40 ms";
    const auto next = co_await interval.tick();
    EXPECT_EQ(next->due_ns, begun + ns(50ms)) << "in the row of the others";
    EXPECT_EQ(next->missed, 0u);
    EXPECT_GE(kernel->monotonic_ns(), begun + ns(50ms));
}

TEST(Interval, SkipsTicksThatWereMissed) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return skipping(&kernel); });
}

Task<> bursting(ClockKernel* kernel) {
    const std::uint64_t begun = kernel->monotonic_ns();
    Interval interval(10ms, MissedTicks::burst);
    kernel->advance(ns(45ms));
    for (std::uint64_t number = 1; number <= 6; ++number) {
        const auto tick = co_await interval.tick();
        EXPECT_EQ(tick->due_ns, begun + number * ns(10ms));
        EXPECT_EQ(tick->missed, number < 4 ? 4 - number : 0);
        if (number == 4) {
            EXPECT_LT(kernel->monotonic_ns(), begun + ns(50ms)) << "at once, one after the other";
        }
    }
}

TEST(Interval, OrBringsThemInABurst) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return bursting(&kernel); });
}

Task<> from_a_time(ClockKernel* kernel) {
    const std::uint64_t begun = kernel->monotonic_ns();
    Interval interval(1s, begun);
    const auto first = co_await interval.tick();
    EXPECT_EQ(first->due_ns, begun);
    const auto cancelled = co_await with_deadline(interval.tick(), 1ms);
    EXPECT_EQ(cancelled.error(), std::errc::operation_canceled);
    const auto second = co_await interval.tick();
    EXPECT_EQ(second->due_ns, begun + ns(1s)) << "a tick that was not awaited to its end is still to come";
    EXPECT_THROW(Interval{0ns}, std::invalid_argument);
    EXPECT_THROW(Interval{-1s}, std::invalid_argument);
}

TEST(Interval, FromAGivenTimeAndCancelled) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return from_a_time(&kernel); });
}

TEST(Interval, WithoutAReactorItIsMisuse) {
    EXPECT_THROW(Interval{1s}, std::logic_error);
}

/// A clock of the calendar that can be set.
class CalendarKernel : public ClockKernel {
public:
    std::uint64_t realtime_ns() noexcept override { return monotonic_ns() + offset_ns; }
    std::uint64_t offset_ns = 0;
};

Task<> by_the_calendar(CalendarKernel* kernel) {
    using namespace std::chrono;
    const sys_seconds noon = sys_days(2026y / November / 30) + 12h;
    kernel->offset_ns = ns(noon.time_since_epoch()) - kernel->monotonic_ns();
    const CronSchedule hourly = CronSchedule::parse("@hourly").value();
    const auto first = co_await sleep_until_next(hourly);
    EXPECT_EQ(*first, noon + 1h);
    EXPECT_EQ(kernel->realtime_ns(), ns(first->time_since_epoch()));
    const auto second = co_await sleep_until_next(hourly);
    EXPECT_EQ(*second, noon + 2h);
    const auto cancelled = co_await with_deadline(sleep_until_next(hourly), 10min);
    EXPECT_EQ(cancelled.error(), std::errc::operation_canceled);
}

TEST(SleepUntilNext, FollowsTheCalendar) {
    CalendarKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return by_the_calendar(&kernel); });
}

Task<> set_the_clock(CalendarKernel* kernel) {
    co_await sleep_for(10min);
    kernel->offset_ns += ns(3h);
}

Task<> with_a_clock_that_is_set(CalendarKernel* kernel) {
    using namespace std::chrono;
    const sys_seconds noon = sys_days(2026y / November / 30) + 12h;
    kernel->offset_ns = ns(noon.time_since_epoch()) - kernel->monotonic_ns();
    const std::uint64_t begun = kernel->monotonic_ns();
    Reactor::current()->spawn(set_the_clock(kernel));
    const auto next = co_await sleep_until_next(CronSchedule::parse("0 14 * * *").value());
    EXPECT_EQ(*next, noon + 2h);
    EXPECT_LE(kernel->monotonic_ns() - begun, ns(11min)) << "it was noticed within a minute";
}

TEST(SleepUntilNext, NoticesThatTheClockWasSet) {
    CalendarKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return with_a_clock_that_is_set(&kernel); });
}

}  // namespace
