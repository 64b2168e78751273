#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/port_group.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/options.hpp>

#include <memory>
#include <optional>
#include <vector>

namespace ferrule::inline v0 {

/// One port of a server.
struct Port {
    PortOptions options;
    ConnectionHandler handler;
    std::optional<Address> file = std::nullopt;  ///< of a Unix path that is bound
    bool shared = false;  ///< a socket for each reactor; otherwise the first accepts and hands over
    std::shared_ptr<PortGroup> group = nullptr;  ///< of a shared port
    std::vector<int> sockets{};                  ///< that listen, and that no reactor has yet
    bool taken = false;                          ///< its sockets came from another server
    bool released = false;                       ///< another server has its sockets, too, and accepts

    /// How its sockets are opened. Throws StartError.
    ListenSocketOptions socket_options(Kernel& kernel) const;
    /// Opens its first socket, where nobody else may listen, and returns the descriptor. Throws StartError.
    /// `socket.address` becomes another when no host was given and the machine has no IPv6.
    int open_first(Kernel& kernel, ListenSocketOptions& socket);
    /// Whether the kernel can share the address that it is bound to among several sockets, and may.
    bool can_be_shared(const Address& bound) const noexcept;
};

/// The port that a server's own options describe.
PortOptions first_port_of(const ServerOptions& options);

/// Makes an inherited socket one that a ring can wait at. Throws StartError when nothing can be accepted from it.
void prepare_inherited(Kernel& kernel, int descriptor);

}  // namespace ferrule::inline v0
