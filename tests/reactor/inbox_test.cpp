#include <ferrule/reactor/inbox.hpp>

#include "support/forwarding_kernel.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using ferrule::Inbox;
using ferrule::linux_kernel;
using ferrule::Message;

struct Numbered : Message {
    std::size_t sender = 0;
    std::size_t number = 0;
};

std::size_t count(const Message* message) {
    std::size_t counted = 0;
    for (; message != nullptr; message = message->next) {
        ++counted;
    }
    return counted;
}

TEST(Inbox, OldestComesFirst) {
    Inbox inbox(linux_kernel(), 100);
    std::array<Message, 3> messages;
    for (Message& message : messages) {
        EXPECT_TRUE(inbox.put(message));
    }
    EXPECT_FALSE(inbox.empty());
    const Message* taken = inbox.take_all();
    for (const Message& message : messages) {
        ASSERT_EQ(taken, &message);
        taken = taken->next;
    }
    EXPECT_EQ(taken, nullptr);
    EXPECT_TRUE(inbox.empty());
    EXPECT_EQ(inbox.take_all(), nullptr);
}

TEST(Inbox, Law7LimitRefusesAndRoomIsGivenBack) {
    Inbox inbox(linux_kernel(), 2);
    std::array<Message, 4> messages;
    EXPECT_TRUE(inbox.put(messages[0]));
    EXPECT_TRUE(inbox.put(messages[1]));
    EXPECT_FALSE(inbox.put(messages[2]));
    EXPECT_TRUE(inbox.put_beyond_limit(messages[3])) << "what must not be lost is bounded elsewhere";
    EXPECT_EQ(count(inbox.take_all()), 3u);
    EXPECT_TRUE(inbox.put(messages[2]));
    EXPECT_EQ(count(inbox.take_all()), 1u);
}

TEST(Inbox, RefusingInboxTakesOnlyWhatComesHome) {
    Inbox inbox(linux_kernel(), 10);
    std::array<Message, 2> messages;
    inbox.refuse();
    EXPECT_FALSE(inbox.put(messages[0]));
    EXPECT_TRUE(inbox.put_beyond_limit(messages[1]));
    EXPECT_EQ(inbox.take_all(), &messages[1]);
}

TEST(Inbox, ClosedInboxRefusesAndIsEmpty) {
    Inbox inbox(linux_kernel(), 10);
    std::array<Message, 3> messages;
    EXPECT_TRUE(inbox.put(messages[0]));
    EXPECT_EQ(inbox.close(), &messages[0]);
    EXPECT_FALSE(inbox.put(messages[1]));
    EXPECT_FALSE(inbox.put_beyond_limit(messages[1]));
    EXPECT_FALSE(inbox.send(messages[2]));
    EXPECT_TRUE(inbox.empty());
    EXPECT_EQ(inbox.take_all(), nullptr);
    EXPECT_EQ(inbox.close(), nullptr);
    EXPECT_TRUE(inbox.announce_sleep()) << "a reactor that ends waits with its mailbox closed";
    EXPECT_FALSE(inbox.put(messages[1])) << "taking from a closed inbox does not open it";
}

TEST(Inbox, SleepIsNotAnnouncedOverAMessage) {
    Inbox inbox(linux_kernel(), 10);
    Message message;
    EXPECT_FALSE(inbox.claim_wake());
    EXPECT_TRUE(inbox.announce_sleep());
    EXPECT_TRUE(inbox.put(message));
    EXPECT_TRUE(inbox.claim_wake());
    EXPECT_FALSE(inbox.claim_wake()) << "one sender wakes";
    EXPECT_FALSE(inbox.announce_sleep());
    EXPECT_FALSE(inbox.claim_wake());
    EXPECT_EQ(inbox.take_all(), &message);
}

TEST(Inbox, WakeIsTriedAgainAfterASignal) {
    ferrule_test::ForwardingKernel kernel;
    Inbox inbox(kernel, 10);
    kernel.fail(ferrule_test::Call::write, EINTR, 3);
    inbox.wake();
    std::uint64_t value = 0;
    ASSERT_EQ(kernel.read(inbox.event_descriptor(), &value, sizeof value), 8);
    EXPECT_EQ(value, 1u);
}

TEST(Inbox, NoEventDescriptorLeftIsSaid) {
    ferrule_test::ForwardingKernel kernel;
    kernel.fail(ferrule_test::Call::event_descriptor, EMFILE);
    EXPECT_THROW(Inbox(kernel, 10), std::system_error);
}

/// Senders and one receiver, which sleeps whenever it may, until all messages are there.
void deliver(std::size_t senders, std::size_t messages_each) {
    Inbox inbox(linux_kernel(), 1u << 30);
    std::vector<std::vector<Numbered>> messages(senders);
    for (std::size_t sender = 0; sender < senders; ++sender) {
        messages[sender].resize(messages_each);
    }
    std::vector<std::thread> threads;
    for (std::size_t sender = 0; sender < senders; ++sender) {
        threads.emplace_back([&, sender] {
            for (std::size_t number = 0; number < messages_each; ++number) {
                Numbered& message = messages[sender][number];
                message.sender = sender;
                message.number = number;
                ASSERT_TRUE(inbox.send(message));
            }
        });
    }
    std::vector<std::size_t> next(senders, 0);
    std::size_t received = 0;
    while (received < senders * messages_each) {
        if (inbox.announce_sleep()) {
            std::uint64_t value = 0;
            ASSERT_EQ(linux_kernel().read(inbox.event_descriptor(), &value, sizeof value), 8);
            inbox.awake();
        }
        for (Message* message = inbox.take_all(); message != nullptr;) {
            const auto& numbered = static_cast<const Numbered&>(*message);
            ASSERT_EQ(numbered.number, next[numbered.sender]++);
            ++received;
            message = message->next;
        }
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST(Inbox, NoWakeUpIsLostAndSendersKeepTheirOrder) {
    deliver(4, 250'000);
}

TEST(Inbox, CloseWhileOthersSendLosesNothing) {
    for (int round = 0; round < 50; ++round) {
        const auto inbox = std::make_shared<Inbox>(linux_kernel(), 1000);
        std::vector<Numbered> messages(100);
        std::atomic<std::size_t> accepted{0};
        std::thread sender([&, held = inbox] {
            for (Numbered& message : messages) {
                if (!held->send(message)) {
                    return;
                }
                accepted.fetch_add(1);
            }
        });
        std::size_t received = 0;
        while (received < static_cast<std::size_t>(round * 2)) {
            received += count(inbox->take_all());
        }
        received += count(inbox->close());
        sender.join();
        EXPECT_EQ(received, accepted.load());
    }
}

}  // namespace
