#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/head_state.hpp>

#include "http/characters.hpp"
#include "http/field_rules.hpp"
#include "http/known_field_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

// HeadState::phase: what the next byte belongs to.
enum Phase : std::uint8_t {
    at_start,  // the first line, or an empty line before it
    in_method,
    in_target,
    in_version,
    in_status,  // the version and the status of a response
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
            return refuse(phase <= in_version ? Refusal::target_too_long : Refusal::head_too_long, at);
        state.phase = phase;
        state.scanned = static_cast<std::uint32_t>(at - base);
        state.line = static_cast<std::uint32_t>(line - base);
        return ParseState::incomplete;
    }

    // The same where a line was read up to line_end().
    ParseState pause_in_line(Phase phase, const char* at, const char* line) const noexcept {
        if (at - line > state.line_bytes) [[unlikely]]
            return refuse(phase <= in_version ? Refusal::target_too_long : Refusal::field_too_long, at);
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

inline bool is_line_ending(const char* at) noexcept {
    return std::memcmp(at, "\r\n", 2) == 0;
}

// Where a value lies without white space at its ends.
struct ValueSpan {
    ValueSpan(const char* first, const char* last) noexcept : begin(first), end(last) {
        while (begin != end && is_white_space(*begin)) ++begin;
        while (begin != end && is_white_space(end[-1])) --end;
    }
    std::string_view text() const noexcept { return {begin, static_cast<std::size_t>(end - begin)}; }

    const char* begin;
    const char* end;
};

// The fields that a parser fills, and where it is in them.
struct FieldRoom {
    FieldPosition* next;
    FieldPosition* limit;
};

// Reads lines as nearly all are: whole, with nothing wrong in them. It stops before the first that is another: whoever
// reads that one finds what is wrong with it, or where it goes on. Returns where it stopped.
template <class Scan, class ReadField>
[[gnu::always_inline]] inline const char* read_whole_lines(const HeadBytes& bytes, const char* line, FieldRoom& room,
                                                           ReadField read_field) noexcept {
    // Copies: what is written to the fields cannot change them.
    const char* const base = bytes.base;
    const char* const end = bytes.end;
    const std::ptrdiff_t line_bytes = bytes.state.line_bytes;
    FieldPosition* next = room.next;
    FieldPosition* const limit = room.limit;
    typename Scan::Lines lines(base, line, end);
    while (next < limit) {
        const char* const line_end = lines.next(line);
        if (end - line_end < 2 || line_end - line > line_bytes || !is_line_ending(line_end)) break;
        const char* const colon = lines.colon(line, line_end, end);
        if (colon == line_end || colon == line) break;
        const auto name_size = static_cast<std::size_t>(colon - line);
        // A name that is known is a token: there is no CR before the end of the line.
        const KnownField known = find_known_field(line, name_size);
        if (known == KnownField::unknown && Scan::token_end(base, line, colon) != colon) break;
        const ValueSpan value(colon + 1, line_end);
        next->name = static_cast<std::uint32_t>(line - base);
        next->value = static_cast<std::uint32_t>(value.begin - base);
        next->value_size = static_cast<std::uint32_t>(value.end - value.begin);
        next->name_size = static_cast<std::uint16_t>(name_size);
        next->known = known;
        // Whoever reads the line again refuses it again.
        if (is_read(known) && read_field(known, value.text()) != Refusal::none) break;
        ++next;
        line = line_end + 2;
    }
    room.next = next;
    return line;
}

// Reads the lines of fields, from wherever it stopped, up to the blank line and with it. `read_field(field, value)` is
// asked about each field that is_read() at the end of its line, and may refuse it, again and again. The position of the
// field that is being read is in the array already, without its value.
template <class Scan, class ReadField>
[[gnu::always_inline]] inline ParseState read_field_lines(const HeadBytes& bytes, std::span<FieldPosition> fields,
                                                          ReadField read_field) noexcept {
    detail::HeadState& state = bytes.state;
    const char* const base = bytes.base;
    const char* const end = bytes.end;
    const char* at = base + state.scanned;
    const char* line = base + state.line;
    const char* value = base + state.value;
    FieldRoom room{fields.data() + state.field_count,
                   fields.data() + std::min<std::size_t>(state.field_limit, fields.size())};
    std::uint8_t phase = state.phase;
    const auto stop = [&](ParseState result) {
        state.value = bytes.position(value);
        state.field_count = static_cast<std::uint16_t>(room.next - fields.data());
        return result;
    };
    for (;;) {
        if (phase == at_line) {
            if constexpr (requires { typename Scan::Lines; }) at = read_whole_lines<Scan>(bytes, at, room, read_field);
            line = at;
            if (at == end) return stop(bytes.pause(at_line, at, line));
            if (*at == '\r') {
                if (end - at < 2) return stop(bytes.pause(at_line, at, line));
                if (at[1] != '\n') return stop(bytes.refuse(Refusal::bare_carriage_return, at));
                state.scanned = state.head_size = bytes.position(at + 2);
                return stop(ParseState::complete);
            }
        }
        if (room.next >= room.limit) return stop(bytes.refuse(Refusal::too_many_fields, at));
        FieldPosition& field = *room.next;
        const char* const line_end = bytes.line_end(line);
        if (phase != in_value) {
            at = Scan::token_end(base, at, line_end);
            if (at == line_end) return stop(bytes.pause_in_line(in_name, at, line));
            if (*at != ':' || at == line) return stop(bytes.refuse(name_refusal(*at, at == line), at));
            field.name = bytes.position(line);
            field.name_size = static_cast<std::uint16_t>(at - line);
            field.known = find_known_field(line, field.name_size);
            ++at;
            value = at;
        }
        at = Scan::value_end(base, at, line_end);
        if (at == line_end) return stop(bytes.pause_in_line(in_value, at, line));
        if (*at != '\r')
            return stop(bytes.refuse(*at == '\n' ? Refusal::bare_line_feed : Refusal::field_value_letter, at));
        if (end - at < 2) return stop(bytes.pause(in_value, at, line));
        if (at[1] != '\n') return stop(bytes.refuse(Refusal::bare_carriage_return, at));
        const ValueSpan trimmed(value, at);
        field.value = bytes.position(trimmed.begin);
        field.value_size = static_cast<std::uint32_t>(trimmed.end - trimmed.begin);
        if (is_read(field.known)) {
            if (const Refusal refusal = read_field(field.known, trimmed.text()); refusal != Refusal::none)
                return stop(bytes.refuse(refusal, at));
        }
        ++room.next;
        at += 2;
        phase = at_line;
    }
}

}  // namespace ferrule::inline v0::http
