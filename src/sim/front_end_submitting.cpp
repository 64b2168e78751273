#include "sim/front_end.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace ferrule::inline v0::sim {

// From the submission queue to the first try of each request.

namespace {

constexpr std::uint8_t chain_flags = abi::entry_link | abi::entry_hard_link;
constexpr std::uint8_t known_flags = abi::entry_fixed_file | abi::entry_drain | chain_flags | abi::entry_async |
                                     abi::entry_buffer_select | abi::entry_completion_skip_success;
/// How long a worker takes to get at a request.
constexpr std::uint64_t worker_delay_ns_min = 1'000;
constexpr std::uint64_t worker_delay_ns_max = 50'000;
constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
/// A file that says that it is ready, and then makes a request wait, so often in a row is wrong.
constexpr std::uint16_t idle_tries_max = 128;

bool takes_priority(abi::Operation operation) noexcept {
    switch (operation) {
        case abi::Operation::accept:
        case abi::Operation::send:
        case abi::Operation::receive:
        case abi::Operation::send_message:
        case abi::Operation::receive_message:
        case abi::Operation::read:
        case abi::Operation::write:
        case abi::Operation::readv:
        case abi::Operation::writev:
            return true;
        default:
            return false;
    }
}

bool needs_file(abi::Operation operation) noexcept {
    switch (operation) {
        case abi::Operation::poll_add:
        case abi::Operation::accept:
        case abi::Operation::connect:
        case abi::Operation::read:
        case abi::Operation::write:
        case abi::Operation::readv:
        case abi::Operation::writev:
        case abi::Operation::fsync:
        case abi::Operation::send:
        case abi::Operation::receive:
        case abi::Operation::send_message:
        case abi::Operation::receive_message:
        case abi::Operation::shutdown:
        case abi::Operation::message_ring:
        case abi::Operation::uring_command:
            return true;
        default:
            return false;
    }
}

/// Those that the fault `operation_fails` can fail: what has an error path of its own.
bool may_fail(abi::Operation operation) noexcept {
    return needs_file(operation) || operation == abi::Operation::close || operation == abi::Operation::open_at2 ||
           operation == abi::Operation::statx;
}

}  // namespace

std::uint32_t FrontEnd::fewer(std::uint32_t count) {
    // A shortage of memory may cut a chain on Linux, too, but so rarely that programs rightly count on whole ones.
    auto kept = static_cast<std::uint32_t>(1 + world_.random().below(count - 1));
    while (kept != 0) {
        const abi::SubmissionEntry* const last = queues_.look(kept - 1);
        if (last == nullptr || (last->flags & chain_flags) == 0) return kept;
        --kept;
    }
    return count;
}

int FrontEnd::submit(std::uint32_t count) {
    const std::uint32_t pending = queues_.pending();
    if (pending > queues_.submission_entries()) {
        world_.finding(name_ + ": the submission queue has " + std::to_string(queues_.submission_entries()) +
                       " entries, and its tail is " + std::to_string(pending) + " ahead of its head");
    }
    std::uint32_t entries = std::min({count, pending, queues_.submission_entries()});
    if (entries == 0) return 0;
    if (world_.fault(Fault::enter_again)) return -EAGAIN;
    if (world_.fault(Fault::enter_busy)) return -EBUSY;
    if (entries > 1 && world_.fault(Fault::enter_partial)) entries = fewer(entries);
    int submitted = 0;
    for (; entries != 0; --entries) {
        const abi::SubmissionEntry* const entry = queues_.take();
        if (entry == nullptr) break;
        ++submitted;
        if (submit_entry(*entry) < 0 && (setup_flags_ & abi::setup_submit_all) == 0) break;
    }
    if (chain_head_ != nullptr) {
        // A chain ends with the submission, and one without an end is left to a worker.
        Request& head = *std::exchange(chain_head_, nullptr);
        head.at_worker = true;
        queue_chain(head);
    }
    queues_.publish_head();
    flush_completions();
    return submitted;
}

int FrontEnd::submit_entry(const abi::SubmissionEntry& entry) {
    Request& request = requests_.take();
    request.ring = this;
    request.entry = entry;
    world_.trace("submit", entry.user_data,
                 static_cast<std::uint64_t>(entry.opcode) << 32 | static_cast<std::uint32_t>(entry.fd), entry.flags);
    if (const int error = prepare(request); error < 0) {
        fail_to_begin(request, error);
        return error;
    }
    if (chain_head_ != nullptr) {
        chain_last_->next_in_chain = &request;
        chain_last_ = &request;
        if ((entry.flags & chain_flags) == 0) queue_chain(*std::exchange(chain_head_, nullptr));
    } else if ((entry.flags & chain_flags) != 0) {
        chain_head_ = chain_last_ = &request;
    } else {
        queue_chain(request);
    }
    return 0;
}

