#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/cross_channel.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/interval.hpp>
#include <ferrule/reactor/retry.hpp>
#include <ferrule/reactor/sharded.hpp>
#include <ferrule/task/task_group.hpp>

#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::CrossReceiver;
using ferrule::CrossSender;
using ferrule::Host;
using ferrule::Reactor;
using ferrule::Task;
using namespace std::chrono_literals;

/// What travels is counted: nothing may be left, and nothing destroyed twice.
struct Load {
    explicit Load(std::int64_t& alive) noexcept : count(&alive) { ++*count; }
    Load(Load&& other) noexcept : count(other.count) { ++*count; }
    Load(const Load& other) noexcept : count(other.count) { ++*count; }
    Load& operator=(const Load&) = delete;
    ~Load() { --*count; }
    std::int64_t* count;
};

struct Parcel {
    std::size_t sender;
    std::uint64_t number;
    Load load;
};

struct Crossing;

/// What a reactor has for the others: a channel into it, and a counter.
struct Station {
    Station(Crossing& of, Reactor& reactor);
    Station(const Station&) = delete;
    Station& operator=(const Station&) = delete;
    ~Station();
    Crossing* crossing;
    Reactor* home;
    CrossReceiver<Parcel> receiver;
    CrossSender<Parcel> keeper = receiver.sender();  // senders come and go, and the channel goes on
    std::uint64_t visits = 0;
};

/// What one sender has sent into a station, and what has come of it.
struct Lane {
    std::size_t station;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
};

struct Crossing {
    WorkloadRun* run;
    ReactorProgram* program;
    std::size_t capacity = 1;
    std::uint32_t steps = 0;
    std::int64_t loads = 0;
    std::uint64_t tasks = 0;
    std::uint64_t tasks_over = 0;
    std::uint64_t calls = 0;
    std::uint64_t working = 0;  // tasks of calls, wherever they are
    std::vector<Lane> lanes{};
    /// By station: its receiver has read to the end of all senders.
    std::vector<bool> read_to_the_end{};
    std::vector<bool> keeper_closed{};
    std::uint64_t receivers = 0;
    std::uint64_t receivers_over = 0;
    std::optional<ferrule::Sharded<Station>> stations{};

    /// Whether all tasks are over; then the channels end, and it is over when they have.
    [[nodiscard]] bool over() {
        if (tasks_over != tasks || working != 0) return false;
        for (std::size_t number = 0; number < keeper_closed.size(); ++number) {
            if (keeper_closed[number]) continue;
            Reactor& reactor = program->reactor(number);
            const auto close = [this] {
                if (Station* station = stations->find_local()) station->keeper.close();
            };
            keeper_closed[number] = reactor.inbox()->closed() || reactor.post(close);
        }
        return receivers_over == receivers;
    }
};

Station::Station(Crossing& of, Reactor& reactor) : crossing(&of), home(&reactor), receiver(of.capacity) {}
Station::~Station() {
    crossing->run->expect(Host::current() == home, "a station ends on another reactor than its own");
}

/// Over when its frame goes, however that comes.
class Counted {
public:
    Counted(Crossing& crossing, std::uint64_t& over) noexcept : over_(&over), count_(*crossing.run) {}
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { ++*over_; }

private:
    std::uint64_t* over_;
    TaskCount count_;
};

struct Trip {
    Crossing* crossing;
    std::uint64_t seed = 0;
    std::size_t lane = 0;
    bool cancelled = false;  // it will be: what it begins need not end by itself
};

