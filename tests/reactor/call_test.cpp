#include <ferrule/reactor/broadcast.hpp>
#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/yield.hpp>

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
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

/// Counts itself, and notes on which reactor it was made, moved and destroyed.
class Tracked {
public:
    struct Counts {
        std::atomic<int> alive{0};
        std::atomic<const Host*> destroyed_on{nullptr};
    };
    explicit Tracked(Counts& counts) : counts_(&counts) { ++counts_->alive; }
    Tracked(Tracked&& other) noexcept : counts_(other.counts_) { ++counts_->alive; }
    Tracked(const Tracked& other) : counts_(other.counts_) { ++counts_->alive; }
    Tracked& operator=(const Tracked&) = delete;
    ~Tracked() {
        --counts_->alive;
        counts_->destroyed_on = Host::current();
    }

private:
    Counts* counts_;
};

Task<> call_and_return(Reactor* home, Reactor* other) {
    auto function = [home, text = std::string("forty-two")](Reactor& there) {
        EXPECT_EQ(Reactor::current(), &there);
        EXPECT_NE(Reactor::current(), home);
        return text.size();
    };
    const auto result = co_await call(*other, function);
    EXPECT_EQ(result.value(), 9u);
    EXPECT_EQ(Reactor::current(), home);
}

TEST(Call, RunsThereAndGivesItsValueHere) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return call_and_return(&home, &*other); });
}

Task<> call_many(Reactor* other, int times) {
    for (int index = 0; index < times; ++index) {
        auto function = [index] { return index + 1; };
        const auto result = co_await call(*other, function);
        EXPECT_EQ(result.value_or(0), index + 1);
    }
}

TEST(Call, ThousandsOneAfterTheOther) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return call_many(&*other, 3'000); });
}

Task<> fan_out(Reactor* other, int tasks, int times) {
    std::vector<Task<>> calls;
    for (int index = 0; index < tasks; ++index) calls.push_back(call_many(other, times));
    co_await when_all(std::move(calls));
}

TEST(Call, ManyAtATime) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return fan_out(&*other, 64, 50); });
}

Task<> of_all_kinds(Reactor* other) {
    int runs = 0;
    auto nothing = [&runs] { ++runs; };
    const auto empty = co_await call(*other, nothing);
    EXPECT_TRUE(empty);
    EXPECT_EQ(runs, 1);
    auto owned = [value = std::make_unique<int>(7)]() mutable { return std::move(value); };
    auto moved = co_await call(*other, std::move(owned));
    EXPECT_EQ(**moved, 7);
    auto failing = [] {
        return std::expected<int, std::error_code>(std::unexpect, std::make_error_code(std::errc::io_error));
    };
    const auto nested = co_await call(*other, failing);
    EXPECT_EQ(nested.value().error(), std::errc::io_error);
}

TEST(Call, TakesFunctionsAndValuesOfAllKinds) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return of_all_kinds(&*other); });
}

Task<> throwing(Reactor* home, Reactor* other) {
    auto function = []() -> int { throw std::runtime_error("from there"); };
    std::string what;
    try {
        static_cast<void>(co_await call(*other, function));
    } catch (const std::runtime_error& error) {
        what = error.what();
    }
    EXPECT_EQ(what, "from there");
    EXPECT_EQ(Reactor::current(), home);
}

TEST(Call, WhatTheFunctionThrowsIsRethrownHere) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return throwing(&home, &*other); });
}

Task<int> add_there(int value, Reactor* there) {
    co_await sleep_for(1us);
    EXPECT_EQ(Reactor::current(), there);
    const Environment& environment = co_await this_environment();
    EXPECT_EQ(environment.host, there);
    if (value < 0) throw std::invalid_argument("negative");
    co_return value + 1;
}

Task<int> at_once(int value) {
    co_return value + 1;
}

Task<> await_tasks(Reactor* other) {
    auto waits = [other] { return add_there(41, other); };
    const auto waited = co_await call(*other, waits);
    EXPECT_EQ(waited.value(), 42);
    auto does_not = [] { return at_once(1); };
    const auto inline_result = co_await call(*other, does_not);
    EXPECT_EQ(inline_result.value(), 2);
    auto throws = [other] { return add_there(-1, other); };
    bool thrown = false;
    try {
        static_cast<void>(co_await call(*other, throws));
    } catch (const std::invalid_argument&) {
        thrown = true;
    }
    EXPECT_TRUE(thrown);
}

