#include <ferrule/reactor/stop_token.hpp>
#include <ferrule/task/scope.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> sleep_until_cancelled(std::atomic<bool>* started, bool* cancelled) {
    started->store(true);
    const auto slept = co_await sleep_for(24h);
    *cancelled = !slept;
}

Task<> stoppable(std::stop_token token, std::atomic<bool>* started, bool* cancelled) {
    const Environment& environment = co_await this_environment();
    CancelScope scope(environment.scope);
    const CancelOnStop link(std::move(token), scope);
    co_await with_scope(scope, sleep_until_cancelled(started, cancelled));
    EXPECT_EQ(scope.reason(), CancelReason::cancelled);
}

TEST(StopToken, StopFromAnotherThreadCancels) {
    Reactor reactor(0, small_options());
    std::stop_source source;
    std::atomic<bool> started{false};
    bool cancelled = false;
    std::thread stopper([&] {
        while (!started.load()) {
            std::this_thread::yield();
        }
        source.request_stop();
    });
    run_task(reactor, [&] { return stoppable(source.get_token(), &started, &cancelled); });
    stopper.join();
    EXPECT_TRUE(cancelled);
}

TEST(StopToken, StoppedBeforeCancelsAtOnce) {
    Reactor reactor(0, small_options());
    std::stop_source source;
    source.request_stop();
    std::atomic<bool> started{false};
    bool cancelled = false;
    run_task(reactor, [&] { return stoppable(source.get_token(), &started, &cancelled); });
    EXPECT_TRUE(cancelled);
}

TEST(StopToken, StopFromTheSameThreadCancels) {
    Reactor reactor(0, small_options());
    std::stop_source source;
    std::atomic<bool> started{false};
    bool cancelled = false;
    EXPECT_TRUE(reactor.post([&] { source.request_stop(); }));
    run_task(reactor, [&] { return stoppable(source.get_token(), &started, &cancelled); });
    EXPECT_TRUE(cancelled);
}

TEST(StopToken, FullMailboxDoesNotLoseIt) {
    ReactorOptions options = small_options();
    options.mailbox_limit = 1;
    Reactor reactor(0, options);
    std::stop_source source;
    std::atomic<bool> started{false};
    bool cancelled = false;
    EXPECT_TRUE(reactor.post([&] {
        EXPECT_TRUE(reactor.post([] {}));
        source.request_stop();
    }));
    run_task(reactor, [&] { return stoppable(source.get_token(), &started, &cancelled); });
    EXPECT_TRUE(cancelled);
}

TEST(StopToken, TokenWithoutASourceNeverStops) {
    Reactor reactor(0, small_options());
    CancelScope scope;
    EXPECT_TRUE(reactor.post([&] {
        const CancelOnStop link(std::stop_token(), scope);
        reactor.stop();
    }));
    reactor.run();
    EXPECT_FALSE(scope.cancelled());
}

Task<> short_scope(std::stop_source* source) {
    {
        CancelScope scope;
        const CancelOnStop link(source->get_token(), scope);
        // The message is on its way when the scope goes.
        source->request_stop();
    }
    const auto slept = co_await sleep_for(1us);
    EXPECT_TRUE(slept);
}

TEST(StopToken, ScopeMayEndWhileTheStopIsOnItsWay) {
    Reactor reactor(0, small_options());
    std::stop_source source;
    run_task(reactor, [&] { return short_scope(&source); });
}

Task<> stop_while_it_ends(int rounds) {
    for (int round = 0; round < rounds; ++round) {
        std::stop_source source;
        std::atomic<bool> ready{false};
        std::thread stopper([&] {
            ready.store(true);
            source.request_stop();
        });
        {
            CancelScope scope;
            const CancelOnStop link(source.get_token(), scope);
            while (!ready.load()) {
                std::this_thread::yield();
            }
        }
        stopper.join();
        co_await sleep_for(1us);
    }
}

TEST(StopToken, StopWhileTheScopeEnds) {
    Reactor reactor(0, small_options());
    run_task(reactor, [] { return stop_while_it_ends(100); });
}

TEST(StopToken, ReactorMayEndFirst) {
    std::stop_source source;
    CancelScope scope;
    std::optional<CancelOnStop> link;
    {
        Reactor reactor(0, small_options());
        EXPECT_TRUE(reactor.post([&] {
            link.emplace(source.get_token(), scope);
            reactor.stop();
        }));
        reactor.run();
        source.request_stop();
    }
    link.reset();
    EXPECT_FALSE(scope.cancelled());
}

TEST(StopToken, ElsewhereThanOnAReactorIsMisuse) {
    CancelScope scope;
    EXPECT_THROW(CancelOnStop(std::stop_token(), scope), std::logic_error);
}

}  // namespace
