#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/listener.hpp"
#include "net/waits.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::uint32_t nodes_per_chunk = 256;
constexpr std::uint16_t receive_group = BufferRing::first_group;
/// A silent send: what the kernel cannot take at once is reported, and sent again when there is room.
constexpr int send_at_once = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT;
/// A send that waits in the kernel for room.
constexpr int send_when_possible = MSG_NOSIGNAL | MSG_WAITALL;

ConnectionState& state_of(Timer& timer) noexcept {
    return *reinterpret_cast<ConnectionState*>(reinterpret_cast<std::byte*>(&timer) - offsetof(ConnectionState, timer));
}

std::unique_ptr<BufferRing> make_buffers(Reactor& reactor, const NetworkOptions& options) {
    BufferRing::Options ring_options;
    ring_options.group = receive_group;
    ring_options.count = options.receive_buffer_count;
    ring_options.size = options.receive_buffer_size;
    ring_options.incremental = options.incremental_buffers;
    auto buffers = BufferRing::create(reactor.ring(), ring_options);
    if (!buffers && options.incremental_buffers) {
        ring_options.incremental = false;
        buffers = BufferRing::create(reactor.ring(), ring_options);
    }
    if (!buffers) throw std::system_error(buffers.error().code, "receive buffers: " + buffers.error().message);
    return std::make_unique<BufferRing>(std::move(*buffers));
}

}  // namespace

// ---- making and ending ----

Network::Network(Reactor& reactor, NetworkOptions options)
    : reactor_(&reactor),
      options_(options),
      buffers_(make_buffers(reactor, options)),
      slabs_(options.memory_limit, options.memory_kept),
      first_slab_class_(static_cast<std::uint8_t>(
          SlabPool::class_of(options.write_slab_size + static_cast<std::uint32_t>(sizeof(WriteSlab))))) {
    receive_kind_ = reactor.add_completion_route(this, &Network::on_receive);
    send_kind_ = reactor.add_completion_route(this, &Network::on_send);
    close_kind_ = reactor.add_completion_route(this, &Network::on_close);
    accept_kind_ =
        reactor.add_completion_route(this, [](void* owner, const abi::Completion& completion, Tag tag) noexcept {
            static_cast<Network*>(owner)->listeners_[tag.slot]->on_completion(completion.result, completion.flags);
        });
    timer_route_ = reactor.add_timer_route(this, &Network::on_timer);
    listener_timer_route_ =
        reactor.add_timer_route(this, [](void*, Timer& timer) noexcept { Listener::of(timer).on_timer(); });
    if (!buffers_->incremental()) buffer_nodes_ = std::make_unique<LeaseNode[]>(buffers_->count());
    reactor.add_subsystem(*this);
}

Network::~Network() {
    reactor_->remove_subsystem(*this);
    for (const Waiting& waiting : waiting_) reactor_->kernel().close(waiting.descriptor);
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            ConnectionState& state = chunk[offset];
            reactor_->timers().disarm(state.timer);
            if (state.descriptor >= 0) reactor_->kernel().close(state.descriptor);
            if (state.staged != nullptr) give_back_slab(state.staged);
            if (state.sending != nullptr) give_back_slab(state.sending);
        }
    }
}

Network& Network::of(Reactor& reactor) {
    if (Network* network = reactor.find_service<Network>()) return *network;
    return reactor.add_service<Network>(reactor);
}

std::uint16_t Network::listen(int descriptor, ConnectionHandler handler) {
    const auto number = static_cast<std::uint16_t>(listeners_.size());
    listeners_.push_back(std::make_unique<Listener>(*this, number, descriptor, std::move(handler)));
    if (!draining_ && !shutting_down_) listeners_.back()->resume();
    return number;
}

std::expected<std::uint16_t, ListenError> Network::listen(const ListenSocketOptions& socket,
                                                          ConnectionHandler handler) {
    const auto descriptor = open_listen_socket(reactor_->kernel(), socket);
    if (!descriptor) return std::unexpected(descriptor.error());
    return listen(*descriptor, std::move(handler));
}

std::uint16_t Network::add_handler(ConnectionHandler handler) {
    const auto number = static_cast<std::uint16_t>(listeners_.size());
    listeners_.push_back(std::make_unique<Listener>(*this, number, -1, std::move(handler)));
    return number;
}

std::expected<Address, std::error_code> Network::listen_address(std::uint16_t listener) const {
    return local_address(reactor_->kernel(), listeners_[listener]->descriptor());
}

std::expected<Address, ListenError> listen(Reactor& reactor, const ListenSocketOptions& socket,
                                           ConnectionHandler handler, NetworkOptions options) {
    Network* network = reactor.find_service<Network>();
    if (network == nullptr) network = &reactor.add_service<Network>(reactor, options);
    const auto listener = network->listen(socket, std::move(handler));
    if (!listener) return std::unexpected(listener.error());
    const auto address = network->listen_address(*listener);
    if (!address) return std::unexpected(ListenError{address.error(), "getsockname: " + address.error().message()});
    return *address;
}

