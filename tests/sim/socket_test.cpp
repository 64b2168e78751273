// The blocking sockets of simulated peers, a program on a machine each.
#include <ferrule/sim/simulation.hpp>
#include <ferrule/sim/socket.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

namespace ferrule {
namespace {

using namespace std::chrono_literals;
using sim::ListenSocket;
using sim::Socket;
using sim::SocketAddress;

constexpr std::uint64_t second_ns = 1'000'000'000;

class SimulatedSocketTest : public testing::Test {
protected:
    // `server` gets an accepted connection, `client` the one that it made.
    void run(const std::function<void(Socket&)>& server, const std::function<void(Socket&)>& client,
             const sim::SocketOptions& client_options = {}, const sim::ListenSocketOptions& server_options = {}) {
        sim::Machine& server_machine = simulation_.machine("server");
        sim::Machine& client_machine = simulation_.machine("client");
        const SocketAddress at = server_machine.ipv4(80);
        simulation_.process(server_machine, "server", [&] {
            auto listener = ListenSocket::open(server_machine, at, server_options);
            ASSERT_TRUE(listener) << listener.error().message();
            EXPECT_EQ(listener->address(), at);
            auto socket = listener->accept();
            ASSERT_TRUE(socket) << socket.error().message();
            server(*socket);
        });
        simulation_.process(client_machine, "client", [&] {
            simulation_.sleep(1ms);
            auto socket = Socket::connect(client_machine, at, client_options);
            ASSERT_TRUE(socket) << socket.error().message();
            EXPECT_EQ(socket->peer_address(), at);
            client(*socket);
        });
        EXPECT_TRUE(simulation_.run()) << simulation_.findings().front();
    }
    [[nodiscard]] std::chrono::nanoseconds elapsed() const {
        return std::chrono::nanoseconds(simulation_.now_ns() - sim::Simulation::start_ns);
    }

