#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/resume_on.hpp>

#include "sim/workloads/echo.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Host;
using ferrule::Lease;
using ferrule::Reactor;
using ferrule::Task;
using namespace std::chrono_literals;

struct Journeys {
    WorkloadRun* run;
    std::vector<Reactor*> reactors{};
    std::chrono::nanoseconds stay{};
};

Task<> go_home(Journeys* journeys, Reactor* home) {
    while (Host::current() != home) {
        const auto back = co_await journeys->run->watch(ferrule::resume_on(*home));
        if (!back) co_await journeys->run->watch(yield_once());
    }
}

// What it has read it works on elsewhere, while more arrives at home.
Task<> echo_from_elsewhere(Journeys* journeys, Connection connection) {
    WorkloadRun& run = *journeys->run;
    const TaskCount count{run};
    Reactor* home = Reactor::current();
    ferrule::sim::Random random = run.fork();
    std::string text;
    while (auto received = co_await run.watch(connection.read())) {
        text.clear();
        for (const auto slice : received) text += slice.text();
        received.reset();
        Reactor& there = *journeys->reactors[random.below(journeys->reactors.size())];
        const auto moved = co_await run.watch(ferrule::resume_on(there));
        if (moved && random.one_in(2)) static_cast<void>(co_await run.watch(ferrule::sleep_for(journeys->stay)));
        co_await run.watch(go_home(journeys, home));
        connection.write(text);
        co_await run.watch(connection.flush());
    }
}

void run_hop(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    options.reactors = run.choose({2u, 3u, 4u});
    Journeys journeys{&run};
    journeys.stay = run.choose<std::chrono::nanoseconds>({0ns, 10us, 1ms});
    ServerProgram server{run, options};
    server.on_start([&journeys](Reactor& reactor) { journeys.reactors.push_back(&reactor); });
    server.on_connection(
        [&journeys](Connection connection) { return echo_from_elsewhere(&journeys, std::move(connection)); });
    add_echo_peers(run, server, run.connections(1, 20), 16 * 1024);
    server.start();
    run.finish();
}

}  // namespace

const Workload hop_workload{"hop", "handlers that work on another reactor while data arrives at home", run_hop};

}  // namespace ferrule_test
