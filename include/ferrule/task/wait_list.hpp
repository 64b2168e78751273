#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <cstdint>
#include <system_error>

namespace ferrule::inline v0::detail {

class WaitList;

/// The part of an awaiter that waits for another task of its host: in the list of what it waits for, and in the cancel
/// scope of its task. Both are intrusive, so that waiting takes no memory but the awaiter's own.
///
/// A wait is decided once: granted, closed or cancelled. From then on it is in neither list, and its coroutine is in
/// the host's ready list; nothing is resumed from inside the call that decided. What was granted is taken by
/// await_resume, and given back by an awaiter that is destroyed before.
class FERRULE_EXPORT Waiter : protected CancelNode {
public:
    enum class State : std::uint8_t {
        idle,       ///< not awaited yet, or its end was taken
        waiting,    ///< in a list
        granted,    ///< it has what it waited for
        closed,     ///< what it waited for will never be
        cancelled,  ///< its scope was cancelled first
    };

    Waiter& operator=(const Waiter&) = delete;

    State state() const noexcept { return state_; }

    /// Takes it out of its scope and hands its coroutine to the ready list. It waits, and is in no list any more.
    void end(Host& host, State state) noexcept;

    /// How much it waits for, where that can be counted.
    std::uint32_t amount() const noexcept { return amount_; }

protected:
    /// `on_cancel` gets this node, takes it out of its list and calls end with `cancelled`.
    explicit Waiter(CancelNode::Function on_cancel, std::uint32_t amount = 1) noexcept
        : CancelNode(on_cancel), amount_(amount) {}
    /// An awaiter moves until it is awaited.
    Waiter(Waiter&& other) noexcept : CancelNode(other.cancel), amount_(other.amount_) {
        FERRULE_ASSERT(other.state_ == State::idle);
    }
    ~Waiter() = default;

    static Waiter& of(CancelNode& node) noexcept { return static_cast<Waiter&>(node); }

    /// Waits in `list`, behind all others. False when the scope is cancelled already: then it does not wait, and its
    /// state is `cancelled`.
    bool wait(WaitList& list, std::coroutine_handle<> handle, const Environment* environment) noexcept;

    /// Decides without waiting.
    void decide(State state) noexcept { state_ = state; }

    /// Decided, but the inline budget is used up: its turn comes in the ready list.
    void yield(Host& host, std::coroutine_handle<> handle, State state) noexcept {
        state_ = state;
        handle_ = handle;
        host.resume_later(handle);
    }

    /// The end of the wait, from await_resume.
    State take() noexcept {
        const State ended = state_;
        state_ = State::idle;
        handle_ = nullptr;
        return ended;
    }

    /// The awaiter is destroyed before await_resume: takes it out of whatever it is in. Returns what it was.
    State abandon(WaitList& list) noexcept;

private:
    friend WaitList;

    Waiter* next_ = nullptr;
    Waiter* previous_ = nullptr;
    // Null but while it is suspended.
    std::coroutine_handle<> handle_;
    std::uint32_t amount_;
    State state_ = State::idle;
};
static_assert(sizeof(Waiter) <= 56, "each co_await of a contended thing has one in its frame");

/// Those who wait for one thing, first come first. It belongs to the host where somebody has first waited.
class FERRULE_EXPORT WaitList {
public:
    WaitList() noexcept = default;
    WaitList(const WaitList&) = delete;
    WaitList& operator=(const WaitList&) = delete;
    ~WaitList() { FERRULE_ASSERT(empty() && "what is waited for was destroyed"); }

    bool empty() const noexcept { return first_ == nullptr; }
    Waiter* first() const noexcept { return first_; }

    /// The current host, which is the list's from now on: who awaits calls it. Another host's thread, or one without a
    /// host, is an assertion.
    Host& here() noexcept {
        Host* host = Host::current();
        if (host != host_ || host == nullptr) [[unlikely]] {
            adopt(host);
        }
        return *host;
    }

    /// Asserts that the calling thread is not another host's: who does not wait calls it. Before anybody has waited,
    /// and where no host is current, nobody disputes it.
    void check_thread() const noexcept {
        const Host* host = Host::current();
        if (host != host_ && host != nullptr && host_ != nullptr) [[unlikely]] {
            fail();
        }
    }

    /// Takes `waiter` out.
    void remove(Waiter& waiter) noexcept {
        (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
        (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
        waiter.next_ = waiter.previous_ = nullptr;
    }

    /// Ends the wait of the first, which there is, with `state`.
    void end_first(Waiter::State state) noexcept {
        Waiter& waiter = *first_;
        remove(waiter);
        waiter.end(waking_host(), state);
    }

    /// Ends the wait of all, in order.
    void end_all(Waiter::State state) noexcept {
        while (!empty()) {
            end_first(state);
        }
    }

    /// For the callback of a cancelled waiter.
    void cancel(Waiter& waiter) noexcept {
        remove(waiter);
        waiter.end(waking_host(), Waiter::State::cancelled);
    }

private:
    friend Waiter;

    void push(Waiter& waiter) noexcept {
        waiter.previous_ = last_;
        (last_ != nullptr ? last_->next_ : first_) = &waiter;
        last_ = &waiter;
    }

    /// Who waits is woken on his own thread only.
    Host& waking_host() const noexcept {
        if (Host::current() != host_) [[unlikely]] {
            fail();
        }
        return *host_;
    }

    void adopt(Host* host) noexcept;
    [[noreturn]] static void fail() noexcept;

    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
    Host* host_ = nullptr;
};

/// The error of a wait that was not granted: ECANCELED or EPIPE.
FERRULE_EXPORT std::error_code error_of(Waiter::State state) noexcept;
/// EAGAIN: it is to be had only by waiting.
FERRULE_EXPORT std::error_code would_wait() noexcept;

}  // namespace ferrule::inline v0::detail
