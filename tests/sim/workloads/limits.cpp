#include "sim/workloads/echo.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <cstdint>

namespace ferrule_test {
namespace {

std::uint64_t own_ring_bytes(const ferrule::NetworkOptions& options) {
    return std::uint64_t{options.connection_buffer_count} *
           (options.connection_buffer_size + sizeof(ferrule::abi::BufferEntry));
}

// Every bound so low that it is reached. What a bound refuses is refused in order: what has come is right as far as it
// goes, nothing is left behind, and nobody waits for ever.
void tighten(WorkloadRun& run, ferrule::ServerOptions& options) {
    ferrule::NetworkOptions& network = options.network;
    auto& random = run.random();
    if (random.one_in(3)) network.write_limit = run.choose({5000u, 20'000u});
    if (random.one_in(3)) network.receive_limit = run.choose({1u, 100u, 5000u});
    if (random.one_in(3)) network.memory_limit = 1u << 20;
    network.write_slab_size = std::min(network.write_slab_size, network.write_limit);
    if (random.one_in(3)) {
        network.connection_memory_limit =
            2 * std::uint64_t{network.write_slab_size} + network.receive_buffer_size + run.choose({2048u, 10'000u});
    }
    if (random.one_in(3)) network.connection_limit = run.choose({1u, 3u});
    if (random.one_in(3)) network.waiting_limit = run.choose({0u, 1u});
    if (random.one_in(3)) options.reactor.operation_limit = run.choose({1u, 2u});
    if (random.one_in(3)) options.reactor.mailbox_limit = run.choose({1u, 2u});
    if (random.one_in(3)) options.reactor.frame_memory_limit = run.choose<std::uint64_t>({4096, 16'384});
    if (random.one_in(3)) {
        options.reactor.memory_limit = run.choose<std::uint64_t>({1u << 16, 1u << 18});
        // A server without room for its first connection's own ring does not start.
        if (network.buffer_mode == ferrule::BufferMode::per_connection_incremental)
            options.reactor.memory_limit += own_ring_bytes(network);
    }
    if (random.one_in(3)) run.descriptor_limit(static_cast<std::uint32_t>(random.between(30, 50)));
}

void run_limits(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    tighten(run, options);
    run.may_be_incomplete();
    ServerProgram server{run, options};
    server.may_fault();
    server.on_connection(any_echo(run));
    add_echo_peers(run, server, run.connections(1, 40), 64 * 1024);
    server.start();
    run.finish();
}

}  // namespace

const Workload limits_workload{"limits", "every bound of a server so low that it is reached", run_limits};

}  // namespace ferrule_test
