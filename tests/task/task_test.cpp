#include <ferrule/task/task.hpp>

#include "task_fixture.hpp"

#include <memory>
#include <string>
#include <utility>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

Task<int> immediate(int value) {
    co_return value;
}

Task<int> after(Source& source, int value) {
    co_await source.wait();
    co_return value;
}

Task<> sum_of(long count, long* sum) {
    for (long i = 0; i < count; ++i) {
        *sum += co_await immediate(1);
    }
}

TEST_F(TaskTest, IsLazy) {
    long sum = 0;
    Task<> task = sum_of(3, &sum);
    EXPECT_EQ(sum, 0);
    EXPECT_TRUE(start(task));
    EXPECT_EQ(sum, 3);
}

TEST_F(TaskTest, DestroyedUnstartedFreesItsFrame) {
    long sum = 0;
    { const Task<> task = sum_of(3, &sum); }
    EXPECT_EQ(sum, 0);
}

TEST_F(TaskTest, Law2AMillionSynchronousCompletionsNeedNoStack) {
    long sum = 0;
    Task<> task = sum_of(1'000'000, &sum);
    EXPECT_TRUE(start(task));
    EXPECT_EQ(sum, 1'000'000);
}

TEST_F(TaskTest, EndsLaterByResumingWhoAwaitsIt) {
    int result = 0;
    constexpr auto await_it = [](Source& waits, int* out) -> Task<> { *out = co_await after(waits, 7); };
    Task<> task = await_it(source, &result);
    EXPECT_FALSE(start(task));
    EXPECT_EQ(source.waiting(), 1u);
    EXPECT_TRUE(source.fire());
    EXPECT_TRUE(task.done());
    EXPECT_EQ(result, 7);
}

Task<std::unique_ptr<int>> move_only(Source& source) {
    co_await source.wait();
    co_return std::make_unique<int>(3);
}

Task<int&> reference(Source& source, int& target) {
    co_await source.wait();
    co_return target;
}

Task<std::string> braced(Source& source) {
    co_await source.wait();
    co_return {"abcd", 2};
}

Task<> take_results(Source& source, int& target, bool* ended) {
    const std::unique_ptr<int> pointer = co_await move_only(source);
    int& same = co_await reference(source, target);
    const std::string text = co_await braced(source);
    EXPECT_EQ(*pointer, 3);
    EXPECT_EQ(&same, &target);
    EXPECT_EQ(text, "ab");
    *ended = true;
}

TEST_F(TaskTest, ResultsMayBeMoveOnlyReferencesOrBraced) {
    int target = 0;
    bool ended = false;
    Task<> task = take_results(source, target, &ended);
    start(task);
    while (step()) {
    }
    EXPECT_TRUE(ended);
}

Task<Tracked> tracked_result(Source& source, int& alive) {
    co_await source.wait();
    co_return Tracked(alive);
}

TEST_F(TaskTest, ResultThatNobodyTakesIsDestroyed) {
    Task<Tracked> task = tracked_result(source, alive);
    start(task);
    source.fire();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(alive, 1);
    task.reset();
    EXPECT_EQ(alive, 0);
}

Task<int> thrower(Source& source, bool wait) {
    if (wait) {
        co_await source.wait();
    }
    throw std::runtime_error("thrown");
}

Task<> catcher(Source& source, bool wait, int* caught) {
    try {
        co_await thrower(source, wait);
    } catch (const std::runtime_error&) {
        ++*caught;
    }
    // The coroutine goes on as usual after a caught exception.
    co_await source.wait();
    ++*caught;
}

TEST_F(TaskTest, ExceptionIsThrownWhereTheTaskIsAwaited) {
    for (const bool wait : {false, true}) {
        int caught = 0;
        Task<> task = catcher(source, wait, &caught);
        start(task);
        while (step()) {
        }
        EXPECT_TRUE(task.done());
        EXPECT_EQ(caught, 2);
    }
}

struct ThrowsWhenMoved {
    ThrowsWhenMoved() = default;
    ThrowsWhenMoved(ThrowsWhenMoved&&) { throw std::runtime_error("moved"); }
};

Task<ThrowsWhenMoved> unmovable() {
    co_return ThrowsWhenMoved();
}

TEST_F(TaskTest, ResultWhoseConstructorThrowsIsAnException) {
    Task<ThrowsWhenMoved> task = unmovable();
    EXPECT_TRUE(start(task));
    EXPECT_THROW(task.await_resume(), std::runtime_error);
}

