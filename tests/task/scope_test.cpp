#include <ferrule/task/scope.hpp>

#include "task_fixture.hpp"

#include <string>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

class ScopeTest : public TaskTest {};

Task<CancelReason> waits(Source& source) {
    co_return co_await source.wait();
}

Task<> waits_and_drops(Source& source, int& alive) {
    const Tracked local(alive);
    co_await source.wait();
}

Task<> runs_both(Source& source, CancelScope* inner, CancelReason* within, CancelReason* after) {
    *within = co_await with_scope(*inner, waits(source));
    *after = co_await waits(source);
}

TEST_F(ScopeTest, CancelsTheTaskAndNothingElse) {
    CancelScope scope;
    CancelReason within = CancelReason::none;
    CancelReason after = CancelReason::shutdown;
    const Task<> task = runs_both(source, &scope, &within, &after);
    start(task);
    scope.cancel(CancelReason::cancelled);
    host.run_ready();
    EXPECT_EQ(within, CancelReason::cancelled);
    EXPECT_EQ(source.waiting(), 1u) << "the rest of the task is outside of the scope";
    source.fire();
    EXPECT_EQ(after, CancelReason::none);
    EXPECT_TRUE(task.done());
}

TEST_F(ScopeTest, KeepsTheRestOfTheEnvironment) {
    constexpr auto trace_of = []() -> Task<std::uint64_t> {
        const Environment& environment = co_await this_environment();
        EXPECT_NE(environment.scope, nullptr);
        co_return environment.trace;
    };
    CancelScope scope;
    Environment environment{.scope = nullptr, .host = &host, .trace = 77};
    const Task<std::uint64_t> task = with_scope(scope, trace_of());
    EXPECT_FALSE(task.start(environment, std::noop_coroutine()));
    EXPECT_EQ(task.await_resume(), 77u);
}

Task<> scoped(Source& source, int& alive) {
    const Environment& environment = co_await this_environment();
    CancelScope scope(environment.scope);
    co_await with_scope(scope, waits_and_drops(source, alive));
    const CancelReason reason = co_await with_scope(scope, waits(source));
    EXPECT_EQ(reason, CancelReason::none);
}

TEST_F(ScopeTest, DestroyedAtEverySuspensionPoint) {
    destroy_at_every_point([&] { return scoped(source, alive); });
    EXPECT_EQ(points, 2u);
}

TEST_F(ScopeTest, FailsAtEverySuspensionPoint) {
    fail_at_every_point([&](Source& faulty) { return scoped(faulty, alive); });
    EXPECT_EQ(points, 2u);
}

TEST_F(ScopeTest, ParentReachesTheTask) {
    CancelScope outer;
    Environment environment{.scope = &outer, .host = &host};
    constexpr auto inner_reason = [](Source& waits_on) -> Task<CancelReason> {
        const Environment& inherited = co_await this_environment();
        CancelScope scope(inherited.scope);
        co_return co_await with_scope(scope, waits(waits_on));
    };
    const Task<CancelReason> task = inner_reason(source);
    EXPECT_TRUE(task.start(environment, std::noop_coroutine()));
    outer.cancel(CancelReason::draining);
    host.run_ready();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(task.await_resume(), CancelReason::draining);
}

}  // namespace
