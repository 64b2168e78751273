#include <ferrule/server/server.hpp>

#include "sim/workloads/audit.hpp"
#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Task;
using ferrule::sim::Fault;
using namespace std::chrono_literals;

// These hold back what a peer has sent, or the news of it.
constexpr std::array delaying = {Fault::peer_stalls, Fault::packet_lost, Fault::small_segment, Fault::wake_delayed,
                                 Fault::completion_delayed};
// A server may not start, or a take-over fail, when these have happened.
constexpr std::array hindering = {Fault::no_memory_at_setup, Fault::no_memory_at_register, Fault::operation_fails};

// What system calls take, and the turns of a reactor.
constexpr std::uint64_t margin_ns = 100'000;

/// A server of a chain, each of which takes over from the one before.
struct Generation {
    ferrule::ServerOptions options;
    std::chrono::nanoseconds after{};  ///< the one before has listened for so long
    bool fails = false;                ///< to start: the one before goes on
    ferrule::Server* server = nullptr;
    bool listening = false;
    bool ended = false;
};

struct Service {
    WorkloadRun* run;
    std::optional<ferrule::PortOptions> port{};
    std::vector<Generation> generations{};
    std::optional<ferrule::Address> bound{};
    std::uint32_t clients = 0;
    bool over = false;  ///< all clients have ended
    /// Connections that ended because their memory was used up, and said so.
    std::uint32_t limited = 0;

    [[nodiscard]] std::uint64_t hindrances() const {
        std::uint64_t sum = 0;
        for (const Fault fault : hindering) sum += run->fired(fault);
        return sum;
    }
    /// Whether nothing but a restart has ended a connection, and what is sent arrives in time and is told of at once.
    [[nodiscard]] bool punctual() const {
        std::uint64_t delays = 0;
        for (const Fault fault : delaying) delays += run->fired(fault);
        return delays == 0 && run->breaks() == 0 && limited == 0;
    }
};

Task<> converse(Service* service, Connection connection) {
    WorkloadRun& run = *service->run;
    const TaskCount count{run};
    RequestsSeen seen;
    while (auto received = co_await run.watch(connection.read())) {
        const std::size_t done = answer_requests(run, seen, connection, received.contiguous());
        received.consume(done);
        received.reset();
        const auto flushed = co_await run.watch(connection.flush());
        if (!flushed) break;
    }
    if (connection.end_reason() == ferrule::EndReason::limit) ++service->limited;
    if (connection.end_reason() == ferrule::EndReason::cancelled && !service->over && service->hindrances() == 0)
        run.find("a connection was cancelled long before its drain had to end");
}

void serve(Service& service, std::size_t number) {
    WorkloadRun& run = *service.run;
    Generation& self = service.generations[number];
    const std::string name = "server " + std::to_string(number);
    if (number != 0) {
        const Generation& before = service.generations[number - 1];
        if (!run.wait_until([&before] { return before.listening || before.ended; }, "the server before")) return;
        run.pause(self.after);
    }
    if (service.over) {
        self.ended = true;
        return;
    }
    {
        ferrule::Server server{self.options, run.server_machine().kernel()};
        self.server = &server;
        server.on_fault([&](ferrule::Reactor& reactor, std::exception_ptr) {
            if (self.fails || run.fired(Fault::operation_fails) != 0) return;
            run.find(name + ": reactor " + std::to_string(reactor.id()) + " has failed");
        });
        server.on_start([&](ferrule::Reactor& reactor) {
            Audit::attach(run, reactor, self.options.network);
            if (self.fails && reactor.id() + 1 == self.options.reactors) throw std::runtime_error("it cannot start");
        });
        auto handler = [&service](Connection connection) { return converse(&service, std::move(connection)); };
        if (service.port) {
            server.listen(*service.port, handler);
        } else {
            server.on_connection(handler);
        }
        server.on_listening([&] {
            const ferrule::Address address = server.addresses().front();
            if (service.bound && *service.bound != address && service.hindrances() == 0) {
                run.find(name + " listens on " + address.to_string() + ", and the one before on " +
                         service.bound->to_string());
            }
            service.bound = address;
            self.listening = true;
        });
        try {
            const int status = server.run();
            run.expect(!self.fails, name + " has run, and could not start");
            if (status != 0 && service.hindrances() == 0) run.find(name + " has returned " + std::to_string(status));
        } catch (const std::exception& error) {
            // One that is stopping hands over to nobody.
            if (!service.over && !self.fails && service.hindrances() == 0)
                run.find(name + " has thrown: " + error.what());
        }
        self.server = nullptr;
        run.expect(server.counters().connections == 0, "a server's counters say that connections are open after it");
    }
    // It ends because a later one serves, or is about to say so; or because it is asked to.
    const bool replaced =
        std::ranges::any_of(service.generations, [](const Generation& each) { return each.server != nullptr; });
    if (!service.over && service.hindrances() == 0 && !replaced)
        run.find(name + " has ended, and nobody serves in its place");
    self.ended = true;
}

/// When clients have ended, whoever serves is stopped.
void stop(Service& service) {
    service.over = true;
    service.run->program("stop", [&service] {
        const auto all_ended = [&service] {
            bool all = true;
            for (Generation& generation : service.generations) {
                all = all && generation.ended;
                if (generation.listening && generation.server != nullptr) generation.server->stop();
            }
            return all;
        };
        service.run->wait_until(all_ended, "the end of all servers");
    });
}

