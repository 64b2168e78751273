#pragma once

#include <coroutine>
#include <expected>
#include <ferrule/reactor/reactor.hpp>
#include <memory>
#include <system_error>

namespace ferrule::inline v0 {

namespace detail {

class FERRULE_EXPORT ResumeOnAwaiter final : Message {
public:
    explicit ResumeOnAwaiter(Reactor& target) : target_(&target), inbox_(target.inbox()) {}
    [[nodiscard]] bool await_ready() const noexcept { return Host::current() == target_; }
    bool await_suspend(std::coroutine_handle<> handle);
    [[nodiscard]] std::expected<void, std::error_code> await_resume() const noexcept {
        if (failed_) return std::unexpected(std::make_error_code(std::errc::operation_canceled));
        return {};
    }

private:
    Reactor* target_;
    std::shared_ptr<Inbox> inbox_;
    std::coroutine_handle<> waiter_;
    bool failed_ = false;
};

}  // namespace detail

/// Goes on with this task on the other reactor's thread: `co_await resume_on(other);`. Works at once when it is there
/// already.
///
/// ECANCELED, and the task stays where it is, when the other reactor has ended or its mailbox is full. While a task is
/// away from the reactor that it was spawned on, cancellation of its scope is recorded, and delivered to the first
/// await after its return. Connections and other objects of a reactor must not be touched from elsewhere. The other
/// reactor must not be destroyed before the task has left. From a thread without a reactor the task leaves at once;
/// from a reactor, when the current dispatch has unwound.
[[nodiscard]] inline detail::ResumeOnAwaiter resume_on(Reactor& target) {
    return detail::ResumeOnAwaiter{target};
}

}  // namespace ferrule::inline v0
