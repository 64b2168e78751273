#include "sim/workloads/workload.hpp"

#include <algorithm>
#include <utility>

namespace ferrule_test {
namespace {

using namespace std::chrono_literals;
using ferrule::sim::Fault;
using ferrule::sim::Faults;
using ferrule::sim::Profile;

// Random numbers of the plan and of the simulation must not be the same sequence.
constexpr std::uint64_t plan_salt = 0x706c'616e;
constexpr std::uint64_t later_salt = 0x6c61'7465;
constexpr std::uint64_t tuning_salt = 0x7475'6e65;
constexpr std::uint32_t of_a_million = 1'000'000;
// More than one in five occasions, and hardly anything but faults happens.
constexpr std::uint32_t rate_max = 200'000;
// A wait that does not end looks a thousand times, not until the end of all time.
constexpr std::chrono::nanoseconds first_pause = 100us;
constexpr std::chrono::nanoseconds pause_max = 1min;
constexpr auto patience = 2h;
// Of the reports that a run gives, all say the same beyond these.
constexpr std::size_t incomplete_reported = 3;

// These end a connection that did nothing wrong.
constexpr std::array breaking = {Fault::peer_resets,     Fault::accept_aborted,   Fault::operation_fails,
                                 Fault::connect_refused, Fault::connect_vanishes, Fault::connect_unreachable};

}  // namespace

WorkloadRun::WorkloadRun(const RunSettings& settings)
    : settings_(settings), random_(ferrule::sim::Random::mix(settings.seed ^ plan_salt)) {
    profile_ = choose({Profile::linux_6_1, Profile::linux_6_6, Profile::linux_6_12, Profile::linux_6_18});
    choose_faults();
}

WorkloadRun::~WorkloadRun() = default;

// Swarm testing: a run has a random subset of the faults, each with a strength of its own, because a fault that happens
// all the time hides what another would show.
void WorkloadRun::choose_faults() {
    const Faults usual = Faults::usual();
    const bool none = random_.one_in(8);
    const std::uint64_t share = random_.between(1, 4);
    // Faults that came later draw elsewhere: what a seed did before them it does still.
    ferrule::sim::Random later{ferrule::sim::Random::mix(settings_.seed ^ later_salt)};
    for (std::size_t index = 0; index < usual.rates.size(); ++index) {
        ferrule::sim::Random& random = index > static_cast<std::size_t>(Fault::operation_fails) ? later : random_;
        const bool on = random.below(4) < share;
        const std::uint64_t strength = random.below(7);
        if (none || !on || !settings_.faults) continue;
        // From an eighth to eight times the usual.
        const std::uint64_t rate = (std::uint64_t{usual.rates[index]} << strength) >> 3;
        faults_.rates[index] = static_cast<std::uint32_t>(std::min<std::uint64_t>(rate, rate_max));
    }
    static_assert(rate_max < of_a_million);
    // Now and then an operation fails that hardly ever does. Everything may break then, and still nothing may be left.
    const std::uint32_t failures = choose({20u, 200u, 2000u});
    if (random_.one_in(10) && settings_.faults) faults_[Fault::operation_fails] = failures;
    faults_.placed = settings_.placed;
    faults_.left_out = settings_.left_out;
}

std::uint32_t WorkloadRun::connections(std::uint32_t least, std::uint32_t most) {
    return static_cast<std::uint32_t>(std::min(random_.between(least, most), settings_.connections_max));
}

std::uint32_t WorkloadRun::messages(std::uint32_t least, std::uint32_t most) {
    return static_cast<std::uint32_t>(std::min(random_.between(least, most), settings_.messages_max));
}

ferrule::sim::Simulation& WorkloadRun::simulation() {
    if (simulation_ == nullptr) {
        ferrule::sim::SimulationOptions options;
        options.seed = settings_.seed;
        options.faults = faults_;
        options.trace_entries = settings_.trace_entries;
        options.time_limit = time_limit_;
        if (random_.one_in(4)) {
            options.network.latency_min_ns = 0;
            options.network.latency_max_ns = choose<std::uint64_t>({0, 1'000'000, 100'000'000});
        }
        options.network.cut_percent = choose({0u, 25u, 100u});
        if (random_.one_in(4)) {
            options.network.send_buffer_min_bytes = 2048;
            options.network.send_buffer_max_bytes = 8192;
            options.network.receive_window_min_bytes = 2048;
            options.network.receive_window_max_bytes = 8192;
        }
        latency_max_ns_ = options.network.latency_max_ns;
        simulation_ = std::make_unique<ferrule::sim::Simulation>(options);
    }
    return *simulation_;
}

ferrule::sim::Machine& WorkloadRun::server_machine() {
    if (server_machine_ == nullptr) {
        ferrule::sim::MachineOptions options;
        options.profile = profile_;
        options.cpus = static_cast<unsigned>(random_.between(1, 4));
        options.files = files_;
        if (descriptor_limit_ != 0) options.descriptor_limit = descriptor_limit_;
        server_machine_ = &simulation().machine("server", options);
    }
    return *server_machine_;
}

ferrule::sim::Machine& WorkloadRun::client_machine(std::size_t index) {
    if (one_machine_) return server_machine();
    while (client_machines_.size() <= index) {
        client_machines_.push_back(&simulation().machine("client-" + std::to_string(client_machines_.size())));
    }
    return *client_machines_[index];
}

ferrule::Address WorkloadRun::server_address(std::uint16_t port) {
    const bool ipv6 = address_family_ == ferrule::AddressFamily::ipv6;
    const auto address = ipv6 ? server_machine().ipv6(port) : server_machine().ipv4(port);
    return *ferrule::Address::from(address.data(), address.size());
}

void WorkloadRun::client(std::string name, std::size_t machine, std::function<void()> program) {
    simulation().process(client_machine(machine), std::move(name), std::move(program));
}

void WorkloadRun::program(std::string name, std::function<void()> program) {
    simulation().process(server_machine(), std::move(name), std::move(program));
}

bool WorkloadRun::wait_until(const std::function<bool()>& holds, std::string_view what) {
    const std::uint64_t give_up =
        simulation().now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(patience).count());
    for (auto wait = first_pause; !holds(); wait = std::min(wait + wait / 8, pause_max)) {
        if (simulation().now_ns() > give_up) {
            find(std::string(what) + " does not come" + simulation().waiting());
            return false;
        }
        pause(wait);
    }
    return true;
}

