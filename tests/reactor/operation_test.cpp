#include <ferrule/reactor/operation.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;

using OperationDeathTest = testing::Test;

Task<> await_nop(Reactor* reactor, OperationResult* ended) {
    Operation operation = submit_nop(*reactor);
    *ended = co_await operation;
}

TEST(Operation, EndsWithItsCompletion) {
    Reactor reactor(0, small_options());
    OperationResult ended{-1, 1};
    run_task(reactor, [&] { return await_nop(&reactor, &ended); });
    EXPECT_EQ(ended.result, 0);
    EXPECT_EQ(ended.flags, 0u);
}

Task<> read_event(Reactor* reactor, const Event* event, std::uint64_t* value, OperationResult* ended) {
    Operation operation = reactor->submit(
        "read of the event",
        [&](ferrule::abi::SubmissionEntry& entry) {
            prepare::read(entry, event->descriptor(), value, sizeof *value, 0);
        },
        OperationMemory::caller);
    *ended = co_await operation;
}

TEST(Operation, WorksOnTheCallersMemory) {
    Reactor reactor(0, small_options());
    const Event event;
    event.signal();
    std::uint64_t value = 0;
    OperationResult ended;
    run_task(reactor, [&] { return read_event(&reactor, &event, &value, &ended); });
    EXPECT_EQ(ended.result, 8);
    EXPECT_EQ(value, 1u);
}

Task<> await_late(Reactor* reactor, std::vector<std::int32_t>* results) {
    Operation first = submit_nop(*reactor);
    Operation second = submit_nop(*reactor);
    Operation sleep = reactor->wait_until(reactor->now_ns());
    co_await sleep;
    Operation third = submit_nop(*reactor);
    const OperationResult ended_7 = co_await third;
    results->push_back(ended_7.result);
    const OperationResult ended_8 = co_await second;
    results->push_back(ended_8.result);
    const OperationResult ended_9 = co_await first;
    results->push_back(ended_9.result);
}

TEST(Operation, EndedBeforeItIsAwaitedKeepsItsResult) {
    Reactor reactor(0, small_options());
    std::vector<std::int32_t> results;
    run_task(reactor, [&] { return await_late(&reactor, &results); });
    EXPECT_EQ(results, (std::vector<std::int32_t>{0, 0, 0}));
}

Task<> cancel_it(Reactor* reactor, const Event* event, std::vector<std::int32_t>* results) {
    Operation poll = poll_event(*reactor, *event);
    poll.cancel();
    const OperationResult ended_10 = co_await poll;
    results->push_back(ended_10.result);
    Operation sleep = reactor->wait_until(TimerHeap::never - 1);
    sleep.cancel();
    const OperationResult ended_11 = co_await sleep;
    results->push_back(ended_11.result);
    Operation late = submit_nop(*reactor);
    late.cancel();
    const OperationResult ended_12 = co_await late;
    results->push_back(ended_12.result);
}

TEST(Operation, CancelStillEndsWithTheLastCompletion) {
    Reactor reactor(0, small_options());
    const Event event;
    std::vector<std::int32_t> results;
    run_task(reactor, [&] { return cancel_it(&reactor, &event, &results); });
    EXPECT_EQ(results, (std::vector<std::int32_t>{-ECANCELED, -ECANCELED, 0}));
}

Task<> await_in_scope(Reactor* reactor, const Event* event, std::vector<std::int32_t>* results) {
    Operation poll = poll_event(*reactor, *event);
    const OperationResult ended_13 = co_await poll;
    results->push_back(ended_13.result);
    Operation again = poll_event(*reactor, *event);
    const OperationResult ended_14 = co_await again;
    results->push_back(ended_14.result);
}

Task<> cancel_scope_of_it(Reactor* reactor, const Event* event, std::vector<std::int32_t>* results) {
    CancelScope scope(&*reactor->root_environment.scope);
    Environment environment{&scope, reactor, 0};
    spawn(*reactor, await_in_scope(reactor, event, results), &environment);
    co_await sleep_for(std::chrono::nanoseconds(1));
    EXPECT_TRUE(results->empty());
    scope.cancel(CancelReason::cancelled);
    while (results->size() < 2) {
        co_await sleep_for(std::chrono::nanoseconds(1));
    }
}

