#include <ferrule/task/semaphore.hpp>
#include <ferrule/task/spawn.hpp>

#include "waiters_fixture.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using ferrule::testing::letter_of;
using ferrule::testing::Tracked;
using ferrule::testing::WaitersTest;

class SemaphoreTest : public WaitersTest {
protected:
    /// Logs how its wait has ended, and leaves its units in `kept`.
    Task<> takes(Semaphore& semaphore, std::uint32_t units, std::size_t number) {
        auto got = co_await semaphore.acquire(units);
        log += std::to_string(number) + letter_of(got);
        if (got) kept.push_back(std::move(*got));
    }

    std::vector<Semaphore::Units> kept;
};

TEST_F(SemaphoreTest, GivesWhatThereIsAndLetsTheRestWait) {
    Semaphore semaphore(3);
    start_waiter(takes(semaphore, 2, 0));
    start_waiter(takes(semaphore, 2, 1));
    EXPECT_EQ(log, "0+");
    EXPECT_EQ(semaphore.available(), 1u);
    EXPECT_EQ(semaphore.taken(), 2u);
    kept.clear();
    EXPECT_EQ(log, "0+") << "nobody is resumed from inside a release";
    EXPECT_EQ(semaphore.taken(), 2u) << "they are the waiter's already";
    host.run_ready();
    EXPECT_EQ(log, "0+1+");
    kept.clear();
    EXPECT_EQ(semaphore.available(), 3u);
    EXPECT_EQ(semaphore.taken(), 0u);
}

TEST_F(SemaphoreTest, WhoWantsManyIsNotOvertaken) {
    Semaphore semaphore(3);
    start_waiter(takes(semaphore, 2, 0));
    start_waiter(takes(semaphore, 3, 1));
    start_waiter(takes(semaphore, 1, 2));
    EXPECT_EQ(log, "0+");
    EXPECT_EQ(letter_of(semaphore.try_acquire(1)), 'a');
    kept.clear();
    host.run_ready();
    EXPECT_EQ(log, "0+1+");
    kept.clear();
    host.run_ready();
    EXPECT_EQ(log, "0+1+2+");
    kept.clear();
}

TEST_F(SemaphoreTest, CancellingTheFirstLetsThoseBehindGoOn) {
    Semaphore semaphore(2);
    auto held = semaphore.try_acquire(1);
    start_waiter(takes(semaphore, 2, 0));
    start_waiter(takes(semaphore, 1, 1));
    cancel(0);
    host.run_ready();
    EXPECT_EQ(log, "0c1+");
    start_waiter(takes(semaphore, 2, 2));
    start_waiter(takes(semaphore, 1, 3));
    destroy(2);
    EXPECT_EQ(log, "0c1+");
    kept.clear();
    host.run_ready();
    EXPECT_EQ(log, "0c1+3+");
    kept.clear();
}

TEST_F(SemaphoreTest, CancellingAllAtOnceLosesNothing) {
    Semaphore semaphore(2);
    auto held = semaphore.try_acquire(1);
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &host};
    // The scope calls the latest first, and the first of them frees the way for those behind it, whom it would call
    // too.
    std::vector<Task<>> tasks;
    for (const std::uint32_t units : {1u, 1u, 2u, 1u, 2u, 1u}) {
        tasks.push_back(takes(semaphore, units, tasks.size()));
        static_cast<void>(tasks.back().start(environment, std::noop_coroutine()));
    }
    EXPECT_EQ(log, "0+");
    scope.cancel(CancelReason::cancelled);
    host.run_ready();
    EXPECT_EQ(log, "0+5c4c3c2c1c");
    held->release();
    kept.clear();
    EXPECT_EQ(semaphore.available(), 2u);
}

TEST_F(SemaphoreTest, EachFateOfEachOfThree) {
    std::optional<Semaphore> semaphore;
    each_fate_of_three(
        [&] {
            semaphore.emplace(1);
            kept.push_back(std::move(*semaphore->try_acquire()));
        },
        [&](std::size_t number) { return takes(*semaphore, 1, number); }, [&] { kept.clear(); },
        [&] {
            EXPECT_EQ(semaphore->available(), 1u);
            EXPECT_EQ(semaphore->taken(), 0u);
        });
}

