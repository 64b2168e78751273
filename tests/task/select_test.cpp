#include <ferrule/task/channel.hpp>
#include <ferrule/task/event.hpp>
#include <ferrule/task/gate.hpp>
#include <ferrule/task/mutex.hpp>
#include <ferrule/task/select.hpp>
#include <ferrule/task/semaphore.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/stream.hpp>

#include "waiters_fixture.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

using namespace ferrule;
using ferrule::testing::letter_of;
using ferrule::testing::Source;
using ferrule::testing::WaitersTest;

class SelectTest : public WaitersTest {
protected:
    /// Logs the winner and its item.
    Task<> receives_first(Channel<int>& one, Channel<int>& other) {
        const auto first = co_await select(one.receive(), other.receive());
        if (const auto* item = std::get_if<0>(&first)) log += "0" + text_of(*item);
        if (const auto* item = std::get_if<1>(&first)) log += "1" + text_of(*item);
    }
    static std::string text_of(const std::expected<int, std::error_code>& item) {
        return item ? "=" + std::to_string(*item) + " " : std::string(1, letter_of(item)) + " ";
    }
};

TEST_F(SelectTest, TakesTheFirstThatIsReadyAndOfSeveralTheOneWrittenFirst) {
    Channel<int> one(4);
    Channel<int> other(4);
    EXPECT_TRUE(other.try_send(7));
    start_waiter(receives_first(one, other));
    EXPECT_TRUE(one.try_send(1));
    EXPECT_TRUE(other.try_send(8));
    start_waiter(receives_first(one, other));
    EXPECT_EQ(log, "1=7 0=1 ");
    EXPECT_EQ(one.size(), 0u);
    EXPECT_EQ(other.size(), 1u) << "the loser has taken nothing";
}

TEST_F(SelectTest, WaitsForTheFirst) {
    Channel<int> one(4);
    Channel<int> other(4);
    start_waiter(receives_first(one, other));
    EXPECT_TRUE(other.try_send(7));
    EXPECT_TRUE(one.try_send(1));
    EXPECT_EQ(log, "");
    host.run_ready();
    EXPECT_EQ(log, "1=7 ") << "what came first is first in the ready list";
    EXPECT_EQ(*one.try_receive(), 1) << "it was meant for the loser, and is everybody's again";
}

TEST_F(SelectTest, AnItemOfTheLoserIsTheNextReceivers) {
    Channel<int> one(4);
    Channel<int> other(4);
    start_waiter(receives_first(one, other));
    start_waiter(receives_first(other, one));
    EXPECT_TRUE(one.try_send(1));
    EXPECT_TRUE(other.try_send(2));
    host.run_ready();
    // The first takes 1; the item 2, which was meant for him too, goes to the second.
    EXPECT_EQ(log, "0=1 0=2 ");
}

TEST_F(SelectTest, OfOneChannelTwice) {
    Channel<int> channel(4);
    start_waiter(receives_first(channel, channel));
    EXPECT_TRUE(channel.try_send(1));
    EXPECT_TRUE(channel.try_send(2));
    host.run_ready();
    EXPECT_EQ(log, "0=1 ");
    EXPECT_EQ(*channel.try_receive(), 2);
}

Task<> sends_first(Channel<std::unique_ptr<int>>& channel, Event& event, std::string* log) {
    auto item = std::make_unique<int>(5);
    const auto first = co_await select(channel.send(std::move(item)), event.wait());
    *log += std::to_string(first.index());
    EXPECT_EQ(item == nullptr, first.index() == 0 && std::get<0>(first).has_value());
}

TEST_F(SelectTest, ASendThatLosesKeepsItsItem) {
    Channel<std::unique_ptr<int>> channel(1);
    Event event;
    start_waiter(sends_first(channel, event, &log));
    EXPECT_EQ(log, "0");
    start_waiter(sends_first(channel, event, &log));
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "01");
    event.reset();
    start_waiter(sends_first(channel, event, &log));
    start_waiter(sends_first(channel, event, &log));
    // There is room for the first, and in the same moment the event: it was woken by the room first.
    EXPECT_EQ(**channel.try_receive(), 5);
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "0101");
    EXPECT_EQ(channel.size(), 1u);
    start_waiter(sends_first(channel, event, &log));
    EXPECT_EQ(log, "01011");
    event.reset();
    start_waiter(sends_first(channel, event, &log));
    event.set();
    EXPECT_EQ(**channel.try_receive(), 5);
    host.run_ready();
    EXPECT_EQ(log, "010111") << "and now by the event";
    EXPECT_EQ(channel.size(), 0u) << "the room that was kept for the send is given back";
}

