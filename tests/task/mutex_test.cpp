#include <ferrule/task/mutex.hpp>
#include <ferrule/task/spawn.hpp>

#include "waiters_fixture.hpp"

#include <optional>
#include <string>
#include <utility>

namespace {

using namespace ferrule;
using ferrule::testing::letter_of;
using ferrule::testing::Source;
using ferrule::testing::WaitersTest;

class MutexTest : public WaitersTest {
protected:
    /// Logs how its wait has ended, and leaves the mutex locked.
    Task<> locks(Mutex& mutex, std::size_t number) {
        auto guard = co_await mutex.lock();
        log += std::to_string(number) + letter_of(guard);
        if (guard) kept = std::move(*guard);
    }

    Mutex::Guard kept;
};

Task<> writes_in_two_halves(Mutex& mutex, Source& source, std::string* text) {
    const auto guard = co_await mutex.lock();
    if (!guard) co_return;
    *text += '(';
    co_await source.wait();
    *text += ')';
}

TEST_F(MutexTest, KeepsWhatWaitsInItsMiddleTogether) {
    Mutex mutex;
    std::string text;
    for (int task = 0; task < 4; ++task) spawn(host, writes_in_two_halves(mutex, source, &text));
    while (step()) {
    }
    EXPECT_EQ(text, "()()()()");
    EXPECT_FALSE(mutex.locked());
}

TEST_F(MutexTest, UnlockGivesItToTheNextAndNobodyOvertakes) {
    Mutex mutex;
    start_waiter(locks(mutex, 0));
    start_waiter(locks(mutex, 1));
    start_waiter(locks(mutex, 2));
    EXPECT_EQ(log, "0+");
    kept.unlock();
    EXPECT_EQ(log, "0+") << "nobody is resumed from inside unlock";
    EXPECT_TRUE(mutex.locked()) << "it is the next one's already";
    EXPECT_EQ(letter_of(mutex.try_lock()), 'a');
    start_waiter(locks(mutex, 3));
    host.run_ready();
    EXPECT_EQ(log, "0+1+");
    kept.unlock();
    kept.unlock();
    host.run_ready();
    kept.unlock();
    host.run_ready();
    EXPECT_EQ(log, "0+1+2+3+");
    kept.unlock();
    EXPECT_FALSE(mutex.locked());
}

TEST_F(MutexTest, EachFateOfEachOfThree) {
    Mutex mutex;
    each_fate_of_three([&] { kept = std::move(*mutex.try_lock()); },
                       [&](std::size_t number) { return locks(mutex, number); }, [&] { kept.unlock(); },
                       [&] { EXPECT_FALSE(mutex.locked()); });
}

TEST_F(MutexTest, GuardsMove) {
    Mutex mutex;
    auto guard = *mutex.try_lock();
    EXPECT_TRUE(guard.owns_lock());
    auto moved = std::move(guard);
    EXPECT_FALSE(guard.owns_lock());
    moved = Mutex::Guard();
    EXPECT_FALSE(mutex.locked());
    EXPECT_TRUE(mutex.try_lock());
    EXPECT_FALSE(mutex.locked());
}

TEST_F(MutexTest, WhoLocksItTwiceWaitsUntilHeIsCancelled) {
    Mutex mutex;
    start_waiter(locks(mutex, 0));
    start_waiter(locks(mutex, 1));
    cancel(1);
    host.run_ready();
    EXPECT_EQ(log, "0+1c");
    kept.unlock();
}

Task<> locks_many_times(Mutex& mutex, int times) {
    for (int time = 0; time < times; ++time) {
        const auto guard = co_await mutex.lock();
        if (!guard) co_return;
    }
}

TEST_F(MutexTest, Law2AMillionThatNeedNotWait) {
    Mutex mutex;
    spawn(host, locks_many_times(mutex, 1'000'000));
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1) - 1);
}

TEST_F(MutexTest, AMillionThatTakeTurns) {
    Mutex mutex;
    auto guard = *mutex.try_lock();
    for (int task = 0; task < 10; ++task) spawn(host, locks_many_times(mutex, 100'000));
    guard.unlock();
    host.run_ready();
    EXPECT_FALSE(mutex.locked());
}

TEST_F(MutexTest, DestroyedWhileItsTurnIsToComeInTheReadyList) {
    Mutex mutex;
    budget = 0;
    start_waiter(locks(mutex, 0));
    EXPECT_TRUE(mutex.locked());
    destroy(0);
    EXPECT_FALSE(mutex.locked());
}

TEST_F(MutexTest, DestroyedAtEverySuspensionPoint) {
    Mutex mutex;
    std::string text;
    destroy_at_every_point([&] { return writes_in_two_halves(mutex, source, &text); });
    EXPECT_FALSE(mutex.locked());
}

TEST_F(MutexTest, MisuseIsAnAssertion) {
    EXPECT_DEATH(
        {
            std::optional<Mutex> mutex(std::in_place);
            kept = std::move(*mutex->try_lock());
            mutex.reset();
        },
        "while it is locked");
}

}  // namespace
