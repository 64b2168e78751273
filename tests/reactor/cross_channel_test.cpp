#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/cross_channel.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/yield.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
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

/// What senders send: whose, and which.
struct Item {
    std::uint32_t sender = 0;
    std::uint64_t number = 0;
    std::unique_ptr<std::uint64_t> owned;  // on the heap: what is lost or doubled is seen by the sanitizers
};

Item item_of(std::uint32_t sender, std::uint64_t number) {
    return {sender, number, std::make_unique<std::uint64_t>(number)};
}

Task<> send_many(CrossSender<Item> sender, std::uint32_t number, std::uint64_t count) {
    for (std::uint64_t index = 0; index < count; ++index) {
        const auto sent = co_await sender.send(item_of(number, index));
        EXPECT_TRUE(sent);
    }
}

void begin_there(Reactor& there, CrossSender<Item> sender, std::uint32_t number, std::uint64_t count) {
    EXPECT_TRUE(there.post([&there, sender = std::move(sender), number, count]() mutable {
        there.spawn(send_many(std::move(sender), number, count));
    }));
}

/// Receives until the channel ends, and checks that each sender's items come once and in order.
Task<> receive_all(CrossReceiver<Item>* receiver, std::vector<std::uint64_t>* next) {
    while (auto item = co_await receiver->receive()) {
        EXPECT_EQ(item->number, (*next)[item->sender]);
        EXPECT_EQ(*item->owned, item->number);
        ++(*next)[item->sender];
    }
}

Task<> receive_batches(CrossReceiver<Item>* receiver, std::vector<std::uint64_t>* next, std::size_t limit) {
    while (auto batch = co_await receiver->receive_batch(limit)) {
        EXPECT_GT(batch->size(), 0u);
        EXPECT_LE(batch->size(), limit);
        for (Item& item : *batch) {
            EXPECT_EQ(item.number, (*next)[item.sender]);
            ++(*next)[item.sender];
        }
    }
}

constexpr std::uint64_t no_limit = ~std::uint64_t{0};

struct Shape {
    std::size_t capacity;
    std::uint64_t items;
    std::size_t batch_limit;  // 0: one by one
};

class CrossChannelShape : public testing::TestWithParam<Shape> {};

Task<> from_two(Reactor* home, Reactor* other, Shape shape) {
    CrossReceiver<Item> receiver(shape.capacity);
    std::vector<std::uint64_t> next(3);
    begin_there(*other, receiver.sender(), 0, shape.items);
    begin_there(*other, receiver.sender(), 1, shape.items);
    begin_there(*home, receiver.sender(), 2, shape.items);
    if (shape.batch_limit == 0) {
        co_await receive_all(&receiver, &next);
    } else {
        co_await receive_batches(&receiver, &next, shape.batch_limit);
    }
    for (const std::uint64_t count : next) EXPECT_EQ(count, shape.items);
    EXPECT_EQ(receiver.senders(), 0u);
}

TEST_P(CrossChannelShape, AllComesOnceAndEachSendersInOrder) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return from_two(&home, &*other, GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(, CrossChannelShape,
                         testing::Values(Shape{1, 300, 0}, Shape{2, 300, no_limit}, Shape{3, 1'000, 2},
                                         Shape{7, 2'000, 0}, Shape{64, 5'000, no_limit}, Shape{1'000, 20'000, 0},
                                         Shape{4'096, 20'000, 100}));

Task<> bounded(Reactor* other) {
    CrossReceiver<int> receiver(4);
    struct Body {
        static Task<> run(CrossSender<int> sender, std::atomic<int>* sent) {
            for (int number = 0; number < 100; ++number) {
                const auto result = co_await sender.send(number);
                EXPECT_TRUE(result);
                ++*sent;
            }
        }
    };
    std::atomic<int> sent{0};
    EXPECT_TRUE(other->post(
        [other, sender = receiver.sender(), &sent]() mutable { other->spawn(Body::run(std::move(sender), &sent)); }));
    while (sent < 4) co_await sleep_for(10us);
    // It has had every chance to send a fifth.
    auto nothing = [] {};
    for (int turn = 0; turn < 3; ++turn) static_cast<void>(co_await call(*other, nothing));
    EXPECT_EQ(sent, 4) << "back-pressure";
    int expected = 0;
    while (auto number = co_await receiver.receive()) {
        EXPECT_EQ(*number, expected);
        ++expected;
        EXPECT_LE(sent, expected + 4);
    }
    EXPECT_EQ(expected, 100);
}

TEST(CrossChannel, FullChannelMakesSendersWait) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return bounded(&*other); });
}

