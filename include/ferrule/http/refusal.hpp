#pragma once

#include <ferrule/http/status.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

/// Why bytes are no request, no response or no body. After any of these the connection has no meaning any more: what
/// follows cannot be told from what was refused, so it is closed when it has been answered.
enum class Refusal : std::uint8_t {
    none,
    // The request line, and empty lines before it.
    empty_lines,            ///< more than one empty line before the request line
    method_letter,          ///< a method that is no token, or no single space behind it
    method_too_long,        ///< a method that no one has
    target_letter,          ///< control characters, bytes beyond ASCII, or a fragment in the target
    target_form,            ///< a form of target that this method does not have
    target_authority,       ///< a target whose host or port is none
    target_too_long,        ///< the line or the head is full within the request line: 414
    version,                ///< no version, or more than that behind the target
    version_not_supported,  ///< a version other than HTTP/1.0 and HTTP/1.1: 505
    status_line,            ///< a response that does not begin with a version and a status
    // Lines.
    bare_carriage_return,  ///< CR without LF behind it
    bare_line_feed,        ///< LF without CR before it
    field_name,            ///< a line without a colon, or a name that is no token
    space_before_colon,    ///< white space between name and colon
    folded_line,           ///< a line that begins with white space
    field_value_letter,    ///< control characters in a value
    field_too_long,        ///< a line longer than HeadLimits::line_bytes: 431
    too_many_fields,       ///< more than HeadLimits::fields, or than there is room for: 431
    head_too_long,         ///< longer than HeadLimits::head_bytes: 431
    // What fields say.
    host_missing,         ///< HTTP/1.1 without Host
    host_repeated,        ///< more than one Host
    host_malformed,       ///< a Host that is no host, or has a port that is none
    host_differs,         ///< a Host other than that of an absolute target
    length_malformed,     ///< Content-Length is not one number of digits
    length_repeated,      ///< more than one Content-Length, equal ones too
    length_too_large,     ///< Content-Length above 2^63-1
    coding_malformed,     ///< Transfer-Encoding is empty, or `chunked` is not the last, or is there twice
    coding_repeated,      ///< more than one Transfer-Encoding
    coding_unknown,       ///< Transfer-Encoding other than `chunked`: 501
    coding_and_length,    ///< Transfer-Encoding and Content-Length
    coding_in_http_1_0,   ///< Transfer-Encoding in HTTP/1.0, which has none
    body_not_allowed,     ///< a body where the method has none: CONNECT, TRACE
    expectation_unknown,  ///< an expectation other than `100-continue`: 417
    // A chunked body.
    chunk_size,         ///< a chunk's size is not 1 to 16 hexadecimal digits, or is above 2^63-1
    chunk_extension,    ///< an extension that is not let through, or is malformed or too long
    chunk_end,          ///< no CRLF behind a chunk's data
    trailers_too_long,  ///< longer than HeadLimits::trailer_bytes, or than there is room for: 431
};

/// The status to answer with before the connection is closed.
FERRULE_EXPORT Status status_of(Refusal refusal) noexcept;

/// What is wrong, in a few words for a log or for the answer: `more than one Host`. Empty for `none`.
FERRULE_EXPORT std::string_view text_of(Refusal refusal) noexcept;

/// The name, `host_repeated`, for counters.
FERRULE_EXPORT std::string_view name_of(Refusal refusal) noexcept;

}  // namespace ferrule::inline v0::http
