#include <ferrule/reactor/resume_on.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> there_and_back(Reactor* home, Reactor* other, std::uint64_t times) {
    for (std::uint64_t index = 0; index < times; ++index) {
        const auto left = co_await resume_on(*other);
        EXPECT_TRUE(left);
        EXPECT_EQ(Reactor::current(), other);
        const auto returned = co_await resume_on(*home);
        EXPECT_TRUE(returned);
        EXPECT_EQ(Reactor::current(), home);
    }
}

TEST(ResumeOn, GoesThereAndBack) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return there_and_back(&home, &*other, 1); });
}

TEST(ResumeOn, A17NoWakeUpIsLost) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return there_and_back(&home, &*other, 3'000); });
}

TEST(ResumeOn, A17NoWakeUpIsLostLong) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return there_and_back(&home, &*other, 200'000); });
}

Task<> counted(Task<> task, std::uint32_t* ended) {
    Task<> inner = std::move(task);
    co_await inner;
    ++*ended;
}

Task<> many_there_and_back(Reactor* home, Reactor* other, std::uint32_t tasks, std::uint64_t times) {
    std::uint32_t ended = 0;
    for (std::uint32_t index = 0; index < tasks; ++index) {
        home->spawn(counted(there_and_back(home, other, times), &ended));
    }
    while (ended < tasks) {
        co_await sleep_for(10us);
    }
}

TEST(ResumeOn, A17ManyTasksAtATime) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return many_there_and_back(&home, &*other, 20, 100); });
}

TEST(ResumeOn, WakesThroughTheEventDescriptorWhenRingsCannotSendMessages) {
    ForwardingKernel kernel;
    ReactorThread other(1, small_options(), kernel);
    Reactor home(0, small_options(), kernel);
    // A descriptor that is no ring is what a kernel without messages between rings answers with an error for.
    EXPECT_TRUE(other->post([&] { other->inbox()->set_ring_descriptor(other->inbox()->event_descriptor()); }));
    home.on_start([&](Reactor& started) { started.inbox()->set_ring_descriptor(started.inbox()->event_descriptor()); });
    run_task(home, [&] { return there_and_back(&home, &*other, 500); });
    EXPECT_GT(kernel.calls(Call::write), 0u);
}

TEST(ResumeOn, WakesThroughTheEventDescriptorWithoutARing) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    EXPECT_TRUE(other->post([&] { other->inbox()->set_ring_descriptor(-1); }));
    home.on_start([&](Reactor& started) { started.inbox()->set_ring_descriptor(-1); });
    run_task(home, [&] { return there_and_back(&home, &*other, 500); });
}

Task<> hop_here(Reactor* home, std::uint64_t times) {
    for (std::uint64_t index = 0; index < times; ++index) {
        const auto arrived = co_await resume_on(*home);
        EXPECT_TRUE(arrived);
    }
}

