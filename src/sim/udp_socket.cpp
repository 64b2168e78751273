#include "sim/udp_socket.hpp"

#include <netinet/udp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::uint32_t readable = POLLIN | POLLRDNORM;
constexpr std::uint32_t writable = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr std::uint8_t receive_shut = 1;
constexpr std::uint8_t send_shut = 2;
constexpr std::uint8_t all_shut = receive_shut | send_shut;
// net.core.rmem_default and wmem_default; what a datagram costs beside its bytes.
constexpr std::uint32_t default_buffer = 212'992;
constexpr std::uint64_t datagram_cost = 768;
// Of IPv4 and IPv6, and the largest unit of a link: loopback's, and everything else's.
constexpr std::size_t payload_max_ipv4 = 65'507;
constexpr std::size_t payload_max_ipv6 = 65'527;
constexpr std::size_t loopback_unit = 65'536;
constexpr std::size_t link_unit = 1'500;
constexpr std::size_t headers_ipv4 = 28;
constexpr std::size_t headers_ipv6 = 48;
constexpr std::size_t segments_max = 128;
constexpr int largest_segment = 0xffff;

InternetAddress wildcard(int family) noexcept {
    return family == AF_INET ? InternetAddress::ipv4(INADDR_ANY, 0) : InternetAddress{};
}

}  // namespace

UdpSocket::~UdpSocket() {
    released();
}

void UdpSocket::released() noexcept {
    if (std::exchange(ended_, true)) return;
    host_.datagram_ports().forget(*this);
    received_.clear();
}

std::uint32_t UdpSocket::send_buffer() const noexcept {
    return options_.send_buffer != 0 ? options_.send_buffer : default_buffer;
}

std::uint32_t UdpSocket::receive_buffer() const noexcept {
    return options_.receive_buffer != 0 ? options_.receive_buffer : default_buffer;
}

// datagram_poll of Linux: half of the buffer must be free to send.
std::uint32_t UdpSocket::readiness() const noexcept {
    std::uint32_t events = 0;
    if (error_ != 0) events |= POLLERR;
    if ((shut_ & receive_shut) != 0) events |= readable | POLLRDHUP;
    if (shut_ == all_shut) events |= POLLHUP;
    if (!received_.empty()) events |= readable;
    if (under_way_ * 2 < send_buffer()) events |= writable;
    return events;
}

// ---- Names.

int UdpSocket::bind(const sockaddr* address, socklen_t length) noexcept {
    const auto local = InternetAddress::given_to(family_, address, length);
    if (!local) return local.error();
    if (family_ == AF_INET6 && v6_only_ && local->is_ipv4()) return -EINVAL;
    if (bound() || remote_) return -EINVAL;
    if (!host_.has_address(local->address)) return -EADDRNOTAVAIL;
    const int result = host_.datagram_ports().bind(*this, *local);
    if (result < 0) return result;
    address_chosen_ = !local->is_any();
    port_chosen_ = local->port != 0;
    return 0;
}

int UdpSocket::bind_any() noexcept {
    return bound() ? 0 : host_.datagram_ports().bind(*this, wildcard(family_));
}

std::expected<InternetAddress, int> UdpSocket::source_to(const InternetAddress& to) const noexcept {
    if (!local_.is_any()) {
        if (local_.is_ipv4() != to.is_ipv4()) return std::unexpected(-ENETUNREACH);
        if (local_.is_loopback() && !to.is_loopback()) return std::unexpected(-EINVAL);
        return local_;
    }
    InternetAddress source;
    if (to.is_loopback()) {
        source = to.is_ipv4() ? InternetAddress::ipv4(INADDR_LOOPBACK, 0) : InternetAddress{in6addr_loopback, 0};
    } else {
        const SocketAddress& own = to.is_ipv4() ? host_.ipv4() : host_.ipv6();
        source = *InternetAddress::given_to(own.family(), own.data(), own.size());
    }
    source.port = local_.port;
    return source;
}

