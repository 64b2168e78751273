#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/channel.hpp>
#include <ferrule/task/event.hpp>
#include <ferrule/task/gate.hpp>
#include <ferrule/task/mutex.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/select.hpp>
#include <ferrule/task/semaphore.hpp>
#include <ferrule/task/stream.hpp>

#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::CancelReason;
using ferrule::CancelScope;
using ferrule::Channel;
using ferrule::Environment;
using ferrule::Reactor;
using ferrule::Stream;
using ferrule::Task;

// Who sends when no task of the run does.
constexpr std::uint32_t tide_sender = 0;
// Rounds of the tide without a step of anybody: a third of a second and more.
constexpr std::uint64_t rounds_without_a_step_max = 50'000;

/// What goes through the channel. It knows whether it is still somebody's.
class Item {
public:
    Item(std::int64_t& alive, std::uint32_t sender, std::uint64_t number) noexcept
        : alive_(&alive), sender_(sender), number_(number) {
        ++*alive_;
    }
    Item(Item&& other) noexcept
        : alive_(std::exchange(other.alive_, nullptr)), sender_(other.sender_), number_(other.number_) {}
    Item& operator=(Item&&) = delete;
    ~Item() {
        if (alive_ != nullptr) --*alive_;
    }

    [[nodiscard]] bool whole() const noexcept { return alive_ != nullptr; }
    [[nodiscard]] std::uint32_t sender() const noexcept { return sender_; }
    [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

private:
    std::int64_t* alive_;
    std::uint32_t sender_;
    std::uint64_t number_;
};

/// What a task does, one after the other.
enum class Step : std::uint8_t {
    acquire,
    lock,
    send,
    receive,
    wait,
    hold,
    acquire_with_deadline,
    receive_with_deadline,
    send_with_deadline,
    select_receive_or_sleep,
    select_send_or_event,
    select_among_three,
    stream,
    stream_or_sleep,
    count_of_steps,
};

/// How a task is ended from outside.
enum class Ending : std::uint8_t {
    cancel_at_once,  ///< in the middle of the suspension itself
    cancel_posted,   ///< from the mailbox, behind what is there
    cancel_later,    ///< from a timer, when chance says
    destroy,         ///< its frame is destroyed where it is suspended
    count_of_endings,
};

struct Iteration;

/// Those who wait for one thing, as the tasks themselves see it: nobody may be served before one who came earlier.
struct Line {
    struct Waiting {
        const Iteration* who;
        std::uint32_t wanted;
        /// It may have given up, and not know it yet.
        bool limited;
    };
    std::vector<Waiting> waiting{};
};

/// One of each, of one reactor, and what must hold of them.
struct World {
    WorkloadRun* run;
    std::uint32_t units;
    ferrule::Semaphore semaphore{units};
    ferrule::Mutex mutex{};
    ferrule::Gate gate{};
    ferrule::Event event{};
    Channel<Item> channel;
    Line units_line{};
    Line mutex_line{};
    Line senders{};
    Line receivers{};

    std::uint64_t tasks = 0;
    std::uint64_t tasks_over = 0;
    bool tide_over = false;
    std::uint64_t steps = 0;
    /// The channel may be closed on the way.
    bool closing = false;
    std::uint64_t units_used = 0;
    std::uint64_t mutex_used = 0;
    std::uint64_t inside = 0;
    std::int64_t items_alive = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint32_t senders_made = tide_sender;
    std::map<std::uint32_t, std::uint64_t> last{};

    World(WorkloadRun& the_run, std::uint32_t the_units, std::size_t capacity)
        : run(&the_run), units(the_units), channel(capacity) {}

    void take(const Item& item) {
        ++received;
        ++run->messages_checked;
        run->expect(item.whole(), "an item that was moved from has been received");
        std::uint64_t& before = last[item.sender()];
        run->expect(before < item.number(), "an item was received twice, or has overtaken one of the same sender");
        before = item.number();
    }

