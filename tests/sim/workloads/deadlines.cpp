#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_any.hpp>

#include "sim/workloads/peer.hpp"
#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Reactor;
using ferrule::Task;
using namespace std::chrono_literals;

// Later than this after its time is a lost deadline, whatever the faults do to a reactor meanwhile.
constexpr auto late = 5s;
// The timeouts of connections are counted in ticks of about a millisecond, from the pass in which they begin.
constexpr auto early = 5ms;

/// What a sleeper does, and what must come of it.
struct Sleeper {
    WorkloadRun* run;
    std::chrono::nanoseconds duration{};
    std::chrono::nanoseconds deadline{};
    std::chrono::nanoseconds inner_deadline{};
    std::uint64_t* ended;
};

void check_time(WorkloadRun& run, std::uint64_t began_ns, std::chrono::nanoseconds expected, const char* what) {
    const auto passed = std::chrono::nanoseconds(run.simulation().now_ns() - began_ns);
    if (passed >= expected && passed <= expected + late) return;
    run.find(std::string(what) + " of " + std::to_string(expected.count()) + " ns has ended after " +
             std::to_string(passed.count()) + " ns");
}

Task<> plain_sleep(Sleeper sleeper) {
    const TaskCount count{*sleeper.run};
    const std::uint64_t began = sleeper.run->simulation().now_ns();
    const auto slept = co_await sleeper.run->watch(ferrule::sleep_for(sleeper.duration));
    if (!slept) sleeper.run->find("a sleep has ended with " + slept.error().message());
    check_time(*sleeper.run, began, sleeper.duration, "a sleep");
    ++*sleeper.ended;
}

Task<> sleep_with_deadline(Sleeper sleeper) {
    const TaskCount count{*sleeper.run};
    const std::uint64_t began = sleeper.run->simulation().now_ns();
    const auto slept =
        co_await sleeper.run->watch(ferrule::with_deadline(ferrule::sleep_for(sleeper.duration), sleeper.deadline));
    // Where both come in the same pass, either may win.
    if (!slept) {
        check_time(*sleeper.run, began, sleeper.deadline, "a deadline");
    } else {
        check_time(*sleeper.run, began, sleeper.duration, "a sleep under a deadline");
        sleeper.run->expect(sleeper.duration <= sleeper.deadline + late, "a sleep has outlived its deadline");
    }
    ++*sleeper.ended;
}

Task<> sleep_with_two_deadlines(Sleeper sleeper) {
    const TaskCount count{*sleeper.run};
    const std::uint64_t began = sleeper.run->simulation().now_ns();
    auto inner = ferrule::with_deadline(ferrule::sleep_for(sleeper.duration), sleeper.inner_deadline);
    const auto slept = co_await sleeper.run->watch(ferrule::with_deadline(std::move(inner), sleeper.deadline));
    const auto earliest = std::min({sleeper.duration, sleeper.inner_deadline, sleeper.deadline});
    check_time(*sleeper.run, began, earliest, "the earliest of a sleep and two deadlines");
    if (slept) sleeper.run->expect(sleeper.duration <= earliest + late, "a sleep has outlived its deadlines");
    ++*sleeper.ended;
}

Task<> sleep_a_while(Sleeper sleeper, std::chrono::nanoseconds duration) {
    const TaskCount count{*sleeper.run};
    static_cast<void>(co_await sleeper.run->watch(ferrule::sleep_for(duration)));
}

Task<> sleep_race(Sleeper sleeper) {
    const TaskCount count{*sleeper.run};
    const std::uint64_t began = sleeper.run->simulation().now_ns();
    auto first = sleep_a_while(sleeper, sleeper.duration);
    auto second = sleep_a_while(sleeper, sleeper.deadline);
    co_await sleeper.run->watch(ferrule::when_any(std::move(first), std::move(second)));
    check_time(*sleeper.run, began, std::min(sleeper.duration, sleeper.deadline), "the first of two sleeps");
    ++*sleeper.ended;
}

// Most are short; some take an hour.
std::chrono::nanoseconds any_duration(ferrule::sim::Random& random) {
    constexpr std::array<std::uint64_t, 5> most_ns = {1, 1'000, 5'000'000, 30'000'000'000, 3'600'000'000'000};
    return std::chrono::nanoseconds(random.below(most_ns[random.below(most_ns.size())] + 1));
}