TEST(Call, AwaitsATaskThere) {
    ReactorThread other(1);
    {
        Reactor home(0, small_options());
        run_task(home, [&] { return await_tasks(&*other); });
    }
    other.stop_and_join();
    EXPECT_EQ(other->frames.live_frames(), 0u);
}

TEST(Call, OnTheOwnReactorAtOnce) {
    Reactor home(0, small_options());
    struct Body {
        static Task<> run(Reactor* home) {
            auto function = [home] { return Reactor::current() == home; };
            const auto here = co_await call(*home, function);
            EXPECT_TRUE(here.value());
            co_await await_tasks(home);
        }
    };
    run_task(home, [&] { return Body::run(&home); });
}

Task<> call_here_beside(Reactor* home) {
    bool ended = false;
    struct Body {
        static Task<> run(Reactor* home, bool* ended) {
            co_await call_many(home, 1'000);
            *ended = true;
        }
    };
    home->spawn(Body::run(home, &ended));
    EXPECT_FALSE(ended) << "law 2: it was made to yield";
    while (!ended) co_await sleep_for(1us);
}

TEST(Call, Law2CallsThatNeedNotWaitSpendTheBudget) {
    Reactor home(0, small_options());
    run_task(home, [&] { return call_here_beside(&home); });
    EXPECT_GT(home.counters().yields.value(), 0u);
}

Task<> refused(Reactor* other, Tracked::Counts* counts, bool* ran) {
    auto function = [ran, tracked = Tracked(*counts)] { *ran = true; };
    const auto result = co_await call(*other, std::move(function));
    EXPECT_FALSE(result);
    EXPECT_EQ(result.error(), std::errc::operation_canceled);
}

TEST(Call, EndedReactorRefuses) {
    Reactor other(1, small_options());
    other.stop();
    other.run();
    Reactor home(0, small_options());
    Tracked::Counts counts;
    bool ran = false;
    run_task(home, [&] { return refused(&other, &counts, &ran); });
    EXPECT_FALSE(ran);
    EXPECT_EQ(counts.alive, 0);
}

TEST(Call, FullMailboxRefuses) {
    ReactorOptions options = small_options();
    options.mailbox_limit = 1;
    Reactor other(1, options);
    Reactor home(0, small_options());
    EXPECT_TRUE(other.post([] {}));
    Tracked::Counts counts;
    bool ran = false;
    run_task(home, [&] { return refused(&other, &counts, &ran); });
    EXPECT_FALSE(ran);
    EXPECT_EQ(counts.alive, 0);
}

TEST(Call, ReactorThatIsDestroyedWithTheCallInItsMailboxSendsItBack) {
    auto other = std::make_unique<Reactor>(1, small_options());
    Reactor* const target = other.get();
    const std::shared_ptr<Inbox> mailbox = other->inbox();
    Reactor home(0, small_options());
    Tracked::Counts counts;
    bool ran = false;
    std::thread destroyer;
    home.on_start([&](Reactor&) {
        destroyer = std::thread([&] {
            while (mailbox->empty()) std::this_thread::yield();
            other.reset();
        });
    });
    run_task(home, [&] { return refused(target, &counts, &ran); });
    destroyer.join();
    EXPECT_FALSE(ran);
    EXPECT_EQ(counts.alive, 0);
    EXPECT_EQ(counts.destroyed_on, &home) << "what was made here is destroyed here";
}

/// Runs a reactor that lets nothing in before the test says so.
class BlockedReactor {
public:
    BlockedReactor() : thread_(1) {
        EXPECT_TRUE(thread_->post([this] {
            blocked_ = true;
            while (!released_) std::this_thread::yield();
        }));
        while (!blocked_) std::this_thread::yield();
    }
    ~BlockedReactor() { release(); }
    void release() { released_ = true; }
    Reactor& operator*() noexcept { return *thread_; }
    void stop_and_join() {
        release();
        thread_.stop_and_join();
    }

private:
    std::atomic<bool> blocked_{false};
    std::atomic<bool> released_{false};
    ReactorThread thread_;
};

Task<> cancelled_while_away(Reactor* other, BlockedReactor* blocked, std::atomic<int>* ran, Tracked::Counts* counts) {
    CancelScope scope(scope_here(co_await this_environment()));
    struct Body {
        static Task<> run(Reactor* other, std::atomic<int>* ran, Tracked::Counts* counts, bool* ended) {
            auto function = [ran, tracked = Tracked(*counts)] {
                ++*ran;
                return std::string(100, 'x');
            };
            const auto result = co_await call(*other, std::move(function));
            EXPECT_FALSE(result);
            EXPECT_EQ(result.error(), std::errc::operation_canceled);
            *ended = true;
        }
    };
    Reactor& home = *Reactor::current();
    bool ended = false;
    Environment environment{&scope, &home, 0};
    spawn(home, Body::run(other, ran, counts, &ended), &environment);
    scope.cancel(CancelReason::cancelled);
    while (!ended) co_await yield_now();
    EXPECT_EQ(*ran, 0) << "the await has ended although the call is away";
    blocked->release();
}

TEST(Call, CancelledWhileAwayEndsAtOnceAndWhatComesBackIsDropped) {
    BlockedReactor other;
    Tracked::Counts counts;
    std::atomic<int> ran{0};
    {
        Reactor home(0, small_options());
        run_task(home, [&] { return cancelled_while_away(&*other, &other, &ran, &counts); });
        EXPECT_EQ(counts.alive, 0);
        EXPECT_EQ(counts.destroyed_on, &home);
    }
    EXPECT_EQ(ran, 1) << "a plain function that has left is run";
}

/// Owns a task whose end nobody waits for.
struct Ignored : ferrule::detail::Completion {
    Ignored() noexcept {
        ended = [](Completion&, PromiseBase&, bool) noexcept -> std::coroutine_handle<> {
            return std::noop_coroutine();
        };
    }
};

Task<> destroyed_while_away(Reactor* other, BlockedReactor* blocked, std::atomic<int>* ran, Tracked::Counts* counts) {
    {
        struct Body {
            static Task<> run(Reactor* other, std::atomic<int>* ran, Tracked::Counts* counts) {
                auto function = [ran, tracked = Tracked(*counts)] { return ++*ran; };
                static_cast<void>(co_await call(*other, std::move(function)));
                ADD_FAILURE() << "it was destroyed";
            }
        };
        Environment& environment = co_await this_environment();
        Task<> caller = Body::run(other, ran, counts);
        Ignored ignored;
        caller.start_observed(environment, ignored);
        caller.reset();
    }
    blocked->release();
    co_await yield_now();
}

TEST(Call, DestroyedWhileAwayLeavesNothingBehind) {
    BlockedReactor other;
    Tracked::Counts counts;
    std::atomic<int> ran{0};
    {
        Reactor home(0, small_options());
        run_task(home, [&] { return destroyed_while_away(&*other, &other, &ran, &counts); });
        EXPECT_EQ(counts.alive, 0);
        EXPECT_EQ(counts.destroyed_on, &home);
    }
    EXPECT_EQ(ran, 1);
}

Task<CancelReason> sleep_until_cancelled(std::atomic<int>* begun) {
    const Environment& environment = co_await this_environment();
    ++*begun;
    const auto slept = co_await sleep_for(1h);
    EXPECT_FALSE(slept);
    co_return environment.scope->reason();
}

struct SeenThere {
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
    std::atomic<CancelReason> reason{CancelReason::none};
};

Task<> note_reason(SeenThere* seen) {
    const CancelReason reason = co_await sleep_until_cancelled(&seen->begun);
    seen->reason = reason;
    ++seen->ended;
}

Task<> call_with_deadline(Reactor* other, SeenThere* seen) {
    auto function = [seen] { return note_reason(seen); };
    const auto result = co_await with_deadline(call(*other, function), 1ms);
    // Either the deadline here or the one there was the first; the task there has ended by its own in the latter case.
    if (!result) {
        EXPECT_EQ(result.error(), std::errc::operation_canceled);
    }
    while (seen->begun != seen->ended) co_await sleep_for(10us);
}

TEST(Call, DeadlineTravelsAlongAndEndsTheTaskThere) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    SeenThere seen;
    run_task(home, [&] { return call_with_deadline(&*other, &seen); });
    if (seen.begun != 0) {
        EXPECT_EQ(seen.reason, CancelReason::deadline);
    }
}

