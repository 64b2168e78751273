#include <ferrule/net/network.hpp>

#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace ferrule_test {
namespace {

using namespace ferrule;

Task<> write_when_all_is_dropped(WriteHalf half, std::uint64_t dropped) {
    const Network& network = Network::of(half.reactor());
    while (network.counters().bytes_received.value() < dropped) co_await sleep_for(std::chrono::milliseconds(1));
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

}  // namespace
}  // namespace ferrule_test
