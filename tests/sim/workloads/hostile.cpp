#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"
#include "sim/workloads/server_program.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using namespace std::chrono_literals;

// Longer than any fault holds a segment of a good peer back.
constexpr auto patience = 5min;
constexpr std::size_t dark_machine = ServerProgram::client_machines;

enum class Hostility : std::uint8_t {
    one_byte_and_stop,
    never_reads,
    resets_in_the_middle,
    trickles_for_ever,
    sends_and_leaves,
    goes_dark,
    count_of_hostilities,
};

struct HostilePlan {
    std::string name;
    Hostility hostility{};
    std::size_t machine = 0;
    std::uint64_t seed = 0;
    std::uint32_t requests = 0;
};

// The server answers a peer that does not read as long as there is room for the answers, and not for ever.
void never_read(WorkloadRun& run, Peer& peer, RequestHeader request, std::uint32_t requests) {
    request.answer_size = 100'000;
    std::uint64_t answers = 0;
    for (; request.sequence < requests; ++request.sequence) {
        if (!send_request(peer, request)) break;
        answers += sizeof request + request.answer_size;
    }
    run.pause(2 * patience);
    const std::uint64_t received = peer.receive_to_end();
    constexpr std::uint64_t more_than_any_buffer = 1'500'000;
    if (answers > more_than_any_buffer)
        run.expect(received < answers, "a peer that does not read was waited for, for ever");
}

// Less than a request, a byte at a time, for longer than a request may take.
void trickle(WorkloadRun& run, Peer& peer, const RequestHeader& request) {
    for (const std::byte byte : request.bytes().first(sizeof request - 1)) {
        if (!peer.send({&byte, 1})) break;
        run.pause(patience / 8);
    }
    peer.receive_to_end();
}

void harm(WorkloadRun& run, ServerProgram& server, const HostilePlan& plan) {
    // Nobody tells who was in the dark that the connection has ended meanwhile.
    auto peer = Peer::connect(run, plan.machine, server.address(), plan.machine == dark_machine ? 2h : 24h);
    if (!peer) return;
    ferrule::sim::Random random{plan.seed};
    const RequestHeader request{.key = random.next(), .size = 100, .answer_size = 20'000};
    switch (plan.hostility) {
        case Hostility::one_byte_and_stop:
            if (peer->send("x")) peer->receive_to_end();
            break;
        case Hostility::never_reads:
            never_read(run, *peer, request, plan.requests);
            break;
        case Hostility::resets_in_the_middle:
            if (send_request(*peer, request)) {
                std::byte some[100];
                peer->receive(some);
            }
            run.pause(std::chrono::nanoseconds(random.below(1'000'000)));
            peer->reset();
            break;
        case Hostility::trickles_for_ever:
            trickle(run, *peer, request);
            break;
        case Hostility::sends_and_leaves:
            send_request(*peer, request);
            break;
        case Hostility::goes_dark:
            send_request(*peer, request);
            peer->receive_to_end();
            break;
        case Hostility::count_of_hostilities:
            break;
    }
}

void behave(WorkloadRun& run, ServerProgram& server, const HostilePlan& plan) {
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    ferrule::sim::Random random{plan.seed};
    RequestHeader request{.key = random.next()};
    for (; request.sequence < plan.requests; ++request.sequence) {
        request.size = static_cast<std::uint32_t>(random.below(500));
        request.answer_size = static_cast<std::uint32_t>(random.below(5000));
        if (!send_request(*peer, request) || !receive_answer(run, *peer, request)) break;
        run.pause(std::chrono::nanoseconds(random.below(100'000'000)));
    }
    if (request.sequence != plan.requests) {
        run.incomplete(plan.name + ": " + std::to_string(request.sequence) + " of " + std::to_string(plan.requests) +
                       " requests were answered beside hostile peers");
    }
}

void run_hostile(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    options.network.idle_timeout = options.network.read_timeout = options.network.write_timeout = patience;
    options.network.linger_timeout = 10s;
    options.drain_timeout = 4 * patience;
    ServerProgram server{run, options};
    server.on_connection([&run](Connection connection) { return serve_requests(&run, std::move(connection)); });
    const std::uint32_t good = run.connections(1, 15);
    for (std::uint32_t index = 0; index < good; ++index) {
        HostilePlan plan;
        plan.name = "good peer " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.seed = run.random().next();
        plan.requests = run.messages(1, 30);
        server.client(plan.name, plan.machine, [&run, &server, plan] { behave(run, server, plan); });
    }
    const std::uint32_t bad = run.connections(1, 20);
    for (std::uint32_t index = 0; index < bad; ++index) {
        HostilePlan plan;
        plan.name = "hostile peer " + std::to_string(index);
        plan.hostility =
            static_cast<Hostility>(run.random().below(static_cast<std::uint64_t>(Hostility::count_of_hostilities)));
        plan.machine = plan.hostility == Hostility::goes_dark ? dark_machine : index % ServerProgram::client_machines;
        plan.seed = run.random().next();
        plan.requests = run.messages(1, 20);
        server.client(plan.name, plan.machine, [&run, &server, plan] { harm(run, server, plan); });
    }
    // Whoever is on this machine is gone in the middle of what it does, and comes back, or hardly ever.
    const auto goes = std::chrono::nanoseconds(run.random().below(2'000'000));
    const auto stays = run.choose<std::chrono::nanoseconds>({1s, patience, 1h});
    server.client("the dark", dark_machine, [&run, goes, stays] {
        run.pause(goes);
        run.client_machine(dark_machine).partition(true);
        run.pause(stays);
        run.client_machine(dark_machine).partition(false);
    });
    server.start();
    run.finish();
}

}  // namespace

const Workload hostile_workload{
    "hostile", "peers that stop, trickle, reset, never read or vanish, beside peers that must not notice", run_hostile};

}  // namespace ferrule_test
