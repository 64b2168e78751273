#pragma once

#include <ferrule/version.hpp>

#include <cstdint>

namespace ferrule::inline v0::sim {

/// The chance of a simulation: a sequence that the seed determines on every machine and in every build (splitmix64).
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

    /// 64 random bits.
    std::uint64_t next() noexcept { return mix(state_ += 0x9e37'79b9'7f4a'7c15); }
    /// Below `limit`, which is not 0.
    std::uint64_t below(std::uint64_t limit) noexcept {
        return static_cast<std::uint64_t>((static_cast<Wide>(next()) * limit) >> 64);
    }
    /// From `first` to `last`, both included.
    std::uint64_t between(std::uint64_t first, std::uint64_t last) noexcept { return first + below(last - first + 1); }
    /// True once in `of` times on average.
    bool one_in(std::uint64_t of) noexcept { return below(of) == 0; }

    /// A hash of 64 bits that scatters well.
    static constexpr std::uint64_t mix(std::uint64_t value) noexcept {
        value = (value ^ (value >> 30)) * 0xbf58'476d'1ce4'e5b9;
        value = (value ^ (value >> 27)) * 0x94d0'49bb'1331'11eb;
        return value ^ (value >> 31);
    }

private:
    __extension__ using Wide = unsigned __int128;

    std::uint64_t state_;
};

}  // namespace ferrule::inline v0::sim
