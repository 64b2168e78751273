#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
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
using ferrule::Linger;
using ferrule::ReadHalf;
using ferrule::Task;
using ferrule::WriteHalf;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::pattern;
using ferrule_test::Signal;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

EngineOptions with_linger(Linger linger) {
    EngineOptions options;
    options.network.linger = linger;
    return options;
}

/// Reads until the end of the stream, then answers.
Task<> answer_at_end(Connection connection, std::size_t answer_size) {
    std::size_t received_bytes = 0;
    while (auto received = co_await connection.read()) received_bytes += received.size();
    connection.write(pattern(answer_size, static_cast<unsigned>(received_bytes)));
    co_await connection.flush();
}

TEST(ConnectionClose, A1_a_request_with_its_fin_gets_its_whole_answer) {
    Engine engine{[](Connection connection) { return answer_at_end(std::move(connection), mebibyte); }};
    ClientSocket client = engine.connect();
    client.send("request");
    client.shutdown_write();
    const ClientSocket::Rest rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(rest.bytes == pattern(mebibyte, 7));
}

/// Reads once and answers without waiting for the answer to leave.
Task<> answer_and_leave(Connection connection, std::size_t answer_size) {
    auto received = co_await connection.read();
    if (received) connection.write(pattern(answer_size));
}

TEST(ConnectionClose, A1_A2_a_large_answer_left_behind_by_its_handler_arrives_whole) {
    for (const Linger linger : {Linger::adaptive, Linger::always}) {
        for (const bool fin : {false, true}) {
            for (const std::size_t size : {std::size_t{1}, std::size_t{1000}, mebibyte, 8 * mebibyte}) {
                Engine engine{[&](Connection connection) { return answer_and_leave(std::move(connection), size); },
                              with_linger(linger)};
                ClientSocket client = engine.connect(8192);
                client.send("request");
                if (fin) client.shutdown_write();
                const ClientSocket::Rest rest = client.receive_rest();
                EXPECT_EQ(rest.error, 0) << size;
                EXPECT_TRUE(rest.bytes == pattern(size)) << size;
                client.close();
                engine.until_empty();
            }
        }
    }
}

/// Two requests on a connection, so that a multishot receive is armed; then a large answer is left behind.
Task<> answer_second_and_leave(Connection connection, std::size_t answer_size) {
    for (int turn = 0; turn < 2; ++turn) {
        auto received = co_await connection.read();
        connection.write(turn == 0 ? std::string_view{"1"} : std::string_view{"2"});
        co_await connection.flush();
    }
    connection.write(pattern(answer_size));
}

TEST(ConnectionClose, A2_a_large_answer_behind_a_standing_receive_arrives_whole) {
    Engine engine{[](Connection connection) { return answer_second_and_leave(std::move(connection), 4 * mebibyte); }};
    ClientSocket client = engine.connect(8192);
    client.send("a");
    EXPECT_EQ(client.receive(1), "1");
    client.send("b");
    EXPECT_EQ(client.receive(1), "2");
    const ClientSocket::Rest rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(rest.bytes == pattern(4 * mebibyte));
    client.close();
    engine.until_empty();
}

/// Writes as zerg's users do: into spans.
Task<> answer_by_spans(Connection connection, std::size_t size) {
    auto received = co_await connection.read();
    const std::string answer = pattern(size);
    std::string_view left = answer;
    while (!left.empty()) {
        const auto into = connection.span(1);
        const std::size_t count = std::min(into.size(), left.size());
        std::copy_n(reinterpret_cast<const std::byte*>(left.data()), count, into.data());
        connection.advance(count);
        left.remove_prefix(count);
    }
    co_await connection.flush();
}

TEST(ConnectionClose, A2_an_answer_larger_than_any_slab_by_spans) {
    Engine engine{[](Connection connection) { return answer_by_spans(std::move(connection), mebibyte); }};
    ClientSocket client = engine.connect();
    client.send("request");
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(mebibyte), 0}));
}

Task<> fail_after_answer(Connection connection) {
    auto received = co_await connection.read();
    connection.write(std::string_view{"half an answer"});
    throw std::runtime_error("handler");
}