Task<> one_item_frees_one_place(Reactor* other) {
    CrossReceiver<int> receiver(8);
    std::atomic<int> sent{0};
    struct Body {
        static Task<> run(CrossSender<int> sender, std::atomic<int>* sent) {
            for (int number = 0; number < 9; ++number) {
                const auto result = co_await sender.send(number);
                EXPECT_TRUE(result);
                ++*sent;
            }
        }
    };
    EXPECT_TRUE(other->post(
        [other, sender = receiver.sender(), &sent]() mutable { other->spawn(Body::run(std::move(sender), &sent)); }));
    while (sent < 8) co_await sleep_for(10us);
    const auto first = co_await receiver.receive();
    EXPECT_EQ(first.value(), 0);
    // Nothing more is received, and yet the sender goes on.
    while (sent < 9) co_await sleep_for(10us);
}

TEST(CrossChannel, OneItemReceivedLetsOneSendGoOn) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return one_item_frees_one_place(&*other); });
}

Task<> in_one_message(Reactor* home, Reactor* other) {
    CrossReceiver<int> receiver(1'000);
    auto fill = [sender = receiver.sender()](Reactor&) mutable {
        for (int number = 0; number < 1'000; ++number) {
            EXPECT_TRUE(sender.try_send(number));
        }
        int refused = 1'000;
        EXPECT_FALSE(sender.try_send(refused));
        EXPECT_EQ(refused, 1'000);
        return std::move(sender);
    };
    auto sender = co_await call(*other, std::move(fill));
    const std::uint64_t before = home->counters().messages.value();
    int expected = 0;
    while (expected < 1'000) {
        auto batch = co_await receiver.receive_batch();
        for (const int number : batch->items()) EXPECT_EQ(number, expected++);
    }
    // The other one is the return of the call, which is counted when it has run.
    EXPECT_LE(home->counters().messages.value() - before, 2u);
    // It must end where it was used.
    auto end = [sender = std::move(*sender)]() mutable { sender.close(); };
    static_cast<void>(co_await call(*other, std::move(end)));
    const auto over = co_await receiver.receive();
    EXPECT_EQ(over.error(), std::errc::broken_pipe);
}

TEST(CrossChannel, WhatIsSentInOnePassIsOneMessage) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return in_one_message(&home, &*other); });
}

Task<> some_at_a_time() {
    CrossReceiver<Item> receiver(5);
    CrossSender<Item> sender = receiver.sender();
    std::vector<Item> items;
    for (std::uint64_t number = 0; number < 8; ++number) items.push_back(item_of(0, number));
    EXPECT_EQ(sender.try_send_some(items), 5u);
    EXPECT_NE(items[5].owned, nullptr);
    std::uint64_t expected = 0;
    {
        auto batch = co_await receiver.receive_batch(2);
        EXPECT_EQ(batch->size(), 2u);
        for (Item& item : *batch) EXPECT_EQ(item.number, expected++);
        EXPECT_THROW(static_cast<void>(co_await receiver.receive()), std::logic_error) << "the batch is open";
    }
    for (; expected < 5; ++expected) {
        const auto item = co_await receiver.receive();
        EXPECT_EQ(item->number, expected);
    }
    co_await yield_now();
    EXPECT_EQ(sender.try_send_some(std::span(items).subspan(5)), 3u);
    sender.close();
    EXPECT_TRUE(sender.closed());
    Item late = item_of(0, 9);
    EXPECT_FALSE(sender.try_send(late));
    const auto refused = co_await sender.send(std::move(late));
    EXPECT_EQ(refused.error(), std::errc::broken_pipe);
    while (auto item = co_await receiver.receive()) EXPECT_EQ(item->number, expected++);
    EXPECT_EQ(expected, 8u);
}

