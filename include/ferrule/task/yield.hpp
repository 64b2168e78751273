#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

class YieldAwaiter {
public:
    YieldAwaiter() noexcept = default;
    YieldAwaiter(const YieldAwaiter&) = delete;
    YieldAwaiter& operator=(const YieldAwaiter&) = delete;
    ~YieldAwaiter() {
        if (waiting_) {
            FERRULE_ASSERT(Host::current() != nullptr);
            Host::current()->forget(waiting_);
        }
    }

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
        FERRULE_ASSERT(Host::current() != nullptr);
        waiting_ = handle;
        Host::current()->resume_later(handle);
    }
    void await_resume() noexcept { waiting_ = nullptr; }

private:
    std::coroutine_handle<> waiting_;
};

}  // namespace detail

/// `co_await yield_now()`: goes on behind everything that is ready now. Cancellation does not end it early: it does not
/// wait. Thread: a host's own.
inline detail::YieldAwaiter yield_now() noexcept {
    return {};
}

}  // namespace ferrule::inline v0
