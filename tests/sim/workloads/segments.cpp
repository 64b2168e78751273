#include <ferrule/net/connection.hpp>
#include <ferrule/net/shared_bytes.hpp>

#include "sim/workloads/echo.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Lease;
using ferrule::ReadResult;
using ferrule::SharedBytes;
using ferrule::Task;
using ferrule::WriteOverflow;
using ferrule::sim::Random;

/// What the echoes of a run have in common: where chance comes from, and what is shared.
struct Segments {
    WorkloadRun* run;
    Random random;
    bool flushes = true;
};

/// Writes the beginning of what is there, or all of it, in a way that chance chooses. False when it was refused; it is
/// all still there then.
bool write_some(Connection& connection, Lease& lease, Random& random) {
    const auto count = static_cast<std::size_t>(random.between(1, lease.size()));
    const auto begin = lease.slice().first(count);
    switch (random.below(4)) {
        case 0:
            return connection.write(std::move(lease));
        case 1: {
            const SharedBytes shared = SharedBytes::copy(lease.slice());
            if (!connection.write_shared(shared.part(0, count))) return false;
            break;
        }
        case 2: {
            const auto room = connection.span(count);
            if (room.empty()) return false;
            std::copy(begin.begin(), begin.end(), room.begin());
            connection.advance(count);
            break;
        }
        default:
            if (!connection.write(begin)) return false;
    }
    lease.remove_prefix(count);
    if (lease.size() == 0) lease.reset();
    return true;
}

/// As above, of a read as a whole.
bool write_all(Connection& connection, ReadResult& received, Random& random) {
    if (random.one_in(2)) return connection.write(std::move(received));
    std::size_t size = 0;
    for (const auto slice : received) size += slice.size();
    const auto room = connection.span(size);
    if (room.empty()) return false;
    auto into = room.begin();
    for (const auto slice : received) into = std::copy(slice.begin(), slice.end(), into);
    connection.advance(size);
    received.reset();
    return true;
}

Task<> echo_in_pieces(Segments* segments, Connection connection) {
    WorkloadRun& run = *segments->run;
    const TaskCount count{run};
    Random random{segments->random.next()};
    while (auto received = co_await run.watch(connection.read())) {
        if (random.one_in(2) && write_all(connection, received, random)) received.reset();
        while (Lease lease = received.take()) {
            while (lease) {
                if (write_some(connection, lease, random)) continue;
                // Refused, and nothing is lost; or it has failed, and the flush says so.
                const auto flushed = co_await run.watch(connection.flush());
                if (!flushed) co_return;
            }
        }
        if (segments->flushes || random.one_in(3)) co_await run.watch(connection.flush());
    }
}

// Written pieces of all kinds in one chain: blocks, forwarded leases, shared bytes.
void run_segments(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    options.network.write_overflow =
        run.choose({WriteOverflow::grow, WriteOverflow::segmented, WriteOverflow::back_pressure});
    if (options.network.write_overflow == WriteOverflow::back_pressure) {
        // A read is never more than this: its buffers, and what was received privately.
        options.network.write_limit = run.choose({300'000u, 1u << 20});
    }
    // Forwarded slices are linked only where they are not small.
    if (run.random().one_in(2)) options.network.receive_buffer_size = run.choose({600u, 2048u, 16384u});
    Segments segments{&run, run.fork(), !run.random().one_in(4)};
    ServerProgram server{run, options};
    server.on_connection(
        [&segments](Connection connection) { return echo_in_pieces(&segments, std::move(connection)); });
    add_echo_peers(run, server, run.connections(1, 30), 128 * 1024);
    server.start();
    run.finish();
}

}  // namespace

const Workload segments_workload{
    "segments", "echoes of blocks, forwarded leases and shared bytes in one chain, refused and written again",
    run_segments};

}  // namespace ferrule_test