TEST(CrossChannel, InsideOneReactorToo) {
    Reactor home(0, small_options());
    run_task(home, [] { return some_at_a_time(); });
}

Task<> receiver_closes(Reactor* other) {
    CrossReceiver<Item> receiver(2);
    struct Body {
        static Task<> run(CrossSender<Item> sender, std::atomic<int>* ended) {
            for (bool open = true; open;) {
                const auto sent = co_await sender.send(item_of(0, 0));
                open = sent.has_value();
                if (!open) {
                    EXPECT_EQ(sent.error(), std::errc::broken_pipe);
                }
            }
            ++*ended;
        }
    };
    std::atomic<int> ended{0};
    for (int sender = 0; sender < 3; ++sender) {
        EXPECT_TRUE(other->post([other, sender = receiver.sender(), &ended]() mutable {
            other->spawn(Body::run(std::move(sender), &ended));
        }));
    }
    const auto first = co_await receiver.receive();
    EXPECT_TRUE(first);
    receiver.close();
    while (ended < 3) co_await sleep_for(10us);
    std::size_t left = 0;
    while (auto item = co_await receiver.receive()) ++left;
    EXPECT_LE(left, 6u);
}

TEST(CrossChannel, ReceiverClosesAndEverySenderIsTold) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return receiver_closes(&*other); });
}

TEST(CrossChannel, ReceiverThatGoesAwayTellsEverySender) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    std::atomic<int> ended{0};
    struct Body {
        static Task<> flood(CrossSender<Item> sender, std::atomic<int>* ended) {
            for (bool open = true; open;) {
                const auto sent = co_await sender.send(item_of(0, 0));
                open = sent.has_value();
            }
            ++*ended;
        }
        static Task<> run(Reactor* other, std::atomic<int>* ended) {
            CrossReceiver<Item> receiver(3);
            EXPECT_TRUE(other->post([other, sender = receiver.sender(), ended]() mutable {
                other->spawn(flood(std::move(sender), ended));
            }));
            const auto first = co_await receiver.receive();
            EXPECT_TRUE(first);
        }
    };
    run_task(home, [&] { return Body::run(&*other, &ended); });
    while (ended == 0) std::this_thread::yield();
}

TEST(CrossChannel, ReactorOfTheReceiverThatEndsTellsEverySender) {
    for (int round = 0; round < 20; ++round) {
        ReactorThread other(1);
        std::atomic<int> ended{0};
        {
            Reactor home(0, small_options());
            struct Body {
                static Task<> flood(CrossSender<Item> sender, std::atomic<int>* ended) {
                    for (bool open = true; open;) {
                        const auto sent = co_await sender.send(item_of(0, 0));
                        open = sent.has_value();
                    }
                    ++*ended;
                }
                static Task<> run(Reactor* other, std::atomic<int>* ended) {
                    CrossReceiver<Item> receiver(3);
                    for (int count = 0; count < 2; ++count) {
                        EXPECT_TRUE(other->post([other, sender = receiver.sender(), ended]() mutable {
                            other->spawn(flood(std::move(sender), ended));
                        }));
                    }
                    for (int count = 0; count < 5; ++count) static_cast<void>(co_await receiver.receive());
                    Reactor::current()->stop();
                    std::error_code error;
                    while (!error) {
                        const auto item = co_await receiver.receive();
                        if (!item) error = item.error();
                    }
                    EXPECT_TRUE(error == std::errc::operation_canceled || error == std::errc::broken_pipe);
                }
            };
            home.on_start([&](Reactor& started) { started.spawn(Body::run(&*other, &ended)); });
            home.run();
        }
        while (ended < 2) std::this_thread::yield();
    }
}

