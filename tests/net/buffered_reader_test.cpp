#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/spawn.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/memory_source.hpp"
#include "support/network_engine.hpp"
#include "support/reactor_shapes.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::BufferedReader;
using ferrule::ByteSequence;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Lease;
using ferrule::ReadHalf;
using ferrule::Task;
using ferrule_test::all_shapes;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::MemorySource;
using ferrule_test::name_of_shape;
using ferrule_test::options_for;
using ferrule_test::pattern;
using ferrule_test::Shape;
using ferrule_test::Signal;

static_assert(ferrule::ByteSource<Connection> && ferrule::ByteSource<ReadHalf>);
static_assert(ferrule::ByteSink<Connection> && ferrule::ByteSink<ferrule::WriteHalf>);
static_assert(ferrule::Duplex<Connection> && !ferrule::Duplex<ReadHalf>);
static_assert(sizeof(BufferedReader<Connection>) == 32);
static_assert(sizeof(std::declval<BufferedReader<Connection>&>().read()) == 16);

std::string text_of(const ByteSequence& sequence) {
    std::string text;
    for (const auto slice : sequence) text += slice.text();
    return text;
}

/// What a handler leaves for the test.
struct Notes {
    std::vector<std::string> lines;
    EndReason reason = EndReason::none;
    Signal progress;
    Signal ended;
};

// ---- the cases P1 to P6b, on every shape of a reactor; on incremental buffers they are I6 ----

class BufferedReaderEcho : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, BufferedReaderEcho, testing::ValuesIn(all_shapes), name_of_shape);

/// Reads, writes each slice, advances to the end, flushes.
Task<> echo_all(Connection connection) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        for (const auto slice : received) connection.write(slice);
        reader.advance(received.size());
        co_await connection.flush();
    }
}

TEST_P(BufferedReaderEcho, P1_I6_one_message_comes_back) {
    Engine engine{echo_all, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("Hello, Ferrule!");
    EXPECT_EQ(client.receive(15), "Hello, Ferrule!");
}

TEST_P(BufferedReaderEcho, P2_I6_ten_messages_on_one_connection) {
    Engine engine{echo_all, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    for (unsigned number = 0; number < 10; ++number) {
        const std::string message = "message " + std::to_string(number) + " of ten";
        client.send(message);
        ASSERT_EQ(client.receive(message.size()), message);
    }
}

TEST_P(BufferedReaderEcho, P3_I6_ten_connections_on_two_reactors_each_get_their_own) {
    Engine engine{echo_all, options_for(GetParam(), 2)};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    in_parallel(10, [&](unsigned number) {
        ClientSocket client = engine.connect();
        const std::string message = "connection " + std::to_string(number);
        client.send(message);
        EXPECT_EQ(client.receive(message.size()), message);
    });
}

/// Echoes whole blocks of a size, which it wants in one piece.
Task<> echo_blocks(Connection connection, std::size_t size) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        std::size_t consumed = 0;
        for (; received.size() - consumed >= size; consumed += size) {
            connection.write(received.slice(consumed, size).contiguous());
        }
        reader.advance(consumed, received.size());
        co_await connection.flush();
    }
}

TEST_P(BufferedReaderEcho, P4_I6_random_bytes_come_back_intact) {
    for (const std::size_t block : {std::size_t{1}, std::size_t{7}, std::size_t{4096}, std::size_t{100'000}}) {
        Engine engine{[block](Connection connection) { return echo_blocks(std::move(connection), block); },
                      options_for(GetParam())};
        FERRULE_SKIP_UNLESS_USABLE(engine);
        for (const std::size_t size : {std::size_t{4096}, std::size_t{65536}, std::size_t{1} << 20}) {
            ClientSocket client = engine.connect();
            const std::string message = pattern(size);
            const std::size_t whole = size / block * block;
            std::string answer;
            in_parallel(2, [&](unsigned number) {
                if (number == 0) {
                    client.send(message);
                    client.shutdown_write();
                } else {
                    answer = client.receive_rest().bytes;
                }
            });
            EXPECT_TRUE(answer == message.substr(0, whole)) << block << ", " << size;
        }
    }
}

Task<> read_to_end(Connection connection, Notes* notes) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        notes->lines.push_back(text_of(received));
        reader.advance(received.size());
    }
    notes->reason = reader.end_reason();
    notes->ended.raise();
}

