#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/limits.hpp>
#include <ferrule/http/refusal.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// What a step of a ChunkedDecoder came to.
enum class ChunkState : std::uint8_t {
    more,      ///< everything is consumed, and the body goes on: more bytes are needed
    data,      ///< a piece of the body; go on with the bytes behind it
    complete,  ///< the body and its trailers have ended; what is not consumed is the next message
    refused,   ///< it is no chunked body; refusal() says why
};

/// Takes chunks apart (RFC 9112, section 7.1), strictly: sizes are 1 to 16 hexadecimal digits, lines end with CRLF, so
/// do the chunks' data, and extensions are refused unless HeadLimits::chunk_extension_bytes lets them through. It keeps
/// nothing of the bytes: what is consumed may be gone at the next call. It allocates nothing.
///
/// ```cpp
/// #include <ferrule/http/chunked_decoder.hpp>
///
/// #include <string>
///
/// namespace http = ferrule::http;
///
/// // Appends what `bytes` have of the body, and takes off what it has read.
/// http::ChunkState read_body(http::ChunkedDecoder& decoder, std::string_view& bytes, std::string& body) {
///     for (;;) {
///         const auto step = decoder.step(bytes);
///         bytes.remove_prefix(step.consumed);
///         if (step.state != http::ChunkState::data) return step.state;
///         body += step.data;
///     }
/// }
/// ```
///
/// Not for several threads at a time.
class FERRULE_EXPORT ChunkedDecoder {
public:
    /// How far a step went.
    struct Step {
        std::size_t consumed;   ///< bytes to take off the front
        std::string_view data;  ///< with ChunkState::data: a piece of the body, a view into the bytes; never empty
        ChunkState state;       ///< what now
    };

    /// With these limits. Throws std::invalid_argument, which names the limit, when one is larger than HeadLimits says.
    explicit ChunkedDecoder(const HeadLimits& limits = {});

    /// Reads on, up to the end of a piece of data. `bytes` are those that no step has consumed.
    ///
    /// `trailers`, where there is any, receives the trailers, a line each as `name: value\r\n`: trailers_size() bytes
    /// so far, which must be there again at the next call. Fields that decide where a message ends, where it goes or
    /// who sends it (RFC 9110, section 6.5.1) are left out, though they have to be well formed. More than it has room
    /// for is refused. Without it trailers are checked and dropped.
    Step step(std::string_view bytes, std::span<char> trailers = {}) noexcept;

    /// Begins anew, for the next body, with the same limits.
    void reset() noexcept;

    /// Why it was refused; `none` while it is not.
    [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }
    /// Bytes of trailers that were written: see next_trailer().
    [[nodiscard]] std::size_t trailers_size() const noexcept { return trailers_size_; }
    /// Bytes of the body so far, at most 2^63-1.
    [[nodiscard]] std::uint64_t body_size() const noexcept { return body_size_; }

private:
    enum class Phase : std::uint8_t;

    Refusal read_size(char letter) noexcept;
    Refusal end_size_line() noexcept;
    Refusal read_extension(char letter) noexcept;
    Refusal read_trailer(char letter, std::span<char> trailers) noexcept;
    Refusal keep(std::string_view text, std::span<char> trailers) noexcept;
    Step refuse(Refusal refusal, std::size_t consumed) noexcept;

    std::uint64_t remaining_ = 0;  // bytes of the current chunk; while its size is read, what has been read of it
    std::uint64_t body_size_ = 0;
    std::uint32_t line_size_ = 0;        // bytes of the current line, or digits of the current size
    std::uint32_t trailer_total_ = 0;    // bytes of all trailers
    std::uint32_t extension_total_ = 0;  // bytes of all extensions
    std::uint32_t trailers_size_ = 0;    // bytes of trailers that are written
    std::uint32_t trailer_line_ = 0;     // where the current trailer begins in them
    std::uint32_t trailer_limit_;
    std::uint16_t line_limit_;
    std::uint16_t extension_limit_;
    std::uint16_t field_limit_;
    std::uint16_t field_count_ = 0;
    Phase phase_;
    Refusal refusal_ = Refusal::none;
    bool keeps_trailer_ = false;  // the current one is written
};

/// Takes the first trailer off `text`, which a ChunkedDecoder has written; nothing: there is no more.
FERRULE_EXPORT std::optional<Field> next_trailer(std::string_view& text) noexcept;

}  // namespace ferrule::inline v0::http
