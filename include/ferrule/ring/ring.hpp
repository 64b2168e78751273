#pragma once

#include <ferrule/ring/abi.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

/// An io_uring: a submission queue and a completion queue that the kernel shares.
///
/// Thread: one thread owns the ring (the kernel enforces it with `single_issuer`: -EEXIST from any other). Without
/// `single_issuer` and `defer_taskrun`, one thread may submit while another takes completions; two may not do the same
/// at once.
///
/// Operations are not tied to the ring's C++ lifetime: whoever submits one keeps what it points to until its last
/// completion.
///
/// ```cpp
/// auto made = Ring::create(kernel, {.entries = 8});
/// if (!made) throw std::system_error(made.error().code, made.error().message);
/// Ring& mine = *made;
/// for (std::uint64_t number = 1; number <= 3; ++number) {
///     abi::SubmissionEntry& entry = mine.entry();
///     prepare::nop(entry);
///     entry.user_data = number;
/// }
/// if (const auto submitted = mine.submit_and_wait(3); !submitted) throw std::system_error(submitted.error());
/// mine.for_each_completion([](const abi::Completion& completion) { std::printf("%d\n", completion.result); });
/// ```
class FERRULE_EXPORT Ring {
public:
    /// What to create.
    struct Options {
        /// Submission entries; the kernel rounds up to a power of two. Entries are free again as soon as they are
        /// submitted, so few are enough.
        std::uint32_t entries = 256;
        /// Completion entries; 0: four times `entries`.
        std::uint32_t completion_entries = 0;
        /// Only one thread submits.
        bool single_issuer = true;
        /// Completion work runs only inside `enter`, on the owner's thread. Needs `single_issuer`.
        bool defer_taskrun = true;
        /// The kernel tells by a flag that completion work waits for an `enter`. Only with `defer_taskrun`.
        bool taskrun_flag = true;
        /// A bad entry does not stop the entries behind it.
        bool submit_all = true;
        /// Sizes above the kernel's limits are cut to them instead of refused.
        bool clamp = true;
        /// No index array between queue and entries, where the kernel can (6.6).
        bool no_sqarray = true;
        /// The ring starts disabled; `enable` on its owner's thread starts it. So one thread creates it and another
        /// owns it.
        bool start_disabled = false;
        /// Registers the ring's descriptor with its thread, which saves `enter` a reference count. Only with
        /// `single_issuer`.
        bool register_ring_descriptor = true;
        /// Waiting is not counted as I/O wait in the system's statistics, where the kernel can (6.15).
        bool no_iowait = true;
        /// A wait for more than one completion gathers them for this long before it settles for one (6.12; ignored
        /// before, see `gathers`). 0: off.
        std::uint32_t min_wait_us = 0;
        /// A thread of the kernel's takes the entries (SQPOLL), so that submitting is no system call while it is awake;
        /// after so long without an entry it sleeps, and is woken by a call. Operations are issued, and complete, at
        /// its own time, so a submission that has said nothing may not have begun. Excludes `defer_taskrun`, which is
        /// not asked for then. Where the kernel refuses such a thread the ring is made without it, as if this were 0:
        /// `polled` tells. 0: off.
        std::uint32_t submission_poll_idle_ms = 0;
        /// The CPU of that thread; -1: any.
        int submission_poll_cpu = -1;
        /// The descriptor of another ring, whose kernel worker threads this one shares; -1: its own.
        int share_workers_with = -1;
    };

    /// No timeout, for `enter`.
    static constexpr std::uint64_t no_timeout = ~std::uint64_t{0};

    /// Sets up a ring. ENOMEM (the locked-memory limit; a ring that was closed just now gives its memory back late) is
    /// retried, then the sizes are halved, down to 4 entries; `entries()` and `completion_entries()` tell what came of
    /// it. Errors: ENOMEM, EPERM (forbidden by sysctl or seccomp), ENOSYS (no io_uring), EINVAL (kernel older than 6.1,
    /// or sizes beyond its limits without `clamp`; or `submission_poll_cpu` is none), EMFILE, ENFILE; the message says
    /// what to do.
    [[nodiscard]] static std::expected<Ring, SetupError> create(Kernel& kernel, const Options& options);

    Ring(Ring&& other) noexcept : state_(std::exchange(other.state_, State{})) {}
    Ring& operator=(Ring&& other) noexcept {
        if (this != &other) {
            close();
            state_ = std::exchange(other.state_, State{});
        }
        return *this;
    }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    /// Closes the ring and unmaps it. It does not wait for operations: their owner has ended them before.
    ~Ring() { close(); }

