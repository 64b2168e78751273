#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/task/when_all.hpp>

#include "sim/workloads/echo.hpp"
#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
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

/// A proxy that connects to itself, so often as the first byte of a connection says, and echoes at last. What comes is
/// sent on from the buffers that the kernel has filled; of these there are as good as none.
struct Chain {
    WorkloadRun* run;
    ServerProgram* server = nullptr;
    bool by_slices = false;
    std::string failures{};  ///< of its own connects
};

Task<> relay(Chain* chain, ReadHalf from_half, WriteHalf to_half) {
    WorkloadRun& run = *chain->run;
    // Locals: parameters live as long as the task, and the end of the writing half is what the other side waits for.
    ReadHalf from = std::move(from_half);
    WriteHalf to = std::move(to_half);
    // What came with the first byte; a read would wait for more of it.
    if (auto first = from.take_carried()) {
        to.write(std::move(first));
        co_await run.watch(to.flush());
    }
    while (auto received = co_await run.watch(from.read())) {
        if (chain->by_slices) {
            while (auto lease = received.take()) to.write(std::move(lease));
        } else {
            to.write(std::move(received));
        }
        const auto flushed = co_await run.watch(to.flush());
        if (!flushed) co_return;
    }
}

Task<> serve_hop(Chain* chain, Connection connection) {
    WorkloadRun& run = *chain->run;
    const TaskCount count{run};
    unsigned hops = 0;
    {
        auto received = co_await run.watch(connection.read());
        if (!received) co_return;
        hops = std::to_integer<unsigned>(*(*received.begin()).data());
        received.consume(1);
    }
    if (hops == 0) {
        auto [reads, writes] = std::move(connection).split();
        auto echo = relay(chain, std::move(reads), std::move(writes));
        co_await run.watch(std::move(echo));
        co_return;
    }
    ferrule::ConnectOptions options;
    // Longer than any fault holds it back.
    options.timeout = 10min;
    auto connecting = ferrule::connect(connection.reactor(), chain->server->address(), options);
    auto next = co_await run.watch(std::move(connecting));
    if (!next) {
        chain->failures += next.error().message + "; ";
        co_return;
    }
    ++run.connections_opened;
    const std::array<std::byte, 1> left{static_cast<std::byte>(hops - 1)};
    next->write(left);
    auto [client_reads, client_writes] = std::move(connection).split();
    auto [next_reads, next_writes] = std::move(*next).split();
    auto there = relay(chain, std::move(client_reads), std::move(next_writes));
    auto back = relay(chain, std::move(next_reads), std::move(client_writes));
    co_await run.watch(ferrule::when_all(std::move(there), std::move(back)));
}

void go_through(Chain& chain, const EchoPeer& plan, unsigned hops) {
    WorkloadRun& run = *chain.run;
    ServerProgram& server = *chain.server;
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    const Pattern pattern{plan.key};
    const std::array<std::byte, 1> first{static_cast<std::byte>(hops)};
    std::uint64_t received = 0;
    if (peer->send(first)) {
        peer->both(
            [&] {
                if (peer->send(pattern, 0, plan.bytes, plan.piece_max)) peer->shutdown_sending();
            },
            [&] { received = peer->receive(pattern, 0, plan.bytes, plan.piece_max); });
    }
    if (received == plan.bytes) run.expect(peer->receive_to_end() == 0, "a proxy sends more than it got");
    if (received != plan.bytes || peer->broken()) {
        run.incomplete(plan.name + ": " + std::to_string(received) + " of " + std::to_string(plan.bytes) +
                       " bytes came through; " + chain.failures);
    }
    ++run.messages_checked;
}

void run_tcp_proxy(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    options.reactors = run.choose({1u, 2u});
    if (run.random().one_in(2)) {
        options.network.receive_buffer_count = run.choose({1u, 2u});
        options.network.receive_lease_limit = run.choose({1u, 2u, 32u});
    }
    options.network.write_overflow = run.choose({ferrule::WriteOverflow::grow, ferrule::WriteOverflow::segmented});
    Chain chain{&run};
    chain.by_slices = run.random().one_in(2);
    ServerProgram server{run, options};
    chain.server = &server;
    server.on_connection([&chain](Connection connection) { return serve_hop(&chain, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, 8);
    for (std::uint32_t index = 0; index < peers; ++index) {
        EchoPeer plan;
        plan.name = "peer " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.key = run.random().next();
        plan.bytes = run.random().between(1, run.choose<std::uint64_t>({100, 5000, 40'000}));
        plan.piece_max = std::max<std::size_t>(run.choose<std::size_t>({1, 100, 5000}), plan.bytes / 128);
        const auto hops = static_cast<unsigned>(run.random().between(1, 2));
        server.client(plan.name, plan.machine, [&chain, plan, hops] { go_through(chain, plan, hops); });
    }
    server.start();
    run.finish();
}

}  // namespace

const Workload tcp_proxy_workload{"tcp-proxy", "proxies that send received buffers on, one through the other",
                                  run_tcp_proxy};

}  // namespace ferrule_test
