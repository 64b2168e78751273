#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <atomic>
#include <cstdint>

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

    /// put, but the limit does not hold: for what its sender bounds by other means, and what must not be lost: frames
    /// and calls that come home. False when the reactor has ended. Any thread.
    bool put_beyond_limit(Message& message) noexcept;

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

    /// Messages that wait. Any thread.
    [[nodiscard]] std::uint32_t waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }
    /// Messages that were not taken so far. Any thread.
    [[nodiscard]] std::uint64_t refused() const noexcept { return refused_.load(std::memory_order_relaxed); }

    // The receiver's side, on its thread.

    /// Whether no message waits. A plain load. A closed inbox is empty.
    [[nodiscard]] bool empty() const noexcept { return !is_message(head_.load(std::memory_order_relaxed)); }
    /// Whether the receiver has ended, so that nothing is taken any more. What its thread did before is seen. Any
    /// thread.
    [[nodiscard]] bool closed() const noexcept { return head_.load(std::memory_order_acquire) == closed_head(); }
    /// Announces sleep. False when messages wait: then the receiver must not sleep, and is not announced.
    bool announce_sleep() noexcept {
        sleeping_.store(1, std::memory_order_seq_cst);
        if (!is_message(head_.load(std::memory_order_seq_cst))) return true;
        sleeping_.store(0, std::memory_order_relaxed);
        return false;
    }
    void awake() noexcept { sleeping_.store(0, std::memory_order_relaxed); }
    /// All waiting messages, oldest first.
    Message* take_all() noexcept;
    /// Refuses what `put` brings from now on; what comes beyond the limit is still taken.
    void refuse() noexcept { limit_.store(0, std::memory_order_relaxed); }
    /// Refuses all further messages and returns those that wait, oldest first.
    Message* close() noexcept;

    /// The event descriptor that `wake` writes to; the receiver reads it through its ring.
    [[nodiscard]] int event_descriptor() const noexcept { return event_descriptor_; }
    /// The receiver's ring, for a wake-up from another ring; -1 while it has none.
    [[nodiscard]] int ring_descriptor() const noexcept { return ring_descriptor_.load(std::memory_order_acquire); }
    void set_ring_descriptor(int descriptor) noexcept { ring_descriptor_.store(descriptor, std::memory_order_release); }

private:
    /// The head of a closed inbox; never dereferenced.
    static constexpr std::uintptr_t closed_mark = 1;
    static bool is_message(Message* head) noexcept { return reinterpret_cast<std::uintptr_t>(head) > closed_mark; }
    static Message* closed_head() noexcept { return reinterpret_cast<Message*>(closed_mark); }
    bool link(Message& message) noexcept;
    static Message* in_order(Message* newest, std::uint32_t& count) noexcept;

    alignas(64) std::atomic<Message*> head_{nullptr};
    std::atomic<std::uint32_t> waiting_{0};
    alignas(64) std::atomic<std::uint32_t> sleeping_{0};
    std::atomic<int> ring_descriptor_{-1};
    Kernel* kernel_;
    std::atomic<std::uint32_t> limit_;
    int event_descriptor_ = -1;
    std::atomic<std::uint64_t> refused_{0};
};

}  // namespace ferrule::inline v0
