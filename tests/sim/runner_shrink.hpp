#pragma once

#include "sim/workloads/workload.hpp"

namespace ferrule_test {

/// The smallest run that was found to fail, with its trace.
struct Shrunk {
    RunSettings settings;
    RunResult result;
    /// False: the run did not fail when it was made again.
    bool reproduced = false;
    unsigned tried = 0;
};

/// Makes a failing run smaller: fewer connections and messages; the faults that happened as placed ones, and then fewer
/// of them, by halves (delta debugging), until none can be left out. Takes a minute at most.
Shrunk shrink(const Workload& workload, const RunSettings& settings, const RunResult& result, unsigned seconds_max);

}  // namespace ferrule_test
