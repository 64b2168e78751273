#include <ferrule/assert.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/forwarded_datagram.hpp"
#include "net/udp_service.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

// The receiving side of UDP sockets: one multishot operation into the socket's own buffers, and who has which of them.

void UdpService::begin_receiving(UdpSocketState& state) noexcept {
    if (!state.receive_armed && !state.starved) want_arm(state);
}

void UdpService::want_arm(UdpSocketState& state) noexcept {
    if (std::exchange(state.arm_wanted, true)) return;
    arm_list_.push_back(&state);  // within the room that was reserved
}

void UdpService::arm_receive(UdpSocketState& state) noexcept {
    if (state.closing || shutting_down_ || state.receive_armed) return;
    if (state.buffers->held() == state.buffers->count()) {
        // The kernel would say so at once. What comes stays with it until a buffer is given back.
        state.starved = true;
        return;
    }
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::receive_message_multishot(entry, state.descriptor, &state.receive_message, state.buffers->group(), 0);
    entry.user_data = Tag{receive_kind_, state.generation, state.index}.encode();
    state.receive_armed = true;
    state.receive_cancelled = false;
    ++state.operations;
}

void UdpService::cancel_receive(UdpSocketState& state) noexcept {
    if (!state.receive_armed || std::exchange(state.receive_cancelled, true)) return;
    reactor_->cancel_request(Tag{receive_kind_, state.generation, state.index}.encode());
}

void UdpService::append(UdpSocketState& state, DatagramNode& node) noexcept {
    node.next = nullptr;
    node.socket = &state;
    ++state.datagrams;
    if (state.received_first == nullptr) {
        state.received_first = &node;
    } else {
        state.received_last->next = &node;
    }
    state.received_last = &node;
}

void UdpService::drop_received(UdpSocketState& state) noexcept {
    while (state.received_first != nullptr) give_back(*std::exchange(state.received_first, state.received_first->next));
}

void UdpService::end_receive(UdpSocketState& state, EndReason reason) noexcept {
    if (!state.receiver || std::exchange(state.receiver_queued, true)) return;
    state.end_reason = reason;
    state.last_error = reason == EndReason::deadline ? ETIMEDOUT : ECANCELED;
    reactor_->resume_later(state.receiver);
}

void UdpService::on_receive(void* owner, const abi::Completion& completion) noexcept {
    auto& self = *static_cast<UdpService*>(owner);
    const Tag tag = Tag::decode(completion.user_data);
    UdpSocketState* found = self.find(tag.slot, tag.generation);
    FERRULE_ASSERT(found != nullptr);  // the slot is kept until the last completion
    UdpSocketState& state = *found;
    const bool ended = (completion.flags & abi::completion_more) == 0;
    if (ended) {
        state.receive_armed = false;
        --state.operations;
    }
    bool arrived = false;
    if ((completion.flags & abi::completion_buffer) != 0) {
        const BufferRing::Slice slice = state.buffers->take(completion);
        if (slice.length >= state.payload_offset && !state.closing) [[likely]] {
            DatagramNode& node = state.nodes[slice.buffer];
            abi::ReceiveMessageHeader header;
            std::memcpy(&header, slice.data, sizeof header);
            const std::uint32_t length = slice.length - state.payload_offset;
            node.memory = slice.data;
            node.payload = slice.data + state.payload_offset;
            // A buffer is a little larger than what was asked for.
            node.length = std::min(length, state.options.datagram_size_max);
            node.buffer = slice.buffer;
            node.truncated = (header.flags & MSG_TRUNC) != 0 || length > state.options.datagram_size_max;
            self.count(state, &UdpCounters::datagrams_received);
            self.count(state, &UdpCounters::bytes_received, node.length);
            if (node.truncated) [[unlikely]]
                self.count(state, &UdpCounters::truncated);
            self.append(state, node);
            arrived = true;
        } else {
            state.buffers->give_back(slice.buffer);
            state.buffers->publish();
        }
    }
    if (ended) [[unlikely]]
        self.receive_ended(state, completion.result);
    if (arrived) [[likely]] {
        // It may do anything, so it comes last.
        if (state.receiver && !state.receiver_queued) self.reactor_->resume(state.receiver);
    } else if (state.closing) {
        self.progress_close(state);
        settle(state);
    }
}

void UdpService::receive_ended(UdpSocketState& state, int result) noexcept {
    if (result >= 0 || result == -EINTR || result == -EAGAIN) {
        // An empty datagram ends it, and a full completion queue does.
        want_arm(state);
        return;
    }
    if (result == -ENOBUFS) {
        count(state, &UdpCounters::starvations);
        want_arm(state);
        return;
    }
    if (result == -ECANCELED) {
        if (!state.receive_cancelled) want_arm(state);
        return;
    }
    // Told once, to whoever asks first; then the next receive goes on.
    count(state, &UdpCounters::receive_errors);
    state.receive_failed = true;
    state.receive_error = -result;
    if (state.receiver && !std::exchange(state.receiver_queued, true)) reactor_->resume_later(state.receiver);
}

void UdpService::give_back(DatagramNode& node) noexcept {
    UdpSocketState& state = *node.socket;
    UdpService* service = state.service;
    if (service != nullptr && Host::current() != state.reactor) [[unlikely]]
        assertion_failed(__FILE__, __LINE__, "a Datagram ends on a thread that is not its reactor's");
    --state.datagrams;
    if (node.forwarded) [[unlikely]] {
        --state.forwarded;
        ForwardedDatagram::release(node);
    } else {
        state.buffers->give_back(node.buffer);
        state.buffers->publish();
        if (state.starved) [[unlikely]] {
            state.starved = false;
            if (service != nullptr) service->want_arm(state);
        }
    }
    if (state.closing || service == nullptr) [[unlikely]]
        settle(state);
}

void UdpService::deliver(UdpSocketState& state, DatagramNode& node) noexcept {
    if (state.forwarded >= state.options.receive_buffer_count) {
        count(state, &UdpCounters::forwards_dropped);
        ForwardedDatagram::release(node);
        return;
    }
    ++state.forwarded;
    count(state, &UdpCounters::datagrams_received);
    count(state, &UdpCounters::bytes_received, node.length);
    append(state, node);
    if (state.receiver && !state.receiver_queued) reactor_->resume(state.receiver);
}

}  // namespace ferrule::inline v0
