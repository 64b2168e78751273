#include "net/accept_rate.hpp"
#include "net/load_watch.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace {

using ferrule::AcceptRate;
using ferrule::LoadWatch;

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t second = 1'000 * ms;

/// A loop with a clock of its own.
struct Loop {
    LoadWatch watch{50 * ms, 100 * ms};
    std::uint64_t now = 40 * second;

    bool turn(std::uint64_t latency) {
        now += latency;
        watch.turn(latency, now);
        return watch.overloaded(now);
    }
    bool sleep(std::uint64_t time) {
        now += time;
        return watch.overloaded(now);
    }
};

TEST(LoadWatch, without_a_bound_nothing_is_watched) {
    EXPECT_FALSE(LoadWatch().watches());
    EXPECT_TRUE(Loop().watch.watches());
}

TEST(LoadWatch, one_slow_turn_is_a_hiccup) {
    Loop loop;
    EXPECT_FALSE(loop.turn(10 * second));
    EXPECT_FALSE(loop.turn(ms));
    loop.sleep(second);
    EXPECT_FALSE(loop.turn(10 * second));
}

TEST(LoadWatch, slow_turns_in_a_row_are_overload) {
    Loop loop;
    EXPECT_FALSE(loop.turn(60 * ms));
    EXPECT_TRUE(loop.turn(60 * ms));
}

TEST(LoadWatch, slow_turns_with_quick_ones_between_are_overload_too) {
    Loop loop;
    loop.turn(200 * ms);
    loop.turn(ms);
    loop.turn(200 * ms);
    loop.turn(ms);
    EXPECT_TRUE(loop.turn(200 * ms));
}

TEST(LoadWatch, quick_turns_are_none_however_many) {
    Loop loop;
    for (unsigned count = 0; count < 10'000; ++count) ASSERT_FALSE(loop.turn(49 * ms));
}

TEST(LoadWatch, it_is_over_when_quick_turns_have_made_up_for_the_slow_ones) {
    Loop loop;
    loop.turn(60 * ms);
    ASSERT_TRUE(loop.turn(60 * ms));
    for (unsigned count = 0; count < 9; ++count) ASSERT_TRUE(loop.turn(10 * ms)) << count;
    EXPECT_FALSE(loop.turn(10 * ms));
}

TEST(LoadWatch, meanwhile_half_of_the_bound_is_slow) {
    Loop loop;
    loop.turn(60 * ms);
    ASSERT_TRUE(loop.turn(60 * ms));
    for (unsigned count = 0; count < 100; ++count) ASSERT_TRUE(loop.turn(25 * ms)) << count;
    for (unsigned count = 0; count < 4; ++count) ASSERT_TRUE(loop.turn(24 * ms)) << count;
    EXPECT_FALSE(loop.turn(24 * ms));
    // And no longer.
    for (unsigned count = 0; count < 100; ++count) ASSERT_FALSE(loop.turn(25 * ms)) << count;
}

TEST(LoadWatch, an_idle_loop_is_not_overloaded) {
    Loop loop;
    loop.turn(60 * ms);
    ASSERT_TRUE(loop.turn(60 * ms));
    EXPECT_TRUE(loop.sleep(99 * ms));
    EXPECT_FALSE(loop.sleep(1 * ms));
    // What was is forgotten: it begins anew.
    EXPECT_FALSE(loop.turn(60 * ms));
    EXPECT_TRUE(loop.turn(60 * ms));
}

TEST(AcceptRate, without_a_rate_it_allows_all) {
    AcceptRate rate;
    EXPECT_FALSE(rate.limits());
    for (unsigned count = 0; count < 1000; ++count) {
        ASSERT_TRUE(rate.allows(5));
        rate.take(5);
    }
}

TEST(AcceptRate, allows_a_burst_and_then_one_after_the_other) {
    AcceptRate rate{10, 3};
    std::uint64_t now = 40 * second;
    for (unsigned count = 0; count < 3; ++count) {
        ASSERT_TRUE(rate.allows(now)) << count;
        rate.take(now);
    }
    EXPECT_FALSE(rate.allows(now));
    EXPECT_EQ(rate.next_ns(), now + 100 * ms);
    for (unsigned count = 0; count < 50; ++count) {
        now = rate.next_ns();
        EXPECT_FALSE(rate.allows(now - 1));
        ASSERT_TRUE(rate.allows(now));
        rate.take(now);
    }
    EXPECT_EQ(now, 45 * second);
    // What was not used is no more than the burst.
    now += 100 * second;
    for (unsigned count = 0; count < 3; ++count) {
        ASSERT_TRUE(rate.allows(now)) << count;
        rate.take(now);
    }
    EXPECT_FALSE(rate.allows(now));
}

TEST(AcceptRate, a_burst_of_one_has_them_come_evenly) {
    AcceptRate rate{1000, 1};
    EXPECT_TRUE(rate.allows(second));
    rate.take(second);
    EXPECT_FALSE(rate.allows(second + ms - 1));
    EXPECT_TRUE(rate.allows(second + ms));
}

}  // namespace
