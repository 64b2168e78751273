// A kernel that does nothing: behind the seam, from memory. It speaks the shared-memory queues, and at each `enter` it
// takes what was submitted and posts, for every connection that has its answers, the next requests. What a program
// costs on it is what it costs in user space.
#pragma once

#include <ferrule/ring/abi.hpp>

#include "support/forwarding_kernel.hpp"

#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

namespace ferrule_test {

namespace abi = ferrule::abi;

class NullKernel final : public ForwardingKernel {
public:
    struct Load {
        unsigned connections = 64;
        unsigned depth = 1;          ///< requests that a connection sends at once
        std::uint64_t requests = 0;  ///< altogether; then `finished` is called
        std::string_view request;
        std::size_t answer_bytes = 0;  ///< of one answer
    };

    explicit NullKernel(Load load) : load_(load), connections_(load.connections) {}

    std::function<void()> finished = [] {};
    [[nodiscard]] bool done() const noexcept { return answered_ >= load_.requests; }

    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        entry_mask_ = entries - 1;
        const std::uint32_t completions = parameters->cq_entries != 0 ? parameters->cq_entries : entries * 2;
        completion_mask_ = completions - 1;
        parameters->sq_entries = entries;
        parameters->cq_entries = completions;
        parameters->features = abi::feature_single_mmap | abi::feature_no_drop | abi::feature_submit_stable |
                               abi::feature_extended_argument | abi::feature_fast_poll;
        words_.assign(16 + completions * sizeof(abi::Completion) / 4 + entries, 0);
        parameters->sq_off.head = 0;
        parameters->sq_off.tail = 4;
        parameters->sq_off.ring_mask = 8;
        parameters->sq_off.ring_entries = 12;
        parameters->sq_off.flags = 16;
        parameters->sq_off.dropped = 20;
        parameters->sq_off.array = static_cast<std::uint32_t>((16 + completions * sizeof(abi::Completion) / 4) * 4);
        parameters->cq_off.head = 24;
        parameters->cq_off.tail = 28;
        parameters->cq_off.ring_mask = 32;
        parameters->cq_off.ring_entries = 36;
        parameters->cq_off.overflow = 40;
        parameters->cq_off.flags = 44;
        parameters->cq_off.cqes = 64;
        words_[2] = entry_mask_;
        words_[3] = entries;
        words_[8] = completion_mask_;
        words_[9] = completions;
        entries_.resize(entries);
        return ForwardingKernel::event_descriptor(0, EFD_CLOEXEC);
    }

    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        if (fd < 0) return ForwardingKernel::map(length, protection, flags, fd, offset, error);
        return offset == abi::offset_submission_entries ? static_cast<void*>(entries_.data())
                                                        : static_cast<void*>(words_.data());
    }
    int unmap(void* address, std::size_t length) noexcept override {
        if (address == entries_.data() || address == words_.data()) return 0;
        return ForwardingKernel::unmap(address, length);
    }
    int advise(void*, std::size_t, int) noexcept override { return 0; }

    int io_uring_register(int, std::uint32_t opcode, void* argument, std::uint32_t) noexcept override {
        if (opcode == abi::register_enable_rings || opcode == abi::unregister_buffer_ring) return 0;
        if (opcode != abi::register_buffer_ring) return -EINVAL;
        const auto* ring = static_cast<const abi::BufferRingRegistration*>(argument);
        buffers_ = reinterpret_cast<abi::BufferEntry*>(ring->ring_addr);
        buffer_mask_ = ring->ring_entries - 1;
        return 0;
    }

    int io_uring_enter(int, std::uint32_t to_submit, std::uint32_t, std::uint32_t, const void*,
                       std::size_t) noexcept override {
        std::uint32_t head = words_[0];
        const std::uint32_t tail = head + to_submit;
        for (; head != tail; ++head) submit(entries_[head & entry_mask_]);
        std::atomic_ref<std::uint32_t>(words_[0]).store(head, std::memory_order_release);
        for (; next_ready_ < ready_.size(); ++next_ready_) {
            if (words_[7] - words_[6] > completion_mask_ || buffer_head_ == buffer_tail()) break;
            const Connection& connection = connections_[ready_[next_ready_]];
            const abi::BufferEntry& buffer = buffers_[buffer_head_++ & buffer_mask_];
            if (filled_ <= buffer.bid) fill(buffer);
            post(connection.receive_tag, static_cast<std::int32_t>(load_.depth * load_.request.size()),
                 abi::completion_more | abi::completion_buffer |
                     std::uint32_t{buffer.bid} << abi::completion_buffer_shift);
        }
        if (next_ready_ == ready_.size()) {
            ready_.clear();
            next_ready_ = 0;
        }
        return static_cast<int>(to_submit);
    }

    int close(int fd) noexcept override { return fd >= first_descriptor ? 0 : ForwardingKernel::close(fd); }
    int shutdown(int, int) noexcept override { return 0; }

    static constexpr int first_descriptor = 100'000;

