#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/reactor/inbox.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/subsystem.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

template <class T>
class CrossReceiver;
template <class T>
class CrossSender;

namespace detail {

class CrossTraffic;
class CrossRing;
class CrossReceiving;

/// One send that waits for room. It lives in its awaiter; the sender's thread.
struct CrossSendWaiter : CancelNode {
    explicit CrossSendWaiter(CrossRing* into) noexcept : CancelNode(&CrossSendWaiter::on_cancel), ring(into) {}
    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;

    CrossRing* ring;
    CrossSendWaiter* before = nullptr;
    CrossSendWaiter* behind = nullptr;
    std::coroutine_handle<> waiter;
    std::error_code error;
    bool listed = false;  // it waits for room
    bool queued = false;  // its coroutine is in the ready list
};

/// What one sender has under way: a ring of items with one writer and one reader, and the two messages that tell the
/// other side of it. The writer publishes at the end of its pass what it has written in it, and tells the reader only
/// when that has found the ring empty; the reader gives places back at the end of its pass, and tells the writer only
/// when that waits. In both cases one side stores and looks, the other looks and stores, all sequentially consistent,
/// so one of them sees the other.
class FERRULE_EXPORT CrossRing {
public:
    CrossRing(CrossReceiving& receiving, Reactor& receiver, std::size_t capacity);
    CrossRing(const CrossRing&) = delete;
    CrossRing& operator=(const CrossRing&) = delete;

