// A client of memcached's text protocol (doc/protocol.txt of memcached): get and set, one at a time. It is made from
// public headers alone, and a test holds it below a hundred lines.
#pragma once

#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/task/task.hpp>

#include <charconv>
#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ferrule_test {

class MemcachedClient {
public:
    template <class T>
    using Result = std::expected<T, std::string>;

    explicit MemcachedClient(ferrule::Connection connection) : connection_(std::move(connection)) {}

    static ferrule::Task<Result<MemcachedClient>> open(ferrule::Reactor* reactor, ferrule::Address address) {
        auto connection = co_await ferrule::connect(*reactor, address);
        if (!connection) co_return std::unexpected(connection.error().message);
        co_return MemcachedClient(std::move(*connection));
    }

    /// The value; nothing when there is none.
    ferrule::Task<Result<std::optional<std::string>>> get(std::string key) {
        connection_.write("get " + key + "\r\n");
        const auto reply = co_await ask();
        if (!reply) co_return std::unexpected(reply.error());
        if (*reply == "END\r\n") co_return std::nullopt;
        const std::size_t data = reply->find("\r\n") + 2;
        co_return reply->substr(data, reply->size() - data - value_end.size());
    }

    ferrule::Task<Result<void>> set(std::string key, std::string value) {
        connection_.write("set " + key + " 0 0 " + std::to_string(value.size()) + "\r\n");
        connection_.write(value);
        connection_.write("\r\n");
        const auto reply = co_await ask();
        if (!reply) co_return std::unexpected(reply.error());
        co_return Result<void>();
    }

private:
    static constexpr std::string_view value_end = "\r\nEND\r\n";

    /// How long the reply is that the text begins with; 0 when the end of its first line has not come.
    static std::size_t reply_size(std::string_view text) {
        const std::size_t line = text.find("\r\n") + 2;
        if (line < 2) return 0;
        if (!text.starts_with("VALUE ")) return line;
        std::size_t bytes = 0;
        const std::string_view head = text.substr(0, line - 2);
        std::from_chars(head.data() + head.rfind(' ') + 1, head.data() + head.size(), bytes);
        return line + bytes + value_end.size();
    }

    /// Sends what was written, and takes the reply.
    ferrule::Task<Result<std::string>> ask() {
        co_await connection_.flush();
        std::string reply;
        while (auto received = co_await connection_.read()) {
            for (const auto slice : received) reply += slice.text();
            const std::size_t size = reply_size(reply);
            if (size == 0 || reply.size() < size) continue;
            if (reply.starts_with("VALUE ") || reply == "END\r\n" || reply == "STORED\r\n") co_return reply;
            co_return std::unexpected(reply.substr(0, size - 2));  // ERROR, CLIENT_ERROR, SERVER_ERROR, NOT_STORED
        }
        co_return std::unexpected("memcached has ended the connection: " + connection_.error().message());
    }

    ferrule::Connection connection_;
};

}  // namespace ferrule_test
