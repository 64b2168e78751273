#pragma once

#include <ferrule/fs/file.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/connection_state.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/slab_pool.hpp>
#include <ferrule/reactor/operation.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>

#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

/// What stands for a file that is being sent where a connection's slab in the kernel would: so nothing else is sent
/// meanwhile, and what waits for room in the socket is a slow send like any other; its timeout, its cancelling and its
/// closing are those of slow sends. Its `size` is that of what was written before and leaves with the file.
///
/// It ends when nobody has it any more: the transfer in the coroutine's frame, the connection, and a read that goes
/// into its segment.
struct FileSend : WriteSlab {
    /// The class of the block that it is in.
    static constexpr std::uint8_t own_class = 0;

    struct Cancelled : CancelNode {
        explicit Cancelled(FileSend& owner) noexcept : CancelNode(&FileSend::on_cancel), send(&owner) {}
        FileSend* send;
    };
    struct ReadEnded : AbandonedOperation {
        explicit ReadEnded(FileSend& owner) noexcept : AbandonedOperation(&FileSend::on_read_ended), send(&owner) {}
        FileSend* send;
    };

    FileSend(ConnectionState& connection, detail::OpenFile& opened) noexcept
        : state(&connection), open_file(detail::share(&opened)) {
        size_class = own_class;
        file = true;
    }

    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
    static void on_read_ended(AbandonedOperation& abandoned, std::int32_t result) noexcept;

    ConnectionState* state;          // its slot stays while this is attached or has a segment
    detail::OpenFile* open_file;     // stays open until this ends
    WriteSlab* header = nullptr;     // what was written before, while the segment behind it is filled
    WriteSlab* segment = nullptr;    // what the file is read into
    std::coroutine_handle<> waiter;  // waits for room in the socket
    Cancelled cancel_node{*this};
    ReadEnded read_ended{*this};
    std::int32_t result = 0;      // of the send, or the poll, that has ended; or why writing has failed
    std::uint8_t references = 1;  // who has it
    bool attached = false;        // the connection's `sending` is this
    bool owned = true;            // by a transfer
    bool reading = false;         // into the segment
    bool queued = false;          // the waiter is in the ready list
    bool cancelled = false;       // while it waited
};
static_assert(sizeof(FileSend) <= SlabPool::block_bytes(FileSend::own_class));

/// The sending of a file, in the frame of the coroutine that drives it. Destroying it before its end leaves the
/// connection as it was, if no byte of the file has left, and resets it otherwise.
class FileTransfer {
public:
    /// What a step towards the end has met.
    enum class Step : std::uint8_t {
        done,    ///< all has left
        turn,    ///< the others' turn
        full,    ///< the socket has no room
        cold,    ///< the next bytes are not in the page cache
        copy,    ///< the file cannot be sent without being read
        broken,  ///< `failure` says why
    };
    struct Failure {
        bool of_file = false;    ///< otherwise of the connection
        bool refused = false;    ///< writing was shut down before: nothing has happened to the connection
        bool truncated = false;  ///< it ended before
        int error = 0;
    };

    /// Throws std::logic_error when the connection has ended, or another file is being sent on it.
    FileTransfer(ConnectionState& state, std::uint32_t generation, detail::OpenFile& file, std::uint64_t offset,
                 std::uint64_t length);
    FileTransfer(const FileTransfer&) = delete;
    FileTransfer& operator=(const FileTransfer&) = delete;
    ~FileTransfer();

    /// The connection behind a handle.
    [[nodiscard]] static std::pair<ConnectionState*, std::uint32_t> connection_of(
        const detail::ConnectionHandle& handle) {
        return {&handle.state(), handle.generation_};
    }

    /// Whether the connection is there and its writing has not failed.
    [[nodiscard]] bool connected() const noexcept;
    /// Whether the scope of the environment is cancelled.
    [[nodiscard]] bool cancelled(const Environment& environment) const noexcept;
    /// Why writing to the connection has failed.
    [[nodiscard]] int connection_error() const noexcept;
    /// Whether it may be sent in one piece behind what was written.
    [[nodiscard]] bool small() const noexcept;
    [[nodiscard]] std::uint64_t left() const noexcept { return left_; }
    [[nodiscard]] const Failure& failure() const noexcept { return failure_; }

