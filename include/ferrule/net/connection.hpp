#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/connection_state.hpp>
#include <ferrule/net/end_reason.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/net/shared_bytes.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

class FileTransfer;

namespace detail {

/// Waits for received bytes. One pointer; what it waits with lives in the connection's slot.
class [[nodiscard]] FERRULE_EXPORT ReadAwaiter {
public:
    explicit ReadAwaiter(ConnectionState* state) noexcept : state_(reinterpret_cast<std::uintptr_t>(state)) {}
    ReadAwaiter(ReadAwaiter&& other) noexcept : state_(std::exchange(other.state_, 0)) {}
    ReadAwaiter(const ReadAwaiter&) = delete;
    ReadAwaiter& operator=(const ReadAwaiter&) = delete;
    ReadAwaiter& operator=(ReadAwaiter&&) = delete;
    ~ReadAwaiter() {
        if ((state_ & suspended) != 0) [[unlikely]]
            detach();
    }

    [[nodiscard]] bool await_ready() const noexcept {
        const ConnectionState& state = *reinterpret_cast<const ConnectionState*>(state_);
        return (state.received_first != nullptr || state.read_ended) && !state.reader &&
               Host::current()->spend_inline_budget();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return suspend(handle, environment_of(handle));
    }
    ReadResult await_resume() noexcept {
        if (state_ == 0) [[unlikely]]
            return {};
        ConnectionState& state = *reinterpret_cast<ConnectionState*>(state_ & ~suspended);
        if (state.received_first == nullptr || state.carry != nullptr || state.read_wait != nullptr) [[unlikely]]
            return resume_slowly();
        state_ = 0;
        state.reader = nullptr;
        state.reader_queued = false;
        state.received_last = nullptr;
        return ReadResult{std::exchange(state.received_first, nullptr)};
    }

private:
    static constexpr std::uintptr_t suspended = 1;
    friend ReadAwaiter read_connection(ConnectionState& state);
    ReadResult resume_slowly() noexcept;
    [[noreturn]] static void misuse();
    bool suspend(std::coroutine_handle<> handle, Environment* environment);
    void detach() noexcept;

    std::uintptr_t state_;
};
static_assert(sizeof(ReadAwaiter) == sizeof(void*));

/// Waits until what was written has been handed to the kernel. One pointer.
class FERRULE_EXPORT FlushAwaiter {
public:
    explicit FlushAwaiter(ConnectionState* state) noexcept : pointer_(reinterpret_cast<std::uintptr_t>(state)) {}
    FlushAwaiter(FlushAwaiter&& other) noexcept : pointer_(std::exchange(other.pointer_, 0)) {}
    FlushAwaiter(const FlushAwaiter&) = delete;
    FlushAwaiter& operator=(const FlushAwaiter&) = delete;
    FlushAwaiter& operator=(FlushAwaiter&&) = delete;
    ~FlushAwaiter() {
        if ((pointer_ & (suspended | listed)) != 0) [[unlikely]]
            detach();
    }

    [[nodiscard]] bool await_ready() const noexcept {
        const ConnectionState& state = *reinterpret_cast<const ConnectionState*>(pointer_);
        return (state.staged == nullptr && state.sending == nullptr) || state.write_failed;
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return suspend(handle, environment_of(handle));
    }
    std::expected<void, std::errc> await_resume() noexcept {
        if ((pointer_ & listed) == 0) [[likely]] {
            ConnectionState& state = *reinterpret_cast<ConnectionState*>(pointer_ & ~suspended);
            if (!state.write_failed && !state.flusher_queued) [[likely]] {
                if (pointer_ != reinterpret_cast<std::uintptr_t>(&state)) state.flusher = nullptr;
                pointer_ = 0;
                return {};
            }
        }
        return resume_slowly();
    }

private:
    static constexpr std::uintptr_t suspended = 1;  // the pointer is the connection, which knows the waiter
    static constexpr std::uintptr_t listed = 2;     // the pointer is the wait in a slab's list
    std::expected<void, std::errc> resume_slowly() noexcept;
    bool suspend(std::coroutine_handle<> handle, Environment* environment);
    void detach() noexcept;

