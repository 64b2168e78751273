#include <ferrule/reactor/deadline.hpp>
#include <ferrule/ring/prepare.hpp>

#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Operation;
using ferrule::OperationResult;
using ferrule::Reactor;
using ferrule::Task;
using ferrule::sim::Fault;
namespace abi = ferrule::abi;
namespace prepare = ferrule::prepare;

constexpr std::size_t bells_per_task = 3;
constexpr std::uint64_t flights_max = 6;
// Beyond this many operations at a time a reactor of this workload refuses.
constexpr std::uint32_t few_operations = 8;

// Of a timeout: the kernel reads it when it takes the entry.
constexpr std::array<abi::Timespec, 4> durations = {{{0, 1}, {0, 2'000}, {0, 700'000}, {0, 20'000'000}}};

/// An event descriptor, and whether anybody has written to it.
struct Bell {
    int descriptor = -1;
    bool rung = false;
};

struct Operations {
    WorkloadRun* run;
    std::uint32_t operation_limit = 0;
    std::uint64_t tasks = 0;
    std::uint64_t tasks_over = 0;
    std::uint64_t refused = 0;

    void ring(Bell& bell) const {
        if (bell.descriptor < 0) return;
        bell.rung = true;
        const std::uint64_t one = 1;
        static_cast<void>(run->server_machine().kernel().write(bell.descriptor, &one, sizeof one));
    }
};

/// An operation under way, and what it may end with.
struct Flight {
    enum class Kind : std::uint8_t { nothing, hear, write_room, timeout, sleep };
    Kind kind;
    Bell* bell;
    std::uint64_t due_ns;
    std::optional<Operation> operation{};
    bool cancelled = false;
};

class Flights {
public:
    Flights(Operations& operations, std::uint64_t seed) : operations_(&operations), random_(seed) {
        for (Bell& bell : *bells_) {
            bell.descriptor = kernel().event_descriptor(0, EFD_NONBLOCK | EFD_CLOEXEC);
            operations.run->expect(bell.descriptor >= 0, "there is no event descriptor");
        }
    }
    Flights(const Flights&) = delete;
    Flights& operator=(const Flights&) = delete;
    ~Flights() {
        for (Bell& bell : *bells_) kernel().close(std::exchange(bell.descriptor, -1));
    }

    [[nodiscard]] ferrule::sim::Random& random() noexcept { return random_; }
    [[nodiscard]] bool empty() const noexcept { return flights_.empty(); }

    void begin(Reactor& reactor) {
        const auto kind = static_cast<Flight::Kind>(random_.below(5));
        Bell* const bell = &(*bells_)[random_.below(bells_per_task)];
        flights_.push_back(std::make_unique<Flight>(kind, bell, operations_->run->simulation().now_ns()));
        Flight& flight = *flights_.back();
        const abi::Timespec& duration = durations[random_.below(durations.size())];
        const int descriptor = flight.bell->descriptor;
        switch (kind) {
            case Flight::Kind::nothing:
                flight.operation.emplace(reactor.submit("nothing", [](auto& entry) { prepare::nop(entry); }));
                break;
            case Flight::Kind::hear:
                flight.operation.emplace(reactor.submit(
                    "hear", [descriptor](auto& entry) { prepare::poll_add(entry, descriptor, POLLIN); }));
                break;
            case Flight::Kind::write_room:
                flight.operation.emplace(reactor.submit(
                    "write room", [descriptor](auto& entry) { prepare::poll_add(entry, descriptor, POLLOUT); }));
                break;
            case Flight::Kind::timeout:
                flight.due_ns += static_cast<std::uint64_t>(duration.nanoseconds);
                flight.operation.emplace(
                    reactor.submit("timeout", [&duration](auto& entry) { prepare::timeout(entry, &duration, 0, 0); }));
                break;
            case Flight::Kind::sleep:
                flight.due_ns += static_cast<std::uint64_t>(duration.nanoseconds);
                flight.operation.emplace(reactor.wait_until(flight.due_ns));
                break;
        }
    }

    /// One of those under way, which is none of them any more.
    std::unique_ptr<Flight> take_any() {
        std::swap(flights_[random_.below(flights_.size())], flights_.back());
        std::unique_ptr<Flight> flight = std::move(flights_.back());
        flights_.pop_back();
        return flight;
    }

    /// So that what listens ends: now, or by somebody else later.
    void ring(Bell& bell) {
        if (random_.one_in(2)) return operations_->ring(bell);
        ferrule::sim::Simulation& simulation = operations_->run->simulation();
        simulation.at(simulation.now_ns() + random_.below(1'000'000),
                      [operations = operations_, bells = bells_, &bell] { operations->ring(bell); });
    }

