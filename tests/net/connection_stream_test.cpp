#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

// Streams: what comes in more than the buffers take is received in large pieces, into blocks of the connection's own.

namespace {

using namespace std::chrono_literals;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Lease;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::pattern;
using ferrule_test::Signal;

constexpr std::size_t kibibyte = std::size_t{1} << 10;
constexpr std::size_t mebibyte = std::size_t{1} << 20;
/// The least that a block of a stream takes.
constexpr std::uint64_t block_bytes = 64 * kibibyte;

/// What a handler leaves for the test.
struct Notes {
    std::size_t total = 0;
    std::string text;
    std::uint64_t most = 0;
    std::size_t largest = 0;
    bool parked = false;
    EndReason reason = EndReason::none;
    Signal ended;
};

std::uint64_t blocks_in_use(Engine& engine) {
    return engine.on_reactor([&] { return engine.network().slabs().used_bytes(); });
}

/// Sends to a handler that drops what comes until its connection is received from into blocks, and waits in one.
void make_stream(Engine& engine, ClientSocket& client, Notes& notes) {
    std::size_t sent = 0;
    const std::string piece = pattern(mebibyte);
    for (unsigned turn = 0; turn < 20; ++turn) {
        client.send(piece);
        sent += piece.size();
        engine.eventually("what was sent", [&] { return notes.total == sent && notes.parked; });
        if (blocks_in_use(engine) >= block_bytes) return;
    }
    throw std::runtime_error("no stream");
}

/// Drops what comes, and notes it when it is short.
Task<> drop(Connection connection, Notes* notes) {
    notes->parked = true;
    while (auto received = co_await connection.read()) {
        notes->parked = false;
        const std::size_t size = received.size();
        notes->total += size;
        for (const auto slice : received) {
            notes->largest = std::max(notes->largest, slice.size());
            if (size <= 100) notes->text += slice.text();
        }
        received.reset();
        notes->parked = true;
    }
    notes->reason = connection.end_reason();
    connection.write("bye");
    co_await connection.flush();
    notes->ended.raise();
}

void expect_nothing_left(Engine& engine) {
    engine.until_empty();
    EXPECT_EQ(blocks_in_use(engine), 0u);
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
    EXPECT_EQ(engine.faults(), 0u);
}

// ---- exact bytes ----

Task<> echo_forwarding(Connection connection) {
    while (auto received = co_await connection.read()) {
        if (!connection.write(std::move(received))) throw std::logic_error("a write was refused");
        co_await connection.flush();
    }
}

/// Keeps what has come until the next comes.
Task<> echo_late(Connection connection) {
    std::vector<Lease> kept;
    while (auto received = co_await connection.read()) {
        kept.clear();
        for (const auto slice : received) connection.write(slice);
        while (Lease lease = received.take()) kept.push_back(std::move(lease));
        co_await connection.flush();
    }
}

TEST(ConnectionStream, a_stream_that_changes_between_small_and_large_messages_is_exact) {
    for (const auto handler : {&ferrule_test::echo, &echo_forwarding, &echo_late}) {
        Engine engine{handler};
        ClientSocket client = engine.connect();
        unsigned seed = 0;
        for (unsigned round = 0; round < 3; ++round) {
            for (const std::size_t size :
                 {std::size_t{1}, std::size_t{2048}, 300 * kibibyte, std::size_t{5}, std::size_t{5000},
                  2 * mebibyte + 1, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4}, std::size_t{5},
                  std::size_t{6}, std::size_t{70'001}}) {
                const std::string message = pattern(size, ++seed);
                std::jthread sender{[&] { client.send(message); }};
                EXPECT_TRUE(client.receive(size) == message) << round << ", " << size;
            }
        }
        client.shutdown_write();
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"", 0}));
        expect_nothing_left(engine);
    }
}

