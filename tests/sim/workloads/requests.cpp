#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {

using ferrule::Connection;
using ferrule::Task;
using After = RequestHeader::After;

namespace {

void write_answer(Connection& connection, const RequestHeader& request) {
    RequestHeader answer = request;
    answer.size = request.answer_size;
    connection.write(answer.bytes());
    const Pattern pattern{request.key + 1};
    for (std::uint32_t done = 0; done < request.answer_size;) {
        const auto room = connection.span(1);
        if (room.empty()) return;
        const auto count = std::min<std::size_t>(room.size(), request.answer_size - done);
        pattern.fill(room.first(count), request.position + done);
        connection.advance(count);
        done += static_cast<std::uint32_t>(count);
    }
}

}  // namespace

std::size_t answer_requests(WorkloadRun& run, RequestsSeen& seen, Connection& connection,
                            std::span<const std::byte> bytes) {
    std::size_t done = 0;
    while (seen.after == After::go_on && bytes.size() - done >= sizeof(RequestHeader)) {
        RequestHeader request;
        std::memcpy(&request, bytes.data() + done, sizeof request);
        if (request.sequence != seen.next) {
            run.find("a request is number " + std::to_string(request.sequence) + " and should be " +
                     std::to_string(seen.next));
            seen.after = After::abort;
            break;
        }
        if (bytes.size() - done - sizeof request < request.size) break;
        const auto body = bytes.subspan(done + sizeof request, request.size);
        if (const auto differs = Pattern{request.key}.mismatch(body, request.position))
            run.find("a request differs from what was sent at byte " + std::to_string(*differs));
        done += sizeof request + request.size;
        seen.key = request.key;
        ++seen.next;
        seen.after = request.after;
        write_answer(connection, request);
    }
    return done;
}

Task<> serve_requests(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    RequestsSeen seen;
    while (auto received = co_await run->watch(connection.read())) {
        const std::size_t done = answer_requests(*run, seen, connection, received.contiguous());
        if (seen.after != After::go_on) break;
        received.consume(done);
        received.reset();
        co_await run->watch(connection.flush());
    }
    if (seen.after == After::abort) connection.abort();
}

bool send_request(Peer& peer, const RequestHeader& header) {
    return peer.send(header.bytes()) && peer.send(Pattern{header.key}, header.position, header.size, header.size);
}

bool receive_answer(WorkloadRun& run, Peer& peer, const RequestHeader& header) {
    RequestHeader answer;
    if (!peer.receive_exactly(std::as_writable_bytes(std::span<RequestHeader, 1>(&answer, 1)))) return false;
    if (answer.key != header.key || answer.sequence != header.sequence || answer.size != header.answer_size) {
        run.find("the answer to request " + std::to_string(header.sequence) + " is to request " +
                 std::to_string(answer.sequence));
        return false;
    }
    if (peer.receive(Pattern{header.key + 1}, header.position, header.answer_size, header.answer_size) !=
        header.answer_size)
        return false;
    ++run.messages_checked;
    return true;
}

