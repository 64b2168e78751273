#include <ferrule/net/network.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::Address;
using ferrule::AddressLimiter;
using ferrule::AddressPrefix;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Excess;
using ferrule::Network;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::Gate;
using ferrule_test::ManualClock;
using ferrule_test::pattern;
using ferrule_test::Signal;

/// What the handler of a test has seen.
struct Notes {
    std::atomic<EndReason> reason = EndReason::none;
    Signal ended;
};

void expect_echo(ClientSocket& client, std::string_view message) {
    client.send(message);
    EXPECT_EQ(client.receive(message.size()), message);
}

/// Moves the time, and has the reactor see it.
void advance(Engine& engine, ManualClock& clock, std::chrono::nanoseconds time) {
    clock.advance(time);
    // What the timers find in the pass of the first message has happened before the second.
    engine.on_reactor([] {});
    engine.on_reactor([] {});
}

void until_received(Engine& engine, std::uint64_t bytes) {
    engine.eventually("bytes", [&engine, bytes] { return engine.counters().bytes_received.value() >= bytes; });
}

void until_connected(Engine& engine, std::uint64_t connections) {
    engine.eventually("connections",
                      [&engine, connections] { return engine.counters().connections.value() == connections; });
}

constexpr std::size_t message_bytes = 1000;

