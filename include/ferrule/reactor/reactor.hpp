#pragma once

#include <ferrule/reactor/counters.hpp>
#include <ferrule/reactor/inbox.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/operation.hpp>
#include <ferrule/reactor/services.hpp>
#include <ferrule/reactor/subsystem.hpp>
#include <ferrule/reactor/tag.hpp>
#include <ferrule/reactor/timer_heap.hpp>
#include <ferrule/reactor/tuning.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/ring/ring.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/task.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

class OffloadPool;

/// How a reactor is set up. Every field has a sane default.
struct ReactorOptions {
    std::uint32_t submission_entries =
        1024;  ///< submission queue; it is flushed when full, so small ones only cost system calls
    std::uint32_t completion_entries = 0;      ///< completion queue; 0: four times the submission queue
    std::uint32_t operation_limit = 1u << 20;  ///< operations and sleeps awaited at a time
    std::uint32_t mailbox_limit = 1u << 20;    ///< messages that may wait
    std::uint32_t inline_budget = 128;  ///< awaits that a coroutine may pass without waiting before it is made to yield
    std::uint64_t memory_limit =
        2ull << 30;                        ///< bytes of all that grows with the work: frames, written and carried data
    std::uint64_t frame_memory_limit = 0;  ///< bytes of coroutine frames; 0: none
    std::chrono::microseconds spin{0};     ///< how long to look for completions before sleeping; trades CPU for latency
    std::uint32_t offload_threads = 2;     ///< threads for `offload`, started at first use
    std::uint32_t offload_limit = 1024;    ///< calls that may wait for such a thread
    int cpu = -1;                          ///< pin the thread of `run` to this CPU; -1: not pinned

    // What trades one thing for another, off by default. Where the kernel lacks it, the reactor runs without it, and
    // Reactor::tuning says so. docs/tuning.md has the reasons, and what each gains and costs.

    /// A thread of the kernel's takes the entries (SQPOLL) and sleeps after so long without any. It wants a CPU of its
    /// own for each reactor. 0: off.
    std::chrono::milliseconds submission_poll{0};
    int submission_poll_cpu = -1;  ///< where that thread runs; -1: anywhere. One that does not exist is an error
    /// Before it sleeps, the kernel asks the network cards' queues for so long (6.9). Loopback has none. 0: off.
    std::chrono::microseconds napi_busy_poll{0};
    bool napi_prefer_busy_poll = false;  ///< instead of the cards' interrupts, as far as their drivers can
    /// How long a wait gathers completions before it settles for one (6.12); all that comes meanwhile is late by up to
    /// so much, messages of other reactors too. 0: off.
    std::chrono::microseconds min_wait{0};
    std::uint32_t min_wait_completions = 16;  ///< so many end the gathering at once
    /// Up to here the submission queue doubles after a pass that has filled it, and the completion queue after one in
    /// which it overflowed (6.13). 0: they stay as they are.
    std::uint32_t submission_entries_max = 0;
    std::uint32_t completion_entries_max = 0;
    /// The kernel's worker threads for this reactor's files, and for what may take for ever; 0: as the kernel has it
    /// (four for each CPU; as many as the limit of processes).
    std::uint32_t bounded_workers = 0;
    std::uint32_t unbounded_workers = 0;
    /// The ring's memory, and all that the reactor's thread touches first, comes from the NUMA node of `cpu`, whatever
    /// the process was started with. Not without `cpu`.
    bool local_memory = false;
};

/// One ring, one thread, one loop: everything that a reactor makes belongs to the thread that calls `run`.
///
/// The loop resumes a waiting coroutine directly from the completion that it waits for. Entries that coroutines make
/// meanwhile leave together when the loop next enters the kernel. While there is nothing to do it sleeps in the kernel
/// until the next deadline.
///
/// All members are for the reactor's own thread, or for any one thread before `run`, unless they say otherwise.
class FERRULE_EXPORT Reactor : public Host {
public:
    /// Makes the ring. `id` is the caller's number for this reactor. Throws std::runtime_error, which says what to do,
    /// when the kernel refuses the ring, and std::system_error when no event descriptor is left.
    explicit Reactor(std::uint32_t id = 0, ReactorOptions options = {}, Kernel& kernel = linux_kernel());
    ~Reactor() override;
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    /// The reactor whose thread this is; null elsewhere.
    [[nodiscard]] static Reactor* current() noexcept;

