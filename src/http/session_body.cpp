#include <ferrule/http/session.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/yield.hpp>

#include "http/exchange.hpp"
#include "http/serve_service.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace ferrule::inline v0::http {

namespace detail {

// Bodies of requests: where they lie, piece by piece, and in one piece.

namespace {

constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
/// What a chunked body is collected in at first.
constexpr std::size_t collected_bytes_min = 4096;
/// A body that says its length is collected in so much at first, and then in so many times of what has come: a client
/// that only announces much costs little.
constexpr std::size_t announced_bytes_min = 64u << 10;
constexpr std::size_t announced_growth = 4;

}  // namespace

bool Session::body_read() const noexcept {
    const Body::State state = exchange_->body.state;
    return state == Body::State::complete || state == Body::State::in_place;
}

void Session::fail_body(Status status) noexcept {
    Body& body = exchange_->body;
    body.state = Body::State::failed;
    body.failure = status;
    body.piece = {};
    closing_ = true;
}

void Session::consume_piece() {
    if (const std::uint32_t shown = std::exchange(exchange_->body.shown, 0); shown != 0) consume(shown, shown);
}

/// Takes the next piece of what is there, or sees the end. False: neither is there. Nothing is shown.
bool Session::piece_at_hand() {
    Body& body = exchange_->body;
    while (body.state == Body::State::length || body.state == Body::State::chunked) {
        const ByteSequence there = buffered();
        if (!there) return false;
        const std::string_view first = (*there.begin()).text();
        if (body.state == Body::State::length) {
            body.piece = first.substr(0, body.remaining);
            body.shown = static_cast<std::uint32_t>(body.piece.size());
            body.remaining -= body.piece.size();
            if (body.remaining == 0) body.state = Body::State::complete;
        } else {
            const ChunkedDecoder::Step step = body.decoder->step(first, body.trailers);
            if (step.state == ChunkState::refused) {
                fail_body(status_of(body.decoder->refusal()));
                return true;
            }
            if (step.state != ChunkState::data) {
                consume(step.consumed, step.consumed);
                if (step.state == ChunkState::complete) body.state = Body::State::complete;
                continue;
            }
            if (body.decoder->body_size() > options_->body_limit) {
                fail_body(Status::content_too_large);
                return true;
            }
            body.piece = step.data;
            body.shown = static_cast<std::uint32_t>(step.consumed);
        }
        service_->counters.body_bytes.add(body.piece.size());
        return true;
    }
    return true;
}

bool Session::wait_for_body() {
    Body& body = exchange_->body;
    bool flushes = false;
    if (body.continue_wanted) {
        body.continue_wanted = false;
        if (!response_->begun()) {
            output_.commit();
            flushes = write(std::as_bytes(std::span{go_on}));
        }
    }
    if (!body.in_message) {
        body.in_message = true;
        begin_message();
    }
    const std::uint64_t now_ns = service_->reactor().now_ns();
    body.waits_since_ns = now_ns;
    if (has_least_rate()) {
        const std::uint64_t due_ns = now_ns + body.credit_ns;
        set_deadline(handler_due_ns_ != 0 ? std::min(handler_due_ns_, due_ns) : due_ns);
    }
    return flushes;
}

bool Session::has_least_rate() const noexcept {
    return options_->body_rate_min != 0 && options_->body_rate_window.count() > 0;
}

void Session::stop_waiting_for_body() noexcept {
    deadline_ns_ = handler_due_ns_;
    if (!has_least_rate() || exchange_ == nullptr) return;
    Body& body = exchange_->body;
    body.credit_ns -= std::min(body.credit_ns, service_->reactor().now_ns() - body.waits_since_ns);
}

void Session::waited_for_body(ByteSequence received) noexcept {
    Body& body = exchange_->body;
    if (received) {
        if (!has_least_rate()) return;
        const std::uint64_t earned_ns = received.size() * nanoseconds_per_second / options_->body_rate_min;
        body.credit_ns = std::min(nanoseconds(options_->body_rate_window), body.credit_ns + earned_ns);
        return;
    }
    if (expired_ && handler_due_ns_ != 0 && service_->reactor().now_ns() >= handler_due_ns_) {
        fail_body(Status::service_unavailable);
        return;
    }
    switch (end_reason()) {
        case EndReason::deadline:
            fail_body(Status::request_timeout);
            break;
        case EndReason::end_of_stream:
        case EndReason::reset:
            fail_body(Status::bad_request);
            break;
        default:
            fail_body(Status::service_unavailable);
    }
}

/// Until a piece, or the end, is there.
Task<> Session::wait_for_piece() {
    if (!exchange_->body.piece.empty()) {
        // It need not wait, but others come first.
        co_await yield_now();
        co_return;
    }
    bool there = false;
    while (!there) {
        auto reading = read_body();
        co_await std::move(reading);
        there = piece_at_hand();
    }
}

/// The answer to a request whose body has failed, when there can be one.
void Session::body_failed() {
    const Status status = exchange_->body.failure;
    if (!response_->restart()) {
        abandon();
        return;
    }
    switch (status) {
        case Status::request_timeout:
            refuse(status, "the body did not come in time");
            break;
        case Status::content_too_large:
            refuse(status, "the body is too large");
            break;
        case Status::service_unavailable:
            refuse(status, "the body cannot be received now");
            break;
        default: {
            const auto& decoder = exchange_->body.decoder;
            const bool malformed = decoder && decoder->refusal() != Refusal::none;
            refuse(status, malformed ? text_of(decoder->refusal()) : "the body has no end");
        }
    }
}

// ---- in one piece ----

std::optional<std::expected<std::string_view, Status>> Session::collect_at_hand(std::uint64_t limit) {
    Body& body = exchange_->body;
    switch (body.state) {
        case Body::State::failed:
            return std::unexpected(body.failure);
        case Body::State::complete:
            if (body.piece.empty()) return std::string_view{};
            return std::nullopt;
        case Body::State::in_place:
            if (body.piece.size() > limit) return std::unexpected(Status::content_too_large);
            if (!Host::current()->spend_inline_budget()) return std::nullopt;
            body.state = Body::State::complete;
            return std::exchange(body.piece, {});
        case Body::State::length:
            if (body.remaining + body.piece.size() > limit) return std::unexpected(Status::content_too_large);
            return std::nullopt;
        default:
            return std::nullopt;
    }
}

Task<std::expected<std::string_view, Status>> Session::collect_slowly(std::uint64_t limit) {
    Body& body = exchange_->body;
    if (body.state == Body::State::in_place) {
        co_await yield_now();
        body.state = Body::State::complete;
        co_return std::exchange(body.piece, {});
    }
    std::span<char> collected;
    std::size_t size = 0;
    for (;;) {
        if (body.piece.empty()) {
            consume_piece();
            if (!piece_at_hand()) {
                auto waiting = wait_for_piece();
                co_await std::move(waiting);
            }
        }
        if (body.state == Body::State::failed) co_return std::unexpected(body.failure);
        const std::string_view piece = body.piece;
        if (piece.empty()) break;
        if (piece.size() > limit - size) co_return std::unexpected(Status::content_too_large);
        if (piece.size() > collected.size() - size && !make_room(collected, size, piece.size(), limit))
            co_return std::unexpected(Status::service_unavailable);
        std::memcpy(collected.data() + size, piece.data(), piece.size());
        size += piece.size();
        body.piece = {};
    }
    consume_piece();
    co_return std::string_view{collected.data(), size};
}

/// For so many bytes more, and, within bounds, for what is to be expected of the rest.
bool Session::make_room(std::span<char>& collected, std::size_t size, std::size_t more, std::uint64_t limit) {
    const Body& body = exchange_->body;
    const std::size_t needed = size + more;
    const std::uint64_t bytes = body.decoder
                                    ? std::min<std::uint64_t>(std::max({needed, 2 * size, collected_bytes_min}), limit)
                                    : std::min<std::uint64_t>(needed + body.remaining,
                                                              std::max(needed * announced_growth, announced_bytes_min));
    try {
        const std::span<char> larger = request_->memory(bytes);
        if (size != 0) std::memcpy(larger.data(), collected.data(), size);
        collected = larger;
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

// ---- awaiters ----

bool BodyAwaiter::await_ready() {
    Session& session = *request_->session_;
    Body& body = session.exchange_->body;
    if (body.state == Body::State::in_place || body.state == Body::State::failed) return true;
    if (body.piece.empty()) {
        session.consume_piece();
        if (!session.piece_at_hand()) return false;
        if (body.piece.empty()) return true;
    }
    return Host::current()->spend_inline_budget();
}

Task<> BodyAwaiter::begin() {
    return request_->session_->wait_for_piece();
}

BodyPiece BodyAwaiter::await_resume() {
    Body& body = request_->session_->exchange_->body;
    if (waits_) waits_.await_resume();
    if (body.state == Body::State::in_place) body.state = Body::State::complete;
    return BodyPiece{std::exchange(body.piece, {})};
}

bool CollectAwaiter::await_ready() {
    auto at_hand = request_->session_->collect_at_hand(limit_);
    if (!at_hand) return false;
    result_ = *at_hand;
    return true;
}

Task<CollectAwaiter::Result> CollectAwaiter::begin() {
    return request_->session_->collect_slowly(limit_);
}

}  // namespace detail

}  // namespace ferrule::inline v0::http
