#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/status.hpp>
#include <ferrule/http/stream_access.hpp>
#include <ferrule/net/shared_bytes.hpp>
#include <ferrule/net/stream.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0::http {

class Response;

namespace detail {
class Session;
struct Exchange;
}  // namespace detail

/// A header or trailer that cannot be sent: its name is no token, or is one of those that the server sets itself; or
/// its value has a control character, which would end it and begin something else.
class FERRULE_EXPORT InvalidField : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// The answer to a request, which its handler makes. There are three ways:
///
/// - `send(body)`: a body that is there as a whole;
/// - `write(...)`, `span` and `advance`: a body that is made piece by piece. A short one is gathered and gets a
///   Content-Length; one that outgrows its room, or is flushed before its end, becomes a chunked one (in HTTP/1.0 the
///   connection's end is its end);
/// - `content_length(n)`, then `write`: a long body of known length.
///
/// Status, headers and `close` come before. The end of the handler is the end of the response. A handler that says
/// nothing at all is answered with 500 for it, and one that throws, too; when a part of the response has left by then,
/// the connection is aborted, so that nobody takes it for the whole.
///
/// What is sent is right whatever the handler writes: nothing goes out behind 204, 304 or the head that answers HEAD;
/// `Date` and `Connection` are the server's.
///
/// ```cpp
/// Task<> hello(http::Request&, http::Response& response) {
///     response.header("Content-Type", "text/plain");
///     response.send("ok");
///     co_return;
/// }
/// ```
///
/// Made by `serve` only. Reactor's own thread.
class FERRULE_EXPORT Response {
public:
    Response(const Response&) = delete;
    Response& operator=(const Response&) = delete;

    /// The status; 200 unless it is set.
    [[nodiscard]] Status status() const noexcept { return status_; }
    /// Sets it. When the response has begun it throws std::logic_error; std::invalid_argument for one that is not 200
    /// to 599 (see `informational`, `upgrade`).
    void status(Status status);

    /// Adds a header. Throws InvalidField, and adds nothing, when name or value cannot be sent: also for
    /// Content-Length (see `content_length`), Transfer-Encoding, Connection (see `close`), Keep-Alive, Upgrade,
    /// Trailer and Date. When the response has begun it throws std::logic_error; std::length_error when all headers
    /// and trailers would be longer than `headers_bytes_max`.
    void header(std::string_view name, std::string_view value);
    /// Adds a Content-Type. As `header`.
    void content_type(std::string_view type);
    /// All headers and trailers of a response, in bytes.
    static constexpr std::size_t headers_bytes_max = 32u << 10;

    /// The connection is closed behind this response.
    void close() noexcept { close_wanted_ = true; }

    /// Sends the body, or none, with all that was said before. Nothing may follow. When the response has begun it
    /// throws std::logic_error.
    void send(std::string_view body = {});
    /// As above.
    void send(std::span<const std::byte> body) {
        send(std::string_view{reinterpret_cast<const char*>(body.data()), body.size()});
    }
    /// As above, without a copy where the stream can (Connection::write_shared).
    void send(const SharedBytes& body);

    /// Says how long the body will be; `write` has to write so much. More throws std::logic_error there, less aborts
    /// the connection at the end, unless HEAD is answered, which may go without. When the response has begun it throws
    /// std::logic_error.
    void content_length(std::uint64_t bytes);

