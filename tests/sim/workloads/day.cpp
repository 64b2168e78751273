#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::Network;
using ferrule::Reactor;
using ferrule::Task;
using namespace std::chrono_literals;

constexpr std::uint32_t hours = 24;
constexpr std::uint64_t hour_ns = std::chrono::nanoseconds(1h).count();
constexpr std::uint32_t peers_most = 24;
// Nobody begins anything in the last minutes of an hour, so that what was begun has ended by then.
constexpr std::uint64_t quiet_ns = std::chrono::nanoseconds(10min).count();

/// What a reactor has when nobody is connected to it. All of it must be the same after each hour.
struct Rest {
    std::uint64_t connections = 0;
    std::uint64_t operations = 0;
    std::uint64_t timers = 0;
    std::uint64_t frame_bytes = 0;
    std::uint64_t slab_bytes = 0;
    std::uint64_t buffers = 0;
    std::uint64_t leases = 0;

    bool operator==(const Rest&) const = default;

    static Rest of(const Reactor& reactor) {
        const auto& network = reactor.service<Network>();
        return {network.counters().connections.value(),
                reactor.counters().operations.value(),
                const_cast<Reactor&>(reactor).timers().size(),
                reactor.frames.live_bytes(),
                network.slabs().used_bytes(),
                network.buffers().held(),
                network.counters().leases.value()};
    }
};

/// A server for a day, and who visits it.
struct Day {
    WorkloadRun* run;
    ServerProgram* server;
    std::uint64_t began_ns = 0;
    std::uint32_t peers = 0;
    std::uint32_t hours = 0;
    // An hour is over when all peers have left.
    std::uint32_t hour = 0;
    std::uint32_t left = 0;
    std::vector<Reactor*> reactors{};
    // What answers took, of each hour.
    std::vector<std::uint64_t> waited_ns{};
    std::vector<std::uint64_t> answers{};
    // What all pools and accounts had at most by the end of each hour, in use or kept.
    std::vector<std::uint64_t> kept_bytes{};

    [[nodiscard]] std::uint64_t end_of(std::uint32_t number) const noexcept {
        return began_ns + (std::uint64_t{number} + 1) * hour_ns;
    }
};

// ---- what the server does beside its connections ----

Task<> nap(std::chrono::nanoseconds duration) {
    static_cast<void>(co_await ferrule::sleep_for(duration));
}

