#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/framing.hpp>
#include <ferrule/http/method.hpp>
#include <ferrule/http/request_head.hpp>
#include <ferrule/http/status.hpp>
#include <ferrule/http/stream_access.hpp>
#include <ferrule/http/target.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <charconv>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {
class Reactor;
}  // namespace ferrule::inline v0

namespace ferrule::inline v0::http {

class Request;

/// A piece of a body, where it was received; true when it has bytes.
class BodyPiece : public Slice {
public:
    BodyPiece() noexcept = default;
    explicit BodyPiece(std::string_view text) noexcept
        : Slice(reinterpret_cast<const std::byte*>(text.data()), text.size()) {}
    explicit operator bool() const noexcept { return !empty(); }
};

namespace detail {

class Session;
struct Exchange;

/// Waits for the next piece of a body.
class [[nodiscard]] BodyAwaiter {
public:
    explicit BodyAwaiter(Request& request) noexcept : request_(&request) {}
    [[nodiscard]] FERRULE_EXPORT bool await_ready();
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        waits_ = begin();
        return waits_.await_suspend(handle);
    }
    FERRULE_EXPORT BodyPiece await_resume();

private:
    FERRULE_EXPORT Task<> begin();
    Request* request_;
    Task<> waits_;
};

/// Waits for a whole body.
class [[nodiscard]] CollectAwaiter {
public:
    using Result = std::expected<std::string_view, Status>;
    CollectAwaiter(Request& request, std::uint64_t limit) noexcept : request_(&request), limit_(limit) {}
    [[nodiscard]] FERRULE_EXPORT bool await_ready();
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        waits_ = begin();
        return waits_.await_suspend(handle);
    }
    Result await_resume() { return waits_ ? waits_.await_resume() : result_; }

private:
    FERRULE_EXPORT Task<Result> begin();
    Request* request_;
    std::uint64_t limit_;
    Result result_;
    Task<Result> waits_;
};

}  // namespace detail

/// A request, as its handler sees it. Its texts are views of the bytes where they were received: valid until the
/// handler ends, whatever it awaits. Made by `serve` only. Reactor's own thread.
class FERRULE_EXPORT Request {
public:
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

    /// The method; Method::other: see method_text.
    [[nodiscard]] Method method() const noexcept { return head_.parser().method(); }
    /// The method as it was sent.
    [[nodiscard]] std::string_view method_text() const noexcept { return head_.method_text(); }
    /// HTTP/1.0 or HTTP/1.1.
    [[nodiscard]] Version version() const noexcept { return head_.parser().version(); }
    /// The target as it was sent.
    [[nodiscard]] std::string_view target() const noexcept { return head_.target(); }
    /// The path, decoded once: `%2F` is a slash here like any other. A target whose path cannot be decoded, or has a
    /// `%00`, does not come to a handler (400). Empty: CONNECT.
    [[nodiscard]] std::string_view path() noexcept {
        if (!split_) split();
        return path_;
    }
    /// The path as it was sent.
    [[nodiscard]] std::string_view raw_path() noexcept {
        if (!split_) split();
        return raw_path_;
    }
    /// What is behind the question mark, as it was sent: `Query` walks it. Empty without one.
    [[nodiscard]] std::string_view query() noexcept {
        if (!split_) split();
        return query_;
    }
    /// The value of the query's first parameter of that name, decoded; nothing: there is none, or it cannot be decoded.
    /// Throws std::bad_alloc.
    [[nodiscard]] std::optional<std::string_view> query_parameter(std::string_view name);

    /// The value of the first field of that name, in any case; nothing: there is none.
    [[nodiscard]] std::optional<std::string_view> field(KnownField name) const noexcept { return head_.field(name); }
    [[nodiscard]] std::optional<std::string_view> field(std::string_view name) const noexcept {
        return head_.field(name);
    }
    /// All fields, in the order in which they were sent.
    [[nodiscard]] FieldList fields() const noexcept { return head_.fields(); }
    /// The host, with a port where one was sent; empty: HTTP/1.0 without one.
    [[nodiscard]] std::string_view host() const noexcept { return head_.host(); }
    /// The whole head.
    [[nodiscard]] const RequestHead& head() const noexcept { return head_; }
    /// Whether the client lets the connection be used again.
    [[nodiscard]] bool keep_alive() const noexcept { return head_.parser().keep_alive(); }

    // What a router has found.

    /// A part of the path that has a name.
    struct Parameter {
        std::string_view name;   ///< as in the route's pattern: it lives as long as the router
        std::string_view value;  ///< decoded
    };
    /// The most parameters of one route.
    static constexpr std::size_t parameters_max = 16;

