#pragma once

#include <ferrule/http/chunked_decoder.hpp>
#include <ferrule/http/field.hpp>
#include <ferrule/http/limits.hpp>
#include <ferrule/http/request.hpp>
#include <ferrule/http/request_parser.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/net/shared_bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http::detail {

// How far a request's body is read.
struct Body {
    enum class State : std::uint8_t {
        complete,  // there is none, or it has been read
        in_place,  // all of it is in the view, behind the head
        length,    // `remaining` bytes are still to come
        chunked,
        failed,
    };

    State state = State::complete;
    bool continue_wanted = false;  // the client holds it back until it is told to go on
    bool in_message = false;       // the stream knows that it is in a message
    Status failure = Status::ok;
    std::uint32_t shown = 0;  // received bytes that `piece` stands for, with what is around them
    std::uint64_t remaining = 0;
    std::uint64_t credit_ns = 0;  // so long the client may let itself be waited for
    std::uint64_t waits_since_ns = 0;
    std::string_view piece;  // the next one, when nobody has taken it yet; in place: the body
    std::span<char> trailers;
    std::optional<ChunkedDecoder> decoder;
};

// What a connection needs while a request, or the beginning of one, is there: see ServeService::take_exchange. The
// places of the fields are behind it.
struct Exchange {
    Exchange(Session& session, const HeadLimits& its_limits)
        : limits(its_limits), parser(limits), request(session), response(session) {
        // An answer asks it for method and version, also one to what is no request.
        request.head_ = RequestHead({}, parser, fields());
    }

    static std::size_t bytes_for(const HeadLimits& limits) noexcept {
        return sizeof(Exchange) + limits.fields * sizeof(FieldPosition);
    }
    std::span<FieldPosition> fields() noexcept { return {reinterpret_cast<FieldPosition*>(this + 1), limits.fields}; }
    // Between two requests: the next one is of that connection.
    void pass_to(Session& session) noexcept { request.session_ = response.session_ = &session; }

    HeadLimits limits;
    RequestParser parser;
    Body body;
    ReadResult head;          // when it is not in the view
    SharedBytes shared_body;  // of the response, as far as the stream had no room for it
    Request request;
    Response response;
};
static_assert(alignof(Exchange) >= alignof(FieldPosition));

}  // namespace ferrule::inline v0::http::detail
