#pragma once

#include <ferrule/http/server.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/yield.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace ferrule_test {

/// Bytes of a body that tell where they belong.
inline std::string letters(std::size_t size) {
    std::string text(size, ' ');
    for (std::size_t index = 0; index < size; ++index) text[index] = static_cast<char>('a' + index % 26);
    return text;
}

inline std::size_t number_of(std::string_view text) {
    std::size_t number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

/// What the query says of this name, as a number.
inline std::size_t number_in(ferrule::http::Request& request, std::string_view name) {
    return number_of(request.query_parameter(name).value_or("0"));
}

inline ferrule::Task<> count_body(ferrule::http::Request& request, ferrule::http::Response& response) {
    std::size_t bytes = 0;
    std::size_t sum = 0;
    while (auto piece = co_await request.read()) {
        bytes += piece.size();
        for (const std::byte byte : piece) sum += static_cast<unsigned char>(byte);
    }
    response.send(std::to_string(bytes) + " bytes, sum " + std::to_string(sum) +
                  (request.body_complete() ? "" : ", not all"));
}

inline ferrule::Task<> echo_body(ferrule::http::Request& request, ferrule::http::Response& response) {
    const auto body = co_await request.collect(number_in(request, "limit"));
    if (!body) {
        response.status(body.error());
        co_return;
    }
    response.send(*body);
}

/// Sends the body back while it comes.
inline ferrule::Task<> return_body(ferrule::http::Request& request, ferrule::http::Response& response) {
    if (const auto length = request.content_length()) response.content_length(*length);
    while (auto piece = co_await request.read()) {
        const auto written = co_await response.write_all(piece);
        if (!written) co_return;
    }
    if (!response.begun()) response.send();
}

/// Writes a body of `size` in pieces of `piece`, and flushes behind each when `flush` is 1.
inline ferrule::Task<> stream_body(ferrule::http::Request& request, ferrule::http::Response& response) {
    const std::size_t size = number_in(request, "size");
    const std::size_t piece = number_in(request, "piece");
    const bool flushes = number_in(request, "flush") != 0;
    const std::string text = letters(size);
    if (request.query_parameter("length")) response.content_length(size);
    for (std::size_t at = 0; at < size; at += piece) {
        const std::string_view part = std::string_view(text).substr(at, piece);
        while (!response.write(part)) {
            const auto flushed = co_await response.flush();
            if (!flushed) co_return;
        }
        if (!flushes) continue;
        const auto flushed = co_await response.flush();
        if (!flushed) co_return;
    }
}

/// Writes a body of `size` in spans of at least `span` bytes, and of `part` at most when that is said.
inline ferrule::Task<> write_in_place(ferrule::http::Request& request, ferrule::http::Response& response) {
    const std::string text = letters(number_in(request, "size"));
    const std::size_t minimum = number_in(request, "span");
    const std::size_t most = request.query_parameter("part") ? number_in(request, "part") : text.size();
    for (std::size_t at = 0; at < text.size();) {
        const auto room = response.span(minimum);
        if (room.empty()) {
            const auto flushed = co_await response.flush();
            if (!flushed) co_return;
            continue;
        }
        const std::size_t part = std::min({room.size(), text.size() - at, most});
        std::memcpy(room.data(), text.data() + at, part);
        response.advance(part);
        at += part;
    }
}

inline ferrule::Task<> shared_page(ferrule::http::Request& request, ferrule::http::Response& response) {
    response.send(ferrule::SharedBytes::own(letters(number_in(request, "size"))));
    co_return;
}

/// Changes to a protocol, when it is asked to, in which what comes goes back with an exclamation mark.
template <class Stream>
ferrule::Task<> shout(ferrule::http::Request& request, ferrule::http::Response& response) {
    if (request.method() != ferrule::http::Method::connect && request.field("upgrade") != "shout") {
        response.send("not upgraded");
        co_return;
    }
    response.header("X-Said", "yes");
    Stream stream = response.upgrade<Stream>("shout");
    const auto say = [&stream](std::string_view text) { stream.write(std::as_bytes(std::span{text})); };
    ferrule::BufferedReader reader{stream};
    ferrule::ByteSequence received = reader.buffered();
    do {
        for (const auto slice : received) say(slice.text());
        say("!");
        reader.advance(received.size());
        co_await stream.flush();
        received = co_await reader.read();
    } while (received);
    // The request's texts are still there.
    say(request.target());
    co_await stream.flush();
}

inline ferrule::Task<> yield_times(ferrule::http::Request& request, ferrule::http::Response& response) {
    const std::string_view path = request.path();
    for (std::size_t times = number_in(request, "times"); times != 0; --times) co_await ferrule::yield_now();
    response.send(path);
}

/// Answers as the path says; where it says nothing, 404.
inline ferrule::Task<> site(ferrule::http::Request& request, ferrule::http::Response& response) {
    const std::string_view path = request.path();
    if (path == "/") {
        response.send("ok");
    } else if (path == "/query") {
        response.send(request.query_parameter("name").value_or("none"));
    } else if (path.starts_with("/path/")) {
        response.send(path.substr(6));
    } else if (path == "/status") {
        response.status(ferrule::http::Status{static_cast<std::uint16_t>(number_in(request, "code"))});
        response.send("body");
    } else if (path == "/header") {
        response.header("X-Echo", request.field("x-echo").value_or("none"));
        response.send();
    } else if (path == "/large") {
        response.send(letters(number_in(request, "size")));
    } else if (path == "/close") {
        response.close();
        response.send("bye");
    } else if (path == "/nothing") {
        // No answer.
    } else if (path == "/throw") {
        throw std::runtime_error("as asked");
    } else if (path == "/throw-late") {
        response.write("part");
        const auto flushed = co_await response.flush();
        if (flushed) throw std::runtime_error("as asked, late");
    } else if (path == "/count") {
        co_await count_body(request, response);
    } else if (path == "/echo") {
        co_await echo_body(request, response);
    } else if (path == "/return") {
        co_await return_body(request, response);
    } else if (path == "/stream") {
        co_await stream_body(request, response);
    } else if (path == "/yield") {
        co_await yield_times(request, response);
    } else if (path == "/ignore") {
        response.send("ignored");
    } else {
        response.status(ferrule::http::Status::not_found);
        response.send("nothing here");
    }
}

}  // namespace ferrule_test
