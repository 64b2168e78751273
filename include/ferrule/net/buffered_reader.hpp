#pragma once

#include <ferrule/net/byte_sequence.hpp>
#include <ferrule/net/end_reason.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/net/stream.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

/// What a buffered reader has of the last read: the bytes that are not consumed, and how many of them were looked at.
class FERRULE_EXPORT ReadBuffer {
public:
    ReadBuffer() noexcept = default;
    ReadBuffer(ReadBuffer&& other) noexcept
        : received_(std::move(other.received_)),
          size_(std::exchange(other.size_, 0)),
          examined_(std::exchange(other.examined_, 0)) {}
    ReadBuffer(const ReadBuffer&) = delete;
    ReadBuffer& operator=(const ReadBuffer&) = delete;
    ReadBuffer& operator=(ReadBuffer&&) = delete;
    ~ReadBuffer() {
        if (size_ != 0) [[unlikely]]
            leave();
    }

    /// Whether bytes are there that nobody has looked at.
    [[nodiscard]] bool at_hand() const noexcept { return examined_ < size_; }
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
    [[nodiscard]] ByteSequence sequence() noexcept { return {received_, size_}; }
    /// Hands out all of it; who says nothing else has looked at all of it, and consumed nothing.
    ByteSequence hand_out() noexcept {
        examined_ = size_;
        return sequence();
    }
    /// Nothing of it counts as looked at.
    void look_again() noexcept { examined_ = 0; }
    /// What is left comes again in front of the source's next read.
    void leave() noexcept {
        received_.consume(0);
        received_.reset();
        size_ = examined_ = 0;
    }
    void fill(ReadResult received) noexcept {
        received_ = std::move(received);
        size_ = static_cast<std::uint32_t>(received_.size());
    }
    void advance(std::size_t consumed, std::size_t examined) {
        if (consumed > examined || examined > size_) [[unlikely]]
            refuse();
        if (consumed == size_) [[likely]] {
            received_.reset();
            size_ = examined_ = 0;
            return;
        }
        received_.remove_prefix(consumed);
        size_ -= static_cast<std::uint32_t>(consumed);
        examined_ = static_cast<std::uint32_t>(examined - consumed);
    }
    ReadResult take(std::size_t consumed) {
        if (consumed == size_) [[likely]] {
            size_ = examined_ = 0;
            return std::move(received_);
        }
        return take_part(consumed);
    }

private:
    [[noreturn]] static void refuse();
    ReadResult take_part(std::size_t consumed);

    ReadResult received_;
    std::uint32_t size_ = 0;
    std::uint32_t examined_ = 0;
};

/// Waits for more than was looked at. Two pointers, where the source's own awaiter is one.
template <class Source>
class [[nodiscard]] BufferedReadAwaiter {
    using Inner = decltype(std::declval<Source&>().read());

public:
    BufferedReadAwaiter(Source& source, ReadBuffer& buffer) : buffer_(reinterpret_cast<std::uintptr_t>(&buffer)) {
        if (buffer.at_hand()) return;
        if (buffer.size() != 0) buffer.leave();
        std::construct_at(&inner_, source.read());
        buffer_ |= reads;
    }
    BufferedReadAwaiter(BufferedReadAwaiter&& other) noexcept : buffer_(other.buffer_) {
        if ((buffer_ & reads) != 0) std::construct_at(&inner_, std::move(other.inner_));
    }
    BufferedReadAwaiter(const BufferedReadAwaiter&) = delete;
    BufferedReadAwaiter& operator=(const BufferedReadAwaiter&) = delete;
    BufferedReadAwaiter& operator=(BufferedReadAwaiter&&) = delete;
    ~BufferedReadAwaiter() {
        if ((buffer_ & reads) != 0) {
            std::destroy_at(&inner_);
        } else if ((buffer_ & yields) != 0) [[unlikely]] {
            Host::current()->forget(yielding_);
        }
    }

    [[nodiscard]] bool await_ready() {
        return (buffer_ & reads) != 0 ? inner_.await_ready() : Host::current()->spend_inline_budget();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        if ((buffer_ & reads) != 0) [[likely]] {
            using Suspended = decltype(inner_.await_suspend(handle));
            static_assert(std::is_same_v<Suspended, bool> || std::is_same_v<Suspended, void>,
                          "the source's awaiter says by a bool, or not at all, whether it waits");
            if constexpr (std::is_same_v<Suspended, bool>) {
                return inner_.await_suspend(handle);
            } else {
                inner_.await_suspend(handle);
                return true;
            }
        }
        yielding_ = handle;
        buffer_ |= yields;
        Host::current()->resume_later(handle);
        return true;
    }
    ByteSequence await_resume() {
        ReadBuffer& buffer = *reinterpret_cast<ReadBuffer*>(buffer_ & ~(reads | yields));
        if ((buffer_ & reads) != 0) [[likely]] {
            buffer.fill(inner_.await_resume());
        }
        buffer_ &= ~yields;
        return buffer.hand_out();
    }

private:
    static constexpr std::uintptr_t reads = 1;   // the source is read from, by `inner_`
    static constexpr std::uintptr_t yields = 2;  // bytes are there, but others come first: `yielding_` is set

