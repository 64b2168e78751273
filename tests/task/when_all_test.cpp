#include <ferrule/task/when_all.hpp>

#include "task_fixture.hpp"

#include <memory>
#include <string>
#include <vector>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

class WhenAllTest : public TaskTest {};

Task<int> number(Source& source, int& alive, int times, int value) {
    const Tracked local(alive);
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
    co_return value;
}

Task<std::unique_ptr<int>> pointer(Source& source, int value) {
    co_await source.wait();
    co_return std::make_unique<int>(value);
}

Task<> nothing(Source& source, int& alive, int times) {
    const Tracked local(alive);
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
}

Task<> fails(Source& source, int times, const char* text) {
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
    throw std::invalid_argument(text);
}

Task<> reports_reason(Source& source, CancelReason* reason) {
    *reason = co_await source.wait();
}

Task<> mixed(Source& source, int& alive, int* sum) {
    const auto [first, second, third, last] = co_await when_all(number(source, alive, 2, 1), pointer(source, 2),
                                                                nothing(source, alive, 3), number(source, alive, 0, 4));
    *sum = first + *second + last;
    static_assert(std::is_same_v<decltype(third), const std::monostate>);
}

TEST_F(WhenAllTest, GivesTheResultsInOrder) {
    int sum = 0;
    const Task<> task = mixed(source, alive, &sum);
    start(task);
    EXPECT_EQ(source.waiting(), 3u) << "they wait side by side";
    while (step()) {
    }
    EXPECT_TRUE(task.done());
    EXPECT_EQ(sum, 7);
}

TEST_F(WhenAllTest, EndsInAnyOrder) {
    int sum = 0;
    const Task<> task = mixed(source, alive, &sum);
    start(task);
    while (source.fire_last()) {
    }
    EXPECT_TRUE(task.done());
    EXPECT_EQ(sum, 7);
}

Task<> many(Source& source, int& alive, int count) {
    std::vector<Task<int>> tasks;
    for (int i = 0; i < count; ++i) {
        tasks.push_back(number(source, alive, i % 3, i));
    }
    const std::vector<int> results = co_await when_all(std::move(tasks));
    EXPECT_EQ(results.size(), static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        EXPECT_EQ(results[static_cast<std::size_t>(i)], i);
    }
    std::vector<Task<>> without_results;
    for (int i = 0; i < count; ++i) {
        without_results.push_back(nothing(source, alive, i % 2));
    }
    co_await when_all(std::move(without_results));
}

TEST_F(WhenAllTest, TakesAnyNumberOfTasks) {
    for (const int count : {0, 1, 2, 100}) {
        const Task<> task = many(source, alive, count);
        start(task);
        while (step()) {
        }
        EXPECT_TRUE(task.done()) << count;
    }
}

TEST_F(WhenAllTest, NothingWaitsNothingSuspends) {
    const Task<> task = when_all(nothing(source, alive, 0), nothing(source, alive, 0));
    EXPECT_TRUE(start(task));
}

TEST_F(WhenAllTest, FirstExceptionCancelsTheOthersAndIsThrownWhenAllHaveEnded) {
    CancelReason reason = CancelReason::none;
    const Task<> task =
        when_all(reports_reason(source, &reason), fails(source, 1, "first"), fails(source, 2, "second"));
    start(task);
    EXPECT_EQ(source.waiting(), 3u);
    EXPECT_FALSE(task.done());
    source.fire_last();
    source.fire_last();
    // The last task failed first, and the other failing one was cancelled into failing too.
    EXPECT_FALSE(task.done()) << "the cancelled ones have not ended yet";
    host.run_ready();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(reason, CancelReason::cancelled);
    try {
        task.await_resume();
        FAIL() << "no exception";
    } catch (const std::invalid_argument& error) {
        EXPECT_STREQ(error.what(), "second");
    }
}

TEST_F(WhenAllTest, FailureAtTheStartKeepsTheRestFromStarting) {
    CancelReason reason = CancelReason::none;
    const Task<> task =
        when_all(nothing(source, alive, 1), fails(source, 0, "at once"), reports_reason(source, &reason));
    EXPECT_FALSE(start(task));
    EXPECT_EQ(source.started(), 1u);
    host.run_ready();
    EXPECT_TRUE(task.done());
    EXPECT_THROW(task.await_resume(), std::invalid_argument);
    EXPECT_EQ(reason, CancelReason::none);
}

TEST_F(WhenAllTest, CancellingTheCallerReachesTheTasks) {
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &host};
    CancelReason first = CancelReason::none;
    CancelReason second = CancelReason::none;
    const Task<> task = when_all(reports_reason(source, &first), reports_reason(source, &second));
    EXPECT_TRUE(task.start(environment, std::noop_coroutine()));
    scope.cancel(CancelReason::draining);
    host.run_ready();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(first, CancelReason::draining);
    EXPECT_EQ(second, CancelReason::draining);
}

Task<> everything(Source& source, int& alive) {
    int sum = 0;
    co_await mixed(source, alive, &sum);
    co_await many(source, alive, 4);
    co_await when_all(nothing(source, alive, 2), when_all(nothing(source, alive, 1), nothing(source, alive, 3)));
}

TEST_F(WhenAllTest, DestroyedAtEverySuspensionPoint) {
    destroy_at_every_point([&] { return everything(source, alive); });
    EXPECT_EQ(points, 17u);
}

TEST_F(WhenAllTest, FailsAtEverySuspensionPoint) {
    fail_at_every_point([&](Source& faulty) { return everything(faulty, alive); });
    EXPECT_EQ(points, 17u);
}

Task<> rounds(Source& source, int& alive, int count) {
    for (int i = 0; i < count; ++i) {
        co_await when_all(nothing(source, alive, 0), nothing(source, alive, 0));
    }
}

TEST_F(WhenAllTest, AMillionTasksThatNeverWait) {
    const Task<> task = rounds(source, alive, 500'000);
    EXPECT_TRUE(start(task));
}

}  // namespace
