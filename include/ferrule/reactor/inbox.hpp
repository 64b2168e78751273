#pragma once

#include <atomic>
#include <cstdint>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

namespace ferrule::inline v0 {

/// What one thread leaves for a reactor: linked into its inbox, then run on its thread. The memory is the sender's
/// business until `run` is called, and `run`'s afterwards.
struct Message {
    /// Called once on the reactor's thread. `delivered` is false when the reactor has ended and only the memory is to
    /// be released.
    using Run = void (*)(Message* message, bool delivered) noexcept;

    Message* next = nullptr;
    Run run = nullptr;
};

/// A reactor's mailbox: the only way in from another thread. Many senders, one receiver, no lock. It outlives its
/// reactor for as long as somebody holds it, so that sending to an ended reactor is an answer (false) and never a
/// fault.
///
/// Waking: the receiver announces that it is about to sleep and then looks at the box once more; a sender puts its
/// message in and then looks for the announcement. Both use sequentially consistent operations, so at least one of them
/// sees the other.
class FERRULE_EXPORT Inbox {
public:
    /// Throws std::system_error when no event descriptor can be had. `limit` bounds the messages that wait.
    Inbox(Kernel& kernel, std::uint32_t limit);
    ~Inbox();
    Inbox(const Inbox&) = delete;
    Inbox& operator=(const Inbox&) = delete;

    /// Puts a message in. False when the reactor has ended or `limit` messages wait; the message is then still the
    /// caller's. Any thread. It does not wake: see `claim_wake`.
    bool put(Message& message) noexcept;

    /// True when the receiver sleeps and nobody else has taken it upon himself to wake it: the caller must. Any thread.
    bool claim_wake() noexcept {
        return sleeping_.load(std::memory_order_seq_cst) != 0 && sleeping_.exchange(0, std::memory_order_seq_cst) != 0;
    }

    /// Wakes the receiver through its event descriptor. Any thread.
    void wake() noexcept;

    /// put, and wake when that is due. Any thread.
    bool send(Message& message) noexcept {
        if (!put(message)) return false;
        if (claim_wake()) wake();
        return true;
    }

    // The receiver's side, on its thread.

    /// Whether messages wait. A plain load.
    [[nodiscard]] bool empty() const noexcept { return head_.load(std::memory_order_relaxed) == nullptr; }
    /// Announces sleep. False when messages wait: then the receiver must not sleep, and is not announced.
    bool announce_sleep() noexcept {
        sleeping_.store(1, std::memory_order_seq_cst);
        if (head_.load(std::memory_order_seq_cst) == nullptr) return true;
        sleeping_.store(0, std::memory_order_relaxed);
        return false;
    }
    void awake() noexcept { sleeping_.store(0, std::memory_order_relaxed); }
    /// All waiting messages, oldest first.
    Message* take_all() noexcept;
    /// Refuses all further messages and returns those that wait, oldest first.
    Message* close() noexcept;

    [[nodiscard]] int event_descriptor() const noexcept { return event_descriptor_; }
    /// The receiver's ring, for a wake-up from another ring; -1 while it has none.
    [[nodiscard]] int ring_descriptor() const noexcept { return ring_descriptor_.load(std::memory_order_acquire); }
    void set_ring_descriptor(int descriptor) noexcept { ring_descriptor_.store(descriptor, std::memory_order_release); }

private:
    static Message* in_order(Message* newest, std::uint32_t& count) noexcept;

    alignas(64) std::atomic<Message*> head_{nullptr};
    std::atomic<std::uint32_t> waiting_{0};
    alignas(64) std::atomic<std::uint32_t> sleeping_{0};
    std::atomic<int> ring_descriptor_{-1};
    Kernel* kernel_;
    std::uint32_t limit_;
    int event_descriptor_ = -1;
};

}  // namespace ferrule::inline v0
