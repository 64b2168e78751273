#include <ferrule/net/proxy_header.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

namespace ferrule::inline v0 {
namespace {

using Bytes = std::span<const std::byte>;
using Result = std::expected<std::optional<ProxyHeader>, ProxyHeaderError>;

// ---- version 1 ----

constexpr std::string_view line_begin = "PROXY ";
constexpr std::string_view line_end = "\r\n";
/// "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n" (section 2.1).
constexpr std::size_t line_bytes_max = 107;

std::string_view text_of(Bytes bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The next word of a line whose words are parted by single spaces; empty at its end, and where a word is missing.
std::string_view take_word(std::string_view& line) noexcept {
    const auto space = line.find(' ');
    const std::string_view word = line.substr(0, space);
    line = space == std::string_view::npos ? std::string_view{} : line.substr(space + 1);
    return word;
}

bool read_port(std::string_view word, in_port_t& port) noexcept {
    std::uint16_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc{} || end != word.data() + word.size() || (word.front() == '0' && word.size() > 1))
        return false;
    port = htons(number);
    return true;
}

// inet_pton(3) takes no leading zeroes, and no form but these two. What has a zero byte inside would be cut short
// there.
bool read_literal(int family, std::string_view word, void* into) noexcept {
    char terminated[INET6_ADDRSTRLEN];
    if (word.empty() || word.size() >= sizeof terminated || word.contains('\0')) return false;
    *std::copy(word.begin(), word.end(), terminated) = '\0';
    return ::inet_pton(family, terminated, into) == 1;
}

Address address_of(const sockaddr_in& ipv4) noexcept {
    return Address::from(reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4).value_or(Address{});
}

Address address_of(const sockaddr_in6& ipv6) noexcept {
    return Address::from(reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6).value_or(Address{});
}

bool read_addresses(std::string_view line, bool ipv6, ProxyHeader& header) noexcept {
    const std::string_view source = take_word(line);
    const std::string_view destination = take_word(line);
    const std::string_view source_port = take_word(line);
    // The last word has nothing behind it, not even a space.
    const std::string_view destination_port = line;
    if (source_port.empty() || destination_port.empty()) return false;
    if (ipv6) {
        sockaddr_in6 from{}, to{};
        from.sin6_family = to.sin6_family = AF_INET6;
        if (!read_literal(AF_INET6, source, &from.sin6_addr) || !read_literal(AF_INET6, destination, &to.sin6_addr) ||
            !read_port(source_port, from.sin6_port) || !read_port(destination_port, to.sin6_port))
            return false;
        header.source = address_of(from);
        header.destination = address_of(to);
        return true;
    }
    sockaddr_in from{}, to{};
    from.sin_family = to.sin_family = AF_INET;
    if (!read_literal(AF_INET, source, &from.sin_addr) || !read_literal(AF_INET, destination, &to.sin_addr) ||
        !read_port(source_port, from.sin_port) || !read_port(destination_port, to.sin_port))
        return false;
    header.source = address_of(from);
    header.destination = address_of(to);
    return true;
}

Result read_line(std::string_view received) noexcept {
    const std::string_view head = received.substr(0, line_bytes_max);
    const auto end = head.find_first_of(line_end);
    if (end == std::string_view::npos) {
        if (received.size() >= line_bytes_max) return std::unexpected(ProxyHeaderError::too_long);
        return std::nullopt;
    }
    if (end + 1 == head.size() && head[end] == '\r') {
        if (head.size() == line_bytes_max) return std::unexpected(ProxyHeaderError::too_long);
        return std::nullopt;
    }
    if (head.substr(end, line_end.size()) != line_end) return std::unexpected(ProxyHeaderError::address);
    ProxyHeader header;
    header.size = static_cast<std::uint32_t>(end + line_end.size());
    std::string_view line = head.substr(line_begin.size(), end - line_begin.size());
    const std::string_view family = take_word(line);
    if (family == "UNKNOWN") return header;  // what stands behind it is to be ignored
    if (family != "TCP4" && family != "TCP6") return std::unexpected(ProxyHeaderError::family);
    if (!read_addresses(line, family == "TCP6", header)) return std::unexpected(ProxyHeaderError::address);
    return header;
}

// ---- version 2 ----

constexpr std::string_view signature{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr std::size_t fixed_bytes = 16;  // signature, version and command, family and transport, length
constexpr unsigned version_nibble = 2;
constexpr unsigned command_local = 0;
constexpr unsigned command_proxy = 1;
constexpr unsigned family_unspecified = 0;
constexpr unsigned family_ipv4 = 1;
constexpr unsigned family_ipv6 = 2;
constexpr unsigned family_unix = 3;
constexpr unsigned transport_stream = 1;
constexpr unsigned transport_datagram = 2;
constexpr std::size_t ipv4_bytes = 12;
constexpr std::size_t ipv6_bytes = 36;
constexpr std::size_t unix_path_bytes = 108;
constexpr std::size_t unix_bytes = 2 * unix_path_bytes;
constexpr std::size_t tlv_fixed_bytes = 3;  // type, length
constexpr unsigned tlv_checksum = 0x03;     // PP2_TYPE_CRC32C
constexpr std::size_t checksum_bytes = 4;

unsigned byte_at(Bytes bytes, std::size_t at) noexcept {
    return std::to_integer<unsigned>(bytes[at]);
}

unsigned word_at(Bytes bytes, std::size_t at) noexcept {
    return byte_at(bytes, at) << 8 | byte_at(bytes, at + 1);
}

/// CRC32c (RFC 3720, appendix B.4). A header is short, and comes once in a connection.
std::uint32_t checksum(std::uint32_t sum, Bytes bytes) noexcept {
    constexpr std::uint32_t polynomial = 0x82f6'3b78;
    for (const std::byte byte : bytes) {
        sum ^= std::to_integer<std::uint32_t>(byte);
        for (unsigned bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ ((sum & 1) != 0 ? polynomial : 0);
    }
    return sum;
}

/// With the checksum's own bytes taken for zeroes.
bool checksum_is_right(Bytes header, std::size_t at) noexcept {
    constexpr std::array<std::byte, checksum_bytes> zeroes{};
    std::uint32_t sum = checksum(~std::uint32_t{0}, header.first(at));
    sum = checksum(sum, zeroes);
    sum = ~checksum(sum, header.subspan(at + checksum_bytes));
    return sum == (std::uint32_t{word_at(header, at)} << 16 | word_at(header, at + 2));
}

std::optional<ProxyHeaderError> check_rest(Bytes header, std::size_t at) noexcept {
    while (at != header.size()) {
        if (header.size() - at < tlv_fixed_bytes) return ProxyHeaderError::length;
        const unsigned type = byte_at(header, at);
        const std::size_t length = word_at(header, at + 1);
        at += tlv_fixed_bytes;
        if (length > header.size() - at) return ProxyHeaderError::length;
        if (type == tlv_checksum) {
            if (length != checksum_bytes) return ProxyHeaderError::length;
            if (!checksum_is_right(header, at)) return ProxyHeaderError::checksum;
        }
        at += length;
    }
    return std::nullopt;
}

Address ipv4_at(Bytes header, std::size_t address, std::size_t port) noexcept {
    sockaddr_in ipv4{};
    ipv4.sin_family = AF_INET;
    std::memcpy(&ipv4.sin_addr, header.data() + address, sizeof ipv4.sin_addr);
    std::memcpy(&ipv4.sin_port, header.data() + port, sizeof ipv4.sin_port);
    return address_of(ipv4);
}

Address ipv6_at(Bytes header, std::size_t address, std::size_t port) noexcept {
    sockaddr_in6 ipv6{};
    ipv6.sin6_family = AF_INET6;
    std::memcpy(&ipv6.sin6_addr, header.data() + address, sizeof ipv6.sin6_addr);
    std::memcpy(&ipv6.sin6_port, header.data() + port, sizeof ipv6.sin6_port);
    return address_of(ipv6);
}

/// A path ends with its first zero, an abstract name (unix(7)) begins with one and ends where only zeroes follow.
Address unix_at(Bytes header, std::size_t at) noexcept {
    const std::string_view field = text_of(header.subspan(at, unix_path_bytes));
    std::string_view name =
        field.front() != '\0' ? field.substr(0, field.find('\0')) : field.substr(0, field.find_last_not_of('\0') + 1);
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    name = name.substr(0, sizeof local.sun_path);
    std::copy(name.begin(), name.end(), local.sun_path);
    const bool path = !name.empty() && name.front() != '\0' && name.size() < sizeof local.sun_path;
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (path ? 1 : 0));
    return Address::from(reinterpret_cast<const sockaddr*>(&local), size).value_or(Address{});
}

std::size_t address_bytes(unsigned family) noexcept {
    switch (family) {
        case family_ipv4:
            return ipv4_bytes;
        case family_ipv6:
            return ipv6_bytes;
        case family_unix:
            return unix_bytes;
        default:
            return 0;
    }
}

bool is_defined(unsigned family, unsigned transport) noexcept {
    if (family == family_unspecified) return transport == 0;
    return family <= family_unix && (transport == transport_stream || transport == transport_datagram);
}

Result read_binary(Bytes received) noexcept {
    if (received.size() > 12 && byte_at(received, 12) >> 4 != version_nibble)
        return std::unexpected(ProxyHeaderError::version);
    if (received.size() > 12 && (byte_at(received, 12) & 0x0f) > command_proxy)
        return std::unexpected(ProxyHeaderError::command);
    if (received.size() < fixed_bytes) return std::nullopt;
    ProxyHeader header;
    header.version = ProxyVersion::binary;
    header.local = (byte_at(received, 12) & 0x0f) == command_local;
    const unsigned family = byte_at(received, 13) >> 4;
    // Of one that speaks for itself the rest is to be discarded, whatever it is.
    if (!header.local && !is_defined(family, byte_at(received, 13) & 0x0f))
        return std::unexpected(ProxyHeaderError::family);
    const std::size_t size = fixed_bytes + word_at(received, 14);
    const bool known = !header.local && family != family_unspecified;
    if (known && size < fixed_bytes + address_bytes(family)) return std::unexpected(ProxyHeaderError::length);
    if (size > proxy_header_bytes_max) return std::unexpected(ProxyHeaderError::too_long);
    if (received.size() < size) return std::nullopt;
    header.size = static_cast<std::uint32_t>(size);
    if (!known) return header;
    const Bytes whole = received.first(size);
    if (const auto error = check_rest(whole, fixed_bytes + address_bytes(family))) return std::unexpected(*error);
    switch (family) {
        case family_ipv4:
            header.source = ipv4_at(whole, fixed_bytes, fixed_bytes + 8);
            header.destination = ipv4_at(whole, fixed_bytes + 4, fixed_bytes + 10);
            break;
        case family_ipv6:
            header.source = ipv6_at(whole, fixed_bytes, fixed_bytes + 32);
            header.destination = ipv6_at(whole, fixed_bytes + 16, fixed_bytes + 34);
            break;
        default:
            header.source = unix_at(whole, fixed_bytes);
            header.destination = unix_at(whole, fixed_bytes + unix_path_bytes);
            break;
    }
    return header;
}

bool begin_alike(std::string_view received, std::string_view expected) noexcept {
    const std::size_t size = std::min(received.size(), expected.size());
    return received.substr(0, size) == expected.substr(0, size);
}

// ---- writing ----

void put(ProxyHeaderBytes& into, std::string_view text) noexcept {
    std::memcpy(into.bytes.data() + into.size, text.data(), text.size());
    into.size += static_cast<std::uint32_t>(text.size());
}

void put(ProxyHeaderBytes& into, const void* data, std::size_t size) noexcept {
    put(into, std::string_view(static_cast<const char*>(data), size));
}

void put_byte(ProxyHeaderBytes& into, unsigned value) noexcept {
    into.bytes[into.size++] = static_cast<std::byte>(value);
}

void put_number(ProxyHeaderBytes& into, unsigned value) noexcept {
    char text[8];
    const auto [end, error] = std::to_chars(text, text + sizeof text, value);
    static_cast<void>(error);
    put(into, std::string_view(text, static_cast<std::size_t>(end - text)));
}

/// The part of an address that is not its port.
const void* host_of(const Address& address) noexcept {
    return address.family() == AddressFamily::ipv4
               ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr)
               : &reinterpret_cast<const sockaddr_in6*>(address.data())->sin6_addr;
}

void put_literal(ProxyHeaderBytes& into, const Address& address) noexcept {
    char text[INET6_ADDRSTRLEN];
    if (::inet_ntop(address.data()->sa_family, host_of(address), text, sizeof text) != nullptr) put(into, text);
}

ProxyHeaderBytes write_line(const Address& source, const Address& destination, bool known) noexcept {
    ProxyHeaderBytes said;
    put(said, line_begin);
    if (known && source.family() != AddressFamily::unix_domain) {
        put(said, source.family() == AddressFamily::ipv4 ? "TCP4 " : "TCP6 ");
        put_literal(said, source);
        put(said, " ");
        put_literal(said, destination);
        put(said, " ");
        put_number(said, source.port());
        put(said, " ");
        put_number(said, destination.port());
    } else {
        put(said, "UNKNOWN");
    }
    put(said, line_end);
    return said;
}

void put_port(ProxyHeaderBytes& into, const Address& address) noexcept {
    put_byte(into, address.port() >> 8);
    put_byte(into, address.port() & 0xff);
}

void put_path(ProxyHeaderBytes& into, const Address& address) noexcept {
    constexpr std::size_t offset = offsetof(sockaddr_un, sun_path);
    const std::size_t size =
        std::min<std::size_t>(address.size() - std::min<std::size_t>(address.size(), offset), unix_path_bytes);
    std::memcpy(into.bytes.data() + into.size, reinterpret_cast<const sockaddr_un*>(address.data())->sun_path, size);
    into.size += unix_path_bytes;
}

ProxyHeaderBytes write_binary(const Address& source, const Address& destination, bool known) noexcept {
    ProxyHeaderBytes said;
    unsigned family = family_unspecified;
    if (known) {
        family = source.family() == AddressFamily::ipv4   ? family_ipv4
                 : source.family() == AddressFamily::ipv6 ? family_ipv6
                                                          : family_unix;
    }
    put(said, signature);
    put_byte(said, version_nibble << 4 | (known ? command_proxy : command_local));
    put_byte(said, known ? family << 4 | transport_stream : 0);
    put_byte(said, 0);
    put_byte(said, static_cast<unsigned>(address_bytes(family)));
    if (family == family_unix) {
        put_path(said, source);
        put_path(said, destination);
    } else if (known) {
        const std::size_t size = family == family_ipv4 ? sizeof(in_addr) : sizeof(in6_addr);
        put(said, host_of(source), size);
        put(said, host_of(destination), size);
        put_port(said, source);
        put_port(said, destination);
    }
    return said;
}

}  // namespace

const char* to_string(ProxyHeaderError error) noexcept {
    switch (error) {
        case ProxyHeaderError::signature:
            return "signature";
        case ProxyHeaderError::version:
            return "version";
        case ProxyHeaderError::command:
            return "command";
        case ProxyHeaderError::family:
            return "family";
        case ProxyHeaderError::address:
            return "address";
        case ProxyHeaderError::too_long:
            return "too_long";
        case ProxyHeaderError::length:
            return "length";
        case ProxyHeaderError::checksum:
            return "checksum";
    }
    return "unknown";
}

Result read_proxy_header(Bytes received) noexcept {
    const std::string_view text = text_of(received);
    if (received.empty()) return std::nullopt;
    if (begin_alike(text, signature)) return read_binary(received);
    if (!begin_alike(text, line_begin)) return std::unexpected(ProxyHeaderError::signature);
    if (received.size() < line_begin.size()) return std::nullopt;
    return read_line(text);
}

ProxyHeaderBytes write_proxy_header(ProxyVersion version, const Address& source, const Address& destination) noexcept {
    Address from = source, to = destination;
    if (from.family() != to.family()) {
        from = from.mapped();
        to = to.mapped();
    }
    const bool known = from.family() == to.family() && from.family() != AddressFamily::none;
    return version == ProxyVersion::text ? write_line(from, to, known) : write_binary(from, to, known);
}

}  // namespace ferrule::inline v0