    void hold() noexcept { holders_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept;

    // ---- the sender's thread ----

    /// Makes the current reactor the sender's. Throws std::logic_error when there is none, or it is another already.
    void bind();
    /// Whether an item may be written now: nobody waits, and there is room.
    [[nodiscard]] bool has_room() noexcept { return first_ == nullptr && places() != 0; }
    /// How many may be written.
    [[nodiscard]] std::size_t places() noexcept {
        if (tail_ - consumed_seen_ == capacity_) consumed_seen_ = consumed_.load(std::memory_order_acquire);
        return capacity_ - static_cast<std::size_t>(tail_ - consumed_seen_);
    }
    [[nodiscard]] std::size_t index_to_write() const noexcept { return static_cast<std::size_t>(tail_) & mask_; }
    /// One item was written.
    void written() noexcept {
        ++tail_;
        if (!unpublished_) [[unlikely]]
            note_unpublished();
    }
    /// Whether the receiver takes no more.
    [[nodiscard]] bool refused() const noexcept { return receiver_ended_.load(std::memory_order_relaxed) || closed_; }
    /// Puts a send behind those that wait, and asks for room.
    void wait(CrossSendWaiter& send, CancelScope* scope) noexcept;
    /// A send that waits is given up.
    void forget(CrossSendWaiter& send) noexcept;
    [[nodiscard]] bool somebody_waits() const noexcept { return first_ != nullptr; }
    /// Publishes what was written, and says that nothing follows. Any thread while no reactor is bound.
    void close() noexcept;
    void publish() noexcept;
    [[nodiscard]] Reactor* sender() const noexcept { return sender_; }
    /// The sender's reactor is destroyed.
    void detach_sender() noexcept;

    // ---- the receiver's thread ----

    /// How many items may be read, at most as many as lie side by side.
    [[nodiscard]] std::size_t readable() noexcept {
        if (published_seen_ == head_) published_seen_ = published_.load(std::memory_order_acquire);
        const auto count = static_cast<std::size_t>(published_seen_ - head_);
        return std::min(count, mask_ + 1 - index_to_read());
    }
    [[nodiscard]] std::size_t index_to_read() const noexcept { return static_cast<std::size_t>(head_) & mask_; }
    /// So many were read.
    void read(std::size_t count) noexcept {
        head_ += count;
        if (!ungiven_) [[unlikely]]
            note_ungiven();
    }
    /// Nothing is left to read. True: something has come meanwhile. False: the sender tells when something comes.
    bool rest() noexcept;
    /// Whether the sender has closed, and everything was read.
    [[nodiscard]] bool finished() noexcept;
    /// Gives the places back that were read.
    void give_back() noexcept;
    /// The receiver takes no more. Its own thread, or none.
    void refuse() noexcept;
    void detach_receiver() noexcept { receiving_ = nullptr; }

protected:
    virtual ~CrossRing();
    /// Moves the item of a send that waited to index_to_write.
    virtual void take(CrossSendWaiter& send) noexcept = 0;
    [[nodiscard]] std::size_t slots() const noexcept { return mask_ + 1; }
    [[nodiscard]] std::uint64_t first_left() const noexcept { return head_; }
    [[nodiscard]] std::uint64_t last_left() const noexcept { return tail_; }

private:
    friend class CrossReceiving;
    friend struct CrossSendWaiter;
    struct RingMessage : Message {
        CrossRing* ring = nullptr;
    };
    static void on_notice(Message* message, bool delivered) noexcept;
    static void on_room(Message* message, bool delivered) noexcept;
    void note_unpublished() noexcept;
    void note_ungiven() noexcept;
    void ask_for_room() noexcept;
    void fill() noexcept;
    void unlist(CrossSendWaiter& send) noexcept;
    void end_send(CrossSendWaiter& send, std::error_code error) noexcept;
    void notify() noexcept;

    // Neither changes once the sender is bound.
    std::size_t capacity_;
    std::size_t mask_;
    std::shared_ptr<Inbox> receiver_inbox_;
    std::shared_ptr<Inbox> sender_inbox_;
    std::atomic<std::uint32_t> holders_{1};  // its sender; then its receiver and the messages, too
    std::atomic<bool> receiver_ended_{false};

    // The sender's.
    alignas(64) std::uint64_t tail_ = 0;
    std::uint64_t consumed_seen_ = 0;
    Reactor* sender_ = nullptr;
    CrossTraffic* sender_traffic_ = nullptr;
    CrossSendWaiter* first_ = nullptr;
    CrossSendWaiter* last_ = nullptr;
    bool unpublished_ = false;  // in the list of its reactor
    bool asked_ = false;        // a message that there is room will come
    bool closed_ = false;

    // The receiver's.
    alignas(64) std::uint64_t head_ = 0;
    std::uint64_t published_seen_ = 0;
    CrossReceiving* receiving_;
    CrossRing* next_ready_ = nullptr;
    bool ready_ = false;    // in the receiver's list
    bool ungiven_ = false;  // in the list of its reactor

    // Of both.
    alignas(64) std::atomic<std::uint64_t> published_{0};
    std::atomic<bool> notified_{false};
    std::atomic<bool> sender_ended_{false};
    alignas(64) std::atomic<std::uint64_t> consumed_{0};
    std::atomic<bool> waiting_{false};
    RingMessage notice_;
    RingMessage room_;
};

/// The receiver's side of a channel, without its items. The receiver's thread.
class FERRULE_EXPORT CrossReceiving {
public:
    /// The current reactor's. Throws std::logic_error without one.
    CrossReceiving();
    CrossReceiving(const CrossReceiving&) = delete;
    CrossReceiving& operator=(const CrossReceiving&) = delete;
    ~CrossReceiving();

    void add(CrossRing& ring);
    /// A ring with something to read; null: there is none now. The rings take turns.
    [[nodiscard]] CrossRing* ring_to_read() noexcept;
    /// So many items of the ring were read; the next is another's turn when this one has had its.
    void read(CrossRing& ring, std::size_t count) noexcept {
        ring.read(count);
        turn_ += count;
        if (turn_ >= turn_max && ring.next_ready_ != nullptr) [[unlikely]]
            end_turn();
    }
    /// Whether nothing will ever come: closed here, or by every sender.
    [[nodiscard]] bool over() const noexcept { return closed_ || (had_senders_ && rings_.empty()); }
    void close() noexcept;
    [[nodiscard]] bool closed() const noexcept { return closed_; }

