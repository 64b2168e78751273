#include <ferrule/sim/socket_address.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::string_view unix_prefix = "unix:";
constexpr socklen_t path_offset = offsetof(sockaddr_un, sun_path);

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return port;
}

}  // namespace

SocketAddress::SocketAddress() noexcept : storage_{.local = {}}, size_(sizeof(sa_family_t)) {
    storage_.any.sa_family = AF_UNSPEC;
}

std::optional<SocketAddress> SocketAddress::from(const sockaddr* address, socklen_t length) noexcept {
    if (address == nullptr || length < sizeof(sa_family_t) || length > sizeof(Storage)) return std::nullopt;
    sa_family_t family = AF_UNSPEC;
    std::memcpy(&family, address, sizeof family);
    const bool fits = (family == AF_INET && length == sizeof(sockaddr_in)) ||
                      (family == AF_INET6 && length == sizeof(sockaddr_in6)) || family == AF_UNIX;
    if (!fits) return std::nullopt;
    SocketAddress result;
    std::memcpy(&result.storage_, address, length);
    result.size_ = length;
    return result;
}

std::optional<SocketAddress> SocketAddress::parse(std::string_view text) {
    if (text.starts_with(unix_prefix)) {
        text.remove_prefix(unix_prefix.size());
        SocketAddress result;
        sockaddr_un& local = result.storage_.local;
        const bool abstract = text.starts_with('@');
        // A path ends with a zero byte; an abstract name begins with one instead of the @.
        const std::size_t size = text.size() + (abstract ? 0 : 1);
        if (text.empty() || size > sizeof local.sun_path) return std::nullopt;
        local.sun_family = AF_UNIX;
        std::memcpy(local.sun_path, text.data(), text.size());
        if (abstract) local.sun_path[0] = '\0';
        result.size_ = static_cast<socklen_t>(path_offset + size);
        return result;
    }
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto port = parse_port(text.substr(colon + 1));
    std::string host(text.substr(0, colon));
    if (!port) return std::nullopt;
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
        in6_addr address{};
        if (inet_pton(AF_INET6, host.c_str(), &address) != 1) return std::nullopt;
        return ipv6(address, *port);
    }
    in_addr address{};
    if (inet_pton(AF_INET, host.c_str(), &address) != 1) return std::nullopt;
    return ipv4(ntohl(address.s_addr), *port);
}

SocketAddress SocketAddress::ipv4(std::uint32_t address, std::uint16_t port) noexcept {
    SocketAddress result;
    result.storage_.internet = {};
    result.storage_.internet.sin_family = AF_INET;
    result.storage_.internet.sin_addr.s_addr = htonl(address);
    result.storage_.internet.sin_port = htons(port);
    result.size_ = sizeof(sockaddr_in);
    return result;
}

SocketAddress SocketAddress::ipv6(const in6_addr& address, std::uint16_t port) noexcept {
    SocketAddress result;
    result.storage_.internet6 = {};
    result.storage_.internet6.sin6_family = AF_INET6;
    result.storage_.internet6.sin6_addr = address;
    result.storage_.internet6.sin6_port = htons(port);
    result.size_ = sizeof(sockaddr_in6);
    return result;
}

std::string SocketAddress::to_string() const {
    char text[INET6_ADDRSTRLEN];
    switch (family()) {
        case AF_INET:
            inet_ntop(AF_INET, &storage_.internet.sin_addr, text, sizeof text);
            return std::string(text) + ':' + std::to_string(port());
        case AF_INET6:
            inet_ntop(AF_INET6, &storage_.internet6.sin6_addr, text, sizeof text);
            return '[' + std::string(text) + "]:" + std::to_string(port());
        case AF_UNIX: {
            std::string name(storage_.local.sun_path, size_ - std::min(size_, path_offset));
            if (!name.empty() && name.front() == '\0') {
                name.front() = '@';
            } else if (const std::size_t end = name.find('\0'); end != std::string::npos) {
                name.resize(end);
            }
            return std::string(unix_prefix) + name;
        }
        default:
            return "-";
    }
}

std::uint16_t SocketAddress::port() const noexcept {
    if (family() == AF_INET) return ntohs(storage_.internet.sin_port);
    if (family() == AF_INET6) return ntohs(storage_.internet6.sin6_port);
    return 0;
}

SocketAddress SocketAddress::with_port(std::uint16_t port) const noexcept {
    SocketAddress result = *this;
    if (family() == AF_INET) result.storage_.internet.sin_port = htons(port);
    if (family() == AF_INET6) result.storage_.internet6.sin6_port = htons(port);
    return result;
}

bool SocketAddress::equals(const SocketAddress& other) const noexcept {
    return size_ == other.size_ && std::memcmp(&storage_, &other.storage_, size_) == 0;
}

}  // namespace ferrule::inline v0::sim