// A reactor's own work: deadlines that come and that do not, and messages to others.
Task<> housekeeping(Day* day, Reactor* reactor, std::uint64_t seed) {
    const TaskCount count{*day->run};
    ferrule::sim::Random random{seed};
    for (;;) {
        const auto period = std::chrono::milliseconds(random.between(1, 60'000));
        const auto slept = co_await day->run->watch(ferrule::sleep_for(period));
        if (!slept) co_return;
        auto late = ferrule::with_deadline(nap(1h), std::chrono::milliseconds(random.between(1, 50)));
        co_await day->run->watch(std::move(late));
        Reactor* other = day->reactors[random.below(day->reactors.size())];
        if (other != reactor) static_cast<void>(other->post([] {}));
    }
}

// ---- visits ----

RequestHeader next_request(ferrule::sim::Random& random, const RequestHeader& last, std::uint64_t answer_max) {
    RequestHeader request = last;
    request.sequence = last.sequence + 1;
    request.position += last.size + last.answer_size;
    request.size = static_cast<std::uint32_t>(random.below(random.one_in(10) ? 5'000 : 200));
    request.answer_size = static_cast<std::uint32_t>(random.below(answer_max));
    return request;
}

/// A visit of a peer: some requests with pauses between them, and one of several ways to go.
void visit(Day& day, std::size_t machine, ferrule::sim::Random& random, const std::string& name) {
    WorkloadRun& run = *day.run;
    auto peer = Peer::connect(run, machine, day.server->address());
    if (!peer) return run.incomplete(name + ": could not connect");
    const std::uint64_t answer_max = random.one_in(20) ? 100'000 : 2'000;
    const std::uint64_t requests = random.between(0, random.one_in(4) ? 40 : 5);
    const auto pause_max = random.one_in(3) ? 30s : 1s;
    RequestHeader request{.key = random.next(), .sequence = std::numeric_limits<std::uint32_t>::max()};
    for (std::uint64_t number = 0; number < requests; ++number) {
        request = next_request(random, request, answer_max);
        const std::uint64_t asked_ns = run.simulation().now_ns();
        if (!send_request(*peer, request) || !receive_answer(run, *peer, request))
            return run.incomplete(name + ": a request was not answered");
        day.waited_ns[day.hour] += run.simulation().now_ns() - asked_ns;
        ++day.answers[day.hour];
        run.pause(std::chrono::nanoseconds(random.below(std::chrono::nanoseconds(pause_max).count())));
    }
    switch (random.below(4)) {
        case 0:  // in the middle of a request, which is its own affair
            static_cast<void>(peer->send(request.bytes().first(sizeof request / 2)));
            peer->reset();
            break;
        case 1:
            peer->close();
            break;
        default:
            peer->shutdown_sending();
            if (peer->receive_to_end() != 0) run.find(name + ": there is something behind the last answer");
            break;
    }
}

void live_through(Day& day, std::size_t machine, std::uint64_t seed, const std::string& name) {
    WorkloadRun& run = *day.run;
    ferrule::sim::Random random{seed};
    while (day.hour < day.hours) {
        const std::uint32_t hour = day.hour;
        for (;;) {
            run.pause(std::chrono::milliseconds(random.below(random.one_in(3) ? 300'000 : 20'000)));
            if (run.simulation().now_ns() + quiet_ns >= day.end_of(hour)) break;
            visit(day, machine, random, name);
        }
        ++day.left;
        if (!run.wait_until([&day, hour] { return day.hour != hour; }, "the end of an hour")) return;
    }
}

// ---- the end of an hour ----

std::uint64_t kept_bytes(const Day& day) {
    std::uint64_t sum = 0;
    for (const Reactor* reactor : day.reactors) sum += reactor->memory_account.used_bytes();
    return sum;
}

void keep_the_hours(Day& day) {
    WorkloadRun& run = *day.run;
    std::vector<Rest> at_rest;
    for (const Reactor* reactor : day.reactors) at_rest.push_back(Rest::of(*reactor));
    const std::uint32_t descriptors = run.server_machine().descriptors();
    const auto rests = [&] {
        for (std::size_t index = 0; index < at_rest.size(); ++index) {
            if (Rest::of(*day.reactors[index]) != at_rest[index]) return false;
        }
        return run.server_machine().descriptors() == descriptors;
    };
    while (day.hour < day.hours) {
        if (!run.wait_until([&day] { return day.left == day.peers; }, "the peers' leaving")) return;
        if (!run.wait_until(rests, "a server that has after hour " + std::to_string(day.hour) + " what it had before"))
            return;
        day.kept_bytes.push_back(kept_bytes(day));
        day.left = 0;
        ++day.hour;
    }
}

// An hour has its chances; a day that drifts has more of everything in its second half than in its first.
void look_for_drift(const Day& day) {
    const auto half = static_cast<std::ptrdiff_t>(day.hours / 2);
    if (half == 0) return;
    const auto middle = day.kept_bytes.begin() + half;
    const std::uint64_t kept_before = *std::max_element(day.kept_bytes.begin(), middle);
    const std::uint64_t kept_after = *std::max_element(middle, day.kept_bytes.end());
    if (kept_after > kept_before + kept_before / 2)
        day.run->find("memory has grown from " + std::to_string(kept_before) + " to " + std::to_string(kept_after));
    const auto mean = [&day](std::ptrdiff_t from, std::ptrdiff_t to) {
        std::uint64_t waited = 0;
        std::uint64_t answers = 0;
        for (std::ptrdiff_t hour = from; hour < to; ++hour) {
            waited += day.waited_ns[static_cast<std::size_t>(hour)];
            answers += day.answers[static_cast<std::size_t>(hour)];
        }
        return answers == 0 ? 0 : waited / answers;
    };
    const std::uint64_t before = mean(0, half);
    const std::uint64_t after = mean(half, static_cast<std::ptrdiff_t>(day.hours));
    if (after > before + before / 2)
        day.run->find("an answer took " + std::to_string(before) + " ns, and now " + std::to_string(after));
}

void run_day(WorkloadRun& run) {
    // Each hour may take a little longer than an hour.
    run.time_limit(std::chrono::hours(2 * hours));
    ServerProgram server{run, run.server_options()};
    Day day{&run, &server};
    day.hours = run.messages(hours, hours);
    day.peers = run.connections(2, peers_most);
    day.waited_ns.resize(day.hours);
    day.answers.resize(day.hours);
    server.on_connection([&run](Connection connection) { return serve_requests(&run, std::move(connection)); });
    server.on_start([&day](Reactor& reactor) {
        day.reactors.push_back(&reactor);
        reactor.spawn(housekeeping(&day, &reactor, day.run->random().next()));
    });
    for (std::uint32_t index = 0; index < day.peers; ++index) {
        const std::string name = "visitor " + std::to_string(index);
        const std::size_t machine = index % ServerProgram::client_machines;
        server.client(name, machine,
                      [&day, machine, name, seed = run.random().next()] { live_through(day, machine, seed, name); });
    }
    server.client("keeper of the hours", 0, [&day] { keep_the_hours(day); });
    day.began_ns = run.simulation().now_ns();
    server.start();
    run.finish();
    if (run.result().findings.empty() && day.kept_bytes.size() == day.hours) look_for_drift(day);
}

}  // namespace

const Workload day_workload{"day", "24 hours of visits, of which none may leave anything behind; by name only", run_day,
                            true};

}  // namespace ferrule_test
