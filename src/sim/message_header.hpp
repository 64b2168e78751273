#pragma once

#include "sim/file.hpp"
#include "sim/ownership.hpp"

#include <linux/openat2.h>
#include <sys/socket.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace ferrule::inline v0::sim {

/// What the header of a message (sendmsg(2), recvmsg(2)) said when its request was submitted: Linux copies the header,
/// its vector and a name that is sent or connected to, so that only what these point to stays the request's.
struct MessageHeader {
    std::vector<std::span<std::byte>> parts;
    /// Of all parts.
    std::size_t length = 0;
    /// Of what is sent: its name and control messages. Of what is received: the room for control messages.
    Ancillary with;
    /// Of what is received: the program's header, where the kernel writes lengths and flags, and its room for a name.
    msghdr* header = nullptr;
    std::span<std::byte> name;
    /// Of an operation on a path: its copy, and how it is opened.
    std::string path;
    struct ::open_how how {};
    /// Of what a multishot receives into each buffer.
    std::size_t name_room = 0;
    /// Of the parts that are left, and of the rest, while the request waits.
    std::vector<Claim> claims;
};

}  // namespace ferrule::inline v0::sim