    /// Runs the loop on the calling thread until `stop`, or until a drain has ended; then cancels what is left and
    /// waits for its end: five seconds for tasks that ignore their cancellation, as long as it takes for blocking calls
    /// (`offload`). Once per reactor. Throws std::system_error when the ring cannot be enabled, the thread not be
    /// pinned, or the kernel refuses to be entered; and what a function given to `on_start` throws. By then, too,
    /// everything has ended.
    void run();

    /// Asks the loop to end. Any thread; also before `run`, which then returns at once.
    void stop() noexcept;

    /// Ends gently: subsystems take no new work and finish what was begun; at the timeout the rest is cancelled. Then
    /// `run` returns. Throws std::logic_error on a thread that is not the reactor's (post it there).
    void drain(std::chrono::nanoseconds timeout);
    /// Whether `drain` was called.
    [[nodiscard]] bool draining() const noexcept { return draining_; }

    /// Whether its thread is in `run`. Any thread.
    [[nodiscard]] bool running() const noexcept { return running_.load(std::memory_order_relaxed); }

    /// Runs `function` on this reactor's thread, behind what is there already. False when the reactor ends or has
    /// ended, or its mailbox is full; the function is then destroyed without being called. Any thread. What the
    /// function throws goes to `on_fault`.
    bool post(std::move_only_function<void()> function);

    /// Starts a task here. What leaves it as an exception goes to `on_fault`. Reactor's own thread (elsewhere: post).
    void spawn(Task<> task) { ferrule::spawn(*this, std::move(task)); }

    /// Called on the reactor's thread before the loop turns for the first time: the place to open clients that ride
    /// this ring. Given while these functions run, it is called behind them.
    void on_start(std::function<void(Reactor&)> function) { start_hooks_.push_back(std::move(function)); }

    /// Called on the reactor's thread when it ends, the last given first: when its tasks have ended, and before its
    /// mailbox closes. The place to destroy what only this thread may touch. When tasks ignore their cancellation for
    /// longer than `run` waits, it is called after the reactor has given them up. What it throws goes to `on_fault`.
    void on_end(std::function<void(Reactor&)> function) { end_hooks_.push_back(std::move(function)); }

    /// Called on the reactor's thread for each exception that leaves a spawned task or a posted function. The default
    /// is a message of the log; so is what comes from elsewhere after the reactor has ended.
    void on_fault(std::function<void(Reactor&, std::exception_ptr)> function) { fault_hook_ = std::move(function); }

    /// Where the reactor's messages go: see Log, which tells of threads and rates. The default writes a line to
    /// standard error for each.
    void on_log(Log::Function function) { log.on_message(std::move(function)); }

    /// Makes a service of this reactor; see Services::add.
    template <class T, class... Arguments>
    T& add_service(Arguments&&... arguments) {
        return services_.add<T>(std::forward<Arguments>(arguments)...);
    }
    /// The service; throws std::logic_error when there is none.
    template <class T>
    [[nodiscard]] T& service() const {
        return services_.get<T>();
    }
    /// The service; null when there is none.
    template <class T>
    [[nodiscard]] T* find_service() const noexcept {
        return services_.find<T>();
    }

    /// Submits one operation: `prepare` fills the entry that it is handed (it must not touch user_data). Name it before
    /// awaiting it. An operation on the caller's memory must be awaited to its end. Throws std::logic_error on a thread
    /// that is not the reactor's.
    template <class Prepare>
    Operation submit(const char* name, Prepare&& prepare, OperationMemory memory = OperationMemory::reactor) {
        OperationSlot* slot = take_slot(name);
        if (slot == nullptr) return Operation{nullptr};
        slot->memory = memory;
        slot->in_kernel = true;
        abi::SubmissionEntry& entry = ring_.entry();
        std::forward<Prepare>(prepare)(entry);
        entry.user_data = Tag{operation_kind, slot->generation, slot->index}.encode();
        return Operation{slot};
    }

