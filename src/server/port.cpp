#include <ferrule/ring/error.hpp>

#include "server/port.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <expected>
#include <string>

namespace ferrule::inline v0 {
namespace {

std::expected<int, ListenError> open_alone(Kernel& kernel, const ListenSocketOptions& socket) {
    if (const auto free = check_port_is_free(kernel, socket); !free) return std::unexpected(free.error());
    return open_listen_socket(kernel, socket);
}

bool lacks_ipv6(const ListenError& error) {
    return error.code == std::errc::address_family_not_supported || error.code == std::errc::address_not_available;
}

}  // namespace

ListenSocketOptions Port::socket_options(Kernel& kernel) const {
    const auto address = Address::parse(options.host, static_cast<std::uint16_t>(options.port), kernel);
    // It was a literal when it was validated; the interface of its scope may have gone.
    if (!address) throw StartError("listen on " + options.host + ": " + address.error().message(), address.error());
    ListenSocketOptions socket;
    socket.address = *address;
    socket.backlog = options.backlog;
    socket.dual_stack = options.dual_stack;
    socket.defer_accept = options.defer_accept;
    socket.defer_accept_seconds = options.defer_accept_seconds;
    socket.take_over = options.take_over;
    socket.unix_mode = options.unix_mode;
    socket.proxy = options.proxy;
    return socket;
}

int Port::open_first(Kernel& kernel, ListenSocketOptions& socket) {
    auto opened = open_alone(kernel, socket);
    if (!opened && options.host.empty() && lacks_ipv6(opened.error())) {
        socket.address = Address::any_ipv4(socket.address.port());
        opened = open_alone(kernel, socket);
    }
    if (!opened) throw StartError(opened.error().message, opened.error().code);
    if (socket.address.unix_path()) file = socket.address;
    return *opened;
}

bool Port::can_be_shared(const Address& bound) const noexcept {
    return bound.family() != AddressFamily::unix_domain && options.accept_mode == AcceptMode::per_reactor;
}

PortOptions first_port_of(const ServerOptions& options) {
    PortOptions port;
    port.host = options.host;
    port.port = options.port;
    port.backlog = options.backlog;
    port.dual_stack = options.dual_stack;
    port.defer_accept = options.defer_accept;
    port.defer_accept_seconds = options.defer_accept_seconds;
    port.take_over = options.take_over;
    port.unix_mode = options.unix_mode;
    port.accept_mode = options.accept_mode;
    port.socket_name = options.socket_name;
    port.proxy = options.proxy;
    return port;
}

void prepare_inherited(Kernel& kernel, int descriptor) {
    int listens = 0;
    socklen_t size = sizeof listens;
    int result = kernel.get_option(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    if (result < 0 || listens == 0) {
        const auto code = system_error(result < 0 ? -result : EINVAL);
        throw StartError("accept on descriptor " + std::to_string(descriptor) + ": it is not a listening socket", code);
    }
    // An accept in a ring does not wait for a socket that is non-blocking.
    result = kernel.set_nonblocking(descriptor, false);
    if (result < 0) {
        const auto code = system_error(-result);
        throw StartError("make descriptor " + std::to_string(descriptor) + " wait: " + code.message(), code);
    }
}

}  // namespace ferrule::inline v0
