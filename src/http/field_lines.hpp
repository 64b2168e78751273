#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/head_state.hpp>

#include "http/characters.hpp"
#include "http/known_field_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

// HeadState::phase: what the next byte belongs to.
enum Phase : std::uint8_t {
    at_start,  // the first line, or an empty line before it
    in_method,
    in_target,
    in_version,
    in_reason,
    at_line,  // the first byte of a field's line
    in_name,
    in_value,  // behind the colon, up to the CRLF
    is_complete,
    is_refused,
};

// The bytes of a head that are there, cut off where the head may be no longer, and what ends the reading of them.
// Whatever is decided depends only on the bytes from the beginning of the head up to the one that decides: never on how
// many there are behind it. So a head is read alike however it arrives.
struct HeadBytes {
    HeadBytes(detail::HeadState& head, std::string_view bytes) noexcept
        : state(head), base(bytes.data()), end(base + std::min<std::size_t>(bytes.size(), head.head_bytes)) {}

    // Where the current line may be no longer: behind the byte that would be one too many.
    const char* line_end(const char* line) const noexcept {
        return end - line > state.line_bytes ? line + state.line_bytes + 1 : end;
    }

    ParseState refuse(Refusal refusal, const char* at) const noexcept {
        state.refusal = refusal;
        state.phase = is_refused;
        state.scanned = static_cast<std::uint32_t>(at - base);
        return ParseState::refused;
    }

    // More bytes are needed, unless there can be no more of this head.
    ParseState pause(Phase phase, const char* at, const char* line) const noexcept {
        if (static_cast<std::size_t>(end - base) == state.head_bytes) [[unlikely]]
            return refuse(phase < at_line ? Refusal::target_too_long : Refusal::head_too_long, at);
        state.phase = phase;
        state.scanned = static_cast<std::uint32_t>(at - base);
        state.line = static_cast<std::uint32_t>(line - base);
        return ParseState::incomplete;
    }

    // The same where a line was read up to line_end().
    ParseState pause_in_line(Phase phase, const char* at, const char* line) const noexcept {
        if (at - line > state.line_bytes) [[unlikely]]
            return refuse(phase < at_line ? Refusal::target_too_long : Refusal::field_too_long, at);
        return pause(phase, at, line);
    }

    std::uint32_t position(const char* at) const noexcept { return static_cast<std::uint32_t>(at - base); }

    detail::HeadState& state;
    const char* const base;
    const char* const end;
};

// Why a line is refused that has `letter` where its name should go on or end.
inline Refusal name_refusal(char letter, bool is_first) noexcept {
    if (letter == '\n') return Refusal::bare_line_feed;
    if (is_white_space(letter)) return is_first ? Refusal::folded_line : Refusal::space_before_colon;
    return Refusal::field_name;
}

// Reads the lines of fields, from wherever it stopped, up to the blank line and with it. `read_field(field, value)` is
// asked about each field at the end of its line, and may refuse it. The position of the field that is being read is in
// the array already, without its value.
template <class Scan, class ReadField>
[[gnu::always_inline]] inline ParseState read_field_lines(const HeadBytes& bytes, std::span<FieldPosition> fields,
                                                          ReadField read_field) noexcept {
    detail::HeadState& state = bytes.state;
    const char* const end = bytes.end;
    const char* at = bytes.base + state.scanned;
    const char* line = bytes.base + state.line;
    const std::size_t limit = std::min<std::size_t>(state.field_limit, fields.size());
    std::uint8_t phase = state.phase;
    for (;;) {
        if (phase == at_line) {
            line = at;
            if (at == end) return bytes.pause(at_line, at, line);
            if (*at == '\r') {
                if (end - at < 2) return bytes.pause(at_line, at, line);
                if (at[1] != '\n') return bytes.refuse(Refusal::bare_carriage_return, at);
                state.scanned = state.head_size = bytes.position(at + 2);
                return ParseState::complete;
            }
        }
        if (state.field_count >= limit) return bytes.refuse(Refusal::too_many_fields, at);
        const char* const line_end = bytes.line_end(line);
        FieldPosition& field = fields[state.field_count];
        if (phase != in_value) {
            at = Scan::token_end(bytes.base, at, line_end);
            if (at == line_end) return bytes.pause_in_line(in_name, at, line);
            if (*at != ':' || at == line) return bytes.refuse(name_refusal(*at, at == line), at);
            field.name = bytes.position(line);
            field.name_size = static_cast<std::uint16_t>(at - line);
            field.known = find_known_field(line, field.name_size);
            ++at;
            state.value = bytes.position(at);
        }
        at = Scan::value_end(bytes.base, at, line_end);
        if (at == line_end) return bytes.pause_in_line(in_value, at, line);
        if (*at != '\r') return bytes.refuse(*at == '\n' ? Refusal::bare_line_feed : Refusal::field_value_letter, at);
        if (end - at < 2) return bytes.pause(in_value, at, line);
        if (at[1] != '\n') return bytes.refuse(Refusal::bare_carriage_return, at);
        const char* value = bytes.base + state.value;
        const char* value_end = at;
        while (value != value_end && is_white_space(*value)) ++value;
        while (value != value_end && is_white_space(value_end[-1])) --value_end;
        field.value = bytes.position(value);
        field.value_size = static_cast<std::uint32_t>(value_end - value);
        const std::string_view text(value, static_cast<std::size_t>(value_end - value));
        if (const Refusal refusal = read_field(field.known, text); refusal != Refusal::none)
            return bytes.refuse(refusal, at);
        ++state.field_count;
        at += 2;
        phase = at_line;
    }
}

}  // namespace ferrule::inline v0::http
