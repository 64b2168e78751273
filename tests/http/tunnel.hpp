#pragma once

#include <ferrule/net/connection.hpp>
#include <ferrule/net/stream.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <system_error>
#include <utility>

namespace ferrule_test {

/// What stands on a connection, as a session does: a Duplex, and nothing more than one has to be.
class Tunnel {
public:
    explicit Tunnel(ferrule::Connection connection) noexcept : connection_(std::move(connection)) {}

    auto read() { return connection_.read(); }
    ferrule::ReadResult take_carried() { return connection_.take_carried(); }
    ferrule::EndReason end_reason() const { return connection_.end_reason(); }
    std::error_code error() const { return connection_.error(); }

    bool write(std::span<const std::byte> bytes) { return connection_.write(bytes); }
    std::span<std::byte> span(std::size_t minimum) { return connection_.span(minimum); }
    void advance(std::size_t bytes) { connection_.advance(bytes); }
    auto flush() { return connection_.flush(); }
    std::size_t unsent() const { return connection_.unsent(); }
    std::size_t writable() const { return connection_.writable(); }

    void close() { connection_.close(); }

private:
    ferrule::Connection connection_;
};
static_assert(ferrule::Duplex<Tunnel> && !std::convertible_to<Tunnel&, ferrule::Connection&>);

}  // namespace ferrule_test
