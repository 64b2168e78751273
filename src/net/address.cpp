#include <ferrule/net/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace ferrule::inline v0 {
namespace {

constexpr std::string_view unix_prefix = "unix:";
constexpr std::size_t unix_path_offset = offsetof(sockaddr_un, sun_path);

std::unexpected<std::error_code> failure(std::errc code) {
    return std::unexpected(std::make_error_code(code));
}

// inet_pton wants a terminated string; one with a zero byte inside would be cut short there and pass for another
// address.
bool read_literal(int family, std::string_view text, void* address) {
    std::array<char, INET6_ADDRSTRLEN> terminated{};
    if (text.size() >= terminated.size() || text.contains('\0')) return false;
    std::copy(text.begin(), text.end(), terminated.begin());
    return inet_pton(family, terminated.data(), address) == 1;
}

std::optional<std::uint32_t> read_number(std::string_view text) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
    return number;
}

std::expected<std::uint32_t, std::error_code> read_scope(std::string_view scope, Kernel& kernel) {
    if (const auto index = read_number(scope)) {
        if (*index == 0) return failure(std::errc::invalid_argument);
        return *index;
    }
    // The name becomes part of a path.
    if (scope.empty() || scope.size() >= IFNAMSIZ || scope.contains('/') || scope.contains('\0') ||
        scope.starts_with('.')) {
        return failure(std::errc::invalid_argument);
    }
    const std::string path = "/sys/class/net/" + std::string(scope) + "/ifindex";
    std::array<char, 16> text;
    const auto length = kernel.read_file(path.c_str(), text.data(), text.size());
    if (length <= 0) return failure(std::errc::no_such_device);
    std::string_view digits(text.data(), static_cast<std::size_t>(length));
    if (digits.ends_with('\n')) digits.remove_suffix(1);
    const auto index = read_number(digits);
    if (!index || *index == 0) return failure(std::errc::no_such_device);
    return *index;
}

void append_name(std::string& text, std::string_view name) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (const char character : name) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte >= 0x20 && byte < 0x7f) {
            text += character;
        } else {
            text += "\\x";
            text += digits[byte >> 4];
            text += digits[byte & 15];
        }
    }
}

}  // namespace

Address Address::from_ipv4(const in_addr& address, std::uint16_t port) noexcept {
    Address result;
    result.storage_.ipv4.sin_family = AF_INET;
    result.storage_.ipv4.sin_port = htons(port);
    result.storage_.ipv4.sin_addr = address;
    result.size_ = sizeof(sockaddr_in);
    return result;
}

Address Address::from_ipv6(const in6_addr& address, std::uint16_t port, std::uint32_t scope) noexcept {
    Address result;
    result.storage_.ipv6.sin6_family = AF_INET6;
    result.storage_.ipv6.sin6_port = htons(port);
    result.storage_.ipv6.sin6_addr = address;
    result.storage_.ipv6.sin6_scope_id = scope;
    result.size_ = sizeof(sockaddr_in6);
    return result;
}

std::expected<Address, std::error_code> Address::from_unix_name(std::string_view name) {
    if (name.empty() || name == "@") return failure(std::errc::invalid_argument);
    const bool abstract = name.front() == '@';
    if (!abstract && name.contains('\0')) return failure(std::errc::invalid_argument);
    // An abstract name may fill sun_path; a path keeps room for its terminator. One limit for both is easier to
    // explain.
    Address result;
    auto& address = result.storage_.unix_domain;
    if (name.size() >= sizeof address.sun_path) return failure(std::errc::filename_too_long);
    address.sun_family = AF_UNIX;
    std::copy(name.begin(), name.end(), address.sun_path);
    if (abstract) address.sun_path[0] = '\0';
    result.size_ = static_cast<socklen_t>(unix_path_offset + name.size() + (abstract ? 0 : 1));
    return result;
}

