// Counts what the global operator new is asked for: this program replaces it.
#include <ferrule/task/scope.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/when_any.hpp>

#include "task_fixture.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <new>

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

}  // namespace