TEST(ConnectionClose, A7_a_handler_that_throws_closes_its_connection_and_no_other) {
    Engine engine{[](Connection connection) -> Task<> {
        // Every other one is an echo.
        return connection.id() % 2 == 0 ? echo(std::move(connection)) : fail_after_answer(std::move(connection));
    }};
    const std::size_t before = ferrule_test::open_descriptors();
    std::vector<ClientSocket> clients;
    for (int number = 0; number < 4; ++number) clients.push_back(engine.connect());
    unsigned failed = 0;
    for (ClientSocket& client : clients) {
        client.send("hello");
        client.shutdown_write();
        const ClientSocket::Rest rest = client.receive_rest();
        EXPECT_EQ(rest.error, 0);
        if (rest.bytes == "hello") continue;
        EXPECT_EQ(rest.bytes, "half an answer");
        ++failed;
    }
    EXPECT_EQ(failed, 2u);
    EXPECT_EQ(engine.faults(), 2u);
    clients.clear();
    engine.until_empty();
    EXPECT_EQ(ferrule_test::open_descriptors(), before);
}

TEST(ConnectionClose, A7_a_handler_that_throws_before_it_begins) {
    Engine engine{[](Connection) -> Task<> { throw std::runtime_error("no handler"); }};
    ClientSocket client = engine.connect();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    engine.until_empty();
    EXPECT_EQ(engine.faults(), 1u);
}

Task<> read_once(Connection connection) {
    auto received = co_await connection.read();
}

TEST(ConnectionClose, A8_the_peer_of_a_handler_that_returns_sees_fin) {
    for (const Linger linger : {Linger::adaptive, Linger::always}) {
        Engine engine{read_once, with_linger(linger)};
        ClientSocket client = engine.connect();
        client.send("x");
        EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
        client.close();
        engine.until_empty();
    }
}

Task<> leave_at_once(Connection connection, std::string_view farewell) {
    connection.write(farewell);
    co_return;
}

TEST(ConnectionClose, A8_a_farewell_to_a_peer_that_was_never_read_from_is_not_reset) {
    // The request is in the socket when the connection is closed: closing the descriptor at once would reset it.
    for (const Linger linger : {Linger::adaptive, Linger::always}) {
        Signal accepted;
        Signal sent;
        EngineOptions options = with_linger(linger);
        Engine engine{[&](Connection connection) {
                          accepted.raise();
                          sent.wait();
                          return leave_at_once(std::move(connection), "busy");
                      },
                      options};
        ClientSocket client = engine.connect();
        accepted.wait();
        client.send(pattern(1000));
        sent.raise();
        engine.eventually("closing", [&] { return engine.counters().sends.value() == 1; });
        engine.on_reactor([] {});
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"busy", 0}));
        client.close();
        engine.until_empty();
    }
}

TEST(ConnectionClose, an_early_answer_is_not_reset_while_the_peer_still_sends) {
    for (const Linger linger : {Linger::adaptive, Linger::always}) {
        Engine engine{[](Connection connection) { return answer_and_leave(std::move(connection), 5000); },
                      with_linger(linger)};
        ClientSocket client = engine.connect();
        // More than the handler reads; all of it leaves without a reset, and the answer is still there after it.
        EXPECT_EQ(client.try_send(pattern(mebibyte)), 0);
        client.shutdown_write();
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(5000), 0}));
        engine.until_empty();
    }
}

Task<> answer_and_end_early(Connection connection) {
    { const auto received = co_await connection.read(); }
    connection.write("answer");
    connection.close_lingering();
}

TEST(ConnectionClose, an_end_that_the_peer_does_not_expect_does_not_reset_it) {
    Engine engine{answer_and_end_early, with_linger(Linger::adaptive)};
    ClientSocket client = engine.connect();
    client.send("request");
    EXPECT_EQ(client.receive(6), "answer");
    for (unsigned more = 0; more < 3; ++more) {
        engine.on_reactor([] {});
        EXPECT_EQ(client.try_send("more"), 0);
    }
    client.shutdown_write();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    engine.until_empty();
}

TEST(ConnectionClose, lingering_ends_at_its_timeout) {
    ManualClock clock;
    EngineOptions options = with_linger(Linger::always);
    options.kernel = &clock;
    Engine engine{read_once, options};
    ClientSocket client = engine.connect();
    client.send("x");
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    // The peer has our FIN and keeps its own.
    clock.advance(options.network.linger_timeout - 1ms);
    EXPECT_EQ(engine.on_reactor([&] { return engine.counters().connections.value(); }), 1u);
    clock.advance(2ms);
    engine.until_empty();
}