TEST_F(SelectTest, WithoutBudgetNothingIsTakenByALoser) {
    Channel<int> one(1);
    Channel<int> other(1);
    EXPECT_TRUE(one.try_send(1));
    EXPECT_TRUE(other.try_send(2));
    budget = 0;
    start_waiter(receives_first(one, other));
    EXPECT_EQ(log, "");
    EXPECT_EQ(letter_of(one.try_receive()), 'a');
    EXPECT_EQ(letter_of(other.try_receive()), 'a');
    host.run_ready();
    EXPECT_EQ(log, "0=1 ");
    EXPECT_EQ(*other.try_receive(), 2);
}

TEST_F(SelectTest, CancelledEndsWithOneThatSaysSo) {
    Channel<int> one(1);
    Channel<int> other(1);
    start_waiter(receives_first(one, other));
    cancel(0);
    host.run_ready();
    EXPECT_EQ(log.substr(1), "c ");
    EXPECT_TRUE(one.try_send(1));
    EXPECT_EQ(*one.try_receive(), 1) << "nobody waits for it";
}

TEST_F(SelectTest, InACancelledScopeEndsAtOnce) {
    Channel<int> one(1);
    Channel<int> other(1);
    CancelScope scope;
    scope.cancel(CancelReason::deadline);
    Environment environment{.scope = &scope, .host = &host};
    const Task<> task = receives_first(one, other);
    EXPECT_FALSE(task.start(environment, std::noop_coroutine()));
    EXPECT_EQ(log, "0c ");
}

Task<> selects_everything(Semaphore& semaphore, Mutex& mutex, Gate& gate, Event& event, Channel<int>& channel,
                          std::string* log) {
    const auto first =
        co_await select(semaphore.acquire(2), mutex.lock(), gate.close(), event.wait(), channel.receive());
    *log += std::to_string(first.index());
}

TEST_F(SelectTest, OfEveryPrimitiveEachWinsAndNothingIsKept) {
    for (std::size_t winner = 0; winner < 5; ++winner) {
        for (std::size_t second = 0; second < 5; ++second) {
            SCOPED_TRACE(winner * 5 + second);
            log.clear();
            Semaphore semaphore(2);
            auto units = *semaphore.try_acquire(1);
            Mutex mutex;
            auto guard = *mutex.try_lock();
            Gate gate;
            auto hold = *gate.hold();
            Event event;
            Channel<int> channel(1);
            start_waiter(selects_everything(semaphore, mutex, gate, event, channel, &log));
            const auto let = [&](std::size_t which) {
                if (which == 0) units.release();
                if (which == 1) guard.unlock();
                if (which == 2) hold.leave();
                if (which == 3) event.set();
                if (which == 4) {
                    EXPECT_EQ(channel.try_send(1).has_value(), winner != second || channel.size() == 0);
                }
            };
            let(winner);
            if (second != winner) let(second);
            host.run_ready();
            EXPECT_EQ(log, std::to_string(winner));
            units.release();
            EXPECT_EQ(semaphore.available(), 2u);
            guard.unlock();
            EXPECT_FALSE(mutex.locked());
            EXPECT_EQ(channel.size(), second == 4 && winner != 4 ? 1u : 0u);
            waiting.clear();
        }
    }
}

/// An awaiter that fails, or gives nothing.
struct Fails {
    bool at_suspend;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>) const {
        if (at_suspend) throw std::runtime_error("at suspend");
        return false;
    }
    void await_resume() const { throw std::runtime_error("at resume"); }
};

Task<> selects_a_failure(Event& event, bool at_suspend, std::string* log) {
    try {
        Fails fails{at_suspend};
        co_await select(event.wait(), std::move(fails), event.wait());
    } catch (const std::runtime_error& failure) {
        *log += failure.what();
    }
}

TEST_F(SelectTest, AnExceptionOfTheWinnerIsThrownOn) {
    Event event;
    start_waiter(selects_a_failure(event, false, &log));
    start_waiter(selects_a_failure(event, true, &log));
    EXPECT_EQ(log, "at resumeat suspend");
}

/// A wait of a source that moves until it is awaited.
class Operation {
public:
    explicit Operation(Source& source) noexcept : source_(&source) {}
    Operation(Operation&& other) noexcept : source_(other.source_) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return wait_.emplace(*source_).await_suspend(handle);
    }
    CancelReason await_resume() { return wait_->await_resume(); }

