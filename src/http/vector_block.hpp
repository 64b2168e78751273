#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__SSE2__) || (defined(__ARM_NEON) && defined(__aarch64__))
#define FERRULE_HAS_VECTOR_BLOCK 1

namespace ferrule::inline v0::http {

// Sixteen bytes at once: SSE2, which every x86-64 has, and NEON, which every arm64 has. Comparisons are the compiler's
// vectors, where every byte that fits becomes 0xff; only the way from there to bits is each machine's own.
using Block [[gnu::vector_size(16)]] = std::uint8_t;
inline constexpr std::ptrdiff_t block_size = sizeof(Block);

constexpr Block all(unsigned byte) noexcept {
    const auto one = static_cast<std::uint8_t>(byte);
    return Block{one, one, one, one, one, one, one, one, one, one, one, one, one, one, one, one};
}

inline Block load_block(const char* at) noexcept {
    Block block;
    std::memcpy(&block, at, sizeof block);
    return block;
}

// From two places, one half each.
inline constexpr std::ptrdiff_t word_size = block_size / 2;
inline Block load_words(const char* first, const char* second) noexcept {
    using Words [[gnu::vector_size(16)]] = std::uint64_t;
    std::uint64_t words[2];
    std::memcpy(&words[0], first, word_size);
    std::memcpy(&words[1], second, word_size);
    return reinterpret_cast<Block>(Words{words[0], words[1]});
}

// Which bytes lie in a range: one comparison, because what is below wraps around to the top.
inline Block in_range(Block bytes, unsigned first, unsigned last) noexcept {
    return reinterpret_cast<Block>(bytes - all(first) <= all(last - first));
}
inline Block are(Block bytes, unsigned byte) noexcept {
    return reinterpret_cast<Block>(bytes == all(byte));
}

// A bit for each byte that is 0xff, the lowest for the first.
inline std::uint32_t mask_of(Block found) noexcept {
#if defined(__SSE2__)
    return static_cast<std::uint32_t>(_mm_movemask_epi8(reinterpret_cast<__m128i>(found)));
#else
    constexpr Block bits{1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t sums = reinterpret_cast<uint8x16_t>(found & bits);
    sums = vpaddq_u8(sums, sums);
    sums = vpaddq_u8(sums, sums);
    sums = vpaddq_u8(sums, sums);
    return vgetq_lane_u16(vreinterpretq_u16_u8(sums), 0);
#endif
}

// Letters, digits and `-`: what names are made of, but for rare ones.
inline Block are_plain_name(Block bytes) noexcept {
    return in_range(bytes | all(0x20), 'a', 'z') | in_range(bytes, '0', '9') | are(bytes, '-');
}

}  // namespace ferrule::inline v0::http

#endif
