#include "sim/buffer_group.hpp"

#include <atomic>

namespace ferrule::inline v0::sim {

BufferGroup::BufferGroup(World& world, Ownership& ownership, const std::string& ring,
                         const abi::BufferRingRegistration& registration, std::uint16_t head)
    : world_(world),
      ownership_(ownership),
      ring_(ring),
      entries_(reinterpret_cast<abi::BufferEntry*>(registration.ring_addr)),
      mask_(registration.ring_entries - 1),
      number_(registration.bgid),
      head_(head),
      seen_(head),
      incremental_((registration.flags & abi::buffer_ring_incremental) != 0) {
    buffers_.resize(registration.ring_entries);
}

BufferGroup::~BufferGroup() {
    for (const Buffer& buffer : buffers_) {
        if (buffer.length != 0) ownership_.forget(buffer.address, buffer.length);
    }
}

void BufferGroup::find(const std::string& what) {
    world_.finding(ring_ + ": buffer group " + std::to_string(number_) + ": " + what);
}

void BufferGroup::look() {
    auto* const word =
        reinterpret_cast<std::uint16_t*>(reinterpret_cast<std::byte*>(entries_) + abi::buffer_ring_tail_offset);
    const std::uint16_t tail = std::atomic_ref<std::uint16_t>(*word).load(std::memory_order_acquire);
    if (tail == seen_) [[likely]]
        return;
    if (static_cast<std::uint16_t>(tail - head_) > mask_ + 1) {
        find("its tail is " + std::to_string(tail) + " where its head is " + std::to_string(head_) +
             ": more than its " + std::to_string(mask_ + 1) + " entries");
    }
    for (; seen_ != tail; ++seen_) take(entry(seen_));
}

void BufferGroup::take(const abi::BufferEntry& published) {
    if (published.bid >= buffers_.size()) buffers_.resize(std::size_t{published.bid} + 1);
    Buffer& buffer = buffers_[published.bid];
    if (buffer.kernel_has) {
        find("buffer " + std::to_string(published.bid) + " is given to the kernel, which has it already");
        return;
    }
    const bool moved = buffer.address != published.addr || buffer.length != published.len;
    if (moved && buffer.length != 0) ownership_.forget(buffer.address, buffer.length);
    buffer = {published.addr, published.len, true};
    ++held_;
    ownership_.publish(number_, published.bid, published.addr, published.len, moved);
}

BufferGroup::Choice BufferGroup::choose(std::uint32_t length) {
    look();
    if (head_ == seen_) return {};
    const abi::BufferEntry& next = entry(head_);
    if (!has(next.bid)) {
        find("the entry at its head, published as a buffer that the kernel has, names buffer " +
             std::to_string(next.bid) + " now");
    }
    const Choice choice{reinterpret_cast<std::byte*>(next.addr), length == 0 || length > next.len ? next.len : length,
                        next.bid};
    ownership_.open_buffer(number_, choice.buffer, next.addr, choice.length);
    return choice;
}

void BufferGroup::put_back(const Choice& choice) {
    ownership_.shut_buffer(reinterpret_cast<std::uintptr_t>(choice.data), choice.length);
}

std::uint32_t BufferGroup::commit(const Choice& choice, std::uint32_t filled) {
    const auto address = reinterpret_cast<std::uintptr_t>(choice.data);
    const std::uint32_t flags = abi::completion_buffer | (std::uint32_t{choice.buffer} << abi::completion_buffer_shift);
    abi::BufferEntry& next = entry(head_);
    if (incremental_ && filled < next.len) {
        ownership_.shut_buffer(address, choice.length);
        ownership_.hand_out(address, filled);
        next.addr += filled;
        next.len -= filled;
        return flags | abi::completion_buffer_more;
    }
    ownership_.hand_out(next.addr, next.len);
    if (choice.buffer < buffers_.size() && buffers_[choice.buffer].kernel_has) {
        buffers_[choice.buffer].kernel_has = false;
        --held_;
    }
    ++head_;
    return flags;
}

}  // namespace ferrule::inline v0::sim
