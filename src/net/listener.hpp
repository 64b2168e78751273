#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/tag.hpp>
#include <ferrule/reactor/timer_heap.hpp>

#include "net/accept_rate.hpp"

#include <cstdint>
#include <memory>

namespace ferrule::inline v0 {

/// One listening socket of a network, accepting as long as the network takes connections: the accept is armed again
/// whenever it ends, waits while descriptors or memory are short, while the connection limit is reached, while the
/// reactor is overloaded, and when there are more than its rate allows.
class Listener : public Timer {
public:
    Listener(Network& network, std::uint16_t number, int descriptor, ConnectionHandler handler,
             std::shared_ptr<PortGroup> group, ProxyOptions proxy);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    [[nodiscard]] const ConnectionHandler& handler() const noexcept { return handler_; }
    /// What stands in front of its connections.
    [[nodiscard]] const ProxyOptions& proxy() const noexcept { return proxy_; }
    /// Whether connections are accepted before their first bytes have come: it has a socket, and that does not defer.
    [[nodiscard]] bool accepts_early() const noexcept { return accepts_early_; }
    /// Whether no completion of it is to come and its socket is closed.
    [[nodiscard]] bool ended() const noexcept { return descriptor_ < 0 && operations_ == 0; }

    /// Arms the accept where it is not armed and nothing speaks against it.
    void resume() noexcept;
    /// Stops accepting for now.
    void pause() noexcept;
    /// Stops accepting while `held`, besides.
    void hold(bool held) noexcept;
    /// Leaves the selection of its port where it can, accepts what has arrived, then closes the socket.
    void end() noexcept;
    /// Arms the accept anew, so that it looks at the queue.
    void accept_anew() noexcept;
    /// Stops accepting and closes the descriptor of a socket that goes on elsewhere.
    void release() noexcept;
    void on_completion(int result, std::uint32_t flags) noexcept;
    /// The wait for descriptors, for the last clients that it was given, or for its rate, is over.
    void on_timer() noexcept;
    static Listener& of(Timer& timer) noexcept;

private:
    enum class Stage : std::uint8_t { accepting, leaving, sweeping, closing, releasing };
    void sweep() noexcept;
    [[nodiscard]] bool may_accept() const noexcept { return !paused_ && !held_ && !throttled_; }
    /// Whether accepting waits when the rate is used up. Then it accepts one at a time: a multishot accept takes
    /// whatever is in the backlog.
    [[nodiscard]] bool takes_turns() const noexcept {
        return rate_.limits() && network_->options_.accept_excess == Excess::wait;
    }
    [[nodiscard]] bool take(int descriptor) noexcept;
    void throttle() noexcept;
    void arm_accept() noexcept;
    void cancel() noexcept;
    void back_off(int error) noexcept;
    void close_socket() noexcept;

    Network* network_;
    ConnectionHandler handler_;
    std::shared_ptr<PortGroup> group_;
    ProxyOptions proxy_;
    AcceptRate rate_;
    int descriptor_;
    std::uint16_t number_;
    Stage stage_ = Stage::accepting;
    bool accepts_early_;
    bool accept_armed_ = false;
    bool paused_ = false;
    bool held_ = false;
    bool throttled_ = false;
    std::uint8_t operations_ = 0;
};

}  // namespace ferrule::inline v0
