#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Task;
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
    Signal progress;
    Signal ended;
};

std::string text_of(const std::expected<void, std::errc>& flushed) {
    return flushed ? "flushed" : std::make_error_code(flushed.error()).message();
}

// ---- limits ----

Task<> write_past_limit(Connection connection, std::size_t limit, Notes* notes) {
    const std::size_t first = limit * 3 / 4;
    notes->lines.push_back(connection.write(pattern(first)) ? "kept" : "refused");
    notes->lines.push_back(connection.write(pattern(limit - first - 1)) ? "kept" : "refused");
    notes->lines.push_back(connection.unsent() == limit - 1 ? "all but one" : "other");
    notes->lines.push_back(connection.write(pattern(2)) ? "kept" : "refused");
    notes->lines.push_back(connection.write(pattern(1)) ? "kept" : "refused");
    notes->lines.push_back(connection.span(1).empty() ? "no span" : "span");
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->lines.push_back(connection.error() == std::errc::no_buffer_space ? "ENOBUFS" : "other");
    auto received = co_await connection.read();
    notes->lines.push_back(received ? "bytes" : to_string(connection.end_reason()));
    notes->ended.raise();
}

TEST(ConnectionWrite, past_its_limit_is_refused_and_says_so) {
    // Also where the first block is larger.
    for (const std::uint32_t limit : {4000u, 100u}) {
        Notes notes;
        EngineOptions options;
        options.network.write_limit = limit;
        Engine engine{[&](Connection connection) { return write_past_limit(std::move(connection), limit, &notes); },
                      options};
        ClientSocket client = engine.connect();
        notes.ended.wait();
        EXPECT_EQ(notes.lines, (std::vector<std::string>{"kept", "kept", "all but one", "refused", "refused", "no span",
                                                         "No buffer space available", "ENOBUFS", "failed"}))
            << limit;
        client.close();
        engine.until_empty();
    }
}

/// Writes what it may while a first piece is stuck on its way.
Task<> write_behind_stuck(Connection connection, std::size_t stuck, Notes* notes, std::size_t* accepted) {
    connection.write(pattern(stuck));
    connection.reactor().spawn([](Connection* shared, Notes* into) -> Task<> {
        const auto flushed = co_await shared->flush();
        into->lines.push_back(text_of(flushed));
        into->progress.raise();
    }(&connection, notes));
    const ferrule::Network& network = ferrule::Network::of(connection.reactor());
    Until stuck_on_its_way(connection.reactor(), [&network] { return network.counters().slow_sends.value() != 0; });
    co_await stuck_on_its_way;
    while (connection.write(pattern(1000))) *accepted += 1000;
    notes->ended.raise();
    Until flush_ended(connection.reactor(), [notes] { return notes->progress.count() != 0; });
    co_await flush_ended;
}

TEST(ConnectionWrite, what_is_on_its_way_counts_against_the_limit) {
    Notes notes;
    std::size_t accepted = 0;
    EngineOptions options;
    options.network.write_limit = 9 * mebibyte;
    Engine engine{[&](Connection connection) {
                      return write_behind_stuck(std::move(connection), 8 * mebibyte, &notes, &accepted);
                  },
                  options};
    ClientSocket client = engine.connect(8192);
    notes.ended.wait();
    EXPECT_LE(accepted, mebibyte);
    EXPECT_GE(accepted, mebibyte - 1000);
    client.reset();
    notes.progress.wait();
    engine.until_empty();
}

Task<> write_more_than_memory_allows(Connection connection, Notes* notes) {
    notes->lines.push_back(connection.write(pattern(90'000)) ? "kept" : "refused");
    notes->lines.push_back(connection.error() == std::errc::no_buffer_space ? "ENOBUFS" : "other");
    notes->ended.raise();
    co_return;
}

void expect_refused(const EngineOptions& options) {
    Notes notes;
    Engine engine{[&](Connection connection) { return write_more_than_memory_allows(std::move(connection), &notes); },
                  options};
    ClientSocket client = engine.connect();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"refused", "ENOBUFS"}));
    client.close();
    engine.until_empty();
}

TEST(ConnectionWrite, the_memory_of_all_connections_is_bounded) {
    EngineOptions options;
    options.network.memory_limit = 100'000;
    expect_refused(options);
}