// ---- slots ----

ConnectionState* Network::find(Tag tag) noexcept {
    ConnectionState* state = locate(tag);
    if (state == nullptr) counters_.stale_completions.add();
    return state;
}

ConnectionState* Network::take_state() noexcept {
    if (free_states_ == no_state) {
        const auto count = static_cast<std::uint32_t>(states_.size() * states_per_chunk);
        try {
            states_.push_back(std::make_unique<ConnectionState[]>(states_per_chunk));
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
        for (std::uint32_t offset = states_per_chunk; offset-- > 0;) {
            ConnectionState& fresh = states_.back()[offset];
            fresh.network = this;
            fresh.index = count + offset;
            fresh.stage = CloseStage::closed;
            fresh.timer.route = timer_route_;
            fresh.held = free_states_;  // the free list runs through a field that a free slot does not use
            free_states_ = fresh.index;
        }
    }
    ConnectionState& state = states_[free_states_ / states_per_chunk][free_states_ % states_per_chunk];
    free_states_ = state.held;
    state.held = 0;
    return &state;
}

void Network::free_state(ConnectionState& state) noexcept {
    const std::uint32_t index = state.index;
    const std::uint32_t generation = (state.generation + 1) & Tag::generation_mask;
    FERRULE_ASSERT(!state.timer.armed() && state.reader == nullptr && state.received_first == nullptr &&
                   state.carry == nullptr);
    state = ConnectionState{};
    state.network = this;
    state.index = index;
    state.generation = generation;
    state.stage = CloseStage::closed;
    state.timer.route = timer_route_;
    state.held = free_states_;
    free_states_ = index;
    counters_.connections.set(--live_states_);
    counters_.closed.add();
    serve_waiting();
}

void Network::settle(ConnectionState& state) noexcept {
    if (state.stage == CloseStage::closed && state.operations == 0 && state.held == 0 && state.sending == nullptr &&
        state.descriptor < 0 && state.handles == 0) {
        free_state(state);
    }
}

ConnectionState* Network::adopt_state(int descriptor, std::uint16_t listener) noexcept {
    ConnectionState* state = take_state();
    if (state == nullptr) return nullptr;
    state->descriptor = descriptor;
    state->listener = listener;
    state->stage = CloseStage::open;
    counters_.connections.set(++live_states_);
    if (options_.idle_timeout.count() > 0 || options_.read_timeout.count() > 0) {
        const auto first = options_.idle_timeout.count() > 0 ? options_.idle_timeout : options_.read_timeout;
        try {
            reactor_->timers().arm(state->timer, due_of(ticks_now(), first));
        } catch (const std::bad_alloc&) {
            state->descriptor = -1;
            state->stage = CloseStage::closed;
            free_state(*state);
            return nullptr;
        }
    }
    return state;
}

void Network::serve(int descriptor, std::uint16_t listener) noexcept {
    if (shutting_down_) {
        reactor_->kernel().close(descriptor);
        return;
    }
    if (live_states_ >= options_.connection_limit) {
        try {
            waiting_.push_back({descriptor, listener});
        } catch (const std::bad_alloc&) {
            reactor_->kernel().close(descriptor);
        }
        for (const auto& paused : listeners_) paused->pause();
        return;
    }
    ConnectionState* state = adopt_state(descriptor, listener);
    if (state == nullptr) {
        reactor_->kernel().close(descriptor);
        return;
    }
    reactor_->inline_budget = reactor_->options().inline_budget;
    try {
        ferrule::spawn(*reactor_, listeners_[listener]->handler()(Connection{state}));
    } catch (...) {
        // The handler could not begin; its connection went with its arguments.
        reactor_->fault(std::current_exception());
    }
}

void Network::serve_waiting() noexcept {
    if (shutting_down_) return;
    if (!waiting_.empty() && live_states_ < options_.connection_limit) {
        const Waiting next = waiting_.front();
        waiting_.erase(waiting_.begin());
        serve(next.descriptor, next.listener);
    }
    if (waiting_.empty() && live_states_ < options_.connection_limit && !draining_) {
        for (const auto& listener : listeners_) listener->resume();
    }
}

void Network::adopt(int descriptor, std::uint16_t listener) {
    counters_.adopted.add();
    serve(descriptor, listener);
}

std::expected<Connection, std::error_code> Network::open(int descriptor) {
    if (live_states_ >= options_.connection_limit) {
        return std::unexpected(std::make_error_code(std::errc::too_many_files_open_in_system));
    }
    ConnectionState* state = adopt_state(descriptor, 0);
    if (state == nullptr) return std::unexpected(std::make_error_code(std::errc::not_enough_memory));
    counters_.adopted.add();
    return Connection{state};
}

CancelScope* Network::scope_of(const Environment* environment) const noexcept {
    if (environment != nullptr && environment->host == reactor_ && environment->scope != nullptr)
        return environment->scope;
    return reactor_->root_environment.scope;
}

FlushWait& Network::take_flush_wait() {
    if (free_flush_waits_ == nullptr) {
        flush_wait_memory_.push_back(std::make_unique<FlushWait>());
        free_flush_waits_ = flush_wait_memory_.back().get();
    }
    return *std::exchange(free_flush_waits_, free_flush_waits_->next);
}

void Network::give_back_flush_wait(FlushWait& wait) noexcept {
    CancelScope::remove(wait.cancel_node);
    wait.slab = nullptr;
    wait.next = free_flush_waits_;
    free_flush_waits_ = &wait;
}

ReadWait& Network::take_read_wait() {
    if (free_read_waits_ == nullptr) {
        read_wait_memory_.push_back(std::make_unique<ReadWait>());
        free_read_waits_ = read_wait_memory_.back().get();
    }
    return *std::exchange(free_read_waits_, free_read_waits_->next);
}

void Network::give_back_read_wait(ReadWait& wait) noexcept {
    CancelScope::remove(wait.cancel_node);
    wait.next = free_read_waits_;
    free_read_waits_ = &wait;
}

// ---- received bytes ----

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
    node->data = slice.data;
    node->length = node->charged = slice.length;
    node->buffer = slice.buffer;
    return node;
}

