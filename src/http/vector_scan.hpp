#pragma once

#include "http/line_ends.hpp"
#include "http/portable_scan.hpp"
#include "http/vector_block.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

#if defined(FERRULE_HAS_VECTOR_BLOCK)

// What PortableScan does, on 32 bytes at a time: most of what is looked for ends within them, so that how long it is is
// no branch to be mistaken about.
//
// Nothing outside of [floor, end) is read: what is loaded at the end begins before, and what was passed is shifted out.
struct VectorScan {
    // Whole lines are found faster: see read_whole_lines.
    using Lines = LineEnds;

    static const char* token_end(const char* floor, const char* at, const char* end) noexcept {
        // The characters of a token that plain names do not have are so rare that each may cost a step.
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
    static const char* plain_host_end(const char* floor, const char* at, const char* end) noexcept {
        return find<not_in_plain_host>(plain_host_character, floor, at, end);
    }
    // Nobody asks where another one is, so that pieces may overlap: of short texts, too, few are gone through byte by
    // byte.
    static bool are_value_characters(std::string_view text) noexcept {
        const char* const begin = text.data();
        const char* const end = begin + text.size();
        if (end - begin < word_size) return PortableScan::are_value_characters(text);
        if (end - begin < block_size) return mask_of(not_in_value(load_words(begin, end - word_size))) == 0;
        Block others = not_in_value(load_block(end - block_size));
        for (const char* at = begin; end - at > block_size; at += block_size) others |= not_in_value(load_block(at));
        return mask_of(others) == 0;
    }

private:
    static constexpr std::ptrdiff_t step_size = 2 * block_size;

    static Block not_in_plain_name(Block bytes) noexcept { return ~are_plain_name(bytes); }
    static Block not_in_plain_host(Block bytes) noexcept { return ~(are_plain_name(bytes) | are(bytes, '.')); }
    static Block not_in_value(Block bytes) noexcept {
        return (in_range(bytes, 0, 0x1f) & ~are(bytes, '\t')) | are(bytes, 0x7f);
    }
    static Block not_in_target(Block bytes) noexcept { return ~in_range(bytes, 0x21, 0x7e) | are(bytes, '#'); }

    template <Block (*stops)(Block)>
    static const char* find(CharacterClass wanted, const char* floor, const char* at, const char* end) noexcept {
        if (end - floor < step_size) [[unlikely]] {
            while (at != end && is(wanted, *at)) ++at;
            return at;
        }
        const char* const last = end - step_size;
        while (at < end) {
            const char* const from = at < last ? at : last;
            const std::uint32_t mask =
                (mask_of(stops(load_block(from))) | mask_of(stops(load_block(from + block_size))) << block_size) >>
                (at - from);
            if (mask != 0) return at + __builtin_ctz(mask);
            at = from + step_size;
        }
        return end;
    }
};

#else

using VectorScan = PortableScan;

#endif

}  // namespace ferrule::inline v0::http
