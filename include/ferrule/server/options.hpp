#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/version.hpp>

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace ferrule::inline v0 {

/// An option that cannot be: `ServerOptions.port: 70000 is not in 0 to 65535`. Thrown where the option is given.
class FERRULE_EXPORT ConfigurationError : public std::invalid_argument {
public:
    /// `field` as the user wrote it, `reason` after the colon.
    ConfigurationError(const std::string& field, const std::string& reason)
        : std::invalid_argument(field + ": " + reason) {}
};

/// Something that cannot start: a port that is taken, a kernel that refuses a ring, an on_start hook that threw. The
/// message names it.
class FERRULE_EXPORT StartError : public std::runtime_error {
public:
    StartError(const std::string& message, std::error_code code) : std::runtime_error(message), code_(code) {}
    /// The system's reason; none when it was not the system's.
    [[nodiscard]] std::error_code code() const noexcept { return code_; }

private:
    std::error_code code_;
};

/// How connections come to the reactors.
enum class AcceptMode : std::uint8_t {
    /// Each reactor has a listening socket of its own on the port, and the kernel chooses among them by the
    /// connection's addresses. Unix
    /// sockets and inherited descriptors cannot be shared so: they are handed over round robin.
    per_reactor,
    /// The first reactor accepts and hands over, to each in turn.
    hand_over_round_robin,
    /// The first reactor accepts and hands over to the one that has the fewest connections.
    hand_over_least_loaded,
};

/// A port that a server listens on.
struct PortOptions {
    /// An address as Address::parse reads it: `127.0.0.1`, `::1`, `localhost`, `unix:/run/server.socket`. Nothing:
    /// every address of the machine, IPv6 and IPv4; 0.0.0.0 where there is no IPv6.
    std::string host{};
    /// TCP port; 0: the system chooses one. Not used for Unix sockets.
    std::int32_t port = 8080;
    /// See ListenSocketOptions::backlog.
    std::int32_t backlog = 4096;
    /// See ListenSocketOptions::dual_stack.
    bool dual_stack = true;
    /// See ListenSocketOptions::defer_accept.
    bool defer_accept = false;
    /// See ListenSocketOptions::defer_accept_seconds.
    std::uint32_t defer_accept_seconds = 1;
    /// See ListenSocketOptions::take_over.
    bool take_over = false;
    /// See ListenSocketOptions::unix_mode.
    std::uint32_t unix_mode = 0;
    /// A socket that listens already, inherited from a parent. From Server::listen on it belongs to the server; the
    /// fields above are not used. -1: none.
    std::int32_t descriptor = -1;
    /// The name of the sockets that systemd may have passed for this port (FileDescriptorName= of the socket unit): it
    /// accepts from all of that name, and the fields above are not used; where systemd has passed none, they are. See
    /// ServerOptions::systemd.
    std::string socket_name{};
    /// How its connections come to the reactors.
    AcceptMode accept_mode = AcceptMode::per_reactor;
    /// What stands in front of it: see ListenSocketOptions::proxy.
    ProxyOptions proxy{};
};

/// How a server is set up. Each field has a sane default; one that cannot be is refused by Server's constructor with an
/// error that names it. Those of the first port are for the handler of Server::on_connection; more ports come with
/// Server::listen.
struct ServerOptions {
    /// The first port: see PortOptions, field by field.
    std::string host{};
    std::int32_t port = 8080;
    /// Threads, each with a ring of its own; 0: one for each CPU that the calling thread may use. At most 1024.
    std::uint32_t reactors = 0;
    /// Binds each reactor's thread to a CPU, in the order of the CPUs that the calling thread may use.
    bool pin_reactors = false;
    /// Binds each reactor's thread to one of these CPUs, in turn. With `reactors` 0 there is a reactor for each. None:
    /// not bound. The system says at the start if the process may not use one.
    std::vector<int> cpus{};
    /// The CPUs of the threads that ReactorOptions::submission_poll makes, in turn; instead of
    /// ReactorOptions::submission_poll_cpu.
    std::vector<int> submission_poll_cpus{};
    std::int32_t backlog = 4096;
    bool dual_stack = true;
    bool defer_accept = false;
    std::uint32_t defer_accept_seconds = 1;
    bool take_over = false;
    std::uint32_t unix_mode = 0;
    AcceptMode accept_mode = AcceptMode::per_reactor;
    std::string socket_name{};
    ProxyOptions proxy{};

    /// How long connections may take to end when the server is stopped; then the rest is cancelled. 0: they are
    /// cancelled at once.
    std::chrono::milliseconds drain_timeout{10'000};
    /// Server::run takes SIGTERM and SIGINT, as Server::stop, and with Server::on_reload also SIGHUP, as
    /// Server::reload; it gives them back at its end. At most one server of a process should.
    bool handle_signals = true;

    /// Server::run speaks with systemd, where that has started the process; it does nothing elsewhere. At most one
    /// server of a process should.
    ///
    /// It tells what sd_notify(3) tells (NOTIFY_SOCKET), and feeds the watchdog (WATCHDOG_USEC): see Server::run.
    ///
    /// Sockets that systemd has passed (take_inherited_sockets) become ports. A port with a `socket_name` takes all of
    /// that name. The others take one each, in the order in which they were given; when there is only one other, it
    /// takes all that are left. Those of a PortOptions::descriptor stay what they are. A socket that no port takes is a
    /// StartError; a port for which there is none is opened as its options say.
    bool systemd = true;

    /// Handlers that keep their reactor's thread for so long are reported, with their names and stacks: see
    /// StallDetector, Server::on_stall. At least a millisecond. 0: nobody watches.
    std::chrono::milliseconds stall_threshold{0};
    /// The signal that asks a stuck thread for its stack: StallDetectorOptions::signal. Only with a stall_threshold.
    std::int32_t stall_signal = SIGURG;

    /// The path of a Unix socket by which a server hands its ports to the next one without a gap. Server::run first
    /// takes over from the server that serves this path: it gets its listening sockets, starts, and when it accepts,
    /// the other one accepts no more and drains. Where nobody serves the path, it opens its ports. Then it serves the
    /// path itself. Empty: neither.
    ///
    /// Ports are the same when their addresses are. What the running server has and this one has not is closed there
    /// when its queue is empty, and what only this one has is opened. The numbers of reactors may differ. When this one
    /// cannot start, the running one goes on as if nothing had happened.
    ///
    /// The socket has the mode 0600, and both sides ask whose the other is (SO_PEERCRED): the same user's, or root's.
    std::string restart_path{};
    /// How long either side waits for the other one while ports are handed over; a new server that takes longer to
    /// start is refused.
    std::chrono::milliseconds restart_timeout{30'000};

    /// Every reactor's ring, mailbox, budget and spin.
    ReactorOptions reactor{};
    /// Every reactor's connections: their limit, buffers, memory and timeouts, and how they are defended.
    /// NetworkOptions::address_limits holds for all reactors together.
    NetworkOptions network{};
};

/// Throws ConfigurationError for the first field that cannot be. Server's constructor does this.
FERRULE_EXPORT void validate(const ServerOptions& options);

/// As above, for a port; Server::listen does this.
FERRULE_EXPORT void validate(const PortOptions& options);

}  // namespace ferrule::inline v0