    std::uintptr_t pointer_;
};
static_assert(sizeof(FlushAwaiter) == sizeof(void*));

/// What counts in a connection's account.
FERRULE_EXPORT std::uint64_t memory_of_connection(const ConnectionState& state) noexcept;
/// What counts of a slab, or of all that is chained to it.
FERRULE_EXPORT std::uint64_t memory_of_slab(const WriteSlab& slab) noexcept;

/// What the whole connection and its halves have in common: a slot, and the generation that it had. Move-only.
class FERRULE_EXPORT ConnectionHandle {
public:
    ConnectionHandle(ConnectionHandle&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), generation_(other.generation_) {}
    ConnectionHandle(const ConnectionHandle&) = delete;
    ConnectionHandle& operator=(const ConnectionHandle&) = delete;

    /// Whether this handle still holds a connection: it was neither moved from nor closed.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// Why the last read ended without bytes.
    [[nodiscard]] EndReason end_reason() const { return state().end_reason; }
    /// The error that ended reading or writing; none while there is none.
    [[nodiscard]] std::error_code error() const;
    /// Whether the server is draining: finish what was begun, and take no more.
    [[nodiscard]] bool draining() const;
    /// The client's address: what a PROXY header has said (ProxyOptions), and otherwise the peer's, which is a system
    /// call. Errors of getpeername(2).
    [[nodiscard]] std::expected<Address, std::error_code> peer_address() const;
    /// The address that the client has connected to: what a PROXY header has said, and otherwise this side's, which is
    /// a system call. Errors of getsockname(2).
    [[nodiscard]] std::expected<Address, std::error_code> local_address() const;
    /// The other end of the connection itself, whomever it speaks for. A system call. Errors of getpeername(2).
    [[nodiscard]] std::expected<Address, std::error_code> transport_peer_address() const;
    /// This end of the connection itself. A system call. Errors of getsockname(2).
    [[nodiscard]] std::expected<Address, std::error_code> transport_local_address() const;
    /// The reactor that owns the connection.
    [[nodiscard]] Reactor& reactor() const;
    /// Which of the network's listeners has accepted it.
    [[nodiscard]] std::uint16_t listener() const { return state().listener; }
    /// A number that no other connection of this reactor has at the same time.
    [[nodiscard]] std::uint32_t id() const { return state().index; }

    /// Bytes that count in this connection's account now: what was received and neither consumed nor given back, what
    /// was written and not sent, in blocks, and its handler's frames. See NetworkOptions::connection_memory_limit.
    [[nodiscard]] std::uint64_t memory_bytes() const { return memory_of_connection(state()); }

    /// Ends the connection at once, with a reset: what was written and not sent is lost, and the peer sees an error.
    /// Pending reads and flushes of the other half end with it. The handle is empty afterwards.
    void abort();

protected:
    friend class ferrule::v0::FileTransfer;
    explicit ConnectionHandle(ConnectionState* state) noexcept;
    ~ConnectionHandle() = default;

    ConnectionState& state() const {
        if (state_ == nullptr || state_->generation != generation_) [[unlikely]]
            misuse();
        return *state_;
    }
    [[noreturn]] void misuse() const;

