#include <ferrule/task/scope.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/task_group.hpp>

#include "task_fixture.hpp"

#include <string>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

class TaskGroupTest : public TaskTest {};

Task<> child(Source& source, int& alive, int times, int* ended) {
    const Tracked local(alive);
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
    ++*ended;
}

Task<> failing_child(Source& source, int times, const char* text) {
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
    throw std::invalid_argument(text);
}

Task<> reports_reason(Source& source, CancelReason* reason) {
    *reason = co_await source.wait();
}

// Not inlined: clang leaves out the frame of a coroutine that it inlines, and frames are counted here.
[[gnu::noinline]] Task<> runs_group(Source& source, int& alive, int count, int* ended) {
    const Environment& environment = co_await this_environment();
    TaskGroup group(environment);
    for (int i = 0; i < count; ++i) {
        const bool spawned = group.spawn(child(source, alive, i % 3, ended));
        EXPECT_TRUE(spawned);
    }
    co_await group.join();
    EXPECT_EQ(group.size(), 0u);
    EXPECT_EQ(*ended, count);
    // A group that was joined may be used again.
    const bool again = group.spawn(child(source, alive, 1, ended));
    EXPECT_TRUE(again);
    co_await group.join();
}

TEST_F(TaskGroupTest, JoinWaitsForAll) {
    int ended = 0;
    const Task<> task = runs_group(source, alive, 10, &ended);
    start(task);
    EXPECT_EQ(host.frames.live_frames(), 7u) << "one frame for each child that waits";
    while (step()) {
    }
    EXPECT_TRUE(task.done());
    EXPECT_EQ(ended, 11);
}

Task<> runs_bounded(Source& source, int& alive, int count, std::uint32_t limit, std::uint32_t* most, int* ended) {
    const Environment& environment = co_await this_environment();
    TaskGroup group(environment, limit);
    for (int i = 0; i < count; ++i) {
        co_await group.vacancy();
        const bool spawned = group.spawn(child(source, alive, i % 4, ended));
        EXPECT_TRUE(spawned);
        *most = std::max(*most, group.size());
    }
    co_await group.join();
}

TEST_F(TaskGroupTest, Law7VacancyKeepsTheBound) {
    for (const std::uint32_t limit : {1u, 2u, 7u}) {
        int ended = 0;
        std::uint32_t most = 0;
        const Task<> task = runs_bounded(source, alive, 40, limit, &most, &ended);
        start(task);
        while (step()) {
        }
        EXPECT_TRUE(task.done());
        EXPECT_EQ(ended, 40);
        EXPECT_EQ(most, limit);
    }
}

TEST_F(TaskGroupTest, Law7SpawnAboveTheBoundSaysSoAndLeavesTheTask) {
    TaskGroup group(host.root_environment, 1);
    int ended = 0;
    EXPECT_TRUE(group.spawn(child(source, alive, 1, &ended)));
    Task<> refused = child(source, alive, 0, &ended);
    EXPECT_FALSE(group.spawn(std::move(refused)));
    EXPECT_TRUE(static_cast<bool>(refused));
    source.fire();
    EXPECT_TRUE(group.spawn(std::move(refused)));
    EXPECT_EQ(ended, 2);
}

TEST_F(TaskGroupTest, CancelReachesTheTasks) {
    TaskGroup group(host.root_environment);
    CancelReason first = CancelReason::none;
    CancelReason late = CancelReason::none;
    EXPECT_TRUE(group.spawn(reports_reason(source, &first)));
    group.cancel(CancelReason::draining);
    EXPECT_TRUE(group.spawn(reports_reason(source, &late)));
    EXPECT_EQ(late, CancelReason::draining);
    host.run_ready();
    EXPECT_EQ(first, CancelReason::draining);
    EXPECT_EQ(group.size(), 0u);
}

TEST_F(TaskGroupTest, CancellingTheParentReachesTheTasksAndEndsTheJoin) {
    constexpr auto parent = [](Source& waits_on, CancelReason* reason) -> Task<> {
        const Environment& environment = co_await this_environment();
        TaskGroup group(environment);
        const bool spawned = group.spawn(reports_reason(waits_on, reason));
        EXPECT_TRUE(spawned);
        co_await group.join();
    };
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &host};
    CancelReason reason = CancelReason::none;
    const Task<> task = parent(source, &reason);
    EXPECT_TRUE(task.start(environment, std::noop_coroutine()));
    scope.cancel(CancelReason::shutdown);
    host.run_ready();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(reason, CancelReason::shutdown);
}

Task<> joins_failures(Source& source, int& alive, std::string* log) {
    const Environment& environment = co_await this_environment();
    TaskGroup group(environment);
    int ended = 0;
    bool spawned = group.spawn(failing_child(source, 2, "second"));
    spawned = spawned && group.spawn(failing_child(source, 1, "first"));
    spawned = spawned && group.spawn(child(source, alive, 3, &ended));
    EXPECT_TRUE(spawned);
    try {
        co_await group.join();
    } catch (const std::invalid_argument& error) {
        *log += error.what();
    }
    EXPECT_EQ(ended, 1) << "a failure does not touch its siblings";
    co_await group.join();
}

TEST_F(TaskGroupTest, Law11FirstFaultIsThrownByJoinAndLaterOnesAreReported) {
    std::string log;
    const Task<> task = joins_failures(source, alive, &log);
    start(task);
    while (step()) {
    }
    EXPECT_TRUE(task.done());
    EXPECT_EQ(log, "first");
    ASSERT_EQ(host.faults().size(), 1u);
    EXPECT_THROW(std::rethrow_exception(host.faults().front()), std::invalid_argument);
}

TEST_F(TaskGroupTest, Law11FaultThatNobodyJoinsForIsReported) {
    {
        TaskGroup group(host.root_environment);
        EXPECT_TRUE(group.spawn(failing_child(source, 0, "unjoined")));
    }
    EXPECT_EQ(host.faults().size(), 1u);
}

TEST_F(TaskGroupTest, DestroyingAWaiterDetachesIt) {
    TaskGroup group(host.root_environment);
    int ended = 0;
    EXPECT_TRUE(group.spawn(child(source, alive, 1, &ended)));
    constexpr auto joins = [](TaskGroup* of) -> Task<> { co_await of->join(); };
    Task<> waiter = joins(&group);
    EXPECT_FALSE(start(waiter));
    waiter.reset();
    source.fire();
    EXPECT_EQ(group.size(), 0u);
}

TEST_F(TaskGroupTest, DestroyingALiveGroupIsAnAssertion) {
    int ended = 0;
    EXPECT_DEATH(
        {
            TaskGroup group(host.root_environment);
            EXPECT_TRUE(group.spawn(child(source, alive, 1, &ended)));
        },
        "assertion failed: running_ == 0");
}

TEST_F(TaskGroupTest, FailsAtEverySuspensionPoint) {
    fail_at_every_point([&](Source& faulty) -> Task<> {
        constexpr auto body = [](Source& waits_on, int& counted) -> Task<> {
            int ended = 0;
            const Environment& environment = co_await this_environment();
            TaskGroup group(environment, 2);
            for (int i = 0; i < 6; ++i) {
                co_await group.vacancy();
                const bool spawned = group.spawn(child(waits_on, counted, 2, &ended));
                EXPECT_TRUE(spawned);
            }
            co_await group.join();
        };
        return body(faulty, alive);
    });
    EXPECT_EQ(points, 12u);
}

}  // namespace
