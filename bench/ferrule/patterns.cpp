// Ferrule in the patterns of the benchmarks: an echo by each way to read and write, and streams in one direction.
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/send_file.hpp>
#include <ferrule/net/shared_bytes.hpp>
#include <ferrule/server.hpp>

#include <array>
#include <charconv>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using ferrule::Connection;
using ferrule::Task;

// The bytes go back from where they were received.
Task<> echo(Connection connection) {
    while (auto received = co_await connection.read()) {
        connection.write(std::move(received));
        co_await connection.flush();
    }
}

// They are copied, as an answer is that differs from what was asked.
Task<> echo_copied(Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        received.reset();
        co_await connection.flush();
    }
}

Task<> echo_buffered(Connection connection) {
    ferrule::BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        connection.write(reader.take(received.size()));
        co_await connection.flush();
    }
}

constexpr std::size_t piece_bytes = 64 << 10;

// Memory for what is read, in the frame of nobody.
class Pieces {
public:
    std::vector<std::byte> take() {
        if (free_.empty()) return std::vector<std::byte>(piece_bytes);
        auto piece = std::move(free_.back());
        free_.pop_back();
        return piece;
    }
    void give_back(std::vector<std::byte> piece) { free_.push_back(std::move(piece)); }

private:
    std::vector<std::vector<std::byte>> free_;
};

Task<> echo_streamed(Connection connection, Pieces* pieces) {
    ferrule::ByteStream stream{std::move(connection)};
    std::vector<std::byte> piece = pieces->take();
    while (const std::size_t count = co_await stream.read_some(piece)) {
        co_await stream.write(std::span(piece).first(count));
        co_await stream.flush();
    }
    pieces->give_back(std::move(piece));
}

Task<> sink(Connection connection) {
    while (auto received = co_await connection.read()) received.reset();
}

constexpr std::size_t block_bytes = 1 << 20;

Task<> source(Connection connection, const std::vector<std::byte>* block) {
    const auto shared = ferrule::SharedBytes::borrow(*block, {});
    for (bool sent = true; sent;) {
        connection.write_shared(shared);
        const auto flushed = co_await connection.flush();
        sent = flushed.has_value();
    }
}

// The same file for whatever is asked.
Task<> files(Connection connection, const std::string* path) {
    const auto file = co_await ferrule::File::open(connection.reactor(), *path);
    if (!file) co_return;
    const auto status = co_await file->status();
    if (!status) co_return;
    const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(status->size) + "\r\n\r\n";
    for (bool sent = true; sent;) {
        auto received = co_await connection.read();
        if (!received) break;
        received.reset();
        connection.write(head);
        const auto ended = co_await ferrule::send_file(connection, *file, 0, status->size);
        sent = ended.has_value();
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    options.reactors = 1;
    std::string_view pattern;
    std::string path;
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string_view value = arguments[index + 1];
        const std::string_view argument = arguments[index];
        if (argument == "--port") {
            std::from_chars(value.data(), value.data() + value.size(), options.port);
        } else if (argument == "--file") {
            path = value;
        } else {
            pattern = value;
        }
    }
    try {
        ferrule::Server server(options);
        Pieces pieces;
        const std::vector<std::byte> block(block_bytes);
        if (pattern == "echo") {
            server.on_connection(echo);
        } else if (pattern == "echo-copied") {
            server.on_connection(echo_copied);
        } else if (pattern == "echo-buffered") {
            server.on_connection(echo_buffered);
        } else if (pattern == "echo-streamed") {
            server.on_connection(
                [&pieces](Connection connection) { return echo_streamed(std::move(connection), &pieces); });
        } else if (pattern == "sink") {
            server.on_connection(sink);
        } else if (pattern == "source") {
            server.on_connection([&block](Connection connection) { return source(std::move(connection), &block); });
        } else if (pattern == "files") {
            server.on_connection([&path](Connection connection) { return files(std::move(connection), &path); });
        } else {
            std::fputs("usage: ferrule_patterns --pattern NAME --port NUMBER [--file PATH]\n", stderr);
            return 2;
        }
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ferrule_patterns: %s\n", error.what());
        return 1;
    }
}
