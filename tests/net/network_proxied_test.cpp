#include <ferrule/net/network.hpp>
#include <ferrule/net/proxy_header.hpp>

#include "support/client_socket.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using ferrule::Address;
using ferrule::AddressPrefix;
using ferrule::Connection;
using ferrule::ProxyProtocol;
using ferrule::ProxyVersion;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::ManualClock;
using ferrule_test::pattern;

const std::string line = "PROXY TCP4 192.0.2.1 203.0.113.7 51312 443\r\n";
const std::string says_who = "192.0.2.1:51312 > 203.0.113.7:443\n";

std::string binary_header() {
    const auto bytes = write_proxy_header(ProxyVersion::binary, Address::parse("192.0.2.1", 51312).value(),
                                          Address::parse("203.0.113.7", 443).value());
    return {reinterpret_cast<const char*>(bytes.view().data()), bytes.view().size()};
}

/// Says who the client is, then echoes.
Task<> say_who_and_echo(Connection connection) {
    connection.write(connection.peer_address()->to_string() + " > " + connection.local_address()->to_string() + "\n");
    co_await connection.flush();
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

EngineOptions behind_proxy() {
    EngineOptions options;
    options.socket.proxy.protocol = ProxyProtocol::required;
    return options;
}

std::string receive_line(ClientSocket& client) {
    std::string text;
    while (text.empty() || text.back() != '\n') text += client.receive(1);
    return text;
}

TEST(NetworkProxied, the_client_is_who_the_header_says) {
    Engine engine{say_who_and_echo, behind_proxy()};
    for (const std::string& header : {line, binary_header()}) {
        ClientSocket client = engine.connect();
        client.send(header + "hello");
        EXPECT_EQ(receive_line(client), says_who);
        EXPECT_EQ(client.receive(5), "hello");
        client.send("again");
        EXPECT_EQ(client.receive(5), "again");
        client.shutdown_write();
        EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    }
    EXPECT_EQ(engine.counters().proxied.value(), 2u);
    EXPECT_EQ(engine.counters().proxy_errors.value(), 0u);
}

TEST(NetworkProxied, however_the_header_is_cut) {
    EngineOptions options = behind_proxy();
    options.network.receive_buffer_count = 16;
    options.network.receive_buffer_size = 16;
    Engine engine{say_who_and_echo, options};
    for (const std::string& header : {line, binary_header()}) {
        const std::string sent = header + "hello";
        for (std::size_t split = 1; split < sent.size(); ++split) {
            ClientSocket client = engine.connect();
            client.send(sent.substr(0, split));
            client.send(sent.substr(split));
            ASSERT_EQ(receive_line(client), says_who) << split;
            ASSERT_EQ(client.receive(5), "hello") << split;
            client.reset();
        }
        ClientSocket client = engine.connect();
        for (const char byte : sent) client.send({&byte, 1});
        EXPECT_EQ(receive_line(client), says_who);
        EXPECT_EQ(client.receive(5), "hello");
    }
}

TEST(NetworkProxied, much_may_follow_at_once) {
    Engine engine{say_who_and_echo, behind_proxy()};
    ClientSocket client = engine.connect();
    const std::string body = pattern(300'000);
    std::thread sender{[&] { client.send(line + body); }};
    EXPECT_EQ(receive_line(client), says_who);
    EXPECT_TRUE(client.receive(body.size()) == body);
    sender.join();
}

Task<> say_both(Connection connection) {
    const bool same_peer = *connection.peer_address() == *connection.transport_peer_address();
    const bool same_local = *connection.local_address() == *connection.transport_local_address();
    connection.write(same_peer && same_local ? "itself\n" : "another\n");
    co_return;
}

TEST(NetworkProxied, the_transport_has_addresses_of_its_own) {
    Engine engine{say_both, behind_proxy()};
    ClientSocket client = engine.connect();
    client.send(line);
    EXPECT_EQ(receive_line(client), "another\n");
    for (const std::string& header : {std::string("PROXY UNKNOWN\r\n"), "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"s}) {
        ClientSocket unknown = engine.connect();
        unknown.send(header);
        EXPECT_EQ(receive_line(unknown), "itself\n");
    }
}

TEST(NetworkProxied, without_a_right_header_a_connection_is_reset) {
    Engine engine{say_who_and_echo, behind_proxy()};
    for (const char* bytes : {"GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3 4.5.6.7 8 9\r\n", "\r\n\r\nX"}) {
        ClientSocket client = engine.connect();
        client.send(bytes);
        EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"", ECONNRESET})) << bytes;
    }
    EXPECT_EQ(engine.counters().proxy_errors.value(), 3u);
    // It is said once, and counted each time.
    engine.on_reactor([&] {
        EXPECT_EQ(engine.reactor().log.written(), 1u);
        EXPECT_EQ(engine.reactor().log.left_out(), 2u);
    });
    engine.until_empty();
}

