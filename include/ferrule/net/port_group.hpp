#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <mutex>
#include <vector>

namespace ferrule::inline v0 {

/// The listening sockets of this process that share one TCP port (SO_REUSEPORT), one for each reactor, in the order in
/// which the kernel keeps them: the order of their listen calls, where the last one takes the place of one that is
/// closed.
///
/// It lets one of them leave before it is closed, so that no client is given to it any more: closing resets the clients
/// that the socket has been given and has not accepted. Any thread; nothing of it is called for a connection.
///
/// It knows this process's sockets only: where another process shares the port too, the kernel goes on choosing among
/// all of them, and leaving does nothing.
class FERRULE_EXPORT PortGroup {
public:
    /// Sockets of another process share the port, so that the order is not known.
    explicit PortGroup(bool shared_with_others = false) noexcept : shared_with_others_(shared_with_others) {}
    PortGroup(const PortGroup&) = delete;
    PortGroup& operator=(const PortGroup&) = delete;

    /// Adds a socket right after its listen call.
    void add(int descriptor);

    /// Makes the kernel choose among the other sockets only (SO_ATTACH_REUSEPORT_CBPF, socket(7)). False when there are
    /// none, when the order is not known, or when the kernel refuses: new clients may still come then.
    bool leave(Kernel& kernel, int descriptor) noexcept;

    /// Makes the kernel choose among the first `count` sockets only, as above; among all of them when there are no
    /// more, also where an earlier program of whatever process chose otherwise.
    bool select_first(Kernel& kernel, std::size_t count) noexcept;

    /// Closes the socket. The others are chosen as before, by the hash of the connection's addresses.
    void close(Kernel& kernel, int descriptor) noexcept;

    /// Takes the socket of a reactor that has failed out of the port at once, with shutdown(2): the clients that it was
    /// given and has not accepted are reset, and new ones go to the others. The descriptor stays open.
    void abandon(Kernel& kernel, int descriptor) noexcept;

    /// The sockets, in their order.
    [[nodiscard]] std::vector<int> descriptors() const;
    /// Whether the kernel has them in that order, and no others.
    [[nodiscard]] bool order_is_known() const noexcept { return !shared_with_others_; }
    /// Sockets in the group.
    [[nodiscard]] std::size_t size() const noexcept;

private:
    void remove(int descriptor) noexcept;

    mutable std::mutex mutex_;
    std::vector<int> descriptors_;
    bool shared_with_others_;
    bool selecting_ = false;  // a program of ours is attached
};

}  // namespace ferrule::inline v0
