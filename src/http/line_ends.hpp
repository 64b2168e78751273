#pragma once

#include "http/vector_block.hpp"

#include <cstddef>
#include <cstdint>

#if defined(FERRULE_HAS_VECTOR_BLOCK)

namespace ferrule::inline v0::http {

// Where the control characters of a head are, HTAB among them, as bits, 64 bytes at a time: first of all the ends of
// its lines.
//
// To look for the end of a line from where the last one ended costs what a processor needs from the first byte of a
// line to its last, one line after the other. The bits do not depend on where a line ends: they are made for many bytes
// at once, and from one line to the next it is then a few cycles.
//
// Nothing outside of [floor, end) is read.
class LineEnds {
public:
    LineEnds(const char* floor, const char* at, const char* end) noexcept
        : floor_(floor), window_(at), end_(end), controls_(read(at)) {}

    // The first control character from `at` on, which never goes back; the end, where there is none.
    [[gnu::always_inline]] const char* next(const char* at) noexcept {
        std::ptrdiff_t passed = at - window_;
        while (passed >= window_size || controls_ >> passed == 0) {
            window_ += window_size;
            if (window_ >= end_) return end_;
            if (at < window_) at = window_;
            passed = at - window_;
            controls_ = read(window_);
        }
        return at + __builtin_ctzll(controls_ >> passed);
    }

    // The first colon of a line; its end, where there is none.
    [[gnu::always_inline]] static const char* colon(const char* line, const char* line_end, const char* end) noexcept {
        // Most names are shorter than a block, and what lies behind the line may be looked at, up to the end.
        const char* at = line;
        while (end - at >= block_size) {
            const std::uint32_t mask = mask_of(are(load_block(at), ':'));
            if (mask != 0) {
                const char* const found = at + __builtin_ctz(mask);
                return found < line_end ? found : line_end;
            }
            at += block_size;
            if (at >= line_end) return line_end;
        }
        while (at < line_end && *at != ':') ++at;
        return at;
    }

private:
    static constexpr std::ptrdiff_t window_size = 64;

    static Block controls(Block bytes) noexcept { return in_range(bytes, 0, 0x1f) | are(bytes, 0x7f); }

    static std::uint64_t read_whole(const char* at) noexcept {
        const auto part = [at](int index) {
            return std::uint64_t{mask_of(controls(load_block(at + index * block_size)))} << index * block_size;
        };
        return (part(0) | part(1)) | (part(2) | part(3));
    }

    [[gnu::always_inline]] std::uint64_t read(const char* at) const noexcept {
        const std::ptrdiff_t size = end_ - at;
        if (size >= window_size) return read_whole(at);
        if (size <= 0) return 0;
        // What begins before its place: what lies there is shifted out.
        if (end_ - floor_ >= window_size) return read_whole(end_ - window_size) >> (window_size - size);
        return read_part(at, size);
    }

    [[gnu::noinline]] std::uint64_t read_part(const char* at, std::ptrdiff_t size) const noexcept {
        if (end_ - floor_ < block_size) return 0;
        std::uint64_t bits = 0;
        for (std::ptrdiff_t place = 0; place < size; place += block_size) {
            const std::ptrdiff_t passed = place + block_size > size ? place + block_size - size : 0;
            bits |= std::uint64_t{mask_of(controls(load_block(at + place - passed))) >> passed} << place;
        }
        return bits;
    }

    const char* const floor_;
    const char* window_;
    const char* const end_;
    std::uint64_t controls_;
};

}  // namespace ferrule::inline v0::http

#endif
