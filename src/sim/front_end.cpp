#include "sim/front_end.hpp"

#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>

namespace ferrule::inline v0::sim {

namespace {

constexpr std::uint32_t submission_entries_max = 32768;
constexpr std::uint32_t completion_entries_max = 65536;
constexpr std::uint64_t never = ~std::uint64_t{0};
constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
constexpr std::uint64_t nanoseconds_per_microsecond = 1'000;
constexpr std::uint64_t nanoseconds_per_millisecond = 1'000'000;
constexpr std::uint64_t late_notice_ns_min = 1'000;
constexpr std::uint64_t late_notice_ns_max = 2'000'000;

std::expected<void, int> check_sizes(std::uint32_t entries, abi::Parameters& parameters) {
    const bool clamps = (parameters.flags & abi::setup_clamp) != 0;
    if (entries == 0 || (entries > submission_entries_max && !clamps)) return std::unexpected(-EINVAL);
    parameters.sq_entries = std::bit_ceil(std::min(entries, submission_entries_max));
    if ((parameters.flags & abi::setup_completion_size) == 0) {
        parameters.cq_entries = 2 * parameters.sq_entries;
        return {};
    }
    if (parameters.cq_entries == 0 || (parameters.cq_entries > completion_entries_max && !clamps)) {
        return std::unexpected(-EINVAL);
    }
    parameters.cq_entries = std::bit_ceil(std::min(parameters.cq_entries, completion_entries_max));
    if (parameters.cq_entries < parameters.sq_entries) return std::unexpected(-EINVAL);
    return {};
}

}  // namespace

std::expected<std::shared_ptr<SimulatedRing>, int> SimulatedRing::create(World& world, Descriptors& descriptors,
                                                                         Profile profile, std::uint32_t entries,
                                                                         abi::Parameters* parameters,
                                                                         LockedMemory* memory, Paths* paths) {
    const Features& features = features_of(profile);
    const std::uint32_t flags = parameters->flags;
    if ((flags & ~features.setup_flags) != 0) return std::unexpected(-EINVAL);
    if (parameters->resv[0] != 0 || parameters->resv[1] != 0 || parameters->resv[2] != 0) {
        return std::unexpected(-EINVAL);
    }
    constexpr std::uint32_t flagged = abi::setup_cooperative_taskrun | abi::setup_defer_taskrun;
    if ((flags & abi::setup_taskrun_flag) != 0 && (flags & flagged) == 0) return std::unexpected(-EINVAL);
    if ((flags & abi::setup_defer_taskrun) != 0 && (flags & abi::setup_single_issuer) == 0) {
        return std::unexpected(-EINVAL);
    }
    if ((flags & abi::setup_submission_poll) != 0 && (flags & (flagged | abi::setup_taskrun_flag)) != 0)
        return std::unexpected(-EINVAL);
    if ((flags & abi::setup_submission_affinity) != 0 && (flags & abi::setup_submission_poll) == 0)
        return std::unexpected(-EINVAL);
    abi::Parameters given = *parameters;
    if (const auto sized = check_sizes(entries, given); !sized) return std::unexpected(sized.error());
    if ((flags & abi::setup_attach_work_queue) != 0) {
        const std::shared_ptr<File> other = descriptors.get(static_cast<int>(parameters->wq_fd));
        if (other == nullptr) return std::unexpected(-ENXIO);
        if (dynamic_cast<FrontEnd*>(other.get()) == nullptr) return std::unexpected(-EINVAL);
    }
    if (world.fault(Fault::no_memory_at_setup)) return std::unexpected(-ENOMEM);
    auto ring = std::make_shared<FrontEnd>(world, descriptors, profile, memory, paths);
    if (const int result = ring->set_up(given); result < 0) return std::unexpected(result);
    *parameters = given;
    return ring;
}

FrontEnd::FrontEnd(World& world, Descriptors& descriptors, Profile profile, LockedMemory* memory, Paths* paths)
    : world_(world),
      descriptors_(descriptors),
      features_(features_of(profile)),
      memory_(memory),
      paths_(paths),
      ownership_(world, name_) {
    ownership_.set_kernel_has(
        [](const void* self, std::uint16_t group, std::uint16_t buffer) {
            const BufferGroup* const found = static_cast<const FrontEnd*>(self)->group_of(group);
            return found != nullptr && found->has(buffer);
        },
        this);
}

FrontEnd::~FrontEnd() {
    released();
}

int FrontEnd::resize(abi::Parameters& parameters) {
    if (!defers() || (parameters.flags & ~(abi::setup_completion_size | abi::setup_clamp)) != 0) return -EINVAL;
    abi::Parameters given = parameters;
    given.flags |= setup_flags_ & abi::setup_no_submission_array;
    if (const auto sized = check_sizes(given.sq_entries, given); !sized) return sized.error();
    if (world_.fault(Fault::no_memory_at_register)) return -ENOMEM;
    // Both count for a moment.
    const std::uint64_t before = queues_.bytes();
    const std::uint64_t after = Queues::bytes_of(given);
    if (!charge(after)) return -ENOMEM;
    const int result = queues_.resize(given);
    discharge(result < 0 ? after : before);
    if (result < 0) return result;
    parameters = given;
    return 0;
}

int FrontEnd::set_up(abi::Parameters& parameters) {
    if (!queues_.create(parameters) || !charge(queues_.bytes())) return -ENOMEM;
    setup_flags_ = parameters.flags;
    parameters.features = features_.features;
    disabled_ = (setup_flags_ & abi::setup_ring_disabled) != 0;
    if (!disabled_ && (setup_flags_ & abi::setup_single_issuer) != 0) owner_ = world_.current_fiber();
    poll_idle_ns_ = parameters.sq_thread_idle * nanoseconds_per_millisecond;
    if (!disabled_) begin_to_poll();
    return 0;
}

void* FrontEnd::map(std::uint64_t offset, std::size_t length, int* error) noexcept {
    const bool entries = offset == abi::offset_submission_entries;
    const bool queues = offset == abi::offset_submission_ring || offset == abi::offset_completion_ring;
    if (!queues && !entries) {
        *error = EINVAL;
        return nullptr;
    }
    if (length == 0 || length > (entries ? queues_.entry_bytes() : queues_.ring_bytes())) {
        *error = EINVAL;
        return nullptr;
    }
    return entries ? queues_.entry_memory() : queues_.ring_memory();
}

void FrontEnd::identify(int descriptor) {
    descriptor_ = descriptor;
    name_ = "ring " + std::to_string(descriptor);
}

std::uint32_t FrontEnd::readiness() const noexcept {
    return queues_.unread() != 0 || queues_.overflowed() != 0 || work_first_ != nullptr ? POLLIN : 0;
}

bool FrontEnd::foreign() const noexcept {
    return owner_ != nullptr && owner_ != world_.current_fiber();
}

// ---- the end ----

void FrontEnd::released() noexcept {
    if (closed_) return;
    closed_ = true;
    if (work_scheduled_) world_.forget(work_event_);
    work_scheduled_ = false;
    if (poll_scheduled_) world_.forget(poll_event_);
    poll_scheduled_ = false;
    requests_.for_each([this](Request& request) {
        if (has_memory(request)) {
            world_.finding(name_ + " is closed while " + describe(request.name(), request.entry.user_data) +
                           " still has memory of the program's");
        }
        request.leave();
        forget_event(request);
        requests_.remove(request);
        release_memory(request);
        end(request);
    });
    work_first_ = work_last_ = nullptr;
    deferred_first_ = deferred_last_ = nullptr;
    counted_timeouts_.clear();
    messages_.clear();
    groups_.clear();
    unregister_files();
    if (event_ != nullptr) std::exchange(event_, nullptr)->release();
    discharge(charged_);
}

std::string FrontEnd::leftovers() const {
    std::string lines;
    if (closed_) return lines;
    requests_.for_each([&lines](const Request& request) {
        lines += describe(request.name(), request.entry.user_data) + " on descriptor " +
                 std::to_string(request.entry.fd) + " is in flight\n";
    });
    for (const auto& group : groups_) {
        lines += "buffer group " + std::to_string(group->number()) + " is registered, the kernel has " +
                 std::to_string(group->count()) + " of its buffers\n";
    }
    return lines;
}

// ---- enter ----

int FrontEnd::enter(std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags, const void* argument,
                    std::size_t argument_size) {
    if ((flags & ~features_.enter_flags) != 0) return -EINVAL;
    if (disabled_) return -EBADFD;
    // Another fiber may close the descriptor while this one waits.
    const std::shared_ptr<File> self = shared_from_this();
    acquire();
    look_at_buffers();
    int result = 0;
    bool wait_too = (flags & abi::enter_get_events) != 0;
    if (polls()) {
        if ((flags & abi::enter_submission_wakeup) != 0) begin_to_poll();
        if ((flags & abi::enter_submission_wait) != 0) wait_for_room();
        result = static_cast<int>(to_submit);
    } else if (to_submit != 0) {
        result = foreign() ? -EEXIST : submit(to_submit);
        // Not even completions are looked for when the kernel did not take everything.
        if (result != static_cast<int>(to_submit)) wait_too = false;
    }
    if (wait_too) {
        const int waited = wait(min_complete, flags, argument, argument_size);
        if (result == 0) result = waited;
    } else if (!defers()) {
        run_work(0);
    }
    release();
    return result;
}

int FrontEnd::wait(std::uint32_t min_complete, std::uint32_t flags, const void* argument, std::size_t argument_size) {
    std::uint64_t deadline = never;
    std::uint64_t gather_until = 0;
    if ((flags & abi::enter_extended_argument) != 0) {
        if (argument_size != sizeof(abi::GetEventsArgument)) return -EINVAL;
        if (argument == nullptr) return -EFAULT;
        const auto& given = *static_cast<const abi::GetEventsArgument*>(argument);
        if (given.min_wait_usec != 0 && (features_.features & abi::feature_min_timeout) == 0) return -EINVAL;
        if (given.min_wait_usec != 0) {
            gather_until = world_.now_ns() + given.min_wait_usec * nanoseconds_per_microsecond;
        }
        if (given.ts != 0) {
            const auto& time = *reinterpret_cast<const abi::Timespec*>(given.ts);
            if (time.seconds < 0 || time.nanoseconds < 0) return -EINVAL;
            const std::uint64_t duration = static_cast<std::uint64_t>(time.seconds) * nanoseconds_per_second +
                                           static_cast<std::uint64_t>(time.nanoseconds);
            deadline = (flags & abi::enter_absolute_timer) != 0 ? duration : world_.now_ns() + duration;
        }
    }
    if (defers() && foreign()) return -EEXIST;
    std::uint32_t wanted = std::min(min_complete, queues_.completion_entries());
    run_work(wanted);
    queues_.flush_overflow();
    if (queues_.unread() >= wanted) return 0;

    const std::uint32_t timeouts_before = timeouts_ended_;
    int result = 0;
    Waiter waiter{world_.current_fiber(), waiters_};
    waiters_ = &waiter;
    for (;;) {
        if (world_.fault(Fault::enter_interrupted)) {
            result = -EINTR;
            break;
        }
        if (world_.fault(Fault::spurious_wake)) break;
        const bool gathers = gather_until != 0 && gather_until < deadline;
        const bool woken = world_.block(gathers ? gather_until : deadline, "io_uring_enter", descriptor_);
        run_work(wanted);
        queues_.flush_overflow();
        if (queues_.unread() >= wanted || timeouts_ended_ != timeouts_before || closed_) break;
        if (woken) continue;
        if (!gathers) {
            result = -ETIME;
            break;
        }
        // Fewer than asked for are enough from now on.
        gather_until = 0;
        wanted = 1;
        if (queues_.unread() != 0) break;
    }
    for (Waiter** at = &waiters_; *at != nullptr; at = &(*at)->next) {
        if (*at != &waiter) continue;
        *at = waiter.next;
        break;
    }
    // What is there to be taken is better news than why the wait ended.
    return queues_.unread() != 0 ? 0 : result;
}

void FrontEnd::look_at_buffers() {
    for (const auto& group : groups_) group->look();
}

// ---- work ----

void Request::ready(std::uint32_t) noexcept {
    ring->notice(*this);
}

void FrontEnd::notice(Request& request) noexcept {
    if (closed_ || request.in_work_list || request.event_pending || request.stage != Stage::armed) return;
    if (world_.fault(Fault::wake_delayed)) {
        request.event_pending = true;
        request.event =
            world_.at(world_.now_ns() + world_.random().between(late_notice_ns_min, late_notice_ns_max), [&request] {
                request.event_pending = false;
                request.ring->queue_work(request);
            });
        return;
    }
    queue_work(request);
}

void FrontEnd::queue_work(Request& request) noexcept {
    if (request.in_work_list) return;
    request.in_work_list = true;
    request.next_queued = nullptr;
    (work_last_ != nullptr ? work_last_->next_queued : work_first_) = &request;
    work_last_ = &request;
    announce_work();
}

void FrontEnd::announce_work() noexcept {
    if ((setup_flags_ & abi::setup_taskrun_flag) != 0) queues_.set_flag(abi::queue_taskrun);
    if (running_work_) return;
    if (defers()) {
        notify(POLLIN);
        wake_waiters();
    } else if (!work_scheduled_) {
        work_scheduled_ = true;
        work_event_ = world_.at(world_.now_ns(), [this] {
            work_scheduled_ = false;
            run_work(never);
        });
    }
}

void FrontEnd::wake_waiters() noexcept {
    for (Waiter* waiter = waiters_; waiter != nullptr; waiter = waiter->next) {
        if (waiter->fiber != world_.current_fiber()) world_.wake(*waiter->fiber);
    }
}

void FrontEnd::run_work(std::uint64_t enough) {
    if (running_work_) return;
    running_work_ = true;
    while (work_first_ != nullptr || !messages_.empty()) {
        if ((setup_flags_ & abi::setup_taskrun_flag) != 0) queues_.clear_flag(abi::queue_taskrun);
        delivering_.swap(messages_);
        for (const abi::Completion& message : delivering_) post(message.user_data, message.result, message.flags);
        delivering_.clear();
        Request* next = std::exchange(work_first_, nullptr);
        work_last_ = nullptr;
        while (next != nullptr) {
            Request& request = *next;
            next = request.next_queued;
            request.in_work_list = false;
            run(request);
        }
        flush_completions();
        if (features_.work_in_rounds && queues_.unread() >= enough) break;
    }
    running_work_ = false;
    const bool left = work_first_ != nullptr || !messages_.empty();
    if (left && !defers()) announce_work();
}

void FrontEnd::run(Request& request) {
    if (request.finished) {
        complete(request);
        return;
    }
    switch (request.stage) {
        case Stage::queued:
            try_request(request);
            return;
        case Stage::timed:
            expire(request);
            return;
        case Stage::armed:
            break;
        default:
            return;
    }
    if (request.cancelled) {
        fail(request, -ECANCELED);
        return;
    }
    if (!request.delayed && !request.no_wait && world_.fault(Fault::completion_delayed)) {
        request.delayed = true;
        queue_work(request);
        return;
    }
    request.polled = true;
    if (!request.multishot) {
        request.leave();
        requests_.remove(request);
    }
    settle(request, perform(request));
}

}  // namespace ferrule::inline v0::sim
