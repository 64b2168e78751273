#include "sim/datagram_ports.hpp"
#include "sim/network.hpp"
#include "sim/udp_socket.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

// net.ipv4.ip_local_port_range.
constexpr std::uint32_t first_ephemeral_port = 32'768;
constexpr std::uint32_t ephemeral_ports = 60'999 - first_ephemeral_port + 1;
constexpr std::uint64_t longest_overtaking_ns = 10'000'000;
constexpr std::uint8_t ecn_bits = 3;

bool covers(const UdpSocket& socket, bool ipv4) noexcept {
    if (socket.family() == AF_INET) return ipv4;
    if (socket.local().is_any()) return !ipv4 || !socket.v6_only();
    return socket.local().is_ipv4() == ipv4;
}

bool overlap(const UdpSocket& socket, const InternetAddress& local, const UdpSocket& other) noexcept {
    const bool any = local.is_any();
    const auto covers_too = [&](bool ipv4) {
        if (socket.family() == AF_INET) return ipv4;
        return any ? !ipv4 || !socket.v6_only() : local.is_ipv4() == ipv4;
    };
    const bool both_ipv4 = covers(other, true) && covers_too(true);
    const bool both_ipv6 = covers(other, false) && covers_too(false);
    if (!both_ipv4 && !both_ipv6) return false;
    return any || other.local().is_any() || other.local().same_address(local);
}

bool same_place(const UdpSocket& left, const UdpSocket& right) noexcept {
    return left.family() == right.family() && left.v6_only() == right.v6_only() && left.local() == right.local();
}

// What has arrived at a host.
void arrive(Host& host, Host& from, Datagram datagram) {
    UdpSocket* const socket = host.datagram_ports().select(datagram);
    if (socket != nullptr) {
        socket->deliver(std::move(datagram));
        return;
    }
    // ICMP says so, and names what it is about.
    Network& network = host.network();
    Datagram about;
    about.from = datagram.to;
    about.to = datagram.from;
    network.world().at(network.world().now_ns() + network.draw_latency_ns(host, from), [&host, &from, about] {
        if (!host.network().reachable(host, from)) return;
        UdpSocket* const sender = from.datagram_ports().select(about);
        if (sender != nullptr && sender->remote()) sender->refused();
    });
}

}  // namespace

// udp_lib_lport_inuse of Linux.
bool DatagramPorts::conflicts(const UdpSocket& socket, const InternetAddress& local) const noexcept {
    const auto found = ports_.find(local.port);
    if (found == ports_.end()) return false;
    return std::any_of(found->second.begin(), found->second.end(), [&](const UdpSocket* other) {
        if (other == &socket || !overlap(socket, local, *other)) return false;
        if (socket.options().reuse_address && other->options().reuse_address) return false;
        return !socket.options().reuse_port || !other->options().reuse_port;
    });
}

int DatagramPorts::bind(UdpSocket& socket, InternetAddress local) {
    if (local.port == 0) {
        const auto start = static_cast<std::uint32_t>(world_.random().below(ephemeral_ports));
        for (std::uint32_t step = 0; step < ephemeral_ports && local.port == 0; ++step) {
            const auto port = static_cast<std::uint16_t>(first_ephemeral_port + (start + step) % ephemeral_ports);
            if (!ports_.contains(port)) local.port = port;
        }
        if (local.port == 0) return -EADDRINUSE;
    } else if (conflicts(socket, local)) {
        return -EADDRINUSE;
    }
    auto& sockets = ports_[local.port];
    socket.local_ = local;
    if (socket.options().reuse_port) {
        for (const UdpSocket* other : sockets) {
            if (other->group && same_place(socket, *other)) socket.group = other->group;
        }
        if (!socket.group) socket.group = std::make_shared<DatagramGroup>();
        socket.group->sockets.push_back(&socket);
    }
    sockets.insert(sockets.begin(), &socket);
    return 0;
}

void DatagramPorts::forget(UdpSocket& socket) noexcept {
    const auto found = ports_.find(socket.local().port);
    if (found == ports_.end()) return;
    std::erase(found->second, &socket);
    if (found->second.empty()) ports_.erase(found);
    if (!socket.group) return;
    auto& sockets = socket.group->sockets;
    if (const auto place = std::find(sockets.begin(), sockets.end(), &socket); place != sockets.end()) {
        *place = sockets.back();
        sockets.pop_back();
    }
    socket.group.reset();
}

