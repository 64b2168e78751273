#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/reactor/broadcast.hpp>
#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

/// A value for each reactor: made on its thread, touched by its thread alone, destroyed by its thread when the reactor
/// has ended its tasks. What a program would otherwise guard with a mutex: caches, counters, the members of a room.
///
/// A reactor's value has the reactor's number (`Reactor::id`), so the numbers are those of a Server, or chosen by
/// whoever makes the reactors: below the size, and each once. It outlives the runs of the reactors that have started in
/// it (assertion).
///
/// ```cpp
/// struct Hits {
///     std::uint64_t count = 0;
/// };
///
/// Task<> count_hits(Connection connection, Sharded<Hits>& hits) {
///     ++hits.local().count;  // no lock: this thread's own
///     auto count = [](Hits& there) { return there.count; };
///     const auto sum = co_await hits.fold(std::uint64_t{0}, count, std::plus<>());
///     if (sum) connection.write(std::to_string(*sum) + " hits\n");
/// }
///
/// void set_up(Server& server, Sharded<Hits>& hits) {
///     server.on_start([&hits](Reactor& started) { hits.start(started); });
///     server.on_connection([&hits](Connection connection) { return count_hits(std::move(connection), hits); });
/// }
/// ```
template <class T>
class Sharded {
public:
    /// Room for the values of `size` reactors, each made from its reactor if T can be, and from nothing otherwise. For
    /// a server: `Sharded<T> values{server.reactors()}`.
    explicit Sharded(std::size_t size) : Sharded(size, &Sharded::make_one) {}
    /// The values are made by `make(reactor)`, on the reactors' threads, so on several at once.
    Sharded(std::size_t size, std::function<T(Reactor&)> make) : make_(std::move(make)), shards_(size) {}
    Sharded(const Sharded&) = delete;
    Sharded& operator=(const Sharded&) = delete;
    ~Sharded() {
        for (const Shard& shard : shards_) FERRULE_ASSERT(shard.value == nullptr);
    }

    /// Makes the value of this reactor, whose thread it is: from `Reactor::on_start` or `Server::on_start`, or posted.
    /// From now on it is part of `fold`. Throws std::logic_error on another thread, when its number is too large, or
    /// taken; and what the making throws.
    void start(Reactor& reactor) {
        if (Reactor::current() != &reactor) throw std::logic_error("Sharded::start: not on the reactor's thread");
        const std::string name = "Sharded::start: reactor " + std::to_string(reactor.id());
        if (reactor.id() >= shards_.size())
            throw std::logic_error(name + ": there is room for " + std::to_string(shards_.size()));
        Shard& shard = shards_[reactor.id()];
        if (shard.reactor.load(std::memory_order_acquire) != nullptr) throw std::logic_error(name + ": started twice");
        shard.inbox = reactor.inbox();
        shard.value.reset(new T(make_(reactor)));
        shard.reactor.store(&reactor, std::memory_order_release);
        reactor.on_end([&shard](Reactor&) { shard.value.reset(); });
    }

    /// How many reactors there is room for. Any thread.
    [[nodiscard]] std::size_t size() const noexcept { return shards_.size(); }

    /// The value of the reactor whose thread this is. Throws std::logic_error when there is none: the reactor has not
    /// started in this, or has ended, or this thread runs no reactor.
    [[nodiscard]] T& local() {
        if (T* found = find_local()) return *found;
        throw std::logic_error("Sharded::local: this thread has no value here");
    }
    /// As local; null when there is none.
    [[nodiscard]] T* find_local() noexcept {
        const Reactor* const here = Reactor::current();
        if (here == nullptr || here->id() >= shards_.size()) return nullptr;
        Shard& shard = shards_[here->id()];
        return shard.reactor.load(std::memory_order_relaxed) == here ? shard.value.get() : nullptr;
    }

    /// Runs `function(T&)` on the reactor of that number and gives what it returned, or its task: see `call`, whose
    /// errors these are. ECANCELED, too, while that reactor has not started. For what belongs to a key:
    /// `values.on(hash % values.size(), ...)`. Reactor's own thread.
    template <class Function>
    [[nodiscard]] auto on(std::size_t number, Function&& function) {
        Reactor* const target =
            number < shards_.size() ? shards_[number].reactor.load(std::memory_order_acquire) : nullptr;
        return detail::make_call(target, target != nullptr ? shards_[number].inbox : nullptr,
                                 OnShard<std::decay_t<Function>>{this, std::forward<Function>(function)});
    }
    /// As above, on that reactor.
    template <class Function>
    [[nodiscard]] auto on(Reactor& reactor, Function&& function) {
        return on(std::size_t{reactor.id()}, std::forward<Function>(function));
    }

    /// Runs a copy of `function(T&)` on each reactor that has started, on all at once, and gives what it returned, in
    /// the order of their numbers: see `broadcast`. A reactor that has ended counts, with ECANCELED.
    template <class Function>
    requires std::copy_constructible<std::decay_t<Function>>
    [[nodiscard]] auto broadcast(Function&& function) {
        using Call = decltype(on(std::size_t{}, std::as_const(function)));
        std::vector<Call> calls;
        calls.reserve(shards_.size());
        for (std::size_t number = 0; number < shards_.size(); ++number) {
            if (shards_[number].reactor.load(std::memory_order_acquire) == nullptr) continue;
            calls.push_back(on(number, std::as_const(function)));
        }
        return detail::await_calls(std::move(calls));
    }

    /// `map(T&)` on each reactor that has started, on all at once; then, here, `combine(value, mapped)` for each in the
    /// order of their numbers, beginning with `initial`. The sum is of values from moments of their own. The first
    /// error of a reactor is the error of the whole: a sum without one of its parts would be wrong. It takes as long as
    /// the slowest reactor. Exceptions and cancellation: see `broadcast`. Reactor's own thread.
    template <class Value, class Map, class Combine>
    [[nodiscard]] Task<std::expected<Value, std::error_code>> fold(Value initial, Map map, Combine combine) {
        return fold_all(broadcast(std::move(map)), std::move(initial), std::move(combine));
    }

private:
    static T make_one([[maybe_unused]] Reactor& reactor) {
        if constexpr (std::constructible_from<T, Reactor&>) {
            return T(reactor);
        } else {
            static_assert(std::default_initializable<T>, "say how the values are made: Sharded(size, make)");
            return T();
        }
    }

    struct alignas(64) Shard {
        std::atomic<Reactor*> reactor{nullptr};  // for ever, once it is there
        std::shared_ptr<Inbox> inbox;
        std::unique_ptr<T> value;  // of that reactor's thread
    };

    template <class Function>
    struct OnShard {
        Sharded* sharded;
        Function function;
        decltype(auto) operator()() { return std::invoke(function, sharded->local()); }
    };

    template <class Results, class Value, class Combine>
    static Task<std::expected<Value, std::error_code>> fold_all(Task<Results> mapped, Value value, Combine combine) {
        Results results = co_await mapped;
        for (auto& each : results) {
            if (!each) co_return std::unexpected(each.error());
            value = combine(std::move(value), std::move(*each));
        }
        co_return value;
    }

    std::function<T(Reactor&)> make_;
    std::vector<Shard> shards_;
};

}  // namespace ferrule::inline v0
