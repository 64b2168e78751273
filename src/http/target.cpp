#include <ferrule/http/target.hpp>

#include "http/characters.hpp"

#include <algorithm>

namespace ferrule::inline v0::http {

namespace {

constexpr std::size_t escape_size = 3;  // %41

// The byte that the escape at the front stands for; nothing: it is malformed.
std::optional<char> escaped_byte(std::string_view text) noexcept {
    if (text.size() < escape_size) return std::nullopt;
    const std::uint8_t high = digit_value(text[1]);
    const std::uint8_t low = digit_value(text[2]);
    if (high > 15 || low > 15) return std::nullopt;
    return static_cast<char>(high << 4 | low);
}

enum class Rules : bool { path, query };

std::expected<std::string_view, DecodeError> decode(std::string_view text, std::span<char> buffer,
                                                    Rules rules) noexcept {
    const bool plus_is_space = rules == Rules::query;
    std::size_t at = std::min(text.find_first_of(plus_is_space ? "%+" : "%"), text.size());
    if (at == text.size()) return text;
    if (at > buffer.size()) return std::unexpected(DecodeError::no_room);
    std::copy_n(text.begin(), at, buffer.begin());
    std::size_t size = at;
    while (at < text.size()) {
        char letter = text[at];
        if (letter == '%') {
            const auto byte = escaped_byte(text.substr(at));
            if (!byte) return std::unexpected(DecodeError::malformed);
            if (*byte == '\0' && rules == Rules::path) return std::unexpected(DecodeError::nul);
            letter = *byte;
            at += escape_size;
        } else {
            if (letter == '+' && plus_is_space) letter = ' ';
            ++at;
        }
        if (size == buffer.size()) return std::unexpected(DecodeError::no_room);
        buffer[size++] = letter;
    }
    return std::string_view(buffer.data(), size);
}

// Whether the text, decoded as a part of a query, is `wanted`.
bool decodes_to(std::string_view text, std::string_view wanted) noexcept {
    std::size_t at = 0;
    for (const char letter : wanted) {
        if (at >= text.size()) return false;
        char found = text[at] == '+' ? ' ' : text[at];
        if (found == '%') {
            const auto byte = escaped_byte(text.substr(at));
            if (!byte) return false;
            found = *byte;
            at += escape_size - 1;
        }
        ++at;
        if (found != letter) return false;
    }
    return at == text.size();
}

}  // namespace

Target split_target(std::string_view target, TargetForm form) noexcept {
    Target parts;
    std::string_view rest = target;
    if (form == TargetForm::authority) {
        parts.authority = target;
        return parts;
    }
    if (form == TargetForm::absolute) {
        constexpr std::string_view separator = "://";
        const std::size_t colon = rest.find(separator);
        if (colon != std::string_view::npos) {
            parts.scheme = rest.substr(0, colon);
            rest.remove_prefix(colon + separator.size());
        }
        const std::size_t end = std::min(rest.find_first_of("/?"), rest.size());
        parts.authority = rest.substr(0, end);
        rest.remove_prefix(end);
    }
    const std::size_t question = std::min(rest.find('?'), rest.size());
    parts.path = question == 0 ? std::string_view("/") : rest.substr(0, question);
    parts.has_query = question < rest.size();
    if (parts.has_query) parts.query = rest.substr(question + 1);
    return parts;
}

std::expected<std::string_view, DecodeError> decode_path(std::string_view text, std::span<char> buffer) noexcept {
    return decode(text, buffer, Rules::path);
}

std::expected<std::string_view, DecodeError> decode_query(std::string_view text, std::span<char> buffer) noexcept {
    return decode(text, buffer, Rules::query);
}

bool has_dot_segment(std::string_view path) noexcept {
    constexpr std::size_t dots_max = 2;
    std::size_t dots = 0;
    bool only_dots = true;
    for (std::size_t at = 0; at < path.size(); ++at) {
        char letter = path[at];
        if (letter == '%') {
            if (const auto byte = escaped_byte(path.substr(at)); byte && (*byte == '.' || *byte == '/')) {
                letter = *byte;
                at += escape_size - 1;
            }
        }
        if (letter == '/') {
            if (only_dots && dots > 0 && dots <= dots_max) return true;
            only_dots = true;
            dots = 0;
        } else if (letter == '.') {
            ++dots;
        } else {
            only_dots = false;
        }
    }
    return only_dots && dots > 0 && dots <= dots_max;
}

void Query::Iterator::advance() noexcept {
    while (!rest_.empty()) {
        const std::size_t end = std::min(rest_.find('&'), rest_.size());
        const std::string_view part = rest_.substr(0, end);
        rest_.remove_prefix(std::min(end + 1, rest_.size()));
        if (part.empty()) continue;
        const std::size_t equals = std::min(part.find('='), part.size());
        parameter_.name = part.substr(0, equals);
        parameter_.has_value = equals < part.size();
        parameter_.value = parameter_.has_value ? part.substr(equals + 1) : part.substr(part.size());
        ended_ = false;
        return;
    }
    ended_ = true;
}

std::optional<std::string_view> Query::find(std::string_view name) const noexcept {
    for (const QueryParameter& parameter : *this)
        if (decodes_to(parameter.name, name)) return parameter.value;
    return std::nullopt;
}

}  // namespace ferrule::inline v0::http
