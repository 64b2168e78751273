#pragma once

#include <ferrule/task/task.hpp>
#include <ferrule/task/yield.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

namespace ferrule_test {

/// Sees every await that a program hands to it: each must end exactly once, or be destroyed (law 3).
class AwaitWatch {
public:
    /// Awaits that were begun, whether or not they had to wait.
    std::uint64_t begun = 0;
    /// Of these, those that waited.
    std::uint64_t suspended = 0;
    /// Awaits that gave their result, or threw.
    std::uint64_t ended = 0;
    /// Awaits that were destroyed before their end.
    std::uint64_t destroyed = 0;
    /// Awaits that ended more than once.
    std::uint64_t ended_again = 0;
    /// Called after each suspension.
    std::function<void()> on_suspend;

    [[nodiscard]] bool balanced() const noexcept { return begun == ended + destroyed && ended_again == 0; }
};

/// An awaiter that is seen by a watch. Pinned once it is awaited, as every awaiter.
template <class Awaiter>
class [[nodiscard]] Watched {
public:
    Watched(AwaitWatch& watch, Awaiter&& awaiter) : watch_(&watch), awaiter_(std::move(awaiter)) {}
    Watched(Watched&&) = default;
    ~Watched() {
        if (state_ == State::waiting) ++watch_->destroyed;
    }

    [[nodiscard]] bool await_ready() {
        ++watch_->begun;
        state_ = State::waiting;
        return awaiter_.await_ready();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        if constexpr (std::is_void_v<decltype(awaiter_.await_suspend(handle))>) {
            awaiter_.await_suspend(handle);
        } else if (!awaiter_.await_suspend(handle)) {
            return false;
        }
        ++watch_->suspended;
        if (watch_->on_suspend) watch_->on_suspend();
        return true;
    }
    decltype(auto) await_resume() {
        if (state_ == State::ended) ++watch_->ended_again;
        state_ = State::ended;
        ++watch_->ended;
        return awaiter_.await_resume();
    }

private:
    enum class State : std::uint8_t { idle, waiting, ended };
    AwaitWatch* watch_;
    Awaiter awaiter_;
    State state_ = State::idle;
};

/// yield_now, for a watch: its awaiter does not move.
inline ferrule::Task<> yield_once() {
    co_await ferrule::yield_now();
}

}  // namespace ferrule_test