TEST(CrossChannel, ReactorOfTheSenderThatEndsClosesTheChannel) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    struct Body {
        static Task<> flood(CrossSender<Item> sender) {
            std::uint64_t number = 0;
            for (bool open = true; open; ++number) {
                const auto sent = co_await sender.send(item_of(0, number));
                open = sent.has_value();
                if (!open) {
                    EXPECT_EQ(sent.error(), std::errc::operation_canceled);
                }
            }
        }
        static Task<> run(ReactorThread* other) {
            CrossReceiver<Item> receiver(16);
            EXPECT_TRUE((*other)->post(
                [other, sender = receiver.sender()]() mutable { (*other)->spawn(flood(std::move(sender))); }));
            std::uint64_t expected = 0;
            bool stopped = false;
            while (auto item = co_await receiver.receive()) {
                EXPECT_EQ(item->number, expected++);
                if (expected > 200 && !std::exchange(stopped, true)) (*other)->stop();
            }
            EXPECT_GT(expected, 200u);
        }
    };
    run_task(home, [&] { return Body::run(&other); });
}

Task<> cancel_each_side(Reactor* other) {
    CrossReceiver<Item> receiver(1);
    const auto nothing = co_await with_deadline(receiver.receive(), 1us);
    EXPECT_EQ(nothing.error(), std::errc::operation_canceled);
    struct Body {
        static Task<> run(CrossSender<Item> sender) {
            const auto first = co_await sender.send(item_of(0, 0));
            EXPECT_TRUE(first);
            const auto late = co_await with_deadline(sender.send(item_of(0, 77)), 1us);
            EXPECT_EQ(late.error(), std::errc::operation_canceled);
            const auto second = co_await sender.send(item_of(0, 1));
            EXPECT_TRUE(second);
        }
    };
    auto begin = [sender = receiver.sender()]() mutable { return Body::run(std::move(sender)); };
    auto running = call(*other, std::move(begin));
    running.launch(co_await this_environment());
    // The second is not sent before its deadline: nobody receives.
    auto deadlines = [](Reactor& there) { return there.counters().deadlines.value(); };
    for (std::uint64_t fired = 0; fired == 0;) {
        const auto seen = co_await call(*other, deadlines);
        fired = *seen;
    }
    std::vector<std::uint64_t> next(1);
    co_await receive_all(&receiver, &next);
    EXPECT_EQ(next[0], 2u);
    const auto ended = co_await running;
    EXPECT_TRUE(ended);
}

TEST(CrossChannel, CancellingEitherSideLosesNothing) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return cancel_each_side(&*other); });
}

