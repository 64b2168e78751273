#include <ferrule/reactor/stall_detector.hpp>

#include "reactor/stack_capture.hpp"
#include "reactor/symbols.hpp"
#include "ring/mutex.hpp"
#include "ring/probes.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {
namespace {

constexpr std::uint64_t millisecond_ns = 1'000'000;
/// It looks so often in each threshold, and so seldom at most and at least.
constexpr std::uint64_t looks_per_threshold = 4;
constexpr std::uint64_t look_ns_min = millisecond_ns;
constexpr std::uint64_t look_ns_max = 50 * millisecond_ns;
/// Whoever is late by so much was stopped, with the whole process: the reactors were, too.
constexpr std::uint64_t stopped_ns = 500 * millisecond_ns;
/// Names are looked up in files: not more often than this.
constexpr std::uint64_t stack_interval_ns = 100 * millisecond_ns;
/// Frames that a line has room for.
constexpr std::size_t frames_in_a_line = 16;

constexpr LogCause stall{.name = "stall", .burst = 8};
constexpr LogCause stall_ended{.name = "stall-ended", .burst = 8};

/// The function without its parameters, for a line that has to hold many.
std::string_view short_name(std::string_view function) noexcept {
    // Names have parentheses of their own: `(anonymous namespace)::serve(int)`, `operator()`, `{lambda(int)#1}`.
    int depth = 0;
    for (std::size_t at = function.size(); at-- > 0;) {
        if (function[at] == ')') ++depth;
        if (function[at] == '(' && --depth == 0) return at == 0 ? function : function.substr(0, at);
    }
    return function;
}

std::string place_of(const StackFrame& frame) {
    std::array<char, 32> offset;
    std::snprintf(offset.data(), offset.size(), "+0x%" PRIxPTR, frame.offset);
    return frame.module + offset.data();
}

std::string duration_text(std::chrono::nanoseconds duration) {
    return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()) + " ms";
}

std::string_view state_text(char state) noexcept {
    switch (state) {
        case 'R':
            return "computes or waits for a CPU";
        case 'S':
            return "waits";
        case 'D':
            return "waits for a disk";
        default:
            return {};
    }
}

}  // namespace

std::string to_string(const StackFrame& frame) {
    if (frame.function.empty()) return place_of(frame);
    return frame.function + " (" + place_of(frame) + ")";
}

std::string to_string(const StallReport& report) {
    const std::string who = report.handler.empty() ? "what is no coroutine" : report.handler;
    if (report.ended) return who + " has blocked the reactor for " + duration_text(report.duration);
    std::string line = who + " blocks the reactor, for " + duration_text(report.duration) + " so far";
    if (const std::string_view state = state_text(report.thread_state); !state.empty()) {
        line += "; its thread ";
        line += state;
    }
    if (report.stack.empty()) return line + "; no stack: " + report.stack_missing;
    line += "; in ";
    for (std::size_t index = 0; index < report.stack.size(); ++index) {
        if (index == frames_in_a_line) return line + " < ...";
        const StackFrame& frame = report.stack[index];
        if (index != 0) line += " < ";
        line += frame.function.empty() ? place_of(frame) : std::string(short_name(frame.function));
    }
    return line;
}

class StallDetector::Watcher {
public:
    Watcher(StallDetectorOptions options, Kernel& kernel)
        : kernel_(kernel),
          options_(options),
          threshold_ns_(static_cast<std::uint64_t>(options.threshold.count())),
          signal_(kernel, options.signal),
          mutex_(kernel) {
        const int result = signal_.install();
        if (result == -ENOSYS) return;
        if (result == -EBUSY) {
            throw std::invalid_argument("StallDetectorOptions.signal: signal " + std::to_string(options.signal) +
                                        " is handled already");
        }
        if (result < 0) {
            throw std::system_error(-result, std::system_category(),
                                    "handle signal " + std::to_string(options.signal) + " for stacks");
        }
        thread_ = kernel.start_thread("stall-detector", [this] { watch_all(); });
    }
    ~Watcher() {
        ending_.store(true, std::memory_order_relaxed);
        if (thread_ != nullptr) thread_->join();
    }
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

    void watch(Reactor& reactor) {
        const std::lock_guard lock(mutex_);
        watched_.push_back({.reactor = &reactor});
    }
    void forget(Reactor& reactor) noexcept {
        const std::lock_guard lock(mutex_);
        std::erase_if(watched_, [&](const Watched& watched) { return watched.reactor == &reactor; });
    }
    [[nodiscard]] bool active() const noexcept { return thread_ != nullptr; }

