#pragma once

#include "support/forwarding_kernel.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>

namespace ferrule_test {

/// The real kernel with a clock that stands still until the test moves it: nothing is due by accident. A reactor that
/// sleeps looks at it again when it is woken. Any thread.
class ManualClock : public ForwardingKernel {
public:
    std::uint64_t monotonic_ns() noexcept override { return now_ns_.load(std::memory_order_acquire); }
    void advance(std::chrono::nanoseconds time) {
        now_ns_.fetch_add(static_cast<std::uint64_t>(time.count()), std::memory_order_acq_rel);
    }

private:
    std::atomic<std::uint64_t> now_ns_{1'000'000'000'000};
};

}  // namespace ferrule_test
