#pragma once

#include <ferrule/version.hpp>

#if defined(FERRULE_LIVE_TASKS)

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <source_location>

namespace ferrule::inline v0 {

class Host;
class LiveTaskList;

/// One task that has not ended, as the list shows it.
struct LiveTask {
    /// The coroutine's frame; gdb's `x/2a` on it shows the resume function, which names the coroutine.
    const void* frame;
    /// The frame that awaits this one; null: a root, or not awaited yet. Following it up to a root gives the chain of
    /// awaits.
    const void* awaited_by;
    /// The coroutine function.
    std::source_location function;
    /// Who else is told of its end: an object, mostly in the frame of the coroutine that waits (when_all, TaskGroup);
    /// null where `awaited_by` is not.
    const void* told;
    /// Size of the frame; 0: not known.
    std::size_t frame_bytes;
    /// When it was made, of Host::now_ns.
    std::uint64_t since_ns;
};

namespace detail {

struct DebugLayout;

/// The part of a promise that the list links. The list's lock guards it.
struct LiveTaskLink {
    LiveTaskLink() noexcept = default;
    LiveTaskLink(const LiveTaskLink&) = delete;
    LiveTaskLink& operator=(const LiveTaskLink&) = delete;
    ~LiveTaskLink();

    LiveTaskList* list = nullptr;
    LiveTaskLink* previous = nullptr;
    LiveTaskLink* next = nullptr;
    const void* frame = nullptr;
    std::size_t frame_bytes = 0;
    std::uint64_t since_ns = 0;
    std::source_location function;
    /// What is resumed or told at the task's end, with the tags of PromiseBase. Its thread may store it meanwhile.
    std::uintptr_t (*continuation)(const LiveTaskLink&) noexcept = nullptr;
};

}  // namespace detail

/// The tasks of a host that have not ended, latest first. Only in builds with FERRULE_LIVE_TASKS (debug builds, or by
/// option): each task then costs the links and a lock. Any thread: a task may die on another.
class FERRULE_EXPORT LiveTaskList {
public:
    /// The low bits of a continuation: see PromiseBase.
    static constexpr std::uintptr_t tags = 7;

    /// Memory for a frame was just allocated: the task that is made in it knows its size then. The host's thread.
    void allocated(const void* memory, std::size_t bytes) noexcept {
        allocated_ = memory;
        allocated_bytes_ = bytes;
    }

    /// Puts a task first in the list. The host's thread.
    void add(detail::LiveTaskLink& link) noexcept {
        if (link.frame == allocated_) link.frame_bytes = allocated_bytes_;
        const std::lock_guard lock(mutex_);
        link.list = this;
        link.next = first_;
        if (first_ != nullptr) {
            first_->previous = &link;
        }
        first_ = &link;
    }

    /// Takes a task out of the list.
    void remove(detail::LiveTaskLink& link) noexcept {
        const std::lock_guard lock(mutex_);
        (link.previous != nullptr ? link.previous->next : first_) = link.next;
        if (link.next != nullptr) {
            link.next->previous = link.previous;
        }
        link.list = nullptr;
    }

    /// Calls `visit(const LiveTask&)` for each task. `visit` neither makes nor ends tasks.
    template <class Visitor>
    void for_each(Visitor&& visit) {
        const std::lock_guard lock(mutex_);
        for (const detail::LiveTaskLink* link = first_; link != nullptr; link = link->next) {
            const std::uintptr_t bits = link->continuation(*link);
            const auto* pointer = reinterpret_cast<const void*>(bits & ~tags);
            const bool tagged = (bits & tags) != 0;
            visit(LiveTask{link->frame, tagged ? nullptr : pointer, link->function, tagged ? pointer : nullptr,
                           link->frame_bytes, link->since_ns});
        }
    }

private:
    friend struct detail::DebugLayout;

    const void* allocated_ = nullptr;
    std::size_t allocated_bytes_ = 0;
    std::mutex mutex_;
    detail::LiveTaskLink* first_ = nullptr;
};

inline detail::LiveTaskLink::~LiveTaskLink() {
    if (list != nullptr) {
        list->remove(*this);
    }
}

}  // namespace ferrule::inline v0

#endif
