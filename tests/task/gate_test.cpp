#include <ferrule/task/gate.hpp>
#include <ferrule/task/spawn.hpp>

#include "waiters_fixture.hpp"

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace {

using namespace ferrule;
using ferrule::testing::letter_of;
using ferrule::testing::Source;
using ferrule::testing::Tracked;
using ferrule::testing::WaitersTest;

class GateTest : public WaitersTest {};

Task<> closes(Gate& gate, std::string* log, std::size_t number) {
    const auto ended = co_await gate.close();
    *log += std::to_string(number) + letter_of(ended);
}

Task<> stays(Gate& gate, Source& source, int& alive) {
    const auto inside = gate.hold();
    if (!inside) co_return;
    const Tracked local(alive);
    co_await source.wait();
}

TEST_F(GateTest, CloseWaitsUntilAllHaveLeft) {
    Gate gate;
    for (int task = 0; task < 3; ++task) spawn(host, stays(gate, source, alive));
    EXPECT_EQ(gate.inside(), 3u);
    start_waiter(closes(gate, &log, 0));
    EXPECT_TRUE(gate.closed());
    EXPECT_EQ(letter_of(gate.hold()), 'p');
    EXPECT_EQ(letter_of(gate.enter()), 'p');
    EXPECT_EQ(gate.inside(), 3u);
    source.fire();
    source.fire_last();
    host.run_ready();
    EXPECT_EQ(log, "");
    source.fire();
    EXPECT_EQ(log, "") << "nobody is resumed from inside leave";
    host.run_ready();
    EXPECT_EQ(log, "0+");
}

TEST_F(GateTest, OfAnEmptyGateCloseEndsAtOnce) {
    Gate gate;
    start_waiter(closes(gate, &log, 0));
    start_waiter(closes(gate, &log, 1));
    EXPECT_EQ(log, "0+1+");
}

TEST_F(GateTest, IsClosedByTheCallAlone) {
    Gate gate;
    static_cast<void>(gate.close());
    EXPECT_TRUE(gate.closed());
}

TEST_F(GateTest, EachFateOfEachCloser) {
    for (std::size_t code = 0; code < fates * fates * fates; ++code) {
        SCOPED_TRACE(code);
        const std::array<Fate, 3> fate = {Fate(code % fates), Fate(code / fates % fates),
                                          Fate(code / fates / fates % fates)};
        Gate gate;
        log.clear();
        std::string cancelled;
        std::string through;
        ASSERT_TRUE(gate.enter());
        ASSERT_TRUE(gate.enter());
        for (std::size_t number = 0; number < 3; ++number) start_waiter(closes(gate, &log, number));
        gate.leave();
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_before) destroy(number);
            if (fate[number] == Fate::cancelled_before) {
                cancel(number);
                cancelled += std::to_string(number) + "c";
            }
        }
        EXPECT_TRUE(gate.closed());
        gate.leave();
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_after) destroy(number);
            if (fate[number] == Fate::cancelled_after) cancel(number);
            if (gets_it(fate[number])) through += std::to_string(number) + "+";
        }
        host.run_ready();
        EXPECT_EQ(log, cancelled + through);
        waiting.clear();
    }
}

TEST_F(GateTest, WhoeverWasCancelledMayCloseItAgain) {
    Gate gate;
    auto inside = gate.hold();
    start_waiter(closes(gate, &log, 0));
    cancel(0);
    host.run_ready();
    EXPECT_EQ(log, "0c");
    EXPECT_EQ(letter_of(gate.enter()), 'p') << "it stays closed";
    start_waiter(closes(gate, &log, 1));
    inside->leave();
    host.run_ready();
    EXPECT_EQ(log, "0c1+");
}

Task<> owns_the_gate(std::unique_ptr<Gate> gate) {
    const auto closed = co_await gate->close();
    EXPECT_TRUE(closed);
    gate.reset();
}

TEST_F(GateTest, MayGoWhenOneCloseHasEnded) {
    auto gate = std::make_unique<Gate>();
    Gate& same = *gate;
    auto inside = same.hold();
    spawn(host, owns_the_gate(std::move(gate)));
    start_waiter(closes(same, &log, 0));
    inside->leave();
    destroy(0);
    host.run_ready();
    EXPECT_EQ(log, "");
}

TEST_F(GateTest, HoldsMove) {
    Gate gate;
    auto first = *gate.hold();
    auto second = *gate.hold();
    EXPECT_EQ(gate.inside(), 2u);
    first = std::move(second);
    EXPECT_EQ(gate.inside(), 1u);
    first.leave();
    first.leave();
    EXPECT_EQ(gate.inside(), 0u);
    Gate::Hold outside;
    outside.leave();
}

Task<> closes_many_times(Gate& gate, int times) {
    for (int time = 0; time < times; ++time) {
        const auto ended = co_await gate.close();
        if (!ended) co_return;
    }
}

TEST_F(GateTest, Law2AMillionThatNeedNotWait) {
    Gate gate;
    spawn(host, closes_many_times(gate, 1'000'000));
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1) - 1);
}

TEST_F(GateTest, MisuseIsAnAssertion) {
    EXPECT_DEATH(
        {
            Gate gate;
            gate.leave();
        },
        "inside_ != 0");
    EXPECT_DEATH(
        {
            std::optional<Gate> gate(std::in_place);
            static_cast<void>(gate->enter());
            gate.reset();
        },
        "while somebody is inside");
}

}  // namespace
