#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include <coroutine>
#include <cstdint>
#include <expected>
#include <memory>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

class FERRULE_EXPORT ResumeOnAwaiter final : Message {
public:
    explicit ResumeOnAwaiter(Reactor& target) noexcept : target_(&target) {}
    ResumeOnAwaiter(ResumeOnAwaiter&&) = default;
    ~ResumeOnAwaiter();

    [[nodiscard]] bool await_ready() const noexcept {
        return Host::current() == target_ && target_->spend_inline_budget();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return leave(handle, environment_of(handle));
    }
    [[nodiscard]] std::expected<void, std::error_code> await_resume() noexcept {
        const State ended = std::exchange(state_, State::idle);
        if (ended == State::refused) return std::unexpected(std::make_error_code(std::errc::operation_canceled));
        return {};
    }

private:
    enum class State : std::uint8_t { idle, yielding, travelling, refused };

    bool leave(std::coroutine_handle<> handle, const Environment* environment);
    static void arrive(Message* message, bool delivered) noexcept;
    void resume_here() noexcept;

    Reactor* target_;
    const Host* home_ = nullptr;     // of the task
    std::shared_ptr<Inbox> source_;  // of the reactor that it leaves
    std::coroutine_handle<> waiter_;
    State state_ = State::idle;
};

}  // namespace detail

/// Goes on with this task on the other reactor's thread: `co_await resume_on(other);`. Works at once when it is there
/// already.
///
/// ECANCELED, and the task stays where it is, when the other reactor ends or has ended, or its mailbox is full (a task
/// that comes home is taken in until the end is over); when both have
/// ended it goes on, with ECANCELED, on the thread of the one that ended last. While a task is away from the reactor
/// that it was spawned on, cancellation of its scope is recorded, and delivered to the first await after its return; a
/// reactor that ends waits for its tasks that are away. Connections and other objects of a reactor must not be touched
/// from elsewhere. Neither reactor may be destroyed before the task has left, nor the task while it is on its way
/// (assertion). From a thread without a reactor the task leaves at once; from a reactor, when the current dispatch has
/// unwound.
///
/// ```cpp
/// Task<std::uint32_t> visit(Reactor& there, Reactor& home) {
///     std::uint32_t visited = home.id();
///     if (const auto moved = co_await resume_on(there)) {
///         visited = Reactor::current()->id();
///         const auto back = co_await resume_on(home);
///         if (!back) throw std::system_error(back.error(), "come home");
///     }
///     co_return visited;
/// }
/// ```
[[nodiscard]] inline detail::ResumeOnAwaiter resume_on(Reactor& target) noexcept {
    return detail::ResumeOnAwaiter{target};
}

}  // namespace ferrule::inline v0
