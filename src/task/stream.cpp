#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/stream.hpp>

#include <stdexcept>
#include <utility>

namespace ferrule::inline v0::detail {

void StreamNext::misuse() {
    throw std::logic_error("a second reader of a stream: one awaits its next item at a time");
}

void StreamNext::on_cancel(CancelNode& node, CancelReason reason) noexcept {
    // The reader waits on, for what the body makes of it.
    static_cast<StreamNext&>(node).promise_->context_->scope.cancel(reason);
}

bool StreamNext::suspend(std::coroutine_handle<> handle, const Environment* environment) {
    Host* host = Host::current();
    FERRULE_ASSERT(host != nullptr);
    StreamContext& context = *promise_->context_;
    FERRULE_ASSERT(context.scope.host() == nullptr || context.scope.host() == host);
    CancelScope* scope = environment != nullptr ? scope_here(*environment) : nullptr;
    if (scope == nullptr) {
        scope = host->root_environment.scope;
    }
    if (promise_->at_rest_ && !decided()) {
        context.environment.host = host;
        context.environment.trace = environment != nullptr ? environment->trace : 0;
        if (scope != nullptr && scope->cancelled()) {
            context.scope.cancel(scope->reason());
        }
        promise_->at_rest_ = false;
        promise_->next_ = this;
        stream_.resume();
        promise_->next_ = nullptr;
        if (decided() && host->spend_inline_budget()) {
            return false;
        }
    }
    promise_->next_ = this;
    reader_ = handle;
    if (decided()) {
        queued_ = true;
        host->resume_later(handle);
        return true;
    }
    promise_->continuation = handle;
    if (scope != nullptr && !scope->add(*this)) {
        context.scope.cancel(scope->reason());
    }
    return true;
}

void StreamNext::leave() noexcept {
    CancelScope::remove(*this);
    promise_->next_ = nullptr;
    promise_->continuation = nullptr;
    reader_ = nullptr;
    queued_ = false;
}

void StreamNext::detach() noexcept {
    if (queued_) {
        FERRULE_ASSERT(Host::current() != nullptr);
        Host::current()->forget(reader_);
    }
    leave();
}

}  // namespace ferrule::inline v0::detail
