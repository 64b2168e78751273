#include <ferrule/reactor/offload.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> results(Reactor* reactor) {
    const std::thread::id here = std::this_thread::get_id();
    auto where = [] { return std::this_thread::get_id(); };
    const auto there = co_await offload(where);
    EXPECT_TRUE(there);
    EXPECT_NE(*there, here);
    EXPECT_EQ(std::this_thread::get_id(), here);
    bool called = false;
    auto set = [&called] { called = true; };
    const auto none = co_await offload(set);
    EXPECT_TRUE(none);
    EXPECT_TRUE(called);
    auto make = [] { return std::make_unique<std::string>("moved"); };
    auto moved = co_await offload(make);
    EXPECT_TRUE(moved);
    EXPECT_EQ(**moved, "moved");
    EXPECT_TRUE(reactor->offload_pool().idle());
}

TEST(Offload, ReturnsWhatTheCallReturned) {
    Reactor reactor(0, small_options());
    run_task(reactor, [&] { return results(&reactor); });
}

Task<> exceptions() {
    auto fail = []() -> int { throw std::runtime_error("not found"); };
    bool caught = false;
    try {
        co_await offload(fail);
    } catch (const std::runtime_error& failure) {
        caught = std::string(failure.what()) == "not found";
    }
    EXPECT_TRUE(caught);
}

TEST(Offload, RethrowsWhatTheCallThrew) {
    Reactor reactor(0, small_options());
    run_task(reactor, [] { return exceptions(); });
}

Task<> one_call(std::uint64_t value, std::uint64_t* sum, std::uint32_t* ended) {
    auto square = [value] { return value * value; };
    const auto result = co_await offload(square);
    EXPECT_TRUE(result);
    *sum += result.value_or(0);
    ++*ended;
}

Task<> many_calls(Reactor* reactor, std::uint32_t count) {
    std::uint64_t sum = 0;
    std::uint32_t ended = 0;
    std::uint64_t expected = 0;
    for (std::uint32_t value = 0; value < count; ++value) {
        expected += std::uint64_t{value} * value;
        reactor->spawn(one_call(value, &sum, &ended));
    }
    while (ended < count) {
        co_await sleep_for(10us);
    }
    EXPECT_EQ(sum, expected);
}

TEST(Offload, ManyCallsAtATime) {
    ReactorOptions options = small_options();
    options.offload_limit = 1'000;
    options.mailbox_limit = 4;  // what comes home is bounded by the calls
    Reactor reactor(0, options);
    run_task(reactor, [&] { return many_calls(&reactor, 1'000); });
}

Task<> block(std::atomic<bool>* entered, const std::atomic<bool>* go, bool* ended) {
    auto wait = [entered, go] {
        entered->store(true);
        while (!go->load()) {
            std::this_thread::yield();
        }
    };
    const auto done = co_await offload(wait);
    EXPECT_TRUE(done);
    *ended = true;
}

Task<> refused(Reactor* reactor, std::uint64_t* refusals) {
    std::atomic<bool> entered{false};
    std::atomic<bool> go{false};
    bool ended = false;
    reactor->spawn(block(&entered, &go, &ended));
    auto nothing = [] {};
    while (!ended) {
        const auto done = co_await offload(nothing);
        if (done) {
            break;
        }
        EXPECT_EQ(done.error(), std::errc::resource_unavailable_try_again);
        ++*refusals;
        go.store(*refusals > 1'000);
    }
    while (!ended) {
        co_await sleep_for(1us);
    }
}

TEST(Offload, Law2And7LimitRefusesAndTryingAgainHoldsUpNobody) {
    ReactorOptions options = small_options();
    options.offload_limit = 1;
    options.offload_threads = 1;
    Reactor reactor(0, options);
    std::uint64_t refusals = 0;
    run_task(reactor, [&] { return refused(&reactor, &refusals); });
    EXPECT_GT(refusals, 1'000u);
    EXPECT_GT(reactor.counters().yields.value(), 0u);
}

TEST(Offload, A12EndOfTheReactorWaitsForTheCall) {
    Reactor reactor(0, small_options());
    std::atomic<bool> entered{false};
    std::atomic<bool> go{false};
    bool ended = false;
    reactor.on_start([&](Reactor& started) { started.spawn(block(&entered, &go, &ended)); });
    std::thread stopper([&] {
        while (!entered.load()) {
            std::this_thread::yield();
        }
        reactor.stop();
        go.store(true);
    });
    reactor.run();
    stopper.join();
    EXPECT_TRUE(ended);
    EXPECT_EQ(reactor.frames.live_frames(), 0u);
}

TEST(Offload, EndWaitsLongerForACallThanForATask) {
    // The clock of the reactor runs far ahead while it waits for its end.
    ClockKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    std::atomic<bool> entered{false};
    std::atomic<bool> go{false};
    bool ended = false;
    const std::uint64_t begun = kernel.monotonic_ns();
    reactor.on_start([&](Reactor& started) { started.spawn(block(&entered, &go, &ended)); });
    std::thread stopper([&] {
        while (!entered.load()) {
            std::this_thread::yield();
        }
        reactor.stop();
        while (kernel.monotonic_ns() - begun < 60'000'000'000) {
            std::this_thread::yield();
        }
        go.store(true);
    });
    reactor.run();
    stopper.join();
    EXPECT_TRUE(ended);
    EXPECT_EQ(reactor.frames.live_frames(), 0u);
}

Task<> no_thread(bool* caught) {
    auto nothing = [] {};
    try {
        co_await offload(nothing);
    } catch (const std::system_error&) {
        *caught = true;
    }
}

TEST(Offload, NoThreadToBeHadIsSaid) {
    ForwardingKernel kernel;
    kernel.fail(Call::start_thread, EAGAIN, ForwardingKernel::forever);
    Reactor reactor(0, small_options(), kernel);
    bool caught = false;
    run_task(reactor, [&] { return no_thread(&caught); });
    EXPECT_TRUE(caught);
}

Task<> destroy_in_flight(Reactor* reactor, std::atomic<bool>* entered, std::atomic<bool>* go, bool* ended) {
    Task<> task = block(entered, go, ended);
    EXPECT_TRUE(task.start(reactor->root_environment, std::noop_coroutine()));
    task.reset();
    co_return;
}

TEST(OffloadDeathTest, DestroyedBeforeItsEndAborts) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            Reactor reactor(0, small_options());
            std::atomic<bool> entered{false};
            std::atomic<bool> go{true};
            bool ended = false;
            run_task(reactor, [&] { return destroy_in_flight(&reactor, &entered, &go, &ended); });
        },
        "in_flight");
}

TEST(Offload, ElsewhereThanOnAReactorIsMisuse) {
    struct Body {
        static Task<> call(bool* caught) {
            auto nothing = [] {};
            try {
                co_await offload(nothing);
            } catch (const std::logic_error&) {
                *caught = true;
            }
        }
    };
    ThreadHost host;
    const HostBinding binding(host);
    bool caught = false;
    spawn(host, Body::call(&caught));
    EXPECT_TRUE(caught);
}

}  // namespace
