#include <ferrule/reactor/timer_heap.hpp>

#include <algorithm>

namespace ferrule::inline v0 {

namespace {
constexpr std::uint32_t children = 4;
}

void TimerHeap::arm(Timer& timer, std::uint64_t due_ns) {
    due_ns = std::max(due_ns, earliest_ns_);
    if (timer.armed()) {
        const std::uint32_t position = timer.position;
        const bool earlier = due_ns < entries_[position].due_ns;
        if (earlier) {
            sift_up(position, {due_ns, &timer});
        } else {
            sift_down(position, {due_ns, &timer});
        }
        return;
    }
    entries_.push_back({due_ns, &timer});
    sift_up(static_cast<std::uint32_t>(entries_.size() - 1), {due_ns, &timer});
}

void TimerHeap::disarm(Timer& timer) noexcept {
    if (!timer.armed()) return;
    const std::uint32_t position = timer.position;
    timer.position = Timer::disarmed;
    const Entry last = entries_.back();
    entries_.pop_back();
    if (position == entries_.size()) return;
    if (position > 0 && last.due_ns < entries_[(position - 1) / children].due_ns) {
        sift_up(position, last);
    } else {
        sift_down(position, last);
    }
}

Timer* TimerHeap::take_due(std::uint64_t now_ns) noexcept {
    if (entries_.empty() || entries_.front().due_ns > now_ns) return nullptr;
    earliest_ns_ = now_ns + 1;
    Timer* timer = entries_.front().timer;
    disarm(*timer);
    return timer;
}

void TimerHeap::sift_up(std::uint32_t position, Entry entry) noexcept {
    while (position > 0) {
        const std::uint32_t parent = (position - 1) / children;
        if (entries_[parent].due_ns <= entry.due_ns) break;
        place(position, entries_[parent]);
        position = parent;
    }
    place(position, entry);
}

void TimerHeap::sift_down(std::uint32_t position, Entry entry) noexcept {
    const auto count = static_cast<std::uint32_t>(entries_.size());
    for (;;) {
        const std::uint64_t first = std::uint64_t{position} * children + 1;
        if (first >= count) break;
        std::uint32_t least = static_cast<std::uint32_t>(first);
        const std::uint32_t end = static_cast<std::uint32_t>(first + children < count ? first + children : count);
        for (std::uint32_t child = least + 1; child < end; ++child) {
            if (entries_[child].due_ns < entries_[least].due_ns) least = child;
        }
        if (entries_[least].due_ns >= entry.due_ns) break;
        place(position, entries_[least]);
        position = least;
    }
    place(position, entry);
}

}  // namespace ferrule::inline v0
