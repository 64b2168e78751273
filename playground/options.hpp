// The command line of the playground programs: what each of them takes, and --help.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace playground {

/// Options with a value (`--port 8080` or `--port=8080`) and flags (`--defer-accept`), each bound to a variable that
/// holds its default.
class CommandLine {
public:
    /// `program` as it is called, and one sentence on what it does.
    CommandLine(std::string program, std::string purpose)
        : program_(std::move(program)), purpose_(std::move(purpose)) {}

    /// A whole number that `value` can hold.
    template <std::integral Number>
    requires(!std::same_as<Number, bool>) void add(std::string name, std::string placeholder, std::string meaning,
                                                   Number& value) {
        auto read = [&value](std::string_view text) {
            const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
            return error == std::errc() && end == text.data() + text.size();
        };
        options_.push_back({std::move(name), std::move(placeholder), std::move(meaning), std::move(read)});
    }

    /// Any text.
    void add(std::string name, std::string placeholder, std::string meaning, std::string& value) {
        auto read = [&value](std::string_view text) {
            value = text;
            return true;
        };
        options_.push_back({std::move(name), std::move(placeholder), std::move(meaning), std::move(read)});
    }

    /// A flag: true when it is given.
    void add(std::string name, std::string meaning, bool& value) {
        auto read = [&value](std::string_view) { return value = true; };
        options_.push_back({std::move(name), {}, std::move(meaning), std::move(read)});
    }

    /// Reads the arguments of main. `--help` prints what there is and ends the program with 0; what it does not
    /// understand ends it with 2.
    void parse(int count, char** arguments) const {
        for (int index = 1; index < count; ++index) {
            std::string_view name = arguments[index];
            if (name == "--help" || name == "-h") print_help();
            const auto equals = name.find('=');
            const bool attached = equals != std::string_view::npos;
            const std::string_view attached_value = attached ? name.substr(equals + 1) : std::string_view{};
            name = name.substr(0, equals);
            const Option& option = find(name);
            if (option.placeholder.empty()) {
                if (attached) refuse(name, "takes no value");
                option.read({});
                continue;
            }
            if (!attached && index + 1 == count) refuse(name, "needs a value");
            const std::string_view value = attached ? attached_value : std::string_view(arguments[++index]);
            if (!option.read(value)) refuse(std::string(name) + ' ' + std::string(value), "is not a number in range");
        }
    }

private:
    struct Option {
        std::string name;
        std::string placeholder;  // empty: a flag
        std::string meaning;
        std::function<bool(std::string_view)> read;
    };

    const Option& find(std::string_view name) const {
        for (const Option& option : options_) {
            if (option.name == name) return option;
        }
        refuse(name, "is not an option");
    }

    [[noreturn]] void refuse(std::string_view what, const char* why) const {
        std::fprintf(stderr, "%s: %.*s %s; try --help\n", program_.c_str(), static_cast<int>(what.size()), what.data(),
                     why);
        std::exit(2);
    }

    [[noreturn]] void print_help() const {
        std::printf("usage: %s [options]\n%s\n\n", program_.c_str(), purpose_.c_str());
        for (const Option& option : options_) {
            const std::string left = option.placeholder.empty() ? option.name : option.name + ' ' + option.placeholder;
            std::printf("  %-22s %s\n", left.c_str(), option.meaning.c_str());
        }
        std::printf("  %-22s %s\n", "--help", "this text");
        std::exit(0);
    }

    std::string program_;
    std::string purpose_;
    std::vector<Option> options_;
};

}  // namespace playground
