#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/task/when_all.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

// Received bytes that are sent on from where they are: write(Lease&&), write(ReadResult&&).

namespace {

using namespace std::chrono_literals;
using ferrule::Address;
using ferrule::BufferMode;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Lease;
using ferrule::ReadHalf;
using ferrule::Task;
using ferrule::WriteHalf;
using ferrule::WriteOverflow;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::pattern;
using ferrule_test::Signal;
using ferrule_test::Until;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

struct Notes {
    std::vector<std::string> lines;
    std::size_t most = 0;
    EndReason reason = EndReason::none;
    Signal progress;
    Signal ended;
};

// ---- to the connection that they came from ----

Task<> echo_results(Connection connection) {
    while (auto received = co_await connection.read()) {
        if (!connection.write(std::move(received))) throw std::logic_error("a write was refused");
        if (received) throw std::logic_error("the result is still there");
        co_await connection.flush();
    }
}

Task<> echo_leases(Connection connection) {
    while (auto received = co_await connection.read()) {
        while (Lease lease = received.take()) {
            if (!connection.write(std::move(lease))) throw std::logic_error("a write was refused");
        }
        co_await connection.flush();
    }
}

/// Nothing is flushed, nothing is waited for: what is forwarded leaves by itself.
Task<> echo_without_flush(Connection connection) {
    while (auto received = co_await connection.read()) {
        if (!connection.write(std::move(received))) throw std::logic_error("a write was refused");
    }
}

void expect_echo(Engine& engine, std::size_t size, int receive_buffer) {
    ClientSocket client = engine.connect(receive_buffer);
    const std::string sent = pattern(size);
    std::jthread sender{[&] {
        client.send(sent);
        client.shutdown_write();
    }};
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{sent, 0})) << size;
}

TEST(ConnectionForward, an_echo_of_all_sizes_is_exact) {
    for (const auto handler : {&echo_results, &echo_leases, &echo_without_flush}) {
        for (const auto& [mode, few] : {std::pair{BufferMode::shared, false}, std::pair{BufferMode::shared, true},
                                        std::pair{BufferMode::shared_incremental, true},
                                        std::pair{BufferMode::per_connection_incremental, true}}) {
            EngineOptions options;
            options.network.buffer_mode = mode;
            if (few) {
                options.network.receive_buffer_count = 2;
                options.network.connection_buffer_count = 2;
                options.network.receive_lease_limit = 2;
            }
            Engine engine{handler, options};
            for (const std::size_t size : {std::size_t{1}, std::size_t{512}, std::size_t{513}, std::size_t{2048},
                                           std::size_t{4097}, std::size_t{100'000}, 2 * mebibyte}) {
                expect_echo(engine, size, 0);
            }
            expect_echo(engine, mebibyte, 8192);
            engine.until_empty();
            EXPECT_EQ(engine.faults(), 0u);
            EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
            EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
        }
    }
}

/// Frames each batch: a number, the bytes, a newline; copied and forwarded pieces in turn.
Task<> frame(Connection connection, std::size_t prefix) {
    while (auto received = co_await connection.read()) {
        while (Lease lease = received.take()) {
            lease.remove_prefix(prefix);
            connection.write(std::to_string(lease.size()));
            connection.write(std::string_view{":"});
            connection.write(std::move(lease));
            connection.write(std::string_view{"\n"});
        }
        co_await connection.flush();
    }
}

TEST(ConnectionForward, copies_and_leases_keep_their_order) {
    constexpr std::size_t prefix = 3;
    EngineOptions options;
    options.network.receive_buffer_size = 8192;  // a request is one slice
    Engine engine{[](Connection connection) { return frame(std::move(connection), prefix); }, options};
    ClientSocket client = engine.connect();
    for (unsigned turn = 0; turn < 200; ++turn) {
        const std::string sent = pattern(700 + turn * 20, turn);
        client.send(sent);
        std::string expected = std::to_string(sent.size() - prefix);
        expected += ':';
        expected += sent.substr(prefix);
        expected += '\n';
        EXPECT_TRUE(client.receive(expected.size()) == expected) << turn;
    }
}

Task<> forward_rest(Connection connection, std::size_t done, Notes* notes) {
    auto received = co_await connection.read();
    const std::size_t size = received.size();
    received.consume(std::min(done, size));
    notes->lines.push_back(connection.write(std::move(received)) ? "kept" : "refused");
    co_await connection.flush();
    received = co_await connection.read();
    notes->lines.push_back(received ? "carried" : to_string(connection.end_reason()));
    notes->ended.raise();
}

TEST(ConnectionForward, what_was_consumed_of_a_result_is_not_sent) {
    for (const std::size_t size : {std::size_t{100}, std::size_t{2000}}) {
        for (const std::size_t done : {std::size_t{0}, std::size_t{1}, size - 1, size, size + 1}) {
            Notes notes;
            Engine engine{[&](Connection connection) { return forward_rest(std::move(connection), done, &notes); }};
            ClientSocket client = engine.connect();
            client.send(pattern(size));
            client.shutdown_write();
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(size).substr(std::min(size, done)), 0}));
            notes.ended.wait();
            EXPECT_EQ(notes.lines, (std::vector<std::string>{"kept", "end_of_stream"}));
        }
    }
}

