#pragma once

#include <ferrule/net/udp_socket.hpp>
#include <ferrule/ring/abi.hpp>
#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/task/cancel.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace ferrule::inline v0 {

class UdpGroup;
class UdpService;

/// Where the kernel puts what in the buffer of a received datagram: an abi::ReceiveMessageHeader, the sender, the
/// control messages when any are asked for, the payload.
struct DatagramLayout {
    static constexpr std::uint32_t name_offset = sizeof(abi::ReceiveMessageHeader);
    static constexpr std::uint32_t name_bytes = 32;  // a sockaddr_in6, and what aligns the control messages
    static constexpr std::uint32_t control_offset = name_offset + name_bytes;
    /// The packet information, the traffic class, the segment size.
    static constexpr std::uint32_t control_bytes =
        static_cast<std::uint32_t>(CMSG_SPACE(sizeof(in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int)));
};
static_assert(sizeof(sockaddr_in6) <= DatagramLayout::name_bytes);
static_assert(DatagramLayout::control_offset % alignof(cmsghdr) == 0);

/// A header and a vector for the segments of a train that are sent one by one.
struct SegmentMessage {
    msghdr header;
    iovec vector;
};

/// One datagram on its way out; its payload lies behind it in the same block. What the kernel reads stays until the
/// completion.
struct SendNode {
    SendNode* next = nullptr;
    std::uint64_t number = 0;  // how many were sent on the socket with it
    std::uint32_t length = 0;
    std::uint32_t size_class = 0;
    std::uint16_t segment_size = 0;
    std::uint16_t segments = 1;
    std::uint16_t messages_done = 0;  // sent, or refused
    int error = 0;                    // the first of its messages'
    SegmentMessage* split = nullptr;  // the messages of a train that the kernel has refused to cut
    SegmentMessage message{};
    sockaddr_in6 name{};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(std::uint16_t)) + CMSG_SPACE(sizeof(int)) +
                                               CMSG_SPACE(sizeof(in6_pktinfo))> control{};

    std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    std::uint32_t messages() const noexcept { return split != nullptr ? segments : 1; }
    msghdr* message_of(std::uint32_t segment) noexcept {
        return split != nullptr ? &split[segment].header : &message.header;
    }
};

/// A coroutine that waits for a flush; in the service's pool.
struct DatagramFlushWait {
    enum class Stage : std::uint8_t { waiting, queued, done };

    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
    /// Leaves the list of its socket.
    void leave() noexcept;
    static DatagramFlushWait& of(CancelNode& node) noexcept {
        return *reinterpret_cast<DatagramFlushWait*>(reinterpret_cast<std::byte*>(&node) -
                                                     offsetof(DatagramFlushWait, cancel_node));
    }

    CancelNode cancel_node{&DatagramFlushWait::on_cancel};
    std::coroutine_handle<> waiter;
    DatagramFlushWait* next = nullptr;
    UdpSocketState* socket = nullptr;
    std::uint64_t until = 0;  // the number of the last datagram that it waits for
    int error = 0;
    Stage stage = Stage::waiting;
};

/// One UDP socket. It lasts until its handle, its datagrams and its waiters are gone and the kernel has told the end of
/// everything that was submitted for it.
struct UdpSocketState {
    static void on_receive_cancel(CancelNode& node, CancelReason reason) noexcept;

    /// Messages that are submitted as one chain, so that none overtakes another.
    static constexpr std::uint32_t flight_max = 64;
    struct Flight {
        SendNode* node;
        std::uint32_t segment;
        int result;
        bool ended;
    };

    // Receiving.
    UdpService* service = nullptr;  // null: its reactor is gone
    Reactor* reactor = nullptr;
    std::unique_ptr<BufferRing> buffers;
    std::unique_ptr<DatagramNode[]> nodes;  // one for each buffer
    DatagramNode* received_first = nullptr;
    DatagramNode* received_last = nullptr;
    std::coroutine_handle<> receiver;
    std::uint32_t payload_offset = 0;  // in a buffer
    std::uint64_t datagrams = 0;       // queued, or out and not given back
    std::uint32_t forwarded = 0;       // queued or out, of those that came from other reactors
    bool receive_armed = false;        // in the kernel
    bool arm_wanted = false;           // in the list of those to be armed before the next submission
    bool starved = false;              // to be armed when a buffer is given back
    bool receiver_queued = false;      // the receiver is in the ready list
    bool receive_cancelled = false;
    bool receive_failed = false;  // with receive_error, which nobody has been told
    EndReason end_reason = EndReason::none;
    int receive_error = 0;
    int last_error = 0;  // what the last receive without a datagram was told
    CancelNode receive_cancel{&UdpSocketState::on_receive_cancel};
    msghdr receive_message{};

    // Sending.
    SendNode* send_first = nullptr;
    SendNode* send_last = nullptr;
    std::uint64_t sent_number = 0;  // of the last datagram that was taken by `send`
    std::uint64_t done_number = 0;  // of the last one that the kernel took or refused
    std::uint64_t send_memory = 0;
    DatagramFlushWait* flush_first = nullptr;  // in the order of what they wait for
    std::uint32_t flush_waits = 0;             // with those in the ready list
    int untold_error = 0;                      // of a datagram that no flush has waited for
    bool in_send_list = false;
    bool cutting_refused = false;  // the way out cannot cut trains
    std::uint32_t flights_left = 0;
    std::uint32_t flight_count = 0;
    std::array<Flight, flight_max> flights;

    // Ending.
    std::uint32_t index = 0;
    std::uint32_t generation = 0;
    std::uint32_t operations = 0;  // in the kernel, with the close
    int descriptor = -1;
    std::uint16_t family = 0;
    bool connected_ipv4 = false;  // to an IPv4 peer, whatever the socket's own family
    bool closing = false;
    bool close_submitted = false;
    std::atomic<bool> handle_gone{false};

    std::uint16_t port = 0;
    std::uint32_t socket_receive_bytes = 0;
    std::uint32_t socket_send_bytes = 0;
    UdpSocketOptions options;
    UdpCounters counters;
    std::shared_ptr<UdpGroup> group;
    std::size_t group_index = 0;
};

}  // namespace ferrule::inline v0
