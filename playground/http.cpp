// A small service on the HTTP layer: routes, JSON, bodies in both directions, server-sent events. A handler that has to
// wait is a coroutine; one that has not may be a plain function.
#include <ferrule/http/compressed_body.hpp>
#include <ferrule/http/json_writer.hpp>
#include <ferrule/http/router.hpp>
#include <ferrule/http/server.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/server.hpp>

#include "options.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

namespace {

using ferrule::Task;
using ferrule::http::JsonWriter;
using ferrule::http::Query;
using ferrule::http::Request;
using ferrule::http::Response;
using ferrule::http::Status;

constexpr std::string_view plain_text = "text/plain; charset=utf-8";
constexpr std::uint32_t wait_ms_max = 60'000;
constexpr std::uint32_t lines_max = 1'000'000;

constexpr std::string_view page = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>waiting</title></head>
<body><h1>Server-sent events</h1><ul id="events"></ul>
<script>
const source = new EventSource('/events?count=5&ms=20');
source.onmessage = event => {
    const item = document.createElement('li');
    item.textContent = `event ${event.lastEventId}: ${event.data}`;
    document.getElementById('events').append(item);
    if (event.lastEventId === '5') {
        source.close();
        document.title = 'done';
    }
};
</script></body></html>
)";

void hello(Request& request, Response& response) {
    response.content_type(plain_text);
    response.write("hello, ");
    response.write(request.parameter("name"));
    response.write("\n");
}

void index(Request&, Response& response) {
    response.content_type("text/plain");
    response.send("ok");
}

void show_post(Request& request, Response& response) {
    response.content_type("application/json");
    JsonWriter json(response);
    json.begin_object();
    json.member("user", *request.parameter<std::int64_t>("user"));
    json.member("post", *request.parameter<std::int64_t>("post"));
    json.end_object();
    json.finish();
}

// Sends the body back while it comes, whatever its length.
Task<> echo(Request& request, Response& response) {
    if (const auto type = request.field("content-type")) response.content_type(*type);
    if (const auto length = request.content_length()) response.content_length(*length);
    while (auto piece = co_await request.read()) {
        const auto sent = co_await response.write_all(piece);
        if (!sent) co_return;
    }
    if (!response.begun()) response.send();  // there was nothing to send back
}

// CRC-32 as in Ethernet and gzip.
class Checksum {
public:
    void add(std::string_view bytes) {
        for (const char byte : bytes) value_ = table[(value_ ^ static_cast<std::uint8_t>(byte)) & 255] ^ value_ >> 8;
    }
    std::uint32_t value() const { return ~value_; }

private:
    static constexpr auto table = [] {
        std::array<std::uint32_t, 256> entries{};
        for (std::uint32_t index = 0; index < entries.size(); ++index) {
            std::uint32_t value = index;
            for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? value >> 1 ^ 0xEDB88320 : value >> 1;
            entries[index] = value;
        }
        return entries;
    }();
    std::uint32_t value_ = ~std::uint32_t{0};
};

Task<> upload(Request& request, Response& response) {
    std::uint64_t bytes = 0;
    Checksum checksum;
    while (auto piece = co_await request.read()) {
        bytes += piece.size();
        checksum.add(piece.text());
    }
    std::array<char, 48> text;
    const int length = std::snprintf(text.data(), text.size(), "%llu %08x\n", static_cast<unsigned long long>(bytes),
                                     static_cast<unsigned>(checksum.value()));
    response.content_type("text/plain");
    response.send(std::string_view(text.data(), static_cast<std::size_t>(length)));
}

void show_headers(Request& request, Response& response) {
    response.content_type("application/json");
    JsonWriter json(response);
    json.begin_array();
    for (const auto& field : request.fields()) {
        json.begin_array();
        json.value(field.name);
        json.value(field.value);
        json.end_array();
    }
    json.end_array();
    json.finish();
}

// What cannot be decoded is shown as it was sent.
std::string_view decoded(Request& request, std::string_view text) {
    return ferrule::http::decode_query(text, request.memory(text.size())).value_or(text);
}

void show_query(Request& request, Response& response) {
    response.content_type("application/json");
    JsonWriter json(response);
    json.begin_object();
    for (const auto& parameter : Query(request.query())) {
        json.member(decoded(request, parameter.name), decoded(request, parameter.value));
    }
    json.end_object();
    json.finish();
}

