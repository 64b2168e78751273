#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

namespace ferrule::inline v0 {

// The PROXY protocol, versions 1 and 2: what a proxy says in front of a client's first byte, so that the server behind
// it knows who that is. The rules are those of haproxy's doc/proxy-protocol.txt, of 2020-03-05.

/// The longest header that is read, of either version: 16 bytes, the two addresses of at most 216, and what is said
/// besides (TLVs), for which a certificate's names are the largest that are in use. Version 1 has at most 107 bytes.
inline constexpr std::size_t proxy_header_bytes_max = 4096;
/// The longest header that is written: version 2 with two Unix paths.
inline constexpr std::size_t proxy_header_written_max = 16 + 216;

/// The form of a header.
enum class ProxyVersion : std::uint8_t {
    text = 1,    ///< version 1, a line: `PROXY TCP4 192.0.2.1 203.0.113.7 51312 443`
    binary = 2,  ///< version 2
};

/// Why bytes are no header.
enum class ProxyHeaderError : std::uint8_t {
    signature,  ///< they begin as neither version does
    version,    ///< version 2's signature, with another version behind it
    command,    ///< neither LOCAL nor PROXY
    family,     ///< a combination of family and transport that is not defined, or another word than TCP4, TCP6, UNKNOWN
    address,    ///< an address or a port that is not written as it must be
    too_long,   ///< a line without an end in 107 bytes; more than proxy_header_bytes_max
    length,     ///< the addresses, or what is said besides, reach beyond the end of the header
    checksum,   ///< it carries a checksum (CRC32c), and that is wrong
};

/// The name of the error, as in the enumeration.
FERRULE_EXPORT const char* to_string(ProxyHeaderError error) noexcept;

/// What a header says.
struct ProxyHeader {
    /// Who the client is, and what it has connected to. No addresses: the proxy does not know (UNKNOWN, UNSPEC), or
    /// speaks for itself (`local`); then the connection's own addresses are what there is.
    Address source;
    Address destination;
    std::uint32_t size = 0;  ///< bytes of the header: the client's first byte is behind them
    ProxyVersion version = ProxyVersion::text;
    bool local = false;  ///< LOCAL: the proxy has connected on its own account, to see whether the server lives
};

/// Reads the header at the beginning of what has been received so far. Nothing: it is right as far as it goes, and more
/// of it must come. A pure function, for any thread; how the bytes were cut on their way makes no difference, and what
/// is refused is refused with the first byte that makes it so, or at the end of the header.
///
/// Strict where the specification is: single spaces, no leading zeroes, combinations that are defined, lengths that
/// fit. Of what is said besides the addresses (TLVs) the checksum is verified, and the rest is skipped; a header
/// without addresses is skipped as a whole.
///
/// ```cpp
/// const std::string_view line = "PROXY TCP4 192.0.2.1 203.0.113.7 51312 443\r\nGET /";
/// const auto header = read_proxy_header(std::as_bytes(std::span(line)));
/// if (header && *header) std::puts((*header)->source.to_string().c_str());  // 192.0.2.1:51312
/// ```
FERRULE_EXPORT std::expected<std::optional<ProxyHeader>, ProxyHeaderError> read_proxy_header(
    std::span<const std::byte> received) noexcept;

/// A header, ready to be written in front of all else.
struct ProxyHeaderBytes {
    std::array<std::byte, proxy_header_written_max> bytes{};
    std::uint32_t size = 0;

    /// The bytes to send.
    [[nodiscard]] std::span<const std::byte> view() const noexcept { return std::span(bytes).first(size); }
};

/// The header that tells a server who the client is: for the first bytes of a connection to it. Addresses of two
/// families are both said in IPv6. With an address that is none, or a Unix address where the other is none or where the
/// version has no form for it, it says that nothing is known: UNKNOWN, or LOCAL.
///
/// ```cpp
/// const auto said = write_proxy_header(ProxyVersion::binary, connection.peer_address().value_or(Address{}),
///                                      connection.local_address().value_or(Address{}));
/// connection.write(said.view());
/// ```
FERRULE_EXPORT ProxyHeaderBytes write_proxy_header(ProxyVersion version, const Address& source,
                                                   const Address& destination) noexcept;

}  // namespace ferrule::inline v0
