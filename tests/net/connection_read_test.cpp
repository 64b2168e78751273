#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/ring/abi.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/yield.hpp>

#include "support/client_socket.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Lease;
using ferrule::ReadResult;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::Gate;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::pattern;
using ferrule_test::Signal;
using ferrule_test::Until;

/// What a handler leaves for the test.
struct Notes {
    std::vector<std::string> lines;
    EndReason reason = EndReason::none;
    Signal progress;
    Signal ended;
};

// ---- the carry ----

/// P6 with examined = consumed: takes one line after the other from what is there and carries the rest.
Task<> echo_lines(Connection connection, Notes* notes) {
    while (auto received = co_await connection.read()) {
        std::size_t consumed = 0;
        const std::string_view text = received.contiguous().text();
        for (;;) {
            const std::size_t end = text.find('\n', consumed);
            if (end == std::string_view::npos) break;
            connection.write(text.substr(consumed, end + 1 - consumed));
            consumed = end + 1;
        }
        received.consume(consumed);
        notes->lines.push_back(std::string{text});
        co_await connection.flush();
    }
    notes->ended.raise();
}

TEST(ConnectionCarry, P6_both_lines_of_one_write_come_back) {
    Notes notes;
    Engine engine{[&](Connection connection) { return echo_lines(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("line1\nline2\n");
    EXPECT_EQ(client.receive(12), "line1\nline2\n");
}

TEST(ConnectionCarry, P6b_a_read_behind_a_carry_waits_for_new_bytes) {
    Notes notes;
    Engine engine{[&](Connection connection) { return echo_lines(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("lin");
    engine.eventually("the first piece", [&] { return notes.lines.size() == 1; });
    // It would spin here if the carry alone woke the reader.
    const std::uint64_t passes = engine.reactor().counters().passes.value();
    engine.eventually("nothing more", [&] { return notes.lines.size() == 1; });
    EXPECT_LE(engine.reactor().counters().passes.value(), passes + 100);
    client.send("e1");
    engine.eventually("the second piece", [&] { return notes.lines.size() == 2; });
    client.send("\nrest");
    EXPECT_EQ(client.receive(6), "line1\n");
    client.close();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"lin", "line1", "line1\nrest"}));
}

TEST(ConnectionCarry, a_message_of_many_small_pieces_grows_in_front_of_each_read) {
    Notes notes;
    EngineOptions options;
    options.network.receive_buffer_count = 4;
    Engine engine{[&](Connection connection) { return echo_lines(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    std::string message;
    for (unsigned number = 0; number < 500; ++number) {
        message += pattern(7, number);
        for (char& character : message) character = character == '\n' ? ' ' : character;
        client.send(std::string_view{message}.substr(message.size() - 7));
        if (number % 50 == 0) {
            engine.eventually("what was sent",
                              [&] { return !notes.lines.empty() && notes.lines.back().size() == message.size(); });
            // A slow message does not keep the buffers that all share, but for the last piece.
            EXPECT_LE(engine.on_reactor([&] { return engine.network().buffers().held(); }), 1u);
        }
    }
    client.send("\n");
    EXPECT_TRUE(client.receive(message.size() + 1) == message + "\n");
}

Task<> hoard_carry(Connection connection, Notes* notes) {
    while (auto received = co_await connection.read()) received.consume(0);
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

TEST(ConnectionCarry, the_carry_ends_at_the_receive_limit) {
    Notes notes;
    EngineOptions options;
    options.network.receive_limit = 100'000;
    Engine engine{[&](Connection connection) { return hoard_carry(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    static_cast<void>(client.try_send(pattern(1'000'000)));
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::limit);
}

Task<> note_pieces(Connection connection, Notes* notes) {
    auto received = co_await connection.read();
    received.consume(2);
    received = ReadResult{};
    received = co_await connection.read();
    notes->lines.push_back(std::string{received.contiguous().text()});
    received.consume(1'000);
    received.reset();
    received = co_await connection.read();
    notes->lines.push_back(std::string{received.contiguous().text()});
    notes->ended.raise();
}

TEST(ConnectionCarry, consuming_a_part_leaves_the_rest_and_consuming_more_than_all_leaves_nothing) {
    Notes notes;
    Engine engine{[&](Connection connection) { return note_pieces(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("abcd");
    engine.eventually("abcd", [&] { return engine.counters().bytes_received.value() == 4; });
    client.send("ef");
    engine.eventually("ef", [&] { return notes.lines.size() == 1; });
    client.send("gh");
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"cdef", "gh"}));
}

// ---- leases ----

Task<> keep_leases(Connection connection, std::vector<Lease>* kept, std::size_t wanted, Notes* notes) {
    while (kept->size() < wanted) {
        auto received = co_await connection.read();
        if (!received) break;
        while (Lease lease = received.take()) {
            kept->push_back(std::move(lease));
            notes->progress.raise();
        }
    }
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

TEST(ConnectionLeases, outlive_their_read_and_their_connection) {
    Notes notes;
    std::vector<Lease> kept;
    Engine engine{[&](Connection connection) { return keep_leases(std::move(connection), &kept, 5, &notes); }};
    ClientSocket client = engine.connect();
    std::string sent;
    for (unsigned number = 0; number < 5; ++number) {
        const std::string piece = pattern(100, number);
        sent += piece;
        client.send(piece);
        notes.progress.wait(number + 1);
    }
    notes.ended.wait();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    engine.eventually("the closed descriptor", [&] { return engine.counters().connections.value() == 1; });
    std::string bytes;
    engine.on_reactor([&] {
        for (const Lease& lease : kept) bytes += lease.slice().text();
        EXPECT_EQ(engine.network().buffers().slices(), 5u);
        kept.clear();
    });
    EXPECT_TRUE(bytes == sent);
    engine.until_empty();
}

/// Reads a first message, then lets bytes come without reading until it is told to go on.
Task<> pause_then_drain(Connection connection, Notes* notes, Gate* go, std::size_t* total) {
    {
        auto received = co_await connection.read();
        *total += received.size();
    }
    {
        // Arms the receive, and leaves it armed.
        auto received = co_await ferrule::with_deadline(connection.read(), 1ns);
        *total += received.size();
    }
    notes->progress.raise();
    co_await *go;
    while (auto received = co_await connection.read()) *total += received.size();
    notes->ended.raise();
}

TEST(ConnectionLeases, a_connection_that_holds_too_many_is_not_read_from_and_goes_on) {
    Notes notes;
    Gate go;
    std::size_t total = 0;
    EngineOptions options;
    options.network.receive_lease_limit = 4;
    Engine engine{[&](Connection connection) { return pause_then_drain(std::move(connection), &notes, &go, &total); },
                  options};
    ClientSocket client = engine.connect(0);
    client.set(SOL_SOCKET, SO_SNDBUF, 16384);
    client.send("x");
    notes.progress.wait();
    // The peer's window closes: it can send only so much.
    std::size_t sent = 0;
    const std::string piece = pattern(10'000);
    unsigned refusals = 0;
    while (refusals < 50) {
        const std::size_t now = client.send_now(piece);
        sent += now;
        if (now == 0) {
            ++refusals;
            engine.on_reactor([] {});
        } else {
            refusals = 0;
        }
        ASSERT_LT(sent, std::size_t{64} << 20);
    }
    EXPECT_GE(engine.counters().pauses.value(), 1u);
    EXPECT_LE(engine.on_reactor([&] { return engine.network().buffers().slices(); }), 64u);
    engine.on_reactor([&] { go.open(); });
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(total, sent + 1);
}

/// Holds the only buffer of its reactor until it is told to let go.
Task<> hold_first(Connection connection, std::optional<Lease>* held, Notes* notes) {
    {
        auto received = co_await connection.read();
        held->emplace(received.take());
        notes->progress.raise();
    }
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

TEST(ConnectionStarvation, A5_with_the_only_buffer_held_all_go_on_and_nothing_is_lost) {
    Notes notes;
    std::optional<Lease> held;
    EngineOptions options;
    options.network.receive_buffer_count = 1;
    Engine engine{[&](Connection connection) {
                      return held || notes.progress.count() != 0 ? ferrule_test::echo(std::move(connection))
                                                                 : hold_first(std::move(connection), &held, &notes);
                  },
                  options};
    ClientSocket holder = engine.connect();
    holder.send("held");
    notes.progress.wait();
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 1u);
    in_parallel(8, [&](unsigned number) {
        ClientSocket client = engine.connect();
        for (int turn = 0; turn < 5; ++turn) {
            const std::string message = pattern(20'000, number);
            client.send(message);
            EXPECT_TRUE(client.receive(message.size()) == message);
        }
    });
    holder.send("and more");
    EXPECT_EQ(holder.receive(8), "and more");
    EXPECT_GT(engine.counters().private_receives.value(), 0u);
    engine.on_reactor([&] { held.reset(); });
    ClientSocket client = engine.connect();
    client.send("again");
    EXPECT_EQ(client.receive(5), "again");
}

TEST(ConnectionStarvation, A5_a_burst_of_small_segments_of_many_connections_loses_nothing) {
    EngineOptions options;
    options.network.receive_buffer_count = 4;
    options.network.receive_buffer_size = 64;
    Engine engine{ferrule_test::echo, options};
    in_parallel(16, [&](unsigned number) {
        ClientSocket client = engine.connect();
        const std::string message = pattern(2000, number);
        for (const char& byte : message) client.send({&byte, 1});
        EXPECT_TRUE(client.receive(message.size()) == message);
    });
}

TEST(ConnectionStarvation, the_end_of_the_private_budget_is_a_typed_end) {
    Notes notes;
    std::vector<Lease> kept;
    EngineOptions options;
    options.network.receive_buffer_count = 1;
    options.network.receive_limit = 20'000;
    Engine engine{[&](Connection connection) { return keep_leases(std::move(connection), &kept, 1000, &notes); },
                  options};
    ClientSocket client = engine.connect();
    static_cast<void>(client.try_send(pattern(100'000)));
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::limit);
    engine.on_reactor([&] { kept.clear(); });
}

// ---- one reader at a time ----

Task<> second_reader(Connection* connection, Notes* notes) {
    try {
        auto received = co_await connection->read();
        notes->lines.push_back("read");
    } catch (const std::logic_error& error) {
        notes->lines.push_back("misuse");
    }
    notes->progress.raise();
}

Task<> first_reader(Connection connection, Notes* notes) {
    connection.reactor().spawn([](Connection* shared, Notes* into) -> Task<> {
        co_await ferrule::yield_now();
        co_await second_reader(shared, into);
    }(&connection, notes));
    auto received = co_await connection.read();
    notes->lines.push_back(std::string{received.contiguous().text()});
    notes->ended.raise();
}

TEST(ConnectionReader, a_second_reader_is_misuse) {
    Notes notes;
    Engine engine{[&](Connection connection) { return first_reader(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    notes.progress.wait();
    client.send("for the first");
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"misuse", "for the first"}));
}

Task<> read_later(Task<ReadResult> reading, Notes* notes) {
    try {
        auto received = co_await std::move(reading);
        notes->lines.push_back(received ? std::string{received.contiguous().text()} : std::string{"nothing"});
    } catch (const std::logic_error&) {
        notes->lines.push_back("misuse");
    }
    notes->progress.raise();
}

Task<> two_prepared_readers(Connection connection, Notes* notes) {
    // Both are made before either waits.
    ferrule::Reactor& reactor = connection.reactor();
    auto first = ferrule::with_deadline(connection.read(), 1h);
    auto second = ferrule::with_deadline(connection.read(), 1h);
    reactor.spawn(read_later(std::move(first), notes));
    reactor.spawn(read_later(std::move(second), notes));
    Until both_have_read(reactor, [notes] { return notes->progress.count() >= 2; });
    co_await both_have_read;
}

TEST(ConnectionReader, two_readers_made_before_either_waits_are_misuse_too) {
    Notes notes;
    Engine engine{[&](Connection connection) { return two_prepared_readers(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    notes.progress.wait(1);
    client.send("x");
    notes.progress.wait(2);
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"misuse", "x"}));
}

Task<> wait_for_bytes(Connection* connection, Notes* notes) {
    auto received = co_await connection->read();
    notes->lines.push_back(received ? "bytes" : "nothing");
    notes->ended.raise();
}

Task<> close_under_reader(Connection connection, Notes* notes) {
    connection.reactor().spawn(wait_for_bytes(&connection, notes));
    connection.close();
    co_return;
}

TEST(ConnectionReader, a_read_of_another_task_ends_when_the_connection_is_closed) {
    Notes notes;
    Engine engine{[&](Connection connection) { return close_under_reader(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, std::vector<std::string>{"nothing"});
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    engine.until_empty();
}

TEST(ConnectionReader, the_wrong_thread_is_told) {
    Notes notes;
    std::optional<Connection> shared;
    Engine engine{[&](Connection connection) -> Task<> {
        shared.emplace(std::move(connection));
        notes.progress.raise();
        return [](Notes*) -> Task<> { co_return; }(&notes);
    }};
    ClientSocket client = engine.connect();
    notes.progress.wait();
    EXPECT_THROW(static_cast<void>(shared->read()), std::logic_error);
    engine.on_reactor([&] { shared.reset(); });
    client.close();
    engine.until_empty();
}

// ---- cancellation ----

Task<> read_with_deadlines(Connection connection, Notes* notes) {
    for (;;) {
        auto received = co_await ferrule::with_deadline(connection.read(), 100ms);
        if (received) {
            notes->lines.push_back(std::string{received.contiguous().text()});
        } else {
            notes->lines.push_back(to_string(connection.end_reason()));
            if (connection.end_reason() != EndReason::deadline) break;
        }
        notes->progress.raise();
    }
    notes->ended.raise();
}

TEST(ConnectionCancel, a_deadline_removes_the_reader_only_and_bytes_wait_for_the_next_read) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return read_with_deadlines(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    for (unsigned turn = 0; turn < 3; ++turn) {
        engine.eventually("a reader", [&] { return engine.counters().connections.value() == 1; });
        clock.advance(101ms);
        engine.on_reactor([] {});
        notes.progress.wait(2 * turn + 1);
        client.send("after " + std::to_string(turn));
        notes.progress.wait(2 * turn + 2);
    }
    client.close();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"deadline", "after 0", "deadline", "after 1", "deadline",
                                                     "after 2", "end_of_stream"}));
}

/// A task that may be destroyed at any of its waits.
Task<> exchange(Connection connection, std::size_t answer, Signal* steps) {
    for (;;) {
        auto received = co_await connection.read();
        if (!received) break;
        steps->raise();
        connection.write(pattern(answer));
        co_await connection.flush();
        steps->raise();
    }
}

TEST(ConnectionCancel, a_task_may_be_destroyed_at_any_wait) {
    // 0: before the first read has bytes; 1: in a flush that is stuck; 2: in the read behind a flush.
    // In the reactor's own environment, and in one of its own.
    for (int number = 0; number < 6; ++number) {
        const int point = number / 2;
        Signal accepted;
        Signal steps;
        std::optional<Task<>> task;
        ferrule::Environment environment;
        Engine engine{[&](Connection connection) -> Task<> {
            task.emplace(exchange(std::move(connection), point == 1 ? 8u << 20 : 10u, &steps));
            ferrule::Environment& root = ferrule::Host::current()->root_environment;
            environment = root;
            task->start(number % 2 == 0 ? root : environment, std::noop_coroutine());
            accepted.raise();
            return [](int) -> Task<> { co_return; }(0);
        }};
        ClientSocket client = engine.connect(8192);
        accepted.wait();
        if (point > 0) {
            client.send("x");
            steps.wait(point == 1 ? 1 : 2);
            if (point == 1) {
                engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
            }
        }
        engine.on_reactor([&] { task.reset(); });
        const ClientSocket::Rest rest = client.receive_rest();
        EXPECT_EQ(rest.error, 0) << point;
        EXPECT_EQ(rest.bytes.size(), point == 0 ? 0u : point == 1 ? 8u << 20 : 10u);
        client.close();
        engine.until_empty();
    }
}

// ---- timeouts ----

TEST(ConnectionTimeouts, an_idle_connection_ends_with_deadline) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return hoard_carry(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    engine.eventually("a connection", [&] { return engine.counters().connections.value() == 1; });
    clock.advance(options.network.idle_timeout - 10ms);
    EXPECT_EQ(engine.on_reactor([&] { return engine.counters().timeouts.value(); }), 0u);
    clock.advance(20ms);
    engine.on_reactor([] {});
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::deadline);
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
}

TEST(ConnectionTimeouts, a_message_that_does_not_end_is_not_prolonged_by_its_pieces) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return hoard_carry(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    for (std::uint64_t piece = 1; notes.ended.count() == 0; ++piece) {
        ASSERT_LT(piece, 10u);
        client.send("x");
        engine.eventually("a piece", [&] { return engine.counters().bytes_received.value() == piece; });
        clock.advance(options.network.read_timeout / 5);
        engine.on_reactor([] {});
        engine.on_reactor([] {});
    }
    EXPECT_EQ(notes.reason, EndReason::deadline);
}

/// The first piece of each message is carried; the second ends it without a consume.
Task<> pairs(Connection connection, Notes* notes) {
    for (;;) {
        auto received = co_await connection.read();
        if (!received) break;
        if (received.size() % 2 == 1) {
            received.consume(0);
        } else {
            connection.write(std::string_view{"pair"});
            co_await connection.flush();
        }
        notes->progress.raise();
    }
    notes->reason = connection.end_reason();
    notes->ended.raise();
}

TEST(ConnectionTimeouts, the_time_of_a_message_begins_with_that_message) {
    ManualClock clock;
    Notes notes;
    EngineOptions options;
    options.kernel = &clock;
    options.network.idle_timeout = 1h;
    Engine engine{[&](Connection connection) { return pairs(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    for (unsigned turn = 0; turn < 3; ++turn) {
        client.send("a");
        notes.progress.wait(2 * turn + 1);
        client.send("b");
        EXPECT_EQ(client.receive(4), "pair");
        notes.progress.wait(2 * turn + 2);
        clock.advance(options.network.read_timeout + 1s);
        engine.on_reactor([] {});
    }
    EXPECT_EQ(notes.ended.count(), 0u);
    client.close();
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::end_of_stream);
}

// ---- how receives are asked for ----

/// Sees the entries of one reactor that are handed to the kernel, and counts the receives among them.
class EntryWatch : public ferrule_test::ForwardingKernel {
public:
    int io_uring_setup(std::uint32_t entries, ferrule::abi::Parameters* parameters) noexcept override {
        const int result = ForwardingKernel::io_uring_setup(entries, parameters);
        offsets_ = parameters->sq_off;
        count_ = parameters->sq_entries;
        return result;
    }
    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        void* memory = ForwardingKernel::map(length, protection, flags, fd, offset, error);
        if (fd >= 0 && offset == ferrule::abi::offset_submission_ring) ring_ = static_cast<std::byte*>(memory);
        if (fd >= 0 && offset == ferrule::abi::offset_submission_entries)
            entries_ = static_cast<const ferrule::abi::SubmissionEntry*>(memory);
        return memory;
    }
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        const auto head = std::atomic_ref{*reinterpret_cast<std::uint32_t*>(ring_ + offsets_.head)}.load();
        for (std::uint32_t number = 0; number < to_submit; ++number) {
            const ferrule::abi::SubmissionEntry& entry = entries_[(head + number) & (count_ - 1)];
            if (entry.opcode != ferrule::abi::Operation::receive) continue;
            ++((entry.ioprio & ferrule::abi::receive_poll_first) != 0 ? waiting_first : looking_first);
        }
        return ForwardingKernel::io_uring_enter(fd, to_submit, min_complete, flags, argument, argument_size);
    }

    std::atomic<unsigned> waiting_first = 0;  // receives that wait before they look
    std::atomic<unsigned> looking_first = 0;

private:
    ferrule::abi::SubmissionOffsets offsets_{};
    std::uint32_t count_ = 0;
    std::byte* ring_ = nullptr;
    const ferrule::abi::SubmissionEntry* entries_ = nullptr;
};

/// Greets, echoes, ends.
Task<> open_and_greet(ferrule::Reactor& reactor, ferrule::Address address, Signal* done) {
    auto opened = co_await ferrule::connect(reactor, address);
    if (!opened) throw std::runtime_error(opened.error().message);
    opened->write("hello");
    co_await opened->flush();
    auto received = co_await opened->read();
    received.reset();
    done->raise();
}

// A look that finds nothing is a good part of what a receive costs; a request comes after its connection.
TEST(ConnectionReceive, the_first_of_a_connection_that_was_accepted_early_waits_before_it_looks) {
    for (const bool deferred : {false, true}) {
        EntryWatch watch;
        EngineOptions options;
        options.kernel = &watch;
        options.socket.defer_accept = deferred;
        Engine engine{&ferrule_test::echo, options};
        for (unsigned number = 1; number <= 3; ++number) {
            ClientSocket client = engine.connect();
            for (unsigned turn = 0; turn < 3; ++turn) {
                client.send("hello");
                EXPECT_EQ(client.receive(5), "hello");
            }
            // Where a connection comes with its request, the look finds it. The second receive stays.
            EXPECT_EQ(watch.waiting_first, deferred ? 0 : number);
            EXPECT_EQ(watch.looking_first, deferred ? 2 * number : number);
        }
    }
}

TEST(ConnectionReceive, the_first_of_a_connection_that_was_opened_looks_at_once) {
    Engine server{&ferrule_test::echo};
    EntryWatch watch;
    EngineOptions options;
    options.kernel = &watch;
    Engine engine{&ferrule_test::echo, options};
    Signal done;
    engine.on_reactor(
        [&] { ferrule::spawn(engine.reactor(), open_and_greet(engine.reactor(), server.address(), &done)); });
    done.wait();
    EXPECT_EQ(watch.waiting_first, 0u);
    EXPECT_GE(watch.looking_first, 1u);
}

}  // namespace