Task<> deadline_over_on_arrival(Reactor* other, BlockedReactor* blocked, bool* ran) {
    auto function = [ran] { *ran = true; };
    const auto result = co_await with_deadline(call(*other, function), 1us);
    EXPECT_FALSE(result);
    blocked->release();
}

TEST(Call, WhatArrivesAfterItsDeadlineIsNotRun) {
    BlockedReactor other;
    bool ran = false;
    {
        Reactor home(0, small_options());
        run_task(home, [&] { return deadline_over_on_arrival(&*other, &other, &ran); });
    }
    other.stop_and_join();
    EXPECT_FALSE(ran);
}

Task<> inner_deadline(Reactor* back, SeenThere* seen) {
    auto function = [seen] { return note_reason(seen); };
    static_cast<void>(co_await call(*back, function));
}

Task<> call_back(Reactor* home, Reactor* other, SeenThere* seen) {
    auto function = [home, seen] { return inner_deadline(home, seen); };
    static_cast<void>(co_await with_deadline(call(*other, function), 1ms));
    while (seen->begun != seen->ended) co_await sleep_for(10us);
}

TEST(Call, DeadlineIsInheritedByCallsOfTheCall) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    SeenThere seen;
    run_task(home, [&] { return call_back(&home, &*other, &seen); });
    if (seen.begun != 0) {
        EXPECT_NE(seen.reason, CancelReason::none);
    }
}

