#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/proxy_header.hpp>
#include <ferrule/task/log.hpp>
#include <ferrule/task/spawn.hpp>

#include "net/defence.hpp"
#include "net/listener.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

// What comes from behind proxies: the header in front of a client's first byte is read by a task of the network's own,
// which ends where the handler begins.

namespace {

constexpr LogCause proxy_header{.name = "proxy-header"};

/// The first bytes of a read, as one piece: where they are, or copied into `into`.
std::span<const std::byte> first_bytes(const ReadResult& received, std::span<std::byte> into) noexcept {
    auto slice = received.begin();
    const Slice first = *slice;
    if (++slice == received.end() || first.size() >= into.size()) return {first.data(), first.size()};
    std::size_t size = 0;
    for (const Slice each : received) {
        const std::size_t part = std::min(each.size(), into.size() - size);
        std::memcpy(into.data() + size, each.data(), part);
        size += part;
    }
    return into.first(size);
}

}  // namespace

void Network::begin_proxied(ConnectionState& state) {
    ConnectionGuard& guard = guard_of(state);
    guard.awaits_header = true;
    guard.header_since = ticks_now();
    const auto timeout = listeners_[state.listener]->proxy().timeout;
    if (timeout.count() > 0) arm_no_later(state, due_of(guard.header_since, timeout));
    ferrule::spawn(*reactor_, receive_proxy_header(this, Connection{&state}));
}

Task<> Network::receive_proxy_header(Network* network, Connection connection) {
    while (auto received = co_await connection.read()) {
        if (network->take_proxy_header(connection, received)) co_return;
    }
    network->end_without_proxy_header(connection);
}

/// True when the header is there and the handler has begun, or when it is none and the connection was reset.
bool Network::take_proxy_header(Connection& connection, ReadResult& received) {
    ConnectionState& state = connection.state();
    std::array<std::byte, proxy_header_bytes_max> memory;
    const auto header = read_proxy_header(first_bytes(received, memory));
    if (!header) {
        counters_.proxy_errors.add();
        const auto peer = connection.transport_peer_address();
        reactor_->log.write(proxy_header, "a connection from %s has no right PROXY header (%s): it was reset",
                            peer ? peer->to_string().c_str() : "a peer that has left", to_string(header.error()));
        received.reset();
        connection.abort();
        return true;
    }
    if (!*header) {
        received.consume(0);
        return false;
    }
    ConnectionGuard& guard = guard_of(state);
    const ProxyHeader& said = **header;
    const bool known = said.source.family() != AddressFamily::none;
    received.consume(said.size);
    received.reset();
    if (known && defence_->limiter != nullptr && !admit_client(said.source, guard.client)) {
        connection.abort();
        return true;
    }
    if (known) {
        if (guard.addresses == nullptr) guard.addresses = std::make_unique<ProxiedAddresses>();
        *guard.addresses = {said.source, said.destination};
        guard.has_addresses = true;
    }
    guard.awaits_header = false;
    counters_.proxied.add();
    if (state.carry != nullptr) {
        requeue_carried(state);
    } else if (!state.receive_armed && !state.stays && state.received_first == nullptr) {
        // As for a connection that has just come: it may be for one request.
        state.receive_again = false;
    }
    begin_handler(state);
    return true;
}

/// What the client has said in one piece with the header is what the handler reads first, without waiting for more.
void Network::requeue_carried(ConnectionState& state) noexcept {
    FERRULE_ASSERT(!state.private_receive);
    LeaseNode* first = std::exchange(state.carry, nullptr);
    LeaseNode* last = first;
    for (;; last = last->next) {
        last->carried = false;
        if (last->next == nullptr) break;
    }
    last->next = state.received_first;
    if (state.received_first == nullptr) state.received_last = last;
    state.received_first = first;
}

void Network::end_without_proxy_header(Connection& connection) {
    const bool begun = connection.state().carry != nullptr;
    // A connection that comes and goes without a word is how proxies see whether a server lives.
    if (connection.end_reason() == EndReason::end_of_stream && begun) counters_.proxy_errors.add();
    if (connection.end_reason() == EndReason::deadline || begun) connection.abort();
}

const ProxiedAddresses* Network::proxied(const ConnectionState& state) const noexcept {
    if (defence_ == nullptr) [[likely]]
        return nullptr;
    const ConnectionGuard& guard = guard_of(state);
    return guard.has_addresses ? guard.addresses.get() : nullptr;
}

}  // namespace ferrule::inline v0
