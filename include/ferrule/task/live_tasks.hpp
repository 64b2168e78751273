#pragma once

#include <ferrule/version.hpp>

#if defined(FERRULE_LIVE_TASKS)

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
};

namespace detail {

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
    std::source_location function;
    const void* (*awaited_by)(const LiveTaskLink&) noexcept = nullptr;
};

}  // namespace detail

/// The tasks of a host that have not ended, latest first. Only in builds with FERRULE_LIVE_TASKS (debug builds, or by
/// option): each task then costs the links and a lock. Any thread: a task may die on another.
class FERRULE_EXPORT LiveTaskList {
public:
    /// Puts a task first in the list.
    void add(detail::LiveTaskLink& link) noexcept {
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
            visit(LiveTask{link->frame, link->awaited_by(*link), link->function});
        }
    }

private:
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
