#pragma once

#include <ferrule/server/server.hpp>
#include <ferrule/sim/faults.hpp>
#include <ferrule/sim/machine.hpp>
#include <ferrule/sim/profile.hpp>
#include <ferrule/sim/random.hpp>
#include <ferrule/sim/simulation.hpp>

#include "sim/workloads/watch.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {

/// What a run is asked for. All else follows from the seed; what stands here beside it makes a failing run smaller, or
/// puts a fault at an exact place.
struct RunSettings {
    std::uint64_t seed = 0;
    /// At most so many connections, and so many messages on each.
    std::uint64_t connections_max = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t messages_max = std::numeric_limits<std::uint64_t>::max();
    /// Whether faults happen by chance.
    bool faults = true;
    /// These happen besides.
    std::vector<ferrule::sim::PlacedFault> placed;
    /// These do not happen.
    std::vector<ferrule::sim::PlacedFault> left_out;
    /// How many of the last events are kept as text.
    std::size_t trace_entries = 0;
};

/// What came of a run.
struct RunResult {
    std::vector<std::string> findings;
    ferrule::sim::FiredFaults faults;
    std::uint64_t fingerprint = 0;
    std::uint64_t operations = 0;   ///< requests that the simulated rings have completed
    std::uint64_t connections = 0;  ///< that peers have opened
    std::uint64_t messages = 0;     ///< that were checked byte by byte
    std::uint64_t bytes = 0;        ///< of them
    std::uint64_t virtual_ns = 0;
    std::string trace;
};

/// One run of a workload: the simulation, what chance has chosen for it, and what it found.
///
/// Everything is on one OS thread: the fibers of all machines share it, so what they share needs no lock.
class WorkloadRun {
public:
    explicit WorkloadRun(const RunSettings& settings);
    ~WorkloadRun();
    WorkloadRun(const WorkloadRun&) = delete;
    WorkloadRun& operator=(const WorkloadRun&) = delete;

    // ---- chance ----

    /// What shapes the run draws from here, before it begins. What is drawn while it runs takes a Random of its own
    /// (`fork`), or the order of the fibers would decide what others draw.
    [[nodiscard]] ferrule::sim::Random& random() noexcept { return random_; }
    /// A new sequence.
    [[nodiscard]] ferrule::sim::Random fork() noexcept { return ferrule::sim::Random{random_.next()}; }
    /// One of these.
    template <class T>
    T choose(std::initializer_list<T> values) {
        return values.begin()[random_.below(values.size())];
    }
    /// A number of connections, or of messages: drawn, then cut to what the run was asked for.
    [[nodiscard]] std::uint32_t connections(std::uint32_t least, std::uint32_t most);
    [[nodiscard]] std::uint32_t messages(std::uint32_t least, std::uint32_t most);

    // ---- the world ----

    /// Made at the first call.
    [[nodiscard]] ferrule::sim::Simulation& simulation();
    /// The machine of the programs under test, and those of their peers; made at the first call.
    [[nodiscard]] ferrule::sim::Machine& server_machine();
    [[nodiscard]] ferrule::sim::Machine& client_machine(std::size_t index);
    /// The largest latency between two machines; after the simulation is made.
    [[nodiscard]] std::uint64_t latency_max_ns() const noexcept { return latency_max_ns_; }
    /// Virtual time after which a run that goes on is a finding, before the simulation is made.
    void time_limit(std::chrono::nanoseconds limit) noexcept { time_limit_ = limit; }
    /// RLIMIT_NOFILE of the server machine, before it is made.
    void descriptor_limit(std::uint32_t descriptors) noexcept { descriptor_limit_ = descriptors; }
    /// What the server machine has as a file, before it is made.
    void file(std::string path, std::string text) { files_[std::move(path)] = std::move(text); }
    /// Peers are on the server machine too, from now on: a Unix socket is of its machine.
    void on_one_machine() noexcept { one_machine_ = true; }
    [[nodiscard]] bool has_one_machine() const noexcept { return one_machine_; }
    /// The address of the server machine, of a family that chance chooses.
    [[nodiscard]] ferrule::Address server_address(std::uint16_t port);
    /// A program of a peer.
    void client(std::string name, std::size_t machine, std::function<void()> program);
    /// A program on the server machine. Also inside the simulation.
    void program(std::string name, std::function<void()> program);
    /// Blocks the calling fiber for this long.
    void pause(std::chrono::nanoseconds duration) { simulation().sleep(duration); }

