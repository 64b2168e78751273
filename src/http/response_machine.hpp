#pragma once

#include <ferrule/http/response_parser.hpp>

#include "http/authority.hpp"
#include "http/field_lines.hpp"
#include "http/field_rules.hpp"

#include <cstring>

namespace ferrule::inline v0::http {

// ResponseParser::parse, over the way in which bytes are looked for; see RequestMachine.
template <class Scan>
struct ResponseMachine {
    static ParseState parse(ResponseParser& parser, std::string_view text, std::span<FieldPosition> fields) noexcept {
        detail::HeadState& state = parser.state_;
        const HeadBytes bytes(state, text);
        if (state.phase < at_line) {
            const ParseState line = read_status_line(parser, bytes);
            if (line != ParseState::complete) return line;
        } else if (state.phase >= is_complete) {
            return state.phase == is_complete ? ParseState::complete : ParseState::refused;
        }
        const ParseState lines = read_field_lines<Scan>(
            bytes, fields,
            [&state](KnownField field, std::string_view value) { return read_message_field(state, field, value); });
        if (lines == ParseState::complete) state.phase = is_complete;
        return lines;
    }

private:
    // `HTTP/1.1 200` and one byte more: the space before the reason, or the end of the line.
    static constexpr std::ptrdiff_t status_size = 12;

    static ParseState read_status_line(ResponseParser& parser, const HeadBytes& bytes) noexcept {
        detail::HeadState& state = parser.state_;
        const char* const base = bytes.base;
        const char* at = base + state.scanned;
        const char* const line_end = bytes.line_end(base);
        if (state.phase != in_reason) {
            if (line_end - base <= status_size) return bytes.pause_in_line(in_status, line_end, base);
            if (const Refusal refusal = read_status(parser, base); refusal != Refusal::none)
                return bytes.refuse(refusal, at);
            at = base + status_size;
            state.phase = in_reason;
        }
        at = Scan::value_end(base, at, line_end);
        if (at == line_end) return bytes.pause_in_line(in_reason, at, base);
        if (*at != '\r') return bytes.refuse(*at == '\n' ? Refusal::bare_line_feed : Refusal::status_line, at);
        if (bytes.end - at < 2) return bytes.pause(in_reason, at, base);
        if (at[1] != '\n') return bytes.refuse(Refusal::bare_carriage_return, at);
        const std::ptrdiff_t reason_size = at - base - static_cast<std::ptrdiff_t>(ResponseParser::reason_begin);
        parser.reason_size_ = static_cast<std::uint16_t>(reason_size > 0 ? reason_size : 0);
        at += 2;
        state.phase = at_line;
        state.scanned = state.line = bytes.position(at);
        return ParseState::complete;
    }

    static Refusal read_status(ResponseParser& parser, const char* at) noexcept {
        if (std::memcmp(at, "HTTP/", 5) != 0 || !is(digit_character, at[5]) || at[6] != '.' ||
            !is(digit_character, at[7]) || at[8] != ' ')
            return Refusal::status_line;
        if (at[5] != '1' || at[7] > '1') return Refusal::version_not_supported;
        parser.state_.version = at[7] == '1' ? Version::http_1_1 : Version::http_1_0;
        if (at[9] < '1' || at[9] > '9' || !is(digit_character, at[10]) || !is(digit_character, at[11]))
            return Refusal::status_line;
        parser.code_ =
            static_cast<std::uint16_t>(digit_value(at[9]) * 100 + digit_value(at[10]) * 10 + digit_value(at[11]));
        return at[12] == ' ' || at[12] == '\r' || at[12] == '\n' ? Refusal::none : Refusal::status_line;
    }
};

}  // namespace ferrule::inline v0::http
