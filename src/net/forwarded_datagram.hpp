#pragma once

#include <ferrule/net/datagram.hpp>
#include <ferrule/net/udp_group.hpp>
#include <ferrule/reactor/inbox.hpp>

#include <cstddef>
#include <memory>
#include <span>

namespace ferrule::inline v0 {

/// A datagram on its way from the reactor that has received it to the one whose it is, and there until it is given
/// back: one block with all that the kernel said of it, and the bytes.
struct ForwardedDatagram : Message, DatagramNode {
    /// A copy; null when memory is out. `bytes` are of the datagram.
    static ForwardedDatagram* make(const DatagramNode& received, std::size_t described_bytes,
                                   std::span<const std::byte> bytes, std::shared_ptr<UdpGroup> group,
                                   std::size_t index) noexcept;
    static void release(DatagramNode& node) noexcept;

    ForwardedDatagram(std::shared_ptr<UdpGroup> owning_group, std::size_t owner) noexcept;

    std::shared_ptr<UdpGroup> group;
    std::size_t index;  // whose it is

private:
    static void arrive(Message* message, bool delivered) noexcept;
};

}  // namespace ferrule::inline v0
