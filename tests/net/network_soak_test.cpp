#include <ferrule/net/network.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <system_error>
#include <utility>

namespace {

using namespace std::chrono_literals;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::open_descriptors;
using ferrule_test::pattern;

constexpr unsigned hostile_threads = 4;
/// How many of its silent connections each thread keeps open; the oldest then ends.
constexpr std::size_t kept_per_thread = 64;
/// How often the bounds are looked at.
constexpr unsigned connections_per_look = 500;
constexpr unsigned kinds = 8;

/// Bounds that so many hostile peers reach all the time.
EngineOptions tight() {
    EngineOptions options;
    options.network.receive_buffer_count = 64;
    options.network.connection_memory_limit = 128 << 10;
    // What one may have is a small part of this, so all of them together leave room for others.
    options.network.memory_limit = 64 << 20;
    options.reactor.memory_limit = 72 << 20;
    options.network.idle_timeout = 20s;
    options.network.write_timeout = 20s;
    options.network.linger_timeout = 200ms;
    return options;
}

/// Sends until nothing more is taken, or until the connection is ended, because its account is full.
void flood(ClientSocket& client, const std::string& piece) {
    try {
        while (client.send_now(piece) != 0) {
        }
    } catch (const std::system_error& ended) {
        EXPECT_TRUE(ended.code() == std::errc::connection_reset || ended.code() == std::errc::broken_pipe)
            << ended.what();
    }
}

/// One hostile connection. True when it is to stay open.
bool misbehave(ClientSocket& client, unsigned number) {
    switch (number % kinds) {
        case 0:  // one byte and no more
            client.send("x");
            return true;
        case 1:  // as much as it takes, and nothing is read
            flood(client, pattern(20'000, number));
            return true;
        case 2:  // a reset in the middle
            static_cast<void>(client.send_now(pattern(number % 60'000, number)));
            client.reset();
            return false;
        case 3:  // nothing at all
            client.close();
            return false;
        case 4: {  // an end, and the answer is awaited all the same
            const std::string message = pattern(number % 5'000 + 1, number);
            client.send(message);
            client.shutdown_write();
            EXPECT_TRUE(client.receive_rest().bytes == message);
            return false;
        }
        case 5:  // an end without a message
            client.shutdown_write();
            EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
            return false;
        case 6:  // a part of the answer, then a reset
            client.send(pattern(3'000, number));
            static_cast<void>(client.receive(100));
            client.reset();
            return false;
        default:  // small pieces, unread and closed
            for (unsigned piece = 0; piece < 8; ++piece) static_cast<void>(client.send_now("piece"));
            return false;
    }
}

/// `count` hostile connections, and beside them one peer that expects to be served as if nothing were.
void expect_to_outlast(unsigned count) {
    Engine engine{echo, tight()};
    ClientSocket first = engine.connect();
    first.send("x");
    static_cast<void>(first.receive(1));
    first.close();
    engine.until_empty();
    const std::size_t descriptors = open_descriptors();
    std::atomic<unsigned> hostile_left = hostile_threads;
    unsigned served = 0;
    in_parallel(hostile_threads + 1, [&](unsigned thread) {
        if (thread == hostile_threads) {
            for (; hostile_left != 0 || served == 0; ++served) {
                ClientSocket client = engine.connect();
                const std::string message = pattern(1'000, served);
                client.send(message);
                EXPECT_TRUE(client.receive(message.size()) == message);
            }
            return;
        }
        // Whatever happens here, the other threads end.
        struct Leaving {
            std::atomic<unsigned>& left;
            ~Leaving() { --left; }
        } leaving{hostile_left};
        std::deque<ClientSocket> kept;
        for (unsigned number = thread; number < count; number += hostile_threads) {
            ClientSocket client = engine.connect(number % kinds == 1 ? 4096 : 0);
            // The kinds take turns in each thread.
            if (misbehave(client, number / hostile_threads)) kept.push_back(std::move(client));
            if (kept.size() > kept_per_thread) {
                if (number % 3 == 0) kept.front().reset();
                kept.pop_front();
            }
            if (number % connections_per_look == 0) {
                engine.on_reactor([&] {
                    EXPECT_LE(engine.network().slabs().used_bytes(), tight().network.memory_limit);
                    EXPECT_LE(engine.reactor().memory_account.used_bytes(), tight().reactor.memory_limit);
                });
            }
        }
    });
    engine.until_empty();
    EXPECT_EQ(open_descriptors(), descriptors);
    engine.on_reactor([&] {
        EXPECT_EQ(engine.network().buffers().held(), 0u);
        EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
        EXPECT_EQ(engine.reactor().frames.live_frames(), 0u);
    });
    EXPECT_EQ(engine.counters().accepted.value(), engine.counters().closed.value());
    EXPECT_GE(engine.counters().accepted.value(), count);
    EXPECT_EQ(engine.faults(), 0u);
    testing::Test::RecordProperty("hostile connections", static_cast<int>(count));
    testing::Test::RecordProperty("requests served meanwhile", static_cast<int>(served));
}

TEST(NetworkSoak, two_thousand_hostile_connections_cost_nobody_an_answer) {
    expect_to_outlast(2'000);
}

TEST(NetworkSoakLong, a_million_hostile_connections_cost_nobody_an_answer) {
    expect_to_outlast(1'000'000);
}

}  // namespace
