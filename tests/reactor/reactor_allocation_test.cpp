// Counts what the global operator new is asked for: this program replaces it.
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> allocations{0};
}  // namespace

void* operator new(std::size_t bytes) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    if (void* memory = std::malloc(bytes)) {
        return memory;
    }
    throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    allocations.fetch_add(1, std::memory_order_relaxed);
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
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> request(Reactor* reactor) {
    Operation nop = submit_nop(*reactor);
    co_await with_deadline(std::move(nop), 1h);
    co_await sleep_for(1ns);
    Operation cancelled = reactor->wait_until(TimerHeap::never - 1);
    cancelled.cancel();
    co_await cancelled;
}

Task<> steady_state(Reactor* reactor) {
    for (int round = 0; round < 100; ++round) {
        co_await request(reactor);
    }
    const std::size_t before = allocations.load();
    const std::uint64_t passes = reactor->counters().passes.value();
    for (int round = 0; round < 1'000; ++round) {
        co_await request(reactor);
    }
    EXPECT_EQ(allocations.load(), before);
    EXPECT_GE(reactor->counters().passes.value(), passes + 1'000);
}

TEST(ReactorAllocation, Law1PassesAllocateNothing) {
    Reactor reactor(0, small_options());
    run_task(reactor, [&] { return steady_state(&reactor); });
}

}  // namespace