    /// Starts a ring that was created with `start_disabled`, and makes the calling thread its owner. Errors: those of
    /// io_uring_register(2); EBADFD when it is enabled already.
    [[nodiscard]] std::expected<void, std::error_code> enable() noexcept;

    // ---- submission ----

    /// The next entry, zeroed, or null when the queue is full.
    [[nodiscard]] abi::SubmissionEntry* try_entry() noexcept {
        if (state_.tail == state_.limit && !refresh_limit()) [[unlikely]] {
            return nullptr;
        }
        return &next_entry();
    }

    /// The next entry, zeroed. Never null: a full queue is flushed, and what the kernel will not take yet waits in user
    /// space, in order. The reference holds until the entry is submitted or the next entry is asked for after the queue
    /// was full. A chain of linked entries is never cut by the flush as long as it is no longer than `entries()` and
    /// all of its entries but the last have their link flag before the next one is asked for.
    [[nodiscard]] abi::SubmissionEntry& entry() noexcept {
        if (state_.tail == state_.limit) [[unlikely]] {
            return entry_of_full_queue();
        }
        return next_entry();
    }

    /// The number that the next entry gets: a sequence that wraps at 2^32.
    [[nodiscard]] std::uint32_t next_sequence() const noexcept { return state_.tail + state_.waiting; }

    /// Whether the kernel has consumed the entry with this number: what the entry pointed to (not its data) may go.
    /// True for entries of the last 2^31. A skipped entry renumbers those reserved after it.
    [[nodiscard]] bool consumed(std::uint32_t sequence) const noexcept {
        return static_cast<std::int32_t>(load_acquire(state_.kernel_head) - sequence) > 0;
    }

    /// Drops an entry that was reserved and is not yet submitted; those reserved after it stay valid until they are
    /// submitted.
    void skip(abi::SubmissionEntry& entry) noexcept;

    /// Submits what is pending, without waiting. Returns how many entries the kernel consumed: fewer than pending
    /// without `submit_all` when one was bad. Errors: see `explain_enter_failure`.
    [[nodiscard]] std::expected<std::uint32_t, std::error_code> submit() noexcept;

    /// Submits what is pending and waits until `completions` of them are ready. When not everything was consumed it
    /// does not wait, and the completion of a timeout operation ends the wait whatever the count. Errors as `submit`,
    /// and EINTR when a signal came while it waited.
    [[nodiscard]] std::expected<std::uint32_t, std::error_code> submit_and_wait(std::uint32_t completions) noexcept;

    /// A loop's one call: submits all, waits for `min_complete` completions or the timeout (`no_timeout`: without end;
    /// 0: does not wait), runs completion work that is pending, flushes overflowed completions. No system call when
    /// there is nothing of this to do. A timeout operation's completion ends the wait whatever the count, and so does
    /// an entry that was not consumed. Returns the entries consumed; a timeout is no error. -EINTR: a signal came;
    /// -EAGAIN: the kernel had no memory for a request; -EBUSY: completions have to be taken first. After these three
    /// the loop goes on; others are misuse (`explain_enter_failure`).
    [[nodiscard]] int enter(std::uint32_t min_complete, std::uint64_t timeout_ns) noexcept;

    // ---- completion ----