// A number of the query between 0 and a limit, or what is meant without one.
std::uint32_t number_of(Request& request, std::string_view name, std::uint32_t absent, std::uint32_t limit) {
    const auto text = request.query_parameter(name);
    if (!text) return absent;
    std::uint32_t number = absent;
    std::from_chars(text->data(), text->data() + text->size(), number);
    return std::min(number, limit);
}

// Line after line, each on its way as soon as it is written.
Task<> stream_lines(Request& request, Response& response) {
    const auto count = request.parameter<std::uint32_t>("count");
    if (!count || *count > lines_max) {
        response.status(Status::not_found);
        co_return response.send();
    }
    response.content_type("text/plain");
    for (std::uint32_t line = 1; line <= *count; ++line) {
        response.write("line " + std::to_string(line) + "\n");
        const auto sent = co_await response.flush();
        if (!sent) co_return;
    }
}

Task<> send_events(Request& request, Response& response) {
    const std::uint32_t count = number_of(request, "count", 10, lines_max);
    const std::chrono::milliseconds pause(number_of(request, "ms", 1000, wait_ms_max));
    response.content_type("text/event-stream");
    response.header("Cache-Control", "no-store");
    for (std::uint32_t event = 1; event <= count; ++event) {
        const std::string number = std::to_string(event);
        response.write("id: " + number + "\ndata: " + number + "\n\n");
        const auto sent = co_await response.flush();
        if (!sent) co_return;  // the client has gone
        const auto slept = co_await ferrule::sleep_for(pause);
        if (!slept) co_return;
    }
}

// By gzip or br, for clients that say they like it.
Task<> show_compressed(Request& request, Response& response) {
    ferrule::http::CompressedBody body(request, response, plain_text);
    for (int number = 1; number <= 500; ++number) body.write("compressed line " + std::to_string(number) + "\n");
    co_await body.finish();
}

void show_page(Request&, Response& response) {
    response.content_type("text/html; charset=utf-8");
    response.send(page);
}

void answer_status(Request& request, Response& response) {
    const auto code = request.parameter<std::uint16_t>("code");
    response.status(code && *code >= 200 && *code < 600 ? static_cast<Status>(*code) : Status::not_found);
    response.send();
}

Task<> answer_later(Request& request, Response& response) {
    const auto wait_ms = request.parameter<std::uint32_t>("ms");
    if (!wait_ms || *wait_ms > wait_ms_max) {
        response.status(Status::not_found);
        co_return response.send();
    }
    const auto slept = co_await ferrule::sleep_for(std::chrono::milliseconds(*wait_ms));
    if (!slept) co_return;
    response.content_type("text/plain");
    response.send("after " + std::to_string(*wait_ms) + " ms\n");
}

void show_process(Request&, Response& response) {
    response.content_type("text/plain");
    response.send(std::to_string(::getpid()));
}

ferrule::http::Router routes() {
    ferrule::http::Router router;
    router.get("/", index);
    router.get("/hello/{name}", hello);
    router.get("/users/{user:int}/posts/{post:int}", show_post);
    router.post("/echo", echo);
    router.post("/upload", upload);
    router.put("/upload", upload);
    router.get("/headers", show_headers);
    router.get("/query", show_query);
    router.get("/stream/{count:int}", stream_lines);
    router.get("/events", send_events);
    router.get("/compressed", show_compressed);
    router.get("/page", show_page);
    router.get("/status/{code:int}", answer_status);
    router.get("/slow/{ms:int}", answer_later);
    router.get("/restart-id", show_process);
    return router;
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::uint32_t drain_grace_ms = 1000;
    playground::CommandLine line("http", "A small HTTP service.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--restart-socket", "PATH", "takes over from the process that serves this path; serves it afterwards",
             options.restart_path);
    line.add("--drain-grace", "MILLISECONDS", "at its end, idle clients may ask once more for so long; default 1000",
             drain_grace_ms);
    line.parse(count, arguments);
    options.network.drain_grace = std::chrono::milliseconds(drain_grace_ms);

    try {
        const ferrule::http::Router router = routes();
        ferrule::Server server(options);
        server.on_connection(
            [&router](ferrule::Connection connection) { return ferrule::http::serve(std::move(connection), router); });
        server.on_listening([&server] {
            std::printf("http listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: curl -i http://localhost:%d/hello/you\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "http: %s\n", error.what());
        return 1;
    }
}
