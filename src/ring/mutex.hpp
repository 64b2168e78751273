#pragma once

#include <ferrule/ring/kernel.hpp>

#include <atomic>
#include <cstdint>

namespace ferrule::inline v0 {

/// A mutex whose waiters wait through the seam (futex(7)): for what is locked while the kernel is called, where another
/// thread of a simulated kernel may get its turn. Not recursive. As std::mutex.
class Mutex {
public:
    explicit Mutex(Kernel& kernel) noexcept : kernel_(&kernel) {}
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void lock() noexcept {
        std::uint32_t free = unlocked;
        if (word_.compare_exchange_strong(free, locked, std::memory_order_acquire, std::memory_order_relaxed)) return;
        while (word_.exchange(contended, std::memory_order_acquire) != unlocked) kernel_->futex_wait(word_, contended);
    }
    void unlock() noexcept {
        // Who gets it may end it at once.
        Kernel& kernel = *kernel_;
        if (word_.exchange(unlocked, std::memory_order_release) == contended) kernel.futex_wake(word_, 1);
    }

private:
    static constexpr std::uint32_t unlocked = 0;
    static constexpr std::uint32_t locked = 1;
    static constexpr std::uint32_t contended = 2;  ///< somebody may wait

    Kernel* kernel_;
    std::atomic<std::uint32_t> word_{unlocked};
};

}  // namespace ferrule::inline v0
