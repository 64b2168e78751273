#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// Written bytes in several pieces: NetworkOptions::write_overflow other than `grow`.

namespace {

using namespace std::chrono_literals;
using ferrule::Connection;
using ferrule::Task;
using ferrule::WriteOverflow;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::pattern;
using ferrule_test::Signal;
using ferrule_test::Until;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

struct Notes {
    std::vector<std::string> lines;
    std::vector<std::size_t> numbers;
    Signal progress;
    Signal ended;
};

std::string text_of(const std::expected<void, std::errc>& flushed) {
    return flushed ? "flushed" : std::make_error_code(flushed.error()).message();
}

EngineOptions with(WriteOverflow overflow) {
    EngineOptions options;
    options.network.write_overflow = overflow;
    return options;
}

class EachOverflow : public testing::TestWithParam<WriteOverflow> {};

INSTANTIATE_TEST_SUITE_P(Segments, EachOverflow,
                         testing::Values(WriteOverflow::grow, WriteOverflow::segmented, WriteOverflow::back_pressure),
                         [](const auto& overflow) {
                             switch (overflow.param) {
                                 case WriteOverflow::grow:
                                     return "grow";
                                 case WriteOverflow::segmented:
                                     return "segmented";
                                 default:
                                     return "back_pressure";
                             }
                         });

/// Writes it all in pieces of growing sizes, by copies and in place in turn.
bool write_mixed(Connection& connection, std::string_view bytes) {
    std::size_t piece = 1;
    bool in_place = false;
    while (!bytes.empty()) {
        const std::size_t length = std::min(piece, bytes.size());
        if (in_place) {
            const auto into = connection.span(length);
            if (into.size() < length) return false;
            std::memcpy(into.data(), bytes.data(), length);
            connection.advance(length);
        } else if (!connection.write(bytes.substr(0, length))) {
            return false;
        }
        bytes.remove_prefix(length);
        piece = piece * 3 % 40'009 + 1;
        in_place = !in_place;
    }
    return true;
}

Task<> answer_mixed(Connection connection, std::size_t size) {
    auto received = co_await connection.read();
    received.reset();
    if (!write_mixed(connection, pattern(size))) throw std::logic_error("a write was refused");
    if (connection.unsent() != size) throw std::logic_error("unsent is wrong");
    co_await connection.flush();
    if (connection.unsent() != 0) throw std::logic_error("unsent is wrong after the flush");
}

TEST_P(EachOverflow, a2_answers_of_all_sizes_arrive_exactly) {
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{959}, std::size_t{993}, std::size_t{2000}, std::size_t{70'000}, mebibyte}) {
        Engine engine{[=](Connection connection) { return answer_mixed(std::move(connection), size); },
                      with(GetParam())};
        for (const int receive_buffer : {0, 8192}) {
            ClientSocket client = engine.connect(receive_buffer);
            client.send("x");
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(size), 0})) << size;
        }
        engine.until_empty();
        EXPECT_EQ(engine.faults(), 0u);
    }
}

Task<> answer_at_once(Connection connection, std::size_t size) {
    auto received = co_await connection.read();
    received.reset();
    connection.write(pattern(size));
    // Closed without a flush.
}

TEST_P(EachOverflow, a2_one_write_of_a_mebibyte_leaves_when_the_connection_is_closed) {
    Engine engine{[](Connection connection) { return answer_at_once(std::move(connection), mebibyte); },
                  with(GetParam())};
    for (const int receive_buffer : {0, 8192}) {
        ClientSocket client = engine.connect(receive_buffer);
        client.send("x");
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(mebibyte), 0}));
    }
    engine.until_empty();
}

Task<> answer_rounds(Connection connection, std::size_t size, unsigned rounds) {
    for (unsigned round = 0; round < rounds; ++round) {
        write_mixed(connection, pattern(size, round));
        co_await connection.flush();
        // Written while nothing of it is on its way, or while a rest is.
        write_mixed(connection, pattern(size, round + 100));
    }
}

