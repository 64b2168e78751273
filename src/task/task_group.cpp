#include <ferrule/assert.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task_group.hpp>

#include <utility>

namespace ferrule::inline v0 {

TaskGroup::TaskGroup(const Environment& parent, std::uint32_t limit) noexcept
    : scope_(scope_here(parent)), environment_{&scope_, Host::current(), parent.trace}, limit_(limit) {}

TaskGroup::~TaskGroup() {
    FERRULE_ASSERT(running_ == 0);
    if (first_exception_ != nullptr) {
        environment_.host->fault(std::move(first_exception_));
    }
}

bool TaskGroup::spawn(Task<>&& task) noexcept {
    FERRULE_ASSERT(task);
    FERRULE_ASSERT(Host::current() == environment_.host);
    if (full()) {
        return false;
    }
    ++running_;
    const Task<>::Handle handle = task.release();
    handle.promise().environment = &environment_;
    handle.promise().detach(&on_end, this);
    handle.resume();
    return true;
}

void TaskGroup::on_end(void* argument, std::exception_ptr exception) noexcept {
    auto& self = *static_cast<TaskGroup*>(argument);
    FERRULE_ASSERT(Host::current() == self.environment_.host);
    --self.running_;
    if (exception != nullptr) {
        if (self.first_exception_ == nullptr) {
            self.first_exception_ = std::move(exception);
        } else {
            self.environment_.host->fault(std::move(exception));
        }
    }
    if (self.waiter_ && self.running_ < self.awaited_below_) {
        // The waiter may destroy the group: nothing of it is touched after this.
        std::exchange(self.waiter_, nullptr).resume();
    }
}

void TaskGroup::wait_below(std::uint32_t tasks, std::coroutine_handle<> handle) noexcept {
    FERRULE_ASSERT(!waiter_);
    awaited_below_ = tasks;
    waiter_ = handle;
}

void TaskGroup::rethrow_first() {
    if (first_exception_ != nullptr) {
        std::rethrow_exception(std::exchange(first_exception_, nullptr));
    }
}

}  // namespace ferrule::inline v0
