#pragma once

#include <ferrule/version.hpp>

#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

/// A request's method. Any token is one (RFC 9110, section 9.1): what has no name of its own here is `other`, and its
/// text is in the head (RequestHead::method_text).
enum class Method : std::uint8_t { get, head, post, put, delete_, connect, options, trace, patch, other };

/// The method as it is sent, `GET`; empty for `other`.
FERRULE_EXPORT std::string_view name_of(Method method) noexcept;

/// The method of that name. Methods are case-sensitive: `get` is `other`.
FERRULE_EXPORT Method method_of(std::string_view name) noexcept;

}  // namespace ferrule::inline v0::http