Task<> several_wait_in_order() {
    CrossReceiver<Item> receiver(1);
    CrossSender<Item> sender = receiver.sender();
    struct Body {
        static Task<> run(CrossSender<Item>* sender, std::uint64_t number) {
            const auto sent = co_await sender->send(item_of(0, number));
            EXPECT_TRUE(sent);
        }
        static Task<> cancelled(CrossSender<Item>* sender) {
            const auto sent = co_await sender->send(item_of(0, 1'000));
            EXPECT_FALSE(sent);
        }
    };
    TaskGroup group(co_await this_environment());
    TaskGroup others(co_await this_environment());
    for (std::uint64_t number = 0; number < 10; ++number) {
        EXPECT_TRUE(group.spawn(Body::run(&sender, number)));
        if (number % 3 == 1) {
            EXPECT_TRUE(others.spawn(Body::cancelled(&sender)));
        }
    }
    others.cancel();
    co_await others.join();
    for (std::uint64_t expected = 0; expected < 10; ++expected) {
        const auto item = co_await receiver.receive();
        EXPECT_EQ(item->number, expected);
    }
    co_await group.join();
}

TEST(CrossChannel, SendsThatWaitGoOnInOrder) {
    Reactor home(0, small_options());
    run_task(home, [] { return several_wait_in_order(); });
}

Task<> fair() {
    CrossReceiver<Item> receiver(1'000);
    CrossSender<Item> loud = receiver.sender();
    CrossSender<Item> quiet = receiver.sender();
    for (std::uint64_t number = 0; number < 1'000; ++number) {
        Item item = item_of(0, number);
        EXPECT_TRUE(loud.try_send(item));
    }
    Item item = item_of(1, 0);
    EXPECT_TRUE(quiet.try_send(item));
    co_await yield_now();
    std::size_t before = 0;
    for (bool found = false; !found; ++before) {
        const auto received = co_await receiver.receive();
        found = received->sender == 1;
    }
    EXPECT_LE(before, 200u) << "one that floods the channel does not keep the others out";
}

TEST(CrossChannel, SendersTakeTurns) {
    Reactor home(0, small_options());
    run_task(home, [] { return fair(); });
}

Task<> law_two(bool* ended) {
    CrossReceiver<Item> receiver(100'000);
    CrossSender<Item> sender = receiver.sender();
    for (std::uint64_t number = 0; number < 1'000; ++number) {
        const auto sent = co_await sender.send(item_of(0, number));
        EXPECT_TRUE(sent);
    }
    for (std::uint64_t number = 0; number < 1'000; ++number) {
        const auto item = co_await receiver.receive();
        EXPECT_EQ(item->number, number);
    }
    *ended = true;
}

Task<> beside_law_two(Reactor* home) {
    bool ended = false;
    home->spawn(law_two(&ended));
    EXPECT_FALSE(ended);
    while (!ended) co_await yield_now();
}

TEST(CrossChannel, Law2WhoNeverWaitsIsMadeToYield) {
    Reactor home(0, small_options());
    run_task(home, [&] { return beside_law_two(&home); });
    EXPECT_GT(home.counters().yields.value(), 0u);
}

Task<> misuse(Reactor* other) {
    EXPECT_THROW(CrossReceiver<int>{0}, std::invalid_argument);
    CrossReceiver<int> receiver(1, 2);
    CrossSender<int> first = receiver.sender();
    CrossSender<int> second = receiver.sender();
    EXPECT_THROW(static_cast<void>(receiver.sender()), std::length_error);
    struct Body {
        static Task<> receive(CrossReceiver<int>* from) {
            const auto item = co_await from->receive();
            EXPECT_EQ(item.value(), 1);
            const auto over = co_await from->receive();
            EXPECT_EQ(over.error(), std::errc::broken_pipe);
        }
    };
    TaskGroup group(co_await this_environment());
    EXPECT_TRUE(group.spawn(Body::receive(&receiver)));
    EXPECT_THROW(static_cast<void>(co_await receiver.receive()), std::logic_error) << "a second one";
    int number = 1;
    EXPECT_TRUE(first.try_send(number));
    auto elsewhere = [&first, &receiver] {
        int late = 2;
        EXPECT_THROW(static_cast<void>(first.try_send(late)), std::logic_error);
        EXPECT_THROW(static_cast<void>(receiver.sender()), std::logic_error);
    };
    static_cast<void>(co_await call(*other, elsewhere));
    first.close();
    second.close();
    co_await group.join();
}

TEST(CrossChannel, MisuseSaysSo) {
    ReactorThread other(1);
    Reactor home(0, small_options());
    run_task(home, [&] { return misuse(&*other); });
}

TEST(CrossChannel, ReceiverWithoutAReactorIsMisuse) {
    EXPECT_THROW(CrossReceiver<int>{1}, std::logic_error);
}

TEST(CrossChannel, SendersThatWereNeverUsedEndAnywhere) {
    Reactor home(0, small_options());
    struct Body {
        static Task<> run() {
            CrossReceiver<int> receiver(1);
            std::thread([sender = receiver.sender()]() mutable { sender = {}; }).join();
            const auto item = co_await receiver.receive();
            EXPECT_EQ(item.error(), std::errc::broken_pipe);
        }
    };
    run_task(home, [] { return Body::run(); });
}

TEST(CrossChannel, ItemsThatNobodyReceivesAreDestroyed) {
    Reactor home(0, small_options());
    struct Body {
        static Task<> run() {
            CrossReceiver<Item> receiver(10);
            CrossSender<Item> sender = receiver.sender();
            for (std::uint64_t number = 0; number < 10; ++number) {
                Item item = item_of(0, number);
                EXPECT_TRUE(sender.try_send(item));
            }
            co_await yield_now();
            const auto first = co_await receiver.receive();
            EXPECT_TRUE(first);
        }
    };
    run_task(home, [] { return Body::run(); });
}

}  // namespace
