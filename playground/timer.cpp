// Answers `GET /<ms>` after so many milliseconds. Each waiting request is a sleeping coroutine and a place in the
// reactor's heap of timers, and no thread; a reactor has a million of them before it refuses more.
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

constexpr std::size_t head_bytes_max = 4096;
constexpr std::string_view end_of_head = "\r\n\r\n";

// What a request asks for: a wait, or an answer that says what is wrong with it.
struct Request {
    const char* refusal = nullptr;  // a status line without its protocol
    std::uint32_t wait_ms = 0;
    bool close = false;  // the connection ends behind the answer
};

bool equal_ignoring_case(std::string_view left, std::string_view right) {
    if (left.size() != right.size()) return false;
    for (std::size_t index = 0; index < left.size(); ++index) {
        const auto lower = [](char letter) { return letter >= 'A' && letter <= 'Z' ? letter + ('a' - 'A') : +letter; };
        if (lower(left[index]) != lower(right[index])) return false;
    }
    return true;
}

// Whether a line `Connection: close` is among these; a line `Content-Length` or `Transfer-Encoding` announces a body,
// which this program does not read: it ends the connection behind the answer, too.
bool must_close(std::string_view lines) {
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, lines.find("\r\n"));
        lines.remove_prefix(std::min(lines.size(), line.size() + 2));
        const std::size_t colon = line.find(':');
        if (colon == line.npos) continue;
        const std::string_view name = line.substr(0, colon);
        std::string_view value = line.substr(colon + 1);
        while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
        while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
        if (equal_ignoring_case(name, "connection") && equal_ignoring_case(value, "close")) return true;
        if (equal_ignoring_case(name, "content-length") && value != "0") return true;
        if (equal_ignoring_case(name, "transfer-encoding")) return true;
    }
    return false;
}

Request parse(std::string_view head, std::uint32_t wait_ms_max) {
    const std::size_t end_of_line = head.find("\r\n");
    std::string_view line = head.substr(0, end_of_line);
    Request request;
    request.close = must_close(head.substr(end_of_line + 2));
    const auto refuse = [&request](const char* why, bool close) {
        request.refusal = why;
        request.close = request.close || close;
        return request;
    };
    const std::size_t target_at = line.find(' ') + 1;
    const std::size_t protocol_at = line.rfind(' ') + 1;
    if (target_at == 0 || protocol_at <= target_at) return refuse("400 Bad Request", true);
    const std::string_view protocol = line.substr(protocol_at);
    if (protocol != "HTTP/1.1" && protocol != "HTTP/1.0") return refuse("505 HTTP Version Not Supported", true);
    if (protocol == "HTTP/1.0") request.close = true;
    if (line.substr(0, target_at) != "GET ") return refuse("405 Method Not Allowed\r\nAllow: GET", true);
    std::string_view target = line.substr(target_at, protocol_at - 1 - target_at);
    if (!target.starts_with('/')) return refuse("400 Bad Request", true);
    target.remove_prefix(1);
    const auto [end, error] = std::from_chars(target.data(), target.data() + target.size(), request.wait_ms);
    if (target.empty() || error == std::errc::invalid_argument || end != target.data() + target.size())
        return refuse("404 Not Found", false);
    if (error != std::errc() || request.wait_ms > wait_ms_max) return refuse("400 Bad Request", false);
    return request;
}

void answer(ferrule::Connection& connection, const Request& request, std::uint32_t wait_ms_max) {
    std::string body;
    if (request.refusal == nullptr) {
        body = "after " + std::to_string(request.wait_ms) + " ms\n";
    } else {
        body = "GET /<milliseconds>, at most " + std::to_string(wait_ms_max) + "\n";
    }
    std::string text = "HTTP/1.1 ";
    text += request.refusal != nullptr ? request.refusal : "200 OK";
    text += "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size());
    if (request.close) text += "\r\nConnection: close";
    connection.write(text + "\r\n\r\n" + body);
}

ferrule::Task<> serve(ferrule::Connection connection, std::uint32_t wait_ms_max) {
    ferrule::BufferedReader reader(connection);
    while (auto received = co_await reader.read()) {
        const std::size_t end = received.find(end_of_head);
        if (end == ferrule::ByteSequence::npos && received.size() <= head_bytes_max) continue;
        if (end == ferrule::ByteSequence::npos || end > head_bytes_max) {
            answer(connection, {"431 Request Header Fields Too Large", 0, true}, wait_ms_max);
            co_return;
        }
        const Request request = parse(received.contiguous(end + 2).text(), wait_ms_max);
        // A request behind it waits its turn.
        reader.advance(end + end_of_head.size());
        if (request.refusal == nullptr) {
            const auto slept = co_await ferrule::sleep_for(std::chrono::milliseconds(request.wait_ms));
            if (!slept) co_return;  // the server ends, or its table of operations is full
        }
        answer(connection, request, wait_ms_max);
        if (request.close) co_return;  // the close sends it
        co_await connection.flush();
    }
}

// What is done about clients that are slow on purpose: nothing, unless it is asked for.
struct Defences {
    std::uint32_t first_byte_ms = 0;
    std::uint32_t bytes_per_second = 0;
    std::uint32_t window_ms = 10'000;
    std::uint32_t per_address = 0;

    void add_to(playground::CommandLine& line) {
        line.add("--first-byte", "MILLISECONDS", "end who connects and says nothing for so long; default 0: off",
                 first_byte_ms);
        line.add("--least-rate", "BYTES", "end who sends or takes fewer bytes a second; default 0: off",
                 bytes_per_second);
        line.add("--rate-window", "MILLISECONDS", "the time over which that is measured; default 10000", window_ms);
        line.add("--per-address", "CONNECTIONS", "so many of one client at a time; default 0: any number", per_address);
    }

    void apply(ferrule::NetworkOptions& options) const {
        options.first_byte_timeout = std::chrono::milliseconds(first_byte_ms);
        options.receive_rate_min = options.send_rate_min = bytes_per_second;
        options.rate_window = std::chrono::milliseconds(window_ms);
        options.address_limits.connections = per_address;
    }
};

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::uint32_t wait_ms_max = 60'000;
    playground::CommandLine line("timer", "Answers GET /<ms> after so many milliseconds.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--max", "MILLISECONDS", "the longest wait; default 60000", wait_ms_max);
    Defences defences;
    defences.add_to(line);
    line.parse(count, arguments);
    defences.apply(options.network);

    try {
        ferrule::Server server(options);
        server.on_connection(
            [wait_ms_max](ferrule::Connection connection) { return serve(std::move(connection), wait_ms_max); });
        server.on_listening([&server] {
            std::printf("timer listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: curl -i http://localhost:%d/250\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "timer: %s\n", error.what());
        return 1;
    }
}
