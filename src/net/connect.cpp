#include <ferrule/net/connect.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "net/connector.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

namespace {

using ConnectResult = std::expected<Connection, ConnectError>;

void check(const ConnectOptions& options) {
    const auto refuse = [](bool negative, const char* field) {
        if (negative) throw std::invalid_argument(std::string("ConnectOptions.") + field + " is negative");
    };
    refuse(options.timeout.count() < 0, "timeout");
    refuse(options.attempt_delay.count() < 0, "attempt_delay");
    refuse(options.keepalive_idle.count() < 0, "keepalive_idle");
    refuse(options.keepalive_interval.count() < 0, "keepalive_interval");
    refuse(options.keepalive_count < 0, "keepalive_count");
    refuse(options.user_timeout.count() < 0, "user_timeout");
}

std::uint64_t due_of(Reactor& reactor, std::chrono::milliseconds timeout) noexcept {
    if (timeout.count() == 0) return TimerHeap::never;
    return reactor.kernel().monotonic_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(timeout).count());
}

ConnectResult open(Reactor& reactor, int descriptor, const ConnectRace& race) {
    if (descriptor < 0) return std::unexpected(race.error());
    auto connection = Network::of(reactor).open(descriptor);
    if (connection) return std::move(*connection);
    reactor.kernel().close(descriptor);
    const std::error_code code = connection.error();
    return std::unexpected(
        ConnectError{code, "open a connection to " + race.winner().to_string() + ": " + code.message()});
}

/// The first, then the other family's first, and so on: a family that leads nowhere costs one delay, not one for each
/// of its addresses.
std::vector<Address> take_turns(std::span<const Address> addresses) {
    std::vector<Address> same;
    std::vector<Address> other;
    for (const Address& address : addresses) {
        (address.family() == addresses.front().family() ? same : other).push_back(address);
    }
    std::vector<Address> mixed;
    for (std::size_t index = 0; index < same.size() || index < other.size(); ++index) {
        if (index < same.size()) mixed.push_back(same[index]);
        if (index < other.size()) mixed.push_back(other[index]);
    }
    return mixed;
}

Task<ConnectResult> connect_one(Reactor* reactor, Address address, ConnectOptions options) {
    reactor->check_thread("connect");
    ConnectRace race(Connector::of(*reactor), {&address, 1}, options, due_of(*reactor, options.timeout));
    const int descriptor = co_await race;
    co_return open(*reactor, descriptor, race);
}

Task<ConnectResult> connect_first(Reactor* reactor, std::vector<Address> addresses, ConnectOptions options) {
    reactor->check_thread("connect");
    if (addresses.empty()) {
        const std::error_code code = std::make_error_code(std::errc::invalid_argument);
        co_return std::unexpected(ConnectError{code, "connect: no address"});
    }
    ConnectRace race(Connector::of(*reactor), addresses, options, due_of(*reactor, options.timeout));
    const int descriptor = co_await race;
    co_return open(*reactor, descriptor, race);
}

Task<ConnectResult> refuse(ConnectError error) {
    co_return std::unexpected(std::move(error));
}

Task<ConnectResult> connect_by_name(Reactor* reactor, std::string host, std::uint16_t port, ConnectOptions options) {
    reactor->check_thread("connect");
    const std::uint64_t due_ns = due_of(*reactor, options.timeout);
    auto resolving = Resolver::of(*reactor).resolve(host);
    if (due_ns != TimerHeap::never) resolving = with_deadline(std::move(resolving), options.timeout);
    auto resolved = co_await std::move(resolving);
    const std::string name = host + ':' + std::to_string(port) + ": ";
    if (!resolved)
        co_return std::unexpected(ConnectError{resolved.error().code, "connect to " + name + resolved.error().message});
    for (Address& address : resolved->addresses) address = address.with_port(port);
    ConnectRace race(Connector::of(*reactor), resolved->addresses, options, due_ns);
    const int descriptor = co_await race;
    auto opened = open(*reactor, descriptor, race);
    if (!opened) opened.error().message.insert(0, name);
    co_return opened;
}

}  // namespace

Task<ConnectResult> connect(Reactor& reactor, const Address& address, ConnectOptions options) {
    check(options);
    return connect_one(&reactor, address, options);
}

Task<ConnectResult> connect(Reactor& reactor, std::span<const Address> addresses, ConnectOptions options) {
    check(options);
    return connect_first(&reactor, take_turns(addresses), options);
}

Task<ConnectResult> connect(Reactor& reactor, std::string host, std::uint16_t port, ConnectOptions options) {
    check(options);
    if (host.starts_with("unix:")) {
        const auto address = Address::parse(host, port, reactor.kernel());
        if (!address) return refuse({address.error(), "connect to " + host + ": " + address.error().message()});
        return connect_one(&reactor, *address, options);
    }
    return connect_by_name(&reactor, std::move(host), port, options);
}

}  // namespace ferrule::inline v0
