#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <system_error>

namespace ferrule::inline v0 {

/// How a connection is opened. Options that do not belong to the address's family are not used. Negative times are
/// misuse: std::invalid_argument, which names the field.
struct ConnectOptions {
    /// Until it is connected, all addresses together. Zero: the system's own patience, about two minutes for TCP, and
    /// no end where a Unix listener accepts nobody.
    std::chrono::milliseconds timeout{10'000};
    /// Several addresses: how long one is waited for before the next is tried beside it (RFC 8305, section 5). At least
    /// 10 ms, whatever stands here. One that fails is not waited for.
    std::chrono::milliseconds attempt_delay{250};

    /// TCP: no waiting to fill segments (TCP_NODELAY).
    bool no_delay = true;

    /// TCP: silence after which the peer is asked whether it is there (TCP_KEEPIDLE, tcp(7)). Zero: it is not asked.
    std::chrono::seconds keepalive_idle{0};
    /// How long after a question without an answer the next one follows (TCP_KEEPINTVL).
    std::chrono::seconds keepalive_interval{10};
    /// So many without an answer end the connection with ETIMEDOUT (TCP_KEEPCNT).
    int keepalive_count = 6;
    /// TCP: how long what was sent may stay unacknowledged before the connection ends with ETIMEDOUT (TCP_USER_TIMEOUT,
    /// tcp(7)). Zero: as long as the system thinks right, about a quarter of an hour.
    std::chrono::milliseconds user_timeout{0};

    /// This side's address; port 0: a free one of it (IP_BIND_ADDRESS_NO_PORT, ip(7): ports that lead elsewhere may be
    /// used again). None: the system chooses. An address of another family than the peer's is an error.
    std::optional<Address> local{};
};

/// Why there is no connection.
struct ConnectError {
    /// Of several addresses, the error of the one that was tried first.
    std::error_code code;
    /// The operation, what it failed on, and why, for each address: `connect to 127.0.0.1:1: Connection refused`.
    std::string message;
};

/// Connects to one address: IPv4, IPv6, or Unix. The connection is like an accepted one, and outside any handler: it
/// belongs to whoever awaits, lasts through a drain, and is of the reactor's network (made with default options when
/// there is none yet).
///
/// ```cpp
/// auto opened = co_await connect(reactor, Address::loopback(11211));
/// if (!opened) throw std::runtime_error(opened.error().message);
/// opened->write("version\r\n");
/// co_await opened->flush();
/// ```
///
/// Errors, as values: those of connect(2) (connection_refused, network_unreachable, permission_denied,
/// address_not_available when this machine has no port left, a Unix path's no_such_file_or_directory, ...); timed_out
/// after ConnectOptions::timeout, when a deadline of the awaiting scope comes first, and when the system gives up;
/// operation_canceled; too_many_files_open without a descriptor; too_many_files_open_in_system at
/// NetworkOptions::connection_limit; no_buffer_space at ReactorOptions::operation_limit; those of setsockopt(2) and
/// bind(2). A connection of a socket to itself, which TCP makes when the peer's port is the one that this side was
/// given, is connection_refused.
///
/// Cancellation, and destroying the task, detach at once; the socket is closed when the kernel has let go of it. A Unix
/// listener whose backlog is full is waited for by a thread of the kernel's. Reactor's own thread; elsewhere it throws
/// std::logic_error.
[[nodiscard]] FERRULE_EXPORT Task<std::expected<Connection, ConnectError>> connect(Reactor& reactor,
                                                                                   const Address& address,
                                                                                   ConnectOptions options = {});

/// Connects to whichever of the addresses answers first, as RFC 8305 says (sections 4 and 5): in the order in which
/// they are given, with the families taking turns; the next is tried when one has failed, or has not answered within
/// ConnectOptions::attempt_delay; the first that connects ends the others. None: invalid_argument. As above otherwise.
[[nodiscard]] FERRULE_EXPORT Task<std::expected<Connection, ConnectError>> connect(Reactor& reactor,
                                                                                   std::span<const Address> addresses,
                                                                                   ConnectOptions options = {});

/// Connects to a host by its name, or to what Address::parse reads: the addresses that the reactor's Resolver knows,
/// with the port, as above. ConnectOptions::timeout is for both. `unix:PATH` is no name, and `port` is not used then.
///
/// Errors: those of Resolver::resolve, too, which the message names (`connect to db:5432: resolve db: no such name`).
///
/// ```cpp
/// const ConnectOptions patience{.timeout = 2s};
/// auto opened = co_await connect(reactor, "cache.internal", 11211, patience);
/// if (!opened) std::puts(opened.error().message.c_str());
/// ```
[[nodiscard]] FERRULE_EXPORT Task<std::expected<Connection, ConnectError>> connect(Reactor& reactor, std::string host,
                                                                                   std::uint16_t port,
                                                                                   ConnectOptions options = {});

}  // namespace ferrule::inline v0
