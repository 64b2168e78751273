#include <ferrule/net/address_prefix.hpp>

#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace ferrule::inline v0 {
namespace {

constexpr unsigned bits_per_byte = 8;

constexpr unsigned bits_of(AddressFamily family) noexcept {
    switch (family) {
        case AddressFamily::ipv4:
            return 32;
        case AddressFamily::ipv6:
            return 128;
        default:
            return 0;
    }
}

/// The bytes of an internet address in the order of the network; zeroes of any other.
std::array<std::byte, 16> bytes_of(const Address& address) noexcept {
    std::array<std::byte, 16> bytes{};
    if (address.family() == AddressFamily::ipv4) {
        sockaddr_in ipv4;
        std::memcpy(&ipv4, address.data(), sizeof ipv4);
        std::memcpy(bytes.data(), &ipv4.sin_addr, sizeof ipv4.sin_addr);
    } else if (address.family() == AddressFamily::ipv6) {
        sockaddr_in6 ipv6;
        std::memcpy(&ipv6, address.data(), sizeof ipv6);
        std::memcpy(bytes.data(), &ipv6.sin6_addr, sizeof ipv6.sin6_addr);
    }
    return bytes;
}

void keep_first(std::array<std::byte, 16>& bytes, unsigned bits) noexcept {
    for (unsigned index = 0; index < bytes.size(); ++index) {
        const unsigned begins = index * bits_per_byte;
        if (bits >= begins + bits_per_byte) continue;
        const unsigned kept = bits > begins ? bits - begins : 0;
        bytes[index] &= static_cast<std::byte>(0xff00u >> kept);
    }
}

}  // namespace

AddressPrefix AddressPrefix::of(const Address& address, unsigned bits) noexcept {
    const Address own = address.unmapped();
    AddressPrefix prefix;
    prefix.family_ = own.family();
    prefix.bits_ = static_cast<std::uint8_t>(std::min(bits, bits_of(own.family())));
    prefix.bytes_ = bytes_of(own);
    keep_first(prefix.bytes_, prefix.bits_);
    return prefix;
}

bool AddressPrefix::contains(const Address& address) const noexcept {
    return family_ != AddressFamily::none && of(address, bits_) == *this;
}

std::expected<AddressPrefix, std::error_code> AddressPrefix::parse(std::string_view text) {
    const auto refused = std::unexpected(std::make_error_code(std::errc::invalid_argument));
    AddressPrefix prefix;
    if (text == "unix:") {
        prefix.family_ = AddressFamily::unix_domain;
        return prefix;
    }
    const auto slash = text.find('/');
    const std::string_view literal = text.substr(0, slash);
    // What Address reads besides literals is no prefix.
    if (literal.empty() || literal.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos)
        return refused;
    const auto address = Address::parse(literal, 0);
    if (!address) return refused;
    const unsigned whole = bits_of(address->family());
    unsigned bits = whole;
    if (slash != std::string_view::npos) {
        const std::string_view number = text.substr(slash + 1);
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), bits);
        if (error != std::errc{} || end != number.data() + number.size() || bits > whole) return refused;
    }
    prefix.family_ = address->family();
    prefix.bits_ = static_cast<std::uint8_t>(bits);
    prefix.bytes_ = bytes_of(*address);
    auto kept = prefix.bytes_;
    keep_first(kept, bits);
    if (kept != prefix.bytes_) return refused;
    return prefix;
}

std::string AddressPrefix::to_string() const {
    switch (family_) {
        case AddressFamily::none:
            return "none";
        case AddressFamily::unix_domain:
            return "unix:";
        case AddressFamily::ipv4: {
            sockaddr_in ipv4{};
            ipv4.sin_family = AF_INET;
            std::memcpy(&ipv4.sin_addr, bytes_.data(), sizeof ipv4.sin_addr);
            const std::string text =
                Address::from(reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4).value().to_string();
            return text.substr(0, text.rfind(':')) + '/' + std::to_string(bits_);
        }
        case AddressFamily::ipv6: {
            sockaddr_in6 ipv6{};
            ipv6.sin6_family = AF_INET6;
            std::memcpy(&ipv6.sin6_addr, bytes_.data(), sizeof ipv6.sin6_addr);
            const std::string text =
                Address::from(reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6).value().to_string();
            return text.substr(1, text.rfind(']') - 1) + '/' + std::to_string(bits_);
        }
    }
    return "none";
}

}  // namespace ferrule::inline v0