TEST_P(BufferedReaderEcho, P5_I7_a_client_that_closes_ends_the_next_read) {
    Notes notes;
    Engine engine{[&](Connection connection) { return read_to_end(std::move(connection), &notes); },
                  options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("hello");
    engine.eventually("hello", [&] { return notes.lines.size() == 1; });
    client.close();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, std::vector<std::string>{"hello"});
    EXPECT_EQ(notes.reason, EndReason::end_of_stream);
}

/// One line per read: what is behind it was not looked at.
Task<> echo_lines(Connection connection, Notes* notes) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        notes->lines.push_back(text_of(received));
        const std::size_t end = received.find("\n");
        if (end == ByteSequence::npos) continue;
        connection.write(received.contiguous(end + 1));
        reader.advance(end + 1);
        co_await connection.flush();
    }
    notes->ended.raise();
}

TEST_P(BufferedReaderEcho, P6_two_lines_of_one_write_come_back_by_two_reads) {
    Notes notes;
    Engine engine{[&](Connection connection) { return echo_lines(std::move(connection), &notes); },
                  options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("line1\nline2\n");
    EXPECT_EQ(client.receive(12), "line1\nline2\n");
    client.close();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"line1\nline2\n", "line2\n"}));
}

TEST_P(BufferedReaderEcho, P6b_A4_all_examined_and_nothing_consumed_waits_for_new_bytes) {
    Notes notes;
    Engine engine{[&](Connection connection) { return echo_lines(std::move(connection), &notes); },
                  options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("lin");
    engine.eventually("the first piece", [&] { return notes.lines.size() == 1; });
    const std::uint64_t passes = engine.reactor().counters().passes.value();
    engine.eventually("nothing more", [&] { return notes.lines.size() == 1; });
    EXPECT_LE(engine.reactor().counters().passes.value(), passes + 100);
    client.send("e1");
    engine.eventually("the second piece", [&] { return notes.lines.size() == 2; });
    client.send("\nrest");
    EXPECT_EQ(client.receive(6), "line1\n");
    engine.eventually("the rest", [&] { return notes.lines.size() == 4; });
    client.close();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"lin", "line1", "line1\nrest", "rest"}));
}

TEST_P(BufferedReaderEcho, E7_I8_twenty_clients_on_four_reactors_five_times_each) {
    Engine engine{echo_all, options_for(GetParam(), 4)};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    in_parallel(20, [&](unsigned number) {
        ClientSocket client = engine.connect();
        for (unsigned turn = 0; turn < 5; ++turn) {
            const std::string message = pattern(100 + number * 37 + turn, number);
            client.send(message);
            EXPECT_TRUE(client.receive(message.size()) == message) << number << ", " << turn;
        }
    });
}

// ---- what advance says, on a source without a network ----

struct Step {
    std::size_t consumed;
    std::size_t examined;
};

/// Reads once per step and advances as the step says.
Task<> read_in_steps(MemorySource* source, std::vector<Step> steps, std::vector<std::string>* seen) {
    BufferedReader reader{*source};
    for (const Step step : steps) {
        auto received = co_await reader.read();
        seen->push_back(received ? text_of(received) : "end");
        if (received) reader.advance(step.consumed, step.examined);
    }
    seen->push_back("left " + text_of(reader.buffered()));
}

class SteppedReader {
public:
    explicit SteppedReader(std::vector<Step> steps) {
        const ferrule::HostBinding binding{host_};
        host_.inline_budget = 1000;
        ferrule::spawn(host_, read_in_steps(&source, std::move(steps), &seen));
    }
    void supply(std::string_view piece) {
        const ferrule::HostBinding binding{host_};
        source.supply(piece);
    }
    void end() {
        const ferrule::HostBinding binding{host_};
        source.end();
    }

private:
    ferrule::ThreadHost host_;

public:
    MemorySource source;
    std::vector<std::string> seen;
};

