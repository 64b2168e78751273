// Who is let in, by a whole server: one count for all reactors, and clients that a proxy names.
#include <ferrule/net/address_limiter.hpp>
#include <ferrule/net/proxy_header.hpp>
#include <ferrule/server.hpp>
#include <ferrule/task/yield.hpp>

#include "support/running_server.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace std::chrono_literals;
using ferrule_test::Client;
using ferrule_test::eventually;
using ferrule_test::on_loopback;
using ferrule_test::Running;
using ferrule_test::tell_reactor;

const Address loopback = *Address::parse("127.0.0.1", 0);

// Each connection goes to another one.
ServerOptions in_turn(std::uint32_t reactors) {
    ServerOptions options = on_loopback(reactors);
    options.accept_mode = AcceptMode::hand_over_round_robin;
    return options;
}

// ---- one client's connections ----

TEST(ServerDefence, OneLimiterCountsTheConnectionsOfAllReactors) {
    AddressLimiter limiter({.connections = 3});
    ServerOptions options = in_turn(3);
    options.network.address_limiter = &limiter;
    Server server(options);
    server.on_connection(tell_reactor);
    Running running(server);
    std::vector<Client> clients;
    std::string reactors;
    for (int number = 0; number < 3; ++number) {
        clients.emplace_back(running.address());
        reactors += clients.back().exchange("x");
    }
    EXPECT_EQ(reactors, "012");
    EXPECT_EQ(limiter.connections(loopback), 3u);
    for (std::uint64_t refused = 1; refused <= 4; ++refused) {
        Client beyond(running.address());
        EXPECT_TRUE(beyond.ends());
        EXPECT_TRUE(eventually([&] { return server.counters().refused == refused; }));
    }
    for (Client& client : clients) EXPECT_EQ(client.exchange("x").size(), 1u);
    clients.pop_back();
    ASSERT_TRUE(eventually([&] { return limiter.connections(loopback) == 2; }));
    Client again(running.address());
    EXPECT_EQ(again.exchange("x").size(), 1u);
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(limiter.connections(loopback), 0u);
}

TEST(ServerDefence, WithoutOneTheServerMakesOneForAllReactors) {
    ServerOptions options = in_turn(3);
    options.network.address_limits.connections = 2;
    Server server(options);
    server.on_connection(tell_reactor);
    Running running(server);
    std::vector<Client> clients;
    std::string reactors;
    for (int number = 0; number < 2; ++number) {
        clients.emplace_back(running.address());
        reactors += clients.back().exchange("x");
    }
    EXPECT_EQ(reactors, "01");
    Client beyond(running.address());
    EXPECT_TRUE(beyond.ends());
    EXPECT_TRUE(eventually([&] { return server.counters().refused == 1; }));
}

TEST(ServerDefence, TwoServersCountOneClientTogether) {
    AddressLimiter limiter({.connections = 1});
    ServerOptions options = on_loopback();
    options.network.address_limiter = &limiter;
    Server one(options);
    Server other(options);
    one.on_connection(tell_reactor);
    other.on_connection(tell_reactor);
    Running running_one(one);
    Running running_other(other);
    Client client(running_one.address());
    EXPECT_EQ(client.exchange("x"), "0");
    Client beyond(running_other.address());
    EXPECT_TRUE(beyond.ends());
    EXPECT_EQ(running_one.stop(), 0);
    EXPECT_EQ(limiter.connections(loopback), 0u);
    Client later(running_other.address());
    EXPECT_EQ(later.exchange("x"), "0");
}

// ---- overload ----

// Each pass of the loop takes that long: more than a busy machine lets others wait again and again.
constexpr auto long_pass = 100ms;

Task<> keep_busy(const std::atomic<bool>& enough) {
    while (!enough) {
        const auto until = std::chrono::steady_clock::now() + long_pass;
        while (std::chrono::steady_clock::now() < until) {
        }
        co_await yield_now();
    }
}

TEST(ServerDefence, NoConnectionIsHandedToAReactorThatIsOverloaded) {
    ServerOptions options = in_turn(3);
    options.network.overload_latency = long_pass / 2;
    options.network.overload_interval = 2 * long_pass;
    Server server(options);
    std::atomic<bool> enough = false;
    std::atomic<const Network*> network = nullptr;
    server.on_start([&](Reactor& reactor) {
        if (reactor.id() != 1) return;
        network = &reactor.service<Network>();
        reactor.spawn(keep_busy(enough));
    });
    server.on_connection(tell_reactor);
    Running running(server);
    ASSERT_TRUE(eventually([&] { return network.load()->counters().overloaded.value() == 1; }));
    std::vector<Client> clients;
    std::string reactors;
    for (int number = 0; number < 4; ++number) {
        clients.emplace_back(running.address());
        reactors += clients.back().exchange("x");
    }
    EXPECT_EQ(reactors.size(), 4u);
    EXPECT_EQ(reactors.find('1'), reactors.npos) << reactors;
    enough = true;
    // It has to make up for that first.
    ASSERT_TRUE(eventually([&] { return network.load()->counters().overloaded.value() == 0; }));
    reactors.clear();
    for (int number = 0; number < 3; ++number) {
        clients.emplace_back(running.address());
        reactors += clients.back().exchange("x");
    }
    EXPECT_NE(reactors.find('1'), reactors.npos) << reactors;
}

