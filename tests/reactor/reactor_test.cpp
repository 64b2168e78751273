#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/yield.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
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

Task<> nothing() {
    co_return;
}

TEST(Reactor, RunsWhatItIsGivenAtItsStart) {
    Reactor reactor(3, small_options());
    EXPECT_EQ(reactor.id(), 3u);
    std::vector<int> order;
    reactor.on_start([&](Reactor& started) {
        EXPECT_EQ(&started, &reactor);
        EXPECT_EQ(Reactor::current(), &reactor);
        order.push_back(1);
        started.on_start([&](Reactor& again) {
            order.push_back(3);
            again.stop();
        });
    });
    reactor.on_start([&](Reactor&) { order.push_back(2); });
    reactor.run();
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
    EXPECT_EQ(Reactor::current(), nullptr);
}

TEST(Reactor, StopBeforeRunReturnsAtOnce) {
    Reactor reactor(0, small_options());
    reactor.stop();
    reactor.run();
}

TEST(Reactor, ThatNeverRanEnds) {
    bool called = false;
    const auto held = std::make_shared<int>(1);
    {
        Reactor reactor(0, small_options());
        EXPECT_TRUE(reactor.post([&called, held] { called = true; }));
        EXPECT_EQ(held.use_count(), 2);
    }
    EXPECT_FALSE(called);
    EXPECT_EQ(held.use_count(), 1);
}

/// Returns when the reactor has gone to sleep, as far as another thread can tell.
void wait_until_asleep(const Reactor& reactor) {
    while (reactor.counters().sleeps.value() == 0) {
        std::this_thread::yield();
    }
}

TEST(Reactor, StopWakesASleeper) {
    ReactorThread reactor;
    wait_until_asleep(*reactor);
    reactor.stop_and_join();
}

TEST(Reactor, PostWakesASleeperAndKeepsItsOrder) {
    ReactorThread reactor;
    std::vector<int> order;
    std::atomic<int> done{0};
    for (int round = 0; round < 100; ++round) {
        // Every third message finds it idle, or about to be.
        while (done.load() < round * 3) {
            std::this_thread::yield();
        }
        for (int number = 0; number < 3; ++number) {
            EXPECT_TRUE(reactor->post([&, value = round * 3 + number] {
                order.push_back(value);
                done.fetch_add(1);
            }));
        }
    }
    while (done.load() < 300) {
        std::this_thread::yield();
    }
    reactor.stop_and_join();
    ASSERT_EQ(order.size(), 300u);
    for (int number = 0; number < 300; ++number) {
        EXPECT_EQ(order[static_cast<std::size_t>(number)], number);
    }
    EXPECT_EQ(reactor->counters().messages.value(), 300u);
}