    /// Whether something is being sent, or, for a file that goes on its own, is written: flush it first.
    [[nodiscard]] bool must_flush(bool in_one_piece) const noexcept;
    /// What was written is sent as what the file follows.
    [[nodiscard]] detail::FlushAwaiter flush_before() noexcept;
    /// Takes the place of what is sent. False with a `failure` when it cannot, and without when only the one piece has
    /// no room.
    [[nodiscard]] bool begin(bool in_one_piece) noexcept;
    /// Whether it has that place still: otherwise writing has failed.
    [[nodiscard]] bool sending() const noexcept { return send_ != nullptr && send_->attached; }

    /// Has a segment for the next bytes. False, with a `failure`, when the account has no room.
    [[nodiscard]] bool take_segment() noexcept;
    /// Reads what the segment lacks.
    [[nodiscard]] Operation read_segment();
    /// The read has ended so. True when it is to go on; otherwise the segment is full, or `failure` is set.
    [[nodiscard]] bool segment_read(std::int32_t result) noexcept;
    /// Gives the connection's place to the segment behind what was written, and awaits their being sent.
    class Commit {
    public:
        explicit Commit(FileTransfer& transfer) noexcept : transfer_(&transfer), flush_(transfer.state_) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) {
            const Restore restore{*transfer_};
            committed_ = restore.committed();
            return committed_ && flush_.await_suspend(handle);
        }
        /// ECANCELED when its scope was cancelled; what was committed goes out all the same. What could not be is a
        /// `failure`.
        std::expected<void, std::errc> await_resume() noexcept {
            if (committed_) return flush_.await_resume();
            transfer_->failure_ = {.error = ENOBUFS};
            return std::unexpected(std::errc::no_buffer_space);
        }

    private:
        /// Stages the segment behind what was written before, and at its end has that sent, and what was written since
        /// staged again.
        class Restore {
        public:
            explicit Restore(FileTransfer& transfer) noexcept;
            Restore(const Restore&) = delete;
            Restore& operator=(const Restore&) = delete;
            ~Restore();
            [[nodiscard]] bool committed() const noexcept { return committed_; }

        private:
            ConnectionState* state_;
            WriteSlab* later_;
            bool flusher_on_later_;
            bool committed_ = false;
        };
        FileTransfer* transfer_;
        detail::FlushAwaiter flush_;
        bool committed_ = false;
    };

    /// Sends what is cached and what the socket takes, up to what one turn may be.
    [[nodiscard]] Step step() noexcept;
    /// Reads the next bytes, so that they are in the page cache.
    [[nodiscard]] Operation warm();
    /// That has ended so. False when `failure` is set.
    [[nodiscard]] bool warmed(std::int32_t result) noexcept;

    /// Waits for room in the socket; or, when the segment has bytes that are not sent, sends of them. False when it was
    /// cancelled.
    class Room {
    public:
        explicit Room(FileTransfer& transfer) noexcept : transfer_(&transfer) {}
        Room(const Room&) = delete;
        Room& operator=(const Room&) = delete;
        ~Room();
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            return transfer_->suspend(handle, environment_of(handle));
        }
        [[nodiscard]] bool await_resume() noexcept;

    private:
        FileTransfer* transfer_;
    };
    /// Whether the segment has bytes that are not sent.
    [[nodiscard]] bool segment_left() const noexcept { return send_->segment->sent != send_->segment->size; }
    /// The segment is sent: the next bytes may be read into it.
    void empty_segment() noexcept;

    /// All has left.
    void finish() noexcept;
    /// Ends the connection for the failure, with a reset when it is the file's.
    void fail() noexcept;

private:
    bool suspend(std::coroutine_handle<> waiter, Environment* environment) noexcept;
    [[nodiscard]] std::size_t cached(std::size_t bytes) noexcept;
    [[nodiscard]] bool take_segment(std::uint32_t bytes) noexcept;
    void leave() noexcept;
    void give_back_header(FileSend& send) noexcept;

    ConnectionState* state_;
    std::uint32_t generation_;
    Network* network_;
    FileSend* send_ = nullptr;
    detail::OpenFile* file_;
    std::uint64_t offset_;
    std::uint64_t left_;
    std::uint64_t warm_until_ = 0;  // bytes before this have just been read
    std::uint64_t sent_ = 0;        // bytes of the file that have left
    Failure failure_;
    bool asks_cache_ = true;  // the kernel tells what is cached
};

}  // namespace ferrule::inline v0
