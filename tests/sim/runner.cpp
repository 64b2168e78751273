#include "sim/runner.hpp"
#include "sim/runner_child.hpp"
#include "sim/runner_options.hpp"
#include "sim/runner_shrink.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using Clock = std::chrono::steady_clock;

// Enough that a fork costs nothing beside its runs, few enough that the end does not wait for one child.
constexpr std::size_t runs_per_child = 25;
constexpr std::size_t failures_shown_max = 5;

/// The sums over the runs of a workload.
struct Sums {
    const Workload* workload;
    std::uint64_t runs = 0;
    std::uint64_t connections = 0;
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;
    std::uint64_t operations = 0;
    std::uint64_t failures = 0;
    double virtual_seconds = 0;
    double processor_seconds = 0;

    void add(const Sums& other) {
        runs += other.runs;
        connections += other.connections;
        messages += other.messages;
        bytes += other.bytes;
        operations += other.operations;
        failures += other.failures;
        virtual_seconds += other.virtual_seconds;
        processor_seconds += other.processor_seconds;
    }
};

struct Failure {
    const Workload* workload;
    RunSettings settings;
    RunResult result;
};

/// Hands out runs, keeps children at work, and adds up.
class Campaign {
public:
    explicit Campaign(const RunnerOptions& options) : options_(&options) {
        for (const Workload* workload : options.workloads) {
            for (const ferrule::sim::Fault fault : options.each) {
                for (std::uint64_t number = 0; number < options.seeds; ++number) {
                    series_.push_back({sums_.size(), options.settings.seed + number, fault});
                }
            }
            sums_.push_back({workload});
        }
        if (options.minutes > 0)
            deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double, std::ratio<60>>(options.minutes));
    }

    void run() {
        const auto began = Clock::now();
        while (start_children() || !children_.empty()) {
            wait();
            collect();
            say_progress(began);
        }
        seconds_ = std::chrono::duration<double>(Clock::now() - began).count();
        if (said_progress_) std::fputs("\r\033[K", stderr);
    }

    [[nodiscard]] const std::vector<Failure>& failures() const noexcept { return failures_; }
    [[nodiscard]] const RunResult& last() const noexcept { return last_; }

    void print() const {
        std::printf("%-14s %8s %11s %11s %12s %9s %8s %12s\n", "workload", "runs", "connections", "checked",
                    "operations", "MiB", "failed", "virtual time");
        Sums total{nullptr};
        for (const Sums& each : sums_) {
            print_line(std::string(each.workload->name), each);
            total.add(each);
        }
        if (sums_.size() > 1) print_line("all", total);
        const double per_core =
            total.processor_seconds > 0 ? static_cast<double>(total.operations) / total.processor_seconds : 0;
        std::printf("\n%.1f s, %u processes: %.0f simulated operations per second and core\n\n", seconds_,
                    options_->jobs, per_core);
        std::printf("%-24s %14s %12s\n", "fault", "occasions", "times");
        for (std::size_t index = 0; index < ferrule::sim::fault_count; ++index) {
            if (faults_[index].occasions == 0) continue;
            const auto name = ferrule::sim::name_of(static_cast<ferrule::sim::Fault>(index));
            std::printf("%-24.*s %14" PRIu64 " %12" PRIu64 "\n", static_cast<int>(name.size()), name.data(),
                        faults_[index].occasions, faults_[index].times);
        }
    }