void run_sleepers(WorkloadRun& run) {
    const std::uint32_t sleepers = run.connections(1, 400);
    ReactorProgram program{run, run.random().between(1, 2), run.reactor_options(), run.network_options()};
    std::uint64_t ended = 0;
    program.on_start([&run, &ended, sleepers](Reactor& reactor) {
        ferrule::sim::Random random = run.fork();
        for (std::uint32_t index = 0; index < sleepers; ++index) {
            const Sleeper sleeper{&run, any_duration(random), any_duration(random), any_duration(random), &ended};
            switch (random.below(4)) {
                case 0:
                    reactor.spawn(plain_sleep(sleeper));
                    break;
                case 1:
                    reactor.spawn(sleep_with_deadline(sleeper));
                    break;
                case 2:
                    reactor.spawn(sleep_with_two_deadlines(sleeper));
                    break;
                default:
                    reactor.spawn(sleep_race(sleeper));
                    break;
            }
        }
    });
    const std::size_t reactors = program.size();
    program.until([&ended, sleepers, reactors] { return ended == sleepers * reactors; });
    program.start();
    run.finish();
    run.messages_checked += ended;
}

// ---- the timeouts of connections ----

struct Silence {
    WorkloadRun* run;
    std::chrono::milliseconds idle{};
    std::chrono::milliseconds read{};
    std::chrono::nanoseconds deadline{};
};

// Which of the two came: the deadline of the read, or the timeout of the connection.
void check_timeout(const Silence& silence, std::uint64_t read_since, std::chrono::nanoseconds timeout,
                   std::uint64_t timeout_since) {
    const std::uint64_t now = silence.run->simulation().now_ns();
    const auto by_deadline = std::chrono::nanoseconds(now - read_since) - silence.deadline;
    const auto by_timeout = std::chrono::nanoseconds(now - timeout_since) - timeout;
    silence.run->expect(std::max(by_deadline, by_timeout) >= -early, "a timeout has come too early");
    silence.run->expect(by_deadline <= late && by_timeout <= late, "a timeout has come late");
}

// Reads messages of eight bytes; the peer may stop before one, in its middle, or behind it.
Task<> wait_for_messages(Silence* silence, Connection connection) {
    WorkloadRun& run = *silence->run;
    const TaskCount count{run};
    constexpr std::size_t message_bytes = 8;
    std::uint64_t read_since = run.simulation().now_ns();
    std::uint64_t message_since = read_since;
    std::size_t carried = 0;
    for (;;) {
        auto received = co_await run.watch(ferrule::with_deadline(connection.read(), silence->deadline));
        if (!received) break;
        read_since = run.simulation().now_ns();
        const std::size_t size = received.size();
        // What is carried and a part of what has come: another message began with it.
        if (carried == 0 || size >= message_bytes) message_since = read_since;
        carried = size % message_bytes;
        received.consume(size - carried);
        received.reset();
    }
    if (connection.end_reason() == EndReason::deadline)
        check_timeout(*silence, read_since, carried == 0 ? silence->idle : silence->read,
                      carried == 0 ? read_since : message_since);
}

void run_silence(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    Silence silence{&run};
    silence.idle = run.choose<std::chrono::milliseconds>({5ms, 300ms, 20s});
    silence.read = run.choose<std::chrono::milliseconds>({5ms, 300ms, 20s});
    silence.deadline = run.choose<std::chrono::nanoseconds>({1ms, 100ms, 10s, 1h});
    options.network.idle_timeout = silence.idle;
    options.network.read_timeout = silence.read;
    ServerProgram server{run, options};
    server.on_connection(
        [&silence](Connection connection) { return wait_for_messages(&silence, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, 100);
    for (std::uint32_t index = 0; index < peers; ++index) {
        const std::size_t machine = index % ServerProgram::client_machines;
        const std::uint64_t bytes = run.random().below(30);
        const auto pause = any_duration(run.random()) / 100;
        server.client("silent peer " + std::to_string(index), machine, [&run, &server, machine, bytes, pause] {
            auto peer = Peer::connect(run, machine, server.address());
            if (!peer) return;
            for (std::uint64_t sent = 0; sent < bytes; ++sent) {
                if (!peer->send("x")) break;
                run.pause(pause);
            }
            // It says nothing more, and does not leave: the server must.
            peer->receive_to_end();
            ++run.messages_checked;
        });
    }
    server.start();
    run.finish();
}

void run_deadlines(WorkloadRun& run) {
    if (run.random().one_in(2)) {
        run_sleepers(run);
    } else {
        run_silence(run);
    }
}

}  // namespace

const Workload deadlines_workload{"deadlines", "sleeps, nested deadlines and timeouts of connections, hundreds at once",
                                  run_deadlines};

}  // namespace ferrule_test
