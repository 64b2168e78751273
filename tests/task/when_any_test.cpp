#include <ferrule/task/when_any.hpp>

#include "task_fixture.hpp"

#include <memory>
#include <string>
#include <vector>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

class WhenAnyTest : public TaskTest {};

Task<int> number(Source& source, int& alive, int times, int value) {
    const Tracked local(alive);
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
    co_return value;
}

Task<> nothing(Source& source, int& alive, int times) {
    const Tracked local(alive);
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
}

Task<std::unique_ptr<int>> pointer(Source& source, int value) {
    co_await source.wait();
    co_return std::make_unique<int>(value);
}

Task<> fails(Source& source) {
    co_await source.wait();
    throw std::invalid_argument("failed");
}

// Does its own work after it has been cancelled, as a flush would.
Task<> ends_slowly(Source& cancellable, Source& other, CancelReason* reason) {
    *reason = co_await cancellable.wait();
    const CancelReason second = co_await other.wait();
    EXPECT_EQ(second, CancelReason::cancelled) << "what waits below a cancelled scope ends at once";
}

TEST_F(WhenAnyTest, FirstToEndWinsAndTheOthersAreCancelledAndAwaited) {
    CancelReason reason = CancelReason::none;
    Source other;
    const auto task = when_any(ends_slowly(source, other, &reason), number(source, alive, 1, 5), pointer(source, 6));
    start(task);
    EXPECT_EQ(source.waiting(), 3u);
    source.fire_last();
    EXPECT_FALSE(task.done()) << "the cancelled ones have not ended yet";
    host.run_ready();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(reason, CancelReason::cancelled);
    const auto result = task.await_resume();
    ASSERT_EQ(result.index(), 2u);
    EXPECT_EQ(*std::get<2>(result), 6);
}

TEST_F(WhenAnyTest, WinnerAtTheStartKeepsTheRestFromStarting) {
    const auto task = when_any(nothing(source, alive, 1), number(source, alive, 0, 8), number(source, alive, 1, 9));
    EXPECT_FALSE(start(task));
    EXPECT_EQ(source.started(), 1u);
    host.run_ready();
    ASSERT_TRUE(task.done());
    const auto result = task.await_resume();
    ASSERT_EQ(result.index(), 1u);
    EXPECT_EQ(std::get<1>(result), 8);
}

TEST_F(WhenAnyTest, FirstToFailDecidesToo) {
    const auto task = when_any(nothing(source, alive, 1), fails(source));
    start(task);
    source.fire_last();
    host.run_ready();
    ASSERT_TRUE(task.done());
    EXPECT_THROW(task.await_resume(), std::invalid_argument);
}

TEST_F(WhenAnyTest, ExceptionsOfTheOthersAreDropped) {
    const auto task = when_any(fails(source), nothing(source, alive, 1));
    start(task);
    source.fire_last();
    host.run_ready();
    ASSERT_TRUE(task.done());
    EXPECT_EQ(task.await_resume().index(), 1u);
}

Task<> any_of_many(Source& source, int& alive, int count) {
    std::vector<Task<int>> tasks;
    std::vector<Task<>> without_results;
    for (int i = 0; i < count; ++i) {
        tasks.push_back(number(source, alive, count - i, i));
        without_results.push_back(nothing(source, alive, count - i));
    }
    const FirstResult<int> first = co_await when_any(std::move(tasks));
    EXPECT_EQ(first.index, static_cast<std::size_t>(count) - 1);
    EXPECT_EQ(first.value, count - 1);
    const std::size_t index = co_await when_any(std::move(without_results));
    EXPECT_EQ(index, static_cast<std::size_t>(count) - 1);
}

TEST_F(WhenAnyTest, TakesAnyNumberOfTasks) {
    for (const int count : {1, 2, 100}) {
        const Task<> task = any_of_many(source, alive, count);
        start(task);
        while (step()) {
        }
        EXPECT_TRUE(task.done()) << count;
    }
}

TEST_F(WhenAnyTest, OfNothingIsMisuse) {
    const auto numbers = when_any(std::vector<Task<int>>());
    EXPECT_TRUE(start(numbers));
    EXPECT_THROW(numbers.await_resume(), std::invalid_argument);
    const auto without_results = when_any(std::vector<Task<>>());
    EXPECT_TRUE(start(without_results));
    EXPECT_THROW(without_results.await_resume(), std::invalid_argument);
}

TEST_F(WhenAnyTest, CancellingTheCallerReachesTheTasks) {
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &host};
    const auto task = when_any(number(source, alive, 1, 1), number(source, alive, 1, 2));
    EXPECT_TRUE(task.start(environment, std::noop_coroutine()));
    scope.cancel(CancelReason::shutdown);
    EXPECT_EQ(source.waiting(), 0u);
    host.run_ready();
    EXPECT_TRUE(task.done());
}

Task<> everything(Source& source, int& alive) {
    co_await any_of_many(source, alive, 3);
    const auto result = co_await when_any(nothing(source, alive, 3), number(source, alive, 2, 1));
    EXPECT_EQ(result.index(), 1u);
    co_await when_any(nothing(source, alive, 3), when_any(nothing(source, alive, 2), number(source, alive, 1, 1)));
}

TEST_F(WhenAnyTest, DestroyedAtEverySuspensionPoint) {
    destroy_at_every_point([&] { return everything(source, alive); });
    EXPECT_GE(points, 12u);
}

TEST_F(WhenAnyTest, FailsAtEverySuspensionPoint) {
    // A loser's failure is dropped, so that not every failure comes out: each is tried by number.
    for (std::size_t failing = 0; failing < 40; ++failing) {
        Source faulty;
        faulty.fail_at = failing;
        const auto task =
            when_any(nothing(faulty, alive, 3), when_any(nothing(faulty, alive, 4), number(faulty, alive, 5, 1)));
        start(task);
        while (host.run_ready() != 0 || faulty.fire()) {
        }
        ASSERT_TRUE(task.done());
        try {
            EXPECT_EQ(task.await_resume().index(), 0u);
        } catch (const std::runtime_error&) {
        }
        EXPECT_EQ(alive, 0);
        EXPECT_EQ(faulty.waiting(), 0u);
    }
}

}  // namespace