// ---- behind a proxy ----

// Answers with the client that it has, and with who has connected, without his port.
Task<> tell_client(Connection connection) {
    const std::string client = connection.peer_address()->to_string();
    const std::string transport = connection.transport_peer_address()->with_port(0).to_string();
    while (auto received = co_await connection.read()) {
        received.reset();
        connection.write(client + " by " + transport + "\n");
        co_await connection.flush();
    }
}

std::string line_of(Client& client, std::string_view sent) {
    client.send(sent);
    std::string line;
    do {
        line += client.receive(1);
    } while (!line.empty() && line.back() != '\n' && line.size() < 200);
    return line;
}

std::string header(ProxyVersion version, const Address& client) {
    const ProxyHeaderBytes bytes = write_proxy_header(version, client, *Address::parse("203.0.113.7", 443));
    return {reinterpret_cast<const char*>(bytes.view().data()), bytes.view().size()};
}

ProxyOptions believing(std::string_view sources) {
    return {.protocol = ProxyProtocol::required, .sources = {*AddressPrefix::parse(sources)}};
}

TEST(ServerDefence, TheClientOfAProxyHeaderIsKnownOnEachReactor) {
    ServerOptions options = in_turn(3);
    options.proxy = believing("127.0.0.0/8");
    Server server(options);
    server.on_connection(tell_client);
    Running running(server);
    for (int number = 0; number < 3; ++number) {
        const Address client = *Address::parse("192.0.2." + std::to_string(1 + number), 50'000);
        const auto version = number == 1 ? ProxyVersion::text : ProxyVersion::binary;
        Client proxy(running.address());
        // The first bytes of the client come with the header, and the next ones without.
        const std::string told = client.to_string() + " by 127.0.0.1:0\n";
        EXPECT_EQ(line_of(proxy, header(version, client) + "x"), told);
        EXPECT_EQ(line_of(proxy, "x"), told);
    }
    EXPECT_EQ(server.counters().refused, 0u);
    Client direct(running.address());
    direct.send("GET / HTTP/1.1\r\n\r\n");
    EXPECT_TRUE(direct.ends());
    EXPECT_TRUE(eventually([&] { return server.counters().refused == 1; }));
}

TEST(ServerDefence, EachPortHasAProxyOfItsOwn) {
    Server server(on_loopback(2));
    PortOptions port;
    port.host = "127.0.0.1";
    port.port = 0;
    server.listen(port, tell_client);
    port.proxy = believing("127.0.0.0/8");
    server.listen(port, tell_client);
    port.proxy = believing("198.51.100.0/24");
    server.listen(port, tell_client);
    Running running(server);
    Client direct(running.address(0));
    EXPECT_TRUE(line_of(direct, "x").starts_with("127.0.0.1:"));
    Client proxy(running.address(1));
    const Address client = *Address::parse("192.0.2.1", 50'000);
    EXPECT_EQ(line_of(proxy, header(ProxyVersion::text, client) + "x"), "192.0.2.1:50000 by 127.0.0.1:0\n");
    // Nothing is read of who is not believed.
    Client stranger(running.address(2));
    EXPECT_TRUE(stranger.ends());
    EXPECT_TRUE(eventually([&] { return server.counters().refused == 1; }));
}

TEST(ServerDefence, BehindAProxyTheNamedClientIsCountedOnAllReactors) {
    AddressLimiter limiter({.connections = 1});
    ServerOptions options = in_turn(3);
    options.network.address_limiter = &limiter;
    options.proxy = believing("127.0.0.0/8");
    Server server(options);
    server.on_connection(tell_client);
    Running running(server);
    const Address one = *Address::parse("192.0.2.1", 50'000);
    const Address other = *Address::parse("192.0.2.2", 50'000);
    Client first(running.address());
    EXPECT_EQ(line_of(first, header(ProxyVersion::binary, one) + "x"), "192.0.2.1:50000 by 127.0.0.1:0\n");
    Client second(running.address());
    second.send(header(ProxyVersion::binary, one));
    EXPECT_TRUE(second.ends());
    Client third(running.address());
    EXPECT_EQ(line_of(third, header(ProxyVersion::binary, other) + "x"), "192.0.2.2:50000 by 127.0.0.1:0\n");
    EXPECT_EQ(limiter.connections(one), 1u);
    EXPECT_EQ(limiter.connections(loopback), 0u);
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(limiter.connections(one), 0u);
}

}  // namespace
