// An echo server that can be watched: metrics, health, readiness and tasks on a port of their own.
#include <ferrule/admin/admin_port.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <array>
#include <cstdio>
#include <exception>
#include <string>

namespace {

// What this program counts beside what the library does.
struct EchoCounters {
    ferrule::Counter conversations;  // connections that are served now
    ferrule::Counter echoes;         // pieces that were sent back
    ferrule::Histogram duration;     // from a piece's arrival until the kernel has it back, in nanoseconds

    static constexpr auto metrics() {
        using Row = ferrule::MetricOf<EchoCounters>;
        return std::array{
            Row{&EchoCounters::conversations, {"echo_conversations", "Connections that are served."}},
            Row{&EchoCounters::echoes, {"echo_echoes_total", "Pieces that were sent back."}},
            Row{&EchoCounters::duration,
                {"echo_duration_seconds", "From a piece's arrival until the kernel has it back.",
                 ferrule::MetricUnit::seconds}},
        };
    }
};

// One for each reactor: nothing is shared, so nothing is locked.
class Echoes {
public:
    explicit Echoes(ferrule::Reactor& reactor) : registered_(reactor.metrics()->add(counters)) {}
    EchoCounters counters;

private:
    ferrule::MetricRegistration registered_;
};

ferrule::Task<> echo(ferrule::Connection connection) {
    ferrule::Reactor& reactor = connection.reactor();
    EchoCounters& counters = reactor.service<Echoes>().counters;
    counters.conversations.add();
    while (auto received = co_await connection.read()) {
        const std::uint64_t arrived_ns = reactor.now_ns();  // read once per pass: the time costs nothing
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
        counters.echoes.add();
        counters.duration.record(reactor.now_ns() - arrived_ns);
    }
    counters.conversations.subtract();
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    ferrule::AdminOptions admin_options;
    admin_options.port = 0;
    playground::CommandLine line("admin", "An echo server that can be watched, on a port of its own.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--admin-host", "ADDRESS", "where to be watched; default 127.0.0.1", admin_options.host);
    line.add("--admin-port", "NUMBER", "the TCP port for that; default 0: any free one", admin_options.port);
    line.add("--allow-remote", "others than this machine may watch", admin_options.allow_remote);
    line.parse(count, arguments);

    try {
        ferrule::Server server(options);
        ferrule::AdminPort admin(admin_options);
        admin.watch(server);
        server.on_start([](ferrule::Reactor& reactor) { reactor.add_service<Echoes>(reactor); });
        server.on_connection(echo);
        server.on_listening([&] {
            std::printf("admin listens on %s and is watched on %s\n", server.addresses().front().to_string().c_str(),
                        admin.address().to_string().c_str());
            std::printf("try: nc localhost %d, and curl http://%s/metrics\n", server.port(),
                        admin.address().to_string().c_str());
            std::fflush(stdout);
        });
        admin.start();
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "admin: %s\n", error.what());
        return 1;
    }
}
