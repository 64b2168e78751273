#include <ferrule/task/event.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/stream.hpp>

#include "waiters_fixture.hpp"

#include <cstddef>
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
using ferrule::testing::Tracked;
using ferrule::testing::WaitersTest;

class StreamTest : public WaitersTest {};

Stream<std::string> texts() {
    std::string text = "kept";
    co_yield "a literal that is long enough not to be in place";
    co_yield text;
    text += ", and changed";
    co_yield std::move(text);
}

Task<> joins(Stream<std::string> stream, std::string* log) {
    while (const auto text = co_await stream.next()) *log += *text + "|";
    const auto after = co_await stream.next();
    EXPECT_FALSE(after) << "an ended stream stays ended";
}

TEST_F(StreamTest, GivesItemsUntilItsBodyEnds) {
    start_waiter(joins(texts(), &log));
    EXPECT_EQ(log, "a literal that is long enough not to be in place|kept|kept, and changed|");
}

Stream<int> waits_between(Source& source, int& alive, int count) {
    const Tracked local(alive);
    for (int number = 0; number < count; ++number) {
        const Tracked item(alive);
        if (number % 2 == 1) co_await source.wait();
        co_yield int(number);
        if (number % 3 == 2) co_await source.wait();
    }
}

Task<> sums(Source& source, int& alive, int count, int* sum) {
    auto stream = waits_between(source, alive, count);
    while (const auto number = co_await stream.next()) {
        *sum += *number;
        if (*number % 2 == 0) co_await source.wait();
    }
}

TEST_F(StreamTest, WaitsInsideAndOutside) {
    int sum = 0;
    spawn(host, sums(source, alive, 10, &sum));
    while (step()) {
    }
    EXPECT_EQ(sum, 45);
}

TEST_F(StreamTest, DestroyedAtEverySuspensionPoint) {
    int sum = 0;
    destroy_at_every_point([&] { return sums(source, alive, 6, &sum); });
    EXPECT_GE(points, 7u);
}

TEST_F(StreamTest, FailsAtEverySuspensionPoint) {
    int sum = 0;
    fail_at_every_point([&](Source& faulty) { return sums(faulty, alive, 6, &sum); });
    EXPECT_GE(points, 7u);
}

Stream<int> fails_after(int count) {
    for (int number = 0; number < count; ++number) co_yield int(number);
    throw std::runtime_error("the body has failed");
}

Task<> expects_failure(int count, std::string* log) {
    auto stream = fails_after(count);
    try {
        while (const auto number = co_await stream.next()) *log += std::to_string(*number);
        ADD_FAILURE();
    } catch (const std::runtime_error& failure) {
        *log += failure.what();
    }
    const auto after = co_await stream.next();
    EXPECT_FALSE(after) << "it is thrown once, and the stream has ended";
}

TEST_F(StreamTest, ExceptionsComeOutOfNext) {
    start_waiter(expects_failure(0, &log));
    start_waiter(expects_failure(2, &log));
    EXPECT_EQ(log, "the body has failed01the body has failed");
}

TEST_F(StreamTest, NotReadIsNotStarted) {
    { const auto stream = waits_between(source, alive, 3); }
    EXPECT_EQ(alive, 0);
}

Stream<std::unique_ptr<int>> pointers(int count) {
    for (int number = 0; number < count; ++number) co_yield std::make_unique<int>(number);
}

Stream<int> doubled(Stream<std::unique_ptr<int>> numbers) {
    while (const auto number = co_await numbers.next()) co_yield 2 * **number;
}

Task<> adds(Stream<int> stream, std::int64_t* sum) {
    while (const auto number = co_await stream.next()) *sum += *number;
}

TEST_F(StreamTest, OfStreams) {
    std::int64_t sum = 0;
    start_waiter(adds(doubled(pointers(10)), &sum));
    host.run_ready();
    EXPECT_EQ(sum, 90);
}

Stream<int> waits_as_parameter(Task<> task, int& alive) {
    const Tracked local(alive);
    co_await std::move(task);
    co_yield 1;
}

Task<> waits_once(Source& source) {
    co_await source.wait();
}

