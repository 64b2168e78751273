// Answers each HTTP request with its head, read by a BufferedReader: whole heads where they lie, however they come.
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

namespace {

constexpr std::string_view end_of_head = "\r\n\r\n";
// A longer head is refused, so that nobody makes us hold more than this.
constexpr std::size_t head_size_max = 16 * 1024;
constexpr std::string_view refusal =
    "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

// What a look at the bytes has brought.
struct Progress {
    std::size_t consumed = 0;  // bytes of the heads that were answered
    std::size_t examined = 0;  // bytes that were looked at
    bool too_long = false;
};

// Answers the heads that are complete; bodies of requests are not for it.
Progress answer(ferrule::Connection& connection, const ferrule::ByteSequence& received) {
    Progress progress;
    for (;;) {
        const std::size_t end = received.find(end_of_head, progress.consumed);
        if (end == ferrule::ByteSequence::npos) {
            // What is left is looked at again when there is more of it.
            progress.examined = received.size();
            progress.too_long = received.size() - progress.consumed > head_size_max;
            return progress;
        }
        const ferrule::ByteSequence head =
            received.slice(progress.consumed, end + end_of_head.size() - progress.consumed);
        connection.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " +
                         std::to_string(head.size()) + "\r\n\r\n");
        for (const auto slice : head) connection.write(slice);
        progress.consumed += head.size();
    }
}

ferrule::Task<> answer_heads(ferrule::Connection connection) {
    ferrule::BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        const Progress progress = answer(connection, received);
        if (progress.too_long) {
            connection.write(refusal);
            break;  // the close sends what was written
        }
        reader.advance(progress.consumed, progress.examined);
        co_await connection.flush();
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    playground::CommandLine line("pipe", "Answers each HTTP request with its head, read by a BufferedReader.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.parse(count, arguments);

    try {
        ferrule::Server server(options);
        server.on_connection(answer_heads);
        server.on_listening([&server] {
            std::printf("pipe listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: curl http://localhost:%d/\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "pipe: %s\n", error.what());
        return 1;
    }
}
