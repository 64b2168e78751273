#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {

/// The kinds of address that a stream socket of ours can have.
enum class AddressFamily : std::uint8_t {
    none,         ///< no address: a default-constructed Address
    ipv4,         ///< AF_INET
    ipv6,         ///< AF_INET6, also when it carries an IPv4-mapped address
    unix_domain,  ///< AF_UNIX: a path, an abstract name, or unnamed
};

/// Where a socket listens, or whom it talks to: an IPv4 or IPv6 address with a port, or a Unix-domain name.
///
/// A value: copying copies, nothing is allocated, any thread may use its own copy. Names are not resolved here.
class FERRULE_EXPORT Address {
public:
    /// No address; family() is AddressFamily::none and size() is 0.
    constexpr Address() noexcept : storage_{} {}

    /// Reads a literal address. `host` is one of
    ///   - an IPv4 literal, `127.0.0.1`: four decimal numbers, no shorter or octal forms;
    ///   - an IPv6 literal (RFC 4291, section 2.2), with or without brackets, with a scope of RFC 4007 if it has one:
    ///   `::1`, `[fe80::1%2]`,
    ///     `fe80::1%eth0`. The index of a named interface is read through `kernel`, which is used for nothing else;
    ///   - `localhost`, which is 127.0.0.1 and never asked of a resolver (RFC 6761, section 6.3);
    ///   - `*`, or nothing: every address of this machine, as any() says;
    ///   - `unix:PATH`, or `unix:@NAME` for a name in the abstract namespace (unix(7)). `port` is not used.
    ///
    /// Errors: invalid_argument (not an address), filename_too_long (a Unix name over the 107 bytes that sun_path
    /// holds), no_such_device (no interface of that name).
    static std::expected<Address, std::error_code> parse(std::string_view host, std::uint16_t port,
                                                         Kernel& kernel = linux_kernel());

    /// Takes over what the kernel filled in (accept, getsockname, getpeername).
    /// Errors: invalid_argument (too short for its family), address_family_not_supported.
    static std::expected<Address, std::error_code> from(const sockaddr* address, socklen_t size);

    /// `::`, every address of this machine: IPv6, and on a dual-stack socket IPv4 too.
    static Address any(std::uint16_t port) noexcept;
    /// `0.0.0.0`, every IPv4 address of this machine.
    static Address any_ipv4(std::uint16_t port) noexcept;
    /// `127.0.0.1`.
    static Address loopback(std::uint16_t port) noexcept;
    /// `::1`.
    static Address loopback_ipv6(std::uint16_t port) noexcept;

    /// The kind of address.
    AddressFamily family() const noexcept;

    /// The port; 0 where the family has none.
    std::uint16_t port() const noexcept;

    /// The same address with another port; a Unix address is returned as it is.
    Address with_port(std::uint16_t port) const noexcept;

    /// An IPv4 address in its IPv6 form, `::ffff:127.0.0.1` (RFC 4291, section 2.5.5.2): the form that an IPv6 socket
    /// takes. Others unchanged.
    Address mapped() const noexcept;

    /// The reverse of mapped(): what a dual-stack socket reports of an IPv4 peer, as an IPv4 address. Others unchanged.
    Address unmapped() const noexcept;

    /// True for `0.0.0.0`, `::` and `::ffff:0.0.0.0`.
    bool is_any() const noexcept;

    /// The path of a Unix address that has a file; nothing for every other address.
    std::optional<std::string_view> unix_path() const noexcept;

    /// `127.0.0.1:8080`, `[::1]:8080`, `[fe80::1%2]:8080`, `unix:/run/server.socket`, `unix:@name`, `unix:` (unnamed),
    /// `none`. Bytes of a Unix name that are not printable ASCII appear as `\xNN`.
    std::string to_string() const;

    /// The address as system calls take it: data() points into this object. The path of a Unix address is terminated.
    const sockaddr* data() const noexcept;
    /// How many bytes of data() count.
    socklen_t size() const noexcept;

    /// Equal: same family, address, port and scope. The order is total, and means nothing else.
    bool operator==(const Address& other) const noexcept;
    std::strong_ordering operator<=>(const Address& other) const noexcept;

private:
    union Storage {
        sockaddr_un unix_domain;
        sockaddr_in6 ipv6;
        sockaddr_in ipv4;
        sockaddr any;
    };

    static Address from_ipv4(const in_addr& address, std::uint16_t port) noexcept;
    static Address from_ipv6(const in6_addr& address, std::uint16_t port, std::uint32_t scope) noexcept;
    static std::expected<Address, std::error_code> from_unix_name(std::string_view name);
    std::string_view unix_bytes() const noexcept;

    Storage storage_;
    socklen_t size_ = 0;
};

}  // namespace ferrule::inline v0
