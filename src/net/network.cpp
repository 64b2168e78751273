#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/defence.hpp"
#include "net/listener.hpp"
#include "net/waits.hpp"
#include "net/write_chain.hpp"
#include "reactor/debug_layout.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace {

ConnectionState& state_of(Timer& timer) noexcept {
    return *reinterpret_cast<ConnectionState*>(reinterpret_cast<std::byte*>(&timer) - offsetof(ConnectionState, timer));
}

constexpr std::size_t list_entries = 64;
/// A connection that holds fewer slices is not asked for its account when another one comes: the one that is being
/// answered and the next are every request's.
constexpr std::uint32_t slices_not_asked_for = 4;

// From this size on a buffer is as good as a block.
constexpr std::uint32_t large_buffer_bytes = 64u << 10;

}  // namespace

// ---- making and ending ----

Network::Network(Reactor& reactor, NetworkOptions options)
    : reactor_(&reactor),
      options_(options),
      slabs_(reactor.memory_account, options.memory_limit, options.memory_kept),
      first_slab_class_(static_cast<std::uint8_t>(
          SlabPool::class_of(options.write_slab_size + static_cast<std::uint32_t>(sizeof(WriteSlab))))),
      first_slab_bytes_(std::min(options.write_slab_size, options.write_limit)),
      pause_considered_from_(std::min(options.receive_lease_limit, slices_not_asked_for)) {
    prepare_buffers();
    slabs_.use_huge_pages(reactor.kernel(), options.huge_pages);
    // What shares a buffer, or has its own, seldom fills one.
    if (options.stream_memory != 0 && options.receive_buffer_size < large_buffer_bytes && !buffers_->incremental() &&
        connection_buffers_.empty()) {
        stream_slice_ = options.receive_buffer_size;
    }
    receive_kind_ = reactor.add_completion_route(this, &Network::on_receive);
    own_receive_kind_ = reactor.add_completion_route(this, &Network::on_own_receive);
    send_kind_ = reactor.add_completion_route(this, &Network::on_send);
    close_kind_ = reactor.add_completion_route(this, &Network::on_close);
    accept_kind_ = reactor.add_completion_route(this, [](void* owner, const abi::Completion& completion) noexcept {
        const Tag tag = Tag::decode(completion.user_data);
        static_cast<Network*>(owner)->listeners_[tag.slot]->on_completion(completion.result, completion.flags);
    });
    timer_route_ = reactor.add_timer_route(this, &Network::on_timer);
    listener_timer_route_ =
        reactor.add_timer_route(this, [](void*, Timer& timer) noexcept { Listener::of(timer).on_timer(); });
    drain_timer_.route = reactor.add_timer_route(
        this, [](void* owner, Timer&) noexcept { static_cast<Network*>(owner)->begin_ending_idle(); });
    if (!buffers_->incremental()) buffer_nodes_ = std::make_unique<LeaseNode[]>(buffers_->count());
    // The lists change places; each has room from the start, so that none of them grows long after the traffic has.
    for (auto* list : {&send_list_, &building_, &unconfirmed_, &starved_}) list->reserve(list_entries);
    waiting_.reserve(options_.waiting_limit);
    counters_registered_ = reactor.metrics()->add(counters_);
    if (options_.first_byte_timeout.count() > 0 || options_.receive_rate_min != 0 || options_.send_rate_min != 0 ||
        options_.address_limits.connections != 0 || options_.address_limiter != nullptr ||
        options_.overload_latency.count() > 0) {
        static_cast<void>(defence());
    }
    reactor.add_subsystem(*this);
}

Network::~Network() {
    reactor_->remove_subsystem(*this);
    listeners_.clear();
    reactor_->memory_account.credit(connection_rings_ * connection_ring_bytes_);
    for (const Waiting& waiting : waiting_) {
        reactor_->kernel().close(waiting.descriptor);
        leave(waiting.client);
    }
    if (defence_ != nullptr) reactor_->timers().disarm(*defence_);
    reactor_->timers().disarm(drain_timer_);
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            ConnectionState& state = chunk[offset];
            if (defence_ != nullptr) end_guard(state);
            reactor_->timers().disarm(state.timer);
            if (state.descriptor >= 0) reactor_->kernel().close(state.descriptor);
            for (WriteSlab* slab : {state.staged, state.sending}) {
                if (slab == nullptr) continue;
                if (slab->file) continue;  // its transfer has it
                if (slab->chained) abandon_pieces(*slab);
                give_back_slab(slab);
            }
        }
    }
}

Network& Network::of(Reactor& reactor) {
    if (Network* network = reactor.find_service<Network>()) return *network;
    return reactor.add_service<Network>(reactor);
}

