#include <ferrule/ring/prepare.hpp>

#include "net/listener.hpp"
#include "ring/probes.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

namespace {
/// Long enough not to spin on a shortage, short enough not to be felt: a closed connection ends it earlier.
constexpr std::uint64_t back_off_ns = 100'000'000;
constexpr LogCause accept_shortage{.name = "accept-shortage"};
/// After a socket has left its port's selection: time for the handshakes that it was given to be completed.
constexpr std::uint64_t leave_ns = 20'000'000;

bool defers_accept(Kernel& kernel, int descriptor) noexcept {
    int seconds = 0;
    socklen_t size = sizeof seconds;
    // A socket that is not TCP's has no such option.
    return kernel.get_option(descriptor, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &size) >= 0 && seconds != 0;
}
}  // namespace

Listener::Listener(Network& network, std::uint16_t number, int descriptor, ConnectionHandler handler,
                   std::shared_ptr<PortGroup> group, ProxyOptions proxy)
    : network_(&network),
      handler_(std::move(handler)),
      group_(std::move(group)),
      proxy_(std::move(proxy)),
      rate_(network.options_.accept_rate, network.options_.accept_burst),
      descriptor_(descriptor),
      number_(number),
      accepts_early_(descriptor >= 0 && !defers_accept(network.reactor_->kernel(), descriptor)) {
    route = network.listener_timer_route_;
    if (descriptor_ >= 0) network.counters_.listeners.add();
}

Listener::~Listener() {
    network_->reactor_->timers().disarm(*this);
    close_socket();
}

Listener& Listener::of(Timer& timer) noexcept {
    return static_cast<Listener&>(timer);
}

void Listener::resume() noexcept {
    paused_ = false;
    if (Timer::armed() && !throttled_) network_->reactor_->timers().disarm(*this);
    if (stage_ == Stage::accepting && !accept_armed_ && descriptor_ >= 0 && may_accept()) arm_accept();
}

void Listener::pause() noexcept {
    if (paused_ || stage_ != Stage::accepting) return;
    paused_ = true;
    if (accept_armed_) cancel();
}

void Listener::hold(bool held) noexcept {
    if (held_ == held) return;
    held_ = held;
    if (stage_ != Stage::accepting || descriptor_ < 0) return;
    if (held) {
        if (accept_armed_) cancel();
    } else if (!accept_armed_ && may_accept() && !Timer::armed()) {
        arm_accept();
    }
}

void Listener::end() noexcept {
    if (stage_ == Stage::leaving && network_->shutting_down_) {
        network_->reactor_->timers().disarm(*this);
        sweep();
        return;
    }
    if (stage_ != Stage::accepting) return;
    network_->reactor_->timers().disarm(*this);
    if (descriptor_ < 0) return;
    if (group_ != nullptr && !network_->shutting_down_ && group_->leave(network_->reactor_->kernel(), descriptor_)) {
        try {
            network_->reactor_->timers().arm(*this, network_->reactor_->now_ns() + leave_ns);
            stage_ = Stage::leaving;
            paused_ = false;
            if (!accept_armed_) arm_accept();
            return;
        } catch (const std::bad_alloc&) {
            // Then it goes without waiting for handshakes that are under way.
        }
    }
    sweep();
}

void Listener::release() noexcept {
    if (stage_ != Stage::accepting) return;
    network_->reactor_->timers().disarm(*this);
    stage_ = Stage::releasing;
    group_.reset();
    if (accept_armed_) {
        cancel();
    } else {
        close_socket();
    }
}

void Listener::accept_anew() noexcept {
    // Its end arms it again.
    if (stage_ == Stage::accepting && accept_armed_) cancel();
}

void Listener::sweep() noexcept {
    stage_ = Stage::sweeping;
    // What has arrived is accepted while the accept is being armed, before its cancel is looked at.
    if (!accept_armed_) arm_accept();
    cancel();
}

