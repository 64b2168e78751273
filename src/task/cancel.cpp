#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>

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

CancelScope::CancelScope(CancelScope* parent) noexcept : parent_(parent) {
    if (parent == nullptr) {
        return;
    }
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
    Host* host = Host::current();
    FERRULE_ASSERT(host != nullptr);
    deadline_host_ = host;
    deadline_ns_ = monotonic_ns;
    host->arm_deadline(*this, monotonic_ns);
}

void CancelScope::clear_deadline() noexcept {
    if (deadline_host_ == nullptr) {
        return;
    }
    Host* host = deadline_host_;
    deadline_host_ = nullptr;
    deadline_ns_ = 0;
    host->disarm_deadline(*this);
}

void CancelScope::expire() noexcept {
    deadline_host_ = nullptr;
    deadline_ns_ = 0;
    cancel(CancelReason::deadline);
}

}  // namespace ferrule::inline v0