TEST(Operation, Law3ScopeCancelsTheAwaitAndTheNextOne) {
    Reactor reactor(0, small_options());
    const Event event;
    std::vector<std::int32_t> results;
    run_task(reactor, [&] { return cancel_scope_of_it(&reactor, &event, &results); });
    EXPECT_EQ(results, (std::vector<std::int32_t>{-ECANCELED, -ECANCELED}));
}

Task<> destroy_it(Reactor* reactor, const Event* event) {
    const std::uint64_t before = reactor->counters().operations.value();
    { const Operation detached = poll_event(*reactor, *event); }
    EXPECT_EQ(reactor->counters().operations.value(), before + 1) << "the kernel still has it";
    while (reactor->counters().operations.value() > before + 1) {
        co_await sleep_for(std::chrono::nanoseconds(1));
    }
    while (true) {
        co_await sleep_for(std::chrono::nanoseconds(1));
        if (reactor->counters().operations.value() == before) {
            break;
        }
    }
    {
        const Operation sleep = reactor->wait_until(TimerHeap::never - 1);
        EXPECT_EQ(reactor->timers().size(), 1u);
    }
    EXPECT_EQ(reactor->timers().size(), 0u);
    EXPECT_EQ(reactor->counters().operations.value(), before);
}

TEST(Operation, Law5DestroyedOperationDetachesAndItsSlotComesBack) {
    Reactor reactor(0, small_options());
    const Event event;
    run_task(reactor, [&] { return destroy_it(&reactor, &event); });
    EXPECT_EQ(reactor.counters().stale_completions.value(), 0u);
}

Task<> wait_for_event(Reactor* reactor, const Event* event) {
    Operation poll = poll_event(*reactor, *event);
    co_await poll;
    ADD_FAILURE() << "it was destroyed";
}

Task<> destroy_frames(Reactor* reactor, const Event* event) {
    for (int round = 0; round < 3; ++round) {
        Task<> waiting = wait_for_event(reactor, event);
        EXPECT_TRUE(waiting.start(reactor->root_environment, std::noop_coroutine()));
        for (int steps = 0; steps < round; ++steps) {
            co_await sleep_for(std::chrono::nanoseconds(1));
        }
        waiting.reset();
    }
}

TEST(Operation, Law5DestroyedCoroutineDetachesItsOperation) {
    Reactor reactor(0, small_options());
    const Event event;
    run_task(reactor, [&] { return destroy_frames(&reactor, &event); });
}

Task<> sleep_long(Reactor* reactor) {
    Operation sleep = reactor->wait_until(TimerHeap::never - 1);
    co_await sleep;
    ADD_FAILURE() << "it was destroyed";
}

Task<> destroy_cancelled(Reactor* reactor) {
    CancelScope scope;
    Environment environment{&scope, reactor, 0};
    Task<> waiting = sleep_long(reactor);
    EXPECT_TRUE(waiting.start(environment, std::noop_coroutine()));
    scope.cancel(CancelReason::cancelled);
    // It is in the ready list now.
    waiting.reset();
    co_await sleep_for(std::chrono::nanoseconds(1));
}

TEST(Operation, DestroyedBetweenItsCancellationAndItsResumptionIsForgotten) {
    Reactor reactor(0, small_options());
    run_task(reactor, [&] { return destroy_cancelled(&reactor); });
}

Task<> destroy_in_flight(Reactor* reactor, const Event* event) {
    std::uint64_t value = 0;
    {
        const Operation operation = reactor->submit(
            "read of the event",
            [&](ferrule::abi::SubmissionEntry& entry) {
                prepare::read(entry, event->descriptor(), &value, sizeof value, 0);
            },
            OperationMemory::caller);
    }
    co_return;
}

/// Notes how an operation ended that nobody awaited.
struct Told : AbandonedOperation {
    Told()
        : AbandonedOperation([](AbandonedOperation& abandoned, std::int32_t result) noexcept {
              static_cast<Told&>(abandoned).results.push_back(result);
          }) {}
    std::vector<std::int32_t> results;
};

