#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>

#include <algorithm>
#include <cstdint>

namespace ferrule::inline v0 {

const char* to_string(CancelReason reason) noexcept {
    switch (reason) {
        case CancelReason::none:
            return "none";
        case CancelReason::cancelled:
            return "cancelled";
        case CancelReason::deadline:
            return "deadline";
        case CancelReason::draining:
            return "draining";
        case CancelReason::shutdown:
            return "shutdown";
    }
    return "unknown";
}

namespace {

/// Scopes are changed by one thread only. Where no host is current, before it runs or after its end, nobody disputes
/// it.
void check_thread(const Host* owner, const char* what) noexcept {
    const Host* here = Host::current();
    if (owner != nullptr && here != nullptr && here != owner) [[unlikely]] {
        assertion_failed(__FILE__, __LINE__, what);
    }
}

}  // namespace

CancelScope::CancelScope(Host& host) noexcept : parent_(nullptr), host_(&host) {}

CancelScope::CancelScope(CancelScope* parent) noexcept
    : parent_(parent), host_(parent != nullptr && parent->host_ != nullptr ? parent->host_ : Host::current()) {
    if (parent == nullptr) {
        return;
    }
    check_thread(parent->host_,
                 "a CancelScope is made below one of another host: a task that is away takes scope_here as the parent");
    reason_ = parent->reason_;
    next_sibling_ = parent->children_;
    sibling_link_ = &parent->children_;
    if (next_sibling_ != nullptr) {
        next_sibling_->sibling_link_ = &next_sibling_;
    }
    parent->children_ = this;
}

CancelScope::~CancelScope() {
    FERRULE_ASSERT(nodes_ == nullptr);
    FERRULE_ASSERT(children_ == nullptr);
    if (parent_ != nullptr || deadline_ns_ != 0) {
        check_thread(host_, "a CancelScope ends on another host's thread than it was made on");
    }
    clear_deadline();
    if (sibling_link_ != nullptr) {
        *sibling_link_ = next_sibling_;
        if (next_sibling_ != nullptr) {
            next_sibling_->sibling_link_ = sibling_link_;
        }
    }
}

void CancelScope::take_nodes(CancelNode*& list) noexcept {
    // Each scope's nodes go in front of those of the scopes visited before it.
    if (nodes_ == nullptr) {
        return;
    }
    CancelNode* last = nodes_;
    while (last->next != nullptr) {
        last = last->next;
    }
    last->next = list;
    if (list != nullptr) {
        list->link = &last->next;
    }
    list = nodes_;
    list->link = &list;
    nodes_ = nullptr;
}

void CancelScope::cancel(CancelReason reason) noexcept {
    FERRULE_ASSERT(reason != CancelReason::none);
    check_thread(host_, "a CancelScope is cancelled on another host's thread: post to its own");
    if (cancelled()) {
        return;
    }
    // The tree is marked and its nodes are gathered first, so that callbacks may change the tree. A node that dies
    // meanwhile unlinks itself from the gathered list as from any other. Parents are visited before children: each
    // scope's nodes are put in front, which leaves the innermost first.
    CancelNode* gathered = nullptr;
    CancelScope* scope = this;
    while (scope != nullptr) {
        CancelScope* below = nullptr;
        if (!scope->cancelled()) {
            scope->reason_ = reason;
            scope->clear_deadline();
            scope->take_nodes(gathered);
            below = scope->children_;
        }
        while (below == nullptr && scope != this) {
            below = scope->next_sibling_;
            scope = scope->parent_;
        }
        scope = below;
    }
    while (gathered != nullptr) {
        CancelNode& node = *gathered;
        remove(node);
        node.cancel(node, reason);
    }
}

void CancelScope::set_deadline(std::uint64_t monotonic_ns) noexcept {
    if (cancelled()) {
        return;
    }
    clear_deadline();
    FERRULE_ASSERT(Host::current() != nullptr);
    check_thread(host_, "a CancelScope is given a deadline on another host's thread than it was made on");
    host_ = Host::current();
    deadline_ns_ = std::max<std::uint64_t>(monotonic_ns, 1);
    host_->arm_deadline(*this, deadline_ns_);
}

void CancelScope::clear_deadline() noexcept {
    if (deadline_ns_ == 0) {
        return;
    }
    deadline_ns_ = 0;
    host_->disarm_deadline(*this);
}

void CancelScope::expire() noexcept {
    deadline_ns_ = 0;
    cancel(CancelReason::deadline);
}

}  // namespace ferrule::inline v0
