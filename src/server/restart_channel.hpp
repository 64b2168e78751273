#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "server/restart_message.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <expected>
#include <string>

namespace ferrule::inline v0 {

/// One end of the conversation of a take-over: messages, each with a descriptor or none. One send or receive at a time,
/// on the reactor's thread; both end with ECANCELED when their scope is cancelled.
class RestartChannel {
public:
    /// The connected socket is its own from now on.
    RestartChannel(Reactor& reactor, int descriptor) noexcept
        : kernel_(reactor.kernel()), reactor_(&reactor), descriptor_(descriptor) {}
    ~RestartChannel();
    RestartChannel(const RestartChannel&) = delete;
    RestartChannel& operator=(const RestartChannel&) = delete;

    /// It goes on on another reactor.
    void move_to(Reactor& reactor) noexcept { reactor_ = &reactor; }

    /// What is to be sent. Not while it is being sent.
    RestartMessage next;
    /// Sends it, with a descriptor that stays the caller's. 0, or an errno.
    Task<int> send(int descriptor = -1);
    /// Receives the next message into `received`, and what comes with it, close-on-exec. 0, or an errno: ECONNRESET
    /// when the other has ended, EMFILE when its descriptor could not be taken, or it sent more than one.
    Task<int> receive();

    RestartMessage received;
    /// The descriptor that came with it, which is the caller's now; -1: none did.
    int take_descriptor() noexcept;

    /// Why the other may not be listened to: it is another user's, and not root's. Empty when it may.
    [[nodiscard]] std::string stranger() const;

private:
    void prepare_send(std::size_t done, int descriptor) noexcept;
    void prepare_receive(std::size_t done) noexcept;
    void keep_descriptor() noexcept;

    Kernel& kernel_;
    Reactor* reactor_;
    int descriptor_;
    int received_descriptor_ = -1;
    // What the kernel looks at while an operation is under way.
    msghdr header_{};
    iovec piece_{};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control_{};
};

}  // namespace ferrule::inline v0