// The parameters of a coroutine outlive its promise, and with it what would cancel them.
TEST_F(StreamTest, DestroyedWhileATaskAmongItsParametersWaits) {
    std::int64_t sum = 0;
    start_waiter(adds(waits_as_parameter(waits_once(source), alive), &sum));
    EXPECT_EQ(source.waiting(), 1u);
    destroy(0);
    EXPECT_EQ(source.waiting(), 0u);
    EXPECT_EQ(host.frames.live_frames(), 0u);
}

Stream<int> counts_up(int count) {
    for (int number = 0; number < count; ++number) co_yield int(number);
}

TEST_F(StreamTest, Law2AMillionItems) {
    std::int64_t sum = 0;
    spawn(host, adds(counts_up(1'000'000), &sum));
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1) - 1);
    EXPECT_EQ(sum, std::int64_t{1'000'000} * 999'999 / 2);
}

Stream<int> counts_events(Event& event, std::string* log) {
    for (int number = 0;; ++number) {
        const auto waited = co_await event.wait();
        *log += letter_of(waited);
        if (!waited) co_return;
        event.reset();
        co_yield int(number);
    }
}

Task<> reads(Stream<int>& stream, std::string* log) {
    while (const auto number = co_await stream.next()) *log += std::to_string(*number);
    *log += '.';
}

TEST_F(StreamTest, CancellingTheReaderCancelsWhatTheBodyWaitsFor) {
    Event event;
    auto stream = counts_events(event, &log);
    start_waiter(reads(stream, &log));
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "+0");
    cancel(0);
    host.run_ready();
    EXPECT_EQ(log, "+0c.");
}

TEST_F(StreamTest, InACancelledScopeItsBodyIsCancelledFromTheBeginning) {
    Event event;
    auto stream = counts_events(event, &log);
    CancelScope scope;
    scope.cancel(CancelReason::shutdown);
    Environment environment{.scope = &scope, .host = &host};
    const Task<> task = reads(stream, &log);
    EXPECT_FALSE(task.start(environment, std::noop_coroutine()));
    EXPECT_EQ(log, "c.");
}

TEST_F(StreamTest, AReaderThatIsDestroyedLeavesItToTheNext) {
    Event event;
    auto stream = counts_events(event, &log);
    start_waiter(reads(stream, &log));
    destroy(0);
    // The body waits on, in no scope of the one that has gone, and stops at its item.
    waiting.clear();
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "+");
    start_waiter(reads(stream, &log));
    EXPECT_EQ(log, "+0");
    destroy(0);
    start_waiter(reads(stream, &log));
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "+0+1");
    destroy(1);
}

TEST_F(StreamTest, AnItemWaitsForAReaderThatIsDestroyedBeforeItsTurn) {
    auto stream = counts_up(3);
    budget = 0;
    start_waiter(reads(stream, &log));
    destroy(0);
    EXPECT_EQ(log, "");
    budget = 64;
    start_waiter(reads(stream, &log));
    EXPECT_EQ(log, "012.");
}

TEST_F(StreamTest, ASecondReaderIsMisuse) {
    Event event;
    auto stream = counts_events(event, &log);
    start_waiter(reads(stream, &log));
    start_waiter(reads(stream, &log));
    ASSERT_TRUE(waiting[1]->task.done());
    EXPECT_THROW(waiting[1]->task.await_resume(), std::logic_error);
    event.set();
    host.run_ready();
    EXPECT_EQ(log, "+0");
    destroy(0);
}

TEST_F(StreamTest, MovesAndResets) {
    auto stream = counts_up(3);
    auto moved = std::move(stream);
    EXPECT_FALSE(stream);
    EXPECT_TRUE(moved);
    stream = std::move(moved);
    start_waiter(reads(stream, &log));
    EXPECT_EQ(log, "012.");
    stream.reset();
    stream.reset();
    EXPECT_FALSE(stream);
}

TEST_F(StreamTest, MisuseIsAnAssertion) {
    EXPECT_DEATH(
        {
            Event event;
            auto stream = counts_events(event, &log);
            start_waiter(reads(stream, &log));
            stream.reset();
        },
        "destroyed while somebody waits");
    EXPECT_DEATH(
        {
            auto stream = counts_up(1);
            auto moved = std::move(stream);
            static_cast<void>(stream.next());
        },
        "handle_");
}

}  // namespace