TEST(BufferedReaderAdvance, P6b_waits_when_all_was_examined_and_does_not_when_something_was_not) {
    SteppedReader reader{{{0, 3}, {2, 5}, {1, 1}, {0, 0}, {2, 2}, {0, 0}}};
    reader.supply("abc");
    EXPECT_EQ(reader.seen, std::vector<std::string>{"abc"});
    EXPECT_TRUE(reader.source.waited_for());
    reader.supply("de");
    EXPECT_EQ(reader.seen, (std::vector<std::string>{"abc", "abcde"}));
    EXPECT_TRUE(reader.source.waited_for());
    reader.supply("f");
    EXPECT_EQ(reader.seen, (std::vector<std::string>{"abc", "abcde", "cdef", "def", "def", "f", "left f"}));
    // What the reader did not consume is the next one's.
    EXPECT_EQ(reader.source.out(), 1u);
    auto left = reader.source.take_carried();
    EXPECT_EQ(left.contiguous().text(), "f");
    left.reset();
    EXPECT_EQ(reader.source.out(), 0u);
    EXPECT_EQ(reader.source.gathered(), 0u);
}

TEST(BufferedReaderAdvance, a_read_without_an_advance_has_looked_at_all) {
    std::vector<std::string> seen;
    MemorySource source{{"a", "bc"}};
    ferrule::ThreadHost host;
    const ferrule::HostBinding binding{host};
    host.inline_budget = 1000;
    ferrule::spawn(host, [](MemorySource* from, std::vector<std::string>* into) -> Task<> {
        BufferedReader reader{*from};
        while (auto received = co_await reader.read()) into->push_back(text_of(received));
        into->push_back("left " + text_of(reader.buffered()));
        reader.advance(2);
        into->push_back("left " + text_of(reader.buffered()));
        reader.advance(1);
        into->push_back("left " + text_of(reader.buffered()));
    }(&source, &seen));
    source.end();
    EXPECT_EQ(seen, (std::vector<std::string>{"a", "abc", "left abc", "left c", "left "}));
    EXPECT_EQ(source.out(), 0u);
}

TEST(BufferedReaderAdvance, past_the_end_is_misuse) {
    MemorySource source{{"abc"}};
    ferrule::ThreadHost host;
    const ferrule::HostBinding binding{host};
    host.inline_budget = 1000;
    ferrule::spawn(host, [](MemorySource* from) -> Task<> {
        BufferedReader reader{*from};
        EXPECT_THROW(reader.advance(1), std::logic_error);
        auto received = co_await reader.read();
        EXPECT_EQ(received.size(), 3u);
        EXPECT_THROW(reader.advance(4), std::logic_error);
        EXPECT_THROW(reader.advance(2, 1), std::logic_error);
        EXPECT_THROW(reader.advance(0, 4), std::logic_error);
        reader.advance(3, 3);
    }(&source));
    EXPECT_EQ(source.out(), 0u);
    EXPECT_TRUE(host.faults().empty());
}

// A reader that never has to wait lets others run when its budget is used up.
TEST(BufferedReaderAdvance, one_that_never_waits_yields_when_its_budget_is_used_up) {
    MemorySource source{{std::string_view{"abcdefghij"}}};
    ferrule::ThreadHost host;
    std::size_t reads = 0;
    {
        const ferrule::HostBinding binding{host};
        host.inline_budget = 4;
        ferrule::spawn(host, [](MemorySource* from, std::size_t* count) -> Task<> {
            BufferedReader reader{*from};
            for (; *count < 10; ++*count) {
                auto received = co_await reader.read();
                EXPECT_EQ(received[0], static_cast<std::byte>('a' + *count));
                reader.advance(1);
            }
        }(&source, &reads));
        // The source's own awaiter has no budget.
        EXPECT_EQ(reads, 5u);
    }
    host.inline_budget_per_resume = 2;
    EXPECT_EQ(host.run_ready(), 2u);
    EXPECT_EQ(reads, 10u);
    EXPECT_EQ(source.out(), 0u);
}

