#pragma once

#include <ferrule/version.hpp>

#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

/// The status of a response (RFC 9110, section 15, and the registry that it founds). Others are made by a cast:
/// `Status{299}`.
enum class Status : std::uint16_t {
    continue_ = 100,
    switching_protocols = 101,
    processing = 102,
    early_hints = 103,
    ok = 200,
    created = 201,
    accepted = 202,
    non_authoritative_information = 203,
    no_content = 204,
    reset_content = 205,
    partial_content = 206,
    multi_status = 207,
    already_reported = 208,
    im_used = 226,
    multiple_choices = 300,
    moved_permanently = 301,
    found = 302,
    see_other = 303,
    not_modified = 304,
    use_proxy = 305,
    temporary_redirect = 307,
    permanent_redirect = 308,
    bad_request = 400,
    unauthorized = 401,
    payment_required = 402,
    forbidden = 403,
    not_found = 404,
    method_not_allowed = 405,
    not_acceptable = 406,
    proxy_authentication_required = 407,
    request_timeout = 408,
    conflict = 409,
    gone = 410,
    length_required = 411,
    precondition_failed = 412,
    content_too_large = 413,
    uri_too_long = 414,
    unsupported_media_type = 415,
    range_not_satisfiable = 416,
    expectation_failed = 417,
    misdirected_request = 421,
    unprocessable_content = 422,
    locked = 423,
    failed_dependency = 424,
    too_early = 425,
    upgrade_required = 426,
    precondition_required = 428,
    too_many_requests = 429,
    request_header_fields_too_large = 431,
    unavailable_for_legal_reasons = 451,
    internal_server_error = 500,
    not_implemented = 501,
    bad_gateway = 502,
    service_unavailable = 503,
    gateway_timeout = 504,
    http_version_not_supported = 505,
    variant_also_negotiates = 506,
    insufficient_storage = 507,
    loop_detected = 508,
    network_authentication_required = 511,
};

/// The number that is sent: 200.
constexpr std::uint16_t code_of(Status status) noexcept {
    return static_cast<std::uint16_t>(status);
}

/// The reason phrase that is customary for it, `Not Found`; empty where there is none. Clients ignore it.
FERRULE_EXPORT std::string_view reason_of(Status status) noexcept;

/// Whether it is informational: another response to the same request follows. 101 is not counted in.
constexpr bool is_informational(Status status) noexcept {
    return code_of(status) >= 100 && code_of(status) < 200 && status != Status::switching_protocols;
}

/// Whether a response with it never has a body, whatever its fields say (RFC 9112, section 6.3): 1xx, 204 and 304.
constexpr bool has_no_body(Status status) noexcept {
    return (code_of(status) >= 100 && code_of(status) < 200) || status == Status::no_content ||
           status == Status::not_modified;
}

}  // namespace ferrule::inline v0::http
