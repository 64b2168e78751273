#include <ferrule/task/host.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/yield.hpp>

#include "task_fixture.hpp"

#include <vector>

namespace {

using namespace ferrule;
using ferrule::testing::TaskTest;

TEST(HostBinding, Nests) {
    EXPECT_EQ(Host::current(), nullptr);
    ThreadHost outer;
    ThreadHost inner;
    {
        const HostBinding first(outer);
        EXPECT_EQ(Host::current(), &outer);
        {
            const HostBinding second(inner);
            EXPECT_EQ(Host::current(), &inner);
        }
        EXPECT_EQ(Host::current(), &outer);
    }
    EXPECT_EQ(Host::current(), nullptr);
}

// Not inlined: clang leaves out the frame of a coroutine that it inlines, and frames are counted here.
[[gnu::noinline]] Task<> nothing() {
    co_return;
}

TEST(HostBinding, Law12TwoHostsInOneThreadKeepTheirFramesApart) {
    ThreadHost first;
    ThreadHost second;
    Task<> of_first;
    {
        const HostBinding binding(first);
        of_first = nothing();
    }
    {
        const HostBinding binding(second);
        const Task<> of_second = nothing();
        EXPECT_EQ(first.frames.live_frames(), 1u);
        EXPECT_EQ(second.frames.live_frames(), 1u);
        of_first.reset();
    }
    // It died while the other host was current: it went home by mail.
    EXPECT_EQ(second.frames.live_frames(), 0u);
    EXPECT_EQ(first.frames.live_frames(), 1u);
    first.collect_frames();
    EXPECT_EQ(first.frames.live_frames(), 0u);
}

class HostTest : public TaskTest {};

/// An operation that never has to wait: what a read with data at hand is.
class AtHand {
public:
    AtHand() noexcept = default;
    AtHand(const AtHand&) = delete;
    AtHand& operator=(const AtHand&) = delete;
    ~AtHand() {
        if (waiting_) {
            Host::current()->forget(waiting_);
        }
    }
    bool await_ready() const noexcept { return Host::current()->spend_inline_budget(); }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
        waiting_ = handle;
        Host::current()->resume_later(handle);
    }
    void await_resume() noexcept { waiting_ = nullptr; }

private:
    std::coroutine_handle<> waiting_;
};

Task<> never_waits(int times, char name, std::string* log) {
    for (int i = 0; i < times; ++i) {
        co_await AtHand();
        if (log != nullptr) {
            log->push_back(name);
        }
    }
}

TEST_F(HostTest, Law2TheBudgetMakesBusyTasksTakeTurns) {
    host.inline_budget_per_resume = 3;
    host.inline_budget = 0;
    std::string log;
    spawn(host, never_waits(7, 'a', &log));
    spawn(host, never_waits(7, 'b', &log));
    EXPECT_EQ(log, "");
    host.run_ready();
    // Each resumption ends one await that had to yield, and three inline.
    EXPECT_EQ(log, "aaaabbbbaaabbb");
}

TEST_F(HostTest, Law2AMillionInlineCompletions) {
    spawn(host, never_waits(1'000'000, 'a', nullptr));
    const std::size_t resumptions = host.run_ready();
    EXPECT_GE(resumptions, 1'000'000 / (host.inline_budget_per_resume + 1));
}

TEST_F(HostTest, ForgettingRemovesOneCoroutineOnly) {
    host.inline_budget = 0;
    std::string log;
    const Task<> first = never_waits(1, 'a', &log);
    Task<> second = never_waits(1, 'b', &log);
    const Task<> third = never_waits(1, 'c', &log);
    start(first);
    start(second);
    start(third);
    second.reset();
    host.run_ready();
    EXPECT_EQ(log, "ac");
}

}  // namespace
