#include <ferrule/task/channel.hpp>
#include <ferrule/task/spawn.hpp>

#include "waiters_fixture.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace {

using namespace ferrule;
using ferrule::testing::letter_of;
using ferrule::testing::Tracked;
using ferrule::testing::WaitersTest;

using Pointers = Channel<std::unique_ptr<int>>;

class ChannelTest : public WaitersTest {
protected:
    /// Logs its number, and the item or how the wait has ended.
    Task<> receives(Pointers& channel, std::size_t number) {
        const auto item = co_await channel.receive();
        log += std::to_string(number) + (item ? "=" + std::to_string(**item) : std::string(1, letter_of(item))) + " ";
    }
    /// Logs its number and how the wait has ended; an item that was not sent is still there.
    Task<> sends(Pointers& channel, std::size_t number, int value) {
        auto item = std::make_unique<int>(value);
        const auto sent = co_await channel.send(std::move(item));
        EXPECT_EQ(item == nullptr, sent.has_value());
        log += std::to_string(number) + letter_of(sent) + " ";
    }
    static void put(Pointers& channel, int value) {
        auto item = std::make_unique<int>(value);
        const auto sent = channel.try_send(std::move(item));
        EXPECT_TRUE(sent);
    }
    /// All that is inside, in order.
    static std::string drained(Pointers& channel) {
        std::string items;
        while (auto item = channel.try_receive()) items += std::to_string(**item) + " ";
        return items;
    }
};

TEST_F(ChannelTest, GivesItemsInTheOrderOfSending) {
    Pointers channel(3);
    EXPECT_EQ(channel.capacity(), 3u);
    for (int value = 0; value < 5; ++value) start_waiter(sends(channel, static_cast<std::size_t>(value), value));
    EXPECT_EQ(log, "0+ 1+ 2+ ");
    EXPECT_EQ(channel.size(), 3u);
    start_waiter(receives(channel, 5));
    EXPECT_EQ(log, "0+ 1+ 2+ 5=0 ") << "nobody is resumed from inside a receive";
    host.run_ready();
    EXPECT_EQ(log, "0+ 1+ 2+ 5=0 3+ ");
    EXPECT_EQ(drained(channel), "1 2 3 ");
    host.run_ready();
    EXPECT_EQ(log, "0+ 1+ 2+ 5=0 3+ 4+ ");
    EXPECT_EQ(drained(channel), "4 ");
}

TEST_F(ChannelTest, ReceiversAreServedInTheOrderOfComing) {
    Pointers channel(8);
    for (std::size_t number = 0; number < 4; ++number) start_waiter(receives(channel, number));
    for (int value = 0; value < 3; ++value) put(channel, value);
    EXPECT_EQ(log, "") << "nobody is resumed from inside a send";
    EXPECT_EQ(letter_of(channel.try_receive()), 'a') << "all items are meant for somebody";
    start_waiter(receives(channel, 4));
    put(channel, 3);
    put(channel, 4);
    host.run_ready();
    EXPECT_EQ(log, "0=0 1=1 2=2 3=3 4=4 ");
}

TEST_F(ChannelTest, WhoComesLaterDoesNotOvertakeThoseWhoAreAboutToRun) {
    Pointers channel(2);
    for (std::size_t number = 0; number < 3; ++number) start_waiter(sends(channel, number, static_cast<int>(number)));
    EXPECT_EQ(drained(channel), "0 1 ");
    // The room of the third is kept, and there is some beside it.
    start_waiter(sends(channel, 3, 3));
    EXPECT_EQ(channel.size(), 0u);
    host.run_ready();
    EXPECT_EQ(drained(channel), "2 3 ");
    start_waiter(receives(channel, 4));
    put(channel, 4);
    put(channel, 5);
    start_waiter(receives(channel, 5));
    host.run_ready();
    EXPECT_EQ(log, "0+ 1+ 2+ 3+ 4=4 5=5 ");
}

TEST_F(ChannelTest, TriesSayWhyNot) {
    Pointers channel(1);
    EXPECT_EQ(letter_of(channel.try_receive()), 'a');
    put(channel, 1);
    auto item = std::make_unique<int>(2);
    EXPECT_EQ(letter_of(channel.try_send(std::move(item))), 'a');
    EXPECT_NE(item, nullptr) << "it is left as it was";
    channel.close();
    EXPECT_TRUE(channel.closed());
    EXPECT_EQ(letter_of(channel.try_send(std::move(item))), 'p');
    EXPECT_NE(item, nullptr);
    EXPECT_EQ(drained(channel), "1 ");
    EXPECT_EQ(letter_of(channel.try_receive()), 'p');
}

TEST_F(ChannelTest, CloseEndsSendersAndDrainedReceivers) {
    Pointers channel(1);
    for (int value = 0; value < 3; ++value) start_waiter(sends(channel, static_cast<std::size_t>(value), value));
    channel.close();
    host.run_ready();
    EXPECT_EQ(log, "0+ 1p 2p ");
    start_waiter(sends(channel, 3, 3));
    start_waiter(receives(channel, 4));
    start_waiter(receives(channel, 5));
    EXPECT_EQ(log, "0+ 1p 2p 3p 4=0 5p ");
}

