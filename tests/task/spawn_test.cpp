#include <ferrule/task/spawn.hpp>

#include "task_fixture.hpp"

#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

/// What a completion hook has seen.
struct Ending {
    explicit Ending(int& counted) noexcept : alive(&counted) {}

    int calls = 0;
    std::exception_ptr exception;
    std::uint64_t frames_then = 0;
    int alive_then = 0;
    int* alive;

    static void on_end(void* argument, std::exception_ptr what) noexcept {
        auto& self = *static_cast<Ending*>(argument);
        ++self.calls;
        self.exception = std::move(what);
        self.frames_then = Host::current()->frames.live_frames();
        self.alive_then = *self.alive;
    }
};

Task<> waits(Source& source, int times, Tracked parameter, bool fails) {
    const Tracked local(parameter);
    for (int i = 0; i < times; ++i) {
        co_await source.wait();
    }
    if (fails) {
        throw std::runtime_error("handler");
    }
}

class SpawnTest : public TaskTest {
protected:
    Ending ending{alive};
};

TEST_F(SpawnTest, RunsUntilItFirstWaitsAndOwnsItself) {
    spawn(host, waits(source, 2, Tracked(alive), false));
    EXPECT_EQ(source.waiting(), 1u);
    EXPECT_EQ(host.frames.live_frames(), 1u) << "one frame for each spawned task";
    source.fire();
    EXPECT_EQ(host.frames.live_frames(), 1u);
    source.fire();
    EXPECT_EQ(host.frames.live_frames(), 0u);
}

TEST_F(SpawnTest, HookIsCalledAfterTheFrameIsDestroyed) {
    for (int times = 0; times < 3; ++times) {
        for (const bool fails : {false, true}) {
            ending = Ending(alive);
            spawn(host, waits(source, times, Tracked(alive), fails), nullptr, &Ending::on_end, &ending);
            EXPECT_EQ(host.frames.live_frames(), times == 0 ? 0u : 1u);
            while (step()) {
            }
            EXPECT_EQ(ending.calls, 1);
            EXPECT_EQ(ending.exception != nullptr, fails);
            EXPECT_EQ(ending.frames_then, 0u);
            EXPECT_EQ(ending.alive_then, times == 0 ? 1 : 0) << "only the caller's temporary";
        }
    }
    EXPECT_TRUE(host.faults().empty());
}

TEST_F(SpawnTest, HookMayBeGivenNoArgument) {
    static int calls = 0;
    constexpr CompletionHook hook = [](void* argument, std::exception_ptr) noexcept {
        calls += argument == nullptr ? 1 : 0;
    };
    spawn(host, waits(source, 0, Tracked(alive), false), nullptr, hook, nullptr);
    spawn(host, waits(source, 0, Tracked(alive), true), nullptr, hook, nullptr);
    EXPECT_EQ(calls, 2);
}

TEST_F(SpawnTest, Law11EscapedExceptionIsReportedOnceAndHarmsNobodyElse) {
    spawn(host, waits(source, 1, Tracked(alive), true));
    spawn(host, waits(source, 2, Tracked(alive), false));
    while (step()) {
    }
    ASSERT_EQ(host.faults().size(), 1u);
    EXPECT_THROW(std::rethrow_exception(host.faults().front()), std::runtime_error);
}

Task<> records_environment(Environment** seen, Source& source) {
    struct Reader {
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<detail::TaskPromise<void>> handle) noexcept {
            environment = handle.promise().environment;
            return false;
        }
        Environment* await_resume() const noexcept { return environment; }
        Environment* environment = nullptr;
    };
    co_await source.wait();
    *seen = co_await Reader();
}

TEST_F(SpawnTest, RunsUnderTheGivenEnvironmentOrTheRoot) {
    Environment* seen = nullptr;
    spawn(host, records_environment(&seen, source));
    source.fire();
    EXPECT_EQ(seen, &host.root_environment);
    Environment own{.scope = nullptr, .host = &host, .trace = 5};
    spawn(host, records_environment(&seen, source), &own);
    source.fire();
    EXPECT_EQ(seen, &own);
}

Task<> spawns(Host& host, Source& source, int depth) {
    if (depth > 0) {
        spawn(host, spawns(host, source, depth - 1));
    }
    co_await source.wait();
}

TEST_F(SpawnTest, TasksMaySpawn) {
    spawn(host, spawns(host, source, 50));
    EXPECT_EQ(host.frames.live_frames(), 51u);
    while (step()) {
    }
}

Task<int> fails_below(Source& source) {
    co_await source.wait();
    throw std::runtime_error("below");
}

Task<> catches_and_fails(Source& source, int* caught) {
    try {
        co_await fails_below(source);
    } catch (const std::runtime_error&) {
        ++*caught;
    }
    co_await source.wait();
    throw std::logic_error("own");
}

TEST_F(SpawnTest, ExceptionsCaughtInTheTaskAreNotReported) {
    int caught = 0;
    spawn(host, catches_and_fails(source, &caught), nullptr, &Ending::on_end, &ending);
    while (step()) {
    }
    EXPECT_EQ(caught, 1);
    EXPECT_THROW(std::rethrow_exception(ending.exception), std::logic_error);
}

TEST_F(SpawnTest, MisuseIsAnAssertion) {
    ThreadHost other;
    EXPECT_DEATH(spawn(other, waits(source, 0, Tracked(alive), false)),
                 "assertion failed: Host::current\\(\\) == &host");
    EXPECT_DEATH(spawn(host, Task<>()), "assertion failed: task");
}

Task<> counts(int* ended) {
    ++*ended;
    co_return;
}

Task<> spawns_many(Host& host, int count, int* ended) {
    for (int i = 0; i < count; ++i) {
        spawn(host, counts(ended));
    }
    co_return;
}

TEST_F(SpawnTest, AMillionTasksThatNeverWait) {
    int ended = 0;
    spawn(host, spawns_many(host, 1'000'000, &ended));
    EXPECT_EQ(ended, 1'000'000);
    EXPECT_LE(host.frames.peak_bytes(), 4096u);
}

}  // namespace
