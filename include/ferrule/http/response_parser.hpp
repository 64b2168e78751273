#pragma once

#include <ferrule/http/field.hpp>
#include <ferrule/http/framing.hpp>
#include <ferrule/http/head_state.hpp>
#include <ferrule/http/limits.hpp>
#include <ferrule/http/method.hpp>
#include <ferrule/http/refusal.hpp>
#include <ferrule/http/status.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// Reads the head of a response, as RequestParser reads that of a request: the same lines, limits and refusals. What is
/// ambiguous about the body is refused here too, rather than guessed. A reason phrase may be missing, and then the
/// space before it as well, as some servers have it. The statuses of refusals are for servers; a client reports
/// text_of().
///
/// Informational responses are heads of their own: read on behind one (is_informational), after reset().
///
/// Not for several threads at a time.
class FERRULE_EXPORT ResponseParser {
public:
    /// With these limits. Throws std::invalid_argument, which names the limit, when one is larger than HeadLimits says.
    explicit ResponseParser(const HeadLimits& limits = {}) : state_(limits) {}

    /// Reads on; see RequestParser::parse.
    ParseState parse(std::string_view bytes, std::span<FieldPosition> fields) noexcept;

    /// Begins anew, for the next head, with the same limits.
    void reset() noexcept {
        state_.restart();
        reason_size_ = code_ = 0;
    }

    /// Why it was refused; `none` while it is not.
    [[nodiscard]] Refusal refusal() const noexcept { return state_.refusal; }
    /// The bytes that are passed: nothing before is looked at again.
    [[nodiscard]] std::size_t scanned() const noexcept { return state_.scanned; }

    // What follows is known when the head is complete.

    /// Bytes of the head with its blank line: the body begins there.
    [[nodiscard]] std::size_t head_size() const noexcept { return state_.head_size; }
    /// How many fields there are: the first of the array are theirs.
    [[nodiscard]] std::size_t field_count() const noexcept { return state_.field_count; }
    /// The status, 100 to 999.
    [[nodiscard]] Status status() const noexcept { return Status{code_}; }
    /// The version.
    [[nodiscard]] Version version() const noexcept { return state_.version; }
    /// How the body is delimited, which depends on the method of the request (RFC 9112, section 6.3): there is none
    /// after HEAD, and none after a CONNECT that succeeded, behind which the tunnel begins.
    [[nodiscard]] BodyFraming framing(Method request) const noexcept;
    /// What Content-Length says, at most 2^63-1; 0 without one.
    [[nodiscard]] std::uint64_t content_length() const noexcept { return state_.content_length; }
    /// Whether the server lets the connection be used again. Never when the body ends with it.
    [[nodiscard]] bool keep_alive(Method request) const noexcept;

    /// The reason phrase, of a head that is at the beginning of `bytes`. It means nothing.
    [[nodiscard]] std::string_view reason(std::string_view bytes) const noexcept {
        return reason_size_ == 0 ? std::string_view{} : bytes.substr(reason_begin, reason_size_);
    }
    /// The fields of a head that is at the beginning of `bytes`.
    [[nodiscard]] FieldList fields(std::string_view bytes, std::span<const FieldPosition> fields) const noexcept {
        return {bytes.data(), fields.first(state_.field_count)};
    }

private:
    template <class Scan>
    friend struct ResponseMachine;

    static constexpr std::size_t reason_begin = 13;  // behind `HTTP/1.1 200 `

    detail::HeadState state_;
    std::uint16_t reason_size_ = 0;
    std::uint16_t code_ = 0;
};

}  // namespace ferrule::inline v0::http
