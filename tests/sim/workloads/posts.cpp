#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/resume_on.hpp>

#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Host;
using ferrule::Reactor;
using ferrule::Task;
using namespace std::chrono_literals;

/// Everything that goes from reactor to reactor, counted on both sides.
struct Traffic {
    WorkloadRun* run;
    ReactorProgram* program;
    std::uint64_t posts_taken = 0;
    std::uint64_t posts_run = 0;
    std::uint64_t tasks = 0;
    std::uint64_t tasks_over = 0;
    /// By sender, then receiver: the number of the last post that ran.
    std::vector<std::vector<std::uint64_t>> last{};

    [[nodiscard]] bool over() const noexcept { return posts_run == posts_taken && tasks_over == tasks; }
};

/// What one task does.
struct Trip {
    Traffic* traffic;
    std::uint64_t seed = 0;
    std::uint32_t steps = 0;
    std::size_t sender = 0;
};

// Posts of one sender to one receiver run in the order in which they were sent.
void post_once(const Trip& trip, std::size_t receiver, std::uint64_t number) {
    Traffic& traffic = *trip.traffic;
    Reactor& target = traffic.program->reactor(receiver);
    const bool taken = target.post([&traffic, &target, sender = trip.sender, receiver, number] {
        ++traffic.posts_run;
        traffic.run->expect(Host::current() == &target, "a post runs on another reactor than it was sent to");
        std::uint64_t& last = traffic.last[sender][receiver];
        traffic.run->expect(last < number, "posts have overtaken each other");
        last = number;
    });
    if (taken) ++traffic.posts_taken;
}

Task<> post_many(Trip trip) {
    const TaskCount count{*trip.traffic->run};
    ferrule::sim::Random random{trip.seed};
    for (std::uint32_t step = 1; step <= trip.steps; ++step) {
        post_once(trip, random.below(trip.traffic->program->size()), step);
        if (random.one_in(4)) co_await trip.traffic->run->watch(yield_once());
        if (random.one_in(8)) {
            const auto pause = std::chrono::nanoseconds(random.below(1'000'000));
            static_cast<void>(co_await trip.traffic->run->watch(ferrule::sleep_for(pause)));
        }
    }
    ++trip.traffic->tasks_over;
}

Task<> travel(Trip trip) {
    WorkloadRun& run = *trip.traffic->run;
    const TaskCount count{run};
    ferrule::sim::Random random{trip.seed};
    Reactor& home = *Reactor::current();
    for (std::uint32_t step = 0; step < trip.steps; ++step) {
        Reactor& before = *Reactor::current();
        Reactor& target = trip.traffic->program->reactor(random.below(trip.traffic->program->size()));
        const auto moved = co_await run.watch(ferrule::resume_on(target));
        const Reactor& here = moved ? target : before;
        run.expect(Host::current() == &here, "a task goes on on another reactor than it was told");
        if (random.one_in(4)) {
            const auto pause = std::chrono::nanoseconds(random.below(1'000'000));
            static_cast<void>(co_await run.watch(ferrule::sleep_for(pause)));
        }
        if (random.one_in(8)) {
            const auto pause = std::chrono::nanoseconds(random.below(100'000));
            static_cast<void>(co_await run.watch(ferrule::with_deadline(ferrule::sleep_for(1h), pause)));
        }
        run.expect(Host::current() == &here, "a task is on another reactor than before its await");
    }
    while (Host::current() != &home) {
        const auto back = co_await run.watch(ferrule::resume_on(home));
        if (!back) co_await run.watch(yield_once());
    }
    ++trip.traffic->tasks_over;
}

Task<> call_away(Trip trip) {
    WorkloadRun& run = *trip.traffic->run;
    const TaskCount count{run};
    ferrule::sim::Random random{trip.seed};
    Reactor& home = *Reactor::current();
    for (std::uint32_t step = 0; step < trip.steps; ++step) {
        const auto pause = std::chrono::nanoseconds(random.below(3'000'000));
        const std::uint64_t expected = random.next();
        const auto call = [&run, pause, expected] {
            run.expect(Host::current() == nullptr, "a blocking call runs on a reactor");
            run.pause(pause);
            return expected;
        };
        const auto answer = co_await run.watch(ferrule::offload(call));
        run.expect(Host::current() == &home, "a blocking call has not come home");
        if (answer) run.expect(*answer == expected, "a blocking call has another's result");
    }
    ++trip.traffic->tasks_over;
}

// A thread without a reactor posts too.
void post_from_outside(Traffic& traffic, std::uint64_t seed, std::uint32_t steps) {
    ferrule::sim::Random random{seed};
    const Trip trip{&traffic, seed, steps, traffic.last.size() - 1};
    for (std::uint32_t step = 1; step <= steps; ++step) {
        post_once(trip, random.below(traffic.program->size()), step);
        if (random.one_in(4)) traffic.run->pause(std::chrono::nanoseconds(random.below(1'000'000)));
    }
}

void run_posts(WorkloadRun& run) {
    ferrule::ReactorOptions options = run.reactor_options();
    options.mailbox_limit = run.choose({1u, 3u, 1u << 20, 1u << 20});
    options.offload_limit = run.choose({1u, 1024u});
    ReactorProgram program{run, run.random().between(1, 4), options, run.network_options()};
    Traffic traffic{&run, &program};
    const std::uint32_t trips = run.connections(1, 12);
    const std::uint32_t steps = run.messages(1, 60);
    traffic.tasks = std::uint64_t{trips} * program.size();
    // A sender for each trip of each reactor, and the thread without one.
    traffic.last.assign(traffic.tasks + 1, std::vector<std::uint64_t>(program.size()));
    // By the main thread when all reactors are there: trips go from each to each.
    const std::uint64_t seed = run.random().next();
    program.main([&traffic, &program, trips, steps, seed] {
        ferrule::sim::Random random{seed};
        for (std::size_t index = 0; index < program.size(); ++index) {
            for (std::uint32_t trip_number = 0; trip_number < trips; ++trip_number) {
                const Trip trip{&traffic, random.next(), steps, index * trips + trip_number};
                const std::uint64_t kind = random.below(3);
                Reactor& reactor = program.reactor(index);
                const auto spawn = [&reactor, trip, kind] {
                    reactor.spawn(kind == 0 ? post_many(trip) : kind == 1 ? travel(trip) : call_away(trip));
                };
                const auto taken = [&reactor, &spawn] { return reactor.post(spawn); };
                if (!traffic.run->wait_until(taken, "room in a mailbox")) return;
            }
        }
        post_from_outside(traffic, random.next(), steps);
    });
    program.until([&traffic] { return traffic.over(); });
    program.start();
    run.finish();
    run.messages_checked += traffic.posts_run + traffic.tasks_over;
}

}  // namespace

const Workload posts_workload{"posts", "posts, travelling tasks and blocking calls between reactors", run_posts};

}  // namespace ferrule_test
