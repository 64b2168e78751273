#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {

namespace lint {

struct Line {
    std::string name;
    std::vector<std::pair<std::string, std::string>> labels;
    std::string value;
};

inline bool is_name(std::string_view text) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    return !text.empty() && letter(text.front()) &&
           std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

/// A sample's line; false when it is none.
inline bool read_line(std::string_view text, Line& line) {
    const std::size_t end = text.find_first_of("{ ");
    if (end == std::string_view::npos) return false;
    line.name = text.substr(0, end);
    text.remove_prefix(end);
    if (text.front() == '{') {
        text.remove_prefix(1);
        while (!text.starts_with('}')) {
            const std::size_t equals = text.find("=\"");
            if (equals == std::string_view::npos) return false;
            std::pair<std::string, std::string> label{text.substr(0, equals), ""};
            text.remove_prefix(equals + 2);
            while (!text.empty() && text.front() != '"') {
                if (text.front() == '\\') {
                    if (text.size() < 2 || std::string_view("\\\"n").find(text[1]) == std::string_view::npos)
                        return false;
                    label.second += text[1] == 'n' ? '\n' : text[1];
                    text.remove_prefix(2);
                    continue;
                }
                label.second += text.front();
                text.remove_prefix(1);
            }
            if (text.empty() || !is_name(label.first)) return false;
            text.remove_prefix(1);
            line.labels.push_back(std::move(label));
            if (text.starts_with(',')) text.remove_prefix(1);
        }
        text.remove_prefix(1);
    }
    if (!text.starts_with(' ')) return false;
    line.value = text.substr(1);
    double number = 0;
    const auto [stop, error] = std::from_chars(line.value.data(), line.value.data() + line.value.size(), number);
    return is_name(line.name) && error == std::errc() && stop == line.value.data() + line.value.size();
}

inline double bound_of(const std::string& text) {
    if (text == "+Inf") return std::numeric_limits<double>::infinity();
    double bound = std::nan("");
    std::from_chars(text.data(), text.data() + text.size(), bound);
    return bound;
}

}  // namespace lint

/// What is wrong with a text in Prometheus' format, version 0.0.4: its syntax, and the rules of `promtool check
/// metrics`. A line for each.
inline std::vector<std::string> lint_prometheus_text(std::string_view text) {
    using namespace lint;
    std::vector<std::string> found;
    if (!text.empty() && !text.ends_with('\n')) found.push_back("the last line has no end");
    std::map<std::string, std::string, std::less<>> helps;
    std::map<std::string, std::string, std::less<>> types;
    std::set<std::string> seen;
    std::set<std::string> closed;
    std::string family;
    struct Series {
        double bound = -std::numeric_limits<double>::infinity();
        double counted = 0;
        bool infinite = false;
        bool sum = false;
        bool count = false;
    };
    std::map<std::string, Series> histograms;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string row(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        for (auto* comments : {&helps, &types}) {
            const std::string_view keyword = comments == &helps ? "# HELP " : "# TYPE ";
            if (!row.starts_with(keyword)) continue;
            const std::size_t space = row.find(' ', keyword.size());
            const std::string name = row.substr(keyword.size(), space - keyword.size());
            if (space == std::string::npos || space + 1 == row.size()) found.push_back(row + ": says nothing");
            if (!comments->emplace(name, row.substr(std::min(space + 1, row.size()))).second)
                found.push_back(row + ": twice");
            if (name != family && !family.empty()) closed.insert(std::exchange(family, name));
            family = name;
            if (closed.contains(name)) found.push_back(row + ": the family is in two places");
        }
        if (row.starts_with('#')) continue;
        Line line;
        if (!read_line(row, line)) {
            found.push_back(row + ": is no sample");
            continue;
        }
        std::string base = line.name;
        std::string suffix;
        for (const std::string_view ending : {"_bucket", "_sum", "_count"}) {
            if (!base.ends_with(ending)) continue;
            const std::string stem = base.substr(0, base.size() - ending.size());
            if (const auto type = types.find(stem); type != types.end() && type->second == "histogram") {
                base = stem;
                suffix = ending;
                break;
            }
        }
        if (base != family) found.push_back(row + ": is not behind its HELP and TYPE");
        if (!helps.contains(base)) found.push_back(row + ": has no HELP");
        const auto type = types.find(base);
        if (type == types.end()) {
            found.push_back(row + ": has no TYPE");
            continue;
        }
        if (std::set<std::string>{"counter", "gauge", "histogram"}.count(type->second) == 0)
            found.push_back(row + ": has a type that is none");
        if ((type->second == "counter") != base.ends_with("_total"))
            found.push_back(row + ": counters end in _total, and nothing else does");
        if (type->second == "histogram" && suffix.empty()) found.push_back(row + ": is no part of a histogram");
        for (const std::string_view unit : {"_ms", "_milliseconds", "_microseconds", "_us", "_ns", "_nanoseconds",
                                            "_minutes", "_hours", "_kilobytes", "_megabytes", "_bits", "_percent"}) {
            std::string_view stem = base;
            if (stem.ends_with("_total")) stem.remove_suffix(6);
            if (stem.ends_with(unit)) found.push_back(row + ": is not in a base unit");
        }
        if (std::any_of(base.begin(), base.end(), [](char c) { return c >= 'A' && c <= 'Z'; }))
            found.push_back(row + ": has capitals");
        if (base.find("_counter") != std::string::npos || base.find("_gauge") != std::string::npos)
            found.push_back(row + ": has its type in its name");
        std::string key = base;
        std::string bound;
        for (const auto& [name, value] : line.labels) {
            if (name == "le") {
                bound = value;
            } else {
                key += '|' + name + '=' + value;
            }
            if (base.find(name) != std::string::npos && name.size() > 2 && base.ends_with('_' + name))
                found.push_back(row + ": has its label in its name");
        }
        if (!seen.insert(key + suffix + bound).second) found.push_back(row + ": twice");
        if (suffix.empty()) continue;
        Series& series = histograms[key];
        const double value = bound_of(line.value);
        if (suffix == "_sum") series.sum = true;
        if (suffix == "_count") {
            series.count = true;
            if (value != series.counted) found.push_back(row + ": is not what its last bucket counts");
        }
        if (suffix == "_bucket") {
            if (bound.empty() || std::isnan(bound_of(bound))) found.push_back(row + ": has no bound");
            if (bound_of(bound) <= series.bound) found.push_back(row + ": its bound does not ascend");
            if (value < series.counted) found.push_back(row + ": is not cumulative");
            series.bound = bound_of(bound);
            series.counted = value;
            series.infinite = series.infinite || bound == "+Inf";
        }
    }
    for (const auto& [key, series] : histograms) {
        if (!series.infinite || !series.sum || !series.count) found.push_back(key + ": a histogram lacks a part");
    }
    return found;
}

}  // namespace ferrule_test
