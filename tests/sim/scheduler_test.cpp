#include "sim/scheduler.hpp"
#include "sim/without_thread_sanitizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace ferrule::sim {
namespace {

using SchedulerTest = ferrule_test::WithoutThreadSanitizer;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t never = ~std::uint64_t{0};
constexpr std::uint64_t second_ns = 1'000'000'000;

TEST_F(SchedulerTest, RunsEventsByTimeAndOfOneTimeInTheOrderOfAsking) {
    Scheduler scheduler({});
    std::vector<int> seen;
    const std::uint64_t now = scheduler.now_ns();
    scheduler.at(now + 20, [&] { seen.push_back(3); });
    scheduler.at(now + 10, [&] { seen.push_back(1); });
    scheduler.at(now + 20, [&] { seen.push_back(4); });
    scheduler.at(now + 10, [&] {
        seen.push_back(2);
        EXPECT_EQ(scheduler.now_ns(), now + 10);
    });
    scheduler.run();
    EXPECT_THAT(seen, ElementsAre(1, 2, 3, 4));
    EXPECT_EQ(scheduler.now_ns(), now + 20);
}

TEST_F(SchedulerTest, ForgetsEventsWhereverTheyAreInTheQueue) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        Scheduler scheduler({.seed = seed});
        Random random(seed);
        std::vector<std::uint64_t> times;
        std::vector<std::uint64_t> ran;
        std::vector<std::uint64_t> events;
        for (int index = 0; index < 200; ++index) {
            const std::uint64_t time = scheduler.now_ns() + random.below(100);
            times.push_back(time);
            events.push_back(scheduler.at(time, [&ran, time] { ran.push_back(time); }));
        }
        std::vector<std::uint64_t> expected;
        for (std::size_t index = 0; index < events.size(); ++index) {
            if (random.one_in(2)) {
                scheduler.forget(events[index]);
                scheduler.forget(events[index]);
            } else {
                expected.push_back(times[index]);
            }
        }
        scheduler.run();
        std::ranges::sort(expected);
        ASSERT_EQ(ran, expected);
    }
}

TEST_F(SchedulerTest, AnHourOfVirtualTimePassesAtOnce) {
    Scheduler scheduler({});
    constexpr std::uint64_t hour_ns = 3600 * second_ns;
    const std::uint64_t until = scheduler.now_ns() + hour_ns;
    unsigned turns = 0;
    scheduler.start(
        "sleeper",
        [&] {
            while (scheduler.now_ns() < until) {
                scheduler.block(std::min(until, scheduler.now_ns() + second_ns), "a second", -1);
                ++turns;
            }
        },
        nullptr);
    scheduler.run();
    EXPECT_GE(scheduler.now_ns(), until);
    EXPECT_THAT(scheduler.findings(), ElementsAre());
    // What each second costs is a turn, not its time.
    EXPECT_LE(turns, 3601u);
    EXPECT_LE(scheduler.steps(), 3u * 3601u);
}

TEST_F(SchedulerTest, AWakeThatComesBeforeTheWaitIsNotLost) {
    Scheduler scheduler({});
    std::vector<std::string> seen;
    Fiber* first = nullptr;
    Fiber& waiter = scheduler.start(
        "waiter",
        [&] {
            while (first == nullptr) scheduler.may_yield();
            EXPECT_TRUE(scheduler.block(never, "the wake", -1));
            seen.emplace_back("woken");
            EXPECT_FALSE(scheduler.block(scheduler.now_ns() + 10, "nothing", -1));
            seen.emplace_back("timed out");
        },
        nullptr);
    scheduler.start(
        "waker",
        [&] {
            scheduler.wake(waiter);
            first = &waiter;
        },
        nullptr);
    scheduler.run();
    EXPECT_THAT(seen, ElementsAre("woken", "timed out"));
    EXPECT_FALSE(scheduler.has_findings());
}

TEST_F(SchedulerTest, AWakeEndsTheWaitBeforeItsTime) {
    Scheduler scheduler({});
    const std::uint64_t start = scheduler.now_ns();
    Fiber& waiter = scheduler.start(
        "waiter", [&] { EXPECT_TRUE(scheduler.block(start + 100 * second_ns, "the wake", -1)); }, nullptr);
    scheduler.at(start + second_ns, [&] { scheduler.wake(waiter); });
    scheduler.run();
    EXPECT_LT(scheduler.now_ns(), start + 2 * second_ns);
}

TEST_F(SchedulerTest, ADeadlockIsAFindingThatSaysWhoWaitsForWhat) {
    Scheduler scheduler({});
    scheduler.start(
        "server/reactor-0", [&] { scheduler.block(never, "completions of descriptor", 5); }, nullptr);
    scheduler.start(
        "client", [&] { scheduler.block(never, "an answer", -1); }, nullptr);
    scheduler.run();
    ASSERT_EQ(scheduler.findings().size(), 1u);
    EXPECT_THAT(
        scheduler.findings().front(),
        testing::AllOf(HasSubstr("deadlock"), HasSubstr("server/reactor-0 waits for completions of descriptor 5"),
                       HasSubstr("client waits for an answer")));
}