ferrule::ReactorOptions WorkloadRun::reactor_options() {
    ferrule::ReactorOptions options;
    options.submission_entries = choose({4u, 4u, 8u, 16u, 64u, 256u});
    options.completion_entries = choose({0u, 2 * options.submission_entries, 2 * options.submission_entries});
    options.inline_budget = choose({1u, 2u, 8u, 128u});
    // A spinning reactor looks at the clock thousands of times in a microsecond of virtual time.
    options.spin = choose({0us, 0us, 0us, 0us, 0us, 0us, 0us, 0us, 0us, 0us, 0us, 1us});
    options.offload_threads = choose({1u, 2u});
    tune(options);
    return options;
}

// One run in four has some of the options that trade one thing for another; where its kernel lacks them, the way
// without them is what runs. Drawn elsewhere: what a seed did before there were any, three in four do still.
void WorkloadRun::tune(ferrule::ReactorOptions& options) const {
    ferrule::sim::Random random{ferrule::sim::Random::mix(settings_.seed ^ tuning_salt)};
    if (!random.one_in(4)) return;
    if (random.one_in(2)) {
        options.submission_poll = std::chrono::milliseconds(random.between(1, 3));
    } else {
        options.submission_entries_max = 2 * options.submission_entries;
        options.completion_entries_max = 16 * options.submission_entries;
    }
    if (random.one_in(3)) {
        options.min_wait = std::chrono::microseconds(random.between(1, 200));
        options.min_wait_completions = static_cast<std::uint32_t>(random.between(2, 8));
    }
    if (random.one_in(3)) options.bounded_workers = 1;
    if (random.one_in(3)) options.napi_busy_poll = 50us;
}