TEST_P(EachOverflow, a2_what_is_written_behind_a_send_keeps_its_order) {
    constexpr unsigned rounds = 8;
    Engine engine{[](Connection connection) { return answer_rounds(std::move(connection), 100'000, rounds); },
                  with(GetParam())};
    std::string expected;
    for (unsigned round = 0; round < rounds; ++round) {
        expected += pattern(100'000, round);
        expected += pattern(100'000, round + 100);
    }
    for (const int receive_buffer : {0, 8192}) {
        ClientSocket client = engine.connect(receive_buffer);
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{expected, 0}));
    }
    engine.until_empty();
}

// ---- many pieces ----

Task<> answer_in_bits(Connection connection, std::size_t pieces, Notes* notes) {
    auto received = co_await connection.read();
    received.reset();
    for (std::size_t piece = 0; piece < pieces; ++piece) connection.write(pattern(200, static_cast<unsigned>(piece)));
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

/// Small segments only: the first size is also the largest that is doubled to by the limit on memory.
TEST(ConnectionSegments, a_few_thousand_pieces_leave_in_as_many_vectors_as_it_takes) {
    constexpr std::size_t pieces = 3000;
    std::string expected;
    for (unsigned piece = 0; piece < pieces; ++piece) expected += pattern(200, piece);
    for (const int receive_buffer : {0, 8192}) {
        Notes notes;
        EngineOptions options = with(WriteOverflow::segmented);
        options.network.write_slab_size = 200;
        Engine engine{[&](Connection connection) { return answer_in_bits(std::move(connection), pieces, &notes); },
                      options};
        ClientSocket client = engine.connect(receive_buffer);
        client.send("x");
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{expected, 0}));
        notes.ended.wait();
        EXPECT_EQ(notes.lines, std::vector<std::string>{"flushed"});
        engine.until_empty();
    }
}

// ---- the blocks ----

Task<> note_blocks(Connection connection, Notes* notes) {
    auto received = co_await connection.read();
    received.reset();
    const auto note = [&] { notes->numbers.push_back(connection.memory_bytes()); };
    note();
    connection.write(pattern(960));
    note();
    connection.write(pattern(100'000));
    note();
    co_await connection.flush();
    note();
    notes->ended.raise();
}

TEST(ConnectionSegments, law_7_every_block_of_a_chain_counts_in_the_account) {
    Notes notes;
    Engine engine{[&](Connection connection) { return note_blocks(std::move(connection), &notes); },
                  with(WriteOverflow::segmented)};
    ClientSocket client = engine.connect();
    client.send("x");
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(960) + pattern(100'000), 0}));
    notes.ended.wait();
    ASSERT_EQ(notes.numbers.size(), 4u);
    const std::size_t frames = notes.numbers[0];
    EXPECT_EQ(notes.numbers[1], frames + 1024);
    EXPECT_EQ(notes.numbers[2], frames + 1024 + 512 + 65'536 + 65'536);
    EXPECT_EQ(notes.numbers[3], frames);
    client.close();
    engine.until_empty();
    EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
}

Task<> write_until_refused(Connection connection, std::size_t piece, Notes* notes) {
    std::size_t written = 0;
    while (connection.write(pattern(piece))) written += piece;
    notes->numbers.push_back(written);
    notes->lines.push_back(connection.error() == std::errc::no_buffer_space ? "ENOBUFS" : "other");
    notes->lines.push_back(connection.span().empty() ? "no span" : "span");
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

TEST(ConnectionSegments, past_each_bound_a_write_fails_and_gives_all_back) {
    struct Case {
        const char* bound;
        std::size_t least;
        std::size_t most;
        EngineOptions options;
    };
    std::vector<Case> cases(3, Case{"", 0, 0, with(WriteOverflow::segmented)});
    cases[0].bound = "write_limit";
    cases[0].options.network.write_limit = 200'000;
    cases[0].least = cases[0].most = 200'000;
    cases[1].bound = "connection_memory_limit";
    cases[1].options.network.connection_memory_limit = 200'000;
    cases[1].least = 100'000;
    cases[1].most = 200'000;
    cases[2].bound = "memory_limit";
    cases[2].options.network.memory_limit = 200'000;
    cases[2].least = 100'000;
    cases[2].most = 200'000;
    for (const Case& one : cases) {
        Notes notes;
        Engine engine{[&](Connection connection) { return write_until_refused(std::move(connection), 1000, &notes); },
                      one.options};
        ClientSocket client = engine.connect();
        notes.ended.wait();
        EXPECT_GE(notes.numbers[0], one.least) << one.bound;
        EXPECT_LE(notes.numbers[0], one.most) << one.bound;
        EXPECT_EQ(notes.lines, (std::vector<std::string>{"ENOBUFS", "no span", "No buffer space available"}))
            << one.bound;
        client.close();
        engine.until_empty();
        EXPECT_EQ(engine.network().slabs().used_bytes(), 0u) << one.bound;
    }
}

// ---- spans ----

Task<> span_misuse(Connection connection, Notes* notes) {
    connection.write(pattern(2000));
    const auto into = connection.span(10);
    notes->lines.push_back(into.size() >= 10 ? "room" : "none");
    std::memset(into.data(), 'a', 10);
    connection.advance(10);
    try {
        connection.advance(into.size() - 9);
        notes->lines.push_back("taken");
    } catch (const std::logic_error&) {
        notes->lines.push_back("misuse");
    }
    // A span that nothing is written into, larger than any segment.
    notes->lines.push_back(connection.span(200'000).size() >= 200'000 ? "room" : "none");
    connection.write(std::string_view{"end"});
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

TEST(ConnectionSegments, a_span_is_in_one_piece_and_bounds_the_advance) {
    Notes notes;
    Engine engine{[&](Connection connection) { return span_misuse(std::move(connection), &notes); },
                  with(WriteOverflow::segmented)};
    ClientSocket client = engine.connect();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(2000) + std::string(10, 'a') + "end", 0}));
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"room", "misuse", "room", "flushed"}));
}

// ---- who waits, and ends ----

Task<> flush_and_note(Connection* connection, Notes* notes) {
    notes->lines.push_back(text_of(co_await connection->flush()));
    notes->progress.raise();
}

Task<> chain_under_waiters(Connection connection, std::size_t size, Notes* notes) {
    ferrule::Reactor& reactor = connection.reactor();
    connection.write(std::string_view{"x"});
    // They wait for what is staged, which becomes a chain under them.
    for (int number = 0; number < 2; ++number) reactor.spawn(flush_and_note(&connection, notes));
    connection.write(pattern(size));
    co_await flush_and_note(&connection, notes);
    Until all_ended(reactor, [notes] { return notes->progress.count() >= 3; });
    co_await all_ended;
    notes->ended.raise();
}

TEST_P(EachOverflow, all_who_wait_for_a_slab_wait_for_the_chain_that_it_becomes) {
    for (const std::size_t size : {std::size_t{10'000}, 4 * mebibyte}) {
        Notes notes;
        Engine engine{[&](Connection connection) { return chain_under_waiters(std::move(connection), size, &notes); },
                      with(GetParam())};
        ClientSocket client = engine.connect(8192);
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{std::string(1, 'x').append(pattern(size)), 0}));
        notes.ended.wait();
        EXPECT_EQ(notes.lines, (std::vector<std::string>{"flushed", "flushed", "flushed"}));
        client.close();
        engine.until_empty();
    }
}

TEST_P(EachOverflow, a15_all_who_wait_see_the_reset) {
    Notes notes;
    Engine engine{
        [&](Connection connection) { return chain_under_waiters(std::move(connection), 8 * mebibyte, &notes); },
        with(GetParam())};
    ClientSocket client = engine.connect(8192);
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    client.reset();
    notes.ended.wait();
    ASSERT_EQ(notes.lines.size(), 3u);
    for (const std::string& line : notes.lines) EXPECT_NE(line, "flushed");
    engine.until_empty();
    EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
}

Task<> abort_when_stuck(Connection connection, Notes* notes) {
    write_mixed(connection, pattern(8 * mebibyte));
    connection.reactor().spawn(flush_and_note(&connection, notes));
    const ferrule::Network& network = ferrule::Network::of(connection.reactor());
    Until stuck(connection.reactor(), [&network] { return network.counters().slow_sends.value() != 0; });
    co_await stuck;
    write_mixed(connection, pattern(100'000));
    connection.abort();
    Until flush_ended(network.reactor(), [notes] { return notes->progress.count() != 0; });
    co_await flush_ended;
    notes->ended.raise();
}

TEST_P(EachOverflow, an_abort_gives_back_what_is_staged_and_what_is_on_its_way) {
    Notes notes;
    Engine engine{[&](Connection connection) { return abort_when_stuck(std::move(connection), &notes); },
                  with(GetParam())};
    ClientSocket client = engine.connect(8192);
    notes.ended.wait();
    EXPECT_NE(notes.lines, std::vector<std::string>{"flushed"});
    EXPECT_NE(client.receive_rest().error, 0);
    engine.until_empty();
    EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
}

TEST_P(EachOverflow, a_reactor_that_stops_leaves_nothing_of_a_stuck_one) {
    Notes notes;
    Engine engine{
        [&](Connection connection) { return chain_under_waiters(std::move(connection), 8 * mebibyte, &notes); },
        with(GetParam())};
    ClientSocket client = engine.connect(8192);
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    engine.stop();
    engine.join();
    EXPECT_EQ(engine.remains(), Engine::Remains{});
}

}  // namespace
