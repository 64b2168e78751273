#include <ferrule/reactor/histogram.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace {

using ferrule::Histogram;
using ferrule::HistogramBuckets;
using ferrule::HistogramSnapshot;

TEST(HistogramBuckets, FollowEachOtherWithoutGapOrOverlap) {
    std::uint64_t below = 0;
    for (std::uint32_t index = 0; index < HistogramBuckets::count; ++index) {
        const std::uint64_t upper = HistogramBuckets::upper_bound(index);
        EXPECT_EQ(HistogramBuckets::index_of(upper), index);
        if (index == 0) {
            EXPECT_EQ(upper, 0u);
        } else {
            ASSERT_GT(upper, below);
            EXPECT_EQ(HistogramBuckets::index_of(below + 1), index) << "the first value above the bucket before";
        }
        below = upper;
    }
    EXPECT_EQ(below, HistogramBuckets::value_max);
}

TEST(HistogramBuckets, AreAtMostASixteenthWide) {
    for (std::uint32_t index = 1; index < HistogramBuckets::count; ++index) {
        const std::uint64_t smallest = HistogramBuckets::upper_bound(index - 1) + 1;
        const std::uint64_t largest = HistogramBuckets::upper_bound(index);
        EXPECT_LE((largest - smallest) * HistogramBuckets::steps, smallest) << "bucket " << index;
    }
}

TEST(HistogramBuckets, TellSmallValuesApartAndEndWithEachPowerOfTwo) {
    for (std::uint64_t value = 0; value <= 32; ++value) {
        EXPECT_EQ(HistogramBuckets::upper_bound(HistogramBuckets::index_of(value)), value);
    }
    for (std::uint32_t power = 0; power <= 48; ++power) {
        const std::uint64_t value = std::uint64_t{1} << power;
        EXPECT_EQ(HistogramBuckets::upper_bound(HistogramBuckets::index_of(value)), value);
    }
    EXPECT_EQ(HistogramBuckets::index_of(~std::uint64_t{0}), HistogramBuckets::count - 1);
    EXPECT_EQ(HistogramBuckets::index_of(HistogramBuckets::value_max + 1), HistogramBuckets::count - 1);
}

TEST(Histogram, CountsSumsAndShares) {
    Histogram histogram;
    EXPECT_EQ(histogram.snapshot().count(), 0u);
    EXPECT_EQ(histogram.snapshot().quantile(0.5), 0u);
    for (std::uint64_t value = 1; value <= 100; ++value) histogram.record(value);
    const HistogramSnapshot held = histogram.snapshot();
    EXPECT_EQ(held.count(), 100u);
    EXPECT_EQ(held.sum(), 5050u);
    EXPECT_EQ(held.count_up_to(0), 0u);
    EXPECT_EQ(held.count_up_to(32), 32u);
    EXPECT_EQ(held.count_up_to(64), 64u);
    EXPECT_EQ(held.count_up_to(1u << 20), 100u);
    EXPECT_EQ(held.quantile(0), 1u);
    EXPECT_EQ(held.quantile(0.25), 25u);
    EXPECT_GE(held.quantile(1), 100u);
    EXPECT_LE(held.quantile(1), 106u);
}

TEST(Histogram, TakesTimesAndCountsNegativeOnesAsNone) {
    Histogram histogram;
    histogram.record(std::chrono::nanoseconds(-5));
    histogram.record(std::chrono::microseconds(3));
    EXPECT_EQ(histogram.snapshot().bucket(0), 1u);
    EXPECT_EQ(histogram.snapshot().sum(), 3000u);
}

TEST(Histogram, KeepsTheSumOfWhatIsTooLargeForItsBuckets) {
    Histogram histogram;
    const std::uint64_t large = HistogramBuckets::value_max * 4;
    histogram.record(large);
    EXPECT_EQ(histogram.snapshot().sum(), large);
    EXPECT_EQ(histogram.snapshot().quantile(1), HistogramBuckets::value_max);
}

TEST(Histogram, SharesAreWithinTheDocumentedErrorOfTheExactOnes) {
    std::mt19937_64 random(17);
    std::lognormal_distribution<double> latencies(11.0, 2.0);
    Histogram histogram;
    std::vector<std::uint64_t> values;
    for (int number = 0; number < 20'000; ++number) {
        values.push_back(static_cast<std::uint64_t>(latencies(random)));
        histogram.record(values.back());
    }
    std::sort(values.begin(), values.end());
    const HistogramSnapshot held = histogram.snapshot();
    for (const double share : {0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
        const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
        const std::uint64_t exact = values[rank - 1];
        EXPECT_GE(held.quantile(share), exact);
        EXPECT_LE(held.quantile(share), exact + exact / HistogramBuckets::steps + 1);
    }
}

TEST(Histogram, SnapshotsAddAndSubtract) {
    Histogram one;
    Histogram other;
    one.record(std::uint64_t{10});
    other.record(std::uint64_t{1000});
    const HistogramSnapshot before = one.snapshot();
    one.record(std::uint64_t{20});
    HistogramSnapshot between = one.snapshot();
    between -= before;
    EXPECT_EQ(between.count(), 1u);
    EXPECT_EQ(between.sum(), 20u);
    between += other.snapshot();
    EXPECT_EQ(between.count(), 2u);
    EXPECT_EQ(between.sum(), 1020u);
    EXPECT_EQ(between.count_up_to(32), 1u);
}

// Under ThreadSanitizer this is the proof that readers need no lock.
TEST(Histogram, IsReadWhileItRecords) {
    constexpr std::uint64_t recorded = 50'000;
    Histogram histogram;
    std::atomic<bool> begun = false;
    std::thread writer([&] {
        begun = true;
        for (std::uint64_t value = 0; value < recorded; ++value) histogram.record(value);
    });
    while (!begun) std::this_thread::yield();
    std::uint64_t last = 0;
    while (last < recorded) {
        const HistogramSnapshot held = histogram.snapshot();
        const std::uint64_t count = held.count();
        ASSERT_GE(count, last) << "no bucket ever becomes less";
        ASSERT_LE(count, recorded);
        last = count;
    }
    writer.join();
    EXPECT_EQ(histogram.snapshot().sum(), recorded * (recorded - 1) / 2);
}

}  // namespace
