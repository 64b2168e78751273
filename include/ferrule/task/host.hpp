#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/frame_pool.hpp>
#include <ferrule/task/live_tasks.hpp>
#include <ferrule/task/log.hpp>
#include <ferrule/task/memory_account.hpp>
#include <ferrule/version.hpp>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

class CancelScope;
class Host;

namespace detail {
struct DebugLayout;
struct StackCapture;

/// The host whose tasks this thread runs now: the one mutable thread-local of the library (law 12). Read it by
/// Host::current().
FERRULE_EXPORT extern thread_local constinit Host* current_host [[gnu::tls_model("initial-exec")]];
}  // namespace detail

/// What a thread provides that runs tasks: memory for frames, a ready list, a clock, a place for faults. A reactor is
/// one. Thread: its own, but for what says otherwise.
class FERRULE_EXPORT Host {
public:
    Host() noexcept;
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    /// The host that this thread runs now; null: none. It changes only between dispatches (HostBinding).
    static Host* current() noexcept { return detail::current_host; }

    /// Takes one from the budget of inline resumptions. False when it is used up: the awaiter, although it need not
    /// wait, suspends and hands itself to resume_later, so that a task that never has to wait cannot keep the others
    /// from running (law 2).
    [[nodiscard]] bool spend_inline_budget() noexcept {
        if (inline_budget == 0) [[unlikely]] {
            return false;
        }
        --inline_budget;
        return true;
    }

    /// Puts a suspended coroutine at the end of the ready list; it is resumed in this pass or the next, exactly once.
    virtual void resume_later(std::coroutine_handle<> handle) noexcept = 0;

    /// Takes back one resume_later: the coroutine is about to be destroyed. Nothing happens when it is not in the list.
    /// Cold.
    virtual void forget(std::coroutine_handle<> handle) noexcept = 0;

    /// A frame of this host has died on another thread, or while this host was not current: brings its block home,
    /// where `frames.release(block, size_class)` ends it. Any thread.
    virtual void frame_home(void* block, std::uint32_t size_class) noexcept = 0;

    /// An exception has left a spawned task: reported once, harms nobody else (law 11).
    virtual void fault(std::exception_ptr exception) noexcept = 0;

    /// Calls `scope.expire()` at that time of `now_ns`. A scope has at most one deadline.
    virtual void arm_deadline(CancelScope& scope, std::uint64_t monotonic_ns) noexcept = 0;
    /// Takes back what arm_deadline has armed and what has not expired.
    virtual void disarm_deadline(CancelScope& scope) noexcept = 0;

    /// The time of this pass, in nanoseconds of a monotonic clock.
    virtual std::uint64_t now_ns() const noexcept = 0;

    /// The time at this moment, of the same clock: what the log goes by. Here that of the pass; of a reactor, any
    /// thread.
    virtual std::uint64_t clock_ns() const noexcept { return now_ns(); }

    /// How many more awaits of this pass may complete inline. The host refills it at each dispatch.
    std::uint32_t inline_budget = 0;
    /// What this host's work may take of the machine's memory altogether: its frames, and what others charge to it.
    MemoryAccount memory_account;
    /// Frames of the tasks that are made while this host is current.
    FramePool frames;
    /// The environment of tasks that were given none.
    Environment root_environment;
#if defined(FERRULE_LIVE_TASKS)
    LiveTaskList live_tasks;
#endif
    /// What it has to say to people.
    Log log{*this};
    /// Where a signal handler puts this thread's stack; null: nobody has asked for it (StallDetector).
    std::atomic<detail::StackCapture*> stack_capture{nullptr};

protected:
    virtual ~Host();
};

/// Makes `host` the current one of this thread, and restores the former at its end. A reactor holds one during each
/// dispatch.
class HostBinding {
public:
    explicit HostBinding(Host& host) noexcept : former_(detail::current_host) { detail::current_host = &host; }
    HostBinding(const HostBinding&) = delete;
    HostBinding& operator=(const HostBinding&) = delete;
    ~HostBinding() { detail::current_host = former_; }

private:
    Host* former_;
};

