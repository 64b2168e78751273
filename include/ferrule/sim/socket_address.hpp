#pragma once

#include <ferrule/version.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ferrule::inline v0::sim {

/// Where a simulated socket is, or is to go: an IPv4 or IPv6 address with a port, or a Unix name. A value; what a
/// simulated peer connects to.
class FERRULE_EXPORT SocketAddress {
public:
    /// No address (AF_UNSPEC).
    SocketAddress() noexcept;

    /// From what sockets take. Nothing when the length does not fit the family, or the family is none of the three.
    static std::optional<SocketAddress> from(const sockaddr* address, socklen_t length) noexcept;
    /// From text: `10.0.0.1:80`, `[fd00::1]:80`, `unix:/run/server.sock`, `unix:@abstract`. Nothing when it is none.
    static std::optional<SocketAddress> parse(std::string_view text);
    /// An IPv4 address in host byte order, 0x0a000001 for 10.0.0.1.
    static SocketAddress ipv4(std::uint32_t address, std::uint16_t port) noexcept;
    static SocketAddress ipv6(const in6_addr& address, std::uint16_t port) noexcept;

    /// As parse takes it; `unix:` for a Unix socket without a name, `-` for no address.
    [[nodiscard]] std::string to_string() const;

    /// AF_INET, AF_INET6, AF_UNIX or AF_UNSPEC.
    [[nodiscard]] int family() const noexcept { return storage_.any.sa_family; }
    /// Host byte order; 0 for a Unix name.
    [[nodiscard]] std::uint16_t port() const noexcept;
    /// The same address with another port; an Internet address only.
    [[nodiscard]] SocketAddress with_port(std::uint16_t port) const noexcept;

    /// As bind(2) and connect(2) take it, `size()` bytes.
    [[nodiscard]] const sockaddr* data() const noexcept { return &storage_.any; }
    /// Of what is at `data()`.
    [[nodiscard]] socklen_t size() const noexcept { return size_; }

    friend bool operator==(const SocketAddress& left, const SocketAddress& right) noexcept {
        return left.equals(right);
    }

private:
    [[nodiscard]] bool equals(const SocketAddress& other) const noexcept;

    union Storage {
        sockaddr any;
        sockaddr_in internet;
        sockaddr_in6 internet6;
        sockaddr_un local;
    };

    Storage storage_;
    socklen_t size_;
};

}  // namespace ferrule::inline v0::sim
