#include <ferrule/assert.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/resume_on.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>

namespace ferrule::inline v0 {

OffloadPool::OffloadPool(Reactor& reactor) : reactor_(&reactor) {
    try {
        for (std::uint32_t index = 0; index < std::max(reactor.options().offload_threads, 1u); ++index) {
            threads_.push_back(reactor.kernel().start_thread("ferrule-offload", [this] { work(); }));
        }
    } catch (...) {
        if (threads_.empty()) throw;
    }
}

OffloadPool::~OffloadPool() {
    end();
}

void OffloadPool::end() noexcept {
    dispatch();
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    wake_threads(threads_.size());
    for (const auto& thread : threads_) thread->join();
    threads_.clear();
}

bool OffloadPool::give(OffloadCall& call) {
    if (threads_.empty() || in_flight_ >= reactor_->options().offload_limit) return false;
    given_.push_back(&call);
    ++in_flight_;
    return true;
}

void OffloadPool::dispatch() noexcept {
    if (given_.empty()) return;
    {
        const std::lock_guard lock{mutex_};
        queue_.insert(queue_.end(), given_.begin(), given_.end());
    }
    wake_threads(given_.size());
    given_.clear();
}

void OffloadPool::wake_threads(std::size_t count) noexcept {
    changes_.fetch_add(1, std::memory_order_release);
    reactor_->kernel().futex_wake(changes_, static_cast<int>(count));
}

OffloadCall* OffloadPool::next(bool* ended) noexcept {
    const std::lock_guard lock{mutex_};
    *ended = stopping_;
    if (queue_.empty()) return nullptr;
    OffloadCall* const call = queue_.front();
    queue_.pop_front();
    return call;
}

void OffloadPool::work() noexcept {
    for (;;) {
        // What changes after this look ends the wait at once.
        const std::uint32_t seen = changes_.load(std::memory_order_acquire);
        bool ended = false;
        OffloadCall* const call = next(&ended);
        if (call == nullptr) {
            if (ended) return;
            reactor_->kernel().futex_wait(changes_, seen);
            continue;
        }
        call->call();
        // The call is in the frame of a coroutine that runs as soon as the message is in: nothing of it is touched
        // after that.
        const std::shared_ptr<Inbox> home = std::move(call->home_inbox);
        // The reactor ends the pool before it closes its inbox, so it is never closed here.
        const bool sent = home->put_beyond_limit(*call);
        FERRULE_ASSERT(sent);
        if (home->claim_wake()) home->wake();
    }
}

OffloadCall::~OffloadCall() {
    FERRULE_ASSERT(state != State::in_flight);
    // Refused, and made to yield: it is in the ready list.
    if (state == State::refused && waiter) home->forget(waiter);
}

namespace detail {

Reactor& current_reactor(const char* what) {
    if (Reactor* reactor = Reactor::current()) return *reactor;
    throw std::logic_error(std::string(what) + ": this thread runs no reactor");
}

bool offload_call(OffloadCall& call, std::coroutine_handle<> waiter) {
    Reactor& reactor = current_reactor("offload");
    call.home = &reactor;
    call.home_inbox = reactor.inbox();
    call.run = [](Message* message, bool) noexcept {
        auto* returned = static_cast<OffloadCall*>(message);
        returned->state = OffloadCall::State::returned;
        returned->home->offload_pool().returned();
        returned->home->resume(returned->waiter);
    };
    if (reactor.offload_pool().give(call)) {
        call.waiter = waiter;
        call.state = OffloadCall::State::in_flight;
        return true;
    }
    call.state = OffloadCall::State::refused;
    if (reactor.spend_inline_budget()) return false;
    // Whoever tries again at once must not keep the calls in flight from coming back.
    reactor.mutable_counters().yields.add();
    call.waiter = waiter;
    reactor.resume_later(waiter);
    return true;
}

ResumeOnAwaiter::~ResumeOnAwaiter() {
    FERRULE_ASSERT(state_ != State::travelling);
    if (state_ == State::yielding) target_->forget(waiter_);
}

void ResumeOnAwaiter::resume_here() noexcept {
    Host* const host = Host::current();
    if (Reactor* reactor = Reactor::current()) {
        if (host == home_) reactor->task_returned();
        reactor->resume(waiter_);
    } else {
        waiter_.resume();
    }
}

void ResumeOnAwaiter::arrive(Message* message, bool delivered) noexcept {
    auto* self = static_cast<ResumeOnAwaiter*>(message);
    if (!delivered) {
        self->state_ = State::refused;
        // The other reactor has ended with the task in its mailbox: back to where it was. When that has ended too, the
        // task goes on here: better in the wrong place than never.
        if (Host::current() == self->target_ && self->source_ != nullptr) {
            const std::shared_ptr<Inbox> source = std::move(self->source_);
            self->run = [](Message* returned, bool) noexcept {
                static_cast<ResumeOnAwaiter*>(returned)->resume_here();
            };
            if (source->put_beyond_limit(*self)) {
                if (source->claim_wake()) source->wake();
                return;
            }
        }
    } else {
        self->state_ = State::idle;
    }
    self->resume_here();
}

bool ResumeOnAwaiter::leave(std::coroutine_handle<> handle, const Environment* environment) {
    Reactor* const here = Reactor::current();
    waiter_ = handle;
    if (here == target_) {
        here->mutable_counters().yields.add();
        state_ = State::yielding;
        here->resume_later(handle);
        return true;
    }
    home_ = environment != nullptr ? environment->host : nullptr;
    run = &arrive;
    if (here != nullptr) {
        source_ = here->inbox();
        // A task can always come home: tasks are bounded by their frames.
        here->send_later(target_->inbox(), *this, home_ == target_);
        if (here == home_) here->task_left();
        state_ = State::travelling;
        return true;
    }
    // The task may run elsewhere, and be gone, before send returns: nothing of it is touched after a success.
    state_ = State::travelling;
    const std::shared_ptr<Inbox> inbox = target_->inbox();
    if (home_ == target_ ? inbox->put_beyond_limit(*this) : inbox->put(*this)) {
        if (inbox->claim_wake()) inbox->wake();
        return true;
    }
    state_ = State::refused;
    return false;
}

}  // namespace detail

}  // namespace ferrule::inline v0
