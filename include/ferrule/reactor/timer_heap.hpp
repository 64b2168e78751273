#pragma once

#include <ferrule/version.hpp>

#include <cstdint>
#include <vector>

namespace ferrule::inline v0 {

/// Something with a deadline: embedded in what owns it, pinned while armed. Eight bytes, because each connection has
/// one.
struct Timer {
    static constexpr std::uint32_t disarmed = 0xffff'ffff;

    std::uint32_t position = disarmed;  ///< in the heap
    std::uint8_t route = 0;             ///< whose timer this is: see Reactor::add_timer_route

    /// Whether it waits for its time.
    [[nodiscard]] bool armed() const noexcept { return position != disarmed; }
};

/// The deadlines of a reactor: a four-ary heap. The earliest deadline is known exactly, so a cancelled one wakes
/// nobody; a deadline later than all others, which is the usual case, is armed in constant time. Single-threaded.
class FERRULE_EXPORT TimerHeap {
public:
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    /// Arms the timer, or moves it when it is armed. `due_ns` is monotonic time; one that is not after the latest
    /// `take_due` that found a timer counts as the nanosecond behind it, so that timers which arm themselves again at
    /// once cannot hold up their reactor, nor each other. Throws std::bad_alloc when the heap cannot grow.
    void arm(Timer& timer, std::uint64_t due_ns);

    /// Disarms the timer; does nothing when it is not armed.
    void disarm(Timer& timer) noexcept;

    /// When the earliest timer is due; `never` when there is none.
    [[nodiscard]] std::uint64_t next_due() const noexcept { return entries_.empty() ? never : entries_.front().due_ns; }

    /// When this armed timer is due.
    [[nodiscard]] std::uint64_t due(const Timer& timer) const noexcept { return entries_[timer.position].due_ns; }

    /// Takes the earliest timer that is due at `now_ns` out of the heap; null when none is.
    Timer* take_due(std::uint64_t now_ns) noexcept;

    /// Timers that are armed.
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

private:
    struct Entry {
        std::uint64_t due_ns;
        Timer* timer;
    };
    void place(std::uint32_t position, Entry entry) noexcept {
        entries_[position] = entry;
        entry.timer->position = position;
    }
    void sift_up(std::uint32_t position, Entry entry) noexcept;
    void sift_down(std::uint32_t position, Entry entry) noexcept;

    std::uint64_t earliest_ns_ = 0;  // no timer is armed before it
    std::vector<Entry> entries_;
};

}  // namespace ferrule::inline v0
