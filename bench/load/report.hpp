// What a run counts, and the line that it prints.
#pragma once

#include "options.hpp"

#include <time.h>

#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace load {

// Nanoseconds of the monotonic clock.
inline uint64_t now_ns() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// Counts of durations in log-linear buckets: each power of two is divided in 128, an error of 0.8 % at most.
class Histogram {
public:
    void add(uint64_t nanoseconds) {
        ++counts_[bucket(nanoseconds)];
        ++total_;
    }

    // The duration in nanoseconds that `share` of all are not above; 0 when there are none.
    uint64_t quantile(double share) const;

private:
    static constexpr unsigned linear_bits = 7;
    static constexpr unsigned linear = 1U << linear_bits;
    static constexpr unsigned octaves = 34;  // up to half an hour

    static unsigned bucket(uint64_t nanoseconds) {
        if (nanoseconds < linear) return static_cast<unsigned>(nanoseconds);
        const unsigned octave = static_cast<unsigned>(std::bit_width(nanoseconds)) - linear_bits;
        if (octave >= octaves) return octaves * linear - 1;
        return octave * linear + static_cast<unsigned>((nanoseconds >> (octave - 1)) - linear);
    }

    std::array<uint64_t, octaves * linear> counts_{};
    uint64_t total_ = 0;
};

// CPU time and run queue time of processes, in nanoseconds, from the kernel's accounting.
struct CpuTime {
    uint64_t running_ns = 0;
    uint64_t waiting_ns = 0;
};

// Reads /proc/PID/task/*/schedstat of processes, first and second field. The files of the threads there are stay open,
// so that a reading takes the generator microseconds only.
class CpuMeter {
public:
    explicit CpuMeter(const std::vector<pid_t>& processes);
    CpuMeter(const CpuMeter&) = delete;
    CpuMeter& operator=(const CpuMeter&) = delete;
    ~CpuMeter();

    // Sum over the threads found by the last scan().
    CpuTime read() const;

    // Adds the threads that started since. All their time counts as used since the last reading.
    void scan();

private:
    std::vector<pid_t> processes_;
    std::vector<std::pair<pid_t, int>> threads_;  // thread and its open file
};

// Ticks of one CPU since boot, from /proc/stat.
struct CpuTicks {
    uint64_t idle = 0;
    uint64_t total = 0;
};

// All zero where `cpu` is negative or not there.
CpuTicks cpu_ticks(int cpu);

// Counters of one run. The generator's loop adds to them while in_window() and reports what its passes did.
class Report {
public:
    explicit Report(const Options& options);

    // Tells the time of a loop pass, and whether the pass found nothing to do. False when the window has ended.
    bool pass(uint64_t now, bool idle);

    bool in_window() const { return in_window_; }
    uint64_t answers() const { return answers_; }
    void answered(uint64_t latency_ns, uint64_t bytes) {
        ++answers_;
        if (!in_window_) return;
        ++requests_;
        bytes_ += bytes;
        latencies_.add(latency_ns);
    }
    void error() { ++errors_; }
    uint64_t errors() const { return errors_; }

    // Prints the line of JSON.
    void print(const char* mode, uint64_t answer_bytes) const;

private:
    void open_window();
    void close_window();

    const Options& options_;
    Histogram latencies_;
    uint64_t began_;
    uint64_t window_begin_;
    uint64_t window_end_;
    uint64_t last_pass_;
    uint64_t last_answer_at_;
    uint64_t last_answers_ = 0;
    uint64_t answers_ = 0;
    uint64_t requests_ = 0;
    uint64_t bytes_ = 0;
    uint64_t errors_ = 0;
    uint64_t passes_ = 0;
    uint64_t idle_passes_ = 0;
    uint64_t idle_ns_ = 0;
    bool in_window_ = false;
    bool timed_out_ = false;
    CpuMeter server_meter_;
    CpuMeter own_meter_;
    CpuTime server_;
    CpuTime own_;
    CpuTicks ticks_;
};

}  // namespace load
