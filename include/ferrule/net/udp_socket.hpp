#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/datagram.hpp>
#include <ferrule/net/end_reason.hpp>
#include <ferrule/reactor/counters.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

/// How a UDP socket is opened. Every field has a sane default; what is off costs nothing.
struct UdpSocketOptions {
    /// Where it receives. Port 0: the system chooses one; UdpSocket::local_address tells which. No address: that of
    /// Address::any(0).
    Address address{};
    /// Other sockets may be bound to the same address and share what comes (SO_REUSEPORT, socket(7)); see UdpGroup.
    bool reuse_port = false;
    /// `::` and IPv4-mapped addresses also take IPv4. An IPv4 address always makes an IPv4 socket.
    bool dual_stack = true;
    /// Datagrams that may be received and not yet given back, in the queue and with the program together; a power of
    /// two, at most 32768. Then what comes waits in the socket's own buffer, and beyond that the kernel drops it.
    std::uint32_t receive_buffer_count = 64;
    /// Bytes of a datagram, or of a train of them with `gro`; longer ones are truncated. Memory is mapped for all
    /// buffers at once, but a page that no datagram reaches is never touched.
    std::uint32_t datagram_size_max = 65535;
    /// Bytes that the kernel may hold for this socket in each direction (SO_RCVBUF, SO_SNDBUF); 0: what the system
    /// gives. When it gives less than asked for (net.core.rmem_max, wmem_max), a line on standard error says so.
    std::uint32_t socket_receive_bytes = 0;
    std::uint32_t socket_send_bytes = 0;  ///< see socket_receive_bytes
    /// Lets the kernel join datagrams of one sender into one, Datagram::segments (UDP_GRO, udp(7)): one completion for
    /// up to 64 of them. Nothing happens where the kernel cannot.
    bool gro = false;
    /// Tells the congestion bits of what comes, Datagram::ecn.
    bool ecn = false;
    /// Tells to which address a datagram was sent, Datagram::local_address.
    bool packet_info = false;
    /// Datagrams that may wait to be sent; then `send` is false.
    std::uint32_t send_limit = 1024;
    /// Bytes of memory that they may take.
    std::uint32_t send_bytes_limit = 4u << 20;
};

/// Why a UDP socket could not be opened or connected.
struct UdpError {
    std::error_code code;
    /// The operation, what it failed on, and why: `bind 0.0.0.0:53: Permission denied`.
    std::string message;
};

/// How one datagram is sent.
struct DatagramSendOptions {
    /// Several datagrams of this size in one call, the last one may be shorter (UDP_SEGMENT, udp(7)): the kernel cuts
    /// the bytes. Where it refuses to, they are sent one by one. 0: one datagram.
    std::uint16_t segment_size = 0;
    /// The congestion bits of its header.
    Ecn ecn = Ecn::not_capable;
    /// The address that it comes from, of those that the machine has; the port is not used. Without one the system
    /// chooses by the route.
    std::optional<Address> source{};
};

/// What a UDP socket counts. Any thread may read while the socket lives. What is shown outside are the sums over a
/// reactor's sockets, those that have ended among them.
struct UdpCounters {
    Counter datagrams_received;  ///< a joined train counts once
    Counter bytes_received;      ///< payload
    Counter truncated;           ///< received datagrams that had lost their end
    Counter receive_errors;      ///< errors that receiving has found, those that the network has told among them
    Counter starvations;         ///< times that no buffer was left to receive into
    Counter datagrams_sent;      ///< taken by the kernel; a train counts once
    Counter bytes_sent;          ///< payload
    Counter send_errors;         ///< datagrams that the kernel has not taken
    Counter refused_sends;       ///< datagrams that `send` did not take because a limit was reached
    Counter split_trains;        ///< trains whose segments were sent one by one because the kernel refused to cut them
    Counter forwards_dropped;    ///< datagrams that came from another reactor (UdpGroup) and found no room

    /// What they are called outside.
    static constexpr auto metrics() {
        using Row = MetricOf<UdpCounters>;
        using Its = UdpCounters;
        constexpr auto bytes = MetricUnit::bytes;
        return std::array{
            Row{&Its::datagrams_received,
                {"ferrule_udp_received_datagrams_total", "Datagrams that were received; a joined train counts once."}},
            Row{&Its::bytes_received, {"ferrule_udp_received_bytes_total", "Payload that was received.", bytes}},
            Row{&Its::truncated, {"ferrule_udp_truncated_total", "Received datagrams that had lost their end."}},
            Row{&Its::receive_errors, {"ferrule_udp_receive_errors_total", "Errors that receiving has found."}},
            Row{&Its::starvations, {"ferrule_udp_starvations_total", "Receives that found no buffer."}},
            Row{&Its::datagrams_sent,
                {"ferrule_udp_sent_datagrams_total", "Datagrams that the kernel has taken; a train counts once."}},
            Row{&Its::bytes_sent, {"ferrule_udp_sent_bytes_total", "Payload that the kernel has taken.", bytes}},
            Row{&Its::send_errors, {"ferrule_udp_send_errors_total", "Datagrams that the kernel has not taken."}},
            Row{&Its::refused_sends,
                {"ferrule_udp_refused_sends_total", "Datagrams that were not taken because a limit was reached."}},
            Row{&Its::split_trains,
                {"ferrule_udp_split_trains_total", "Trains whose segments had to be sent one by one."}},
            Row{&Its::forwards_dropped,
                {"ferrule_udp_dropped_forwards_total", "Datagrams from another reactor that found no room."}},
        };
    }
};

