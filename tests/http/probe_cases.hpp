#pragma once

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule_test {

// A case of probe_cases.tsv, which says what the parts mean.
struct ProbeCase {
    std::string id;
    std::string level;
    std::string allowed;
    std::string here;
    std::vector<std::string> steps;  // bytes to send, one after the other
};

// What is between braces: `A*100000`, a letter that often, or one of the words that make many things.
inline std::string expanded(std::string_view word) {
    const std::size_t star = word.find('*');
    if (star == std::string_view::npos) return "\"none\"";  // what an answer would have said
    const std::string_view what = word.substr(0, star);
    const auto count = static_cast<std::size_t>(std::strtoull(std::string(word.substr(star + 1)).c_str(), nullptr, 10));
    if (what.size() == 1) return std::string(count, what.front());
    std::string text;
    for (std::size_t index = 0; index < count; ++index) {
        const std::string number = std::to_string(index);
        if (what == "binary") text += static_cast<char>(128 + index * 37 % 128);
        if (what == "fields") text += "X-H-" + number + ": value\r\n";
        if (what == "pairs") text += (index > 0 ? "; k" : "k") + number + "=v" + number;
    }
    return text;
}

inline std::string unescaped(std::string_view text) {
    std::string bytes;
    while (!text.empty()) {
        const char letter = text.front();
        if (letter == '{') {
            const std::size_t end = text.find('}');
            bytes += expanded(text.substr(1, end - 1));
            text.remove_prefix(end + 1);
        } else if (letter != '\\') {
            bytes += letter;
            text.remove_prefix(1);
        } else {
            const char which = text.at(1);
            std::size_t size = 2;
            if (which == 'x') {
                size = 4;
                bytes += static_cast<char>(std::strtoul(std::string(text.substr(2, 2)).c_str(), nullptr, 16));
            } else {
                constexpr std::string_view escapes = "rnt0\\";
                constexpr std::string_view meanings("\r\n\t\0\\", 5);
                bytes += meanings.at(escapes.find(which));
            }
            text.remove_prefix(size);
        }
    }
    return bytes;
}

inline std::vector<ProbeCase> read_probe_cases(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    std::vector<ProbeCase> cases;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with('#')) continue;
        std::vector<std::string> parts;
        for (std::size_t begin = 0; begin <= line.size();) {
            const std::size_t tab = std::min(line.find('\t', begin), line.size());
            parts.push_back(line.substr(begin, tab - begin));
            begin = tab + 1;
        }
        ProbeCase one{parts.at(0), parts.at(1), parts.at(2), parts.at(3), {}};
        constexpr std::string_view separator = " -> ";
        const std::string& request = parts.at(4);
        for (std::size_t begin = 0;;) {
            const std::size_t end = request.find(separator, begin);
            one.steps.push_back(unescaped(std::string_view(request).substr(begin, end - begin)));
            if (end == std::string::npos) break;
            begin = end + separator.size();
        }
        cases.push_back(std::move(one));
    }
    return cases;
}

}  // namespace ferrule_test
