#pragma once

#include "sim/world.hpp"

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <vector>

namespace ferrule::inline v0::sim {

/// A classic BPF program as SO_ATTACH_REUSEPORT_CBPF takes it: arithmetic, jumps, memory, returns, the ancillary loads
/// that need no packet (SKF_AD_RANDOM, SKF_AD_CPU), and those of a datagram's payload. Its headers are not modelled.
class PacketFilter {
public:
    /// -EINVAL for what Linux refuses (a jump out of the program, no return at the end, a division by 0), and for what
    /// is not modelled.
    /// `datagrams`: it may look at payloads; a connection that is asked for has none.
    static std::expected<PacketFilter, int> load(std::span<const sock_filter> program, bool datagrams = false);

    /// What it returns; 0 when it looks behind the payload's end.
    [[nodiscard]] std::uint32_t run(World& world, std::span<const std::byte> payload = {}) const;

private:
    explicit PacketFilter(std::span<const sock_filter> program) : program_(program.begin(), program.end()) {}

    std::vector<sock_filter> program_;
};

}  // namespace ferrule::inline v0::sim
