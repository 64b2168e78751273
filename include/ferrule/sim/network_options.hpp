#pragma once

#include <cstdint>

namespace ferrule::inline v0::sim {

/// How the simulated network treats what is sent over it. What is given as a range is drawn anew each time.
struct NetworkOptions {
    /// One way between two machines. The order within a stream is kept whatever is drawn.
    std::uint64_t latency_min_ns = 10'000;
    std::uint64_t latency_max_ns = 200'000;
    /// One way within a machine.
    std::uint64_t loopback_latency_min_ns = 0;
    std::uint64_t loopback_latency_max_ns = 20'000;
    /// Payload of the largest segment between machines, unless a burst travels as one (as with segmentation offload).
    std::uint32_t maximum_segment_bytes = 1448;
    /// What a connection's sender keeps until it is acknowledged, unless SO_SNDBUF was set.
    std::uint32_t send_buffer_min_bytes = 16 * 1024;
    std::uint32_t send_buffer_max_bytes = 256 * 1024;
    /// What a connection's receiver accepts unread, unless SO_RCVBUF was set.
    std::uint32_t receive_window_min_bytes = 8 * 1024;
    std::uint32_t receive_window_max_bytes = 128 * 1024;
    /// Of a hundred bursts, those that are cut into segments of chosen sizes; the others travel whole.
    std::uint32_t cut_percent = 25;
};

}  // namespace ferrule::inline v0::sim
