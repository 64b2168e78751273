#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/sim/socket.hpp>
#include <ferrule/task/when_all.hpp>

#include "sim/workloads/echo.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::ReadHalf;
using ferrule::Task;
using ferrule::WriteHalf;
using namespace std::chrono_literals;

constexpr std::uint16_t backend_port = 9000;
constexpr std::size_t backend_machine = 0;
constexpr auto patience = 100ms;
constexpr unsigned attempts_max = 10;

/// A server that passes everything to another one and back.
struct Gateway {
    WorkloadRun* run;
    bool over = false;
};

// ---- the backend: an echo of plain blocking sockets ----

void echo_plainly(ferrule::sim::Socket& socket) {
    for (;;) {
        const auto received = socket.receive();
        if (!received || received->empty() || !socket.send(*received)) return;
    }
}

void serve_backend(Gateway& gateway) {
    WorkloadRun& run = *gateway.run;
    ferrule::sim::Machine& machine = run.client_machine(backend_machine);
    auto listener = ferrule::sim::ListenSocket::open(machine, machine.ipv4(backend_port));
    if (!listener) return run.find("the backend cannot listen: " + listener.error().message());
    std::vector<std::unique_ptr<ferrule::ThreadHandle>> threads;
    while (!gateway.over) {
        auto accepted = listener->accept(static_cast<std::uint64_t>(std::chrono::nanoseconds(patience).count()));
        if (!accepted) continue;
        auto socket = std::make_shared<ferrule::sim::Socket>(std::move(*accepted));
        threads.push_back(machine.kernel().start_thread("backend", [socket] { echo_plainly(*socket); }));
    }
    for (const auto& thread : threads) thread->join();
}

// ---- the gateway ----

std::expected<int, std::error_code> connect_once(WorkloadRun& run) {
    ferrule::Kernel& kernel = run.server_machine().kernel();
    const int descriptor = kernel.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return std::unexpected(std::error_code(-descriptor, std::system_category()));
    const auto address = run.client_machine(backend_machine).ipv4(backend_port);
    if (const int result = kernel.connect(descriptor, address.data(), address.size()); result < 0) {
        kernel.close(descriptor);
        return std::unexpected(std::error_code(-result, std::system_category()));
    }
    return descriptor;
}

// On a thread of its own: it blocks. The backend may not have begun to listen.
std::expected<int, std::error_code> connect_to_backend(WorkloadRun& run) {
    for (unsigned attempt = 1;; ++attempt) {
        const auto connected = connect_once(run);
        if (connected || attempt == attempts_max) return connected;
        run.pause(1ms);
    }
}

Task<> pass_on(WorkloadRun* run, ReadHalf from_half, WriteHalf to_half) {
    // Locals: parameters live as long as the task, and the end of the writing half is what the other side waits for.
    ReadHalf from = std::move(from_half);
    WriteHalf to = std::move(to_half);
    while (auto received = co_await run->watch(from.read())) {
        for (const auto slice : received) to.write(slice);
        received.reset();
        const auto flushed = co_await run->watch(to.flush());
        if (!flushed) co_return;
    }
}

Task<> pass_both_ways(Gateway* gateway, Connection client) {
    WorkloadRun& run = *gateway->run;
    const TaskCount count{run};
    const auto connecting = [&run] { return connect_to_backend(run); };
    const auto connected = co_await run.watch(ferrule::offload(connecting));
    if (!connected || !*connected) co_return;
    auto backend = ferrule::Network::of(client.reactor()).open(**connected);
    if (!backend) {
        run.server_machine().kernel().close(**connected);
        co_return;
    }
    ++run.connections_opened;
    auto [client_reads, client_writes] = std::move(client).split();
    auto [backend_reads, backend_writes] = std::move(*backend).split();
    auto there = pass_on(&run, std::move(client_reads), std::move(backend_writes));
    auto back = pass_on(&run, std::move(backend_reads), std::move(client_writes));
    co_await run.watch(ferrule::when_all(std::move(there), std::move(back)));
}

void run_gateway(WorkloadRun& run) {
    Gateway gateway{&run};
    ServerProgram server{run, run.server_options()};
    server.on_connection([&gateway](Connection connection) { return pass_both_ways(&gateway, std::move(connection)); });
    add_echo_peers(run, server, run.connections(1, 15), 32 * 1024);
    run.client("backend", backend_machine, [&gateway] { serve_backend(gateway); });
    server.on_end([&gateway] { gateway.over = true; });
    server.start();
    run.finish();
}

}  // namespace

const Workload gateway_workload{"gateway", "a server that passes everything to another one, and back", run_gateway};

}  // namespace ferrule_test
