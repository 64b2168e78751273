#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/head_state.hpp>
#include <ferrule/http/target.hpp>

#include "http/characters.hpp"

#include <string_view>

namespace ferrule::inline v0::http {

// HeadState::facts.
enum Fact : std::uint16_t {
    has_host = 1,
    has_length = 2,
    has_coding = 4,  // which is `chunked`
    says_close = 8,
    says_keep_alive = 16,
    says_upgrade = 32,
    has_upgrade = 64,
    expects_100 = 128,
};

// RFC 9110, section 8.6, and nothing of the leniency that it allows: 1*DIGIT, once, up to 2^63-1.
inline Refusal read_length(detail::HeadState& state, std::string_view value) noexcept {
    if (state.facts & has_length) return Refusal::length_repeated;
    if (state.facts & has_coding) return Refusal::coding_and_length;
    if (value.empty()) return Refusal::length_malformed;
    constexpr std::uint64_t most = ~std::uint64_t{0} >> 1;
    std::uint64_t length = 0;
    for (const char letter : value) {
        if (!is(digit_character, letter)) return Refusal::length_malformed;
        const std::uint64_t digit = digit_value(letter);
        if (length > (most - digit) / 10) return Refusal::length_too_large;
        length = length * 10 + digit;
    }
    if (state.behind_proxy && value.size() > 1 && value.front() == '0') return Refusal::length_malformed;
    state.content_length = length;
    state.facts |= has_length;
    return Refusal::none;
}

// RFC 9112, sections 6.1 and 6.3: `chunked` alone is known here. A list that does not end with it, or has it twice,
// cannot be framed by anyone; another list of codings could be, by somebody else.
inline Refusal read_coding(detail::HeadState& state, std::string_view value) noexcept {
    if (state.version == Version::http_1_0) return Refusal::coding_in_http_1_0;
    if (state.facts & has_coding) return Refusal::coding_repeated;
    if (state.facts & has_length) return Refusal::coding_and_length;
    constexpr std::string_view chunked = "chunked";
    if (!same_name(value, chunked)) {
        bool is_last = false;
        do {
            if (is_last) return Refusal::coding_malformed;
            const std::size_t comma = value.find(',');
            const std::string_view coding = trimmed(value.substr(0, comma));
            if (!is_token(coding)) return Refusal::coding_malformed;
            is_last = same_name(coding, chunked);
            value = comma == std::string_view::npos ? std::string_view{} : value.substr(comma + 1);
            if (comma != std::string_view::npos && value.empty()) return Refusal::coding_malformed;
        } while (!value.empty());
        return is_last ? Refusal::coding_unknown : Refusal::coding_malformed;
    }
    state.facts |= has_coding;
    return Refusal::none;
}

inline void read_connection(detail::HeadState& state, std::string_view value) noexcept {
    // What nearly all clients send, first.
    if (same_name(value, "keep-alive")) {
        state.facts |= says_keep_alive;
    } else {
        if (has_token(value, "close")) state.facts |= says_close;
        if (has_token(value, "keep-alive")) state.facts |= says_keep_alive;
        if (has_token(value, "upgrade")) state.facts |= says_upgrade;
    }
}

// RFC 9110, section 10.1.1. An HTTP/1.0 client cannot mean `100-continue`, and is not held to it.
inline Refusal read_expectation(detail::HeadState& state, std::string_view value) noexcept {
    if (!same_name(value, "100-continue")) return Refusal::expectation_unknown;
    if (state.version == Version::http_1_1) state.facts |= expects_100;
    return Refusal::none;
}

// Whether it is a name or an IPv4 address with a port or without, as nearly all are; others may be right too.
template <class Scan>
bool is_plain_host(const char* floor, std::string_view value) noexcept {
    constexpr std::ptrdiff_t safe_digits = 4;
    const char* const end = value.data() + value.size();
    const char* at = Scan::plain_host_end(floor, value.data(), end);
    if (at == value.data()) return false;
    if (at == end) return true;
    if (*at != ':' || end - at > safe_digits + 1) return false;
    while (++at != end)
        if (!is(digit_character, *at)) return false;
    return true;
}

template <class Scan>
Refusal read_host(detail::HeadState& state, const char* floor, std::string_view value) noexcept {
    if (state.facts & has_host) return Refusal::host_repeated;
    if (!is_plain_host<Scan>(floor, value) && !parse_authority(value)) return Refusal::host_malformed;
    state.facts |= has_host;
    return Refusal::none;
}

// Whether a field says something of the message itself, and is read at the end of its line.
constexpr bool is_read(KnownField field) noexcept {
    return field != KnownField::unknown && field <= KnownField::upgrade;
}

// Of what requests and responses have in common.
inline Refusal read_message_field(detail::HeadState& state, KnownField field, std::string_view value) noexcept {
    switch (field) {
        case KnownField::content_length:
            return read_length(state, value);
        case KnownField::transfer_encoding:
            return read_coding(state, value);
        case KnownField::connection:
            read_connection(state, value);
            break;
        case KnownField::upgrade:
            state.facts |= has_upgrade;
            break;
        default:
            break;
    }
    return Refusal::none;
}

template <class Scan>
Refusal read_request_field(detail::HeadState& state, const char* floor, KnownField field,
                           std::string_view value) noexcept {
    switch (field) {
        case KnownField::host:
            return read_host<Scan>(state, floor, value);
        case KnownField::expect:
            return read_expectation(state, value);
        default:
            return read_message_field(state, field, value);
    }
}

// Whether the connection may be used again, by the version and the Connection field.
inline bool keeps_alive(const detail::HeadState& state) noexcept {
    if (state.facts & says_close) return false;
    return state.version == Version::http_1_1 || (state.facts & says_keep_alive) != 0;
}

}  // namespace ferrule::inline v0::http