std::expected<Address, std::error_code> Address::parse(std::string_view host, std::uint16_t port, Kernel& kernel) {
    if (host.starts_with(unix_prefix)) return from_unix_name(host.substr(unix_prefix.size()));
    if (host.empty() || host == "*") return any(port);
    if (host == "localhost") return loopback(port);
    in_addr ipv4;
    if (read_literal(AF_INET, host, &ipv4)) return from_ipv4(ipv4, port);

    std::string_view literal = host;
    if (literal.starts_with('[')) {
        if (!literal.ends_with(']')) return failure(std::errc::invalid_argument);
        literal = literal.substr(1, literal.size() - 2);
    }
    std::uint32_t scope = 0;
    const auto percent = literal.find('%');
    in6_addr ipv6;
    if (!read_literal(AF_INET6, literal.substr(0, percent), &ipv6)) return failure(std::errc::invalid_argument);
    if (percent != std::string_view::npos) {
        const auto read = read_scope(literal.substr(percent + 1), kernel);
        if (!read) return std::unexpected(read.error());
        scope = *read;
    }
    return from_ipv6(ipv6, port, scope);
}

std::expected<Address, std::error_code> Address::from(const sockaddr* address, socklen_t size) {
    if (size < sizeof(sa_family_t)) return failure(std::errc::invalid_argument);
    sa_family_t family;
    std::memcpy(&family, reinterpret_cast<const std::byte*>(address) + offsetof(sockaddr, sa_family), sizeof family);
    Address result;
    switch (family) {
        case AF_INET: {
            sockaddr_in ipv4;
            if (size < sizeof ipv4) return failure(std::errc::invalid_argument);
            std::memcpy(&ipv4, address, sizeof ipv4);
            return from_ipv4(ipv4.sin_addr, ntohs(ipv4.sin_port));
        }
        case AF_INET6: {
            sockaddr_in6 ipv6;
            if (size < sizeof ipv6) return failure(std::errc::invalid_argument);
            std::memcpy(&ipv6, address, sizeof ipv6);
            return from_ipv6(ipv6.sin6_addr, ntohs(ipv6.sin6_port), ipv6.sin6_scope_id);
        }
        case AF_UNIX: {
            if (size > sizeof(sockaddr_un)) return failure(std::errc::invalid_argument);
            std::memcpy(&result.storage_.unix_domain, address, size);
            // The kernel counts the terminator of a path or leaves it out, depending on who bound it: count it always,
            // so that equal paths are equal addresses.
            const std::string_view name(result.storage_.unix_domain.sun_path,
                                        size - std::min<std::size_t>(size, unix_path_offset));
            if (name.empty() || name.front() == '\0') {
                result.size_ = size;
            } else {
                const auto length = name.substr(0, name.find('\0')).size();
                if (length >= sizeof result.storage_.unix_domain.sun_path) return failure(std::errc::invalid_argument);
                result.size_ = static_cast<socklen_t>(unix_path_offset + length + 1);
            }
            return result;
        }
        default:
            return failure(std::errc::address_family_not_supported);
    }
}

Address Address::any(std::uint16_t port) noexcept {
    return from_ipv6(in6addr_any, port, 0);
}

Address Address::any_ipv4(std::uint16_t port) noexcept {
    return from_ipv4(in_addr{htonl(INADDR_ANY)}, port);
}

Address Address::loopback(std::uint16_t port) noexcept {
    return from_ipv4(in_addr{htonl(INADDR_LOOPBACK)}, port);
}

Address Address::loopback_ipv6(std::uint16_t port) noexcept {
    return from_ipv6(in6addr_loopback, port, 0);
}

AddressFamily Address::family() const noexcept {
    switch (storage_.any.sa_family) {
        case AF_INET:
            return AddressFamily::ipv4;
        case AF_INET6:
            return AddressFamily::ipv6;
        case AF_UNIX:
            return AddressFamily::unix_domain;
        default:
            return AddressFamily::none;
    }
}

std::uint16_t Address::port() const noexcept {
    switch (family()) {
        case AddressFamily::ipv4:
            return ntohs(storage_.ipv4.sin_port);
        case AddressFamily::ipv6:
            return ntohs(storage_.ipv6.sin6_port);
        default:
            return 0;
    }
}

Address Address::with_port(std::uint16_t port) const noexcept {
    Address result = *this;
    if (family() == AddressFamily::ipv4) result.storage_.ipv4.sin_port = htons(port);
    if (family() == AddressFamily::ipv6) result.storage_.ipv6.sin6_port = htons(port);
    return result;
}