    /// All that was heard is heard: the next poll waits again.
    void silence() {
        for (Bell& bell : *bells_) {
            if (!bell.rung) continue;
            std::uint64_t count = 0;
            static_cast<void>(kernel().read(bell.descriptor, &count, sizeof count));
            bell.rung = false;
        }
    }

    void check(const Flight& flight, OperationResult ended) const {
        WorkloadRun& run = *operations_->run;
        ++run.messages_checked;
        const std::int32_t result = ended.result;
        if (result == -ENOBUFS && operations_->operation_limit == few_operations) {
            ++operations_->refused;
            return;
        }
        if (result == -EIO && run.fired(Fault::operation_fails) != 0) return;
        const bool waits = flight.kind != Flight::Kind::nothing;
        if (waits && flight.cancelled && result == -ECANCELED) return;
        const bool over = run.simulation().now_ns() >= flight.due_ns;
        bool right = false;
        switch (flight.kind) {
            case Flight::Kind::nothing:
                right = result == 0;
                break;
            case Flight::Kind::hear:
                right = result == POLLIN && flight.bell->rung;
                break;
            case Flight::Kind::write_room:
                right = result == POLLOUT;
                break;
            case Flight::Kind::timeout:
                right = result == -ETIME && over;
                break;
            case Flight::Kind::sleep:
                right = result == 0 && over;
                break;
        }
        if (right) return;
        constexpr std::array names = {"a nop", "a poll for bytes", "a poll for room", "a timeout", "a sleep"};
        run.find(std::string(names[static_cast<std::size_t>(flight.kind)]) + (flight.cancelled ? ", cancelled," : "") +
                 " has ended with " + std::to_string(result) + ", which is not its own");
    }

private:
    [[nodiscard]] ferrule::Kernel& kernel() const { return operations_->run->server_machine().kernel(); }

    Operations* operations_;
    ferrule::sim::Random random_;
    // Who rings later has them, too.
    std::shared_ptr<std::array<Bell, bells_per_task>> bells_ = std::make_shared<std::array<Bell, bells_per_task>>();
    std::vector<std::unique_ptr<Flight>> flights_;
};

// As many slots as there are, each again as soon as it is free: an end that comes late finds a stranger in it.
Task<> fly(Operations* operations, std::uint64_t seed, std::uint32_t rounds) {
    WorkloadRun& run = *operations->run;
    const TaskCount count{run};
    Reactor& reactor = *Reactor::current();
    Flights flights{*operations, seed};
    ferrule::sim::Random& random = flights.random();
    for (std::uint32_t round = 0; round < rounds; ++round) {
        for (std::uint64_t number = random.between(1, flights_max); number != 0; --number) flights.begin(reactor);
        if (random.one_in(3)) co_await run.watch(yield_once());
        while (!flights.empty()) {
            const std::unique_ptr<Flight> taken = flights.take_any();
            Flight& flight = *taken;
            if (random.one_in(3)) {
                flight.operation.reset();
                continue;
            }
            if (random.one_in(4)) {
                flight.operation->cancel();
                flight.cancelled = true;
            } else if (flight.kind == Flight::Kind::hear) {
                flights.ring(*flight.bell);
            }
            OperationResult ended;
            if (random.one_in(4)) {
                const auto patience = std::chrono::nanoseconds(random.below(1'000'000));
                flight.cancelled = true;
                auto limited = ferrule::with_deadline(std::move(*flight.operation), patience);
                ended = co_await run.watch(std::move(limited));
            } else {
                ended = co_await run.watch(std::move(*flight.operation));
            }
            flights.check(flight, ended);
        }
        flights.silence();
    }
    ++operations->tasks_over;
}

void run_operations(WorkloadRun& run) {
    ferrule::ReactorOptions options = run.reactor_options();
    options.operation_limit = run.choose({few_operations, 1u << 20, 1u << 20});
    ReactorProgram program{run, run.random().between(1, 2), options, run.network_options()};
    Operations operations{&run, options.operation_limit};
    const std::uint32_t tasks = run.connections(1, 8);
    const std::uint32_t rounds = run.messages(1, 60);
    operations.tasks = tasks * program.size();
    program.on_start([&run, &operations, tasks, rounds](Reactor& reactor) {
        ferrule::sim::Random random = run.fork();
        for (std::uint32_t task = 0; task < tasks; ++task) {
            reactor.spawn(fly(&operations, random.next(), rounds));
        }
    });
    program.on_end([&run](Reactor& reactor) {
        run.expect(reactor.counters().stale_completions.value() == 0,
                   "a completion has come for an operation that was over");
    });
    program.until([&operations] { return operations.tasks_over == operations.tasks; });
    program.start();
    run.finish();
}

}  // namespace

const Workload operations_workload{"operations", "operations awaited, dropped and cancelled in quick succession",
                                   run_operations};

}  // namespace ferrule_test