private:
    Source* source_;
    std::optional<Source::Wait> wait_;
};

Task<> selects_an_operation(Source& source, Event& event, std::string* log) {
    const auto first = co_await select(Operation(source), event.wait());
    *log += std::to_string(first.index());
}

Task<> selects_in_turn(Source& source, Event& event, Channel<int>& channel, int& alive) {
    const ferrule::testing::Tracked local(alive);
    auto first = co_await select(event.wait(), channel.receive());
    EXPECT_EQ(first.index(), 1u);
    co_await source.wait();
    const auto nested = co_await select(select(event.wait(), channel.receive()), channel.send(1));
    EXPECT_EQ(nested.index(), 1u);
}

TEST_F(SelectTest, DestroyedAtEverySuspensionPoint) {
    Event event;
    Channel<int> channel(1);
    for (int steps = 0; steps < 6; ++steps) {
        for (const std::uint32_t left : {0u, 64u}) {
            host.inline_budget = left;
            Task<> task = selects_in_turn(source, event, channel, alive);
            bool ended = start(task);
            for (int step = 0; step < steps && !task.done(); ++step) {
                if (step == 0) {
                    EXPECT_TRUE(channel.try_send(1));
                }
                if (step == 1) host.run_ready();
                if (step == 2) source.fire();
                if (step == 3) host.run_ready();
            }
            ended = task.done();
            task.reset();
            EXPECT_EQ(alive, 0);
            EXPECT_EQ(host.frames.live_frames(), 0u);
            EXPECT_EQ(host.run_ready(), 0u);
            EXPECT_TRUE(ended || steps < 4);
            while (channel.try_receive()) {
            }
        }
    }
}

Stream<int> counts(Event& event, int& alive) {
    const ferrule::testing::Tracked local(alive);
    for (int number = 0; number < 3; ++number) {
        const auto waited = co_await event.wait();
        if (!waited) co_return;
        event.reset();
        co_yield int(number);
    }
}

Task<> reads_or_gives_up(Stream<int>& stream, Event& enough, std::string* log) {
    while (true) {
        const auto first = co_await select(stream.next(), enough.wait());
        if (first.index() == 1) {
            *log += '!';
            enough.reset();
            continue;
        }
        const auto& item = std::get<0>(first);
        if (!item) co_return;
        *log += std::to_string(*item);
    }
}

TEST_F(SelectTest, AStreamThatLosesKeepsItsItem) {
    Event event;
    Event enough;
    {
        Stream<int> stream = counts(event, alive);
        start_waiter(reads_or_gives_up(stream, enough, &log));
        event.set();
        host.run_ready();
        enough.set();
        host.run_ready();
        EXPECT_EQ(log, "0!");
        // Both in the same moment: the body has been woken, and its reader gives up before it runs.
        enough.set();
        event.set();
        host.run_ready();
        EXPECT_EQ(log, "0!!1");
        event.set();
        host.run_ready();
        EXPECT_EQ(log, "0!!12");
        waiting.clear();
    }
    EXPECT_EQ(alive, 0);
}

Task<> selects_many_times(Event& event, Channel<int>& channel, int times, int* received) {
    for (int time = 0; time < times; ++time) {
        const auto first = co_await select(event.wait(), channel.receive());
        if (first.index() == 1) ++*received;
    }
}

TEST_F(SelectTest, Law2ManySelectsThatNeedNotWaitAndThatDo) {
    Event event(true);
    Channel<int> channel(1);
    int received = 0;
    spawn(host, selects_many_times(event, channel, 1'000'000, &received));
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1) - 1);
    event.reset();
    spawn(host, selects_many_times(event, channel, 200'000, &received));
    for (int time = 0; time < 200'000; ++time) {
        EXPECT_TRUE(channel.try_send(time));
        host.run_ready();
    }
    EXPECT_EQ(received, 200'000);
}

TEST_F(SelectTest, AnOperationThatLosesIsDetached) {
    Event event;
    start_waiter(selects_an_operation(source, event, &log));
    EXPECT_EQ(source.waiting(), 1u);
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "1");
    EXPECT_EQ(source.waiting(), 0u);
    event.reset();
    start_waiter(selects_an_operation(source, event, &log));
    source.fire();
    EXPECT_EQ(log, "10") << "a completion resumes directly";
    event.set();
}

}  // namespace
