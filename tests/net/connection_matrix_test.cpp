#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/task/spawn.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

// The acceptance matrix of IoUring.Transport, W and E: three connections exchange three messages each, of each length;
// the bytes are exact, and nothing is left over. Each of the three is read by another adapter.

namespace {

using ferrule::Address;
using ferrule::BufferMode;
using ferrule::Connection;
using ferrule::Task;
using ferrule_test::Accepting;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::pattern;

constexpr std::array<std::size_t, 7> lengths = {1, 4095, 4096, 4097, 32767, 32768, 32769};
constexpr unsigned connections = 3;
constexpr unsigned exchanges = 3;

enum class Home { ipv4, ipv6, unix_domain };
enum class Queues { four, hundred_twenty_eight };
enum class Side { accepting, connecting };

using Cell = std::tuple<Home, unsigned, Queues, Side, BufferMode, Accepting>;

// ---- one echo by each adapter ----

Task<> echo_buffered(Connection connection) {
    ferrule::BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        for (const auto slice : received) connection.write(slice);
        reader.advance(received.size());
        co_await connection.flush();
    }
}

Task<> echo_streamed(Connection connection) {
    ferrule::ByteStream stream{std::move(connection)};
    std::vector<std::byte> memory(4096);
    for (;;) {
        const std::size_t count = co_await stream.read_some(memory);
        if (count == 0) break;
        co_await stream.write(std::span{memory}.first(count));
        co_await stream.flush();
    }
}

Task<> echo_by_turns(Connection connection, unsigned turn) {
    switch (turn % 3) {
        case 0:
            return ferrule_test::echo(std::move(connection));
        case 1:
            return echo_buffered(std::move(connection));
        default:
            return echo_streamed(std::move(connection));
    }
}

// ---- the other side, where this one connects ----

