#pragma once

#include "sim/runner_options.hpp"

namespace ferrule_test {

/// Makes the runs that the options ask for and prints what came of them; each failure with the smallest run that still
/// fails, and the command that replays it. The exit status: 1 when a run has failed.
int run_simulations(const RunnerOptions& options);

}  // namespace ferrule_test
