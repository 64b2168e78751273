#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <cstdint>
#include <utility>
#include <variant>

namespace ferrule::inline v0::detail {

/// What stands for a result of type void among others.
template <class T>
struct NonVoidOf {
    using type = T;
};
template <>
struct NonVoidOf<void> {
    using type = std::monostate;
};
template <class T>
using NonVoid = typename NonVoidOf<T>::type;

template <class T>
NonVoid<T> take_result(const Task<T>& task) {
    if constexpr (std::is_void_v<T>) {
        task.await_resume();
        return {};
    } else {
        return task.await_resume();
    }
}

/// Several tasks that run side by side below one scope, until all have ended: the common part of when_all and when_any.
/// A local of the waiting coroutine, declared before the tasks, so that these are destroyed first.
class FanOut : private Completion {
public:
    /// Which end of a task decides, and so cancels the others.
    enum class Decision : std::uint8_t { first_failure, first_end };

    FanOut(const Environment& inherited, Decision decision) noexcept
        : Completion{&on_end},
          scope_(scope_here(inherited)),
          environment_{&scope_, Host::current(), inherited.trace},
          decision_(decision) {}
    FanOut(const FanOut&) = delete;
    FanOut& operator=(const FanOut&) = delete;

    /// Starts a task, unless the decision has fallen already: such a task is never started.
    template <class T>
    void start(const Task<T>& task) noexcept {
        FERRULE_ASSERT(task);
        if (decisive_ == nullptr) {
            ++running_;
            task.start_observed(environment_, *this);
        }
    }

    /// The promise of the task that decided; null: none.
    const PromiseBase* decisive() const noexcept { return decisive_; }

    template <class T>
    bool decided_by(const Task<T>& task) const noexcept {
        return static_cast<const PromiseBase*>(&task.handle().promise()) == decisive_;
    }

    class Join {
    public:
        explicit Join(FanOut& fan_out) noexcept : fan_out_(&fan_out) {}
        bool await_ready() const noexcept { return --fan_out_->running_ == 0; }
        void await_suspend(std::coroutine_handle<> handle) const noexcept { fan_out_->waiter_ = handle; }
        void await_resume() const noexcept {}

    private:
        FanOut* fan_out_;
    };

    /// Waits, once, until every task that was started has ended.
    Join join() noexcept { return Join(*this); }

private:
    static std::coroutine_handle<> on_end(Completion& completion, PromiseBase& promise, bool failed) noexcept {
        auto& self = static_cast<FanOut&>(completion);
        FERRULE_ASSERT(Host::current() == self.environment_.host);
        if (self.decisive_ == nullptr && (failed || self.decision_ == Decision::first_end)) {
            self.decisive_ = &promise;
            self.scope_.cancel(CancelReason::cancelled);
        }
        if (--self.running_ != 0) {
            return std::noop_coroutine();
        }
        return self.waiter_;
    }

    CancelScope scope_;
    Environment environment_;
    std::coroutine_handle<> waiter_;
    const PromiseBase* decisive_ = nullptr;
    // Counts the starter too, until it waits.
    std::uint32_t running_ = 1;
    Decision decision_;
};

}  // namespace ferrule::inline v0::detail