void FrontEnd::fail_to_begin(Request& request, int error) {
    // A chain is read to its end nevertheless, and then cancelled as a whole.
    mark_failed(request);
    request.result = error;
    if (chain_head_ != nullptr && !chain_head_->failed) {
        mark_failed(*chain_head_);
        chain_head_->result = -ECANCELED;
    }
    if (chain_head_ != nullptr) {
        chain_last_->next_in_chain = &request;
        chain_last_ = &request;
    } else {
        chain_head_ = chain_last_ = &request;
    }
    if ((request.entry.flags & chain_flags) == 0) queue_chain(*std::exchange(chain_head_, nullptr));
}

int FrontEnd::prepare(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    request.skip = (entry.flags & abi::entry_completion_skip_success) != 0;
    if (static_cast<std::uint8_t>(entry.opcode) > features_.last_operation) return -EINVAL;
    if ((entry.flags & ~known_flags) != 0) return -EINVAL;
    if ((entry.flags & abi::entry_buffer_select) != 0 && entry.opcode != abi::Operation::receive &&
        entry.opcode != abi::Operation::receive_message && entry.opcode != abi::Operation::read) {
        return -EOPNOTSUPP;
    }
    if (request.skip) drain_forbidden_ = true;
    if ((entry.flags & abi::entry_drain) != 0) {
        if (drain_forbidden_) return -EOPNOTSUPP;
        request.drains = true;
        if (chain_head_ != nullptr) {
            // The chain as a whole waits, and so does what comes behind it.
            chain_head_->drains = true;
            drain_next_ = true;
        }
    }
    if (drain_next_ && chain_head_ == nullptr) {
        drain_next_ = false;
        request.drains = true;
    }
    if (entry.ioprio != 0 && !takes_priority(entry.opcode)) return -EINVAL;
    // No credentials are ever registered.
    if (entry.personality != 0) return -EINVAL;
    request.at_worker = (entry.flags & abi::entry_async) != 0;
    return prepare_operation(request);
}

