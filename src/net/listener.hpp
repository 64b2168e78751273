#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/tag.hpp>
#include <ferrule/reactor/timer_heap.hpp>

#include <cstdint>
#include <memory>

namespace ferrule::inline v0 {

/// One listening socket of a network, accepting as long as the network takes connections: the accept is armed again
/// whenever it ends, waits while descriptors or memory are short, and while the connection limit is reached.
class Listener : public Timer {
public:
    Listener(Network& network, std::uint16_t number, int descriptor, ConnectionHandler handler,
             std::shared_ptr<PortGroup> group);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    [[nodiscard]] const ConnectionHandler& handler() const noexcept { return handler_; }
    /// Whether connections are accepted before their first bytes have come: it has a socket, and that does not defer.
    [[nodiscard]] bool accepts_early() const noexcept { return accepts_early_; }
    /// Whether no completion of it is to come and its socket is closed.
    [[nodiscard]] bool ended() const noexcept { return descriptor_ < 0 && operations_ == 0; }

    /// Arms the accept where it is not armed and nothing speaks against it.
    void resume() noexcept;
    /// Stops accepting for now.
    void pause() noexcept;
    /// Leaves the selection of its port where it can, accepts what has arrived, then closes the socket.
    void end() noexcept;
    /// Arms the accept anew, so that it looks at the queue.
    void accept_anew() noexcept;
    /// Stops accepting and closes the descriptor of a socket that goes on elsewhere.
    void release() noexcept;
    void on_completion(int result, std::uint32_t flags) noexcept;
    /// The wait for descriptors, or for the last clients that it was given, is over.
    void on_timer() noexcept;
    static Listener& of(Timer& timer) noexcept;

private:
    enum class Stage : std::uint8_t { accepting, leaving, sweeping, closing, releasing };
    void sweep() noexcept;
    void arm_accept() noexcept;
    void cancel() noexcept;
    void back_off(int error) noexcept;
    void close_socket() noexcept;

    Network* network_;
    ConnectionHandler handler_;
    std::shared_ptr<PortGroup> group_;
    int descriptor_;
    std::uint16_t number_;
    Stage stage_ = Stage::accepting;
    bool accepts_early_;
    bool accept_armed_ = false;
    bool paused_ = false;
    std::uint8_t operations_ = 0;
};

}  // namespace ferrule::inline v0
