#pragma once

#include "sim/internet_address.hpp"
#include "sim/packet_filter.hpp"
#include "sim/world.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ferrule::inline v0::sim {

class PortTable;
class TcpSocket;

/// Listening sockets of one address with SO_REUSEPORT, in the order of listen(2), a place that frees taken by the last.
struct ListenGroup {
    std::vector<TcpSocket*> sockets;
    std::optional<PacketFilter> program;
};

/// A socket's hold on a local port, in the table of its host. Intrusive: leaves the table when it is destroyed.
class PortClaim {
public:
    PortClaim() = default;
    PortClaim(const PortClaim&) = delete;
    PortClaim& operator=(const PortClaim&) = delete;
    ~PortClaim() { release(); }

    [[nodiscard]] bool held() const noexcept { return table_ != nullptr; }
    void release() noexcept;
    /// Takes the other claim's place.
    void take(PortClaim& other) noexcept;
    /// Holds the same port beside the other claim, as an accepted connection does beside its listener.
    void join(const PortClaim& beside, const InternetAddress& local, const InternetAddress& remote) noexcept;

    InternetAddress local;
    /// Of a connection; port 0: none.
    InternetAddress remote;
    bool ipv6_socket = false;
    bool v6_only = false;
    bool reuse_address = false;
    bool reuse_port = false;
    /// Chosen by connect: shared with others that go elsewhere.
    bool automatic = false;
    /// The socket, while it listens.
    TcpSocket* listener = nullptr;
    std::shared_ptr<ListenGroup> group;

private:
    friend PortTable;
    PortTable* table_ = nullptr;
    PortClaim* next_ = nullptr;
    PortClaim* previous_ = nullptr;
};

/// The TCP ports of a host, which outlive every claim: who may bind what, who listens, and which of several that listen
/// gets a connection.
class PortTable {
public:
    explicit PortTable(World& world);
    PortTable(const PortTable&) = delete;
    PortTable& operator=(const PortTable&) = delete;

    /// bind(2) of a claim with its fields filled in; port 0: a free one is chosen. 0 or -EADDRINUSE.
    int bind(PortClaim& claim);
    /// The port of a connection to `claim.remote` that was not bound: 0 or -EADDRNOTAVAIL.
    int bind_for_connect(PortClaim& claim);
    /// Whether the connection `claim` is the only one between its two ends.
    [[nodiscard]] bool is_unique(const PortClaim& claim) const noexcept;
    /// listen(2) of a bound claim: 0, or -EADDRINUSE when another socket listens there.
    int listen(PortClaim& claim, TcpSocket& socket);
    /// Stays bound.
    void stop_listening(PortClaim& claim) noexcept;

    /// Who gets a connection from `remote` to `local`; null when nobody listens there.
    TcpSocket* select(const InternetAddress& local, const InternetAddress& remote);

    /// SO_ATTACH_REUSEPORT_CBPF of a socket: 0, -EINVAL.
    static int attach(PortClaim& claim, bool reuse_port, std::span<const sock_filter> program);
    /// SO_DETACH_REUSEPORT_BPF: 0, -ENOENT.
    static int detach(PortClaim& claim) noexcept;

private:
    friend PortClaim;
    struct Bucket {
        PortClaim* listeners = nullptr;
        PortClaim* others = nullptr;
    };
    using Page = std::array<Bucket, 256>;

    [[nodiscard]] const Bucket* find(std::uint16_t port) const noexcept;
    Bucket& bucket(std::uint16_t port);
    void enter(PortClaim& claim);
    void leave(PortClaim& claim) noexcept;
    [[nodiscard]] bool conflicts(const PortClaim& claim) const noexcept;
    [[nodiscard]] std::uint64_t tuple_hash(const InternetAddress& local, const InternetAddress& remote) const noexcept;

    World& world_;
    std::uint64_t secret_;
    std::array<std::unique_ptr<Page>, 256> pages_;
};

}  // namespace ferrule::inline v0::sim
