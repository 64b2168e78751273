#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "support/client_socket.hpp"
#include "support/counted_allocations.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace {

using ferrule::Connection;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::pattern;

/// Echoes whole messages of ten bytes: those that straddle are carried, and awaited under a deadline.
Task<> echo_messages(Connection connection) {
    for (;;) {
        auto received = co_await ferrule::with_deadline(connection.read(), std::chrono::hours{1});
        if (!received) break;
        const auto bytes = received.contiguous();
        const std::size_t whole = bytes.size() / 10 * 10;
        connection.write(bytes.first(whole));
        received.consume(whole);
        if (whole != 0) co_await connection.flush();
    }
}

/// The same, by a buffered reader: in one piece what straddles, one message after the other.
Task<> echo_buffered_messages(Connection connection) {
    ferrule::BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        if (received.size() < 10) continue;
        connection.write(received.contiguous(10));
        reader.advance(10);
        co_await connection.flush();
    }
}

/// The same, by a stream.
Task<> echo_streamed_messages(Connection connection) {
    ferrule::ByteStream stream{std::move(connection)};
    char memory[10];
    for (;;) {
        const std::size_t count = co_await stream.read_exactly(std::as_writable_bytes(std::span{memory}));
        if (count < sizeof memory) break;
        co_await stream.write(std::string_view{memory, count});
        co_await stream.flush();
    }
}

void exchange(Engine& engine, ClientSocket& client, unsigned requests) {
    for (unsigned number = 0; number < requests; ++number) {
        client.send("0123456");
        client.send("789");
        EXPECT_EQ(client.receive(10), "0123456789");
    }
    ClientSocket fresh = engine.connect();
    fresh.send("0123456789");
    EXPECT_EQ(fresh.receive(10), "0123456789");
    fresh.close();
    engine.eventually("the end of the fresh one", [&] { return engine.counters().connections.value() == 1; });
}

void expect_no_allocation(ferrule::ConnectionHandler handler, EngineOptions options) {
    Engine engine{std::move(handler), options};
    ClientSocket client = engine.connect();
    // Pools and lists grow to what the traffic needs.
    // The first piece is seen alone, so that there is something to carry.
    client.send("0123456");
    engine.eventually("the first piece", [&] { return engine.counters().bytes_received.value() == 7; });
    client.send("789");
    EXPECT_EQ(client.receive(10), "0123456789");
    for (int turn = 0; turn < 3; ++turn) exchange(engine, client, 100);
    ferrule_test::in_parallel(8, [&](unsigned) {
        ClientSocket other = engine.connect();
        for (int turn = 0; turn < 100; ++turn) {
            other.send("0123456789");
            EXPECT_EQ(other.receive(10), "0123456789");
        }
    });
    engine.eventually("the end of the others", [&] { return engine.counters().connections.value() == 1; });
    engine.on_reactor([] { counted = true; });
    const std::uint64_t before = allocations.load();
    for (unsigned number = 0; number < 1000; ++number) {
        client.send("0123456");
        client.send("789");
        EXPECT_EQ(client.receive(10), "0123456789");
    }
    EXPECT_EQ(allocations.load(), before);
    engine.on_reactor([] { counted = false; });
}

TEST(NetworkAllocation, a_request_in_steady_state_allocates_nothing) {
    expect_no_allocation(ferrule_test::echo, {});
}

TEST(NetworkAllocation, neither_does_one_with_a_carry_and_a_deadline) {
    expect_no_allocation(echo_messages, {});
}

TEST(NetworkAllocation, neither_does_one_of_a_buffered_reader) {
    expect_no_allocation(echo_buffered_messages, {});
    EngineOptions starved;
    starved.network.receive_buffer_count = 1;
    expect_no_allocation(echo_buffered_messages, starved);
}

TEST(NetworkAllocation, neither_does_one_of_a_stream) {
    expect_no_allocation(echo_streamed_messages, {});
}

constexpr std::size_t forwarded_size = 3000;

/// Echoes each request from where it is, and behind it a shared piece and a chain of written ones.
Task<> echo_in_pieces(Connection connection, const ferrule::SharedBytes* shared) {
    std::size_t total = 0;
    while (auto received = co_await connection.read()) {
        total += received.size();
        connection.write(std::move(received));
        if (total % forwarded_size != 0) continue;
        connection.write_shared(*shared);
        for (unsigned piece = 0; piece < 40; ++piece) {
            connection.write(shared->slice().first(900));
            connection.write_shared(*shared);
        }
        co_await connection.flush();
    }
}

