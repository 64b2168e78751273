#pragma once

#include <ferrule/version.hpp>

#include <cstdint>

namespace ferrule::inline v0 {

/// One bound, in bytes, for everything of a host that grows with its work: frames, written and carried bytes (law 7).
/// Whoever takes memory from the system for such a purpose charges it here first. Single-threaded.
class MemoryAccount {
public:
    /// `limit_bytes` 0: no bound.
    explicit MemoryAccount(std::uint64_t limit_bytes = 0) noexcept : limit_(limit_bytes) {}
    MemoryAccount(const MemoryAccount&) = delete;
    MemoryAccount& operator=(const MemoryAccount&) = delete;

    /// Counts `bytes` as taken. False, and nothing is counted, when the bound would be passed.
    [[nodiscard]] bool charge(std::uint64_t bytes) noexcept {
        if (limit_ != 0 && (bytes > limit_ || used_ > limit_ - bytes)) return false;
        used_ += bytes;
        return true;
    }
    /// Counts `bytes` that were charged as given back.
    void credit(std::uint64_t bytes) noexcept { used_ -= bytes; }

    /// Changes the bound; 0: none. What is taken already stays.
    void limit_bytes(std::uint64_t bytes) noexcept { limit_ = bytes; }
    /// The bound in bytes; 0: none.
    [[nodiscard]] std::uint64_t limit_bytes() const noexcept { return limit_; }
    /// Bytes taken now.
    [[nodiscard]] std::uint64_t used_bytes() const noexcept { return used_; }

private:
    std::uint64_t used_ = 0;
    std::uint64_t limit_;
};

}  // namespace ferrule::inline v0
