#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/task_group.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> sleeper(std::chrono::nanoseconds duration, int number, std::vector<int>* order) {
    const auto slept = co_await sleep_for(duration);
    EXPECT_TRUE(slept);
    order->push_back(number);
}

Task<> sleepers(Reactor* reactor, std::vector<int>* order) {
    TaskGroup group(reactor->root_environment);
    EXPECT_TRUE(group.spawn(sleeper(30s, 3, order)));
    EXPECT_TRUE(group.spawn(sleeper(10s, 1, order)));
    EXPECT_TRUE(group.spawn(sleeper(20s, 2, order)));
    co_await group.join();
}

TEST(Deadline, SleepsEndInTheOrderOfTheirDeadlines) {
    ClockKernel kernel;
    const std::uint64_t before = kernel.monotonic_ns();
    Reactor reactor(0, small_options(), kernel);
    std::vector<int> order;
    run_task(reactor, [&] { return sleepers(&reactor, &order); });
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
    EXPECT_EQ(kernel.monotonic_ns() - before, 30'000'000'000u) << "slept for the next deadline each time, exactly";
    EXPECT_EQ(reactor.counters().deadlines.value(), 3u);
}

Task<> sleep_in_the_past(Reactor* reactor, std::uint64_t* ended) {
    const auto ended_1 = co_await sleep_until(0);
    EXPECT_TRUE(ended_1);
    const auto ended_2 = co_await sleep_until(reactor->now_ns());
    EXPECT_TRUE(ended_2);
    const auto ended_3 = co_await sleep_for(-1s);
    EXPECT_TRUE(ended_3);
    const auto ended_4 = co_await sleep_for(0s);
    EXPECT_TRUE(ended_4);
    ++*ended;
}

TEST(Deadline, SleepIntoThePastEnds) {
    Reactor reactor(0, small_options());
    std::uint64_t ended = 0;
    run_task(reactor, [&] { return sleep_in_the_past(&reactor, &ended); });
    EXPECT_EQ(ended, 1u);
}

Task<> sleep_again_at_once(const bool* done, std::uint64_t* rounds) {
    while (!*done) {
        co_await sleep_until(0);
        ++*rounds;
    }
}

Task<> others_beside_it(Reactor* reactor, std::uint64_t* rounds) {
    TaskGroup group(reactor->root_environment);
    bool done = false;
    EXPECT_TRUE(group.spawn(sleep_again_at_once(&done, rounds)));
    Operation nop = submit_nop(*reactor);
    co_await nop;
    co_await sleep_for(1us);
    done = true;
    co_await group.join();
}

TEST(Deadline, Law2TimerThatRearmsItselfForThePastHoldsUpNobody) {
    Reactor reactor(0, small_options());
    std::uint64_t rounds = 0;
    run_task(reactor, [&] { return others_beside_it(&reactor, &rounds); });
    EXPECT_GT(rounds, 0u);
}

Task<> one_of_many(std::uint64_t due_ns, std::uint64_t* latest, std::uint32_t* ended) {
    const auto ended_5 = co_await sleep_until(due_ns);
    EXPECT_TRUE(ended_5);
    EXPECT_LE(*latest, due_ns);
    *latest = due_ns;
    ++*ended;
}

Task<> many_sleeps(Reactor* reactor, std::uint32_t count, std::uint32_t* ended) {
    TaskGroup group(reactor->root_environment);
    std::uint64_t latest = 0;
    for (std::uint32_t index = 0; index < count; ++index) {
        const std::uint64_t scattered = (index * 2'654'435'761u) % 1'000;
        EXPECT_TRUE(group.spawn(one_of_many(reactor->now_ns() + 1'000'000 + scattered * 1'000'000, &latest, ended)));
    }
    EXPECT_EQ(reactor->timers().size(), count);
    co_await group.join();
}

TEST(Deadline, HundredThousandSleepsAtATime) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    std::uint32_t ended = 0;
    run_task(reactor, [&] { return many_sleeps(&reactor, 100'000, &ended); });
    EXPECT_EQ(ended, 100'000u);
}

Task<int> seven_after(std::chrono::nanoseconds duration) {
    const auto slept = co_await sleep_for(duration);
    if (!slept) {
        co_return -slept.error().value();
    }
    co_return 7;
}

Task<> deadlines_in_time(Reactor* reactor) {
    const std::uint64_t fired = reactor->counters().deadlines.value();
    const auto ended_14 = co_await with_deadline(seven_after(1s), 10s);
    EXPECT_EQ(ended_14, 7);
    const auto ended_6 = co_await with_deadline(sleep_for(1s), 10s);
    EXPECT_TRUE(ended_6);
    Operation nop = submit_nop(*reactor);
    const auto ended_10 = co_await with_deadline(std::move(nop), 10s);
    EXPECT_EQ(ended_10.result, 0);
    EXPECT_EQ(reactor->timers().size(), 0u) << "the deadline is gone with what it was for";
    EXPECT_EQ(reactor->counters().deadlines.value(), fired + 2) << "the two sleeps, no deadline";
    co_await sleep_for(60s);
    EXPECT_EQ(reactor->counters().deadlines.value(), fired + 3);
}

TEST(Deadline, ComesAfterTheEndAndWakesNobody) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return deadlines_in_time(&reactor); });
}

Task<> deadlines_too_late(Reactor* reactor, const Event* event) {
    const std::uint64_t before = reactor->now_ns();
    const auto ended_15 = co_await with_deadline(seven_after(10s), 1s);
    EXPECT_EQ(ended_15, -ECANCELED);
    EXPECT_EQ(reactor->now_ns() - before, 1'000'000'000u);
    const auto slept = co_await with_deadline(sleep_for(10s), 1s);
    EXPECT_EQ(slept.error(), std::errc::operation_canceled);
    Operation poll = poll_event(*reactor, *event);
    const auto ended_11 = co_await with_deadline(std::move(poll), 1s);
    EXPECT_EQ(ended_11.result, -ECANCELED);
    EXPECT_EQ(reactor->now_ns() - before, 3'000'000'000u);
    // What is cancelled by a deadline leaves the scope around it alone.
    const auto ended_7 = co_await sleep_for(1s);
    EXPECT_TRUE(ended_7);
}

TEST(Deadline, EndsASleepAnOperationAndATask) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    const Event event;
    run_task(reactor, [&] { return deadlines_too_late(&reactor, &event); });
}

Task<> without_waiting() {
    const auto ended_8 = co_await with_deadline(sleep_until(0), 1s);
    EXPECT_TRUE(ended_8);
    const auto slept = co_await with_deadline(sleep_for(1s), 0s);
    EXPECT_FALSE(slept);
    const auto negative = co_await with_deadline(sleep_for(1s), -5s);
    EXPECT_FALSE(negative);
}

TEST(Deadline, MayBeNow) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [] { return without_waiting(); });
}

Task<int> nested(std::chrono::nanoseconds inner) {
    co_return co_await with_deadline(seven_after(100s), inner);
}

Task<> earlier_wins(Reactor* reactor) {
    std::uint64_t before = reactor->now_ns();
    const auto ended_16 = co_await with_deadline(nested(5s), 2s);
    EXPECT_EQ(ended_16, -ECANCELED);
    EXPECT_EQ(reactor->now_ns() - before, 2'000'000'000u);
    before = reactor->now_ns();
    const auto ended_17 = co_await with_deadline(nested(2s), 5s);
    EXPECT_EQ(ended_17, -ECANCELED);
    EXPECT_EQ(reactor->now_ns() - before, 2'000'000'000u);
    EXPECT_EQ(reactor->timers().size(), 0u);
}

TEST(Deadline, EarlierOfTwoNestedCounts) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return earlier_wins(&reactor); });
}