TEST(Reactor, PostFromManyThreadsLosesNothing) {
    ReactorThread reactor;
    std::uint64_t sum = 0;
    constexpr std::uint64_t threads = 4;
    constexpr std::uint64_t posts = 2'500;
    std::vector<std::thread> senders;
    for (std::uint64_t sender = 0; sender < threads; ++sender) {
        senders.emplace_back([&] {
            for (std::uint64_t number = 1; number <= posts; ++number) {
                EXPECT_TRUE(reactor->post([&sum, number] { sum += number; }));
            }
        });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_TRUE(reactor->post([&] { reactor->stop(); }));
    reactor.stop_and_join();
    EXPECT_EQ(sum, threads * posts * (posts + 1) / 2);
}

TEST(Reactor, PostToTheEndedIsRefusedAndReleased) {
    Reactor reactor(0, small_options());
    reactor.stop();
    reactor.run();
    const auto held = std::make_shared<int>(1);
    EXPECT_FALSE(reactor.post([held] { ADD_FAILURE() << "it has ended"; }));
    EXPECT_EQ(held.use_count(), 1);
}

TEST(Reactor, Law7FullMailboxRefuses) {
    ReactorOptions options = small_options();
    options.mailbox_limit = 2;
    Reactor reactor(0, options);
    int calls = 0;
    EXPECT_TRUE(reactor.post([&] { ++calls; }));
    EXPECT_TRUE(reactor.post([&] { ++calls; }));
    EXPECT_FALSE(reactor.post([&] { ++calls; }));
    run_task(reactor, [] { return nothing(); });
    EXPECT_EQ(calls, 2);
}

TEST(Reactor, PostedMayPostAndStop) {
    Reactor reactor(0, small_options());
    std::vector<int> order;
    EXPECT_TRUE(reactor.post([&] {
        order.push_back(1);
        EXPECT_TRUE(reactor.post([&] {
            order.push_back(3);
            reactor.stop();
            reactor.stop();
        }));
        order.push_back(2);
    }));
    reactor.run();
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(Reactor, MayBeDestroyedWhileTheOneWhoStoppedItStillReturns) {
    for (int round = 0; round < 200; ++round) {
        auto reactor = std::make_unique<Reactor>(0, small_options());
        std::atomic<Reactor*> shared{reactor.get()};
        std::thread stopper([&shared, round] {
            Reactor& target = *shared.load();
            if (round % 2 == 0) {
                target.stop();
            } else {
                EXPECT_TRUE(target.post([&target] { target.stop(); }));
            }
        });
        reactor->run();
        reactor.reset();
        stopper.join();
    }
}

struct Counted {
    explicit Counted(int initial) : value(initial) {}
    int value;
};

TEST(Reactor, Law1CallsOnAnotherThreadAreMisuseAndNamed) {
    const auto refusal = [](const auto& call) -> std::string {
        try {
            call();
        } catch (const std::logic_error& misuse) {
            return misuse.what();
        }
        return "taken";
    };
    ReactorThread reactor;
    // It runs when it answers.
    std::promise<void> runs;
    ASSERT_TRUE(reactor->post([&] { runs.set_value(); }));
    runs.get_future().wait();
    EXPECT_EQ(refusal([&] { reactor->drain(1s); }), "Reactor::drain: called on a thread that is not the reactor's");
    EXPECT_EQ(refusal([&] { static_cast<void>(reactor->wait_until(1)); }),
              "sleep: called on a thread that is not the reactor's");
    EXPECT_EQ(refusal([&] { static_cast<void>(submit_nop(*reactor)); }),
              "nop: called on a thread that is not the reactor's");
    EXPECT_EQ(refusal([&] { reactor->add_timer_route(nullptr, nullptr); }),
              "Reactor::add_timer_route: called on a thread that is not the reactor's");
    EXPECT_EQ(refusal([&] { reactor->add_completion_route(nullptr, nullptr); }),
              "Reactor::add_completion_route: called on a thread that is not the reactor's");
}

TEST(Reactor, KeepsServices) {
    Reactor reactor(0, small_options());
    EXPECT_EQ(reactor.find_service<Counted>(), nullptr);
    EXPECT_THROW(static_cast<void>(reactor.service<Counted>()), std::logic_error);
    EXPECT_EQ(reactor.add_service<Counted>(4).value, 4);
    EXPECT_EQ(reactor.service<Counted>().value, 4);
    EXPECT_THROW(reactor.add_service<Counted>(5), std::logic_error);
}

Task<> failing(const char* what) {
    throw std::runtime_error(what);
    co_return;
}

TEST(Reactor, Law11FaultGoesToTheHookAndHarmsNobodyElse) {
    Reactor reactor(0, small_options());
    std::vector<std::string> faults;
    reactor.on_fault([&](Reactor& faulty, const std::exception_ptr& exception) {
        EXPECT_EQ(&faulty, &reactor);
        try {
            std::rethrow_exception(exception);
        } catch (const std::exception& failure) {
            faults.emplace_back(failure.what());
        }
        if (faults.size() == 1) {
            EXPECT_TRUE(faulty.post([] { throw std::runtime_error("posted"); }));
            EXPECT_TRUE(faulty.post([&faulty] { faulty.stop(); }));
        }
    });
    reactor.on_start([](Reactor& started) { started.spawn(failing("spawned")); });
    reactor.run();
    EXPECT_EQ(faults, (std::vector<std::string>{"spawned", "posted"}));
    EXPECT_EQ(reactor.counters().faults.value(), 2u);
    EXPECT_EQ(reactor.frames.live_frames(), 0u);
}

TEST(Reactor, HookMayReplaceItselfAndMayFail) {
    Reactor reactor(5, small_options());
    int replaced = 0;
    reactor.on_fault([&](Reactor& faulty, const std::exception_ptr&) {
        faulty.on_fault([&](Reactor&, const std::exception_ptr&) {
            ++replaced;
            throw std::logic_error("the hook fails too");
        });
    });
    reactor.on_start([](Reactor& started) {
        started.spawn(failing("first"));
        started.spawn(failing("second"));
        started.stop();
    });
    testing::internal::CaptureStderr();
    reactor.run();
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "ferrule: error: reactor 5: unhandled exception: second\n");
    EXPECT_EQ(replaced, 1);
}

Task<> throw_a_number() {
    throw 7;
    co_return;
}

TEST(Reactor, FaultWithoutAHookIsOneLine) {
    Reactor reactor(9, small_options());
    reactor.on_start([](Reactor& started) {
        started.spawn(failing("nobody caught it"));
        started.spawn(throw_a_number());
        started.stop();
    });
    testing::internal::CaptureStderr();
    reactor.run();
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "ferrule: error: reactor 9: unhandled exception: nobody caught it\n"
              "ferrule: error: reactor 9: unhandled exception of unknown type\n");
}

