#pragma once

#include <ferrule/net/end_reason.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/version.hpp>

#include <concepts>
#include <cstddef>
#include <expected>
#include <span>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {

namespace detail {

template <class Awaiter, class Result>
concept AwaiterOf = std::move_constructible<Awaiter> && requires(Awaiter& awaiter) {
    { awaiter.await_ready() } -> std::same_as<bool>;
    { awaiter.await_resume() } -> std::same_as<Result>;
};

}  // namespace detail

/// Where bytes come from: a Connection, its ReadHalf, and whatever stands on one, as a TLS session does. BufferedReader
/// and ByteStream read from any.
///
/// - `read()` is awaited for a ReadResult: true with bytes, and never true and empty; false when no more will come, and
///   then always. What a `consume` has left behind comes again in front of the next one (LeaseHome, for a source whose
///   bytes are in memory of its own). Cancelling it loses no byte.
/// - `take_carried()`: what was left behind, without waiting.
/// - `end_reason()` and `error()` tell why a read ended without bytes.
template <class Source>
concept ByteSource = requires(Source& source, const Source& asked) {
    { source.read() } -> detail::AwaiterOf<ReadResult>;
    { source.take_carried() } -> std::same_as<ReadResult>;
    { asked.end_reason() } -> std::same_as<EndReason>;
    { asked.error() } -> std::same_as<std::error_code>;
};

/// Where bytes go: a Connection, its WriteHalf, and whatever stands on one.
///
/// - `write(bytes)` copies them behind what was written before; false: nothing was kept.
/// - `span(minimum)` is room to write into in place, empty when `write` would refuse; `advance(bytes)` counts them.
/// - `flush()` is awaited, until what was written is on its way, or for the error that ended writing.
/// - `unsent()`: bytes that were written and are not on their way yet.
/// - `writable()`: bytes that a write takes now.
template <class Sink>
concept ByteSink = requires(Sink& sink, const Sink& asked, std::span<const std::byte> bytes, std::size_t count) {
    { sink.write(bytes) } -> std::same_as<bool>;
    { sink.span(count) } -> std::same_as<std::span<std::byte>>;
    sink.advance(count);
    { sink.flush() } -> detail::AwaiterOf<std::expected<void, std::errc>>;
    { asked.unsent() } -> std::same_as<std::size_t>;
    { asked.writable() } -> std::same_as<std::size_t>;
};

/// Both, and `close()`, which sends what was written and ends it: what a protocol talks over. It need not know whether
/// that is a TCP or a Unix connection, or a session on one.
///
/// ```cpp
/// template <Duplex Stream>
/// Task<> greet(Stream stream) {
///     stream.write(std::as_bytes(std::span{"hello", 5}));
///     co_await stream.flush();
/// }
///
/// Task<> serve(Connection connection) { return greet(std::move(connection)); }
/// ```
template <class Stream>
concept Duplex = ByteSource<Stream> && ByteSink<Stream> && requires(Stream& stream) {
    stream.close();
};

}  // namespace ferrule::inline v0
