#include <ferrule/reactor/histogram.hpp>

#include <algorithm>
#include <cmath>

namespace ferrule::inline v0 {

std::uint64_t HistogramSnapshot::count() const noexcept {
    std::uint64_t all = 0;
    for (const std::uint64_t bucket : buckets_) all += bucket;
    return all;
}

std::uint64_t HistogramSnapshot::count_up_to(std::uint64_t bound) const noexcept {
    const std::uint32_t last = HistogramBuckets::index_of(bound);
    std::uint64_t counted = 0;
    for (std::uint32_t index = 0; index <= last; ++index) counted += buckets_[index];
    return counted;
}

std::uint64_t HistogramSnapshot::quantile(double share) const noexcept {
    const std::uint64_t all = count();
    if (all == 0) return 0;
    const double wanted = std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(all));
    const std::uint64_t rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, all);
    std::uint64_t counted = 0;
    std::uint32_t index = 0;
    while ((counted += buckets_[index]) < rank) ++index;
    return HistogramBuckets::upper_bound(index);
}

HistogramSnapshot& HistogramSnapshot::operator+=(const HistogramSnapshot& other) noexcept {
    for (std::uint32_t index = 0; index < HistogramBuckets::count; ++index) buckets_[index] += other.buckets_[index];
    sum_ += other.sum_;
    return *this;
}

HistogramSnapshot& HistogramSnapshot::operator-=(const HistogramSnapshot& earlier) noexcept {
    for (std::uint32_t index = 0; index < HistogramBuckets::count; ++index) buckets_[index] -= earlier.buckets_[index];
    sum_ -= earlier.sum_;
    return *this;
}

HistogramSnapshot Histogram::snapshot() const noexcept {
    HistogramSnapshot held;
    for (std::uint32_t index = 0; index < HistogramBuckets::count; ++index)
        held.buckets_[index] = buckets_[index].load(std::memory_order_relaxed);
    held.sum_ = sum_.load(std::memory_order_relaxed);
    return held;
}

}  // namespace ferrule::inline v0