Task<> cancel_a_task_there(Reactor* other, SeenThere* seen) {
    TaskGroup group(co_await this_environment());
    struct Body {
        static Task<> run(Reactor* other, SeenThere* seen) {
            auto function = [seen] { return note_reason(seen); };
            const auto result = co_await call(*other, function);
            // On the own reactor the task may end in the same pass, with its value.
            EXPECT_EQ(result.has_value(), other == Reactor::current());
        }
    };
    EXPECT_TRUE(group.spawn(Body::run(other, seen)));
    while (seen->begun == 0) co_await sleep_for(10us);
    group.cancel();
    co_await group.join();
    while (seen->ended == 0) co_await sleep_for(10us);
}

TEST(Call, CancellingTheCallerCancelsTheTaskThere) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    SeenThere seen;
    run_task(home, [&] { return cancel_a_task_there(&*other, &seen); });
    EXPECT_EQ(seen.reason, CancelReason::cancelled);
}

TEST(Call, CancellingTheCallerCancelsTheTaskOnTheOwnReactor) {
    Reactor home(0, small_options());
    SeenThere seen;
    run_task(home, [&] { return cancel_a_task_there(&home, &seen); });
    EXPECT_EQ(seen.reason, CancelReason::cancelled);
}

TEST(Call, EndOfTheOtherReactorEndsTheTaskThereAndGivesItsValue) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    SeenThere seen;
    struct Body {
        static Task<> run(Reactor* other, SeenThere* seen) {
            auto function = [seen] { return sleep_until_cancelled(&seen->begun); };
            auto stop = [](Reactor& there) { there.stop(); };
            auto waiting = call(*other, function);
            waiting.launch(co_await this_environment());
            const auto stopped = co_await call(*other, stop);
            EXPECT_TRUE(stopped);
            const auto reason = co_await waiting;
            EXPECT_EQ(reason.value(), CancelReason::shutdown);
            const auto late = co_await call(*other, function);
            EXPECT_FALSE(late);
        }
    };
    run_task(home, [&] { return Body::run(&*other, &seen); });
}

TEST(Call, ReactorThatEndsWaitsForItsCalls) {
    BlockedReactor other;
    Tracked::Counts counts;
    std::atomic<int> ran{0};
    {
        Reactor home(0, small_options());
        struct Body {
            static Task<> run(Reactor* other, std::atomic<int>* ran, Tracked::Counts* counts) {
                auto function = [ran, tracked = Tracked(*counts)] { ++*ran; };
                const auto result = co_await call(*other, std::move(function));
                EXPECT_FALSE(result) << "shutdown";
            }
        };
        home.on_start([&](Reactor& started) {
            started.spawn(Body::run(&*other, &ran, &counts));
            started.stop();
            other.release();
        });
        home.run();
        EXPECT_EQ(home.frames.live_frames(), 0u);
        EXPECT_EQ(counts.alive, 0);
    }
    EXPECT_EQ(ran, 1);
}