    void check_units_line() const;
};

/// One run of a task, which is ended at its n-th suspension.
struct Iteration {
    World* world;
    ferrule::sim::Random random;
    Reactor* home;
    std::uint32_t sender;
    std::uint64_t sent = 0;
    AwaitWatch watch{};
    CancelScope* scope = nullptr;
    Ending ending{};
    std::uint64_t suspension = 0;
    bool injected = false;
    bool over = false;
    std::coroutine_handle<> watcher{};

    template <class Awaiter>
    Watched<Awaiter> watched(Awaiter awaiter) {
        return Watched<Awaiter>{watch, std::move(awaiter)};
    }
    [[nodiscard]] bool cancelled() const noexcept { return scope->cancelled(); }

    Item item() { return Item(world->items_alive, sender, ++sent); }

    /// An await that was not granted says why, and only what is so.
    void check(const std::error_code& error, bool limited, bool may_close = false) const {
        if (error == std::errc::operation_canceled && (limited || cancelled())) return;
        if (error == std::errc::broken_pipe && may_close && world->channel.closed()) return;
        world->run->find("an await has ended with " + error.message() + ", and nobody has asked for that");
    }
    void check_sent(const std::expected<void, std::error_code>& ended, const Item& item, bool limited) const {
        world->run->expect(ended.has_value() != item.whole(), "an item is sent and still its sender's, or neither");
        if (ended) {
            ++world->sent;
        } else {
            check(ended.error(), limited, true);
        }
    }
    void check_received(const std::expected<Item, std::error_code>& ended, bool limited) const {
        if (ended) {
            world->take(*ended);
        } else {
            check(ended.error(), limited, true);
            world->run->expect(ended.error() != std::errc::broken_pipe || world->channel.size() == 0,
                               "a receiver was told of the end beside an item");
        }
    }
};

/// From before an await until its end.
class Place {
public:
    Place(Line& line, const Iteration& who, std::uint32_t wanted = 1, bool limited = false) : line_(&line), who_(&who) {
        line.waiting.push_back({&who, wanted, limited});
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
        std::erase_if(line_->waiting, [this](const Line::Waiting& each) { return each.who == who_; });
    }