    std::function<void(const StallReport&)> hook;
    std::atomic<std::uint64_t> stalls{0};

private:
    struct Watched {
        Reactor* reactor = nullptr;
        std::uint64_t reported_ns = 0;  ///< the dispatch that was reported, by when it began; 0: none lasts
        std::uint64_t excused_ns = 0;   ///< a dispatch in which the process was stopped
        std::uint64_t counted_ns = 0;   ///< from when it counts
        std::string handler{};          ///< whom the report named
    };

    void watch_all() noexcept {
        const std::uint64_t look_ns = std::clamp(threshold_ns_ / looks_per_threshold, look_ns_min, look_ns_max);
        std::uint64_t looked_ns = kernel_.monotonic_ns();
        while (!ending_.load(std::memory_order_relaxed)) {
            kernel_.pause_ns(look_ns);
            const std::uint64_t now_ns = kernel_.monotonic_ns();
            const bool stopped = now_ns - looked_ns > look_ns + std::max(threshold_ns_, stopped_ns);
            const std::lock_guard lock(mutex_);
            for (Watched& watched : watched_) {
                try {
                    look(watched, now_ns, stopped);
                } catch (...) {
                    // No memory for a report, or a hook that throws: the next stall may be told.
                }
            }
            // What the reports took is nobody's lateness.
            looked_ns = kernel_.monotonic_ns();
        }
    }

    void look(Watched& watched, std::uint64_t now_ns, bool stopped) {
        const Reactor::Activity activity = watched.reactor->activity();
        if (watched.reported_ns != 0 && activity.since_ns != watched.reported_ns) report_end(watched, activity, now_ns);
        if (activity.since_ns == 0 || activity.since_ns == watched.reported_ns) return;
        if (stopped) {
            watched.excused_ns = activity.since_ns;
            watched.counted_ns = now_ns;
            return;
        }
        const std::uint64_t from_ns = activity.since_ns == watched.excused_ns ? watched.counted_ns : activity.since_ns;
        if (now_ns < from_ns || now_ns - from_ns < threshold_ns_) return;
        // The clock was read before: it may have gone on since.
        if (watched.reactor->activity().since_ns != activity.since_ns) return;
        report(watched, activity);
    }

    void report(Watched& watched, const Reactor::Activity& activity) {
        watched.reported_ns = activity.since_ns;
        stalls.fetch_add(1, std::memory_order_relaxed);
        StallReport report;
        report.reactor = watched.reactor->id();
        report.thread_state = state_of(activity.thread);
        take_stack(*watched.reactor, activity, report);
        const auto running = std::find_if(report.stack.begin(), report.stack.end(),
                                          [](const StackFrame& frame) { return frame.coroutine; });
        if (running != report.stack.end()) {
            report.handler = running->function;
        } else if (activity.resumed != nullptr && report.stack.empty()) {
            const std::array address{reinterpret_cast<std::uintptr_t>(activity.resumed)};
            const StackFrame resumed = look_up(address).front();
            report.handler = resumed.function.empty() ? place_of(resumed) : resumed.function;
        }
        report.duration = std::chrono::nanoseconds(kernel_.monotonic_ns() - activity.since_ns);
        watched.handler = report.handler;
        FERRULE_PROBE(stall, report.reactor, static_cast<std::uint64_t>(report.duration.count()),
                      report.handler.c_str());
        tell(*watched.reactor, report, stall);
    }

    void report_end(Watched& watched, const Reactor::Activity& activity, std::uint64_t now_ns) {
        StallReport report;
        report.reactor = watched.reactor->id();
        report.ended = true;
        // The next pass began when this one ended; of one that sleeps by now that is not known.
        const std::uint64_t end_ns = activity.since_ns != 0 ? activity.since_ns : now_ns;
        report.duration = std::chrono::nanoseconds(end_ns - watched.reported_ns);
        report.handler = std::exchange(watched.handler, {});
        watched.reported_ns = 0;
        tell(*watched.reactor, report, stall_ended);
    }

    void tell(Reactor& reactor, const StallReport& report, const LogCause& cause) {
        if (hook) {
            hook(report);
        } else {
            reactor.log.write(cause, "%s", to_string(report).c_str());
        }
    }