TEST_F(SemaphoreTest, CloseEndsWaitsNowAndLater) {
    Semaphore semaphore(1);
    start_waiter(takes(semaphore, 1, 0));
    start_waiter(takes(semaphore, 1, 1));
    start_waiter(takes(semaphore, 1, 2));
    kept.clear();  // 1 has it, and has not run
    semaphore.close();
    EXPECT_TRUE(semaphore.closed());
    start_waiter(takes(semaphore, 1, 3));
    EXPECT_EQ(log, "0+3p");
    host.run_ready();
    EXPECT_EQ(log, "0+3p1+2p");
    kept.clear();
    EXPECT_EQ(semaphore.available(), 1u);
    EXPECT_EQ(letter_of(semaphore.try_acquire()), 'p');
    semaphore.close();
}

TEST_F(SemaphoreTest, UnitsMoveSplitAndGoBackOnce) {
    Semaphore semaphore(8);
    auto all = *semaphore.try_acquire(8);
    auto some = all.split(3);
    EXPECT_EQ(all.count(), 5u);
    EXPECT_EQ(some.count(), 3u);
    some.release();
    some.release();
    EXPECT_EQ(semaphore.available(), 3u);
    some = std::move(all);
    EXPECT_EQ(all.count(), 0u);
    some = Semaphore::Units();
    EXPECT_EQ(semaphore.available(), 8u);
    const auto none = semaphore.try_acquire(0);
    EXPECT_TRUE(none);
}

TEST_F(SemaphoreTest, CountsWhatOneMakesAndTheOtherUses) {
    Semaphore made(0);
    start_waiter(takes(made, 1, 0));
    start_waiter(takes(made, 2, 1));
    made.add(2);
    host.run_ready();
    EXPECT_EQ(log, "0+");
    made.add(1);
    host.run_ready();
    EXPECT_EQ(log, "0+1+");
    for (Semaphore::Units& units : kept) units.consume();
    EXPECT_EQ(made.available(), 0u);
    EXPECT_EQ(made.taken(), 0u);
}

Task<> takes_many_times(Semaphore& semaphore, int times) {
    for (int time = 0; time < times; ++time) {
        const auto units = co_await semaphore.acquire();
        if (!units) co_return;
    }
}

TEST_F(SemaphoreTest, Law2AMillionThatNeedNotWait) {
    Semaphore semaphore(1);
    spawn(host, takes_many_times(semaphore, 1'000'000));
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1) - 1);
}

Task<> takes_turns(Semaphore& semaphore, int times) {
    for (int time = 0; time < times; ++time) {
        auto units = co_await semaphore.acquire();
        if (!units) co_return;
        // Whoever waits is given it, and this one goes behind.
        units->release();
    }
}

TEST_F(SemaphoreTest, AMillionTurnsOfMany) {
    Semaphore semaphore(1);
    auto held = semaphore.try_acquire();
    for (int task = 0; task < 10; ++task) spawn(host, takes_turns(semaphore, 100'000));
    held->release();
    host.run_ready();
    EXPECT_EQ(semaphore.available(), 1u);
}

TEST_F(SemaphoreTest, DestroyedWhileItsTurnIsToComeInTheReadyList) {
    Semaphore semaphore(1);
    budget = 0;
    start_waiter(takes(semaphore, 1, 0));
    EXPECT_EQ(semaphore.available(), 0u);
    start_waiter(takes(semaphore, 1, 1));
    destroy(0);
    host.run_ready();
    EXPECT_EQ(log, "1+");
    kept.clear();
}

TEST_F(SemaphoreTest, MisuseIsAnAssertion) {
    EXPECT_DEATH(
        {
            std::optional<Semaphore> semaphore(1);
            kept.push_back(std::move(*semaphore->try_acquire()));
            semaphore.reset();
        },
        "before its units were given back");
    EXPECT_DEATH(
        {
            Semaphore semaphore(0);
            start_waiter(takes(semaphore, 1, 0));
            std::thread([&] { semaphore.add(1); }).join();
        },
        "touched on another thread");
}

}  // namespace
