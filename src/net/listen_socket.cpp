#include <ferrule/net/listen_socket.hpp>
#include <ferrule/ring/error.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#include <cerrno>
#include <string_view>
#include <utility>

namespace ferrule::inline v0 {
namespace {

constexpr std::uint64_t taken_port_pause_ns = 10'000'000;
constexpr int taken_port_trials = 10;
constexpr std::uint16_t first_unprivileged_port = 1024;

std::unexpected<ListenError> failure(std::string_view operation, const Address& address, int error_number) {
    ListenError error{system_error(error_number), {}};
    error.message = std::string(operation) + ' ' + address.to_string() + ": " + error.code.message();
    if (error_number == EACCES && address.port() != 0 && address.port() < first_unprivileged_port) {
        error.message += " (ports below 1024 need CAP_NET_BIND_SERVICE)";
    }
    return std::unexpected(std::move(error));
}

int family_of(const Address& address) noexcept {
    return address.data()->sa_family;
}

bool is_internet(const Address& address) noexcept {
    return address.family() == AddressFamily::ipv4 || address.family() == AddressFamily::ipv6;
}

// A descriptor that is closed unless it is released.
class Descriptor {
public:
    Descriptor(Kernel& kernel, int fd) noexcept : kernel_(kernel), fd_(fd) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { close(); }
    void close() noexcept {
        if (fd_ >= 0) kernel_.close(fd_);
        fd_ = -1;
    }
    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }

private:
    Kernel& kernel_;
    int fd_;
};

int set_flag(Kernel& kernel, int fd, int level, int name, int value) noexcept {
    return kernel.set_option(fd, level, name, &value, sizeof value);
}

enum class UnixPath { absent, stale, live, not_a_socket };

// Looks at what lies at a Unix path; nothing but a trial connection tells a listener from what a dead one has left.
std::expected<UnixPath, ListenError> look_at_unix_path(Kernel& kernel, const Address& address) {
    unsigned mode = 0;
    const int found = kernel.status(address.unix_path()->data(), &mode);
    if (found == -ENOENT) return UnixPath::absent;
    if (found < 0) return failure("stat", address, -found);
    if (!S_ISSOCK(mode)) return UnixPath::not_a_socket;
    const Descriptor trial(kernel, kernel.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (trial.get() < 0) return failure("socket for", address, -trial.get());
    switch (const int result = kernel.connect(trial.get(), address.data(), address.size())) {
        case 0:
        case -EAGAIN:      // it listens, and its backlog is full
        case -EPROTOTYPE:  // a socket of another type
            return UnixPath::live;
        case -ECONNREFUSED:
            return UnixPath::stale;
        case -ENOENT:
            return UnixPath::absent;
        default:
            return failure("connect", address, -result);
    }
}

std::expected<void, ListenError> clear_unix_path(Kernel& kernel, const ListenSocketOptions& options) {
    const auto found = look_at_unix_path(kernel, options.address);
    if (!found) return std::unexpected(found.error());
    switch (*found) {
        case UnixPath::absent:
            return {};
        case UnixPath::not_a_socket:
            return failure("bind", options.address, EEXIST);
        case UnixPath::live:
            if (!options.take_over) return failure("bind", options.address, EADDRINUSE);
            break;
        case UnixPath::stale:
            if (!options.remove_stale_unix && !options.take_over) return failure("bind", options.address, EADDRINUSE);
            break;
    }
    const int removed = kernel.unlink(options.address.unix_path()->data());
    if (removed < 0 && removed != -ENOENT) return failure("remove", options.address, -removed);
    return {};
}

// What must be set before bind, for the trial as for the real socket.
std::expected<int, ListenError> open_socket(Kernel& kernel, const ListenSocketOptions& options) {
    const Address& address = options.address;
    if (address.family() == AddressFamily::none) return failure("listen on", address, EAFNOSUPPORT);
    Descriptor socket(kernel, kernel.socket(family_of(address), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket.get() < 0) return failure("socket for", address, -socket.get());
    if (is_internet(address)) {
        // Connections of an earlier process in TIME_WAIT do not keep the port; one that listens still does.
        const int result = set_flag(kernel, socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
        if (result < 0) return failure("SO_REUSEADDR for", address, -result);
    }
    if (address.family() == AddressFamily::ipv6) {
        const int result = set_flag(kernel, socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, options.dual_stack ? 0 : 1);
        if (result < 0) return failure("IPV6_V6ONLY for", address, -result);
    }
    return socket.release();
}

int try_bind(Kernel& kernel, int fd, const Address& address) noexcept {
    return kernel.bind(fd, address.data(), address.size());
}

template <int (Kernel::*name_of)(int, sockaddr*, socklen_t*) noexcept>
std::expected<Address, std::error_code> ask_address(Kernel& kernel, int fd) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    const int result = (kernel.*name_of)(fd, reinterpret_cast<sockaddr*>(&storage), &size);
    if (result < 0) return std::unexpected(system_error(-result));
    return Address::from(reinterpret_cast<const sockaddr*>(&storage), size);
}

}  // namespace

std::expected<int, ListenError> open_listen_socket(Kernel& kernel, const ListenSocketOptions& options) {
    const Address& address = options.address;
    if (address.unix_path()) {
        if (const auto cleared = clear_unix_path(kernel, options); !cleared) return std::unexpected(cleared.error());
    }
    const auto opened = open_socket(kernel, options);
    if (!opened) return opened;
    Descriptor socket(kernel, *opened);
    if (is_internet(address)) {
        struct Option {
            const char* name;
            bool wanted;
            int level;
            int option;
            int value;
        };
        const Option wanted[] = {
            {"SO_REUSEPORT for", options.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1},
            {"TCP_NODELAY for", options.no_delay, IPPROTO_TCP, TCP_NODELAY, 1},
            {"TCP_DEFER_ACCEPT for", options.defer_accept, IPPROTO_TCP, TCP_DEFER_ACCEPT,
             static_cast<int>(options.defer_accept_seconds)},
        };
        for (const Option& option : wanted) {
            if (!option.wanted) continue;
            const int result = set_flag(kernel, socket.get(), option.level, option.option, option.value);
            if (result < 0) return failure(option.name, address, -result);
        }
    }
    if (const int result = try_bind(kernel, socket.get(), address); result < 0)
        return failure("bind", address, -result);
    const char* operation = "set the mode of";
    int result = 0;
    // Between bind and listen nobody can connect: there is no moment with other permissions.
    if (address.unix_path() && options.unix_mode != 0) {
        result = kernel.change_mode(address.unix_path()->data(), options.unix_mode);
    }
    if (result >= 0) {
        operation = "listen on";
        result = kernel.listen(socket.get(), options.backlog);
    }
    if (result < 0) {
        socket.close();
        remove_stale_unix_file(kernel, address);
        return failure(operation, address, -result);
    }
    return socket.release();
}

std::expected<void, ListenError> check_port_is_free(Kernel& kernel, const ListenSocketOptions& options) {
    const Address& address = options.address;
    if (options.take_over || address.family() == AddressFamily::unix_domain || address.port() == 0) return {};
    for (int trial = 1;; ++trial) {
        const auto opened = open_socket(kernel, options);
        if (!opened) return std::unexpected(opened.error());
        const Descriptor socket(kernel, *opened);
        const int result = try_bind(kernel, socket.get(), address);
        if (result >= 0) return {};
        if (result != -EADDRINUSE || trial == taken_port_trials) return failure("bind", address, -result);
        kernel.pause_ns(taken_port_pause_ns);
    }
}

void remove_stale_unix_file(Kernel& kernel, const Address& address) {
    if (!address.unix_path()) return;
    const auto found = look_at_unix_path(kernel, address);
    if (found && *found == UnixPath::stale) kernel.unlink(address.unix_path()->data());
}

std::expected<Address, std::error_code> local_address(Kernel& kernel, int fd) {
    return ask_address<&Kernel::socket_name>(kernel, fd);
}

std::expected<Address, std::error_code> peer_address(Kernel& kernel, int fd) {
    return ask_address<&Kernel::peer_name>(kernel, fd);
}

}  // namespace ferrule::inline v0
