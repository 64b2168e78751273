#include <ferrule/assert.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>

#include "net/defence.hpp"
#include "net/waits.hpp"
#include "net/write_chain.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace ferrule::inline v0 {

namespace {

[[noreturn, gnu::noinline, gnu::cold]] void refuse_thread(const char* call) {
    throw std::logic_error(std::string(call) + ": called on a thread that is not the reactor's of its connection");
}

void check_thread(const Reactor& owner, const char* call) {
    if (Host::current() != &owner) [[unlikely]]
        refuse_thread(call);
}

}  // namespace

const char* to_string(EndReason reason) noexcept {
    switch (reason) {
        case EndReason::none:
            return "none";
        case EndReason::end_of_stream:
            return "end_of_stream";
        case EndReason::reset:
            return "reset";
        case EndReason::deadline:
            return "deadline";
        case EndReason::draining:
            return "draining";
        case EndReason::cancelled:
            return "cancelled";
        case EndReason::limit:
            return "limit";
        case EndReason::failed:
            return "failed";
    }
    return "unknown";
}

// ---- waiting for bytes ----

namespace detail {

void ReadAwaiter::misuse() {
    throw std::logic_error("a second reader of a connection: one reads at a time");
}

bool ReadAwaiter::suspend(std::coroutine_handle<> handle, Environment* environment) {
    ConnectionState& state = *reinterpret_cast<ConnectionState*>(state_);
    Network& network = *state.network;
    if (state.reader) [[unlikely]]
        misuse();
    if (state.received_first == nullptr && !state.read_ended && network.only_root_cancels(environment)) [[likely]] {
        state.reader = handle;
        state_ |= suspended;
        network.park_reader(state);
        return true;
    }
    CancelScope* scope = network.scope_of(environment);
    if (scope->cancelled()) [[unlikely]] {
        state.end_reason = end_reason_of(scope->reason());
        // Nothing was taken: what has come waits for the next read.
        state_ = 0;
        return false;
    }
    if (state.received_first != nullptr || state.read_ended) {
        // It need not wait, but its budget for this pass is used up.
        network.reactor_->mutable_counters().yields.add();
        state.reader = handle;
        state_ |= suspended;
        network.wake_reader_later(state);
        return true;
    }
    {
        ReadWait& wait = network.take_read_wait();
        wait.connection = &state;
        static_cast<void>(scope->add(wait.cancel_node));
        state.read_wait = &wait;
    }
    state.reader = handle;
    state_ |= suspended;
    network.park_reader(state);
    return true;
}

ReadResult ReadAwaiter::resume_slowly() noexcept {
    ConnectionState& state = *reinterpret_cast<ConnectionState*>(state_ & ~suspended);
    state_ = 0;
    state.reader = nullptr;
    state.reader_queued = false;
    if (state.read_wait != nullptr) [[unlikely]] {
        state.network->give_back_read_wait(*std::exchange(state.read_wait, nullptr));
    }
    LeaseNode* first = state.received_first;
    if (first == nullptr) {
        // The connection may have been closed while it was read from.
        state.network->settle(state);
        return {};
    }
    state.received_first = state.received_last = nullptr;
    if (LeaseNode* carried = std::exchange(state.carry, nullptr); carried != nullptr) {
        LeaseNode* last = carried;
        while (last->next != nullptr) last = last->next;
        last->next = first;
        first = carried;
    }
    return ReadResult{first};
}

void ReadAwaiter::detach() noexcept {
    ConnectionState& state = *reinterpret_cast<ConnectionState*>(state_ & ~suspended);
    if (state.reader_queued) state.network->reactor_->forget(state.reader);
    state.reader = nullptr;
    state.reader_queued = false;
    if (state.read_wait != nullptr) state.network->give_back_read_wait(*std::exchange(state.read_wait, nullptr));
    state.network->settle(state);
}

}  // namespace detail

