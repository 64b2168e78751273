#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/sim/socket.hpp>

#include "sim/workloads/pattern.hpp"
#include "sim/workloads/workload.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

namespace ferrule_test {

/// A connection as a peer sees it: blocking, and every byte compared with what must come. Breaking is noted, not
/// reported: whether a connection may break is the workload's to say (`must_not_break`).
class Peer {
public:
    /// Connects; when the listener's queue was full or a fault has hit the handshake it tries again, a few times.
    /// Nothing when it could not.
    /// `patience`: how long it waits for anything; then the connection has broken. `receive_buffer`: SO_RCVBUF, where
    /// it is not for chance to choose.
    static std::optional<Peer> connect(WorkloadRun& run, std::size_t machine, const ferrule::Address& address,
                                       std::chrono::nanoseconds patience = std::chrono::nanoseconds::max(),
                                       std::optional<std::uint32_t> receive_buffer = {});
    Peer(Peer&&) = default;

    /// Sends all of it; false when the connection has broken.
    bool send(std::span<const std::byte> bytes);
    bool send(std::string_view text) { return send(std::as_bytes(std::span(text))); }
    /// Sends `count` bytes of the stream from `position` on, in pieces of random size.
    bool send(const Pattern& pattern, std::uint64_t position, std::uint64_t count, std::size_t piece_max);

    /// Some bytes: how many; 0 at the end of the stream, and when the connection has broken.
    std::size_t receive(std::span<std::byte> into);
    /// Receives `count` bytes and compares them with the stream from `position` on. How many were there, and right,
    /// before the stream has ended or broken.
    std::uint64_t receive(const Pattern& pattern, std::uint64_t position, std::uint64_t count, std::size_t piece_max);
    /// Fills `into`; false when the stream has ended or broken before.
    bool receive_exactly(std::span<std::byte> into);
    /// Takes what comes until the stream ends or breaks. How many bytes.
    std::uint64_t receive_to_end();

    void shutdown_sending();
    void reset();
    void close();

    /// Whether the connection has been reset, or timed out.
    [[nodiscard]] bool broken() const noexcept { return broken_; }
    /// Whether the stream has ended.
    [[nodiscard]] bool ended() const noexcept { return ended_; }

    /// Sends and receives at once, each blocking for itself: `sending` on a thread of its own.
    void both(const std::function<void()>& sending, const std::function<void()>& receiving);

private:
    Peer(WorkloadRun& run, std::size_t machine, ferrule::sim::Socket socket);

    WorkloadRun* run_;
    std::size_t machine_;
    ferrule::sim::Socket socket_;
    ferrule::sim::Random random_;
    bool broken_ = false;
    bool ended_ = false;
};

}  // namespace ferrule_test