// ---- through a proxy ----

/// What a proxy does between reading and writing.
struct Manner {
    bool flushes = true;
    bool by_lease = false;
};

Task<> pump(ReadHalf from, WriteHalf half, Manner manner) {
    WriteHalf to = std::move(half);
    while (auto received = co_await from.read()) {
        if (manner.by_lease) {
            while (Lease lease = received.take()) to.write(std::move(lease));
        } else {
            to.write(std::move(received));
        }
        if (manner.flushes) co_await to.flush();
    }
}

Task<> proxy(Connection client, Address backend, Manner manner) {
    auto opened = co_await ferrule::connect(client.reactor(), backend);
    if (!opened) throw std::runtime_error(opened.error().message);
    auto [client_reads, client_writes] = std::move(client).split();
    auto [backend_reads, backend_writes] = std::move(*opened).split();
    auto up = pump(std::move(client_reads), std::move(backend_writes), manner);
    auto down = pump(std::move(backend_reads), std::move(client_writes), manner);
    co_await ferrule::when_all(std::move(up), std::move(down));
}

EngineOptions starved() {
    EngineOptions options;
    options.network.receive_buffer_count = 2;
    options.network.receive_buffer_size = 1024;
    options.network.receive_lease_limit = 4;
    return options;
}

TEST(ConnectionForward, two_starved_proxies_in_a_row_never_deadlock) {
    for (const Manner manner : {Manner{}, Manner{.flushes = false}, Manner{.by_lease = true}}) {
        Engine backend{&ferrule_test::echo};
        Engine second{[&](Connection connection) { return proxy(std::move(connection), backend.address(), manner); },
                      starved()};
        Engine first{[&](Connection connection) { return proxy(std::move(connection), second.address(), manner); },
                     starved()};
        // Both ways at once, more than all sockets hold: every buffer of both proxies is under way.
        in_parallel(4, [&](unsigned number) {
            ClientSocket client = first.connect();
            const std::string sent = pattern(mebibyte, number);
            std::jthread sender{[&] {
                client.send(sent);
                client.shutdown_write();
            }};
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{sent, 0}));
        });
        first.until_empty();
        second.until_empty();
        EXPECT_EQ(first.faults() + second.faults(), 0u);
        EXPECT_GT(first.counters().starvations.value() + second.counters().starvations.value(), 0u);
    }
}

