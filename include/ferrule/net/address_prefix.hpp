#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {

/// The addresses that begin with the same bits: a network, one address, or all Unix sockets. A value; any thread may
/// use its own copy.
///
/// ```cpp
/// const AddressPrefix inside = AddressPrefix::parse("10.0.0.0/8").value();
/// if (inside.contains(connection.peer_address().value_or(Address{}))) connection.write("hello, neighbour\n");
/// ```
class FERRULE_EXPORT AddressPrefix {
public:
    /// No address at all.
    AddressPrefix() noexcept = default;

    /// Reads `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.1` and `::1` (all bits of the address), or `unix:`, which is every
    /// Unix socket. Bits behind the prefix must be zero: `10.0.0.1/8` is more often a mistake than meant.
    ///
    /// Errors: invalid_argument.
    static std::expected<AddressPrefix, std::error_code> parse(std::string_view text);

    /// The first bits of an address, at most 32 of an IPv4 and 128 of an IPv6 address. An IPv4-mapped address counts
    /// as the IPv4 address that it carries. Of a Unix address all Unix sockets, of none no address.
    static AddressPrefix of(const Address& address, unsigned bits) noexcept;

    /// Whether the address is one of them. An IPv4-mapped address is the IPv4 address that it carries.
    [[nodiscard]] bool contains(const Address& address) const noexcept;

    /// How many bits they have in common.
    [[nodiscard]] unsigned bits() const noexcept { return bits_; }
    /// The family of its addresses.
    [[nodiscard]] AddressFamily family() const noexcept { return family_; }
    /// The bits, the rest zero; an IPv4 address has the first four bytes.
    [[nodiscard]] const std::array<std::byte, 16>& bytes() const noexcept { return bytes_; }

    /// As `parse` reads it; `none` when it has no address.
    [[nodiscard]] std::string to_string() const;

    /// Equal: the same addresses. The order is total, and means nothing else.
    auto operator<=>(const AddressPrefix&) const noexcept = default;

private:
    std::array<std::byte, 16> bytes_{};
    AddressFamily family_ = AddressFamily::none;
    std::uint8_t bits_ = 0;
};

}  // namespace ferrule::inline v0
