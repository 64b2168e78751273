#include <ferrule/net/network.hpp>
#include <ferrule/reactor/resume_on.hpp>

#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <utility>

namespace ferrule_test {
namespace {

using namespace ferrule;

Task<> write_when_all_is_dropped(WriteHalf half, std::uint64_t dropped) {
    const Network& network = Network::of(half.reactor());
    Until all_came(half.reactor(),
                   [&network, dropped] { return network.counters().bytes_received.value() >= dropped; });
    co_await all_came;
    half.write(network.buffers().slices() == 0 && network.counters().leases.value() == 0 ? "nothing is held"
                                                                                         : "buffers are held");
    co_await half.flush();
}

Task<> end_reading(Connection connection, std::uint64_t dropped) {
    Reactor& reactor = connection.reactor();
    auto [reader, writer] = std::move(connection).split();
    reactor.spawn(write_when_all_is_dropped(std::move(writer), dropped));
    auto received = co_await reader.read();
    received = {};
    received = co_await reader.read();
}

TEST(ConnectionHalves, what_comes_after_the_read_half_has_ended_holds_no_buffers) {
    constexpr std::size_t size = 64;
    constexpr unsigned pieces = 50;  // more than a connection may hold
    Engine engine(
        [](Connection connection) { return end_reading(std::move(connection), std::uint64_t{size} * pieces); });
    ClientSocket client = engine.connect();
    for (unsigned piece = 0; piece < pieces; ++piece) client.send(std::string(size, 'x'));
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"nothing is held", 0}));
}

Task<> end_elsewhere(Connection connection, Engine* engine) {
    auto received = co_await connection.read();
    received = {};
    const auto moved = co_await resume_on(engine->reactor(&connection.reactor() == &engine->reactor(0) ? 1 : 0));
    static_cast<void>(moved);
}

TEST(ConnectionHalves, a_handler_that_ends_on_another_reactor_closes_its_connection_at_home) {
    std::atomic<Engine*> engine_of_handlers = nullptr;
    EngineOptions options;
    options.reactors = 2;
    Engine engine([&](Connection connection) { return end_elsewhere(std::move(connection), engine_of_handlers); },
                  options);
    engine_of_handlers = &engine;
    for (unsigned client = 0; client < 20; ++client) {
        ClientSocket socket = engine.connect();
        socket.send("x");
        EXPECT_EQ(socket.receive_rest(), ClientSocket::Rest{});
    }
    engine.until_empty(0);
    engine.until_empty(1);
}

}  // namespace
}  // namespace ferrule_test
