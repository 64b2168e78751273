#pragma once

#include <ferrule/http/request_parser.hpp>

#include "http/authority.hpp"
#include "http/field_lines.hpp"
#include "http/field_rules.hpp"
#include "http/method_table.hpp"

#include <cstring>
#include <iterator>

namespace ferrule::inline v0::http {

// RequestParser::parse, over the way in which bytes are looked for: VectorScan in the library; a test and a benchmark
// make another of PortableScan.
template <class Scan>
struct RequestMachine {
    static ParseState parse(RequestParser& parser, std::string_view text, std::span<FieldPosition> fields) noexcept {
        detail::HeadState& state = parser.state_;
        const HeadBytes bytes(state, text);
        if (state.phase < at_line) {
            const ParseState line = read_request_line(parser, bytes);
            if (line != ParseState::complete) return line;
        } else if (state.phase >= is_complete) {
            return state.phase == is_complete ? ParseState::complete : ParseState::refused;
        }
        const ParseState lines =
            read_field_lines<Scan>(bytes, fields, [&state, &bytes](KnownField field, std::string_view value) {
                return read_request_field<Scan>(state, bytes.base, field, value);
            });
        return lines == ParseState::complete ? finish(parser, bytes, fields) : lines;
    }

private:
    // No method of the registry is longer than 17.
    static constexpr std::ptrdiff_t method_size_max = 32;
    static constexpr std::ptrdiff_t version_size = 8;
    static constexpr std::ptrdiff_t line_ending_size = 2;

    [[gnu::always_inline]] static ParseState read_request_line(RequestParser& parser, const HeadBytes& bytes) noexcept {
        detail::HeadState& state = parser.state_;
        const char* const base = bytes.base;
        const char* const end = bytes.end;
        const char* at = base + state.scanned;
        const char* line = base + state.line;
        if (state.phase == at_start) {
            if (at == end) return bytes.pause(at_start, at, line);
            if (*at == '\r') {
                if (parser.start_ != 0) return bytes.refuse(Refusal::empty_lines, at);
                if (end - at < line_ending_size) return bytes.pause(at_start, at, line);
                if (at[1] != '\n') return bytes.refuse(Refusal::bare_carriage_return, at);
                at += line_ending_size;
                line = at;
                parser.start_ = line_ending_size;
                if (at == end) return bytes.pause(at_start, at, line);
                if (*at == '\r') return bytes.refuse(Refusal::empty_lines, at);
            }
            state.phase = in_method;
        }
        const char* const line_end = bytes.line_end(line);
        // Nearly all are GET, which needs no looking for its end.
        constexpr std::string_view get = "GET ";
        if (state.phase == in_method && at == line && line_end - at >= std::ssize(get) &&
            std::memcmp(at, get.data(), get.size()) == 0) {
            parser.method_size_ = static_cast<std::uint8_t>(get.size() - 1);
            parser.method_ = Method::get;
            state.phase = in_target;
            at += get.size();
        }
        if (state.phase == in_method) {
            const char* const method_end = line_end - line > method_size_max ? line + method_size_max + 1 : line_end;
            at = Scan::token_end(base, at, method_end);
            if (at - line > method_size_max) return bytes.refuse(Refusal::method_too_long, at);
            if (at == line_end) return bytes.pause_in_line(in_method, at, line);
            if (*at != ' ' || at == line)
                return bytes.refuse(*at == '\n' ? Refusal::bare_line_feed : Refusal::method_letter, at);
            parser.method_size_ = static_cast<std::uint8_t>(at - line);
            parser.method_ = find_method({line, parser.method_size_});
            state.phase = in_target;
            ++at;
        }
        if (state.phase == in_target) {
            at = Scan::target_end(base, at, line_end);
            if (at == line_end) return bytes.pause_in_line(in_target, at, line);
            const char* const target = base + parser.target_begin();
            if (*at != ' ') return bytes.refuse(target_refusal(*at), at);
            parser.target_size_ = static_cast<std::uint16_t>(at - target);
            if (const Refusal refusal = read_target(parser, {target, parser.target_size_}); refusal != Refusal::none)
                return bytes.refuse(refusal, at);
            ++at;
            if (at + version_size - line > state.line_bytes) return bytes.refuse(Refusal::target_too_long, at);
        }
        if (end - at < version_size + line_ending_size) return bytes.pause(in_version, at, line);
        if (const Refusal refusal = read_version(state, at); refusal != Refusal::none) return bytes.refuse(refusal, at);
        at += version_size + line_ending_size;
        state.phase = at_line;
        state.scanned = state.line = bytes.position(at);
        return ParseState::complete;
    }