void ReadWait::on_cancel(CancelNode& node, CancelReason reason) noexcept {
    ConnectionState& state = *of(node).connection;
    if (state.reader_queued) return;
    state.end_reason = end_reason_of(reason);
    state.network->wake_reader_later(state);
}

// ---- waiting for a flush ----

namespace detail {

bool FlushAwaiter::suspend(std::coroutine_handle<> handle, Environment* environment) {
    ConnectionState& state = *reinterpret_cast<ConnectionState*>(pointer_);
    Network& network = *state.network;
    check_thread(*network.reactor_, "Connection::flush");
    const bool staged = state.staged != nullptr;
    if (staged) {
        state.staged->flushed = true;
        network.request_send(state);
    }
    if (!state.flusher && network.only_root_cancels(environment)) [[likely]] {
        state.flusher = handle;
        state.flusher_on_staged = staged;
        pointer_ |= suspended;
        return true;
    }
    FlushWait& wait = network.take_flush_wait();
    wait.connection = &state;
    wait.waiter = handle;
    wait.error = 0;
    wait.next = nullptr;
    wait.stage = FlushWait::Stage::waiting;
    wait.slab = staged ? state.staged : state.sending;
    pointer_ = reinterpret_cast<std::uintptr_t>(&wait) | listed;
    CancelScope* scope = network.scope_of(environment);
    if (!scope->add(wait.cancel_node)) {
        wait.error = ECANCELED;
        wait.slab = nullptr;
        wait.stage = FlushWait::Stage::done;
        return false;
    }
    FlushWait** link = &wait.slab->waiters;
    while (*link != nullptr) link = &(*link)->next;
    *link = &wait;
    return true;
}

std::expected<void, std::errc> FlushAwaiter::resume_slowly() noexcept {
    int error = 0;
    if ((pointer_ & listed) != 0) [[unlikely]] {
        FlushWait& wait = *reinterpret_cast<FlushWait*>(pointer_ & ~listed);
        error = wait.error;
        wait.connection->network->give_back_flush_wait(wait);
    } else {
        ConnectionState& state = *reinterpret_cast<ConnectionState*>(pointer_ & ~suspended);
        if (state.write_failed) error = state.error != 0 ? state.error : EPIPE;
        if ((pointer_ & suspended) != 0) {
            state.flusher = nullptr;
            if (state.flusher_queued) [[unlikely]] {
                state.flusher_queued = false;
                // The connection may have been closed while it was flushed.
                state.network->settle(state);
            }
        }
    }
    pointer_ = 0;
    if (error != 0) [[unlikely]]
        return std::unexpected(static_cast<std::errc>(error));
    return {};
}

void FlushAwaiter::detach() noexcept {
    if ((pointer_ & suspended) != 0) {
        ConnectionState& state = *reinterpret_cast<ConnectionState*>(pointer_ & ~suspended);
        if (state.flusher_queued) state.network->reactor_->forget(state.flusher);
        state.flusher = nullptr;
        state.flusher_queued = false;
        state.network->settle(state);
        return;
    }
    FlushWait& wait = *reinterpret_cast<FlushWait*>(pointer_ & ~listed);
    if (wait.stage == FlushWait::Stage::queued) wait.connection->network->reactor_->forget(wait.waiter);
    if (wait.slab != nullptr) {
        FlushWait** link = &wait.slab->waiters;
        while (*link != &wait) link = &(*link)->next;
        *link = wait.next;
    }
    wait.connection->network->give_back_flush_wait(wait);
}

}  // namespace detail

void FlushWait::on_cancel(CancelNode& node, CancelReason) noexcept {
    FlushWait& wait = of(node);
    FlushWait** link = &wait.slab->waiters;
    while (*link != &wait) link = &(*link)->next;
    *link = wait.next;
    wait.slab = nullptr;
    wait.error = ECANCELED;
    wait.stage = FlushWait::Stage::queued;
    wait.connection->network->reactor().resume_later(wait.waiter);
}

// ---- handles ----