TEST_F(SchedulerTest, WhatGoesOnForEverIsAFinding) {
    Scheduler by_time({.time_limit = std::chrono::seconds(10)});
    std::function<void()> again = [&] { by_time.at(by_time.now_ns() + second_ns, [&] { again(); }); };
    again();
    by_time.run();
    ASSERT_EQ(by_time.findings().size(), 1u);
    EXPECT_THAT(by_time.findings().front(), HasSubstr("time limit"));

    Scheduler by_steps({.step_limit = 1000});
    by_steps.start(
        "spinner",
        [&] {
            for (;;) by_steps.may_yield();
        },
        nullptr);
    by_steps.run();
    ASSERT_EQ(by_steps.findings().size(), 1u);
    EXPECT_THAT(by_steps.findings().front(), testing::AllOf(HasSubstr("1000 steps"), HasSubstr("spinner could run")));
}

TEST_F(SchedulerTest, EndsAtAFindingWithoutTheFibersThatHaveNotEnded) {
    Scheduler scheduler({});
    bool ran = false;
    scheduler.start(
        "finder",
        [&] {
            scheduler.finding("something is wrong");
            scheduler.block(scheduler.now_ns() + second_ns, "nothing", -1);
            ran = true;
        },
        nullptr);
    scheduler.run();
    EXPECT_FALSE(ran);
    EXPECT_THAT(scheduler.findings(),
                ElementsAre(testing::AllOf(HasSubstr("finder"), HasSubstr("something is wrong"))));
}

/// The order in which three fibers, which let each other run, do their steps.
std::pair<std::vector<int>, std::uint64_t> interleaving(std::uint64_t seed) {
    Scheduler scheduler({.seed = seed});
    std::vector<int> order;
    for (int number = 0; number < 3; ++number) {
        scheduler.start(
            "fiber",
            [&order, &scheduler, number] {
                for (int step = 0; step < 20; ++step) {
                    order.push_back(number);
                    scheduler.trace("step", static_cast<std::uint64_t>(number), static_cast<std::uint64_t>(step), 0);
                    scheduler.may_yield();
                }
            },
            nullptr);
    }
    scheduler.run();
    return {order, scheduler.fingerprint()};
}

TEST_F(SchedulerTest, TheSameSeedGivesTheSameOrderAndAnotherAnother) {
    std::set<std::vector<int>> orders;
    std::set<std::uint64_t> fingerprints;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const auto once = interleaving(seed);
        EXPECT_EQ(once, interleaving(seed));
        orders.insert(once.first);
        fingerprints.insert(once.second);
    }
    EXPECT_EQ(orders.size(), 20u);
    EXPECT_EQ(fingerprints.size(), 20u);
}

TEST_F(SchedulerTest, WhetherAFaultHappensDependsOnItsOwnOccasionAlone) {
    const auto fired = [](std::uint64_t seed, Faults faults, bool others) {
        Scheduler scheduler({.seed = seed, .faults = std::move(faults)});
        std::vector<std::uint64_t> happened;
        for (std::uint64_t occasion = 0; occasion < 1000; ++occasion) {
            if (others) static_cast<void>(scheduler.fault(Fault::short_receive));
            if (scheduler.fault(Fault::short_send)) happened.push_back(occasion);
        }
        EXPECT_EQ(scheduler.fired()[Fault::short_send].occasions, 1000u);
        EXPECT_EQ(scheduler.fired()[Fault::short_send].times, happened.size());
        return happened;
    };
    Faults faults;
    faults[Fault::short_send] = 50'000;
    faults[Fault::short_receive] = 500'000;
    const auto happened = fired(7, faults, false);
    EXPECT_EQ(happened, fired(7, faults, true));
    EXPECT_NE(happened, fired(8, faults, true));
    EXPECT_GT(happened.size(), 25u);
    EXPECT_LT(happened.size(), 100u);

    // One that is left out, and one that is placed, move no other.
    faults.left_out.push_back({Fault::short_send, happened[3]});
    faults.placed.push_back({Fault::short_send, 999});
    faults.placed.push_back({Fault::short_send, 0});
    auto expected = happened;
    expected.erase(expected.begin() + 3);
    if (expected.front() != 0) expected.insert(expected.begin(), 0);
    if (expected.back() != 999) expected.push_back(999);
    EXPECT_EQ(fired(7, faults, false), expected);
}

TEST_F(SchedulerTest, PlacedFaultsAreListedAsTheyWerePlaced) {
    Faults faults;
    faults.placed = {{Fault::enter_busy, 2}, {Fault::enter_busy, 0}};
    Scheduler scheduler({.faults = faults});
    EXPECT_TRUE(scheduler.fault(Fault::enter_busy));
    EXPECT_FALSE(scheduler.fault(Fault::enter_busy));
    EXPECT_TRUE(scheduler.fault(Fault::enter_busy));
    EXPECT_THAT(scheduler.fired().fired,
                ElementsAre(PlacedFault{Fault::enter_busy, 0}, PlacedFault{Fault::enter_busy, 2}));
}

TEST_F(SchedulerTest, KeepsTheLastEventsOfTheTrace) {
    Scheduler scheduler({.trace_entries = 2});
    scheduler.trace("first", 1, 0, 0);
    scheduler.trace("second", 2, 0, 0);
    scheduler.start(
        "fiber", [&] { scheduler.trace("third", 3, 0x12345678, -7); }, nullptr);
    scheduler.run();
    const std::string text = scheduler.trace_text();
    EXPECT_THAT(text, testing::Not(HasSubstr("first")));
    EXPECT_THAT(text, HasSubstr("kernel: second 2 0 0\n"));
    EXPECT_THAT(text, HasSubstr("fiber: third 3 0x12345678 -7\n"));
}

}  // namespace
}  // namespace ferrule::sim