private:
    struct Connection {
        std::uint64_t receive_tag = 0;
        std::uint32_t answered_bytes = 0;
        bool armed = false;
    };

    [[nodiscard]] std::uint16_t buffer_tail() const noexcept {
        return *reinterpret_cast<const std::uint16_t*>(reinterpret_cast<const std::byte*>(buffers_) +
                                                       abi::buffer_ring_tail_offset);
    }

    /// The request is in every buffer from its first use on: a receive then costs nothing here.
    void fill(const abi::BufferEntry& buffer) noexcept {
        auto* to = reinterpret_cast<char*>(buffer.addr);
        for (unsigned index = 0; index < load_.depth; ++index, to += load_.request.size()) {
            std::memcpy(to, load_.request.data(), load_.request.size());
        }
        filled_ = buffer.bid + 1u;
    }

    void post(std::uint64_t tag, std::int32_t result, std::uint32_t flags) noexcept {
        auto* completions = reinterpret_cast<abi::Completion*>(words_.data() + 16);
        completions[words_[7] & completion_mask_] = {tag, result, flags};
        std::atomic_ref<std::uint32_t>(words_[7]).store(words_[7] + 1, std::memory_order_release);
    }

    void submit(const abi::SubmissionEntry& entry) noexcept {
        switch (entry.opcode) {
            case abi::Operation::accept:
                for (unsigned index = 0; accepted_ < load_.connections; ++index, ++accepted_) {
                    post(entry.user_data, first_descriptor + static_cast<int>(accepted_), abi::completion_more);
                }
                break;
            case abi::Operation::receive: {
                // One-shot or multishot makes no difference to the user's side after the first: all are treated as
                // multishot but the first.
                Connection& connection = connections_[static_cast<std::size_t>(entry.fd - first_descriptor)];
                connection.receive_tag = entry.user_data;
                if ((entry.ioprio & abi::receive_multishot) == 0) {
                    const abi::BufferEntry& buffer = buffers_[buffer_head_++ & buffer_mask_];
                    if (filled_ <= buffer.bid) fill(buffer);
                    post(entry.user_data, static_cast<std::int32_t>(load_.depth * load_.request.size()),
                         abi::completion_buffer | std::uint32_t{buffer.bid} << abi::completion_buffer_shift);
                } else {
                    connection.armed = true;
                    connection.answered_bytes = 0;
                    ready_.push_back(static_cast<std::uint32_t>(entry.fd - first_descriptor));
                }
                break;
            }
            case abi::Operation::send: {
                Connection& connection = connections_[static_cast<std::size_t>(entry.fd - first_descriptor)];
                connection.answered_bytes += entry.len;
                const std::uint64_t answers = entry.len / load_.answer_bytes;
                const bool was_done = done();
                answered_ += answers;
                if (!was_done && done()) finished();
                if (connection.armed && connection.answered_bytes >= load_.depth * load_.answer_bytes && !done()) {
                    connection.answered_bytes = 0;
                    ready_.push_back(static_cast<std::uint32_t>(entry.fd - first_descriptor));
                }
                if ((entry.flags & abi::entry_completion_skip_success) == 0)
                    post(entry.user_data, static_cast<std::int32_t>(entry.len), 0);
                break;
            }
            case abi::Operation::async_cancel:
                post(entry.addr, -ECANCELED, 0);
                break;
            case abi::Operation::close:
                post(entry.user_data, 0, 0);
                break;
            default:
                break;  // the read of the event descriptor waits for ever
        }
    }

    Load load_;
    std::vector<Connection> connections_;
    std::vector<std::uint32_t> words_;
    std::vector<abi::SubmissionEntry> entries_;
    std::uint32_t entry_mask_ = 0;
    std::uint32_t completion_mask_ = 0;
    abi::BufferEntry* buffers_ = nullptr;
    std::uint32_t buffer_mask_ = 0;
    std::uint16_t buffer_head_ = 0;
    std::uint32_t filled_ = 0;
    std::vector<std::uint32_t> ready_;
    std::size_t next_ready_ = 0;
    unsigned accepted_ = 0;
    std::uint64_t answered_ = 0;
};

}  // namespace ferrule_test
