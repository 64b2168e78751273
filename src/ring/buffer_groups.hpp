#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/version.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace ferrule::inline v0 {

/// Which buffer group ids of a ring are in use. The lowest free one is given out, so that the kernel's own table stays
/// short. The ring's owner.
class BufferGroups {
public:
    /// Ids below `first` are not given out.
    explicit BufferGroups(std::uint16_t first) noexcept : lowest_word_(first / bits) {
        FERRULE_ASSERT(first % bits == 0);
    }

    /// The lowest id that is free; none when all are in use.
    [[nodiscard]] std::optional<std::uint16_t> take() noexcept {
        for (std::size_t word = lowest_word_; word < used_.size(); ++word) {
            if (used_[word] == ~std::uint64_t{0}) continue;
            const auto bit = static_cast<std::size_t>(std::countr_one(used_[word]));
            used_[word] |= std::uint64_t{1} << bit;
            lowest_word_ = word;
            return static_cast<std::uint16_t>(word * bits + bit);
        }
        return std::nullopt;
    }

    /// This id; false when it is in use.
    [[nodiscard]] bool take(std::uint16_t group) noexcept {
        const std::uint64_t bit = std::uint64_t{1} << (group % bits);
        if ((used_[group / bits] & bit) != 0) return false;
        used_[group / bits] |= bit;
        return true;
    }

    /// The id may be given out again.
    void give_back(std::uint16_t group) noexcept {
        used_[group / bits] &= ~(std::uint64_t{1} << (group % bits));
        lowest_word_ = std::min<std::size_t>(lowest_word_, group / bits);
    }

private:
    static constexpr std::size_t bits = 64;
    static constexpr std::size_t ids = 65536;

    std::size_t lowest_word_;  // no id is free in the words before it
    std::array<std::uint64_t, ids / bits> used_{};
};

}  // namespace ferrule::inline v0