Task<> abandon_some(Reactor* reactor, const Event* event, Told* in_flight, Told* ended, Told* awaited, Told* let_go) {
    {
        auto operation = poll_event(*reactor, *event);
        EXPECT_TRUE(operation.when_abandoned(*in_flight));
    }
    auto late = submit_nop(*reactor);
    EXPECT_TRUE(late.when_abandoned(*awaited));
    auto never = std::make_unique<Operation>(submit_nop(*reactor));
    EXPECT_TRUE(never->when_abandoned(*ended));
    auto going = submit_nop(*reactor);
    EXPECT_TRUE(going.when_abandoned(*let_go));
    EXPECT_TRUE(std::move(going).let_go());
    EXPECT_TRUE(let_go->results.empty());
    const auto result = co_await late;
    EXPECT_EQ(result.result, 0);
    const auto behind = co_await submit_nop(*reactor);
    EXPECT_EQ(behind.result, 0);
    EXPECT_TRUE(ended->results.empty());
    never.reset();  // it has ended, and its end was not taken
    EXPECT_EQ(ended->results.size(), 1u);
    Operation refused{nullptr};
    EXPECT_FALSE(refused.when_abandoned(*ended));
    EXPECT_FALSE(std::move(refused).let_go());
}

TEST(Operation, Law4AbandonedOperationTellsItsOwnerHowItEnded) {
    Told in_flight, ended, awaited, let_go;
    const Event event;
    Reactor reactor{0, small_options()};
    run_task(reactor, [&] { return abandon_some(&reactor, &event, &in_flight, &ended, &awaited, &let_go); });
    EXPECT_EQ(in_flight.results, std::vector<std::int32_t>{-ECANCELED});
    EXPECT_EQ(ended.results, std::vector<std::int32_t>{0});
    EXPECT_EQ(let_go.results, std::vector<std::int32_t>{0});
    EXPECT_TRUE(awaited.results.empty());
}

Task<> let_go_at_the_end(Reactor* reactor, const Event* event, Told* told) {
    auto operation = poll_event(*reactor, *event);
    EXPECT_TRUE(operation.when_abandoned(*told));
    EXPECT_TRUE(std::move(operation).let_go());
    event->signal();
    co_return;
}

TEST(Operation, EndOfTheReactorWaitsForWhatWasLetGo) {
    Told told;
    const Event event;
    Reactor reactor{0, small_options()};
    run_task(reactor, [&] { return let_go_at_the_end(&reactor, &event, &told); });
    EXPECT_EQ(told.results, std::vector<std::int32_t>{1});
}

TEST(OperationDeathTest, Law5CallersMemoryInFlightAbortsWithTheOperationsName) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            Reactor reactor(0, small_options());
            const Event event;
            run_task(reactor, [&] { return destroy_in_flight(&reactor, &event); });
        },
        "operation 'read of the event' works on its caller's memory and was destroyed in flight");
}

Task<> fill_table(Reactor* reactor, const Event* event, std::uint32_t limit) {
    std::vector<Operation> operations;
    // One is the table's place of nothing: this task does not sleep meanwhile.
    for (std::uint32_t count = 0; count < limit; ++count) {
        operations.push_back(poll_event(*reactor, *event));
    }
    EXPECT_EQ(reactor->counters().operations.value(), limit);
    Operation refused = submit_nop(*reactor);
    const auto ended_1 = co_await refused;
    EXPECT_EQ(ended_1.result, -ENOBUFS);
    const auto slept = co_await sleep_for(std::chrono::nanoseconds(1));
    EXPECT_EQ(slept.error(), std::errc::no_buffer_space);
    event->signal();
    for (Operation& operation : operations) {
        const auto ended_2 = co_await operation;
        EXPECT_GT(ended_2.result, 0);
    }
    Operation accepted = submit_nop(*reactor);
    const auto ended_3 = co_await accepted;
    EXPECT_EQ(ended_3.result, 0);
}

TEST(Operation, Law7FullTableIsAnErrorAndExact) {
    ReactorOptions options = small_options();
    options.operation_limit = 10;
    Reactor reactor(0, options);
    const Event event;
    run_task(reactor, [&] { return fill_table(&reactor, &event, 10); });
}

Task<> try_for_ever(Reactor* reactor, const bool* done, std::uint64_t* tries) {
    while (!*done) {
        const auto slept = co_await sleep_for(std::chrono::hours(1));
        EXPECT_FALSE(slept);
        ++*tries;
    }
    static_cast<void>(reactor);
}