Task<> hop_here_beside(Reactor* home) {
    std::uint32_t ended = 0;
    home->spawn(counted(hop_here(home, 1'000), &ended));
    EXPECT_EQ(ended, 0u) << "law 2: it was made to yield";
    co_await sleep_for(1us);
    while (ended == 0) {
        co_await sleep_for(1us);
    }
}

TEST(ResumeOn, Law2HopToWhereItIsSpendsTheBudget) {
    Reactor home(0, small_options());
    run_task(home, [&] { return hop_here_beside(&home); });
    EXPECT_GT(home.counters().yields.value(), 0u);
}

Task<> hop_to_ended(Reactor* home, Reactor* other, int* ended) {
    for (int count = 0; count < 3; ++count) {
        const auto left = co_await resume_on(*other);
        EXPECT_FALSE(left);
        EXPECT_EQ(left.error(), std::errc::operation_canceled);
        EXPECT_EQ(Reactor::current(), home);
    }
    ++*ended;
}

TEST(ResumeOn, EndedReactorRefusesAndTheTaskStays) {
    Reactor other(1, small_options());
    other.stop();
    other.run();
    Reactor home(0, small_options());
    int ended = 0;
    run_task(home, [&] { return hop_to_ended(&home, &other, &ended); });
    EXPECT_EQ(ended, 1);
}

Task<> try_until(Reactor* other, const bool* done, std::uint64_t* tries) {
    while (!*done) {
        const auto left = co_await resume_on(*other);
        EXPECT_FALSE(left);
        ++*tries;
    }
}

Task<> beside_refused(Reactor* home, Reactor* other) {
    bool done = false;
    std::uint64_t tries = 0;
    std::uint32_t ended = 0;
    home->spawn(counted(try_until(other, &done, &tries), &ended));
    co_await sleep_for(1us);
    done = true;
    while (ended == 0) {
        co_await sleep_for(1us);
    }
    EXPECT_GT(tries, 0u);
}

TEST(ResumeOn, Law2RefusedHopsDoNotHoldUpTheLoop) {
    Reactor other(1, small_options());
    other.stop();
    other.run();
    Reactor home(0, small_options());
    run_task(home, [&] { return beside_refused(&home, &other); });
}

TEST(ResumeOn, TargetThatEndsWithTheTaskInItsMailboxSendsItBack) {
    // The other never runs: the task lies in its mailbox until it is destroyed, on another thread.
    auto other = std::make_unique<Reactor>(1, small_options());
    Reactor* const target = other.get();
    const std::shared_ptr<Inbox> mailbox = other->inbox();
    Reactor home(0, small_options());
    int ended = 0;
    std::thread destroyer;
    home.on_start([&](Reactor&) {
        destroyer = std::thread([&] {
            while (mailbox->empty()) {
                std::this_thread::yield();
            }
            other.reset();
        });
    });
    struct Body {
        static Task<> hop(Reactor* at_home, Reactor* to, int* count) {
            const auto left = co_await resume_on(*to);
            EXPECT_FALSE(left);
            EXPECT_EQ(Reactor::current(), at_home);
            ++*count;
        }
    };
    run_task(home, [&] { return Body::hop(&home, target, &ended); });
    destroyer.join();
    EXPECT_EQ(ended, 1);
}

Task<int> made_elsewhere() {
    co_await sleep_for(1us);
    co_return 1;
}

Task<> frames_of_both(Reactor* home, Reactor* other) {
    for (int round = 0; round < 50; ++round) {
        Task<int> from_home = made_elsewhere();
        co_await resume_on(*other);
        // Dies here, belongs there.
        from_home.reset();
        Task<int> from_other = made_elsewhere();
        const int value = co_await from_other;
        EXPECT_EQ(value, 1);
        co_await resume_on(*home);
        from_other.reset();
    }
}

TEST(ResumeOn, FramesThatDieElsewhereGoHome) {
    ReactorThread other(1);
    {
        Reactor home(0, small_options());
        run_task(home, [&] { return frames_of_both(&home, &*other); });
    }
    other.stop_and_join();
    EXPECT_EQ(other->frames.live_frames(), 0u);
}

Task<> end_elsewhere(Reactor* other) {
    co_await resume_on(*other);
}

TEST(ResumeOn, TaskMayEndElsewhere) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    home.on_start([&](Reactor& started) {
        for (int count = 0; count < 100; ++count) {
            started.spawn(end_elsewhere(&*other));
        }
        started.stop();
    });
    home.run();
    EXPECT_EQ(home.frames.live_frames(), 0u) << "the end waits for the frames that are away";
}

Task<> fail_elsewhere(Reactor* other) {
    co_await resume_on(*other);
    throw std::runtime_error("far from home");
}

TEST(ResumeOn, FaultElsewhereIsReportedOnTheTasksOwnReactor) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    std::thread::id reported;
    home.on_fault([&](Reactor& faulty, const std::exception_ptr&) {
        EXPECT_EQ(&faulty, &home);
        reported = std::this_thread::get_id();
        faulty.stop();
    });
    home.on_start([&](Reactor& started) { started.spawn(fail_elsewhere(&*other)); });
    home.run();
    EXPECT_EQ(reported, std::this_thread::get_id());
    EXPECT_EQ(home.counters().faults.value(), 1u);
}

Task<> stay_away(Reactor* home, Reactor* other, std::atomic<bool>* away, const std::atomic<bool>* cancelled,
                 std::vector<int>* record) {
    co_await resume_on(*other);
    away->store(true);
    while (!cancelled->load()) {
        // Its own scope is cancelled meanwhile, and nothing is heard of it here.
        const auto slept = co_await sleep_for(1us);
        EXPECT_TRUE(slept);
    }
    const auto slept = co_await sleep_for(1us);
    EXPECT_TRUE(slept);
    co_await resume_on(*home);
    const auto late = co_await sleep_for(1h);
    EXPECT_FALSE(late);
    record->push_back(1);
}

Task<> cancel_while_away(Reactor* home, Reactor* other) {
    CancelScope scope(home->root_environment.scope);
    Environment environment{&scope, home, 0};
    std::atomic<bool> away{false};
    std::atomic<bool> cancelled{false};
    std::vector<int> record;
    spawn(*home, stay_away(home, other, &away, &cancelled, &record), &environment);
    while (!away.load()) {
        co_await sleep_for(1us);
    }
    scope.cancel(CancelReason::cancelled);
    cancelled.store(true);
    while (record.empty()) {
        co_await sleep_for(1us);
    }
}

TEST(ResumeOn, CancellationWhileAwayIsDeliveredOnReturn) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return cancel_while_away(&home, &*other); });
}

