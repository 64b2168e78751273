#pragma once

#include <ferrule/sim/socket_address.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0::sim {

class File;
class Machine;
class World;

/// No time limit.
inline constexpr std::uint64_t no_time_limit = ~std::uint64_t{0};

/// How a simulated peer connects.
struct SocketOptions {
    /// Virtual time after which connect gives up with std::errc::timed_out. Linux itself gives up after about 127 s.
    std::uint64_t connect_time_limit_ns = no_time_limit;
    /// Of each receive and each send: after that long without a byte, std::errc::timed_out.
    std::uint64_t time_limit_ns = no_time_limit;
    /// SO_RCVBUF, so how much the other side can send before this one reads; 0: drawn by the network. The window can
    /// only close when something reads slower than it is sent, so a test of back-pressure sets it small.
    std::uint32_t receive_buffer_bytes = 0;
    /// SO_SNDBUF; 0: drawn by the network.
    std::uint32_t send_buffer_bytes = 0;
    /// The address to bind before connecting; none: the machine's own.
    SocketAddress local{};
};

/// A connection that a simulated peer has, a program of a few lines that runs as a process of a machine: what a user's
/// test does to the server under test. Every call blocks the calling process in virtual time until it is done; nothing
/// here may be called from outside a process. Errors are those of Linux, as values.
///
///     auto socket = sim::Socket::connect(client_machine, *sim::SocketAddress::parse("10.0.0.1:8080"));
///     socket->send("ping");
///     EXPECT_EQ(socket->receive_exactly(4).value(), "ping");
///     socket->shutdown_sending();
///     EXPECT_EQ(socket->receive_to_end().value(), "");
///
/// Destroying it closes it.
class FERRULE_EXPORT Socket {
public:
    Socket(Socket&& other) noexcept;
    Socket& operator=(Socket&& other) noexcept;
    ~Socket();

    /// A connection from `machine` to `to`: the errors of connect(2) (connection_refused, timed_out, host_unreachable,
    /// no_such_file_or_directory for a Unix path, ...), and timed_out at the time limit.
    static std::expected<Socket, std::error_code> connect(Machine& machine, const SocketAddress& to,
                                                          const SocketOptions& options = {});

    /// Sends all of it. broken_pipe or connection_reset when the other side has gone, timed_out at the time limit; what
    /// was taken until then is on its way all the same (sent() counts it).
    std::expected<void, std::error_code> send(std::string_view bytes);
    std::expected<void, std::error_code> send(std::span<const std::byte> bytes);
    /// Sends all of it in pieces of `piece_bytes`, with a pause before each but the first: a peer that trickles.
    std::expected<void, std::error_code> trickle(std::string_view bytes, std::size_t piece_bytes,
                                                 std::uint64_t pause_ns);

    /// What has come, at least one byte, at most `limit_bytes`; empty at the end of the stream.
    std::expected<std::string, std::error_code> receive(std::size_t limit_bytes = 64 * 1024);
    /// Exactly so many bytes; no_message_available when the stream ends before (what came is in `*rest`, if given).
    std::expected<std::string, std::error_code> receive_exactly(std::size_t bytes, std::string* rest = nullptr);
    /// Everything up to and with the delimiter; no_message_available when the stream ends before, message_size when the
    /// first `limit_bytes` do not hold it. What was received meanwhile stays for the next receive.
    std::expected<std::string, std::error_code> receive_until(std::string_view delimiter,
                                                              std::size_t limit_bytes = 1024 * 1024);
    /// All that comes until the other side has finished. A reset is an error; what came before it is in `*rest`, if
    /// given.
    std::expected<std::string, std::error_code> receive_to_end(std::string* rest = nullptr);
    /// Waits until a reset, the end of the stream or bytes can be received, or the time limit has passed; takes
    /// nothing. True when there is something.
    bool wait_readable(std::uint64_t time_limit_ns = no_time_limit);
    /// The error that waits (SO_ERROR), which this takes: a reset that has come, say. No error: a default error_code.
    std::error_code take_error();

    /// No more is sent: the other side sees the end of the stream after what was sent (FIN).
    std::error_code shutdown_sending();
    /// Not reading is what closes the receive window; this sets how many bytes the other side may send meanwhile
    /// (SO_RCVBUF: the kernel doubles it, and half of that is window).
    std::error_code receive_buffer(std::uint32_t bytes);
    /// Ends the connection with a reset (SO_LINGER with 0 seconds), whatever is unsent.
    void reset() noexcept;
    /// Ends it in order: what was sent goes out, then FIN; a reset instead when something received was not read.
    void close() noexcept;
    /// False after close, reset and a move.
    [[nodiscard]] bool is_open() const noexcept { return file_ != nullptr; }

    /// Bytes that the kernel has taken from, and given to, this socket's user.
    [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }
    [[nodiscard]] std::uint64_t received() const noexcept { return received_; }

    /// No address when it is not connected (any more).
    [[nodiscard]] SocketAddress local_address() const;
    [[nodiscard]] SocketAddress peer_address() const;

private:
    friend class ListenSocket;
    Socket(World& world, std::shared_ptr<File> file, std::uint64_t time_limit_ns) noexcept;

    World* world_;
    std::shared_ptr<File> file_;
    std::uint64_t time_limit_ns_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    // What receive_until has read and not given.
    std::string carried_;
};

/// How a simulated server listens.
struct ListenSocketOptions {
    int backlog = 128;
    bool reuse_port = false;
    /// Of each connection that it accepts.
    SocketOptions accepted{};
};

/// A listening socket of a simulated server: what a client under test connects to. As Socket: for processes, blocking
/// in virtual time.
class FERRULE_EXPORT ListenSocket {
public:
    ListenSocket(ListenSocket&& other) noexcept;
    ListenSocket& operator=(ListenSocket&& other) noexcept;
    ~ListenSocket();

    /// Listens at an address of the machine; port 0 lets the kernel choose (address() has it). The errors of bind(2)
    /// and listen(2).
    static std::expected<ListenSocket, std::error_code> open(Machine& machine, const SocketAddress& address,
                                                             const ListenSocketOptions& options = {});

    /// The next connection; timed_out when none has come in time.
    std::expected<Socket, std::error_code> accept(std::uint64_t time_limit_ns = no_time_limit);
    /// Connections that nobody has accepted are reset.
    void close() noexcept;
    [[nodiscard]] SocketAddress address() const;

private:
    ListenSocket(World& world, std::shared_ptr<File> file, const SocketOptions& accepted) noexcept;

    World* world_;
    std::shared_ptr<File> file_;
    SocketOptions accepted_;
};

}  // namespace ferrule::inline v0::sim
