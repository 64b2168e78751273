#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/proxy_options.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <expected>
#include <string>
#include <system_error>

namespace ferrule::inline v0 {

/// How a socket listens. Options that do not belong to the address's family are not used.
struct ListenSocketOptions {
    /// Where. Port 0: the system chooses one; local_address() tells which.
    Address address{};

    /// Connections that may wait to be accepted. The system cuts it down to net.core.somaxconn (listen(2)).
    int backlog = 4096;

    /// TCP: other sockets may listen on the same port and share its connections (SO_REUSEPORT, socket(7)): one for each
    /// reactor.
    bool reuse_port = true;

    /// `::` and IPv4-mapped addresses also take IPv4 connections. An IPv4 address always makes an IPv4 socket, whatever
    /// stands here.
    bool dual_stack = true;

    /// TCP: a connection is accepted only when its first bytes are there (TCP_DEFER_ACCEPT, tcp(7)): one wake-up less
    /// for peers that speak first. A peer that waits to be spoken to is then accepted late.
    bool defer_accept = false;
    /// How long the system waits for these bytes before it hands the connection out without them; at least 1.
    std::uint32_t defer_accept_seconds = 1;

    /// TCP: no waiting to fill segments (TCP_NODELAY). Accepted sockets inherit it, which saves a system call for each.
    bool no_delay = true;

    /// The address may be one that another server listens on: TCP shares the port with it, until it leaves; a Unix path
    /// is taken from it.
    bool take_over = false;

    /// Unix path: a socket file that nobody listens on any more is removed first. Without it, such a file is an error.
    bool remove_stale_unix = true;
    /// Unix path: the permissions of the socket file; 0: what the process's umask leaves. Who may
    /// not write to it may not connect (unix(7)).
    unsigned unix_mode = 0;

    /// What stands in front of the connections; for Network::listen, which reads its headers.
    ProxyOptions proxy{};
};

/// Why a socket does not listen.
struct ListenError {
    std::error_code code;
    /// The operation, what it failed on, and why: `bind 0.0.0.0:8080: Address already in use`.
    std::string message;
};

/// Opens a socket that listens: close-on-exec, and blocking, because a non-blocking one makes io_uring report EAGAIN
/// instead of waiting. Returns the descriptor, which the caller closes. Any thread; it does not wait, but for nothing.
///
/// With reuse_port it joins whoever listens on the port already, of this process or of another one of the same user:
/// ask check_port_is_free() first, once, when that would be a mistake. Without, a port that is taken is an error. A
/// Unix path that a live server listens on is an error unless take_over is set, and so is one that is not a socket.
FERRULE_EXPORT std::expected<int, ListenError> open_listen_socket(Kernel& kernel, const ListenSocketOptions& options);

/// Tells whether another server listens on the address, by binding it without SO_REUSEPORT. With take_over, with port 0
/// and for Unix addresses there is nothing to find out, and it succeeds.
///
/// The sockets of a server that was killed a moment ago may outlive it by some milliseconds, while the kernel ends its
/// ring: a taken port is tried again for up to 100 ms. Blocks the calling thread meanwhile.
FERRULE_EXPORT std::expected<void, ListenError> check_port_is_free(Kernel& kernel, const ListenSocketOptions& options);

/// Removes the file of a Unix path, when nobody listens on it (any more): for the end of a server, after its socket is
/// closed. Whoever has taken the path over in the meantime keeps it. Does nothing for other addresses.
FERRULE_EXPORT void remove_stale_unix_file(Kernel& kernel, const Address& address);

/// The address that a socket is bound to, with the port that the system chose. Errors: those of getsockname(2).
FERRULE_EXPORT std::expected<Address, std::error_code> local_address(Kernel& kernel, int fd);

/// The address that a socket is connected to. Errors: those of getpeername(2); not_connected when the peer has left.
FERRULE_EXPORT std::expected<Address, std::error_code> peer_address(Kernel& kernel, int fd);

}  // namespace ferrule::inline v0
