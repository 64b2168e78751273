#include <ferrule/task/spawn.hpp>
#include <ferrule/task/yield.hpp>

#include "task_fixture.hpp"

#include <string>

namespace {

using namespace ferrule;
using ferrule::testing::TaskTest;
using ferrule::testing::Tracked;

class YieldTest : public TaskTest {};

Task<> writes(std::string* log, char name, int times) {
    for (int i = 0; i < times; ++i) {
        log->push_back(name);
        co_await yield_now();
    }
}

TEST_F(YieldTest, GoesBehindWhatIsReady) {
    std::string log;
    spawn(host, writes(&log, 'a', 3));
    spawn(host, writes(&log, 'b', 2));
    host.run_ready();
    EXPECT_EQ(log, "ababa");
}

Task<> yields(int& alive, int times) {
    const Tracked local(alive);
    for (int i = 0; i < times; ++i) {
        co_await yield_now();
    }
}

TEST_F(YieldTest, DestroyedWhileItWaitsForItsTurn) {
    Task<> task = yields(alive, 1);
    start(task);
    task.reset();
    EXPECT_EQ(host.run_ready(), 0u);
}

TEST_F(YieldTest, AMillionTurns) {
    spawn(host, yields(alive, 1'000'000));
    EXPECT_EQ(host.run_ready(), 1'000'000u);
}

}  // namespace
