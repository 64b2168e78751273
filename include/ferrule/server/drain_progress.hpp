#pragma once

#include <chrono>
#include <cstdint>

namespace ferrule::inline v0 {

/// How far the drain of a server has come: the sums over its reactors, each from a moment of its own.
struct DrainProgress {
    std::uint32_t reactors = 0;              ///< that have not ended
    std::uint64_t reading = 0;               ///< connections that wait for more of a message that has begun
    std::uint64_t working = 0;               ///< those whose handler works, or waits for something else
    std::uint64_t sending = 0;               ///< those whose peer has still to take what was written
    std::uint64_t closing = 0;               ///< those that their handler has let go, and that wait for the peer's FIN
    std::chrono::milliseconds time_left{0};  ///< until what is left is cancelled

    /// All of them.
    [[nodiscard]] std::uint64_t connections() const noexcept { return reading + working + sending + closing; }
};

}  // namespace ferrule::inline v0
