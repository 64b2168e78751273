#include <ferrule/assert.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/udp_service.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

// The sending side of UDP sockets. What is sent in a pass leaves as one chain of messages, each of which begins when
// the one before it has ended: when the socket's buffer is full the kernel waits for room with the one that found
// none, and none overtakes it. The first that fails ends the chain, and the rest goes with the next one.

namespace {

constexpr std::size_t datagram_bytes_max = 65535;

/// Appends control messages to a header.
class ControlWriter {
public:
    explicit ControlWriter(SendNode& node) noexcept : header_(node.message.header), memory_(node.control.data()) {
        header_.msg_control = memory_;
        header_.msg_controllen = 0;
    }
    template <class T>
    void add(int level, int type, const T& value) noexcept {
        cmsghdr control{};
        control.cmsg_len = CMSG_LEN(sizeof value);
        control.cmsg_level = level;
        control.cmsg_type = type;
        std::byte* const at = memory_ + header_.msg_controllen;
        std::memcpy(at, &control, sizeof control);
        std::memcpy(CMSG_DATA(reinterpret_cast<cmsghdr*>(at)), &value, sizeof value);
        header_.msg_controllen += CMSG_SPACE(sizeof value);
    }

private:
    msghdr& header_;
    std::byte* memory_;
};

/// What takes the place of UDP_SEGMENT when a train is sent one by one; it is the last of the control messages.
constexpr std::size_t segment_control_bytes = CMSG_SPACE(sizeof(std::uint16_t));

/// Where the node goes to: 0, or why it cannot.
int fill_name(SendNode& node, std::uint16_t family, const Address& peer) noexcept {
    const bool fits = peer.data()->sa_family == family;
    const Address converted = fits ? Address{} : family == AF_INET6 ? peer.mapped() : peer.unmapped();
    const Address& taken = fits ? peer : converted;
    if (taken.data()->sa_family != family) return EAFNOSUPPORT;
    std::memcpy(&node.name, taken.data(), taken.size());
    node.message.header.msg_name = &node.name;
    node.message.header.msg_namelen = taken.size();
    return 0;
}

/// Whether the datagram leaves as IPv4: those of an IPv6 socket to an IPv4-mapped address do.
bool leaves_as_ipv4(const UdpSocketState& state, const SendNode& node) noexcept {
    if (state.family == AF_INET) return true;
    if (node.message.header.msg_name == nullptr) return state.connected_ipv4;
    return IN6_IS_ADDR_V4MAPPED(&node.name.sin6_addr);
}

/// The control messages of the options: 0, or why they cannot be.
int fill_control(SendNode& node, bool ipv4, const DatagramSendOptions& options) noexcept {
    ControlWriter control(node);
    if (options.ecn != Ecn::not_capable) {
        const int bits = static_cast<int>(options.ecn);
        control.add(ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, bits);
    }
    if (options.source) {
        const Address source = ipv4 ? options.source->unmapped() : *options.source;
        if (source.family() != (ipv4 ? AddressFamily::ipv4 : AddressFamily::ipv6)) return EAFNOSUPPORT;
        if (ipv4) {
            sockaddr_in name;
            std::memcpy(&name, source.data(), sizeof name);
            in_pktinfo info{};
            info.ipi_spec_dst = name.sin_addr;
            control.add(IPPROTO_IP, IP_PKTINFO, info);
        } else {
            sockaddr_in6 name;
            std::memcpy(&name, source.data(), sizeof name);
            in6_pktinfo info{};
            info.ipi6_addr = name.sin6_addr;
            info.ipi6_ifindex = name.sin6_scope_id;
            control.add(IPPROTO_IPV6, IPV6_PKTINFO, info);
        }
    }
    if (node.segments > 1) control.add(SOL_UDP, UDP_SEGMENT, node.segment_size);
    return 0;
}

/// The kernel cannot cut this train, or not for the way that it goes (udp(7)).
bool refuses_to_cut(int result) noexcept {
    return result == -EIO || result == -EINVAL || result == -EMSGSIZE || result == -EOPNOTSUPP;
}

}  // namespace

// ---- from the program ----

