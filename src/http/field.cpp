#include <ferrule/http/field.hpp>

#include "http/characters.hpp"
#include "http/vector_scan.hpp"

#include <algorithm>

namespace ferrule::inline v0::http {

bool same_name(std::string_view one, std::string_view other) noexcept {
    return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                      [](char left, char right) { return to_lower(left) == to_lower(right); });
}

bool has_token(std::string_view list, std::string_view token) noexcept {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        if (same_name(trimmed(list.substr(0, comma)), token)) return true;
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
}

bool is_token(std::string_view text) noexcept {
    const char* const end = text.data() + text.size();
    return !text.empty() && VectorScan::token_end(text.data(), text.data(), end) == end;
}

bool is_field_value(std::string_view text) noexcept {
    return text.empty() ||
           (!is_white_space(text.front()) && !is_white_space(text.back()) && VectorScan::are_value_characters(text));
}

std::optional<std::string_view> FieldList::find(KnownField field) const noexcept {
    for (const FieldPosition& position : positions_)
        if (position.known == field) return text_of(base_, position).value;
    return std::nullopt;
}

std::optional<std::string_view> FieldList::find(std::string_view name) const noexcept {
    if (const KnownField known = known_field_of(name); known != KnownField::unknown) return find(known);
    for (const FieldPosition& position : positions_) {
        const Field field = text_of(base_, position);
        if (field.known == KnownField::unknown && same_name(field.name, name)) return field.value;
    }
    return std::nullopt;
}

}  // namespace ferrule::inline v0::http