/// The scope that cancels what a task of `environment` starts or awaits here: the environment's own; or, while the task
/// visits another host, the root scope of that one. The task's own scope is not that thread's to touch: what happens to
/// it meanwhile is recorded in it, and heeded by the first await after the task has come home. Null: nothing cancels
/// it. A host is current (assertion).
inline CancelScope* scope_here(const Environment& environment) noexcept {
    Host* host = Host::current();
    FERRULE_ASSERT(host != nullptr);
    return environment.host == host ? environment.scope : host->root_environment.scope;
}

#if defined(FERRULE_LIVE_TASKS)
/// Calls `visit(const LiveTask&)` for each task of the host that has not ended, the latest first. `visit` neither makes
/// nor ends tasks. Only in builds with FERRULE_LIVE_TASKS. Any thread.
template <class Visitor>
void for_each_live_task(Host& host, Visitor&& visit) {
    host.live_tasks.for_each(std::forward<Visitor>(visit));
}
#endif

/// A host without a ring or a clock of its own: a ready list that its thread drains. For plain threads, and for tests.
/// Deadlines are kept and delivered by `advance_to`.
class FERRULE_EXPORT ThreadHost final : public Host {
public:
    ThreadHost() noexcept = default;
    /// Frames that came home are taken in; tasks still in the ready list are forgotten, not destroyed: their owners
    /// destroy them.
    ~ThreadHost() override;

    /// Resumes what is ready, and what becomes ready meanwhile, until nothing is. Takes in frames that came home.
    /// Returns the number of resumptions. Becomes current meanwhile; the budget is refilled before each.
    std::size_t run_ready();

    /// Sets the clock, which never goes back, and expires the deadlines that have come.
    void advance_to(std::uint64_t monotonic_ns) noexcept;

    /// Takes in the frames that died elsewhere.
    void collect_frames() noexcept;

    void resume_later(std::coroutine_handle<> handle) noexcept override;
    void forget(std::coroutine_handle<> handle) noexcept override;
    void frame_home(void* block, std::uint32_t size_class) noexcept override;
    void fault(std::exception_ptr exception) noexcept override;
    void arm_deadline(CancelScope& scope, std::uint64_t monotonic_ns) noexcept override;
    void disarm_deadline(CancelScope& scope) noexcept override;
    std::uint64_t now_ns() const noexcept override { return now_ns_; }

    /// The faults so far, in order.
    const std::vector<std::exception_ptr>& faults() const noexcept { return faults_; }
    /// Deadlines that are armed.
    std::size_t deadlines() const noexcept { return deadlines_.size(); }

    /// What `inline_budget` is refilled to.
    std::uint32_t inline_budget_per_resume = 64;

private:
    struct Homecoming {
        void* block;
        std::uint32_t size_class;
    };
    struct Deadline {
        CancelScope* scope;
        std::uint64_t monotonic_ns;
    };

    std::deque<std::coroutine_handle<>> ready_;
    std::vector<std::exception_ptr> faults_;
    std::vector<Deadline> deadlines_;
    std::uint64_t now_ns_ = 0;
    std::mutex home_mutex_;
    std::vector<Homecoming> home_;
};

/// Memory for a coroutine frame: from the current host's pool, or, without a host, from operator new. Throws
/// std::bad_alloc.
inline void* allocate_frame(std::size_t frame_bytes) {
    Host* host = Host::current();
    if (host == nullptr) [[unlikely]] {
        return FramePool::allocate_without_host(frame_bytes);
    }
    return host->frames.allocate(frame_bytes);
}

namespace detail {
FERRULE_EXPORT void deallocate_frame_elsewhere(void* memory, std::uint32_t size_class, FramePool* owner) noexcept;
}  // namespace detail

/// Gives a frame back to where it came from, by the owner's mailbox when that is another host. Any thread.
inline void deallocate_frame(void* memory, std::size_t frame_bytes) noexcept {
    const std::uint32_t size_class = FramePool::class_of(frame_bytes);
    FramePool* owner = FramePool::owner_of(memory, frame_bytes);
    Host* host = Host::current();
    if (host != nullptr && owner == &host->frames) [[likely]] {
        owner->release(memory, size_class);
        return;
    }
    detail::deallocate_frame_elsewhere(memory, size_class, owner);
}

}  // namespace ferrule::inline v0