TEST(NetworkAllocation, neither_does_one_that_is_forwarded_and_shared_in_many_pieces) {
    constexpr std::size_t shared_size = 3000;
    ferrule::SharedBytes shared;
    EngineOptions options;
    options.network.write_overflow = ferrule::WriteOverflow::segmented;
    Engine engine{[&](Connection connection) { return echo_in_pieces(std::move(connection), &shared); }, options};
    engine.on_reactor([&] { shared = ferrule::SharedBytes::own(pattern(shared_size)); });
    ClientSocket client = engine.connect();
    const std::string sent = pattern(forwarded_size);
    const auto exchange_once = [&] {
        client.send(sent);
        static_cast<void>(client.receive(forwarded_size + 41 * shared_size + 40 * 900));
    };
    for (unsigned number = 0; number < 300; ++number) exchange_once();
    engine.on_reactor([] { counted = true; });
    const std::uint64_t before = allocations.load();
    for (unsigned number = 0; number < 300; ++number) exchange_once();
    EXPECT_EQ(allocations.load(), before);
    engine.on_reactor([&] {
        counted = false;
        shared.reset();
    });
}

TEST(NetworkAllocation, neither_does_one_on_small_queues_or_without_buffers) {
    EngineOptions small;
    small.reactor.submission_entries = 4;
    small.reactor.completion_entries = 8;
    expect_no_allocation(echo_messages, small);
    EngineOptions starved;
    starved.network.receive_buffer_count = 1;
    expect_no_allocation(echo_messages, starved);
}

TEST(NetworkAllocation, a_connection_in_steady_state_allocates_nothing_but_the_handlers_own) {
    Engine engine{ferrule_test::echo};
    ClientSocket client = engine.connect();
    for (int turn = 0; turn < 50; ++turn) exchange(engine, client, 1);
    std::uint64_t counted_ones = 0;
    engine.on_reactor([] { counted = true; });
    const std::uint64_t before = allocations.load();
    for (int turn = 0; turn < 50; ++turn) {
        ClientSocket fresh = engine.connect();
        fresh.send("0123456789");
        EXPECT_EQ(fresh.receive(10), "0123456789");
        fresh.shutdown_write();
        EXPECT_EQ(fresh.receive_rest(), ClientSocket::Rest{});
    }
    counted_ones = allocations.load() - before;
    engine.on_reactor([] { counted = false; });
    EXPECT_EQ(counted_ones, 0u);
}

// ---- datagrams ----

/// Two sockets of one reactor that answer each other, in trains and alone.
ferrule::Task<> exchange_datagrams(ferrule::Reactor& reactor, std::uint32_t buffers, std::uint64_t* allocated) {
    const ferrule::UdpSocketOptions options{
        .address = ferrule::Address::loopback(0), .receive_buffer_count = buffers, .gro = true, .ecn = true};
    auto opened = ferrule::UdpSocket::open(reactor, options);
    auto other = ferrule::UdpSocket::open(reactor, options);
    const ferrule::Address there = *other->local_address();
    const std::string bytes(3000, 'x');
    std::uint64_t before = 0;
    for (int turn = 0; turn < 2000; ++turn) {
        if (turn == 1000) {
            counted = true;
            before = allocations.load();
        }
        for (const std::uint16_t segment_size : {std::uint16_t{0}, std::uint16_t{1000}}) {
            opened->send_to(there, bytes, {.segment_size = segment_size, .ecn = ferrule::Ecn::capable_0});
            auto question = co_await other->receive();
            EXPECT_EQ(question.size(), bytes.size());
            other->send_to(question.sender(), question.payload());
            question.reset();
            const auto flushed = co_await other->flush();
            EXPECT_TRUE(flushed.has_value());
            auto answer = co_await opened->receive();
            EXPECT_EQ(answer.size(), bytes.size());
        }
    }
    *allocated = allocations.load() - before;
    counted = false;
    reactor.stop();
}

TEST(NetworkAllocation, a_datagram_in_steady_state_allocates_nothing) {
    for (const std::uint32_t buffers : {64u, 1u}) {
        ferrule::Reactor reactor;
        std::uint64_t allocated = 1;
        reactor.on_start(
            [&](ferrule::Reactor& started) { started.spawn(exchange_datagrams(started, buffers, &allocated)); });
        reactor.run();
        EXPECT_EQ(allocated, 0u);
    }
}

}  // namespace
