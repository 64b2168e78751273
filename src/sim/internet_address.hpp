#pragma once

#include <ferrule/sim/socket_address.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <expected>

namespace ferrule::inline v0::sim {

/// An Internet address with a port, the IPv4 ones in their mapped form (::ffff:a.b.c.d): small, and the same whichever
/// family a socket has.
struct InternetAddress {
    in6_addr address{};
    /// Host byte order.
    std::uint16_t port = 0;

    static InternetAddress ipv4(std::uint32_t address, std::uint16_t port) noexcept {
        InternetAddress result;
        result.address.s6_addr[10] = result.address.s6_addr[11] = 0xff;
        const std::uint32_t network_order = htonl(address);
        std::memcpy(&result.address.s6_addr[12], &network_order, sizeof network_order);
        result.port = port;
        return result;
    }

    [[nodiscard]] bool is_ipv4() const noexcept { return IN6_IS_ADDR_V4MAPPED(&address); }
    /// Host byte order; of an IPv4 address.
    [[nodiscard]] std::uint32_t ipv4_bits() const noexcept {
        std::uint32_t network_order = 0;
        std::memcpy(&network_order, &address.s6_addr[12], sizeof network_order);
        return ntohl(network_order);
    }
    /// 0.0.0.0 or ::.
    [[nodiscard]] bool is_any() const noexcept {
        return is_ipv4() ? ipv4_bits() == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(&address);
    }
    [[nodiscard]] bool is_loopback() const noexcept {
        return is_ipv4() ? (ipv4_bits() >> 24) == 127 : IN6_IS_ADDR_LOOPBACK(&address);
    }
    [[nodiscard]] bool same_address(const InternetAddress& other) const noexcept {
        return std::memcmp(&address, &other.address, sizeof address) == 0;
    }
    friend bool operator==(const InternetAddress& left, const InternetAddress& right) noexcept {
        return left.port == right.port && left.same_address(right);
    }

    /// As a socket of the family sees it; an AF_INET socket has IPv4 addresses only, and an unset one is 0.0.0.0.
    [[nodiscard]] SocketAddress seen_by(int family) const noexcept {
        if (family == AF_INET) return SocketAddress::ipv4(is_ipv4() ? ipv4_bits() : INADDR_ANY, port);
        return SocketAddress::ipv6(address, port);
    }

    /// What a socket of the family is given: -EINVAL when it is too short, -EAFNOSUPPORT when it is of another family.
    static std::expected<InternetAddress, int> given_to(int family, const sockaddr* address,
                                                        socklen_t length) noexcept {
        if (length < sizeof(sa_family_t)) return std::unexpected(-EINVAL);
        if (family == AF_INET) {
            if (length < sizeof(sockaddr_in)) return std::unexpected(-EINVAL);
            sockaddr_in internet;
            std::memcpy(&internet, address, sizeof internet);
            if (internet.sin_family != AF_INET) return std::unexpected(-EAFNOSUPPORT);
            return ipv4(ntohl(internet.sin_addr.s_addr), ntohs(internet.sin_port));
        }
        // RFC 2133 had no scope: Linux takes 24 bytes.
        constexpr socklen_t without_scope = 24;
        if (length < without_scope) return std::unexpected(-EINVAL);
        sockaddr_in6 internet{};
        std::memcpy(&internet, address, without_scope);
        if (internet.sin6_family != AF_INET6) return std::unexpected(-EAFNOSUPPORT);
        return InternetAddress{internet.sin6_addr, ntohs(internet.sin6_port)};
    }
};

/// Copies an address out as getsockname(2) does: cut to `*length`, which then says the whole length. 0 or -EINVAL.
inline int copy_address(const SocketAddress& from, sockaddr* address, socklen_t* length) noexcept {
    if (length == nullptr) return -EFAULT;
    if (static_cast<int>(*length) < 0) return -EINVAL;
    if (address != nullptr) std::memcpy(address, from.data(), std::min(*length, from.size()));
    *length = from.size();
    return 0;
}

}  // namespace ferrule::inline v0::sim
