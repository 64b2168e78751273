#include "sim/front_end.hpp"

#include <cerrno>

namespace ferrule::inline v0::sim {

// Cancelling: which requests are meant, and what becomes of each.

namespace {
/// A cancel that waits asks again so often; then it has run out of time.
constexpr unsigned synchronous_tries_max = 16;
/// How long it takes until a request that was cancelled, or its worker, has noticed.
constexpr std::uint64_t notice_delay_ns_min = 1'000;
constexpr std::uint64_t notice_delay_ns_max = 1'000'000;
}  // namespace

struct FrontEnd::Cancelling {
    std::uint64_t user_data = 0;
    std::uint32_t flags = 0;
    const File* file = nullptr;
    abi::Operation operation = abi::Operation::nop;
};

bool FrontEnd::matches(const Request& request, const Cancelling& wanted) noexcept {
    if ((wanted.flags & abi::cancel_any) != 0) return true;
    if ((wanted.flags & abi::cancel_descriptor) != 0 && request.file.get() != wanted.file) return false;
    if ((wanted.flags & abi::cancel_operation) != 0 && request.entry.opcode != wanted.operation) return false;
    const bool by_user_data = (wanted.flags & abi::cancel_user_data) != 0 ||
                              (wanted.flags & (abi::cancel_descriptor | abi::cancel_operation)) == 0;
    return !by_user_data || request.entry.user_data == wanted.user_data;
}

int FrontEnd::cancel_one(Request& request) {
    if (request.cancelled) return 0;  // asked for twice, before the first has been acted on
    if (request.stage == Stage::armed && !request.multishot && !request.event_pending &&
        world_.fault(Fault::cancel_too_late)) {
        interrupt_soon(request);
        return -EALREADY;
    }
    switch (request.stage) {
        case Stage::armed:
            if (!request.multishot && (request.file->readiness() & events_of(request)) != 0 &&
                !shares_buffer(request) && world_.fault(Fault::cancel_misses)) {
                // It was ready, and has just been done. Its completion comes late, which one of an incremental buffer
                // never does: whoever shares one counts on the order.
                forget_event(request);
                request.polled = true;
                request.leave();
                const Outcome outcome = perform(request);
                if (outcome == Outcome::done) {
                    requests_.remove(request);
                    request.finished = true;
                    request.stage = Stage::queued;
                    queue_work(request);
                    return -ENOENT;
                }
                if (outcome == Outcome::again) claim_memory(request);
            }
            request.cancelled = true;
            forget_event(request);
            if (!request.in_work_list && world_.fault(Fault::cancel_delayed)) {
                work_later(request);
            } else {
                queue_work(request);
            }
            return 0;
        case Stage::working:
            // Who reads from the disk is not interrupted; before, the worker may not have begun.
            if (request.at_disk && world_.random().one_in(2)) return -EALREADY;
            requests_.remove(request);
            forget_event(request);
            mark_failed(request);
            end_later(request, request.partial ? static_cast<std::int32_t>(request.done) : -ECANCELED);
            return 0;
        case Stage::timed:
            requests_.remove(request);
            forget_event(request);
            mark_failed(request);
            end_later(request, -ECANCELED);
            return 0;
        default:
            return -ENOENT;
    }
}

// As when a worker executes it: the cancel interrupts the worker, and the request ends as soon as that has noticed,
// with what there was to do until then. A multishot never waits in a worker.
void FrontEnd::interrupt_soon(Request& request) {
    request.event_pending = true;
    request.event =
        world_.at(world_.now_ns() + world_.random().between(notice_delay_ns_min, notice_delay_ns_max), [&request] {
            request.event_pending = false;
            request.cancelled = (request.file->readiness() & events_of(request)) == 0;
            request.ring->queue_work(request);
        });
}

void FrontEnd::work_later(Request& request) {
    request.event_pending = true;
    request.event =
        world_.at(world_.now_ns() + world_.random().between(notice_delay_ns_min, notice_delay_ns_max), [&request] {
            request.event_pending = false;
            request.ring->queue_work(request);
        });
}

bool FrontEnd::shares_buffer(const Request& request) const noexcept {
    if (!selects_buffer(request)) return false;
    const BufferGroup* const group = group_of(request.entry.buf_group);
    return group != nullptr && group->incremental();
}

int FrontEnd::cancel_all(Cancelling& wanted) {
    const bool all = (wanted.flags & (abi::cancel_all | abi::cancel_any)) != 0;
    constexpr std::uint32_t searching =
        abi::cancel_all | abi::cancel_any | abi::cancel_descriptor | abi::cancel_operation;
    if ((wanted.flags & searching) == 0) {
        Request* const request = requests_.find(wanted.user_data);
        return request != nullptr ? cancel_one(*request) : -ENOENT;
    }
    int count = 0;
    for (Request* request = requests_.first(); request != nullptr;) {
        Request& candidate = *request;
        request = request->next_cancellable;
        if (!matches(candidate, wanted)) continue;
        const int result = cancel_one(candidate);
        if (result == -ENOENT) continue;
        if (!all) return result;
        ++count;
    }
    return all ? count : -ENOENT;
}

FrontEnd::Outcome FrontEnd::cancel(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    Cancelling wanted{entry.addr, entry.cancel_flags, nullptr, static_cast<abi::Operation>(entry.len)};
    std::shared_ptr<File> file;
    if ((wanted.flags & abi::cancel_descriptor) != 0) {
        const bool fixed =
            (wanted.flags & abi::cancel_descriptor_fixed) != 0 || (entry.flags & abi::entry_fixed_file) != 0;
        const auto slot = static_cast<std::uint32_t>(entry.fd);
        if (!fixed) {
            file = descriptors_.get(entry.fd);
        } else if (slot < files_.size()) {
            file = files_[slot];
        }
        if (file == nullptr) return finish(request, -EBADF);
        wanted.file = file.get();
    }
    return finish(request, cancel_all(wanted));
}

int FrontEnd::cancel_synchronously(const abi::SyncCancelRegistration& registration) {
    if ((registration.flags & ~features_.cancel_flags) != 0) return -EINVAL;
    Cancelling wanted{registration.addr, registration.flags, nullptr, static_cast<abi::Operation>(registration.opcode)};
    std::shared_ptr<File> file;
    if ((wanted.flags & abi::cancel_descriptor) != 0) {
        file = descriptors_.get(registration.fd);
        if (file == nullptr) return -EBADF;
        wanted.file = file.get();
    }
    int result = cancel_all(wanted);
    if (result != -EALREADY) return result < 0 ? result : 0;
    // Linux waits for the request's end, and asks again at each completion; what is executing here never takes time.
    for (unsigned tries = 0; result == -EALREADY && tries < synchronous_tries_max; ++tries) {
        result = cancel_all(wanted);
    }
    if (result == -EALREADY) return -ETIME;
    return result == -ENOENT || result > 0 ? 0 : result;
}

}  // namespace ferrule::inline v0::sim
