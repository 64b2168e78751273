#pragma once

#include <algorithm>
#include <cstdint>

namespace ferrule::inline v0 {

/// Tells whether a loop has more to do than it can. Not one slow turn says so, which is a hiccup, but slow turns that
/// are not made up for: their time fills a bucket, the time of quick ones and of sleep empties it. When it is full, the
/// loop is overloaded until it is empty (as CoDel, RFC 8289, tells a queue that stands from one that comes and goes).
/// Meanwhile turns of half the bound count as slow: so the answer does not flutter.
class LoadWatch {
public:
    LoadWatch() noexcept = default;
    LoadWatch(std::uint64_t bound_ns, std::uint64_t interval_ns) noexcept
        : bound_ns_(bound_ns), interval_ns_(interval_ns) {}

    /// Whether there is a bound.
    [[nodiscard]] bool watches() const noexcept { return bound_ns_ != 0; }

    /// A turn has ended; what was ready at its beginning may have waited for so long.
    void turn(std::uint64_t latency_ns, std::uint64_t now_ns) noexcept {
        overloaded_ = overloaded(now_ns - std::min(latency_ns, now_ns));
        filled_ns_ = left(now_ns - std::min(latency_ns, now_ns));
        if (latency_ns >= (overloaded_ ? bound_ns_ / 2 : bound_ns_)) {
            // One alone never fills it.
            filled_ns_ = std::min(interval_ns_, filled_ns_ + std::min(latency_ns, interval_ns_ / 2));
        } else {
            filled_ns_ -= std::min(filled_ns_, latency_ns);
        }
        overloaded_ = overloaded_ ? filled_ns_ != 0 : filled_ns_ >= interval_ns_;
        last_ns_ = now_ns;
    }

    /// Whether it is overloaded. An idle loop has no turns, and the time since its last one is sleep.
    [[nodiscard]] bool overloaded(std::uint64_t now_ns) const noexcept { return overloaded_ && left(now_ns) != 0; }

    [[nodiscard]] std::uint64_t interval_ns() const noexcept { return interval_ns_; }

private:
    [[nodiscard]] std::uint64_t left(std::uint64_t now_ns) const noexcept {
        const std::uint64_t slept = now_ns > last_ns_ ? now_ns - last_ns_ : 0;
        return filled_ns_ - std::min(filled_ns_, slept);
    }

    std::uint64_t bound_ns_ = 0;
    std::uint64_t interval_ns_ = 0;
    std::uint64_t filled_ns_ = 0;
    std::uint64_t last_ns_ = 0;
    bool overloaded_ = false;
};

}  // namespace ferrule::inline v0