    ConnectionState* state_;
    std::uint32_t generation_ = 0;
};

/// The reading members.
FERRULE_EXPORT ReadAwaiter read_connection(ConnectionState& state);
FERRULE_EXPORT ReadResult take_carried_of_connection(ConnectionState& state);
FERRULE_EXPORT void message_of_connection(ConnectionState& state, bool begins);
/// The writing members.
FERRULE_EXPORT bool write_connection(ConnectionState& state, const std::byte* data, std::size_t size);
FERRULE_EXPORT bool write_connection(ConnectionState& state, const SharedBytes& bytes);
FERRULE_EXPORT bool write_connection(ConnectionState& state, Lease& lease);
FERRULE_EXPORT bool write_connection(ConnectionState& state, ReadResult& received);
FERRULE_EXPORT std::span<std::byte> span_connection(ConnectionState& state, std::size_t minimum);
FERRULE_EXPORT void advance_connection(ConnectionState& state, std::size_t bytes);
FERRULE_EXPORT void shutdown_write_connection(ConnectionState& state);
FERRULE_EXPORT std::size_t unsent_connection(const ConnectionState& state) noexcept;
FERRULE_EXPORT std::size_t writable_connection(const ConnectionState& state) noexcept;
FERRULE_EXPORT void release_connection(ConnectionState& state) noexcept;
FERRULE_EXPORT void release_lingering(ConnectionState& state) noexcept;
FERRULE_EXPORT void release_reading(ConnectionState& state) noexcept;
FERRULE_EXPORT void release_writing(ConnectionState& state) noexcept;

}  // namespace detail

/// The side of a connection that reads: everything that Connection says of `read`. Its end stops reading; the other
/// half goes on.
class [[nodiscard]] FERRULE_EXPORT ReadHalf : public detail::ConnectionHandle {
public:
    ReadHalf(ReadHalf&&) noexcept = default;
    ~ReadHalf() {
        if (state_ != nullptr) release();
    }
    /// As Connection::read.
    [[nodiscard]] detail::ReadAwaiter read() { return detail::read_connection(state()); }
    /// As Connection::take_carried.
    [[nodiscard]] ReadResult take_carried() { return detail::take_carried_of_connection(state()); }
    /// As Connection::begin_message.
    void begin_message() { detail::message_of_connection(state(), true); }
    /// As Connection::end_message.
    void end_message() { detail::message_of_connection(state(), false); }

private:
    friend class Connection;
    explicit ReadHalf(ConnectionState* state) noexcept : ConnectionHandle(state) {}
    void release() noexcept;
};

/// The side of a connection that writes: everything that Connection says of `write` and `flush`. Its end sends what was
/// written and then FIN; the other half goes on.
class [[nodiscard]] FERRULE_EXPORT WriteHalf : public detail::ConnectionHandle {
public:
    WriteHalf(WriteHalf&&) noexcept = default;
    ~WriteHalf() {
        if (state_ != nullptr) release();
    }
    /// As Connection::write.
    bool write(std::span<const std::byte> bytes) {
        return detail::write_connection(state(), bytes.data(), bytes.size());
    }
    /// As Connection::write.
    bool write(std::string_view text) {
        return detail::write_connection(state(), reinterpret_cast<const std::byte*>(text.data()), text.size());
    }
    /// As Connection::write_shared.
    bool write_shared(const SharedBytes& bytes) { return detail::write_connection(state(), bytes); }
    /// As Connection::write.
    bool write(Lease&& lease) { return detail::write_connection(state(), lease); }
    /// As Connection::write.
    bool write(ReadResult&& received) { return detail::write_connection(state(), received); }
    /// As Connection::span.
    [[nodiscard]] std::span<std::byte> span(std::size_t minimum = 1) {
        return detail::span_connection(state(), minimum);
    }
    /// As Connection::advance.
    void advance(std::size_t bytes) { detail::advance_connection(state(), bytes); }
    /// As Connection::flush.
    detail::FlushAwaiter flush() { return detail::FlushAwaiter{&state()}; }
    /// As Connection::unsent.
    [[nodiscard]] std::size_t unsent() const { return detail::unsent_connection(state()); }
    /// As Connection::writable.
    [[nodiscard]] std::size_t writable() const { return detail::writable_connection(state()); }

private:
    friend class Connection;
    explicit WriteHalf(ConnectionState* state) noexcept : ConnectionHandle(state) {}
    void release() noexcept;
};