std::uint16_t Network::listen(int descriptor, ConnectionHandler handler, std::shared_ptr<PortGroup> group,
                              ProxyOptions proxy) {
    reactor_->check_thread("Network::listen");
    if (proxy.protocol != ProxyProtocol::off) static_cast<void>(defence());
    const auto number = static_cast<std::uint16_t>(listeners_.size());
    listeners_.push_back(
        std::make_unique<Listener>(*this, number, descriptor, std::move(handler), std::move(group), std::move(proxy)));
    listeners_.back()->hold(options_.overload_excess == Excess::wait && overloaded());
    if (draining_ || shutting_down_) {
        listeners_.back()->end();
    } else {
        listeners_.back()->resume();
    }
    return number;
}

std::expected<std::uint16_t, ListenError> Network::listen(const ListenSocketOptions& socket,
                                                          ConnectionHandler handler) {
    reactor_->check_thread("Network::listen");
    const auto descriptor = open_listen_socket(reactor_->kernel(), socket);
    if (!descriptor) return std::unexpected(descriptor.error());
    return listen(*descriptor, std::move(handler), nullptr, socket.proxy);
}

std::uint16_t Network::add_handler(ConnectionHandler handler, ProxyOptions proxy) {
    reactor_->check_thread("Network::add_handler");
    if (proxy.protocol != ProxyProtocol::off) static_cast<void>(defence());
    const auto number = static_cast<std::uint16_t>(listeners_.size());
    listeners_.push_back(std::make_unique<Listener>(*this, number, -1, std::move(handler), nullptr, std::move(proxy)));
    return number;
}

void Network::release_listener(std::uint16_t listener) noexcept {
    listeners_[listener]->release();
}

bool Network::released(std::uint16_t listener) const noexcept {
    return listeners_[listener]->ended();
}

