#pragma once

#include <ferrule/sim/network_options.hpp>
#include <ferrule/sim/socket_address.hpp>

#include "sim/file.hpp"
#include "sim/world.hpp"

#include <netinet/in.h>

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ferrule::inline v0::sim {

class DatagramPorts;
class Host;
class PortTable;
class TcpConnection;
class UnixNames;

/// The bytes of all streams, from when a sender's kernel took them. At any time, sent is what was received, lost and is
/// under way together.
struct ByteAccounts {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    /// Dropped by a reset, a close with unread data, or a peer that could not be reached.
    std::uint64_t lost = 0;
};

/// The network of a simulation: its hosts, and what travels between them. It must outlive every socket.
class Network {
public:
    Network(World& world, const NetworkOptions& options);
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;
    ~Network();

    /// A host with the next free addresses, 10.0.0.N and fd00::N from N = 1; it has 127.0.0.0/8 and ::1 besides. Lives
    /// as long as the network.
    Host& add_host(std::string name);

    /// Between these two (or, with nobody named, between the host and all others): nothing arrives while it is down.
    /// Segments are sent again when it is up again, and their senders give up after as long as Linux does.
    void cut(Host& one, Host& other, bool down);
    void cut(Host& host, bool down);
    [[nodiscard]] bool reachable(const Host& from, const Host& to) const noexcept;

    /// The host that has the address, seen from `from` (loopback); null when nobody has.
    [[nodiscard]] Host* find(Host& from, const in6_addr& address) const noexcept;

    /// One way, drawn.
    [[nodiscard]] std::uint64_t draw_latency_ns(const Host& from, const Host& to);
    [[nodiscard]] const NetworkOptions& options() const noexcept { return options_; }
    [[nodiscard]] World& world() const noexcept { return world_; }
    [[nodiscard]] ByteAccounts& accounts() noexcept { return accounts_; }

    /// TCP connections that are not over, those included that only the network still knows (a FIN under way).
    [[nodiscard]] std::uint64_t connections() const noexcept { return connections_; }
    /// At the end of a simulation: a finding when the byte accounts do not balance.
    void check_accounts();

private:
    friend TcpConnection;

    World& world_;
    NetworkOptions options_;
    std::vector<std::unique_ptr<Host>> hosts_;
    std::vector<std::pair<const Host*, const Host*>> cuts_;
    ByteAccounts accounts_;
    std::uint64_t connections_ = 0;
    TcpConnection* first_connection_ = nullptr;
};

/// What a machine is to the network: its addresses, ports and Unix names.
class Host {
public:
    Host(Network& network, std::string name, std::uint32_t number);
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;
    ~Host();

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] Network& network() const noexcept { return network_; }
    /// 10.0.0.N, port 0.
    [[nodiscard]] const SocketAddress& ipv4() const noexcept { return ipv4_; }
    /// fd00::N, port 0.
    [[nodiscard]] const SocketAddress& ipv6() const noexcept { return ipv6_; }
    /// Whether a socket can be bound to it here (an IPv4 address in its mapped form); the wildcards too.
    [[nodiscard]] bool has_address(const in6_addr& address) const noexcept;

    // The file system as far as Unix sockets are in it: what Kernel's functions of these names do.
    int unlink(const char* path) noexcept;
    int status(const char* path, unsigned* mode) noexcept;
    int change_mode(const char* path, unsigned mode) noexcept;

    [[nodiscard]] PortTable& ports() noexcept { return *ports_; }
    [[nodiscard]] DatagramPorts& datagram_ports() noexcept { return *datagram_ports_; }
    [[nodiscard]] UnixNames& unix_names() noexcept { return *unix_names_; }

private:
    friend Network;

    Network& network_;
    std::string name_;
    std::uint32_t number_;
    SocketAddress ipv4_;
    SocketAddress ipv6_;
    bool isolated_ = false;
    std::unique_ptr<PortTable> ports_;
    std::unique_ptr<DatagramPorts> datagram_ports_;
    std::unique_ptr<UnixNames> unix_names_;
};

/// socket(2): TCP and UDP over IPv4 and IPv6, Unix stream and datagram sockets; the flags in `type` are ignored (every
/// File is non-blocking, who waits is the front end). -EAFNOSUPPORT, -EPROTONOSUPPORT, -ESOCKTNOSUPPORT, -EINVAL.
///
/// A blocking connect(2) is: connect; at -EINPROGRESS wait for POLLOUT, then connect again, which gives 0 or the error.
/// A Unix stream socket whose listener's backlog is full gives -EAGAIN and is told with POLLOUT when there is room,
/// although POLLOUT holds all the time: wait without looking at readiness().
///
/// File::released ends a socket (FIN or reset); a socket that is destroyed without it ends the same way.
std::expected<std::shared_ptr<File>, int> make_socket(Host& host, int domain, int type, int protocol);

}  // namespace ferrule::inline v0::sim