TEST(ConnectionClose, a_peer_that_sends_for_ever_does_not_prolong_lingering) {
    ManualClock clock;
    EngineOptions options = with_linger(Linger::always);
    options.kernel = &clock;
    Engine engine{read_once, options};
    ClientSocket client = engine.connect();
    client.send("x");
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    for (int turn = 0; turn < 10; ++turn) client.send(pattern(10000));
    clock.advance(options.network.linger_timeout + 1ms);
    engine.until_empty();
    int error = 0;
    for (int turn = 0; turn < 1000 && error == 0; ++turn) error = client.try_send(pattern(10000));
    EXPECT_TRUE(error == EPIPE || error == ECONNRESET) << error;
}

// ---- abort ----

Task<> abort_with_answer(Connection connection, std::size_t size) {
    auto received = co_await connection.read();
    connection.write(pattern(size));
    connection.abort();
    EXPECT_FALSE(connection);
}

TEST(ConnectionAbort, the_peer_sees_a_reset_and_nothing_that_was_staged) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{100}, mebibyte}) {
        Engine engine{[&](Connection connection) { return abort_with_answer(std::move(connection), size); }};
        ClientSocket client = engine.connect();
        client.send("x");
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
        engine.until_empty();
    }
}

Task<> flush_forever(WriteHalf half, std::errc* error, Signal* flushing, Signal* ended) {
    half.write(pattern(8 * mebibyte));
    flushing->raise();
    const auto flushed = co_await half.flush();
    if (!flushed) *error = flushed.error();
    ended->raise();
}

Task<> abort_while_flushing(Connection connection, std::errc* error, Signal* flushing, Signal* ended, Signal* aborted) {
    auto [reader, writer] = std::move(connection).split();
    ferrule::spawn(reader.reactor(), flush_forever(std::move(writer), error, flushing, ended));
    auto received = co_await reader.read();
    reader.abort();
    aborted->raise();
}

TEST(ConnectionAbort, A14_a_stuck_flush_of_the_other_half_ends_and_its_descriptor_is_free) {
    std::errc error{};
    Signal flushing;
    Signal ended;
    Signal aborted;
    Engine engine{[&](Connection connection) {
        return abort_while_flushing(std::move(connection), &error, &flushing, &ended, &aborted);
    }};
    ClientSocket client = engine.connect(8192);
    flushing.wait();
    engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() != 0; });
    client.send("abort");
    aborted.wait();
    ended.wait();
    EXPECT_NE(error, std::errc{}) << "the flush succeeded";
    while (client.receive_rest().error == 0) {
    }
    engine.until_empty();
}

/// The first message decides what a connection does.
Task<> stick_or_echo(Connection connection, Signal* stuck) {
    auto received = co_await connection.read();
    if (received.contiguous().text() == "stick") {
        received.reset();
        connection.write(pattern(8 * mebibyte));
        stuck->raise();
        co_await connection.flush();
        co_return;
    }
    for (const auto slice : received) connection.write(slice);
    co_await connection.flush();
    received.reset();
    while (auto more = co_await connection.read()) {
        for (const auto slice : more) connection.write(slice);
        co_await connection.flush();
    }
}

TEST(ConnectionAbort, A14_new_connections_are_unaffected_by_the_stuck_send_of_an_old_one) {
    Signal stuck;
    Engine engine{[&](Connection connection) { return stick_or_echo(std::move(connection), &stuck); }};
    for (unsigned turn = 0; turn < 5; ++turn) {
        ClientSocket sticking = engine.connect(8192);
        sticking.send("stick");
        stuck.wait(turn + 1);
        engine.eventually("a stuck send", [&] { return engine.counters().slow_sends.value() > turn; });
        sticking.reset();
        // Its descriptor number is taken again and again, by connections that must see nothing of it.
        in_parallel(4, [&](unsigned number) {
            ClientSocket client = engine.connect();
            const std::string message = pattern(3000, number);
            for (int repeat = 0; repeat < 3; ++repeat) {
                client.send(message);
                EXPECT_TRUE(client.receive(message.size()) == message);
            }
        });
    }
    engine.until_empty();
}