    /// It has been served.
    void served() const {
        for (const Line::Waiting& each : line_->waiting) {
            if (each.who == who_) return;
            if (!each.limited && !each.who->cancelled())
                who_->world->run->find("somebody who came later was served first");
        }
    }

private:
    Line* line_;
    const Iteration* who_;
};

void World::check_units_line() const {
    // Somebody has been given units, and has not run.
    if (semaphore.taken() != units_used) return;
    for (const Line::Waiting& each : units_line.waiting) {
        if (each.limited) return;
        if (each.who->cancelled()) continue;
        run->expect(each.wanted > semaphore.available(), "there are units, and the first in the line waits");
        return;
    }
}

Task<> pass_time(Iteration* iteration) {
    if (iteration->random.one_in(2)) {
        co_await iteration->watched(yield_once());
    } else {
        const auto pause = std::chrono::nanoseconds(iteration->random.below(20'000));
        static_cast<void>(co_await iteration->watched(ferrule::sleep_for(pause)));
    }
}

/// Units, or another thing, are used over a wait, which may be where the task is destroyed.
class Use {
public:
    Use(std::uint64_t& count, std::uint64_t by) noexcept : count_(&count), by_(by) { *count_ += by_; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { *count_ -= by_; }

private:
    std::uint64_t* count_;
    std::uint64_t by_;
};

Task<> use_units(Iteration* iteration, std::uint32_t units) {
    World& world = *iteration->world;
    const Use use(world.units_used, units);
    world.run->expect(world.units_used <= world.units, "more units are used than there are");
    world.run->expect(world.units_used <= world.semaphore.taken(), "units are used that are not taken");
    co_await pass_time(iteration);
}

Task<> acquire(Iteration* iteration) {
    World& world = *iteration->world;
    const auto units = static_cast<std::uint32_t>(iteration->random.between(1, world.units));
    // Who need not wait may take what is left beside units that are given to one who has not run.
    const std::uint64_t suspended = iteration->watch.suspended;
    std::optional<Place> place(std::in_place, world.units_line, *iteration, units);
    auto got = co_await iteration->watched(world.semaphore.acquire(units));
    if (got && iteration->watch.suspended != suspended) place->served();
    place.reset();
    if (!got) {
        iteration->check(got.error(), false);
        co_return;
    }
    world.run->expect(got->count() == units, "other units were given than were asked for");
    if (units > 1 && iteration->random.one_in(4)) auto rest = got->split(1);
    co_await use_units(iteration, got->count());
}

Task<> lock(Iteration* iteration) {
    World& world = *iteration->world;
    std::optional<Place> place(std::in_place, world.mutex_line, *iteration);
    const auto guard = co_await iteration->watched(world.mutex.lock());
    if (guard) place->served();
    place.reset();
    if (!guard) {
        iteration->check(guard.error(), false);
        co_return;
    }
    world.run->expect(world.mutex_used == 0, "a mutex is two tasks' at once");
    const Use use(world.mutex_used, 1);
    co_await pass_time(iteration);
}

Task<> send(Iteration* iteration) {
    Item item = iteration->item();
    std::optional<Place> place(std::in_place, iteration->world->senders, *iteration);
    const auto ended = co_await iteration->watched(iteration->world->channel.send(std::move(item)));
    if (ended) place->served();
    place.reset();
    iteration->check_sent(ended, item, false);
}

Task<> receive(Iteration* iteration) {
    std::optional<Place> place(std::in_place, iteration->world->receivers, *iteration);
    const auto ended = co_await iteration->watched(iteration->world->channel.receive());
    if (ended) place->served();
    place.reset();
    iteration->check_received(ended, false);
}

Task<> wait(Iteration* iteration) {
    const auto ended = co_await iteration->watched(iteration->world->event.wait());
    if (!ended) iteration->check(ended.error(), false);
}

Task<> hold(Iteration* iteration) {
    World& world = *iteration->world;
    const auto inside = world.gate.hold();
    world.run->expect(inside.has_value(), "a gate is closed, and nobody has closed it");
    const Use use(world.inside, 1);
    co_await pass_time(iteration);
}

std::chrono::nanoseconds patience(Iteration& iteration) {
    return std::chrono::nanoseconds(iteration.random.below(200'000));
}

Task<> acquire_with_deadline(Iteration* iteration) {
    World& world = *iteration->world;
    auto limited = ferrule::with_deadline(world.semaphore.acquire(world.units), patience(*iteration));
    std::optional<Place> place(std::in_place, world.units_line, *iteration, world.units, true);
    auto got = co_await iteration->watched(std::move(limited));
    place.reset();
    if (got) {
        co_await use_units(iteration, got->count());
    } else {
        iteration->check(got.error(), true);
    }
}

Task<> receive_with_deadline(Iteration* iteration) {
    auto limited = ferrule::with_deadline(iteration->world->channel.receive(), patience(*iteration));
    const auto ended = co_await iteration->watched(std::move(limited));
    iteration->check_received(ended, true);
}

Task<> send_with_deadline(Iteration* iteration) {
    Item item = iteration->item();
    auto limited = ferrule::with_deadline(iteration->world->channel.send(std::move(item)), patience(*iteration));
    const auto ended = co_await iteration->watched(std::move(limited));
    iteration->check_sent(ended, item, true);
}

Task<> select_receive_or_sleep(Iteration* iteration) {
    auto selected = ferrule::select(iteration->world->channel.receive(), ferrule::sleep_for(patience(*iteration)));
    const auto first = co_await iteration->watched(std::move(selected));
    if (const auto* ended = std::get_if<0>(&first)) iteration->check_received(*ended, false);
}

Task<> select_send_or_event(Iteration* iteration) {
    World& world = *iteration->world;
    Item item = iteration->item();
    auto selected = ferrule::select(world.channel.send(std::move(item)), world.event.wait());
    const auto first = co_await iteration->watched(std::move(selected));
    if (const auto* ended = std::get_if<0>(&first)) {
        iteration->check_sent(*ended, item, false);
    } else {
        world.run->expect(item.whole(), "a send that lost a select has taken the item");
    }
}

Task<> select_among_three(Iteration* iteration) {
    World& world = *iteration->world;
    Item item = iteration->item();
    auto selected =
        ferrule::select(world.channel.receive(), world.semaphore.acquire(1), world.channel.send(std::move(item)));
    std::optional<Place> place(std::in_place, world.units_line, *iteration, 1, true);
    auto first = co_await iteration->watched(std::move(selected));
    place.reset();
    world.run->expect(first.index() == 2 || item.whole(), "a send that lost a select has taken the item");
    if (const auto* ended = std::get_if<0>(&first)) iteration->check_received(*ended, false);
    if (const auto* ended = std::get_if<2>(&first)) iteration->check_sent(*ended, item, false);
    if (auto* units = std::get_if<1>(&first)) {
        if (*units) {
            co_await use_units(iteration, (*units)->count());
        } else {
            iteration->check(units->error(), false);
        }
    }
}

// ---- streams ----

/// Numbers without gaps; now and then it waits for something that ends, however it ends.
Stream<std::uint64_t> count_up(Iteration* iteration, std::uint64_t count) {
    const TaskCount counted{*iteration->world->run};
    for (std::uint64_t number = 1; number <= count; ++number) {
        switch (iteration->random.below(3)) {
            case 0:
                static_cast<void>(co_await iteration->watched(iteration->world->event.wait()));
                break;
            case 1:
                co_await pass_time(iteration);
                break;
            default:
                break;
        }
        co_yield std::uint64_t{number};
    }
}

Task<> read_stream(Iteration* iteration, bool gives_up) {
    World& world = *iteration->world;
    constexpr std::uint64_t count = 5;
    auto numbers = count_up(iteration, count);
    std::uint64_t expected = 1;
    while (true) {
        std::optional<std::uint64_t> number;
        if (gives_up) {
            auto selected = ferrule::select(numbers.next(), ferrule::sleep_for(patience(*iteration) / 16));
            const auto first = co_await iteration->watched(std::move(selected));
            if (first.index() == 1) {
                if (iteration->cancelled()) co_return;
                continue;
            }
            number = std::get<0>(first);
        } else {
            number = co_await iteration->watched(numbers.next());
        }
        if (!number) break;
        world.run->expect(*number == expected, "a stream has lost an item, or given one twice");
        ++expected;
    }
    world.run->expect(expected == count + 1, "a stream has ended before its body");
}

// ---- one iteration ----

Task<> take_step(Iteration* iteration, Step step) {
    switch (step) {
        case Step::acquire:
            return acquire(iteration);
        case Step::lock:
            return lock(iteration);
        case Step::send:
            return send(iteration);
        case Step::receive:
            return receive(iteration);
        case Step::wait:
            return wait(iteration);
        case Step::hold:
            return hold(iteration);
        case Step::acquire_with_deadline:
            return acquire_with_deadline(iteration);
        case Step::receive_with_deadline:
            return receive_with_deadline(iteration);
        case Step::send_with_deadline:
            return send_with_deadline(iteration);
        case Step::select_receive_or_sleep:
            return select_receive_or_sleep(iteration);
        case Step::select_send_or_event:
            return select_send_or_event(iteration);
        case Step::select_among_three:
            return select_among_three(iteration);
        case Step::stream:
            return read_stream(iteration, false);
        case Step::stream_or_sleep:
            return read_stream(iteration, true);
        case Step::count_of_steps:
            break;
    }
    return {};
}

void resume_watcher(Iteration& iteration) {
    if (const auto watcher = std::exchange(iteration.watcher, nullptr)) iteration.home->resume_later(watcher);
}

Task<> scenario(Iteration* iteration, const std::vector<Step>* steps) {
    const TaskCount count{*iteration->world->run};
    for (const Step step : *steps) {
        co_await take_step(iteration, step);
        ++iteration->world->steps;
    }
    iteration->over = true;
    resume_watcher(*iteration);
}

/// Reaches an iteration that may be over.
using Reach = std::shared_ptr<Iteration*>;

void cancel_now(const Reach& reach) {
    if (*reach != nullptr) (*reach)->scope->cancel(CancelReason::cancelled);
}

Task<> cancel_after(Reach reach, std::chrono::nanoseconds delay) {
    static_cast<void>(co_await ferrule::sleep_for(delay));
    cancel_now(reach);
}

void end_scenario(const Reach& reach) {
    Iteration& iteration = **reach;
    iteration.injected = true;
    switch (iteration.ending) {
        case Ending::cancel_at_once:
            cancel_now(reach);
            break;
        case Ending::cancel_posted:
            if (!iteration.home->post([reach] { cancel_now(reach); })) cancel_now(reach);
            break;
        case Ending::cancel_later:
            iteration.home->spawn(cancel_after(reach, std::chrono::nanoseconds(iteration.random.below(50'000))));
            break;
        case Ending::destroy:
            resume_watcher(iteration);
            break;
        case Ending::count_of_endings:
            break;
    }
}

/// Until the scenario is over, or is to be destroyed.
struct ScenarioEnd {
    Iteration* iteration;
    [[nodiscard]] bool await_ready() const noexcept {
        return iteration->over || (iteration->injected && iteration->ending == Ending::destroy);
    }
    void await_suspend(std::coroutine_handle<> handle) const noexcept { iteration->watcher = handle; }
    void await_resume() const noexcept {}
};

Task<> run_iteration(Iteration* iteration, const std::vector<Step>* steps) {
    const Environment& inherited = co_await ferrule::this_environment();
    CancelScope scope{ferrule::scope_here(inherited)};
    iteration->scope = &scope;
    const Reach reach = std::make_shared<Iteration*>(iteration);
    iteration->watch.on_suspend = [reach] {
        Iteration& reached = **reach;
        if (!reached.injected && reached.watch.suspended == reached.suspension) end_scenario(reach);
    };
    Environment environment{&scope, Reactor::current(), 0};
    {
        Task<> task = scenario(iteration, steps);
        // Nobody awaits it: its end hands the waiting coroutine to the ready list.
        static_cast<void>(task.start(environment, std::noop_coroutine()));
        co_await ScenarioEnd{iteration};
    }
    *reach = nullptr;
    iteration->watch.on_suspend = nullptr;
}

// The same steps again and again: ended at the 1st, 2nd, 3rd ... suspension, in each way in turn, until they end by
// themselves.
Task<> work(World* world, std::uint64_t seed, std::uint32_t rounds) {
    WorkloadRun& run = *world->run;
    const TaskCount count{run};
    const Environment& environment = co_await ferrule::this_environment();
    ferrule::sim::Random random{seed};
    std::vector<Step> steps;
    std::uint8_t ending = static_cast<std::uint8_t>(Ending::count_of_endings);
    std::uint64_t suspension = 0;
    for (std::uint32_t round = 0; round < rounds && !environment.scope->cancelled(); ++round) {
        if (ending == static_cast<std::uint8_t>(Ending::count_of_endings)) {
            steps.clear();
            for (std::uint64_t number = random.between(1, 4); number != 0; --number)
                steps.push_back(static_cast<Step>(random.below(static_cast<std::uint64_t>(Step::count_of_steps))));
            ending = 0;
            suspension = 0;
        }
        Iteration iteration{world, ferrule::sim::Random{random.next()}, Reactor::current(), ++world->senders_made};
        iteration.ending = static_cast<Ending>(ending);
        iteration.suspension = ++suspension;
        co_await run_iteration(&iteration, &steps);
        ++world->steps;
        if (!iteration.injected) {
            ++ending;
            suspension = 0;
        }
        const AwaitWatch& watch = iteration.watch;
        run.expect(watch.balanced(), "an await has ended twice, or neither ended nor been destroyed");
        run.awaits.begun += watch.begun;
        run.awaits.suspended += watch.suspended;
        run.awaits.ended += watch.ended;
        run.awaits.destroyed += watch.destroyed;
    }
    ++world->tasks_over;
}

// Comes and goes, so that nobody waits for ever: takes when the channel is full, sends when it is empty, sets the
// event.
Task<> tide(World* world, std::uint64_t seed) {
    WorkloadRun& run = *world->run;
    const TaskCount count{run};
    const Environment& environment = co_await ferrule::this_environment();
    ferrule::sim::Random random{seed};
    std::uint64_t number = 0;
    std::uint64_t steps = 0;
    std::uint64_t rounds = 0;
    while (world->tasks_over != world->tasks && !environment.scope->cancelled()) {
        static_cast<void>(co_await run.watch(ferrule::sleep_for(std::chrono::nanoseconds(random.below(30'000)))));
        world->check_units_line();
        rounds = std::exchange(steps, world->steps) == world->steps ? rounds + 1 : 0;
        if (rounds > rounds_without_a_step_max) {
            run.find("nobody takes a step any more");
            co_return;
        }
        for (std::uint64_t times = random.between(1, 3); times != 0; --times) {
            if (random.one_in(2)) {
                if (auto item = world->channel.try_receive()) world->take(*item);
            } else {
                Item item(world->items_alive, tide_sender, ++number);
                const auto sent = world->channel.try_send(std::move(item));
                run.expect(sent.has_value() != item.whole(), "an item is sent and still its sender's, or neither");
                if (sent) ++world->sent;
            }
        }
        if (random.one_in(2)) world->event.set();
        if (random.one_in(2)) world->event.reset();
        if (world->closing && random.one_in(200)) world->channel.close();
    }
    const auto closed = co_await run.watch(world->gate.close());
    run.expect(!closed || world->inside == 0, "a gate has closed while somebody was inside");
    world->channel.close();
    while (auto item = co_await run.watch(world->channel.receive())) world->take(*item);
    world->tide_over = true;
}

void check_end(World& world) {
    WorkloadRun& run = *world.run;
    run.expect(world.sent == world.received, "items are lost, or there are more than were sent");
    run.expect(world.items_alive == 0, "items are left, or were destroyed twice");
    run.expect(world.semaphore.available() == world.units, "units are lost, or there are more than before");
    run.expect(world.semaphore.taken() == 0, "units are taken, and nobody has them");
    run.expect(!world.mutex.locked(), "a mutex is locked, and nobody has it");
    run.expect(world.gate.inside() == 0, "somebody is inside a gate, and nobody is there");
}

void run_coordination(WorkloadRun& run) {
    auto program = std::make_unique<ReactorProgram>(run, 1, run.reactor_options(), run.network_options());
    const std::uint32_t units = run.choose({1u, 2u, 3u, 8u});
    const std::uint32_t capacity = run.choose({1u, 1u, 2u, 5u});
    auto world = std::make_unique<World>(run, units, capacity);
    world->closing = run.random().one_in(3);
    world->tasks = run.connections(1, 10);
    const std::uint32_t rounds = run.messages(10, 120);
    program->on_start([&run, &world, rounds](Reactor& reactor) {
        ferrule::sim::Random random = run.fork();
        for (std::uint64_t task = 0; task < world->tasks; ++task)
            reactor.spawn(work(world.get(), random.next(), rounds));
        reactor.spawn(tide(world.get(), random.next()));
    });
    program->until([&world] { return world->tide_over; });
    program->on_end([&world](Reactor&) { check_end(*world); });
    program->start();
    run.finish();
    // Programs that were abandoned in their middle are in it still.
    if (run.result().findings.empty()) return;
    static_cast<void>(program.release());
    static_cast<void>(world.release());
}

}  // namespace

const Workload coordination_workload{
    "coordination", "tasks that wait for each other, each cancelled or destroyed at its 1st, 2nd, 3rd ... suspension",
    run_coordination};

}  // namespace ferrule_test