TEST_F(ChannelTest, CloseEndsReceiversWhoWait) {
    Pointers channel(1);
    start_waiter(receives(channel, 0));
    start_waiter(receives(channel, 1));
    channel.close();
    host.run_ready();
    EXPECT_EQ(log, "0p 1p ");
}

TEST_F(ChannelTest, CloseBeforeAWokenSenderRunsKeepsItsItem) {
    Pointers channel(1);
    start_waiter(sends(channel, 0, 0));
    start_waiter(sends(channel, 1, 1));
    EXPECT_EQ(drained(channel), "0 ");
    channel.close();
    host.run_ready();
    EXPECT_EQ(log, "0+ 1p ");
    EXPECT_EQ(channel.size(), 0u);
}

TEST_F(ChannelTest, AfterCloseAnItemOfADestroyedReceiverIsTheNextOnes) {
    Pointers channel(2);
    for (std::size_t number = 0; number < 3; ++number) start_waiter(receives(channel, number));
    put(channel, 7);
    channel.close();
    destroy(0);
    host.run_ready();
    EXPECT_EQ(log, "1=7 2p ");
}

TEST_F(ChannelTest, EachFateOfEachOfThreeReceivers) {
    for (std::size_t code = 0; code < 2 * fates * fates * fates; ++code) {
        SCOPED_TRACE(code);
        const std::array<Fate, 3> fate = {Fate(code % fates), Fate(code / fates % fates),
                                          Fate(code / fates / fates % fates)};
        const bool close = code >= fates * fates * fates;
        std::optional<Pointers> channel(3);
        log.clear();
        std::string expected;
        std::string received;
        for (std::size_t number = 0; number < 3; ++number) start_waiter(receives(*channel, number));
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_before) destroy(number);
            if (fate[number] == Fate::cancelled_before) {
                cancel(number);
                expected += std::to_string(number) + "c ";
            }
        }
        for (int value = 0; value < 3; ++value) put(*channel, value);
        if (close) channel->close();
        int next = 0;
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_after) destroy(number);
            if (fate[number] == Fate::cancelled_after) cancel(number);
            if (gets_it(fate[number])) expected += std::to_string(number) + "=" + std::to_string(next++) + " ";
        }
        host.run_ready();
        EXPECT_EQ(log, expected);
        // What was meant for others is there, in order, and once.
        std::string rest;
        while (next < 3) rest += std::to_string(next++) + " ";
        EXPECT_EQ(drained(*channel), rest);
        waiting.clear();
        channel.reset();
    }
}

TEST_F(ChannelTest, EachFateOfEachOfThreeSenders) {
    for (std::size_t code = 0; code < fates * fates * fates; ++code) {
        SCOPED_TRACE(code);
        const std::array<Fate, 3> fate = {Fate(code % fates), Fate(code / fates % fates),
                                          Fate(code / fates / fates % fates)};
        std::optional<Pointers> channel(2);
        log.clear();
        put(*channel, 10);
        put(*channel, 11);
        std::string cancelled;
        std::string sent;
        std::string items = "10 11 ";
        for (std::size_t number = 0; number < 3; ++number)
            start_waiter(sends(*channel, number, static_cast<int>(number)));
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_before) destroy(number);
            if (fate[number] == Fate::cancelled_before) {
                cancel(number);
                cancelled += std::to_string(number) + "c ";
            }
        }
        std::string received;
        if (auto item = channel->try_receive()) received += std::to_string(**item) + " ";
        // One may go on; whoever it is, he has not run. Those who wait still are cancelled as before.
        bool room = true;
        for (std::size_t number = 0; number < 3; ++number) {
            if (fate[number] == Fate::destroyed_after) destroy(number);
            if (fate[number] == Fate::cancelled_after) {
                cancel(number);
                if (!room) cancelled += std::to_string(number) + "c ";
            }
            if (!gets_it(fate[number])) continue;
            if (fate[number] == Fate::none || room) {
                sent += std::to_string(number) + "+ ";
                items += std::to_string(number) + " ";
            }
            room = false;
        }
        // Until nothing comes any more.
        std::string before;
        do {
            before = received;
            host.run_ready();
            received += drained(*channel);
        } while (received != before);
        EXPECT_EQ(received, items);
        for (const std::string& part : {cancelled, sent}) {
            for (std::size_t at = 0; at < part.size(); at += 3)
                EXPECT_NE(log.find(part.substr(at, 3)), std::string::npos) << log << " lacks " << part.substr(at, 3);
        }
        EXPECT_EQ(log.size(), cancelled.size() + sent.size()) << log;
        waiting.clear();
        channel.reset();
    }
}

