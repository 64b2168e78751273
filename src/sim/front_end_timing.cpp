#include "sim/front_end.hpp"

#include <cerrno>

namespace ferrule::inline v0::sim {

// Timeouts, and those that bound the request before them.

FrontEnd::Outcome FrontEnd::begin_timeout(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    request.stage = Stage::timed;
    requests_.insert(request);
    arm_linked_timeout(request);
    if (entry.off != 0 && !request.multishot) {
        request.counted = true;
        request.target = posted_ + static_cast<std::uint32_t>(entry.off);
        counted_timeouts_.push_back(&request);
    }
    request.repeats = static_cast<std::uint32_t>(entry.off);
    const bool absolute = (entry.timeout_flags & abi::timeout_absolute) != 0;
    start_clock(request, absolute ? request.time_ns : world_.now_ns() + request.time_ns);
    return Outcome::waits;
}

void FrontEnd::start_clock(Request& timeout, std::uint64_t due_ns) {
    timeout.event_pending = true;
    timeout.event = world_.at(due_ns, [&timeout] {
        timeout.event_pending = false;
        timeout.ring->fire(timeout);
    });
}

void FrontEnd::arm_linked_timeout(Request& request) {
    Request* const timeout = request.next_in_chain;
    if (timeout == nullptr || timeout->entry.opcode != abi::Operation::link_timeout || timeout->linked != nullptr) {
        return;
    }
    timeout->linked = &request;
    timeout->stage = Stage::timed;
    const bool absolute = (timeout->entry.timeout_flags & abi::timeout_absolute) != 0;
    start_clock(*timeout, absolute ? timeout->time_ns : world_.now_ns() + timeout->time_ns);
}

void FrontEnd::fire(Request& timeout) {
    if (timeout.linked != nullptr) {
        Request& bounded = *std::exchange(timeout.linked, nullptr);
        bounded.next_in_chain = std::exchange(timeout.next_in_chain, nullptr);
        const int result = bounded.findable ? cancel_one(bounded) : -ENOENT;
        mark_failed(timeout);
        end_later(timeout, result == 0 ? -ETIME : result);
        return;
    }
    requests_.remove(timeout);
    ++timeouts_ended_;
    queue_work(timeout);
}

void FrontEnd::expire(Request& timeout) {
    const abi::SubmissionEntry& entry = timeout.entry;
    const bool more = timeout.multishot && (entry.off == 0 || --timeout.repeats != 0);
    if (more && post_more(timeout, -ETIME, 0)) {
        requests_.insert(timeout);
        start_clock(timeout, world_.now_ns() + timeout.time_ns);
        return;
    }
    if ((entry.timeout_flags & abi::timeout_etime_success) == 0) mark_failed(timeout);
    timeout.result = -ETIME;
    complete(timeout);
}

void FrontEnd::count_timeouts() {
    for (std::size_t index = 0; index < counted_timeouts_.size();) {
        Request& timeout = *counted_timeouts_[index];
        if (static_cast<std::int32_t>(posted_ - timeout.target) < 0 || !timeout.event_pending) {
            ++index;
            continue;
        }
        counted_timeouts_.erase(counted_timeouts_.begin() + static_cast<std::ptrdiff_t>(index));
        timeout.counted = false;
        forget_event(timeout);
        requests_.remove(timeout);
        ++timeouts_ended_;
        end_later(timeout, 0);
    }
}

}  // namespace ferrule::inline v0::sim
