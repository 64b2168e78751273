#pragma once

#include <ferrule/sim/random.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ferrule_test {

/// The bytes of one stream: what stands at a position follows from the key and the position, so that a byte that is
/// lost, doubled, changed or another stream's is seen wherever it comes.
class Pattern {
public:
    explicit Pattern(std::uint64_t key) noexcept : key_(ferrule::sim::Random::mix(key)) {}

    /// Writes the bytes of the stream from `position` on.
    void fill(std::span<std::byte> into, std::uint64_t position) const noexcept {
        for (std::size_t done = 0; done < into.size();) {
            const std::uint64_t word = word_at((position + done) / word_bytes);
            const auto offset = static_cast<std::size_t>((position + done) % word_bytes);
            const std::size_t count = std::min(word_bytes - offset, into.size() - done);
            for (std::size_t index = 0; index < count; ++index) into[done + index] = byte_of(word, offset + index);
            done += count;
        }
    }
    /// `count` bytes of the stream.
    [[nodiscard]] std::string text(std::uint64_t position, std::size_t count) const {
        std::string text(count, '\0');
        fill(std::as_writable_bytes(std::span(text)), position);
        return text;
    }
    /// Where `bytes` first differs from the stream at `position`; nothing when it does not.
    [[nodiscard]] std::optional<std::size_t> mismatch(std::span<const std::byte> bytes,
                                                      std::uint64_t position) const noexcept {
        for (std::size_t done = 0; done < bytes.size();) {
            const std::uint64_t word = word_at((position + done) / word_bytes);
            const auto offset = static_cast<std::size_t>((position + done) % word_bytes);
            const std::size_t count = std::min(word_bytes - offset, bytes.size() - done);
            for (std::size_t index = 0; index < count; ++index) {
                if (bytes[done + index] != byte_of(word, offset + index)) return done + index;
            }
            done += count;
        }
        return std::nullopt;
    }

private:
    static constexpr std::size_t word_bytes = sizeof(std::uint64_t);
    static std::byte byte_of(std::uint64_t word, std::size_t offset) noexcept {
        return static_cast<std::byte>(word >> (offset * 8));
    }
    [[nodiscard]] std::uint64_t word_at(std::uint64_t index) const noexcept {
        return ferrule::sim::Random::mix(key_ + index);
    }

    std::uint64_t key_;
};

}  // namespace ferrule_test