TEST(ConnectionWrite, law_7_what_is_written_counts_in_the_account_of_its_reactor) {
    EngineOptions options;
    options.reactor.memory_limit = 100'000;
    expect_refused(options);
}

// ---- waiting for a flush ----

Task<> flush_and_note(Connection* connection, Notes* notes) {
    notes->lines.push_back(text_of(co_await connection->flush()));
    notes->progress.raise();
}

Task<> flush_by_three(Connection connection, std::size_t size, Notes* notes) {
    ferrule::Reactor& reactor = connection.reactor();
    connection.write(pattern(size));
    for (int number = 0; number < 2; ++number) reactor.spawn(flush_and_note(&connection, notes));
    co_await flush_and_note(&connection, notes);
    Until all_ended(connection.reactor(), [notes] { return notes->progress.count() >= 3; });
    co_await all_ended;
    notes->ended.raise();
}

TEST(ConnectionFlush, several_may_wait_for_one) {
    for (const std::size_t size : {std::size_t{10}, 4 * mebibyte}) {
        Notes notes;
        Engine engine{[&](Connection connection) { return flush_by_three(std::move(connection), size, &notes); }};
        ClientSocket client = engine.connect(8192);
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(size), 0}));
        notes.ended.wait();
        EXPECT_EQ(notes.lines, (std::vector<std::string>{"flushed", "flushed", "flushed"}));
        client.close();
        engine.until_empty();
    }
}

TEST(ConnectionFlush, all_who_wait_see_the_reset) {
    Notes notes;
    Engine engine{[&](Connection connection) { return flush_by_three(std::move(connection), 8 * mebibyte, &notes); }};
    ClientSocket client = engine.connect(8192);
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    client.reset();
    notes.ended.wait();
    for (const std::string& line : notes.lines) EXPECT_NE(line, "flushed");
    engine.until_empty();
}

Task<> close_under_flush(Connection connection, std::size_t size, Notes* notes, bool scoped) {
    connection.write(pattern(size));
    if (scoped) {
        connection.reactor().spawn([](Connection* shared, Notes* into) -> Task<> {
            auto flushed = co_await ferrule::with_deadline(shared->flush(), 1h);
            into->lines.push_back(text_of(flushed));
            into->progress.raise();
        }(&connection, notes));
    } else {
        connection.reactor().spawn(flush_and_note(&connection, notes));
    }
    connection.close();
    co_return;
}

TEST(ConnectionFlush, of_another_task_ends_when_the_connection_is_closed) {
    for (const bool scoped : {false, true}) {
        for (const std::size_t size : {std::size_t{10}, 4 * mebibyte}) {
            Notes notes;
            Engine engine{
                [&](Connection connection) { return close_under_flush(std::move(connection), size, &notes, scoped); }};
            ClientSocket client = engine.connect(8192);
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(size), 0}));
            notes.progress.wait();
            EXPECT_EQ(notes.lines, std::vector<std::string>{"flushed"});
            client.close();
            engine.until_empty();
        }
    }
}

Task<> flush_with_deadline(Connection connection, Notes* notes) {
    connection.write(pattern(4 * mebibyte));
    auto flushed = co_await ferrule::with_deadline(connection.flush(), 100ms);
    notes->lines.push_back(text_of(flushed));
    notes->progress.raise();
    // The bytes still go, and what is written now goes behind them.
    connection.write(std::string_view{"behind"});
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

TEST(ConnectionFlush, a_deadline_removes_the_waiter_and_the_bytes_still_go) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return flush_with_deadline(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect(8192);
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    clock.advance(101ms);
    engine.on_reactor([] {});
    notes.progress.wait();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(4 * mebibyte) + "behind", 0}));
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"Operation canceled", "flushed"}));
}

