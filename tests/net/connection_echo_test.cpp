#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"
#include "support/reactor_shapes.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Task;
using ferrule_test::all_shapes;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::name_of_shape;
using ferrule_test::options_for;
using ferrule_test::pattern;
using ferrule_test::Shape;
using ferrule_test::Signal;

/// The cases E1 to E7 of the raw interface; on incremental buffers they are I1 to I4, I7 and I8.
class ConnectionEcho : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, ConnectionEcho, testing::ValuesIn(all_shapes), name_of_shape);

TEST_P(ConnectionEcho, E1_I1_one_message_comes_back) {
    Engine engine{echo, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("Hello, Ferrule!");
    EXPECT_EQ(client.receive(15), "Hello, Ferrule!");
}

TEST_P(ConnectionEcho, E2_I2_ten_messages_on_one_connection) {
    Engine engine{echo, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    for (unsigned number = 0; number < 10; ++number) {
        const std::string message = "message " + std::to_string(number) + " of ten";
        client.send(message);
        ASSERT_EQ(client.receive(message.size()), message);
    }
}

TEST_P(ConnectionEcho, E3_I3_ten_connections_on_two_reactors_each_get_their_own) {
    Engine engine{echo, options_for(GetParam(), 2)};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    in_parallel(10, [&](unsigned number) {
        ClientSocket client = engine.connect();
        const std::string message = "connection " + std::to_string(number);
        client.send(message);
        EXPECT_EQ(client.receive(message.size()), message);
    });
}

/// Answers each complete request head.
Task<> hello(Connection connection) {
    std::size_t matched = 0;
    constexpr std::string_view end_of_head = "\r\n\r\n";
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) {
            for (const char character : slice.text()) {
                matched = character == end_of_head[matched] ? matched + 1 : character == '\r' ? 1 : 0;
                if (matched < end_of_head.size()) continue;
                matched = 0;
                connection.write(
                    std::string_view{"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n"
                                     "Hello, World!"});
            }
        }
        co_await connection.flush();
    }
}

TEST_P(ConnectionEcho, E4_http_requests_on_one_connection_are_answered) {
    Engine engine{hello, options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    for (unsigned number = 0; number < 3; ++number) {
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        const std::string answer = client.receive(52);
        EXPECT_EQ(answer.find("HTTP/1.1 200 OK"), 0u);
        EXPECT_TRUE(answer.ends_with("\r\n\r\nHello, World!")) << answer;
    }
}

TEST_P(ConnectionEcho, E5_I4_random_bytes_come_back_intact) {
    Engine engine{echo, options_for(GetParam())};
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

/// Reads one message, waits for what comes next, and tells how the stream ended.
Task<> read_to_end(Connection connection, std::vector<std::string>* messages, EndReason* reason, Signal* ended) {
    while (auto received = co_await connection.read()) messages->push_back(std::string{received.contiguous().text()});
    *reason = connection.end_reason();
    ended->raise();
}

TEST_P(ConnectionEcho, E6_I7_a_client_that_closes_ends_the_next_read) {
    std::vector<std::string> messages;
    EndReason reason = EndReason::none;
    Signal ended;
    Engine engine{[&](Connection connection) { return read_to_end(std::move(connection), &messages, &reason, &ended); },
                  options_for(GetParam())};
    FERRULE_SKIP_UNLESS_USABLE(engine);
    ClientSocket client = engine.connect();
    client.send("hello");
    engine.eventually("hello", [&] { return messages.size() == 1; });
    client.close();
    ended.wait();
    EXPECT_EQ(messages, std::vector<std::string>{"hello"});
    EXPECT_EQ(reason, EndReason::end_of_stream);
}

TEST_P(ConnectionEcho, E7_I8_twenty_clients_on_four_reactors_five_times_each) {
    Engine engine{echo, options_for(GetParam(), 4)};
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

/// Echoes, and counts slices that come from the same buffer as the one before.
Task<> echo_and_count(Connection connection, std::size_t buffer_size, std::size_t* repeated) {
    const std::byte* former = nullptr;
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) {
            // Slices of one buffer follow each other in memory.
            if (former != nullptr && slice.data() == former && buffer_size != 0) ++*repeated;
            former = slice.data() + slice.size();
            connection.write(slice);
        }
        co_await connection.flush();
    }
}

std::size_t repeated_buffers(EngineOptions options, bool& incremental) {
    std::size_t repeated = 0;
    Engine engine{[&](Connection connection) {
                      return echo_and_count(std::move(connection), options.network.receive_buffer_size, &repeated);
                  },
                  options};
    incremental = engine.network().buffer_mode() != ferrule::BufferMode::shared;
    ClientSocket client = engine.connect();
    const std::string message = pattern(16384);
    for (std::size_t sent = 0; sent < message.size();) {
        // The echo of a fragment paces the next one: each is received on its own.
        const std::string fragment = message.substr(sent, 17);
        client.send(fragment);
        EXPECT_EQ(client.receive(fragment.size()), fragment);
        sent += fragment.size();
    }
    client.close();
    engine.until_empty();
    return engine.on_reactor([&] { return repeated; });
}

class ConnectionBufferReuse : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, ConnectionBufferReuse, testing::Values(Shape::incremental, Shape::per_connection),
                         name_of_shape);

TEST_P(ConnectionBufferReuse, I9_fragments_share_incremental_buffers) {
    bool incremental = false;
    EngineOptions classic = options_for(GetParam());
    classic.network.buffer_mode = ferrule::BufferMode::shared;
    const std::size_t repeated_classic = repeated_buffers(classic, incremental);
    EXPECT_FALSE(incremental);
    const std::size_t repeated_incremental = repeated_buffers(options_for(GetParam()), incremental);
    if (!incremental) GTEST_SKIP() << "the kernel has no incremental buffers (6.12)";
    EXPECT_GT(repeated_incremental, repeated_classic);
    EXPECT_GT(repeated_incremental, 0u);
}

}  // namespace
