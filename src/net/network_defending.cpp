#include <ferrule/net/network.hpp>

#include "net/defence.hpp"
#include "net/listener.hpp"

// The kernel's own declaration: the C library's lacks the field.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

namespace ferrule::inline v0 {

// What a network does against peers that take and do not give: who is let in, how slow one may be, and when there are
// too many. Nothing here runs for a request unless an option asks for it.

namespace {

constexpr std::uint64_t too_late = 0;
constexpr unsigned tick_bits = 20;  // Network::tick_shift, in which stamps are kept

/// The later of two stamps, which wrap.
std::uint32_t later(std::uint32_t left, std::uint32_t right) noexcept {
    return static_cast<std::int32_t>(left - right) > 0 ? left : right;
}

std::uint32_t ticks_of(std::chrono::milliseconds time) noexcept {
    return static_cast<std::uint32_t>(Defence::ns(time) >> tick_bits) + 1;
}

/// What a rate makes of a time. Neither is large enough to overflow: 2^32 bytes a second, 20 days.
std::uint64_t bytes_in(std::uint32_t per_second, std::uint32_t ticks) noexcept {
    constexpr double ticks_per_second = 1e9 / (1u << tick_bits);
    return static_cast<std::uint64_t>(static_cast<double>(per_second) * ticks / ticks_per_second);
}

/// How many bytes the peer has acknowledged so far; nothing where the kernel does not tell: of a Unix socket.
std::optional<std::uint64_t> acknowledged_bytes(Kernel& kernel, int descriptor) noexcept {
    tcp_info information{};
    socklen_t size = sizeof information;
    if (kernel.get_option(descriptor, IPPROTO_TCP, TCP_INFO, &information, &size) < 0) return std::nullopt;
    if (size < offsetof(tcp_info, tcpi_bytes_acked) + sizeof information.tcpi_bytes_acked) return std::nullopt;
    return information.tcpi_bytes_acked;
}

}  // namespace

// ---- making and ending ----

Defence& Network::defence() {
    if (defence_ != nullptr) return *defence_;
    auto made = std::make_unique<Defence>(options_);
    made->guards.resize(state_count_);
    made->full_slice = stream_slice_;
    made->limiter = options_.address_limiter;
    if (made->limiter == nullptr && options_.address_limits.connections != 0) {
        made->own_limiter = std::make_unique<AddressLimiter>(options_.address_limits, reactor_->kernel());
        made->limiter = made->own_limiter.get();
    }
    made->route = reactor_->add_timer_route(
        this, [](void* owner, Timer&) noexcept { static_cast<Network*>(owner)->tell_load(); });
    // Each piece that comes is then looked at, by what looks for streams otherwise.
    if (options_.receive_rate_min != 0) stream_slice_ = 0;
    defence_ = std::move(made);
    return *defence_;
}

ConnectionGuard& Network::guard_of(const ConnectionState& state) const noexcept {
    return defence_->guards[state.index];
}

void Network::end_guard(ConnectionState& state) noexcept {
    ConnectionGuard& guard = guard_of(state);
    leave(guard.client);
    ConnectionGuard fresh;
    fresh.addresses = std::move(guard.addresses);
    guard = std::move(fresh);
}

// ---- who is let in ----

/// Ends a connection that is not served. With a reset it is gone at once on both sides, whatever it has sent.
void Network::reset_descriptor(int descriptor) noexcept {
    const linger now{.l_onoff = 1, .l_linger = 0};
    reactor_->kernel().set_option(descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    reactor_->kernel().close(descriptor);
}

bool Network::admit(int descriptor, std::uint16_t listener, std::uint64_t& client) noexcept {
    if (options_.overload_excess == Excess::refuse && overloaded()) {
        counters_.shed.add();
        reset_descriptor(descriptor);
        return false;
    }
    const ProxyOptions& proxy = listeners_[listener]->proxy();
    const bool behind_proxy = proxy.protocol == ProxyProtocol::required;
    if (behind_proxy ? proxy.sources.empty() : defence_->limiter == nullptr) return true;
    const auto peer = ferrule::peer_address(reactor_->kernel(), descriptor);
    if (behind_proxy) {
        // Who has left already is nobody to be believed.
        const bool believed = peer && std::any_of(proxy.sources.begin(), proxy.sources.end(),
                                                  [&](const AddressPrefix& source) { return source.contains(*peer); });
        if (believed) return true;
        counters_.proxy_strangers.add();
        reset_descriptor(descriptor);
        return false;
    }
    // Its first read will find out that it has left.
    if (!peer || admit_client(*peer, client)) return true;
    reset_descriptor(descriptor);
    return false;
}

bool Network::admit_client(const Address& client, std::uint64_t& key) noexcept {
    const AddressLimiter::Admission admission = defence_->limiter->admit(client);
    key = admission.key;
    if (admission.overflowed) counters_.address_overflows.add();
    if (!admission.admitted) counters_.address_refusals.add();
    return admission.admitted;
}

void Network::leave(std::uint64_t client) noexcept {
    if (client != 0) defence_->limiter->leave(client);
}

// ---- how slow a peer may be ----

void Network::arm_no_later(ConnectionState& state, std::uint64_t due) noexcept {
    if (!state.timer.armed() || reactor_->timers().due(state.timer) > due) reactor_->timers().arm(state.timer, due);
}

/// Bytes have come: by then they had been waited for, if somebody waits.
void Network::count_received(ConnectionState& state, std::uint32_t bytes) noexcept {
    ConnectionGuard& guard = guard_of(state);
    guard.received += bytes;
    if (!state.reader || state.reader_queued) return;
    const std::uint32_t now = ticks_now();
    guard.receive_waited += now - later(state.parked_at, guard.receive_counted);
    guard.receive_counted = now;
}

/// A message begins, with what has come of it.
void Network::guard_message(ConnectionState& state, std::uint32_t bytes) noexcept {
    ConnectionGuard& guard = guard_of(state);
    guard.received = bytes;
    guard.receive_waited = 0;
    guard.receive_counted = ticks_now();
}

void detail::message_of_connection(ConnectionState& state, bool begins) {
    Network& network = *state.network;
    network.reactor_->check_thread("Connection::begin_message");
    state.in_message = begins;
    if (network.defence_ == nullptr || network.options_.receive_rate_min == 0) return;
    ConnectionGuard& guard = network.guard_of(state);
    if (begins && !guard.in_message) {
        network.guard_message(state, 0);
        network.arm_no_later(state, network.due_of(guard.receive_counted, network.options_.rate_window));
    }
    guard.in_message = begins;
}

/// When the peer has been waited for, for a whole window of its message.
std::uint64_t Network::receive_window_due(const ConnectionState& state) const noexcept {
    const ConnectionGuard& guard = guard_of(state);
    const std::uint32_t window = ticks_of(options_.rate_window);
    const std::uint32_t waited = guard.receive_waited + (ticks_now() - later(state.parked_at, guard.receive_counted));
    return reactor_->now_ns() + (std::uint64_t{window - std::min(window, waited)} << tick_bits);
}

/// When the waits for the peer that the defence bounds are too long.
std::uint64_t Network::guarded_read_due(ConnectionState& state) noexcept {
    const std::uint64_t now = reactor_->now_ns();
    std::uint64_t due = TimerHeap::never;
    ConnectionGuard& guard = guard_of(state);
    if (guard.awaits_header) {
        const auto timeout = listeners_[state.listener]->proxy().timeout;
        if (timeout.count() > 0) due = due_of(guard.header_since, timeout);
        if (due <= now) {
            counters_.proxy_timeouts.add();
            return too_late;
        }
    } else if (options_.first_byte_timeout.count() > 0 && state.served && !state.receive_again && state.receive_armed) {
        due = due_of(state.message_since, options_.first_byte_timeout);
        if (due <= now) {
            counters_.first_byte_timeouts.add();
            return too_late;
        }
    }
    if (options_.receive_rate_min == 0 || (state.carry == nullptr && !guard.in_message)) return due;
    if (const std::uint64_t window_due = receive_window_due(state); window_due > now) return std::min(due, window_due);
    const std::uint32_t waited = guard.receive_waited + (ticks_now() - later(state.parked_at, guard.receive_counted));
    if (guard.received < bytes_in(options_.receive_rate_min, waited)) {
        counters_.slow_senders.add();
        return too_late;
    }
    guard_message(state, 0);
    return std::min(due, now + Defence::ns(options_.rate_window));
}

/// A send waits for the peer, from now on.
void Network::guard_send(ConnectionState& state) noexcept {
    if (options_.send_rate_min == 0) return;
    ConnectionGuard& guard = guard_of(state);
    if (!guard.sends_slowly) {
        const auto acknowledged = acknowledged_bytes(reactor_->kernel(), state.descriptor);
        if (!acknowledged) return;
        guard.sends_slowly = true;
        guard.acknowledged = *acknowledged;
        guard.send_waited = 0;
    }
    guard.send_counted = ticks_now();
    const std::uint32_t window = ticks_of(options_.rate_window);
    const std::uint32_t left = window - std::min(window, guard.send_waited);
    arm_no_later(state, reactor_->now_ns() + (std::uint64_t{left} << tick_bits));
}

/// It waits no longer.
void Network::guard_sent(ConnectionState& state) noexcept {
    ConnectionGuard& guard = guard_of(state);
    if (guard.sends_slowly) guard.send_waited += ticks_now() - guard.send_counted;
}

/// The kernel says of a send only that it has ended, and it ends when a third of the socket's buffer is free: that may
/// be a megabyte. So the socket is asked how far the peer is, once in a window.
std::uint64_t Network::guarded_send_due(ConnectionState& state) noexcept {
    ConnectionGuard& guard = guard_of(state);
    if (!guard.sends_slowly) return TimerHeap::never;
    const std::uint32_t window = ticks_of(options_.rate_window);
    const std::uint32_t tick = ticks_now();
    const std::uint32_t waited = guard.send_waited + (tick - guard.send_counted);
    if (waited < window) return reactor_->now_ns() + (std::uint64_t{window - waited} << tick_bits);
    const auto acknowledged = acknowledged_bytes(reactor_->kernel(), state.descriptor);
    if (acknowledged && *acknowledged - guard.acknowledged < bytes_in(options_.send_rate_min, waited)) {
        counters_.slow_receivers.add();
        return too_late;
    }
    if (acknowledged) guard.acknowledged = *acknowledged;
    guard.send_waited = 0;
    guard.send_counted = tick;
    return reactor_->now_ns() + Defence::ns(options_.rate_window);
}

/// How soon a wait could be too long that begins without moving the timer; 0: none could.
std::chrono::milliseconds Network::guarded_look(const ConnectionState& state) const noexcept {
    const ConnectionGuard& guard = guard_of(state);
    std::chrono::milliseconds look{0};
    const auto consider = [&look](std::chrono::milliseconds time) {
        if (time.count() > 0 && (look.count() == 0 || time < look)) look = time;
    };
    if (state.served && !state.receive_again) consider(options_.first_byte_timeout);
    if (options_.receive_rate_min != 0 && guard.in_message) consider(options_.rate_window);
    if (guard.awaits_header) consider(listeners_[state.listener]->proxy().timeout);
    return look;
}

// ---- when there are too many ----

bool Network::overloaded() const noexcept {
    return defence_ != nullptr && defence_->load.overloaded(reactor_->now_ns());
}

/// Before the loop enters the kernel: what was ready when it came back has waited for as long as this pass has taken;
/// and where the call before did not sleep, it was work, too.
void Network::watch_load() noexcept {
    if (!defence_->load.watches()) return;
    const std::uint64_t begun = reactor_->now_ns();
    const std::uint64_t now = reactor_->kernel().monotonic_ns();
    const std::uint64_t sleeps = reactor_->counters().sleeps.value();
    std::uint64_t latency = now - begun;
    const bool worked = defence_->sleeps == sleeps && reactor_->options().spin.count() == 0;
    if (worked && defence_->entered_ns != 0) latency += begun - defence_->entered_ns;
    defence_->entered_ns = now;
    defence_->sleeps = sleeps;
    defence_->load.turn(latency, now);
    if (defence_->load.overloaded(now) != (counters_.overloaded.value() != 0)) tell_load();
}

/// What follows from the answer; while it is overloaded it is asked again, because an idle loop has no passes.
void Network::tell_load() noexcept {
    const bool overloaded = defence_->load.overloaded(reactor_->now_ns());
    if (overloaded && counters_.overloaded.value() == 0) counters_.overloads.add();
    counters_.overloaded.set(overloaded ? 1 : 0);
    if (overloaded) {
        try {
            reactor_->timers().arm(*defence_,
                                   reactor_->now_ns() + std::max<std::uint64_t>(defence_->load.interval_ns(), 1));
        } catch (const std::bad_alloc&) {
            // Then the next pass looks.
        }
    } else {
        reactor_->timers().disarm(*defence_);
    }
    if (options_.overload_excess != Excess::wait) return;
    for (const auto& listener : listeners_) listener->hold(overloaded);
}

}  // namespace ferrule::inline v0
