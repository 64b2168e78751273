#pragma once

#include <ferrule/http/limits.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ferrule::inline v0::http {

/// How connections are served. Every field has a sane default; times of zero mean: no such limit. What is out of its
/// range is misuse: see `serve`.
struct ServeOptions {
    HeadLimits limits{};  ///< of heads, of chunked bodies' framing and of trailers
    /// From the first byte of a head to its last: 408.
    std::chrono::milliseconds head_timeout{10'000};
    /// From an answer to the next request, and from the beginning of a connection to its first byte: it is closed.
    std::chrono::milliseconds idle_timeout{60'000};
    /// Bytes of a body per second that a client must send while the handler waits for them, as an average of
    /// `body_rate_window` of such waiting: 408. 0: no least rate.
    std::uint32_t body_rate_min = 1024;
    std::chrono::milliseconds body_rate_window{10'000};  ///< of that; so long a body may stand still, too
    /// How long a handler may wait; then its scope is cancelled, and 503 answered if it has not begun to answer. 0: as
    /// long as it likes.
    std::chrono::milliseconds handler_timeout{0};
    /// Bytes of a request's body: 413. Handlers have bounds of their own (Request::collect).
    std::uint64_t body_limit = 64ull << 20;
    /// Bytes of a body that its handler has not read and that are read for it, before its answer is sent, so that the
    /// connection can go on; when more would be, it is closed. It is closed, too, when the answer has begun to leave.
    std::uint64_t unread_limit = 64u << 10;
    /// Requests that are answered by one send at most, when they are there together. At least 1.
    std::uint32_t pipeline_limit = 64;
    /// Bytes of answers that wait for that send before it is made.
    std::uint32_t staged_limit = 64u << 10;
    /// Requests of one connection; behind the last the connection is closed. 0: any number.
    std::uint64_t requests_per_connection = 0;
    /// A chunked body, which does not say how long it is, is refused with 411.
    bool length_required = false;
    /// Trailers of requests are kept for Request::trailers; otherwise they are checked and dropped.
    bool keep_trailers = false;
    /// The value of a `Server` field in every response, which is kept elsewhere, of at most `server_bytes_max` bytes;
    /// empty: none.
    std::string_view server{};
    /// The longest `server`.
    static constexpr std::size_t server_bytes_max = 1024;
};

}  // namespace ferrule::inline v0::http