    void check_thread(const char* call) const;
    /// Throws std::logic_error when it is not this thread's, or somebody is receiving.
    void check_receive() const;
    /// Parks the reader. False: its scope is cancelled.
    bool park(std::coroutine_handle<> handle, CancelScope* scope) noexcept;
    /// The reader is put to the end of the ready list: it has had its budget.
    void yield(std::coroutine_handle<> handle) noexcept;
    /// The reader goes on. True: it was cancelled.
    bool unpark() noexcept;
    /// The reader goes away.
    void forget() noexcept;

    [[nodiscard]] Reactor& reactor() const noexcept { return *reactor_; }
    [[nodiscard]] std::size_t senders() const noexcept { return rings_.size(); }
    void detach() noexcept { traffic_ = nullptr; }
    [[nodiscard]] CrossTraffic* traffic() const noexcept { return traffic_; }
    void ring_is_ready(CrossRing& ring) noexcept;

    bool batch_open = false;

private:
    /// How many items of a sender are read before it is another's turn.
    static constexpr std::size_t turn_max = 64;
    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
    struct Parked : CancelNode {
        explicit Parked(CrossReceiving& owner) noexcept : CancelNode(&CrossReceiving::on_cancel), receiving(&owner) {}
        CrossReceiving* receiving;
    };
    void append(CrossRing& ring) noexcept;
    void end_turn() noexcept;
    void drop_first() noexcept;

    Reactor* reactor_;
    CrossTraffic* traffic_;
    CrossRing* first_ready_ = nullptr;
    CrossRing* last_ready_ = nullptr;
    std::size_t turn_ = 0;
    std::vector<CrossRing*> rings_;
    std::coroutine_handle<> waiter_;
    Parked node_{*this};
    bool queued_ = false;
    bool cancelled_ = false;
    bool closed_ = false;
    bool had_senders_ = false;
};

/// Items of one type.
template <class T>
class CrossRingOf final : public CrossRing {
public:
    struct Send : CrossSendWaiter {
        Send(CrossRing* into, T&& item) noexcept : CrossSendWaiter(into), value(std::move(item)) {}
        T value;
    };

    CrossRingOf(CrossReceiving& receiving, Reactor& receiver, std::size_t capacity)
        : CrossRing(receiving, receiver, capacity), items_(std::allocator<T>().allocate(slots())) {}
    ~CrossRingOf() override {
        for (std::uint64_t left = first_left(); left != last_left(); ++left)
            std::destroy_at(items_ + (static_cast<std::size_t>(left) & (slots() - 1)));
        std::allocator<T>().deallocate(items_, slots());
    }
    void write(T&& item) noexcept {
        std::construct_at(items_ + index_to_write(), std::move(item));
        written();
    }
    [[nodiscard]] T* item_to_read() noexcept { return items_ + index_to_read(); }

private:
    void take(CrossSendWaiter& send) noexcept override {
        std::construct_at(items_ + index_to_write(), std::move(static_cast<Send&>(send).value));
    }
    T* items_;
};

/// Awaits the room for one item.
template <class T>
class [[nodiscard]] CrossSendAwaiter {
public:
    CrossSendAwaiter(CrossRingOf<T>* ring, T&& item) noexcept : send_(ring, std::move(item)) {}
    CrossSendAwaiter(CrossSendAwaiter&& other) noexcept : send_(other.send_.ring, std::move(other.send_.value)) {
        FERRULE_ASSERT(!other.send_.listed && !other.send_.queued);
    }
    CrossSendAwaiter& operator=(CrossSendAwaiter&&) = delete;
    ~CrossSendAwaiter() {
        if (send_.listed || send_.queued) [[unlikely]]
            send_.ring->forget(send_);
    }

