#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/resume_on.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/yield.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> sleep_long(std::vector<int>* ended) {
    const auto slept = co_await sleep_for(24h);
    EXPECT_FALSE(slept);
    ended->push_back(1);
}

Task<> poll_long(Reactor* reactor, const Event* event, std::vector<int>* ended) {
    Operation poll = poll_event(*reactor, *event);
    const OperationResult result = co_await poll;
    EXPECT_EQ(result.result, -ECANCELED);
    ended->push_back(2);
}

Task<> read_long(Reactor* reactor, const Event* event, std::vector<int>* ended) {
    std::uint64_t value = 0;
    Operation read = reactor->submit(
        "read of the event",
        [&](ferrule::abi::SubmissionEntry& entry) {
            prepare::read(entry, event->descriptor(), &value, sizeof value, 0);
        },
        OperationMemory::caller);
    const OperationResult result = co_await read;
    EXPECT_EQ(result.result, -ECANCELED);
    ended->push_back(3);
}

Task<> both_long(Reactor* reactor, const Event* event, std::vector<int>* ended) {
    co_await when_all(sleep_long(ended), poll_long(reactor, event, ended));
    ended->push_back(4);
}

Task<> deadline_long(std::vector<int>* ended) {
    co_await with_deadline(sleep_long(ended), 48h);
    ended->push_back(5);
}

/// Work after the cancellation still ends.
Task<> go_on_after(Reactor* reactor, const Event* event, std::vector<int>* ended) {
    co_await poll_long(reactor, event, ended);
    Operation nop = submit_nop(*reactor);
    const OperationResult result = co_await nop;
    EXPECT_EQ(result.result, 0);
    co_await yield_now();
    const auto slept = co_await sleep_for(1ns);
    EXPECT_FALSE(slept) << "its scope is cancelled";
    ended->push_back(6);
}

void spawn_all(Reactor& reactor, const Event* event, std::vector<int>* ended) {
    reactor.spawn(sleep_long(ended));
    reactor.spawn(poll_long(&reactor, event, ended));
    reactor.spawn(read_long(&reactor, event, ended));
    reactor.spawn(both_long(&reactor, event, ended));
    reactor.spawn(deadline_long(ended));
    reactor.spawn(go_on_after(&reactor, event, ended));
}

void expect_nothing_left(Reactor& reactor) {
    EXPECT_EQ(reactor.frames.live_frames(), 0u);
    EXPECT_EQ(reactor.counters().operations.value(), 0u);
    EXPECT_EQ(reactor.timers().size(), 0u);
}

TEST(ReactorEnd, A12Law3StopEndsEveryAwaitOnce) {
    Reactor reactor(0, small_options());
    const Event event;
    std::vector<int> ended;
    reactor.on_start([&](Reactor& started) { spawn_all(started, &event, &ended); });
    EXPECT_TRUE(reactor.post([&] { reactor.stop(); }));
    reactor.run();
    EXPECT_EQ(ended.size(), 10u);
    expect_nothing_left(reactor);
}

TEST(ReactorEnd, A12StopBeforeTheFirstPassEndsEveryAwaitOnce) {
    Reactor reactor(0, small_options());
    const Event event;
    std::vector<int> ended;
    reactor.on_start([&](Reactor& started) { spawn_all(started, &event, &ended); });
    reactor.stop();
    reactor.run();
    EXPECT_EQ(ended.size(), 10u);
    expect_nothing_left(reactor);
}

TEST(ReactorEnd, EndsAsSoonAsTheLastTaskHas) {
    // The last one ends in its turn of the ready list, after which nothing is left to wake the reactor.
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    const Event event;
    std::vector<int> ended;
    reactor.on_start([&](Reactor& started) { started.spawn(go_on_after(&started, &event, &ended)); });
    EXPECT_TRUE(reactor.post([&] { reactor.stop(); }));
    const std::uint64_t before = kernel.monotonic_ns();
    reactor.run();
    EXPECT_EQ(kernel.monotonic_ns(), before);
}

struct Slow : Subsystem {
    void drain() noexcept override { ++drains; }
    [[nodiscard]] bool drained() const noexcept override { return is_drained; }
    void shutdown() noexcept override { ++shutdowns; }
    [[nodiscard]] bool quiescent() const noexcept override { return is_quiescent; }
    int drains = 0;
    int shutdowns = 0;
    bool is_drained = false;
    bool is_quiescent = true;
};

TEST(ReactorEnd, DrainEndsWhenAllHaveDrained) {
    Reactor reactor(0, small_options());
    Slow first;
    Slow second;
    reactor.add_subsystem(first);
    reactor.add_subsystem(second);
    EXPECT_TRUE(reactor.post([&] {
        reactor.drain(24h);
        reactor.drain(24h);
        EXPECT_TRUE(reactor.draining());
        first.is_drained = true;
        EXPECT_TRUE(reactor.post([&] { second.is_drained = true; }));
    }));
    reactor.run();
    EXPECT_EQ(first.drains, 1);
    EXPECT_EQ(second.drains, 1);
    EXPECT_EQ(first.shutdowns, 1);
    expect_nothing_left(reactor);
}

TEST(ReactorEnd, DrainEndsAtItsDeadline) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    Slow slow;
    reactor.add_subsystem(slow);
    const Event event;
    std::vector<int> ended;
    reactor.on_start([&](Reactor& started) { spawn_all(started, &event, &ended); });
    const std::uint64_t before = kernel.monotonic_ns();
    EXPECT_TRUE(reactor.post([&] { reactor.drain(10s); }));
    reactor.run();
    EXPECT_EQ(kernel.monotonic_ns() - before, 10'000'000'000u);
    EXPECT_EQ(slow.shutdowns, 1);
    EXPECT_EQ(ended.size(), 10u);
    expect_nothing_left(reactor);
}

