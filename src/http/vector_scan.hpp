#pragma once

#include "http/portable_scan.hpp"

#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace ferrule::inline v0::http {

#if defined(__SSE2__) || (defined(__ARM_NEON) && defined(__aarch64__))

// What PortableScan does, on 16 bytes at a time: with SSE2, which every x86-64 has, and NEON, which every arm64 has.
// The comparisons are the compiler's vectors; only the way from a vector to the first byte is each machine's own.
//
// Nothing outside of [floor, end) is read: a block at the end is loaded from before, and what was passed is shifted
// out.
struct VectorScan {
    static const char* token_end(const char* floor, const char* at, const char* end) noexcept {
        // Names are letters, digits and `-`, which three ranges find. The other characters of a token are so rare that
        // each may cost a block.
        for (;;) {
            at = find<not_in_plain_name>(token_character, floor, at, end);
            if (at == end || !is(token_character, *at)) return at;
            ++at;
        }
    }
    static const char* value_end(const char* floor, const char* at, const char* end) noexcept {
        return find<not_in_value>(value_character, floor, at, end);
    }
    static const char* target_end(const char* floor, const char* at, const char* end) noexcept {
        return find<not_in_target>(target_character, floor, at, end);
    }

private:
    using Block [[gnu::vector_size(16)]] = signed char;
    static constexpr std::ptrdiff_t block_size = sizeof(Block);

    static constexpr Block all(signed char byte) noexcept {
        return Block{byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte};
    }
    static Block load(const char* at) noexcept {
        Block block;
        std::memcpy(&block, at, sizeof block);
        return block;
    }

    // Bytes from 0x80 on are negative here, and so outside of every range.
    static Block not_in_plain_name(Block bytes) noexcept {
        const Block lower = bytes | all(0x20);
        const Block letter = (lower >= all('a')) & (lower <= all('z'));
        const Block digit = (bytes >= all('0')) & (bytes <= all('9'));
        return ~(letter | digit | (bytes == all('-')));
    }
    static Block not_in_value(Block bytes) noexcept {
        const Block control = (bytes >= all(0)) & (bytes < all(0x20)) & (bytes != all('\t'));
        return control | (bytes == all(0x7f));
    }
    static Block not_in_target(Block bytes) noexcept {
        return (bytes <= all(0x20)) | (bytes == all(0x7f)) | (bytes == all('#'));
    }

    // A bit, or on arm64 four, for each byte of a block that is all ones.
#if defined(__SSE2__)
    using Mask = std::uint32_t;
    static constexpr int bits_per_byte = 1;
    static Mask mask_of(Block found) noexcept {
        return static_cast<Mask>(_mm_movemask_epi8(reinterpret_cast<__m128i>(found)));
    }
    static int first(Mask mask) noexcept {
        return __builtin_ctz(mask);
    }
#else
    using Mask = std::uint64_t;
    static constexpr int bits_per_byte = 4;
    static Mask mask_of(Block found) noexcept {
        const uint8x8_t halves = vshrn_n_u16(vreinterpretq_u16_s8(reinterpret_cast<int8x16_t>(found)), 4);
        return vget_lane_u64(vreinterpret_u64_u8(halves), 0);
    }
    static int first(Mask mask) noexcept {
        return __builtin_ctzll(mask) / bits_per_byte;
    }
#endif

    template <Block (*stops)(Block)>
    static const char* find(CharacterClass wanted, const char* floor, const char* at, const char* end) noexcept {
        for (; end - at >= block_size; at += block_size) {
            const Mask mask = mask_of(stops(load(at)));
            if (mask != 0) return at + first(mask);
        }
        if (at == end) return end;
        if (end - floor < block_size) {
            while (at != end && is(wanted, *at)) ++at;
            // A plain name ends before its class does; the caller looks at where it stops, and goes on.
            return at;
        }
        const std::ptrdiff_t passed = block_size - (end - at);
        const Mask mask = mask_of(stops(load(end - block_size))) >> (passed * bits_per_byte);
        return mask != 0 ? at + first(mask) : end;
    }
};

#else

using VectorScan = PortableScan;

#endif

}  // namespace ferrule::inline v0::http
