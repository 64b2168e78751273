#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/defence.hpp"
#include "net/listener.hpp"
#include "net/waits.hpp"
#include "ring/probes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

// The receiving side of a network's connections: bytes in, leases, starvation and caps (law 6).

namespace {
constexpr std::uint32_t nodes_per_chunk = 256;

// A stream: receives into blocks of the connection's own cost less by the byte than buffers do when more comes than a
// buffer takes, and more when less does. Blocks grow while half of them is filled, up to the size at which those of a
// few streams still stay in a processor's cache together: 1 MiB is up to a fifth dearer by the byte than 256 KiB.
constexpr std::uint32_t stream_block_bytes_min = 64u << 10;
constexpr std::uint32_t stream_growth_bits = 2;
constexpr std::uint8_t stream_class_max = 2;  // 256 KiB
// Full buffers with more behind them that make a stream, and pieces of few buffers in a row that end it.
constexpr std::uint8_t stream_signs_begin = 8;
constexpr std::uint8_t stream_signs_end = 4;
constexpr std::uint32_t stream_piece_buffers_min = 2;

constexpr std::uint32_t stream_block_bytes(std::uint8_t stream_class) noexcept {
    return stream_block_bytes_min << (stream_growth_bits * (stream_class - 1u));
}
}

// ---- the memory of received bytes ----

