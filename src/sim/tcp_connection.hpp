#pragma once

#include "sim/byte_ring.hpp"
#include "sim/internet_address.hpp"
#include "sim/network.hpp"
#include "sim/port_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ferrule::inline v0::sim {

class TcpConnection;
class TcpSocket;

/// The two ends of a connection, by who asked for it.
enum class Side : std::uint8_t { client, server };

constexpr Side other(Side side) noexcept {
    return side == Side::client ? Side::server : Side::client;
}

enum class TcpState : std::uint8_t {
    none,         ///< the server's end before the SYN has come
    connecting,   ///< SYN sent
    requested,    ///< SYN received: a request of the listener
    established,  ///< until both directions have ended, or the connection was given up
    closed,
};

/// What a listening socket keeps: requests whose handshake is not over, and connections that nobody has accepted.
struct AcceptQueue {
    TcpConnection* first_request = nullptr;
    TcpConnection* first = nullptr;
    TcpConnection* last = nullptr;
    std::uint32_t count = 0;
    std::uint32_t backlog = 0;
    /// TCP_DEFER_ACCEPT, in retransmissions of the SYN-ACK: until then a connection without data stays a request.
    std::uint32_t deferred = 0;

    /// One more than the backlog fits, as in Linux.
    [[nodiscard]] bool full() const noexcept { return count > backlog; }
};

/// How much the ends of a connection keep; 0: drawn.
struct TcpBuffers {
    std::uint32_t send_buffer = 0;
    std::uint32_t receive_window = 0;
};

/// A TCP connection: both ends and all that travels between them. It is there as long as an end, a listener or
/// something under way needs it.
///
/// A direction is one store of bytes with four offsets: received <= delivered <= sent <= taken. A segment is an offset
/// and a time of arrival, so a byte is copied in once and out once, and what arrives together is one event.
class TcpConnection {
public:
    /// connect(2): sends the SYN from `socket`, whose claim it takes.
    static TcpConnection& open(Host& host, TcpSocket& socket, PortClaim& claim, const TcpBuffers& buffers);
    TcpConnection(const TcpConnection&) = delete;
    TcpConnection& operator=(const TcpConnection&) = delete;

    // What the socket at one end asks of it.
    std::int64_t send(Side side, std::span<const std::byte> from);
    std::int64_t receive(Side side, std::span<std::byte> into, int flags);
    [[nodiscard]] std::uint32_t readiness(Side side) const noexcept;
    [[nodiscard]] std::uint64_t unread(Side side) const noexcept;
    /// The other end's FIN has arrived.
    [[nodiscard]] bool input_finished(Side side) const noexcept;
    int shutdown(Side side, int how);
    /// The socket is gone: FIN, or a reset when something is unread or `reset` is asked for.
    void release(Side side, bool reset);
    /// The socket forgets a connection that is closed, and may connect again.
    void detach(Side side) noexcept;
    /// SO_ERROR: the error that waits, which is taken.
    int take_error(Side side) noexcept;
    void resize(Side side, const TcpBuffers& buffers);
    void patience(Side side, std::uint64_t limit_ns) noexcept { ends_[index(side)].patience_ns = limit_ns; }

    [[nodiscard]] TcpState state(Side side) const noexcept { return ends_[index(side)].state; }
    /// How much of what the side has sent is acknowledged.
    [[nodiscard]] std::uint64_t acknowledged(Side side) noexcept { return from(side).acknowledged; }
    [[nodiscard]] const InternetAddress& local(Side side) const noexcept { return ends_[index(side)].claim.local; }
    [[nodiscard]] const InternetAddress& remote(Side side) const noexcept { return ends_[index(side)].claim.remote; }

    /// accept(2): the first in the queue, which becomes `socket`'s at the server's side; null when there is none.
    static TcpConnection* accept(AcceptQueue& queue) noexcept;
    void give(TcpSocket& socket) noexcept { ends_[index(Side::server)].socket = &socket; }
    /// The listener closes: connections that nobody has accepted are reset, requests forgotten.
    static void abandon(AcceptQueue& queue);

private:
    friend Network;