std::chrono::nanoseconds pause_of(ferrule::sim::Random& random) {
    return std::chrono::nanoseconds(random.below(3) == 0 ? random.below(3'000'000) : random.below(2'000));
}

// ---- calls ----

Task<std::uint64_t> work_there(Crossing* crossing, Reactor* there, std::uint64_t value,
                               std::chrono::nanoseconds pause) {
    const TaskCount count{*crossing->run};
    struct Working {
        explicit Working(std::uint64_t& counter) noexcept : number(&counter) { ++*number; }
        Working(const Working&) = delete;
        Working& operator=(const Working&) = delete;
        ~Working() { --*number; }
        std::uint64_t* number;
    };
    const Working working{crossing->working};
    const auto slept = co_await crossing->run->watch(ferrule::sleep_for(pause));
    crossing->run->expect(Host::current() == there, "a task of a call goes on on another reactor");
    const ferrule::Environment& environment = co_await ferrule::this_environment();
    const std::uint64_t deadline = ferrule::earliest_deadline_ns(environment.scope);
    if (slept) co_return value;
    crossing->run->expect(environment.scope->cancelled(), "a sleep ends without its time or its scope");
    if (value % 4 == 0) throw std::runtime_error("the task there was cancelled");
    co_return deadline != 0 ? 0 : value;
}

/// One call of a kind that chance chooses. The caller may be cancelled or destroyed anywhere in it.
Task<> call_once(Trip trip, Reactor* target) {
    Crossing& crossing = *trip.crossing;
    WorkloadRun& run = *crossing.run;
    const TaskCount count{run};
    ferrule::sim::Random random{trip.seed};
    Reactor* const home = Reactor::current();
    const std::uint64_t expected = random.next();
    const std::uint64_t kind = random.below(4);
    ++crossing.calls;
    if (kind == 0) {
        auto function = [&run, expected, target, load = Load(crossing.loads)] {
            run.expect(Host::current() == target, "a call runs on another reactor than it was sent to");
            return std::pair(expected, Load(load));
        };
        const auto answer = co_await run.watch(ferrule::call(*target, std::move(function)));
        if (answer) run.expect(answer->first == expected, "a call has another's result");
    } else if (kind == 1) {
        auto function = [load = Load(crossing.loads)]() -> int { throw std::invalid_argument("there"); };
        bool thrown = false;
        bool refused = false;
        try {
            const auto answer = co_await run.watch(ferrule::call(*target, std::move(function)));
            refused = !answer;
        } catch (const std::invalid_argument&) {
            thrown = true;
        }
        run.expect(thrown != refused, "a call that throws has ended otherwise");
    } else {
        // Longer than anybody waits, where the cancellation or the deadline of the caller ends it.
        const bool endless = trip.cancelled || kind == 3;
        const auto pause = endless && random.one_in(2) ? std::chrono::nanoseconds(10h) : pause_of(random);
        auto function = [&crossing, target, expected, pause, load = Load(crossing.loads)] {
            return work_there(&crossing, target, expected, pause);
        };
        try {
            if (kind == 2) {
                const auto answer = co_await run.watch(ferrule::call(*target, std::move(function)));
                if (answer) run.expect(*answer == expected || *answer == 0, "a call has another's result");
            } else {
                auto bounded = ferrule::with_deadline(ferrule::call(*target, std::move(function)), pause_of(random));
                const auto answer = co_await run.watch(std::move(bounded));
                if (answer) run.expect(*answer == expected || *answer == 0, "a call has another's result");
            }
        } catch (const std::runtime_error&) {
        }
    }
    run.expect(Host::current() == home, "a call has not come home");
}

/// A task that is destroyed instead of being awaited to its end.
struct Unawaited : ferrule::detail::Completion {
    Unawaited() noexcept {
        ended = [](Completion&, ferrule::PromiseBase&, bool) noexcept -> std::coroutine_handle<> {
            return std::noop_coroutine();
        };
    }
};

Task<> call_many(Trip trip) {
    Crossing& crossing = *trip.crossing;
    WorkloadRun& run = *crossing.run;
    const Counted counted{crossing, crossing.tasks_over};
    ferrule::sim::Random random{trip.seed};
    ferrule::Environment& environment = co_await ferrule::this_environment();
    for (std::uint32_t step = 0; step < crossing.steps && !environment.scope->cancelled(); ++step) {
        Reactor& target = crossing.program->reactor(random.below(crossing.program->size()));
        const std::uint64_t end = random.below(4);
        const Trip next{&crossing, random.next(), 0, end < 2};
        if (end == 0) {
            Unawaited unawaited;
            Task<> dropped = call_once(next, &target);
            dropped.start_observed(environment, unawaited);
            if (random.one_in(2)) static_cast<void>(co_await run.watch(ferrule::sleep_for(pause_of(random))));
        } else if (end == 1) {
            ferrule::TaskGroup group(environment);
            static_cast<void>(group.spawn(call_once(next, &target)));
            if (random.one_in(2)) static_cast<void>(co_await run.watch(ferrule::sleep_for(pause_of(random))));
            group.cancel();
            co_await group.join();
        } else {
            co_await call_once(next, &target);
        }
    }
}

// ---- a value for each reactor ----

Task<std::expected<std::uint64_t, std::error_code>> look_at(Crossing* crossing, std::size_t number) {
    auto look = [](Station& there) { return there.visits; };
    co_return co_await crossing->stations->on(number, look);
}

Task<> visit_all(Trip trip) {
    Crossing& crossing = *trip.crossing;
    WorkloadRun& run = *crossing.run;
    const Counted counted{crossing, crossing.tasks_over};
    ferrule::sim::Random random{trip.seed};
    const ferrule::Environment& environment = co_await ferrule::this_environment();
    for (std::uint32_t step = 0; step < crossing.steps && !environment.scope->cancelled(); ++step) {
        auto visit = [&run](Station& there) {
            run.expect(Host::current() == there.home, "a station is visited from another reactor");
            return ++there.visits;
        };
        if (random.one_in(2)) {
            const std::size_t number = random.below(crossing.stations->size());
            static_cast<void>(co_await run.watch(crossing.stations->on(number, visit)));
        } else {
            const auto sum = co_await run.watch(crossing.stations->fold(std::uint64_t{0}, visit, std::plus<>()));
            if (sum) run.expect(*sum >= crossing.stations->size(), "a fold has left a reactor out");
        }
        auto attempt = [&crossing, number = random.below(crossing.stations->size())] {
            return look_at(&crossing, number);
        };
        const ferrule::RetryOptions options{.attempts = 3, .base = 1us, .cap = 1ms};
        static_cast<void>(co_await run.watch(ferrule::retry(options, attempt)));
    }
}

// ---- channels ----

Task<> send_parcels(Trip trip) {
    Crossing& crossing = *trip.crossing;
    WorkloadRun& run = *crossing.run;
    const Counted counted{crossing, crossing.tasks_over};
    ferrule::sim::Random random{trip.seed};
    Lane& lane = crossing.lanes[trip.lane];
    auto ask = [](Station& there) { return there.receiver.sender(); };
    auto asked = co_await run.watch(crossing.stations->on(lane.station, ask));
    if (!asked) co_return;
    CrossSender<Parcel> sender = std::move(*asked);
    const ferrule::Environment& environment = co_await ferrule::this_environment();
    while (lane.sent < crossing.steps && !environment.scope->cancelled() && !sender.closed()) {
        // A number that was not sent comes again: had it been sent all the same, it would come twice.
        Parcel parcel{trip.lane, lane.sent, Load(crossing.loads)};
        bool sent = false;
        switch (random.below(3)) {
            case 0:
                sent = sender.try_send(parcel);
                if (!sent) co_await run.watch(yield_once());
                break;
            case 1: {
                auto bounded = ferrule::with_deadline(sender.send(std::move(parcel)), pause_of(random));
                const auto result = co_await run.watch(std::move(bounded));
                sent = result.has_value();
                break;
            }
            default: {
                const auto result = co_await run.watch(sender.send(std::move(parcel)));
                sent = result.has_value();
                break;
            }
        }
        if (sent) ++lane.sent;
        if (random.one_in(8)) static_cast<void>(co_await run.watch(ferrule::sleep_for(pause_of(random))));
    }
}

void take_parcel(Crossing& crossing, std::size_t station, const Parcel& parcel) {
    Lane& lane = crossing.lanes[parcel.sender];
    crossing.run->expect(lane.station == station, "an item has come to another receiver");
    crossing.run->expect(parcel.number == lane.received, "an item is lost, doubled, or out of its order");
    ++lane.received;
}

Task<> receive_parcels(Trip trip, Station* station, std::uint64_t close_behind) {
    Crossing& crossing = *trip.crossing;
    WorkloadRun& run = *crossing.run;
    const Counted counted{crossing, crossing.receivers_over};
    ferrule::sim::Random random{trip.seed};
    const ferrule::Environment& environment = co_await ferrule::this_environment();
    const std::size_t number = station->home->id();
    const std::size_t limit = random.one_in(2) ? random.between(1, 5) : ~std::size_t{0};
    std::error_code error;
    for (std::uint64_t taken = 0; !error;) {
        if (random.one_in(3)) {
            const auto parcel = co_await run.watch(station->receiver.receive());
            if (parcel) {
                take_parcel(crossing, number, *parcel);
                ++taken;
            } else {
                error = parcel.error();
            }
        } else {
            const auto batch = co_await run.watch(station->receiver.receive_batch(limit));
            if (batch) {
                for (const Parcel& parcel : *batch) take_parcel(crossing, number, parcel);
                taken += batch->size();
                if (random.one_in(8)) static_cast<void>(co_await run.watch(ferrule::sleep_for(pause_of(random))));
            } else {
                error = batch.error();
            }
        }
        if (taken >= close_behind) station->receiver.close();
        if (random.one_in(8)) static_cast<void>(co_await run.watch(ferrule::sleep_for(pause_of(random))));
    }
    const bool over = error == std::errc::broken_pipe && close_behind == ~std::uint64_t{0};
    crossing.read_to_the_end[number] = over && !environment.scope->cancelled();
}

// ---- the program ----

void start_station(Crossing& crossing, Reactor& reactor, Trip trip, std::uint64_t close_behind) {
    crossing.stations->start(reactor);
    ++crossing.receivers;
    reactor.spawn(receive_parcels(trip, &crossing.stations->local(), close_behind));
}

void spawn_trips(Crossing& crossing, std::uint64_t seed, std::uint32_t trips) {
    ferrule::sim::Random random{seed};
    for (std::size_t index = 0; index < crossing.program->size(); ++index) {
        Reactor& reactor = crossing.program->reactor(index);
        for (std::uint32_t number = 0; number < trips; ++number) {
            const std::uint64_t kind = random.below(4);
            Trip trip{&crossing, random.next(), 0};
            if (kind >= 2) {
                trip.lane = crossing.lanes.size();
                crossing.lanes.push_back({random.below(crossing.program->size())});
            }
            const auto spawn = [&reactor, trip, kind] {
                reactor.spawn(kind == 0 ? call_many(trip) : kind == 1 ? visit_all(trip) : send_parcels(trip));
            };
            // A reactor that has ended in the meantime has no trips.
            ++crossing.tasks;
            const auto taken = [&] { return reactor.post(spawn) || reactor.inbox()->closed(); };
            if (!crossing.run->wait_until(taken, "room in a mailbox")) return;
            if (reactor.inbox()->closed()) ++crossing.tasks_over;
        }
    }
}

void check_lanes(Crossing& crossing) {
    WorkloadRun& run = *crossing.run;
    for (const Lane& lane : crossing.lanes) {
        run.expect(lane.received <= lane.sent, "more items have come than were sent");
        if (crossing.read_to_the_end[lane.station])
            run.expect(lane.received == lane.sent, "a receiver has read to the end, and items are missing");
        run.messages_checked += lane.received;
    }
    run.expect(crossing.loads == 0, "something that has travelled is left, or was destroyed twice");
    run.messages_checked += crossing.calls;
}

void run_crossing(WorkloadRun& run) {
    ferrule::ReactorOptions options = run.reactor_options();
    options.mailbox_limit = run.choose({1u, 3u, 1u << 20, 1u << 20});
    ReactorProgram program{run, run.random().between(1, 4), options, run.network_options()};
    Crossing crossing{&run, &program};
    crossing.capacity = run.choose({1u, 2u, 3u, 16u, 100u});
    crossing.steps = run.messages(1, 40);
    crossing.read_to_the_end.resize(program.size());
    crossing.keeper_closed.resize(program.size());
    // A lane is referred to by tasks while others are added.
    const std::uint32_t trips = run.connections(1, 10);
    crossing.lanes.reserve(std::size_t{trips} * program.size());
    crossing.stations.emplace(program.size(), [&crossing](Reactor& reactor) { return Station(crossing, reactor); });
    const std::uint64_t seed = run.random().next();
    const bool closes = run.random().one_in(4);
    program.on_start([&crossing, closes, seed](Reactor& reactor) {
        ferrule::sim::Random random{seed + reactor.id() + 1};
        const std::uint64_t close_behind = closes ? random.between(1, 50) : ~std::uint64_t{0};
        start_station(crossing, reactor, {&crossing, random.next(), 0}, close_behind);
    });
    // One of them ends in the middle of everything.
    const bool one_ends = program.size() > 1 && run.random().one_in(3);
    const auto until_end = std::chrono::nanoseconds(run.random().below(5'000'000));
    if (one_ends) program.outlast(1);
    program.main([&crossing, &program, &run, seed, trips, one_ends, until_end] {
        spawn_trips(crossing, seed, trips);
        if (!one_ends) return;
        run.pause(until_end);
        program.reactor(program.size() - 1).stop();
    });
    program.until([&crossing] { return crossing.over(); });
    // It holds the mailboxes of its reactors.
    program.on_end([&crossing](Reactor&) { crossing.stations.reset(); });
    program.start();
    run.finish();
    if (run.result().findings.empty()) check_lanes(crossing);
}

}  // namespace

const Workload crossing_workload{"crossing", "calls, folds and channels between reactors, some of which end meanwhile",
                                 run_crossing};

}  // namespace ferrule_test