/// What listeners and connect() set: an echo in several pieces must not wait for acknowledgements.
void send_at_once(int socket, const Address& address) {
    const int yes = 1;
    if (address.family() != ferrule::AddressFamily::unix_domain)
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

/// A listening socket of a peer.
class Peer {
public:
    explicit Peer(const Address& address) {
        const auto socket = ferrule::open_listen_socket(ferrule::linux_kernel(), {.address = address});
        if (!socket) throw std::runtime_error(socket.error().message);
        number_ = *socket;
        address_ = *ferrule::local_address(ferrule::linux_kernel(), number_);
    }
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    ~Peer() { ferrule::linux_kernel().close(number_); }

    const Address& address() const noexcept { return address_; }

    ClientSocket accept() const {
        pollfd readable{.fd = number_, .events = POLLIN, .revents = 0};
        for (;;) {
            const int accepted = ::accept4(number_, nullptr, nullptr, SOCK_CLOEXEC);
            if (accepted >= 0) {
                ClientSocket client{accepted};
                client.limit_waits(ClientSocket::patience_seconds);
                send_at_once(accepted, address_);
                return client;
            }
            if (errno != EAGAIN && errno != EINTR) throw std::system_error(errno, std::system_category(), "accept");
            if (::poll(&readable, 1, ClientSocket::patience_seconds * 1000) == 0)
                throw std::runtime_error("nobody connects");
        }
    }

private:
    int number_ = -1;
    Address address_;
};

Task<> connect_and_serve(ferrule::Reactor* reactor, Address to, unsigned turn) {
    auto opened = co_await ferrule::connect(*reactor, to);
    if (!opened) throw std::runtime_error(opened.error().message);
    co_await echo_by_turns(std::move(*opened), turn);
}

/// Connects on the first reactor, for another one to serve.
Task<> connect_and_hand_over(Engine* engine, Address to, unsigned number) {
    const int socket = ::socket(to.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket < 0) throw std::system_error(errno, std::system_category(), "socket");
    send_at_once(socket, to);
    auto operation = engine->reactor().submit("connect", [&](ferrule::abi::SubmissionEntry& entry) {
        ferrule::prepare::connect(entry, socket, to.data(), to.size());
    });
    const ferrule::OperationResult ended = co_await operation;
    if (ended.result < 0) throw std::system_error(-ended.result, std::system_category(), "connect");
    engine->reactor(number).post([engine, number, socket] { engine->network(number).adopt(socket, 0); });
}

// ---- the matrix ----

class ConnectionMatrix : public testing::TestWithParam<Cell> {};

std::string name_of(const testing::TestParamInfo<Cell>& info) {
    const auto [home, reactors, queues, side, mode, accepting] = info.param;
    std::string name = home == Home::ipv4 ? "IPv4" : home == Home::ipv6 ? "IPv6" : "Unix";
    name += reactors == 1 ? "_1" : "_4";
    name += queues == Queues::four ? "_SQ4" : "_SQ128";
    name += side == Side::accepting ? "_accepting" : "_connecting";
    name += mode == BufferMode::shared               ? "_shared"
            : mode == BufferMode::shared_incremental ? "_incremental"
                                                     : "_perConnection";
    return name + (accepting == Accepting::each_its_own ? "_own" : "_handedOver");
}

INSTANTIATE_TEST_SUITE_P(Transport, ConnectionMatrix,
                         testing::Combine(testing::Values(Home::ipv4, Home::ipv6, Home::unix_domain),
                                          testing::Values(1u, 4u),
                                          testing::Values(Queues::four, Queues::hundred_twenty_eight),
                                          testing::Values(Side::accepting, Side::connecting),
                                          testing::Values(BufferMode::shared, BufferMode::shared_incremental,
                                                          BufferMode::per_connection_incremental),
                                          testing::Values(Accepting::each_its_own, Accepting::handed_over)),
                         name_of);

Address address_of(Home home) {
    switch (home) {
        case Home::ipv4:
            return Address::loopback(0);
        case Home::ipv6:
            return *Address::parse("::1", 0);
        default:
            return ferrule_test::unique_unix_address();
    }
}

TEST_P(ConnectionMatrix, W_E_messages_of_each_length_come_back_exactly) {
    const auto [home, reactors, queues, side, mode, accepting] = GetParam();
    EngineOptions options;
    options.reactors = reactors;
    options.accepting = accepting;
    options.reactor.submission_entries = queues == Queues::four ? 4 : 128;
    options.reactor.completion_entries = 2 * options.reactor.submission_entries;
    options.network.buffer_mode = mode;
    options.socket.address = address_of(home);
    if (home == Home::ipv6) {
        if (const auto trial = ferrule::open_listen_socket(ferrule::linux_kernel(), options.socket); trial) {
            ferrule::linux_kernel().close(*trial);
        } else {
            GTEST_SKIP() << "no IPv6 here: " << trial.error().message;
        }
    }
    std::atomic<unsigned> turns{0};
    Engine engine{[&](Connection connection) { return echo_by_turns(std::move(connection), turns++); }, options};
    if (engine.network().buffer_mode() != mode) GTEST_SKIP() << "the kernel has no incremental buffers (6.12)";
    const Peer peer{address_of(home)};
    for (const std::size_t length : lengths) {
        in_parallel(connections, [&, from = side, shared = accepting, count = reactors](unsigned number) {
            ClientSocket client;
            if (from == Side::accepting) {
                client = engine.connect_to(number);
            } else {
                const unsigned home_reactor = shared == Accepting::each_its_own ? number % count : 0;
                engine.on_reactor(
                    [&] {
                        ferrule::Reactor& reactor = engine.reactor(home_reactor);
                        ferrule::spawn(reactor, shared == Accepting::each_its_own
                                                    ? connect_and_serve(&reactor, peer.address(), turns++)
                                                    : connect_and_hand_over(&engine, peer.address(), number % count));
                    },
                    home_reactor);
                client = peer.accept();
            }
            for (unsigned turn = 0; turn < exchanges; ++turn) {
                const std::string message = pattern(length, number * exchanges + turn);
                client.send(message);
                EXPECT_TRUE(client.receive(length) == message) << length << ", " << number << ", " << turn;
            }
            client.shutdown_write();
            EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{}) << length << ", " << number;
        });
    }
    EXPECT_EQ(engine.faults(), 0u);
}

}  // namespace
