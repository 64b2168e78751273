#include <ferrule/server.hpp>
#include <ferrule/sim/simulation.hpp>
#include <ferrule/sim/socket.hpp>

#include <csignal>
#include <cstdio>

using namespace ferrule;

Task<> echo(Connection connection) {
    while (auto received = co_await connection.read()) {
        for (auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

// A server on the simulated kernel, and a client: what a user's own test of a handler is built on.
int main() {
    sim::Simulation simulation{{.seed = 1}};
    sim::Machine& host = simulation.machine("server");
    simulation.process(host, "server", [&] {
        Server server{{.port = 8080, .reactors = 1}, host.kernel()};
        server.on_connection(echo);
        server.run();
    });
    sim::Machine& home = simulation.machine("client");
    simulation.process(home, "client", [&] {
        auto socket = sim::Socket::connect(home, host.ipv4(8080));
        while (!socket) socket = sim::Socket::connect(home, host.ipv4(8080));  // the server is still starting
        if (!socket->send("hello") || socket->receive_exactly(5) != "hello") simulation.finding("no echo");
        host.signal(SIGTERM);
    });
    if (simulation.run()) return 0;
    std::fprintf(stderr, "%s\n", simulation.findings().front().c_str());
    return 1;
}
