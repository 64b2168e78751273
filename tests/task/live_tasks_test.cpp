#include <ferrule/task/live_tasks.hpp>
#include <ferrule/task/spawn.hpp>

#include "task_fixture.hpp"

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