    [[nodiscard]] bool await_ready() {
        auto& ring = static_cast<CrossRingOf<T>&>(*send_.ring);
        ring.bind();
        if (ring.refused()) [[unlikely]] {
            send_.error = std::make_error_code(std::errc::broken_pipe);
        } else if (ring.has_room()) [[likely]] {
            ring.write(std::move(send_.value));
        } else {
            return false;
        }
        decided_ = true;
        return Host::current()->spend_inline_budget();
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        send_.waiter = handle;
        if (decided_) {
            send_.ring->sender()->mutable_counters().yields.add();
            send_.queued = true;
            send_.ring->sender()->resume_later(handle);
        } else {
            send_.ring->wait(send_, scope_here(*environment_of(handle)));
        }
    }
    std::expected<void, std::error_code> await_resume() noexcept {
        send_.queued = false;
        if (send_.error) return std::unexpected(send_.error);
        return {};
    }

private:
    typename CrossRingOf<T>::Send send_;
    bool decided_ = false;
};

}  // namespace detail

/// Items that have come from one sender, to be read where they lie. They are destroyed, and their places given back, at
/// its end. It ends before the next receive, and before the receiver (std::logic_error, assertion).
template <class T>
class CrossBatch {
public:
    CrossBatch(detail::CrossReceiving& receiving, detail::CrossRing& ring, std::span<T> items) noexcept
        : receiving_(&receiving), ring_(&ring), items_(items) {
        receiving.batch_open = true;
    }
    CrossBatch(CrossBatch&& other) noexcept
        : receiving_(std::exchange(other.receiving_, nullptr)), ring_(other.ring_), items_(other.items_) {}
    CrossBatch& operator=(CrossBatch&&) = delete;
    ~CrossBatch() {
        if (receiving_ == nullptr) return;
        std::destroy(items_.begin(), items_.end());
        receiving_->batch_open = false;
        receiving_->read(*ring_, items_.size());
    }

    /// The items, in the order in which they were sent. They may be moved from.
    [[nodiscard]] std::span<T> items() const noexcept { return items_; }
    [[nodiscard]] auto begin() const noexcept { return items_.begin(); }
    [[nodiscard]] auto end() const noexcept { return items_.end(); }
    [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }

private:
    detail::CrossReceiving* receiving_;
    detail::CrossRing* ring_;
    std::span<T> items_;
};

namespace detail {

/// Awaits something to read; one pointer and a number. `Made` is what the reader gets.
template <class T, class Made>
class [[nodiscard]] CrossReceiveAwaiter {
public:
    CrossReceiveAwaiter(CrossReceiving& receiving, std::size_t limit) noexcept
        : receiving_(&receiving), limit_(limit) {}
    CrossReceiveAwaiter(CrossReceiveAwaiter&& other) noexcept
        : receiving_(other.receiving_), limit_(other.limit_), parked_(std::exchange(other.parked_, false)) {}
    CrossReceiveAwaiter& operator=(CrossReceiveAwaiter&&) = delete;
    ~CrossReceiveAwaiter() {
        if (parked_) [[unlikely]]
            receiving_->forget();
    }

