#pragma once

#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_sequence.hpp>
#include <ferrule/net/end_reason.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/net/stream.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <algorithm>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

[[noreturn]] FERRULE_EXPORT void refuse_delimiter();

/// Ends at once when its operation can, and otherwise as the task that waits for it does.
template <class Operation>
class [[nodiscard]] StreamAwaiter {
    using Result = typename Operation::Result;

public:
    explicit StreamAwaiter(Operation operation) noexcept : operation_(operation) {}

    [[nodiscard]] bool await_ready() { return operation_.ready(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        waits_ = operation_.wait();
        return waits_.await_suspend(handle);
    }
    Result await_resume() { return waits_ ? waits_.await_resume() : operation_.result(); }

private:
    Operation operation_;
    Task<Result> waits_;
};

}  // namespace detail

/// A stream of bytes that are copied once, into memory of the caller's and out of it: the way to read and write that
/// most libraries know. Owns what it stands on.
///
/// ```cpp
/// Task<> serve(Connection connection) {
///     ByteStream stream{std::move(connection)};
///     for (;;) {
///         const auto line = co_await stream.read_until("\r\n", 1024);
///         if (!line || line->empty()) break;  // too long a line; the end
///         co_await stream.write(*line);
///         co_await stream.flush();
///     }
/// }
/// ```
///
/// One reader and one writer at a time. Where bytes are there, or room is, an operation takes no frame; one that waits
/// takes one from the pool, `read_some` never. It may be moved while none waits. Reactor's own thread.
template <Duplex Stream>
class ByteStream {
    struct ReadSome;
    struct ReadExactly;
    struct ReadUntil;
    struct Write;

public:
    explicit ByteStream(Stream stream) noexcept : stream_(std::move(stream)) {}
    ByteStream(ByteStream&& other) noexcept
        : stream_(std::move(other.stream_)),
          buffer_(std::move(other.buffer_)),
          shown_(std::exchange(other.shown_, 0)),
          left_(std::exchange(other.left_, false)) {}
    ByteStream& operator=(ByteStream&&) = delete;

    /// Waits for bytes, and copies as many as are there and fit into the destination. Returns how many; what does not
    /// fit waits for the next call. 0 when no more will come, or not now, and `end_reason` says why; and when the
    /// destination is empty. Cancelling it loses nothing.
    [[nodiscard]] ReadSome read_some(std::span<std::byte> into) {
        begin_read();
        return {{stream_, buffer_}, &buffer_, into};
    }

    /// Fills the destination. Returns how many bytes it got: fewer than it has room for when no more will come, or not
    /// now, and `end_reason` says why. What has come by then is in the destination.
    [[nodiscard]] detail::StreamAwaiter<ReadExactly> read_exactly(std::span<std::byte> into) {
        begin_read();
        return detail::StreamAwaiter<ReadExactly>{{this, into}};
    }

    /// Waits for the delimiter (an empty one is misuse and throws std::logic_error). Returns all bytes up to it, and
    /// it, as a view that is valid until the next operation that reads: they lie where they were received, and are
    /// copied only when they straddle slices. Empty when no more will come, or not now, and `end_reason` says why;
    /// `read_some` has what came without a delimiter. Errors, which leave the bytes there, too: EMSGSIZE when it does
    /// not end within the first `limit` bytes, ENOBUFS when there is no room for the copy. Cancelling it loses nothing.
    [[nodiscard]] detail::StreamAwaiter<ReadUntil> read_until(std::string_view delimiter, std::size_t limit) {
        if (delimiter.empty()) [[unlikely]]
            detail::refuse_delimiter();
        begin_read();
        return detail::StreamAwaiter<ReadUntil>{{this, delimiter, limit}};
    }

    /// Copies the bytes behind what was written before. Where there is no room for all of them it sends what waits, and
    /// goes on until all are written; so they may be more than may wait at a time. They leave with the next flush at
    /// the latest. The error that ended writing, as `flush` tells it; ENOBUFS when there is no room although nothing
    /// waits.
    detail::StreamAwaiter<Write> write(std::span<const std::byte> bytes) {
        return detail::StreamAwaiter<Write>{{this, bytes}};
    }
    /// As above, for characters.
    detail::StreamAwaiter<Write> write(std::string_view text) { return write(std::as_bytes(std::span{text})); }

    /// Sends what was written: as Connection::flush.
    auto flush() { return stream_.flush(); }

    /// Sends what was written and ends the stream; what was not read is dropped.
    void close() {
        if (buffer_.size() != 0) buffer_.leave();
        stream_.close();
    }

    /// Why the last read ended without bytes, or before it had all.
    [[nodiscard]] EndReason end_reason() const { return stream_.end_reason(); }
    /// The error that ended reading or writing; none while there is none.
    [[nodiscard]] std::error_code error() const { return stream_.error(); }
    /// What it stands on. Who reads from that reads past what this has buffered.
    [[nodiscard]] Stream& stream() noexcept { return stream_; }

private:
    struct [[nodiscard]] ReadSome {
        detail::BufferedReadAwaiter<Stream> read;
        detail::ReadBuffer* buffer;
        std::span<std::byte> into;

