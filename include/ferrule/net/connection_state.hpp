#pragma once

#include <ferrule/net/end_reason.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/reactor/timer_heap.hpp>

#include <coroutine>
#include <cstdint>

namespace ferrule::inline v0 {

class Network;
struct FlushWait;
struct ReadWait;

/// Bytes that were written and not yet handed to the kernel, in one block of the slab pool; or the head of a chain of
/// such blocks and other pieces.
struct WriteSlab {
    std::uint32_t capacity = 0;  ///< bytes of data
    std::uint32_t size = 0;      ///< bytes written
    std::uint32_t sent = 0;      ///< bytes that the kernel has taken
    std::uint32_t sequence = 0;  ///< of the ring's entry that sends it
    FlushWait* waiters = nullptr;
    std::uint32_t since = 0;      ///< when the kernel refused to take more, in ticks
    bool flushed = false;         ///< somebody asked for it to be sent
    std::uint8_t size_class = 0;  ///< of the slab pool
    bool chained = false;         ///< it is the head of a chain (WriteChain)
    bool file = false;            ///< it stands for a file (FileSend)
    bool more = false;            ///< more follows at once: the last segment need not be full (MSG_MORE)

    /// Where the bytes are: behind this header.
    [[nodiscard]] std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
};
static_assert(sizeof(WriteSlab) == 40 || sizeof(WriteSlab) == 32);

/// How far a connection is on its way out.
enum class CloseStage : std::uint8_t {
    open,
    flushing,    ///< nobody holds it any more; what was written goes out
    lingering,   ///< all is sent and our FIN is out; what the peer still sends is dropped, until its FIN
    cancelling,  ///< the receive is being cancelled, so that the descriptor can be closed
    closing,     ///< the close is submitted
    closed,      ///< the descriptor is gone; leases or late completions keep the slot
};

/// A connection in its reactor's table. Idle connections are what a server has most of: this is all that one costs,
/// beside its handler's frame and its place among the deadlines. Internal; Connection is the handle.
struct ConnectionState {
    Network* network = nullptr;
    std::coroutine_handle<> reader;       // who waits for bytes
    std::coroutine_handle<> flusher;      // who waits for a flush; more of them wait in the slabs' lists
    LeaseNode* received_first = nullptr;  // bytes that nobody has read yet
    LeaseNode* received_last = nullptr;   // while private_receive: the block that is received into
    LeaseNode* carry = nullptr;           // what the last read left behind
    WriteSlab* staged = nullptr;
    WriteSlab* sending = nullptr;
    ReadWait* read_wait = nullptr;  // when the reader waits in a scope of its own

    Timer timer;
    int descriptor = -1;
    std::uint32_t index = 0;
    std::uint32_t generation = 1;
    std::uint32_t held = 0;            // slices that are queued, carried or leased
    std::uint32_t received_bytes = 0;  // of queued, carried and leased slices
    std::uint32_t overhead_bytes = 0;  // of the handler's frames; of heap blocks beyond what they were taken for
    std::uint32_t parked_at = 0;       // when the reader began to wait, in ticks
    std::uint32_t message_since = 0;   // when the carried message began, in ticks
    std::uint16_t lent = 0;            // of the held slices, those that are being sent on, by whatever connection
    std::uint16_t listener = 0;

    std::uint8_t error = 0;  // the errno that ended reading or writing
    std::uint8_t handles : 4 = 0;
    CloseStage stage : 3 = CloseStage::open;
    bool sends_file : 1 = false;  // a send_file has begun and not ended

    // Asked for each message: bytes.
    bool receive_armed = false;      // a receive is in the kernel
    bool reader_queued = false;      // the reader is in the ready list
    bool flusher_queued = false;     // the flusher is in the ready list
    bool flusher_on_staged = false;  // the flusher waits for what is staged, not for what is being sent
    bool in_send_list = false;
    bool send_silent = false;  // the send says nothing when it succeeds

    // Asked for now and then: bits.
    EndReason end_reason : 4 = EndReason::none;
    std::uint8_t operations : 4 = 0;     // completions that are still to come
    bool write_failed : 1 = false;       // asked for each message, but never said of one that goes on
    bool wants_input : 1 = true;         // a handle that reads is left; what comes without one is dropped
    bool read_ended : 1 = false;         // reads have ended, whyever
    bool send_slow : 1 = false;          // the kernel waits for room to send
    bool receive_cancelled : 1 = false;  // a cancel of the receive is on its way
    bool receive_again : 1 = false;      // it has received before: the next receive is multishot
    bool stays : 1 = false;              // a multishot receive has been armed
    bool input_ended : 1 = false;        // the kernel has reported the peer's FIN or an error
    bool starved : 1 = false;            // in the list of those that wait for buffers, or for room in their account
    bool unread_input : 1 = false;       // more input is known to wait in the socket
    bool private_receive : 1 = false;    // the armed receive is into a private block
    bool fin_wanted : 1 = false;         // shut the sending side down when all is out
    bool fin_sent : 1 = false;
    bool served : 1 = false;            // it has come to a listener's handler; a client's has not
    bool reset_wanted : 1 = false;      // abort: close with a reset
    bool drain_parked : 1 = false;      // in the list of those whose receive the kernel may not have seen yet
    std::uint8_t stream_class : 2 = 0;  // 0: no stream; otherwise the size of the blocks that it is received into
    std::uint8_t stream_signs : 4 = 0;  // receives in a row that speak against what stream_class says
    bool close_linked : 1 = false;      // the close is linked to the last send
    bool in_message : 1 = false;        // Connection::begin_message has said so
};
static_assert(sizeof(ConnectionState) <= 128);

}  // namespace ferrule::inline v0