inline void Network::free_node(LeaseNode& node) noexcept {
    if (buffer_nodes_ != nullptr && node.owner == LeaseOwner::ring) return;
    node.next = free_nodes_;
    free_nodes_ = &node;
}

LeaseNode* Network::heap_node(ConnectionState& state, std::uint32_t bytes) noexcept {
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
    node->connection = &state;
    ++state.held;
    state.received_bytes += bytes;
    ++tally_.leases;
    return node;
}

void Network::give_back(LeaseNode& node) noexcept {
    ConnectionState& state = *node.connection;
    if (node.owner == LeaseOwner::ring) [[likely]] {
        buffers_->give_back(node.buffer);
    } else {
        slabs_.give_back(node.block, node.block_bytes);
    }
    state.received_bytes -= node.charged;
    --state.held;
    --tally_.leases;
    free_node(node);
    if (state.stage == CloseStage::closed) [[unlikely]]
        settle(state);
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

LeaseNode* Network::gather(LeaseNode* first, std::uint32_t total) noexcept {
    ConnectionState& state = *first->connection;
    LeaseNode* into = first;
    LeaseNode* from = first->next;
    const bool fits =
        first->owner == LeaseOwner::heap && total <= SlabPool::block_bytes(SlabPool::class_of(first->block_bytes)) -
                                                         static_cast<std::uint64_t>(first->data - first->block);
    if (!fits) {
        into = heap_node(state, total);
        if (into == nullptr) return nullptr;
        from = first;
    }
    while (from != nullptr) {
        std::memcpy(into->data + into->length, from->data, from->length);
        into->length += from->length;
        give_back(*std::exchange(from, from->next));
    }
    into->next = nullptr;
    return into;
}

void Network::carry(LeaseNode* first, std::uint32_t consumed) noexcept {
    ConnectionState& state = *first->connection;
    const bool begun = consumed == 0 && state.message_since != 0;
    while (first != nullptr && consumed >= first->length) {
        consumed -= first->length;
        give_back(*std::exchange(first, first->next));
    }
    if (first == nullptr) {
        state.message_since = 0;
        return;
    }
    first->data += consumed;
    first->length -= consumed;
    if (state.handles == 0) {
        while (first != nullptr) give_back(*std::exchange(first, first->next));
        return;
    }
    if (!begun) state.message_since = std::max(ticks_now(), 1u);
    if (first->next != nullptr || first->owner == LeaseOwner::ring) {
        // A slow peer must not hold the buffers that all connections share: what it left is copied out of them.
        std::uint32_t total = 0;
        for (const LeaseNode* node = first; node != nullptr; node = node->next) total += node->length;
        if (LeaseNode* gathered = gather(first, total); gathered != nullptr) first = gathered;
    }
    LeaseNode** end = &state.carry;
    while (*end != nullptr) end = &(*end)->next;
    *end = first;
}

// ---- receiving ----

void Network::arm_receive(ConnectionState& state) noexcept {
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    if (state.receive_again) [[likely]] {
        prepare::receive_multishot(entry, state.descriptor, receive_group, 0);
        state.stays = true;
    } else {
        prepare::receive_select(entry, state.descriptor, receive_group, 0, 0);
    }
    entry.user_data = tag_of(receive_kind_, state);
    state.receive_armed = true;
    state.receive_cancelled = false;
    ++state.operations;
}

bool Network::arm_private_receive(ConnectionState& state) noexcept {
    if (state.received_bytes + options_.receive_buffer_size > options_.receive_limit) return false;
    LeaseNode* node = heap_node(state, options_.receive_buffer_size);
    if (node == nullptr) return false;
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::receive(entry, state.descriptor, node->block, node->block_bytes, 0);
    entry.user_data = tag_of(receive_kind_, state);
    state.received_last = node;
    state.private_receive = true;
    state.receive_armed = true;
    state.receive_cancelled = false;
    ++state.operations;
    counters_.private_receives.add();
    return true;
}

void Network::cancel_receive(ConnectionState& state) noexcept {
    if (!state.receive_armed || state.receive_cancelled) return;
    state.receive_cancelled = true;
    reactor_->cancel_request(tag_of(receive_kind_, state));
}

void Network::park_reader(ConnectionState& state) noexcept {
    state.parked_at = ticks_now();
    if (state.carry != nullptr) [[unlikely]] {
        if (options_.read_timeout.count() > 0) {
            const std::uint64_t due = due_of(state.message_since, options_.read_timeout);
            if (!state.timer.armed() || reactor_->timers().due(state.timer) > due)
                reactor_->timers().arm(state.timer, due);
        }
    }
    if (draining_ && idle(state)) [[unlikely]]
        drain_parked_.push_back(&state);
    if (state.receive_armed) [[likely]]
        return;
    if (state.held < options_.receive_lease_limit) [[likely]] {
        arm_receive(state);
    } else if (!arm_private_receive(state)) {
        // This read has not suspended yet: it ends in the ready list.
        end_read(state, EndReason::limit, ENOBUFS);
    }
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
        if (error != 0 && state.error == 0) state.error = static_cast<std::uint16_t>(error);
    }
    wake_reader_later(state);
}