/// One stream connection: a slot of its reactor and that slot's generation. Move-only, 16 bytes, for its reactor's
/// thread only.
///
/// Destroying it is an ordered close: what was written goes out, then FIN; what the peer still sends is taken and
/// dropped for a bounded time (NetworkOptions::linger_timeout), because closing with unread input would reset the
/// connection and could destroy the answer. `abort` resets. Use after a move is misuse and throws std::logic_error, as
/// is a second reader.
///
/// Errors are sticky: after a failed flush `write` does nothing and `read` ends, so nobody must check every flush.
class [[nodiscard]] FERRULE_EXPORT Connection : public detail::ConnectionHandle {
public:
    Connection(Connection&&) noexcept = default;
    ~Connection() {
        if (state_ != nullptr) close();
    }

    /// Waits for bytes: `while (auto received = co_await connection.read())`. The result is true when it has bytes, and
    /// never true and empty; false when no more will come, and `end_reason` says why. Bytes that came before an end are
    /// delivered first.
    ///
    /// One reader at a time; a second throws std::logic_error. Cancellation removes the waiter only: the receive stays
    /// armed, and the bytes wait for the next read. Unread bytes are bounded: see NetworkOptions::receive_lease_limit.
    [[nodiscard]] detail::ReadAwaiter read() { return detail::read_connection(state()); }

    /// What reads have left behind, without waiting for more: the beginning of a message whose rest will not come, when
    /// a read has ended without bytes. False when nothing was carried.
    [[nodiscard]] ReadResult take_carried() { return detail::take_carried_of_connection(state()); }

    /// Says that the peer is in the middle of a message although nothing is carried, because what comes of it is
    /// consumed at once: a long body. From now until `end_message` a drain does not take the connection for idle, and
    /// its least rate holds, where there is one (NetworkOptions::receive_rate_min), which a drip of bytes would
    /// otherwise escape by never leaving anything behind.
    ///
    /// ```cpp
    /// Task<> store(Connection& connection, std::size_t left) {
    ///     connection.begin_message();
    ///     while (left != 0) {
    ///         auto received = co_await connection.read();
    ///         if (!received) co_return;  // EndReason::deadline: it was too slow
    ///         const std::size_t part = std::min(left, received.size());
    ///         received.consume(part);  // what stands behind the body is carried
    ///         left -= part;
    ///     }
    ///     connection.end_message();
    /// }
    /// ```
    void begin_message() { detail::message_of_connection(state(), true); }
    /// The message that `begin_message` has told of has come to its end.
    void end_message() { detail::message_of_connection(state(), false); }

    /// Copies bytes behind what was written before; they leave with the next flush, or when the connection is closed.
    /// False, and nothing is kept, when writing has failed before, was shut down, or NetworkOptions::write_limit or
    /// another bound on memory would be passed: that last one is an error like any other (ENOBUFS), because the stream
    /// has a gap from here on. Under WriteOverflow::back_pressure it is none: flush, and write it again.
    bool write(std::span<const std::byte> bytes) {
        return detail::write_connection(state(), bytes.data(), bytes.size());
    }
    /// As above, for characters.
    bool write(std::string_view text) {
        return detail::write_connection(state(), reinterpret_cast<const std::byte*>(text.data()), text.size());
    }
    /// As `write`, without a copy (a few bytes are copied, because that is cheaper): the bytes are kept until the
    /// kernel has taken them. They count as written bytes do. Of another reactor (SharedBytes::for_reactor) is misuse
    /// and throws std::logic_error.
    bool write_shared(const SharedBytes& bytes) { return detail::write_connection(state(), bytes); }