// udp4_lib_lookup2 and compute_score of Linux: an exact address before a wildcard, and of those who fit who is
// connected.
UdpSocket* DatagramPorts::select(const Datagram& datagram) {
    const auto found = ports_.find(datagram.to.port);
    if (found == ports_.end()) return nullptr;
    for (const bool exact : {true, false}) {
        UdpSocket* best = nullptr;
        int best_score = 0;
        for (UdpSocket* socket : found->second) {
            const bool here = exact ? socket->local().same_address(datagram.to) : socket->local().is_any();
            if (!here || !covers(*socket, datagram.to.is_ipv4())) continue;
            int score = socket->family() == AF_INET ? 2 : 1;
            if (socket->remote()) {
                if (!(*socket->remote() == datagram.from)) continue;
                score += 8;
            }
            if (score <= best_score) continue;
            best = socket;
            best_score = score;
        }
        if (best == nullptr) continue;
        return best->group && !best->remote() ? choose(*best->group, datagram) : best;
    }
    return nullptr;
}

UdpSocket* DatagramPorts::choose(DatagramGroup& group, const Datagram& datagram) {
    const auto& sockets = group.sockets;
    if (group.program) {
        const std::uint32_t chosen = group.program->run(world_, datagram.bytes);
        if (chosen < sockets.size()) return sockets[chosen];
    }
    if (secret_ == 0) secret_ = world_.random().next() | 1;
    std::uint64_t hash = secret_;
    for (const InternetAddress* end : {&datagram.to, &datagram.from}) {
        std::uint64_t halves[2];
        std::memcpy(halves, &end->address, sizeof halves);
        hash = Random::mix(hash ^ halves[0]);
        hash = Random::mix(hash ^ halves[1] ^ (std::uint64_t{end->port} << 32));
    }
    // Who is connected gets only what comes from its peer.
    const std::size_t first = ((hash >> 32) * sockets.size()) >> 32;
    for (std::size_t step = 0; step < sockets.size(); ++step) {
        UdpSocket* const socket = sockets[(first + step) % sockets.size()];
        if (!socket->remote()) return socket;
    }
    return nullptr;
}

int DatagramPorts::attach(UdpSocket& socket, std::span<const sock_filter> program) {
    auto loaded = PacketFilter::load(program, true);
    if (!loaded) return loaded.error();
    if (!socket.group) {
        if (socket.bound() || !socket.options().reuse_port) return -EINVAL;
        socket.group = std::make_shared<DatagramGroup>();
    }
    socket.group->program = std::move(*loaded);
    return 0;
}

int DatagramPorts::detach(UdpSocket& socket) noexcept {
    if (!socket.group || !socket.group->program) return -ENOENT;
    socket.group->program.reset();
    return 0;
}

// ---- What travels.

void send_datagram(Host& host, Datagram datagram, std::uint64_t& last_arrival_ns, const std::weak_ptr<File>& sender) {
    Network& network = host.network();
    World& world = network.world();
    Host* const to = network.find(host, datagram.to.address);
    const auto travels = [&, to](Datagram piece) {
        const std::size_t bytes = piece.bytes.size();
        const bool lost = world.fault(Fault::datagram_lost) || to == nullptr;
        std::uint64_t arrival_ns = world.now_ns() + network.draw_latency_ns(host, to != nullptr ? *to : host);
        if (world.fault(Fault::datagram_overtaken)) {
            arrival_ns += world.random().between(1, longest_overtaking_ns);
        } else {
            arrival_ns = last_arrival_ns = std::max(arrival_ns, last_arrival_ns);
        }
        if ((piece.traffic_class & ecn_bits) != 0 && world.fault(Fault::datagram_congested)) {
            piece.traffic_class |= ecn_bits;
        }
        if (!lost && world.fault(Fault::datagram_doubled)) {
            world.at(arrival_ns + world.random().below(longest_overtaking_ns), [&host, to, piece] {
                if (host.network().reachable(host, *to)) arrive(*to, host, piece);
            });
        }
        world.at(arrival_ns, [&host, to, lost, bytes, sender, arriving = std::move(piece)]() mutable {
            if (const auto socket = sender.lock()) static_cast<UdpSocket&>(*socket).arrived(bytes);
            if (!lost && host.network().reachable(host, *to)) arrive(*to, host, std::move(arriving));
        });
    };
    const std::size_t size = datagram.segment_bytes;
    if (to == &host || size == 0) {
        travels(std::move(datagram));
        return;
    }
    // The device cuts it.
    for (std::size_t from = 0; from < datagram.bytes.size(); from += size) {
        Datagram piece{datagram.from, datagram.to, {}, 0, datagram.traffic_class, datagram.burst};
        const auto first = datagram.bytes.begin() + static_cast<std::ptrdiff_t>(from);
        piece.bytes.assign(first, first + static_cast<std::ptrdiff_t>(std::min(size, datagram.bytes.size() - from)));
        travels(std::move(piece));
    }
}

}  // namespace ferrule::inline v0::sim
