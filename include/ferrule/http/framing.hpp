#pragma once

#include <cstdint>

namespace ferrule::inline v0::http {

/// The versions that there are here. A message of another is refused.
enum class Version : std::uint8_t { http_1_0, http_1_1 };

/// How the end of a message's body is found (RFC 9112, section 6.3).
enum class BodyFraming : std::uint8_t {
    none,         ///< no body: the next message begins behind the head
    length,       ///< Content-Length bytes, which may be 0
    chunked,      ///< chunks: ChunkedDecoder
    until_close,  ///< a response that ends with its connection
};

/// What a parser says of the bytes that it was given.
enum class ParseState : std::uint8_t {
    incomplete,  ///< the head goes on: more bytes are needed
    complete,    ///< the whole head is there
    refused,     ///< it is no head; refusal() says why
};

}  // namespace ferrule::inline v0::http
