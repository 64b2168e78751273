#include "sim/front_end.hpp"

#include <algorithm>

namespace ferrule::inline v0::sim {

// The thread that takes entries (SQPOLL), as events: it submits, at its own time, whatever the tail says is there.
// Where it would wait for more it says so by a flag, and is woken by `enter`.

namespace {
/// From a look at the queue to the next one: how long the thread works at other things, or does not run.
constexpr std::uint64_t turn_ns_min = 200;
constexpr std::uint64_t turn_ns_max = 20'000;
/// It stays awake for so long when the program did not say.
constexpr std::uint64_t idle_default_ns = 1'000'000'000;
}  // namespace

void FrontEnd::begin_to_poll() {
    if (!polls() || closed_) return;
    queues_.clear_flag(abi::queue_need_wakeup);
    poll_until_ns_ = world_.now_ns() + (poll_idle_ns_ != 0 ? poll_idle_ns_ : idle_default_ns);
    if (!poll_scheduled_) poll_later();
}

void FrontEnd::poll_later() {
    poll_scheduled_ = true;
    poll_event_ = world_.at(world_.now_ns() + world_.random().between(turn_ns_min, turn_ns_max), [this] {
        poll_scheduled_ = false;
        poll_queue();
    });
}

void FrontEnd::poll_queue() {
    look_at_buffers();
    const std::uint32_t pending = queues_.pending();
    if (pending != 0) {
        // It may not get everything, or nothing, for lack of memory: there is another turn.
        static_cast<void>(submit(pending));
        poll_until_ns_ = world_.now_ns() + (poll_idle_ns_ != 0 ? poll_idle_ns_ : idle_default_ns);
        for (Waiter* waiter = room_waiters_; waiter != nullptr; waiter = waiter->next) world_.wake(*waiter->fiber);
    } else if (world_.now_ns() >= poll_until_ns_) {
        queues_.set_flag(abi::queue_need_wakeup);
        return;
    }
    poll_later();
}

void FrontEnd::wait_for_room() {
    Waiter waiter{world_.current_fiber(), room_waiters_};
    room_waiters_ = &waiter;
    constexpr std::uint64_t never = ~std::uint64_t{0};
    while (!closed_ && queues_.pending() >= queues_.submission_entries())
        world_.block(never, "room in a submission queue", descriptor_);
    for (Waiter** at = &room_waiters_; *at != nullptr; at = &(*at)->next) {
        if (*at != &waiter) continue;
        *at = waiter.next;
        break;
    }
}

}  // namespace ferrule::inline v0::sim
