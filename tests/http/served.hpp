#pragma once

#include <ferrule/http/server.hpp>
#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace ferrule_test {

namespace http = ferrule::http;

inline constexpr std::string_view date_name = "Date: ";
inline constexpr std::string_view any_date = "now";
inline constexpr std::size_t date_bytes = std::string_view("Sun, 06 Nov 1994 08:49:37 GMT").size();

/// The text with each date replaced by `Date: now`.
inline std::string without_dates(std::string text) {
    for (std::size_t at = text.find(date_name); at != text.npos; at = text.find(date_name, at + date_name.size()))
        text.replace(at + date_name.size(), date_bytes, any_date);
    return text;
}

/// How many bytes a text had before its dates were replaced: so many are to be received.
inline std::size_t dated_size(std::string_view text) {
    std::size_t size = text.size();
    for (std::size_t at = text.find(date_name); at != text.npos; at = text.find(date_name, at + date_name.size()))
        size += date_bytes - any_date.size();
    return size;
}

/// A response with the headers that all have, and others; nothing is said of a length when the body is null.
inline std::string response(std::string_view status, std::string_view headers, std::string_view body) {
    std::string text = "HTTP/1.1 ";
    text += status;
    text += "\r\nDate: now\r\n";
    text += headers;
    text += "\r\n";
    text += body;
    return text;
}

/// The usual one.
inline std::string ok(std::string_view body, std::string_view more_headers = {}) {
    return response("200 OK", "Content-Length: " + std::to_string(body.size()) + "\r\n" + std::string(more_headers),
                    body);
}

/// One that refuses a request and closes.
inline std::string refusal(std::string_view status, std::string_view why) {
    const std::string body = std::string(why) + '\n';
    return response(status,
                    "Content-Type: text/plain; charset=utf-8\r\nContent-Length: " + std::to_string(body.size()) +
                        "\r\nConnection: close\r\n",
                    body);
}

/// That two texts are the same; when not, where they part.
inline testing::AssertionResult same(const std::string& there, const std::string& wanted) {
    if (there == wanted) return testing::AssertionSuccess();
    const auto at = static_cast<std::size_t>(
        std::mismatch(there.begin(), there.end(), wanted.begin(), wanted.end()).first - there.begin());
    constexpr std::size_t around = 60;
    const std::size_t from = at < around ? 0 : at - around;
    return testing::AssertionFailure() << "of " << there.size() << " and " << wanted.size() << " bytes, different at "
                                       << at << ":\n"
                                       << there.substr(from, 2 * around) << "\nwanted:\n"
                                       << wanted.substr(from, 2 * around);
}

/// A reactor that serves with a handler, over streams that are made of connections.
template <class Handler, class Stream = ferrule::Connection>
class Served {
public:
    explicit Served(Handler handler, http::ServeOptions options = {}, EngineOptions engine = {})
        : handler_(std::move(handler)),
          options_(std::move(options)),
          engine_(
              [this](ferrule::Connection connection) {
                  return http::serve(Stream(std::move(connection)), handler_, options_);
              },
              std::move(engine)) {}

    ClientSocket connect() { return engine_.connect(); }
    Engine& engine() { return engine_; }

    /// Waits until the server has received so many bytes of all its clients, and looked at them: what is sent then
    /// comes to it apart from them.
    void until_received(std::uint64_t bytes) {
        const ferrule::Counter& received = engine_.counters().bytes_received;
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(ClientSocket::patience_seconds);
        while (received.value() < bytes) {
            if (std::chrono::steady_clock::now() > until) throw std::runtime_error("the bytes were not received");
            std::this_thread::yield();
        }
        engine_.on_reactor([] {});
    }
    /// Everything that comes back for the bytes when nothing follows them.
    std::string answers(std::string_view bytes) {
        ClientSocket client = connect();
        client.send(bytes);
        client.shutdown_write();
        return without_dates(client.receive_rest().bytes);
    }
    std::int64_t metric(std::string_view name, std::string_view label = {}) {
        for (const auto& sample : engine_.reactor(0).metrics()->read()) {
            if (sample.description.name == name && sample.description.label.value == label) return sample.value;
        }
        return -1;
    }

private:
    Handler handler_;
    http::ServeOptions options_;
    Engine engine_;
};

}  // namespace ferrule_test
