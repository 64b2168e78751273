// How much of a measurement the calling thread has spent waiting for a CPU that others had.
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>

namespace bench {

/// From its making on. The kernel counts what a thread has waited on a run queue (schedstat of proc(5)).
class ThreadShare {
public:
    ThreadShare() : began_(std::chrono::steady_clock::now()), waited_ns_(waited_ns()) {}

    /// The share of the time so far.
    double waited() const {
        const std::chrono::duration<double, std::nano> passed = std::chrono::steady_clock::now() - began_;
        return static_cast<double>(waited_ns() - waited_ns_) / passed.count();
    }

private:
    static std::uint64_t waited_ns() {
        std::uint64_t ran = 0;
        std::uint64_t waited = 0;
        std::ifstream("/proc/thread-self/schedstat") >> ran >> waited;
        return waited;
    }

    std::chrono::steady_clock::time_point began_;
    std::uint64_t waited_ns_;
};

}  // namespace bench
