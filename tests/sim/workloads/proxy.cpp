#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/when_all.hpp>

#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
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

// It looks less and less often whether its other one is there.
constexpr std::chrono::nanoseconds first_pause = 100us;
constexpr std::chrono::nanoseconds pause_max = 1s;
constexpr unsigned looks_max = 1000;
constexpr std::string_view paired = "g";

/// What a peer says first: who it is to be connected with.
struct Hello {
    std::uint64_t pair = 0;
};

/// A peer that waits for its other one.
struct Waiting {
    Connection* connection = nullptr;
    bool taken = false;
};

struct Proxy {
    WorkloadRun* run;
    /// Slices that a direction keeps before it gives them back; none: it sends them on from where they are.
    std::size_t hold = 1;
    bool flushes = true;
    std::map<std::uint64_t, Waiting*> waiting{};
};

// Keeps leases of one connection until the other has taken their bytes, and a few for longer.
Task<> relay(Proxy* proxy, ReadHalf from, WriteHalf to) {
    const TaskCount count{*proxy->run};
    std::vector<Lease> held;
    std::vector<Lease> fresh;
    while (auto received = co_await proxy->run->watch(from.read())) {
        if (proxy->hold == 0) {
            to.write(std::move(received));
            if (proxy->flushes) co_await proxy->run->watch(to.flush());
            continue;
        }
        while (auto lease = received.take()) fresh.push_back(std::move(lease));
        for (const Lease& lease : fresh) to.write(lease.slice());
        co_await proxy->run->watch(to.flush());
        for (Lease& lease : fresh) held.push_back(std::move(lease));
        fresh.clear();
        if (held.size() >= proxy->hold) held.clear();
    }
}

Task<> relay_both(Proxy* proxy, Connection first, Connection second) {
    auto [first_reads, first_writes] = std::move(first).split();
    auto [second_reads, second_writes] = std::move(second).split();
    auto there = relay(proxy, std::move(first_reads), std::move(second_writes));
    auto back = relay(proxy, std::move(second_reads), std::move(first_writes));
    co_await proxy->run->watch(ferrule::when_all(std::move(there), std::move(back)));
}

Task<> wait_for_other(Proxy* proxy, std::uint64_t pair, Connection connection) {
    Waiting waiting{&connection};
    proxy->waiting[pair] = &waiting;
    auto pause = first_pause;
    for (unsigned look = 0; look < looks_max && !waiting.taken; ++look) {
        if (connection.draining()) break;
        static_cast<void>(co_await proxy->run->watch(ferrule::sleep_for(pause)));
        if (waiting.taken) co_return;
        pause = std::min(2 * pause, pause_max);
    }
    if (!waiting.taken) proxy->waiting.erase(pair);
}

Task<> serve_pair(Proxy* proxy, Connection connection) {
    const TaskCount count{*proxy->run};
    Hello hello;
    std::size_t there = 0;
    while (there < sizeof hello) {
        auto received = co_await proxy->run->watch(connection.read());
        if (!received) co_return;
        for (const auto slice : received) {
            const std::size_t part = std::min(slice.size(), sizeof hello - there);
            std::memcpy(reinterpret_cast<std::byte*>(&hello) + there, slice.data(), part);
            there += part;
        }
    }
    const auto other = proxy->waiting.find(hello.pair);
    if (other == proxy->waiting.end()) {
        co_await wait_for_other(proxy, hello.pair, std::move(connection));
        co_return;
    }
    other->second->taken = true;
    Connection first = std::move(*other->second->connection);
    proxy->waiting.erase(other);
    for (Connection* each : {&first, &connection}) {
        each->write(paired);
        co_await proxy->run->watch(each->flush());
    }
    co_await relay_both(proxy, std::move(first), std::move(connection));
}

// ---- the peers ----

struct PairPlan {
    std::uint64_t pair = 0;
    std::uint64_t bytes[2] = {};
    std::size_t piece_max = 1;
    bool reported = false;
};

void talk(WorkloadRun& run, ServerProgram& server, PairPlan& plan, std::size_t side, std::size_t machine) {
    const auto failed = [&](const std::string& what) {
        // One fault breaks both.
        if (!std::exchange(plan.reported, true))
            run.incomplete("side " + std::to_string(side) + " of pair " + std::to_string(plan.pair) + ": " + what);
    };
    auto peer = Peer::connect(run, machine, server.address());
    if (!peer) return failed("could not connect");
    const Hello hello{plan.pair};
    std::byte answer{};
    if (!peer->send(std::as_bytes(std::span<const Hello, 1>(&hello, 1))) || !peer->receive_exactly({&answer, 1}))
        return failed("was not paired");
    const Pattern mine{plan.pair * 2 + side};
    const Pattern others{plan.pair * 2 + (1 - side)};
    std::uint64_t received = 0;
    peer->both(
        [&] {
            if (peer->send(mine, 0, plan.bytes[side], plan.piece_max)) peer->shutdown_sending();
        },
        [&] { received = peer->receive(others, 0, plan.bytes[1 - side], 4096); });
    if (received == plan.bytes[1 - side]) run.expect(peer->receive_to_end() == 0, "a proxy sends more than it got");
    if (received != plan.bytes[1 - side] || peer->broken())
        return failed(std::to_string(received) + " of " + std::to_string(plan.bytes[1 - side]) + " bytes came through");
    ++run.messages_checked;
}

void run_proxy(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    // Both connections of a pair are of one reactor.
    options.reactors = 1;
    if (run.random().one_in(2)) options.network.receive_buffer_count = run.choose({1u, 2u});
    Proxy proxy{&run};
    proxy.hold = run.random().between(1, std::min<std::uint64_t>(options.network.receive_lease_limit, 8));
    if (run.random().one_in(2)) {
        proxy.hold = 0;
        proxy.flushes = run.random().one_in(2);
        options.network.receive_buffer_size = run.choose({600u, 2048u, 16384u});
        options.network.write_overflow = run.choose({ferrule::WriteOverflow::grow, ferrule::WriteOverflow::segmented});
    }
    ServerProgram server{run, options};
    server.on_connection([&proxy](Connection connection) { return serve_pair(&proxy, std::move(connection)); });
    std::vector<PairPlan> pairs(run.connections(1, 12));
    for (PairPlan& plan : pairs) {
        plan.pair = run.random().next() >> 1;
        for (std::uint64_t& bytes : plan.bytes) {
            bytes = run.random().below(run.choose<std::uint64_t>({1, 1000, 30'000}));
        }
        plan.piece_max = run.choose<std::size_t>({1, 50, 5000});
        plan.piece_max = std::max<std::size_t>(plan.piece_max, std::max(plan.bytes[0], plan.bytes[1]) / 256);
        for (std::size_t side = 0; side < 2; ++side) {
            const std::size_t machine = run.random().below(ServerProgram::client_machines);
            server.client("side " + std::to_string(side), machine,
                          [&run, &server, &plan, side, machine] { talk(run, server, plan, side, machine); });
        }
    }
    server.start();
    run.finish();
}

}  // namespace

const Workload proxy_workload{"proxy", "pairs of connections, and leases of one held while the other takes their bytes",
                              run_proxy};

}  // namespace ferrule_test
