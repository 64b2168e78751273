#pragma once

#include <ferrule/version.hpp>

#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

/// The names of fields that the parsers recognise as they pass them: to look one of these up is to compare a byte. Any
/// other name is `unknown`, and is found by its text.
enum class KnownField : std::uint8_t {
    unknown,
    // What the parsers read themselves.
    connection,
    content_length,
    expect,
    host,
    transfer_encoding,
    upgrade,
    // The others.
    accept,
    accept_charset,
    accept_encoding,
    accept_language,
    accept_ranges,
    access_control_allow_credentials,
    access_control_allow_headers,
    access_control_allow_methods,
    access_control_allow_origin,
    access_control_expose_headers,
    access_control_max_age,
    access_control_request_headers,
    access_control_request_method,
    age,
    allow,
    authorization,
    cache_control,
    content_disposition,
    content_encoding,
    content_language,
    content_location,
    content_range,
    content_security_policy,
    content_type,
    cookie,
    date,
    dnt,
    etag,
    expires,
    forwarded,
    from,
    if_match,
    if_modified_since,
    if_none_match,
    if_range,
    if_unmodified_since,
    keep_alive,
    last_event_id,
    last_modified,
    link,
    location,
    max_forwards,
    origin,
    pragma,
    priority,
    proxy_authenticate,
    proxy_authorization,
    proxy_connection,
    range,
    referer,
    retry_after,
    sec_ch_ua,
    sec_ch_ua_mobile,
    sec_ch_ua_platform,
    sec_fetch_dest,
    sec_fetch_mode,
    sec_fetch_site,
    sec_fetch_user,
    sec_websocket_accept,
    sec_websocket_extensions,
    sec_websocket_key,
    sec_websocket_protocol,
    sec_websocket_version,
    server,
    set_cookie,
    strict_transport_security,
    te,
    traceparent,
    tracestate,
    trailer,
    upgrade_insecure_requests,
    user_agent,
    vary,
    via,
    www_authenticate,
    x_forwarded_for,
    x_forwarded_host,
    x_forwarded_proto,
    x_real_ip,
    x_request_id,
    x_requested_with,
};

/// The field's name in lower case, `content-length`; empty for `unknown`.
FERRULE_EXPORT std::string_view name_of(KnownField field) noexcept;

/// The field of that name, in any case; `unknown` where it is none of these.
FERRULE_EXPORT KnownField known_field_of(std::string_view name) noexcept;

}  // namespace ferrule::inline v0::http
