#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/stall_detector.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/drain_progress.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/server/reload.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// What a server has counted: the sums over its reactors, each from a moment of its own.
struct ServerCounters {
    std::uint64_t reactors = 0;        ///< that run now
    std::uint64_t connections = 0;     ///< open now
    std::uint64_t accepted = 0;        ///< taken from listeners
    std::uint64_t handed_over = 0;     ///< accepted by one reactor and served by another
    std::uint64_t closed = 0;          ///< ended
    std::uint64_t bytes_received = 0;  ///< delivered to connections
    std::uint64_t bytes_sent = 0;      ///< taken by the kernel
    std::uint64_t accept_errors = 0;   ///< accepts that failed
    std::uint64_t timeouts = 0;        ///< connections that a timeout ended
    std::uint64_t resets = 0;          ///< connections that their peer reset
    std::uint64_t refused = 0;  ///< connections that were closed or reset without being served, for whatever reason
    std::uint64_t faults = 0;   ///< exceptions that left a handler, and reactors that failed
    std::uint64_t stalls = 0;   ///< dispatches that lasted for ServerOptions::stall_threshold
};

/// Many reactors behind one or more ports: a thread and a ring for each, and nothing shared between them. A thin
/// convenience over what a program can do by hand with Reactor, Network and its own threads.
///
/// ```cpp
/// #include <ferrule/server.hpp>
///
/// ferrule::Task<> greet(ferrule::Connection connection) {
///     connection.write("hello\n");
///     co_return;  // the connection ends here: what was written goes out first
/// }
///
/// int main() {
///     ferrule::Server server{{.port = 8080}};
///     server.on_connection(greet);
///     return server.run();
/// }
/// ```
///
/// Members are for the thread that calls `run`, before it does, unless they say otherwise.
class FERRULE_EXPORT Server {
public:
    /// Throws ConfigurationError, which names the field, when an option cannot be.
    explicit Server(ServerOptions options = {}, Kernel& kernel = linux_kernel());
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Serves the connections of the first port, ServerOptions::host and ServerOptions::port. The handler is called on
    /// the reactor of each connection, so on several threads at once. Once: std::logic_error the second time.
    void on_connection(ConnectionHandler handler);

    /// Listens on one more port, with a handler of its own. A server with ports of this kind only does not listen on
    /// the first. Throws ConfigurationError, which names the field.
    void listen(PortOptions port, ConnectionHandler handler);

    /// Called on each reactor's thread before it accepts: the place to open clients that ride its ring. What it throws
    /// ends `run` with a StartError. Several are called in order.
    void on_start(std::function<void(Reactor&)> function);

    /// Called for each exception that leaves a handler, on its reactor's thread, and so on several at once; also with
    /// the reason when a whole reactor has failed. The default is a message of the log.
    void on_fault(std::function<void(Reactor&, std::exception_ptr)> function);

    /// Called for each message of the reactors, on their threads, and so on several at once: see Log. Those of the
    /// server's own ring have the number that follows the last reactor's. The default writes a line to standard error
    /// for each.
    void on_log(Log::Function function);

    /// Called when a handler keeps its reactor's thread for ServerOptions::stall_threshold, and again when it has let
    /// go of it; on the detector's thread: see StallDetector::on_stall. The default writes to the log.
    void on_stall(std::function<void(const StallReport&)> function);

    /// Called on the thread of `run` when every reactor has started and connections are served: the moment to say that
    /// the server is up. What it throws ends `run`, which throws it again.
    void on_listening(std::function<void()> function);

    /// Called on the thread of `run` for each reload: on SIGHUP, where ServerOptions::handle_signals says so, and for
    /// Server::reload. It reads what has to be read anew, and hands it to the reactors by Reload::on_each_reactor. What
    /// it throws is said in the log, and everything stays as it was. Several are called in order. Without such a
    /// function SIGHUP is not taken, and ends the process. Nothing else of the server happens meanwhile, and a watchdog
    /// (WATCHDOG_USEC) is not fed: what takes long should be bounded.
    void on_reload(std::function<void(Reload&)> function);

    /// Called on the thread of `run` while the server drains: when it begins, every second, and when all connections
    /// have ended. What it throws is said in the log.
    void on_drain_progress(std::function<void(const DrainProgress&)> function);

    /// Opens the ports, starts the reactors and serves until `stop`, or until SIGTERM or SIGINT
    /// (ServerOptions::handle_signals); then drains: no new connections, those that wait for a request end, the others
    /// may finish theirs, and at ServerOptions::drain_timeout what is left is cancelled. A second stop, or signal,
    /// cancels it at once. Returns 0 when all threads have ended and everything is closed; 1 when a reactor had failed
    /// meanwhile, which leaves the others serving until the stop.
    ///
    /// Once. Throws StartError when something cannot start, with everything closed again, and std::logic_error when
    /// there is no handler or the server ran before.
    ///
    /// Signals are taken by signalfd(2): they are blocked in the calling thread and in the reactors' until the end. A
    /// program that starts threads of its own before must block SIGTERM and SIGINT in them (and SIGHUP, with
    /// on_reload), or they may be delivered there.
    ///
    /// Where systemd has started the process (ServerOptions::systemd), it is told by the protocol of sd_notify(3) when
    /// the server serves, reloads, drains, and how far that is; and its watchdog as long as every reactor's loop turns.
    ///
    /// The calling thread has a small ring of its own meanwhile. When the kernel ends that ring, a moment after the
    /// return, it may interrupt a blocking call of the thread with EINTR.
    int run();

    /// Ends `run` as a signal does: it drains first; the second time it does not. Any thread, also before `run`, which
    /// then returns as soon as it has started. Not from a signal handler.
    void stop();

    /// Reloads as SIGHUP does: calls what on_reload was given, on the thread of `run`. While one is under way, it
    /// reloads once more afterwards. Nothing before the server serves, and when it ends. Any thread. Not from a signal
    /// handler.
    void reload();

    /// How many reactors it has or will have: ServerOptions::reactors, or the number of CPUs that the calling thread
    /// may use. Throws StartError when the system does not tell.
    [[nodiscard]] std::size_t reactors() const;

    /// The port that the first port is bound to: known when `run` has called on_listening. Before, and for Unix
    /// sockets, 0. Any thread.
    [[nodiscard]] std::uint16_t port() const;

    /// What the ports are bound to, in the order in which they were given: known when `run` has called on_listening.
    /// Any thread.
    [[nodiscard]] std::vector<Address> addresses() const;

    /// The live tasks of all reactors, as describe_live_tasks shows them. Any thread; while `run` runs, empty
    /// otherwise.
    [[nodiscard]] std::string describe_live_tasks() const;

    /// The counters. Any thread, also after `run`.
    [[nodiscard]] ServerCounters counters() const;

private:
    class Engine;
    std::unique_ptr<Engine> engine_;
};

}  // namespace ferrule::inline v0
