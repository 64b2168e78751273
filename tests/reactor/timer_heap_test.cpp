#include <ferrule/reactor/timer_heap.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <vector>

namespace {

using ferrule::Timer;
using ferrule::TimerHeap;

/// A heap and the obvious thing that it must agree with.
class TimerHeapTest : public ::testing::Test {
protected:
    void arm(Timer& timer, std::uint64_t due_ns) {
        forget(timer);
        expected.emplace(due_ns, &timer);
        heap.arm(timer, due_ns);
    }
    void disarm(Timer& timer) {
        forget(timer);
        heap.disarm(timer);
    }
    void check() {
        ASSERT_EQ(heap.size(), expected.size());
        ASSERT_EQ(heap.next_due(), expected.empty() ? TimerHeap::never : expected.begin()->first);
    }

    TimerHeap heap;
    std::multimap<std::uint64_t, Timer*> expected;

private:
    void forget(Timer& timer) {
        if (!timer.armed()) {
            return;
        }
        auto found = expected.lower_bound(heap.due(timer));
        while (found->second != &timer) {
            ++found;
        }
        expected.erase(found);
    }
};

TEST_F(TimerHeapTest, EmptyHeapIsNeverDue) {
    EXPECT_EQ(heap.next_due(), TimerHeap::never);
    EXPECT_EQ(heap.take_due(TimerHeap::never - 1), nullptr);
    Timer timer;
    heap.disarm(timer);
    EXPECT_EQ(heap.size(), 0u);
}

TEST_F(TimerHeapTest, AgreesWithAMultimapAtEachStep) {
    std::mt19937_64 random(20'240'601);
    std::vector<Timer> timers(500);
    std::uint64_t now = 0;
    for (int step = 0; step < 100'000; ++step) {
        Timer& timer = timers[random() % timers.size()];
        switch (random() % 4) {
            case 0:
            case 1:
                arm(timer, now + 1 + random() % 1000);
                break;
            case 2:
                disarm(timer);
                break;
            default:
                now += random() % 20;
                while (Timer* due = heap.take_due(now)) {
                    ASSERT_FALSE(due->armed());
                    ASSERT_LE(expected.begin()->first, now);
                    auto found = expected.begin();
                    while (found->second != due) {
                        ++found;
                        ASSERT_EQ(found->first, expected.begin()->first);
                    }
                    expected.erase(found);
                }
                break;
        }
        ASSERT_NO_FATAL_FAILURE(check());
    }
}

TEST_F(TimerHeapTest, HundredThousandTimersEndInOrder) {
    std::mt19937_64 random(7);
    std::vector<Timer> timers(100'000);
    for (Timer& timer : timers) {
        arm(timer, 1 + random() % 1'000'000'000);
    }
    for (std::size_t index = 0; index < timers.size(); index += 3) {
        disarm(timers[index]);
    }
    ASSERT_NO_FATAL_FAILURE(check());
    std::size_t taken = 0;
    std::uint64_t latest = 0;
    while (heap.size() != 0) {
        const std::uint64_t due = heap.next_due();
        ASSERT_GE(due, latest);
        latest = due;
        ASSERT_EQ(heap.take_due(due - 1), nullptr);
        ASSERT_NE(heap.take_due(due), nullptr);
        ++taken;
    }
    EXPECT_EQ(taken, expected.size());
}

TEST_F(TimerHeapTest, CancelledDeadlineIsNotTheNext) {
    Timer early;
    Timer late;
    heap.arm(early, 10);
    heap.arm(late, 20);
    heap.disarm(early);
    EXPECT_EQ(heap.next_due(), 20u);
    heap.disarm(late);
    EXPECT_EQ(heap.next_due(), TimerHeap::never);
}

TEST_F(TimerHeapTest, TimerArmedForThePastIsNotDueAgainAtTheSameTime) {
    Timer eager;
    Timer patient;
    heap.arm(eager, 5);
    heap.arm(patient, 9);
    EXPECT_EQ(heap.take_due(10), &eager);
    heap.arm(eager, 0);
    EXPECT_EQ(heap.take_due(10), &patient) << "one that arms itself for the past would hold up the others for ever";
    EXPECT_EQ(heap.take_due(10), nullptr);
    EXPECT_EQ(heap.next_due(), 11u);
    EXPECT_EQ(heap.take_due(11), &eager);
}

}  // namespace