void Network::accept_anew() noexcept {
    for (const auto& listener : listeners_) listener->accept_anew();
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
        const std::uint32_t count = state_count_;
        try {
            states_.reserve(states_.size() + 1);
            if (buffer_mode_ == BufferMode::per_connection_incremental)
                connection_buffers_.resize(state_count_ + states_per_chunk);
            if (defence_ != nullptr) defence_->guards.resize(state_count_ + states_per_chunk);
            carriers_.push_back(0);
            states_.push_back(std::make_unique<ConnectionState[]>(states_per_chunk));
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
        state_count_ += states_per_chunk;
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
    if (state.served) --live_served_;
    --closing_;
    if (defence_ != nullptr) [[unlikely]]
        end_guard(state);
    const std::uint32_t generation = (state.generation + 1) & Tag::generation_mask;
    FERRULE_ASSERT(!state.timer.armed() && state.reader == nullptr && state.received_first == nullptr &&
                   state.carry == nullptr);
    state = ConnectionState{};
    if (!connection_buffers_.empty()) connection_buffers_[index].used = false;
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
        state.descriptor < 0 && state.handles == 0 && !state.reader && !state.flusher) {
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
    auto first = options_.idle_timeout.count() > 0 ? options_.idle_timeout : options_.read_timeout;
    if (const auto byte = options_.first_byte_timeout; byte.count() > 0 && (first.count() <= 0 || byte < first))
        first = byte;
    if (first.count() > 0) {
        try {
            reactor_->timers().arm(state->timer, due_of(ticks_now(), first));
        } catch (const std::bad_alloc&) {
            state->descriptor = -1;
            state->stage = CloseStage::closed;
            ++closing_;
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
    std::uint64_t client = 0;
    if (defence_ != nullptr && !admit(descriptor, listener, client)) [[unlikely]]
        return;
    if (live_states_ >= options_.connection_limit) {
        if (waiting_.size() < options_.waiting_limit) {
            waiting_.push_back({descriptor, listener, client});  // within the room that was reserved
        } else {
            counters_.refused.add();
            reactor_->kernel().close(descriptor);
            leave(client);
        }
        for (const auto& paused : listeners_) paused->pause();
        return;
    }
    serve_admitted(descriptor, listener, client);
}

void Network::serve_admitted(int descriptor, std::uint16_t listener, std::uint64_t client) noexcept {
    ConnectionState* state = adopt_state(descriptor, listener);
    if (state == nullptr) {
        reactor_->kernel().close(descriptor);
        leave(client);
        return;
    }
    state->served = true;
    ++live_served_;
    reactor_->inline_budget = reactor_->options().inline_budget;
    try {
        if (defence_ != nullptr) [[unlikely]] {
            guard_of(*state).client = client;
            if (listeners_[listener]->proxy().protocol != ProxyProtocol::off) {
                begin_proxied(*state);
                return;
            }
        }
        begin_handler(*state);
    } catch (...) {
        // The handler could not begin; its connection went with its arguments.
        reactor_->fault(std::current_exception());
    }
}

void Network::begin_handler(ConnectionState& state) {
    const std::uint64_t before = reactor_->frames.live_bytes();
    const auto made_since = [this, before]() noexcept -> std::uint64_t {
        const std::uint64_t now = reactor_->frames.live_bytes();
        return now > before ? now - before : 0;
    };
    Task<> handler = listeners_[state.listener]->handler()(Connection{&state});
    const std::uint64_t frame = made_since();
    if (!has_room(state, frame)) throw std::bad_alloc();
    state.overhead_bytes += static_cast<std::uint32_t>(frame);
    const std::uint32_t generation = state.generation;
    ferrule::spawn(*reactor_, std::move(handler));
    // What it has begun to await by now usually lasts as long as it does.
    if (const std::uint64_t alive = made_since();
        alive > frame && state.generation == generation && state.handles != 0) {
        state.overhead_bytes += static_cast<std::uint32_t>(alive - frame);
    }
}

// ---- accounts ----

std::uint64_t detail::memory_of_slab(const WriteSlab& slab) noexcept {
    const std::uint64_t own = SlabPool::block_bytes(slab.size_class);
    return slab.chained ? own + static_cast<const WriteChain&>(slab).memory_bytes : own;
}

namespace {
std::uint64_t block_of(const WriteSlab* slab) noexcept {
    return slab != nullptr ? detail::memory_of_slab(*slab) : 0;
}
}  // namespace

std::uint64_t detail::memory_of_connection(const ConnectionState& state) noexcept {
    return std::uint64_t{state.received_bytes} + state.overhead_bytes + block_of(state.staged) +
           block_of(state.sending);
}

std::uint64_t Network::room_left(const ConnectionState& state) const noexcept {
    const std::uint64_t used = detail::memory_of_connection(state);
    return used < options_.connection_memory_limit ? options_.connection_memory_limit - used : 0;
}

bool Network::has_room(const ConnectionState& state, std::uint64_t bytes) const noexcept {
    // The first slab has its place always, so that it can be taken without a look at the account.
    if (state.staged == nullptr && state.sending == nullptr) bytes += SlabPool::block_bytes(first_slab_class_);
    return bytes <= room_left(state);
}

void Network::serve_waiting() noexcept {
    if (shutting_down_) return;
    if (!waiting_.empty() && live_states_ < options_.connection_limit) {
        const Waiting next = waiting_.front();
        waiting_.erase(waiting_.begin());
        serve_admitted(next.descriptor, next.listener, next.client);
    }
    if (waiting_.empty() && live_states_ < options_.connection_limit && !draining_) {
        for (const auto& listener : listeners_) listener->resume();
    }
}

void Network::adopt(int descriptor, std::uint16_t listener) {
    reactor_->check_thread("Network::adopt");
    counters_.adopted.add();
    serve(descriptor, listener);
}

std::expected<Connection, std::error_code> Network::open(int descriptor) {
    reactor_->check_thread("Network::open");
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

// ---- the turns of a pass ----

void Network::before_submit() noexcept {
    if (defence_ != nullptr) [[unlikely]]
        watch_load();
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
    if (!drain_parked_.empty()) [[unlikely]] {
        for (const auto& [state, generation] : drain_parked_) {
            if (state->generation == generation) state->drain_parked = false;
        }
        drain_eligible_.insert(drain_eligible_.end(), drain_parked_.begin(), drain_parked_.end());
        drain_parked_.clear();
        drain_sequence_ = reactor_->ring().next_sequence();
        drain_looked_ = false;
    }
}

void Network::publish_counters() noexcept {
    counters_.bytes_received.set(tally_.bytes_received);
    counters_.bytes_sent.set(tally_.bytes_sent);
    counters_.sends.set(tally_.sends);
    counters_.leases.set(leases());
    counters_.open.set(live_states_ - closing_);
    counters_.closing.set(closing_);
    counters_.waiting.set(waiting_.size());
    counters_.memory_used.set(slabs_.used_bytes());
    counters_.memory_kept.set(slabs_.idle_bytes());
}

void Network::after_completions() noexcept {
    publish_counters();
    Ring& ring = reactor_->ring();
    if (!unconfirmed_.empty() && !ring.overflowed()) {
        // Sends that were silent and that the kernel had consumed before anyone was resumed have succeeded: whatever
        // else they had to say has been dispatched. Of what was submitted since, it has not.
        building_.swap(unconfirmed_);
        std::size_t index = 0;
        const std::uint32_t consumed = reactor_->consumed();
        for (; index < building_.size(); ++index) {
            ConnectionState& state = *building_[index];
            if (!state.send_silent) continue;
            if (static_cast<std::int32_t>(consumed - state.sending->sequence) <= 0) break;
            state.send_silent = false;
            send_done(state);
        }
        unconfirmed_.insert(unconfirmed_.begin(), building_.begin() + static_cast<std::ptrdiff_t>(index),
                            building_.end());
        building_.clear();
    }
    if (!drain_eligible_.empty() && kernel_has_told_all()) [[unlikely]]
        end_idle();
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
    if (state.send_slow && defence_ != nullptr) due = std::min(due, guarded_send_due(state));
    if (due <= now) {
        counters_.timeouts.add();
        if (state.error == 0) state.error = ETIMEDOUT;
        state.write_failed = true;
        state.reset_wanted = true;  // what was not sent in time cannot be: nothing orderly is left to do
        reactor_->cancel_request(tag_of(send_kind_, state));
        return;
    }
    // Of a reader that waits until what it has read is sent on, the peer is not late.
    if (state.reader && !state.reader_queued && !(state.starved && state.lent != 0)) {
        const bool in_message = state.carry != nullptr;
        const auto timeout = in_message ? options_.read_timeout : options_.idle_timeout;
        std::uint64_t read_due = TimerHeap::never;
        if (timeout.count() > 0) read_due = due_of(in_message ? state.message_since : state.parked_at, timeout);
        if (defence_ != nullptr) read_due = std::min(read_due, guarded_read_due(state));
        if (read_due <= now) {
            counters_.timeouts.add();
            end_read(state, EndReason::deadline, ETIMEDOUT);
            return;
        }
        due = std::min(due, read_due);
    }
    if (state.private_receive && state.stream_class != 0 && state.stage == CloseStage::open) {
        const std::uint64_t stream_due = due_of(state.parked_at, stream_idle_timeout);
        if (stream_due <= now) {
            end_stream(state);
        } else {
            due = std::min(due, stream_due);
        }
    }
    if (state.handles == 0 && due == TimerHeap::never)
        return;  // on its way out; the linger timer is armed when its time comes
    if (defence_ != nullptr) {
        if (const auto look = guarded_look(state); look.count() > 0) due = std::min(due, now + Defence::ns(look));
    }
    if (due == TimerHeap::never) {
        // Nothing of it waits for the peer now: look again when something could be due.
        const auto next = options_.idle_timeout.count() > 0 ? options_.idle_timeout : options_.read_timeout;
        if (next.count() <= 0) return;
        due = now + static_cast<std::uint64_t>(std::chrono::nanoseconds(next).count());
    }
    // A wait for the next message may begin before that, and is not to move the timer.
    if (options_.idle_timeout.count() > 0)
        due = std::min(due, now + static_cast<std::uint64_t>(std::chrono::nanoseconds(options_.idle_timeout).count()));
    reactor_->timers().arm(state.timer, due);
}

// ---- draining ----

ConnectionCensus Network::census() const noexcept {
    ConnectionCensus counted;
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            const ConnectionState& state = chunk[offset];
            if (!state.served) continue;
            if (state.handles == 0 || state.stage != CloseStage::open) {
                ++counted.closing;
            } else if (state.send_slow) {
                ++counted.sending;
            } else if (state.reader) {
                ++counted.reading;
            } else {
                ++counted.working;
            }
        }
    }
    return counted;
}

bool Network::idle(const ConnectionState& state) noexcept {
    // Where no receive is armed (starved, paused) nobody knows yet what waits in the socket: it is looked at once more
    // when one is.
    return state.reader && !state.reader_queued && state.receive_armed && !state.receive_cancelled &&
           state.received_first == nullptr && state.carry == nullptr && state.staged == nullptr &&
           state.sending == nullptr && !state.in_message;
}

void Network::drain() noexcept {
    draining_ = true;
    for (const auto& listener : listeners_) listener->end();
    if (options_.drain_grace.count() == 0) {
        begin_ending_idle();
        return;
    }
    const std::chrono::nanoseconds grace = options_.drain_grace;
    reactor_->timers().arm(drain_timer_, reactor_->now_ns() + static_cast<std::uint64_t>(grace.count()));
}

void Network::begin_ending_idle() noexcept {
    ends_idle_ = true;
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            consider_draining(chunk[offset]);
        }
    }
}