private:
    /// A child at work.
    struct Working {
        std::size_t which;
        std::size_t series;
        std::unique_ptr<Child> child;
    };
    /// One fault at each of its occasions in one run.
    struct Series {
        std::size_t which;
        std::uint64_t seed;
        ferrule::sim::Fault fault;
        std::uint64_t given = 0;
        bool busy = false;
        bool over = false;
    };

    static void print_line(const std::string& name, const Sums& sums) {
        std::printf("%-14s %8" PRIu64 " %11" PRIu64 " %11" PRIu64 " %12" PRIu64 " %9.1f %8" PRIu64 " %10.0f s\n",
                    name.c_str(), sums.runs, sums.connections, sums.messages, sums.operations,
                    static_cast<double>(sums.bytes) / (1024.0 * 1024.0), sums.failures, sums.virtual_seconds);
    }

    /// What a child is to do.
    struct Job {
        std::size_t which = 0;
        std::vector<RunSettings> runs{};
        /// Of `series_`, where it is of one.
        std::size_t series = 0;
    };

    Job next_job() {
        if (!again_.empty()) {
            Job job = std::move(again_.front());
            again_.pop_front();
            return job;
        }
        if (failures_.size() >= failures_shown_max || (deadline_ && Clock::now() >= *deadline_)) return {};
        return options_->each.empty() ? next_seeds() : next_occasions();
    }

    // By turns, so that a campaign that is ended early has seen all workloads alike.
    Job next_seeds() {
        for (std::size_t tried = 0; tried < sums_.size(); ++tried) {
            Job job{turn_++ % sums_.size()};
            std::uint64_t& given = given_[job.which];
            std::uint64_t count = runs_per_child;
            if (!deadline_) {
                // So that every process has something to do.
                count = std::min(count, std::max<std::uint64_t>(1, options_->seeds / (2 * options_->jobs)));
                count = std::min(count, options_->seeds - given);
            }
            for (; count != 0; --count) {
                job.runs.push_back(options_->settings);
                job.runs.back().seed += given++;
            }
            if (!job.runs.empty()) return job;
        }
        return {};
    }

    Job next_occasions() {
        while (!series_.empty() && series_[first_series_].over && first_series_ + 1 < series_.size()) ++first_series_;
        // Series side by side, but each to its end before many others are begun.
        for (std::size_t index = first_series_; index < series_.size(); ++index) {
            Series& series = series_[index];
            if (series.over || series.busy) continue;
            series.busy = true;
            Job job{series.which, {}, index};
            for (std::size_t count = 0; count < runs_per_child; ++count) {
                RunSettings settings = options_->settings;
                settings.seed = series.seed;
                settings.faults = false;
                settings.placed.push_back({series.fault, series.given++});
                job.runs.push_back(std::move(settings));
            }
            return job;
        }
        return {};
    }

    bool start_children() {
        bool started = false;
        while (children_.size() < options_->jobs) {
            Job job = next_job();
            if (job.runs.empty()) break;
            auto child =
                std::make_unique<Child>(*sums_[job.which].workload, std::move(job.runs), options_->seconds_max);
            children_.push_back({job.which, job.series, std::move(child)});
            started = true;
        }
        return started;
    }

    void wait() {
        if (children_.empty()) return;
        std::vector<pollfd> waiting;
        for (const Working& each : children_) waiting.push_back({each.child->descriptor(), POLLIN, 0});
        ::poll(waiting.data(), waiting.size(), 500);
    }

    void collect() {
        for (std::size_t index = 0; index < children_.size();) {
            Working& working = children_[index];
            Child& child = *working.child;
            const bool more = child.receive();
            while (auto report = child.next()) add(working, std::move(*report));
            if (more) {
                ++index;
                continue;
            }
            sums_[working.which].processor_seconds += child.processor_seconds();
            if (!series_.empty()) series_[working.series].busy = false;
            if (auto left = child.not_begun(); !left.empty())
                again_.push_back({working.which, std::move(left), working.series});
            children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(index));
        }
    }

    void add(const Working& working, ChildReport report) {
        Sums& sums = sums_[working.which];
        ++sums.runs;
        sums.connections += report.result.connections;
        sums.messages += report.result.messages;
        sums.bytes += report.result.bytes;
        sums.operations += report.result.operations;
        sums.virtual_seconds += static_cast<double>(report.result.virtual_ns) * 1e-9;
        for (std::size_t index = 0; index < faults_.size(); ++index) {
            faults_[index].occasions += report.result.faults.counts[index].occasions;
            faults_[index].times += report.result.faults.counts[index].times;
        }
        if (report.failed()) {
            ++sums.failures;
            failures_.push_back({sums.workload, working.child->runs()[report.index], report.result});
        } else if (!series_.empty() && report.result.faults[series_[working.series].fault].times == 0) {
            // There was no such occasion, and there is none behind it.
            series_[working.series].over = true;
        }
        last_ = std::move(report.result);
    }

    void say_progress(Clock::time_point began) {
        if (::isatty(STDERR_FILENO) == 0 || Clock::now() < next_progress_) return;
        next_progress_ = Clock::now() + std::chrono::seconds(1);
        std::uint64_t runs = 0;
        std::uint64_t connections = 0;
        for (const Sums& each : sums_) {
            runs += each.runs;
            connections += each.connections;
        }
        std::fprintf(stderr, "\r\033[K%.0f s: %" PRIu64 " runs, %" PRIu64 " connections, %zu failures",
                     std::chrono::duration<double>(Clock::now() - began).count(), runs, connections, failures_.size());
        said_progress_ = true;
    }

    const RunnerOptions* options_;
    std::vector<Sums> sums_;
    std::vector<Series> series_;
    std::size_t first_series_ = 0;
    std::vector<std::uint64_t> given_ = std::vector<std::uint64_t>(options_->workloads.size());
    std::optional<Clock::time_point> deadline_;
    std::vector<Working> children_;
    std::deque<Job> again_;
    std::vector<Failure> failures_;
    std::array<ferrule::sim::FaultCount, ferrule::sim::fault_count> faults_{};
    RunResult last_;
    std::size_t turn_ = 0;
    double seconds_ = 0;
    Clock::time_point next_progress_ = Clock::now() + std::chrono::seconds(1);
    bool said_progress_ = false;
};

