#pragma once

#include <ferrule/http/compression.hpp>
#include <ferrule/http/content_coding.hpp>
#include <ferrule/http/request.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0::http {

/// The body of a response, compressed on its way when its client has asked for that and it is worth it. A sink, as the
/// response itself is one: a JsonWriter writes into either.
///
/// ```cpp
/// Task<> list(http::Request& request, http::Response& response) {
///     http::CompressedBody body{request, response, "application/json"};
///     http::JsonWriter json{body};
///     json.begin_array();
///     for (int number = 0; number < 1000; ++number) json.value(number);
///     json.end_array();
///     json.finish();
///     co_await body.finish();
/// }
/// ```
///
/// It adds Content-Type; where the type is one that becomes smaller (is_compressible) also `Vary: Accept-Encoding`; and
/// Content-Encoding when it compresses, with the coding that the client likes best of those that the reactor's
/// Compression offers. As they are leave: bodies of other types, of responses to HEAD, of 204, 206 and 304; those that
/// end below CompressionOptions::minimum_bytes without a flush; those beyond CompressionOptions::streams_max. Status
/// and headers that do not depend on it come before.
///
/// An ETag that is not weak has to differ between codings. Do not compress what has a secret beside text that a
/// stranger chooses: the size of the answer tells whether they are alike.
///
/// Ends with `finish`, or `try_finish`; without, the response is abandoned (Response::abandon), so that nobody takes a
/// part for the whole. Nothing else may be written to the response meanwhile. Reactor's own thread.
class CompressedBody {
public:
    /// Makes up its mind, but for the size. Throws as Response::header; std::bad_alloc.
    FERRULE_EXPORT CompressedBody(Request& request, Response& response, std::string_view content_type);
    CompressedBody(const CompressedBody&) = delete;
    CompressedBody& operator=(const CompressedBody&) = delete;
    FERRULE_EXPORT ~CompressedBody();

    /// What it will be, unless it stays too small.
    [[nodiscard]] ContentCoding coding() const noexcept { return coding_; }

    /// The most bytes that `write` and `span` take at a time.
    static constexpr std::size_t write_bytes_max = Compressor::gathered_bytes_max;

    /// At least `minimum` bytes to write into in place, followed by `advance`. Empty when `write` would refuse so many,
    /// or they are more than `write_bytes_max`. Valid until the next call, or await.
    [[nodiscard]] FERRULE_EXPORT std::span<std::byte> span(std::size_t minimum = 1);
    /// Counts the first bytes of the last `span` as written.
    FERRULE_EXPORT void advance(std::size_t bytes);
    /// Copies bytes behind those before. False, and nothing is kept, when there is no room because the client does not
    /// take what waits for it: `co_await flush()`, then write it again; or `write_all`. Throws std::length_error for
    /// more than `write_bytes_max`.
    FERRULE_EXPORT bool write(std::string_view text);
    /// As above.
    bool write(std::span<const std::byte> bytes) {
        return write(std::string_view{reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    /// Writes bytes of any number, and sends what waits whenever there is no room for more. They must stay there until
    /// it ends. As Response::flush.
    [[nodiscard]] FERRULE_EXPORT Task<std::expected<void, std::errc>> write_all(std::span<const std::byte> bytes);
    /// As above.
    [[nodiscard]] Task<std::expected<void, std::errc>> write_all(std::string_view text) {
        return write_all(std::as_bytes(std::span{text}));
    }
    /// Sends all that was written, so that the client can read all of it now. Costs some bytes of compression each
    /// time. As Response::flush.
    [[nodiscard]] FERRULE_EXPORT Task<std::expected<void, std::errc>> flush();

    /// The end of the body. Waits only when there is no room for it. Errors as Response::flush: the client has not got
    /// all of it.
    [[nodiscard]] FERRULE_EXPORT Task<std::expected<void, std::errc>> finish();
    /// The same for who cannot wait, as handlers that are no coroutines: false when it would have to. Bodies that are
    /// small when they are compressed always have room.
    [[nodiscard]] FERRULE_EXPORT bool try_finish();

private:
    void begin_coding();
    Task<std::expected<void, std::errc>> write_compressed(std::span<const std::byte> bytes);
    Task<std::expected<void, std::errc>> flush_compressed();

    Response* response_;
    std::optional<Compressor> compressor_;  // none: as it is
    std::size_t minimum_bytes_ = 0;
    ContentCoding coding_ = ContentCoding::identity;
    bool coded_ = false;  // the coding has begun, and the header says so
    bool finished_ = false;
};

}  // namespace ferrule::inline v0::http
