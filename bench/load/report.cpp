#include "report.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace load {
namespace {

constexpr uint64_t nanoseconds_per_millisecond = 1'000'000;

double microseconds(uint64_t nanoseconds) {
    return static_cast<double>(nanoseconds) / 1000.0;
}

double share(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

uint64_t Histogram::quantile(double share) const {
    const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(total_)));
    uint64_t seen = 0;
    for (unsigned index = 0; index < counts_.size(); ++index) {
        seen += counts_[index];
        if (seen == 0 || seen < wanted) continue;
        if (index < linear) return index;
        const unsigned shift = index / linear - 1;
        const uint64_t lowest = static_cast<uint64_t>(linear + index % linear) << shift;
        return lowest + ((uint64_t{1} << shift) >> 1);
    }
    return 0;
}

CpuMeter::CpuMeter(const std::vector<pid_t>& processes) : processes_(processes) {
    scan();
}

CpuMeter::~CpuMeter() {
    for (const auto& [thread, file] : threads_) close(file);
}

void CpuMeter::scan() {
    for (const pid_t process : processes_) {
        char path[64];
        std::snprintf(path, sizeof path, "/proc/%d/task", process);
        DIR* tasks = opendir(path);
        if (tasks == nullptr) continue;
        while (const dirent* task = readdir(tasks)) {
            const pid_t thread = std::atoi(task->d_name);
            const auto known = [thread](const std::pair<pid_t, int>& entry) { return entry.first == thread; };
            if (thread == 0 || std::ranges::any_of(threads_, known)) continue;
            char name[384];
            std::snprintf(name, sizeof name, "%s/%s/schedstat", path, task->d_name);
            const int file = open(name, O_RDONLY | O_CLOEXEC);
            if (file >= 0) threads_.emplace_back(thread, file);
        }
        closedir(tasks);
    }
}

CpuTime CpuMeter::read() const {
    CpuTime sum;
    for (const auto& [thread, file] : threads_) {
        char text[96];
        const ssize_t bytes = pread(file, text, sizeof text - 1, 0);
        if (bytes <= 0) continue;
        text[bytes] = 0;
        char* second = nullptr;
        sum.running_ns += std::strtoull(text, &second, 10);
        sum.waiting_ns += std::strtoull(second, nullptr, 10);
    }
    return sum;
}

CpuTicks cpu_ticks(int cpu) {
    CpuTicks ticks;
    FILE* statistics = cpu < 0 ? nullptr : std::fopen("/proc/stat", "re");
    if (statistics == nullptr) return ticks;
    char line[512];
    while (std::fgets(line, sizeof line, statistics) != nullptr) {
        int number = -1;
        // user, nice, system, idle, iowait, irq, softirq, steal: proc(5).
        std::array<unsigned long long, 8> fields{};
        if (std::sscanf(line, "cpu%d %llu %llu %llu %llu %llu %llu %llu %llu", &number, &fields[0], &fields[1],
                        &fields[2], &fields[3], &fields[4], &fields[5], &fields[6], &fields[7]) != 9 ||
            number != cpu)
            continue;
        ticks.idle = fields[3] + fields[4];
        for (const unsigned long long field : fields) ticks.total += field;
        break;
    }
    std::fclose(statistics);
    return ticks;
}

Report::Report(const Options& options)
    : options_(options),
      began_(now_ns()),
      window_begin_(began_ + options.warmup_milliseconds * nanoseconds_per_millisecond),
      window_end_(window_begin_ + options.milliseconds * nanoseconds_per_millisecond),
      last_pass_(began_),
      last_answer_at_(began_),
      server_meter_(options.watched),
      own_meter_({getpid()}) {}

bool Report::pass(uint64_t now, bool idle) {
    if (in_window_) {
        ++passes_;
        if (idle) {
            ++idle_passes_;
            idle_ns_ += now - last_pass_;
        }
    }
    last_pass_ = now;
    if (answers_ != last_answers_) {
        last_answers_ = answers_;
        last_answer_at_ = now;
    } else if (now - last_answer_at_ > options_.timeout_milliseconds * nanoseconds_per_millisecond) {
        timed_out_ = true;
        if (!in_window_) open_window();
        close_window();
        return false;
    }
    if (!in_window_ && now >= window_begin_) {
        open_window();
    } else if (in_window_ && now >= window_end_) {
        close_window();
        return false;
    }
    return true;
}

void Report::open_window() {
    in_window_ = true;
    server_ = server_meter_.read();
    own_ = own_meter_.read();
    ticks_ = cpu_ticks(options_.cpu);
    window_begin_ = now_ns();
    window_end_ = window_begin_ + options_.milliseconds * nanoseconds_per_millisecond;
    last_pass_ = window_begin_;
}

void Report::close_window() {
    window_end_ = now_ns();
    server_meter_.scan();
    const CpuTime server = server_meter_.read();
    const CpuTime own = own_meter_.read();
    const CpuTicks ticks = cpu_ticks(options_.cpu);
    ticks_ = {ticks.idle - ticks_.idle, ticks.total - ticks_.total};
    server_ = {server.running_ns - server_.running_ns, server.waiting_ns - server_.waiting_ns};
    own_ = {own.running_ns - own_.running_ns, own.waiting_ns - own_.waiting_ns};
}

void Report::print(const char* mode, uint64_t answer_bytes) const {
    const uint64_t window = window_end_ - window_begin_;
    const double seconds = static_cast<double>(window) / 1e9;
    std::printf(
        "{\"mode\": \"%s\", \"requests\": %llu, \"seconds\": %.6f, \"rps\": %.1f, \"p50_us\": %.3f, \"p99_us\": %.3f, "
        "\"p999_us\": %.3f, \"errors\": %llu, \"bytes\": %llu, \"answer_bytes\": %llu, \"timed_out\": %s, "
        "\"idle_passes\": %.4f, \"idle_share\": %.4f, \"server_cpu_ns\": %llu, \"server_wait_share\": %.4f, "
        "\"load_wait_share\": %.4f, \"cpu_busy_share\": %.4f}\n",
        mode, static_cast<unsigned long long>(requests_), seconds, static_cast<double>(requests_) / seconds,
        microseconds(latencies_.quantile(0.5)), microseconds(latencies_.quantile(0.99)),
        microseconds(latencies_.quantile(0.999)), static_cast<unsigned long long>(errors_),
        static_cast<unsigned long long>(bytes_), static_cast<unsigned long long>(answer_bytes),
        timed_out_ ? "true" : "false", share(idle_passes_, passes_), share(idle_ns_, window),
        static_cast<unsigned long long>(server_.running_ns), share(server_.waiting_ns, window),
        share(own_.waiting_ns, window), share(ticks_.total - ticks_.idle, ticks_.total));
}

}  // namespace load