bool UdpService::send(UdpSocketState& state, const Address* peer, std::span<const std::byte> bytes,
                      const DatagramSendOptions& options) noexcept {
    if (bytes.size() > datagram_bytes_max) {
        tell_error(state, EMSGSIZE);
        return false;
    }
    const auto length = static_cast<std::uint32_t>(bytes.size());
    const std::uint32_t size_class = SlabPool::class_of(static_cast<std::uint32_t>(sizeof(SendNode)) + length);
    const std::uint64_t block_bytes = SlabPool::block_bytes(size_class);
    // One may always wait, however large it is.
    if (state.sent_number - state.done_number >= state.options.send_limit ||
        (state.send_memory != 0 && state.send_memory + block_bytes > state.options.send_bytes_limit)) {
        count(state, &UdpCounters::refused_sends);
        return false;
    }
    void* const memory = slabs_.take_class(size_class);
    if (memory == nullptr) {
        count(state, &UdpCounters::refused_sends);
        return false;
    }
    SendNode& node = *new (memory) SendNode;
    node.size_class = size_class;
    node.length = length;
    state.send_memory += block_bytes;
    if (options.segment_size != 0 && length > options.segment_size) {
        node.segment_size = options.segment_size;
        node.segments = static_cast<std::uint16_t>((length + options.segment_size - 1) / options.segment_size);
    }
    node.message.vector = {node.data(), length};
    node.message.header.msg_iov = &node.message.vector;
    node.message.header.msg_iovlen = 1;
    int error = peer != nullptr ? fill_name(node, state.family, *peer) : 0;
    if (error == 0 && (options.ecn != Ecn::not_capable || options.source || node.segments > 1))
        error = fill_control(node, leaves_as_ipv4(state, node), options);
    if (error != 0) {
        free_node(state, node);
        tell_error(state, error);
        return false;
    }
    if (length != 0) std::memcpy(node.data(), bytes.data(), length);
    node.number = ++state.sent_number;
    if (state.send_first == nullptr) {
        state.send_first = &node;
    } else {
        state.send_last->next = &node;
    }
    state.send_last = &node;
    request_send(state);
    return true;
}

void UdpService::request_send(UdpSocketState& state) noexcept {
    if (state.flights_left != 0 || std::exchange(state.in_send_list, true)) return;
    send_list_.push_back(&state);  // within the room that was reserved
}

// ---- to the kernel ----

bool UdpService::split(UdpSocketState& state, SendNode& node) noexcept {
    const auto bytes = static_cast<std::uint32_t>(sizeof(SegmentMessage)) * node.segments;
    auto* const messages = static_cast<SegmentMessage*>(slabs_.take(bytes));
    if (messages == nullptr) return false;
    msghdr header = node.message.header;
    header.msg_controllen -= segment_control_bytes;
    if (header.msg_controllen == 0) header.msg_control = nullptr;
    for (std::uint32_t segment = 0; segment < node.segments; ++segment) {
        const std::uint32_t offset = segment * node.segment_size;
        SegmentMessage& message = *new (&messages[segment]) SegmentMessage;
        message.vector = {node.data() + offset, std::min<std::uint32_t>(node.segment_size, node.length - offset)};
        message.header = header;
        message.header.msg_iov = &message.vector;
    }
    node.split = messages;
    count(state, &UdpCounters::split_trains);
    return true;
}

void UdpService::build_flight(UdpSocketState& state) noexcept {
    if (state.flights_left != 0) return;  // its end asks again
    const std::uint32_t most = std::min(UdpSocketState::flight_max, reactor_->ring().entries());
    std::uint32_t count = 0;
    for (SendNode* node = state.send_first; node != nullptr && count < most; node = node->next) {
        if (node->segments > 1 && node->split == nullptr && state.cutting_refused && !split(state, *node)) {
            node->error = ENOBUFS;
            node->messages_done = node->segments;
        }
        for (std::uint32_t segment = node->messages_done; segment < node->messages() && count < most; ++segment)
            state.flights[count++] = {node, segment, 0, false};
    }
    state.flight_count = state.flights_left = count;
    if (count == 0) {
        // Those that could not be split are all there is.
        finish_sent(state);
        return;
    }
    // At the end of the reactor nothing waits for room any more.
    const int flags = MSG_NOSIGNAL | (shutting_down_ ? MSG_DONTWAIT : 0);
    Ring& ring = reactor_->ring();
    for (std::uint32_t position = 0; position < count; ++position) {
        const UdpSocketState::Flight& flight = state.flights[position];
        abi::SubmissionEntry& entry = ring.entry();
        prepare::send_message(entry, state.descriptor, flight.node->message_of(flight.segment), flags);
        if (position + 1 < count) entry.flags |= abi::entry_link;
        entry.user_data = Tag{send_kind_, state.generation, state.index << flight_bits | position}.encode();
    }
    state.operations += count;
}