    [[nodiscard]] bool await_ready() {
        receiving_->check_receive();
        if (receiving_->ring_to_read() == nullptr && !receiving_->over()) return false;
        decided_ = true;
        return Host::current()->spend_inline_budget();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        if (decided_) {
            receiving_->yield(handle);
            parked_ = true;
            return true;
        }
        parked_ = receiving_->park(handle, scope_here(*environment_of(handle)));
        cancelled_ = !parked_;
        return parked_;
    }
    std::expected<Made, std::error_code> await_resume() {
        const bool was_parked = std::exchange(parked_, false);
        if (cancelled_ || (was_parked && receiving_->unpark()))
            return std::unexpected(std::make_error_code(std::errc::operation_canceled));
        CrossRing* const ring = receiving_->ring_to_read();
        if (ring == nullptr) return std::unexpected(std::make_error_code(std::errc::broken_pipe));
        T* const first = static_cast<CrossRingOf<T>*>(ring)->item_to_read();
        if constexpr (std::is_same_v<Made, T>) {
            std::expected<T, std::error_code> made(std::in_place, std::move(*first));
            std::destroy_at(first);
            receiving_->read(*ring, 1);
            return made;
        } else {
            return Made(*receiving_, *ring, std::span<T>(first, std::min(ring->readable(), limit_)));
        }
    }

private:
    CrossReceiving* receiving_;
    std::size_t limit_;
    bool parked_ = false;
    bool decided_ = false;
    bool cancelled_ = false;
};

}  // namespace detail

/// The sending end of a channel between reactors: one for each reactor that sends. It comes from CrossReceiver::sender,
/// may be moved anywhere until it is used, and belongs from its first use on to the reactor that used it.
///
/// What it sends arrives in order. What different senders send arrives in any order; they are read in turn. Items leave
/// together at the end of a pass of the loop; when the receiver is still reading what was sent before, without a
/// message to its mailbox, and otherwise with one. On a reactor that is the receiver's too it works as anywhere.
template <class T>
class CrossSender {
public:
    CrossSender() noexcept = default;
    CrossSender(CrossSender&& other) noexcept : ring_(std::exchange(other.ring_, nullptr)) {}
    CrossSender& operator=(CrossSender&& other) noexcept {
        if (this != &other) {
            end();
            ring_ = std::exchange(other.ring_, nullptr);
        }
        return *this;
    }
    /// Closes. No send may be waiting (assertion).
    ~CrossSender() { end(); }

    /// Whether it was not moved from.
    explicit operator bool() const noexcept { return ring_ != nullptr; }

    /// Sends an item, and waits while `capacity` of this sender are under way: several may wait, and are served in
    /// order. EPIPE when the channel is closed, here or by the receiver, or the receiver's reactor has ended. ECANCELED
    /// when the scope was cancelled while it waited. In both cases the item was not sent, and is gone. Success says
    /// that it is in the channel; a receiver that ends may never have read it. Its reactor's thread; elsewhere it
    /// throws std::logic_error.
    [[nodiscard]] detail::CrossSendAwaiter<T> send(T item) noexcept {
        FERRULE_ASSERT(ring_ != nullptr);
        return {ring_, std::move(item)};
    }

    /// Sends an item if there is room now and nobody waits for it; otherwise false, and the item is as it was. Does not
    /// spend the budget of the pass: whoever tries without end must wait now and then. Its reactor's thread.
    [[nodiscard]] bool try_send(T& item) {
        FERRULE_ASSERT(ring_ != nullptr);
        ring_->bind();
        if (ring_->refused() || !ring_->has_room()) return false;
        ring_->write(std::move(item));
        return true;
    }

    /// Sends as many of these items as there is room for now, from the first on; how many. They are moved from. Its
    /// reactor's thread.
    [[nodiscard]] std::size_t try_send_some(std::span<T> items) {
        FERRULE_ASSERT(ring_ != nullptr);
        ring_->bind();
        if (ring_->refused() || !ring_->has_room()) return 0;
        const std::size_t count = std::min(items.size(), ring_->places());
        for (T& item : items.first(count)) ring_->write(std::move(item));
        return count;
    }

    /// Whether nothing is taken any more: it was closed here or there. Its reactor's thread.
    [[nodiscard]] bool closed() const noexcept { return ring_ == nullptr || ring_->refused(); }

    /// Says that nothing more comes; what was sent still arrives, and sends that wait end with EPIPE. Its reactor's
    /// thread.
    void close() noexcept {
        if (ring_ != nullptr) ring_->close();
    }

private:
    friend class CrossReceiver<T>;
    explicit CrossSender(detail::CrossRingOf<T>* ring) noexcept : ring_(ring) {}
    void end() noexcept {
        if (ring_ == nullptr) return;
        FERRULE_ASSERT(!ring_->somebody_waits());
        ring_->close();
        std::exchange(ring_, nullptr)->release();
    }