// ---- errors ----

Task<> write_until_error(Connection connection, std::vector<std::string>* seen, Signal* read_first, Signal* ended) {
    auto received = co_await connection.read();
    received.reset();
    read_first->raise();
    for (;;) {
        connection.write(pattern(100'000));
        const auto flushed = co_await connection.flush();
        if (!flushed) {
            seen->push_back(flushed.error() == std::errc::broken_pipe || flushed.error() == std::errc::connection_reset
                                ? "gone"
                                : std::make_error_code(flushed.error()).message());
            break;
        }
    }
    // Errors are sticky.
    seen->push_back(connection.write(std::string_view{"more"}) ? "written" : "refused");
    seen->push_back(connection.span(1).empty() ? "no span" : "span");
    const auto again = co_await connection.flush();
    seen->push_back(again ? "flushed" : "failed again");
    auto more = co_await connection.read();
    seen->push_back(more ? "bytes" : "no bytes");
    seen->push_back(to_string(connection.end_reason()));
    seen->push_back(connection.error() ? "error" : "no error");
    ended->raise();
}

TEST(ConnectionErrors, A15_a_flush_after_the_peers_reset_fails_and_errors_are_sticky) {
    std::vector<std::string> seen;
    Signal read_first;
    Signal ended;
    Engine engine{
        [&](Connection connection) { return write_until_error(std::move(connection), &seen, &read_first, &ended); }};
    ClientSocket client = engine.connect();
    client.send("go");
    read_first.wait();
    client.reset();
    ended.wait();
    EXPECT_EQ(seen,
              (std::vector<std::string>{"gone", "refused", "no span", "failed again", "no bytes", "reset", "error"}));
    engine.until_empty();
}

/// Collects all that comes, to its end.
Task<> collect(Connection connection, std::string* bytes, EndReason* reason, Signal* ended, Signal* hold) {
    if (hold != nullptr) {
        // Begins to read only after the peer has done all it does.
        hold->wait();
    }
    while (auto received = co_await connection.read()) {
        EXPECT_NE(received.size(), 0u);
        for (const auto slice : received) {
            EXPECT_FALSE(slice.empty());
            bytes->append(slice.text());
        }
    }
    *reason = connection.end_reason();
    auto again = co_await connection.read();
    EXPECT_FALSE(again);
    ended->raise();
}

TEST(ConnectionErrors, bytes_before_fin_are_delivered_then_the_end) {
    std::string bytes;
    EndReason reason = EndReason::none;
    Signal ended;
    Signal hold;
    Engine engine{
        [&](Connection connection) { return collect(std::move(connection), &bytes, &reason, &ended, &hold); }};
    ClientSocket client = engine.connect();
    client.send(pattern(50'000));
    client.close();
    hold.raise();
    ended.wait();
    EXPECT_TRUE(bytes == pattern(50'000));
    EXPECT_EQ(reason, EndReason::end_of_stream);
}

TEST(ConnectionErrors, a_reset_ends_reading_with_its_reason) {
    std::string bytes;
    EndReason reason = EndReason::none;
    Signal ended;
    Engine engine{
        [&](Connection connection) { return collect(std::move(connection), &bytes, &reason, &ended, nullptr); }};
    ClientSocket client = engine.connect();
    client.send("x");
    engine.eventually("x", [&] { return bytes == "x"; });
    client.reset();
    ended.wait();
    EXPECT_EQ(reason, EndReason::reset);
    EXPECT_EQ(engine.counters().resets.value(), 1u);
}

// ---- halves ----

Task<> read_half(ReadHalf half, std::string* bytes, EndReason* reason, Signal* ended) {
    while (auto received = co_await half.read()) {
        for (const auto slice : received) bytes->append(slice.text());
    }
    *reason = half.end_reason();
    ended->raise();
}

Task<> write_half(WriteHalf half, unsigned messages, Signal* next) {
    for (unsigned number = 0; number < messages; ++number) {
        half.write("message " + std::to_string(number) + "\n");
        co_await half.flush();
    }
    EXPECT_EQ(half.unsent(), 0u);
    next->raise();
}

struct Halves {
    std::string bytes;
    EndReason reason = EndReason::none;
    Signal read_ended;
    Signal written;
};

Task<> use_halves(Connection connection, Halves* halves) {
    auto [reader, writer] = std::move(connection).split();
    EXPECT_FALSE(connection);
    ferrule::Reactor& reactor = reader.reactor();
    reactor.spawn(read_half(std::move(reader), &halves->bytes, &halves->reason, &halves->read_ended));
    reactor.spawn(write_half(std::move(writer), 3, &halves->written));
    co_return;
}

TEST(ConnectionSplit, the_end_of_the_write_half_is_fin_and_reading_goes_on) {
    Halves halves;
    Engine engine{[&](Connection connection) { return use_halves(std::move(connection), &halves); }};
    ClientSocket client = engine.connect();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"message 0\nmessage 1\nmessage 2\n", 0}));
    halves.written.wait();
    client.send("still heard");
    client.shutdown_write();
    halves.read_ended.wait();
    EXPECT_EQ(halves.bytes, "still heard");
    EXPECT_EQ(halves.reason, EndReason::end_of_stream);
    engine.until_empty();
}

Task<> write_after_reader(Connection connection, Signal* go) {
    std::optional<WriteHalf> writer;
    {
        auto [reader, half] = std::move(connection).split();
        writer.emplace(std::move(half));
        auto received = co_await reader.read();
    }
    writer->write(std::string_view{"the reader has gone"});
    co_await writer->flush();
    go->raise();
}

TEST(ConnectionSplit, the_end_of_the_read_half_leaves_writing_alone) {
    Signal done;
    Engine engine{[&](Connection connection) { return write_after_reader(std::move(connection), &done); }};
    ClientSocket client = engine.connect();
    client.send("x");
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"the reader has gone", 0}));
    done.wait();
    client.close();
    engine.until_empty();
}

