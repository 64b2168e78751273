#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>

#include <algorithm>
#include <utility>

namespace ferrule::inline v0 {

namespace {

// The process is about to be aborted: nothing is left out.
constexpr LogCause frames_left{.name = "frames-left", .level = LogLevel::error, .interval = {}};

}  // namespace

namespace detail {

thread_local constinit Host* current_host = nullptr;

void deallocate_frame_elsewhere(void* memory, std::uint32_t size_class, FramePool* owner) noexcept {
    if (owner == nullptr) {
        FramePool::release_without_host(memory, size_class);
        return;
    }
    owner->host().frame_home(memory, size_class);
}

}  // namespace detail

Host::Host() noexcept : frames(*this) {
    root_environment.host = this;
}

Host::~Host() {
    if (frames.live_frames() == 0) return;
    log.write(frames_left, "%llu coroutine frames of a host that ends are alive, %llu bytes",
              static_cast<unsigned long long>(frames.live_frames()),
              static_cast<unsigned long long>(frames.live_bytes()));
#if defined(FERRULE_LIVE_TASKS)
    constexpr unsigned named_tasks_max = 16;
    unsigned named = 0;
    live_tasks.for_each([&](const LiveTask& task) {
        if (named++ >= named_tasks_max) return;
        log.write(frames_left, "  %s (%s:%u), frame %p, awaited by %p", task.function.function_name(),
                  task.function.file_name(), static_cast<unsigned>(task.function.line()), task.frame, task.awaited_by);
    });
    if (named > named_tasks_max) log.write(frames_left, "  and %u more", named - named_tasks_max);
#else
    log.write(frames_left, "  a build with FERRULE_LIVE_TASKS (debug builds have it) names them");
#endif
    assertion_failed(__FILE__, __LINE__,
                     "a host ends before its tasks: each must have ended, or been destroyed by its owner; one that "
                     "waits for what is "
                     "no operation of its reactor is not ended by cancellation");
}

ThreadHost::~ThreadHost() {
    collect_frames();
}

std::size_t ThreadHost::run_ready() {
    const HostBinding binding(*this);
    collect_frames();
    std::size_t resumed = 0;
    while (!ready_.empty()) {
        const std::coroutine_handle<> handle = ready_.front();
        ready_.pop_front();
        inline_budget = inline_budget_per_resume;
        handle.resume();
        ++resumed;
    }
    collect_frames();
    return resumed;
}

void ThreadHost::advance_to(std::uint64_t monotonic_ns) noexcept {
    FERRULE_ASSERT(monotonic_ns >= now_ns_);
    const HostBinding binding(*this);
    now_ns_ = monotonic_ns;
    while (true) {
        const auto next =
            std::min_element(deadlines_.begin(), deadlines_.end(),
                             [](const Deadline& a, const Deadline& b) { return a.monotonic_ns < b.monotonic_ns; });
        if (next == deadlines_.end() || next->monotonic_ns > now_ns_) {
            return;
        }
        CancelScope* scope = next->scope;
        deadlines_.erase(next);
        scope->expire();
    }
}

void ThreadHost::collect_frames() noexcept {
    std::vector<Homecoming> arrived;
    {
        const std::lock_guard lock(home_mutex_);
        arrived.swap(home_);
    }
    for (const Homecoming& frame : arrived) {
        frames.release(frame.block, frame.size_class);
    }
}

void ThreadHost::resume_later(std::coroutine_handle<> handle) noexcept {
    ready_.push_back(handle);
}

void ThreadHost::forget(std::coroutine_handle<> handle) noexcept {
    std::erase(ready_, handle);
}

void ThreadHost::frame_home(void* block, std::uint32_t size_class) noexcept {
    const std::lock_guard lock(home_mutex_);
    home_.push_back({block, size_class});
}

void ThreadHost::fault(std::exception_ptr exception) noexcept {
    faults_.push_back(std::move(exception));
}

void ThreadHost::arm_deadline(CancelScope& scope, std::uint64_t monotonic_ns) noexcept {
    deadlines_.push_back({&scope, monotonic_ns});
}

void ThreadHost::disarm_deadline(CancelScope& scope) noexcept {
    std::erase_if(deadlines_, [&](const Deadline& deadline) { return deadline.scope == &scope; });
}

}  // namespace ferrule::inline v0
