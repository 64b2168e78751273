#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"
#include "sim/workloads/server_program.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Task;
using ferrule::sim::Fault;
using namespace std::chrono_literals;

// These hold back what a peer has sent, or the news of it.
constexpr std::array delaying = {Fault::peer_stalls, Fault::packet_lost, Fault::small_segment, Fault::wake_delayed,
                                 Fault::completion_delayed};

// What system calls take, and the turns of a reactor.
constexpr std::uint64_t margin_ns = 100'000;

/// What a drain must not lose: requests that were answered before their connection ended.
struct Drained {
    WorkloadRun* run;
    std::chrono::milliseconds timeout{};
    std::chrono::milliseconds grace{};
    std::map<std::uint64_t, std::uint32_t> answered{};  // by key
    std::uint64_t stopped_ns = 0;
    /// Some answers take long to compute: meanwhile the requests of others gather.
    bool computes = false;
    /// Connections that ended because their memory was used up, and said so: the only other end that a request may find
    /// before it is read.
    std::uint32_t limited = 0;

    /// Whether the drain may not have cut off anything yet.
    [[nodiscard]] bool patient() const { return timeout >= 1min && run->breaks() == 0; }
    /// Whether its time may have come.
    [[nodiscard]] bool late() const {
        const std::uint64_t limit_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(timeout).count());
        return stopped_ns != 0 && run->simulation().now_ns() >= stopped_ns + limit_ns;
    }
    /// Whether idle connections are served on.
    [[nodiscard]] bool in_grace() const {
        const std::uint64_t grace_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(grace).count());
        return run->simulation().now_ns() < stopped_ns + grace_ns;
    }
    /// Whether what is sent arrives in time, and is told of as soon as it has.
    [[nodiscard]] bool punctual() const {
        std::uint64_t delays = 0;
        for (const Fault fault : delaying) delays += run->fired(fault);
        return patient() && delays == 0 && limited == 0;
    }
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
    ferrule::sim::Random random = drained->run->fork();
    while (auto received = co_await drained->run->watch(connection.read())) {
        const std::size_t done = answer_requests(*drained->run, seen, connection, received.contiguous());
        received.consume(done);
        received.reset();
        if (drained->computes && random.one_in(16))
            drained->run->pause(std::chrono::nanoseconds(random.below(10'000'000)));
        const auto flushed = co_await drained->run->watch(connection.flush());
        if (!flushed) break;
        if (seen.next != 0) drained->answered[seen.key] = seen.next;
    }
    if (connection.end_reason() == ferrule::EndReason::limit) ++drained->limited;
    if (connection.end_reason() == ferrule::EndReason::draining && drained->in_grace())
        drained->run->find("a connection was ended for being idle before the grace of its drain was over");
    const bool cancelled =
        connection.end_reason() == ferrule::EndReason::cancelled || connection.error() == std::errc::operation_canceled;
    if (cancelled && drained->patient() && !drained->late())
        drained->run->find("a connection was cancelled long before its drain had to end");
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
        if (!send_request(*peer, request)) break;
        const std::uint64_t sent_ns = run.simulation().now_ns();
        if (!receive_answer(run, *peer, request)) {
            const std::uint64_t waited_ns = run.simulation().now_ns() - sent_ns;
            if (peer->ended() && !peer->broken() && drained.punctual() &&
                waited_ns > 2 * run.latency_max_ns() + margin_ns)
                run.find(client.name +
                         ": a request had arrived when the server ended the connection without an answer");
            break;
        }
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
    drained.grace = options.network.drain_grace;
    drained.computes = run.random().one_in(2);
    if (run.random().one_in(2)) {
        options.network.receive_buffer_count = 1024;
        options.network.receive_buffer_size = 512;
        options.network.receive_lease_limit = 32;
    }
    ServerProgram server{run, options};
    server.on_connection(
        [&drained](Connection connection) { return serve_until_drained(&drained, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, run.random().one_in(4) ? 150 : 40);
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
