#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>

#include "sim/workloads/echo.hpp"
#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Lease;
using ferrule::ReadHalf;
using ferrule::Task;
using ferrule::WriteHalf;
using namespace std::chrono_literals;

constexpr auto long_enough = 30min;
constexpr auto channel_pause = 50us;
constexpr std::uint32_t flushes_max = 3;

Task<> echo_slices(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    while (auto received = co_await run->watch(connection.read())) {
        for (const auto slice : received) connection.write(slice);
        co_await run->watch(connection.flush());
    }
}

Task<> echo_contiguous(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    while (auto received = co_await run->watch(connection.read())) {
        const auto whole = received.contiguous();
        connection.write(whole);
        // There was no room to gather them.
        if (whole.empty()) {
            for (const auto slice : received) connection.write(slice);
        }
        co_await run->watch(connection.flush());
    }
}

// Holds leases beyond the read that brought them, across the flush.
Task<> echo_leases(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    std::vector<Lease> held;
    while (auto received = co_await run->watch(connection.read())) {
        while (auto lease = received.take()) held.push_back(std::move(lease));
        for (const Lease& lease : held) connection.write(lease.slice());
        co_await run->watch(connection.flush());
        held.clear();
    }
}

Task<> echo_in_place(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    while (auto received = co_await run->watch(connection.read())) {
        for (const auto slice : received) {
            const auto room = connection.span(slice.size());
            if (room.empty()) break;
            std::copy(slice.begin(), slice.end(), room.begin());
            connection.advance(slice.size());
        }
        co_await run->watch(connection.flush());
    }
}

Task<> echo_with_deadlines(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    for (;;) {
        auto received = co_await run->watch(ferrule::with_deadline(connection.read(), long_enough));
        if (!received) break;
        for (const auto slice : received) connection.write(slice);
        co_await run->watch(ferrule::with_deadline(connection.flush(), long_enough));
    }
}

Task<> echo_halves(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    auto [reads, writes] = std::move(connection).split();
    while (auto received = co_await run->watch(reads.read())) {
        for (const auto slice : received) writes.write(slice);
        co_await run->watch(writes.flush());
    }
}

// What is written and not flushed leaves with a later flush, or with the close.
Task<> echo_now_and_then(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    std::uint32_t reads = 0;
    while (auto received = co_await run->watch(connection.read())) {
        for (const auto slice : received) connection.write(slice);
        received.reset();
        if (++reads % 3 == 0) co_await run->watch(connection.flush());
    }
}

/// What one task has read for another to write.
struct Channel {
    std::string text{};
    bool ended = false;
};

Task<> read_into(WorkloadRun* run, ReadHalf reads, Channel* channel) {
    while (auto received = co_await run->watch(reads.read())) {
        for (const auto slice : received) channel->text += slice.text();
    }
    channel->ended = true;
}

Task<> write_from(WorkloadRun* run, WriteHalf writes, Channel* channel) {
    for (;;) {
        if (channel->text.empty() && channel->ended) break;
        if (channel->text.empty()) {
            static_cast<void>(co_await run->watch(ferrule::sleep_for(channel_pause)));
            continue;
        }
        writes.write(std::exchange(channel->text, {}));
        co_await run->watch(writes.flush());
    }
}

// Each half has a task of its own, and ends when that does.
Task<> echo_two_tasks(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    Channel channel;
    auto [reads, writes] = std::move(connection).split();
    auto reading = read_into(run, std::move(reads), &channel);
    auto writing = write_from(run, std::move(writes), &channel);
    co_await run->watch(ferrule::when_all(std::move(reading), std::move(writing)));
}

Task<> flush_once(WorkloadRun* run, Connection* connection) {
    co_await run->watch(connection->flush());
}

// False when there is no memory for one more task.
bool flush_beside(WorkloadRun& run, ferrule::TaskGroup& flushing, Connection& connection) {
    try {
        return flushing.spawn(flush_once(&run, &connection));
    } catch (const std::bad_alloc&) {
        return false;
    }
}

// Several wait for the same bytes, and for later ones. A group is not left while tasks of it are alive.
Task<> echo_many_flushes(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    ferrule::TaskGroup flushing(co_await ferrule::this_environment(), flushes_max);
    while (auto received = co_await run->watch(connection.read())) {
        for (const auto slice : received) {
            connection.write(slice);
            co_await flushing.vacancy();
            flush_beside(*run, flushing, connection);
        }
    }
    co_await flushing.join();
}

