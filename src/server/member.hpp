#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/counter.hpp>
#include <ferrule/reactor/metric.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ferrule::inline v0 {

/// A listening socket on its way to the network of its reactor.
struct Socket {
    std::size_t port = 0;
    int descriptor = -1;
    bool given = false;
    bool released = false;       // another process accepts from it
    std::uint16_t listener = 0;  // in the network, when it was given
};

/// What the network of a reactor accepts for a port.
struct PortListener {
    std::uint16_t number = 0;  ///< in the network
    std::size_t port = 0;
};

/// What a reactor of a server counts of the others' connections. Any thread may read.
struct HandOverCounters {
    Counter handed_over;  ///< connections that it has given to others
    Counter arrived;      ///< connections that others have given to it

    /// What they are called outside.
    static constexpr auto metrics() {
        using Row = MetricOf<HandOverCounters>;
        return std::array{
            Row{&HandOverCounters::handed_over,
                {"ferrule_connections_handed_over_total", "Connections that were given to another reactor."}},
            Row{&HandOverCounters::arrived,
                {"ferrule_connections_taken_over_total", "Connections that came from another reactor."}},
        };
    }
};

/// A reactor of a server, with what is made before its thread starts, what belongs to its thread, and what belongs to
/// the control.
struct Member {
    // Any thread.
    std::unique_ptr<Reactor> reactor;
    std::unique_ptr<ThreadHandle> thread;
    std::atomic<Network*> network = nullptr;
    std::atomic<bool> running = false;  // from its first accept to its end
    HandOverCounters counters;
    MetricRegistration counters_registered;

    // Its thread.
    std::vector<Socket> sockets;          // none for a port where others accept
    std::vector<PortListener> listeners;  // one for each port in turn, then those of a port's further sockets
    std::vector<std::uint64_t> given;     // by reactor: connections that this one has sent there
    std::size_t next = 0;                 // whose turn it is
    bool serving = false;
    bool hands_over = true;  // until the server ends

    // The control.
    bool ended = false;
    bool ready_to_drain = false;
};

}  // namespace ferrule::inline v0
