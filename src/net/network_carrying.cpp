#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>

#include "net/defence.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

// What reads leave behind: it stays in the buffers that the kernel has filled, and leaves them when they run short, so
// that a peer which sends half a message and stops holds memory of its own account, not buffers of everybody's.

namespace {

std::uint32_t total_of(const LeaseNode* node) noexcept {
    std::uint32_t total = 0;
    for (; node != nullptr; node = node->next) total += node->length;
    return total;
}

bool in_buffer(const LeaseNode& node) noexcept {
    return node.owner == LeaseOwner::ring || node.owner == LeaseOwner::own;
}

}  // namespace

void Network::carry(LeaseNode* first, std::uint32_t consumed) noexcept {
    if (Host::current() != reactor_) [[unlikely]]
        assertion_failed(__FILE__, __LINE__, "a ReadResult ends on a thread that is not its reactor's");
    ConnectionState& state = *first->connection;
    // The time of a message runs from its first bytes: what was carried before and grows is the same message still.
    const bool begun = consumed == 0 && first->carried;
    while (first != nullptr && consumed >= first->length) {
        consumed -= first->length;
        give_back(*std::exchange(first, first->next));
    }
    if (first == nullptr) return;
    first->data += consumed;
    first->length -= consumed;
    if (!state.wants_input) {
        while (first != nullptr) give_back(*std::exchange(first, first->next));
        return;
    }
    if (!begun) {
        state.message_since = ticks_now();
        if (stream_slice_ == 0 && !guard_of(state).in_message) [[unlikely]]
            guard_message(state, total_of(first));
    }
    std::uint32_t in_buffers = 0;
    for (LeaseNode* node = first; node != nullptr; node = node->next) {
        join_adjoining(*node);
        in_buffers += in_buffer(*node) ? 1 : 0;
    }
    if (in_buffers != 0) {
        const BufferRing* own = own_buffers(state);
        const bool must_leave =
            in_buffers > options_.receive_lease_limit / 2 || runs_short(own != nullptr ? *own : *buffers_);
        if ((!must_leave || !copy_out(first)) && own == nullptr) note_carrier(state);
    }
    first->carried = true;
    LeaseNode** end = &state.carry;
    while (*end != nullptr) end = &(*end)->next;
    *end = first;
}

bool Network::copy_out(LeaseNode*& first) noexcept {
    std::uint32_t total = 0;
    bool in_buffers = false;
    for (const LeaseNode* node = first; node != nullptr; node = node->next) {
        total += node->length;
        in_buffers = in_buffers || in_buffer(*node);
    }
    return !in_buffers || gather_into_block(first, 0, total);
}

void Network::note_carrier(const ConnectionState& state) noexcept {
    carriers_[state.index / states_per_chunk] |= std::uint64_t{1} << (state.index % states_per_chunk);
    any_carrier_ = true;
}

void Network::reclaim_carried(std::uint32_t wanted) noexcept {
    if (!any_carrier_) return;
    const std::uint32_t held_before = buffers_->held();
    any_carrier_ = false;
    for (std::size_t chunk = 0; chunk < carriers_.size(); ++chunk) {
        std::uint64_t kept = 0;
        for (std::uint64_t left = carriers_[chunk]; left != 0; left &= left - 1) {
            ConnectionState& state = states_[chunk][static_cast<std::size_t>(std::countr_zero(left))];
            const bool enough = held_before - buffers_->held() >= wanted;
            if (state.carry != nullptr && (enough || !copy_out(state.carry))) kept |= left & (~left + 1);
        }
        carriers_[chunk] = kept;
        any_carrier_ = any_carrier_ || kept != 0;
    }
    buffers_->publish();
}

// ---- pieces in one ----

namespace {

/// Whether the bytes of the second lie behind those of the first in one buffer, as an incremental ring puts them.
bool adjoin(const LeaseNode& first, const LeaseNode& second) noexcept {
    return in_buffer(first) && first.owner == second.owner && first.buffer == second.buffer &&
           first.data + first.length == second.data;
}

/// Bytes that a node's block holds from an offset of its bytes on.
std::uint64_t room_from(const LeaseNode& node, std::uint32_t offset) noexcept {
    if (in_buffer(node) || node.block == nullptr) return 0;
    const std::uint64_t block_bytes =
        node.home == nullptr ? SlabPool::block_bytes(SlabPool::class_of(node.block_bytes)) : node.block_bytes;
    return block_bytes - static_cast<std::uint64_t>(node.data - node.block) - offset;
}

}  // namespace

void Network::join_adjoining(LeaseNode& node) noexcept {
    while (node.next != nullptr && adjoin(node, *node.next)) {
        LeaseNode& next = *node.next;
        node.next = next.next;
        node.length += next.length;
        node.charged += std::exchange(next.charged, 0);
        node.connection->network->give_back(next);
    }
}

bool Network::gather(LeaseNode*& link, std::uint32_t from, std::uint32_t bytes) noexcept {
    join_adjoining(*link);
    return link->length - from >= bytes || gather_into_block(link, from, bytes);
}

bool Network::gather_into_block(LeaseNode*& link, std::uint32_t from, std::uint32_t bytes) noexcept {
    LeaseNode* const first = link;
    LeaseNode* into = first;
    LeaseNode* source = first->next;
    const std::uint32_t begun = std::min(first->length - from, bytes);
    std::uint32_t missing = bytes - begun;
    if (bytes > room_from(*first, from)) {
        into = first->home != nullptr ? first->home->take_block(bytes)
                                      : first->connection->network->heap_node(*first->connection, bytes);
        if (into == nullptr) return false;
        std::memcpy(into->data, first->data + from, begun);
        into->length = begun;
        if (from == 0) {
            into->carried = first->carried;
            link = into;
            detail::give_back_lease(*first);
        } else {
            first->length = from;
            first->next = into;
        }
    }
    while (missing != 0) {
        const std::uint32_t part = std::min(missing, source->length);
        std::memcpy(into->data + into->length, source->data, part);
        into->length += part;
        missing -= part;
        if (part == source->length) {
            detail::give_back_lease(*std::exchange(source, source->next));
        } else {
            source->data += part;
            source->length -= part;
        }
    }
    into->next = source;
    return true;
}

bool Network::split(LeaseNode*& link, std::uint32_t at) noexcept {
    LeaseNode& whole = *link;
    const std::uint32_t behind = whole.length - at;
    const std::uint32_t copied = std::min(at, behind);
    LeaseNode* part = whole.home != nullptr ? whole.home->take_block(copied)
                                            : whole.connection->network->heap_node(*whole.connection, copied);
    if (part == nullptr) return false;
    part->length = copied;
    if (copied == at) {
        std::memcpy(part->data, whole.data, at);
        part->carried = std::exchange(whole.carried, false);
        whole.data += at;
        whole.length = behind;
        part->next = &whole;
        link = part;
    } else {
        std::memcpy(part->data, whole.data + at, behind);
        whole.length = at;
        part->next = std::exchange(whole.next, part);
    }
    return true;
}

}  // namespace ferrule::inline v0
