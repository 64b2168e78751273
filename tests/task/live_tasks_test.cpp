#include <ferrule/task/describe_live_tasks.hpp>
#include <ferrule/task/live_tasks.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>

#include "task_fixture.hpp"

#include <gmock/gmock.h>

#include <coroutine>
#include <map>
#include <string>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;

#if defined(FERRULE_LIVE_TASKS)
Task<int> bottom(Source& source) {
    co_await source.wait();
    co_return 1;
}

Task<int> middle(Source& source) {
    co_return co_await bottom(source);
}

Task<> top(Source& source) {
    co_await middle(source);
}

Task<> middle_alone(Source& source) {
    static_cast<void>(co_await bottom(source));
}
#endif

class LiveTasksTest : public TaskTest {};

TEST_F(LiveTasksTest, ShowsWhoAwaitsWhom) {
#if defined(FERRULE_LIVE_TASKS)
    spawn(host, top(source));
    const Task<> unstarted = top(source);
    std::map<const void*, LiveTask> tasks;
    for_each_live_task(host, [&](const LiveTask& task) { tasks.emplace(task.frame, task); });
    ASSERT_EQ(tasks.size(), 4u);
    std::string chain;
    for (const auto& [frame, task] : tasks) {
        if (std::string(task.function.function_name()).find("bottom") == std::string::npos) {
            continue;
        }
        for (const LiveTask* at = &task; at != nullptr;
             at = at->awaited_by == nullptr ? nullptr : &tasks.at(at->awaited_by)) {
            const std::string name = at->function.function_name();
            for (const char* known : {"bottom", "middle", "top"}) {
                chain += name.find(known) != std::string::npos ? std::string(known) + " " : "";
            }
            EXPECT_NE(std::string(at->function.file_name()).find("live_tasks_test.cpp"), std::string::npos);
        }
    }
    EXPECT_EQ(chain, "bottom middle top ");
    source.fire();
    int left = 0;
    for_each_live_task(host, [&](const LiveTask&) { ++left; });
    EXPECT_EQ(left, 1) << "the one that was never started";
#else
    GTEST_SKIP() << "built without FERRULE_LIVE_TASKS";
#endif
}

#if defined(FERRULE_LIVE_TASKS)
Task<> side_by_side(Source& source) {
    co_await when_all(top(source), middle_alone(source));
}

Task<> in_a_group(Source& source) {
    TaskGroup group(co_await this_environment());
    static_cast<void>(group.spawn(top(source)));
    co_await group.join();
}
#endif

TEST_F(LiveTasksTest, DescriptionIsATreeOfWhoAwaitsWhom) {
#if defined(FERRULE_LIVE_TASKS)
    host.advance_to(7'000'000'000);
    spawn(host, side_by_side(source));
    host.advance_to(9'500'000'000);
    spawn(host, in_a_group(source));
    const std::string text = describe_live_tasks(host);
    // Names differ between compilers, and when_all is a task itself.
    EXPECT_THAT(text, ::testing::StartsWith("11 tasks, of which nobody awaits 2\n"));
    EXPECT_THAT(text, ::testing::ContainsRegex("\n[^ \n]*side_by_side.*live_tasks_test.cpp:[0-9]+., 2.500 s\n"
                                               "  .*when_all.*\n    "));
    EXPECT_THAT(text, ::testing::ContainsRegex("    [^ ]*top.*\n      [^ ]*middle.*\n        [^ ]*bottom"));
    EXPECT_THAT(text, ::testing::ContainsRegex("    [^ ]*middle_alone.*\n      [^ ]*bottom"));
    EXPECT_THAT(text, ::testing::ContainsRegex("\n[^ \n]*in_a_group.*, 0.000 s\n  [^ ]*top.*\n    [^ ]*middle.*\n"
                                               "      [^ ]*bottom"));
    EXPECT_THAT(describe_live_tasks(host, 3), ::testing::EndsWith("\nand 8 more\n"));
    while (step()) {
    }
    EXPECT_EQ(describe_live_tasks(host), "0 tasks, of which nobody awaits 0\n");
#else
    EXPECT_THAT(describe_live_tasks(host), ::testing::HasSubstr("FERRULE_LIVE_TASKS"));
#endif
}

/// Waits for what nothing ends.
Task<> stuck() {
    co_await std::suspend_always();
}

TEST_F(LiveTasksTest, HostThatEndsBeforeItsTasksSaysWhichTheyAre) {
#if defined(FERRULE_LIVE_TASKS)
    constexpr const char* said =
        "1 coroutine frames of a host that ends are alive.*\n.*stuck.*live_tasks_test.cpp.*\n.*a host ends before its "
        "tasks";
#else
    constexpr const char* said =
        "1 coroutine frames of a host that ends are alive.*\n.*FERRULE_LIVE_TASKS.*\n.*a host ends before its tasks";
#endif
    EXPECT_DEATH(
        {
            ThreadHost ended;
            const HostBinding binding(ended);
            spawn(ended, stuck());
        },
        said);
}

TEST_F(LiveTasksTest, CostsNothingWithoutTheOption) {
#if defined(FERRULE_LIVE_TASKS)
    GTEST_SKIP() << "built with FERRULE_LIVE_TASKS";
#else
    static_assert(sizeof(detail::TaskPromise<void>) == 3 * sizeof(void*));
    static_assert(sizeof(detail::TaskPromise<int>) <= 4 * sizeof(void*));
#endif
}

}  // namespace