TEST(NetworkProxied, who_leaves_without_a_word_has_looked_whether_the_server_lives) {
    Engine engine{say_who_and_echo, behind_proxy()};
    ClientSocket looks = engine.connect();
    looks.shutdown_write();
    EXPECT_EQ(looks.receive_rest(), ClientSocket::Rest{});
    EXPECT_EQ(engine.counters().proxy_errors.value(), 0u);
    ClientSocket cut = engine.connect();
    cut.send("PROXY");
    cut.shutdown_write();
    EXPECT_EQ(cut.receive_rest().bytes, "");
    engine.eventually("an error", [&] { return engine.counters().proxy_errors.value() == 1; });
}

TEST(NetworkProxied, a_header_that_does_not_come_in_time_ends_the_connection) {
    ManualClock clock;
    EngineOptions options = behind_proxy();
    options.kernel = &clock;
    options.network.idle_timeout = options.network.read_timeout = 0ms;
    Engine engine{say_who_and_echo, options};
    ClientSocket silent = engine.connect();
    ClientSocket slow = engine.connect();
    slow.send(line.substr(0, 20));
    engine.eventually("bytes", [&] { return engine.counters().bytes_received.value() == 20; });
    engine.eventually("connections", [&] { return engine.counters().connections.value() == 2; });
    clock.advance(4900ms);
    engine.on_reactor([] {});
    engine.on_reactor([&] { EXPECT_EQ(engine.counters().timeouts.value(), 0u); });
    clock.advance(200ms);
    engine.on_reactor([] {});
    EXPECT_EQ(silent.receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    EXPECT_EQ(slow.receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    EXPECT_EQ(engine.counters().proxy_timeouts.value(), 2u);
    // Behind the header the client has its own time.
    ClientSocket client = engine.connect();
    client.send(line);
    EXPECT_EQ(receive_line(client), says_who);
    clock.advance(1h);
    engine.on_reactor([] {});
    client.send("hello");
    EXPECT_EQ(client.receive(5), "hello");
}

TEST(NetworkProxied, the_first_byte_is_the_clients_own) {
    ManualClock clock;
    EngineOptions options = behind_proxy();
    options.kernel = &clock;
    options.network.idle_timeout = options.network.read_timeout = 0ms;
    options.network.first_byte_timeout = 1s;
    Engine engine{say_who_and_echo, options};
    ClientSocket client = engine.connect();
    client.send(line);
    EXPECT_EQ(receive_line(client), says_who);
    // The handler may begin to wait for it after the time was moved.
    for (unsigned turn = 0; engine.counters().timeouts.value() == 0; ++turn) {
        ASSERT_LT(turn, 3u);
        clock.advance(1100ms);
        engine.on_reactor([] {});
        engine.on_reactor([] {});
    }
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    EXPECT_EQ(engine.counters().first_byte_timeouts.value(), 1u);
}

TEST(NetworkProxied, only_those_who_are_trusted_are_believed) {
    EngineOptions options = behind_proxy();
    options.socket.proxy.sources = {AddressPrefix::parse("10.0.0.0/8").value()};
    {
        Engine engine{say_who_and_echo, options};
        EXPECT_EQ(engine.connect().receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
        EXPECT_EQ(engine.counters().proxy_strangers.value(), 1u);
    }
    options.socket.proxy.sources.push_back(AddressPrefix::parse("127.0.0.0/8").value());
    Engine engine{say_who_and_echo, options};
    ClientSocket client = engine.connect();
    client.send(line);
    EXPECT_EQ(receive_line(client), says_who);
}

TEST(NetworkProxied, the_limit_is_that_of_the_client) {
    EngineOptions options = behind_proxy();
    options.network.address_limits.connections = 1;
    Engine engine{say_who_and_echo, options};
    ClientSocket first = engine.connect();
    first.send(line);
    EXPECT_EQ(receive_line(first), says_who);
    ClientSocket second = engine.connect();
    second.send(line + "hello");
    EXPECT_EQ(second.receive_rest(), (ClientSocket::Rest{"", ECONNRESET}));
    ClientSocket other = engine.connect();
    other.send("PROXY TCP4 192.0.2.2 203.0.113.7 51312 443\r\n");
    EXPECT_EQ(receive_line(other), "192.0.2.2:51312 > 203.0.113.7:443\n");
    EXPECT_EQ(engine.counters().address_refusals.value(), 1u);
}

TEST(NetworkProxied, connections_that_are_handed_over_have_headers_too) {
    EngineOptions options = behind_proxy();
    options.reactors = 2;
    options.socket.address = ferrule_test::unique_unix_address();
    options.socket.proxy.sources = {AddressPrefix::parse("unix:").value()};
    Engine engine{say_who_and_echo, options};
    for (unsigned number = 0; number < 4; ++number) {
        ClientSocket client = engine.connect();
        client.send(line);
        EXPECT_EQ(receive_line(client), says_who);
    }
    EXPECT_EQ(engine.counters(0).proxied.value(), 2u);
    EXPECT_EQ(engine.counters(1).proxied.value(), 2u);
}

TEST(NetworkProxied, a_drain_ends_who_has_not_begun) {
    Engine engine{say_who_and_echo, behind_proxy()};
    ClientSocket client = engine.connect();
    engine.eventually("a connection", [&] { return engine.counters().connections.value() == 1; });
    engine.drain(10s);
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    engine.join();
}

}  // namespace
