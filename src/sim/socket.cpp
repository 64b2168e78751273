#include <ferrule/assert.hpp>
#include <ferrule/sim/machine.hpp>
#include <ferrule/sim/socket.hpp>

#include "sim/file.hpp"
#include "sim/machine_state.hpp"
#include "sim/network.hpp"
#include "sim/world.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::size_t most_at_once = 64 * 1024;

std::error_code error_of(std::int64_t result) noexcept {
    return {static_cast<int>(-result), std::system_category()};
}

std::unexpected<std::error_code> failure(std::int64_t result) noexcept {
    return std::unexpected(error_of(result));
}

// Wakes the fiber that waits for a file.
class Waiter final : public FileWaiter {
public:
    Waiter(World& world, Fiber& fiber) noexcept : world_(world), fiber_(fiber) {}
    void ready(std::uint32_t) noexcept override {
        leave();
        world_.wake(fiber_);
    }

private:
    World& world_;
    Fiber& fiber_;
};

std::uint64_t deadline(const World& world, std::uint64_t limit_ns) noexcept {
    const std::uint64_t now_ns = world.now_ns();
    return limit_ns > no_time_limit - now_ns ? no_time_limit : now_ns + limit_ns;
}

// False when the time has come first.
bool wait_for_change(World& world, File& file, std::uint32_t events, std::uint64_t until_ns, const char* what) {
    Fiber* fiber = world.current_fiber();
    FERRULE_ASSERT(fiber != nullptr);
    Waiter waiter(world, *fiber);
    file.wait(waiter, events);
    while (waiter.waiting()) {
        if (world.now_ns() >= until_ns) return false;
        world.block(until_ns, what);
    }
    return true;
}

// The call until it does not have to wait any more; -ETIMEDOUT when the time has come first.
template <class Call>
std::int64_t blocking(World& world, File& file, std::uint32_t events, std::uint64_t limit_ns, const char* what,
                      Call call) {
    const std::uint64_t until_ns = deadline(world, limit_ns);
    for (;;) {
        const std::int64_t result = call();
        if (result != -EAGAIN && result != -EINPROGRESS) return result;
        if (!wait_for_change(world, file, events, until_ns, what)) return -ETIMEDOUT;
    }
}

int set_int(File& file, int level, int name, std::uint64_t value) noexcept {
    const auto option = static_cast<int>(std::min<std::uint64_t>(value, std::numeric_limits<int>::max()));
    return file.set_option(level, name, &option, sizeof option);
}

int set_buffers(File& file, const SocketOptions& options) noexcept {
    int result = 0;
    if (options.receive_buffer_bytes != 0) result = set_int(file, SOL_SOCKET, SO_RCVBUF, options.receive_buffer_bytes);
    if (result == 0 && options.send_buffer_bytes != 0) {
        result = set_int(file, SOL_SOCKET, SO_SNDBUF, options.send_buffer_bytes);
    }
    return result;
}

template <class Name>
SocketAddress address_given_by(Name name) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    auto* address = reinterpret_cast<sockaddr*>(&storage);
    if (name(address, &length) < 0) return {};
    return SocketAddress::from(address, length).value_or(SocketAddress{});
}

// A file that nobody uses yet, and that ends unless it is taken.
std::expected<std::shared_ptr<File>, std::error_code> open_socket(Host& host, const SocketAddress& address) {
    auto made = make_socket(host, address.family(), SOCK_STREAM, 0);
    if (!made) return failure(made.error());
    return std::move(*made);
}

}  // namespace

// ---- A connection.

Socket::Socket(World& world, std::shared_ptr<File> file, std::uint64_t time_limit_ns) noexcept
    : world_(&world), file_(std::move(file)), time_limit_ns_(time_limit_ns) {
    file_->acquire();
}

Socket::Socket(Socket&& other) noexcept
    : world_(other.world_),
      file_(std::move(other.file_)),
      time_limit_ns_(other.time_limit_ns_),
      sent_(other.sent_),
      received_(other.received_),
      carried_(std::move(other.carried_)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
    if (this == &other) return *this;
    close();
    world_ = other.world_;
    file_ = std::move(other.file_);
    time_limit_ns_ = other.time_limit_ns_;
    sent_ = other.sent_;
    received_ = other.received_;
    carried_ = std::move(other.carried_);
    return *this;
}