class UdpService;
class UdpSocket;
struct DatagramFlushWait;

namespace detail {

/// Waits for a datagram. One pointer; what it waits with lives in the socket's state.
class [[nodiscard]] FERRULE_EXPORT ReceiveAwaiter {
public:
    explicit ReceiveAwaiter(UdpSocketState* state) noexcept : state_(reinterpret_cast<std::uintptr_t>(state)) {}
    ReceiveAwaiter(ReceiveAwaiter&& other) noexcept : state_(std::exchange(other.state_, 0)) {}
    ReceiveAwaiter(const ReceiveAwaiter&) = delete;
    ReceiveAwaiter& operator=(const ReceiveAwaiter&) = delete;
    ReceiveAwaiter& operator=(ReceiveAwaiter&&) = delete;
    ~ReceiveAwaiter() {
        if ((state_ & suspended) != 0) [[unlikely]]
            detach();
    }

    [[nodiscard]] bool await_ready() const noexcept;
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return suspend(handle, environment_of(handle));
    }
    Datagram await_resume() noexcept;

private:
    static constexpr std::uintptr_t suspended = 1;
    bool suspend(std::coroutine_handle<> handle, Environment* environment);
    void detach() noexcept;

    std::uintptr_t state_;
};
static_assert(sizeof(ReceiveAwaiter) == sizeof(void*));

/// Waits until the kernel has taken what was sent, or refused it. One pointer.
class FERRULE_EXPORT DatagramFlushAwaiter {
public:
    explicit DatagramFlushAwaiter(UdpSocketState* state) noexcept : pointer_(reinterpret_cast<std::uintptr_t>(state)) {}
    DatagramFlushAwaiter(DatagramFlushAwaiter&& other) noexcept : pointer_(std::exchange(other.pointer_, 0)) {}
    DatagramFlushAwaiter(const DatagramFlushAwaiter&) = delete;
    DatagramFlushAwaiter& operator=(const DatagramFlushAwaiter&) = delete;
    DatagramFlushAwaiter& operator=(DatagramFlushAwaiter&&) = delete;
    ~DatagramFlushAwaiter() {
        if ((pointer_ & listed) != 0) [[unlikely]]
            detach();
    }

    [[nodiscard]] bool await_ready() const noexcept;
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return suspend(handle, environment_of(handle));
    }
    std::expected<void, std::errc> await_resume() noexcept;

private:
    static constexpr std::uintptr_t listed = 1;  // the pointer is the wait, not the socket
    bool suspend(std::coroutine_handle<> handle, Environment* environment);
    void detach() noexcept;

    std::uintptr_t pointer_;
};
static_assert(sizeof(DatagramFlushAwaiter) == sizeof(void*));

}  // namespace detail

/// A UDP socket of one reactor. Move-only handle, 8 bytes, for its reactor's thread only; use after a move is misuse
/// and throws std::logic_error, as is a second receiver.
///
/// Receiving is one multishot operation into buffers of the socket's own: nothing is copied, and each datagram is a
/// lease on its buffer. Sending copies: the datagrams of a pass leave together, in the order of their `send` calls.
///
/// Destroying it sends what `send` has taken, ends what waits, and closes the descriptor when the kernel has finished
/// with it; datagrams that the program holds stay valid.
///
/// ```cpp
/// ferrule::Task<> ask(ferrule::Reactor& reactor, ferrule::Address server) {
///     auto socket = ferrule::UdpSocket::open(reactor, {.address = ferrule::Address::any_ipv4(0)});
///     if (!socket || !socket->connect(server)) co_return;
///     socket->send("what time is it?");
///     if (auto answer = co_await socket->receive()) std::printf("%zu bytes\n", answer.size());
/// }
/// ```
class [[nodiscard]] FERRULE_EXPORT UdpSocket {
public:
    /// Opens and binds a socket. On the reactor's thread, or before it runs. Errors name the operation and the address;
    /// EINVAL names the option.
    [[nodiscard]] static std::expected<UdpSocket, UdpError> open(Reactor& reactor,
                                                                 const UdpSocketOptions& options = {});

