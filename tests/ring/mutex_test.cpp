#include <ferrule/ring/kernel.hpp>

#include "ring/mutex.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace ferrule {
namespace {

TEST(Mutex, OneThreadAtATimeHasIt) {
    Kernel& kernel = linux_kernel();
    Mutex mutex(kernel);
    constexpr int thread_count = 4;
    constexpr std::uint64_t turns = 20'000;
    std::uint64_t counted = 0;
    std::vector<std::unique_ptr<ThreadHandle>> threads;
    for (int index = 0; index < thread_count; ++index) {
        threads.push_back(kernel.start_thread("counter", [&] {
            for (std::uint64_t turn = 0; turn < turns; ++turn) {
                const std::lock_guard lock(mutex);
                ++counted;
            }
        }));
    }
    threads.clear();
    EXPECT_EQ(counted, thread_count * turns);
}

TEST(Mutex, WhoWaitsGetsItWhenItIsUnlocked) {
    Kernel& kernel = linux_kernel();
    Mutex mutex(kernel);
    std::atomic<std::uint32_t> waits{0};
    mutex.lock();
    bool had = false;
    const auto thread = kernel.start_thread("waiter", [&] {
        waits.store(1);
        kernel.futex_wake(waits, 1);
        const std::lock_guard lock(mutex);
        had = true;
    });
    while (waits.load() == 0) kernel.futex_wait(waits, 0);
    EXPECT_FALSE(had);
    mutex.unlock();
    thread->join();
    EXPECT_TRUE(had);
}

}  // namespace
}  // namespace ferrule