ferrule::NetworkOptions WorkloadRun::network_options() {
    ferrule::NetworkOptions options;
    options.receive_buffer_count = choose({1u, 2u, 4u, 4u, 8u, 16u, 64u, 256u});
    options.receive_buffer_size = choose({32u, 128u, 512u, 2048u, 4096u});
    if (random_.one_in(3)) {
        options.buffer_mode =
            choose({ferrule::BufferMode::shared_incremental, ferrule::BufferMode::per_connection_incremental});
        options.connection_buffer_count = choose({1u, 2u, 16u});
        options.connection_buffer_size = choose({64u, 512u, 4096u});
    }
    options.receive_lease_limit = choose({1u, 2u, 4u, 32u, 32u});
    options.write_slab_size = choose({1u, 200u, 960u, 960u, 5000u});
    options.memory_kept = choose<std::uint64_t>({0, 64ull << 10, 4ull << 20});
    options.stream_memory = choose<std::uint64_t>({0, 128ull << 10, 8ull << 20, 8ull << 20});
    options.linger = choose({ferrule::Linger::adaptive, ferrule::Linger::always});
    // Longer than any fault holds a segment back.
    options.idle_timeout = options.read_timeout = options.write_timeout = 30min;
    options.linger_timeout = 5min;
    ferrule::sim::Random tuning{ferrule::sim::Random::mix(settings_.seed ^ tuning_salt) + 1};
    if (tuning.one_in(16)) options.huge_pages = ferrule::HugePages::reserved;
    return options;
}

ferrule::ServerOptions WorkloadRun::server_options() {
    ferrule::ServerOptions options;
    options.host = choose({"", "", "0.0.0.0", "*", "::"});
    address_family_ =
        options.host != "0.0.0.0" && random_.one_in(3) ? ferrule::AddressFamily::ipv6 : ferrule::AddressFamily::ipv4;
    options.port = choose({0, 8080});
    options.reactors = choose({1u, 1u, 2u, 3u, 4u});
    options.accept_mode =
        choose({ferrule::AcceptMode::per_reactor, ferrule::AcceptMode::per_reactor,
                ferrule::AcceptMode::hand_over_round_robin, ferrule::AcceptMode::hand_over_least_loaded});
    options.pin_reactors = random_.one_in(4);
    options.drain_timeout = 10min;
    options.reactor = reactor_options();
    options.network = network_options();
    ferrule::sim::Random tuning{ferrule::sim::Random::mix(settings_.seed ^ tuning_salt) + 2};
    if (tuning.one_in(6)) options.network.drain_grace = std::chrono::milliseconds(tuning.below(50));
    return options;
}

void WorkloadRun::find(std::string what) {
    simulation().finding(std::move(what));
}

std::uint64_t WorkloadRun::fired(Fault fault) const {
    return simulation_ != nullptr ? simulation_->fired()[fault].times : 0;
}

std::uint64_t WorkloadRun::breaks() const {
    std::uint64_t sum = 0;
    for (const Fault fault : breaking) sum += fired(fault);
    return sum;
}

void WorkloadRun::finish() {
    // Programs that were abandoned in their middle have left everything.
    if (!simulation().run()) return;
    expect(tasks_begun == tasks_ended, "handlers that began have not ended");
    if (!awaits.balanced()) {
        find("of " + std::to_string(awaits.begun) + " awaits " + std::to_string(awaits.ended) + " ended, " +
             std::to_string(awaits.destroyed) + " were destroyed, and " + std::to_string(awaits.ended_again) +
             " ended again");
    }
    // A failed operation of the engine's own may end everything.
    if (may_be_incomplete_ || incomplete_.size() <= breaks() + refused_ || fired(Fault::operation_fails) != 0) return;
    std::string report = std::to_string(incomplete_.size()) + " connections were not served whole, but faults broke " +
                         std::to_string(breaks()) + " and the server refused " + std::to_string(refused_);
    for (std::size_t index = 0; index < std::min(incomplete_.size(), incomplete_reported); ++index) {
        report += "; " + incomplete_[index];
    }
    find(std::move(report));
}

RunResult WorkloadRun::result() const {
    RunResult result;
    result.connections = connections_made;
    result.messages = messages_checked;
    result.bytes = bytes_checked;
    if (simulation_ == nullptr) return result;
    result.findings = simulation_->findings();
    result.faults = simulation_->fired();
    result.fingerprint = simulation_->fingerprint();
    result.operations = simulation_->operations();
    result.virtual_ns = simulation_->now_ns() - ferrule::sim::Simulation::start_ns;
    result.trace = simulation_->trace();
    return result;
}

RunResult run_workload(const Workload& workload, const RunSettings& settings) {
    WorkloadRun run{settings};
    workload.run(run);
    return run.result();
}

}  // namespace ferrule_test