    std::uintptr_t buffer_;
    union {
        Inner inner_;
        std::coroutine_handle<> yielding_;
    };
};

}  // namespace detail

/// Reads messages that do not end where reads do.
///
/// `read` gives all bytes that are there; `advance(consumed, examined)` says how many of them are done with and how
/// many were looked at. When there are more than were looked at, the next `read` returns at once; otherwise it waits
/// for new bytes and gives them behind those that were not consumed. Bytes stay in the buffers that the kernel has
/// filled; only a message that has to be in one piece and is not (ByteSequence::contiguous), and what is left of
/// messages that do not go on while buffers are short, is copied.
///
/// ```cpp
/// Task<> serve(Connection connection) {
///     BufferedReader reader{connection};
///     while (auto received = co_await reader.read()) {
///         const std::size_t end = received.find("\n");
///         if (end == ByteSequence::npos) continue;  // all was looked at: the next read waits for more
///         connection.write(received.contiguous(end + 1));
///         reader.advance(end + 1);  // the rest was not looked at: the next read returns at once
///         co_await connection.flush();
///     }
/// }
/// ```
///
/// Its end leaves what was not consumed to the source's next reader, or gives it back with the source. The source
/// outlives it, and is not read from otherwise meanwhile. It may be moved while no read waits and no view is in use.
/// Nothing is allocated, and waiting takes no coroutine of its own. Reactor's own thread.
template <ByteSource Source>
class BufferedReader {
public:
    explicit BufferedReader(Source& source) noexcept : source_(&source) {}
    BufferedReader(BufferedReader&&) noexcept = default;
    BufferedReader& operator=(BufferedReader&&) = delete;

    /// Waits for bytes that were not looked at: `while (auto received = co_await reader.read())`. The view is true when
    /// it has bytes, and begins with the first that was not consumed; false when no more will come, or not now, and
    /// `end_reason` says why: `buffered` still has what was not consumed. Whoever does not `advance` before the next
    /// read has looked at all and consumed nothing.
    ///
    /// One reader at a time. Cancellation removes the waiter only: not a byte is lost, neither of those that were left.
    [[nodiscard]] detail::BufferedReadAwaiter<Source> read() { return {*source_, buffer_}; }

    /// The first `consumed` bytes of what `read` gave are done with and were all that was looked at. Views end. More
    /// than there are is misuse and throws std::logic_error.
    void advance(std::size_t consumed) { buffer_.advance(consumed, consumed); }
    /// The first `consumed` bytes are done with, the first `examined` were looked at, those included; as above.
    void advance(std::size_t consumed, std::size_t examined) { buffer_.advance(consumed, examined); }

    /// The first `consumed` bytes of what `read` gave, as a result of their own: to be forwarded by
    /// `connection.write(ReadResult&&)`, or kept as leases (ReadResult::take). They are done with and were all that was
    /// looked at, as after `advance(consumed)`. No slice is copied but one that is taken in part: the smaller of its
    /// parts is. False when `consumed` is 0, and when the account of the connection or of the reactor has no room for
    /// that copy: nothing was taken then, and nothing was looked at. Views end. What was taken does not come again: a
    /// `consume` of it is only for a write. More than there are is misuse and throws std::logic_error.
    ///
    /// ```cpp
    /// Task<> forward(Connection from, Connection to) {
    ///     BufferedReader reader{from};
    ///     while (auto received = co_await reader.read()) {
    ///         const std::size_t end = received.find("\n");
    ///         if (end == ByteSequence::npos) continue;
    ///         if (!to.write(reader.take(end + 1))) break;  // lines go on, from where they were received
    ///         co_await to.flush();
    ///     }
    /// }
    /// ```
    [[nodiscard]] ReadResult take(std::size_t consumed) { return buffer_.take(consumed); }

    /// What is there and not consumed, without waiting: what the last `read` gave, less what was advanced over; and,
    /// after a read that ended without bytes, the beginning of a message whose rest did not come.
    [[nodiscard]] ByteSequence buffered() {
        if (buffer_.size() == 0) {
            if (ReadResult carried = source_->take_carried()) {
                buffer_.fill(std::move(carried));
                return buffer_.hand_out();
            }
        }
        return buffer_.sequence();
    }

    /// Why the last read ended without bytes.
    [[nodiscard]] EndReason end_reason() const { return source_->end_reason(); }
    /// The error that ended reading; none while there is none.
    [[nodiscard]] std::error_code error() const { return source_->error(); }
    /// What it reads from.
    [[nodiscard]] Source& source() const noexcept { return *source_; }

private:
    Source* source_;
    detail::ReadBuffer buffer_;
};

}  // namespace ferrule::inline v0