    sim::Simulation simulation_;
};

TEST_F(SimulatedSocketTest, BothSidesSendAndReceive) {
    const std::string large(500'000, 'x');
    run(
        [&](Socket& socket) {
            EXPECT_EQ(socket.receive_exactly(4).value(), "ping");
            EXPECT_TRUE(socket.send("pong"));
            EXPECT_EQ(socket.receive_to_end().value(), large);
            EXPECT_EQ(socket.received(), large.size() + 4);
            EXPECT_TRUE(socket.send("that was all"));
        },
        [&](Socket& socket) {
            EXPECT_TRUE(socket.send("ping"));
            EXPECT_EQ(socket.receive_exactly(4).value(), "pong");
            EXPECT_TRUE(socket.send(large));
            EXPECT_EQ(socket.sent(), large.size() + 4);
            EXPECT_FALSE(socket.shutdown_sending());
            EXPECT_EQ(socket.receive_to_end().value(), "that was all");
            EXPECT_EQ(socket.receive().value(), "");
        });
}

TEST_F(SimulatedSocketTest, ReceivingEndsWhereItIsTold) {
    run(
        [](Socket& socket) {
            EXPECT_TRUE(socket.trickle("first\nsecond\nthird", 3, second_ns));
            EXPECT_FALSE(socket.shutdown_sending());
            EXPECT_EQ(socket.receive_to_end().value(), "");
        },
        [this](Socket& socket) {
            EXPECT_EQ(socket.receive_until("\n").value(), "first\n");
            EXPECT_GE(elapsed(), 1s);
            EXPECT_EQ(socket.receive_until("\n").value(), "second\n");
            EXPECT_EQ(socket.receive_until("\n").error(), std::errc::no_message_available);
            // What came before the end is still there.
            std::string rest;
            EXPECT_EQ(socket.receive_exactly(6, &rest).error(), std::errc::no_message_available);
            EXPECT_EQ(rest, "third");
            EXPECT_GE(elapsed(), 5s);
        });
}

TEST_F(SimulatedSocketTest, AnEndlessLineIsRefused) {
    run([](Socket& socket) { EXPECT_TRUE(socket.send(std::string(1000, 'x') + '\n')); },
        [](Socket& socket) {
            EXPECT_EQ(socket.receive_until("\n", 10).error(), std::errc::message_size);
            EXPECT_EQ(socket.receive_until("\n").value().size(), 1001u);
        });
}

TEST_F(SimulatedSocketTest, AResetIsAnErrorAfterWhatCameBefore) {
    run(
        [this](Socket& socket) {
            EXPECT_TRUE(socket.send("the beginning"));
            simulation_.sleep(1s);
            socket.reset();
            EXPECT_FALSE(socket.is_open());
            EXPECT_EQ(socket.send("x").error(), std::errc::bad_file_descriptor);
            EXPECT_EQ(socket.receive().error(), std::errc::bad_file_descriptor);
        },
        [](Socket& socket) {
            std::string rest;
            EXPECT_EQ(socket.receive_to_end(&rest).error(), std::errc::connection_reset);
            EXPECT_EQ(rest, "the beginning");
            EXPECT_EQ(socket.send("x").error(), std::errc::broken_pipe);
            EXPECT_EQ(socket.peer_address().family(), AF_UNSPEC);
        });
}

TEST_F(SimulatedSocketTest, AnErrorCanBeAskedForAndTaken) {
    run([](Socket& socket) { socket.reset(); },
        [](Socket& socket) {
            EXPECT_TRUE(socket.wait_readable());
            EXPECT_EQ(socket.take_error(), std::errc::connection_reset);
            EXPECT_FALSE(socket.take_error());
            EXPECT_EQ(socket.receive().value(), "");
        });
}

TEST_F(SimulatedSocketTest, WaitingEndsAtItsTimeLimit) {
    run(
        [this](Socket& socket) {
            simulation_.sleep(10s);
            EXPECT_TRUE(socket.send("late"));
            EXPECT_EQ(socket.receive_to_end().value(), "");
        },
        [this](Socket& socket) {
            EXPECT_FALSE(socket.wait_readable(second_ns));
            EXPECT_EQ(socket.receive().error(), std::errc::timed_out);
            EXPECT_GE(elapsed(), 3s);
            EXPECT_LT(elapsed(), 4s);
            EXPECT_TRUE(socket.wait_readable());
            EXPECT_EQ(socket.receive().value(), "late");
        },
        {.time_limit_ns = 2 * second_ns});
}

TEST_F(SimulatedSocketTest, AReceiverThatDoesNotReadStopsTheSender) {
    run(
        [this](Socket& socket) {
            simulation_.sleep(30s);
            EXPECT_GE(socket.receive_to_end().value().size(), 8192u);
        },
        [](Socket& socket) {
            const std::string bytes(1'000'000, 'x');
            EXPECT_EQ(socket.send(bytes).error(), std::errc::timed_out);
            // The window, and what waits for it.
            EXPECT_EQ(socket.sent(), 8192u + 2 * 10'000);
        },
        {.time_limit_ns = second_ns, .send_buffer_bytes = 10'000}, {.accepted = {.receive_buffer_bytes = 8192}});
}

TEST_F(SimulatedSocketTest, ConnectingFailsAsLinuxs) {
    sim::Machine& machine = simulation_.machine("machine");
    simulation_.process(machine, "program", [&] {
        const auto error = [&](const char* to, const sim::SocketOptions& options = {}) {
            return Socket::connect(machine, *SocketAddress::parse(to), options).error();
        };
        EXPECT_EQ(error("127.0.0.1:80"), std::errc::connection_refused);
        EXPECT_EQ(error("[::1]:80"), std::errc::connection_refused);
        EXPECT_EQ(error("10.0.0.9:80"), std::errc::host_unreachable);
        EXPECT_EQ(error("10.0.0.9:80", {.connect_time_limit_ns = second_ns}), std::errc::timed_out);
        EXPECT_EQ(error("unix:/run/nothing"), std::errc::no_such_file_or_directory);
        EXPECT_EQ(error("unix:@nobody"), std::errc::connection_refused);
        EXPECT_EQ(error("127.0.0.1:80", {.local = *SocketAddress::parse("10.0.0.7:0")}),
                  std::errc::address_not_available);
        EXPECT_EQ(ListenSocket::open(machine, *SocketAddress::parse("10.0.0.7:80")).error(),
                  std::errc::address_not_available);
        const auto listener = ListenSocket::open(machine, *SocketAddress::parse("127.0.0.1:0"));
        EXPECT_EQ(ListenSocket::open(machine, listener->address()).error(), std::errc::address_in_use);
    });
    EXPECT_TRUE(simulation_.run()) << simulation_.findings().front();
}

TEST_F(SimulatedSocketTest, TheLocalAddressCanBeChosen) {
    sim::Machine& machine = simulation_.machine("machine");
    simulation_.process(machine, "program", [&] {
        auto listener = ListenSocket::open(machine, *SocketAddress::parse("[::]:0"));
        ASSERT_TRUE(listener);
        auto client = Socket::connect(machine, machine.ipv4(listener->address().port()),
                                      {.local = *SocketAddress::parse("127.0.0.5:4000")});
        ASSERT_TRUE(client) << client.error().message();
        EXPECT_EQ(client->local_address().to_string(), "127.0.0.5:4000");
        auto server = listener->accept();
        EXPECT_EQ(server->peer_address().to_string(), "[::ffff:127.0.0.5]:4000");
        // Not told where it went, but moved.
        Socket moved = std::move(*client);
        EXPECT_FALSE(client->is_open());
        *server = std::move(moved);
        EXPECT_EQ(server->local_address().to_string(), "127.0.0.5:4000");
    });
    EXPECT_TRUE(simulation_.run()) << simulation_.findings().front();
}

TEST_F(SimulatedSocketTest, UnixSocketsWaitForRoomInTheBacklog) {
    sim::Machine& machine = simulation_.machine("machine");
    const SocketAddress at = *SocketAddress::parse("unix:/run/server.sock");
    simulation_.process(machine, "server", [&] {
        auto listener = ListenSocket::open(machine, at, {.backlog = 0});
        ASSERT_TRUE(listener) << listener.error().message();
        EXPECT_EQ(listener->address(), at);
        simulation_.sleep(5s);
        for (int count = 0; count < 2; ++count) {
            auto socket = listener->accept(second_ns);
            ASSERT_TRUE(socket);
            EXPECT_EQ(socket->receive_to_end().value(), "over a path");
        }
        EXPECT_EQ(listener->accept(second_ns).error(), std::errc::timed_out);
    });
    for (const char* name : {"first", "second"}) {
        simulation_.process(machine, name, [&] {
            simulation_.sleep(1s);
            auto socket = Socket::connect(machine, at);
            ASSERT_TRUE(socket) << socket.error().message();
            EXPECT_TRUE(socket->send("over a path"));
            EXPECT_EQ(socket->peer_address(), at);
        });
    }
    EXPECT_TRUE(simulation_.run()) << simulation_.findings().front();
}

TEST_F(SimulatedSocketTest, ListenersThatShareAPortShareTheConnections) {
    sim::Machine& server = simulation_.machine("server");
    sim::Machine& client = simulation_.machine("client");
    constexpr int connections = 64;
    std::vector<int> counts(2);
    for (int& count : counts) {
        simulation_.process(server, "server", [&] {
            auto listener = ListenSocket::open(server, server.ipv4(80), {.reuse_port = true});
            ASSERT_TRUE(listener) << listener.error().message();
            while (listener->accept(10 * second_ns)) ++count;
        });
    }
    simulation_.process(client, "client", [&] {
        simulation_.sleep(1s);
        for (int count = 0; count < connections; ++count) EXPECT_TRUE(Socket::connect(client, server.ipv4(80)));
    });
    EXPECT_TRUE(simulation_.run()) << simulation_.findings().front();
    EXPECT_EQ(counts[0] + counts[1], connections);
    EXPECT_GT(std::min(counts[0], counts[1]), connections / 8);
}

}  // namespace
}  // namespace ferrule