    /// The value of the route's parameter of that name, decoded; empty: there is none.
    [[nodiscard]] std::string_view parameter(std::string_view name) const noexcept {
        for (const Parameter& there : parameters()) {
            if (there.name == name) return there.value;
        }
        return {};
    }
    /// As above, as a number; nothing: there is none, or it is no number that fits.
    template <std::integral Number>
    [[nodiscard]] std::optional<Number> parameter(std::string_view name) const noexcept {
        const std::string_view text = parameter(name);
        Number number{};
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
        return number;
    }
    /// All of them, in the order of the path.
    [[nodiscard]] std::span<const Parameter> parameters() const noexcept {
        return {parameters_.data(), parameter_count_};
    }
    /// Adds a parameter, whose texts last as long as this request. Throws std::length_error beyond `parameters_max`.
    void add_parameter(std::string_view name, std::string_view value);
    /// Forgets the parameters behind the first `count`.
    void keep_parameters(std::size_t count) noexcept {
        if (count < parameter_count_) parameter_count_ = static_cast<std::uint8_t>(count);
    }

    // The body.

    /// Whether there is one, be it of no bytes.
    [[nodiscard]] bool has_body() const noexcept { return head_.parser().framing() != BodyFraming::none; }
    /// What Content-Length says; nothing: there is none, so there is no body, or a chunked one.
    [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept {
        if (head_.parser().framing() != BodyFraming::length) return std::nullopt;
        return head_.parser().content_length();
    }

    /// Waits for the next piece of the body, as it has come: `while (auto piece = co_await request.read())`. Empty
    /// when no more will come; then `body_complete` tells whether that was all. A piece is valid until the next read.
    /// The first read of a body that the client holds back sends it `100 Continue`.
    ///
    /// A body that does not come to its end, is malformed, too large or too slow is answered with 400, 413 or 408 in
    /// place of what the handler answers, unless some of that has left; the connection is closed in any case.
    /// Cancelling it loses no byte.
    ///
    /// ```cpp
    /// Task<> count(http::Request& request, http::Response& response) {
    ///     std::size_t bytes = 0;
    ///     while (auto piece = co_await request.read()) bytes += piece.size();
    ///     response.send(std::to_string(bytes));
    /// }
    /// ```
    [[nodiscard]] detail::BodyAwaiter read() noexcept { return detail::BodyAwaiter{*this}; }

    /// Waits for the whole body, or what `read` has left of it, in one piece: where it was received when it lies there
    /// so, and otherwise copied to memory that lasts as long as this request. That is taken as the body comes, whatever
    /// length is announced: 64 KiB at most, and when they are full four times of what has come, and so on. Errors are
    /// the status to answer with: 413 when it is longer than `limit` bytes, and what is said at `read`; 503 when there
    /// is no memory.
    ///
    /// ```cpp
    /// Task<> echo(http::Request& request, http::Response& response) {
    ///     const auto body = co_await request.collect(64 << 10);
    ///     if (!body) {
    ///         response.status(body.error());
    ///         co_return;
    ///     }
    ///     response.send(*body);
    /// }
    /// ```
    [[nodiscard]] detail::CollectAwaiter collect(std::uint64_t limit) noexcept { return {*this, limit}; }

    /// Whether the body has been read to its end.
    [[nodiscard]] bool body_complete() const noexcept;
    /// The fields behind a chunked body that has been read to its end (ServeOptions::keep_trailers), a line each, for
    /// next_trailer. Empty: there are none.
    [[nodiscard]] std::string_view trailers() const noexcept;

    // What is around it.

    /// The stream that it came by, of the type that `serve` was given; for its address, say. Who writes to it, or reads
    /// from it, breaks what comes behind: see Response::upgrade. Another type is misuse and throws std::logic_error.
    template <class Stream>
    [[nodiscard]] Stream& stream() {
        return *static_cast<Stream*>(stream_of(&detail::stream_key<Stream>));
    }
    /// The reactor that serves it.
    [[nodiscard]] Reactor& reactor() const noexcept;
    /// Memory that lasts as long as this request, from the reactor's pool. Throws std::bad_alloc.
    [[nodiscard]] std::span<char> memory(std::size_t bytes);

private:
    friend class detail::Session;
    friend class detail::BodyAwaiter;
    friend class detail::CollectAwaiter;
    friend struct detail::Exchange;
    friend class Response;
    struct Block;

    explicit Request(detail::Session& session) noexcept : session_(&session) {}
    ~Request() { release(); }
    void split() noexcept;
    bool decode_path();
    void* stream_of(const void* key);
    void release() noexcept {
        if (blocks_ != nullptr) release_blocks();
    }
    void release_blocks() noexcept;
    // For the next request, at whose head it already looks.
    void restart() noexcept {
        release();
        split_ = false;
        parameter_count_ = 0;
    }

    detail::Session* session_;
    RequestHead head_;
    std::string_view path_;
    std::string_view raw_path_;
    std::string_view query_;
    Block* blocks_ = nullptr;
    bool split_ = false;
    std::uint8_t parameter_count_ = 0;
    union {  // the first parameter_count_ are there: clearing all of them would cost each batch of requests
        std::array<Parameter, parameters_max> parameters_;
    };
};

}  // namespace ferrule::inline v0::http
