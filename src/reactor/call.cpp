#include <ferrule/assert.hpp>
#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/deadline.hpp>

namespace ferrule::inline v0::detail {

namespace {

/// Sends what has to come home. False when home has ended. What `message` is part of may be gone after a success.
bool send_home(const std::shared_ptr<Inbox>& home, Message& message) noexcept {
    if (!home->put_beyond_limit(message)) return false;
    if (!home->claim_wake()) return true;
    if (Reactor* here = Reactor::current()) {
        here->wake(home);
    } else {
        home->wake();
    }
    return true;
}

}  // namespace

CallState::~CallState() = default;

void CallState::launch(const Environment& environment) {
    FERRULE_ASSERT(stage_ == Stage::made);
    Reactor& here = current_reactor("call");
    home_ = &here;
    const CancelScope* const scope = scope_here(environment);
    stage_ = Stage::back;
    refused_ = true;
    if (scope != nullptr && scope->cancelled()) return;
    deadline_ns_ = earliest_deadline_ns(scope);
    trace_ = environment.trace;
    if (target_ == &here) {
        stage_ = Stage::away;
        refused_ = false;
        is_local_ = true;
        holders_.store(2, std::memory_order_relaxed);
        runs_there_ = true;
        if (run_there(here)) ended_there();
        return;
    }
    if (target_inbox_ == nullptr) return;
    home_inbox_ = here.inbox();
    run = &CallState::arrive;
    // The other thread has it as soon as it is in: nothing but what is home's is touched after that.
    stage_ = Stage::away;
    refused_ = false;
    holders_.store(2, std::memory_order_relaxed);
    here.task_left();
    if (!target_inbox_->put(*this)) {
        here.task_returned();
        holders_.store(1, std::memory_order_relaxed);
        stage_ = Stage::back;
        refused_ = true;
        return;
    }
    if (target_inbox_->claim_wake()) here.wake(target_inbox_);
}

bool CallState::wait(std::coroutine_handle<> handle, const Environment& environment) {
    if (stage_ == Stage::made) launch(environment);
    FERRULE_ASSERT(Host::current() == home_);
    if (stage_ == Stage::away) {
        CancelScope* const scope = scope_here(environment);
        if (scope == nullptr || scope->add(node_)) {
            waiter_ = handle;
            return true;
        }
        cancel_away(scope->reason());
    }
    if (home_->spend_inline_budget()) return false;
    home_->mutable_counters().yields.add();
    waiter_ = handle;
    queued_ = true;
    home_->resume_later(handle);
    return true;
}

void CallState::on_cancel(CancelNode& node, CancelReason reason) noexcept {
    CallState& self = *static_cast<Waiting&>(node).call;
    self.cancel_away(reason);
    self.queued_ = true;
    self.home_->resume_later(self.waiter_);
}

void CallState::cancel_away(CancelReason reason) noexcept {
    if (stage_ != Stage::away || pursued_) return;
    pursued_ = true;
    if (is_local_) {
        if (runs_there_) cancel_there(reason);
        return;
    }
    pursuit_.call = this;
    pursuit_.home_inbox = home_->inbox();
    pursuit_.reason = reason;
    pursuit_.run = &CallState::pursue;
    holders_.fetch_add(1, std::memory_order_relaxed);
    home_->task_left();
    if (!target_inbox_->put_beyond_limit(pursuit_)) {
        // The other has ended, and the call is on its way back.
        home_->task_returned();
        release();
        return;
    }
    if (target_inbox_->claim_wake()) home_->wake(target_inbox_);
}

void CallState::let_go() noexcept {
    CancelScope::remove(node_);
    if (queued_ && waiter_) home_->forget(waiter_);
    queued_ = false;
    waiter_ = nullptr;
    let_go_ = true;
    if (stage_ == Stage::away) cancel_away(CancelReason::cancelled);
    if (stage_ != Stage::away) drop();
    release();
}

void CallState::arrive(Message* message, bool delivered) noexcept {
    auto& self = *static_cast<CallState*>(message);
    Reactor* const there = Reactor::current();
    if (!delivered || (self.deadline_ns_ != 0 && there->now_ns() >= self.deadline_ns_)) {
        self.refused_ = true;
        self.ended_there();
        return;
    }
    self.runs_there_ = true;
    if (self.run_there(*there)) self.ended_there();
}

void CallState::ended_there() noexcept {
    runs_there_ = false;
    if (is_local_) {
        returned();
        return;
    }
    run = &CallState::come_home;
    const std::shared_ptr<Inbox> home = std::move(home_inbox_);
    if (send_home(home, *this)) return;
    // Home has ended without it. Whoever awaited it is gone, or goes without an answer.
    release();
}

void CallState::come_home(Message* message, bool) noexcept {
    auto& self = *static_cast<CallState*>(message);
    self.home_->task_returned();
    self.returned();
}

void CallState::returned() noexcept {
    stage_ = Stage::back;
    CancelScope::remove(node_);
    if (let_go_) {
        drop();
    } else if (waiter_ && !queued_) {
        if (is_local_) {
            // The task that has ended is still on the stack.
            queued_ = true;
            home_->resume_later(waiter_);
        } else {
            Reactor& home = *home_;
            const std::coroutine_handle<> waiter = std::exchange(waiter_, nullptr);
            release();
            home.resume(waiter);
            return;
        }
    }
    release();
}

void CallState::pursue(Message* message, bool delivered) noexcept {
    auto& pursuit = *static_cast<Pursuit*>(message);
    CallState& self = *pursuit.call;
    if (delivered && self.runs_there_) self.cancel_there(pursuit.reason);
    pursuit.run = &CallState::pursuit_home;
    const std::shared_ptr<Inbox> home = std::move(pursuit.home_inbox);
    if (!send_home(home, pursuit)) self.release();
}

void CallState::pursuit_home(Message* message, bool) noexcept {
    CallState& self = *static_cast<Pursuit*>(message)->call;
    self.home_->task_returned();
    self.release();
}

void CallState::release() noexcept {
    // The last one need not tell anybody that it is.
    if (holders_.load(std::memory_order_acquire) != 1 && holders_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const std::size_t bytes = bytes_;
    void* const memory = this;
    this->~CallState();
    deallocate_frame(memory, bytes);
}

}  // namespace ferrule::inline v0::detail
