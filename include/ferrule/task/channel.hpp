#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/wait_list.hpp>
#include <ferrule/version.hpp>

#include <bit>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

/// Items from any number of tasks to any number of tasks of one host, in order: at most `capacity` wait inside. Senders
/// wait for room and receivers for items, first come, first served each. Items are received in the order in which their
/// sends have ended, each by one receiver. None is lost: an item leaves its sender, and the channel, only when the
/// await gives its result. One that was meant for a task that is destroyed before it runs is the next one's, and so is
/// room.
///
/// Memory for the items is taken once, by the constructor. Nobody is resumed from inside a call that sends or receives:
/// who waited goes on from the ready list. What needs no waiting is done at once, within the inline budget.
///
/// Closed, it takes no more items; those inside are still received, and then every receive says so. Items that are left
/// when it is destroyed are destroyed with it; it outlives those who wait for it (assertion).
///
/// Thread: tasks of one host, the one on which it is awaited first; another's is an assertion.
///
/// `T` moves without exceptions.
///
/// ```cpp
/// Task<> produce(Channel<std::string>& lines) {
///     std::string line = "a line";
///     const auto sent = co_await lines.send(std::move(line));
///     if (!sent) std::puts(line.c_str());  // closed or cancelled: it is left as it was
///     lines.close();
/// }
///
/// Task<> consume(Channel<std::string>& lines) {
///     while (auto line = co_await lines.receive()) std::puts(line->c_str());
/// }
/// ```
template <class T>
class Channel {
    static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

public:
    using Value = T;

    /// Throws std::invalid_argument for a capacity of 0 or above 2^31, std::bad_alloc.
    explicit Channel(std::size_t capacity) : capacity_(checked(capacity)), mask_(std::bit_ceil(capacity_) - 1) {
        items_ = std::allocator<T>().allocate(mask_ + std::size_t{1});
    }
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    ~Channel() {
        FERRULE_ASSERT(promised_ == 0 && reserved_ == 0 && "a channel is destroyed before those who waited for it ran");
        while (size_ != 0) {
            drop_first();
        }
        std::allocator<T>().deallocate(items_, mask_ + std::size_t{1});
    }

    /// What `receive` gives to await.
    class [[nodiscard]] Receive : private detail::Waiter {
    public:
        explicit Receive(Channel& channel) noexcept : Waiter(&on_cancel), channel_(&channel) {}
        Receive(Receive&&) noexcept = default;
        ~Receive() {
            if (state() != State::idle) [[unlikely]] {
                give_up();
            }
        }

        bool await_ready() noexcept {
            Host& host = channel_->receivers_.here();
            const State now = channel_->receiver_state();
            if (now == State::waiting || !host.spend_inline_budget()) {
                return false;
            }
            promise_now(now);
            return true;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            const State now = channel_->receiver_state();
            if (now != State::waiting) [[unlikely]] {
                promise_now(now);
                yield(channel_->receivers_.here(), handle, now);
                return true;
            }
            if (!wait(channel_->receivers_, handle, environment_of(handle))) {
                return false;
            }
            channel_->promise_items();
            return true;
        }
        std::expected<T, std::error_code> await_resume() noexcept {
            const State ended = take();
            if (ended != State::granted) [[unlikely]] {
                return std::unexpected(detail::error_of(ended));
            }
            --channel_->promised_;
            return channel_->take_first();
        }

    private:
        static void on_cancel(CancelNode& node, CancelReason) noexcept {
            auto& self = static_cast<Receive&>(of(node));
            self.channel_->receivers_.cancel(self);
        }

        void promise_now(State now) noexcept {
            decide(now);
            if (now == State::granted) {
                ++channel_->promised_;
            }
        }

        void give_up() noexcept {
            if (abandon(channel_->receivers_) == State::granted) {
                --channel_->promised_;
                channel_->promise_items();
            }
        }

        Channel* channel_;
    };

    /// What `send` gives to await.
    class [[nodiscard]] Send : private detail::Waiter {
    public:
        /// Copied or moved from: of what is trivially copied the sender's own never changes.
        using Item = std::conditional_t<std::is_trivially_copyable_v<T>, const T, T>;

        Send(Channel& channel, Item& item) noexcept : Waiter(&on_cancel), channel_(&channel), item_(&item) {}
        Send(Send&&) noexcept = default;
        ~Send() {
            if (state() != State::idle) [[unlikely]] {
                give_up();
            }
        }

        bool await_ready() noexcept {
            Host& host = channel_->receivers_.here();
            const State now = channel_->sender_state();
            if (now == State::waiting || !host.spend_inline_budget()) {
                return false;
            }
            reserve_now(now);
            return true;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            const State now = channel_->sender_state();
            if (now != State::waiting) [[unlikely]] {
                reserve_now(now);
                yield(channel_->receivers_.here(), handle, now);
                return true;
            }
            if (!wait(channel_->senders_, handle, environment_of(handle))) {
                return false;
            }
            channel_->reserve_room();
            return true;
        }
        std::expected<void, std::error_code> await_resume() noexcept {
            const State ended = take();
            if (ended != State::granted) [[unlikely]] {
                return std::unexpected(detail::error_of(ended));
            }
            --channel_->reserved_;
            if (channel_->closed_) [[unlikely]] {
                return std::unexpected(detail::error_of(State::closed));
            }
            channel_->put(std::move(*item_));
            return {};
        }

    private:
        static void on_cancel(CancelNode& node, CancelReason) noexcept {
            auto& self = static_cast<Send&>(of(node));
            self.channel_->senders_.cancel(self);
        }

        void reserve_now(State now) noexcept {
            decide(now);
            if (now == State::granted) {
                ++channel_->reserved_;
            }
        }

