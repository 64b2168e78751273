#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/resume_on.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/select.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/when_any.hpp>

#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::CancelReason;
using ferrule::CancelScope;
using ferrule::Connection;
using ferrule::Environment;
using ferrule::Host;
using ferrule::Reactor;
using ferrule::ReadResult;
using ferrule::Task;
using namespace std::chrono_literals;

/// What a scenario awaits, one after the other.
enum class Step : std::uint8_t {
    read,
    flush,
    sleep,
    yield,
    read_with_deadline,
    read_or_sleep,
    sleeps_together,
    group,
    group_vacancy,
    offload,
    visit,
    select_read_or_sleep,
    count_of_steps,
};

/// How the scenario is ended from outside.
enum class Ending : std::uint8_t {
    cancel_at_once,  ///< in the middle of the suspension itself
    cancel_posted,   ///< from the mailbox, behind what is there
    cancel_later,    ///< from a timer, when chance says
    destroy,         ///< its frame is destroyed where it is suspended
    count_of_endings,
};

/// One scenario, run again and again: ended at its 1st, 2nd, 3rd ... suspension, in each way, until it ends by itself.
struct Enumeration {
    WorkloadRun* run;
    std::vector<Step> steps{};
    std::vector<Reactor*> reactors{};
    std::chrono::nanoseconds pause{};
    /// The ways in which it may be ended; the one whose turn it is; and where.
    std::uint8_t endings = 0;
    std::uint8_t ending = 0;
    std::uint64_t suspension = 0;
    std::uint64_t connections_left = 0;

    [[nodiscard]] bool done() const noexcept { return ending == endings || connections_left == 0; }
};

/// One connection and the scenario that it serves.
struct Iteration {
    Enumeration* plan;
    Connection connection;
    ferrule::sim::Random random;
    AwaitWatch watch{};
    CancelScope* scope = nullptr;
    const Environment* environment = nullptr;
    Reactor* home = nullptr;
    Ending ending{};
    std::uint64_t suspension = 0;
    bool injected = false;
    bool away = false;
    std::coroutine_handle<> waits_for_scenario{};
    bool scenario_over = false;

    template <class Awaiter>
    Watched<Awaiter> watched(Awaiter awaiter) {
        return Watched<Awaiter>{watch, std::move(awaiter)};
    }
};

// ---- the scenario ----

void echo_back(Iteration& iteration, ReadResult& received) {
    for (const auto slice : received) iteration.connection.write(slice);
    received.reset();
}

Task<> read_once(Iteration* iteration) {
    auto received = co_await iteration->watched(iteration->connection.read());
    echo_back(*iteration, received);
}

Task<> sleep_once(Iteration* iteration, std::chrono::nanoseconds duration) {
    static_cast<void>(co_await iteration->watched(ferrule::sleep_for(duration)));
}

Task<> spawn_a_few(Iteration* iteration, bool bounded) {
    ferrule::TaskGroup group(*iteration->environment, bounded ? 2 : 0);
    for (int index = 0; index < 4; ++index) {
        if (bounded) co_await group.vacancy();
        static_cast<void>(group.spawn(sleep_once(iteration, iteration->plan->pause)));
    }
    co_await group.join();
}

Task<> visit_another(Iteration* iteration) {
    const std::vector<Reactor*>& reactors = iteration->plan->reactors;
    Reactor& there = *reactors[iteration->random.below(reactors.size())];
    const auto moved = co_await iteration->watched(ferrule::resume_on(there));
    if (!moved) co_return;
    iteration->away = Host::current() != iteration->home;
    co_await iteration->watched(yield_once());
    for (;;) {
        const auto back = co_await iteration->watched(ferrule::resume_on(*iteration->home));
        if (back) break;
        // Its mailbox is full for the moment.
        co_await iteration->watched(yield_once());
    }
    iteration->away = false;
}

Task<> take_step(Iteration* iteration, Step step) {
    const auto pause = iteration->plan->pause;
    switch (step) {
        case Step::read:
            co_await read_once(iteration);
            break;
        case Step::flush:
            co_await iteration->watched(iteration->connection.flush());
            break;
        case Step::sleep:
            co_await sleep_once(iteration, pause);
            break;
        case Step::yield:
            co_await iteration->watched(yield_once());
            break;
        case Step::read_with_deadline: {
            auto received = co_await iteration->watched(ferrule::with_deadline(iteration->connection.read(), pause));
            echo_back(*iteration, received);
            break;
        }
        case Step::read_or_sleep:
            co_await iteration->watched(ferrule::when_any(read_once(iteration), sleep_once(iteration, pause)));
            break;
        case Step::sleeps_together:
            co_await iteration->watched(
                ferrule::when_all(sleep_once(iteration, pause), sleep_once(iteration, 2 * pause)));
            break;
        case Step::group:
            co_await iteration->watched(spawn_a_few(iteration, false));
            break;
        case Step::group_vacancy:
            co_await iteration->watched(spawn_a_few(iteration, true));
            break;
        case Step::offload: {
            auto* run = iteration->plan->run;
            const auto call = [run, pause] { run->pause(pause); };
            static_cast<void>(co_await iteration->watched(ferrule::offload(call)));
            break;
        }
        case Step::visit:
            co_await iteration->watched(visit_another(iteration));
            break;
        case Step::select_read_or_sleep: {
            auto selected = ferrule::select(iteration->connection.read(), ferrule::sleep_for(pause));
            auto first = co_await iteration->watched(std::move(selected));
            if (auto* received = std::get_if<0>(&first)) echo_back(*iteration, *received);
            break;
        }
        case Step::count_of_steps:
            break;
    }
}

