#include <ferrule/task/host.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/when_any.hpp>
#include <ferrule/task/yield.hpp>

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;

/// What carries things between threads here: in the library, a reactor's mailbox.
template <class T>
class Mailbox {
public:
    void put(T item) {
        {
            const std::lock_guard lock(mutex_);
            items_.push_back(std::move(item));
        }
        arrived_.notify_one();
    }
    void close() {
        {
            const std::lock_guard lock(mutex_);
            closed_ = true;
        }
        arrived_.notify_one();
    }
    std::optional<T> take() {
        std::unique_lock lock(mutex_);
        arrived_.wait(lock, [&] { return !items_.empty() || closed_; });
        if (items_.empty()) {
            return std::nullopt;
        }
        T item = std::move(items_.front());
        items_.pop_front();
        return item;
    }

private:
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::deque<T> items_;
    bool closed_ = false;
};

Task<int> value(int number) {
    co_return number;
}

TEST(CrossThread, Law1FramesThatDieElsewhereGoHome) {
    constexpr int count = 2000;
    for (const bool has_host : {false, true}) {
        ThreadHost home;
        const HostBinding binding(home);
        Mailbox<Task<int>> mailbox;
        std::thread other([&] {
            ThreadHost visited;
            std::optional<HostBinding> visited_binding;
            if (has_host) {
                visited_binding.emplace(visited);
            }
            while (std::optional<Task<int>> task = mailbox.take()) {
                task.reset();
            }
        });
        std::uint64_t peak = 0;
        for (int i = 0; i < count; ++i) {
            mailbox.put(value(i));
            home.collect_frames();
            peak = std::max(peak, home.frames.live_frames());
        }
        mailbox.close();
        other.join();
        home.collect_frames();
        EXPECT_EQ(home.frames.live_frames(), 0u);
        EXPECT_LE(home.frames.peak_bytes(), peak * 256 + 256);
    }
}

// Suspends, and says where it can be resumed only when the dispatch that suspended it has unwound.
struct Hop {
    std::vector<std::coroutine_handle<>>* outgoing;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) const { outgoing->push_back(handle); }
    void await_resume() const noexcept {}
};

struct Ending {
    std::thread::id thread;
    int calls = 0;
};

Task<int> below(std::vector<std::coroutine_handle<>>* outgoing) {
    co_await Hop{outgoing};
    co_return co_await value(3);
}

Task<> hops(std::vector<std::coroutine_handle<>>* outgoing, int* result) {
    *result = co_await below(outgoing);
}

TEST(CrossThread, TaskThatEndsElsewhereSendsItsFramesHome) {
    ThreadHost home;
    const HostBinding binding(home);
    std::vector<std::coroutine_handle<>> outgoing;
    Ending ending;
    int result = 0;
    constexpr CompletionHook hook = [](void* argument, std::exception_ptr) noexcept {
        auto& seen = *static_cast<Ending*>(argument);
        seen.thread = std::this_thread::get_id();
        ++seen.calls;
    };
    spawn(home, hops(&outgoing, &result), nullptr, hook, &ending);
    ASSERT_EQ(outgoing.size(), 1u);
    EXPECT_EQ(home.frames.live_frames(), 2u);
    std::thread::id elsewhere;
    std::thread other([&] {
        elsewhere = std::this_thread::get_id();
        ThreadHost visited;
        const HostBinding visited_binding(visited);
        outgoing.front().resume();
        // Made here, by a task of the other host: it belongs to this one, and ended here.
        EXPECT_EQ(visited.frames.live_frames(), 0u);
        EXPECT_GT(visited.frames.peak_bytes(), 0u);
    });
    other.join();
    EXPECT_EQ(result, 3);
    EXPECT_EQ(ending.calls, 1);
    EXPECT_EQ(ending.thread, elsewhere);
    EXPECT_EQ(home.frames.live_frames(), 2u);
    home.collect_frames();
    EXPECT_EQ(home.frames.live_frames(), 0u);
}

Task<> nothing() {
    co_return;
}

Task<> works_away(std::vector<std::coroutine_handle<>>* outgoing, CancelReason* after_return) {
    const Environment& environment = co_await this_environment();
    co_await Hop{outgoing};
    const auto [first, second] = co_await when_all(value(1), value(2));
    const auto any = co_await when_any(value(3), value(4));
    {
        TaskGroup group(environment);
        const bool spawned = group.spawn(nothing());
        EXPECT_TRUE(spawned);
        co_await group.join();
        CancelScope scope(scope_here(environment));
        const int under_scope = co_await with_scope(scope, value(5));
        EXPECT_EQ(first + second + static_cast<int>(any.index()) + under_scope, 8);
        EXPECT_FALSE(scope.cancelled());
    }
    co_await Hop{outgoing};
    *after_return = scope_here(environment)->reason();
}

TEST(CrossThread, CancelledWhileAwayIsRecordedAndSeenOnReturn) {
    ThreadHost home;
    const HostBinding binding(home);
    std::vector<std::coroutine_handle<>> outgoing;
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &home};
    CancelReason after_return = CancelReason::none;
    spawn(home, works_away(&outgoing, &after_return), &environment);
    ASSERT_EQ(outgoing.size(), 1u);
    std::thread other([&] {
        ThreadHost visited;
        const HostBinding visited_binding(visited);
        const std::coroutine_handle<> visitor = outgoing.front();
        outgoing.clear();
        visitor.resume();
    });
    // While the task runs over there.
    scope.cancel(CancelReason::draining);
    other.join();
    ASSERT_EQ(outgoing.size(), 1u);
    EXPECT_EQ(after_return, CancelReason::none);
    outgoing.front().resume();
    EXPECT_EQ(after_return, CancelReason::draining);
    home.collect_frames();
    EXPECT_EQ(home.frames.live_frames(), 0u);
}

Task<> yields(int times) {
    for (int i = 0; i < times; ++i) {
        co_await yield_now();
    }
}

TEST(CrossThread, Law12HostsOnSeveralThreadsShareNothing) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([] {
            ThreadHost host;
            {
                const HostBinding binding(host);
                for (int task = 0; task < 20; ++task) {
                    spawn(host, yields(200));
                }
            }
            EXPECT_EQ(host.run_ready(), 4000u);
            EXPECT_EQ(host.frames.live_frames(), 0u);
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace
