#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/server/server.hpp>

#include "sim/workloads/workload.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ferrule_test {

/// A server under test, and its clients: the server runs until the last client has ended, then it is stopped, by a
/// signal or by a call. What must hold of every server is checked at its end.
class ServerProgram {
public:
    ServerProgram(WorkloadRun& run, ferrule::ServerOptions options) : run_(&run), options_(std::move(options)) {}
    ServerProgram(const ServerProgram&) = delete;
    ServerProgram& operator=(const ServerProgram&) = delete;

    /// The handler of all connections.
    void on_connection(ferrule::ConnectionHandler handler) { handler_ = std::move(handler); }
    /// Called on each reactor before it accepts.
    void on_start(std::function<void(ferrule::Reactor&)> function) { on_start_ = std::move(function); }
    /// Another port, in the place of the first: a Unix socket.
    void listen(ferrule::PortOptions port) { port_ = std::move(port); }
    /// Called when the server has ended.
    void on_end(std::function<void()> function) { on_end_ = std::move(function); }
    /// Exceptions may leave handlers, and reactors may fail: an operation that must not fail is made to.
    void may_fault() noexcept { may_fault_ = true; }

    /// A client: it begins when the server listens, and does not when the server could not start.
    void client(std::string name, std::size_t machine, std::function<void()> program);
    /// The number of machines that clients are spread over.
    static constexpr std::size_t client_machines = 3;

    /// Begins: no more clients.
    void start();

    // For clients.

    /// What to connect to.
    [[nodiscard]] ferrule::Address address();
    /// Asks the server to end, by a signal or by a call; again by a call, because a signal that comes when the server
    /// has just ended would end its process.
    void stop();
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }
    /// Whether the server has ended.
    [[nodiscard]] bool ended() const noexcept { return ended_; }

private:
    void serve();
    void check(const ferrule::ServerCounters& counted) const;

    WorkloadRun* run_;
    ferrule::ServerOptions options_;
    ferrule::ConnectionHandler handler_;
    std::function<void(ferrule::Reactor&)> on_start_;
    std::function<void()> on_end_;
    std::optional<ferrule::PortOptions> port_;
    ferrule::Server* server_ = nullptr;
    std::optional<ferrule::Address> bound_;
    std::uint64_t clients_ = 0;
    bool may_fault_ = false;
    bool stop_by_signal_ = false;
    bool stopped_ = false;
    bool ended_ = false;
};

}  // namespace ferrule_test