    static Refusal target_refusal(char letter) noexcept {
        // A line that ends behind the target is one of HTTP/0.9.
        if (letter == '\r') return Refusal::version;
        return letter == '\n' ? Refusal::bare_line_feed : Refusal::target_letter;
    }

    // The eight bytes of a version and the two that end the line.
    static Refusal read_version(detail::HeadState& state, const char* at) noexcept {
        constexpr char version_1_1[] = "HTTP/1.1";
        if (std::memcmp(at, version_1_1, version_size) != 0) {
            const bool is_version = std::memcmp(at, version_1_1, 5) == 0 && is(digit_character, at[5]) &&
                                    at[6] == '.' && is(digit_character, at[7]);
            if (!is_version) return Refusal::version;
            if (at[5] != '1' || at[7] != '0') {
                // The rest of the line counts first: HTTP/1.11 is no version.
                return at[8] == '\r' ? Refusal::version_not_supported : Refusal::version;
            }
            state.version = Version::http_1_0;
        }
        if (at[8] != '\r') return at[8] == '\n' ? Refusal::bare_line_feed : Refusal::version;
        return at[9] == '\n' ? Refusal::none : Refusal::bare_carriage_return;
    }

    // RFC 9112, section 3.2: which form it is, and whether the method may have it.
    static Refusal read_target(RequestParser& parser, std::string_view target) noexcept {
        if (!target.empty() && target.front() == '/' && parser.method_ != Method::connect) [[likely]]
            return Refusal::none;
        return read_other_target(parser, target);
    }

    [[gnu::noinline]] static Refusal read_other_target(RequestParser& parser, std::string_view target) noexcept {
        if (parser.method_ == Method::connect) {
            parser.form_ = TargetForm::authority;
            const auto authority = parse_authority(target);
            return authority && authority->port ? Refusal::none : Refusal::target_authority;
        }
        if (target == "*") {
            parser.form_ = TargetForm::asterisk;
            return parser.method_ == Method::options ? Refusal::none : Refusal::target_form;
        }
        parser.form_ = TargetForm::absolute;
        const Target parts = split_target(target, TargetForm::absolute);
        if (!same_name(parts.scheme, "http") && !same_name(parts.scheme, "https")) return Refusal::target_form;
        return parse_authority(parts.authority) ? Refusal::none : Refusal::target_authority;
    }

    // What the fields have to say together.
    static ParseState finish(RequestParser& parser, const HeadBytes& bytes, std::span<FieldPosition> fields) noexcept {
        detail::HeadState& state = parser.state_;
        const char* const at = bytes.base + state.scanned;
        if (!(state.facts & has_host) && state.version == Version::http_1_1)
            return bytes.refuse(Refusal::host_missing, at);
        const bool has_body = (state.facts & has_coding) != 0 || state.content_length > 0;
        if (has_body && (parser.method_ == Method::connect || parser.method_ == Method::trace))
            return bytes.refuse(Refusal::body_not_allowed, at);
        if (parser.form_ == TargetForm::absolute && (state.facts & has_host) != 0 &&
            !hosts_agree(parser, bytes, fields))
            return bytes.refuse(Refusal::host_differs, at);
        state.phase = is_complete;
        return ParseState::complete;
    }

    [[gnu::noinline]] static bool hosts_agree(const RequestParser& parser, const HeadBytes& bytes,
                                              std::span<const FieldPosition> fields) noexcept {
        constexpr std::uint16_t http_port = 80;
        constexpr std::uint16_t https_port = 443;
        const std::string_view target(bytes.base + parser.target_begin(), parser.target_size());
        const Target parts = split_target(target, TargetForm::absolute);
        const FieldList list(bytes.base, fields.first(parser.field_count()));
        const auto host = parse_authority(list.find(KnownField::host).value_or(""));
        const auto authority = parse_authority(parts.authority);
        return host && authority &&
               same_authority(*host, *authority, same_name(parts.scheme, "https") ? https_port : http_port);
    }
};

}  // namespace ferrule::inline v0::http