TEST(Reactor, ExceptionOfAStartHookEndsEverythingAndLeavesRun) {
    Reactor reactor(0, small_options());
    const Event event;
    int ended = 0;
    struct Waiting {
        static Task<> wait(Reactor* on, const Event* for_event, int* count) {
            Operation poll = poll_event(*on, *for_event);
            const OperationResult result = co_await poll;
            EXPECT_EQ(result.result, -ECANCELED);
            ++*count;
        }
    };
    reactor.on_start([&](Reactor& started) { started.spawn(Waiting::wait(&started, &event, &ended)); });
    reactor.on_start([](Reactor&) { throw std::runtime_error("the database is not there"); });
    EXPECT_THROW(reactor.run(), std::runtime_error);
    EXPECT_EQ(ended, 1);
    EXPECT_EQ(reactor.counters().operations.value(), 0u);
    EXPECT_EQ(reactor.frames.live_frames(), 0u);
    EXPECT_FALSE(reactor.post([] {}));
}

TEST(Reactor, TwoInOneThreadOneAfterTheOther) {
    Reactor first(0, small_options());
    Reactor second(1, small_options());
    for (Reactor* reactor : {&first, &second}) {
        int ended = 0;
        run_task(*reactor, [&]() -> Task<> {
            ++ended;
            return nothing();
        });
        EXPECT_EQ(ended, 1);
        EXPECT_EQ(Reactor::current(), nullptr);
    }
}

TEST(Reactor, Law12TwoAtATimeInOneProcess) {
    ReactorThread first(0);
    ReactorThread second(1);
    std::atomic<int> seen{0};
    EXPECT_TRUE(first->post([&] {
        EXPECT_EQ(Reactor::current(), &*first);
        seen.fetch_add(1);
    }));
    EXPECT_TRUE(second->post([&] {
        EXPECT_EQ(Reactor::current(), &*second);
        seen.fetch_add(1);
    }));
    while (seen.load() < 2) {
        std::this_thread::yield();
    }
}

Task<> loop_of_nops(Reactor* reactor, const bool* done) {
    while (!*done) {
        Operation operation = submit_nop(*reactor);
        co_await operation;
    }
}

Task<> others_beside_nops(Reactor* reactor) {
    TaskGroup group(reactor->root_environment);
    bool done = false;
    for (int count = 0; count < 20; ++count) {
        EXPECT_TRUE(group.spawn(loop_of_nops(reactor, &done)));
    }
    co_await sleep_for(1us);
    done = true;
    co_await group.join();
}

TEST(Reactor, Law2OperationsThatEndAtOnceDoNotHoldUpTimers) {
    // More loops than entries: each flush of the full queue brings completions while completions are dispatched.
    ReactorOptions options;
    options.submission_entries = 4;
    options.completion_entries = 8;
    Reactor reactor(0, options);
    run_task(reactor, [&] { return others_beside_nops(&reactor); });
}

Task<int> number(int value) {
    co_return value;
}

Task<> synchronous_completions(std::uint64_t count, std::uint64_t* sum) {
    for (std::uint64_t index = 0; index < count; ++index) {
        const int value = co_await number(1);
        *sum += static_cast<std::uint64_t>(value);
    }
}

TEST(Reactor, MillionSynchronousCompletions) {
    Reactor reactor(0, small_options());
    std::uint64_t sum = 0;
    run_task(reactor, [&] { return synchronous_completions(1'000'000, &sum); });
    EXPECT_EQ(sum, 1'000'000u);
}

Task<> yield_often(std::vector<int>* order, int name) {
    for (int round = 0; round < 3; ++round) {
        order->push_back(name);
        co_await yield_now();
    }
}

Task<> yield_beside(Reactor* reactor, std::vector<int>* order) {
    TaskGroup group(reactor->root_environment);
    EXPECT_TRUE(group.spawn(yield_often(order, 1)));
    EXPECT_TRUE(group.spawn(yield_often(order, 2)));
    co_await group.join();
}

TEST(Reactor, YieldingTasksTakeTurns) {
    Reactor reactor(0, small_options());
    std::vector<int> order;
    run_task(reactor, [&] { return yield_beside(&reactor, &order); });
    EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 2, 1, 2}));
}

