#pragma once

#include <ferrule/assert.hpp>

#include <cstdint>

namespace ferrule::inline v0 {

/// What an entry's `user_data` says about its completion: the kind of its owner, the owner's slot, and the slot's
/// generation.
///
/// ```
///  63      56 55                    32 31                             0
///  +---------+------------------------+-------------------------------+
///  |  kind   |       generation       |             slot              |
///  +---------+------------------------+-------------------------------+
/// ```
///
/// A completion whose generation is not the slot's is stale: its owner recognises it and gives back what it carries.
/// Kind 0 is for entries whose completion nobody waits for.
struct Tag {
    static constexpr std::uint32_t generation_mask = 0xff'ffff;

    std::uint8_t kind = 0;
    std::uint32_t generation = 0;  ///< 24 bits
    std::uint32_t slot = 0;

    /// The tag as a `user_data` value.
    [[nodiscard]] constexpr std::uint64_t encode() const noexcept {
        return std::uint64_t{kind} << 56 | std::uint64_t{generation & generation_mask} << 32 | slot;
    }

    /// The tag in a completion's `user_data`.
    [[nodiscard]] static constexpr Tag decode(std::uint64_t user_data) noexcept {
        return {static_cast<std::uint8_t>(user_data >> 56),
                static_cast<std::uint32_t>(user_data >> 32) & generation_mask, static_cast<std::uint32_t>(user_data)};
    }
};

}  // namespace ferrule::inline v0
