#include <ferrule/assert.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/ring/error.hpp>

#include "net/udp_service.hpp"
#include "net/waits.hpp"

#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace ferrule::inline v0 {

namespace {

[[noreturn, gnu::noinline, gnu::cold]] void refuse_second_receiver() {
    throw std::logic_error("a second receiver of a UDP socket: one receives at a time");
}

UdpSocketState& state_of(CancelNode& node) noexcept {
    return *reinterpret_cast<UdpSocketState*>(reinterpret_cast<std::byte*>(&node) -
                                              offsetof(UdpSocketState, receive_cancel));
}

/// Takes the error that nobody has been told yet; 0: there is none.
int take_untold_error(UdpSocketState& state) noexcept {
    if (state.untold_error != 0) return std::exchange(state.untold_error, 0);
    // What the network has told of a datagram that was sent before, when nobody receives.
    if (!state.receive_failed || state.receiver) return 0;
    state.receive_failed = false;
    return state.receive_error;
}

}  // namespace

// ---- receiving ----

namespace detail {

bool ReceiveAwaiter::await_ready() const noexcept {
    const UdpSocketState& state = *reinterpret_cast<const UdpSocketState*>(state_);
    return (state.received_first != nullptr || state.receive_failed) && !state.receiver &&
           Host::current()->spend_inline_budget();
}

bool ReceiveAwaiter::suspend(std::coroutine_handle<> handle, Environment* environment) {
    UdpSocketState& state = *reinterpret_cast<UdpSocketState*>(state_);
    UdpService& service = *state.service;
    if (state.receiver) [[unlikely]]
        refuse_second_receiver();
    if (!service.only_root_cancels(environment)) {
        CancelScope* scope = service.scope_of(environment);
        if (!scope->add(state.receive_cancel)) {
            // Nothing was taken: what has come waits for the next receive.
            state.end_reason = end_reason_of(scope->reason());
            state.last_error = state.end_reason == EndReason::deadline ? ETIMEDOUT : ECANCELED;
            state_ = 0;
            return false;
        }
    }
    state.receiver = handle;
    state_ |= suspended;
    if (state.received_first != nullptr || state.receive_failed) {
        // It need not wait, but its budget for this pass is used up.
        state.reactor->mutable_counters().yields.add();
        state.receiver_queued = true;
        state.reactor->resume_later(handle);
        return true;
    }
    service.begin_receiving(state);
    return true;
}

Datagram ReceiveAwaiter::await_resume() noexcept {
    if (state_ == 0) [[unlikely]]
        return {};
    UdpSocketState& state = *reinterpret_cast<UdpSocketState*>(state_ & ~suspended);
    const bool waited = (state_ & suspended) != 0;
    state_ = 0;
    if (waited) {
        state.receiver = nullptr;
        state.receiver_queued = false;
        CancelScope::remove(state.receive_cancel);
    }
    if (DatagramNode* node = state.received_first; node != nullptr) [[likely]] {
        state.received_first = node->next;
        return Datagram{node};
    }
    if (state.receive_failed) {
        state.receive_failed = false;
        state.end_reason = EndReason::failed;
        state.last_error = state.receive_error;
    }
    // The socket may have been destroyed while it was received from.
    if (state.closing) UdpService::settle(state);
    return {};
}

void ReceiveAwaiter::detach() noexcept {
    UdpSocketState& state = *reinterpret_cast<UdpSocketState*>(state_ & ~suspended);
    if (state.receiver_queued) state.reactor->forget(state.receiver);
    state.receiver = nullptr;
    state.receiver_queued = false;
    CancelScope::remove(state.receive_cancel);
    UdpService::settle(state);
}

}  // namespace detail

void UdpSocketState::on_receive_cancel(CancelNode& node, CancelReason reason) noexcept {
    UdpSocketState& state = state_of(node);
    state.service->end_receive(state, end_reason_of(reason));
}

// ---- waiting for a flush ----

