#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/fan_out.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <coroutine>
#include <cstddef>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace ferrule::inline v0 {

namespace detail {

template <class T>
constexpr bool is_task = false;
template <class T>
constexpr bool is_task<Task<T>> = true;

/// Waits as `Awaiter` does and leaves its result where it is: whoever won takes it.
template <class Awaiter>
class WithoutResult {
public:
    explicit WithoutResult(Awaiter& awaiter) noexcept : awaiter_(&awaiter) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> handle) const {
        return awaiter_->await_suspend(handle);
    }
    void await_resume() const noexcept {}

private:
    Awaiter* awaiter_;
};

/// One alternative of a select that has to wait: it ends when the awaiter would be resumed.
template <class Awaiter>
Task<> wait_for(Awaiter* awaiter) {
    co_await WithoutResult<Awaiter>(*awaiter);
}

/// Several alternatives, of which the first that is ready decides: what does not depend on their types.
class Selection : protected Completion {
protected:
    Selection() noexcept : Completion{&on_end} {}

    static std::coroutine_handle<> on_end(Completion& completion, PromiseBase& promise, bool) noexcept {
        auto& self = static_cast<Selection&>(completion);
        if (self.decisive_ != nullptr) {
            // While they are started one may resume another: what it would have given stays where it is.
            return std::noop_coroutine();
        }
        self.decisive_ = &promise;
        return self.waiter_ ? self.waiter_ : std::noop_coroutine();
    }

    const PromiseBase* decisive_ = nullptr;
    // Null until all have been started.
    std::coroutine_handle<> waiter_;
};

/// What `select` gives to await. The alternatives are in it; each that has to wait has a frame from the pool meanwhile,
/// which tells it from the others when it is resumed.
template <class... Awaiters>
class [[nodiscard]] Select : private Selection {
public:
    using Result = std::variant<NonVoid<decltype(std::declval<Awaiters&>().await_resume())>...>;

    explicit Select(Awaiters&&... awaiters) : awaiters_(std::move(awaiters)...) {}
    Select(Select&& other) : awaiters_(std::move(other.awaiters_)) { FERRULE_ASSERT(!other.arms_[0]); }

    bool await_ready() { return ask(std::index_sequence_for<Awaiters...>()); }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        start(*environment_of(handle), std::index_sequence_for<Awaiters...>());
        if (decisive_ != nullptr) {
            return false;
        }
        waiter_ = handle;
        return true;
    }

    Result await_resume() {
        if (decisive_ != nullptr) {
            winner_ = 0;
            while (&arms_[winner_].handle().promise() != decisive_) {
                ++winner_;
            }
        }
        detach_losers(std::index_sequence_for<Awaiters...>());
        if (decisive_ != nullptr) {
            arms_[winner_].await_resume();
        }
        return result<0>();
    }

private:
    template <std::size_t... indexes>
    bool ask(std::index_sequence<indexes...>) {
        return (ask_one<indexes>() || ...);
    }
    template <std::size_t index>
    bool ask_one() {
        winner_ = index;
        return std::get<index>(awaiters_)->await_ready();
    }

    template <std::size_t... indexes>
    void start(Environment& environment, std::index_sequence<indexes...>) {
        static_cast<void>((start_one<indexes>(environment) && ...));
    }
    template <std::size_t index>
    bool start_one(Environment& environment) {
        arms_[index] = wait_for(&*std::get<index>(awaiters_));
        arms_[index].start_observed(environment, *this);
        return decisive_ == nullptr;
    }

    // The awaiter first: its end forgets the coroutine of its arm.
    template <std::size_t... indexes>
    void detach_losers(std::index_sequence<indexes...>) noexcept {
        ((indexes != winner_ ? detach<indexes>() : void()), ...);
    }
    template <std::size_t index>
    void detach() noexcept {
        std::get<index>(awaiters_).reset();
        arms_[index].reset();
    }

    template <std::size_t index>
    Result result() {
        if constexpr (index + 1 != sizeof...(Awaiters)) {
            if (winner_ != index) {
                return result<index + 1>();
            }
        }
        auto& awaiter = *std::get<index>(awaiters_);
        if constexpr (std::is_void_v<decltype(awaiter.await_resume())>) {
            awaiter.await_resume();
            return Result(std::in_place_index<index>);
        } else {
            return Result(std::in_place_index<index>, awaiter.await_resume());
        }
    }

    std::size_t winner_ = 0;
    // Before the awaiters, so that these are destroyed first.
    std::array<Task<>, sizeof...(Awaiters)> arms_;
    std::tuple<std::optional<Awaiters>...> awaiters_;
};

}  // namespace detail

/// Awaits several things and takes the first that is ready: `co_await select(channel.receive(), sleep_for(5s))` gives a
/// variant, of the winner's index, with its result (std::monostate for none). The others are detached before anything
/// else runs, and have taken nothing: an item that one of them was about to receive is still in its channel, what one
/// was about to send is still the sender's, bytes wait for the next read. When several are ready, the one that is
/// written first wins.
///
/// An alternative is what an operation gives to await, by value: receive and send of a Channel, wait of an Event,
/// acquire of a Semaphore, lock of a Mutex, close of a Gate, next of a Stream, read of a connection, sleep_for and
/// sleep_until, and whatever else takes its result only when it gives it, so that to destroy it before loses nothing. A
/// Task is not: it would be destroyed in its middle (when_any cancels and awaits it). An operation on the caller's
/// memory is not: destroyed in flight it aborts the process.
///
/// Cancelling the scope of the waiting task cancels all; one of them then wins, with what it says of that. An exception
/// of the winner is thrown on; std::bad_alloc when the pool has no frames.
///
/// Thread: the host's own. An alternative that has to wait takes a frame from the pool; when one is ready, none does.
///
/// ```cpp
/// Channel<std::string> lines(16);
/// auto first = co_await select(lines.receive(), connection.read(), sleep_for(5s));
/// auto* line = std::get_if<0>(&first);
/// auto* received = std::get_if<1>(&first);
/// if (line != nullptr && *line) connection.write(**line);
/// if (received != nullptr && *received) connection.write(received->contiguous());
/// if (first.index() == 2) connection.write("nothing for five seconds\r\n");
/// ```
template <class... Awaiters>
detail::Select<Awaiters...> select(Awaiters... awaiters) {
    static_assert(sizeof...(Awaiters) > 0);
    static_assert(!(detail::is_task<Awaiters> || ...),
                  "a task that loses would be destroyed in its middle: when_any cancels and awaits it");
    static_assert((std::is_move_constructible_v<Awaiters> && ...), "an alternative moves until it is awaited");
    return detail::Select<Awaiters...>(std::move(awaiters)...);
}

}  // namespace ferrule::inline v0