int UdpSocket::connect(const sockaddr* address, socklen_t length) noexcept {
    if (length < sizeof(sa_family_t)) return -EINVAL;
    if (address->sa_family == AF_UNSPEC) {
        // As it was before: what bind(2) has not named is free again.
        remote_.reset();
        if (!address_chosen_ && bound()) {
            const std::uint16_t port = local_.port;
            local_ = wildcard(family_);
            local_.port = port;
        }
        if (!port_chosen_ && bound()) {
            host_.datagram_ports().forget(*this);
            local_.port = 0;
        }
        return 0;
    }
    auto to = InternetAddress::given_to(family_, address, length);
    if (!to) return to.error();
    if (to->is_any()) {
        to = to->is_ipv4() || family_ == AF_INET ? InternetAddress::ipv4(INADDR_LOOPBACK, to->port)
                                                 : InternetAddress{in6addr_loopback, to->port};
    }
    if (family_ == AF_INET6 && v6_only_ && to->is_ipv4()) return -ENETUNREACH;
    if (const int result = bind_any(); result < 0) return -EAGAIN;
    const auto source = source_to(*to);
    if (!source) return source.error();
    local_ = *source;
    remote_ = *to;
    return 0;
}

std::expected<std::shared_ptr<File>, int> UdpSocket::accept(sockaddr*, socklen_t*) noexcept {
    return std::unexpected(-EOPNOTSUPP);
}

int UdpSocket::listen(int) noexcept {
    return -EOPNOTSUPP;
}

int UdpSocket::shutdown(int how) noexcept {
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
    shut_ |= static_cast<std::uint8_t>(how + 1);
    notify(readiness());
    return remote_ ? 0 : -ENOTCONN;
}

int UdpSocket::socket_name(sockaddr* address, socklen_t* length) noexcept {
    const InternetAddress local = bound() ? local_ : wildcard(family_);
    return copy_address(local.seen_by(family_), address, length);
}

int UdpSocket::peer_name(sockaddr* address, socklen_t* length) noexcept {
    if (!remote_) return -ENOTCONN;
    return copy_address(remote_->seen_by(family_), address, length);
}

// ---- What is sent.

std::expected<InternetAddress, int> UdpSocket::destination(const Ancillary& with) const noexcept {
    if (with.name_length == 0) {
        if (!remote_) return std::unexpected(-EDESTADDRREQ);
        return *remote_;
    }
    const auto* const name = reinterpret_cast<const sockaddr*>(&with.name);
    const bool as_ipv4 = family_ == AF_INET6 && name->sa_family == AF_INET;
    auto to = InternetAddress::given_to(as_ipv4 ? AF_INET : family_, name, with.name_length);
    if (!to) return family_ == AF_INET6 && to.error() == -EAFNOSUPPORT ? std::unexpected(-EINVAL) : to;
    if (to->port == 0) return std::unexpected(-EINVAL);
    if (family_ == AF_INET6 && v6_only_ && to->is_ipv4()) return std::unexpected(-ENETUNREACH);
    if (to->is_any()) {
        to = to->is_ipv4() || family_ == AF_INET ? InternetAddress::ipv4(INADDR_LOOPBACK, to->port)
                                                 : InternetAddress{in6addr_loopback, to->port};
    }
    return to;
}

std::int64_t UdpSocket::send(std::span<const std::byte> from, int flags) noexcept {
    return send_message(from, {}, flags);
}

std::int64_t UdpSocket::send_message(std::span<const std::byte> from, const Ancillary& with, int flags) noexcept {
    if ((flags & MSG_OOB) != 0) return -EOPNOTSUPP;
    if (from.size() > 0xffff) return -EMSGSIZE;
    const auto to = destination(with);
    if (!to) return to.error();
    const bool ipv4 = to->is_ipv4() || family_ == AF_INET;
    Sending sending{std::nullopt, traffic_class_, segment_bytes_};
    if (const int result = read_control(with.control, ipv4, sending); result < 0) return result;
    if (bind_any() < 0) return -EAGAIN;
    auto source = source_to(*to);
    if (sending.source) {
        source = *sending.source;
        source->port = local_.port;
    }
    if (!source) return source.error();
    if (from.size() > (ipv4 ? payload_max_ipv4 : payload_max_ipv6)) return -EMSGSIZE;
    World& world = host_.network().world();
    const std::size_t size = sending.segment_bytes;
    if (size != 0) {
        const bool here = host_.network().find(host_, to->address) == &host_;
        if (size + (ipv4 ? headers_ipv4 : headers_ipv6) > (here ? loopback_unit : link_unit)) return -EINVAL;
        if (from.size() > size * segments_max) return -EINVAL;
        if (from.size() > size && world.fault(Fault::datagram_uncut)) return -EIO;
    }
    if (error_ != 0) return -std::exchange(error_, 0);
    if ((shut_ & send_shut) != 0) return -EPIPE;
    if (under_way_ >= send_buffer()) return -EAGAIN;
    under_way_ += from.size();
    world.trace("datagram sent", source->port, to->port, static_cast<std::int64_t>(from.size()));
    Datagram datagram{*source, *to, {from.begin(), from.end()}, 0, sending.traffic_class, 0};
    if (size != 0 && from.size() > size) {
        datagram.segment_bytes = static_cast<std::uint32_t>(size);
        datagram.burst = ++bursts_;
    }
    send_datagram(host_, std::move(datagram), last_arrival_ns_, weak_from_this());
    return static_cast<std::int64_t>(from.size());
}