    /// Forwards received bytes, of this or another connection of the same reactor, behind what was written before and
    /// without a copy (a few are copied, because that is cheaper). They hold buffers that all connections share: so
    /// they leave by the end of the pass without a flush, with all that was written before them. The lease ends when
    /// the kernel has taken them; until then the connection that they came from holds them, and is not read from when
    /// it holds too many. False as for other bytes; the lease is still the caller's then.
    ///
    /// A lease of another reactor is misuse and aborts the process.
    bool write(Lease&& lease) { return detail::write_connection(state(), lease); }
    /// Forwards all of what a read has brought; what `consume` has said to be done with is not sent, and nothing is
    /// carried. Otherwise as above.
    ///
    /// ```cpp
    /// Task<> forward(Connection& from, Connection& to) {
    ///     while (auto received = co_await from.read()) {
    ///         to.write(std::move(received));
    ///         co_await to.flush();
    ///     }
    /// }
    /// ```
    bool write(ReadResult&& received) { return detail::write_connection(state(), received); }

    /// At least `minimum` bytes (at least one) to write into in place, followed by `advance`. Empty when `write` would
    /// refuse. Valid until the next write, span, flush or await.
    [[nodiscard]] std::span<std::byte> span(std::size_t minimum = 1) {
        return detail::span_connection(state(), minimum);
    }
    /// Counts the first `bytes` bytes of the last `span` as written. More than it had is misuse and throws
    /// std::logic_error.
    void advance(std::size_t bytes) { detail::advance_connection(state(), bytes); }

    /// Sends what was written: `co_await connection.flush();`. Ends when the kernel has taken all of it (which is not
    /// yet the peer's having it), or with the error that ended writing: EPIPE or ECONNRESET when the peer is gone,
    /// ETIMEDOUT after the write timeout, ENOBUFS when a write was refused, ECANCELED when its scope was cancelled (the
    /// bytes still go). All that is written in a pass leaves in one send; partial sends are the runtime's affair.
    /// Several may wait.
    detail::FlushAwaiter flush() { return detail::FlushAwaiter{&state()}; }

    /// Sends what was written, then FIN: the peer reads the end of the stream, and reading from it goes on. Later
    /// writes do nothing.
    void shutdown_write() { detail::shutdown_write_connection(state()); }

    /// Bytes that were written and that the kernel has not taken yet.
    [[nodiscard]] std::size_t unsent() const { return detail::unsent_connection(state()); }

    /// Bytes that a write takes now, by what may wait of this connection: 0 when writing has failed or was shut down.
    /// The reactor's memory may still refuse them (NetworkOptions::memory_limit).
    [[nodiscard]] std::size_t writable() const { return detail::writable_connection(state()); }

    /// The ordered close of the destructor, now. The handle is empty afterwards.
    void close() noexcept;

    /// The same, and it waits for the peer's FIN whatever NetworkOptions::linger says: for a protocol that ends where
    /// its peer does not expect it, and may still be sending.
    void close_lingering() noexcept;

    /// Parts the connection into a half that reads and one that writes, which may live in different tasks. Closed when
    /// both have ended.
    ///
    /// ```cpp
    /// Task<> copy(ReadHalf from, WriteHalf half) {
    ///     WriteHalf to = std::move(half);  // ends, with a FIN, when this does; a parameter ends with the task
    ///     while (auto received = co_await from.read()) {
    ///         for (auto slice : received) to.write(slice);
    ///         co_await to.flush();
    ///     }
    /// }
    ///
    /// Task<> relay(Connection client, Connection backend) {
    ///     auto [client_reads, client_writes] = std::move(client).split();
    ///     auto [backend_reads, backend_writes] = std::move(backend).split();
    ///     auto up = copy(std::move(client_reads), std::move(backend_writes));
    ///     auto down = copy(std::move(backend_reads), std::move(client_writes));
    ///     co_await when_all(std::move(up), std::move(down));
    /// }
    /// ```
    [[nodiscard]] std::pair<ReadHalf, WriteHalf> split() &&;

private:
    friend class Network;
    explicit Connection(ConnectionState* state) noexcept : ConnectionHandle(state) {}
};
static_assert(sizeof(Connection) == 16);

}  // namespace ferrule::inline v0
