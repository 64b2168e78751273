#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "net/dns_message.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ferrule::inline v0 {

/// How asking one server once has ended.
struct DnsOutcome {
    enum class End : std::uint8_t {
        replied,       ///< with `reply`, which is neither foreign nor wrong_case
        timed_out,     ///< nothing came in time
        unbelievable,  ///< so much came that does not match that nothing by UDP is believed any more
        failed,        ///< the socket did, with `error`; by TCP also an end in the middle of the answer
        cancelled,     ///< the reactor ends
    };
    End end = End::failed;
    int error = 0;
    DnsReply reply;
};

/// What the kernel reads and fills while one question is asked: it lives as long as the question, and so longer than
/// any operation of it.
struct DnsExchange {
    /// More than a server may send by UDP, as it is told: what fills it was cut.
    static constexpr std::size_t datagram_bytes = 4096;
    /// In front of a query by TCP is its length.
    static constexpr std::size_t length_bytes = 2;

    std::array<std::byte, length_bytes + dns_query_bytes_max> query{};
    std::size_t query_size = 0;  ///< without the length
    std::array<std::byte, datagram_bytes> datagram{};
    std::vector<std::byte> stream;

    [[nodiscard]] std::span<const std::byte> query_bytes() const noexcept {
        return std::span(query).subspan(length_bytes, query_size);
    }
    /// Writes the query.
    void prepare(const DnsQuestion& question, const DnsQueryOptions& options) noexcept;
};

/// Sends the prepared query from a new socket, which takes nothing but what comes from the server's address and port,
/// and waits for the answer. Messages that do not match the query are ignored, up to a number of them. What the
/// parameters refer to outlives the task.
Task<DnsOutcome> ask_by_udp(Reactor& reactor, DnsExchange& exchange, const DnsQuestion& question, Address server,
                            std::chrono::nanoseconds timeout, ResolverCounters& counters);

/// The same on a new connection; the time counts for all of it.
Task<DnsOutcome> ask_by_tcp(Reactor& reactor, DnsExchange& exchange, const DnsQuestion& question, Address server,
                            std::chrono::nanoseconds timeout, ResolverCounters& counters);

}  // namespace ferrule::inline v0
