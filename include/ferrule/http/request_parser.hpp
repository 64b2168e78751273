#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/framing.hpp>
#include <ferrule/http/head_state.hpp>
#include <ferrule/http/limits.hpp>
#include <ferrule/http/method.hpp>
#include <ferrule/http/refusal.hpp>
#include <ferrule/http/target.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// Reads the head of a request, as strictly as RFC 9112 has it: lines end with CRLF and nothing else, no folded lines,
/// no white space where none belongs, one Host, one way to find the end of the body. What two programs might read
/// differently is refused. One empty line before the request line is let through (section 2.2).
///
/// It keeps positions, never pointers: the bytes may move between calls, and a copy of the parser goes on alone. It
/// allocates nothing and looks at each byte once, however few arrive at a time. What it finds, and what it refuses,
/// does not depend on how the bytes were split.
///
/// ```cpp
/// #include <ferrule/http/request_head.hpp>
///
/// namespace http = ferrule::http;
///
/// bool is_health_check(std::string_view bytes) {
///     http::FieldPosition fields[100];
///     http::RequestParser parser;
///     if (parser.parse(bytes, fields) != http::ParseState::complete) return false;
///     return http::RequestHead(bytes, parser, fields).target() == "/healthz";
/// }
/// ```
///
/// Not for several threads at a time.
class FERRULE_EXPORT RequestParser {
public:
    /// With these limits. Throws std::invalid_argument, which names the limit, when one is larger than HeadLimits says.
    explicit RequestParser(const HeadLimits& limits = {}) : state_(limits) {}

    /// Reads on. `bytes` are all that there are from the beginning of the head, those of earlier calls with them: they
    /// may lie elsewhere now, but may not have changed. What lies behind the head is not looked at. `fields` receives
    /// the positions of its fields, and keeps what it has received between the calls; a head with more than it has room
    /// for is refused.
    ///
    /// A head that is complete or refused stays so until reset().
    ParseState parse(std::string_view bytes, std::span<FieldPosition> fields) noexcept;

    /// Begins anew, for the next head, with the same limits.
    void reset() noexcept {
        state_.restart();
        target_size_ = 0;
        method_size_ = start_ = 0;
        method_ = Method::other;
        form_ = TargetForm::origin;
    }

    /// Why it was refused; `none` while it is not.
    [[nodiscard]] Refusal refusal() const noexcept { return state_.refusal; }
    /// The bytes that are passed: nothing before is looked at again. Where it was refused, it was within a few bytes of
    /// here.
    [[nodiscard]] std::size_t scanned() const noexcept { return state_.scanned; }

    // What follows is known when the head is complete.

    /// Bytes of the head with its blank line, and with an empty line before it: the body begins there.
    [[nodiscard]] std::size_t head_size() const noexcept { return state_.head_size; }
    /// How many fields there are: the first of the array are theirs.
    [[nodiscard]] std::size_t field_count() const noexcept { return state_.field_count; }
    /// The method. Known from the end of the request line on.
    [[nodiscard]] Method method() const noexcept { return method_; }
    /// The version. Known from the end of the request line on.
    [[nodiscard]] Version version() const noexcept { return state_.version; }
    /// The form of the target: one that the method may have.
    [[nodiscard]] TargetForm target_form() const noexcept { return form_; }
    /// How the body is delimited: none, length or chunked.
    [[nodiscard]] BodyFraming framing() const noexcept;
    /// What Content-Length says, at most 2^63-1; 0 without one.
    [[nodiscard]] std::uint64_t content_length() const noexcept { return state_.content_length; }
    /// Whether the client lets the connection be used again: HTTP/1.1 without `close`, HTTP/1.0 with `keep-alive`.
    [[nodiscard]] bool keep_alive() const noexcept;
    /// Whether the client waits for 100 before it sends the body (RFC 9110, section 10.1.1). Never in HTTP/1.0, and
    /// never without a body.
    [[nodiscard]] bool expects_continue() const noexcept;
    /// Whether there is an Upgrade field, and Connection names it, as it has to. Never in HTTP/1.0.
    [[nodiscard]] bool wants_upgrade() const noexcept;

    /// Where the method lies, and how long it is; the target begins one byte behind it.
    [[nodiscard]] std::size_t method_begin() const noexcept { return start_; }
    [[nodiscard]] std::size_t method_size() const noexcept { return method_size_; }
    /// Where the target lies, and how long it is.
    [[nodiscard]] std::size_t target_begin() const noexcept { return std::size_t{start_} + method_size_ + 1; }
    [[nodiscard]] std::size_t target_size() const noexcept { return target_size_; }

private:
    template <class Scan>
    friend struct RequestMachine;

    detail::HeadState state_;
    std::uint16_t target_size_ = 0;
    std::uint8_t method_size_ = 0;
    std::uint8_t start_ = 0;  // 2 behind an empty line
    Method method_ = Method::other;
    TargetForm form_ = TargetForm::origin;
};
static_assert(sizeof(RequestParser) <= 64);

}  // namespace ferrule::inline v0::http
