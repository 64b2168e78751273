#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

// What JsonWriter does with each text and each number: the parts that have to be seen by the compiler to be fast.
namespace ferrule::inline v0::http::detail {

// ---- Texts ----

/// Whether a byte stands for itself between quotation marks (RFC 8259, section 7), and needs no look at its neighbours
/// as those of UTF-8 sequences do.
[[nodiscard]] constexpr bool is_plain(char character) noexcept {
    const auto byte = static_cast<unsigned char>(character);
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

template <class Word>
[[nodiscard]] Word load(const char* from) noexcept {
    Word word;
    std::memcpy(&word, from, sizeof(word));
    return word;
}

/// Whether all bytes of a word are plain. Each term has a byte's highest bit set where the byte is not plain, and above
/// such a one perhaps where it is: exact for the word.
template <class Word>
[[nodiscard]] constexpr bool all_plain(Word word) noexcept {
    constexpr Word ones = static_cast<Word>(0x0101'0101'0101'0101);
    const Word found = word | (word - ones * 0x20) | ((word ^ ones * '"') - ones) | ((word ^ ones * '\\') - ones);
    return (found & (ones * 0x80)) == 0;
}

/// How many of the bytes are plain, from the first on, byte by byte.
[[nodiscard]] inline std::size_t count_plain(const char* from, std::size_t size) noexcept {
    std::size_t count = 0;
    while (count < size && is_plain(from[count])) ++count;
    return count;
}

/// Copies up to 7 bytes: as `copy_plain`.
[[nodiscard, gnu::always_inline]] inline std::size_t copy_few_plain(char* to, const char* from,
                                                                    std::size_t size) noexcept {
    if (size >= 4) {
        const auto head = load<std::uint32_t>(from);
        const auto tail = load<std::uint32_t>(from + size - 4);
        std::memcpy(to, &head, 4);
        std::memcpy(to + size - 4, &tail, 4);
        if (all_plain(head | std::uint64_t{tail} << 32)) [[likely]]
            return size;
        return count_plain(from, size);
    }
    if (size == 0) return 0;
    const char first = from[0];
    const char middle = from[size / 2];
    const char last = from[size - 1];
    to[0] = first;
    to[size / 2] = middle;
    to[size - 1] = last;
    if (is_plain(first) && is_plain(middle) && is_plain(last)) [[likely]]
        return size;
    return count_plain(from, size);
}

/// Eight bytes at a time, on any machine.
struct PortableText {
    /// Copies the bytes up to the first that is not plain, and returns how many those are. What lies behind them in the
    /// first `size` bytes of the destination may be overwritten.
    [[nodiscard]] static std::size_t copy_plain(char* to, const char* from, std::size_t size) noexcept {
        if (size < 8) return copy_few_plain(to, from, size);
        std::size_t done = 0;
        for (; size - done >= 8; done += 8) {
            const auto word = load<std::uint64_t>(from + done);
            std::memcpy(to + done, &word, 8);
            if (!all_plain(word)) [[unlikely]]
                return done + count_plain(from + done, 8);
        }
        // The last eight bytes once more rather than the rest one by one.
        const auto word = load<std::uint64_t>(from + size - 8);
        std::memcpy(to + size - 8, &word, 8);
        if (!all_plain(word)) [[unlikely]]
            return done + count_plain(from + done, size - done);
        return size;
    }
};

#if defined(__SSE2__)
/// Sixteen bytes at a time: with the same results.
struct WideText {
    /// A bit for each byte that is not plain.
    [[nodiscard]] static unsigned special(__m128i block) noexcept {
        // Compared with their signs, the bytes of UTF-8 sequences are less than a space, too.
        const __m128i low = _mm_cmpgt_epi8(_mm_set1_epi8(0x20), block);
        const __m128i quote = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
        const __m128i backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'));
        return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(quote, backslash))));
    }