Task<> scenario(Iteration* iteration) {
    const TaskCount count{*iteration->plan->run};
    const Environment& environment = co_await ferrule::this_environment();
    iteration->environment = &environment;
    for (const Step step : iteration->plan->steps) {
        co_await take_step(iteration, step);
    }
}

// ---- ending it from outside ----

/// Reaches an iteration that may be over.
using Reach = std::shared_ptr<Iteration*>;

void cancel_now(const Reach& reach) {
    if (*reach != nullptr && (*reach)->scope != nullptr) (*reach)->scope->cancel(CancelReason::cancelled);
}

Task<> cancel_after(Reach reach, std::chrono::nanoseconds delay) {
    static_cast<void>(co_await ferrule::sleep_for(delay));
    cancel_now(reach);
}

void resume_watcher(Iteration& iteration) {
    if (const auto waiter = std::exchange(iteration.waits_for_scenario, nullptr)) iteration.home->resume_later(waiter);
}

void end_scenario(const Reach& reach) {
    Iteration& iteration = **reach;
    iteration.injected = true;
    Reactor& home = *iteration.home;
    switch (iteration.ending) {
        case Ending::cancel_at_once:
            if (Host::current() == &home) {
                cancel_now(reach);
                break;
            }
            // The scope belongs to its own reactor's thread.
            [[fallthrough]];
        case Ending::cancel_posted:
            home.post([reach] { cancel_now(reach); });
            // Whoever computes for a while lets bytes and messages come at once.
            if (iteration.random.one_in(2))
                iteration.plan->run->pause(std::chrono::nanoseconds(iteration.random.below(5'000'000)));
            break;
        case Ending::cancel_later: {
            const auto delay = std::chrono::nanoseconds(iteration.random.below(2'000'000));
            home.post([reach, delay, &home] { home.spawn(cancel_after(reach, delay)); });
            break;
        }
        case Ending::destroy:
            resume_watcher(iteration);
            break;
        case Ending::count_of_endings:
            break;
    }
}

/// Waits until the scenario is over, or is to be destroyed.
struct ScenarioEnd {
    Iteration* iteration;
    [[nodiscard]] bool await_ready() const noexcept { return iteration->scenario_over || iteration->injected; }
    void await_suspend(std::coroutine_handle<> handle) const noexcept { iteration->waits_for_scenario = handle; }
    void await_resume() const noexcept {}
};

Task<> scenario_to_its_end(Iteration* iteration) {
    co_await scenario(iteration);
    iteration->scenario_over = true;
    resume_watcher(*iteration);
}

Task<> destroyed_on_the_way(Iteration* iteration, CancelScope* scope) {
    Environment environment{scope, Host::current(), 0};
    Task<> task = scenario_to_its_end(iteration);
    // Nobody awaits it: its end hands the waiting coroutine to the ready list.
    static_cast<void>(task.start(environment, std::noop_coroutine()));
    co_await ScenarioEnd{iteration};
    task.reset();
}

// ---- the server ----

/// What may be in flight when a frame is destroyed: not a blocking call, a task on its way, or a group with tasks in
/// it.
bool may_be_destroyed(Step step) noexcept {
    return step != Step::offload && step != Step::visit && step != Step::group && step != Step::group_vacancy;
}

void check_iteration(Iteration& iteration) {
    WorkloadRun& run = *iteration.plan->run;
    AwaitWatch& watch = iteration.watch;
    if (!watch.balanced()) {
        run.find("a scenario that was ended at suspension " + std::to_string(iteration.suspension) + " began " +
                 std::to_string(watch.begun) + " awaits; " + std::to_string(watch.ended) + " ended, " +
                 std::to_string(watch.destroyed) + " were destroyed, " + std::to_string(watch.ended_again) +
                 " ended again");
    }
    run.expect(!iteration.away, "a scenario has ended away from its reactor");
    run.awaits.begun += watch.begun;
    run.awaits.suspended += watch.suspended;
    run.awaits.ended += watch.ended;
    run.awaits.destroyed += watch.destroyed;
}