/// A backend that sends at once what it has.
Task<> pour(Connection connection, std::size_t size) {
    for (unsigned seed = 0; size > 0; ++seed) {
        const std::size_t piece = std::min(size, std::size_t{65'536});
        connection.write(pattern(piece, seed));
        size -= piece;
        co_await connection.flush();
    }
}

TEST(ConnectionForward, a_slow_reader_behind_a_proxy_costs_bounded_memory) {
    for (const Manner manner : {Manner{}, Manner{.flushes = false}}) {
        constexpr std::size_t size = 16 * mebibyte;
        Engine backend{[](Connection connection) { return pour(std::move(connection), size); }};
        EngineOptions options;
        options.network.stream_memory = 0;  // only what is armed all the time has to be paused
        Engine engine{[&](Connection connection) { return proxy(std::move(connection), backend.address(), manner); },
                      options};
        ClientSocket client = engine.connect(8192);
        engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
        // What came before the pause, and no more: the backend's window is closed.
        std::uint64_t before = 0;
        engine.eventually("nothing more coming", [&] {
            const std::uint64_t now = engine.counters().bytes_received.value();
            return std::exchange(before, now) == now;
        });
        EXPECT_LE(before - engine.counters().bytes_sent.value(), 6 * mebibyte);
        // What one receive may bring before its cancel is the buffers of all; what they cannot keep is copied out of
        // them.
        EXPECT_LE(engine.network().slabs().used_bytes(), 3 * mebibyte);
        std::string expected;
        for (unsigned seed = 0; expected.size() < size; ++seed) expected += pattern(65'536, seed);
        EXPECT_EQ(client.receive(size), expected);
        client.close();
        engine.until_empty();
        EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
    }
}

// ---- ends ----

/// Two connections of one reactor: the first one is forwarded to the second.
struct Pair {
    std::optional<Connection> to;
    Signal arrived;
};

Task<> keep_second(Connection connection, Pair* pair) {
    pair->to.emplace(std::move(connection));
    pair->arrived.raise();
    co_return;
}

Task<> forward_to_second(Connection from, Pair* pair, std::size_t total, Notes* notes) {
    std::size_t forwarded = 0;
    while (forwarded < total) {
        auto received = co_await from.read();
        if (!received) break;
        forwarded += received.size();
        if (!pair->to->write(std::move(received))) {
            notes->lines.push_back(received ? "refused and still there" : "refused and lost");
            break;
        }
    }
    notes->lines.push_back(std::to_string(forwarded));
    notes->reason = from.end_reason();
    notes->ended.raise();
}

/// Lets the first connection be the one that is kept.
ferrule::ConnectionHandler pair_handler(Pair& pair, std::size_t total, Notes& notes) {
    return [&pair, total, &notes](Connection connection) {
        if (pair.arrived.count() == 0) return keep_second(std::move(connection), &pair);
        return forward_to_second(std::move(connection), &pair, total, &notes);
    };
}

/// More than the kernel takes for a peer that does not read.
constexpr std::size_t plenty = 8 * mebibyte;

EngineOptions many_buffers() {
    EngineOptions options;
    options.network.receive_buffer_count = 8192;
    options.network.receive_lease_limit = 8192;
    options.network.receive_limit = 1u << 30;
    return options;
}

TEST(ConnectionForward, what_a_closed_connection_has_received_is_still_sent) {
    Pair pair;
    Notes notes;
    Engine engine{pair_handler(pair, plenty, notes), many_buffers()};
    ClientSocket to = engine.connect(8192);
    pair.arrived.wait();
    ClientSocket from = engine.connect();
    const std::string sent = pattern(plenty);
    from.send(sent);
    notes.ended.wait();
    from.close();
    // Its slot waits for its bytes.
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    EXPECT_EQ(engine.counters().connections.value(), 2u);
    EXPECT_EQ(to.receive(plenty), sent);
    engine.eventually("the end of the first", [&] { return engine.counters().connections.value() == 1; });
    engine.on_reactor([&] { pair.to.reset(); });
    EXPECT_EQ(to.receive_rest(), ClientSocket::Rest{});
    to.close();
    engine.until_empty();
    EXPECT_EQ(notes.lines, std::vector<std::string>{std::to_string(plenty)});
}

TEST(ConnectionForward, when_the_receiver_resets_all_is_given_back_and_the_next_write_is_refused) {
    Pair pair;
    Notes notes;
    Engine engine{pair_handler(pair, SIZE_MAX, notes), many_buffers()};
    ClientSocket to = engine.connect(8192);
    pair.arrived.wait();
    ClientSocket from = engine.connect();
    from.send(pattern(plenty));
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    to.reset();
    engine.eventually("the reset", [&] { return pair.to->error().value() != 0; });
    EXPECT_EQ(engine.on_reactor([&] { return pair.to->unsent(); }), 0u);
    from.send("x");
    notes.ended.wait();
    ASSERT_FALSE(notes.lines.empty());
    EXPECT_EQ(notes.lines.front(), "refused and still there");
    from.close();
    engine.on_reactor([&] { pair.to.reset(); });
    engine.until_empty();
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
}

TEST(ConnectionForward, an_abort_gives_back_what_is_staged_and_later_what_the_kernel_has) {
    Pair pair;
    Notes notes;
    Engine engine{pair_handler(pair, plenty, notes), many_buffers()};
    ClientSocket to = engine.connect(8192);
    pair.arrived.wait();
    ClientSocket from = engine.connect();
    from.send(pattern(plenty));
    notes.ended.wait();
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    engine.on_reactor([&] { std::exchange(pair.to, std::nullopt)->abort(); });
    EXPECT_NE(to.receive_rest().error, 0);
    from.close();
    engine.until_empty();
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
}

TEST(ConnectionForward, the_write_timeout_of_the_receiver_frees_the_reader_that_waits) {
    ManualClock clock;
    Pair pair;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    options.network.idle_timeout = 70s;  // later than the write timeout
    options.network.stream_memory = 0;   // a stream that is not read has no receive to pause
    Engine engine{pair_handler(pair, SIZE_MAX, notes), options};
    ClientSocket to = engine.connect(8192);
    pair.arrived.wait();
    ClientSocket from = engine.connect();
    std::jthread sender{[&] { static_cast<void>(from.try_send(pattern(2 * plenty))); }};
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    std::uint64_t before = 0;
    engine.eventually("nothing more coming", [&] {
        const std::uint64_t now = engine.counters().bytes_received.value();
        return std::exchange(before, now) == now && engine.counters().pauses.value() != 0;
    });
    clock.advance(options.network.write_timeout + 10ms);
    engine.on_reactor([] {});
    notes.ended.wait();
    // Its own peer was not late.
    EXPECT_EQ(notes.reason, EndReason::none);
    EXPECT_EQ(notes.lines.front(), "refused and still there");
    from.reset();
    sender.join();
    // A multishot receive may miss a reset right behind data (docs/kernels.md): then the wait for the FIN ends it.
    engine.on_reactor([&] {
        pair.to.reset();
        clock.advance(options.network.linger_timeout + 10ms);
    });
    engine.until_empty();
}

TEST(ConnectionForward, a_reactor_that_stops_leaves_nothing_of_what_is_forwarded) {
    Engine backend{[](Connection connection) { return pour(std::move(connection), 4 * plenty); }};
    Engine engine{[&](Connection connection) { return proxy(std::move(connection), backend.address(), Manner{}); }};
    ClientSocket client = engine.connect(8192);
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    engine.stop();
    engine.join();
    EXPECT_EQ(engine.remains(), Engine::Remains{});
}

// ---- refusals ----

Task<> fill_and_retry(Connection connection, Notes* notes) {
    auto received = co_await connection.read();
    Lease lease = received.take();
    received.reset();
    connection.write(std::string(5000 - lease.size() + 1, 'a'));
    notes->lines.push_back(connection.write(std::move(lease)) ? "kept" : "refused");
    notes->lines.push_back(lease ? "there" : "gone");
    const auto flushed = co_await connection.flush();
    notes->lines.push_back(flushed ? "flushed" : "failed");
    notes->lines.push_back(connection.write(std::move(lease)) ? "kept" : "refused");
    notes->lines.push_back(lease ? "there" : "gone");
    notes->ended.raise();
}

TEST(ConnectionForward, a_lease_that_is_refused_stays_the_callers) {
    for (const WriteOverflow overflow : {WriteOverflow::segmented, WriteOverflow::back_pressure}) {
        for (const std::size_t size : {std::size_t{100}, std::size_t{1000}, std::size_t{2048}}) {
            Notes notes;
            EngineOptions options;
            options.network.write_overflow = overflow;
            options.network.write_limit = 5000;
            Engine engine{[&](Connection connection) { return fill_and_retry(std::move(connection), &notes); },
                          options};
            ClientSocket client = engine.connect();
            client.send(pattern(size));
            notes.ended.wait();
            if (overflow == WriteOverflow::back_pressure) {
                EXPECT_EQ(notes.lines, (std::vector<std::string>{"refused", "there", "flushed", "kept", "gone"}));
                std::string expected(5000 - size + 1, 'a');
                expected += pattern(size);
                EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{expected, 0}));
            } else {
                EXPECT_EQ(notes.lines, (std::vector<std::string>{"refused", "there", "failed", "refused", "there"}));
            }
            client.close();
            engine.until_empty();
            EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
        }
    }
}

// ---- misuse ----

void forward_elsewhere() {
    Pair pair;
    Notes notes;
    Engine first{[&](Connection connection) { return keep_second(std::move(connection), &pair); }};
    ClientSocket to = first.connect();
    pair.arrived.wait();
    // Its network is of another reactor; both are misused from the thread of the first one.
    Lease foreign;
    Signal read;
    Engine second{[&](Connection connection) {
        return [](Connection own, Lease* into, Signal* done) -> Task<> {
            auto received = co_await own.read();
            *into = received.take();
            done->raise();
            co_await own.read();
        }(std::move(connection), &foreign, &read);
    }};
    ClientSocket from = second.connect();
    from.send(pattern(1000));
    read.wait();
    first.on_reactor([&] { pair.to->write(std::move(foreign)); });
}

TEST(ConnectionForwardDeathTest, to_another_reactor_is_misuse) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(forward_elsewhere(), "received bytes are forwarded to a connection of another reactor");
}

}  // namespace