namespace {

// ---- pipelined ----

struct PipelinePlan {
    std::string name;
    std::size_t machine = 0;
    std::vector<RequestHeader> requests;
    bool at_once = true;
};

void pipeline(WorkloadRun& run, ServerProgram& server, const PipelinePlan& plan) {
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    std::size_t answered = 0;
    const auto receive_all = [&] {
        while (answered < plan.requests.size() && receive_answer(run, *peer, plan.requests[answered])) ++answered;
    };
    if (plan.at_once) {
        peer->both(
            [&] {
                for (const RequestHeader& request : plan.requests) {
                    if (!send_request(*peer, request)) return;
                }
                peer->shutdown_sending();
            },
            receive_all);
    } else {
        for (const RequestHeader& request : plan.requests) {
            if (!send_request(*peer, request) || !receive_answer(run, *peer, request)) break;
            ++answered;
        }
        peer->shutdown_sending();
    }
    if (answered == plan.requests.size())
        run.expect(peer->receive_to_end() == 0, "there is something behind the last answer");
    if (answered != plan.requests.size() || peer->broken()) {
        run.incomplete(plan.name + ": " + std::to_string(answered) + " of " + std::to_string(plan.requests.size()) +
                       " requests were answered");
    }
}

void run_pipelined(WorkloadRun& run) {
    ServerProgram server{run, run.server_options()};
    server.on_connection([&run](Connection connection) { return serve_requests(&run, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, 30);
    for (std::uint32_t index = 0; index < peers; ++index) {
        PipelinePlan plan;
        plan.name = "pipelining peer " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.at_once = !run.random().one_in(3);
        const std::uint32_t requests = run.messages(1, 40);
        const auto size_max = run.choose<std::uint64_t>({0, 10, 200, 5000});
        const auto answer_max = run.choose<std::uint64_t>({0, 10, 1000, 20000});
        const std::uint64_t key = run.random().next();
        RequestHeader header{.key = key};
        for (std::uint32_t number = 0; number < requests; ++number) {
            header.sequence = number;
            header.position += header.size + header.answer_size;
            header.size = static_cast<std::uint32_t>(run.random().between(0, size_max));
            header.answer_size = static_cast<std::uint32_t>(run.random().between(0, answer_max));
            plan.requests.push_back(header);
        }
        server.client(plan.name, plan.machine,
                      [&run, &server, plan = std::move(plan)] { pipeline(run, server, plan); });
    }
    server.start();
    run.finish();
}

// ---- half-close ----

struct HalfClosePlan {
    std::string name;
    std::size_t machine = 0;
    RequestHeader whole;
};

// Reads the whole stream, then answers: the peer has shut down its sending side by then.
Task<> answer_at_the_end(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    RequestHeader request;
    std::size_t header_bytes = 0;
    std::uint64_t body_bytes = 0;
    while (auto received = co_await run->watch(connection.read())) {
        for (const auto slice : received) {
            const std::size_t part = std::min(slice.size(), sizeof request - header_bytes);
            std::memcpy(reinterpret_cast<std::byte*>(&request) + header_bytes, slice.data(), part);
            header_bytes += part;
            const auto body = slice.subspan(part);
            if (Pattern{request.key}.mismatch(body, request.position + body_bytes))
                run->find("a stream that was shut down differs from what was sent");
            body_bytes += body.size();
        }
    }
    if (header_bytes != sizeof request || body_bytes != request.size) co_return;
    write_answer(connection, request);
    co_await run->watch(connection.flush());
}

// Answers with what the header asks for and shuts its own side down, then takes what comes until the peer does.
Task<> answer_first(WorkloadRun* run, Connection connection) {
    const TaskCount count{*run};
    RequestHeader request;
    std::size_t header_bytes = 0;
    std::uint64_t body_bytes = 0;
    while (auto received = co_await run->watch(connection.read())) {
        for (const auto slice : received) {
            const std::size_t part = std::min(slice.size(), sizeof request - header_bytes);
            std::memcpy(reinterpret_cast<std::byte*>(&request) + header_bytes, slice.data(), part);
            const bool complete = part != 0 && header_bytes + part == sizeof request;
            header_bytes += part;
            const auto body = slice.subspan(part);
            if (Pattern{request.key}.mismatch(body, request.position + body_bytes))
                run->find("what came after the server's own shutdown differs from what was sent");
            body_bytes += body.size();
            if (!complete) continue;
            write_answer(connection, request);
            connection.shutdown_write();
        }
    }
    // A byte that a peer has sent and the server has not seen is lost, unless the connection broke.
    const auto reason = connection.end_reason();
    if (reason == ferrule::EndReason::end_of_stream && header_bytes == sizeof request && body_bytes != request.size)
        run->find("the stream ended with " + std::to_string(body_bytes) + " bytes of " + std::to_string(request.size));
}

void half_close(WorkloadRun& run, ServerProgram& server, const HalfClosePlan& plan, bool server_first) {
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    bool answered = false;
    if (server_first) {
        // The answer, to its end, before a byte of the body is sent.
        if (peer->send(plan.whole.bytes())) answered = receive_answer(run, *peer, plan.whole);
        if (answered) run.expect(peer->receive_to_end() == 0, "there is something behind the answer");
        if (answered && !peer->broken() &&
            peer->send(Pattern{plan.whole.key}, plan.whole.position, plan.whole.size, plan.whole.size))
            peer->shutdown_sending();
    } else {
        if (send_request(*peer, plan.whole)) {
            peer->shutdown_sending();
            answered = receive_answer(run, *peer, plan.whole);
        }
        if (answered) run.expect(peer->receive_to_end() == 0, "there is something behind the answer");
    }
    if (!answered || peer->broken()) run.incomplete(plan.name + ": no whole answer across a half-closed connection");
}

void run_half_close(WorkloadRun& run) {
    const bool server_first = run.random().one_in(2);
    ServerProgram server{run, run.server_options()};
    server.on_connection([&run, server_first](Connection connection) {
        return server_first ? answer_first(&run, std::move(connection))
                            : answer_at_the_end(&run, std::move(connection));
    });
    const std::uint32_t peers = run.connections(1, 40);
    for (std::uint32_t index = 0; index < peers; ++index) {
        HalfClosePlan plan;
        plan.name = "half-closing peer " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.whole.key = run.random().next();
        plan.whole.size = static_cast<std::uint32_t>(run.random().below(run.choose<std::uint64_t>({1, 100, 60'000})));
        plan.whole.answer_size =
            static_cast<std::uint32_t>(run.random().below(run.choose<std::uint64_t>({1, 100, 60'000})));
        server.client(plan.name, plan.machine,
                      [&run, &server, plan, server_first] { half_close(run, server, plan, server_first); });
    }
    server.start();
    run.finish();
}

// ---- storm ----

enum class Visit : std::uint8_t {
    close_at_once,
    reset_at_once,
    client_closes,
    server_closes,
    server_closes_early,
    close_unread,
    server_aborts,
    count_of_visits
};

constexpr auto visit_kinds = static_cast<std::uint64_t>(Visit::count_of_visits);

constexpr auto forgotten_after = std::chrono::seconds(60);

struct StormPlan {
    std::string name;
    std::size_t machine = 0;
    std::vector<Visit> visits;
    std::vector<RequestHeader> requests;
    /// The server waits for its peer's FIN, whatever that still sends.
    bool lingers = false;
};

// Sends more behind a request whose answer is the last: that is dropped, and the answer comes whole, without a reset.
bool answered_while_sending(WorkloadRun& run, Peer& peer, const RequestHeader& request) {
    bool whole = false;
    peer.both(
        [&] {
            if (!send_request(peer, request) || !send_request(peer, request)) return;
            run.pause(std::chrono::nanoseconds(request.key % 2'000'000));
            if (send_request(peer, request)) peer.shutdown_sending();
        },
        [&] { whole = receive_answer(run, peer, request) && peer.receive_to_end() == 0; });
    return whole && !peer.broken();
}

void storm(WorkloadRun& run, ServerProgram& server, const StormPlan& plan) {
    for (std::size_t number = 0; number < plan.visits.size(); ++number) {
        auto peer = Peer::connect(run, plan.machine, server.address());
        if (!peer) {
            run.incomplete(plan.name + ": could not connect");
            continue;
        }
        RequestHeader request = plan.requests[number];
        const std::uint64_t began = run.simulation().now_ns();
        bool whole = true;
        switch (plan.visits[number]) {
            case Visit::close_at_once:
                break;
            case Visit::reset_at_once:
                peer->reset();
                continue;
            case Visit::client_closes:
                whole = send_request(*peer, request) && receive_answer(run, *peer, request);
                break;
            case Visit::server_closes:
                request.after = After::close;
                whole = send_request(*peer, request) && receive_answer(run, *peer, request) &&
                        peer->receive_to_end() == 0 && !peer->broken();
                break;
            case Visit::server_closes_early:
                request.after = After::close;
                whole = answered_while_sending(run, *peer, request) || !plan.lingers;
                break;
            case Visit::close_unread:
                send_request(*peer, request);
                break;
            case Visit::server_aborts:
                request.after = After::abort;
                if (send_request(*peer, request)) peer->receive_to_end();
                break;
            case Visit::count_of_visits:
                break;
        }
        // A listener whose queue is full forgets who has shaken hands with it after a minute.
        const auto took = std::chrono::nanoseconds(run.simulation().now_ns() - began);
        if (!whole && took < forgotten_after)
            run.incomplete(plan.name + ": visit " + std::to_string(number) + " got no whole answer");
        peer->close();
    }
}

void run_storm(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    options.backlog = run.choose({1, 2, 8, 128});
    options.defer_accept = run.random().one_in(4);
    if (run.random().one_in(2)) {
        options.network.connection_limit = run.choose({1u, 2u, 5u});
        options.network.waiting_limit = run.choose({0u, 1u, 16u, 1024u});
    }
    // A peer that asks once and then only reads is served whole by either.
    options.network.linger = run.choose({ferrule::Linger::adaptive, ferrule::Linger::always});
    ServerProgram server{run, options};
    server.on_connection([&run](Connection connection) { return serve_requests(&run, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, 40);
    for (std::uint32_t index = 0; index < peers; ++index) {
        StormPlan plan;
        plan.name = "visitor " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.lingers = options.network.linger == ferrule::Linger::always;
        const std::uint32_t visits = run.messages(1, 16);
        for (std::uint32_t number = 0; number < visits; ++number) {
            plan.visits.push_back(static_cast<Visit>(run.random().below(visit_kinds)));
            plan.requests.push_back(
                {.key = run.random().next(),
                 .size = static_cast<std::uint32_t>(run.random().below(run.choose<std::uint64_t>({1, 50, 2000}))),
                 .answer_size =
                     static_cast<std::uint32_t>(run.random().below(run.choose<std::uint64_t>({1, 50, 8000})))});
        }
        server.client(plan.name, plan.machine, [&run, &server, plan = std::move(plan)] { storm(run, server, plan); });
    }
    server.start();
    run.finish();
}

}  // namespace

const Workload pipelined_workload{"pipelined", "requests sent without waiting, answers in order, half messages carried",
                                  run_pipelined};
const Workload half_close_workload{"half-close", "either side shuts down its sending and goes on reading",
                                   run_half_close};
const Workload storm_workload{"storm", "connections that come and go, tiny backlogs and limits, every way to end",
                              run_storm};

}  // namespace ferrule_test
