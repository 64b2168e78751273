#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <tuple>

namespace {

using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::pattern;

enum class Home { ipv4, ipv6, unix_domain };
enum class Queues { smallest, usual };

/// The acceptance matrix of IoUring.Transport, cases W and E: three connections exchange three messages each.
class ConnectionMatrix : public testing::TestWithParam<std::tuple<std::size_t, Home, unsigned, Queues>> {};

std::string name_of(const testing::TestParamInfo<ConnectionMatrix::ParamType>& info) {
    const auto [length, home, reactors, queues] = info.param;
    return std::to_string(length) + "_" +
           (home == Home::ipv4   ? "IPv4"
            : home == Home::ipv6 ? "IPv6"
                                 : "Unix") +
           "_" + std::to_string(reactors) + "_" + (queues == Queues::smallest ? "SQ4CQ8" : "Usual");
}

INSTANTIATE_TEST_SUITE_P(Transport, ConnectionMatrix,
                         testing::Combine(testing::Values(1u, 4095u, 4096u, 4097u, 32767u, 32768u, 32769u),
                                          testing::Values(Home::ipv4, Home::ipv6, Home::unix_domain),
                                          testing::Values(1u, 2u), testing::Values(Queues::smallest, Queues::usual)),
                         name_of);

TEST_P(ConnectionMatrix, W_E_messages_come_back_exactly) {
    const auto [length, home, reactors, queues] = GetParam();
    EngineOptions options;
    options.reactors = reactors;
    if (queues == Queues::smallest) {
        options.reactor.submission_entries = 4;
        options.reactor.completion_entries = 8;
    }
    if (home == Home::ipv6) options.socket.address = *ferrule::Address::parse("::1", 0);
    if (home == Home::unix_domain) options.socket.address = ferrule_test::unique_unix_address();
    if (home == Home::ipv6) {
        if (const auto trial = ferrule::open_listen_socket(ferrule::linux_kernel(), options.socket); trial) {
            ferrule::linux_kernel().close(*trial);
        } else {
            GTEST_SKIP() << "no IPv6 here: " << trial.error().message;
        }
    }
    Engine engine{ferrule_test::echo, options};
    in_parallel(3, [&, size = length](unsigned number) {
        ClientSocket client = engine.connect();
        for (unsigned turn = 0; turn < 3; ++turn) {
            const std::string message = pattern(size, number * 3 + turn);
            client.send(message);
            EXPECT_TRUE(client.receive(size) == message) << number << ", " << turn;
        }
        client.shutdown_write();
        EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    });
    EXPECT_EQ(engine.faults(), 0u);
}

}  // namespace
