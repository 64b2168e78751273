// Answers each HTTP request with its body, read and written by a ByteStream: bytes are copied into memory of its own.
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t head_size_max = 16 * 1024;
constexpr std::size_t piece_size = 16 * 1024;

bool equal_in_any_case(std::string_view left, std::string_view right) {
    const auto lower = [](char letter) { return letter >= 'A' && letter <= 'Z' ? letter + ('a' - 'A') : letter; };
    return std::ranges::equal(left, right, [&](char one, char other) { return lower(one) == lower(other); });
}

// How long the body is that follows the head; 0 when the head names no length, none when it cannot be read.
std::optional<std::size_t> body_size(std::string_view head) {
    constexpr std::string_view name = "content-length:";
    std::size_t size = 0;
    for (std::size_t start = head.find("\r\n") + 2; start < head.size();) {
        const std::size_t end = head.find("\r\n", start);
        std::string_view field = head.substr(start, end - start);
        start = end + 2;
        if (!equal_in_any_case(field.substr(0, name.size()), name)) continue;
        field.remove_prefix(name.size());
        field.remove_prefix(std::min(field.find_first_not_of(' '), field.size()));
        const auto [rest, error] = std::from_chars(field.data(), field.data() + field.size(), size);
        if (error != std::errc() || rest != field.data() + field.size()) return std::nullopt;
    }
    return size;
}

ferrule::Task<> stream(ferrule::Connection connection) {
    ferrule::ByteStream bytes{std::move(connection)};
    std::vector<std::byte> memory(piece_size);
    for (;;) {
        const auto head = co_await bytes.read_until("\r\n\r\n", head_size_max);
        if (!head || head->empty()) break;  // too long a head; the end
        const auto size = body_size(*head);
        if (!size) break;
        const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(*size) + "\r\n\r\n";
        co_await bytes.write(answer);
        for (std::size_t left = *size; left != 0;) {
            const auto piece = std::span(memory).first(std::min(left, memory.size()));
            const std::size_t received = co_await bytes.read_some(piece);
            if (received == 0) co_return;  // the end, in the middle of a body
            co_await bytes.write(piece.first(received));
            co_await bytes.flush();
            left -= received;
        }
        co_await bytes.flush();
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    playground::CommandLine line("stream", "Answers each HTTP request with its body, by a ByteStream.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.parse(count, arguments);

    try {
        ferrule::Server server(options);
        server.on_connection(stream);
        server.on_listening([&server] {
            std::printf("stream listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: curl --data hello http://localhost:%d/\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stream: %s\n", error.what());
        return 1;
    }
}
