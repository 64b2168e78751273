#include <ferrule/http/content_coding.hpp>
#include <ferrule/http/field.hpp>

#include "http/characters.hpp"

#include <algorithm>

namespace ferrule::inline v0::http {

namespace {

constexpr std::uint16_t whole_weight = 1000;
/// `0`, `1`, and up to three digits behind a point (RFC 9110, section 12.4.2), in thousandths.
[[nodiscard]] std::optional<std::uint16_t> parse_weight(std::string_view text) noexcept {
    if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return std::nullopt;
    if (text.size() > 1 && text[1] != '.') return std::nullopt;
    std::uint16_t weight = text[0] == '1' ? whole_weight : 0;
    std::uint16_t unit = 100;
    for (std::size_t index = 2; index < text.size(); ++index, unit /= 10) {
        if (text[index] < '0' || text[index] > '9') return std::nullopt;
        weight = static_cast<std::uint16_t>(weight + unit * (text[index] - '0'));
    }
    if (weight > whole_weight) return std::nullopt;
    return weight;
}

}  // namespace

void AcceptEncoding::add(std::string_view value) noexcept {
    while (!value.empty()) {
        const std::size_t comma = std::min(value.find(','), value.size());
        add_element(trimmed(value.substr(0, comma)));
        value.remove_prefix(std::min(comma + 1, value.size()));
    }
}

void AcceptEncoding::add_element(std::string_view element) noexcept {
    const std::size_t semicolon = std::min(element.find(';'), element.size());
    const std::string_view name = trimmed(element.substr(0, semicolon));
    std::uint16_t weight = whole_weight;
    if (semicolon != element.size()) {
        const std::string_view parameter = trimmed(element.substr(semicolon + 1));
        const bool is_weight = parameter.size() > 2 && to_lower(parameter[0]) == 'q' && parameter[1] == '=';
        weight = is_weight ? parse_weight(parameter.substr(2)).value_or(0) : 0;
    }
    std::optional<std::uint16_t>* place = nullptr;
    if (same_name(name, "gzip") || same_name(name, "x-gzip")) {
        place = &weights_[static_cast<std::size_t>(ContentCoding::gzip)];
    } else if (same_name(name, "br")) {
        place = &weights_[static_cast<std::size_t>(ContentCoding::br)];
    } else if (same_name(name, "identity")) {
        place = &weights_[static_cast<std::size_t>(ContentCoding::identity)];
    } else if (name == "*") {
        place = &any_;
    }
    if (place != nullptr) *place = std::min(place->value_or(whole_weight), weight);
}

std::uint16_t AcceptEncoding::weight(ContentCoding coding) const noexcept {
    if (const auto& said = weights_[static_cast<std::size_t>(coding)]) return *said;
    return any_.value_or(coding == ContentCoding::identity ? 1 : 0);
}

ContentCoding AcceptEncoding::choose(std::span<const ContentCoding> offered) const noexcept {
    std::uint16_t best_weight = 0;
    ContentCoding best = ContentCoding::identity;
    for (const ContentCoding coding : offered) {
        const std::uint16_t its = weight(coding);
        if (coding != ContentCoding::identity && its > best_weight) {
            best_weight = its;
            best = coding;
        }
    }
    return weight(ContentCoding::identity) > best_weight ? ContentCoding::identity : best;
}

bool is_compressible(std::string_view content_type) noexcept {
    const std::string_view type =
        trimmed(content_type.substr(0, std::min(content_type.find(';'), content_type.size())));
    const auto starts_with = [&](std::string_view beginning) {
        return type.size() > beginning.size() && same_name(type.substr(0, beginning.size()), beginning);
    };
    const auto ends_with = [&](std::string_view end) {
        return type.size() > end.size() && same_name(type.substr(type.size() - end.size()), end);
    };
    if (starts_with("text/") || ends_with("+json") || ends_with("+xml") || ends_with("+text")) return true;
    static constexpr std::array<std::string_view, 24> others{
        "application/json",
        "application/javascript",
        "application/xml",
        "application/wasm",
        "application/x-ndjson",
        "application/x-javascript",
        "application/ecmascript",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/sql",
        "application/rtf",
        "application/x-sh",
        "application/csv",
        "application/vnd.ms-fontobject",
        "font/ttf",
        "font/otf",
        "font/collection",
        "image/bmp",
        "image/x-icon",
        "image/vnd.microsoft.icon",
        "message/http",
    };
    return std::ranges::any_of(others, [&](std::string_view other) { return same_name(type, other); });
}

}  // namespace ferrule::inline v0::http