void Network::on_receive(void* owner, const abi::Completion& completion, Tag tag) noexcept {
    auto& self = *static_cast<Network*>(owner);
    ConnectionState* found = self.locate(tag);
    constexpr std::uint32_t usual = abi::completion_buffer | abi::completion_more;
    if (found != nullptr && (completion.flags & usual) == usual && completion.result > 0 && found->handles != 0)
        [[likely]] {
        ConnectionState& state = *found;
        const BufferRing::Slice slice = self.buffers_->take(completion);
        if (LeaseNode* node = self.ring_node(slice); node != nullptr) [[likely]] {
            node->connection = &state;
            ++state.held;
            state.received_bytes += slice.length;
            ++self.tally_.leases;
            self.tally_.bytes_received += slice.length;
            self.append(state, *node);
            if (state.reader) [[likely]] {
                self.wake_reader(state);
            } else if (state.held >= self.options_.receive_lease_limit && !state.receive_cancelled) {
                self.counters_.pauses.add();
                self.cancel_receive(state);
            }
            return;
        }
        self.buffers_->give_back(slice.buffer);
        // No memory for one piece's bookkeeping: the stream has a gap, so it ends.
        self.end_read(state, EndReason::limit, ENOMEM);
        return;
    }
    if (found == nullptr) {
        self.counters_.stale_completions.add();
        if ((completion.flags & abi::completion_buffer) != 0)
            self.buffers_->give_back(self.buffers_->take(completion).buffer);
        return;
    }
    self.receive_slowly(*found, completion);
}

