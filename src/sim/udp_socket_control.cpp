#include "sim/udp_socket.hpp"

#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ferrule::inline v0::sim {

// The control messages of UDP: where a datagram leaves from and arrived at, its traffic class, and its segments.

namespace {

constexpr unsigned loopback_index = 1;
constexpr unsigned link_index = 2;

template <class T>
T value_of(std::span<const std::byte> data) noexcept {
    T value;
    std::memcpy(&value, data.data(), sizeof value);
    return value;
}

/// put_cmsg of Linux: what does not fit is cut, and the message says so.
template <class T>
void put(Ancillary& with, int level, int type, const T& value) noexcept {
    const std::span<std::byte> room = with.control.subspan(with.control_length);
    if (room.size() < sizeof(cmsghdr)) {
        with.flags |= MSG_CTRUNC;
        return;
    }
    std::size_t length = CMSG_LEN(sizeof value);
    if (length > room.size()) {
        with.flags |= MSG_CTRUNC;
        length = room.size();
    }
    cmsghdr header{};
    header.cmsg_len = length;
    header.cmsg_level = level;
    header.cmsg_type = type;
    std::memcpy(room.data(), &header, sizeof header);
    std::memcpy(room.data() + sizeof header, &value, length - sizeof header);
    with.control_length += std::min(CMSG_SPACE(sizeof value), room.size());
}

in_pktinfo info_of(const InternetAddress& to) noexcept {
    in_pktinfo info{};
    info.ipi_ifindex = static_cast<int>(to.is_loopback() ? loopback_index : link_index);
    info.ipi_addr.s_addr = htonl(to.ipv4_bits());
    info.ipi_spec_dst = info.ipi_addr;
    return info;
}

}  // namespace

int UdpSocket::read_control(std::span<const std::byte> control, bool ipv4, Sending& sending) const noexcept {
    while (control.size() >= sizeof(cmsghdr)) {
        const auto header = value_of<cmsghdr>(control);
        if (header.cmsg_len < sizeof header || header.cmsg_len > control.size()) return -EINVAL;
        const auto data = control.subspan(sizeof header, header.cmsg_len - sizeof header);
        const int level = header.cmsg_level;
        const int type = header.cmsg_type;
        if (level == SOL_SOCKET) return -EINVAL;
        if (level == IPPROTO_UDP) {
            if (type != UDP_SEGMENT || data.size() != sizeof(std::uint16_t)) return -EINVAL;
            sending.segment_bytes = value_of<std::uint16_t>(data);
        } else if (level == IPPROTO_IPV6 && family_ == AF_INET6 && type == IPV6_PKTINFO) {
            if (data.size() < sizeof(in6_pktinfo)) return -EINVAL;
            const InternetAddress source{value_of<in6_pktinfo>(data).ipi6_addr, 0};
            if (source.is_ipv4() != ipv4 && !source.is_any()) return -EINVAL;
            if (!source.is_any() && !host_.has_address(source.address)) return -EINVAL;
            if (!source.is_any()) sending.source = source;
        } else if (level == IPPROTO_IPV6 && !ipv4) {
            if (type != IPV6_TCLASS || data.size() != sizeof(int)) return -EINVAL;
            const int traffic_class = value_of<int>(data);
            if (traffic_class < -1 || traffic_class > 0xff) return -EINVAL;
            sending.traffic_class = static_cast<std::uint8_t>(std::max(traffic_class, 0));
        } else if (level == IPPROTO_IP && ipv4) {
            if (type == IP_PKTINFO && data.size() == sizeof(in_pktinfo)) {
                const std::uint32_t address = ntohl(value_of<in_pktinfo>(data).ipi_spec_dst.s_addr);
                const InternetAddress source = InternetAddress::ipv4(address, 0);
                if (!source.is_any() && !host_.has_address(source.address)) return -ENETUNREACH;
                if (!source.is_any()) sending.source = source;
            } else if (type == IP_TOS && (data.size() == sizeof(int) || data.size() == 1)) {
                const int tos = data.size() == 1 ? std::to_integer<int>(data.front()) : value_of<int>(data);
                if (tos < 0 || tos > 0xff) return -EINVAL;
                sending.traffic_class = static_cast<std::uint8_t>(tos);
            } else {
                return -EINVAL;
            }
        }
        control = control.subspan(std::min(CMSG_ALIGN(header.cmsg_len), control.size()));
    }
    return 0;
}

void UdpSocket::tell(const Datagram& datagram, Ancillary& with) const noexcept {
    const InternetAddress& to = datagram.to;
    const bool ipv4 = to.is_ipv4();
    if (joins_ && datagram.segment_bytes != 0) {
        put(with, IPPROTO_UDP, UDP_GRO, static_cast<int>(datagram.segment_bytes));
    }
    if (tells_destination6_) {
        const in6_pktinfo info{to.address, to.is_loopback() ? loopback_index : link_index};
        put(with, IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
    if (ipv4 && tells_destination_) put(with, IPPROTO_IP, IP_PKTINFO, info_of(to));
    if (ipv4 && tells_class_) put(with, IPPROTO_IP, IP_TOS, datagram.traffic_class);
    if (!ipv4 && tells_class6_) put(with, IPPROTO_IPV6, IPV6_TCLASS, static_cast<int>(datagram.traffic_class));
}

}  // namespace ferrule::inline v0::sim