void UdpSocket::arrived(std::size_t bytes) noexcept {
    const bool was_full = under_way_ * 2 >= send_buffer();
    under_way_ -= bytes;
    if (was_full && under_way_ * 2 < send_buffer()) notify(writable);
}

void UdpSocket::refused() {
    error_ = ECONNREFUSED;
    notify(readiness());
}

// ---- What is received.

void UdpSocket::deliver(Datagram datagram) {
    if (datagram.segment_bytes == 0 || joins_) {
        if (joins_ && join(datagram)) return;
        queue(std::move(datagram));
        return;
    }
    for (std::size_t from = 0; from < datagram.bytes.size(); from += datagram.segment_bytes) {
        Datagram piece{datagram.from, datagram.to, {}, 0, datagram.traffic_class, 0};
        const auto first = datagram.bytes.begin() + static_cast<std::ptrdiff_t>(from);
        const std::size_t length = std::min<std::size_t>(datagram.segment_bytes, datagram.bytes.size() - from);
        piece.bytes.assign(first, first + static_cast<std::ptrdiff_t>(length));
        queue(std::move(piece));
    }
}

// The device joins what follows each other in a flow; loopback has none.
bool UdpSocket::join(const Datagram& datagram) {
    if (received_.empty() || datagram.segment_bytes != 0 || datagram.bytes.empty()) return false;
    Datagram& last = received_.back();
    if (!(last.from == datagram.from) || !(last.to == datagram.to) || last.traffic_class != datagram.traffic_class) {
        return false;
    }
    if (host_.network().find(host_, datagram.from.address) == &host_) return false;
    const std::size_t size = last.segment_bytes != 0 ? last.segment_bytes : last.bytes.size();
    if (size == 0 || last.bytes.size() % size != 0 || datagram.bytes.size() > size) return false;
    if (last.bytes.size() + datagram.bytes.size() > payload_max_ipv4) return false;
    if (last.bytes.size() / size >= segments_max / 2) return false;
    World& world = host_.network().world();
    const bool together = datagram.burst != 0 && datagram.burst == last.burst;
    if (!together && !world.random().one_in(4)) return false;
    last.segment_bytes = static_cast<std::uint32_t>(size);
    last.bytes.insert(last.bytes.end(), datagram.bytes.begin(), datagram.bytes.end());
    received_cost_ += datagram.bytes.size();
    return true;
}

void UdpSocket::queue(Datagram datagram) {
    if (received_cost_ > receive_buffer()) {
        host_.network().world().trace("datagram dropped", datagram.from.port, datagram.to.port);
        return;
    }
    received_cost_ += datagram.bytes.size() + datagram_cost;
    received_.push_back(std::move(datagram));
    notify(readable);
}

std::int64_t UdpSocket::receive(std::span<std::byte> into, int flags) noexcept {
    Ancillary nothing;
    return receive_message(into, nothing, flags);
}

std::int64_t UdpSocket::receive_message(std::span<std::byte> into, Ancillary& with, int flags) noexcept {
    if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
    if (error_ != 0) return -std::exchange(error_, 0);
    // Linux says so to who waits; a ring does, whatever it asks first.
    if (received_.empty()) return (shut_ & receive_shut) != 0 ? 0 : -EAGAIN;
    Datagram& datagram = received_.front();
    const std::size_t whole = datagram.bytes.size();
    const std::size_t size = std::min(into.size(), whole);
    if (size != 0) std::memcpy(into.data(), datagram.bytes.data(), size);
    if (size < whole) with.flags |= MSG_TRUNC;
    const SocketAddress name = datagram.from.seen_by(family_);
    with.name_length = name.size();
    std::memcpy(&with.name, name.data(), name.size());
    tell(datagram, with);
    if ((flags & MSG_PEEK) == 0) {
        received_cost_ -= std::min<std::uint64_t>(received_cost_, whole + datagram_cost);
        received_.pop_front();
        if (received_.empty()) received_cost_ = 0;
    }
    return static_cast<std::int64_t>((flags & MSG_TRUNC) != 0 ? whole : size);
}