namespace detail {

bool DatagramFlushAwaiter::await_ready() const noexcept {
    const UdpSocketState& state = *reinterpret_cast<const UdpSocketState*>(pointer_);
    return state.done_number == state.sent_number;
}

bool DatagramFlushAwaiter::suspend(std::coroutine_handle<> handle, Environment* environment) {
    UdpSocketState& state = *reinterpret_cast<UdpSocketState*>(pointer_);
    UdpService& service = *state.service;
    DatagramFlushWait& wait = service.take_flush_wait();
    wait.socket = &state;
    wait.waiter = handle;
    wait.until = state.sent_number;
    wait.error = 0;
    wait.next = nullptr;
    wait.stage = DatagramFlushWait::Stage::waiting;
    pointer_ = reinterpret_cast<std::uintptr_t>(&wait) | listed;
    ++state.flush_waits;
    if (!service.scope_of(environment)->add(wait.cancel_node)) {
        wait.error = ECANCELED;
        wait.stage = DatagramFlushWait::Stage::done;
        return false;
    }
    DatagramFlushWait** link = &state.flush_first;
    while (*link != nullptr) link = &(*link)->next;
    *link = &wait;
    // An error that is still untold is the first waiter's.
    if (state.flush_first == &wait) wait.error = take_untold_error(state);
    return true;
}

std::expected<void, std::errc> DatagramFlushAwaiter::await_resume() noexcept {
    int error = 0;
    if ((pointer_ & listed) != 0) {
        DatagramFlushWait& wait = *reinterpret_cast<DatagramFlushWait*>(pointer_ & ~listed);
        UdpSocketState& state = *wait.socket;
        error = wait.error;
        state.service->give_back_flush_wait(wait);
        --state.flush_waits;
        if (error == 0) error = take_untold_error(state);
        if (state.closing) UdpService::settle(state);
    } else {
        error = take_untold_error(*reinterpret_cast<UdpSocketState*>(pointer_));
    }
    pointer_ = 0;
    if (error != 0) [[unlikely]]
        return std::unexpected(static_cast<std::errc>(error));
    return {};
}

void DatagramFlushAwaiter::detach() noexcept {
    DatagramFlushWait& wait = *reinterpret_cast<DatagramFlushWait*>(pointer_ & ~listed);
    UdpSocketState& state = *wait.socket;
    if (wait.stage == DatagramFlushWait::Stage::queued) state.reactor->forget(wait.waiter);
    if (wait.stage == DatagramFlushWait::Stage::waiting) wait.leave();
    state.service->give_back_flush_wait(wait);
    --state.flush_waits;
    UdpService::settle(state);
}

}  // namespace detail

void DatagramFlushWait::leave() noexcept {
    DatagramFlushWait** link = &socket->flush_first;
    while (*link != this) link = &(*link)->next;
    *link = next;
    // What it would have told is the next one's.
    if (error != 0) UdpService::tell_error(*socket, std::exchange(error, 0));
}

void DatagramFlushWait::on_cancel(CancelNode& node, CancelReason) noexcept {
    DatagramFlushWait& wait = of(node);
    wait.leave();
    wait.socket->service->finish_flush(wait, ECANCELED);
}

// ---- the handle ----

std::expected<UdpSocket, UdpError> UdpSocket::open(Reactor& reactor, const UdpSocketOptions& options) {
    reactor.check_thread("UdpSocket::open");
    Kernel& kernel = reactor.kernel();
    const auto descriptor = UdpService::open_descriptor(kernel, options);
    if (!descriptor) return std::unexpected(descriptor.error());
    const auto state = UdpService::of(reactor).adopt(*descriptor, options);
    if (!state) {
        kernel.close(*descriptor);
        return std::unexpected(state.error());
    }
    return UdpSocket{*state};
}

UdpSocketState& UdpSocket::state(const char* call) const {
    if (state_ == nullptr) [[unlikely]]
        throw std::logic_error("use of a UDP socket that was moved from or closed");
    state_->reactor->check_thread(call);
    return *state_;
}

std::expected<void, UdpError> UdpSocket::connect(const Address& peer) {
    UdpSocketState& own = state("UdpSocket::connect");
    const Address taken = own.family == AF_INET6 ? peer.mapped() : peer.unmapped();
    const int result = own.reactor->kernel().connect(own.descriptor, taken.data(), taken.size());
    if (result < 0) {
        UdpError error{system_error(-result), {}};
        error.message = "connect " + peer.to_string() + ": " + error.code.message();
        return std::unexpected(std::move(error));
    }
    own.connected_ipv4 = peer.unmapped().family() == AddressFamily::ipv4;
    return {};
}

