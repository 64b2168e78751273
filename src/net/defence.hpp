#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/address_limiter.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/timer_heap.hpp>

#include "net/load_watch.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace ferrule::inline v0 {

/// What a PROXY header has said.
struct ProxiedAddresses {
    Address source;
    Address destination;
};

/// What a network knows of a connection besides its slot, where it defends itself.
struct ConnectionGuard {
    std::uint64_t client = 0;                     // as AddressLimiter counts it
    std::unique_ptr<ProxiedAddresses> addresses;  // stays with the slot

    // The rate at which the peer sends: bytes, and ticks in which they were waited for.
    std::uint64_t received = 0;
    std::uint32_t receive_waited = 0;
    std::uint32_t receive_counted = 0;  // waiting before this tick is counted, or does not count

    // The rate at which it takes.
    std::uint64_t acknowledged = 0;  // at the beginning of the window
    std::uint32_t send_waited = 0;
    std::uint32_t send_counted = 0;

    std::uint32_t header_since = 0;  // when a PROXY header began to be waited for
    bool awaits_header = false;
    bool has_addresses = false;
    bool in_message = false;
    bool sends_slowly = false;  // there is a window
};
static_assert(sizeof(ConnectionGuard) <= 64);

/// What a network has to defend itself against hostile and slow peers, where it is asked to.
class Defence : public Timer {
public:
    explicit Defence(const NetworkOptions& options)
        : load(ns(options.overload_latency), ns(options.overload_interval)) {}

    static std::uint64_t ns(std::chrono::milliseconds time) noexcept {
        return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
    }

    std::vector<ConnectionGuard> guards;  // one for each slot
    std::unique_ptr<AddressLimiter> own_limiter;
    AddressLimiter* limiter = nullptr;  // null: no limit
    std::uint32_t full_slice = 0;       // what Network::stream_slice_ would be if each receive were not counted

    // The latency of the loop. The timer looks again at one that may have nothing more to do.
    LoadWatch load;
    std::uint64_t entered_ns = 0;  // when the loop entered the kernel last
    std::uint64_t sleeps = 0;      // that it had slept by then
};

}  // namespace ferrule::inline v0