Task<> flush_empty_span(Connection connection, Notes* notes) {
    static_cast<void>(connection.span(100));
    notes->lines.push_back(text_of(co_await connection.flush()));
    connection.write(std::string_view{"x"});
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

TEST(ConnectionFlush, of_a_span_without_bytes_ends_and_the_next_one_is_sent) {
    Notes notes;
    Engine engine{[&](Connection connection) { return flush_empty_span(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    EXPECT_EQ(client.receive(1), "x");
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"flushed", "flushed"}));
}

// ---- peers that do not read ----

Task<> flood(Connection connection, std::size_t size, Notes* notes) {
    auto received = co_await connection.read();
    received.reset();
    connection.write(pattern(size));
    notes->lines.push_back(text_of(co_await connection.flush()));
    auto more = co_await connection.read();
    notes->lines.push_back(more ? "bytes" : to_string(connection.end_reason()));
    notes->ended.raise();
}

TEST(ConnectionTimeouts, a_peer_that_does_not_read_ends_with_the_write_timeout) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    options.network.idle_timeout = 0ms;
    options.network.read_timeout = 0ms;
    Engine engine{[&](Connection connection) { return flood(std::move(connection), 8 * mebibyte, &notes); }, options};
    ClientSocket client = engine.connect(8192);
    client.send("x");
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    engine.eventually("its being armed", [&] { return engine.reactor().timers().size() == 1; });
    clock.advance(options.network.write_timeout + 10ms);
    engine.on_reactor([] {});
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"Connection timed out", "deadline"}));
    EXPECT_EQ(engine.counters().timeouts.value(), 1u);
    engine.until_empty();
}

TEST(ConnectionTimeouts, a_peer_that_reads_slowly_is_not_ended_by_the_write_timeout) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    options.network.idle_timeout = 0ms;
    options.network.read_timeout = 0ms;
    Engine engine{[&](Connection connection) { return flood(std::move(connection), 12 * mebibyte, &notes); }, options};
    ClientSocket client = engine.connect(8192);
    client.send("x");
    std::size_t received = 0;
    for (unsigned turn = 0; turn < 4; ++turn) {
        const std::uint64_t before = engine.counters().slow_sends.value();
        // Reads until the kernel has taken more, however much that is.
        while (engine.counters().slow_sends.value() == before) {
            received += client.receive(16384).size();
            engine.on_reactor([] {});
        }
        clock.advance(options.network.write_timeout * 2 / 3);
        engine.on_reactor([] {});
    }
    client.receive(12 * mebibyte - received);
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"flushed", "end_of_stream"}));
}

/// Echoes; who asks for it is sent more than he will read.
Task<> echo_or_flood(Connection connection) {
    while (auto received = co_await connection.read()) {
        if (received.contiguous().text() == "flood") {
            received.reset();
            connection.write(pattern(8 * mebibyte));
            co_await connection.flush();
            continue;
        }
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

TEST(ConnectionWrite, A6_peers_that_never_read_do_not_starve_others_and_are_bounded) {
    Engine engine{echo_or_flood};
    std::vector<ClientSocket> deaf;
    for (unsigned number = 0; number < 20; ++number) {
        deaf.push_back(engine.connect(8192));
        deaf.back().send("flood");
    }
    engine.eventually("stuck sends", [&] { return engine.counters().slow_sends.value() >= 20; });
    in_parallel(4, [&](unsigned number) {
        ClientSocket client = engine.connect();
        for (int turn = 0; turn < 20; ++turn) {
            const std::string message = pattern(5000, number);
            client.send(message);
            EXPECT_TRUE(client.receive(message.size()) == message);
        }
    });
    EXPECT_LE(engine.on_reactor([&] { return engine.network().slabs().used_bytes(); }), 20u * 17 * mebibyte);
}

TEST(ConnectionWrite, stopping_does_not_wait_for_a_peer_that_never_reads) {
    // In a flush; behind a flush that is still to come; and after its handler has left.
    for (int stage = 0; stage < 3; ++stage) {
        Notes notes;
        Engine engine{[&](Connection connection) -> Task<> {
            switch (stage) {
                case 0:
                    return flood(std::move(connection), 8 * mebibyte, &notes);
                case 1:
                    return [](Connection own) -> Task<> {
                        // Ends with the reactor, and only then writes.
                        while (auto received = co_await own.read()) {
                        }
                        own.write(pattern(8 * mebibyte));
                        co_await own.flush();
                    }(std::move(connection));
                default:
                    return [](Connection own) -> Task<> {
                        auto received = co_await own.read();
                        own.write(pattern(8 * mebibyte));
                    }(std::move(connection));
            }
        }};
        ClientSocket client = engine.connect(8192);
        client.send("x");
        if (stage != 1) {
            engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
        } else {
            engine.eventually("x", [&] { return engine.counters().bytes_received.value() == 1; });
        }
        engine.stop();
        engine.join();
        // A reactor that has to give up on something leaves it behind.
        EXPECT_EQ(engine.remains(), Engine::Remains{});
    }
}

}  // namespace
