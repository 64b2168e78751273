// Answers each HTTP request with the same 100 KB, written piece by piece, or, under /shared, sent without a copy.
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

constexpr std::size_t body_size = 100'000;
// No power of two, so that pieces do not end where blocks do.
constexpr std::size_t piece_size = 1'000;
// Of back-pressure, a connection may have so much unsent: less than an answer.
constexpr std::uint32_t back_pressure_bytes = 64 * 1024;
constexpr std::size_t shared_piece_size = 30'000;
constexpr std::string_view shared_path = "GET /shared ";
constexpr std::string_view end_of_head = "\r\n\r\n";

// Bytes that do not repeat, the same in each process: a lost, doubled or moved piece shows.
std::string make_body() {
    std::string body(body_size, '\0');
    std::uint32_t state = 2'463'534'242;
    for (char& byte : body) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        byte = static_cast<char>(state >> 24);
    }
    return body;
}

// FNV-1a, 64 bits.
std::string checksum(std::string_view bytes) {
    std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
    for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100'0000'01b3;
    std::string text(16, '0');
    for (auto digit = text.rbegin(); digit != text.rend(); ++digit, hash >>= 4) *digit = "0123456789abcdef"[hash & 15];
    return text;
}

// Head and body of every answer.
struct Answer {
    std::string text;

    Answer() {
        const std::string body = make_body();
        text = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\nETag: \"" + checksum(body) + "\"\r\n\r\n" + body;
    }
};

// One for each reactor, which counts the sends that it is part of without a lock.
struct SharedAnswer {
    ferrule::SharedBytes bytes;
};

// Writes the answer piece by piece. What does not fit now fits when some of it is sent: only back-pressure refuses a
// write without failing.
ferrule::Task<bool> write_pieces(ferrule::Connection& connection, std::string_view text) {
    while (!text.empty()) {
        if (connection.write(text.substr(0, piece_size))) {
            text.remove_prefix(std::min(piece_size, text.size()));
            continue;
        }
        const auto flushed = co_await connection.flush();
        if (!flushed) co_return false;
    }
    co_return true;
}

// The same without a copy.
ferrule::Task<bool> write_shared_pieces(ferrule::Connection& connection, const ferrule::SharedBytes& answer) {
    for (std::size_t written = 0; written != answer.size();) {
        const ferrule::SharedBytes piece = answer.part(written, shared_piece_size);
        if (connection.write_shared(piece)) {
            written += piece.size();
            continue;
        }
        const auto flushed = co_await connection.flush();
        if (!flushed) co_return false;
    }
    co_return true;
}

ferrule::Task<> big(ferrule::Connection connection, const Answer* answer) {
    const ferrule::SharedBytes& shared = connection.reactor().service<SharedAnswer>().bytes;
    ferrule::BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        const std::size_t end = received.find(end_of_head);
        if (end == ferrule::ByteSequence::npos) continue;
        const bool without_copy = received.contiguous(shared_path.size()).text() == shared_path;
        reader.advance(end + end_of_head.size());
        auto writing = without_copy ? write_shared_pieces(connection, shared) : write_pieces(connection, answer->text);
        const bool written = co_await std::move(writing);
        if (!written) break;
        co_await connection.flush();
    }
}

ferrule::WriteOverflow read_overflow(std::string_view name) {
    if (name == "grow") return ferrule::WriteOverflow::grow;
    if (name == "segmented") return ferrule::WriteOverflow::segmented;
    if (name == "back-pressure") return ferrule::WriteOverflow::back_pressure;
    throw std::runtime_error("--overflow " + std::string(name) + ": it is grow, segmented, or back-pressure");
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::string overflow = "grow";
    playground::CommandLine line("big", "Answers each HTTP request with the same 100 KB.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--overflow", "POLICY", "of a full block: grow, segmented, or back-pressure; default grow", overflow);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.parse(count, arguments);

    try {
        options.network.write_overflow = read_overflow(overflow);
        if (options.network.write_overflow == ferrule::WriteOverflow::back_pressure)
            options.network.write_limit = back_pressure_bytes;
        const Answer answer;
        ferrule::Server server(options);
        server.on_start([&answer](ferrule::Reactor& reactor) {
            reactor.add_service<SharedAnswer>(ferrule::SharedBytes::copy(answer.text));
        });
        server.on_connection([&answer](ferrule::Connection connection) { return big(std::move(connection), &answer); });
        server.on_listening([&server] {
            std::printf("big listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) {
                std::printf("try: curl -o /dev/null http://localhost:%d/ and /shared\n", server.port());
            }
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "big: %s\n", error.what());
        return 1;
    }
}
