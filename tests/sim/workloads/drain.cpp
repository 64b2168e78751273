#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"
#include "sim/workloads/server_program.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Task;
using namespace std::chrono_literals;

/// What a drain must not lose: requests that were answered before their connection ended.
struct Drained {
    WorkloadRun* run;
    std::chrono::milliseconds timeout{};
    std::map<std::uint64_t, std::uint32_t> answered{};  // by key
    std::uint64_t stopped_ns = 0;
};

struct DrainClient {
    std::string name;
    std::size_t machine = 0;
    std::uint64_t seed = 0;
    std::uint32_t requests = 0;
};

Task<> serve_until_drained(Drained* drained, Connection connection) {
    const TaskCount count{*drained->run};
    RequestsSeen seen;
    while (auto received = co_await drained->run->watch(connection.read())) {
        const std::size_t done = answer_requests(*drained->run, seen, connection, received.contiguous());
        received.consume(done);
        received.reset();
        const auto flushed = co_await drained->run->watch(connection.flush());
        if (!flushed) co_return;
        if (seen.next != 0) drained->answered[seen.key] = seen.next;
    }
}

void ask_until_the_end(Drained& drained, ServerProgram& server, const DrainClient& client) {
    WorkloadRun& run = *drained.run;
    ferrule::sim::Random random{client.seed};
    auto peer = Peer::connect(run, client.machine, server.address());
    if (!peer) {
        if (!server.stopped()) run.incomplete(client.name + ": could not connect");
        return;
    }
    RequestHeader request{.key = random.next()};
    std::uint32_t answers = 0;
    for (std::uint32_t number = 0; number < client.requests; ++number) {
        request.sequence = number;
        request.size = static_cast<std::uint32_t>(random.below(300));
        request.answer_size = static_cast<std::uint32_t>(random.below(random.one_in(4) ? 50'000 : 500));
        if (!send_request(*peer, request) || !receive_answer(run, *peer, request)) break;
        ++answers;
        if (random.one_in(2)) run.pause(std::chrono::nanoseconds(random.below(5'000'000)));
    }
    const bool all = answers == client.requests;
    if (!all && !server.stopped()) run.incomplete(client.name + ": the connection ended before the server did");
    peer->close();
    // At the timeout answers are cut off; and one that waits behind a stalled segment may be reset at the end.
    const bool gentle =
        drained.timeout >= 1min && run.breaks() == 0 && run.fired(ferrule::sim::Fault::peer_stalls) == 0;
    const auto promised = drained.answered.find(request.key);
    if (gentle && promised != drained.answered.end() && promised->second > answers) {
        run.find(client.name + ": the server answered " + std::to_string(promised->second) + " requests, and " +
                 std::to_string(answers) + " answers came");
    }
}

void run_drain(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    Drained drained{&run};
    drained.timeout = run.choose<std::chrono::milliseconds>({0ms, 10ms, 1s, 10min, 10min});
    options.drain_timeout = drained.timeout;
    ServerProgram server{run, options};
    server.on_connection(
        [&drained](Connection connection) { return serve_until_drained(&drained, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, 40);
    for (std::uint32_t index = 0; index < peers; ++index) {
        DrainClient client;
        client.name = "draining peer " + std::to_string(index);
        client.machine = index % ServerProgram::client_machines;
        client.seed = run.random().next();
        client.requests = run.messages(1, 60);
        server.client(client.name, client.machine,
                      [&drained, &server, client] { ask_until_the_end(drained, server, client); });
    }
    const auto when = std::chrono::nanoseconds(run.random().below(100'000'000));
    const bool twice = run.random().one_in(6);
    server.client("who stops it", 0, [&run, &server, &drained, when, twice] {
        run.pause(when);
        drained.stopped_ns = run.simulation().now_ns();
        server.stop();
        if (!twice) return;
        drained.timeout = 0ms;
        run.pause(1ms);
        if (!server.ended()) server.stop();
    });
    server.start();
    run.finish();
}

}  // namespace

const Workload drain_workload{"drain", "the server is stopped in the middle of its traffic, once or twice", run_drain};

}  // namespace ferrule_test
