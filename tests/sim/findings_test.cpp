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

/// A server and one client, until the client has ended.
struct Scenario {
    ServerOptions options{.port = port};
    ConnectionHandler handler{};
    std::function<void(Simulation&, Socket&)> client{};
    Faults faults{};

    void run() {
        Simulation simulation{{.faults = faults}};
        Machine& host = simulation.machine("server");
        Machine& peer = simulation.machine("client");
        bool listens = false;
        simulation.process(host, "server", [&] {
            Server server{options, host.kernel()};
            server.on_connection(handler);
            server.on_listening([&] { listens = true; });
            server.run();
        });
        simulation.process(peer, "client", [&] {
            while (!listens) simulation.sleep(1ms);
            auto socket = Socket::connect(peer, host.ipv4(port));
            if (socket) client(simulation, *socket);
            host.signal(SIGTERM);
        });
        EXPECT_TRUE(simulation.run()) << testing::PrintToString(simulation.findings());
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

}  // namespace
}  // namespace ferrule::sim
