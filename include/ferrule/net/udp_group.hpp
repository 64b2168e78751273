#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/datagram.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/inbox.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ferrule::inline v0 {

class Reactor;

/// What in a datagram says which socket of a group it is for: the number, in network order, that stands at a place of
/// its payload, modulo the number of sockets. A QUIC server puts its reactor into the connection ids that it hands out.
struct DatagramKey {
    std::uint32_t offset = 0;  ///< bytes before it, at most 65535
    std::uint32_t width = 1;   ///< its bytes: 1, 2 or 4
};

/// One UDP port with a socket for each reactor (SO_REUSEPORT). By default the system spreads what comes by the hash of
/// the addresses, so all datagrams of a peer reach the same socket, until the peer's address changes. With a key it
/// goes by what the datagrams say: a classic BPF program of the port chooses the socket (SO_ATTACH_REUSEPORT_CBPF,
/// socket(7)), and datagrams that are too short for the key go by the hash.
///
/// The program runs for each datagram, in the kernel, about 50 ns. It chooses by the order in which sockets were bound,
/// which is this group's order; a socket that is closed while others go on gives its place to the last one, and where a
/// program cannot be attached (`steered`) nothing is chosen at all. So a program that relies on the key asks
/// `owner_of`, which costs a load and a division, and hands on what is not its own with `forward`, which copies the
/// datagram into memory of the system's and wakes another thread: some microseconds each.
///
/// ```cpp
/// // Each datagram begins with a byte that says whose it is.
/// ferrule::Task<> serve(ferrule::UdpSocket socket, std::shared_ptr<ferrule::UdpGroup> group, std::size_t index) {
///     while (auto datagram = co_await socket.receive()) {
///         const auto owner = group->owner_of(datagram.payload());
///         if (owner.value_or(index) == index) {
///             socket.send_to(datagram.sender(), datagram.payload());
///         } else {
///             group->forward(datagram, datagram.payload());
///         }
///     }
/// }
/// ```
class FERRULE_EXPORT UdpGroup : public std::enable_shared_from_this<UdpGroup> {
public:
    /// Binds `count` sockets in order. With port 0 all get the port that the system chose for the first. A port that
    /// another program or socket has is an error (EADDRINUSE), found by a trial without SO_REUSEPORT. Errors as of
    /// UdpSocket::open; EINVAL names the option. Any thread; before the reactors run is the right time.
    [[nodiscard]] static std::expected<std::shared_ptr<UdpGroup>, UdpError> open(
        std::size_t count, UdpSocketOptions options, std::optional<DatagramKey> key = std::nullopt,
        Kernel& kernel = linux_kernel());

    /// Closes the sockets that were not taken.
    ~UdpGroup();
    UdpGroup(const UdpGroup&) = delete;
    UdpGroup& operator=(const UdpGroup&) = delete;

    /// The socket with this number, for the reactor; once for each. On the reactor's thread, or before it runs. A
    /// second time, and for a number that is none: std::logic_error.
    [[nodiscard]] std::expected<UdpSocket, UdpError> take(Reactor& reactor, std::size_t index);

    /// Sockets of the group. Any thread.
    [[nodiscard]] std::size_t size() const noexcept { return members_.size(); }
    /// What they are bound to. Any thread.
    [[nodiscard]] const Address& address() const noexcept { return options_.address; }
    /// Whether the system chooses by the key: false when there is none, and where it has refused to. Any thread.
    [[nodiscard]] bool steered() const noexcept { return steered_; }

    /// The number of the socket that a datagram with this payload is for; none when there is no key, or the payload is
    /// too short for it: anybody's. Of a joined train (UdpSocketOptions::gro) ask for each segment. Any thread.
    [[nodiscard]] std::optional<std::size_t> owner_of(std::span<const std::byte> payload) const noexcept;

    /// Hands a copy of the datagram, or of one of its segments, to the socket that it is for, where it is received with
    /// its sender and all else that the kernel has said of it. False when it has no owner, or the owner's socket was
    /// not taken yet. One that finds no room there (as many may wait as the socket has buffers), or no socket any more,
    /// is dropped, as the network may drop any. On the thread of the reactor that has received it.
    bool forward(const Datagram& datagram, std::span<const std::byte> bytes);

private:
    friend class UdpService;
    friend struct ForwardedDatagram;
    struct Member {
        int descriptor = -1;              // until it is taken
        std::shared_ptr<Inbox> inbox;     // written before `taken`
        UdpSocketState* state = nullptr;  // its reactor's thread
        std::atomic<bool> taken{false};
    };

    UdpGroup(Kernel& kernel, std::size_t count, UdpSocketOptions options, std::optional<DatagramKey> key);
    [[nodiscard]] bool steer() noexcept;
    [[nodiscard]] Member& member(std::size_t index) noexcept { return members_[index]; }

    Kernel* kernel_;
    UdpSocketOptions options_;
    std::optional<DatagramKey> key_;
    std::vector<Member> members_;
    bool steered_ = false;
};

}  // namespace ferrule::inline v0