Socket::~Socket() {
    close();
}

std::expected<Socket, std::error_code> Socket::connect(Machine& machine, const SocketAddress& to,
                                                       const SocketOptions& options) {
    World& world = machine.state().world;
    auto file = open_socket(machine.state().host, to);
    if (!file) return std::unexpected(file.error());
    Socket socket(world, *file, options.time_limit_ns);
    if (const int result = set_buffers(**file, options); result < 0) return failure(result);
    if (options.local.family() != AF_UNSPEC) {
        const int result = (*file)->bind(options.local.data(), options.local.size());
        if (result < 0) return failure(result);
    }
    const std::int64_t result = blocking(world, **file, POLLOUT, options.connect_time_limit_ns, "a connection",
                                         [&] { return (*file)->connect(to.data(), to.size()); });
    if (result < 0) return failure(result);
    return socket;
}

std::expected<void, std::error_code> Socket::send(std::string_view bytes) {
    return send(std::as_bytes(std::span(bytes)));
}

std::expected<void, std::error_code> Socket::send(std::span<const std::byte> bytes) {
    if (file_ == nullptr) return failure(-EBADF);
    while (!bytes.empty()) {
        const std::int64_t result =
            blocking(*world_, *file_, POLLOUT, time_limit_ns_, "room to send", [&] { return file_->send(bytes, 0); });
        if (result < 0) return failure(result);
        sent_ += static_cast<std::uint64_t>(result);
        bytes = bytes.subspan(static_cast<std::size_t>(result));
    }
    return {};
}

std::expected<void, std::error_code> Socket::trickle(std::string_view bytes, std::size_t piece_bytes,
                                                     std::uint64_t pause_ns) {
    FERRULE_ASSERT(piece_bytes != 0);
    for (std::size_t at = 0; at < bytes.size(); at += piece_bytes) {
        if (at != 0) {
            const std::uint64_t until_ns = deadline(*world_, pause_ns);
            while (world_->now_ns() < until_ns) world_->block(until_ns, "the next piece of a trickle");
        }
        if (auto sent = send(bytes.substr(at, piece_bytes)); !sent) return sent;
    }
    return {};
}

std::expected<std::string, std::error_code> Socket::receive(std::size_t limit_bytes) {
    if (file_ == nullptr) return failure(-EBADF);
    std::string bytes;
    if (!carried_.empty()) {
        bytes = carried_.substr(0, limit_bytes);
        carried_.erase(0, bytes.size());
        return bytes;
    }
    bytes.resize(std::min(limit_bytes, most_at_once));
    const std::int64_t result = blocking(*world_, *file_, POLLIN, time_limit_ns_, "bytes",
                                         [&] { return file_->receive(std::as_writable_bytes(std::span(bytes)), 0); });
    if (result < 0) return failure(result);
    bytes.resize(static_cast<std::size_t>(result));
    received_ += bytes.size();
    return bytes;
}

std::expected<std::string, std::error_code> Socket::receive_exactly(std::size_t bytes, std::string* rest) {
    std::string all;
    while (all.size() < bytes) {
        auto part = receive(bytes - all.size());
        if (part && !part->empty()) {
            all += *part;
            continue;
        }
        if (rest != nullptr) *rest = std::move(all);
        return part ? failure(-ENODATA) : part;
    }
    return all;
}

std::expected<std::string, std::error_code> Socket::receive_until(std::string_view delimiter, std::size_t limit_bytes) {
    std::string all;
    for (;;) {
        auto part = receive();
        if (!part || part->empty()) {
            carried_ = std::move(all);
            return part ? failure(-ENODATA) : part;
        }
        const std::size_t seen = all.size() - std::min(all.size(), delimiter.size() - 1);
        all += *part;
        const std::size_t found = all.find(delimiter, seen);
        if (found != std::string::npos && found + delimiter.size() <= limit_bytes) {
            carried_ = all.substr(found + delimiter.size());
            all.resize(found + delimiter.size());
            return all;
        }
        if (all.size() >= limit_bytes) {
            carried_ = std::move(all);
            return failure(-EMSGSIZE);
        }
    }
}

std::expected<std::string, std::error_code> Socket::receive_to_end(std::string* rest) {
    std::string all;
    for (;;) {
        auto part = receive();
        if (part && part->empty()) return all;
        if (!part) {
            if (rest != nullptr) *rest = std::move(all);
            return part;
        }
        all += *part;
    }
}