LeaseNode* Network::take_node() noexcept {
    if (free_nodes_ == nullptr) [[unlikely]] {
        try {
            node_chunks_.push_back(std::make_unique<LeaseNode[]>(nodes_per_chunk));
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
        for (std::uint32_t index = 0; index < nodes_per_chunk; ++index) {
            LeaseNode& node = node_chunks_.back()[index];
            node.next = free_nodes_;
            free_nodes_ = &node;
        }
    }
    return std::exchange(free_nodes_, free_nodes_->next);
}

inline LeaseNode* Network::ring_node(const BufferRing::Slice& slice) noexcept {
    LeaseNode* node = buffer_nodes_ != nullptr ? &buffer_nodes_[slice.buffer] : take_node();
    if (node == nullptr) [[unlikely]]
        return nullptr;
    node->owner = LeaseOwner::ring;
    node->carried = false;
    node->data = slice.data;
    node->length = node->charged = slice.length;
    node->buffer = slice.buffer;
    return node;
}

LeaseNode* Network::heap_node(ConnectionState& state, std::uint32_t bytes) noexcept {
    const std::uint64_t block_bytes = SlabPool::block_bytes(SlabPool::class_of(bytes));
    if (!has_room(state, block_bytes)) return nullptr;
    LeaseNode* node = take_node();
    if (node == nullptr) return nullptr;
    auto* block = static_cast<std::byte*>(slabs_.take(bytes));
    if (block == nullptr) {
        node->next = free_nodes_;
        free_nodes_ = node;
        return nullptr;
    }
    node->next = nullptr;
    node->owner = LeaseOwner::heap;
    node->block = node->data = block;
    node->block_bytes = bytes;
    node->charged = bytes;
    node->length = 0;
    node->carried = false;
    node->connection = &state;
    ++state.held;
    state.received_bytes += bytes;
    node->overhead = static_cast<std::uint32_t>(block_bytes - bytes);
    state.overhead_bytes += node->overhead;
    ++heap_leases_;
    return node;
}

[[gnu::noinline]] void Network::give_back_block(LeaseNode& node) noexcept {
    slabs_.give_back(node.block, node.block_bytes);
    node.connection->overhead_bytes -= node.overhead;
    --heap_leases_;
}

inline void Network::give_back_buffer(LeaseNode& node) noexcept {
    if (Host::current() != reactor_) [[unlikely]]
        assertion_failed(__FILE__, __LINE__, "a ReadResult or Lease ends on a thread that is not its reactor's");
    ConnectionState& state = *node.connection;
    buffers_->give_back(node.buffer);
    state.received_bytes -= node.charged;
    --state.held;
    if (buffer_nodes_ == nullptr) free_node(node);
    if (state.stage == CloseStage::closed) [[unlikely]]
        settle(state);
}

void Network::give_back(LeaseNode& node) noexcept {
    if (node.owner == LeaseOwner::ring) [[likely]] {
        give_back_buffer(node);
        return;
    }
    if (Host::current() != reactor_) [[unlikely]]
        assertion_failed(__FILE__, __LINE__, "a ReadResult or Lease ends on a thread that is not its reactor's");
    ConnectionState& state = *node.connection;
    if (node.owner == LeaseOwner::own) {
        give_back_own(node);
    } else {
        give_back_block(node);
    }
    state.received_bytes -= node.charged;
    --state.held;
    free_node(node);
    if (state.stage == CloseStage::closed) [[unlikely]]
        settle(state);
}

void detail::give_back_lease(LeaseNode& node) noexcept {
    if (node.home == nullptr) [[likely]] {
        node.connection->network->give_back(node);
    } else {
        node.home->give_back(node);
    }
}

void ReadResult::reset() noexcept {
    LeaseNode* node = std::exchange(first_, nullptr);
    if (node == nullptr) return;
    if (partial_) [[unlikely]] {
        partial_ = false;
        if (node->home == nullptr) {
            node->connection->network->carry(node, consumed_);
            return;
        }
        first_ = node;
        remove_prefix(consumed_);
        if (node = std::exchange(first_, nullptr); node != nullptr) node->home->carry(node);
        return;
    }
    while (node != nullptr) {
        LeaseNode* next = node->next;
        if (node->owner == LeaseOwner::ring) [[likely]] {
            node->connection->network->give_back_buffer(*node);
        } else {
            detail::give_back_lease(*node);
        }
        node = next;
    }
}

void Network::append(ConnectionState& state, LeaseNode& node) noexcept {
    node.next = nullptr;
    if (state.received_first == nullptr) {
        state.received_first = &node;
    } else {
        state.received_last->next = &node;
    }
    state.received_last = &node;
}

void Network::drop_received(ConnectionState& state) noexcept {
    if (state.received_first != nullptr || state.carry != nullptr) state.unread_input = true;
    LeaseNode* lists[] = {std::exchange(state.carry, nullptr), std::exchange(state.received_first, nullptr)};
    if (!state.private_receive) state.received_last = nullptr;
    for (LeaseNode* node : lists) {
        while (node != nullptr) give_back(*std::exchange(node, node->next));
    }
}

// ---- receives ----

void Network::arm_receive(ConnectionState& state) noexcept {
    if (state.stream_class != 0 && state.stage == CloseStage::open && arm_stream_receive(state)) return;
    if (!connection_buffers_.empty() && !state.receive_again) give_own_buffers(state);
    const BufferRing* own = own_buffers(state);
    const std::uint16_t group = (own != nullptr ? own : buffers_.get())->group();
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    if (state.receive_again) [[likely]] {
        prepare::receive_multishot(entry, state.descriptor, group, 0);
        state.stays = true;
    } else {
        prepare::receive_select(entry, state.descriptor, group, 0, 0);
        state.message_since = ticks_now();  // of nothing yet: from here its first byte is waited for
        // A look that finds nothing costs a good part of a receive. Draining, what has come must be found at once.
        if (state.served && !draining_ && listeners_[state.listener]->accepts_early())
            entry.ioprio = abi::receive_poll_first;
    }
    entry.user_data = receive_tag(state);
    state.receive_armed = true;
    state.receive_cancelled = false;
    ++state.operations;
    if (draining_) [[unlikely]]
        consider_draining(state);
}

void Network::consider_draining(ConnectionState& state) noexcept {
    if (!ends_idle_ || !state.served || state.stage != CloseStage::open || state.drain_parked || !idle(state)) return;
    state.drain_parked = true;
    drain_parked_.push_back({&state, state.generation});
}

bool Network::arm_private_receive(ConnectionState& state) noexcept {
    if (state.received_bytes + options_.receive_buffer_size > options_.receive_limit) return false;
    LeaseNode* node = heap_node(state, options_.receive_buffer_size);
    if (node == nullptr) return false;
    arm_block(state, *node);
    counters_.private_receives.add();
    return true;
}

void Network::arm_block(ConnectionState& state, LeaseNode& node) noexcept {
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::receive(entry, state.descriptor, node.block, node.block_bytes, 0);
    // Who sends large messages and waits for their answers has sent nothing yet: a look would be in vain.
    if (state.stream_class != 0 && !state.unread_input && !draining_) entry.ioprio = abi::receive_poll_first;
    entry.user_data = receive_tag(state);
    state.received_last = &node;
    state.private_receive = true;
    state.receive_armed = true;
    state.receive_cancelled = false;
    ++state.operations;
    if (draining_) [[unlikely]]
        consider_draining(state);
}

// ---- streams ----

bool Network::arm_stream_receive(ConnectionState& state) noexcept {
    const std::uint64_t room =
        std::min<std::uint64_t>(options_.stream_memory - std::min(stream_bytes_, options_.stream_memory),
                                options_.receive_limit - std::min(state.received_bytes, options_.receive_limit));
    std::uint8_t block_class = state.stream_class;
    while (block_class != 0 && stream_block_bytes(block_class) > room) --block_class;
    if (block_class == 0) return false;
    LeaseNode* node = heap_node(state, stream_block_bytes(block_class));
    if (node == nullptr) return false;
    stream_bytes_ += node->block_bytes;
    arm_block(state, *node);
    const std::uint64_t due = due_of(state.parked_at, stream_idle_timeout);
    if (!state.timer.armed() || reactor_->timers().due(state.timer) > due) reactor_->timers().arm(state.timer, due);
    return true;
}

void Network::end_stream(ConnectionState& state) noexcept {
    state.stream_class = 0;
    state.stream_signs = 0;
    cancel_receive(state);
}

// Called for a buffer that came full; where the rate of receiving is watched, for each.
[[gnu::noinline]] void Network::consider_stream(ConnectionState& state, std::uint32_t flags) noexcept {
    if (stream_slice_ == 0) [[unlikely]] {
        count_received(state, state.received_last->length);
        if (state.received_last->length < defence_->full_slice) return;
    }
    if ((flags & abi::completion_socket_nonempty) == 0 || state.stream_class != 0) return;
    if (++state.stream_signs < stream_signs_begin) return;
    state.stream_signs = 0;
    if (stream_bytes_ + stream_block_bytes_min > options_.stream_memory) return;
    state.stream_class = 1;
    cancel_receive(state);
}

// What a block has room for and did not get counts as overhead from now on.
void Network::settle_stream_receive(ConnectionState& state, LeaseNode& node) noexcept {
    const std::uint32_t empty = node.charged - node.length;
    node.charged -= empty;
    node.overhead += empty;
    state.received_bytes -= empty;
    state.overhead_bytes += empty;
    if (node.length >= stream_piece_buffers_min * options_.receive_buffer_size) {
        state.stream_signs = 0;
    } else if (++state.stream_signs >= stream_signs_end) {
        state.stream_class = 0;
        state.stream_signs = 0;
        return;
    }
    if (node.length >= node.block_bytes / 2) {
        state.stream_class += state.stream_class < stream_class_max ? 1 : 0;
    } else if (state.stream_class > 1 && node.length < stream_block_bytes(state.stream_class - 1) / 4) {
        --state.stream_class;
    }
}

// ---- reading ----

void Network::cancel_receive(ConnectionState& state) noexcept {
    if (!state.receive_armed || state.receive_cancelled) return;
    state.receive_cancelled = true;
    reactor_->cancel_request(receive_tag(state));
}

void Network::pause_receive(ConnectionState& state) noexcept {
    if (!state.receive_armed || state.receive_cancelled) return;
    counters_.pauses.add();
    cancel_receive(state);
}

void Network::consider_pause(ConnectionState& state) noexcept {
    if (state.held >= options_.receive_lease_limit || crowded(state)) pause_receive(state);
}

bool Network::sends(const ConnectionState& state) noexcept {
    return state.sending != nullptr || (state.staged != nullptr && state.staged->flushed);
}

void Network::arm_for_reader(ConnectionState& state) noexcept {
    if (waits_for_lent(state)) [[unlikely]] {
        // What it holds is being sent on, and comes back by itself; the write timeout bounds the wait.
        wait_in_starved(state);
    } else if (crowded(state)) [[unlikely]] {
        if (sends(state)) {
            // Room comes back when that is over, and the list is looked through in each pass.
            wait_in_starved(state);
        } else {
            end_read(state, EndReason::limit, ENOBUFS);
        }
    } else if (state.held < options_.receive_lease_limit) [[likely]] {
        arm_receive(state);
    } else if (!arm_private_receive(state)) {
        end_read(state, EndReason::limit, ENOBUFS);
    }
}

void Network::park_reader(ConnectionState& state) noexcept {
    state.parked_at = ticks_now();
    if (state.held != 0) [[unlikely]] {
        // A block that is armed has its room: it counts already.
        const bool no_room = !state.private_receive && crowded(state);
        const bool full = !state.private_receive && state.received_bytes >= options_.receive_limit;
        const bool lends = state.lent != 0;
        if (!lends && (full || (no_room && !sends(state)))) {
            // This read has not suspended yet: it ends in the ready list.
            end_read(state, EndReason::limit, ENOBUFS);
            return;
        }
        if (no_room || full || (!state.private_receive && waits_for_lent(state))) pause_receive(state);
        if (state.carry != nullptr && options_.read_timeout.count() > 0) {
            const std::uint64_t due = due_of(state.message_since, options_.read_timeout);
            if (!state.timer.armed() || reactor_->timers().due(state.timer) > due)
                reactor_->timers().arm(state.timer, due);
        }
        if (state.carry != nullptr && defence_ != nullptr && options_.receive_rate_min != 0)
            arm_no_later(state, receive_window_due(state));
    }
    if (!state.receive_armed) [[unlikely]]
        arm_for_reader(state);
    else if (draining_) [[unlikely]]
        consider_draining(state);
}

void Network::wake_reader(ConnectionState& state) noexcept {
    if (!state.reader || state.reader_queued) return;
    reactor_->resume(state.reader);
}

void Network::wake_reader_later(ConnectionState& state) noexcept {
    if (!state.reader || state.reader_queued) return;
    state.reader_queued = true;
    reactor_->resume_later(state.reader);
}

void Network::end_read(ConnectionState& state, EndReason reason, int error) noexcept {
    if (!state.read_ended) {
        state.read_ended = true;
        state.end_reason = reason;
        if (error != 0 && state.error == 0) state.error = static_cast<std::uint8_t>(error);
    }
    wake_reader_later(state);
}

void Network::on_receive(void* owner, const abi::Completion& completion) noexcept {
    const Tag tag = Tag::decode(completion.user_data);
    auto& self = *static_cast<Network*>(owner);
    ConnectionState* found = self.locate(tag);
    constexpr std::uint32_t usual = abi::completion_buffer | abi::completion_more;
    if (found != nullptr && (completion.flags & usual) == usual && completion.result > 0 && found->wants_input)
        [[likely]] {
        ConnectionState& state = *found;
        const BufferRing::Slice slice = self.buffers_->take(completion);
        if (LeaseNode* node = self.ring_node(slice); node != nullptr) [[likely]] {
            node->connection = &state;
            ++state.held;
            state.received_bytes += slice.length;
            self.tally_.bytes_received += slice.length;
            FERRULE_PROBE(read, state.descriptor, slice.length);
            self.append(state, *node);
            if (slice.length >= self.stream_slice_) [[unlikely]]
                self.consider_stream(state, completion.flags);
            if (state.reader) [[likely]] {
                self.wake_reader(state);
            } else if (state.held >= self.pause_considered_from_) [[unlikely]] {
                self.consider_pause(state);
            }
            return;
        }
        self.buffers_->give_back(slice.buffer);
        // No memory for one piece's bookkeeping: the stream has a gap, so it ends.
        state.wants_input = false;
        self.end_read(state, EndReason::limit, ENOMEM);
        return;
    }
    if (found == nullptr) {
        self.counters_.stale_completions.add();
        if ((completion.flags & abi::completion_buffer) != 0)
            self.buffers_->give_back(self.buffers_->take(completion).buffer);
        return;
    }
    self.receive_slowly(*found, completion, *self.buffers_);
}

void Network::receive_slowly(ConnectionState& state, const abi::Completion& completion, BufferRing& buffers) noexcept {
    const bool ended = (completion.flags & abi::completion_more) == 0;
    LeaseNode* node = nullptr;
    if ((completion.flags & abi::completion_buffer) != 0) {
        const BufferRing::Slice slice = buffers.take(completion);
        if (completion.result > 0) node = &buffers == buffers_.get() ? ring_node(slice) : own_node(state, slice);
        if (node == nullptr) {
            buffers.give_back(slice.buffer);
        } else {
            node->connection = &state;
            ++state.held;
            state.received_bytes += slice.length;
        }
    }
    if (ended) {
        state.receive_armed = false;
        --state.operations;
        if (state.private_receive) {
            state.private_receive = false;
            LeaseNode* block = std::exchange(state.received_last, nullptr);
            const bool streams = block->block_bytes > options_.receive_buffer_size;
            if (streams) stream_bytes_ -= block->block_bytes;
            if (completion.result > 0) {
                node = block;
                node->length = static_cast<std::uint32_t>(completion.result);
                if (streams) settle_stream_receive(state, *node);
            } else {
                give_back(*block);
            }
        }
    }
    if (completion.result <= 0) {
        if (ended) receive_ended(state, completion.result);
        return;
    }
    state.receive_again = true;
    tally_.bytes_received += static_cast<std::uint64_t>(completion.result);
    FERRULE_PROBE(read, state.descriptor, completion.result);
    if (node == nullptr) {
        // No memory for one piece's bookkeeping: the stream has a gap, so it ends.
        state.wants_input = false;
        end_read(state, EndReason::limit, ENOMEM);
        return;
    }
    if (!state.wants_input) {
        give_back(*node);
        if (ended && state.handles == 0 && state.stage != CloseStage::closed) progress_close(state);
        return;
    }
    state.unread_input = ended && (completion.flags & abi::completion_socket_nonempty) != 0;
    append(state, *node);
    if (stream_slice_ == 0) [[unlikely]]
        count_received(state, node->length);
    if (state.reader) {
        wake_reader(state);
    } else {
        consider_pause(state);
    }
}

void Network::receive_ended(ConnectionState& state, int result) noexcept {
    switch (result) {
        case 0:
            state.input_ended = true;
            if (state.handles != 0) end_read(state, EndReason::end_of_stream, 0);
            break;
        case -ENOBUFS:
            counters_.starvations.add();
            wait_in_starved(state);
            break;
        case -ECANCELED:
        case -EINTR:
        case -EAGAIN:
            // Whoever waits still waits: the receive is armed again. A paused or closing connection is not read from.
            if (state.handles != 0 && state.reader && !state.reader_queued) arm_for_reader(state);
            break;
        case -ECONNRESET:
        case -EPIPE:
        case -ETIMEDOUT:
        case -EHOSTUNREACH:
        case -ENETUNREACH:
            state.input_ended = true;
            counters_.resets.add();
            if (state.handles != 0) end_read(state, EndReason::reset, -result);
            break;
        default:
            state.input_ended = true;
            if (state.handles != 0) end_read(state, EndReason::failed, -result);
            break;
    }
    if (state.handles == 0 && state.stage != CloseStage::closed) progress_close(state);
}

void Network::wait_in_starved(ConnectionState& state) noexcept {
    if (state.starved) return;
    state.starved = true;
    starved_.push_back(&state);
}

void Network::serve_starved() noexcept {
    if (const std::uint32_t free = buffers_->count() - buffers_->held(); free < starved_.size())
        reclaim_carried(static_cast<std::uint32_t>(starved_.size()) - free);
    std::uint32_t available = buffers_->count() - buffers_->held();
    std::size_t kept = 0;
    for (std::size_t index = 0; index < starved_.size(); ++index) {
        ConnectionState& state = *starved_[index];
        if (!state.starved) continue;
        std::uint32_t* free = &available;
        std::uint32_t own_free = 0;
        if (const BufferRing* own = own_buffers(state); own != nullptr) [[unlikely]] {
            if (own->held() == own->count() && state.carry != nullptr) static_cast<void>(copy_out(state.carry));
            own_free = own->count() - own->held();
            free = &own_free;
        }
        const bool wants = !state.receive_armed && state.descriptor >= 0 &&
                           ((state.reader && !state.reader_queued) || state.stage == CloseStage::lingering);
        if (!wants) {
            state.starved = false;
        } else if (state.stage == CloseStage::open && waits_for_lent(state)) {
            starved_[kept++] = &state;  // the write timeout of whoever sends it on bounds the wait
        } else if (state.stage == CloseStage::open && crowded(state)) {
            if (sends(state)) {
                starved_[kept++] = &state;  // the write timeout bounds the wait
            } else {
                state.starved = false;
                end_read(state, EndReason::limit, ENOBUFS);
            }
        } else if (*free > 0) {
            --*free;
            state.starved = false;
            state.parked_at = ticks_now();  // until now it was not the peer's turn
            arm_receive(state);
        } else if (state.stage == CloseStage::lingering) {
            starved_[kept++] = &state;  // its linger timeout bounds the wait
        } else if (arm_private_receive(state)) {
            state.starved = false;
            state.parked_at = ticks_now();
        } else if (state.lent != 0) {
            starved_[kept++] = &state;
        } else {
            state.starved = false;
            end_read(state, EndReason::limit, ENOBUFS);
        }
    }
    starved_.resize(kept);
}

}  // namespace ferrule::inline v0
