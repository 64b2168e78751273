#include <ferrule/assert.hpp>
#include <ferrule/ring/ring.hpp>

#include "ring/descriptor.hpp"

#include <sys/mman.h>
#include <sys/uio.h>

#include <cerrno>
#include <deque>
#include <vector>

namespace ferrule::inline v0 {

namespace {

// A closed ring gives its locked memory back from a work queue, some milliseconds late.
constexpr int memory_retries_max = 5;
constexpr std::uint64_t memory_retry_first_ns = 1'000'000;
// A ring below this is of no use to anyone who asked for more.
constexpr std::uint32_t entries_min = 4;
constexpr std::uint32_t completions_per_entry = 4;

// Marks a skipped entry until it is taken out of the queue; no kernel has this operation.
constexpr auto skipped_operation = static_cast<abi::Operation>(0xff);

constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
constexpr std::uint32_t kernel_signal_set_size = 8;

// What a kernel that knows nothing of it, or a security module, answers to a polling thread.
bool refuses_polling(int result) noexcept {
    return result == -EINVAL || result == -EPERM || result == -EACCES;
}

constexpr std::uint8_t chain_flags = abi::entry_link | abi::entry_hard_link;

template <class Pointer>
Pointer at_offset(void* memory, std::uint32_t offset) noexcept {
    return reinterpret_cast<Pointer>(static_cast<std::byte*>(memory) + offset);
}

abi::Timespec timespec_of(std::uint64_t duration_ns) noexcept {
    return {static_cast<std::int64_t>(duration_ns / nanoseconds_per_second),
            static_cast<std::int64_t>(duration_ns % nanoseconds_per_second)};
}

int setup_with_retries(Kernel& kernel, std::uint32_t& entries, abi::Parameters& parameters,
                       const abi::Parameters& wanted) {
    std::uint32_t completion_entries = wanted.cq_entries;
    int retries_left = memory_retries_max;
    std::uint64_t retry_ns = memory_retry_first_ns;
    std::uint32_t flags = wanted.flags;
    while (true) {
        parameters = wanted;
        parameters.flags = flags;
        parameters.cq_entries = completion_entries;
        const int result = kernel.io_uring_setup(entries, &parameters);
        if (result == -EINVAL && (flags & abi::setup_no_submission_array) != 0) {
            flags &= ~abi::setup_no_submission_array;
        } else if (result == -ENOMEM && retries_left > 0) {
            kernel.pause_ns(retry_ns);
            retry_ns *= 2;
            --retries_left;
        } else if (result == -ENOMEM && entries / 2 >= entries_min) {
            entries /= 2;
            completion_entries = std::max(completion_entries / 2, entries);
        } else {
            parameters.cq_entries = result < 0 ? completion_entries : parameters.cq_entries;
            return result;
        }
    }
}

}  // namespace

struct Ring::Backlog {
    std::deque<abi::SubmissionEntry> entries;
};

namespace {

abi::Parameters parameters_of(const Ring::Options& options, bool polled) noexcept {
    const bool defers = options.defer_taskrun && !polled;
    abi::Parameters wanted{};
    wanted.flags = abi::setup_completion_size;
    wanted.flags |= options.single_issuer ? abi::setup_single_issuer : 0;
    wanted.flags |= defers ? abi::setup_defer_taskrun : 0;
    wanted.flags |= defers && options.taskrun_flag ? abi::setup_taskrun_flag : 0;
    wanted.flags |= options.submit_all ? abi::setup_submit_all : 0;
    wanted.flags |= options.clamp ? abi::setup_clamp : 0;
    wanted.flags |= options.no_sqarray ? abi::setup_no_submission_array : 0;
    wanted.flags |= options.start_disabled ? abi::setup_ring_disabled : 0;
    if (options.share_workers_with >= 0) {
        wanted.flags |= abi::setup_attach_work_queue;
        wanted.wq_fd = static_cast<std::uint32_t>(options.share_workers_with);
    }
    wanted.cq_entries =
        options.completion_entries != 0 ? options.completion_entries : options.entries * completions_per_entry;
    if (polled) {
        wanted.flags |= abi::setup_submission_poll;
        wanted.sq_thread_idle = options.submission_poll_idle_ms;
        if (options.submission_poll_cpu >= 0) {
            wanted.flags |= abi::setup_submission_affinity;
            wanted.sq_thread_cpu = static_cast<std::uint32_t>(options.submission_poll_cpu);
        }
    }
    return wanted;
}

}  // namespace

std::expected<Ring, SetupError> Ring::create(Kernel& kernel, const Options& options) {
    auto shared = std::make_shared<Descriptor>();
    std::uint32_t entries = options.entries;
    abi::Parameters parameters{};
    const bool polled = options.submission_poll_idle_ms != 0;
    abi::Parameters wanted = parameters_of(options, polled);
    int descriptor = setup_with_retries(kernel, entries, parameters, wanted);
    if (polled && refuses_polling(descriptor)) {
        if (options.submission_poll_cpu >= 0) {
            // The same answer for a kernel that has no polling thread, and for one that has no such CPU.
            wanted.flags &= ~abi::setup_submission_affinity;
            if (const int elsewhere = setup_with_retries(kernel, entries, parameters, wanted); elsewhere >= 0) {
                kernel.close(elsewhere);
                return std::unexpected(SetupError{
                    system_error(EINVAL), "io_uring_setup: the thread that takes the entries cannot be on CPU " +
                                              std::to_string(options.submission_poll_cpu) +
                                              ": it is not online, or not one that this process may use"});
            }
        }
        descriptor = setup_with_retries(kernel, entries, parameters, parameters_of(options, false));
    }
    if (descriptor < 0) {
        return std::unexpected(explain_setup_failure(kernel, -descriptor, entries, parameters.cq_entries));
    }

    State state;
    state.kernel = &kernel;
    state.descriptor = descriptor;
    state.enter_descriptor = descriptor;
    state.features = parameters.features;
    state.setup_flags = parameters.flags;
    state.shared = std::move(shared);
    state.shared->kernel = &kernel;
    state.shared->number = descriptor;
    if ((parameters.features & abi::feature_no_iowait) != 0 && options.no_iowait) {
        state.wait_flags |= abi::enter_no_iowait;
    }
    if ((parameters.features & abi::feature_min_timeout) != 0) {
        state.min_wait_us = options.min_wait_us;
    }
    state.register_on_enable = options.register_ring_descriptor && options.single_issuer;
    const int mapped = map_queues(kernel, parameters, state);
    Ring ring(std::move(state));
    if (mapped < 0) {
        return std::unexpected(explain_registration_failure(kernel, -mapped, "mapping the queues of a ring", 0));
    }
    if (!options.start_disabled && ring.state_.register_on_enable) {
        ring.register_descriptor();
    }
    return ring;
}

int Ring::map_queues(Kernel& kernel, const abi::Parameters& parameters, State& state) noexcept {
    const bool has_array = (parameters.flags & abi::setup_no_submission_array) == 0;
    const std::size_t submission_size =
        has_array ? parameters.sq_off.array + std::size_t{parameters.sq_entries} * sizeof(std::uint32_t) : 0;
    const std::size_t completion_size =
        parameters.cq_off.cqes + std::size_t{parameters.cq_entries} * sizeof(abi::Completion);
    // Both queues are in one mapping since 5.4.
    const std::size_t ring_size = std::max(submission_size, completion_size);
    const std::size_t entry_size = std::size_t{parameters.sq_entries} * sizeof(abi::SubmissionEntry);

    int error = 0;
    state.ring_memory = kernel.map(ring_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, state.descriptor,
                                   abi::offset_submission_ring, &error);
    if (state.ring_memory == nullptr) {
        return -error;
    }
    state.ring_size = ring_size;
    state.entry_memory = kernel.map(entry_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, state.descriptor,
                                    abi::offset_submission_entries, &error);
    if (state.entry_memory == nullptr) {
        return -error;
    }
    state.entry_size = entry_size;
    // A child of fork must not find the queues: it would submit in its parent's name.
    for (const auto& [memory, size] :
         {std::pair{state.ring_memory, ring_size}, std::pair{state.entry_memory, entry_size}}) {
        if (const int result = kernel.advise(memory, size, MADV_DONTFORK); result < 0) {
            return result;
        }
    }

    void* const memory = state.ring_memory;
    state.queue = static_cast<abi::SubmissionEntry*>(state.entry_memory);
    state.entries = parameters.sq_entries;
    state.mask = parameters.sq_entries - 1;
    state.kernel_head = at_offset<std::uint32_t*>(memory, parameters.sq_off.head);
    state.kernel_tail = at_offset<std::uint32_t*>(memory, parameters.sq_off.tail);
    state.kernel_flags = at_offset<std::uint32_t*>(memory, parameters.sq_off.flags);
    state.kernel_dropped = at_offset<std::uint32_t*>(memory, parameters.sq_off.dropped);
    state.kernel_completion_head = at_offset<std::uint32_t*>(memory, parameters.cq_off.head);
    state.kernel_completion_tail = at_offset<std::uint32_t*>(memory, parameters.cq_off.tail);
    state.kernel_completion_dropped = at_offset<std::uint32_t*>(memory, parameters.cq_off.overflow);
    state.completions = at_offset<const abi::Completion*>(memory, parameters.cq_off.cqes);
    state.completion_mask = parameters.cq_entries - 1;
    state.tail = load_acquire(state.kernel_tail);
    state.limit = load_acquire(state.kernel_head) + state.entries;
    state.completion_head = load_acquire(state.kernel_completion_head);
    if (has_array) {
        auto* const array = at_offset<std::uint32_t*>(memory, parameters.sq_off.array);
        for (std::uint32_t index = 0; index != parameters.sq_entries; ++index) {
            array[index] = index;
        }
    }
    return 0;
}

void Ring::close() noexcept {
    State& state = state_;
    if (state.descriptor < 0) {
        return;
    }
    // The registration belongs to the thread that made it. Another thread's table must not be touched; that
    // registration ends with its thread.
    if (uses_registered_descriptor()) {
        if (state.kernel->thread_identity() == state.registered_thread) {
            abi::ResourceUpdate update{};
            update.offset = static_cast<std::uint32_t>(state.enter_descriptor);
            state.kernel->io_uring_register(state.descriptor, abi::unregister_ring_descriptors, &update, 1);
        }
    }
    if (state.entry_memory != nullptr) {
        state.kernel->unmap(state.entry_memory, state.entry_size);
    }
    if (state.ring_memory != nullptr) {
        state.kernel->unmap(state.ring_memory, state.ring_size);
    }
    state.kernel->close(state.descriptor);
    state.shared->number = -1;
    delete state.backlog;
    state = State{};
}

std::expected<void, std::error_code> Ring::enable() noexcept {
    const auto enabled = register_plain(abi::register_enable_rings, nullptr, 0);
    if (enabled && state_.register_on_enable) {
        register_descriptor();
    }
    return enabled;
}

void Ring::register_descriptor() noexcept {
    abi::ResourceUpdate update{};
    update.offset = ~0u;  // any free index
    update.data = static_cast<std::uint32_t>(state_.descriptor);
    // Without it the plain descriptor does: the table of a thread has 16 places.
    if (state_.kernel->io_uring_register(state_.descriptor, abi::register_ring_descriptors, &update, 1) == 1) {
        state_.enter_descriptor = static_cast<int>(update.offset);
        state_.enter_flags = abi::enter_registered_ring;
        state_.registered_thread = state_.kernel->thread_identity();
    }
    state_.register_on_enable = false;
}

bool Ring::refresh_limit() noexcept {
    if (state_.waiting != 0) {
        state_.limit = state_.tail;
        return false;
    }
    state_.limit = load_acquire(state_.kernel_head) + state_.entries;
    return state_.tail != state_.limit;
}

abi::SubmissionEntry& Ring::entry_of_full_queue() noexcept {
    if (refresh_limit()) {
        return next_entry();
    }
    if (state_.waiting == 0) {
        ++state_.full_count;
        if (polled()) {
            const std::uint32_t wake = publish_polled(state_.tail - unfinished_chain());
            call_enter(0, 0, wake | abi::enter_submission_wait, 0);
        } else {
            const std::uint32_t pending = publish_entries();
            call_enter(pending - unfinished_chain(), 0, 0, 0);
        }
        if (refresh_limit()) {
            return next_entry();
        }
        if (state_.backlog == nullptr) {
            state_.backlog = new Backlog;
        }
    }
    // Those who come later queue up behind it until the next submit, however much room there is by then: order is kept.
    ++state_.waiting;
    state_.limit = state_.tail;
    return state_.backlog->entries.emplace_back();
}

// From here on the entries are still the program's: a polling thread may take those before at any time.
std::uint32_t Ring::first_unsubmitted() const noexcept {
    return polled() ? *state_.kernel_tail : load_acquire(state_.kernel_head);
}

std::uint32_t Ring::unfinished_chain() const noexcept {
    const std::uint32_t pending = state_.tail - first_unsubmitted();
    std::uint32_t length = 0;
    while (length != pending && (state_.queue[(state_.tail - 1 - length) & state_.mask].flags & chain_flags) != 0) {
        ++length;
    }
    // A chain longer than the queue cannot be kept whole.
    return length == (polled() ? state_.entries : pending) ? 0 : length;
}

void Ring::move_backlog() noexcept {
    if (state_.waiting == 0) {
        return;
    }
    auto& backlog = state_.backlog->entries;
    while (!backlog.empty()) {
        if (backlog.front().opcode == skipped_operation) {
            backlog.pop_front();
            --state_.waiting;
            --state_.skipped;
            continue;
        }
        std::uint32_t chain = 1;
        while (chain != backlog.size() && chain < state_.entries && (backlog[chain - 1].flags & chain_flags) != 0) {
            ++chain;
        }
        const std::uint32_t room = state_.entries - (state_.tail - load_acquire(state_.kernel_head));
        if (chain > room) {
            break;
        }
        for (; chain != 0; --chain) {
            state_.queue[state_.tail++ & state_.mask] = backlog.front();
            backlog.pop_front();
            --state_.waiting;
        }
    }
    refresh_limit();
}

void Ring::skip(abi::SubmissionEntry& entry) noexcept {
    if (state_.waiting == 0 && &entry == &state_.queue[(state_.tail - 1) & state_.mask]) {
        FERRULE_ASSERT(state_.tail != first_unsubmitted());
        --state_.tail;
        return;
    }
    FERRULE_ASSERT(entry.opcode != skipped_operation);
    entry.opcode = skipped_operation;
    ++state_.skipped;
}

void Ring::remove_skipped() noexcept {
    const std::uint32_t head = first_unsubmitted();
    std::uint32_t kept = head;
    for (std::uint32_t number = head; number != state_.tail; ++number) {
        const abi::SubmissionEntry& entry = state_.queue[number & state_.mask];
        if (entry.opcode == skipped_operation) {
            --state_.skipped;
            continue;
        }
        state_.queue[kept++ & state_.mask] = entry;
    }
    state_.tail = kept;
    refresh_limit();
}

std::uint32_t Ring::publish_entries() noexcept {
    if (state_.skipped != 0) [[unlikely]] {
        remove_skipped();
    }
    store_release(state_.kernel_tail, state_.tail);
    return state_.tail - load_acquire(state_.kernel_head);
}

int Ring::call_enter(std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                     std::uint64_t timeout_ns) noexcept {
    flags |= state_.enter_flags;
    abi::GetEventsArgument argument{};
    abi::Timespec timeout{};
    const void* passed = nullptr;
    std::size_t passed_size = kernel_signal_set_size;
    if (min_complete != 0) {
        flags |= abi::enter_get_events | state_.wait_flags;
        const std::uint32_t min_wait_us = min_complete > 1 ? state_.min_wait_us : 0;
        if (timeout_ns != no_timeout || min_wait_us != 0) {
            flags |= abi::enter_extended_argument;
            argument.sigmask_sz = kernel_signal_set_size;
            argument.min_wait_usec = min_wait_us;
            if (timeout_ns != no_timeout) {
                timeout = timespec_of(timeout_ns);
                argument.ts = reinterpret_cast<std::uintptr_t>(&timeout);
            }
            passed = &argument;
            passed_size = sizeof(argument);
        }
    }
    count(state_.enter_count);
    const int result =
        state_.kernel->io_uring_enter(state_.enter_descriptor, to_submit, min_complete, flags, passed, passed_size);
    if (result > 0) {
        state_.submitted_count += static_cast<std::uint32_t>(result);
    }
    return result == -ETIME ? 0 : result;
}

// Hands the entries before `until` to the polling thread; the flag for `enter` that wakes it, if it sleeps.
std::uint32_t Ring::publish_polled(std::uint32_t until) noexcept {
    state_.submitted_count += until - *state_.kernel_tail;
    store_release(state_.kernel_tail, until);
    // It says that it sleeps, and then looks at the tail once more: one of the two sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const bool left = load_acquire(state_.kernel_head) != until;
    return left && (queue_flags() & abi::queue_need_wakeup) != 0 ? abi::enter_submission_wakeup : 0;
}

int Ring::submit_polled(std::uint32_t min_complete, std::uint32_t flags, std::uint64_t timeout_ns) noexcept {
    int total = 0;
    while (true) {
        move_backlog();
        if (state_.skipped != 0) [[unlikely]] {
            remove_skipped();
        }
        const bool last = state_.waiting == 0;
        const std::uint32_t until = state_.tail - (last ? 0 : unfinished_chain());
        total += static_cast<int>(until - *state_.kernel_tail);
        const std::uint32_t wake = publish_polled(until);
        if (!last) {
            // What waits in user space needs room.
            if (const int result = call_enter(0, 0, wake | abi::enter_submission_wait, 0); result < 0) {
                return total != 0 ? total : result;
            }
            continue;
        }
        // Completions come by themselves, but for those that overflowed.
        const bool fetches = (flags & abi::enter_get_events) != 0 && work_may_wait(queue_flags());
        if (min_complete != 0 || fetches || wake != 0) {
            const int result = call_enter(0, min_complete, wake | (fetches ? abi::enter_get_events : 0), timeout_ns);
            if (result < 0) {
                return total != 0 ? total : result;
            }
        }
        return total;
    }
}

int Ring::submit_pending(std::uint32_t min_complete, std::uint32_t flags, std::uint64_t timeout_ns) noexcept {
    if (polled()) [[unlikely]] {
        return submit_polled(min_complete, flags, timeout_ns);
    }
    int total = 0;
    while (true) {
        move_backlog();
        const std::uint32_t pending = publish_entries();
        const bool last = state_.waiting == 0;
        const int result = last ? call_enter(pending, min_complete, flags, timeout_ns)
                                : call_enter(pending - unfinished_chain(), 0, flags, 0);
        if (result < 0) {
            return total != 0 ? total : result;
        }
        total += result;
        if (last || result == 0) {
            return total;
        }
    }
}

std::expected<std::uint32_t, std::error_code> Ring::submit() noexcept {
    move_backlog();
    if (state_.skipped != 0) {
        remove_skipped();
    }
    if (pending() == 0) {
        return 0u;
    }
    const int result = submit_pending(0, 0, 0);
    if (result < 0) {
        return std::unexpected(system_error(-result));
    }
    return static_cast<std::uint32_t>(result);
}

std::expected<std::uint32_t, std::error_code> Ring::submit_and_wait(std::uint32_t completions) noexcept {
    const int result = submit_pending(completions, abi::enter_get_events, no_timeout);
    if (result < 0) {
        return std::unexpected(system_error(-result));
    }
    return static_cast<std::uint32_t>(result);
}

int Ring::enter(std::uint32_t min_complete, std::uint64_t timeout_ns) noexcept {
    if (timeout_ns == 0) {
        min_complete = 0;
    }
    const std::uint32_t flags = queue_flags();
    if ((flags & abi::queue_overflow) != 0) [[unlikely]] {
        count(state_.overflow_count);
    }
    if (min_complete == 0 && state_.tail == load_acquire(state_.kernel_head) && state_.waiting == 0 &&
        !work_may_wait(flags)) {
        return 0;
    }
    // Completions are always asked for: what arrives while the kernel takes the entries comes with this call, and does
    // not need another.
    return submit_pending(min_complete, abi::enter_get_events, timeout_ns);
}

bool Ring::work_may_wait(std::uint32_t flags) const noexcept {
    // A ring that defers its work and does not flag it has to be entered to know.
    constexpr std::uint32_t deferred = abi::setup_defer_taskrun;
    constexpr std::uint32_t flagged = abi::setup_defer_taskrun | abi::setup_taskrun_flag;
    return (flags & (abi::queue_overflow | abi::queue_taskrun)) != 0 || (state_.setup_flags & flagged) == deferred;
}

std::optional<abi::Completion> Ring::try_completion() noexcept {
    abi::Completion completion;
    if (copy_completions({&completion, 1}) == 1) {
        return completion;
    }
    const std::uint32_t flags = queue_flags();
    if (!work_may_wait(flags)) {
        return std::nullopt;
    }
    if ((flags & abi::queue_overflow) != 0) {
        count(state_.overflow_count);
    }
    call_enter(0, 0, abi::enter_get_events, 0);
    if (copy_completions({&completion, 1}) == 1) {
        return completion;
    }
    return std::nullopt;
}

std::expected<abi::Completion, std::error_code> Ring::wait_completion() noexcept {
    abi::Completion completion;
    while (copy_completions({&completion, 1}) == 0) {
        if (overflowed()) {
            count(state_.overflow_count);
        }
        const int result = call_enter(0, 1, abi::enter_get_events, no_timeout);
        if (result < 0 && ready() == 0) {
            return std::unexpected(system_error(-result));
        }
    }
    return completion;
}

std::expected<std::uint32_t, std::error_code> Ring::register_raw(std::uint32_t opcode, void* argument,
                                                                 std::uint32_t count) noexcept {
    const int result = state_.kernel->io_uring_register(state_.descriptor, opcode, argument, count);
    if (result < 0) {
        return std::unexpected(system_error(-result));
    }
    return static_cast<std::uint32_t>(result);
}

std::expected<void, std::error_code> Ring::register_plain(std::uint32_t opcode, void* argument,
                                                          std::uint32_t count) noexcept {
    const auto result = register_raw(opcode, argument, count);
    if (!result) {
        return std::unexpected(result.error());
    }
    return {};
}

std::expected<void, std::error_code> Ring::register_files(std::span<const int> descriptors) noexcept {
    return register_plain(abi::register_files, const_cast<int*>(descriptors.data()),
                          static_cast<std::uint32_t>(descriptors.size()));
}

std::expected<void, std::error_code> Ring::register_files_sparse(std::uint32_t count) noexcept {
    abi::ResourceRegistration registration{};
    registration.nr = count;
    registration.flags = abi::resource_register_sparse;
    return register_plain(abi::register_files2, &registration, sizeof(registration));
}

std::expected<std::uint32_t, std::error_code> Ring::update_files(std::uint32_t offset,
                                                                 std::span<const int> descriptors) noexcept {
    abi::ResourceUpdate update{};
    update.offset = offset;
    update.data = reinterpret_cast<std::uintptr_t>(descriptors.data());
    return register_raw(abi::register_files_update, &update, static_cast<std::uint32_t>(descriptors.size()));
}

std::expected<void, std::error_code> Ring::register_file_range(std::uint32_t offset, std::uint32_t count) noexcept {
    abi::FileIndexRange range{};
    range.off = offset;
    range.len = count;
    return register_plain(abi::register_file_alloc_range, &range, 0);
}

std::expected<void, std::error_code> Ring::unregister_files() noexcept {
    return register_plain(abi::unregister_files, nullptr, 0);
}

std::expected<void, std::error_code> Ring::register_buffers(std::span<const std::span<std::byte>> buffers) {
    std::vector<iovec> vectors;
    vectors.reserve(buffers.size());
    for (const std::span<std::byte> buffer : buffers) {
        vectors.push_back({buffer.data(), buffer.size()});
    }
    return register_plain(abi::register_buffers, vectors.data(), static_cast<std::uint32_t>(vectors.size()));
}

std::expected<void, std::error_code> Ring::unregister_buffers() noexcept {
    return register_plain(abi::unregister_buffers, nullptr, 0);
}

std::expected<void, std::error_code> Ring::register_eventfd(int descriptor, bool only_async) noexcept {
    return register_plain(only_async ? abi::register_event_descriptor_async : abi::register_event_descriptor,
                          &descriptor, 1);
}

std::expected<void, std::error_code> Ring::unregister_eventfd() noexcept {
    return register_plain(abi::unregister_event_descriptor, nullptr, 0);
}

std::expected<std::uint16_t, std::error_code> Ring::register_personality() noexcept {
    const auto result = register_raw(abi::register_personality, nullptr, 0);
    if (!result) {
        return std::unexpected(result.error());
    }
    return static_cast<std::uint16_t>(*result);
}

std::expected<void, std::error_code> Ring::unregister_personality(std::uint16_t personality) noexcept {
    return register_plain(abi::unregister_personality, nullptr, personality);
}

std::expected<void, std::error_code> Ring::resize(std::uint32_t entries, std::uint32_t completion_entries) noexcept {
    State& state = state_;
    // Up to 6.18 the kernel does not tell where the index array of the new queue is.
    if ((state.setup_flags & abi::setup_no_submission_array) == 0) {
        return std::unexpected(system_error(EINVAL));
    }
    if (pending() != 0) {
        return std::unexpected(system_error(EBUSY));
    }
    if (state.skipped != 0) {
        remove_skipped();
    }
    store_release(state.kernel_tail, state.tail);
    abi::Parameters parameters{};
    parameters.sq_entries = entries;
    parameters.cq_entries = completion_entries;
    parameters.flags = abi::setup_completion_size | abi::setup_clamp;
    if (const auto resized = register_plain(abi::register_resize_rings, &parameters, 1); !resized) {
        return resized;
    }
    // The kernel has copied both queues and uses the new ones from now on; the old memory is there until it is
    // unmapped.
    parameters.flags |= abi::setup_no_submission_array;
    void* const ring_memory = std::exchange(state.ring_memory, nullptr);
    void* const entry_memory = std::exchange(state.entry_memory, nullptr);
    const std::size_t ring_size = state.ring_size;
    const std::size_t entry_size = state.entry_size;
    const int mapped = map_queues(*state.kernel, parameters, state);
    if (mapped < 0) {
        for (const auto& [memory, size] :
             {std::pair{state.ring_memory, state.ring_size}, std::pair{state.entry_memory, state.entry_size}}) {
            if (memory != nullptr) {
                state.kernel->unmap(memory, size);
            }
        }
        // Readable to the end, though nothing will ever change there.
        state.ring_memory = ring_memory;
        state.ring_size = ring_size;
        state.entry_memory = entry_memory;
        state.entry_size = entry_size;
        return std::unexpected(system_error(ENOLINK));
    }
    state.kernel->unmap(ring_memory, ring_size);
    state.kernel->unmap(entry_memory, entry_size);
    return {};
}

std::expected<void, std::error_code> Ring::register_busy_poll(std::uint32_t microseconds, bool preferred) noexcept {
    abi::NapiRegistration registration{};
    registration.busy_poll_to = microseconds;
    registration.prefer_busy_poll = preferred ? 1 : 0;
    return register_plain(abi::register_napi, &registration, 1);
}

std::expected<void, std::error_code> Ring::limit_workers(std::uint32_t bounded, std::uint32_t unbounded) noexcept {
    std::uint32_t limits[2] = {bounded, unbounded};
    return register_plain(abi::register_workers_max, limits, 2);
}

std::expected<void, std::error_code> Ring::cancel_sync(std::uint64_t user_data, int descriptor, std::uint32_t flags,
                                                       std::uint64_t timeout_ns) noexcept {
    abi::SyncCancelRegistration registration{};
    registration.addr = user_data;
    registration.fd = descriptor;
    registration.flags = flags;
    registration.timeout = timeout_ns == no_timeout ? abi::Timespec{-1, -1} : timespec_of(timeout_ns);
    return register_plain(abi::register_sync_cancel, &registration, 1);
}

}  // namespace ferrule::inline v0