Address Address::mapped() const noexcept {
    if (family() != AddressFamily::ipv4) return *this;
    in6_addr address{};
    address.s6_addr[10] = 0xff;
    address.s6_addr[11] = 0xff;
    // Both forms are in network order: the four bytes are copied as they lie.
    std::memcpy(&address.s6_addr[12], &storage_.ipv4.sin_addr, sizeof storage_.ipv4.sin_addr);
    return from_ipv6(address, port(), 0);
}

Address Address::unmapped() const noexcept {
    if (family() != AddressFamily::ipv6 || !IN6_IS_ADDR_V4MAPPED(&storage_.ipv6.sin6_addr)) return *this;
    in_addr address;
    std::memcpy(&address, &storage_.ipv6.sin6_addr.s6_addr[12], sizeof address);
    return from_ipv4(address, port());
}

bool Address::is_any() const noexcept {
    const Address plain = unmapped();
    if (plain.family() == AddressFamily::ipv4) return plain.storage_.ipv4.sin_addr.s_addr == htonl(INADDR_ANY);
    return plain.family() == AddressFamily::ipv6 && IN6_IS_ADDR_UNSPECIFIED(&plain.storage_.ipv6.sin6_addr);
}

std::string_view Address::unix_bytes() const noexcept {
    if (family() != AddressFamily::unix_domain || size_ <= unix_path_offset) return {};
    return {storage_.unix_domain.sun_path, size_ - unix_path_offset};
}

std::optional<std::string_view> Address::unix_path() const noexcept {
    std::string_view bytes = unix_bytes();
    if (bytes.empty() || bytes.front() == '\0') return std::nullopt;
    bytes.remove_suffix(1);
    return bytes;
}

std::string Address::to_string() const {
    std::array<char, INET6_ADDRSTRLEN> literal;
    switch (family()) {
        case AddressFamily::ipv4:
            inet_ntop(AF_INET, &storage_.ipv4.sin_addr, literal.data(), literal.size());
            return std::string(literal.data()) + ':' + std::to_string(port());
        case AddressFamily::ipv6: {
            inet_ntop(AF_INET6, &storage_.ipv6.sin6_addr, literal.data(), literal.size());
            std::string text = std::string("[") + literal.data();
            if (storage_.ipv6.sin6_scope_id != 0) text += '%' + std::to_string(storage_.ipv6.sin6_scope_id);
            return text + "]:" + std::to_string(port());
        }
        case AddressFamily::unix_domain: {
            std::string text(unix_prefix);
            if (const auto path = unix_path()) {
                append_name(text, *path);
            } else if (const auto bytes = unix_bytes(); !bytes.empty()) {
                text += '@';
                append_name(text, bytes.substr(1));
            }
            return text;
        }
        default:
            return "none";
    }
}

const sockaddr* Address::data() const noexcept {
    return &storage_.any;
}

socklen_t Address::size() const noexcept {
    return size_;
}

bool Address::operator==(const Address& other) const noexcept {
    return (*this <=> other) == 0;
}

std::strong_ordering Address::operator<=>(const Address& other) const noexcept {
    if (const auto order = family() <=> other.family(); order != 0) return order;
    switch (family()) {
        case AddressFamily::ipv4: {
            const auto address = ntohl(storage_.ipv4.sin_addr.s_addr);
            if (const auto order = address <=> ntohl(other.storage_.ipv4.sin_addr.s_addr); order != 0) return order;
            return port() <=> other.port();
        }
        case AddressFamily::ipv6: {
            const sockaddr_in6& left = storage_.ipv6;
            const sockaddr_in6& right = other.storage_.ipv6;
            if (const auto order = std::memcmp(&left.sin6_addr, &right.sin6_addr, sizeof left.sin6_addr) <=> 0;
                order != 0) {
                return order;
            }
            if (const auto order = left.sin6_scope_id <=> right.sin6_scope_id; order != 0) return order;
            return port() <=> other.port();
        }
        default:
            return unix_bytes() <=> other.unix_bytes();
    }
}

}  // namespace ferrule::inline v0
