#pragma once

#include <cstdint>

namespace ferrule::inline v0::http {

// What the positions of a parser can hold.
inline constexpr std::uint32_t head_bytes_max = std::uint32_t{16} << 20;
inline constexpr std::uint32_t line_bytes_max = 65'535;
inline constexpr std::uint32_t fields_max = 65'535;

[[noreturn]] void refuse_limit(const char* name, std::uint32_t value, std::uint32_t most);

// Throws std::invalid_argument, which names the member of HeadLimits, when the value is above the most that it may be.
inline std::uint32_t check_limit(const char* name, std::uint32_t value, std::uint32_t most) {
    if (value > most) [[unlikely]]
        refuse_limit(name, value, most);
    return value;
}

}  // namespace ferrule::inline v0::http