struct RestartClient {
    std::string name;
    std::size_t machine = 0;
    std::uint64_t seed = 0;
    std::uint32_t requests = 0;
};

// Whether the whole answer came, and whether anything of it did.
bool take_answer(Service& service, Peer& peer, const RequestHeader& request, bool& begun) {
    RequestHeader answer;
    const auto bytes = std::as_writable_bytes(std::span<RequestHeader, 1>(&answer, 1));
    begun = peer.receive_exactly(bytes.first(1));
    if (!begun || !peer.receive_exactly(bytes.subspan(1))) return false;
    if (answer.key != request.key || answer.sequence != request.sequence || answer.size != request.answer_size) {
        service.run->find("the answer to request " + std::to_string(request.sequence) + " is another's");
        return false;
    }
    const Pattern pattern{request.key + 1};
    if (peer.receive(pattern, request.position, answer.size, answer.size) != answer.size) return false;
    ++service.run->messages_checked;
    return true;
}

// Keeps a conversation, and goes on in a new one when a server has ended it between two answers.
void ask(Service& service, const RestartClient& client) {
    WorkloadRun& run = *service.run;
    ferrule::sim::Random random{client.seed};
    std::uint32_t answered = 0;
    std::uint32_t conversations = 0;
    const auto most = [&] { return service.generations.size() + run.breaks() + service.limited; };
    while (answered < client.requests && conversations < most()) {
        const ferrule::Address address = service.port ? *service.bound : run.server_address(service.bound->port());
        auto peer = Peer::connect(run, client.machine, address);
        if (!peer) break;
        ++conversations;
        RequestHeader request{.key = random.next()};
        for (; answered < client.requests; ++request.sequence) {
            request.size = static_cast<std::uint32_t>(random.below(300));
            request.answer_size = static_cast<std::uint32_t>(random.below(random.one_in(4) ? 50'000 : 500));
            const bool sent = send_request(*peer, request);
            const std::uint64_t sent_ns = run.simulation().now_ns();
            bool begun = false;
            if (!sent || !take_answer(service, *peer, request, begun)) {
                // A request and the end of its connection may pass each other on the way.
                const std::uint64_t waited_ns = run.simulation().now_ns() - sent_ns;
                if (sent && service.punctual()) {
                    run.expect(!begun, client.name + ": an answer was cut off");
                    run.expect(waited_ns <= 2 * run.latency_max_ns() + margin_ns,
                               client.name + ": a request had arrived when its server ended the connection");
                }
                break;
            }
            ++answered;
            if (random.one_in(2)) run.pause(std::chrono::nanoseconds(random.below(5'000'000)));
        }
    }
    if (answered != client.requests) {
        run.incomplete(client.name + ": " + std::to_string(answered) + " of " + std::to_string(client.requests) +
                       " requests were answered, in " + std::to_string(conversations) + " conversations");
    }
}

void run_restart(WorkloadRun& run) {
    Service service{&run};
    ferrule::ServerOptions options = run.server_options();
    options.restart_path = "/run/restart.socket";
    options.restart_timeout = 10min;
    options.handle_signals = false;
    if (run.random().one_in(4)) {
        run.on_one_machine();
        service.port.emplace();
        service.port->host = run.random().one_in(2) ? "unix:/run/server.socket" : "unix:@server";
        service.port->accept_mode = ferrule::AcceptMode::hand_over_round_robin;
    }
    const std::uint32_t generations = run.connections(2, 5);
    for (std::uint32_t number = 0; number < generations; ++number) {
        Generation generation;
        generation.options = options;
        generation.options.reactors = run.choose({1u, 1u, 2u, 3u, 4u});
        generation.options.reactor = run.reactor_options();
        if (run.random().one_in(2)) {
            generation.options.accept_mode =
                run.choose({ferrule::AcceptMode::per_reactor, ferrule::AcceptMode::hand_over_round_robin,
                            ferrule::AcceptMode::hand_over_least_loaded});
        }
        generation.after = std::chrono::nanoseconds(run.random().below(run.choose({1u, 1'000'000u, 50'000'000u})));
        generation.fails = number != 0 && run.random().one_in(6);
        service.generations.push_back(std::move(generation));
    }
    service.clients = run.connections(1, 30);
    for (std::uint32_t index = 0; index < service.clients; ++index) {
        RestartClient client;
        client.name = "conversing peer " + std::to_string(index);
        client.machine = index % 3;
        client.seed = run.random().next();
        client.requests = run.messages(1, 60);
        const auto later = std::chrono::nanoseconds(run.random().below(run.choose({1u, 100'000'000u})));
        run.client(client.name, client.machine, [&service, client, later] {
            const Generation& first = service.generations.front();
            const auto served = [&service, &first] { return service.bound || first.ended; };
            if (service.run->wait_until(served, "a server that listens") && service.bound) {
                service.run->pause(later);
                ask(service, client);
            }
            if (--service.clients == 0) stop(service);
        });
    }
    if (service.clients == 0) run.client("nobody", 0, [&service] { stop(service); });
    for (std::uint32_t number = 0; number < generations; ++number) {
        run.program("server " + std::to_string(number), [&service, number] { serve(service, number); });
    }
    run.finish();
    if (run.fired(Fault::operation_fails) == 0 && service.hindrances() == 0)
        run.expect(run.connects_refused == 0, "a connection was refused while servers took over from each other");
}

}  // namespace

const Workload restart_workload{"restart", "servers take over from each other in the middle of conversations",
                                run_restart};

}  // namespace ferrule_test
