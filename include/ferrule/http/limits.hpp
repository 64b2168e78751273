#pragma once

#include <cstdint>

namespace ferrule::inline v0::http {

/// How large a head, a chunked body's framing and its trailers may be. All sizes are bytes.
struct HeadLimits {
    /// A line of a head or of trailers, without its CRLF: 414 for the request line, 431 for a field. At most 65535.
    std::uint32_t line_bytes = 8192;
    /// Fields of a head, and of trailers: 431. At most 65535. The array that a parser fills bounds it too.
    std::uint32_t fields = 100;
    /// A head, from its first byte to its blank line with it: 431, or 414 within the request line. At most 16 MiB.
    std::uint32_t head_bytes = 65'536;
    /// Trailers, with the line that ends them: 431.
    std::uint32_t trailer_bytes = 16'384;
    /// Chunk extensions, of each chunk, which are checked and ignored; 0: none is let through. They never meant
    /// anything to anybody but to attackers. At most 65535.
    std::uint32_t chunk_extension_bytes = 0;
    /// A proxy stands in front. A `Content-Length` with needless zeros at its front is refused then, because the two
    /// might read it differently.
    bool behind_proxy = false;

    friend bool operator==(const HeadLimits&, const HeadLimits&) = default;
};

}  // namespace ferrule::inline v0::http