    /// Copies completions out and publishes the queue's head once: nothing in the queue is referenced afterwards. Never
    /// a system call. Returns how many.
    [[nodiscard]] std::uint32_t copy_completions(std::span<abi::Completion> into) noexcept {
        const std::uint32_t head = state_.completion_head;
        const std::uint32_t ready_count = load_acquire(state_.kernel_completion_tail) - head;
        const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(ready_count, into.size()));
        if (count == 0) {
            return 0;
        }
        const std::uint32_t index = head & state_.completion_mask;
        const std::uint32_t until_wrap = std::min(count, state_.completion_mask + 1 - index);
        std::memcpy(into.data(), state_.completions + index, until_wrap * sizeof(abi::Completion));
        if (until_wrap != count) [[unlikely]] {
            std::memcpy(into.data() + until_wrap, state_.completions, (count - until_wrap) * sizeof(abi::Completion));
        }
        state_.completion_head = head + count;
        store_release(state_.kernel_completion_head, head + count);
        return count;
    }

    /// Completions that can be taken now.
    [[nodiscard]] std::uint32_t ready() const noexcept {
        return load_acquire(state_.kernel_completion_tail) - state_.completion_head;
    }

    /// Whether the kernel keeps completions for which the queue had no room; the next `enter` fetches them. Nothing is
    /// lost, but multishot operations end on overflow and have to be armed again.
    [[nodiscard]] bool overflowed() const noexcept { return (queue_flags() & abi::queue_overflow) != 0; }

    /// Whether a thread of the kernel's takes the entries: Options::submission_poll_idle_ms, and the kernel could.
    [[nodiscard]] bool polled() const noexcept { return (state_.setup_flags & abi::setup_submission_poll) != 0; }

    /// Whether a wait for more than one completion gathers them: Options::min_wait_us, and the kernel can.
    [[nodiscard]] bool gathers() const noexcept { return state_.min_wait_us != 0; }

    /// Whether completion work waits for an `enter` (with `taskrun_flag`).
    [[nodiscard]] bool task_work_pending() const noexcept { return (queue_flags() & abi::queue_taskrun) != 0; }

    /// Takes one completion if there is one; enters the kernel only when it flags work or overflow, and never waits.
    [[nodiscard]] std::optional<abi::Completion> try_completion() noexcept;

    /// Takes one completion, waiting for it. Submits nothing. Errors: EINTR, and those of `enter` that are misuse.
    [[nodiscard]] std::expected<abi::Completion, std::error_code> wait_completion() noexcept;

    /// Calls `function(const abi::Completion&)` for each completion that is ready now, and frees their places. Returns
    /// how many.
    template <class Function>
    std::uint32_t for_each_completion(Function&& function) {
        const std::uint32_t count = ready();
        for (std::uint32_t taken = 0; taken != count; ++taken) {
            const abi::Completion completion = state_.completions[state_.completion_head & state_.completion_mask];
            store_release(state_.kernel_completion_head, ++state_.completion_head);
            function(completion);
        }
        return count;
    }

    // ---- state ----

    /// The sizes that the kernel gave, which CLAMP or a lack of memory may have made smaller than asked for.
    [[nodiscard]] std::uint32_t entries() const noexcept { return state_.entries; }
    [[nodiscard]] std::uint32_t completion_entries() const noexcept { return state_.completion_mask + 1; }
    /// Entries reserved and not yet consumed by the kernel.
    [[nodiscard]] std::uint32_t pending() const noexcept {
        return state_.tail - load_acquire(state_.kernel_head) + state_.waiting - state_.skipped;
    }
    /// Entries that can be reserved before the queue is full.
    [[nodiscard]] std::uint32_t available() const noexcept {
        return state_.waiting != 0 ? 0 : state_.entries - (state_.tail - load_acquire(state_.kernel_head));
    }
    [[nodiscard]] std::uint32_t features() const noexcept { return state_.features; }
    [[nodiscard]] std::uint32_t setup_flags() const noexcept { return state_.setup_flags; }
    /// How often an `enter` found that completions had overflowed.
    [[nodiscard]] std::uint64_t overflow_count() const noexcept { return counted(state_.overflow_count); }
    /// Completions that the kernel had to drop for lack of memory: lost. Wraps at 2^32.
    [[nodiscard]] std::uint32_t dropped_completions() const noexcept {
        return load_acquire(state_.kernel_completion_dropped);
    }
    /// Submission entries that the kernel refused to look at; stays 0 but for a broken index array.
    [[nodiscard]] std::uint32_t dropped_entries() const noexcept { return load_acquire(state_.kernel_dropped); }
    /// How often the submission queue was full and had to be flushed before its time.
    [[nodiscard]] std::uint64_t full_count() const noexcept { return state_.full_count; }
    /// Calls of io_uring_enter so far.
    [[nodiscard]] std::uint64_t enter_count() const noexcept { return counted(state_.enter_count); }
    /// Entries that the kernel has consumed so far.
    [[nodiscard]] std::uint64_t submitted_count() const noexcept { return state_.submitted_count; }
    /// Whether `enter` uses the thread's registration of the descriptor.
    [[nodiscard]] bool uses_registered_descriptor() const noexcept {
        return (state_.enter_flags & abi::enter_registered_ring) != 0;
    }
    [[nodiscard]] int descriptor() const noexcept { return state_.descriptor; }
    [[nodiscard]] Kernel& kernel() const noexcept { return *state_.kernel; }

    // ---- registration: the owner's thread; errors are those of io_uring_register(2) ----

    /// Fixed files; -1 in `descriptors` leaves a slot empty.
    [[nodiscard]] std::expected<void, std::error_code> register_files(std::span<const int> descriptors) noexcept;
    /// `count` empty slots for direct descriptors.
    [[nodiscard]] std::expected<void, std::error_code> register_files_sparse(std::uint32_t count) noexcept;
    /// Replaces fixed files from slot `offset` on: -1 empties a slot, abi::files_skip leaves it. Returns how many were
    /// done.
    [[nodiscard]] std::expected<std::uint32_t, std::error_code> update_files(std::uint32_t offset,
                                                                             std::span<const int> descriptors) noexcept;
    /// The slots [offset, offset + count) are those from which the kernel allocates.
    [[nodiscard]] std::expected<void, std::error_code> register_file_range(std::uint32_t offset,
                                                                           std::uint32_t count) noexcept;
    [[nodiscard]] std::expected<void, std::error_code> unregister_files() noexcept;
    /// Pinned buffers for read_fixed, write_fixed and zero-copy sends.
    [[nodiscard]] std::expected<void, std::error_code> register_buffers(std::span<const std::span<std::byte>> buffers);
    [[nodiscard]] std::expected<void, std::error_code> unregister_buffers() noexcept;
    /// The eventfd is signalled on each completion; `only_async`: only on those that did not finish within `enter`.
    [[nodiscard]] std::expected<void, std::error_code> register_eventfd(int descriptor,
                                                                        bool only_async = false) noexcept;
    [[nodiscard]] std::expected<void, std::error_code> unregister_eventfd() noexcept;
    /// Keeps the thread's credentials: the id goes into an entry's `personality`.
    [[nodiscard]] std::expected<std::uint16_t, std::error_code> register_personality() noexcept;
    [[nodiscard]] std::expected<void, std::error_code> unregister_personality(std::uint16_t personality) noexcept;
    /// Cancels operations and waits until they are cancelled or the timeout (`no_timeout`: without end) passes.
    /// `user_data`, or `descriptor` with abi::cancel_descriptor in `flags`. Errors: ENOENT nothing matched, EALREADY it
    /// could not be stopped, ETIME.
    [[nodiscard]] std::expected<void, std::error_code> cancel_sync(std::uint64_t user_data, int descriptor,
                                                                   std::uint32_t flags,
                                                                   std::uint64_t timeout_ns) noexcept;
    /// Makes the queues larger or smaller, with what is in them (6.13, and only with `defer_taskrun`). Both sizes are
    /// rounded up to powers of two and cut to the kernel's limits. Everything that was reserved has to be submitted
    /// first, and references to entries end. Errors: EBUSY when it is not; EINVAL: the kernel cannot, or the queue has
    /// an index array; EOVERFLOW: more completions wait than would have room; ENOMEM: the queues are as before.
    /// ENOLINK: the new queues could not be mapped, and nothing can be done with this ring but close it.
    [[nodiscard]] std::expected<void, std::error_code> resize(std::uint32_t entries,
                                                              std::uint32_t completion_entries) noexcept;
    /// While a wait would sleep, the kernel asks the receive queues of the network cards that the ring's sockets hang
    /// on for so many microseconds (6.9). `preferred`: instead of their interrupts, as far as the card's driver can.
    /// Errors: EINVAL: the kernel cannot; EOPNOTSUPP: it was built without busy polling.
    [[nodiscard]] std::expected<void, std::error_code> register_busy_poll(std::uint32_t microseconds,
                                                                          bool preferred) noexcept;
    /// At most so many of the kernel's worker threads for operations that end by themselves (files), and for those that
    /// may take for ever; for both, 0 leaves it as it is. They belong to the owner's thread, and so do the limits, for
    /// all of its rings.
    [[nodiscard]] std::expected<void, std::error_code> limit_workers(std::uint32_t bounded,
                                                                     std::uint32_t unbounded) noexcept;
    /// The registration that has no function here. Returns the kernel's value.
    [[nodiscard]] std::expected<std::uint32_t, std::error_code> register_raw(std::uint32_t opcode, void* argument,
                                                                             std::uint32_t count) noexcept;

