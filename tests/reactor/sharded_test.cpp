#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/sharded.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

/// Knows the thread that it was made on, and must be destroyed there.
struct Counted {
    explicit Counted(Reactor& reactor) : id(reactor.id()), thread(std::this_thread::get_id()) {}
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() {
        EXPECT_EQ(std::this_thread::get_id(), thread);
        EXPECT_NE(Reactor::current(), nullptr);
    }
    std::uint32_t id;
    std::thread::id thread;
    std::uint64_t count = 0;
};

/// Reactors that have all started in a Sharded.
class Reactors {
public:
    template <class T>
    Reactors(std::size_t count, Sharded<T>& sharded) {
        for (std::size_t index = 0; index < count; ++index) {
            threads_.push_back(std::make_unique<ReactorThread>(static_cast<std::uint32_t>(index + 1)));
            Reactor& reactor = **threads_.back();
            EXPECT_TRUE(reactor.post([this, &reactor, &sharded] {
                sharded.start(reactor);
                ++started_;
            }));
        }
        while (started_ != count) std::this_thread::yield();
    }
    ReactorThread& operator[](std::size_t index) { return *threads_[index]; }

private:
    std::atomic<std::size_t> started_{0};
    std::vector<std::unique_ptr<ReactorThread>> threads_;
};

Task<std::uint64_t> count_slowly(Counted* counted) {
    co_await sleep_for(1us);
    co_return ++counted->count;
}

TEST(Sharded, EachReactorHasItsOwn) {
    Sharded<Counted> counters(4);
    Reactors others(3, counters);
    Reactor home(0, small_options());
    struct Body {
        static Task<> run(Sharded<Counted>* counters, Reactors* others) {
            counters->start(*Reactor::current());
            EXPECT_EQ(counters->local().id, 0u);
            auto add = [](Counted& there) {
                EXPECT_EQ(there.id, Reactor::current()->id());
                return there.count += there.id;
            };
            for (std::size_t number = 0; number < counters->size(); ++number) {
                const auto added = co_await counters->on(number, add);
                EXPECT_EQ(added.value(), number);
            }
            auto slowly = [](Counted& there) { return count_slowly(&there); };
            const auto slow = co_await counters->on(*(*others)[1], slowly);
            EXPECT_EQ(slow.value(), 3u);
            auto count = [](Counted& there) { return there.count; };
            const auto sum = co_await counters->fold(std::uint64_t{100}, count, std::plus<>());
            EXPECT_EQ(sum.value(), 100u + 0 + 1 + 3 + 3);
            auto name = [](Counted& there) { return std::to_string(there.id); };
            const auto names = co_await counters->fold(std::string(), name, std::plus<>());
            EXPECT_EQ(names.value(), "0123") << "in the order of the numbers";
            const auto each = co_await counters->broadcast(count);
            EXPECT_EQ(each.size(), 4u);
        }
    };
    run_task(home, [&] { return Body::run(&counters, &others); });
}

TEST(Sharded, ReactorsThatHaveEndedOrNotStartedAreErrors) {
    Sharded<Counted> counters(8);
    Reactors others(2, counters);
    others[0].stop_and_join();
    Reactor home(0, small_options());
    struct Body {
        static Task<> run(Sharded<Counted>* counters) {
            auto count = [](Counted& there) { return there.count; };
            const auto ended = co_await counters->on(1, count);
            EXPECT_EQ(ended.error(), std::errc::operation_canceled);
            const auto running = co_await counters->on(2, count);
            EXPECT_TRUE(running);
            const auto unknown = co_await counters->on(7, count);
            EXPECT_EQ(unknown.error(), std::errc::operation_canceled);
            const auto beyond = co_await counters->on(1000, count);
            EXPECT_EQ(beyond.error(), std::errc::operation_canceled);
            const auto sum = co_await counters->fold(std::uint64_t{0}, count, std::plus<>());
            EXPECT_EQ(sum.error(), std::errc::operation_canceled);
            EXPECT_EQ(counters->find_local(), nullptr);
            EXPECT_THROW(static_cast<void>(counters->local()), std::logic_error);
        }
    };
    run_task(home, [&] { return Body::run(&counters); });
}

TEST(Sharded, MisuseSaysSo) {
    Sharded<int> values(1);
    Reactor first(0, small_options());
    Reactor second(1, small_options());
    EXPECT_THROW(values.start(first), std::logic_error) << "not on its thread";
    first.on_start([&](Reactor& started) {
        values.start(started);
        EXPECT_THROW(values.start(started), std::logic_error) << "twice";
        started.stop();
    });
    second.on_start([&](Reactor& started) {
        EXPECT_THROW(values.start(started), std::logic_error) << "no room";
        started.stop();
    });
    first.run();
    second.run();
}

/// Notes the order in which things of a reactor end.
struct Noted {
    std::vector<std::string>* ends;
    std::string name;
    ~Noted() { ends->push_back(name); }
};

Task<> note_end(Sharded<std::unique_ptr<Noted>>* values, std::vector<std::string>* ends) {
    static_cast<void>(co_await sleep_for(1h));
    ends->push_back("task with " + values->local()->name);
}

TEST(Sharded, ValuesEndBehindTheTasksTheLatestFirst) {
    std::vector<std::string> ends;
    const auto maker = [&ends](const char* name) {
        return [&ends, name](Reactor&) { return std::unique_ptr<Noted>(new Noted{&ends, name}); };
    };
    Sharded<std::unique_ptr<Noted>> early(1, maker("early"));
    Sharded<std::unique_ptr<Noted>> late(1, maker("late"));
    Reactor reactor(0, small_options());
    reactor.on_start([&](Reactor& started) {
        early.start(started);
        late.start(started);
        started.spawn(note_end(&early, &ends));
        started.stop();
    });
    reactor.run();
    EXPECT_EQ(ends, (std::vector<std::string>{"task with early", "late", "early"}));
}

TEST(ReactorOnEnd, RunsOnTheThreadOfTheReactorTheLatestFirst) {
    std::string order;
    int faults = 0;
    Reactor reactor(0, small_options());
    reactor.on_fault([&](Reactor&, std::exception_ptr) { ++faults; });
    reactor.on_start([&](Reactor& started) {
        started.on_end([&](Reactor& ended) {
            EXPECT_EQ(Reactor::current(), &ended);
            order += "1";
        });
        started.on_end([](Reactor&) { throw std::runtime_error("reported"); });
        started.on_end([&](Reactor&) { order += "3"; });
        started.stop();
    });
    reactor.run();
    EXPECT_EQ(order, "31");
    EXPECT_EQ(faults, 1);
}

TEST(ReactorOnEnd, OperationsThatItLetsGoAreSettled) {
    // The end of a value may cancel what it has in flight, as a client does.
    Reactor reactor(0, small_options());
    const Event event;
    reactor.on_start([&event](Reactor& started) {
        started.on_end([&event](Reactor& ended) { static_cast<void>(poll_event(ended, event)); });
        started.stop();
    });
    std::thread([&] { reactor.run(); }).join();
    EXPECT_EQ(reactor.counters().operations.value(), 0u);
}

TEST(ReactorOnEnd, AlsoWhenAStartHookFails) {
    bool ended = false;
    Reactor reactor(0, small_options());
    reactor.on_end([&](Reactor&) { ended = true; });
    reactor.on_start([](Reactor&) { throw std::runtime_error("cannot start"); });
    EXPECT_THROW(reactor.run(), std::runtime_error);
    EXPECT_TRUE(ended);
}

}  // namespace
