#include <ferrule/http/refusal.hpp>

#include <cstddef>
#include <iterator>

namespace ferrule::inline v0::http {

namespace {

struct Description {
    Refusal refusal;
    Status status;
    std::string_view name;
    std::string_view text;
};

// In the order of the enumeration, which is asserted below.
constexpr Description descriptions[] = {
    {Refusal::none, Status::ok, "none", ""},
    {Refusal::empty_lines, Status::bad_request, "empty_lines", "empty lines before the request line"},
    {Refusal::method_letter, Status::bad_request, "method_letter", "the method is not a token and a space"},
    {Refusal::method_too_long, Status::bad_request, "method_too_long", "the method is too long"},
    {Refusal::target_letter, Status::bad_request, "target_letter", "a character that no target has"},
    {Refusal::target_form, Status::bad_request, "target_form", "a target that this method does not have"},
    {Refusal::target_authority, Status::bad_request, "target_authority", "the target's host or port is none"},
    {Refusal::target_too_long, Status::uri_too_long, "target_too_long", "the request line is too long"},
    {Refusal::version, Status::bad_request, "version", "the request line does not end with a version"},
    {Refusal::version_not_supported, Status::http_version_not_supported, "version_not_supported",
     "a version other than HTTP/1.1 and HTTP/1.0"},
    {Refusal::status_line, Status::bad_request, "status_line", "not a version and a status"},
    {Refusal::bare_carriage_return, Status::bad_request, "bare_carriage_return", "a CR without LF"},
    {Refusal::bare_line_feed, Status::bad_request, "bare_line_feed", "an LF without CR"},
    {Refusal::field_name, Status::bad_request, "field_name", "a field is not a name, a colon and a value"},
    {Refusal::space_before_colon, Status::bad_request, "space_before_colon", "white space before a field's colon"},
    {Refusal::folded_line, Status::bad_request, "folded_line", "a line that begins with white space"},
    {Refusal::field_value_letter, Status::bad_request, "field_value_letter", "a control character in a field"},
    {Refusal::field_too_long, Status::request_header_fields_too_large, "field_too_long", "a field is too long"},
    {Refusal::too_many_fields, Status::request_header_fields_too_large, "too_many_fields", "too many fields"},
    {Refusal::head_too_long, Status::request_header_fields_too_large, "head_too_long", "the head is too long"},
    {Refusal::host_missing, Status::bad_request, "host_missing", "no Host"},
    {Refusal::host_repeated, Status::bad_request, "host_repeated", "more than one Host"},
    {Refusal::host_malformed, Status::bad_request, "host_malformed", "Host is not a host and a port"},
    {Refusal::host_differs, Status::bad_request, "host_differs", "Host is not the target's host"},
    {Refusal::length_malformed, Status::bad_request, "length_malformed", "Content-Length is not a number"},
    {Refusal::length_repeated, Status::bad_request, "length_repeated", "more than one Content-Length"},
    {Refusal::length_too_large, Status::bad_request, "length_too_large", "Content-Length is too large"},
    {Refusal::coding_malformed, Status::bad_request, "coding_malformed", "Transfer-Encoding does not end with chunked"},
    {Refusal::coding_repeated, Status::bad_request, "coding_repeated", "more than one Transfer-Encoding"},
    {Refusal::coding_unknown, Status::not_implemented, "coding_unknown", "Transfer-Encoding is not chunked"},
    {Refusal::coding_and_length, Status::bad_request, "coding_and_length", "Transfer-Encoding and Content-Length"},
    {Refusal::coding_in_http_1_0, Status::bad_request, "coding_in_http_1_0", "Transfer-Encoding in HTTP/1.0"},
    {Refusal::body_not_allowed, Status::bad_request, "body_not_allowed", "a body that this method does not have"},
    {Refusal::expectation_unknown, Status::expectation_failed, "expectation_unknown",
     "an expectation other than 100-continue"},
    {Refusal::chunk_size, Status::bad_request, "chunk_size", "a chunk's size is not a hexadecimal number"},
    {Refusal::chunk_extension, Status::bad_request, "chunk_extension", "a chunk's extension"},
    {Refusal::chunk_end, Status::bad_request, "chunk_end", "no CRLF behind a chunk"},
    {Refusal::trailers_too_long, Status::request_header_fields_too_large, "trailers_too_long",
     "the trailers are too long"},
};

constexpr bool in_order() {
    for (std::size_t index = 0; index < std::size(descriptions); ++index)
        if (descriptions[index].refusal != Refusal{static_cast<std::uint8_t>(index)}) return false;
    return std::size(descriptions) == static_cast<std::size_t>(Refusal::trailers_too_long) + 1;
}
static_assert(in_order());

const Description& describe(Refusal refusal) noexcept {
    const auto index = static_cast<std::size_t>(refusal);
    return descriptions[index < std::size(descriptions) ? index : 0];
}

}  // namespace

Status status_of(Refusal refusal) noexcept {
    return describe(refusal).status;
}

std::string_view text_of(Refusal refusal) noexcept {
    return describe(refusal).text;
}

std::string_view name_of(Refusal refusal) noexcept {
    return describe(refusal).name;
}

}  // namespace ferrule::inline v0::http
