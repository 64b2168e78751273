#include <ferrule/assert.hpp>
#include <ferrule/net/datagram.hpp>
#include <ferrule/ring/abi.hpp>

#include "net/udp_service.hpp"
#include "net/udp_state.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>

namespace ferrule::inline v0 {

namespace {

abi::ReceiveMessageHeader header_of(const DatagramNode& node) noexcept {
    abi::ReceiveMessageHeader header;
    std::memcpy(&header, node.memory, sizeof header);
    return header;
}

/// The data of a control message; a shorter one than a T is filled up with zeros.
template <class T>
std::optional<T> control_of(const DatagramNode& node, int level, int type) noexcept {
    msghdr message{};
    message.msg_control = node.memory + DatagramLayout::control_offset;
    message.msg_controllen = header_of(node).controllen;
    for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
        if (control->cmsg_level != level || control->cmsg_type != type) continue;
        T value{};
        std::memcpy(&value, CMSG_DATA(control), std::min<std::size_t>(sizeof value, control->cmsg_len - CMSG_LEN(0)));
        return value;
    }
    return std::nullopt;
}

/// The traffic class of IPv4 comes as one byte, that of IPv6 as an int.
int traffic_class_of(const DatagramNode& node) noexcept {
    if (const auto byte = control_of<std::uint8_t>(node, IPPROTO_IP, IP_TOS)) return *byte;
    return control_of<int>(node, IPPROTO_IPV6, IPV6_TCLASS).value_or(0);
}

}  // namespace

Address Datagram::sender() const noexcept {
    if (node_ == nullptr) return {};
    sockaddr_in6 name{};
    std::memcpy(&name, node_->memory + DatagramLayout::name_offset, sizeof name);
    return Address::from(reinterpret_cast<const sockaddr*>(&name), header_of(*node_).namelen).value_or(Address{});
}

Address Datagram::local_address() const noexcept {
    if (node_ == nullptr) return {};
    const std::uint16_t port = htons(node_->socket->port);
    if (const auto info = control_of<in_pktinfo>(*node_, IPPROTO_IP, IP_PKTINFO)) {
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_port = port;
        // Of a multicast group or a broadcast address nothing can be sent from: this is what stands in for it.
        name.sin_addr = info->ipi_spec_dst;
        return Address::from(reinterpret_cast<const sockaddr*>(&name), sizeof name).value_or(Address{});
    }
    if (const auto info = control_of<in6_pktinfo>(*node_, IPPROTO_IPV6, IPV6_PKTINFO)) {
        sockaddr_in6 name{};
        name.sin6_family = AF_INET6;
        name.sin6_port = port;
        name.sin6_addr = info->ipi6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&name.sin6_addr)) name.sin6_scope_id = info->ipi6_ifindex;
        return Address::from(reinterpret_cast<const sockaddr*>(&name), sizeof name).value_or(Address{});
    }
    return {};
}

Ecn Datagram::ecn() const noexcept {
    constexpr int congestion_bits = 0x3;
    return node_ != nullptr ? static_cast<Ecn>(traffic_class_of(*node_) & congestion_bits) : Ecn::not_capable;
}

std::uint32_t Datagram::segment_size() const noexcept {
    if (node_ == nullptr) return 0;
    const auto size = static_cast<std::uint32_t>(control_of<int>(*node_, SOL_UDP, UDP_GRO).value_or(0));
    return size < node_->length ? size : 0;
}

void Datagram::reset() noexcept {
    if (node_ == nullptr) return;
    DatagramNode& node = *std::exchange(node_, nullptr);
    UdpService::give_back(node);
}

}  // namespace ferrule::inline v0
