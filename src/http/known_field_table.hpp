#pragma once

#include <ferrule/http/known_field.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ferrule::inline v0::http {

// In the order of the enumeration, behind `unknown`.
inline constexpr std::string_view known_field_names[] = {
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
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
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
    "transfer-encoding",
    "upgrade",
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

// A perfect hash of the names: of the size and three letters in lower case. The multiplier was found by trying; that no
// two names meet is asserted below.
inline constexpr unsigned known_field_hash_bits = 9;
constexpr std::uint32_t known_field_hash(const char* name, std::size_t size) noexcept {
    const auto letter = [name](std::size_t at) {
        return std::uint32_t{static_cast<unsigned char>(name[at])} | std::uint32_t{0x20};
    };
    const std::uint32_t key =
        static_cast<std::uint32_t>(size) | letter(size * 3 / 4) << 8 | letter(size - 1) << 16 | letter(0) << 24;
    return key * 0x5f5a8cff >> (32 - known_field_hash_bits);
}

struct KnownFieldTable {
    std::array<std::uint8_t, 1 << known_field_hash_bits> by_hash{};  // a KnownField
    std::array<std::uint8_t, known_field_count + 1> sizes{};         // of the names, by KnownField
    std::array<std::array<char, known_field_name_size_max>, known_field_count + 1> names{};  // padded with zeros
    bool perfect = true;
};

constexpr KnownFieldTable make_known_field_table() {
    KnownFieldTable table;
    for (std::size_t field = 1; field <= known_field_count; ++field) {
        const std::string_view name = known_field_names[field - 1];
        std::uint8_t& slot = table.by_hash[known_field_hash(name.data(), name.size())];
        table.perfect = table.perfect && slot == 0 && name.size() >= known_field_name_size_min;
        slot = static_cast<std::uint8_t>(field);
        table.sizes[field] = static_cast<std::uint8_t>(name.size());
        for (std::size_t at = 0; at < name.size(); ++at) table.names[field][at] = name[at];
    }
    return table;
}

inline constexpr KnownFieldTable known_field_table = make_known_field_table();
static_assert(known_field_table.perfect);

// Whether the first `size` bytes are those of a known name, but for the case of letters. The text is a token, where no
// two characters that differ in the bit of the case are a letter's or a hyphen's but the letter itself.
inline bool same_known_name(const char* text, const char* name, std::size_t size) noexcept {
    const auto differ = [text, name](auto word, std::size_t at) {
        decltype(word) one;
        decltype(word) other;
        std::memcpy(&one, text + at, sizeof one);
        std::memcpy(&other, name + at, sizeof other);
        return (one | word) ^ other;
    };
    constexpr std::uint64_t case_of_eight = 0x2020202020202020;
    if (size >= 8) {
        std::uint64_t difference = differ(case_of_eight, size - 8);
        for (std::size_t at = 0; at + 8 < size; at += 8) difference |= differ(case_of_eight, at);
        return difference == 0;
    }
    if (size >= 4) {
        constexpr std::uint32_t case_of_four = 0x20202020;
        return (differ(case_of_four, 0) | differ(case_of_four, size - 4)) == 0;
    }
    constexpr std::uint16_t case_of_two = 0x2020;
    return static_cast<std::uint16_t>(differ(case_of_two, 0) | differ(case_of_two, size - 2)) == 0;
}

// The field of a name that is a token.
inline KnownField find_known_field(const char* name, std::size_t size) noexcept {
    if (size < known_field_name_size_min) return KnownField::unknown;
    const std::uint8_t field = known_field_table.by_hash[known_field_hash(name, size)];
    const bool found =
        known_field_table.sizes[field] == size && same_known_name(name, known_field_table.names[field].data(), size);
    return found ? KnownField{field} : KnownField::unknown;
}

}  // namespace ferrule::inline v0::http