TEST(BufferedReaderAdvance, a_task_that_is_destroyed_while_it_yields_is_forgotten) {
    MemorySource source{{"ab"}};
    ferrule::ThreadHost host;
    {
        const ferrule::HostBinding binding{host};
        host.inline_budget = 0;
        auto task = [](MemorySource* from) -> Task<> {
            BufferedReader reader{*from};
            auto received = co_await reader.read();
            reader.advance(1);
            received = co_await reader.read();
        }(&source);
        EXPECT_TRUE(task.start(host.root_environment, std::noop_coroutine()));
    }
    EXPECT_EQ(host.run_ready(), 0u);
    source.take_carried().reset();
    EXPECT_EQ(source.out(), 0u);
}

// ---- what is taken, to be forwarded or kept ----

struct Taking {
    std::size_t bytes;
    std::string taken;
    std::string rest;
    std::size_t copied;
};

Task<> take_once(MemorySource* source, const Taking* taking) {
    BufferedReader reader{*source};
    static_cast<void>(co_await reader.read());
    auto received = co_await reader.read();
    const std::size_t before = source->gathered();
    {
        auto taken = reader.take(taking->bytes);
        std::string text;
        std::size_t in_place = 0;
        for (const auto slice : taken) {
            text += slice.text();
            in_place += source->in_place(slice) ? slice.size() : 0;
        }
        EXPECT_EQ(text, taking->taken);
        EXPECT_EQ(text_of(reader.buffered()), taking->rest);
        for (const auto slice : reader.buffered()) in_place += source->in_place(slice) ? slice.size() : 0;
        EXPECT_EQ(source->gathered() - before, taking->copied);
        EXPECT_EQ(in_place + taking->copied, received.size());
    }
    if (!taking->rest.empty()) {
        received = co_await reader.read();  // it was not looked at
        EXPECT_EQ(text_of(received), taking->rest);
        reader.advance(received.size());
    }
}

TEST(BufferedReaderTake, copies_the_smaller_part_of_a_slice_that_is_taken_in_part_and_nothing_else) {
    const Taking takings[] = {
        {0, "", "abcdefghij", 0}, {1, "a", "bcdefghij", 1},  {5, "abcde", "fghij", 0},
        {6, "abcdef", "ghij", 1}, {7, "abcdefg", "hij", 2},  {8, "abcdefgh", "ij", 2},
        {9, "abcdefghi", "j", 1}, {10, "abcdefghij", "", 0}, {3, "abc", "defghij", 2},
    };
    for (const Taking& taking : takings) {
        MemorySource source{{"abcde", "fghij"}};
        ferrule::ThreadHost host;
        const ferrule::HostBinding binding{host};
        host.inline_budget = 1000;
        ferrule::spawn(host, take_once(&source, &taking));
        EXPECT_TRUE(host.faults().empty());
        EXPECT_EQ(source.out(), 0u) << taking.bytes;
    }
}

Task<> take_without_room(MemorySource* source) {
    BufferedReader reader{*source};
    EXPECT_FALSE(reader.take(0));
    EXPECT_THROW(static_cast<void>(reader.take(1)), std::logic_error);
    static_cast<void>(co_await reader.read());
    EXPECT_THROW(static_cast<void>(reader.take(4)), std::logic_error);
    source->full = true;
    EXPECT_FALSE(reader.take(2));
    EXPECT_EQ(text_of(reader.buffered()), "abc");
    source->full = false;
    auto received = co_await reader.read();
    EXPECT_EQ(text_of(received), "abc");
    auto kept = reader.take(2);
    reader.advance(1);
    EXPECT_EQ(kept.contiguous().text(), "ab");
}

TEST(BufferedReaderTake, takes_nothing_without_room_for_the_copy_and_throws_beyond_the_end) {
    MemorySource source{{"abc"}};
    ferrule::ThreadHost host;
    const ferrule::HostBinding binding{host};
    host.inline_budget = 1000;
    ferrule::spawn(host, take_without_room(&source));
    EXPECT_TRUE(host.faults().empty());
    EXPECT_EQ(source.out(), 0u);
}

/// Forwards whole records, and looks again at what is behind them.
Task<> forward_records(Connection connection, std::size_t record) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        if (received.size() < record) continue;
        if (!connection.write(reader.take(record))) throw std::logic_error("a write was refused");
        co_await connection.flush();
    }
    connection.write(reader.take(reader.buffered().size()));
    co_await connection.flush();
}

