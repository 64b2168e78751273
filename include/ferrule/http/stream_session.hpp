#pragma once

#include <ferrule/http/session.hpp>
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/stream.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include <algorithm>
#include <coroutine>
#include <optional>
#include <stdexcept>
#include <utility>

namespace ferrule::inline v0::http::detail {

/// Awaits something under an environment that is not the awaiting coroutine's, without a frame of its own: what it
/// begins to wait for is cancelled by that environment's scope.
template <class Awaiter>
class [[nodiscard]] AwaitUnder {
public:
    AwaitUnder(Awaiter awaiter, Environment& environment) noexcept
        : awaiter_(std::move(awaiter)), environment_(&environment) {}

    [[nodiscard]] bool await_ready() { return awaiter_.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> handle) {
        struct Restore {
            Promise& promise;
            Environment* own;
            ~Restore() { promise.environment = own; }
        };
        const Restore restore{handle.promise(), std::exchange(handle.promise().environment, environment_)};
        return awaiter_.await_suspend(handle);
    }
    decltype(auto) await_resume() { return awaiter_.await_resume(); }

private:
    Awaiter awaiter_;
    Environment* environment_;
};

/// A session with its stream.
template <Duplex Stream>
class StreamSession final : public Session {
    using Reading = ferrule::detail::BufferedReadAwaiter<Stream>;

public:
    StreamSession(Stream stream, Environment& inherited, const ServeOptions& options)
        : Session(inherited, options), stream_(std::move(stream)), reader_(std::in_place, stream_) {}
    ~StreamSession() override { stop_beside(); }

    /// Waits for a request, or the rest of one.
    [[nodiscard]] AwaitUnder<Reading> read() {
        wait_for_request();
        return {reader_->read(), reading_environment()};
    }
    [[nodiscard]] auto flush() { return stream_.flush(); }
    [[nodiscard]] Task<std::expected<void, std::errc>> push() { return push_output(true); }
    /// Ends the stream; nothing when it is somebody else's.
    void close() {
        if (upgraded()) return;
        stop_beside();
        if constexpr (requires { stream_.abort(); }) {
            if (aborts()) {
                reader_.reset();
                stream_.abort();
                return;
            }
        }
        reader_.reset();
        if constexpr (requires { stream_.close_lingering(); }) {
            if (client_may_send()) {
                stream_.close_lingering();
                return;
            }
        }
        stream_.close();
    }

    // StreamAccess.
    std::size_t writable() const override { return stream_.writable(); }
    std::size_t unsent() const override { return stream_.unsent(); }
    std::span<std::byte> span(std::size_t minimum) override { return stream_.span(minimum); }
    void advance(std::size_t bytes) override { stream_.advance(bytes); }
    bool write(std::span<const std::byte> bytes) override { return stream_.write(bytes); }
    bool write_shared(const SharedBytes& bytes) override {
        if constexpr (requires { stream_.write_shared(bytes); }) {
            return stream_.write_shared(bytes);
        } else {
            return stream_.write(bytes.slice());
        }
    }

private:
    ByteSequence buffered() override { return reader_->buffered(); }
    void consume(std::size_t consumed, std::size_t examined) override { reader_->advance(consumed, examined); }
    ReadResult take(std::size_t bytes) override { return reader_->take(bytes); }
    EndReason end_reason() const override { return stream_.end_reason(); }
    bool draining() const override {
        if constexpr (requires { stream_.draining(); }) {
            return stream_.draining();
        } else {
            return false;
        }
    }
    void begin_message() override {
        if constexpr (requires { stream_.begin_message(); }) stream_.begin_message();
    }
    void end_message() override {
        if constexpr (requires { stream_.end_message(); }) stream_.end_message();
    }
    void* hand_over(const void* key) override {
        void* stream = stream_of(key);
        stop_beside();
        reader_.reset();
        return stream;
    }
    void* stream_of(const void* key) override {
        if (key != &stream_key<Stream>) throw std::logic_error("the stream that is served is of another type");
        return &stream_;
    }

    Task<> read_body() override {
        ByteSequence received;
        {
            const BodyWait wait{*this};
            if (wait.flushes()) flush_beside();
            AwaitUnder<Reading> reading{reader_->read(), reading_environment()};
            received = co_await reading;
        }
        waited_for_body(received);
    }

    Task<> flush_aside() override {
        for (;;) {
            const std::expected<void, std::errc> flushed = co_await stream_.flush();
            if (!flushed) {
                flush_failed();
                break;
            }
            // What was written meanwhile waits for nobody either.
            if (stream_.unsent() == 0) break;
        }
    }

    std::unexpected<std::errc> fail(std::errc error) noexcept {
        flush_failed();
        return std::unexpected(error);
    }

    Task<std::expected<void, std::errc>> push_output(bool and_flush) override {
        output_.commit();
        std::size_t shared = 0;  // bytes of the shared body that are written
        for (;;) {
            const std::size_t made = output_.in_block() ? output_.response_bytes() : 0;
            const std::size_t left = made != 0 ? made : shared_bytes() - shared;
            if (left == 0) break;
            const std::size_t room = std::min(left, stream_.writable());
            if (room != 0) {
                const bool written =
                    made != 0 ? output_.push_some(room) : write_shared(shared_body().part(shared, room));
                if (!written) co_return fail(std::errc::no_buffer_space);
                if (made == 0) shared += room;
                continue;
            }
            const bool waits = stream_.unsent() != 0;
            if (flushes_beside()) {
                BesideAwaiter beside{*this};
                co_await beside;
            }
            const std::expected<void, std::errc> flushed = co_await stream_.flush();
            if (!flushed) co_return fail(flushed.error());
            if (!waits) co_return fail(std::errc::no_buffer_space);
        }
        if (shared != 0) shared_body().reset();
        if (!and_flush) co_return std::expected<void, std::errc>{};
        if (flushes_beside()) {
            BesideAwaiter beside{*this};
            co_await beside;
        }
        const std::expected<void, std::errc> flushed = co_await stream_.flush();
        if (!flushed) co_return fail(flushed.error());
        co_return flushed;
    }

    Stream stream_;
    std::optional<BufferedReader<Stream>> reader_;
};

/// Awaits a handler, and tells the session when it has to wait.
class HandlerAwaiter {
public:
    HandlerAwaiter(Session& session, Task<> task) noexcept : session_(&session), task_(std::move(task)) {}
    HandlerAwaiter(const HandlerAwaiter&) = delete;
    HandlerAwaiter& operator=(const HandlerAwaiter&) = delete;

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        if (!task_.start(session_->handler_environment(*environment_of(handle)), handle)) return false;
        session_->handler_waits();
        return true;
    }
    void await_resume() const { task_.await_resume(); }

private:
    Session* session_;
    Task<> task_;
};

}  // namespace ferrule::inline v0::http::detail