    /// Waits until the given monotonic time, in nanoseconds (`now_ns`). Ends with 0, or -ECANCELED when its scope is
    /// cancelled.
    Operation wait_until(std::uint64_t due_ns);

    /// The number that it was made with.
    /// The number that it was given.
    [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
    /// Its ring, for subsystems and clients: entries made here leave at the next pass.
    /// Its ring.
    [[nodiscard]] Ring& ring() noexcept { return ring_; }
    /// The kernel that it stands on.
    /// The kernel that it runs on. Any thread.
    [[nodiscard]] Kernel& kernel() noexcept { return *kernel_; }
    /// What it was made with.
    /// How it was set up.
    [[nodiscard]] const ReactorOptions& options() const noexcept { return options_; }
    /// What of its options is in force: the kernel may lack something. Complete when `run` has called the functions of
    /// `on_start`.
    [[nodiscard]] const ReactorTuning& tuning() const noexcept { return tuning_; }
    /// The reactor's counters. Any thread.
    [[nodiscard]] const ReactorCounters& counters() const noexcept { return counters_; }
    /// The metrics of what is on this reactor, for whoever shows them, labelled with its number. They outlive the
    /// reactor for as long as somebody holds them. Any thread.
    [[nodiscard]] const std::shared_ptr<MetricRegistry>& metrics() const noexcept { return metrics_; }
    /// The mailbox, which outlives the reactor for as long as somebody holds it. Any thread.
    [[nodiscard]] const std::shared_ptr<Inbox>& inbox() const noexcept { return inbox_; }
    /// Monotonic time of this pass, in nanoseconds: read once per pass.
    [[nodiscard]] std::uint64_t now_ns() const noexcept override { return now_ns_; }
    /// The time at this moment, of the same clock. Any thread.
    [[nodiscard]] std::uint64_t clock_ns() const noexcept override { return kernel_->monotonic_ns(); }
    /// Reads the clock now and makes it the time of this pass.
    std::uint64_t refresh_now() noexcept { return now_ns_ = kernel_->monotonic_ns(); }

    /// What its thread is doing, as others see it (StallDetector). Any thread.
    struct Activity {
        std::uint64_t since_ns;  ///< when it came back from the kernel, of `clock_ns`; 0: it is there, or not in `run`
        const void* resumed;     ///< what continues the coroutine that the loop has resumed last in this pass, or null
        std::uint64_t thread;    ///< Kernel::thread_identity of the thread of `run`; 0: not yet
    };
    [[nodiscard]] Activity activity() const noexcept {
        return {active_since_ns_.load(std::memory_order_relaxed), resumed_.load(std::memory_order_relaxed),
                thread_.load(std::memory_order_relaxed)};
    }

    // For subsystems and clients.

    /// Throws std::logic_error, which names the call, when the reactor runs and this is another thread.
    void check_thread(const char* call) const {
        if (Host::current() != this && running_.load(std::memory_order_relaxed)) [[unlikely]]
            refuse_thread(call);
    }
    /// Called for a completion of the kind; Tag::decode tells the slot and its generation.
    using CompletionHandler = void (*)(void* owner, const abi::Completion& completion) noexcept;
    /// Takes a kind of completions for `owner`. Throws std::length_error when all are taken.
    std::uint8_t add_completion_route(void* owner, CompletionHandler handler);
    /// Called when a timer of the route is due; it is disarmed by then.
    using TimerHandler = void (*)(void* owner, Timer& timer) noexcept;
    /// Takes a timer route for `owner`. Throws std::length_error when all are taken.
    std::uint8_t add_timer_route(void* owner, TimerHandler handler);
    /// Gives the subsystem its turns until the reactor is destroyed. Also during another's turn.
    void add_subsystem(Subsystem& subsystem) { subsystems_.push_back(&subsystem); }
    /// Takes its turns away again. Also during its own turn, or another's.
    void remove_subsystem(Subsystem& subsystem) noexcept {
        std::replace(subsystems_.begin(), subsystems_.end(), &subsystem, &no_subsystem_);
    }
    [[nodiscard]] TimerHeap& timers() noexcept { return timers_; }
    [[nodiscard]] ReactorCounters& mutable_counters() noexcept { return counters_; }

    /// How far the kernel had consumed the submission queue (Ring::next_sequence) when it was last entered by the loop.
    /// All that it had to say of the entries before has been dispatched when a subsystem has its turn after
    /// completions, unless the completion queue is overflowed.
    [[nodiscard]] std::uint32_t consumed() const noexcept { return consumed_; }

    /// Resumes a coroutine from the loop, with a fresh budget.
    void resume(std::coroutine_handle<> handle) noexcept {
        inline_budget = options_.inline_budget;
        // The first word of a frame, in every compiler's ABI.
        resumed_.store(*static_cast<void* const*>(handle.address()), std::memory_order_relaxed);
        handle.resume();
    }
    /// Resumes the coroutine in the next pass.
    void resume_later(std::coroutine_handle<> handle) noexcept override;
    /// Takes back a resume_later.
    void forget(std::coroutine_handle<> handle) noexcept override;
    /// Sends a message to another reactor when the current dispatch has unwound, so that what it moves is at rest by
    /// then. When the other has ended, the message runs here, with delivered = false.
    /// `beyond_limit`: a full mailbox takes it too (Inbox::put_beyond_limit).
    void send_later(std::shared_ptr<Inbox> target, Message& message, bool beyond_limit = false);
    /// Wakes the receiver of a mailbox that a message was put into and whose wake-up was claimed (Inbox::claim_wake):
    /// by a message from ring to ring, which leaves with the entries of this pass and costs no system call of its own.
    void wake(const std::shared_ptr<Inbox>& target) noexcept;
    /// Asks the kernel to cancel the request with this user_data; nobody waits for the answer.
    void cancel_request(std::uint64_t user_data) noexcept;
    /// The threads for blocking calls, started at first use.
    OffloadPool& offload_pool();
    /// One of this reactor's tasks is about to leave for another reactor: the end waits for it.
    void task_left() noexcept { ++tasks_away_; }
    /// It is here again, or has not left.
    void task_returned() noexcept { tasks_away_ -= tasks_away_ != 0 ? 1 : 0; }

    static constexpr std::uint8_t ignored_kind = 0;
    static constexpr std::uint8_t operation_kind = 1;

    void fault(std::exception_ptr exception) noexcept override;
    void frame_home(void* block, std::uint32_t size_class) noexcept override;
    void arm_deadline(CancelScope& scope, std::uint64_t due_ns) noexcept override;
    void disarm_deadline(CancelScope& scope) noexcept override;

private:
    friend class Operation;
    friend struct OperationSlot;
    friend struct detail::DebugLayout;
    struct Outgoing {
        std::shared_ptr<Inbox> target;
        Message* message;
        bool beyond_limit;
    };
    struct CompletionRoute {
        CompletionHandler handler = nullptr;
        void* owner = nullptr;
    };
    struct TimerRoute {
        TimerHandler handler = nullptr;
        void* owner = nullptr;
    };

    template <class Function>
    void for_each_subsystem(Function&& function) const {
        // By index: a turn may add subsystems.
        for (std::size_t index = 0; index < subsystems_.size(); ++index) function(*subsystems_[index]);
    }

    [[noreturn]] static void refuse_thread(const char* call);
    OperationSlot* take_slot(const char* name);
    OperationSlot& slot(std::uint32_t index) noexcept {
        return slots_[index / slots_per_chunk][index % slots_per_chunk];
    }
    void free_slot(OperationSlot& slot) noexcept;
    void end_abandoned(OperationSlot& slot) noexcept;
    void finish(OperationSlot& slot, std::int32_t result, std::uint32_t flags) noexcept;
    void cancel_slot(OperationSlot& slot, std::int32_t result) noexcept;

    static void on_operation(void* owner, const abi::Completion& completion) noexcept;
    static void on_wake(void* owner, const abi::Completion& completion) noexcept;
    static void on_ring_wake(void* owner, const abi::Completion& completion) noexcept;
    static void on_slot_timer(void* owner, Timer& timer) noexcept;
    static void on_scope_timer(void* owner, Timer& timer) noexcept;
    static void on_drain_timer(void* owner, Timer& timer) noexcept;

    void arm_wake() noexcept;
    void pass();
    void enter();
    void check(int result);
    bool spin_for_completions();
    void tune();
    void grow_queues();
    void dispatch_completions() noexcept;
    void run_ready() noexcept;
    void run_messages(Message* message, bool delivered) noexcept;
    void send_outgoing() noexcept;
    void expire_timers() noexcept;
    void publish_counters() noexcept;
    void end() noexcept;
    void run_end_hooks() noexcept;
    bool settle(std::uint64_t until_ns);
    void abandon_operations() noexcept;
    void report_unfinished() noexcept;
    [[nodiscard]] bool drained() const noexcept;
    [[nodiscard]] bool quiescent() const noexcept;
    [[nodiscard]] bool calls_are_back() const noexcept;
    void report_fault(std::exception_ptr exception) noexcept;

    static constexpr std::uint32_t slots_per_chunk = 64;
    static constexpr std::size_t route_limit = 32;

    Kernel* kernel_;
    ReactorOptions options_;
    std::uint32_t id_;
    Ring ring_;
    std::uint64_t now_ns_ = 0;
    // Only stored to here; StallDetector reads them.
    std::atomic<std::uint64_t> active_since_ns_{0};
    std::atomic<const void*> resumed_{nullptr};
    std::atomic<std::uint64_t> thread_{0};
    std::array<CompletionRoute, route_limit> completion_routes_{};
    std::uint8_t completion_route_count_ = 0;
    std::uint8_t timer_route_count_ = 0;
    bool draining_ = false;
    bool ran_ = false;
    std::array<TimerRoute, route_limit> timer_routes_{};
    TimerHeap timers_;
    std::vector<Subsystem*> subsystems_;
    Subsystem no_subsystem_;  // in the place of one that was removed
    std::vector<std::coroutine_handle<>> ready_;
    std::vector<std::coroutine_handle<>> resuming_;
    std::vector<Outgoing> outgoing_;
    std::vector<Outgoing> sending_;
    std::shared_ptr<Inbox> inbox_;
    std::atomic<bool> stop_requested_{false};
    std::atomic<bool> running_{false};  // its thread is in `run`

    std::vector<std::unique_ptr<OperationSlot[]>> slots_;
    std::uint32_t free_slots_ = 0xffff'ffff;
    std::uint32_t live_slots_ = 0;
    std::uint32_t consumed_ = 0;
    std::uint32_t gathered_ = 1;  // completions that end a wait
    bool grows_ = false;
    std::uint64_t overflows_seen_ = 0;
    std::uint64_t full_seen_ = 0;
    ReactorTuning tuning_;
    std::uint64_t wake_value_ = 0;  // what the kernel reads from the event descriptor
    std::uint32_t tasks_away_ = 0;
    bool wake_armed_ = false;
    bool wake_wanted_ = true;
    bool ending_ = false;
    std::atomic<Message*> homeless_{nullptr};         // frames that came home after the mailbox was closed
    std::vector<std::shared_ptr<Inbox>> ring_wakes_;  // whom this reactor is waking through their rings
    std::vector<std::unique_ptr<void, void (*)(void*)>> scope_timers_;
    std::vector<void*> free_scope_timers_;
    std::uint8_t slot_timer_route_ = 0;
    std::uint8_t scope_timer_route_ = 0;
    Timer drain_timer_;

    ReactorCounters counters_;
    std::shared_ptr<MetricRegistry> metrics_;
    MetricRegistration counters_registered_;
    std::uint64_t pass_begun_ns_ = 0;
    std::uint64_t idle_since_ns_ = 0;  // when this pass had nothing to do; 0: it had
    CancelScope root_scope_{*this};
    std::vector<std::function<void(Reactor&)>> start_hooks_;
    std::vector<std::function<void(Reactor&)>> end_hooks_;
    std::function<void(Reactor&, std::exception_ptr)> fault_hook_;
    std::unique_ptr<OffloadPool> offload_pool_;
    Services services_;
};

inline bool Operation::go_on_inline() noexcept {
    Host* host = Host::current();
    return host == nullptr || host->spend_inline_budget();
}

}  // namespace ferrule::inline v0
