#include <ferrule/assert.hpp>
#include <ferrule/sim/simulation.hpp>

#include "sim/machine_state.hpp"

#include <utility>

namespace ferrule::inline v0::sim {

/// The network must outlive every file, and the scheduler all.
class Simulation::State {
public:
    explicit State(const SimulationOptions& options) : scheduler(options), network(scheduler, options.network) {}
    ~State() {
        // What ends may ask for more to happen, and what is to happen may hold what has not ended.
        scheduler.forget_all();
        machines.clear();
        scheduler.forget_all();
    }

    Scheduler scheduler;
    Network network;
    std::vector<std::unique_ptr<Machine>> machines;
    bool ran = false;
};

Simulation::Simulation(SimulationOptions options) : state_(std::make_unique<State>(options)) {}

Simulation::~Simulation() = default;

Machine& Simulation::machine(std::string name, MachineOptions options) {
    Host& host = state_->network.add_host(name);
    auto machine = std::make_unique<Machine::State>(state_->scheduler, host, std::move(name), std::move(options));
    state_->machines.push_back(std::unique_ptr<Machine>(new Machine(std::move(machine))));
    return *state_->machines.back();
}

void Simulation::process(Machine& machine, std::string name, std::function<void()> main) {
    machine.state().start(std::move(name), std::move(main));
}

bool Simulation::run() {
    FERRULE_ASSERT(!std::exchange(state_->ran, true));
    state_->scheduler.run();
    if (state_->scheduler.has_findings()) return false;
    for (const auto& machine : state_->machines) machine->state().check_quiet();
    if (const std::uint64_t open = state_->network.connections(); open != 0) {
        state_->scheduler.finding(std::to_string(open) + " connections are not over");
    }
    state_->network.check_accounts();
    return !state_->scheduler.has_findings();
}

const std::vector<std::string>& Simulation::findings() const noexcept {
    return state_->scheduler.findings();
}

void Simulation::finding(std::string what) {
    state_->scheduler.finding(std::move(what));
}

std::uint64_t Simulation::now_ns() const noexcept {
    return state_->scheduler.now_ns();
}

void Simulation::at(std::uint64_t time_ns, std::function<void()> what) {
    state_->scheduler.at(time_ns, std::move(what));
}

void Simulation::sleep(std::chrono::nanoseconds duration) {
    Scheduler& scheduler = state_->scheduler;
    FERRULE_ASSERT(scheduler.current_fiber() != nullptr);
    const std::uint64_t until = scheduler.now_ns() + static_cast<std::uint64_t>(duration.count());
    while (scheduler.now_ns() < until) scheduler.block(until, "a time to pass", -1);
}

Random& Simulation::random() noexcept {
    return state_->scheduler.random();
}

const FiredFaults& Simulation::fired() const noexcept {
    return state_->scheduler.fired();
}

std::uint64_t Simulation::fingerprint() const noexcept {
    return state_->scheduler.fingerprint();
}

std::uint64_t Simulation::operations() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& machine : state_->machines) sum += machine->state().operations();
    return sum;
}

std::string Simulation::waiting() const {
    return state_->scheduler.who_waits();
}

std::uint64_t Simulation::steps() const noexcept {
    return state_->scheduler.steps();
}

void Simulation::note(std::string_view what, std::uint64_t first, std::uint64_t second, std::int64_t third) {
    state_->scheduler.trace(what, first, second, third);
}

std::string Simulation::trace() const {
    return state_->scheduler.trace_text();
}

}  // namespace ferrule::inline v0::sim