void Network::receive_slowly(ConnectionState& state, const abi::Completion& completion) noexcept {
    const bool ended = (completion.flags & abi::completion_more) == 0;
    LeaseNode* node = nullptr;
    if ((completion.flags & abi::completion_buffer) != 0) {
        const BufferRing::Slice slice = buffers_->take(completion);
        node = completion.result > 0 ? ring_node(slice) : nullptr;
        if (node == nullptr) {
            buffers_->give_back(slice.buffer);
        } else {
            node->connection = &state;
            ++state.held;
            state.received_bytes += slice.length;
            ++tally_.leases;
        }
    }
    if (ended) {
        state.receive_armed = false;
        --state.operations;
        if (state.private_receive) {
            state.private_receive = false;
            LeaseNode* block = std::exchange(state.received_last, nullptr);
            if (completion.result > 0) {
                node = block;
                node->length = static_cast<std::uint32_t>(completion.result);
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
    state.unread_input = ended && (completion.flags & abi::completion_socket_nonempty) != 0;
    tally_.bytes_received += static_cast<std::uint64_t>(completion.result);
    if (node == nullptr) {
        // No memory for one piece's bookkeeping: the stream has a gap, so it ends.
        end_read(state, EndReason::limit, ENOMEM);
        return;
    }
    if (state.handles == 0) {
        give_back(*node);
        if (ended && state.stage != CloseStage::closed) progress_close(state);
        return;
    }
    append(state, *node);
    if (state.reader) {
        wake_reader(state);
    } else if (state.held >= options_.receive_lease_limit && state.receive_armed && !state.receive_cancelled) {
        counters_.pauses.add();
        cancel_receive(state);
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
            if (!state.starved) {
                state.starved = true;
                starved_.push_back(&state);
            }
            break;
        case -ECANCELED:
        case -EINTR:
        case -EAGAIN:
            // Whoever waits still waits: the receive is armed again. A paused or closing connection is not read from.
            if (state.handles != 0 && state.reader && !state.reader_queued) {
                if (state.held < options_.receive_lease_limit) {
                    arm_receive(state);
                } else if (!arm_private_receive(state)) {
                    end_read(state, EndReason::limit, ENOBUFS);
                }
            }
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

void Network::serve_starved() noexcept {
    std::uint32_t available = buffers_->count() - buffers_->held();
    std::size_t kept = 0;
    for (std::size_t index = 0; index < starved_.size(); ++index) {
        ConnectionState& state = *starved_[index];
        if (!state.starved) continue;
        const bool wants = !state.receive_armed && state.descriptor >= 0 &&
                           ((state.reader && !state.reader_queued) || state.stage == CloseStage::lingering);
        if (!wants) {
            state.starved = false;
        } else if (available > 0) {
            --available;
            state.starved = false;
            arm_receive(state);
        } else if (state.stage == CloseStage::lingering) {
            starved_[kept++] = &state;  // its linger timeout bounds the wait
        } else {
            state.starved = false;
            if (!arm_private_receive(state)) end_read(state, EndReason::limit, ENOBUFS);
        }
    }
    starved_.resize(kept);
}

// ---- sending ----

WriteSlab* Network::take_slab(std::uint32_t bytes) noexcept {
    return take_slab_class(SlabPool::class_of(bytes + static_cast<std::uint32_t>(sizeof(WriteSlab))));
}

std::byte* Network::room(ConnectionState& state, std::size_t bytes) noexcept {
    if (state.write_failed || state.fin_wanted) return nullptr;
    WriteSlab* slab = state.staged;
    const std::uint64_t size = slab != nullptr ? slab->size : 0;
    const std::uint64_t pending = state.sending != nullptr ? state.sending->size : 0;
    if (bytes > options_.write_limit || size + pending + bytes > options_.write_limit) {
        fail_write(state, ENOBUFS);
        return nullptr;
    }
    if (slab != nullptr && slab->capacity - slab->size >= bytes) return slab->data() + slab->size;
    std::uint64_t capacity = std::max<std::uint64_t>(size + bytes, options_.write_slab_size);
    if (slab != nullptr) capacity = std::max<std::uint64_t>(capacity, std::uint64_t{slab->capacity} * 2);
    capacity =
        std::min<std::uint64_t>(capacity, std::max<std::uint64_t>(options_.write_limit, options_.write_slab_size));
    WriteSlab* larger = take_slab(static_cast<std::uint32_t>(capacity));
    if (larger == nullptr) {
        fail_write(state, ENOBUFS);
        return nullptr;
    }
    if (slab != nullptr) {
        std::memcpy(larger->data(), slab->data(), slab->size);
        larger->size = slab->size;
        larger->flushed = slab->flushed;
        larger->waiters = slab->waiters;
        for (FlushWait* wait = larger->waiters; wait != nullptr; wait = wait->next) wait->slab = larger;
        give_back_slab(slab);
    }
    state.staged = larger;
    return larger->data() + larger->size;
}

void Network::build_send(ConnectionState& state) noexcept {
    if (state.sending != nullptr) return;  // its end asks again
    WriteSlab* slab = state.staged;
    if (slab == nullptr || slab->size == 0 || state.write_failed) {
        if (slab != nullptr && (state.handles == 0 || slab->flushed)) {
            state.staged = nullptr;
            finish_waiters(slab->waiters, state.write_failed ? state.error : 0);
            finish_flusher(state, true);
            give_back_slab(slab);
        }
        if (state.handles == 0) {
            progress_close(state);
        } else if (state.fin_wanted && !state.fin_sent && !state.write_failed) {
            state.fin_sent = true;
            reactor_->kernel().shutdown(state.descriptor, SHUT_WR);
        }
        return;
    }
    Ring& ring = reactor_->ring();
    // A linked close must stand right behind its send.
    bool link = state.handles == 0 && state.stage == CloseStage::flushing && may_close_at_once(state);
    if (link && ring.available() < 2) {
        static_cast<void>(ring.submit());
        link = ring.available() >= 2;
    }
    state.staged = nullptr;
    state.sending = slab;
    state.flusher_on_staged = false;
    slab->sequence = ring.next_sequence();
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send(entry, state.descriptor, slab->data(), slab->size, send_at_once);
    entry.flags = static_cast<std::uint8_t>(abi::entry_completion_skip_success | (link ? abi::entry_link : 0));
    entry.user_data = tag_of(send_kind_, state);
    state.send_silent = true;
    unconfirmed_.push_back(&state);
    if (link) {
        state.close_linked = true;
        submit_close(state);
    }
}

void Network::send_rest(ConnectionState& state) noexcept {
    WriteSlab& slab = *state.sending;
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::send(entry, state.descriptor, slab.data() + slab.sent, slab.size - slab.sent, send_when_possible);
    entry.user_data = tag_of(send_kind_, state);
    state.send_slow = true;
    ++state.operations;
    slab.since = ticks_now();
    counters_.slow_sends.add();
    if (options_.write_timeout.count() > 0) {
        const std::uint64_t due = due_of(slab.since, options_.write_timeout);
        if (!state.timer.armed() || reactor_->timers().due(state.timer) > due) reactor_->timers().arm(state.timer, due);
    }
}

void Network::on_send(void* owner, const abi::Completion& completion, Tag tag) noexcept {
    auto& self = *static_cast<Network*>(owner);
    ConnectionState* found = self.find(tag);
    if (found == nullptr) return;
    ConnectionState& state = *found;
    if (state.sending == nullptr || (!state.send_silent && !state.send_slow)) {
        self.counters_.stale_completions.add();
        return;
    }
    if (state.send_slow) {
        state.send_slow = false;
        --state.operations;
    }
    state.send_silent = false;
    WriteSlab& slab = *state.sending;
    if (completion.result > 0) slab.sent += static_cast<std::uint32_t>(completion.result);
    if (slab.sent == slab.size) {
        self.send_done(state);
    } else if (state.reset_wanted || state.write_failed) {
        self.fail_write(state, ECONNABORTED);
    } else if (completion.result >= 0 || completion.result == -EAGAIN || completion.result == -EINTR) {
        self.send_rest(state);
    } else {
        self.fail_write(state, -completion.result);
    }
}

void Network::send_done(ConnectionState& state) noexcept {
    WriteSlab* slab = std::exchange(state.sending, nullptr);
    tally_.bytes_sent += slab->size;
    ++tally_.sends;
    if (slab->waiters != nullptr) [[unlikely]]
        finish_waiters(std::exchange(slab->waiters, nullptr), 0);
    give_back_slab(slab);
    if (state.handles == 0) [[unlikely]] {
        if (state.stage == CloseStage::closed) {
            settle(state);
        } else {
            request_send(state);
        }
        return;
    }
    if ((state.staged != nullptr && state.staged->flushed) || (state.fin_wanted && !state.fin_sent)) [[unlikely]]
        request_send(state);
    // The usual case: one waiter, resumed here and now. It may do anything, so it comes last.
    if (state.flusher && !state.flusher_on_staged && !state.flusher_queued) [[likely]]
        reactor_->resume(state.flusher);
}

void Network::finish_waiters(FlushWait* first, int error) noexcept {
    // They go to the ready list: each may end what the next one waits for.
    for (FlushWait* wait = first; wait != nullptr; wait = wait->next) {
        CancelScope::remove(wait->cancel_node);
        wait->slab = nullptr;
        wait->error = error;
        wait->stage = FlushWait::Stage::queued;
        reactor_->resume_later(wait->waiter);
    }
}

void Network::finish_flusher(ConnectionState& state, bool staged) noexcept {
    if (!state.flusher || state.flusher_queued || state.flusher_on_staged != staged) return;
    state.flusher_queued = true;
    reactor_->resume_later(state.flusher);
}

void Network::fail_write(ConnectionState& state, int error) noexcept {
    if (!state.write_failed) {
        state.write_failed = true;
        if (state.error == 0) state.error = static_cast<std::uint16_t>(error);
    }
    // What the kernel still works on stays until its completion.
    if (state.sending != nullptr && !state.send_slow && !state.send_silent) {
        WriteSlab* slab = std::exchange(state.sending, nullptr);
        finish_waiters(slab->waiters, state.error);
        finish_flusher(state, false);
        give_back_slab(slab);
    }
    if (state.staged != nullptr) {
        WriteSlab* slab = std::exchange(state.staged, nullptr);
        finish_waiters(slab->waiters, state.error);
        finish_flusher(state, true);
        give_back_slab(slab);
    }
    if (state.handles != 0) {
        const EndReason reason = state.error == ETIMEDOUT                            ? EndReason::deadline
                                 : state.error == EPIPE || state.error == ECONNRESET ? EndReason::reset
                                                                                     : EndReason::failed;
        end_read(state, reason, 0);
    } else if (state.stage != CloseStage::closed) {
        progress_close(state);
    } else {
        settle(state);
    }
}

// ---- the turns of a pass ----

void Network::before_submit() noexcept {
    if (buffers_->staged() != 0) buffers_->publish();
    if (!starved_.empty()) [[unlikely]]
        serve_starved();
    if (!send_list_.empty()) {
        building_.swap(send_list_);
        for (ConnectionState* state : building_) {
            // A slot that was freed meanwhile has left the list by its flag.
            if (!state->in_send_list) continue;
            state->in_send_list = false;
            build_send(*state);
        }
        building_.clear();
    }
    if (!drain_parked_.empty()) [[unlikely]]
        drain_eligible_.swap(drain_parked_);
}

void Network::publish_counters() noexcept {
    counters_.bytes_received.set(tally_.bytes_received);
    counters_.bytes_sent.set(tally_.bytes_sent);
    counters_.sends.set(tally_.sends);
    counters_.leases.set(tally_.leases);
}

void Network::after_completions() noexcept {
    publish_counters();
    Ring& ring = reactor_->ring();
    if (!unconfirmed_.empty() && !ring.overflowed()) {
        // Sends that were silent and that the kernel has consumed have succeeded: whatever else they had to say has
        // been dispatched.
        building_.swap(unconfirmed_);
        std::size_t index = 0;
        for (; index < building_.size(); ++index) {
            ConnectionState& state = *building_[index];
            if (!state.send_silent) continue;
            if (!ring.consumed(state.sending->sequence)) break;
            state.send_silent = false;
            send_done(state);
        }
        unconfirmed_.insert(unconfirmed_.begin(), building_.begin() + static_cast<std::ptrdiff_t>(index),
                            building_.end());
        building_.clear();
    }
    if (!drain_eligible_.empty()) [[unlikely]]
        end_idle();
}

// ---- closing ----

bool Network::may_close_at_once(const ConnectionState& state) const noexcept {
    if (state.receive_armed) return false;
    if (state.input_ended || shutting_down_) return true;
    return options_.linger == Linger::adaptive && !state.stays && !state.unread_input;
}

void Network::begin_close(ConnectionState& state) noexcept {
    drop_received(state);
    if (state.stage != CloseStage::open) return;
    state.stage = CloseStage::flushing;
    if (state.sending == nullptr) request_send(state);
}

void Network::progress_close(ConnectionState& state) noexcept {
    if (state.handles != 0) return;
    if (state.stage == CloseStage::flushing) {
        const bool failed = state.write_failed || state.reset_wanted;
        if (!failed && (state.sending != nullptr || state.staged != nullptr)) {
            request_send(state);
            return;
        }
        if (failed || may_close_at_once(state)) {
            state.stage = CloseStage::cancelling;
        } else {
            if (!state.fin_sent) {
                state.fin_sent = true;
                reactor_->kernel().shutdown(state.descriptor, SHUT_WR);
            }
            state.stage = CloseStage::lingering;
            try {
                reactor_->timers().arm(
                    state.timer, reactor_->now_ns() + static_cast<std::uint64_t>(
                                                          std::chrono::nanoseconds(options_.linger_timeout).count()));
            } catch (const std::bad_alloc&) {
                state.stage = CloseStage::cancelling;
            }
        }
    }
    if (state.stage == CloseStage::lingering) {
        if (state.input_ended || shutting_down_) {
            state.stage = CloseStage::cancelling;
        } else if (!state.receive_armed && !state.starved) {
            arm_receive(state);
        }
    }
    if (state.stage == CloseStage::cancelling) {
        if (state.send_slow) {
            reactor_->cancel_request(tag_of(send_kind_, state));
        } else if (state.receive_armed) {
            cancel_receive(state);
        } else if (!state.send_silent) {
            submit_close(state);
        } else {
            state.stage = CloseStage::flushing;  // the confirmation of the send comes back here
        }
    }
}

void Network::submit_close(ConnectionState& state) noexcept {
    state.stage = CloseStage::closing;
    if (state.reset_wanted) {
        const linger reset{.l_onoff = 1, .l_linger = 0};
        reactor_->kernel().set_option(state.descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::close(entry, state.descriptor);
    entry.user_data = tag_of(close_kind_, state);
    ++state.operations;
}

void Network::on_close(void* owner, const abi::Completion& completion, Tag tag) noexcept {
    auto& self = *static_cast<Network*>(owner);
    ConnectionState* found = self.find(tag);
    if (found == nullptr) return;
    ConnectionState& state = *found;
    --state.operations;
    if (completion.result == -ECANCELED && state.close_linked) {
        // The send before it did not end at once: close when it has.
        state.close_linked = false;
        state.stage = CloseStage::flushing;
        self.progress_close(state);
        return;
    }
    state.descriptor = -1;
    state.stage = CloseStage::closed;
    self.reactor_->timers().disarm(state.timer);
    if (state.staged != nullptr) {
        self.give_back_slab(std::exchange(state.staged, nullptr));
    }
    self.settle(state);
}

void Network::abort_state(ConnectionState& state, int error) noexcept {
    state.reset_wanted = true;
    state.unread_input = false;
    if (state.send_slow) reactor_->cancel_request(tag_of(send_kind_, state));
    fail_write(state, error);
}

// ---- time ----

std::uint64_t Network::due_of(std::uint32_t since, std::chrono::milliseconds timeout) const noexcept {
    const std::uint64_t now = reactor_->now_ns();
    const std::uint64_t begun = now - (std::uint64_t{ticks_now() - since} << tick_shift);
    return begun + static_cast<std::uint64_t>(std::chrono::nanoseconds(timeout).count());
}

void Network::on_timer(void* owner, Timer& timer) noexcept {
    static_cast<Network*>(owner)->check_timer(state_of(timer));
}

void Network::check_timer(ConnectionState& state) noexcept {
    const std::uint64_t now = reactor_->now_ns();
    if (state.stage == CloseStage::lingering) {
        state.stage = CloseStage::cancelling;
        progress_close(state);
        return;
    }
    std::uint64_t due = TimerHeap::never;
    if (state.send_slow && options_.write_timeout.count() > 0)
        due = due_of(state.sending->since, options_.write_timeout);
    if (due <= now) {
        counters_.timeouts.add();
        if (state.error == 0) state.error = ETIMEDOUT;
        state.write_failed = true;
        state.reset_wanted = true;  // what was not sent in time cannot be: nothing orderly is left to do
        reactor_->cancel_request(tag_of(send_kind_, state));
        return;
    }
    if (state.reader && !state.reader_queued) {
        const bool in_message = state.carry != nullptr;
        const auto timeout = in_message ? options_.read_timeout : options_.idle_timeout;
        if (timeout.count() > 0) {
            const std::uint64_t read_due = due_of(in_message ? state.message_since : state.parked_at, timeout);
            if (read_due <= now) {
                counters_.timeouts.add();
                end_read(state, EndReason::deadline, ETIMEDOUT);
                return;
            }
            due = std::min(due, read_due);
        }
    }
    if (state.handles == 0 && due == TimerHeap::never)
        return;  // on its way out; the linger timer is armed when its time comes
    if (due == TimerHeap::never) {
        // Nothing of it waits for the peer now: look again when something could be due.
        const auto next = options_.idle_timeout.count() > 0 ? options_.idle_timeout : options_.read_timeout;
        if (next.count() <= 0) return;
        due = now + static_cast<std::uint64_t>(std::chrono::nanoseconds(next).count());
    }
    reactor_->timers().arm(state.timer, due);
}

// ---- draining ----

bool Network::idle(const ConnectionState& state) noexcept {
    return state.reader && !state.reader_queued && state.received_first == nullptr && state.carry == nullptr &&
           state.staged == nullptr && state.sending == nullptr;
}

void Network::drain() noexcept {
    draining_ = true;
    for (const auto& listener : listeners_) listener->end();
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            ConnectionState& state = chunk[offset];
            if (state.stage == CloseStage::open && idle(state)) drain_parked_.push_back(&state);
        }
    }
}

void Network::end_idle() noexcept {
    for (ConnectionState* state : drain_eligible_) {
        if (state->stage == CloseStage::open && idle(*state)) end_read(*state, EndReason::draining, 0);
    }
    drain_eligible_.clear();
}

bool Network::drained() const noexcept {
    if (live_states_ != 0 || !waiting_.empty()) return false;
    return std::all_of(listeners_.begin(), listeners_.end(), [](const auto& listener) { return listener->ended(); });
}

void Network::shutdown() noexcept {
    shutting_down_ = true;
    for (const auto& listener : listeners_) listener->end();
    for (const Waiting& waiting : waiting_) reactor_->kernel().close(waiting.descriptor);
    waiting_.clear();
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            ConnectionState& state = chunk[offset];
            if (state.descriptor < 0) continue;
            if (state.handles != 0) {
                end_read(state, EndReason::cancelled, ECANCELED);
                if (state.send_slow) abort_state(state, ECANCELED);
            } else if (state.stage != CloseStage::closing) {
                if (state.send_slow) state.reset_wanted = true;
                progress_close(state);
            }
        }
    }
}

bool Network::quiescent() const noexcept {
    if (live_states_ != 0) return false;
    return std::all_of(listeners_.begin(), listeners_.end(), [](const auto& listener) { return listener->ended(); });
}

}  // namespace ferrule::inline v0
