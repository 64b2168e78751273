#include <ferrule/assert.hpp>
#include <ferrule/sim/datagram_socket.hpp>
#include <ferrule/sim/machine.hpp>

#include "sim/datagram_ports.hpp"
#include "sim/machine_state.hpp"
#include "sim/network.hpp"
#include "sim/world.hpp"

#include <poll.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::size_t longest_datagram = 65'535;

std::error_code error_of(std::int64_t result) noexcept {
    return result < 0 ? std::error_code{static_cast<int>(-result), std::system_category()} : std::error_code{};
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

// The call until it does not have to wait any more; -ETIMEDOUT when the time has come first.
template <class Call>
std::int64_t blocking(World& world, File& file, std::uint32_t events, std::uint64_t limit_ns, const char* what,
                      Call call) {
    const std::uint64_t now_ns = world.now_ns();
    const std::uint64_t until_ns = limit_ns > no_time_limit - now_ns ? no_time_limit : now_ns + limit_ns;
    for (;;) {
        const std::int64_t result = call();
        if (result != -EAGAIN) return result;
        FERRULE_ASSERT(world.current_fiber() != nullptr);
        Waiter waiter(world, *world.current_fiber());
        file.wait(waiter, events);
        while (waiter.waiting()) {
            if (world.now_ns() >= until_ns) return -ETIMEDOUT;
            world.block(until_ns, what);
        }
    }
}

}  // namespace

DatagramSocket::DatagramSocket(World& world, std::shared_ptr<File> file) noexcept
    : world_(&world), file_(std::move(file)) {
    file_->acquire();
}

DatagramSocket::DatagramSocket(DatagramSocket&& other) noexcept : world_(other.world_), file_(std::move(other.file_)) {}

DatagramSocket& DatagramSocket::operator=(DatagramSocket&& other) noexcept {
    if (this == &other) return *this;
    close();
    world_ = other.world_;
    file_ = std::move(other.file_);
    return *this;
}

DatagramSocket::~DatagramSocket() {
    close();
}

std::expected<DatagramSocket, std::error_code> DatagramSocket::open(Machine& machine, const SocketAddress& address) {
    auto made = make_socket(machine.state().host, address.family(), SOCK_DGRAM, 0);
    if (!made) return std::unexpected(error_of(made.error()));
    DatagramSocket socket(machine.state().world, std::move(*made));
    if (const int result = socket.file_->bind(address.data(), address.size()); result < 0) {
        return std::unexpected(error_of(result));
    }
    return socket;
}

std::error_code DatagramSocket::connect(const SocketAddress& to) {
    return error_of(file_ != nullptr ? file_->connect(to.data(), to.size()) : -EBADF);
}

std::error_code DatagramSocket::send(const SocketAddress& to, std::string_view bytes) {
    return send_to(&to, bytes);
}

std::error_code DatagramSocket::send(std::string_view bytes) {
    return send_to(nullptr, bytes);
}

std::error_code DatagramSocket::send_to(const SocketAddress* to, std::string_view bytes) {
    if (file_ == nullptr) return error_of(-EBADF);
    Ancillary with;
    if (to != nullptr) {
        with.name_length = to->size();
        std::memcpy(&with.name, to->data(), to->size());
    }
    return error_of(blocking(*world_, *file_, POLLOUT, no_time_limit, "room to send a datagram",
                             [&] { return file_->send_message(std::as_bytes(std::span(bytes)), with, 0); }));
}

std::expected<DatagramSocket::Received, std::error_code> DatagramSocket::receive(std::uint64_t time_limit_ns) {
    if (file_ == nullptr) return std::unexpected(error_of(-EBADF));
    Received received;
    received.bytes.resize(longest_datagram);
    Ancillary with;
    const std::int64_t result = blocking(*world_, *file_, POLLIN, time_limit_ns, "a datagram", [&] {
        with = {};
        return file_->receive_message(std::as_writable_bytes(std::span(received.bytes)), with, 0);
    });
    if (result < 0) return std::unexpected(error_of(result));
    received.bytes.resize(static_cast<std::size_t>(result));
    const auto* const name = reinterpret_cast<const sockaddr*>(&with.name);
    received.from = SocketAddress::from(name, with.name_length).value_or(SocketAddress{});
    return received;
}

void DatagramSocket::close() noexcept {
    if (file_ != nullptr) std::exchange(file_, nullptr)->release();
}

SocketAddress DatagramSocket::address() const {
    if (file_ == nullptr) return {};
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    auto* const address = reinterpret_cast<sockaddr*>(&storage);
    if (file_->socket_name(address, &length) < 0) return {};
    return SocketAddress::from(address, length).value_or(SocketAddress{});
}

void DatagramSocket::forge(Machine& machine, const SocketAddress& from, const SocketAddress& to,
                           std::string_view bytes) {
    const auto source = InternetAddress::given_to(from.family(), from.data(), from.size());
    const auto destination = InternetAddress::given_to(to.family(), to.data(), to.size());
    FERRULE_ASSERT(source && destination);
    Datagram datagram{*source, *destination, {}, 0, 0, 0};
    const auto payload = std::as_bytes(std::span(bytes));
    datagram.bytes.assign(payload.begin(), payload.end());
    std::uint64_t last_arrival_ns = 0;
    send_datagram(machine.state().host, std::move(datagram), last_arrival_ns, {});
}

}  // namespace ferrule::inline v0::sim
