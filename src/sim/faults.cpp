#include <ferrule/sim/faults.hpp>

namespace ferrule::inline v0::sim {

namespace {

constexpr std::array<std::string_view, fault_count> names = {
    "short-send",
    "short-receive",
    "small-segment",
    "no-buffers-at-arm",
    "no-buffers-later",
    "multishot-ends",
    "completion-overflow",
    "completion-delayed",
    "enter-interrupted",
    "enter-again",
    "enter-busy",
    "enter-partial",
    "no-memory-at-setup",
    "no-memory-at-register",
    "accept-no-descriptors",
    "accept-aborted",
    "cancel-too-late",
    "cancel-misses",
    "cancel-delayed",
    "close-delayed",
    "wake-delayed",
    "peer-stalls",
    "peer-resets",
    "packet-lost",
    "spurious-wake",
    "operation-fails",
    "connect-refused",
    "connect-unreachable",
    "connect-vanishes",
    "datagram-lost",
    "datagram-doubled",
    "datagram-overtaken",
    "datagram-congested",
    "datagram-uncut",
    "short-file-read",
    "short-file-write",
    "file-read-fails",
    "file-read-interrupted",
    "file-write-fails",
    "disk-full",
    "file-shrinks",
    "pages-dropped",
};

}  // namespace

std::string_view name_of(Fault fault) noexcept {
    return names[static_cast<std::size_t>(fault)];
}

Faults Faults::usual() {
    constexpr std::uint32_t mostly = 200'000;
    constexpr std::uint32_t often = 20'000;
    constexpr std::uint32_t sometimes = 5'000;
    constexpr std::uint32_t rarely = 500;
    Faults faults;
    for (const Fault fault :
         {Fault::short_send, Fault::short_receive, Fault::small_segment, Fault::no_buffers_later, Fault::multishot_ends,
          Fault::completion_delayed, Fault::wake_delayed, Fault::close_delayed, Fault::cancel_too_late,
          Fault::cancel_delayed, Fault::datagram_overtaken, Fault::short_file_read, Fault::short_file_write,
          Fault::pages_dropped}) {
        faults[fault] = often;
    }
    // Hardly any cancel comes just then.
    faults[Fault::cancel_misses] = mostly;
    for (const Fault fault :
         {Fault::no_buffers_at_arm, Fault::completion_overflow, Fault::enter_interrupted, Fault::enter_again,
          Fault::enter_busy, Fault::enter_partial, Fault::packet_lost, Fault::spurious_wake, Fault::connect_refused,
          Fault::connect_unreachable, Fault::connect_vanishes, Fault::datagram_lost, Fault::datagram_doubled,
          Fault::datagram_congested}) {
        faults[fault] = sometimes;
    }
    for (const Fault fault :
         {Fault::accept_no_descriptors, Fault::accept_aborted, Fault::peer_stalls, Fault::peer_resets,
          Fault::datagram_uncut, Fault::file_read_fails, Fault::file_read_interrupted, Fault::file_write_fails,
          Fault::disk_full, Fault::file_shrinks}) {
        faults[fault] = rarely;
    }
    return faults;
}

}  // namespace ferrule::inline v0::sim