private:
    friend class BufferRing;
    struct Backlog;
    struct Descriptor;

    struct State {
        // Hot: submission.
        std::uint32_t tail = 0;   // the number of the next entry
        std::uint32_t limit = 0;  // the number at which the queue looks full
        std::uint32_t mask = 0;
        std::uint32_t entries = 0;
        abi::SubmissionEntry* queue = nullptr;
        std::uint32_t* kernel_head = nullptr;
        std::uint32_t* kernel_tail = nullptr;
        std::uint32_t* kernel_flags = nullptr;
        // Hot: completion.
        std::uint32_t* kernel_completion_head = nullptr;
        std::uint32_t* kernel_completion_tail = nullptr;
        const abi::Completion* completions = nullptr;
        std::uint32_t completion_head = 0;
        std::uint32_t completion_mask = 0;
        // Warm: enter.
        Kernel* kernel = nullptr;
        int enter_descriptor = -1;
        std::uint32_t enter_flags = 0;
        std::uint32_t wait_flags = 0;
        std::uint32_t min_wait_us = 0;
        std::uint32_t waiting = 0;  // entries in the backlog
        std::uint32_t skipped = 0;
        std::uint64_t enter_count = 0;
        std::uint64_t submitted_count = 0;
        std::uint64_t overflow_count = 0;
        std::uint64_t full_count = 0;
        // Cold.
        std::uint32_t* kernel_dropped = nullptr;
        std::uint32_t* kernel_completion_dropped = nullptr;
        int descriptor = -1;
        std::uint32_t features = 0;
        std::uint32_t setup_flags = 0;
        bool register_on_enable = false;
        std::uint64_t registered_thread = 0;
        void* ring_memory = nullptr;
        std::size_t ring_size = 0;
        void* entry_memory = nullptr;
        std::size_t entry_size = 0;
        Backlog* backlog = nullptr;
        std::shared_ptr<Descriptor> shared;
    };

    explicit Ring(State&& state) noexcept : state_(std::move(state)) {}

    // Counters that a submitting and a reading thread of a ring without `single_issuer` may both touch: no locked
    // operation, so that an increment may be lost between them, and nothing worse.
    static void count(std::uint64_t& counter) noexcept {
        const std::atomic_ref<std::uint64_t> shared(counter);
        shared.store(shared.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    static std::uint64_t counted(const std::uint64_t& counter) noexcept {
        return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(counter)).load(std::memory_order_relaxed);
    }
    static std::uint32_t load_acquire(std::uint32_t* word) noexcept {
        return std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire);
    }
    static void store_release(std::uint32_t* word, std::uint32_t value) noexcept {
        std::atomic_ref<std::uint32_t>(*word).store(value, std::memory_order_release);
    }
    [[nodiscard]] std::uint32_t queue_flags() const noexcept {
        return std::atomic_ref<std::uint32_t>(*state_.kernel_flags).load(std::memory_order_relaxed);
    }
    abi::SubmissionEntry& next_entry() noexcept {
        abi::SubmissionEntry& entry = state_.queue[state_.tail++ & state_.mask];
        entry = abi::SubmissionEntry{};
        return entry;
    }

    static int map_queues(Kernel& kernel, const abi::Parameters& parameters, State& state) noexcept;
    void close() noexcept;
    void register_descriptor() noexcept;
    [[nodiscard]] bool work_may_wait(std::uint32_t flags) const noexcept;
    bool refresh_limit() noexcept;
    abi::SubmissionEntry& entry_of_full_queue() noexcept;
    void move_backlog() noexcept;
    void remove_skipped() noexcept;
    [[nodiscard]] std::uint32_t publish_entries() noexcept;
    [[nodiscard]] std::uint32_t unfinished_chain() const noexcept;
    int call_enter(std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                   std::uint64_t timeout_ns) noexcept;
    int submit_pending(std::uint32_t min_complete, std::uint32_t flags, std::uint64_t timeout_ns) noexcept;
    int submit_polled(std::uint32_t min_complete, std::uint32_t flags, std::uint64_t timeout_ns) noexcept;
    [[nodiscard]] std::uint32_t publish_polled(std::uint32_t until) noexcept;
    [[nodiscard]] std::uint32_t first_unsubmitted() const noexcept;
    [[nodiscard]] std::expected<void, std::error_code> register_plain(std::uint32_t opcode, void* argument,
                                                                      std::uint32_t count) noexcept;

    State state_;
};

}  // namespace ferrule::inline v0