// Linux tells of a limited number of receives per call, and may refuse to take entries: what has arrived for an idle
// connection may be among the rest.
bool Network::kernel_has_told_all() noexcept {
    Ring& ring = reactor_->ring();
    if (static_cast<std::int32_t>(reactor_->consumed() - drain_sequence_) < 0 || ring.task_work_pending() ||
        ring.overflowed() || ring.ready() != 0) {
        return false;
    }
    if (!ring.polled() || drain_looked_) return true;
    // A polling thread receives at its own time, and does not flag what it has yet to do. When it has emptied the
    // sockets, what it has taken from them is told before it gets at an entry that comes now.
    for (const auto& [state, generation] : drain_eligible_) {
        if (state->generation == generation && state->stage == CloseStage::open && unread(*state)) return false;
    }
    drain_looked_ = true;
    prepare::nop(ring.entry());  // its tag is nobody's
    drain_sequence_ = ring.next_sequence();
    return false;
}

bool Network::unread(const ConnectionState& state) const noexcept {
    // socket(7): SO_MEMINFO; the first is what waits to be received. A Unix socket does not tell.
    std::array<std::uint32_t, 9> memory{};
    socklen_t length = sizeof memory;
    return reactor_->kernel().get_option(state.descriptor, SOL_SOCKET, SO_MEMINFO, memory.data(), &length) == 0 &&
           memory[0] != 0;
}

