// Two ports with a handler each: one greets over HTTP, the other sends back what it receives.
#include <ferrule/server.hpp>

#include "options.hpp"

#include <cstdio>
#include <exception>
#include <string_view>

namespace {

constexpr std::string_view greeting = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";

// Answers the complete request heads and says how many bytes they are; requests with a body are not for it.
std::size_t greet_each(ferrule::Connection& connection, std::string_view text) {
    constexpr std::string_view end_of_head = "\r\n\r\n";
    std::size_t consumed = 0;
    for (std::size_t end = text.find(end_of_head); end != text.npos; end = text.find(end_of_head, consumed)) {
        connection.write(greeting);
        consumed = end + end_of_head.size();
    }
    return consumed;
}

ferrule::Task<> greet(ferrule::Connection connection) {
    while (auto received = co_await connection.read()) {
        // The head of a request that has not come whole is carried to the next read.
        received.consume(greet_each(connection, received.contiguous().text()));
        co_await connection.flush();
    }
}

ferrule::Task<> echo(ferrule::Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    ferrule::PortOptions second;
    second.port = 8081;
    playground::CommandLine line("multiport", "Greets over HTTP on one port and echoes on another.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address; default: everywhere", options.host);
    line.add("--port", "NUMBER", "the TCP port that greets, 0 for any free one; default 8080", options.port);
    line.add("--echo-port", "NUMBER", "the TCP port that echoes, 0 for any free one; default 8081", second.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.parse(count, arguments);
    second.host = options.host;

    try {
        ferrule::Server server(options);
        server.on_connection(greet);
        server.listen(second, echo);
        server.on_listening([&server] {
            const auto addresses = server.addresses();
            std::printf("multiport greets on %s and echoes on %s\n", addresses[0].to_string().c_str(),
                        addresses[1].to_string().c_str());
            std::printf("try: curl -i http://localhost:%d/ and nc localhost %d\n", addresses[0].port(),
                        addresses[1].port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "multiport: %s\n", error.what());
        return 1;
    }
}
