#include "http/known_field_table.hpp"
#include "http/trailer_rules.hpp"

namespace ferrule::inline v0::http {

bool is_forbidden_trailer(std::string_view name) noexcept {
    switch (find_known_field(name.data(), name.size())) {
        // Framing and routing.
        case KnownField::connection:
        case KnownField::content_length:
        case KnownField::forwarded:
        case KnownField::host:
        case KnownField::keep_alive:
        case KnownField::max_forwards:
        case KnownField::proxy_connection:
        case KnownField::te:
        case KnownField::trailer:
        case KnownField::transfer_encoding:
        case KnownField::upgrade:
        case KnownField::via:
        case KnownField::x_forwarded_for:
        case KnownField::x_forwarded_host:
        case KnownField::x_forwarded_proto:
        case KnownField::x_real_ip:
        // What a request asks for.
        case KnownField::cache_control:
        case KnownField::expect:
        case KnownField::if_match:
        case KnownField::if_modified_since:
        case KnownField::if_none_match:
        case KnownField::if_range:
        case KnownField::if_unmodified_since:
        case KnownField::pragma:
        case KnownField::range:
        // Who asks.
        case KnownField::authorization:
        case KnownField::cookie:
        case KnownField::proxy_authenticate:
        case KnownField::proxy_authorization:
        case KnownField::set_cookie:
        case KnownField::www_authenticate:
        // What a response does.
        case KnownField::age:
        case KnownField::date:
        case KnownField::expires:
        case KnownField::location:
        case KnownField::retry_after:
        case KnownField::vary:
        // How content is read.
        case KnownField::content_encoding:
        case KnownField::content_range:
        case KnownField::content_type:
            return true;
        default:
            return false;
    }
}

}  // namespace ferrule::inline v0::http
