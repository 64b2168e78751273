#pragma once

#include <ferrule/net/network.hpp>

#include "sim/workloads/workload.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace ferrule_test {

class ServerProgram;

/// An echo handler of a shape that chance chooses.
ferrule::ConnectionHandler any_echo(WorkloadRun& run);

/// What a peer sends to an echo, and wants back.
struct EchoPeer {
    std::string name;
    std::size_t machine = 0;
    std::uint64_t key = 0;
    std::uint64_t bytes = 0;
    std::size_t piece_max = 1;
};

/// Sends and receives at once, then ends the stream; every byte must come back.
void echo_once(WorkloadRun& run, ServerProgram& server, const EchoPeer& plan);

/// So many clients of `server` that do this, with up to `bytes_max` bytes each.
void add_echo_peers(WorkloadRun& run, ServerProgram& server, std::uint32_t peers, std::uint64_t bytes_max);

}  // namespace ferrule_test
