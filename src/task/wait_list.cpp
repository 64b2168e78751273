#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/wait_list.hpp>

#include <cerrno>

namespace ferrule::inline v0::detail {

bool Waiter::wait(WaitList& list, std::coroutine_handle<> handle, const Environment* environment) noexcept {
    Host& host = list.here();
    // As an operation of a reactor: a task that is away, or that nothing cancels, ends with the host at the latest.
    CancelScope* scope = environment != nullptr ? scope_here(*environment) : nullptr;
    if (scope == nullptr) {
        scope = host.root_environment.scope;
    }
    if (scope != nullptr && !scope->add(*this)) {
        state_ = State::cancelled;
        return false;
    }
    state_ = State::waiting;
    handle_ = handle;
    list.push(*this);
    return true;
}

void Waiter::end(Host& host, State state) noexcept {
    CancelScope::remove(*this);
    state_ = state;
    host.resume_later(handle_);
}

Waiter::State Waiter::abandon(WaitList& list) noexcept {
    const State was = state_;
    if (was == State::waiting) {
        CancelScope::remove(*this);
        list.remove(*this);
    } else if (handle_) {
        FERRULE_ASSERT(Host::current() != nullptr);
        Host::current()->forget(handle_);
    }
    take();
    return was;
}

void WaitList::adopt(Host* host) noexcept {
    if (host == nullptr) {
        assertion_failed(__FILE__, __LINE__, "awaited on a thread without a host");
    }
    if (host_ != nullptr) {
        fail();
    }
    host_ = host;
}

void WaitList::fail() noexcept {
    assertion_failed(
        __FILE__, __LINE__,
        "what tasks of one reactor wait for (an event, a semaphore, a mutex, a gate, a channel) is touched "
        "on another thread: post to its own");
}

std::error_code error_of(Waiter::State state) noexcept {
    return {state == Waiter::State::cancelled ? ECANCELED : EPIPE, std::system_category()};
}

std::error_code would_wait() noexcept {
    return {EAGAIN, std::system_category()};
}

}  // namespace ferrule::inline v0::detail
