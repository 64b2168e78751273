#pragma once

#include <string>

namespace ferrule::inline v0 {

/// Which of the options that a kernel may lack (ReactorOptions) are in force.
struct ReactorTuning {
    bool submission_poll = false;  ///< a thread of the kernel's takes the entries
    bool napi_busy_poll = false;   ///< the kernel asks the network cards' queues before it sleeps
    bool min_wait = false;         ///< waits gather completions
    bool resize = false;           ///< the queues can grow; false as well when the kernel has refused a larger one
    bool workers = false;          ///< the kernel's worker threads are bounded as asked for
    int memory_node = -1;          ///< the NUMA node of the reactor's memory; -1: wherever the system takes it from
    /// What was asked for and is not in force, with the reason: a line each, `napi_busy_poll: Invalid argument`.
    std::string refused;
};

}  // namespace ferrule::inline v0
