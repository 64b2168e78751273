#pragma once

#include <ferrule/version.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ferrule::inline v0::sim {

/// What the simulated kernel, network and peers can do to a program. Each has a rate, and can be placed at an exact
/// occasion.
enum class Fault : std::uint8_t {
    short_send,             ///< a send takes less than there is room for
    short_receive,          ///< a receive gives less than there is
    small_segment,          ///< one byte travels alone
    no_buffers_at_arm,      ///< -ENOBUFS as soon as a receive is armed, although buffers are there
    no_buffers_later,       ///< -ENOBUFS when bytes come, although buffers are there
    multishot_ends,         ///< a multishot's completion has no more behind it, without an error
    completion_overflow,    ///< the completion queue is treated as full
    completion_delayed,     ///< a completion is posted one turn later than it could be: others overtake it
    enter_interrupted,      ///< -EINTR from io_uring_enter
    enter_again,            ///< -EAGAIN from io_uring_enter, nothing consumed
    enter_busy,             ///< -EBUSY from io_uring_enter, nothing consumed
    enter_partial,          ///< io_uring_enter consumes fewer entries than it was given
    no_memory_at_setup,     ///< -ENOMEM from io_uring_setup
    no_memory_at_register,  ///< -ENOMEM from io_uring_register
    accept_no_descriptors,  ///< -EMFILE on accept
    accept_aborted,         ///< -ECONNABORTED on accept
    cancel_too_late,        ///< a cancel finds the request executing (-EALREADY), and the request goes on
    cancel_misses,          ///< a cancel comes when the request has just finished (-ENOENT), its completion behind it
    cancel_delayed,         ///< a request that was cancelled posts its last completion later
    close_delayed,          ///< a close completes later
    wake_delayed,           ///< what becomes ready is noticed later
    peer_stalls,            ///< a segment is held back for seconds
    peer_resets,            ///< the connection is reset in the middle
    packet_lost,            ///< a segment, or its acknowledgement, arrives only after a retransmission
    spurious_wake,          ///< a wait ends with nothing to show
    operation_fails,        ///< the next operation ends with -EIO instead of being done
    connect_refused,        ///< a connect of a ring ends with -ECONNREFUSED although somebody listens
    connect_unreachable,    ///< a connect of a ring finds no way: -ENETUNREACH at once, or -EHOSTUNREACH after seconds
    connect_vanishes,       ///< nobody answers a connect of a ring: -ETIMEDOUT after two minutes
    datagram_lost,          ///< a UDP datagram does not arrive
    datagram_doubled,       ///< it arrives twice
    datagram_overtaken,     ///< it arrives later, behind others that were sent later
    datagram_congested,     ///< one that is capable of ECN says that it met congestion
    datagram_uncut,         ///< -EIO for a send with segmentation offload: the device does not cut
    short_file_read,        ///< a read of a file gives less than there is
    short_file_write,       ///< a write to a file takes less than it was given
    file_read_fails,        ///< -EIO from a read of a file
    file_read_interrupted,  ///< -EINTR from it
    file_write_fails,       ///< -EIO from a write to a file, or from fsync
    disk_full,              ///< -ENOSPC from a write that makes a file longer, or that could
    file_shrinks,           ///< somebody shortens the file that is about to be read
    pages_dropped,          ///< its pages have left the page cache: what reads it next waits for the disk
    count_of_faults,
};

inline constexpr std::size_t fault_count = static_cast<std::size_t>(Fault::count_of_faults);

/// The name of a fault as command lines spell it: `short-send`.
FERRULE_EXPORT std::string_view name_of(Fault fault) noexcept;

/// A fault at an exact occasion: the `occasion`-th time (from 0) that it could happen.
struct PlacedFault {
    Fault fault;
    std::uint64_t occasion;
    friend bool operator==(const PlacedFault&, const PlacedFault&) = default;
};

/// Which faults happen. Whether one happens at its n-th occasion depends on the seed, the fault and n alone, so one can
/// be left out without moving the others.
struct Faults {
    /// Of a million occasions; by Fault.
    std::array<std::uint32_t, fault_count> rates{};
    /// These happen whatever the rates say.
    std::vector<PlacedFault> placed{};
    /// These do not happen whatever the rates say.
    std::vector<PlacedFault> left_out{};

    std::uint32_t& operator[](Fault fault) noexcept { return rates[static_cast<std::size_t>(fault)]; }
    std::uint32_t operator[](Fault fault) const noexcept { return rates[static_cast<std::size_t>(fault)]; }

    /// Every fault but operation_fails and those of set-up, each at a rate that a well-made program survives.
    FERRULE_EXPORT static Faults usual();
};

}  // namespace ferrule::inline v0::sim
