#include <ferrule/admin/metric_text.hpp>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;

/// How many bytes the character that begins here takes; 0: it is not well-formed UTF-8 (RFC 3629, section 4).
std::size_t character_bytes(std::string_view text) noexcept {
    const auto byte = [&](std::size_t index) {
        return index < text.size() ? static_cast<unsigned char>(text[index]) : 0u;
    };
    const auto continues = [&](std::size_t index, unsigned least = 0x80, unsigned most = 0xbf) {
        return byte(index) >= least && byte(index) <= most;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const unsigned least = first == 0xe0 ? 0xa0 : 0x80;
        const unsigned most = first == 0xed ? 0x9f : 0xbf;
        return continues(1, least, most) && continues(2) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const unsigned least = first == 0xf0 ? 0x90 : 0x80;
        const unsigned most = first == 0xf4 ? 0x8f : 0xbf;
        return continues(1, least, most) && continues(2) && continues(3) ? 4 : 0;
    }
    return 0;
}

/// Calls `function` with each character; with `?` for each byte that belongs to none.
template <class Function>
void for_each_character(std::string_view text, Function&& function) {
    while (!text.empty()) {
        const std::size_t bytes = character_bytes(text);
        function(bytes != 0 ? text.substr(0, bytes) : std::string_view("?"));
        text.remove_prefix(bytes != 0 ? bytes : 1);
    }
}

void append_number(std::string& out, std::uint64_t number) {
    std::array<char, 24> digits;
    const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    static_cast<void>(error);  // there is room for any number
    out.append(digits.data(), end);
}

/// Nanoseconds as seconds, without a detour over binary fractions.
void append_seconds(std::string& out, std::uint64_t nanoseconds) {
    append_number(out, nanoseconds / nanoseconds_per_second);
    const std::uint64_t rest = nanoseconds % nanoseconds_per_second;
    if (rest == 0) return;
    std::array<char, 16> digits;
    std::snprintf(digits.data(), digits.size(), ".%09llu", static_cast<unsigned long long>(rest));
    std::string_view fraction = digits.data();
    fraction = fraction.substr(0, fraction.find_last_not_of('0') + 1);
    out += fraction;
}

void append_magnitude(std::string& out, MetricUnit unit, std::uint64_t value) {
    if (unit == MetricUnit::seconds) {
        append_seconds(out, value);
    } else {
        append_number(out, value);
    }
}

void append_value(std::string& out, MetricUnit unit, std::int64_t value) {
    if (value < 0) out += '-';
    const auto bits = static_cast<std::uint64_t>(value);
    append_magnitude(out, unit, value < 0 ? 0 - bits : bits);
}

std::string_view name_of(MetricKind kind) noexcept {
    switch (kind) {
        case MetricKind::counter:
            return "counter";
        case MetricKind::gauge:
            return "gauge";
        case MetricKind::histogram:
            return "histogram";
    }
    return "untyped";
}

std::string_view name_of(MetricUnit unit) noexcept {
    switch (unit) {
        case MetricUnit::none:
            return "";
        case MetricUnit::seconds:
            return "seconds";
        case MetricUnit::bytes:
            return "bytes";
    }
    return "";
}

// ---- Prometheus ----

/// Of help, the quotation mark stays as it is; of a label, it is escaped too.
void append_escaped(std::string& out, std::string_view text, bool of_label) {
    for_each_character(text, [&](std::string_view character) {
        switch (character.front()) {
            case '\\':
                out += "\\\\";
                break;
            case '\n':
                out += "\\n";
                break;
            case '"':
                out += of_label ? "\\\"" : "\"";
                break;
            default:
                out += character;
        }
    });
}

void append_label(std::string& out, std::string_view name, std::string_view value) {
    if (!out.empty()) out += ',';
    out += name;
    out += "=\"";
    append_escaped(out, value, true);
    out += '"';
}

/// The labels, without the braces.
std::string labels_of(const MetricSample& sample) {
    std::string labels;
    if (sample.labels != nullptr) {
        for (const auto& [name, value] : *sample.labels) append_label(labels, name, value);
    }
    if (const MetricLabel& label = sample.description.label; !label.name.empty())
        append_label(labels, label.name, label.value);
    return labels;
}

void append_line(std::string& out, std::string_view name, std::string_view suffix, const std::string& labels) {
    out += name;
    out += suffix;
    if (!labels.empty()) {
        out += '{';
        out += labels;
        out += '}';
    }
    out += ' ';
}

struct Bounds {
    std::uint32_t first;
    std::uint32_t last;
};

Bounds bounds_of(const MetricDescription& description) noexcept {
    if (description.bound_first != 0 || description.bound_last != 0)
        return {description.bound_first, description.bound_last};
    switch (description.unit) {
        case MetricUnit::seconds:
            return {10, 34};
        case MetricUnit::bytes:
            return {4, 30};
        case MetricUnit::none:
            return {0, 20};
    }
    return {0, 0};
}

