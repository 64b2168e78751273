#pragma once

#include <sys/socket.h>

#include <cstdint>

namespace ferrule::inline v0::sim {

/// The options of SOL_SOCKET that sockets of every family have, and what a connection inherits from its listener.
struct SocketLevelOptions {
    bool reuse_address = false;
    bool reuse_port = false;
    bool keep_alive = false;
    linger lingering{};
    /// As SO_SNDBUF and SO_RCVBUF give them: twice what was set. 0: never set.
    std::uint32_t send_buffer = 0;
    std::uint32_t receive_buffer = 0;
    std::uint64_t receive_timeout_ns = 0;
    std::uint64_t send_timeout_ns = 0;

    /// setsockopt(2) on SOL_SOCKET: 0, -EINVAL, -ENOPROTOOPT.
    int set(int name, const void* value, socklen_t length) noexcept;
    /// getsockopt(2) on SOL_SOCKET for what is kept here: 0, -EINVAL, -ENOPROTOOPT.
    int get(int name, void* value, socklen_t* length) const noexcept;
};

/// What getsockopt(2) gives for an option that is an int: cut to `*length`.
int give_option(int option, void* value, socklen_t* length) noexcept;
/// An option that is an int; false when the length is too small for one (-EINVAL).
bool take_option(const void* value, socklen_t length, int& option) noexcept;

}  // namespace ferrule::inline v0::sim
