#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// A socket that whoever started this process has opened for it.
struct InheritedSocket {
    int descriptor = -1;
    /// FileDescriptorName= of the socket unit; without it, systemd gives the unit's own name.
    std::string name;
};

/// The sockets that systemd, or another program that speaks sd_listen_fds(3), has passed to this process, in their
/// order: LISTEN_FDS descriptors from 3 on, when LISTEN_PID is this process, with the names of LISTEN_FDNAMES; none
/// otherwise. They are the caller's from now on, and close-on-exec. LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES leave the
/// environment, so that neither a child nor a second call takes them again: no other thread may use the environment
/// meanwhile.
///
/// Server::run does this (ServerOptions::systemd). It is for programs that hold their reactors in their own hands:
///
/// ```cpp
/// for (const InheritedSocket& socket : take_inherited_sockets()) {
///     std::printf("descriptor %d is %s\n", socket.descriptor, socket.name.c_str());
/// }
/// ```
///
/// Throws StartError for variables that are no numbers, for names that are not as many as descriptors, and for a
/// descriptor that is not open; those that are open stay so then.
FERRULE_EXPORT std::vector<InheritedSocket> take_inherited_sockets(Kernel& kernel = linux_kernel());

}  // namespace ferrule::inline v0
