#pragma once

#include <ferrule/sim/faults.hpp>
#include <ferrule/sim/machine.hpp>
#include <ferrule/sim/network_options.hpp>
#include <ferrule/sim/random.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule::inline v0::sim {

/// How a simulation runs.
struct SimulationOptions {
    /// The same seed gives the same run, byte for byte, on every machine and in every build.
    std::uint64_t seed = 1;
    /// Which faults happen; default: none.
    Faults faults{};
    NetworkOptions network{};
    /// Virtual time after which a simulation that has not ended is a finding.
    std::chrono::nanoseconds time_limit = std::chrono::hours(24);
    /// Turns of fibers and events after which it is one: something goes on for ever.
    std::uint64_t step_limit = 1'000'000'000;
    /// How many of the last events `trace` can tell; 0: none are kept.
    std::size_t trace_entries = 0;
    /// Of each thread of a process; pages that are not touched cost nothing.
    std::size_t stack_bytes = 512 * 1024;
};

/// How often a fault could have happened, and how often it did.
struct FaultCount {
    std::uint64_t occasions = 0;
    std::uint64_t times = 0;
};

/// What has happened of the faults.
struct FiredFaults {
    /// By Fault.
    std::array<FaultCount, fault_count> counts{};
    /// Each that happened, in order.
    std::vector<PlacedFault> fired;

    const FaultCount& operator[](Fault fault) const noexcept { return counts[static_cast<std::size_t>(fault)]; }
};

/// A run of whole programs, clients and servers, on machines of a simulated kernel, in virtual time and on one thread
/// of the system. Every thread of the programs is a fiber; which one runs next, how long what takes, and which faults
/// happen, follows from the seed.
///
///     sim::Simulation simulation{{.seed = 7, .faults = sim::Faults::usual()}};
///     sim::Machine& host = simulation.machine("server");
///     simulation.process(host, "server", [&] {
///         Server server{{.port = 8080}, host.kernel()};
///         server.on_connection(echo);
///         server.run();
///     });
///     simulation.run();
///
/// All members are for the thread that made it; those that say so also for code inside the simulation.
class FERRULE_EXPORT Simulation {
public:
    explicit Simulation(SimulationOptions options = {});
    Simulation(const Simulation&) = delete;
    Simulation& operator=(const Simulation&) = delete;
    ~Simulation();

    /// One more machine, which lives as long as the simulation. Also inside the simulation.
    Machine& machine(std::string name, MachineOptions options = {});

    /// Starts a program: `main` runs on a fiber of its own, as the main thread of a process of the machine, from the
    /// time at which it is called. What leaves it as an exception is a finding. Also inside the simulation.
    void process(Machine& machine, std::string name, std::function<void()> main);

    /// Runs until every process has ended and nothing is under way any more, or something is found; once. True when
    /// nothing was found. At the end each machine must be quiet: no descriptor open, no request in flight, no memory
    /// that is the kernel's, no mapping; what is left is a finding that names it.
    ///
    /// After a finding, what the programs had on their stacks is abandoned, not destroyed.
    bool run();

    /// What was found, each with its virtual time. A deadlock (nobody can run, and nothing will happen) is one that
    /// lists what each thread waits for.
    [[nodiscard]] const std::vector<std::string>& findings() const noexcept;
    /// Notes a finding; the simulation ends as soon as the running fiber waits. Also inside the simulation.
    void finding(std::string what);

    /// What each thread of the processes waits for, a line each behind a line break: part of a finding. Also inside the
    /// simulation.
    [[nodiscard]] std::string waiting() const;

    /// CLOCK_MONOTONIC of every machine. Also inside the simulation.
    [[nodiscard]] std::uint64_t now_ns() const noexcept;
    /// The time of `now_ns` at which every simulation begins.
    static constexpr std::uint64_t start_ns = 1'000'000'000'000;
    /// Calls `what` at that time, on no fiber: it must not block. Also inside the simulation.
    void at(std::uint64_t time_ns, std::function<void()> what);
    /// Blocks the calling fiber. Inside the simulation.
    void sleep(std::chrono::nanoseconds duration);
    /// The chance of this run. What draws from it moves all that is drawn later. Also inside the simulation.
    [[nodiscard]] Random& random() noexcept;

    /// Also inside the simulation.
    [[nodiscard]] const FiredFaults& fired() const noexcept;
    /// A hash of all that has happened: two runs with the same one were the same.
    [[nodiscard]] std::uint64_t fingerprint() const noexcept;
    /// Requests that the rings of all machines have completed.
    [[nodiscard]] std::uint64_t operations() const noexcept;
    /// Turns of fibers and events.
    [[nodiscard]] std::uint64_t steps() const noexcept;
    /// Part of the fingerprint, and of the trace: what a program under test does. `what` is a literal. Also inside the
    /// simulation.
    void note(std::string_view what, std::uint64_t first = 0, std::uint64_t second = 0, std::int64_t third = 0);
    /// The last SimulationOptions::trace_entries events, a line each.
    [[nodiscard]] std::string trace() const;

private:
    class State;
    std::unique_ptr<State> state_;
};

}  // namespace ferrule::inline v0::sim
