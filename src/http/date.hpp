#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ferrule::inline v0::http::detail {

// `Date: Sun, 06 Nov 1994 08:49:37 GMT` with its CRLF (RFC 9110, section 5.6.7).
inline constexpr std::size_t date_line_bytes = 37;
void write_date_line(std::uint64_t seconds_since_1970, std::span<char, date_line_bytes> into) noexcept;

}  // namespace ferrule::inline v0::http::detail