    /// Copies bytes of the body behind those before. False, and nothing is kept, when there is no room, because the
    /// client does not take what waits for it: `co_await flush()`, then write it again; or `write_all`. Small bodies
    /// always have room. A response that ends behind a write that was refused is aborted. After `send` it throws
    /// std::logic_error.
    bool write(std::string_view text);
    /// As above.
    bool write(std::span<const std::byte> bytes) {
        return write(std::string_view{reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    /// At least `minimum` bytes to write the body into in place, followed by `advance`. Empty when `write` would
    /// refuse, or `minimum` is above `span_bytes_max`. Valid until the next call, or await.
    [[nodiscard]] std::span<std::byte> span(std::size_t minimum = 1);
    /// Counts the first `bytes` bytes of the last `span` as written. More than it had throws std::logic_error.
    void advance(std::size_t bytes);
    static constexpr std::size_t span_bytes_max = 32u << 10;

    /// Sends what there is of the response: `co_await response.flush();`. Unless it has ended by then, its length is
    /// unknown: see above. Ends when the stream has taken it (ByteSink), or with the error that ended writing.
    [[nodiscard]] Task<std::expected<void, std::errc>> flush();
    /// Writes bytes of any number, and flushes whenever there is no room for more of them. They must stay there until
    /// it ends. As `flush`.
    [[nodiscard]] Task<std::expected<void, std::errc>> write_all(std::span<const std::byte> bytes);
    /// As above.
    [[nodiscard]] Task<std::expected<void, std::errc>> write_all(std::string_view text) {
        return write_all(std::as_bytes(std::span{text}));
    }

    /// Adds a trailer, a field behind a body that is written (`write`) and chunked then; told of in a `Trailer` header
    /// when the response has not begun. False, and nothing is added, when it cannot be: in HTTP/1.0, or when the length
    /// was told already. Throws InvalidField and std::length_error as `header`, the former also for fields that mean
    /// something for what comes before them (RFC 9110, section 6.5.1).
    bool trailer(std::string_view name, std::string_view value);

    /// Writes an informational response (1xx, but not 100 or 101) with these fields in front of the response, which
    /// must not have begun (std::logic_error): `co_await flush` is not needed, but sends it now. False, and nothing is
    /// written, in HTTP/1.0, which does not know them. Throws InvalidField as `header`.
    bool informational(Status status, std::initializer_list<Field> fields = {});

    /// Turns the connection over to another protocol: answers 101 with `Upgrade: protocol` and the headers that were
    /// added, or, to CONNECT, 200, and hands over the stream. It is the caller's from then on: the answer is written
    /// and not flushed. What the client has sent behind its head, and is there, is in front of what the stream reads:
    /// `take_carried`, and BufferedReader::buffered, have it without waiting. Only for requests that ask for it
    /// (RequestParser::wants_upgrade, CONNECT) and have no body (std::logic_error otherwise), and for the type of
    /// stream that `serve` was given.
    ///
    /// ```cpp
    /// Task<> echo_lines(http::Request& request, http::Response& response) {
    ///     if (request.field("upgrade") != "lines") co_return response.status(http::Status::upgrade_required);
    ///     Connection connection = response.upgrade<Connection>("lines");
    ///     BufferedReader reader{connection};
    ///     ByteSequence received = reader.buffered();
    ///     do {
    ///         for (const auto slice : received) connection.write(slice);
    ///         reader.advance(received.size());
    ///         co_await connection.flush();
    ///         received = co_await reader.read();
    ///     } while (received);
    /// }
    /// ```
    template <class Stream>
    [[nodiscard]] Stream upgrade(std::string_view protocol) {
        Stream* stream = static_cast<Stream*>(upgrade_to(protocol, &detail::stream_key<Stream>));
        return std::move(*stream);
    }

    /// Whether status and headers are settled: they cannot be changed any more.
    [[nodiscard]] bool begun() const noexcept { return form_ != Form::none; }
    /// Whether the body is settled, too.
    [[nodiscard]] bool ended() const noexcept { return form_ == Form::sent || form_ == Form::upgraded; }
    /// Forgets everything, as if nothing had been said, for another answer. False, and nothing changes, when a part of
    /// it has left.
    bool restart() noexcept;
    /// Says that what was said cannot be brought to its end: it is as if nothing had been said or, when a part of it
    /// has left, the connection is aborted.
    void abandon() noexcept;

private:
    friend class detail::Session;
    friend struct detail::Exchange;

    enum class Form : std::uint8_t {
        none,      // nothing is made yet
        gathered,  // head and body are in one piece, whose length is filled in at the end
        measured,  // content_length has said it
        chunked,
        until_close,
        sent,  // it has its end
        upgraded,
    };

    explicit Response(detail::Session& session) noexcept : session_(&session) {}
    ~Response() = default;

    // How the end of the body is told.
    enum class Length : std::uint8_t { exact, later, chunked, until_close };

    [[nodiscard]] std::size_t head_bound() const noexcept;
    char* put_trailer_names(char* at) const noexcept;
    void put_head(Length length, std::uint64_t bytes);
    bool begin_send(std::size_t bytes, std::size_t copied);
    bool takes_apart(std::size_t bytes);
    void begin_body(std::size_t bytes);
    void begin_stream();
    void become_streamed();
    bool write_streamed(std::string_view text);
    void open_chunk() noexcept;
    void seal_chunk() noexcept;
    bool end_chunks();
    void end();
    void count(std::size_t bytes);
    void forget() noexcept;
    void check_not_begun(const char* call) const;
    struct Lines;
    void add_header(std::string_view name, std::string_view value);
    void add_line(Lines& lines, std::string_view name, std::string_view value);
    static std::string_view checked(std::string_view name, std::string_view value, bool behind);
    static std::string_view checked_value(std::string_view name, std::string_view value);
    void* upgrade_to(std::string_view protocol, const void* key);

    // Lines as they are sent; at first in `first_lines_`, then in memory of the request.
    struct Lines {
        char* data = nullptr;
        std::uint32_t size = 0;
        std::uint32_t capacity = 0;
    };

    detail::Session* session_;
    Status status_ = Status::ok;
    Form form_ = Form::none;
    bool said_ = false;  // something was said that makes an answer
    bool close_wanted_ = false;
    bool discards_ = false;  // no body goes out
    bool measured_ = false;  // `length_` was told
    bool chunk_open_ = false;
    bool write_refused_ = false;   // the last write was, and has not been repeated
    bool end_waits_ = false;       // what ends the chunks has found no room yet
    std::uint32_t length_at_ = 0;  // where the length stands, from the beginning of the response
    std::uint32_t body_at_ = 0;    // where the body begins
    std::uint32_t chunk_at_ = 0;   // where the open chunk begins
    std::uint64_t length_ = 0;
    std::uint64_t written_ = 0;
    Lines headers_;
    Lines trailers_;
    std::array<char, 256> first_lines_;
};

}  // namespace ferrule::inline v0::http
