#include <ferrule/assert.hpp>

#include "sim/datagram_ports.hpp"
#include "sim/internet_address.hpp"
#include "sim/network.hpp"
#include "sim/port_table.hpp"
#include "sim/tcp_connection.hpp"
#include "sim/tcp_socket.hpp"
#include "sim/udp_socket.hpp"
#include "sim/unix_socket.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

// 10.0.0.0, and fd00::.
constexpr std::uint32_t ipv4_network = 0x0a00'0000;
constexpr std::uint8_t ipv6_network = 0xfd;

SocketAddress ipv6_of(std::uint32_t number) noexcept {
    in6_addr address{};
    address.s6_addr[0] = ipv6_network;
    address.s6_addr[14] = static_cast<std::uint8_t>(number >> 8);
    address.s6_addr[15] = static_cast<std::uint8_t>(number);
    return SocketAddress::ipv6(address, 0);
}

}  // namespace

Network::Network(World& world, const NetworkOptions& options) : world_(world), options_(options) {
    FERRULE_ASSERT(options.latency_min_ns <= options.latency_max_ns);
    FERRULE_ASSERT(options.loopback_latency_min_ns <= options.loopback_latency_max_ns);
    FERRULE_ASSERT(options.maximum_segment_bytes != 0);
    FERRULE_ASSERT(options.send_buffer_min_bytes != 0);
    FERRULE_ASSERT(options.send_buffer_min_bytes <= options.send_buffer_max_bytes);
    FERRULE_ASSERT(options.receive_window_min_bytes != 0);
    FERRULE_ASSERT(options.receive_window_min_bytes <= options.receive_window_max_bytes);
}

// Connections that are left were under way when the simulation was ended; what would have happened to them is
// forgotten.
Network::~Network() {
    while (first_connection_ != nullptr) {
        first_connection_->aborted_ = true;
        delete first_connection_;
    }
}

Host& Network::add_host(std::string name) {
    const auto number = static_cast<std::uint32_t>(hosts_.size() + 1);
    hosts_.push_back(std::make_unique<Host>(*this, std::move(name), number));
    return *hosts_.back();
}

void Network::cut(Host& one, Host& other, bool down) {
    std::pair<const Host*, const Host*> ordered(&one, &other);
    if (one.number_ > other.number_) std::swap(ordered.first, ordered.second);
    const auto found = std::find(cuts_.begin(), cuts_.end(), ordered);
    if (down && found == cuts_.end()) cuts_.push_back(ordered);
    if (!down && found != cuts_.end()) cuts_.erase(found);
}

void Network::cut(Host& host, bool down) {
    host.isolated_ = down;
}

bool Network::reachable(const Host& from, const Host& to) const noexcept {
    if (&from == &to) return true;
    if (from.isolated_ || to.isolated_) return false;
    if (cuts_.empty()) return true;
    return std::none_of(cuts_.begin(), cuts_.end(), [&](const auto& cut) {
        return (cut.first == &from && cut.second == &to) || (cut.first == &to && cut.second == &from);
    });
}

Host* Network::find(Host& from, const in6_addr& address) const noexcept {
    const InternetAddress wanted{address, 0};
    if (wanted.is_loopback()) return &from;
    std::uint32_t number = 0;
    if (wanted.is_ipv4()) {
        number = wanted.ipv4_bits() - ipv4_network;
    } else {
        number = static_cast<std::uint32_t>(address.s6_addr[14] << 8) | address.s6_addr[15];
        const SocketAddress expected = ipv6_of(number);
        if (!(wanted.seen_by(AF_INET6) == expected)) return nullptr;
    }
    return number != 0 && number <= hosts_.size() ? hosts_[number - 1].get() : nullptr;
}

std::uint64_t Network::draw_latency_ns(const Host& from, const Host& to) {
    return &from == &to ? world_.random().between(options_.loopback_latency_min_ns, options_.loopback_latency_max_ns)
                        : world_.random().between(options_.latency_min_ns, options_.latency_max_ns);
}

void Network::check_accounts() {
    std::uint64_t under_way = 0;
    for (const TcpConnection* connection = first_connection_; connection != nullptr; connection = connection->next_) {
        for (const auto& stream : connection->streams_) under_way += stream.bytes.last() - stream.bytes.first();
    }
    if (accounts_.sent == accounts_.received + accounts_.lost + under_way) return;
    world_.finding("the bytes of the network do not balance: sent " + std::to_string(accounts_.sent) + ", received " +
                   std::to_string(accounts_.received) + ", lost " + std::to_string(accounts_.lost) + ", under way " +
                   std::to_string(under_way));
}

Host::Host(Network& network, std::string name, std::uint32_t number)
    : network_(network),
      name_(std::move(name)),
      number_(number),
      ipv4_(SocketAddress::ipv4(ipv4_network + number, 0)),
      ipv6_(ipv6_of(number)),
      ports_(std::make_unique<PortTable>(network.world())),
      datagram_ports_(std::make_unique<DatagramPorts>(network.world())),
      unix_names_(std::make_unique<UnixNames>()) {}

Host::~Host() = default;

bool Host::has_address(const in6_addr& address) const noexcept {
    const InternetAddress wanted{address, 0};
    return wanted.is_any() || wanted.is_loopback() || wanted.seen_by(AF_INET6) == ipv6_ ||
           (wanted.is_ipv4() && wanted.seen_by(AF_INET) == ipv4_);
}

int Host::unlink(const char* path) noexcept {
    return unix_names_->unlink(path);
}

int Host::status(const char* path, unsigned* mode) noexcept {
    return unix_names_->status(path, mode);
}

int Host::change_mode(const char* path, unsigned mode) noexcept {
    return unix_names_->change_mode(path, mode);
}

std::expected<std::shared_ptr<File>, int> make_socket(Host& host, int domain, int type, int protocol) {
    const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (domain == AF_UNIX) {
        if (protocol != 0 && protocol != AF_UNIX) return std::unexpected(-EPROTONOSUPPORT);
        if (kind != SOCK_STREAM && kind != SOCK_DGRAM) return std::unexpected(-ESOCKTNOSUPPORT);
        return std::make_shared<UnixSocket>(host, kind);
    }
    if (domain != AF_INET && domain != AF_INET6) return std::unexpected(-EAFNOSUPPORT);
    if (kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) {
        return std::make_shared<TcpSocket>(host, domain);
    }
    if (kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP)) {
        return std::make_shared<UdpSocket>(host, domain);
    }
    return std::unexpected(kind == SOCK_STREAM || kind == SOCK_DGRAM ? -EPROTONOSUPPORT : -ESOCKTNOSUPPORT);
}

}  // namespace ferrule::inline v0::sim
