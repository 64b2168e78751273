#pragma once

#include <ferrule/net/address.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The messages of the domain name system, as a stub resolver needs them (RFC 1035, 2181, 2308, 6891): pure functions
/// of bytes. What they read was written by anybody, so no length, count or pointer in it is believed.
namespace ferrule::inline v0 {

/// A domain name in the form that messages carry: labels behind their lengths, ended by the empty one. Letters are in
/// lower case, so equal names have equal bytes (RFC 4343).
class DnsName {
public:
    static constexpr std::size_t bytes_max = 255;  // RFC 1035, section 2.3.4, with all lengths
    static constexpr std::size_t label_max = 63;

    /// Reads `example.org`, with or without a dot at the end. Letters, digits, `-` and `_`. The error says what is
    /// wrong with the name, to be put behind it.
    static std::expected<DnsName, std::string_view> parse(std::string_view text);

    /// Takes over bytes that are a name already.
    static DnsName from_wire(std::string wire) noexcept;

    /// The name below `parent`; nothing when that is too long.
    [[nodiscard]] std::optional<DnsName> below(const DnsName& parent) const;

    /// Whether it is `ancestor`, or a name below it.
    [[nodiscard]] bool within(const DnsName& ancestor) const noexcept;

    [[nodiscard]] std::string_view wire() const noexcept { return wire_; }
    /// `example.org`; the root is `.`. What is not printable, and a dot in a label, appears as `\NNN`.
    [[nodiscard]] std::string text() const;

    bool operator==(const DnsName&) const = default;

private:
    std::string wire_{std::string(1, '\0')};
};

/// The types of records that are read or asked for (RFC 1035, section 3.2.2; RFC 3596).
enum class DnsType : std::uint16_t {
    a = 1,
    name_server = 2,
    canonical_name = 5,
    start_of_authority = 6,
    aaaa = 28,
    options = 41,
};

struct DnsQuestion {
    DnsName name;
    DnsType type = DnsType::a;
};

/// What is random or a choice in a query.
struct DnsQueryOptions {
    std::uint16_t id = 0;
    /// One bit for each letter of the name: it is sent in upper case (the forger must guess it,
    /// draft-vixie-dnsext-dns0x20).
    std::array<std::uint8_t, 32> case_bits{};
    bool extended = true;  ///< with the option record of RFC 6891, which lets answers be larger than 512 bytes
};

/// What an answer may have by UDP: the size that passes everywhere without fragments (DNS flag day 2020).
inline constexpr std::uint16_t dns_udp_bytes = 1232;
/// Header, the longest name, type and class, and the option record.
inline constexpr std::size_t dns_query_bytes_max = 12 + DnsName::bytes_max + 4 + 11;

/// Writes the query and returns its length.
std::size_t write_dns_query(std::span<std::byte, dns_query_bytes_max> out, const DnsQuestion& question,
                            const DnsQueryOptions& options) noexcept;

/// An address of a record: 4 bytes count, or 16, as its type says.
using DnsAddress = std::array<std::uint8_t, 16>;

/// What a message from a server turned out to be.
enum class DnsReplyKind : std::uint8_t {
    foreign,         ///< no answer to this query: to be ignored
    wrong_case,      ///< an answer to it but for the case of its letters: from somebody who guessed, or from a sloppy
                     ///< server
    truncated,       ///< more than one datagram holds: to be asked for by TCP
    malformed,       ///< an answer that breaks the rules of messages
    answer,          ///< addresses
    no_data,         ///< the name exists, and has no address of this type
    no_such_name,    ///< NXDOMAIN
    format_error,    ///< FORMERR, NOTIMP or BADVERS: the server may not know option records
    server_failure,  ///< SERVFAIL, or an error that nobody expects here
    refused,         ///< REFUSED
    referral,        ///< other servers, which a stub resolver does not ask
};

struct DnsReply {
    DnsReplyKind kind = DnsReplyKind::foreign;
    std::vector<DnsAddress> addresses;
    std::uint32_t ttl_seconds = 0;                  ///< of the addresses, and of the aliases on the way to them
    std::optional<std::uint32_t> negative_seconds;  ///< how long to remember no_data and no_such_name; none: not at all
};

/// Aliases (CNAME) that are followed from the name to its addresses.
inline constexpr unsigned dns_alias_max = 16;
/// Records of an answer that are looked at; what comes behind them is only checked for its form.
inline constexpr std::size_t dns_record_max = 1024;
/// Addresses of an answer that are kept.
inline constexpr std::size_t dns_address_max = 256;

/// Reads what came from a server: `query` is what was sent to it, and `question` what that asks. Only records of the
/// name, and of the names that it is an alias of, are used; nothing else in the message is believed.
DnsReply read_dns_reply(std::span<const std::byte> message, std::span<const std::byte> query,
                        const DnsQuestion& question);

/// The address of a record of this type, with port 0.
Address to_address(const DnsAddress& address, DnsType type);

}  // namespace ferrule::inline v0
