#pragma once

#include <ferrule/ring/abi.hpp>
#include <ferrule/sim/profile.hpp>

#include <cstdint>

namespace ferrule::inline v0::sim {

/// What io_uring of a kernel version knows: the masks of flags that it accepts, and the rules that changed between
/// versions. Sources: the kernel's tree, and what was measured on those kernels.
struct Features {
    /// IORING_FEAT_*, as io_uring_setup reports them.
    std::uint32_t features;
    std::uint32_t setup_flags;
    std::uint32_t enter_flags;
    std::uint8_t last_operation;
    std::uint32_t last_registration;
    std::uint32_t cancel_flags;
    std::uint32_t timeout_flags;
    std::uint32_t message_flags;
    std::uint16_t accept_flags;
    std::uint16_t receive_flags;
    std::uint16_t buffer_ring_flags;
    /// nop takes flags (6.10).
    bool nop_flags;
    /// uring_command on sockets (6.7).
    bool socket_commands;
    /// A connect that has waited asks the socket once more how it went, which tells the socket that it was told (6.10).
    bool connects_again;
    /// A multishot receive may have a length: it ends when so much has come (6.15).
    bool multishot_length;
    /// A message to a ring that defers its work becomes work of that ring (6.2); before, it is posted at once.
    bool messages_are_work;
    /// What a failed link cancels is posted as work (6.2); before, it is posted at once.
    bool cancelled_links_are_work;
    /// Work that comes while an enter runs work waits for the next enter when this one has enough (6.12).
    bool work_in_rounds;
    /// After so many pieces in a row a multishot lets others run (6.8); 0: never.
    std::uint32_t multishot_rounds;
    /// A multishot receive that has emptied the socket does not look for more before it is told of some. 6.5
    bool trusts_emptiness;
    /// The pieces of a multishot do not overtake ends that came before them (6.15, and 6.12 from its thirtieth update
    /// on: the 6.12 of this simulation has it). Incremental buffers need that.
    bool multishot_keeps_order;
    /// A group id below 64 that is registered again goes on with the old head: a bug that 6.11 mended.
    bool keeps_low_group_heads;
    /// Rings and buffer rings count as locked memory (6.13).
    bool charges_locked_memory;
};

[[nodiscard]] const Features& features_of(Profile profile) noexcept;

}  // namespace ferrule::inline v0::sim