    struct Segment {
        std::uint64_t end = 0;
        std::uint64_t arrival_ns = 0;
        bool finish = false;
        bool reset = false;
    };

    // Data, the FIN and a RST.
    static constexpr std::uint32_t data_segments = 8;
    static constexpr std::uint32_t all_segments = data_segments + 2;

    struct Stream {
        ByteRing bytes;
        std::uint64_t delivered = 0;
        std::uint64_t sent = 0;
        /// As the sender knows; it lags only while the buffer is full.
        std::uint64_t acknowledged = 0;
        std::uint64_t last_arrival_ns = 0;
        std::uint64_t first_retry_ns = 0;
        std::uint32_t send_buffer = 0;
        std::uint32_t receive_window = 0;
        std::array<Segment, all_segments> segments{};
        std::uint8_t first_segment = 0;
        std::uint8_t segment_count = 0;
        std::uint8_t retries = 0;
        bool delivery_scheduled = false;
        bool acknowledgement_scheduled = false;
        bool update_scheduled = false;
        /// The sender waits for room.
        bool full = false;
        /// The sender waits for the window.
        bool window_closed = false;
        bool finish_wanted = false;
        bool finish_sent = false;
        bool finish_delivered = false;
        bool reset_sent = false;
    };

    struct End {
        Host* host = nullptr;
        TcpSocket* socket = nullptr;
        PortClaim claim;
        std::uint64_t patience_ns = 0;
        TcpState state = TcpState::none;
        int error = 0;
        bool receive_shut = false;
        bool send_shut = false;
        /// The peer's FIN has come.
        bool finished = false;
        bool reset_wanted = false;
        /// Nobody will read or write here any more.
        bool orphan = false;
    };

    explicit TcpConnection(Network& network);
    ~TcpConnection();

    static constexpr std::size_t index(Side side) noexcept { return static_cast<std::size_t>(side); }
    [[nodiscard]] End& end(Side side) noexcept { return ends_[index(side)]; }
    [[nodiscard]] Stream& from(Side side) noexcept { return streams_[index(side)]; }

    void hold() noexcept { ++references_; }
    void drop() noexcept {
        if (--references_ == 0) delete this;
    }
    template <auto Handler>
    void at(std::uint64_t time_ns, Side side);
    template <auto Handler>
    void after_latency(Side side);

    void send_syn(Side side);
    void syn_arrives(Side side);
    void retry_syn();
    void give_up_connecting(Side side);
    void no_such_host(Side side);
    void refused(Side side);
    void syn_ack_arrives(Side side);
    void ack_arrives(Side side);
    void request_timer(Side side);
    void start_request_timer();
    bool complete_request(bool with_data);
    void forget_request() noexcept;

    void transmit(Side side);
    std::uint64_t draw_length(std::uint64_t limit, std::uint64_t cut);
    void push(Side side, const Segment& segment);
    void schedule_delivery(Side side);
    void deliver(Side side);
    bool deliver_first(Side side);
    void delay_all(Side side);
    void acknowledge(Side side);
    void acknowledgement_arrives(Side side);
    void window_opens(Side side);
    void consumed(Side reader);
    void reset_in_the_middle();

    void finish_release(Side side);
    void abort(Side side);
    void send_reset(Side side);
    void reset_received(Side side);
    void close_end(Side side, int error);
    void close_both_if_finished();
    void drop_unread(Side reader) noexcept;
    void tell(Side side, std::uint32_t events) noexcept;

    Network& network_;
    World& world_;
    std::uint32_t references_ = 1;
    std::uint32_t syn_retries_ = 0;
    std::uint32_t request_retries_ = 0;
    bool request_timer_runs_ = false;
    /// Bytes may be lost from here on.
    bool aborted_ = false;
    AcceptQueue* queue_ = nullptr;
    TcpSocket* listener_ = nullptr;
    TcpConnection* next_queued_ = nullptr;
    TcpConnection* previous_queued_ = nullptr;
    TcpConnection* next_ = nullptr;
    TcpConnection* previous_ = nullptr;
    std::array<End, 2> ends_;
    std::array<Stream, 2> streams_;
};

}  // namespace ferrule::inline v0::sim