bool Socket::wait_readable(std::uint64_t time_limit_ns) {
    if (file_ == nullptr || !carried_.empty() || (file_->readiness() & (POLLIN | POLLERR | POLLHUP)) != 0) return true;
    return wait_for_change(*world_, *file_, POLLIN, deadline(*world_, time_limit_ns), "bytes, or the end");
}

std::error_code Socket::take_error() {
    int error = 0;
    socklen_t length = sizeof error;
    if (file_ == nullptr || file_->get_option(SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error == 0) return {};
    return error_of(-error);
}

std::error_code Socket::shutdown_sending() {
    const int result = file_ != nullptr ? file_->shutdown(SHUT_WR) : -EBADF;
    return result < 0 ? error_of(result) : std::error_code{};
}

std::error_code Socket::receive_buffer(std::uint32_t bytes) {
    const int result = file_ != nullptr ? set_int(*file_, SOL_SOCKET, SO_RCVBUF, bytes) : -EBADF;
    return result < 0 ? error_of(result) : std::error_code{};
}

void Socket::reset() noexcept {
    if (file_ == nullptr) return;
    const linger now{.l_onoff = 1, .l_linger = 0};
    file_->set_option(SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
}

void Socket::close() noexcept {
    if (file_ == nullptr) return;
    carried_.clear();
    std::exchange(file_, nullptr)->release();
}

SocketAddress Socket::local_address() const {
    if (file_ == nullptr) return {};
    return address_given_by([&](sockaddr* address, socklen_t* length) { return file_->socket_name(address, length); });
}

SocketAddress Socket::peer_address() const {
    if (file_ == nullptr) return {};
    return address_given_by([&](sockaddr* address, socklen_t* length) { return file_->peer_name(address, length); });
}

// ---- A listener.

ListenSocket::ListenSocket(World& world, std::shared_ptr<File> file, const SocketOptions& accepted) noexcept
    : world_(&world), file_(std::move(file)), accepted_(accepted) {
    file_->acquire();
}

ListenSocket::ListenSocket(ListenSocket&& other) noexcept
    : world_(other.world_), file_(std::move(other.file_)), accepted_(other.accepted_) {}

ListenSocket& ListenSocket::operator=(ListenSocket&& other) noexcept {
    if (this == &other) return *this;
    close();
    world_ = other.world_;
    file_ = std::move(other.file_);
    accepted_ = other.accepted_;
    return *this;
}

ListenSocket::~ListenSocket() {
    close();
}

std::expected<ListenSocket, std::error_code> ListenSocket::open(Machine& machine, const SocketAddress& address,
                                                                const ListenSocketOptions& options) {
    auto file = open_socket(machine.state().host, address);
    if (!file) return std::unexpected(file.error());
    ListenSocket socket(machine.state().world, *file, options.accepted);
    int result = set_buffers(**file, options.accepted);
    if (result == 0 && address.family() != AF_UNIX) result = set_int(**file, SOL_SOCKET, SO_REUSEADDR, 1);
    if (result == 0 && options.reuse_port) result = set_int(**file, SOL_SOCKET, SO_REUSEPORT, 1);
    if (result == 0) result = (*file)->bind(address.data(), address.size());
    if (result == 0) result = (*file)->listen(options.backlog);
    if (result < 0) return failure(result);
    return socket;
}

std::expected<Socket, std::error_code> ListenSocket::accept(std::uint64_t time_limit_ns) {
    if (file_ == nullptr) return failure(-EBADF);
    std::shared_ptr<File> accepted;
    const std::int64_t result = blocking(*world_, *file_, POLLIN, time_limit_ns, "a connection to accept", [&] {
        auto next = file_->accept(nullptr, nullptr);
        if (!next) return next.error();
        accepted = std::move(*next);
        return 0;
    });
    if (result < 0) return failure(result);
    return Socket(*world_, std::move(accepted), accepted_.time_limit_ns);
}

void ListenSocket::close() noexcept {
    if (file_ == nullptr) return;
    std::exchange(file_, nullptr)->release();
}

SocketAddress ListenSocket::address() const {
    if (file_ == nullptr) return {};
    return address_given_by([&](sockaddr* address, socklen_t* length) { return file_->socket_name(address, length); });
}

}  // namespace ferrule::inline v0::sim
