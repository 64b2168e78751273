#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/when_any.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/memory_source.hpp"
#include "support/network_engine.hpp"
#include "support/reactor_shapes.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <expected>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::ByteStream;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::ReadResult;
using ferrule::Task;
using ferrule::WriteOverflow;
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

std::span<std::byte> bytes_of(std::string& text) {
    return std::as_writable_bytes(std::span{text});
}

/// What a handler leaves for the test.
struct Notes {
    std::vector<std::string> lines;
    EndReason reason = EndReason::none;
    Signal progress;
    Signal ended;
};

// ---- the cases S1 to S5, on every shape of a reactor; on incremental buffers they are I5 ----

class ByteStreamEcho : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, ByteStreamEcho, testing::ValuesIn(all_shapes), name_of_shape);

/// A buffer of 4 KiB: read, write, flush.
Task<> echo_all(Connection connection) {
    ByteStream stream{std::move(connection)};
    const auto memory = std::make_unique<std::array<std::byte, 4096>>();
    for (;;) {
        const std::size_t count = co_await stream.read_some(*memory);
        if (count == 0) break;
        co_await stream.write(std::span{*memory}.first(count));
        co_await stream.flush();
    }
}

TEST_P(ByteStreamEcho, S1_I5_one_message_comes_back) {
    Engine engine{echo_all, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("Hello, Ferrule!");
    EXPECT_EQ(client.receive(15), "Hello, Ferrule!");
}

TEST_P(ByteStreamEcho, S2_I5_ten_messages_on_one_connection) {
    Engine engine{echo_all, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    for (unsigned number = 0; number < 10; ++number) {
        const std::string message = "message " + std::to_string(number) + " of ten";
        client.send(message);
        ASSERT_EQ(client.receive(message.size()), message);
    }
}

TEST_P(ByteStreamEcho, S3_I5_ten_connections_on_two_reactors_each_get_their_own) {
    Engine engine{echo_all, options_for(GetParam(), 2)};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    in_parallel(10, [&](unsigned number) {
        ClientSocket client = engine.connect();
        const std::string message = "connection " + std::to_string(number);
        client.send(message);
        EXPECT_EQ(client.receive(message.size()), message);
    });
}

TEST_P(ByteStreamEcho, S4_I5_random_bytes_come_back_intact) {
    Engine engine{echo_all, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    for (const std::size_t size : {std::size_t{4096}, std::size_t{65536}, std::size_t{1} << 20}) {
        ClientSocket client = engine.connect();
        const std::string message = pattern(size);
        std::string answer;
        in_parallel(2, [&](unsigned number) {
            if (number == 0) {
                client.send(message);
            } else {
                answer = client.receive(size);
            }
        });
        EXPECT_TRUE(answer == message) << size;
    }
}

Task<> read_to_end(Connection connection, Notes* notes) {
    ByteStream stream{std::move(connection)};
    std::string memory(100, ' ');
    for (;;) {
        const std::size_t count = co_await stream.read_some(bytes_of(memory));
        if (count == 0) break;
        notes->lines.push_back(memory.substr(0, count));
    }
    notes->reason = stream.end_reason();
    notes->ended.raise();
}

TEST_P(ByteStreamEcho, S5_I7_a_client_that_closes_ends_the_next_read_with_nothing) {
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

/// Messages that begin with their length, in six digits, which each way of reading has to respect.
Task<> echo_framed(Connection connection) {
    ByteStream stream{std::move(connection)};
    std::string head(6, ' ');
    for (;;) {
        const std::size_t count = co_await stream.read_exactly(bytes_of(head));
        if (count < head.size()) break;
        std::string body(std::stoul(head), ' ');
        const std::size_t filled = co_await stream.read_exactly(bytes_of(body));
        EXPECT_EQ(filled, body.size());
        co_await stream.write(body);
        co_await stream.flush();
    }
}

TEST_P(ByteStreamEcho, A3_I5_framed_messages_come_back_whole) {
    Engine engine{echo_framed, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    for (const std::size_t size : {1u, 10u, 3000u, 100'000u}) {
        const std::string message = pattern(size);
        const std::string head = std::to_string(1'000'000 + size).substr(1);
        // Two at a time, parted where nothing ends.
        const std::string both = head + message + head + message;
        client.send(std::string_view{both}.substr(0, size + 9));
        EXPECT_TRUE(client.receive(size) == message);
        client.send(std::string_view{both}.substr(size + 9));
        EXPECT_TRUE(client.receive(size) == message);
    }
}

/// Lines, whose end has two characters.
Task<> echo_lines(Connection connection, Notes* notes) {
    ByteStream stream{std::move(connection)};
    for (;;) {
        const auto line = co_await stream.read_until("\r\n", 10'000);
        EXPECT_TRUE(line);
        if (!line || line->empty()) break;
        co_await stream.write(*line);
        co_await stream.flush();
    }
    std::string rest(100, ' ');
    rest.resize(co_await stream.read_some(bytes_of(rest)));
    notes->lines.push_back(rest);
    notes->reason = stream.end_reason();
    notes->ended.raise();
}

TEST_P(ByteStreamEcho, I5_lines_come_back_and_what_has_no_end_is_left) {
    Notes notes;
    Engine engine{[&](Connection connection) { return echo_lines(std::move(connection), &notes); },
                  options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    std::string lines;
    for (const std::size_t size : {0u, 1u, 100u, 2046u, 2047u, 5000u}) lines += std::string(size, 'x') + "\r\n";
    client.send(lines);
    EXPECT_TRUE(client.receive(lines.size()) == lines);
    for (const char character : std::string_view{"one\r\ntwo\r\n"}) client.send({&character, 1});
    EXPECT_EQ(client.receive(10), "one\r\ntwo\r\n");
    client.send("rest\r");
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, std::vector<std::string>{"rest\r"});
    EXPECT_EQ(notes.reason, EndReason::end_of_stream);
}

// ---- on a stream without a network: every way to part the bytes ----

/// A duplex stream of a test's: what is written waits until it is flushed, and no more than `room` bytes may wait.
struct MemoryStream {
    struct Sink {
        std::string staged;
        std::string sent;
        std::size_t room = 1000;
        std::size_t flushes = 0;
        int error = 0;
        bool closed = false;
    };
    struct Flush {
        Sink* sink;
        bool await_ready() const noexcept { return true; }
        void await_suspend(std::coroutine_handle<>) const noexcept {}
        std::expected<void, std::errc> await_resume() const {
            ++sink->flushes;
            if (sink->error != 0) return std::unexpected(static_cast<std::errc>(sink->error));
            sink->sent += std::exchange(sink->staged, {});
            return {};
        }
    };

    MemorySource* source;
    Sink* sink;

    MemorySource::Awaiter read() { return source->read(); }
    ReadResult take_carried() { return source->take_carried(); }
    EndReason end_reason() const { return source->end_reason(); }
    std::error_code error() const { return {}; }
    bool write(std::span<const std::byte> bytes) {
        if (bytes.size() > writable()) return false;
        sink->staged.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return true;
    }
    std::span<std::byte> span(std::size_t) { return {}; }
    void advance(std::size_t) {}
    Flush flush() { return {sink}; }
    std::size_t unsent() const { return sink->staged.size(); }
    std::size_t writable() const { return sink->error != 0 ? 0 : sink->room - sink->staged.size(); }
    void close() { sink->closed = true; }
};
static_assert(ferrule::Duplex<MemoryStream>);

/// Runs a task that reads what was supplied, with room for everything in its pass.
template <class Body>
void run(Body body) {
    ferrule::ThreadHost host;
    const ferrule::HostBinding binding{host};
    host.inline_budget = 1'000'000;
    ferrule::spawn(host, body());
    host.run_ready();
    for (const auto& fault : host.faults()) std::rethrow_exception(fault);
    EXPECT_EQ(host.frames.live_frames(), 0u);
}

/// A text in all ways to part it, one after the other.
template <class Visitor>
void for_each_parting(std::string_view text, Visitor visit) {
    for (unsigned parting = 0; parting < 1u << (text.size() - 1); ++parting) {
        MemorySource source;
        std::size_t begun = 0;
        for (std::size_t at = 1; at <= text.size(); ++at) {
            if (at != text.size() && ((parting >> (at - 1)) & 1) == 0) continue;
            source.supply(text.substr(begun, at - begun));
            begun = at;
        }
        source.end();
        visit(source);
        EXPECT_EQ(source.out(), 0u) << parting;
    }
}

Task<> read_each_way(MemorySource* source, std::vector<std::string>* read) {
    MemoryStream::Sink sink;
    ByteStream stream{MemoryStream{source, &sink}};
    std::string memory(3, ' ');
    auto line = co_await stream.read_until("::", 100);
    read->emplace_back(line.value());
    std::size_t count = co_await stream.read_exactly(bytes_of(memory));
    read->push_back(memory.substr(0, count));
    line = co_await stream.read_until(":", 3);
    read->push_back(line ? std::string{*line} : "too long");
    line = co_await stream.read_until(":", 4);
    read->emplace_back(line.value());
    std::string rest;
    for (;;) {
        count = co_await stream.read_some(std::span{bytes_of(memory)}.first(2));
        if (count == 0) break;
        rest += memory.substr(0, count);
    }
    read->push_back(rest);
    line = co_await stream.read_until(":", 4);
    read->emplace_back(line.value());
}

TEST(ByteStreamRead, A3_reads_the_same_however_the_bytes_come) {
    for_each_parting("a:b::cdefgh:ij:", [](MemorySource& source) {
        std::vector<std::string> read;
        run([&] { return read_each_way(&source, &read); });
        EXPECT_EQ(read, (std::vector<std::string>{"a:b::", "cde", "too long", "fgh:", "ij:", ""}));
    });
}

Task<> read_past_the_end(MemorySource* source, std::vector<std::string>* read) {
    MemoryStream::Sink sink;
    ByteStream stream{MemoryStream{source, &sink}};
    std::string memory(20, ' ');
    auto line = co_await stream.read_until("x", 100);
    read->emplace_back(line.value());
    line = co_await stream.read_until("x", 100);
    read->emplace_back(line.value());
    std::size_t count = co_await stream.read_exactly(std::span{bytes_of(memory)}.first(2));
    read->push_back(memory.substr(0, count));
    count = co_await stream.read_exactly(bytes_of(memory));
    read->push_back(memory.substr(0, count));
    count = co_await stream.read_exactly(bytes_of(memory));
    read->push_back(memory.substr(0, count));
    const std::span<std::byte> nothing;
    count = co_await stream.read_some(nothing);
    read->push_back(std::to_string(count));
}

TEST(ByteStreamRead, what_came_before_the_end_is_there_for_whoever_asks_for_less) {
    for_each_parting("abcdef", [](MemorySource& source) {
        std::vector<std::string> read;
        run([&] { return read_past_the_end(&source, &read); });
        EXPECT_EQ(read, (std::vector<std::string>{"", "", "ab", "cdef", "", "0"}));
    });
}

Task<> read_views(MemorySource* source, Notes* notes) {
    MemoryStream::Sink sink;
    ByteStream stream{MemoryStream{source, &sink}};
    auto line = co_await stream.read_until(".", 10);
    EXPECT_TRUE(source->in_place({reinterpret_cast<const std::byte*>(line.value().data()), line.value().size()}));
    source->full = true;
    line = co_await stream.read_until(".", 10);
    notes->lines.push_back(std::make_error_code(line.error()).message());
    source->full = false;
    line = co_await stream.read_until(".", 10);
    EXPECT_FALSE(source->in_place({reinterpret_cast<const std::byte*>(line.value().data()), line.value().size()}));
    notes->lines.emplace_back(*line);
    EXPECT_THROW(static_cast<void>(stream.read_until("", 10)), std::logic_error);
}

TEST(ByteStreamRead, a_view_is_in_place_unless_it_straddles) {
    MemorySource source{{"ab.cd", "ef."}};
    Notes notes;
    run([&] { return read_views(&source, &notes); });
    EXPECT_EQ(notes.lines,
              (std::vector<std::string>{std::make_error_code(std::errc::no_buffer_space).message(), "cdef."}));
}

Task<> read_in_one_frame(MemorySource* source, std::uint64_t* taken) {
    MemoryStream::Sink sink;
    ByteStream stream{MemoryStream{source, &sink}};
    const ferrule::FramePool& frames = ferrule::Host::current()->frames;
    const std::uint64_t before = frames.peak_bytes();
    std::string memory(5, ' ');
    const std::size_t some = co_await stream.read_some(bytes_of(memory));
    EXPECT_EQ(some, 3u);
    const std::size_t all = co_await stream.read_exactly(bytes_of(memory));
    EXPECT_EQ(all, 5u);
    const auto line = co_await stream.read_until("\n", 100);
    EXPECT_EQ(line.value(), "line\n");
    const auto written = co_await stream.write("answer");
    EXPECT_TRUE(written);
    co_await stream.flush();
    *taken = frames.peak_bytes() - before;
}

TEST(ByteStreamRead, takes_no_frame_where_bytes_and_room_are_there) {
    MemorySource source{{"abc", "de", "fg", "hli", "ne\n"}};
    std::uint64_t taken = 1;
    run([&] { return read_in_one_frame(&source, &taken); });
    EXPECT_EQ(taken, 0u);
}

Task<> read_all_in_pieces(MemorySource* source, std::size_t* pieces) {
    MemoryStream::Sink sink;
    ByteStream stream{MemoryStream{source, &sink}};
    std::string memory(2, ' ');
    for (;;) {
        const std::size_t some = co_await stream.read_some(std::span{bytes_of(memory)}.first(1));
        const auto line = co_await stream.read_until(".", 2);
        const std::size_t all = co_await stream.read_exactly(bytes_of(memory));
        if (some == 0 || !line || line->empty() || all == 0) break;
        ++*pieces;
    }
}

TEST(ByteStreamRead, one_that_never_waits_yields_when_its_budget_is_used_up) {
    std::string text;
    for (unsigned number = 0; number < 100; ++number) text += "ab.cd";
    MemorySource source{{text}};
    source.end();
    ferrule::ThreadHost host;
    host.inline_budget_per_resume = 5;
    std::size_t pieces = 0;
    {
        const ferrule::HostBinding binding{host};
        ferrule::spawn(host, read_all_in_pieces(&source, &pieces));
    }
    EXPECT_GT(host.run_ready(), 30u);
    EXPECT_EQ(pieces, 100u);
    EXPECT_EQ(source.out(), 0u);
}

// ---- writing ----

Task<> write_pieces(MemoryStream::Sink* sink, std::string_view text, std::vector<std::string>* ends) {
    MemorySource source;
    ByteStream stream{MemoryStream{&source, sink}};
    for (std::size_t size = 1; !text.empty(); ++size) {
        const auto written = co_await stream.write(text.substr(0, size));
        if (!written) ends->push_back(std::make_error_code(written.error()).message());
        text.remove_prefix(std::min(size, text.size()));
    }
    co_await stream.flush();
    stream.close();
}

TEST(ByteStreamWrite, waits_for_room_and_loses_nothing) {
    const std::string text = pattern(2000);
    MemoryStream::Sink sink;
    sink.room = 10;
    std::vector<std::string> ends;
    run([&] { return write_pieces(&sink, text, &ends); });
    EXPECT_TRUE(sink.sent == text);
    EXPECT_TRUE(sink.closed);
    EXPECT_GE(sink.flushes, 200u);
    EXPECT_TRUE(ends.empty());
}

TEST(ByteStreamWrite, tells_the_error_that_ended_writing_and_that_there_is_no_room_at_all) {
    MemoryStream::Sink sink;
    sink.error = EPIPE;
    std::vector<std::string> ends;
    run([&] { return write_pieces(&sink, "a", &ends); });
    sink.error = 0;
    sink.room = 0;
    run([&] { return write_pieces(&sink, "b", &ends); });
    EXPECT_EQ(ends, (std::vector<std::string>{std::make_error_code(std::errc::broken_pipe).message(),
                                              std::make_error_code(std::errc::no_buffer_space).message()}));
}

class EachOverflow : public testing::TestWithParam<WriteOverflow> {};

INSTANTIATE_TEST_SUITE_P(ByteStream, EachOverflow,
                         testing::Values(WriteOverflow::grow, WriteOverflow::segmented, WriteOverflow::back_pressure),
                         [](const auto& overflow) { return std::to_string(static_cast<int>(overflow.param)); });

Task<> write_much(Connection connection, const std::string* text, Notes* notes) {
    ByteStream stream{std::move(connection)};
    auto written = co_await stream.write(*text);
    EXPECT_TRUE(written);
    written = co_await stream.write(std::string_view{*text}.substr(0, 50'000));
    EXPECT_TRUE(written);
    written = co_await stream.flush();
    EXPECT_TRUE(written);
    stream.close();
    notes->ended.raise();
}

TEST_P(EachOverflow, much_more_than_may_wait_arrives) {
    Notes notes;
    const std::string text = pattern(std::size_t{3} << 20);
    EngineOptions options;
    options.network.write_overflow = GetParam();
    options.network.write_limit = 100'000;
    Engine engine{[&](Connection connection) { return write_much(std::move(connection), &text, &notes); }, options};
    ClientSocket client = engine.connect();
    const auto rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(rest.bytes == text + text.substr(0, 50'000));
    notes.ended.wait();
}

// ---- cancellation ----

Task<> read_with_deadlines(Connection connection, Notes* notes) {
    ByteStream stream{std::move(connection)};
    for (unsigned turn = 0; turn < 2; ++turn) {
        const auto line = co_await ferrule::with_deadline(stream.read_until("\n", 100), 50ms);
        EXPECT_TRUE(line);
        notes->lines.push_back(line->empty() ? ferrule::to_string(stream.end_reason()) : std::string{*line});
        notes->progress.raise();
    }
    std::string memory(4, ' ');
    std::size_t count = co_await ferrule::with_deadline(stream.read_exactly(bytes_of(memory)), 50ms);
    notes->lines.push_back(memory.substr(0, count));
    notes->progress.raise();
    count = co_await ferrule::with_deadline(stream.read_some(bytes_of(memory)), 50ms);
    notes->lines.push_back(memory.substr(0, count));
    notes->ended.raise();
}

TEST(ByteStreamCancel, a_deadline_loses_nothing) {
    Notes notes;
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine{[&](Connection connection) { return read_with_deadlines(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    client.send("ab");
    engine.eventually("ab", [&] { return engine.counters().bytes_received.value() == 2; });
    clock.advance(60ms);
    engine.on_reactor([] {});
    notes.progress.wait(1);
    client.send("cd\nef");
    notes.progress.wait(2);
    engine.on_reactor([] {});  // the next read waits
    clock.advance(60ms);
    engine.on_reactor([] {});
    notes.progress.wait(3);
    client.send("gh");
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"deadline", "abcd\n", "ef", "gh"}));
}

Task<int> wait_for_line(ByteStream<Connection>* stream) {
    const auto line = co_await stream->read_until("\n", 100);
    co_return line ? static_cast<int>(line->size()) : -1;
}

/// Destroys a read that has looked at bytes and waits for more of them.
Task<> give_up_and_read(Connection connection, Notes* notes) {
    ByteStream stream{std::move(connection)};
    {
        Task<int> given_up = wait_for_line(&stream);
        EXPECT_TRUE(given_up.start(stream.stream().reactor().root_environment, std::noop_coroutine()));
        const ferrule::NetworkCounters& counters = ferrule::Network::of(stream.stream().reactor()).counters();
        const auto there = [&counters] { return counters.bytes_received.value() == 3; };
        ferrule_test::Until until{stream.stream().reactor(), there};
        co_await until;
    }
    std::string memory(10, ' ');
    const std::size_t count = co_await stream.read_some(bytes_of(memory));
    notes->lines.push_back(memory.substr(0, count));
    notes->ended.raise();
}

TEST(ByteStreamCancel, destroying_a_read_leaves_what_it_had_looked_at) {
    Notes notes;
    Engine engine{[&](Connection connection) { return give_up_and_read(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    client.send("abc");
    notes.ended.wait();
    EXPECT_EQ(notes.lines, std::vector<std::string>{"abc"});
}

}  // namespace
