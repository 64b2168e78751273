// Counts what the global operator new is asked for: this program replaces it.
#include <ferrule/task/channel.hpp>
#include <ferrule/task/event.hpp>
#include <ferrule/task/gate.hpp>
#include <ferrule/task/mutex.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/select.hpp>
#include <ferrule/task/semaphore.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/stream.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/when_any.hpp>

#include "task_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <utility>

namespace {
std::size_t allocations = 0;
}  // namespace

void* operator new(std::size_t bytes) {
    ++allocations;
    if (void* memory = std::malloc(bytes)) {
        return memory;
    }
    throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    ++allocations;
    const auto align = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(align, (bytes + align - 1) / align * align)) {
        return memory;
    }
    throw std::bad_alloc();
}
// Not inlined: GCC would take the pair of a caller's new and this free for a mismatch.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}

namespace {

using namespace ferrule;

/// A wait that ends when the test says so, without memory of its own.
struct Pause {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) const noexcept { *slot = handle; }
    void await_resume() const noexcept {}
    std::coroutine_handle<>* slot;
};

Task<int> number(std::coroutine_handle<>* slot) {
    co_await Pause{slot};
    co_return 1;
}

Task<> request(std::coroutine_handle<>* slots) {
    const Environment& environment = co_await this_environment();
    CancelScope scope(environment.scope);
    const int alone = co_await with_scope(scope, number(&slots[0]));
    const auto both = co_await when_all(number(&slots[0]), number(&slots[1]));
    const auto any = co_await when_any(number(&slots[0]), number(&slots[1]));
    TaskGroup group(environment);
    EXPECT_EQ(alone + std::get<0>(both) + std::get<1>(both) + static_cast<int>(any.index()), 3);
    co_await group.join();
}

void serve(ThreadHost& host, std::coroutine_handle<>* slots) {
    spawn(host, request(slots));
    slots[0].resume();
    for (int round = 0; round < 2; ++round) {
        slots[0].resume();
        slots[1].resume();
    }
}

TEST(Allocation, Law1SteadyStateAllocatesNothing) {
    ThreadHost host;
    const HostBinding binding(host);
    std::coroutine_handle<> slots[2];
    serve(host, slots);
    const std::uint64_t peak = host.frames.peak_bytes();
    const std::size_t before = allocations;
    for (int i = 0; i < 1000; ++i) {
        serve(host, slots);
    }
    EXPECT_EQ(allocations, before);
    EXPECT_EQ(host.frames.peak_bytes(), peak);
    EXPECT_EQ(host.frames.live_frames(), 0u);
}

/// A host whose ready list takes no memory: that of ThreadHost does now and then.
class FixedHost final : public Host {
public:
    ~FixedHost() override = default;

    void run_ready() {
        while (first_ != last_) {
            inline_budget = 4;
            if (const auto handle = std::exchange(ready_[first_++ % ready_.size()], nullptr)) handle.resume();
        }
    }
    void resume_later(std::coroutine_handle<> handle) noexcept override {
        ASSERT_LT(last_ - first_, ready_.size());
        ready_[last_++ % ready_.size()] = handle;
    }
    void forget(std::coroutine_handle<> handle) noexcept override {
        for (auto& waiting : ready_) {
            if (waiting == handle) waiting = nullptr;
        }
    }
    void frame_home(void*, std::uint32_t) noexcept override {}
    void fault(std::exception_ptr) noexcept override { ADD_FAILURE(); }
    void arm_deadline(CancelScope&, std::uint64_t) noexcept override {}
    void disarm_deadline(CancelScope&) noexcept override {}
    std::uint64_t now_ns() const noexcept override { return 0; }

private:
    std::array<std::coroutine_handle<>, 64> ready_{};
    std::size_t first_ = 0;
    std::size_t last_ = 0;
};

struct Shared {
    Mutex mutex;
    Semaphore semaphore{2};
    Event event;
    Gate gate;
    Channel<int> channel{3};
    int received = 0;
};

Stream<int> received_by(Shared* shared) {
    while (const auto item = co_await shared->channel.receive()) co_yield *item;
}

Task<> receives(Shared* shared) {
    auto stream = received_by(shared);
    while (const auto item = co_await stream.next()) ++shared->received;
}

Task<> contends(Shared* shared, int rounds) {
    const auto inside = shared->gate.hold();
    for (int round = 0; round < rounds; ++round) {
        {
            const auto units = co_await shared->semaphore.acquire(1 + static_cast<std::uint32_t>(round) % 2);
            const auto guard = co_await shared->mutex.lock();
            const auto sent = co_await shared->channel.send(round);
            EXPECT_TRUE(units && guard && sent);
        }
        shared->event.set();
        shared->event.reset();
        const auto first = co_await select(shared->event.wait(), shared->channel.send(round), shared->mutex.lock());
        EXPECT_TRUE(first.index() != 1 || std::get<1>(first));
    }
}

Task<> closes(Shared* shared) {
    const auto closed = co_await shared->gate.close();
    EXPECT_TRUE(closed);
    shared->channel.close();
}

void contend(FixedHost& host, int rounds) {
    Shared shared;
    for (int task = 0; task < 2; ++task) spawn(host, receives(&shared));
    for (int task = 0; task < 6; ++task) spawn(host, contends(&shared, rounds));
    spawn(host, closes(&shared));
    host.run_ready();
    EXPECT_TRUE(shared.gate.closed());
    EXPECT_GE(shared.received, 6 * rounds);
    EXPECT_EQ(shared.semaphore.available(), 2u);
}

TEST(Allocation, Law1CoordinationAllocatesNothingContendedOrNot) {
    FixedHost host;
    const HostBinding binding(host);
    contend(host, 100);
    const std::uint64_t peak = host.frames.peak_bytes();
    const std::size_t before = allocations;
    // But for the memory of the channel's items, once.
    contend(host, 1000);
    EXPECT_EQ(allocations, before + 1);
    EXPECT_EQ(host.frames.peak_bytes(), peak);
    EXPECT_EQ(host.frames.live_frames(), 0u);
}

}  // namespace
