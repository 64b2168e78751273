#pragma once

#include <ferrule/http/method.hpp>

#include <cstddef>
#include <iterator>
#include <string_view>

namespace ferrule::inline v0::http {

// In the order of the enumeration, without `other`.
inline constexpr std::string_view method_names[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                                    "CONNECT", "OPTIONS", "TRACE", "PATCH"};
static_assert(std::size(method_names) == static_cast<std::size_t>(Method::other));

// By size first: no two methods of one size are compared in turn but these pairs.
inline Method find_method(std::string_view name) noexcept {
    const auto is_this = [name](Method method) { return name == method_names[static_cast<std::size_t>(method)]; };
    switch (name.size()) {
        case 3:
            return is_this(Method::get) ? Method::get : is_this(Method::put) ? Method::put : Method::other;
        case 4:
            return is_this(Method::post) ? Method::post : is_this(Method::head) ? Method::head : Method::other;
        case 5:
            return is_this(Method::patch) ? Method::patch : is_this(Method::trace) ? Method::trace : Method::other;
        case 6:
            return is_this(Method::delete_) ? Method::delete_ : Method::other;
        case 7:
            return is_this(Method::options)   ? Method::options
                   : is_this(Method::connect) ? Method::connect
                                              : Method::other;
        default:
            return Method::other;
    }
}

}  // namespace ferrule::inline v0::http