// ---- Options.

bool* UdpSocket::flag_of(int level, int name) noexcept {
    if (level == IPPROTO_IP && name == IP_PKTINFO) return &tells_destination_;
    if (level == IPPROTO_IP && name == IP_RECVTOS) return &tells_class_;
    if (level == IPPROTO_UDP && name == UDP_GRO) return &joins_;
    if (level != IPPROTO_IPV6 || family_ != AF_INET6) return nullptr;
    if (name == IPV6_RECVPKTINFO) return &tells_destination6_;
    return name == IPV6_RECVTCLASS ? &tells_class6_ : nullptr;
}

int UdpSocket::set_internet_option(int level, int name, const void* value, socklen_t length) noexcept {
    int option = 0;
    const bool byte = level == IPPROTO_IP && length == 1;
    if (byte) {
        option = *static_cast<const unsigned char*>(value);
    } else if (!take_option(value, length, option)) {
        return -EINVAL;
    }
    if (bool* const flag = flag_of(level, name)) {
        *flag = option != 0;
        return 0;
    }
    if (level == IPPROTO_UDP && name == UDP_SEGMENT) {
        if (option < 0 || option > largest_segment) return -EINVAL;
        segment_bytes_ = static_cast<std::uint32_t>(option);
        return 0;
    }
    const bool traffic_class =
        (level == IPPROTO_IP && name == IP_TOS) || (level == IPPROTO_IPV6 && name == IPV6_TCLASS);
    if (traffic_class) {
        traffic_class_ = static_cast<std::uint8_t>(option);
        return 0;
    }
    if (level == IPPROTO_IPV6 && family_ == AF_INET6 && name == IPV6_V6ONLY) {
        if (bound()) return -EINVAL;
        v6_only_ = option != 0;
        return 0;
    }
    return -ENOPROTOOPT;
}

int UdpSocket::set_option(int level, int name, const void* value, socklen_t length) noexcept {
    if (value == nullptr) return -EFAULT;
    if (level != SOL_SOCKET) return set_internet_option(level, name, value, length);
    if (name == SO_ATTACH_REUSEPORT_CBPF) {
        sock_fprog program{};
        if (length != sizeof program) return -EINVAL;
        std::memcpy(&program, value, sizeof program);
        if (program.filter == nullptr) return -EINVAL;
        return DatagramPorts::attach(*this, {program.filter, program.len});
    }
    if (name == SO_DETACH_REUSEPORT_BPF) return DatagramPorts::detach(*this);
    return options_.set(name, value, length);
}

int UdpSocket::get_internet_option(int level, int name, void* value, socklen_t* length) const noexcept {
    if (const bool* const flag = const_cast<UdpSocket*>(this)->flag_of(level, name)) {
        return give_option(*flag ? 1 : 0, value, length);
    }
    if (level == IPPROTO_UDP && name == UDP_SEGMENT) {
        return give_option(static_cast<int>(segment_bytes_), value, length);
    }
    if ((level == IPPROTO_IP && name == IP_TOS) || (level == IPPROTO_IPV6 && name == IPV6_TCLASS)) {
        return give_option(traffic_class_, value, length);
    }
    if (level == IPPROTO_IPV6 && family_ == AF_INET6 && name == IPV6_V6ONLY) {
        return give_option(v6_only_ ? 1 : 0, value, length);
    }
    return -ENOPROTOOPT;
}

int UdpSocket::get_option(int level, int name, void* value, socklen_t* length) noexcept {
    if (value == nullptr || length == nullptr) return -EFAULT;
    if (level != SOL_SOCKET) return get_internet_option(level, name, value, length);
    switch (name) {
        case SO_TYPE:
            return give_option(SOCK_DGRAM, value, length);
        case SO_DOMAIN:
            return give_option(family_, value, length);
        case SO_PROTOCOL:
            return give_option(IPPROTO_UDP, value, length);
        case SO_ACCEPTCONN:
            return give_option(0, value, length);
        case SO_ERROR:
            return give_option(std::exchange(error_, 0), value, length);
        case SO_SNDBUF:
            return give_option(static_cast<int>(send_buffer()), value, length);
        case SO_RCVBUF:
            return give_option(static_cast<int>(receive_buffer()), value, length);
        default:
            return options_.get(name, value, length);
    }
}

}  // namespace ferrule::inline v0::sim