Task<> failing() {
    co_await sleep_for(1s);
    throw std::runtime_error("it failed");
}

Task<> exception_passes() {
    bool caught = false;
    try {
        co_await with_deadline(failing(), 10s);
    } catch (const std::runtime_error&) {
        caught = true;
    }
    EXPECT_TRUE(caught);
}

TEST(Deadline, ExceptionPassesThrough) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [] { return exception_passes(); });
}

Task<> sleep_with_deadline() {
    co_await with_deadline(sleep_for(1h), 2h);
    ADD_FAILURE() << "it was destroyed";
}
Task<> task_with_deadline() {
    co_await with_deadline(seven_after(1h), 2h);
    ADD_FAILURE() << "it was destroyed";
}
Task<> poll_with_deadline(Reactor* reactor, const Event* event) {
    Operation poll = poll_event(*reactor, *event);
    co_await with_deadline(std::move(poll), 2h);
    ADD_FAILURE() << "it was destroyed";
}

Task<> destroy_each(Reactor* reactor, const Event* event) {
    std::vector<Task<>> tasks;
    tasks.push_back(sleep_with_deadline());
    tasks.push_back(task_with_deadline());
    tasks.push_back(poll_with_deadline(reactor, event));
    for (const Task<>& task : tasks) {
        EXPECT_TRUE(task.start(reactor->root_environment, std::noop_coroutine()));
    }
    co_await sleep_for(1s);
    tasks.clear();
    EXPECT_EQ(reactor->timers().size(), 0u);
}

TEST(Deadline, DestroyedWhileItWaitsTakesTheAwaitedWithIt) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    const Event event;
    run_task(reactor, [&] { return destroy_each(&reactor, &event); });
}

TEST(Deadline, ElsewhereThanOnAReactorIsMisuse) {
    EXPECT_THROW(static_cast<void>(sleep_for(1s)), std::logic_error);
    EXPECT_THROW(static_cast<void>(sleep_until(1)), std::logic_error);
}

Task<> very_late() {
    const auto ended_12 = co_await with_deadline(sleep_until(TimerHeap::never), 1s);
    EXPECT_EQ(ended_12.error(), std::errc::operation_canceled);
    const auto ended_13 = co_await with_deadline(sleep_until(TimerHeap::never - 1), 1s);
    EXPECT_EQ(ended_13.error(), std::errc::operation_canceled);
    const auto ended_9 = co_await with_deadline(sleep_for(1s), std::chrono::nanoseconds::max());
    EXPECT_TRUE(ended_9);
}

TEST(Deadline, MayBeNever) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [] { return very_late(); });
}

}  // namespace