int FrontEnd::prepare_operation(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    switch (entry.opcode) {
        case abi::Operation::nop:
            if (features_.nop_flags && (entry.nop_flags & ~abi::nop_inject_result) != 0) return -EINVAL;
            return 0;
        case abi::Operation::read:
        case abi::Operation::write:
            return 0;
        case abi::Operation::readv:
        case abi::Operation::writev:
            return entry.rw_flags != 0 ? -EOPNOTSUPP : read_header(request);
        case abi::Operation::fsync:
            if (entry.addr != 0 || entry.buf_index != 0 || entry.splice_fd_in != 0) return -EINVAL;
            if ((entry.fsync_flags & ~abi::fsync_datasync) != 0) return -EINVAL;
            request.at_worker = true;
            return 0;
        case abi::Operation::open_at2:
        case abi::Operation::statx:
            return read_path(request);
        case abi::Operation::poll_add:
            if (entry.buf_index != 0 || entry.off != 0 || entry.addr != 0) return -EINVAL;
            if ((entry.len & ~abi::poll_add_multishot) != 0) return -EINVAL;
            request.multishot = entry.len != 0;
            return request.multishot && request.skip ? -EINVAL : 0;
        case abi::Operation::timeout:
        case abi::Operation::link_timeout: {
            const bool linked = entry.opcode == abi::Operation::link_timeout;
            if (entry.buf_index != 0 || entry.len != 1 || entry.splice_fd_in != 0) return -EINVAL;
            if (linked && entry.off != 0) return -EINVAL;
            const std::uint32_t known =
                linked ? features_.timeout_flags & ~abi::timeout_multishot : features_.timeout_flags;
            if ((entry.timeout_flags & ~known) != 0) return -EINVAL;
            constexpr std::uint32_t clocks = abi::timeout_boot_time | abi::timeout_real_time;
            constexpr std::uint32_t repeated = abi::timeout_multishot | abi::timeout_absolute;
            if ((entry.timeout_flags & clocks) == clocks || (entry.timeout_flags & repeated) == repeated)
                return -EINVAL;
            if (entry.addr == 0) return -EFAULT;
            const auto& time = *reinterpret_cast<const abi::Timespec*>(entry.addr);
            if (time.seconds < 0 || time.nanoseconds < 0) return -EINVAL;
            request.multishot = (entry.timeout_flags & abi::timeout_multishot) != 0;
            // The time is read now: the program's copy may go as soon as the entry is consumed.
            request.time_ns = static_cast<std::uint64_t>(time.seconds) * nanoseconds_per_second +
                              static_cast<std::uint64_t>(time.nanoseconds);
            if (linked && (chain_head_ == nullptr || chain_last_->entry.opcode == abi::Operation::link_timeout)) {
                return -EINVAL;
            }
            return 0;
        }
        case abi::Operation::accept:
            if (entry.len != 0 || entry.buf_index != 0) return -EINVAL;
            if ((entry.ioprio & ~features_.accept_flags) != 0) return -EINVAL;
            if ((entry.accept_flags & ~static_cast<std::uint32_t>(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return -EINVAL;
            request.multishot = (entry.ioprio & abi::accept_multishot) != 0;
            request.no_wait = (entry.ioprio & abi::accept_dont_wait) != 0;
            return 0;
        case abi::Operation::connect:
            if (entry.len != 0 || entry.buf_index != 0 || entry.rw_flags != 0 || entry.splice_fd_in != 0) {
                return -EINVAL;
            }
            return read_header(request);
        case abi::Operation::async_cancel: {
            if ((entry.flags & abi::entry_buffer_select) != 0 || entry.off != 0 || entry.splice_fd_in != 0) {
                return -EINVAL;
            }
            const std::uint32_t flags = entry.cancel_flags;
            if ((flags & ~features_.cancel_flags) != 0) return -EINVAL;
            constexpr std::uint32_t exact = abi::cancel_descriptor | abi::cancel_operation;
            if ((flags & abi::cancel_any) != 0 && (flags & exact) != 0) return -EINVAL;
            return (flags & abi::cancel_operation) == 0 && entry.len != 0 ? -EINVAL : 0;
        }
        case abi::Operation::close:
            if (entry.off != 0 || entry.addr != 0 || entry.len != 0 || entry.rw_flags != 0 || entry.buf_index != 0) {
                return -EINVAL;
            }
            if ((entry.flags & abi::entry_fixed_file) != 0) return -EBADF;
            return entry.file_index != 0 && entry.fd != 0 ? -EINVAL : 0;
        case abi::Operation::shutdown:
            if (entry.off != 0 || entry.addr != 0 || entry.rw_flags != 0 || entry.buf_index != 0 ||
                entry.splice_fd_in != 0) {
                return -EINVAL;
            }
            request.at_worker = true;  // it may block, so it is always left to a worker
            return 0;
        case abi::Operation::send:
        case abi::Operation::send_message:
            if (entry.opcode == abi::Operation::send_message && (entry.addr2 != 0 || entry.file_index != 0)) {
                return -EINVAL;
            }
            if ((entry.ioprio & ~abi::send_poll_first) != 0) return -EINVAL;
            request.no_wait = (entry.msg_flags & MSG_DONTWAIT) != 0;
            return read_header(request);
        case abi::Operation::receive:
        case abi::Operation::receive_message:
            if (entry.file_index != 0 || entry.addr2 != 0) return -EINVAL;
            if ((entry.ioprio & ~features_.receive_flags) != 0) return -EINVAL;
            request.no_wait = (entry.msg_flags & MSG_DONTWAIT) != 0;
            request.multishot = (entry.ioprio & abi::receive_multishot) != 0;
            if (request.multishot) {
                if ((entry.flags & abi::entry_buffer_select) == 0) return -EINVAL;
                if ((entry.msg_flags & MSG_WAITALL) != 0) return -EINVAL;
                if (entry.opcode == abi::Operation::receive) {
                    if (entry.len != 0 && !features_.multishot_length) return -EINVAL;
                    request.multishot_left = entry.len;
                }
            }
            return read_header(request);
        case abi::Operation::message_ring:
            if (entry.buf_index != 0) return -EINVAL;
            return (entry.msg_ring_flags & ~features_.message_flags) != 0 ? -EINVAL : 0;
        case abi::Operation::uring_command:
            return 0;
        default:
            world_.finding(name_ + ": " + describe(request.name(), entry.user_data) +
                           ": the simulated kernel does not have this operation");
            return -EINVAL;
    }
}

void FrontEnd::queue_chain(Request& head) {
    if (head.failed) {
        head.entry.flags = static_cast<std::uint8_t>(head.entry.flags & ~abi::entry_hard_link);
        complete(head);
    } else if (deferred_first_ != nullptr || head.drains) {
        defer(head);
    } else {
        try_request(head);
    }
}

// ---- draining ----

void FrontEnd::defer(Request& head) {
    head.stage = Stage::deferred;
    head.next_queued = nullptr;
    (deferred_last_ != nullptr ? deferred_last_->next_queued : deferred_first_) = &head;
    deferred_last_ = &head;
    for (const Request* request = &head; request != nullptr; request = request->next_in_chain) ++deferred_count_;
    release_deferred();
}

void FrontEnd::release_deferred() {
    while (deferred_first_ != nullptr) {
        Request& head = *deferred_first_;
        if (head.drains && requests_.count() != deferred_count_) return;
        deferred_first_ = head.next_queued;
        if (deferred_first_ == nullptr) deferred_last_ = nullptr;
        for (const Request* request = &head; request != nullptr; request = request->next_in_chain) --deferred_count_;
        head.stage = Stage::queued;
        queue_work(head);
    }
}

// ---- trying ----

bool FrontEnd::assign_file(Request& request) {
    if (request.file != nullptr || !needs_file(request.entry.opcode)) return true;
    if ((request.entry.flags & abi::entry_fixed_file) != 0) {
        const auto slot = static_cast<std::uint32_t>(request.entry.fd);
        if (slot < files_.size()) request.file = files_[slot];
    } else {
        request.file = descriptors_.get(request.entry.fd);
    }
    if (request.file == nullptr) return false;
    request.file->acquire();
    return true;
}

void FrontEnd::try_request(Request& request) {
    if (request.at_worker) {
        request.at_worker = false;
        start_at_worker(request, world_.random().between(worker_delay_ns_min, worker_delay_ns_max));
        return;
    }
    if (!assign_file(request)) {
        fail(request, -EBADF);
        return;
    }
    if (!request.tried) {
        request.tried = true;
        if (may_fail(request.entry.opcode) && world_.fault(Fault::operation_fails)) {
            // What a close closes is closed whatever it returns; and now, because its request ends.
            request.delayed = true;
            if (request.entry.opcode == abi::Operation::close) perform(request);
            fail(request, -EIO);
            return;
        }
    }
    settle(request, perform(request));
}

void FrontEnd::settle(Request& request, Outcome outcome) {
    switch (outcome) {
        case Outcome::done:
            complete(request);
            break;
        case Outcome::again:
            if (request.no_wait) {
                fail(request, -EAGAIN);
            } else {
                arm(request);
            }
            break;
        case Outcome::waits:
            break;
        case Outcome::requeue:
            arm(request);
            queue_work(request);
            break;
    }
}

std::uint32_t FrontEnd::events_of(const Request& request) noexcept {
    switch (request.entry.opcode) {
        case abi::Operation::poll_add:
            return request.entry.poll32_events | POLLERR | POLLHUP | POLLRDHUP;  // IO_POLL_UNMASK
        case abi::Operation::send:
        case abi::Operation::send_message:
        case abi::Operation::write:
        case abi::Operation::writev:
        case abi::Operation::connect:
            return POLLOUT | POLLERR | POLLHUP;
        default:
            return POLLIN | POLLRDHUP | POLLERR | POLLHUP;
    }
}

void FrontEnd::arm(Request& request) {
    request.stage = Stage::armed;
    requests_.insert(request);
    claim_memory(request);
    arm_linked_timeout(request);
    const std::uint32_t events = events_of(request);
    if (!request.waiting()) request.file->wait(request, events);
    if ((request.file->readiness() & events) == 0) return;
    // A connect that waits for room in a backlog is told of it; that it could send says nothing.
    if (request.entry.opcode == abi::Operation::connect && !request.in_progress) return;
    // It became ready between the try and now, or nothing tells of it again.
    if (++request.idle_tries > idle_tries_max) {
        world_.finding(name_ + ": " + describe(request.name(), request.entry.user_data) +
                       ": its file says that it is ready, and lets it wait");
        return;
    }
    queue_work(request);
}

void FrontEnd::start_at_worker(Request& request, std::uint64_t delay_ns) {
    request.stage = Stage::working;
    requests_.insert(request);
    claim_memory(request);
    arm_linked_timeout(request);
    request.event_pending = true;
    request.event = world_.at(world_.now_ns() + delay_ns, [&request] {
        request.event_pending = false;
        request.ring->work_at(request);
    });
}

void FrontEnd::work_at(Request& request) {
    requests_.remove(request);
    if (!assign_file(request)) {
        mark_failed(request);
        request.result = -EBADF;
    } else if (const Outcome outcome = request.multishot || selects_buffer(request) ? Outcome::again : perform(request);
               outcome == Outcome::again && !request.no_wait) {
        arm(request);
        return;
    } else if (outcome == Outcome::waits) {
        return;
    } else if (outcome == Outcome::again) {
        mark_failed(request);
        request.result = request.partial ? static_cast<std::int32_t>(request.done) : -EAGAIN;
    }
    request.finished = true;
    request.stage = Stage::queued;
    queue_work(request);
}

}  // namespace ferrule::inline v0::sim