namespace detail {

ConnectionHandle::ConnectionHandle(ConnectionState* state) noexcept : state_(state), generation_(state->generation) {
    ++state->handles;
}

void ConnectionHandle::misuse() const {
    throw std::logic_error(state_ == nullptr ? "use of a connection that was moved from or closed"
                                             : "use of a connection that has ended");
}

std::error_code ConnectionHandle::error() const {
    return {state().error, std::system_category()};
}

bool ConnectionHandle::draining() const {
    return state().network->draining_;
}

std::expected<Address, std::error_code> ConnectionHandle::peer_address() const {
    check_thread(reactor(), "Connection::peer_address");
    if (const ProxiedAddresses* said = state().network->proxied(state())) return said->source;
    return ferrule::peer_address(reactor().kernel(), state().descriptor);
}

std::expected<Address, std::error_code> ConnectionHandle::local_address() const {
    check_thread(reactor(), "Connection::local_address");
    if (const ProxiedAddresses* said = state().network->proxied(state())) return said->destination;
    return ferrule::local_address(reactor().kernel(), state().descriptor);
}

std::expected<Address, std::error_code> ConnectionHandle::transport_peer_address() const {
    check_thread(reactor(), "Connection::transport_peer_address");
    return ferrule::peer_address(reactor().kernel(), state().descriptor);
}

std::expected<Address, std::error_code> ConnectionHandle::transport_local_address() const {
    check_thread(reactor(), "Connection::transport_local_address");
    return ferrule::local_address(reactor().kernel(), state().descriptor);
}

Reactor& ConnectionHandle::reactor() const {
    return *state().network->reactor_;
}

void ConnectionHandle::abort() {
    ConnectionState& ended = state();
    check_thread(*ended.network->reactor_, "Connection::abort");
    state_ = nullptr;
    ended.network->abort_state(ended, ECONNABORTED);
    release_connection(ended);
}

ReadAwaiter read_connection(ConnectionState& state) {
    if (state.reader) [[unlikely]]
        ReadAwaiter::misuse();
    check_thread(*state.network->reactor_, "Connection::read");
    return ReadAwaiter{&state};
}

ReadResult take_carried_of_connection(ConnectionState& state) {
    check_thread(*state.network->reactor_, "Connection::take_carried");
    return ReadResult{std::exchange(state.carry, nullptr)};
}

bool write_connection(ConnectionState& state, const std::byte* data, std::size_t size) {
    if (size == 0) return !state.write_failed && !state.fin_wanted;
    WriteSlab* slab = state.staged;
    if (slab != nullptr && slab->capacity - slab->size >= size) [[likely]] {
        std::memcpy(slab->data() + slab->size, data, size);
        slab->size += static_cast<std::uint32_t>(size);
        return true;
    }
    Network& network = *state.network;
    check_thread(*network.reactor_, "Connection::write");
    if (slab == nullptr && size <= network.first_slab_bytes_ && state.sending == nullptr && !state.write_failed &&
        !state.fin_wanted) [[likely]] {
        if (slab = network.stage_first_slab(state); slab != nullptr) [[likely]] {
            slab->size = static_cast<std::uint32_t>(size);
            std::memcpy(slab->data(), data, size);
            return true;
        }
    }
    return network.write_slowly(state, data, size);
}

bool write_connection(ConnectionState& state, const SharedBytes& bytes) {
    check_thread(*state.network->reactor_, "Connection::write_shared");
    return state.network->write_shared(state, bytes);
}

bool write_connection(ConnectionState& state, Lease& lease) {
    check_thread(*state.network->reactor_, "Connection::write");
    return state.network->forward(state, lease);
}

bool write_connection(ConnectionState& state, ReadResult& received) {
    check_thread(*state.network->reactor_, "Connection::write");
    return state.network->forward(state, received);
}

namespace {
/// What can be written in place behind the last written byte.
std::uint32_t span_left(const WriteSlab& staged) noexcept {
    if (!staged.chained) return staged.capacity - staged.size;
    const auto& chain = static_cast<const WriteChain&>(staged);
    return chain.last == chain.open_owner && chain.open != nullptr ? chain.open->capacity - chain.open->size : 0;
}
}  // namespace

std::span<std::byte> span_connection(ConnectionState& state, std::size_t minimum) {
    check_thread(*state.network->reactor_, "Connection::span");
    std::byte* room = state.network->room(state, minimum == 0 ? 1 : minimum);
    if (room == nullptr) return {};
    return {room, span_left(*state.staged)};
}

void advance_connection(ConnectionState& state, std::size_t bytes) {
    if (bytes == 0) return;
    check_thread(*state.network->reactor_, "Connection::advance");
    if (state.staged == nullptr || bytes > span_left(*state.staged)) {
        throw std::logic_error("advance past the end of the span that was handed out");
    }
    Network::wrote_in_place(state, static_cast<std::uint32_t>(bytes));
}

void shutdown_write_connection(ConnectionState& state) {
    check_thread(*state.network->reactor_, "Connection::shutdown_write");
    if (state.fin_wanted) return;
    state.fin_wanted = true;
    if (state.staged != nullptr) {
        state.staged->flushed = true;
        state.staged->capacity = state.staged->size;  // a later write finds no room, and then why
    }
    state.network->request_send(state);
}

std::size_t unsent_connection(const ConnectionState& state) noexcept {
    std::size_t unsent = 0;
    if (state.staged != nullptr) unsent += state.staged->size;
    if (state.sending != nullptr) unsent += state.sending->size - state.sending->sent;
    return unsent;
}

void release_lingering(ConnectionState& state) noexcept {
    state.unread_input = true;
    release_connection(state);
}

void release_reading(ConnectionState& state) noexcept {
    // What still comes is dropped as it comes, so that it holds no buffers; what is not read for that is lingered for
    // at the end.
    state.wants_input = false;
    state.network->drop_received(state);
    release_lingering(state);
}

void release_writing(ConnectionState& state) noexcept {
    if (state.handles > 1) shutdown_write_connection(state);
    release_connection(state);
}

void release_connection(ConnectionState& state) noexcept {
    FERRULE_ASSERT(state.handles > 0);
    if (--state.handles == 0) state.network->begin_close(state);
}

}  // namespace detail