Task<> half_close_then_read(Connection connection, std::string* bytes, Signal* ended) {
    connection.write(std::string_view{"bye"});
    connection.shutdown_write();
    EXPECT_FALSE(connection.write(std::string_view{"too late"}));
    EXPECT_TRUE(connection.span(1).empty());
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) bytes->append(slice.text());
    }
    ended->raise();
}

TEST(ConnectionSplit, shutdown_write_sends_fin_after_what_was_written) {
    std::string bytes;
    Signal ended;
    Engine engine{[&](Connection connection) { return half_close_then_read(std::move(connection), &bytes, &ended); }};
    ClientSocket client = engine.connect();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"bye", 0}));
    client.send("and good night");
    client.close();
    ended.wait();
    EXPECT_EQ(bytes, "and good night");
}

// ---- handles ----

Task<> misuse_handles(Connection connection, std::vector<std::string>* seen, Signal* ended) {
    Connection moved = std::move(connection);
    const auto expect_misuse = [&](const char* what, auto use) {
        try {
            use();
            seen->push_back(std::string(what) + " passed");
        } catch (const std::logic_error&) {
            seen->push_back(what);
        }
    };
    expect_misuse("read", [&] { static_cast<void>(connection.read()); });
    expect_misuse("write", [&] { connection.write(std::string_view{"x"}); });
    expect_misuse("span", [&] { static_cast<void>(connection.span()); });
    expect_misuse("flush", [&] { static_cast<void>(connection.flush()); });
    expect_misuse("end_reason", [&] { static_cast<void>(connection.end_reason()); });
    expect_misuse("abort", [&] { connection.abort(); });
    expect_misuse("split", [&] { static_cast<void>(std::move(connection).split()); });
    expect_misuse("advance", [&] { moved.advance(1u << 30); });
    connection.close();
    moved.close();
    EXPECT_FALSE(moved);
    moved.close();
    expect_misuse("after close", [&] { static_cast<void>(moved.read()); });
    ended->raise();
    co_return;
}

TEST(ConnectionHandles, use_after_a_move_or_a_close_is_misuse) {
    std::vector<std::string> seen;
    Signal ended;
    Engine engine{[&](Connection connection) { return misuse_handles(std::move(connection), &seen, &ended); }};
    ClientSocket client = engine.connect();
    ended.wait();
    EXPECT_EQ(seen, (std::vector<std::string>{"read", "write", "span", "flush", "end_reason", "abort", "split",
                                              "advance", "after close"}));
}

}  // namespace
