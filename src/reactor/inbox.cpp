#include <ferrule/assert.hpp>
#include <ferrule/reactor/inbox.hpp>

#include <sys/eventfd.h>

#include <cerrno>
#include <system_error>

namespace ferrule::inline v0 {

Inbox::Inbox(Kernel& kernel, std::uint32_t limit) : kernel_(&kernel), limit_(limit) {
    event_descriptor_ = kernel.event_descriptor(0, EFD_CLOEXEC);
    if (event_descriptor_ < 0) {
        throw std::system_error(-event_descriptor_, std::system_category(), "eventfd for a reactor's mailbox");
    }
}

Inbox::~Inbox() {
    FERRULE_ASSERT(empty());
    kernel_->close(event_descriptor_);
}

bool Inbox::put(Message& message) noexcept {
    if (waiting_.fetch_add(1, std::memory_order_relaxed) >= limit_.load(std::memory_order_relaxed)) {
        waiting_.fetch_sub(1, std::memory_order_relaxed);
        refused_.fetch_add(1, std::memory_order_relaxed);
        return false;
    }
    return link(message);
}

bool Inbox::put_beyond_limit(Message& message) noexcept {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    return link(message);
}

bool Inbox::link(Message& message) noexcept {
    Message* head = head_.load(std::memory_order_relaxed);
    do {
        if (head == closed_head()) {
            waiting_.fetch_sub(1, std::memory_order_relaxed);
            refused_.fetch_add(1, std::memory_order_relaxed);
            return false;
        }
        message.next = head;
    } while (!head_.compare_exchange_weak(head, &message, std::memory_order_seq_cst, std::memory_order_relaxed));
    return true;
}

void Inbox::wake() noexcept {
    const std::uint64_t one = 1;
    ssize_t written = 0;
    do {
        written = kernel_->write(event_descriptor_, &one, sizeof one);
    } while (written == -EINTR);
    // -EAGAIN would say that the counter is full: then the receiver has been woken already.
}

Message* Inbox::in_order(Message* newest, std::uint32_t& count) noexcept {
    Message* oldest = nullptr;
    while (newest != nullptr) {
        Message* next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
        ++count;
    }
    return oldest;
}

Message* Inbox::take_all() noexcept {
    if (empty()) return nullptr;
    std::uint32_t count = 0;
    Message* oldest = in_order(head_.exchange(nullptr, std::memory_order_acquire), count);
    waiting_.fetch_sub(count, std::memory_order_relaxed);
    return oldest;
}

Message* Inbox::close() noexcept {
    Message* newest = head_.exchange(closed_head(), std::memory_order_acq_rel);
    if (newest == closed_head()) return nullptr;
    std::uint32_t count = 0;
    return in_order(newest, count);
}

}  // namespace ferrule::inline v0