TEST_F(ChannelTest, ItemsAreDestroyedOnceWithTheChannel) {
    {
        Channel<Tracked> channel(4);
        for (int value = 0; value < 4; ++value) {
            Tracked item(alive);
            EXPECT_TRUE(channel.try_send(std::move(item)));
        }
        EXPECT_TRUE(channel.try_receive());
        Tracked item(alive);
        EXPECT_TRUE(channel.try_send(std::move(item)));
        EXPECT_EQ(alive, 5);
    }
    EXPECT_EQ(alive, 0);
}

TEST_F(ChannelTest, OfPlainValuesTakesLvalues) {
    Channel<int> channel(2);
    const int value = 5;
    EXPECT_TRUE(channel.try_send(value));
    EXPECT_TRUE(channel.try_send(6));
    EXPECT_EQ(*channel.try_receive(), 5);
    EXPECT_EQ(*channel.try_receive(), 6);
}

TEST_F(ChannelTest, HasACapacity) {
    EXPECT_THROW(Channel<int>(0), std::invalid_argument);
    EXPECT_THROW(Channel<char>((std::size_t{1} << 31) + 1), std::invalid_argument);
    for (const std::size_t capacity : {1, 2, 3, 5, 8, 13}) {
        Channel<std::size_t> channel(capacity);
        for (std::size_t round = 0; round < 40; ++round) {
            std::size_t sent = 0;
            while (channel.try_send(sent)) ++sent;
            EXPECT_EQ(sent, capacity);
            for (std::size_t item = 0; item < 1 + round % capacity; ++item) EXPECT_EQ(*channel.try_receive(), item);
            while (channel.try_receive()) {
            }
        }
    }
}

Task<> produces(Channel<int>& channel, int first, int count, int step) {
    for (int item = 0; item < count; ++item) {
        const auto sent = co_await channel.send(first + item * step);
        EXPECT_TRUE(sent);
    }
}

Task<> consumes(Channel<int>& channel, int producers, std::int64_t* sum) {
    std::vector<int> last(static_cast<std::size_t>(producers), -1);
    while (const auto item = co_await channel.receive()) {
        int& before = last[static_cast<std::size_t>(*item % producers)];
        EXPECT_LT(before, *item) << "items of one sender have overtaken each other";
        before = *item;
        *sum += *item;
    }
}

// A million and more through channels of each size, so that both sides wait, or never.
TEST_F(ChannelTest, Law2AMillionItems) {
    for (const std::size_t capacity : {1, 7, 100'000}) {
        for (const int tasks : {1, 5}) {
            Channel<int> channel(capacity);
            std::int64_t sum = 0;
            constexpr int count = 60'000;
            for (int task = 0; task < tasks; ++task) {
                spawn(host, consumes(channel, tasks, &sum));
                spawn(host, produces(channel, task, count, tasks));
            }
            host.run_ready();
            channel.close();
            host.run_ready();
            const std::int64_t items = std::int64_t{count} * tasks;
            EXPECT_EQ(sum, items * (items - 1) / 2);
        }
    }
    Channel<int> channel(1'000'000);
    spawn(host, produces(channel, 0, 1'000'000, 1));
    host.run_ready();
    channel.close();
    std::int64_t sum = 0;
    spawn(host, consumes(channel, 1, &sum));
    EXPECT_GT(host.run_ready(), 1'000'000u / (host.inline_budget_per_resume + 1) - 1);
    EXPECT_EQ(sum, std::int64_t{1'000'000} * 999'999 / 2);
}

TEST_F(ChannelTest, DestroyedWhileItsTurnIsToComeInTheReadyList) {
    Pointers channel(1);
    budget = 0;
    start_waiter(sends(channel, 0, 0));
    EXPECT_EQ(channel.size(), 0u) << "its room is kept; the item is its own until it runs";
    destroy(0);
    start_waiter(sends(channel, 1, 1));
    host.run_ready();
    start_waiter(receives(channel, 2));
    destroy(2);
    EXPECT_EQ(channel.size(), 1u);
    start_waiter(receives(channel, 3));
    host.run_ready();
    EXPECT_EQ(log, "1+ 3=1 ");
}

TEST_F(ChannelTest, MisuseIsAnAssertion) {
    EXPECT_DEATH(
        {
            std::optional<Pointers> channel(1);
            start_waiter(receives(*channel, 0));
            channel.reset();
        },
        "what is waited for was destroyed");
    EXPECT_DEATH(
        {
            std::optional<Pointers> channel(1);
            start_waiter(receives(*channel, 0));
            put(*channel, 0);
            channel.reset();
        },
        "before those who waited for it ran");
    EXPECT_DEATH(
        {
            Pointers channel(1);
            start_waiter(receives(channel, 0));
            std::thread([&] { put(channel, 1); }).join();
        },
        "touched on another thread");
    EXPECT_DEATH(
        {
            Pointers channel(2);
            start_waiter(sends(channel, 0, 0));
            ThreadHost other;
            const HostBinding binding(other);
            static_cast<void>(channel.try_receive());
        },
        "touched on another thread");
}

}  // namespace