detail::ReceiveAwaiter UdpSocket::receive() {
    UdpSocketState& own = state("UdpSocket::receive");
    if (own.receiver) [[unlikely]]
        refuse_second_receiver();
    return detail::ReceiveAwaiter{&own};
}

detail::DatagramFlushAwaiter UdpSocket::flush() {
    return detail::DatagramFlushAwaiter{&state("UdpSocket::flush")};
}

bool UdpSocket::send_bytes(const Address* peer, std::span<const std::byte> bytes, const DatagramSendOptions& options) {
    UdpSocketState& own = state("UdpSocket::send");
    return own.service->send(own, peer, bytes, options);
}

bool UdpSocket::send(std::span<const std::byte> bytes, const DatagramSendOptions& options) {
    return send_bytes(nullptr, bytes, options);
}

bool UdpSocket::send(std::string_view text, const DatagramSendOptions& options) {
    return send_bytes(nullptr, std::as_bytes(std::span(text)), options);
}

bool UdpSocket::send_to(const Address& peer, std::span<const std::byte> bytes, const DatagramSendOptions& options) {
    return send_bytes(&peer, bytes, options);
}

bool UdpSocket::send_to(const Address& peer, std::string_view text, const DatagramSendOptions& options) {
    return send_bytes(&peer, std::as_bytes(std::span(text)), options);
}

std::size_t UdpSocket::unsent() const {
    const UdpSocketState& own = state("UdpSocket::unsent");
    return static_cast<std::size_t>(own.sent_number - own.done_number);
}

EndReason UdpSocket::end_reason() const {
    return state("UdpSocket::end_reason").end_reason;
}

std::error_code UdpSocket::error() const {
    return {state("UdpSocket::error").last_error, std::system_category()};
}

std::expected<Address, std::error_code> UdpSocket::local_address() const {
    const UdpSocketState& own = state("UdpSocket::local_address");
    return ferrule::local_address(own.reactor->kernel(), own.descriptor);
}

std::expected<Address, std::error_code> UdpSocket::peer_address() const {
    const UdpSocketState& own = state("UdpSocket::peer_address");
    return ferrule::peer_address(own.reactor->kernel(), own.descriptor);
}

std::expected<void, std::error_code> UdpSocket::set_option(int level, int name, std::span<const std::byte> value) {
    const UdpSocketState& own = state("UdpSocket::set_option");
    const int result = own.reactor->kernel().set_option(own.descriptor, level, name, value.data(),
                                                        static_cast<socklen_t>(value.size()));
    if (result < 0) return std::unexpected(system_error(-result));
    return {};
}

Reactor& UdpSocket::reactor() const {
    return *state("UdpSocket::reactor").reactor;
}

const UdpCounters& UdpSocket::counters() const {
    if (state_ == nullptr) throw std::logic_error("use of a UDP socket that was moved from or closed");
    return state_->counters;
}

std::uint32_t UdpSocket::socket_receive_bytes() const {
    return state("UdpSocket::socket_receive_bytes").socket_receive_bytes;
}

std::uint32_t UdpSocket::socket_send_bytes() const {
    return state("UdpSocket::socket_send_bytes").socket_send_bytes;
}

void UdpSocket::close() noexcept {
    UdpSocketState* ended = std::exchange(state_, nullptr);
    if (ended == nullptr) return;
    ended->handle_gone.store(true, std::memory_order_release);
    UdpService* service = ended->service;
    if (service == nullptr) {
        UdpService::settle(*ended);
    } else if (Host::current() == ended->reactor) [[likely]] {
        service->release(*ended);
    } else {
        // It goes home by mailbox; only a reactor that has ended refuses it, and what is left ends with that one.
        try {
            static_cast<void>(ended->reactor->post([ended] { ended->service->release(*ended); }));
        } catch (const std::bad_alloc&) {
            // As if the reactor had ended.
        }
    }
}

}  // namespace ferrule::inline v0