void append_histogram(std::string& out, const MetricDescription& family, const MetricSample& sample) {
    const std::string labels = labels_of(sample);
    const HistogramSnapshot& held = *sample.histogram;
    const Bounds bounds = bounds_of(family);
    for (std::uint32_t power = bounds.first; power <= bounds.last; ++power) {
        const std::uint64_t bound = std::uint64_t{1} << power;
        std::string with_bound = labels;
        if (!with_bound.empty()) with_bound += ',';
        with_bound += "le=\"";
        append_magnitude(with_bound, family.unit, bound);
        with_bound += '"';
        append_line(out, family.name, "_bucket", with_bound);
        append_number(out, held.count_up_to(bound));
        out += '\n';
    }
    append_line(out, family.name, "_bucket", labels.empty() ? "le=\"+Inf\"" : labels + ",le=\"+Inf\"");
    const std::uint64_t count = held.count();
    append_number(out, count);
    out += '\n';
    append_line(out, family.name, "_sum", labels);
    append_magnitude(out, family.unit, held.sum());
    out += '\n';
    append_line(out, family.name, "_count", labels);
    append_number(out, count);
    out += '\n';
}

// ---- JSON ----

void append_json(std::string& out, std::string_view text) {
    out += '"';
    for_each_character(text, [&](std::string_view character) {
        const auto first = static_cast<unsigned char>(character.front());
        if (first == '"' || first == '\\') {
            out += '\\';
            out += character;
        } else if (first < 0x20) {
            std::array<char, 8> escape;
            std::snprintf(escape.data(), escape.size(), "\\u%04x", first);
            out += escape.data();
        } else {
            out += character;
        }
    });
    out += '"';
}

void append_json_field(std::string& out, std::string_view name, std::string_view text) {
    append_json(out, name);
    out += ':';
    append_json(out, text);
}

void append_json_histogram(std::string& out, MetricUnit unit, const HistogramSnapshot& held) {
    static constexpr std::array<std::pair<double, std::string_view>, 5> shares{
        {{0.5, "0.5"}, {0.9, "0.9"}, {0.99, "0.99"}, {0.999, "0.999"}, {1, "1"}}};
    out += "\"count\":";
    append_number(out, held.count());
    out += ",\"sum\":";
    append_magnitude(out, unit, held.sum());
    out += ",\"quantiles\":{";
    bool first = true;
    for (const auto& [share, name] : shares) {
        if (!std::exchange(first, false)) out += ',';
        append_json(out, name);
        out += ':';
        append_magnitude(out, unit, held.quantile(share));
    }
    out += '}';
}

void append_json_sample(std::string& out, MetricUnit unit, const MetricSample& sample) {
    out += "{\"labels\":{";
    bool first = true;
    const auto add = [&](std::string_view name, std::string_view value) {
        if (!std::exchange(first, false)) out += ',';
        append_json_field(out, name, value);
    };
    if (sample.labels != nullptr) {
        for (const auto& [name, value] : *sample.labels) add(name, value);
    }
    if (const MetricLabel& label = sample.description.label; !label.name.empty()) add(label.name, label.value);
    out += "},";
    if (sample.histogram != nullptr) {
        append_json_histogram(out, unit, *sample.histogram);
    } else {
        out += "\"value\":";
        append_value(out, unit, sample.value);
    }
    out += '}';
}

}  // namespace

std::vector<MetricFamily> group_metrics(std::vector<MetricSample> samples) {
    std::vector<MetricFamily> families;
    std::map<std::string_view, std::size_t> places;
    std::set<std::pair<std::size_t, std::string>> seen;
    for (MetricSample& sample : samples) {
        const MetricDescription& description = sample.description;
        const auto [place, fresh] = places.try_emplace(description.name, families.size());
        if (fresh) families.push_back({description, {}});
        MetricFamily& family = families[place->second];
        if (family.description.kind != description.kind || family.description.unit != description.unit) continue;
        if ((sample.histogram != nullptr) != (description.kind == MetricKind::histogram)) continue;
        if (!seen.emplace(place->second, labels_of(sample)).second) continue;
        family.samples.push_back(std::move(sample));
    }
    std::erase_if(families, [](const MetricFamily& family) { return family.samples.empty(); });
    return families;
}

std::string to_prometheus_text(const std::vector<MetricFamily>& families) {
    std::string out;
    for (const MetricFamily& family : families) {
        const MetricDescription& description = family.description;
        out += "# HELP ";
        out += description.name;
        out += ' ';
        append_escaped(out, description.help, false);
        out += "\n# TYPE ";
        out += description.name;
        out += ' ';
        out += name_of(description.kind);
        out += '\n';
        for (const MetricSample& sample : family.samples) {
            if (sample.histogram != nullptr) {
                append_histogram(out, description, sample);
                continue;
            }
            append_line(out, description.name, "", labels_of(sample));
            append_value(out, description.unit, sample.value);
            out += '\n';
        }
    }
    return out;
}

std::string to_json_text(const std::vector<MetricFamily>& families) {
    std::string out = "{\"metrics\":[";
    bool first_family = true;
    for (const MetricFamily& family : families) {
        if (!std::exchange(first_family, false)) out += ',';
        const MetricDescription& description = family.description;
        out += "\n{";
        append_json_field(out, "name", description.name);
        out += ',';
        append_json_field(out, "help", description.help);
        out += ',';
        append_json_field(out, "kind", name_of(description.kind));
        out += ',';
        append_json_field(out, "unit", name_of(description.unit));
        out += ",\"samples\":[";
        bool first_sample = true;
        for (const MetricSample& sample : family.samples) {
            if (!std::exchange(first_sample, false)) out += ',';
            append_json_sample(out, description.unit, sample);
        }
        out += "]}";
    }
    out += "\n]}\n";
    return out;
}

}  // namespace ferrule::inline v0