TEST(Call, TwoReactorsThatCallEachOtherEndTogether) {
    for (int round = 0; round < 20; ++round) {
        ReactorThread left(0);
        ReactorThread right(1);
        struct Body {
            static Task<> run(Reactor* other) {
                for (bool there = true; there;) {
                    auto function = [] { return at_once(1); };
                    const auto result = co_await call(*other, function);
                    there = result.has_value();
                }
            }
        };
        for (int count = 0; count < 10; ++count) {
            EXPECT_TRUE(left->post([&] { left->spawn(Body::run(&*right)); }));
            EXPECT_TRUE(right->post([&] { right->spawn(Body::run(&*left)); }));
        }
        std::thread stopper([&] { left.stop_and_join(); });
        right.stop_and_join();
        stopper.join();
        EXPECT_EQ(left->frames.live_frames(), 0u);
        EXPECT_EQ(right->frames.live_frames(), 0u);
    }
}

TEST(Call, ElsewhereItIsMisuse) {
    Reactor other(1, small_options());
    auto function = [] { return 1; };
    auto made = call(other, function);
    EXPECT_THROW(made.launch(other.root_environment), std::logic_error);
}

TEST(Call, NothingIsAllocatedOnceItIsWarm) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    struct Body {
        static Task<> run(Reactor* other) {
            co_await call_many(other, 100);
            const std::uint64_t before = Reactor::current()->frames.peak_bytes();
            co_await call_many(other, 1'000);
            EXPECT_EQ(Reactor::current()->frames.peak_bytes(), before);
        }
    };
    run_task(home, [&] { return Body::run(&*other); });
}

TEST(Broadcast, GivesAllResultsInOrder) {
    ReactorThread first(1);
    ReactorThread second(2);
    Reactor home(0, small_options());
    struct Body {
        static Task<> run(std::vector<Reactor*> reactors) {
            auto function = [](Reactor& there) { return there.id(); };
            const auto results = co_await broadcast(reactors, function);
            EXPECT_EQ(results.size(), 4u);
            for (std::size_t index = 0; index < results.size(); ++index)
                EXPECT_EQ(results[index].value(), reactors[index]->id());
        }
    };
    run_task(home, [&] { return Body::run({&*second, &home, &*first, &*second}); });
}

TEST(Broadcast, ErrorsAreEachReactorsOwn) {
    ReactorThread first(1);
    Reactor ended(2, small_options());
    ended.stop();
    ended.run();
    Reactor home(0, small_options());
    struct Body {
        static Task<> run(std::vector<Reactor*> reactors) {
            auto function = [] {};
            const auto results = co_await broadcast(reactors, function);
            EXPECT_TRUE(results[0]);
            EXPECT_EQ(results[1].error(), std::errc::operation_canceled);
            EXPECT_TRUE(results[2]);
        }
    };
    run_task(home, [&] { return Body::run({&*first, &ended, &home}); });
}

TEST(Broadcast, FirstExceptionIsRethrownWhenAllHaveEnded) {
    ReactorThread first(1);
    ReactorThread second(2);
    Reactor home(0, small_options());
    std::atomic<int> ran{0};
    struct Body {
        static Task<> run(std::vector<Reactor*> reactors, std::atomic<int>* ran) {
            auto function = [ran](Reactor& there) {
                ++*ran;
                if (there.id() != 0) throw std::runtime_error(std::to_string(there.id()));
            };
            std::string what;
            try {
                static_cast<void>(co_await broadcast(reactors, function));
            } catch (const std::runtime_error& error) {
                what = error.what();
            }
            EXPECT_EQ(what, "2");
            EXPECT_EQ(*ran, 3);
        }
    };
    run_task(home, [&] { return Body::run({&home, &*second, &*first}, &ran); });
}

TEST(Broadcast, CancellationReachesAll) {
    ReactorThread first(1);
    ReactorThread second(2);
    Reactor home(0, small_options());
    SeenThere seen;
    struct Body {
        static Task<> run(std::vector<Reactor*> reactors, SeenThere* seen) {
            auto function = [seen] { return note_reason(seen); };
            const auto results = co_await with_deadline(broadcast(reactors, function), 1ms);
            EXPECT_EQ(results.size(), reactors.size());
            while (seen->begun != seen->ended) co_await sleep_for(10us);
        }
    };
    run_task(home, [&] { return Body::run({&home, &*second, &*first}, &seen); });
}

}  // namespace
