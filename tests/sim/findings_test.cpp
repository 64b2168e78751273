#include <ferrule/reactor/deadline.hpp>
#include <ferrule/server.hpp>
#include <ferrule/sim/simulation.hpp>
#include <ferrule/sim/socket.hpp>

#include "sim/without_thread_sanitizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <string>

// What the workloads have found in the engine, each by the smallest program that shows it.

namespace ferrule::sim {
namespace {

using namespace std::chrono_literals;
using FindingsTest = ferrule_test::WithoutThreadSanitizer;

constexpr std::uint16_t port = 8080;

/// A server and its clients, until the last client has ended.
struct Scenario {
    ServerOptions options{.port = port};
    ConnectionHandler handler{};
    std::function<void(Simulation&, Socket&)> client{};
    unsigned clients = 1;
    Faults faults{};

    /// How often the fault could have happened.
    std::uint64_t run(Fault counted = Fault::operation_fails) {
        Simulation simulation{{.faults = faults}};
        unsigned left = clients;
        Machine& host = simulation.machine("server");
        Machine& peer = simulation.machine("client");
        bool listens = false;
        simulation.process(host, "server", [&] {
            Server server{options, host.kernel()};
            server.on_connection(handler);
            server.on_listening([&] { listens = true; });
            server.run();
        });
        for (unsigned number = 0; number < clients; ++number) {
            simulation.process(peer, "client", [&] {
                while (!listens) simulation.sleep(1ms);
                auto socket = Socket::connect(peer, host.ipv4(port));
                if (socket) client(simulation, *socket);
                if (--left == 0) host.signal(SIGTERM);
            });
        }
        const testing::ScopedTrace faulty(
            __FILE__, __LINE__,
            faults.placed.empty() ? "no fault" : "fault at occasion " + std::to_string(faults.placed.front().occasion));
        EXPECT_TRUE(simulation.run()) << testing::PrintToString(simulation.findings());
        return simulation.fired()[counted].occasions;
    }
};

Task<> take_lines(Connection connection) {
    while (auto received = co_await connection.read()) {
        const std::size_t end = received.contiguous().text().rfind('\n');
        received.consume(end == std::string_view::npos ? 0 : end + 1);
    }
}

TEST_F(FindingsTest, AnIdleTimeoutHoldsAfterAMessageWithALongerOne) {
    Scenario scenario;
    scenario.handler = take_lines;
    scenario.options.network.idle_timeout = 100ms;
    scenario.options.network.read_timeout = 1h;
    scenario.client = [](Simulation& simulation, Socket& socket) {
        ASSERT_TRUE(socket.send("half of"));
        // The connection's timer comes, and is set anew for the message.
        simulation.sleep(200ms);
        ASSERT_TRUE(socket.send(" a line\n"));
        const std::uint64_t began = simulation.now_ns();
        EXPECT_EQ(socket.receive_to_end().value(), "");
        EXPECT_LT(simulation.now_ns() - began, 1'000'000'000u);
    };
    scenario.run();
}

// More than a socket takes at once.
constexpr std::size_t answer_bytes = 600'000;

Task<> answer_at_length(Connection connection) {
    auto received = co_await connection.read();
    if (!received) co_return;
    // All in the same turn.
    static_cast<void>(co_await sleep_until(Simulation::start_ns + 1'000'000'000));
    connection.write(std::string(answer_bytes, 'a'));
}

// A handler that fills the submission queue submits what was pending. What a send of these has to say comes too late
// for that turn, and its silence is not yet its success.
TEST_F(FindingsTest, ASendThatAHandlerSubmittedIsNotTakenForSent) {
    Scenario scenario;
    scenario.handler = answer_at_length;
    scenario.options.reactors = 1;
    scenario.options.reactor.submission_entries = 4;
    scenario.clients = 8;
    scenario.client = [](Simulation&, Socket& socket) {
        ASSERT_TRUE(socket.send("?"));
        const auto answer = socket.receive_to_end();
        ASSERT_TRUE(answer) << answer.error().message();
        EXPECT_EQ(answer->size(), answer_bytes);
    };
    std::uint64_t occasions = 1;
    for (std::uint64_t occasion = 0; occasion < occasions; ++occasion) {
        scenario.faults.placed = {{Fault::enter_busy, occasion}};
        occasions = scenario.run(Fault::enter_busy);
        if (HasFailure()) break;
    }
}

Task<> answer_each_byte(Simulation* simulation, Connection connection) {
    Random random{simulation->random().next()};
    while (auto received = co_await connection.read()) {
        const std::string answer(received.size(), 'a');
        received.reset();
        // Computes, now and then for long: meanwhile the requests of others arrive.
        if (random.one_in(3)) simulation->sleep(std::chrono::nanoseconds(random.below(10'000'000)));
        connection.write(answer);
        co_await connection.flush();
    }
}

// One that was idle, was asked, and has armed a receive that the kernel has not seen yet is not idle by its first entry
// in the list.
TEST_F(FindingsTest, ADrainAnswersWhatHasArrivedForAConnectionThatWasIdleBefore) {
    constexpr std::uint64_t seeds = 100;
    constexpr unsigned clients = 40;
    constexpr std::uint64_t latency_ns = 50'000;
    constexpr std::uint64_t margin_ns = 100'000;
    for (std::uint64_t seed = 0; seed < seeds && !HasFailure(); ++seed) {
        const testing::ScopedTrace trace(__FILE__, __LINE__, "seed " + std::to_string(seed));
        SimulationOptions options{.seed = seed};
        options.network.latency_min_ns = options.network.latency_max_ns = latency_ns;
        Simulation simulation{options};
        Machine& host = simulation.machine("server");
        Machine& peer = simulation.machine("client");
        bool listens = false;
        simulation.process(host, "server", [&] {
            ServerOptions served{.port = port, .reactors = 1, .drain_timeout = 10min};
            // The news of a turn does not fit in one.
            served.reactor.submission_entries = 8;
            Server server{served, host.kernel()};
            server.on_connection(
                [&simulation](Connection connection) { return answer_each_byte(&simulation, std::move(connection)); });
            server.on_listening([&] { listens = true; });
            server.run();
        });
        for (unsigned number = 0; number < clients; ++number) {
            simulation.process(peer, "client", [&] {
                while (!listens) simulation.sleep(1ms);
                auto socket = Socket::connect(peer, host.ipv4(port));
                if (!socket) return;
                Random random{simulation.random().next()};
                for (;;) {
                    const std::uint64_t sent_ns = simulation.now_ns();
                    if (!socket->send("?")) return;
                    if (!socket->receive_exactly(1)) {
                        EXPECT_LE(simulation.now_ns() - sent_ns, 2 * latency_ns + margin_ns);
                        return;
                    }
                    if (random.one_in(2)) simulation.sleep(std::chrono::nanoseconds(random.below(5'000'000)));
                }
            });
        }
        simulation.process(host, "stop", [&] {
            simulation.sleep(30ms);
            host.signal(SIGTERM);
        });
        EXPECT_TRUE(simulation.run()) << testing::PrintToString(simulation.findings());
    }
}

}  // namespace
}  // namespace ferrule::sim
