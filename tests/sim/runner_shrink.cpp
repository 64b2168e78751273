#include "sim/runner_child.hpp"
#include "sim/runner_shrink.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto patience = std::chrono::seconds(60);
constexpr std::size_t traced_entries = 60;
using FaultList = std::vector<ferrule::sim::PlacedFault>;

class Shrinking {
public:
    Shrinking(const Workload& workload, const RunSettings& settings, const RunResult& result, unsigned seconds_max)
        : workload_(&workload), seconds_max_(seconds_max) {
        shrunk_.settings = settings;
        shrunk_.result = result;
    }

    Shrunk run() {
        shrunk_.reproduced = fails(shrunk_.settings);
        if (!shrunk_.reproduced) return shrunk_;
        fewer();
        leave_out_faults();
        fewer();
        RunSettings traced = shrunk_.settings;
        traced.trace_entries = traced_entries;
        if (const RunResult result = run_in_child(*workload_, traced, seconds_max_); !result.findings.empty())
            shrunk_.result = result;
        return shrunk_;
    }

private:
    // Takes the run when it fails.
    bool fails(const RunSettings& settings) {
        if (shrunk_.tried != 0 && Clock::now() >= end_) return false;
        ++shrunk_.tried;
        RunResult result = run_in_child(*workload_, settings, seconds_max_);
        if (result.findings.empty()) return false;
        shrunk_.settings = settings;
        shrunk_.result = std::move(result);
        return true;
    }

    // The smallest number, of a few, that still fails.
    void fewer() {
        constexpr std::array<std::uint64_t, 7> numbers = {1, 2, 3, 5, 8, 16, 32};
        for (auto RunSettings::*limit : {&RunSettings::connections_max, &RunSettings::messages_max}) {
            for (const std::uint64_t number : numbers) {
                if (number >= shrunk_.settings.*limit) break;
                RunSettings settings = shrunk_.settings;
                settings.*limit = number;
                if (fails(settings)) break;
            }
        }
    }

    void leave_out_faults() {
        RunSettings settings = shrunk_.settings;
        settings.faults = false;
        if (fails(settings)) return;
        settings.placed = shrunk_.result.faults.fired;
        settings.left_out.clear();
        if (!fails(settings)) return;
        // Parts that are left out, half of all at first, then smaller ones.
        std::size_t part = (shrunk_.settings.placed.size() + 1) / 2;
        while (part != 0 && Clock::now() < end_) {
            const bool smaller = leave_out_parts(part);
            if (part == 1 && !smaller) break;
            if (!smaller) part = std::max<std::size_t>(1, part / 2);
            part = std::min(part, shrunk_.settings.placed.size());
        }
    }

    bool leave_out_parts(std::size_t part) {
        bool smaller = false;
        for (std::size_t begin = 0; begin < shrunk_.settings.placed.size() && Clock::now() < end_;) {
            RunSettings settings = shrunk_.settings;
            FaultList& placed = settings.placed;
            const std::size_t end = std::min(begin + part, placed.size());
            placed.erase(placed.begin() + static_cast<std::ptrdiff_t>(begin),
                         placed.begin() + static_cast<std::ptrdiff_t>(end));
            if (fails(settings)) {
                smaller = true;
            } else {
                begin = end;
            }
        }
        return smaller;
    }

    const Workload* workload_;
    unsigned seconds_max_;
    Shrunk shrunk_;
    Clock::time_point end_ = Clock::now() + patience;
};

}  // namespace

Shrunk shrink(const Workload& workload, const RunSettings& settings, const RunResult& result, unsigned seconds_max) {
    return Shrinking{workload, settings, result, seconds_max}.run();
}

}  // namespace ferrule_test
