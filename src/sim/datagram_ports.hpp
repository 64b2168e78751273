#pragma once

#include "sim/file.hpp"
#include "sim/internet_address.hpp"
#include "sim/packet_filter.hpp"
#include "sim/world.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ferrule::inline v0::sim {

class Host;
class UdpSocket;

/// A UDP datagram under way, or received and not yet read.
struct Datagram {
    InternetAddress from;
    InternetAddress to;
    std::vector<std::byte> bytes;
    /// Of several that travel as one (segmentation offload), the size of each but the last; 0: it is one.
    std::uint32_t segment_bytes = 0;
    /// The TOS field of IPv4, the traffic class of IPv6; the lowest two bits are ECN.
    std::uint8_t traffic_class = 0;
    /// The same for those of one send; 0: none.
    std::uint64_t burst = 0;
};

/// UDP sockets of one address with SO_REUSEPORT, in the order of bind(2), a place that frees taken by the last.
struct DatagramGroup {
    std::vector<UdpSocket*> sockets;
    std::optional<PacketFilter> program;
};

/// The UDP ports of a host: who may bind what, and which socket gets a datagram.
class DatagramPorts {
public:
    explicit DatagramPorts(World& world) noexcept : world_(world) {}
    DatagramPorts(const DatagramPorts&) = delete;
    DatagramPorts& operator=(const DatagramPorts&) = delete;

    /// bind(2) of a socket to `local`; port 0: a free one is chosen. 0 or -EADDRINUSE.
    int bind(UdpSocket& socket, InternetAddress local);
    /// The socket gives its port up.
    void forget(UdpSocket& socket) noexcept;

    /// Who gets a datagram; null when nobody does.
    UdpSocket* select(const Datagram& datagram);

    /// SO_ATTACH_REUSEPORT_CBPF of a socket: 0, -EINVAL.
    static int attach(UdpSocket& socket, std::span<const sock_filter> program);
    /// SO_DETACH_REUSEPORT_BPF: 0, -ENOENT.
    static int detach(UdpSocket& socket) noexcept;

private:
    [[nodiscard]] bool conflicts(const UdpSocket& socket, const InternetAddress& local) const noexcept;
    UdpSocket* choose(DatagramGroup& group, const Datagram& datagram);

    World& world_;
    std::uint64_t secret_ = 0;
    /// The sockets of each port, the newest first.
    std::map<std::uint16_t, std::vector<UdpSocket*>> ports_;
};

/// Sends a datagram on its way from a host. `last_arrival_ns` is the sender's: without a fault none overtakes another.
/// `sender`, if it lives, is told when it is not under way any more.
void send_datagram(Host& host, Datagram datagram, std::uint64_t& last_arrival_ns, const std::weak_ptr<File>& sender);

}  // namespace ferrule::inline v0::sim