Task<> wait_for_event(Reactor* reactor, const Event* event) {
    Operation poll = poll_event(*reactor, *event);
    co_await poll;
}

TEST(Reactor, IdleReactorMakesNoSystemCall) {
    ForwardingKernel kernel;
    const Event event;
    Reactor reactor(0, small_options(), kernel);
    std::atomic<bool> done{false};
    std::thread thread([&] {
        run_task(reactor, [&] { return wait_for_event(&reactor, &event); });
        done.store(true);
    });
    wait_until_asleep(reactor);
    // It may be on its way into the kernel still: from the call on, the count stands.
    std::uint64_t before = kernel.calls(Call::enter);
    while (before == 0) {
        before = kernel.calls(Call::enter);
    }
    for (int count = 0; count < 1'000; ++count) {
        std::this_thread::yield();
    }
    EXPECT_EQ(kernel.calls(Call::enter), before);
    EXPECT_FALSE(done.load());
    event.signal();
    thread.join();
}

TEST(Reactor, SpinsBeforeItSleepsWhenToldTo) {
    ReactorOptions options = small_options();
    options.spin = 200us;
    ReactorThread reactor(0, options);
    std::atomic<int> rounds{0};
    for (int round = 1; round <= 500; ++round) {
        EXPECT_TRUE(reactor->post([&] { rounds.fetch_add(1); }));
        while (rounds.load() < round) {
            std::this_thread::yield();
        }
    }
    wait_until_asleep(*reactor);
    reactor.stop_and_join();
}

TEST(Reactor, SpinningReactorKeepsItsDeadlines) {
    ReactorOptions options = small_options();
    options.spin = 1s;
    Reactor reactor(0, options);
    run_task(reactor, []() -> Task<> {
        struct Body {
            static Task<> sleep_twice() {
                co_await sleep_for(10us);
                co_await sleep_for(10us);
            }
        };
        return Body::sleep_twice();
    });
    EXPECT_EQ(reactor.counters().deadlines.value(), 2u);
}

struct Turns : Subsystem {
    explicit Turns(Reactor& owner) : reactor(&owner) { reactor->add_subsystem(*this); }
    ~Turns() override { reactor->remove_subsystem(*this); }
    void after_completions() noexcept override {
        ++turns;
        if (during_turn) {
            std::exchange(during_turn, nullptr)();
        }
    }
    Reactor* reactor;
    int turns = 0;
    std::function<void()> during_turn;
};

Task<> pass_a_few_times() {
    for (int count = 0; count < 5; ++count) {
        co_await yield_now();
    }
}

TEST(Reactor, SubsystemsComeAndGoDuringATurn) {
    Reactor reactor(0, small_options());
    std::vector<std::unique_ptr<Turns>> added;
    auto first = std::make_unique<Turns>(reactor);
    auto second = std::make_unique<Turns>(reactor);
    Turns third(reactor);
    first->during_turn = [&] {
        for (int count = 0; count < 100; ++count) {
            added.push_back(std::make_unique<Turns>(reactor));
        }
    };
    second->during_turn = [&] { first.reset(); };
    run_task(reactor, [] { return pass_a_few_times(); });
    EXPECT_GT(third.turns, 1);
    EXPECT_EQ(second->turns, third.turns);
    EXPECT_EQ(added.back()->turns, third.turns);
}

TEST(Reactor, RoutesAreBounded) {
    Reactor reactor(0, small_options());
    EXPECT_THROW(
        {
            for (int count = 0; count < 100; ++count) {
                reactor.add_completion_route(nullptr, [](void*, const ferrule::abi::Completion&) noexcept {});
            }
        },
        std::length_error);
    EXPECT_THROW(
        {
            for (int count = 0; count < 100; ++count) {
                reactor.add_timer_route(nullptr, [](void*, Timer&) noexcept {});
            }
        },
        std::length_error);
}

Task<> stale_completions(Reactor* reactor) {
    for (const Tag tag : {Tag{1, 0x55, 0}, Tag{1, 1, 0xffff'ffff}, Tag{0xff, 1, 1}}) {
        ferrule::abi::SubmissionEntry& entry = reactor->ring().entry();
        prepare::nop(entry);
        entry.user_data = tag.encode();
    }
    Operation nop = submit_nop(*reactor);
    co_await nop;
}

TEST(Reactor, Law4StaleCompletionsAreRecognised) {
    Reactor reactor(0, small_options());
    run_task(reactor, [&] { return stale_completions(&reactor); });
    EXPECT_EQ(reactor.counters().stale_completions.value(), 3u);
}

}  // namespace