TEST(BufferedReaderTake, what_is_forwarded_of_a_connection_is_exact) {
    for (const ferrule::BufferMode mode : {ferrule::BufferMode::shared, ferrule::BufferMode::shared_incremental,
                                           ferrule::BufferMode::per_connection_incremental}) {
        for (const std::size_t record : {std::size_t{7}, std::size_t{2048}, std::size_t{3000}, std::size_t{100'000}}) {
            EngineOptions options;
            options.network.buffer_mode = mode;
            Engine engine{[record](Connection connection) { return forward_records(std::move(connection), record); },
                          options};
            const std::string message = pattern(record < 100 ? 70'001 : std::size_t{1} << 20);
            ClientSocket client = engine.connect();
            std::string answer;
            in_parallel(2, [&](unsigned number) {
                if (number == 0) {
                    client.send(message);
                    client.shutdown_write();
                } else {
                    answer = client.receive_rest().bytes;
                }
            });
            EXPECT_TRUE(answer == message) << record;
            EXPECT_EQ(engine.faults(), 0u);
        }
    }
}

Task<> keep_heads(Connection connection, Notes* notes) {
    std::vector<Lease> kept;
    {
        BufferedReader reader{connection};
        while (auto received = co_await reader.read()) {
            notes->progress.raise();
            if (received.size() < 1000) continue;
            auto taken = reader.take(600);
            while (Lease lease = taken.take()) kept.push_back(std::move(lease));
            reader.advance(400);
        }
    }
    for (const Lease& lease : kept) notes->lines.emplace_back(lease.slice().text());
    kept.clear();
    notes->ended.raise();
}

TEST(BufferedReaderTake, leases_of_it_last_beyond_the_reader) {
    Notes notes;
    Engine engine{[&](Connection connection) { return keep_heads(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    const std::string message = pattern(2000);
    for (unsigned number = 0; number < 2; ++number) {
        client.send(std::string_view{message}.substr(number * 1000, 1000));
        notes.progress.wait(number + 1);
    }
    client.shutdown_write();
    notes.ended.wait();
    std::string kept;
    for (const std::string& line : notes.lines) kept += line;
    EXPECT_TRUE(kept == message.substr(0, 600) + message.substr(1000, 600));
    engine.until_empty();
    EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
}

// ---- on connections: what is carried, and where ----

struct Message {
    static constexpr std::size_t size = 10'000;
};

/// Reads messages of a size, whose slices it looks at where they are.
Task<> count_messages(Connection connection, Notes* notes) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        notes->progress.raise();
        if (received.size() < Message::size) continue;
        notes->lines.push_back(text_of(received.slice(0, Message::size)));
        reader.advance(Message::size);
    }
    notes->reason = reader.end_reason();
    notes->ended.raise();
}

TEST(BufferedReaderCarry, bytes_stay_in_the_kernels_buffers_while_these_suffice) {
    Notes notes;
    Engine engine{[&](Connection connection) { return count_messages(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    const std::string message = pattern(Message::size);
    for (std::size_t sent = 0; sent < message.size(); sent += 1000) {
        client.send(std::string_view{message}.substr(sent, 1000));
        notes.progress.wait(static_cast<unsigned>(sent / 1000 + 1));
        EXPECT_EQ(engine.on_reactor([&] { return engine.network().slabs().used_bytes(); }), 0u);
    }
    engine.eventually("the message", [&] { return notes.lines.size() == 1; });
    EXPECT_TRUE(notes.lines.front() == message);
    client.close();
    notes.ended.wait();
    engine.until_empty();
}

TEST(BufferedReaderCarry, leaves_the_buffers_when_a_message_has_too_many) {
    Notes notes;
    Engine engine{[&](Connection connection) { return count_messages(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    const std::string message = pattern(Message::size);
    for (std::size_t sent = 0; sent < 200; ++sent) {
        client.send(std::string_view{message}.substr(sent, 1));
        notes.progress.wait(static_cast<unsigned>(sent + 1));
        EXPECT_LE(engine.on_reactor([&] { return engine.network().buffers().slices(); }), 17u);
    }
    client.send(std::string_view{message}.substr(200));
    engine.eventually("the message", [&] { return notes.lines.size() == 1; });
    EXPECT_TRUE(notes.lines.front() == message);
    EXPECT_EQ(engine.counters().pauses.value(), 0u);
}

// Whoever stops in the middle of a message does not keep what others need.
TEST(BufferedReaderCarry, A5_leaves_the_buffers_when_they_run_short) {
    for (const std::uint32_t count : {1u, 2u, 8u}) {
        Notes notes;
        EngineOptions options;
        options.network.receive_buffer_count = count;
        Engine engine{[&](Connection connection) { return count_messages(std::move(connection), &notes); }, options};
        const std::string message = pattern(Message::size);
        std::vector<ClientSocket> clients;
        for (unsigned number = 0; number < 20; ++number) {
            clients.push_back(engine.connect());
            clients.back().send(std::string_view{message}.substr(0, 5000));
        }
        for (ClientSocket& client : clients) client.send(std::string_view{message}.substr(5000));
        engine.eventually("all messages", [&] { return notes.lines.size() == clients.size(); });
        for (const std::string& line : notes.lines) EXPECT_TRUE(line == message);
    }
}

Task<> hold(Connection connection, std::vector<Lease>* held, Notes* notes) {
    auto received = co_await connection.read();
    held->push_back(received.take());
    notes->progress.raise();
}

TEST(BufferedReaderCarry, A5_a_starved_receive_takes_back_the_buffers_of_those_who_carry) {
    Notes notes;
    std::vector<Lease> held;
    unsigned connections = 0;
    EngineOptions options;
    options.network.receive_buffer_count = 4;
    Engine engine{[&](Connection connection) {
                      // The first and the fourth keep a buffer, the others carry the half of a message.
                      return connections++ % 3 == 0 ? hold(std::move(connection), &held, &notes)
                                                    : count_messages(std::move(connection), &notes);
                  },
                  options};
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 4; ++number) {
        clients.push_back(engine.connect());
        clients.back().send("half");
        notes.progress.wait(number + 1);
    }
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 4u);
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().slabs().used_bytes(); }), 0u);
    clients.push_back(engine.connect());
    clients.back().send("half");
    notes.progress.wait(5);
    EXPECT_GE(engine.counters().starvations.value(), 1u);
    EXPECT_EQ(engine.counters().private_receives.value(), 0u);
    EXPECT_GT(engine.on_reactor([&] { return engine.network().slabs().used_bytes(); }), 0u);
    const std::string message = pattern(Message::size - 4);
    for (const std::size_t number : {1, 2, 4}) clients[number].send(message);
    engine.eventually("all messages", [&] { return notes.lines.size() == 3; });
    for (const std::string& line : notes.lines) EXPECT_TRUE(line == "half" + message);
    engine.on_reactor([&] { held.clear(); });
}

/// A message whose head is all that has to be in one piece.
Task<> gather_heads(Connection connection, Notes* notes, std::uint64_t* most) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        notes->progress.raise();
        if (received.size() < 3000) continue;
        const std::uint64_t before = connection.memory_bytes();
        notes->lines.emplace_back(received.contiguous(600).text());
        *most = connection.memory_bytes() - before;
        notes->lines.push_back(text_of(received));
        reader.advance(received.size());
    }
    notes->ended.raise();
}

TEST(BufferedReaderCarry, in_one_piece_is_only_what_was_asked_for) {
    Notes notes;
    std::uint64_t most = 0;
    Engine engine{[&](Connection connection) { return gather_heads(std::move(connection), &notes, &most); }};
    ClientSocket client = engine.connect();
    const std::string message = pattern(3000);
    client.send(std::string_view{message}.substr(0, 500));
    notes.progress.wait(1);
    client.send(std::string_view{message}.substr(500));
    engine.eventually("the message", [&] { return notes.lines.size() == 2; });
    EXPECT_EQ(notes.lines[0], message.substr(0, 600));
    EXPECT_TRUE(notes.lines[1] == message);
    // 600 bytes take a block of 1024, and the first slice, of 500, went back.
    EXPECT_EQ(most, 1024u - 500u);
}

// ---- cancellation, time, halves ----

Task<> read_under_deadlines(Connection connection, Notes* notes) {
    BufferedReader reader{connection};
    for (;;) {
        auto received = co_await ferrule::with_deadline(reader.read(), 50ms);
        if (!received && reader.end_reason() == EndReason::deadline) {
            notes->lines.push_back("deadline, " + text_of(reader.buffered()));
            notes->progress.raise();
            continue;
        }
        if (!received) break;
        notes->lines.push_back(text_of(received));
        notes->progress.raise();
    }
    notes->lines.push_back("left " + text_of(reader.buffered()));
    notes->ended.raise();
}

TEST(BufferedReaderTime, cancelling_a_read_loses_nothing_of_what_was_left_or_comes) {
    Notes notes;
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return read_under_deadlines(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    client.send("ab");
    notes.progress.wait(1);
    engine.on_reactor([] {});  // the next read waits
    clock.advance(60ms);
    engine.on_reactor([] {});
    notes.progress.wait(2);
    client.send("cd");
    notes.progress.wait(3);
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"ab", "deadline, ab", "abcd", "left abcd"}));
}

TEST(BufferedReaderTime, a_message_that_does_not_end_in_time_ends_the_read) {
    Notes notes;
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    options.network.read_timeout = 5s;
    options.network.idle_timeout = 60s;
    Engine engine{[&](Connection connection) { return count_messages(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    for (unsigned number = 0; number < 5; ++number) {
        // Each byte comes in time for itself; the message does not.
        client.send("x");
        notes.progress.wait(number + 1);
        engine.on_reactor([] {});  // the next read waits
        clock.advance(1200ms);
        engine.on_reactor([] {});
    }
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::deadline);
}

Task<> read_half(ReadHalf half, Notes* notes) {
    BufferedReader reader{half};
    while (auto received = co_await reader.read()) {
        notes->lines.push_back(text_of(received));
        reader.advance(received.size() / 2, received.size());
    }
    notes->lines.push_back("left " + text_of(reader.buffered()));
    notes->ended.raise();
}

Task<> split_and_read(Connection connection, Notes* notes) {
    auto [reads, writes] = std::move(connection).split();
    co_await read_half(std::move(reads), notes);
}

TEST(BufferedReaderHalf, reads_from_the_half_of_a_connection) {
    Notes notes;
    Engine engine{[&](Connection connection) { return split_and_read(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("abcd");
    engine.eventually("abcd", [&] { return notes.lines.size() == 1; });
    client.send("ef");
    engine.eventually("ef", [&] { return notes.lines.size() == 2; });
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"abcd", "cdef", "left ef"}));
}

/// A reader that ends in the middle leaves the rest to the next one.
Task<> change_readers(Connection connection, Notes* notes) {
    {
        BufferedReader reader{connection};
        auto received = co_await reader.read();
        notes->lines.push_back(text_of(received));
        reader.advance(2);
    }
    {
        auto received = co_await connection.read();
        notes->lines.emplace_back(received.contiguous().text());
        received.consume(3);
    }
    BufferedReader reader{connection};
    BufferedReader moved{std::move(reader)};
    auto received = co_await moved.read();
    notes->lines.push_back(text_of(received));
    notes->ended.raise();
}

TEST(BufferedReaderHalf, its_end_leaves_the_rest_to_the_next_reader) {
    Notes notes;
    Engine engine{[&](Connection connection) { return change_readers(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("abcd");
    engine.eventually("abcd", [&] { return notes.lines.size() == 1; });
    client.send("ef");
    engine.eventually("ef", [&] { return notes.lines.size() == 2; });
    client.send("gh");
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"abcd", "cdef", "fgh"}));
}

Task<> close_before_the_reader_ends(Connection connection, Notes* notes) {
    BufferedReader reader{connection};
    auto received = co_await reader.read();
    notes->lines.push_back(text_of(received));
    reader.advance(1);
    connection.close();
    notes->ended.raise();
}

TEST(BufferedReaderHalf, one_that_outlives_its_connections_end_gives_its_buffers_back) {
    Notes notes;
    Engine engine{[&](Connection connection) { return close_before_the_reader_ends(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("abcd");
    notes.ended.wait();
    client.close();
    engine.until_empty();
}

}  // namespace
