#include <algorithm>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/resume_on.hpp>
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
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    work_available_.notify_all();
    for (const auto& thread : threads_) thread->join();
}

bool OffloadPool::give(OffloadCall& call) {
    if (in_flight_ >= reactor_->options().offload_limit) return false;
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
    given_.clear();
    work_available_.notify_all();
}

void OffloadPool::work() noexcept {
    for (;;) {
        OffloadCall* call = nullptr;
        {
            std::unique_lock lock{mutex_};
            work_available_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
            if (queue_.empty()) return;
            call = queue_.front();
            queue_.pop_front();
        }
        call->call();
        // The call is in the frame of a coroutine that runs as soon as the message is in: nothing of it is touched
        // after that.
        const std::shared_ptr<Inbox> home = call->home_inbox;
        while (!home->put(*call)) {
            // The reactor takes its calls back before it ends, so its mailbox is full, not closed: it empties it in
            // each pass.
            home->claim_wake();
            home->wake();
            std::this_thread::yield();
        }
        if (home->claim_wake()) home->wake();
    }
}

namespace detail {

Reactor& current_reactor(const char* what) {
    if (Reactor* reactor = Reactor::current()) return *reactor;
    throw std::logic_error(std::string(what) + ": this thread runs no reactor");
}

bool offload_call(OffloadCall& call, std::coroutine_handle<> waiter) {
    Reactor& reactor = current_reactor("offload");
    call.waiter = waiter;
    call.home = &reactor;
    call.home_inbox = reactor.inbox();
    call.run = [](Message* message, bool) noexcept {
        auto* returned = static_cast<OffloadCall*>(message);
        returned->home->offload_pool().returned();
        returned->home->resume(returned->waiter);
    };
    return reactor.offload_pool().give(call);
}

bool ResumeOnAwaiter::await_suspend(std::coroutine_handle<> handle) {
    waiter_ = handle;
    run = [](Message* message, bool delivered) noexcept {
        auto* self = static_cast<ResumeOnAwaiter*>(message);
        self->failed_ = !delivered;
        // Not delivered: this runs where the task was, or on the ending thread of the reactor that it was sent to.
        if (Host* host = Host::current(); host == self->target_) {
            self->target_->resume(self->waiter_);
        } else {
            self->waiter_.resume();
        }
    };
    if (Reactor* here = Reactor::current()) {
        here->send_later(inbox_, *this);
        return true;
    }
    const std::shared_ptr<Inbox> inbox = inbox_;
    if (inbox->send(*this)) return true;
    failed_ = true;
    return false;
}

}  // namespace detail

}  // namespace ferrule::inline v0