Task<int> nested(Source& source, int& alive, int depth) {
    const Tracked local(alive);
    co_await source.wait();
    int below = 0;
    if (depth > 0) {
        below = co_await nested(source, alive, depth - 1);
    }
    const Tracked another(alive);
    co_await source.wait();
    co_return below + 1;
}

Task<> nest(Source& source, int& alive, Tracked parameter) {
    const Tracked copy(parameter);
    const int first = co_await nested(source, alive, 5);
    const int second = co_await nested(source, alive, 2);
    EXPECT_EQ(first, 6);
    EXPECT_EQ(second, 3);
}

TEST_F(TaskTest, DestroyedAtEverySuspensionPoint) {
    destroy_at_every_point([&] { return nest(source, alive, Tracked(alive)); });
    EXPECT_EQ(points, 18u);
}

TEST_F(TaskTest, FailsAtEverySuspensionPoint) {
    fail_at_every_point([&](Source& faulty) { return nest(faulty, alive, Tracked(alive)); });
    EXPECT_EQ(points, 18u);
}

// Not inlined: clang leaves out the frame of a coroutine that it inlines, and frames are counted here.
[[gnu::noinline]] Task<int> chain(Source& source, int depth) {
    if (depth == 0) {
        co_await source.wait();
        co_return 0;
    }
    const int below = co_await chain(source, depth - 1);
    co_return below + 1;
}

// Bounded by the stack where GCC makes no tail calls (-O0, sanitizers), by memory otherwise.
constexpr int chain_depth = 2000;

TEST_F(TaskTest, DeepChainUnwinds) {
    Task<int> task = chain(source, chain_depth);
    EXPECT_FALSE(start(task));
    EXPECT_EQ(host.frames.live_frames(), static_cast<unsigned>(chain_depth) + 1);
    source.fire();
    EXPECT_TRUE(task.done());
    EXPECT_EQ(task.await_resume(), chain_depth);
}

TEST_F(TaskTest, DeepChainIsDestroyed) {
    Task<int> task = chain(source, chain_depth);
    EXPECT_FALSE(start(task));
    task.reset();
    EXPECT_EQ(source.waiting(), 0u);
    EXPECT_EQ(host.frames.live_frames(), 0u);
}

Task<> await_variable(Source& source) {
    Task<int> task = after(source, 4);
    const int value = co_await task;
    EXPECT_EQ(value, 4);
}

TEST_F(TaskTest, MayBeAwaitedAsAVariable) {
    Task<> task = await_variable(source);
    start(task);
    source.fire();
    EXPECT_TRUE(task.done());
}

TEST_F(TaskTest, MovingPassesOwnership) {
    Task<int> first = after(source, 1);
    Task<int> second = std::move(first);
    EXPECT_FALSE(static_cast<bool>(first));
    EXPECT_TRUE(static_cast<bool>(second));
    first = immediate(2);
    second = std::move(first);
    EXPECT_EQ(host.frames.live_frames(), 1u);
}

Task<Environment*> environment_below() {
    struct Reader {
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<detail::TaskPromise<Environment*>> handle) noexcept {
            environment = handle.promise().environment;
            return false;
        }
        Environment* await_resume() const noexcept { return environment; }
        Environment* environment = nullptr;
    };
    co_return co_await Reader();
}

Task<Environment*> environment_two_below() {
    co_return co_await environment_below();
}

TEST_F(TaskTest, EnvironmentIsInherited) {
    Environment environment{.scope = nullptr, .host = &host, .trace = 9};
    const Task<Environment*> task = environment_two_below();
    EXPECT_FALSE(task.start(environment, std::noop_coroutine()));
    EXPECT_EQ(task.await_resume(), &environment);
}

// A coroutine type of somebody else's, whose promise has no environment.
struct Foreign {
    struct promise_type {
        Foreign get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};

Foreign foreign(Environment** seen) {
    *seen = co_await environment_below();
}

TEST_F(TaskTest, ForeignCoroutineGetsTheHostsRootEnvironment) {
    Environment* seen = nullptr;
    foreign(&seen);
    EXPECT_EQ(seen, &host.root_environment);
}

TEST_F(TaskTest, AwaitingTwiceIsAnAssertion) {
    const Task<int> task = immediate(1);
    start(task);
    EXPECT_DEATH(start(task), "assertion failed: promise.environment == nullptr");
}

TEST(TaskWithoutHost, FramesComeFromTheHeap) {
    long sum = 0;
    Environment environment;
    const Task<> task = sum_of(10, &sum);
    EXPECT_FALSE(task.start(environment, std::noop_coroutine()));
    EXPECT_EQ(sum, 10);
}

}  // namespace
