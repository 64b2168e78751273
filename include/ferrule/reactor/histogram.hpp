#pragma once

#include <ferrule/version.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace ferrule::inline v0 {

/// The buckets of a Histogram, the same for all: zero has one, and each power of two is divided into 16, so that a
/// bucket's upper bound is at most 1/16 (6.25 %) above whatever it counts, and each value up to 32 has one of its own.
/// A bucket includes its upper bound; the powers of two are such bounds.
class HistogramBuckets {
public:
    static constexpr std::uint32_t steps = 16;  ///< buckets for each power of two
    /// The largest value that is told from larger ones: in nanoseconds 78 hours. What is larger counts as this.
    static constexpr std::uint64_t value_max = std::uint64_t{1} << 48;

    /// The bucket of a value.
    [[nodiscard]] static constexpr std::uint32_t index_of(std::uint64_t value) noexcept {
        if (value == 0) return 0;
        // Counted from the value below, a bucket's range ends with its upper bound.
        const std::uint64_t below = (value < value_max ? value : value_max) - 1;
        const auto shift = static_cast<std::uint32_t>(std::bit_width(below | steps)) - smallest_width;
        return 1 + shift * steps + static_cast<std::uint32_t>(below >> shift);
    }
    /// The largest value of a bucket.
    [[nodiscard]] static constexpr std::uint64_t upper_bound(std::uint32_t index) noexcept {
        if (index == 0) return 0;
        const std::uint32_t place = index - 1;
        const std::uint32_t shift = place < 2 * steps ? 0 : place / steps - 1;
        return (std::uint64_t{place - shift * steps} + 1) << shift;
    }

private:
    static constexpr std::uint32_t smallest_width = 5;  // of what is shown exactly: below 32

public:
    static constexpr std::uint32_t count = 1 + (48 - smallest_width) * steps + 2 * steps;
};
static_assert(HistogramBuckets::index_of(HistogramBuckets::value_max) == HistogramBuckets::count - 1);
static_assert(HistogramBuckets::upper_bound(HistogramBuckets::count - 1) == HistogramBuckets::value_max);

/// What a Histogram held at a moment, or several of them together. A value like any other.
class FERRULE_EXPORT HistogramSnapshot {
public:
    /// How many values were recorded.
    [[nodiscard]] std::uint64_t count() const noexcept;
    /// Their sum.
    [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }
    /// How many were at most `bound`. Exact where `bound` is a bucket's upper bound, such as a power of two; otherwise
    /// those of the bucket that it lies in count, too.
    [[nodiscard]] std::uint64_t count_up_to(std::uint64_t bound) const noexcept;
    /// The value that a `share` of them, 0 to 1, does not exceed: 0.99 for the 99th percentile. It is the upper bound
    /// of a bucket: at most 1/16 above the value that was recorded, never below it. 0 when nothing was recorded.
    [[nodiscard]] std::uint64_t quantile(double share) const noexcept;
    /// How many a bucket counts (HistogramBuckets).
    [[nodiscard]] std::uint64_t bucket(std::uint32_t index) const noexcept { return buckets_[index]; }
    /// Adds what another one holds: of several reactors, say.
    HistogramSnapshot& operator+=(const HistogramSnapshot& other) noexcept;
    /// Takes off what an earlier one of the same histogram holds: what was recorded in between is left.
    HistogramSnapshot& operator-=(const HistogramSnapshot& earlier) noexcept;

private:
    friend class Histogram;
    std::array<std::uint64_t, HistogramBuckets::count> buckets_{};
    std::uint64_t sum_ = 0;
};

/// The distribution of a number: a latency in nanoseconds, a size in bytes. One thread records, any thread reads, and
/// neither waits: recording is a handful of instructions, two loads and two stores, no locked operation, no allocation.
/// Six kilobytes each. The buckets, and so the error, are the same for every histogram: HistogramBuckets.
///
/// ```cpp
/// Histogram latency;
/// const std::uint64_t begun_ns = reactor.refresh_now();
/// co_await connection.flush();
/// latency.record(reactor.refresh_now() - begun_ns);
/// std::printf("99 %% within %llu ns\n", static_cast<unsigned long long>(latency.snapshot().quantile(0.99)));
/// ```
class FERRULE_EXPORT Histogram {
public:
    Histogram() = default;
    Histogram(const Histogram&) = delete;
    Histogram& operator=(const Histogram&) = delete;

    /// Records a value. Owner's thread only.
    void record(std::uint64_t value) noexcept {
        add(buckets_[HistogramBuckets::index_of(value)], 1);
        add(sum_, value);
    }
    /// Records a time, in nanoseconds; a negative one as 0. Owner's thread only.
    void record(std::chrono::nanoseconds time) noexcept {
        record(time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : std::uint64_t{0});
    }

    /// What it holds. Any thread. Each number is from some recent moment, and no bucket ever becomes less; the sum may
    /// be a few values ahead of the buckets, or behind.
    [[nodiscard]] HistogramSnapshot snapshot() const noexcept;

private:
    static void add(std::atomic<std::uint64_t>& number, std::uint64_t amount) noexcept {
        number.store(number.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }

    std::atomic<std::uint64_t> sum_{0};
    std::array<std::atomic<std::uint64_t>, HistogramBuckets::count> buckets_{};
};

}  // namespace ferrule::inline v0