    void take_stack(Reactor& reactor, const Reactor::Activity& activity, StallReport& report) {
        const std::uint64_t begun_ns = kernel_.monotonic_ns();
        if (stack_ns_ != 0 && begun_ns - stack_ns_ < stack_interval_ns) {
            report.stack_missing = "the last one was taken just now";
            return;
        }
        stack_ns_ = begun_ns;
        if (const int result = signal_.install(); result < 0) {
            report.stack_missing = std::string("signal ") + std::to_string(signal_.number()) + ": " +
                                   (result == -EBUSY ? "somebody else handles it" : std::strerror(-result));
            return;
        }
        auto capture = std::make_unique<detail::StackCapture>();
        detail::StackCapture* nobody = nullptr;
        if (!reactor.stack_capture.compare_exchange_strong(nobody, capture.get(), std::memory_order_acq_rel)) {
            report.stack_missing = "another detector asks for it";
            return;
        }
        const int sent = kernel_.signal_thread(activity.thread, signal_.number());
        const auto patience_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(options_.stack_patience.count(), 0));
        while (sent >= 0 && !capture->done.load(std::memory_order_acquire)) {
            if (kernel_.monotonic_ns() - begun_ns >= patience_ns) break;
            if (reactor.activity().since_ns != activity.since_ns) break;
            kernel_.pause_ns(millisecond_ns);
        }
        // Whoever takes it away owns it: the handler may be at it now.
        if (reactor.stack_capture.exchange(nullptr, std::memory_order_acq_rel) == capture.get()) {
            report.stack_missing =
                sent < 0 ? std::string("signal: ") + std::strerror(-sent) : "the thread has not taken the signal";
            return;
        }
        while (!capture->done.load(std::memory_order_acquire)) kernel_.pause_ns(millisecond_ns);
        read_stack(*capture, report);
    }

    static void read_stack(const detail::StackCapture& capture, StallReport& report) {
        const auto end = capture.addresses.begin() + capture.count;
        auto innermost = std::find(capture.addresses.begin(), end, capture.interrupted);
        if (innermost == end) innermost = capture.addresses.begin();
        std::vector<std::uintptr_t> addresses(innermost, end);
        // A call at the end of a function returns behind it.
        for (std::size_t index = 1; index < addresses.size(); ++index) --addresses[index];
        report.stack = look_up(addresses);
        if (report.stack.empty()) report.stack_missing = "the stack cannot be walked";
    }

    /// The third field of /proc/self/task/<thread>/stat, behind a name that may have anything in it.
    char state_of(std::uint64_t thread) const {
        std::array<char, 256> status;
        const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
        const ssize_t length = kernel_.read_file(path.c_str(), status.data(), status.size());
        if (length <= 0) return '\0';
        const std::string_view text(status.data(), static_cast<std::size_t>(length));
        const std::size_t name_end = text.rfind(')');
        return name_end == std::string_view::npos || name_end + 2 >= text.size() ? '\0' : text[name_end + 2];
    }

    Kernel& kernel_;
    const StallDetectorOptions options_;
    const std::uint64_t threshold_ns_;
    StackSignal signal_;
    std::atomic<bool> ending_{false};
    std::uint64_t stack_ns_ = 0;  // when the last stack was asked for
    Mutex mutex_;                 // of those that are watched
    std::vector<Watched> watched_;
    std::unique_ptr<ThreadHandle> thread_;
};

StallDetector::StallDetector(StallDetectorOptions options, Kernel& kernel) {
    if (options.threshold < std::chrono::milliseconds(1))
        throw std::invalid_argument("StallDetectorOptions.threshold: less than a millisecond");
    watcher_ = std::make_unique<Watcher>(options, kernel);
}

StallDetector::~StallDetector() = default;

void StallDetector::on_stall(std::function<void(const StallReport&)> function) {
    watcher_->hook = std::move(function);
}

void StallDetector::watch(Reactor& reactor) {
    watcher_->watch(reactor);
}

void StallDetector::forget(Reactor& reactor) noexcept {
    watcher_->forget(reactor);
}

bool StallDetector::active() const noexcept {
    return watcher_->active();
}

std::uint64_t StallDetector::stalls() const noexcept {
    return watcher_->stalls.load(std::memory_order_relaxed);
}

}  // namespace ferrule::inline v0
