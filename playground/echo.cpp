// Sends back what it receives.
#include <ferrule/server.hpp>

#include "options.hpp"

#include <cstdio>
#include <exception>

namespace {

ferrule::Task<> echo(ferrule::Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    playground::CommandLine line("echo", "Sends back what it receives.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--restart-socket", "PATH", "takes over from the process that serves this path; serves it afterwards",
             options.restart_path);
    line.parse(count, arguments);

    try {
        ferrule::Server server(options);
        server.on_connection(echo);
        server.on_listening([&server] {
            std::printf("echo listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: nc localhost %d\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "echo: %s\n", error.what());
        return 1;
    }
}
