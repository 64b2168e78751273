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

/// A number that goes up and down and may be below zero; as Counter otherwise.
class Gauge {
public:
    /// Adds. Owner's thread only.
    void add(std::int64_t amount = 1) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }
    /// Subtracts. Owner's thread only.
    void subtract(std::int64_t amount = 1) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
    }
    /// Sets. Owner's thread only.
    void set(std::int64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
    /// The value. Any thread.
    [[nodiscard]] std::int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::int64_t> value_{0};
};

}  // namespace ferrule::inline v0
