#pragma once

#include <ferrule/ring/kernel.hpp>

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ferrule::inline v0 {

/// A variable of the process's environment; none when it is not set.
inline std::optional<std::string> environment_variable(Kernel& kernel, const char* name) {
    std::string value;
    for (;;) {
        const ssize_t size = kernel.environment(name, value.data(), value.size());
        if (size < 0) return std::nullopt;
        const bool whole = static_cast<std::size_t>(size) <= value.size();
        value.resize(static_cast<std::size_t>(size));
        if (whole) return value;
    }
}

/// A decimal number and nothing else.
inline std::optional<std::uint64_t> whole_number(std::string_view text) noexcept {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

}  // namespace ferrule::inline v0