Task<> wait_while_another_tries(Reactor* reactor, const Event* event, std::uint64_t* tries) {
    bool done = false;
    Operation poll = poll_event(*reactor, *event);
    reactor->spawn(try_for_ever(reactor, &done, tries));
    event->signal();
    co_await poll;
    done = true;
    // The other ends first, and may not find its flag gone.
    while (reactor->frames.live_frames() > 2) {
        const auto waited = co_await sleep_for(std::chrono::nanoseconds(1));
        static_cast<void>(waited);
    }
}

TEST(Operation, Law2RefusedOperationsDoNotHoldUpTheLoop) {
    ReactorOptions options = small_options();
    options.operation_limit = 1;
    Reactor reactor(0, options);
    const Event event;
    std::uint64_t tries = 0;
    run_task(reactor, [&] { return wait_while_another_tries(&reactor, &event, &tries); });
    EXPECT_GE(tries, options.inline_budget);
    EXPECT_GT(reactor.counters().yields.value(), 0u);
}

Task<> refused_until_it_yields(Reactor* reactor, std::uint32_t tries) {
    for (std::uint32_t count = 0; count < tries; ++count) {
        Operation refused = submit_nop(*reactor);
        const auto ended_4 = co_await refused;
        EXPECT_EQ(ended_4.result, -ENOBUFS);
    }
}

Task<> destroy_yielding(Reactor* reactor, const Event* event) {
    Operation poll = poll_event(*reactor, *event);
    Task<> waiting = refused_until_it_yields(reactor, reactor->options().inline_budget * 2);
    EXPECT_TRUE(waiting.start(reactor->root_environment, std::noop_coroutine()));
    waiting.reset();
    event->signal();
    co_await poll;
}

TEST(Operation, DestroyedWhileItYieldsIsForgotten) {
    ReactorOptions options = small_options();
    options.operation_limit = 1;
    Reactor reactor(0, options);
    const Event event;
    run_task(reactor, [&] { return destroy_yielding(&reactor, &event); });
}

Task<> many(Reactor* reactor, std::uint64_t count) {
    for (std::uint64_t index = 0; index < count; ++index) {
        Operation operation = submit_nop(*reactor);
        const OperationResult ended = co_await operation;
        if (ended.result != 0) {
            ADD_FAILURE() << ended.result;
        }
    }
}

TEST(Operation, ManyOneAfterTheOther) {
    Reactor reactor(0, small_options());
    run_task(reactor, [&] { return many(&reactor, 20'000); });
    EXPECT_GE(reactor.counters().completions.value(), 20'000u);
}

Task<> many_at_once(Reactor* reactor, std::size_t count) {
    std::vector<Operation> operations;
    for (std::size_t index = 0; index < count; ++index) {
        operations.push_back(submit_nop(*reactor));
    }
    for (Operation& operation : operations) {
        const auto ended_5 = co_await operation;
        EXPECT_EQ(ended_5.result, 0);
    }
}

TEST(Operation, A16CompletionQueueFarSmallerThanTheBurst) {
    ReactorOptions options;
    options.submission_entries = 4;
    options.completion_entries = 8;
    Reactor reactor(0, options);
    run_task(reactor, [&] { return many_at_once(&reactor, 5'000); });
}

Task<> poll_once(Reactor* reactor, const Event* event, std::size_t* ended) {
    Operation poll = poll_event(*reactor, *event);
    const auto ended_6 = co_await poll;
    EXPECT_GT(ended_6.result, 0);
    ++*ended;
}

Task<> poll_many(Reactor* reactor, const Event* event, std::size_t count) {
    std::size_t ended = 0;
    for (std::size_t index = 0; index < count; ++index) {
        reactor->spawn(poll_once(reactor, event, &ended));
    }
    co_await sleep_for(std::chrono::nanoseconds(1));
    EXPECT_EQ(ended, 0u);
    event->signal();
    while (ended < count) {
        co_await sleep_for(std::chrono::nanoseconds(1));
    }
}

TEST(Operation, A16OverflowLosesNoCompletion) {
    ReactorOptions options;
    options.submission_entries = 4;
    options.completion_entries = 8;
    Reactor reactor(0, options);
    const Event event;
    run_task(reactor, [&] { return poll_many(&reactor, &event, 500); });
    EXPECT_GT(reactor.ring().overflow_count(), 0u);
    EXPECT_EQ(reactor.ring().dropped_completions(), 0u);
}

}  // namespace