TEST(ConnectionStream, comes_in_large_pieces) {
    Notes notes;
    Engine engine{[&](Connection connection) { return drop(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    make_stream(engine, client, notes);
    // It may have begun behind the last of that.
    const std::size_t wanted = notes.total + mebibyte;
    client.send(pattern(mebibyte));
    engine.eventually("one piece more", [&] { return notes.total == wanted; });
    EXPECT_GT(notes.largest, 16 * kibibyte);
    client.close();
    notes.ended.wait();
    expect_nothing_left(engine);
}

TEST(ConnectionStream, no_stream_memory_leaves_all_to_the_buffers) {
    Notes notes;
    EngineOptions options;
    options.network.stream_memory = 0;
    Engine engine{[&](Connection connection) { return drop(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    client.send(pattern(4 * mebibyte));
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.total, 4 * mebibyte);
    EXPECT_LE(notes.largest, options.network.receive_buffer_size);
    expect_nothing_left(engine);
}

TEST(ConnectionStream, many_do_not_arm_more_than_stream_memory) {
    constexpr unsigned count = 12;
    EngineOptions options;
    options.network.stream_memory = 5 * block_bytes;
    Engine engine{&ferrule_test::echo, options};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < count; ++number) clients.push_back(engine.connect());
    for (unsigned turn = 0; turn < 3; ++turn) {
        in_parallel(count, [&](unsigned number) {
            const std::string message = pattern(mebibyte, number + turn);
            std::jthread sender{[&] { clients[number].send(message); }};
            EXPECT_TRUE(clients[number].receive(message.size()) == message) << number;
        });
        // The blocks of what was written go back when it is sent; those that are armed are what is left.
        engine.eventually("all sent",
                          [&] { return engine.network().slabs().used_bytes() <= options.network.stream_memory; });
    }
    EXPECT_GE(blocks_in_use(engine), block_bytes);
    for (ClientSocket& client : clients) client.shutdown_write();
    for (ClientSocket& client : clients) EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"", 0}));
    expect_nothing_left(engine);
}

// ---- leases ----

/// Keeps all that comes until reading ends.
Task<> keep_all(Connection connection, Notes* notes) {
    std::vector<Lease> kept;
    while (auto received = co_await connection.read()) {
        while (Lease lease = received.take()) kept.push_back(std::move(lease));
        notes->most = std::max(notes->most, connection.memory_bytes());
    }
    notes->reason = connection.end_reason();
    for (const Lease& lease : kept) {
        notes->text += lease.slice().text();
        notes->largest = std::max(notes->largest, lease.size());
    }
    kept.clear();
    notes->ended.raise();
}

TEST(ConnectionStream, pieces_are_kept_up_to_the_limits_and_exact) {
    struct Limits {
        std::uint32_t leases;
        std::uint32_t bytes;
        std::uint64_t account;
    };
    const ferrule::NetworkOptions usual;
    for (const Limits& limits :
         {Limits{20, static_cast<std::uint32_t>(mebibyte), usual.connection_memory_limit},
          Limits{1000, static_cast<std::uint32_t>(300 * kibibyte), usual.connection_memory_limit},
          Limits{1000, static_cast<std::uint32_t>(64 * mebibyte), mebibyte}}) {
        Notes notes;
        EngineOptions options;
        options.network.receive_lease_limit = limits.leases;
        options.network.receive_limit = limits.bytes;
        options.network.connection_memory_limit = limits.account;
        options.network.write_limit =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(usual.write_limit, limits.account));
        Engine engine{[&](Connection connection) { return keep_all(std::move(connection), &notes); }, options};
        ClientSocket client = engine.connect();
        const std::string message = pattern(8 * mebibyte);
        std::jthread sender{[&] { static_cast<void>(client.try_send(message)); }};
        notes.ended.wait();
        EXPECT_EQ(notes.reason, EndReason::limit);
        EXPECT_TRUE(notes.text == message.substr(0, notes.text.size()));
        EXPECT_LE(notes.text.size(), limits.bytes + 2 * mebibyte);
        // A cancel stops what the kernel has not posted yet: older kernels may have posted all shared buffers by then.
        EXPECT_LE(notes.most, limits.account + 64 * kibibyte + 2 * mebibyte);
        sender.join();
        client.close();
        expect_nothing_left(engine);
    }
}

// ---- the end of a connection whose block is armed ----

TEST(ConnectionStream, half_close_and_reset_give_the_block_back) {
    for (const bool resets : {false, true}) {
        Notes notes;
        Engine engine{[&](Connection connection) { return drop(std::move(connection), &notes); }};
        ClientSocket client = engine.connect();
        make_stream(engine, client, notes);
        if (resets) {
            client.reset();
        } else {
            client.shutdown_write();
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"bye", 0}));
        }
        notes.ended.wait();
        EXPECT_EQ(notes.reason, resets ? EndReason::reset : EndReason::end_of_stream);
        expect_nothing_left(engine);
    }
}

