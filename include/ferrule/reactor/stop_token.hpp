#pragma once

#include <ferrule/reactor/inbox.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/cancel.hpp>

#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <utility>

namespace ferrule::inline v0 {

/// Cancels a scope of a reactor when a `std::stop_token` is stopped, from whatever thread: the edge between scopes,
/// which belong to one thread, and code that knows only stop tokens.
///
/// ```cpp
/// const Environment& environment = co_await this_environment();
/// CancelScope scope(scope_here(environment));
/// const CancelOnStop link(token, scope);
/// co_await with_scope(scope, work());
/// ```
///
/// The stop travels by the reactor's mailbox, also when that is full, and cancels with CancelReason::cancelled; a token
/// that is stopped already cancels at once. When this object, and so the scope, has gone first, or the reactor has
/// ended, a later stop does nothing. It may be requested at the same time as the end of this object, which then waits
/// for the requesting thread to have left the mailbox. Made and destroyed on the reactor's own thread; makes one heap
/// allocation. The scope outlives it.
class CancelOnStop {
public:
    /// Throws std::logic_error on a thread without a reactor.
    CancelOnStop(std::stop_token token, CancelScope& scope) {
        Reactor* reactor = Reactor::current();
        if (reactor == nullptr) throw std::logic_error("CancelOnStop: this thread runs no reactor");
        if (token.stop_requested()) {
            scope.cancel(CancelReason::cancelled);
            return;
        }
        link_ = std::make_shared<Link>(reactor->inbox(), &scope);
        callback_.emplace(std::move(token), Send{link_.get()});
    }
    CancelOnStop(const CancelOnStop&) = delete;
    CancelOnStop& operator=(const CancelOnStop&) = delete;
    ~CancelOnStop() {
        callback_.reset();
        if (link_ != nullptr) link_->scope = nullptr;
    }

private:
    struct Link : Message, std::enable_shared_from_this<Link> {
        Link(std::shared_ptr<Inbox> target, CancelScope* cancelled) : inbox(std::move(target)), scope(cancelled) {
            run = [](Message* message, bool delivered) noexcept {
                auto* link = static_cast<Link*>(message);
                const std::shared_ptr<Link> itself = std::move(link->in_mailbox);
                if (delivered && link->scope != nullptr) link->scope->cancel(CancelReason::cancelled);
            };
        }
        std::shared_ptr<Inbox> inbox;
        CancelScope* scope;                // null: gone. The reactor's thread.
        std::shared_ptr<Link> in_mailbox;  // itself, while it is a message
    };
    /// On the thread that stops.
    struct Send {
        Link* link;
        void operator()() const noexcept {
            const std::shared_ptr<Inbox> inbox = link->inbox;
            link->in_mailbox = link->shared_from_this();
            if (!inbox->put_beyond_limit(*link)) {
                link->in_mailbox = nullptr;
            } else if (inbox->claim_wake()) {
                inbox->wake();
            }
        }
    };

    std::shared_ptr<Link> link_;
    std::optional<std::stop_callback<Send>> callback_;
};

}  // namespace ferrule::inline v0
