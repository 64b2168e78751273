#pragma once

#include <ferrule/http/request.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/http/serve_options.hpp>
#include <ferrule/http/stream_session.hpp>
#include <ferrule/net/stream.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>

#include <concepts>
#include <exception>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0::http {

/// What answers requests: called with a Request and a Response, which it may use until it ends. A coroutine, or a plain
/// function for what never has to wait.
template <class Called>
concept Handler = requires(std::remove_reference_t<Called>& called, Request& request, Response& response) {
    { called(request, response) } -> std::same_as<Task<>>;
}
|| requires(std::remove_reference_t<Called>& called, Request& request, Response& response) {
    { called(request, response) } -> std::same_as<void>;
};

namespace detail {

/// A handler that tells, by an empty task, that it has answered already: a Router.
template <class Called>
concept BeginsAtOnce = requires(Called& called, Request& request, Response& response) {
    { called.begin(request, response) } -> std::same_as<Task<>>;
};

template <Duplex Stream, class Called>
Task<> serve_stream(Stream stream, Called handler, const ServeOptions& options) {
    Environment& inherited = co_await this_environment();
    StreamSession<Stream> session{std::move(stream), inherited, options};
    while (!session.closing()) {
        auto reading = session.read();
        const ByteSequence received = co_await reading;
        if (!received) {
            session.read_ended();
            break;
        }
        session.begin(received);
        while (session.next_request()) {
            try {
                if constexpr (std::is_void_v<decltype(handler(session.request(), session.response()))>) {
                    handler(session.request(), session.response());
                } else if constexpr (BeginsAtOnce<Called>) {
                    Task<> begun = handler.begin(session.request(), session.response());
                    if (begun) {
                        HandlerAwaiter handling{session, std::move(begun)};
                        co_await handling;
                    }
                } else {
                    HandlerAwaiter handling{session, handler(session.request(), session.response())};
                    co_await handling;
                }
            } catch (...) {
                session.handler_failed(std::current_exception());
            }
            if (!session.finish_request()) {
                auto finishing = session.finish_slowly();
                co_await std::move(finishing);
            }
        }
        if (!session.end_batch()) continue;
        if (session.flushes_beside()) {
            Session::BesideAwaiter beside{session};
            co_await beside;
        }
        const std::expected<void, std::errc> flushed = co_await session.flush();
        if (!flushed) session.flush_failed();
    }
    if (session.unfinished()) {
        auto pushing = session.push();
        co_await std::move(pushing);
    }
    session.close();
}

/// When `serve` is given none.
inline constexpr ServeOptions default_serve_options;

}  // namespace detail

/// Serves a connection as HTTP/1.1 and 1.0 (RFC 9112): reads requests, has `handler` answer each, and ends the stream
/// when either side wants no more. Not a coroutine itself: what it returns is one.
///
/// A handler that is an lvalue of a class (a Router, a function object that all connections share) is kept by reference
/// and has to outlive the connections, as `options` have to; an rvalue, and a function, is kept by value.
///
/// Requests that have arrived together are answered in their order and by one send. A handler that has to wait holds
/// back those behind it, but not the answers before it. What is no request is answered with the right status, and
/// the connection closed; when the reactor drains, the answer at hand is the last one.
///
/// Under the stream's own limits (NetworkOptions), and those of `options`. It ends when the stream has, or, after
/// Response::upgrade, when the handler does. Exceptions of handlers go to Host::fault.
///
/// Options that are out of their range throw std::invalid_argument, which names them, where the task is awaited, before
/// anything is read: a server faults with it at each connection, and closes it. On a thread that is no reactor's it
/// throws std::logic_error there.
///
/// ```cpp
/// #include <ferrule/http/server.hpp>
/// #include <ferrule/server.hpp>
///
/// using namespace ferrule;
///
/// Task<> hello(http::Request&, http::Response& response) {
///     response.send("ok");
///     co_return;
/// }
///
/// int main() {
///     Server server{{.port = 8080}};
///     server.on_connection([](Connection connection) { return http::serve(std::move(connection), hello); });
///     return server.run();
/// }
/// ```
template <Duplex Stream, Handler Called>
[[nodiscard]] Task<> serve(Stream stream, Called&& handler,
                           const ServeOptions& options = detail::default_serve_options) {
    using Kept =
        std::conditional_t<std::is_class_v<std::remove_reference_t<Called>> && std::is_lvalue_reference_v<Called>,
                           Called, std::decay_t<Called>>;
    return detail::serve_stream<Stream, Kept>(std::move(stream), std::forward<Called>(handler), options);
}
/// Options that end before the connection does.
template <Duplex Stream, Handler Called>
Task<> serve(Stream stream, Called&& handler, const ServeOptions&& options) = delete;

}  // namespace ferrule::inline v0::http