void Network::end_idle() noexcept {
    for (const auto& [state, generation] : drain_eligible_) {
        // One that has parked again since may have armed a receive that the kernel has not seen: its turn comes later.
        if (state->generation == generation && state->stage == CloseStage::open && !state->drain_parked && idle(*state))
            end_read(*state, EndReason::draining, 0);
    }
    drain_eligible_.clear();
    drain_looked_ = false;
}

bool Network::drained() const noexcept {
    // A client's connection belongs to whoever opened it, and may last as long as the reactor.
    if (live_served_ != 0 || !waiting_.empty()) return false;
    return std::all_of(listeners_.begin(), listeners_.end(), [](const auto& listener) { return listener->ended(); });
}

void Network::shutdown() noexcept {
    shutting_down_ = true;
    for (const auto& listener : listeners_) listener->end();
    for (const Waiting& waiting : waiting_) {
        reactor_->kernel().close(waiting.descriptor);
        leave(waiting.client);
    }
    waiting_.clear();
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            ConnectionState& state = chunk[offset];
            if (state.descriptor < 0) continue;
            if (state.handles != 0) {
                end_read(state, EndReason::cancelled, ECANCELED);
                cancel_receive(state);
                // What it forwards is others': they cannot end before.
                if (state.send_slow || (!state.served && state.staged != nullptr && state.staged->chained))
                    abort_state(state, ECANCELED);
            } else if (state.stage != CloseStage::closing) {
                if (state.send_slow) state.reset_wanted = true;
                progress_close(state);
            }
        }
    }
}

bool Network::quiescent() const noexcept {
    if (live_served_ != 0) return false;
    for (const auto& chunk : states_) {
        for (std::uint32_t offset = 0; offset < states_per_chunk; ++offset) {
            const ConnectionState& state = chunk[offset];
            if (state.descriptor < 0) continue;
            // One that a service holds may last until the network goes, when the kernel has nothing of it any more.
            if (state.handles == 0 || state.operations != 0 || state.send_silent) return false;
        }
    }
    return std::all_of(listeners_.begin(), listeners_.end(), [](const auto& listener) { return listener->ended(); });
}

// ---- for debuggers ----

// Types with virtual functions: every compiler that we build with knows the offsets.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
[[gnu::used, gnu::retain]] const detail::DebugPlace detail::DebugLayout::network[] = {
    {"Network.states", offsetof(Network, states_)},
    {"Network.state_count", offsetof(Network, state_count_)},
    {"Network.states_per_chunk", Network::states_per_chunk},
    {"sizeof(ConnectionState)", sizeof(ConnectionState)},
    {"ConnectionState.reader", offsetof(ConnectionState, reader)},
    {"ConnectionState.flusher", offsetof(ConnectionState, flusher)},
    {"ConnectionState.descriptor", offsetof(ConnectionState, descriptor)},
    {"ConnectionState.index", offsetof(ConnectionState, index)},
    {"ConnectionState.generation", offsetof(ConnectionState, generation)},
    {"ConnectionState.held", offsetof(ConnectionState, held)},
    {"ConnectionState.received_bytes", offsetof(ConnectionState, received_bytes)},
    // Four bits of handles, then three of the stage.
    {"ConnectionState.stage", offsetof(ConnectionState, error) + 1},
    {"", 0},
};
#pragma GCC diagnostic pop

}  // namespace ferrule::inline v0