        void give_up() noexcept {
            if (abandon(channel_->senders_) == State::granted) {
                --channel_->reserved_;
                channel_->reserve_room();
            }
        }

        Channel* channel_;
        Item* item_;
    };

    /// `auto item = co_await channel.receive()`: the next item. EPIPE when the channel is closed and no item is left;
    /// ECANCELED when the scope of the waiting task is cancelled before an item was meant for it. What is there is
    /// received in a cancelled scope, too.
    Receive receive() noexcept { return Receive(*this); }

    /// `co_await channel.send(std::move(item))`: until there is room, and everybody who came before has sent his. When
    /// it does not end well the item is left as it was: EPIPE when the channel is closed, or becomes so before the task
    /// goes on; ECANCELED when the scope of the waiting task is cancelled before there was room for it. `item` outlives
    /// the await.
    Send send(T&& item) noexcept { return Send(*this, item); }
    Send send(const T& item) noexcept requires std::is_trivially_copyable_v<T> { return Send(*this, item); }

    /// Receives when that needs no waiting. EAGAIN: there is no item that is not meant for somebody who has waited;
    /// EPIPE: closed, and no item is left.
    std::expected<T, std::error_code> try_receive() noexcept {
        receivers_.check_thread();
        if (size_ == promised_) {
            return std::unexpected(closed_ && size_ == 0 ? detail::error_of(State::closed) : detail::would_wait());
        }
        return take_first();
    }

    /// Sends when that needs no waiting. Otherwise the item is left as it was. EAGAIN: there is no room, but for those
    /// who have waited for it; EPIPE: closed.
    std::expected<void, std::error_code> try_send(T&& item) noexcept { return try_put(item); }
    std::expected<void, std::error_code> try_send(const T& item) noexcept requires std::is_trivially_copyable_v<T> {
        return try_put(item);
    }

    /// No items are taken any more: sends that wait end with EPIPE and keep theirs. Receives end with EPIPE when no
    /// item is left.
    void close() noexcept {
        receivers_.check_thread();
        closed_ = true;
        senders_.end_all(State::closed);
        end_receivers_when_drained();
    }

    /// Whether it takes no more items.
    bool closed() const noexcept { return closed_; }
    /// The items inside, also those that are meant for a receiver that has not run yet.
    std::size_t size() const noexcept { return size_; }
    /// How many items it takes.
    std::size_t capacity() const noexcept { return capacity_; }

private:
    using State = detail::Waiter::State;

    static std::uint32_t checked(std::size_t capacity) {
        if (capacity == 0 || capacity > std::size_t{1} << 31) {
            throw std::invalid_argument("Channel: the capacity is at least 1, and at most 2^31");
        }
        return static_cast<std::uint32_t>(capacity);
    }

    /// What would become of a receiver who comes now. He waits behind those whose item is there and who have not run.
    State receiver_state() const noexcept {
        if (size_ != 0 && promised_ == 0) [[likely]] {
            return State::granted;
        }
        return closed_ && size_ == 0 ? State::closed : State::waiting;
    }

    /// What would become of a sender who comes now. He waits behind those whose room is there and who have not run, so
    /// that his item does not overtake theirs.
    State sender_state() const noexcept {
        if (closed_) [[unlikely]] {
            return State::closed;
        }
        return size_ != capacity_ && reserved_ == 0 ? State::granted : State::waiting;
    }

    template <class Item>
    std::expected<void, std::error_code> try_put(Item& item) noexcept {
        receivers_.check_thread();
        if (closed_) [[unlikely]] {
            return std::unexpected(detail::error_of(State::closed));
        }
        if (size_ + reserved_ == capacity_) {
            return std::unexpected(detail::would_wait());
        }
        put(std::move(item));
        return {};
    }

    template <class Item>
    void put(Item&& item) noexcept {
        std::construct_at(items_ + ((first_ + size_) & mask_), std::forward<Item>(item));
        ++size_;
        if (!receivers_.empty()) {
            promise_items();
        }
    }

    /// The first item, for whoever runs first: items leave in order, whomever they were meant for.
    T take_first() noexcept {
        T item = std::move(items_[first_]);
        drop_first();
        if (!senders_.empty()) {
            reserve_room();
        }
        if (closed_) [[unlikely]] {
            end_receivers_when_drained();
        }
        return item;
    }

    void drop_first() noexcept {
        std::destroy_at(items_ + first_);
        first_ = (first_ + 1) & mask_;
        --size_;
    }

    /// Means items that are nobody's for those who have waited longest.
    void promise_items() noexcept {
        while (size_ != promised_ && !receivers_.empty()) {
            ++promised_;
            receivers_.end_first(State::granted);
        }
    }

    /// Keeps room that is nobody's for those who have waited longest.
    void reserve_room() noexcept {
        while (size_ + reserved_ != capacity_ && !senders_.empty()) {
            ++reserved_;
            senders_.end_first(State::granted);
        }
    }

    /// Who waits beside items that are meant for others may still get one of them, when its receiver is destroyed.
    void end_receivers_when_drained() noexcept {
        if (size_ == 0) {
            receivers_.end_all(State::closed);
        }
    }

    T* items_ = nullptr;
    std::uint32_t first_ = 0;
    std::uint32_t size_ = 0;
    // Items that are meant for receivers who have not run yet, and room for senders: these are in no list any more.
    std::uint32_t promised_ = 0;
    std::uint32_t reserved_ = 0;
    std::uint32_t capacity_;
    std::uint32_t mask_;
    bool closed_ = false;
    // Its host is the channel's.
    detail::WaitList receivers_;
    detail::WaitList senders_;
};
static_assert(sizeof(Channel<int>::Receive) <= 64 && sizeof(Channel<int>::Send) <= 72);

}  // namespace ferrule::inline v0