Task<> deadline_away(Reactor* home, Reactor* other) {
    co_await resume_on(*other);
    const auto slept = co_await with_deadline(sleep_for(1h), 1us);
    EXPECT_FALSE(slept);
    co_await resume_on(*home);
}

Task<> make_scope_below_home(Reactor* home, Reactor* other) {
    const Environment& environment = co_await this_environment();
    const auto left = co_await resume_on(*other);
    EXPECT_TRUE(left);
    {
        // What an await would register here is another thread's.
        const CancelScope scope(environment.scope);
    }
    static_cast<void>(co_await resume_on(*home));
}

Task<> take_scope_home(Reactor* home, Reactor* other) {
    const Environment& environment = co_await this_environment();
    const auto left = co_await resume_on(*other);
    EXPECT_TRUE(left);
    const CancelScope scope(scope_here(environment));
    static_cast<void>(co_await resume_on(*home));
}

Task<> take_scope_along(Reactor* home, Reactor* other) {
    CancelScope scope;
    const auto left = co_await resume_on(*other);
    EXPECT_TRUE(left);
    co_await with_scope(scope, there_and_back(home, other, 0));
    static_cast<void>(co_await resume_on(*home));
}

using Visit = Task<> (*)(Reactor* home, Reactor* other);

void run_visit(Visit visit) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return visit(&home, &*other); });
}

TEST(ResumeOnDeathTest, ScopesMadeByHandBelongToTheThreadThatMadeThem) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(run_visit(&make_scope_below_home), "a CancelScope is made below one of another host");
    EXPECT_DEATH(run_visit(&take_scope_home), "a CancelScope ends on another host's thread");
    EXPECT_DEATH(run_visit(&take_scope_along), "scope.host\\(\\) == Host::current\\(\\)");
}

Task<> use_scope_away(Reactor* home, Reactor* other) {
    const Environment& environment = co_await this_environment();
    const auto left = co_await resume_on(*other);
    EXPECT_TRUE(left);
    {
        CancelScope scope(scope_here(environment));
        EXPECT_EQ(scope.host(), other);
        scope.cancel(CancelReason::cancelled);
        co_await with_scope(scope, there_and_back(home, other, 0));
    }
    static_cast<void>(co_await resume_on(*home));
}

TEST(ResumeOn, ScopesThatEndWhereTheyWereMadeWorkAway) {
    run_visit(&use_scope_away);
}

TEST(ResumeOn, DeadlinesWorkAway) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return deadline_away(&home, &*other); });
}

Task<> be_away_at_the_end(Reactor* home, Reactor* other, const Event* event, int* ended) {
    co_await resume_on(*other);
    Operation poll = poll_event(*other, *event);
    home->stop();
    event->signal();
    co_await poll;
    const auto returned = co_await resume_on(*home);
    EXPECT_TRUE(returned) << "a reactor that ends waits for its tasks that are away";
    EXPECT_EQ(Reactor::current(), home);
    ++*ended;
}

TEST(ResumeOn, A12EndOfTheReactorWaitsForItsTasksThatAreAway) {
    ReactorThread other(1);
    const Event event;
    Reactor home(0, small_options());
    int ended = 0;
    home.on_start([&](Reactor& started) { started.spawn(be_away_at_the_end(&started, &*other, &event, &ended)); });
    home.run();
    EXPECT_EQ(ended, 1);
    EXPECT_EQ(home.frames.live_frames(), 0u);
}

}  // namespace