void Listener::arm_accept() noexcept {
    Reactor& reactor = *network_->reactor_;
    abi::SubmissionEntry& entry = reactor.ring().entry();
    if (stage_ == Stage::accepting && takes_turns()) [[unlikely]] {
        prepare::accept(entry, descriptor_, nullptr, nullptr, SOCK_CLOEXEC);
    } else {
        prepare::accept_multishot(entry, descriptor_, nullptr, nullptr, SOCK_CLOEXEC);
    }
    entry.user_data = Tag{network_->accept_kind_, 0, number_}.encode();
    accept_armed_ = true;
    ++operations_;
}

void Listener::cancel() noexcept {
    network_->reactor_->cancel_request(Tag{network_->accept_kind_, 0, number_}.encode());
}

void Listener::close_socket() noexcept {
    if (descriptor_ < 0) return;
    const int closed = std::exchange(descriptor_, -1);
    network_->counters_.listeners.subtract();
    if (group_ != nullptr) {
        group_->close(network_->reactor_->kernel(), closed);
    } else {
        network_->reactor_->kernel().close(closed);
    }
}

/// False when there are more than the rate allows, and they are refused: then it is gone.
bool Listener::take(int descriptor) noexcept {
    if (!rate_.limits() || stage_ != Stage::accepting) [[likely]]
        return true;
    const std::uint64_t now = network_->reactor_->now_ns();
    if (!takes_turns() && !rate_.allows(now)) {
        network_->counters_.accept_refusals.add();
        network_->reset_descriptor(descriptor);
        return false;
    }
    rate_.take(now);
    return true;
}

/// When the rate is used up, accepting waits for its next turn.
void Listener::throttle() noexcept {
    Reactor& reactor = *network_->reactor_;
    if (rate_.allows(reactor.now_ns())) return;
    try {
        reactor.timers().arm(*this, rate_.next_ns());
        throttled_ = true;
        network_->counters_.accept_throttles.add();
    } catch (const std::bad_alloc&) {
        // Rather too many than none.
    }
}

void Listener::on_completion(int result, std::uint32_t flags) noexcept {
    if ((flags & abi::completion_more) == 0) {
        accept_armed_ = false;
        --operations_;
    }
    if (result >= 0) {
        network_->counters_.accepted.add();
        FERRULE_PROBE(accept, result, number_);
        if (take(result) && (!network_->hand_over_ || !network_->hand_over_(result, number_)))
            network_->serve(result, number_);
    }
    if (accept_armed_) return;
    if (stage_ == Stage::sweeping || (stage_ == Stage::closing && result >= 0)) {
        // One more turn takes what came meanwhile. What ends with a connection instead of its cancel (the completion
        // queue was full) has left some behind.
        if (result < 0) stage_ = Stage::closing;
        arm_accept();
        cancel();
        return;
    }
    if (stage_ == Stage::closing || stage_ == Stage::releasing) {
        close_socket();
        return;
    }
    if (result < 0 && result != -ECANCELED) {
        network_->counters_.accept_errors.add();
        switch (-result) {
            case ECONNABORTED:  // the peer left before it was accepted
            case EINTR:
            case EAGAIN:
            case EPROTO:
                break;
            default:
                back_off(-result);
                return;
        }
    }
    if (stage_ == Stage::accepting && takes_turns()) throttle();
    if (stage_ != Stage::accepting || may_accept()) arm_accept();
}

void Listener::back_off(int error) noexcept {
    Reactor& reactor = *network_->reactor_;
    network_->counters_.accept_backoffs.add();
    reactor.log.write(accept_shortage, "accept: %s; accepting waits and goes on by itself", std::strerror(error));
    try {
        reactor.timers().arm(*this, reactor.now_ns() + back_off_ns);
    } catch (const std::bad_alloc&) {
        arm_accept();
    }
}

void Listener::on_timer() noexcept {
    if (stage_ == Stage::leaving) {
        sweep();
        return;
    }
    throttled_ = false;
    if (stage_ == Stage::accepting && may_accept() && !accept_armed_) arm_accept();
}

}  // namespace ferrule::inline v0