void print_result(const RunResult& result) {
    for (const std::string& finding : result.findings) std::printf("    %s\n", finding.c_str());
}

// The last lines say what happened; a long trace is for a file.
void print_trace(const std::string& trace) {
    if (!trace.empty()) std::printf("\nits last events:\n%s\n", trace.c_str());
}

void explain(const RunnerOptions& options, const Failure& failure) {
    std::printf("\nFAILED: %.*s, seed %" PRIu64 "\n", static_cast<int>(failure.workload->name.size()),
                failure.workload->name.data(), failure.settings.seed);
    print_result(failure.result);
    std::printf("    replay: %s\n", command_of(*failure.workload, failure.settings).c_str());
    std::fflush(stdout);
    if (!options.shrink) return;
    const Shrunk shrunk = shrink(*failure.workload, failure.settings, failure.result, options.seconds_max);
    if (!shrunk.reproduced) {
        std::printf("    it does not fail again: something beside the seed decides\n");
        return;
    }
    std::printf("\nthe smallest run that still fails (%u tried): ", shrunk.tried);
    if (shrunk.settings.faults) {
        std::printf("faults by chance\n");
    } else {
        std::printf("%zu faults\n", shrunk.settings.placed.size());
    }
    print_result(shrunk.result);
    print_trace(shrunk.result.trace);
    std::printf("    replay: %s --trace\n", command_of(*failure.workload, shrunk.settings).c_str());
    std::fflush(stdout);
}

}  // namespace

int run_simulations(const RunnerOptions& options) {
    Campaign campaign{options};
    campaign.run();
    campaign.print();
    if (options.seeds == 1 && options.workloads.size() == 1 && options.each.empty() && options.minutes <= 0) {
        print_trace(campaign.last().trace);
        std::printf("\nfingerprint %016" PRIx64 "\n", campaign.last().fingerprint);
    }
    for (const Failure& failure : campaign.failures()) explain(options, failure);
    return campaign.failures().empty() ? 0 : 1;
}

}  // namespace ferrule_test

int main(int argument_count, char** arguments) {
    const auto options = ferrule_test::parse_options(argument_count, arguments);
    if (!options) return options.error();
    return ferrule_test::run_simulations(*options);
}
