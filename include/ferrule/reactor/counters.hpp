#pragma once

#include <atomic>
#include <cstdint>

namespace ferrule::inline v0 {

/// A number that its reactor's thread counts and that any thread may read. Counting is a plain load and store, never a
/// locked operation: there is one writer. A reader sees some recent value.
class Counter {
public:
    /// Adds. Owner's thread only.
    void add(std::uint64_t amount = 1) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }
    /// Subtracts. Owner's thread only.
    void subtract(std::uint64_t amount = 1) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
    }
    /// Sets. Owner's thread only.
    void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
    /// The value. Any thread.
    [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{0};
};

/// What a reactor counts about itself. Any thread may read.
struct ReactorCounters {
    Counter passes;             ///< turns of the loop
    Counter sleeps;             ///< turns that were ready to block in the kernel
    Counter completions;        ///< completions dispatched
    Counter stale_completions;  ///< completions whose slot had moved on
    Counter overflows;          ///< times the completion queue was found overflowed
    Counter wakes;              ///< wake-ups by another thread
    Counter messages;           ///< mailbox messages run
    Counter deadlines;          ///< timers that fired
    Counter operations;         ///< operation slots in use now
    Counter yields;             ///< times a coroutine was made to yield because its budget for the pass was used up
    Counter faults;             ///< exceptions that left a spawned task
};

}  // namespace ferrule::inline v0