    detail::CrossRingOf<T>* ring_ = nullptr;
};

/// The receiving end of a bounded channel between reactors: many senders, on any reactors, and one receiver. Pinned; it
/// belongs to the reactor on which it is made.
///
/// Each sender has a ring of `capacity` items of its own, so what the channel holds is bounded by that times the
/// senders, and a sender that floods the channel fills its own ring and nobody else's. Nothing is locked, an item costs
/// no atomic read-modify-write, and nothing is allocated but a ring for each new sender.
///
/// ```cpp
/// Task<> produce(CrossSender<int> numbers) {
///     bool open = true;
///     for (int number = 0; number < 1000 && open; ++number) {
///         const auto sent = co_await numbers.send(number);  // waits while the channel is full
///         open = sent.has_value();
///     }
/// }  // the sender ends, and so closes
///
/// Task<int> consume(Reactor& there) {
///     CrossReceiver<int> numbers(256);
///     auto begin = [sender = numbers.sender()](Reactor& other) mutable { other.spawn(produce(std::move(sender))); };
///     const auto begun = co_await call(there, std::move(begin));
///     int sum = 0;
///     while (auto number = co_await numbers.receive()) sum += *number;
///     co_return sum;
/// }
/// ```
template <class T>
class CrossReceiver {
    static_assert(std::is_object_v<T> && std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

public:
    /// `capacity`: how many items of each sender may be under way, at least 1. `senders_max`: how many senders there
    /// may be at a time. Throws std::logic_error on a thread without a reactor, std::invalid_argument when there is
    /// room for nothing.
    explicit CrossReceiver(std::size_t capacity, std::size_t senders_max = 1024)
        : capacity_(capacity), senders_max_(senders_max) {
        if (capacity == 0) throw std::invalid_argument("CrossReceiver: a capacity of 0");
    }
    CrossReceiver(const CrossReceiver&) = delete;
    CrossReceiver& operator=(const CrossReceiver&) = delete;
    /// Closes; what has not been received is dropped. Nobody may be receiving (assertion).
    ~CrossReceiver() { FERRULE_ASSERT(!receiving_.batch_open); }

    /// A new sender, for one reactor. Throws std::length_error when there are `senders_max`, and std::bad_alloc. The
    /// receiver's own thread.
    [[nodiscard]] CrossSender<T> sender() {
        receiving_.check_thread("CrossReceiver::sender");
        if (receiving_.senders() >= senders_max_) throw std::length_error("CrossReceiver: too many senders");
        auto* const ring = new detail::CrossRingOf<T>(receiving_, receiving_.reactor(), capacity_);
        CrossSender<T> made(ring);
        receiving_.add(*ring);
        return made;
    }

    /// The next item: `while (auto item = co_await receiver.receive())`. Ends with EPIPE when the channel is closed,
    /// here or by the end of the last sender, and everything was received; before the first sender is made it waits.
    /// ECANCELED when the scope is cancelled while it waits; nothing is lost by that. One receive at a time: a second
    /// throws std::logic_error, and so does one on another thread.
    [[nodiscard]] auto receive() noexcept { return detail::CrossReceiveAwaiter<T, T>(receiving_, 1); }

    /// As receive, but all items that are there and lie side by side, at most `limit`: the fastest way. See CrossBatch.
    [[nodiscard]] auto receive_batch(std::size_t limit = ~std::size_t{0}) noexcept {
        return detail::CrossReceiveAwaiter<T, CrossBatch<T>>(receiving_, std::max<std::size_t>(limit, 1));
    }

    /// Takes no more: senders find it closed. What is in the channel can still be received. Own thread.
    void close() noexcept { receiving_.close(); }
    /// Senders that have not ended, or whose last items were not received. Own thread.
    [[nodiscard]] std::size_t senders() const noexcept { return receiving_.senders(); }

private:
    std::size_t capacity_;
    std::size_t senders_max_;
    detail::CrossReceiving receiving_;
};

}  // namespace ferrule::inline v0
