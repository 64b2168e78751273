#pragma once

#include <ferrule/http/known_field.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ferrule::inline v0::http {

// In the order of the enumeration, behind `unknown`.
inline constexpr std::string_view known_field_names[] = {
    "connection",
    "content-length",
    "expect",
    "host",
    "transfer-encoding",
    "upgrade",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "etag",
    "expires",
    "forwarded",
    "from",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-event-id",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
};

inline constexpr std::size_t known_field_count = sizeof known_field_names / sizeof known_field_names[0];
static_assert(known_field_count == static_cast<std::size_t>(KnownField::x_requested_with));
inline constexpr std::size_t known_field_name_size_max = 32;
inline constexpr std::size_t known_field_name_size_min = 2;

// A perfect hash of the names: of their size, their first four and their last four letters in lower case; of names of
// two and three, of two each. The multiplier was found by trying; that no two names meet is asserted below.
inline constexpr unsigned known_field_hash_bits = 9;
constexpr std::uint32_t known_field_hash(std::uint32_t first, std::uint32_t last, std::size_t size) noexcept {
    constexpr std::uint64_t multiplier = 0xcfc915144b8d0e7;
    const std::uint64_t key = (std::uint64_t{last} << 32 | first) + size;
    return static_cast<std::uint32_t>(key * multiplier >> (64 - known_field_hash_bits));
}

// Letters as a word, the first one lowest, as a little-endian machine loads them.
constexpr std::uint32_t word_of(std::string_view letters) noexcept {
    std::uint32_t word = 0;
    for (std::size_t at = letters.size(); at > 0; --at) word = word << 8 | static_cast<unsigned char>(letters[at - 1]);
    return word;
}
static_assert(std::endian::native == std::endian::little);

struct KnownFieldTable {
    std::array<std::uint8_t, 1 << known_field_hash_bits> by_hash{};  // a KnownField
    struct Name {
        std::uint32_t first = 0;
        std::uint32_t last = 0;
        std::size_t size = 0;
        std::array<char, known_field_name_size_max> letters{};
    };
    std::array<Name, known_field_count + 1> names{};  // by KnownField
    bool perfect = true;
};

constexpr KnownFieldTable make_known_field_table() {
    KnownFieldTable table;
    for (std::size_t field = 1; field <= known_field_count; ++field) {
        const std::string_view name = known_field_names[field - 1];
        const std::size_t letters = name.size() < 4 ? 2 : 4;
        const std::uint32_t first = word_of(name.substr(0, letters));
        const std::uint32_t last = word_of(name.substr(name.size() - letters));
        std::uint8_t& slot = table.by_hash[known_field_hash(first, last, name.size())];
        table.perfect = table.perfect && slot == 0 && name.size() >= known_field_name_size_min;
        slot = static_cast<std::uint8_t>(field);
        table.names[field] = {first, last, name.size(), {}};
        for (std::size_t at = 0; at < name.size(); ++at) table.names[field].letters[at] = name[at];
    }
    return table;
}

inline constexpr KnownFieldTable known_field_table = make_known_field_table();
static_assert(known_field_table.perfect);

// The letters at a place, which are a token's, in lower case. No two characters of a token that differ in that bit only
// are a known name's but the two cases of a letter.
template <class Word>
Word lower_word(const char* at) noexcept {
    constexpr auto bits = static_cast<Word>(0x2020202020202020);
    Word word;
    std::memcpy(&word, at, sizeof word);
    return word | bits;
}

// The field of a name that is a token; or `unknown`, where it is none, but for the one that has CR for `-`.
inline KnownField find_known_field(const char* name, std::size_t size) noexcept {
    std::uint32_t first;
    std::uint32_t last;
    if (size >= 4) [[likely]] {
        first = lower_word<std::uint32_t>(name);
        last = lower_word<std::uint32_t>(name + size - 4);
    } else if (size >= known_field_name_size_min) {
        first = lower_word<std::uint16_t>(name);
        last = lower_word<std::uint16_t>(name + size - 2);
    } else {
        return KnownField::unknown;
    }
    const std::uint8_t field = known_field_table.by_hash[known_field_hash(first, last, size)];
    const KnownFieldTable::Name& known = known_field_table.names[field];
    std::uint64_t difference = (first ^ known.first) | (last ^ known.last) | (size ^ known.size);
    if (difference != 0) return KnownField::unknown;
    const auto differ = [name, &known](std::size_t at) {
        std::uint64_t word;
        std::memcpy(&word, known.letters.data() + at, sizeof word);
        return lower_word<std::uint64_t>(name + at) ^ word;
    };
    // Four at its beginning and four at its end were compared.
    if (size > 8) {
        difference = differ(size - 8);
        for (std::size_t at = 0; at + 8 < size; at += 8) difference |= differ(at);
    }
    return difference == 0 ? KnownField{field} : KnownField::unknown;
}

}  // namespace ferrule::inline v0::http
