#pragma once

#include <string_view>

namespace ferrule::inline v0::http {

// Whether a field of that name, which is a token, may not come behind the body: it decides where the message ends,
// where it goes, who sends it or how it is read, and whoever reads it there reads another message than those who do not
// (RFC 9110, section 6.5.1).
bool is_forbidden_trailer(std::string_view name) noexcept;

}  // namespace ferrule::inline v0::http