using Echo = Task<> (*)(WorkloadRun*, Connection);
constexpr std::array<Echo, 9> echoes = {echo_two_tasks, echo_many_flushes,   echo_slices, echo_contiguous,  echo_leases,
                                        echo_in_place,  echo_with_deadlines, echo_halves, echo_now_and_then};

}  // namespace

ferrule::ConnectionHandler any_echo(WorkloadRun& run) {
    const Echo echo = echoes[run.random().below(echoes.size())];
    return [&run, echo](Connection connection) { return echo(&run, std::move(connection)); };
}

void echo_once(WorkloadRun& run, ServerProgram& server, const EchoPeer& plan) {
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    const Pattern pattern{plan.key};
    std::uint64_t received = 0;
    peer->both(
        [&] {
            if (peer->send(pattern, 0, plan.bytes, plan.piece_max)) peer->shutdown_sending();
        },
        [&] { received = peer->receive(pattern, 0, plan.bytes, plan.piece_max); });
    if (received == plan.bytes) run.expect(peer->receive_to_end() == 0, "an echo sends more than it got");
    if (received != plan.bytes || peer->broken()) {
        run.incomplete(plan.name + ": " + std::to_string(received) + " of " + std::to_string(plan.bytes) +
                       " bytes came back");
    }
    ++run.messages_checked;
}

void add_echo_peers(WorkloadRun& run, ServerProgram& server, std::uint32_t peers, std::uint64_t bytes_max) {
    for (std::uint32_t index = 0; index < peers; ++index) {
        EchoPeer plan;
        plan.name = "echo peer " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.key = run.random().next();
        const std::uint64_t most = run.random().one_in(3) ? bytes_max : bytes_max / 16 + 1;
        plan.bytes = run.random().between(1, most);
        plan.piece_max = run.choose<std::size_t>({1, 7, 100, 1500, 16384});
        plan.piece_max = std::max<std::size_t>(plan.piece_max, plan.bytes / 256);
        server.client(plan.name, plan.machine, [&run, &server, plan] { echo_once(run, server, plan); });
    }
}

namespace {

void run_echo(WorkloadRun& run) {
    ServerProgram server{run, run.server_options()};
    server.on_connection(any_echo(run));
    add_echo_peers(run, server, run.connections(1, 40), 64 * 1024);
    server.start();
    run.finish();
}

void run_unix(WorkloadRun& run) {
    run.on_one_machine();
    ServerProgram server{run, run.server_options()};
    ferrule::PortOptions port;
    port.host = run.random().one_in(2) ? "unix:/run/server.socket" : "unix:@server";
    port.backlog = static_cast<std::int32_t>(run.choose({1, 4, 64}));
    port.accept_mode =
        run.choose({ferrule::AcceptMode::hand_over_round_robin, ferrule::AcceptMode::hand_over_least_loaded});
    server.listen(port);
    server.on_connection(any_echo(run));
    add_echo_peers(run, server, run.connections(1, 30), 32 * 1024);
    server.start();
    run.finish();
}

// One buffer, or two, for all connections: a starved reader receives into private memory, and nothing is lost.
void run_starvation(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    options.network.receive_buffer_count = run.choose({1u, 1u, 2u});
    options.network.receive_buffer_size = run.choose({1u, 16u, 64u, 1024u});
    options.network.receive_lease_limit = run.choose({1u, 2u, 64u});
    const std::uint64_t bytes_max = std::uint64_t{options.network.receive_buffer_size} * 200;
    ServerProgram server{run, options};
    server.on_connection(any_echo(run));
    add_echo_peers(run, server, run.connections(2, 30), std::min<std::uint64_t>(bytes_max, 16 * 1024));
    server.start();
    run.finish();
}

}  // namespace

const Workload echo_workload{"echo", "echo servers of several shapes, whole streams both ways at once", run_echo};
const Workload unix_workload{"unix", "the same over Unix sockets, handed over between reactors", run_unix};
const Workload starvation_workload{"starvation", "one receive buffer, or two, for all connections of a reactor",
                                   run_starvation};

}  // namespace ferrule_test
