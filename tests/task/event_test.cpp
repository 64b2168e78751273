#include <ferrule/task/event.hpp>
#include <ferrule/task/spawn.hpp>

#include "waiters_fixture.hpp"

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace {

using namespace ferrule;
using ferrule::testing::letter_of;
using ferrule::testing::Tracked;
using ferrule::testing::WaitersTest;

class EventTest : public WaitersTest {};

Task<> waits(Event& event, std::string* log, std::size_t number) {
    const auto ended = co_await event.wait();
    *log += std::to_string(number) + letter_of(ended);
}

TEST_F(EventTest, LetsThroughWhoComesWhileItIsSet) {
    Event event(true);
    start_waiter(waits(event, &log, 0));
    EXPECT_EQ(log, "0+");
    event.reset();
    EXPECT_FALSE(event.is_set());
    start_waiter(waits(event, &log, 1));
    EXPECT_EQ(log, "0+");
    event.set();
    EXPECT_EQ(log, "0+") << "nobody is resumed from inside set";
    host.run_ready();
    EXPECT_EQ(log, "0+1+");
    start_waiter(waits(event, &log, 2));
    EXPECT_EQ(log, "0+1+2+");
}

TEST_F(EventTest, WakesEverybodyInTheOrderOfComing) {
    Event event;
    for (std::size_t number = 0; number < 9; ++number) start_waiter(waits(event, &log, number));
    event.set();
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "0+1+2+3+4+5+6+7+8+");
}

TEST_F(EventTest, WhoWaitedAtSetGetsThroughAlthoughItIsResetAtOnce) {
    Event event;
    start_waiter(waits(event, &log, 0));
    event.set();
    event.reset();
    start_waiter(waits(event, &log, 1));
    host.run_ready();
    EXPECT_EQ(log, "0+");
    cancel(1);
    host.run_ready();
    EXPECT_EQ(log, "0+1c");
}

TEST_F(EventTest, MayGoAfterSetBeforeTheWaitersRun) {
    auto event = std::make_unique<Event>();
    for (std::size_t number = 0; number < 3; ++number) start_waiter(waits(*event, &log, number));
    event->set();
    event.reset();
    destroy(1);
    host.run_ready();
    EXPECT_EQ(log, "0+2+");
}

TEST_F(EventTest, EachFateOfEachOfThree) {
    for (std::size_t code = 0; code < fates * fates * fates; ++code) {
        SCOPED_TRACE(code);
        const std::array<Fate, 3> fate = {Fate(code % fates), Fate(code / fates % fates),
                                          Fate(code / fates / fates % fates)};
        Event event;
        log.clear();
        std::string cancelled;
        std::string through;
        for (std::size_t number = 0; number < 3; ++number) start_waiter(waits(event, &log, number));
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_before) destroy(number);
            if (fate[number] == Fate::cancelled_before) {
                cancel(number);
                cancelled += std::to_string(number) + "c";
            }
        }
        event.set();
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_after) destroy(number);
            if (fate[number] == Fate::cancelled_after) cancel(number);
            if (gets_it(fate[number])) through += std::to_string(number) + "+";
        }
        host.run_ready();
        EXPECT_EQ(log, cancelled + through);
        waiting.clear();
    }
}

TEST_F(EventTest, WaitInACancelledScopeEndsAtOnceUnlessItIsSet) {
    Event event;
    CancelScope scope;
    scope.cancel(CancelReason::deadline);
    Environment environment{.scope = &scope, .host = &host};
    const Task<> refused = waits(event, &log, 0);
    EXPECT_FALSE(refused.start(environment, std::noop_coroutine()));
    event.set();
    const Task<> through = waits(event, &log, 1);
    EXPECT_FALSE(through.start(environment, std::noop_coroutine()));
    EXPECT_EQ(log, "0c1+");
}

TEST_F(EventTest, EndsWithTheHostWhereNoScopeIsGiven) {
    CancelScope root(host);
    host.root_environment.scope = &root;
    Event event;
    Environment nothing_cancels{.scope = nullptr, .host = &host};
    const Task<> task = waits(event, &log, 0);
    EXPECT_TRUE(task.start(nothing_cancels, std::noop_coroutine()));
    root.cancel(CancelReason::shutdown);
    host.run_ready();
    EXPECT_EQ(log, "0c");
    host.root_environment.scope = nullptr;
}

Task<> waits_many_times(Event& event, int times) {
    for (int time = 0; time < times; ++time) {
        const auto ended = co_await event.wait();
        if (!ended) co_return;
    }
}

TEST_F(EventTest, Law2AMillionWaitsThatNeedNotWait) {
    Event event(true);
    host.inline_budget = 1;
    const Task<> task = waits_many_times(event, 1'000'000);
    EXPECT_FALSE(start(task)) << "its budget must have run out";
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1));
    EXPECT_TRUE(task.done());
}

Task<> takes_turns(Event& mine, Event& other, int times) {
    for (int time = 0; time < times; ++time) {
        const auto ended = co_await mine.wait();
        if (!ended) co_return;
        mine.reset();
        other.set();
    }
}

TEST_F(EventTest, AMillionTurnsOfTwo) {
    Event first(true);
    Event second;
    spawn(host, takes_turns(first, second, 500'000));
    spawn(host, takes_turns(second, first, 500'000));
    host.run_ready();
}

TEST_F(EventTest, DestroyedWhileItsTurnIsToComeInTheReadyList) {
    Event event(true);
    host.inline_budget = 0;
    Task<> task = waits_many_times(event, 1);
    EXPECT_FALSE(start(task));
    task.reset();
    EXPECT_EQ(host.run_ready(), 0u);
}

TEST_F(EventTest, AnAwaiterMovesUntilItIsAwaited) {
    Event event;
    auto wait = event.wait();
    auto moved = std::move(wait);
    EXPECT_FALSE(moved.await_ready());
}

TEST_F(EventTest, MisuseIsAnAssertion) {
    EXPECT_DEATH(
        {
            auto event = std::make_unique<Event>();
            start_waiter(waits(*event, &log, 0));
            event.reset();
        },
        "what is waited for was destroyed");
    EXPECT_DEATH(
        {
            Event event;
            start_waiter(waits(event, &log, 0));
            ThreadHost other;
            const HostBinding binding(other);
            event.set();
        },
        "touched on another thread");
    EXPECT_DEATH(
        {
            Event event;
            start_waiter(waits(event, &log, 0));
            std::thread([&] { event.set(); }).join();
        },
        "touched on another thread");
}

}  // namespace
