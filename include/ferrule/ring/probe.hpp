#pragma once

#include <ferrule/ring/abi.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>

namespace ferrule::inline v0 {

/// What the running kernel can do, found by asking and by trying, never by its version number: distributions backport.
struct FERRULE_EXPORT Capabilities {
    /// As the kernel reports them: abi::feature_*.
    std::uint32_t features = 0;
    /// Operations that the kernel reports as supported, by number.
    std::bitset<256> operations;
    /// The highest operation number that the kernel knows.
    std::uint8_t last_operation = 0;

    /// abi::setup_no_submission_array (6.6).
    bool no_submission_array = false;
    /// abi::enter_no_iowait (6.15).
    bool no_iowait = false;
    /// GetEventsArgument::min_wait_usec (6.12).
    bool min_wait = false;
    /// A thread may register its ring descriptor (5.18).
    bool registered_ring_descriptor = false;
    /// Cancelling by operation and by user_data flag (6.6).
    bool cancel_by_operation = false;
    /// REGISTER_SYNC_CANCEL (6.0).
    bool cancel_sync = false;
    /// A message from ring to ring arrives (5.18).
    bool message_ring = false;
    /// abi::message_flags_pass (6.3).
    bool message_ring_flags = false;
    /// A message to a ring from a thread without one (6.13).
    bool message_without_ring = false;
    /// A ring of provided buffers (5.19).
    bool buffer_ring = false;
    /// Incremental buffers deliver what was sent where it belongs (6.12).
    bool incremental_buffers = false;
    /// The kernel tells its place in a buffer ring (6.8).
    bool buffer_ring_status = false;
    /// Multishot receive (6.0).
    bool receive_multishot = false;
    /// Multishot receive with a length limit (6.18); before, its length must be 0.
    bool receive_multishot_length = false;
    /// Several buffers per receive or send (6.10).
    bool bundles = false;
    /// abi::accept_poll_first and abi::accept_dont_wait (6.10).
    bool accept_flags = false;
    /// Socket options by uring_command (6.7). On Unix sockets only later: most kernels up to 6.18 refuse that.
    bool socket_commands = false;
    /// abi::timeout_multishot (6.4).
    bool timeout_multishot = false;
    /// The queues can be resized (6.13).
    bool resize_rings = false;
    /// A thread of the kernel's takes the entries (SQPOLL; 5.11 without privileges). A security module may forbid it.
    bool submission_poll = false;
    /// Network cards are polled before a wait sleeps (6.9); the kernel may have been built without.
    bool napi_busy_poll = false;
    /// The kernel's worker threads can be bounded (5.15).
    bool worker_limits = false;

    /// Whether the kernel reports the operation as supported.
    [[nodiscard]] bool supports(abi::Operation operation) const noexcept {
        return operations.test(static_cast<std::size_t>(operation));
    }

    /// A table for people: a line per capability with the Linux version that brought it, whether it is here, and what
    /// Ferrule does without it.
    [[nodiscard]] std::string describe() const;
};

/// The name of an operation (`receive_message`), or null for a number that Ferrule does not know.
[[nodiscard]] FERRULE_EXPORT const char* name_of(abi::Operation operation) noexcept;

/// Finds out what the kernel can do, on small rings and sockets of its own that are gone afterwards. Any thread; takes
/// about a millisecond. Errors: those of Ring::create with its default options (the kernel is older than 6.1, or
/// io_uring is forbidden).
[[nodiscard]] FERRULE_EXPORT std::expected<Capabilities, SetupError> probe(Kernel& kernel);

}  // namespace ferrule::inline v0
