#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace ferrule::inline v0 {

/// A request of the small part of HTTP/1.1 that an admin port speaks: GET and HEAD, without a body.
struct RequestHead {
    std::string path;         ///< of the target, as it was sent: nothing is decoded
    std::string query;        ///< behind the question mark
    std::string host;         ///< of the Host field; empty: there was none (HTTP/1.0)
    bool head_only = false;   ///< HEAD: everything but the body is wanted
    bool keep_alive = false;  ///< another request may follow
};

/// Why a request is refused: a status, and what is wrong.
struct RequestFault {
    unsigned status;
    std::string_view reason;
};

/// Reads a head, from the request line up to the empty line and with it. What is not exactly as RFC 9112 has it is
/// refused: bare line feeds, folded lines, spaces before colons, control characters, a body, a target that is no path.
std::expected<RequestHead, RequestFault> parse_request_head(std::string_view text);

/// Whether the host of a Host field is an address or `localhost`: no name that a stranger's DNS could lead here.
bool names_an_address(std::string_view host);

}  // namespace ferrule::inline v0