TEST(ConnectionStream, drain_and_stop_give_the_block_back) {
    for (const bool drains : {true, false}) {
        Notes notes;
        Engine engine{[&](Connection connection) { return drop(std::move(connection), &notes); }};
        ClientSocket client = engine.connect();
        make_stream(engine, client, notes);
        if (drains) {
            engine.drain(10s);
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"bye", 0}));
            client.close();
            EXPECT_EQ(notes.reason, EndReason::draining);
        } else {
            engine.stop();
        }
        engine.join();
        EXPECT_EQ(engine.remains(), Engine::Remains{});
    }
}

/// Drops what comes; when nothing has for a while, goes on, or ends while the block is armed.
Task<> drop_under_deadlines(Connection connection, Notes* notes, bool goes_on) {
    notes->parked = true;
    for (;;) {
        auto received = co_await ferrule::with_deadline(connection.read(), 500ms);
        notes->parked = false;
        if (!received) {
            notes->reason = connection.end_reason();
            if (notes->reason != EndReason::deadline) break;
            notes->ended.raise();
            if (!goes_on) co_return;
        }
        notes->total += received.size();
        for (const auto slice : received) {
            if (slice.size() <= 100) notes->text += slice.text();
        }
        received.reset();
        notes->parked = true;
    }
    notes->ended.raise();
}

TEST(ConnectionStream, cancelling_a_read_loses_nothing_that_comes_into_the_block) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return drop_under_deadlines(std::move(connection), &notes, true); },
                  options};
    ClientSocket client = engine.connect();
    make_stream(engine, client, notes);
    for (unsigned turn = 0; turn < 3; ++turn) {
        notes.text.clear();
        clock.advance(600ms);
        engine.on_reactor([] {});
        notes.ended.wait(turn + 1);
        client.send("after " + std::to_string(turn));
        engine.eventually("it", [&] { return notes.text == "after " + std::to_string(turn) && notes.parked; });
    }
    client.close();
    notes.ended.wait(4);
    EXPECT_EQ(notes.reason, EndReason::end_of_stream);
    expect_nothing_left(engine);
}

TEST(ConnectionStream, destroying_the_connection_gives_the_block_back) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return drop_under_deadlines(std::move(connection), &notes, false); },
                  options};
    ClientSocket client = engine.connect();
    make_stream(engine, client, notes);
    clock.advance(600ms);
    engine.on_reactor([] {});
    notes.ended.wait();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"", 0}));
    client.close();
    expect_nothing_left(engine);
}

// ---- its end ----

TEST(ConnectionStream, small_messages_give_the_block_back_and_a_stream_may_come_again) {
    Notes notes;
    Engine engine{[&](Connection connection) { return drop(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    for (unsigned turn = 0; turn < 3; ++turn) {
        make_stream(engine, client, notes);
        notes.text.clear();
        std::string sent;
        for (unsigned number = 0; number < 4; ++number) {
            sent += std::to_string(number);
            client.send(std::to_string(number));
            engine.eventually("it", [&] { return notes.text == sent && notes.parked; });
        }
        EXPECT_EQ(blocks_in_use(engine), 0u);
        notes.total = 0;
    }
    client.close();
    notes.ended.wait();
    expect_nothing_left(engine);
}

TEST(ConnectionStream, silence_gives_the_block_back_and_a_stream_may_come_again) {
    for (const auto idle_timeout : {60'000ms, 0ms}) {
        ManualClock clock;
        Notes notes;
        EngineOptions options;
        options.kernel = &clock;
        options.network.idle_timeout = idle_timeout;
        options.network.read_timeout = idle_timeout;
        Engine engine{[&](Connection connection) { return drop(std::move(connection), &notes); }, options};
        ClientSocket client = engine.connect();
        for (unsigned turn = 0; turn < 3; ++turn) {
            make_stream(engine, client, notes);
            clock.advance(700ms);
            EXPECT_GE(blocks_in_use(engine), block_bytes);
            clock.advance(700ms);
            engine.eventually("no block", [&] { return engine.network().slabs().used_bytes() == 0; });
            notes.text.clear();
            client.send("small");
            engine.eventually("it", [&] { return notes.text == "small" && notes.parked; });
            EXPECT_EQ(blocks_in_use(engine), 0u);
            notes.total = 0;
        }
        client.close();
        notes.ended.wait();
        EXPECT_EQ(notes.reason, EndReason::end_of_stream);
        expect_nothing_left(engine);
    }
}

}  // namespace
