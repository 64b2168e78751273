#pragma once

#include <ferrule/version.hpp>

#include <cstdint>

namespace ferrule::inline v0 {

class Host;

/// Why a wait was ended from outside.
enum class CancelReason : std::uint8_t {
    none,       ///< It was not.
    cancelled,  ///< Somebody asked for it, or a sibling failed or won.
    deadline,   ///< Time ran out.
    draining,   ///< The server takes leave of idle connections.
    shutdown,   ///< The host is going down.
};

/// The name of a reason, for messages.
FERRULE_EXPORT const char* to_string(CancelReason reason) noexcept;

/// Something that a scope can cancel: an awaiter's operation, a connection's reader. Intrusive; its owner removes it
/// before it dies.
struct CancelNode {
    /// Called once, on the host's thread, when the scope is cancelled, after the node has been removed from it. It must
    /// not resume a coroutine: it detaches the operation and hands the waiter to Host::resume_later. It may add and
    /// remove nodes, here or elsewhere, and cancel other scopes.
    using Function = void (*)(CancelNode& node, CancelReason reason) noexcept;

    explicit CancelNode(Function on_cancel) noexcept : cancel(on_cancel) {}
    CancelNode(const CancelNode&) = delete;
    CancelNode& operator=(const CancelNode&) = delete;

    /// True while it is in a scope.
    bool linked() const noexcept { return link != nullptr; }

    Function cancel;
    CancelNode* next = nullptr;
    CancelNode** link = nullptr;
};

/// A region of work that can be cancelled as one. Scopes nest: cancelling one cancels what is below it. Intrusive and
/// pinned: nothing is allocated, and neither scopes nor nodes move. A scope outlives the scopes below it and the nodes
/// in it (assertion).
///
/// Thread: the host's own, which is the one that is current where the scope is made. Another host's thread may neither
/// make a scope below it, nor cancel it, nor end it (assertions): a task that visits another host makes its scopes
/// below scope_here, and they end before it goes on. A std::stop_token is accepted at the edge only, by the reactor.
class FERRULE_EXPORT CancelScope {
public:
    /// A scope below `parent`, or, without one, a root. Below a cancelled parent it begins cancelled, for the same
    /// reason.
    explicit CancelScope(CancelScope* parent = nullptr) noexcept;
    /// The root of `host`, made on any thread before the host runs.
    explicit CancelScope(Host& host) noexcept;
    CancelScope(const CancelScope&) = delete;
    CancelScope& operator=(const CancelScope&) = delete;
    ~CancelScope();

    /// Marks this scope and those below it, then calls each of their nodes once: the innermost scopes first, and in a
    /// scope the latest added first. A scope that was cancelled before keeps its first reason, and nothing happens.
    /// `reason` is not `none`. A callback may destroy this scope.
    void cancel(CancelReason reason) noexcept;

    /// `none` while it is not cancelled.
    CancelReason reason() const noexcept { return reason_; }
    bool cancelled() const noexcept { return reason_ != CancelReason::none; }

    /// Registers `node`, which is in no scope. False, and not registered, when the scope is cancelled: the caller ends
    /// its wait at once.
    [[nodiscard]] bool add(CancelNode& node) noexcept {
        if (cancelled()) [[unlikely]] {
            return false;
        }
        node.next = nodes_;
        node.link = &nodes_;
        if (nodes_ != nullptr) {
            nodes_->link = &node.next;
        }
        nodes_ = &node;
        return true;
    }

    /// Takes `node` out of the scope that it is in; one that is in none (it was called already) is left alone.
    static void remove(CancelNode& node) noexcept {
        if (node.link == nullptr) {
            return;
        }
        *node.link = node.next;
        if (node.next != nullptr) {
            node.next->link = node.link;
        }
        node.link = nullptr;
        node.next = nullptr;
    }

    /// Cancels the scope with `deadline` at this time of the host's clock, in nanoseconds; replaces an earlier
    /// deadline. Needs a current host. Nothing happens when the scope is cancelled already.
    void set_deadline(std::uint64_t monotonic_ns) noexcept;
    /// Takes the deadline back. Nothing happens when there is none.
    void clear_deadline() noexcept;
    /// The deadline that is armed, in nanoseconds of the host's clock; 0: none.
    std::uint64_t deadline_ns() const noexcept { return deadline_ns_; }
    /// For the host that has armed the deadline: it has come, and the host has forgotten it. Cancels with `deadline`.
    void expire() noexcept;

    /// The host whose thread the scope belongs to; null: it was made where none was current, and any may use it.
    Host* host() const noexcept { return host_; }
    /// The scope that this one is below; null: a root.
    CancelScope* parent() const noexcept { return parent_; }

    /// For the host that has armed a deadline: whatever finds its timer again.
    std::uint64_t deadline_token = 0;

private:
    void take_nodes(CancelNode*& list) noexcept;

    CancelScope* parent_;
    CancelScope* children_ = nullptr;
    CancelScope* next_sibling_ = nullptr;
    CancelScope** sibling_link_ = nullptr;
    CancelNode* nodes_ = nullptr;
    Host* host_;
    std::uint64_t deadline_ns_ = 0;
    CancelReason reason_ = CancelReason::none;
};

static_assert(sizeof(CancelScope) <= 72, "a scope may be part of each connection");

}  // namespace ferrule::inline v0