    UdpSocket(UdpSocket&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    UdpSocket& operator=(UdpSocket&& other) noexcept {
        if (this != &other) {
            close();
            state_ = std::exchange(other.state_, nullptr);
        }
        return *this;
    }
    UdpSocket(const UdpSocket&) = delete;
    UdpSocket& operator=(const UdpSocket&) = delete;
    ~UdpSocket() {
        if (state_ != nullptr) close();
    }

    /// Whether this handle still holds a socket.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// Makes `peer` the one that `send` sends to and that datagrams are received from; again for another one. Does not
    /// wait: nothing is sent. Errors of connect(2): no route, another family.
    std::expected<void, UdpError> connect(const Address& peer);

    /// Waits for a datagram: `while (auto datagram = co_await socket.receive())`. When the result is false,
    /// `end_reason` says why: `cancelled` or `deadline` by its scope, or `failed`, and `error` tells: what the network
    /// has told of an earlier datagram, such as ECONNREFUSED on a connected socket when nobody listens there. That ends
    /// one receive and not the socket: the next one goes on.
    ///
    /// The first call begins to receive, and so it stays: datagrams that come while nobody waits are queued, as many
    /// as there are buffers (UdpSocketOptions::receive_buffer_count). When the program holds all of them it waits until
    /// it has given one back; meanwhile the kernel keeps what comes.
    ///
    /// One receiver at a time; a second throws std::logic_error. Cancellation removes the waiter only.
    [[nodiscard]] detail::ReceiveAwaiter receive();

    /// Sends a copy of the bytes to the address that it is connected to, in this pass. False, and nothing is kept: too
    /// many wait (UdpSocketOptions::send_limit, send_bytes_limit; flush, and try again), or the bytes are more than a
    /// datagram has (65535; the next flush says EMSGSIZE).
    bool send(std::span<const std::byte> bytes, const DatagramSendOptions& options = {});
    /// As above, for characters.
    bool send(std::string_view text, const DatagramSendOptions& options = {});
    /// As `send`, to any address. One of another family than the socket's is refused, and the next flush says
    /// EAFNOSUPPORT; IPv4 addresses and their IPv6 form are the same.
    bool send_to(const Address& peer, std::span<const std::byte> bytes, const DatagramSendOptions& options = {});
    /// As above, for characters.
    bool send_to(const Address& peer, std::string_view text, const DatagramSendOptions& options = {});

    /// Waits until the kernel has taken, or refused, all that was sent so far: `co_await socket.flush()`. Not needed
    /// for sending. The error is the first that no flush has told yet, of a datagram that was not sent: EMSGSIZE (too
    /// long for a datagram or for the path), ENETUNREACH, EHOSTUNREACH, EPERM (a firewall), EDESTADDRREQ (neither
    /// connected nor an address), or ECONNREFUSED, which tells of an earlier one. Or ECANCELED: its scope was
    /// cancelled, and the datagrams still go. Several may wait.
    [[nodiscard]] detail::DatagramFlushAwaiter flush();

    /// Datagrams that wait for the kernel to take them.
    [[nodiscard]] std::size_t unsent() const;

    /// Why the last receive ended without a datagram.
    [[nodiscard]] EndReason end_reason() const;
    /// The error that the last receive without a datagram has found.
    [[nodiscard]] std::error_code error() const;

    /// The address that it is bound to, with the port that the system chose. A system call. Errors of getsockname(2).
    [[nodiscard]] std::expected<Address, std::error_code> local_address() const;
    /// The address that it is connected to. A system call. Errors of getpeername(2).
    [[nodiscard]] std::expected<Address, std::error_code> peer_address() const;
    /// setsockopt(2), for what is not among the options: multicast groups, time to live. Errors of setsockopt(2).
    std::expected<void, std::error_code> set_option(int level, int name, std::span<const std::byte> value);

    /// The reactor that owns it.
    [[nodiscard]] Reactor& reactor() const;
    /// What it counts. Any thread, while the socket lives.
    [[nodiscard]] const UdpCounters& counters() const;
    /// Bytes that the kernel may hold of what has come (SO_RCVBUF), and of what is to go (SO_SNDBUF), as it counts.
    [[nodiscard]] std::uint32_t socket_receive_bytes() const;
    [[nodiscard]] std::uint32_t socket_send_bytes() const;  ///< see socket_receive_bytes

    /// The end of the destructor, now. The handle is empty afterwards.
    void close() noexcept;

private:
    friend class UdpGroup;
    explicit UdpSocket(UdpSocketState* state) noexcept : state_(state) {}
    UdpSocketState& state(const char* call) const;
    bool send_bytes(const Address* peer, std::span<const std::byte> bytes, const DatagramSendOptions& options);

    UdpSocketState* state_;
};
static_assert(sizeof(UdpSocket) == sizeof(void*));

}  // namespace ferrule::inline v0
