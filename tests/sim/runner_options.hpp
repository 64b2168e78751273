#pragma once

#include "sim/workloads/workload.hpp"

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace ferrule_test {

/// What the command line asks for.
struct RunnerOptions {
    std::vector<const Workload*> workloads;
    /// Of each run; its seed is the first.
    RunSettings settings;
    /// So many of each workload.
    std::uint64_t seeds = 100;
    /// Seeds without end for so long; 0: `seeds` of them.
    double minutes = 0;
    /// Processes at once.
    unsigned jobs = 1;
    /// No fault by chance, but each of these at its 1st, 2nd, 3rd ... occasion of each seed, until there is none left.
    std::vector<ferrule::sim::Fault> each;
    /// How long one run may take on a real clock.
    unsigned seconds_max = 60;
    /// Whether a failure is made smaller.
    bool shrink = true;
};

/// Reads the command line. An error is the status to exit with: what was asked for has been printed, or what is wrong.
std::expected<RunnerOptions, int> parse_options(int argument_count, char** arguments);

/// The command that makes the run again.
std::string command_of(const Workload& workload, const RunSettings& settings);

}  // namespace ferrule_test