// The next suspension; when the last run of the scenario came to its end before, the next way of ending it.
void take_turn(Enumeration& plan, Iteration& iteration) {
    if (plan.connections_left != 0) --plan.connections_left;
    iteration.ending = static_cast<Ending>(plan.ending < plan.endings ? plan.ending : 0);
    iteration.suspension = ++plan.suspension;
}

void give_turn_back(Enumeration& plan, const Iteration& iteration, std::uint8_t ending) {
    if (iteration.injected || plan.ending != ending) return;
    ++plan.ending;
    plan.suspension = 0;
}

Task<> serve_scenario(Enumeration* plan, Connection connection) {
    const TaskCount count{*plan->run};
    Iteration iteration{plan, std::move(connection), plan->run->fork()};
    iteration.home = Reactor::current();
    const std::uint8_t ending = plan->ending;
    take_turn(*plan, iteration);
    {
        const Environment& environment = co_await ferrule::this_environment();
        CancelScope scope{ferrule::scope_here(environment)};
        iteration.scope = &scope;
        const Reach reach = std::make_shared<Iteration*>(&iteration);
        iteration.watch.on_suspend = [reach] {
            Iteration& reached = **reach;
            if (!reached.injected && reached.watch.suspended == reached.suspension) end_scenario(reach);
        };
        if (iteration.ending == Ending::destroy) {
            co_await destroyed_on_the_way(&iteration, &scope);
        } else {
            co_await ferrule::with_scope(scope, scenario(&iteration));
        }
        *reach = nullptr;
        iteration.scope = nullptr;
        iteration.watch.on_suspend = nullptr;
    }
    give_turn_back(*plan, iteration, ending);
    check_iteration(iteration);
    // What came meanwhile is there, in order, and so is what was written.
    co_await plan->run->watch(iteration.connection.flush());
    while (auto received = co_await plan->run->watch(iteration.connection.read())) {
        echo_back(iteration, received);
        co_await plan->run->watch(iteration.connection.flush());
    }
}

// ---- the clients ----

struct TricklePlan {
    std::string name;
    std::size_t machine = 0;
};

void trickle_once(WorkloadRun& run, ServerProgram& server, const TricklePlan& plan, ferrule::sim::Random& random) {
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    const Pattern pattern{random.next()};
    const std::uint64_t bytes = random.between(1, 400);
    const std::uint64_t first = random.between(0, bytes);
    const auto delay = std::chrono::nanoseconds(random.below(random.one_in(2) ? 1'000'000 : 20'000'000));
    std::uint64_t received = 0;
    peer->both(
        [&] {
            if (!peer->send(pattern, 0, first, 100)) return;
            run.pause(delay);
            if (peer->send(pattern, first, bytes - first, 40)) peer->shutdown_sending();
        },
        [&] { received = peer->receive(pattern, 0, bytes, 4096); });
    if (received == bytes) run.expect(peer->receive_to_end() == 0, "more comes back than was sent");
    if (received != bytes || peer->broken()) {
        run.incomplete(plan.name + ": " + std::to_string(received) + " of " + std::to_string(bytes) +
                       " bytes came back from a connection whose handler was cancelled");
    }
    ++run.messages_checked;
}

void run_cancellation(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    Enumeration plan{&run};
    plan.connections_left = run.connections(100, 300);
    plan.pause = run.choose<std::chrono::nanoseconds>({1us, 100us, 3ms, 50ms});
    const bool destroyable = run.random().one_in(3);
    plan.endings = static_cast<std::uint8_t>(destroyable ? Ending::count_of_endings : Ending::destroy);
    const std::uint64_t steps = run.random().between(2, 7);
    while (plan.steps.size() < steps) {
        const auto step = static_cast<Step>(run.random().below(static_cast<std::uint64_t>(Step::count_of_steps)));
        if (!destroyable || may_be_destroyed(step)) plan.steps.push_back(step);
    }
    ServerProgram server{run, options};
    server.on_start([&plan](Reactor& reactor) { plan.reactors.push_back(&reactor); });
    server.on_connection([&plan](Connection connection) { return serve_scenario(&plan, std::move(connection)); });
    const std::uint64_t peers = run.random().between(1, 6);
    for (std::uint64_t index = 0; index < peers; ++index) {
        const TricklePlan trickle{"trickling peer " + std::to_string(index), index % ServerProgram::client_machines};
        const std::uint64_t seed = run.random().next();
        server.client(trickle.name, trickle.machine, [&run, &server, &plan, trickle, seed] {
            ferrule::sim::Random random{seed};
            while (!plan.done()) trickle_once(run, server, trickle, random);
        });
    }
    server.start();
    run.finish();
}

}  // namespace

const Workload cancellation_workload{"cancellation",
                                     "a scenario that is cancelled, or destroyed, at its 1st, 2nd, 3rd ... suspension",
                                     run_cancellation};

}  // namespace ferrule_test
