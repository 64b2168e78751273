#include <ferrule/server.hpp>
#include <ferrule/sim/simulation.hpp>
#include <ferrule/sim/socket.hpp>

#include "sim/without_thread_sanitizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace ferrule::sim {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using SimulationTest = ferrule_test::WithoutThreadSanitizer;

constexpr std::uint16_t port = 8080;

Task<> echo(Connection connection) {
    while (auto received = co_await connection.read()) {
        for (auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

struct Outcome {
    std::vector<std::string> findings;
    std::uint64_t fingerprint = 0;
    std::uint64_t operations = 0;
    std::uint64_t steps = 0;
    std::uint64_t virtual_ns = 0;
    std::uint64_t echoed_bytes = 0;
    std::uint64_t broken = 0;  ///< clients whose connection was not served to its end
    int status = -1;
    std::uint64_t connections = 0;
    std::string trace;
    friend bool operator==(const Outcome&, const Outcome&) = default;
};

struct Load {
    std::uint64_t seed = 1;
    unsigned clients = 8;
    unsigned messages = 20;
    std::size_t message_bytes = 500;
    Faults faults{};
    Profile profile = Profile::linux_6_18;
};

/// A client that sends a message and waits for its echo, again and again.
bool converse(Machine& machine, const SocketAddress& server, unsigned client, const Load& load, Outcome& outcome) {
    auto socket = Socket::connect(machine, server);
    if (!socket) return false;
    for (unsigned number = 0; number < load.messages; ++number) {
        std::string message(1 + (client * 7919 + number * 104'729) % load.message_bytes, '\0');
        for (std::size_t index = 0; index < message.size(); ++index) {
            message[index] = static_cast<char>(index * 31 + number + client);
        }
        if (!socket->send(message)) return false;
        const auto answer = socket->receive_exactly(message.size());
        if (!answer) return false;
        if (*answer != message) throw std::runtime_error("another echo than what was sent");
        outcome.echoed_bytes += message.size();
    }
    socket->shutdown_sending();
    const auto rest = socket->receive_to_end();
    return rest && rest->empty();
}

/// An echo server with two reactors and its clients on another machine; SIGTERM when the clients are done.
Outcome run_echo(const Load& load, std::size_t trace_entries = 0) {
    Outcome outcome;
    Simulation simulation{{.seed = load.seed, .faults = load.faults, .trace_entries = trace_entries}};
    Machine& host = simulation.machine("server", {.profile = load.profile});
    Machine& peers = simulation.machine("clients");
    bool listening = false;
    unsigned left = load.clients;
    simulation.process(host, "echo", [&] {
        Server server{{.port = port, .reactors = 2}, host.kernel()};
        server.on_connection(echo);
        server.on_listening([&] { listening = true; });
        outcome.status = server.run();
        outcome.connections = server.counters().closed;
    });
    for (unsigned client = 0; client < load.clients; ++client) {
        simulation.process(peers, "client " + std::to_string(client), [&, client] {
            while (!listening) simulation.sleep(1ms);
            if (!converse(peers, host.ipv4(port), client, load, outcome)) ++outcome.broken;
            if (--left == 0) host.signal(SIGTERM);
        });
    }
    simulation.run();
    outcome.findings = simulation.findings();
    outcome.fingerprint = simulation.fingerprint();
    outcome.operations = simulation.operations();
    outcome.steps = simulation.steps();
    outcome.virtual_ns = simulation.now_ns() - Simulation::start_ns;
    outcome.trace = simulation.trace();
    return outcome;
}

TEST_F(SimulationTest, AnEchoServerServesItsClientsAndDrains) {
    const Outcome outcome = run_echo({});
    EXPECT_THAT(outcome.findings, ElementsAre());
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.broken, 0u);
    EXPECT_EQ(outcome.connections, 8u);
    EXPECT_GT(outcome.echoed_bytes, 8u * 20u);
    // A send each at least; a multishot receive is one for all of a connection.
    EXPECT_GT(outcome.operations, 8u * 20u);
}

TEST_F(SimulationTest, EveryKernelVersionServesThem) {
    for (const Profile profile : {Profile::linux_6_1, Profile::linux_6_6, Profile::linux_6_12, Profile::linux_6_18}) {
        const Outcome outcome = run_echo({.profile = profile});
        EXPECT_THAT(outcome.findings, ElementsAre());
        EXPECT_EQ(outcome.broken, 0u);
    }
}

TEST_F(SimulationTest, TheSameSeedIsTheSameRunAndAnotherSeedAnother) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const Load load{.seed = seed, .faults = Faults::usual()};
        const Outcome once = run_echo(load);
        EXPECT_EQ(once, run_echo(load));
        EXPECT_NE(once.fingerprint, run_echo({.seed = seed + 100, .faults = Faults::usual()}).fingerprint);
        // Keeping the trace changes nothing.
        EXPECT_EQ(once.fingerprint, run_echo(load, 10'000).fingerprint);
    }
}

TEST_F(SimulationTest, FaultsThatAWellMadeServerSurvivesLeaveNothingBehind) {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        const Outcome outcome = run_echo({.seed = seed, .faults = Faults::usual()});
        EXPECT_THAT(outcome.findings, ElementsAre()) << "seed " << seed;
        EXPECT_EQ(outcome.status, 0) << "seed " << seed;
    }
}

TEST_F(SimulationTest, AProgramThatThrowsIsAFinding) {
    Simulation simulation;
    Machine& machine = simulation.machine("machine");
    simulation.process(machine, "program", [] { throw std::runtime_error("no way"); });
    EXPECT_FALSE(simulation.run());
    EXPECT_THAT(simulation.findings(), ElementsAre(testing::AllOf(HasSubstr("machine/program"), HasSubstr("no way"))));
}

TEST_F(SimulationTest, AServerThatNobodyStopsIsADeadlockThatNamesItsThreads) {
    Simulation simulation;
    Machine& machine = simulation.machine("host");
    simulation.process(machine, "server", [&] {
        Server server{{.port = port, .reactors = 2}, machine.kernel()};
        server.on_connection(echo);
        server.run();
    });
    EXPECT_FALSE(simulation.run());
    EXPECT_THAT(simulation.findings(),
                ElementsAre(testing::AllOf(HasSubstr("deadlock"), HasSubstr("host/server waits for"),
                                           HasSubstr("host/server/reactor-0 waits for"),
                                           HasSubstr("host/server/reactor-1 waits for"))));
}

TEST_F(SimulationTest, ATimeOutOfAnHourTakesNoTime) {
    Simulation simulation;
    Machine& host = simulation.machine("server");
    Machine& peers = simulation.machine("client");
    simulation.process(host, "server", [&] {
        // Nobody watches for stalls here: a kernel without signals has no detector, and a dispatch takes no time.
        Server server{{.port = port, .reactors = 1, .stall_threshold = 100ms, .network = {.idle_timeout = 1h}},
                      host.kernel()};
        server.on_connection(echo);
        server.run();
    });
    simulation.process(peers, "client", [&] {
        simulation.sleep(1s);
        auto socket = Socket::connect(peers, host.ipv4(port));
        ASSERT_TRUE(socket);
        const std::uint64_t before = simulation.now_ns();
        EXPECT_TRUE(socket->receive_to_end());
        EXPECT_GE(simulation.now_ns() - before, 3'600'000'000'000u);
        host.signal(SIGTERM);
    });
    simulation.run();
    EXPECT_THAT(simulation.findings(), ElementsAre());
    EXPECT_LT(simulation.steps(), 10'000u);
}

Task<> offload_and_answer(Connection connection, Machine& machine) {
    while (auto received = co_await connection.read()) {
        auto blocking = [&machine] {
            machine.kernel().pause_ns(1'000'000);
            return std::string("done");
        };
        const auto result = co_await offload(blocking);
        connection.write(result ? *result : "busy");
        co_await connection.flush();
    }
}

TEST_F(SimulationTest, OffloadedCallsBlockTheirThreadOnly) {
    Simulation simulation;
    Machine& host = simulation.machine("server");
    Machine& peers = simulation.machine("clients");
    simulation.process(host, "server", [&] {
        Server server{{.port = port, .reactors = 1}, host.kernel()};
        server.on_connection([&](Connection connection) { return offload_and_answer(std::move(connection), host); });
        server.run();
    });
    unsigned left = 4;
    for (unsigned client = 0; client < 4; ++client) {
        simulation.process(peers, "client", [&] {
            simulation.sleep(1s);
            auto socket = Socket::connect(peers, host.ipv4(port));
            ASSERT_TRUE(socket);
            ASSERT_TRUE(socket->send("go"));
            EXPECT_EQ(socket->receive_exactly(4).value_or("nothing"), "done");
            socket->close();
            if (--left == 0) host.signal(SIGTERM);
        });
    }
    simulation.run();
    EXPECT_THAT(simulation.findings(), ElementsAre());
}

}  // namespace
}  // namespace ferrule::sim