Task<> drain_after_yield(Slow* slow) {
    co_await yield_now();
    slow->is_drained = true;
}

TEST(ReactorEnd, DrainEndsAsSoonAsTheLastTaskHas) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    Slow slow;
    reactor.add_subsystem(slow);
    const std::uint64_t before = kernel.monotonic_ns();
    EXPECT_TRUE(reactor.post([&] {
        reactor.drain(10s);
        reactor.spawn(drain_after_yield(&slow));
    }));
    reactor.run();
    EXPECT_EQ(kernel.monotonic_ns(), before);
}

TEST(ReactorEnd, DrainBeforeRunEnds) {
    Reactor reactor(0, small_options());
    reactor.drain(24h);
    reactor.run();
    expect_nothing_left(reactor);
}

struct DrainsAtTheEnd : Subsystem {
    explicit DrainsAtTheEnd(Reactor& owner) : reactor(&owner) {}
    void shutdown() noexcept override {
        reactor->drain(24h);
        reactor->stop();
        static_cast<void>(reactor->post([] {}));
    }
    Reactor* reactor;
};

TEST(ReactorEnd, DrainStopAndPostDuringTheEndChangeNothing) {
    Reactor reactor(0, small_options());
    DrainsAtTheEnd subsystem(reactor);
    reactor.add_subsystem(subsystem);
    reactor.stop();
    reactor.run();
    EXPECT_FALSE(reactor.post([] {}));
    expect_nothing_left(reactor);
}

TEST(ReactorEnd, SubsystemThatNeverComesToRestIsGivenUpWithAMessage) {
    ClockKernel kernel;
    Reactor reactor(4, small_options(), kernel);
    Slow slow;
    slow.is_quiescent = false;
    reactor.add_subsystem(slow);
    const std::uint64_t before = kernel.monotonic_ns();
    reactor.stop();
    testing::internal::CaptureStderr();
    reactor.run();
    EXPECT_NE(testing::internal::GetCapturedStderr().find("ferrule: error: reactor 4: "), std::string::npos);
    EXPECT_GE(kernel.monotonic_ns() - before, 5'000'000'000u);
}

/// Starts an operation whenever the one before it has ended, whatever happens.
Task<> ignore_cancellation(Reactor* reactor, const Event* event, std::uint64_t* rounds) {
    std::int32_t result = 0;
    while (result != -ENOBUFS) {
        Operation poll = poll_event(*reactor, *event);
        const OperationResult ended = co_await poll;
        result = ended.result;
        ++*rounds;
    }
}

TEST(ReactorEnd, TaskThatIgnoresItsCancellationIsRefusedFurtherOperations) {
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    const Event event;
    std::uint64_t rounds = 0;
    reactor.on_start([&](Reactor& started) { started.spawn(ignore_cancellation(&started, &event, &rounds)); });
    EXPECT_TRUE(reactor.post([&] { reactor.stop(); }));
    // Time goes by for those who only look at the clock.
    struct Ticking : Subsystem {
        explicit Ticking(ClockKernel& advanced) : clock(&advanced) {}
        void before_submit() noexcept override { clock->advance(1'000'000'000); }
        ClockKernel* clock;
    } ticking(kernel);
    reactor.add_subsystem(ticking);
    reactor.run();
    EXPECT_GT(rounds, 1u);
    expect_nothing_left(reactor);
}

Task<> hold(std::shared_ptr<int> held, Reactor* reactor, const Event* event) {
    Operation poll = poll_event(*reactor, *event);
    co_await poll;
    EXPECT_EQ(*held, 1);
}

Task<> wait_for_nothing() {
    co_await std::suspend_always();
}

TEST(ReactorEndDeathTest, TaskThatNothingCanEndIsSaidWhenItsReactorIsDestroyed) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            Reactor reactor(0, small_options());
            reactor.on_start([](Reactor& started) {
                started.spawn(wait_for_nothing());
                started.stop();
            });
            reactor.run();
        },
        "1 coroutine frames of a host that ends are alive(.|\n)*a host ends before its tasks");
}

/// Owns a task that waits for ever, and ends it.
struct Owner {
    explicit Owner(Reactor& reactor) { EXPECT_TRUE(task.start(reactor.root_environment, std::noop_coroutine())); }
    Task<> task = wait_for_nothing();
};

TEST(ReactorEnd, TasksOfServicesEndWithThem) {
    Reactor reactor(0, small_options());
    reactor.on_start([](Reactor& started) {
        started.add_service<Owner>(started);
        started.stop();
    });
    reactor.run();
    EXPECT_EQ(reactor.frames.live_frames(), 1u);
    // The end of the reactor asserts that none is left.
}

TEST(ReactorEnd, PostedWhileItEndsIsRunOrReleased) {
    for (int round = 0; round < 20; ++round) {
        const Event event;
        const auto held = std::make_shared<int>(1);
        {
            ReactorThread reactor;
            std::thread sender([&] {
                bool taken = true;
                for (int posts = 0; taken && posts < 500; ++posts) {
                    taken = reactor->post([held, &reactor, &event] { reactor->spawn(hold(held, &*reactor, &event)); });
                }
            });
            reactor->stop();
            sender.join();
        }
        EXPECT_EQ(held.use_count(), 1);
    }
}

}  // namespace