    /// Blocks the calling fiber until this holds, and looks less and less often; two hours at most, then it is a
    /// finding and false. `what`: what it waits for.
    bool wait_until(const std::function<bool()>& holds, std::string_view what);

    /// Reactors, rings and networks of random size, often tiny; no timeout but one of ten minutes where a peer must
    /// not wait for ever.
    [[nodiscard]] ferrule::ReactorOptions reactor_options();
    [[nodiscard]] ferrule::NetworkOptions network_options();
    [[nodiscard]] ferrule::ServerOptions server_options();

    // ---- what is found ----

    /// A finding when `holds` is false.
    void expect(bool holds, std::string_view what) {
        if (!holds) [[unlikely]]
            find(std::string(what));
    }
    /// A finding: noted with the virtual time.
    void find(std::string what);
    /// A connection that was not served whole. As many as faults may break, or the server refuses, are no finding; that
    /// is told at the end.
    void incomplete(std::string what) { incomplete_.push_back(std::move(what)); }
    /// What the run asks for is more than the server takes: connections that are not served whole are no finding.
    void may_be_incomplete() noexcept { may_be_incomplete_ = true; }
    /// The server was asked for more connections than it takes, and has closed so many.
    void refused(std::uint64_t connections) noexcept { refused_ += connections; }
    /// Faults so far that may end a connection that did nothing wrong: resets, aborted accepts, operations that fail.
    [[nodiscard]] std::uint64_t breaks() const;
    /// How often a fault has happened so far.
    [[nodiscard]] std::uint64_t fired(ferrule::sim::Fault fault) const;

    /// Sees an await: `co_await run.watch(connection.read())`.
    template <class Awaiter>
    Watched<Awaiter> watch(Awaiter awaiter) {
        return Watched<Awaiter>{awaits, std::move(awaiter)};
    }

    /// Runs the simulation to its end, and checks what must hold of every run. Once.
    void finish();
    /// What came of it so far.
    [[nodiscard]] RunResult result() const;

    AwaitWatch awaits;
    /// Handlers and tasks that began and ended.
    std::uint64_t tasks_begun = 0;
    std::uint64_t tasks_ended = 0;
    /// For the figures.
    std::uint64_t connections_made = 0;
    std::uint64_t connects_refused = 0;
    std::uint64_t connections_opened = 0;  ///< by the programs under test
    std::uint64_t messages_checked = 0;
    std::uint64_t bytes_checked = 0;

private:
    void choose_faults();
    void tune(ferrule::ReactorOptions& options) const;

    RunSettings settings_;
    ferrule::sim::Random random_;
    ferrule::sim::Faults faults_;
    ferrule::sim::Profile profile_{};
    ferrule::AddressFamily address_family_ = ferrule::AddressFamily::ipv4;
    std::unique_ptr<ferrule::sim::Simulation> simulation_;
    ferrule::sim::Machine* server_machine_ = nullptr;
    std::vector<ferrule::sim::Machine*> client_machines_;
    bool one_machine_ = false;
    bool may_be_incomplete_ = false;
    std::chrono::nanoseconds time_limit_ = ferrule::sim::SimulationOptions{}.time_limit;
    std::uint32_t descriptor_limit_ = 0;
    std::map<std::string, std::string> files_;
    std::uint64_t latency_max_ns_ = 0;
    std::vector<std::string> incomplete_;
    std::uint64_t refused_ = 0;
};

/// Begun and ended once: a local of each handler and task.
class TaskCount {
public:
    explicit TaskCount(WorkloadRun& run) noexcept : run_(&run) { ++run.tasks_begun; }
    TaskCount(const TaskCount&) = delete;
    TaskCount& operator=(const TaskCount&) = delete;
    ~TaskCount() { ++run_->tasks_ended; }

private:
    WorkloadRun* run_;
};

/// What a simulated program does, again and again, under everything that chance brings.
struct Workload {
    std::string_view name;
    std::string_view what;
    void (*run)(WorkloadRun& run);
    /// A run takes seconds: only who names it gets it.
    bool by_name_only = false;
};

/// All of them, in the order in which they are listed.
std::span<const Workload> workloads();
/// The workload of that name; null when there is none.
const Workload* find_workload(std::string_view name);
/// One run, from beginning to end.
RunResult run_workload(const Workload& workload, const RunSettings& settings);

}  // namespace ferrule_test