namespace {

/// Ends a handle where its connection lives. Elsewhere, when a task that hopped away has ended there, it goes home by
/// mailbox; only a reactor that has ended refuses it, and its network closes what is left.
template <class Release>
void release_at_home(ConnectionState& state, Release release) noexcept {
    Reactor& home = state.network->reactor();
    if (Host::current() == &home) [[likely]] {
        release(state);
        return;
    }
    try {
        static_cast<void>(home.post([&state, release] { release(state); }));
    } catch (const std::bad_alloc&) {
        // As if the reactor had ended: the connection stays until it does.
    }
}

}  // namespace

void Connection::close() noexcept {
    if (ConnectionState* ended = std::exchange(state_, nullptr)) release_at_home(*ended, detail::release_connection);
}

void Connection::close_lingering() noexcept {
    if (ConnectionState* ended = std::exchange(state_, nullptr)) release_at_home(*ended, detail::release_lingering);
}

std::pair<ReadHalf, WriteHalf> Connection::split() && {
    ConnectionState& shared = state();
    check_thread(shared.network->reactor(), "Connection::split");
    state_ = nullptr;
    std::pair<ReadHalf, WriteHalf> halves{ReadHalf{&shared}, WriteHalf{&shared}};
    --shared.handles;
    return halves;
}

void ReadHalf::release() noexcept {
    release_at_home(*std::exchange(state_, nullptr), detail::release_reading);
}

void WriteHalf::release() noexcept {
    release_at_home(*std::exchange(state_, nullptr), detail::release_writing);
}

}  // namespace ferrule::inline v0