    /// As PortableText::copy_plain.
    [[nodiscard]] static std::size_t copy_plain(char* to, const char* from, std::size_t size) noexcept {
        if (size < 16) {
            if (size < 8) return copy_few_plain(to, from, size);
            const __m128i head = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
            const __m128i tail = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + size - 8));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(to), head);
            _mm_storel_epi64(reinterpret_cast<__m128i*>(to + size - 8), tail);
            if (special(_mm_unpacklo_epi64(head, tail)) == 0) [[likely]]
                return size;
            return count_plain(from, size);
        }
        std::size_t done = 0;
        for (; size - done >= 16; done += 16) {
            const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + done));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + done), block);
            if (const unsigned found = special(block); found != 0) [[unlikely]]
                return done + static_cast<unsigned>(std::countr_zero(found));
        }
        const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + size - 16));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + size - 16), block);
        if (const unsigned found = special(block); found != 0) [[unlikely]]
            return size - 16 + static_cast<unsigned>(std::countr_zero(found));
        return size;
    }
};
using FastText = WideText;
#else
using FastText = PortableText;
#endif

// ---- Numbers ----

/// "00" to "99".
inline constexpr std::array<char, 200> digit_pairs = [] {
    std::array<char, 200> pairs{};
    for (std::size_t number = 0; number < 100; ++number) {
        pairs[number * 2] = static_cast<char>('0' + number / 10);
        pairs[number * 2 + 1] = static_cast<char>('0' + number % 10);
    }
    return pairs;
}();

inline char* write_pair(char* at, std::uint32_t number) noexcept {
    std::memcpy(at, digit_pairs.data() + std::size_t{number} * 2, 2);
    return at + 2;
}
/// Exactly four digits.
inline char* write_four(char* at, std::uint32_t number) noexcept {
    return write_pair(write_pair(at, number / 100), number % 100);
}
/// As many digits as a number below 10,000 has.
inline char* write_up_to_four(char* at, std::uint32_t number) noexcept {
    if (number < 100) {
        if (number >= 10) return write_pair(at, number);
        *at = static_cast<char>('0' + number);
        return at + 1;
    }
    if (number >= 1000) return write_four(at, number);
    *at = static_cast<char>('0' + number / 100);
    return write_pair(at + 1, number % 100);
}
/// As many digits as a number below 100,000,000 has.
inline char* write_up_to_eight(char* at, std::uint32_t number) noexcept {
    if (number < 10'000) return write_up_to_four(at, number);
    return write_four(write_up_to_four(at, number / 10'000), number % 10'000);
}
inline char* write_eight(char* at, std::uint32_t number) noexcept {
    return write_four(write_four(at, number / 10'000), number % 10'000);
}
inline constexpr std::uint64_t hundred_million = 100'000'000;
/// As many digits as a number of nine or more has.
inline char* write_many(char* at, std::uint64_t number) noexcept {
    const std::uint64_t high = number / hundred_million;
    const auto low = static_cast<std::uint32_t>(number % hundred_million);
    if (high < hundred_million) return write_eight(write_up_to_eight(at, static_cast<std::uint32_t>(high)), low);
    at = write_up_to_four(at, static_cast<std::uint32_t>(high / hundred_million));
    return write_eight(write_eight(at, static_cast<std::uint32_t>(high % hundred_million)), low);
}

/// The most that `write_integer` writes.
inline constexpr std::size_t integer_bytes_max = 20;

/// Writes the number in decimal digits; returns where they end.
template <std::integral Number>
char* write_integer(char* at, Number number) noexcept {
    auto magnitude = static_cast<std::uint64_t>(number);
    if constexpr (std::signed_integral<Number>) {
        if (number < 0) {
            *at++ = '-';
            magnitude = 0 - magnitude;
        }
    }
    if (magnitude < hundred_million) return write_up_to_eight(at, static_cast<std::uint32_t>(magnitude));
    return write_many(at, magnitude);
}

}  // namespace ferrule::inline v0::http::detail