        [[nodiscard]] bool await_ready() { return into.empty() || read.await_ready(); }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) {
            return read.await_suspend(handle);
        }
        std::size_t await_resume() {
            if (into.empty()) return 0;
            const ByteSequence received = read.await_resume();
            if (!received) return 0;
            const std::size_t count = received.copy_to(into);
            buffer->advance(count, count);
            return count;
        }
    };

    struct ReadExactly {
        using Result = std::size_t;
        ByteStream* stream;
        std::span<std::byte> into;

        bool ready() { return stream->has(into.size()); }
        Result result() { return stream->copy(into); }
        Task<Result> wait() { return stream->read_exactly_later(into); }
    };

    struct ReadUntil {
        using Result = std::expected<std::string_view, std::errc>;
        ByteStream* stream;
        std::string_view delimiter;
        std::size_t limit;
        std::size_t length = 0;  // of what is returned; 0: the end

        bool ready() {
            for (std::size_t searched = 0;;) {
                length = stream->find(delimiter, limit, searched);
                if (length != 0) return Host::current()->spend_inline_budget();
                detail::BufferedReadAwaiter<Stream> read = stream->read_more();
                if (!read.await_ready()) return false;
                if (!stream->got(read.await_resume())) return true;
            }
        }
        Result result() { return stream->show(length); }
        Task<Result> wait() { return stream->read_until_later(delimiter, limit); }
    };

    struct Write {
        using Result = std::expected<void, std::errc>;
        ByteStream* stream;
        std::span<const std::byte> bytes;

        bool ready() { return bytes.size() <= stream->stream_.writable() && stream->stream_.write(bytes); }
        Result result() { return {}; }
        Task<Result> wait() { return stream->write_later(bytes); }
    };

    static constexpr std::size_t too_long = ByteSequence::npos;

    void begin_read() {
        if (shown_ != 0) consume(std::exchange(shown_, 0));
        // A read that was given up while it waited has left its bytes to the stream.
        if (left_) [[unlikely]]
            take_left();
        buffer_.look_again();
    }
    /// All that is there was looked at: waits for more of it.
    [[nodiscard]] detail::BufferedReadAwaiter<Stream> read_more() {
        left_ = left_ || buffer_.size() != 0;
        buffer_.hand_out();
        return {stream_, buffer_};
    }
    /// What is there and was not looked at; otherwise as above.
    [[nodiscard]] detail::BufferedReadAwaiter<Stream> next() { return {stream_, buffer_}; }
    /// Whether a read has brought bytes; when not, what was there before is there again.
    bool got(ByteSequence received) {
        if (received) {
            left_ = false;
        } else if (left_) {
            take_left();
        }
        return static_cast<bool>(received);
    }
    void take_left() {
        left_ = false;
        if (ReadResult carried = stream_.take_carried()) buffer_.fill(std::move(carried));
    }

    /// Whether an end, or so many bytes, are there without waiting.
    bool has(std::size_t wanted) {
        while (buffer_.size() < wanted) {
            detail::BufferedReadAwaiter<Stream> read = read_more();
            if (!read.await_ready()) return false;
            if (!got(read.await_resume())) return true;
        }
        return Host::current()->spend_inline_budget();
    }
    std::size_t copy(std::span<std::byte> into) {
        const std::size_t count = buffer_.sequence().copy_to(into);
        consume(count);
        return count;
    }
    void consume(std::size_t bytes) { buffer_.advance(bytes, bytes); }

    /// The length of what the delimiter ends; `too_long`; 0: it is not there yet. Looks no further than it has to, and
    /// not at what was searched before.
    std::size_t find(std::string_view delimiter, std::size_t limit, std::size_t& searched) {
        const ByteSequence there = buffer_.sequence().slice(0, limit);
        const std::size_t at = there.find(delimiter, searched - std::min(searched, delimiter.size() - 1));
        if (at != ByteSequence::npos) return at + delimiter.size();
        searched = there.size();
        return searched == limit ? too_long : 0;
    }
    typename ReadUntil::Result show(std::size_t length) {
        if (length == 0) return std::string_view{};
        if (length == too_long) return std::unexpected(std::errc::message_size);
        const Slice piece = buffer_.sequence().contiguous(length);
        if (piece.empty()) return std::unexpected(std::errc::no_buffer_space);
        shown_ = static_cast<std::uint32_t>(length);
        return piece.text();
    }

    Task<std::size_t> read_exactly_later(std::span<std::byte> into) {
        std::size_t count = 0;
        buffer_.look_again();
        while (count < into.size()) {
            auto received = co_await next();
            const bool more = got(received);
            count += copy(into.subspan(count));  // at an end, too: what an earlier look has left
            if (!more) break;
        }
        co_return count;
    }

    Task<typename ReadUntil::Result> read_until_later(std::string_view delimiter, std::size_t limit) {
        std::size_t searched = 0;
        buffer_.look_again();
        for (;;) {
            auto received = co_await next();
            if (!got(received)) co_return std::string_view{};
            if (const std::size_t length = find(delimiter, limit, searched); length != 0) co_return show(length);
            left_ = true;
        }
    }

    Task<typename Write::Result> write_later(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const std::size_t room = std::min(bytes.size(), stream_.writable());
            if (room != 0 && stream_.write(bytes.first(room))) {
                bytes = bytes.subspan(room);
                continue;
            }
            const bool waits = stream_.unsent() != 0;
            const std::expected<void, std::errc> flushed = co_await stream_.flush();
            if (!flushed) co_return flushed;
            if (!waits) co_return std::unexpected(std::errc::no_buffer_space);
        }
        co_return std::expected<void, std::errc>{};
    }

    Stream stream_;
    detail::ReadBuffer buffer_;
    std::uint32_t shown_ = 0;  // bytes of the view that read_until has returned; the next read begins behind them
    bool left_ = false;        // bytes may have been left to the stream while something waits for more
};

}  // namespace ferrule::inline v0