/// Answers each message of message_bytes with "!"; what is no whole message is carried.
Task<> answer_messages(Connection connection, Notes* notes) {
    while (auto received = co_await connection.read()) {
        const std::size_t whole = received.size() / message_bytes;
        received.consume(whole * message_bytes);
        received.reset();
        if (whole == 0) continue;
        connection.write(std::string(whole, '!'));
        co_await connection.flush();
    }
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

// ---- the first byte ----

struct Defended {
    explicit Defended(EngineOptions engine_options = {}) : options(std::move(engine_options)) {
        options.kernel = &clock;
        options.network.read_timeout = 0ms;
    }
    ManualClock clock;
    Notes notes;
    EngineOptions options;
};

TEST(NetworkFirstByte, a_connection_that_says_nothing_ends) {
    Defended test;
    test.options.network.first_byte_timeout = 1s;
    Engine engine{[&](Connection connection) { return answer_messages(std::move(connection), &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    until_connected(engine, 1);
    advance(engine, test.clock, 990ms);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
    advance(engine, test.clock, 20ms);
    test.notes.ended.wait();
    EXPECT_EQ(test.notes.reason, EndReason::deadline);
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    EXPECT_EQ(engine.counters().first_byte_timeouts.value(), 1u);
    EXPECT_EQ(engine.counters().timeouts.value(), 1u);
}

TEST(NetworkFirstByte, one_that_has_spoken_may_be_silent) {
    Defended test;
    test.options.network.first_byte_timeout = 1s;
    test.options.network.idle_timeout = 0ms;
    Engine engine{echo, test.options};
    ClientSocket client = engine.connect();
    until_connected(engine, 1);
    advance(engine, test.clock, 900ms);
    for (unsigned turn = 0; turn < 3; ++turn) {
        expect_echo(client, "hello");
        advance(engine, test.clock, 1h);
    }
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
}

Task<> greet_late(Connection connection, Gate* gate, Notes* notes) {
    co_await *gate;
    connection.write("hello");
    co_await connection.flush();
    while (auto received = co_await connection.read()) {
    }
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

TEST(NetworkFirstByte, counts_from_when_it_is_waited_for) {
    Defended test;
    Gate gate;
    test.options.network.first_byte_timeout = 1s;
    Engine engine{[&](Connection connection) { return greet_late(std::move(connection), &gate, &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    until_connected(engine, 1);
    advance(engine, test.clock, 10s);
    engine.on_reactor([&] { gate.open(); });
    EXPECT_EQ(client.receive(5), "hello");
    advance(engine, test.clock, 900ms);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
    advance(engine, test.clock, 2s);
    test.notes.ended.wait();
    EXPECT_EQ(test.notes.reason, EndReason::deadline);
    EXPECT_EQ(engine.counters().first_byte_timeouts.value(), 1u);
}

// ---- the rate of receiving ----

EngineOptions with_receive_rate(std::uint32_t rate) {
    EngineOptions options;
    options.network.receive_rate_min = rate;
    options.network.rate_window = 1s;
    options.network.idle_timeout = 0ms;
    return options;
}

TEST(NetworkReceiveRate, a_message_that_drips_ends_its_connection) {
    Defended test{with_receive_rate(100)};
    Engine engine{[&](Connection connection) { return answer_messages(std::move(connection), &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    for (std::uint64_t piece = 1; test.notes.ended.count() == 0; ++piece) {
        ASSERT_LT(piece, 10u);
        client.send("x");
        until_received(engine, piece);
        advance(engine, test.clock, 300ms);
    }
    EXPECT_EQ(test.notes.reason, EndReason::deadline);
    EXPECT_EQ(engine.counters().slow_senders.value(), 1u);
    EXPECT_EQ(engine.counters().timeouts.value(), 1u);
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
}

TEST(NetworkReceiveRate, one_that_is_fast_enough_is_served) {
    Defended test{with_receive_rate(100)};
    Engine engine{[&](Connection connection) { return answer_messages(std::move(connection), &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    // 167 bytes a second, over six windows.
    const std::string message = pattern(message_bytes);
    for (std::size_t sent = 0; sent < message_bytes; sent += 50) {
        client.send(std::string_view(message).substr(sent, 50));
        until_received(engine, sent + 50);
        advance(engine, test.clock, 300ms);
    }
    EXPECT_EQ(client.receive(1), "!");
    // Between messages there is no rate.
    advance(engine, test.clock, 1h);
    client.send(message);
    EXPECT_EQ(client.receive(1), "!");
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
}

TEST(NetworkReceiveRate, a_burst_and_a_pause_are_an_average) {
    Defended test{with_receive_rate(100)};
    Engine engine{[&](Connection connection) { return answer_messages(std::move(connection), &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    client.send(pattern(500));
    until_received(engine, 500);
    advance(engine, test.clock, 1100ms);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
    // The next window begins without what came in the last one.
    advance(engine, test.clock, 1100ms);
    test.notes.ended.wait();
    EXPECT_EQ(engine.counters().slow_senders.value(), 1u);
}

Task<> read_and_wait(Connection connection, Gate* gate, Notes* notes) {
    auto received = co_await connection.read();
    received.consume(0);
    received.reset();
    co_await *gate;
    received = co_await connection.read();
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

TEST(NetworkReceiveRate, time_in_which_nobody_waits_does_not_count) {
    Defended test{with_receive_rate(100)};
    Gate gate;
    Engine engine{[&](Connection connection) { return read_and_wait(std::move(connection), &gate, &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    client.send("x");
    until_received(engine, 1);
    advance(engine, test.clock, 10s);
    engine.on_reactor([&] { gate.open(); });
    advance(engine, test.clock, 900ms);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
    advance(engine, test.clock, 200ms);
    test.notes.ended.wait();
    EXPECT_EQ(test.notes.reason, EndReason::deadline);
}

/// Takes a body as it comes, and says so.
Task<> take_body(Connection connection, std::size_t left, Notes* notes) {
    connection.begin_message();
    while (left != 0) {
        auto received = co_await connection.read();
        if (!received) break;
        left -= received.size();
    }
    connection.end_message();
    connection.write("!");
    co_await connection.flush();
    while (auto received = co_await connection.read()) {
    }
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

TEST(NetworkReceiveRate, holds_for_a_body_that_is_consumed_as_it_comes) {
    Defended test{with_receive_rate(100)};
    Engine engine{[&](Connection connection) { return take_body(std::move(connection), 500, &test.notes); },
                  test.options};
    ClientSocket honest = engine.connect();
    for (std::uint64_t sent = 50; sent <= 500; sent += 50) {
        honest.send(std::string(50, 'x'));
        until_received(engine, sent);
        advance(engine, test.clock, 300ms);
    }
    EXPECT_EQ(honest.receive(1), "!");
    advance(engine, test.clock, 1h);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
    ClientSocket dripper = engine.connect();
    until_connected(engine, 2);
    for (std::uint64_t piece = 1; test.notes.ended.count() == 0; ++piece) {
        ASSERT_LT(piece, 10u);
        dripper.send("x");
        until_received(engine, 500 + piece);
        advance(engine, test.clock, 300ms);
    }
    EXPECT_EQ(engine.counters().slow_senders.value(), 1u);
}

// Streams are received otherwise, and are still found where each piece is counted.
TEST(NetworkReceiveRate, a_stream_is_counted_too) {
    Defended test{with_receive_rate(100)};
    constexpr std::size_t size = 4u << 20;
    Engine engine{[&](Connection connection) { return take_body(std::move(connection), size, &test.notes); },
                  test.options};
    ClientSocket client = engine.connect();
    client.send(pattern(size));
    EXPECT_EQ(client.receive(1), "!");
    EXPECT_EQ(engine.counters().bytes_received.value(), size);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
}

// ---- the rate of sending ----

Task<> send_much(Connection connection, std::size_t bytes, Notes* notes) {
    connection.write(pattern(bytes));
    const auto flushed = co_await connection.flush();
    EXPECT_TRUE(flushed.has_value() || flushed.error() == std::errc::timed_out);
    while (auto received = co_await connection.read()) {
    }
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

EngineOptions with_send_rate(std::uint32_t rate) {
    EngineOptions options;
    options.network.send_rate_min = rate;
    options.network.rate_window = 1s;
    options.network.idle_timeout = options.network.write_timeout = 0ms;
    return options;
}

constexpr std::size_t much = 12u << 20;  // more than the sockets take
constexpr int small_window = 16u << 10;

TEST(NetworkSendRate, a_peer_that_takes_nothing_is_reset) {
    Defended test{with_send_rate(10'000)};
    Engine engine{[&](Connection connection) { return send_much(std::move(connection), much, &test.notes); },
                  test.options};
    ClientSocket client = engine.connect(small_window);
    engine.eventually("a send that waits", [&] { return engine.counters().slow_sends.value() != 0; });
    // What it has room for may count for the first window, and then nothing does.
    for (unsigned window = 0; test.notes.ended.count() == 0; ++window) {
        ASSERT_LT(window, 500u);
        advance(engine, test.clock, 1100ms);
    }
    EXPECT_EQ(test.notes.reason, EndReason::deadline);
    EXPECT_EQ(engine.counters().slow_receivers.value(), 1u);
    EXPECT_EQ(engine.counters().timeouts.value(), 1u);
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
}

TEST(NetworkSendRate, one_that_takes_enough_gets_all) {
    Defended test{with_send_rate(10'000)};
    Engine engine{[&](Connection connection) { return send_much(std::move(connection), much, &test.notes); },
                  test.options};
    ClientSocket client = engine.connect(small_window);
    engine.eventually("a send that waits", [&] { return engine.counters().slow_sends.value() != 0; });
    const std::string expected = pattern(much);
    // 256 KiB in each 100 ms.
    constexpr std::size_t piece = 256u << 10;
    for (std::size_t at = 0; at < much; at += piece) {
        ASSERT_TRUE(client.receive(piece) == expected.substr(at, piece)) << at;
        advance(engine, test.clock, 100ms);
    }
    // With nothing to send there is no rate.
    advance(engine, test.clock, 1h);
    EXPECT_EQ(engine.counters().timeouts.value(), 0u);
}

// ---- connections of a client ----

/// A client with an address of its own: all of 127.0.0.0/8 is this machine.
ClientSocket connect_from(std::string_view host, const Address& server) {
    const int number = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ClientSocket client{number};
    client.limit_waits(ClientSocket::patience_seconds);
    const Address own = Address::parse(host, 0).value();
    // One that the end of an earlier ring has interrupted goes on by itself, and what comes next waits for it.
    if (::bind(number, own.data(), own.size()) < 0 ||
        (::connect(number, server.data(), server.size()) < 0 && errno != EINTR))
        throw std::system_error(errno, std::system_category(), "connect of a client");
    return client;
}

TEST(NetworkAddressLimit, more_connections_of_a_client_are_reset) {
    EngineOptions options;
    options.network.address_limits.connections = 2;
    Engine engine{echo, options};
    ClientSocket first = connect_from("127.0.0.2", engine.address());
    ClientSocket second = connect_from("127.0.0.2", engine.address());
    expect_echo(first, "first");
    expect_echo(second, "second");
    EXPECT_EQ(connect_from("127.0.0.2", engine.address()).receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    ClientSocket other = connect_from("127.0.0.3", engine.address());
    expect_echo(other, "another client");
    first.close();
    until_connected(engine, 2);
    ClientSocket third = connect_from("127.0.0.2", engine.address());
    expect_echo(third, "in the place of the first");
    EXPECT_EQ(engine.counters().address_refusals.value(), 1u);
    EXPECT_EQ(engine.counters().refused.value(), 0u);
}

/// The server's side of a connection from there, for `adopt`, and its client.
std::pair<int, ClientSocket> accepted_from(std::string_view host) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const ClientSocket closes{listener};
    const Address any = Address::loopback(0);
    if (::bind(listener, any.data(), any.size()) < 0 || ::listen(listener, 1) < 0)
        throw std::system_error(errno, std::system_category(), "listen");
    ClientSocket client = connect_from(host, ferrule::local_address(ferrule::linux_kernel(), listener).value());
    return {::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), std::move(client)};
}

TEST(NetworkAddressLimit, holds_for_those_that_wait_for_their_turn) {
    EngineOptions options;
    options.network.address_limits.connections = 2;
    options.network.connection_limit = 1;
    Engine engine{echo, options};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 3; ++number) {
        auto [descriptor, client] = accepted_from("127.0.0.2");
        clients.push_back(std::move(client));
        engine.on_reactor([&engine, adopted = descriptor] { engine.network().adopt(adopted, 0); });
    }
    EXPECT_EQ(clients[2].receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    EXPECT_EQ(engine.counters().address_refusals.value(), 1u);
    expect_echo(clients[0], "first");
    clients[0].close();
    expect_echo(clients[1], "its turn");
}

TEST(NetworkAddressLimit, some_have_no_limit) {
    EngineOptions options;
    options.network.address_limits.connections = 1;
    options.network.address_limits.exempt = {AddressPrefix::parse("127.0.0.4/30").value()};
    Engine engine{echo, options};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 5; ++number) clients.push_back(connect_from("127.0.0.5", engine.address()));
    for (ClientSocket& client : clients) expect_echo(client, "hello");
}

TEST(NetworkAddressLimit, may_be_one_for_several_reactors) {
    AddressLimiter limiter{{.connections = 3}};
    EngineOptions options;
    options.reactors = 2;
    options.accepting = ferrule_test::Accepting::handed_over;
    options.network.address_limiter = &limiter;
    Engine engine{echo, options};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 3; ++number) {
        clients.push_back(connect_from("127.0.0.2", engine.address()));
        expect_echo(clients.back(), "hello");
    }
    EXPECT_EQ(connect_from("127.0.0.2", engine.address()).receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    EXPECT_EQ(limiter.connections(Address::parse("127.0.0.2", 0).value()), 3u);
    clients.clear();
    engine.until_empty(0);
    engine.until_empty(1);
    EXPECT_EQ(limiter.connections(Address::parse("127.0.0.2", 0).value()), 0u);
}

TEST(NetworkAddressLimit, what_is_open_at_the_end_is_counted_no_more) {
    AddressLimiter limiter{{.connections = 3}};
    EngineOptions options;
    options.network.address_limiter = &limiter;
    options.network.connection_limit = 1;
    std::vector<ClientSocket> clients;
    {
        Engine engine{echo, options};
        clients.push_back(engine.connect());
        expect_echo(clients.back(), "hello");
        clients.push_back(engine.connect());
    }
    EXPECT_EQ(limiter.connections(Address::loopback(0)), 0u);
}

// ---- the rate of accepting ----

EngineOptions with_accept_rate(ManualClock& clock, Excess excess) {
    EngineOptions options;
    options.kernel = &clock;
    options.network.accept_rate = 10;
    options.network.accept_burst = 2;
    options.network.accept_excess = excess;
    options.network.idle_timeout = options.network.read_timeout = 0ms;
    return options;
}

TEST(NetworkAcceptRate, those_beyond_it_wait_for_their_turn) {
    ManualClock clock;
    Engine engine{echo, with_accept_rate(clock, Excess::wait)};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 5; ++number) clients.push_back(engine.connect());
    expect_echo(clients[0], "first");
    expect_echo(clients[1], "second");
    for (unsigned number = 2; number < 5; ++number) {
        EXPECT_EQ(engine.on_reactor([&] { return engine.counters().accepted.value(); }), number);
        advance(engine, clock, 99ms);
        EXPECT_EQ(engine.on_reactor([&] { return engine.counters().accepted.value(); }), number);
        advance(engine, clock, 1ms);
        expect_echo(clients[number], "its turn");
    }
    EXPECT_EQ(engine.counters().accept_throttles.value(), 4u);
    EXPECT_EQ(engine.counters().accept_refusals.value(), 0u);
    // A burst again, when nobody has come for a while.
    advance(engine, clock, 10s);
    for (unsigned number = 0; number < 2; ++number) {
        clients.push_back(engine.connect());
        expect_echo(clients.back(), "hello");
    }
}

TEST(NetworkAcceptRate, or_they_are_reset) {
    ManualClock clock;
    Engine engine{echo, with_accept_rate(clock, Excess::refuse)};
    ClientSocket first = engine.connect();
    expect_echo(first, "first");
    ClientSocket second = engine.connect();
    expect_echo(second, "second");
    EXPECT_EQ(engine.connect().receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    EXPECT_EQ(engine.connect().receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    advance(engine, clock, 101ms);
    ClientSocket third = engine.connect();
    expect_echo(third, "third");
    EXPECT_EQ(engine.counters().accept_refusals.value(), 2u);
    EXPECT_EQ(engine.counters().accept_throttles.value(), 0u);
}

TEST(NetworkAcceptRate, a_drain_takes_what_has_arrived) {
    ManualClock clock;
    Engine engine{echo, with_accept_rate(clock, Excess::wait)};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 5; ++number) clients.push_back(engine.connect());
    expect_echo(clients[0], "first");
    engine.drain(10s);
    for (ClientSocket& client : clients) EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    clients.clear();
    engine.join();
}

// ---- overload ----

/// Echoes, and takes 60 ms for each "slow".
Task<> echo_slowly(Connection connection, ManualClock* clock) {
    while (auto received = co_await connection.read()) {
        const std::string text(received.contiguous().text());
        if (text == "slow") clock->advance(60ms);
        connection.write(text == "how" ? (Network::of(connection.reactor()).overloaded() ? "over" : "fine") : text);
        co_await connection.flush();
    }
}

EngineOptions with_overload(ManualClock& clock, Excess excess) {
    EngineOptions options;
    options.kernel = &clock;
    options.network.overload_latency = 50ms;
    options.network.overload_excess = excess;
    options.network.idle_timeout = options.network.read_timeout = 0ms;
    return options;
}

std::string ask(ClientSocket& client) {
    client.send("how");
    return client.receive(4);
}

/// Time goes on in steps that are no slow passes, whenever the reactor looks at the clock.
void until_it_is_over(Engine& engine, ManualClock& clock) {
    for (unsigned step = 0; engine.counters().overloaded.value() != 0; ++step) {
        ASSERT_LT(step, 30u);
        advance(engine, clock, 10ms);
    }
}

TEST(NetworkOverload, new_connections_are_reset_until_it_is_over) {
    ManualClock clock;
    Engine engine{[&](Connection connection) { return echo_slowly(std::move(connection), &clock); },
                  with_overload(clock, Excess::refuse)};
    ClientSocket client = engine.connect();
    EXPECT_EQ(ask(client), "fine");
    expect_echo(client, "slow");
    EXPECT_EQ(ask(client), "fine");
    expect_echo(client, "slow");
    EXPECT_EQ(ask(client), "over");
    EXPECT_EQ(engine.connect().receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    EXPECT_EQ(engine.counters().overloaded.value(), 1u);
    until_it_is_over(engine, clock);
    EXPECT_EQ(ask(client), "fine");
    ClientSocket other = engine.connect();
    expect_echo(other, "hello");
    EXPECT_EQ(engine.counters().shed.value(), 1u);
    EXPECT_EQ(engine.counters().overloads.value(), 1u);
}

TEST(NetworkOverload, or_they_wait_until_it_is_over) {
    ManualClock clock;
    Engine engine{[&](Connection connection) { return echo_slowly(std::move(connection), &clock); },
                  with_overload(clock, Excess::wait)};
    ClientSocket client = engine.connect();
    expect_echo(client, "slow");
    expect_echo(client, "slow");
    EXPECT_EQ(ask(client), "over");
    ClientSocket other = engine.connect();
    other.send("hello");
    EXPECT_EQ(ask(client), "over");
    EXPECT_EQ(engine.on_reactor([&] { return engine.counters().accepted.value(); }), 1u);
    until_it_is_over(engine, clock);
    EXPECT_EQ(other.receive(5), "hello");
    EXPECT_EQ(ask(client), "fine");
    EXPECT_EQ(engine.counters().shed.value(), 0u);
}

}  // namespace