void UdpService::on_send(void* owner, const abi::Completion& completion) noexcept {
    auto& self = *static_cast<UdpService*>(owner);
    const Tag tag = Tag::decode(completion.user_data);
    UdpSocketState* found = self.find(tag.slot >> flight_bits, tag.generation);
    FERRULE_ASSERT(found != nullptr);  // the slot is kept until the last completion
    UdpSocketState& state = *found;
    UdpSocketState::Flight& flight = state.flights[tag.slot & ((1u << flight_bits) - 1)];
    flight.result = completion.result;
    flight.ended = true;
    --state.operations;
    if (--state.flights_left == 0) self.finish_flight(state);
}

void UdpService::finish_flight(UdpSocketState& state) noexcept {
    for (std::uint32_t position = 0; position < state.flight_count; ++position) {
        const UdpSocketState::Flight& flight = state.flights[position];
        SendNode& node = *flight.node;
        if (flight.result >= 0) {
            ++node.messages_done;
            continue;
        }
        // Those behind it were cancelled with it, and go again.
        if (flight.result == -ECANCELED || flight.result == -EINTR) break;
        if (node.segments > 1 && node.split == nullptr && refuses_to_cut(flight.result)) {
            // Without checksums by the device no train that goes this way can be cut, and none is tried again.
            if (flight.result == -EIO) state.cutting_refused = true;
            if (split(state, node)) break;
        }
        if (node.error == 0) node.error = -flight.result;
        ++node.messages_done;
        break;
    }
    state.flight_count = 0;
    finish_sent(state);
}

void UdpService::finish_sent(UdpSocketState& state) noexcept {
    while (state.send_first != nullptr && state.send_first->messages_done >= state.send_first->messages()) {
        SendNode& node = *std::exchange(state.send_first, state.send_first->next);
        state.done_number = node.number;
        if (node.error == 0) {
            count(state, &UdpCounters::datagrams_sent);
            count(state, &UdpCounters::bytes_sent, node.length);
        } else {
            count(state, &UdpCounters::send_errors);
            tell_error(state, node.error);
        }
        free_node(state, node);
        while (state.flush_first != nullptr && state.flush_first->until <= state.done_number) {
            DatagramFlushWait& wait = *std::exchange(state.flush_first, state.flush_first->next);
            finish_flush(wait, wait.error);
        }
    }
    if (state.send_first != nullptr) {
        request_send(state);
    } else if (state.closing) {
        progress_close(state);
    }
}

void UdpService::tell_error(UdpSocketState& state, int error) noexcept {
    // All who wait for a flush wait for this datagram too; the first of them is told.
    int& told = state.flush_first != nullptr ? state.flush_first->error : state.untold_error;
    if (told == 0) told = error;
}

void UdpService::cancel_flight(UdpSocketState& state) noexcept {
    for (std::uint32_t position = 0; position < state.flight_count; ++position) {
        if (state.flights[position].ended) continue;
        // One of them may wait for room. Which one it is, is known for sure only to the kernel; its end is the chain's.
        reactor_->cancel_request(Tag{send_kind_, state.generation, state.index << flight_bits | position}.encode());
    }
}

void UdpService::free_node(UdpSocketState& state, SendNode& node) noexcept {
    state.send_memory -= SlabPool::block_bytes(node.size_class);
    if (node.split != nullptr)
        slabs_.give_back(node.split, static_cast<std::uint32_t>(sizeof(SegmentMessage)) * node.segments);
    slabs_.give_back_class(&node, node.size_class);
}

// ---- waiting for a flush ----

DatagramFlushWait& UdpService::take_flush_wait() {
    if (free_flush_waits_ == nullptr) {
        flush_wait_memory_.push_back(std::make_unique<DatagramFlushWait>());
        free_flush_waits_ = flush_wait_memory_.back().get();
    }
    return *std::exchange(free_flush_waits_, free_flush_waits_->next);
}

void UdpService::give_back_flush_wait(DatagramFlushWait& wait) noexcept {
    CancelScope::remove(wait.cancel_node);
    wait.next = free_flush_waits_;
    free_flush_waits_ = &wait;
}

void UdpService::finish_flush(DatagramFlushWait& wait, int error) noexcept {
    CancelScope::remove(wait.cancel_node);
    wait.error = error;
    wait.stage = DatagramFlushWait::Stage::queued;
    reactor_->resume_later(wait.waiter);
}

}  // namespace ferrule::inline v0
