// What travels between the machines of a simulation: handshakes, segments, windows, losses, and their virtual times.
#include <ferrule/sim/socket.hpp>

#include "sim/network.hpp"
#include "sim/socket_calls.hpp"

#include <netinet/tcp.h>

#include <chrono>

namespace ferrule {
namespace {

using namespace std::chrono_literals;
using sim::Fault;
using sim::SocketAddress;
using test::SimulatedCalls;

constexpr std::uint16_t port = 80;

// A client's program and a server's, on a machine each.
class NetworkTest : public testing::Test {
protected:
    using Program = std::function<void(SimulatedCalls&)>;

    void run(sim::SimulationOptions options, const Program& server, const Program& client) {
        sim::Simulation simulation(std::move(options));
        simulation_ = &simulation;
        server_machine_ = &simulation.machine("server");
        client_machine_ = &simulation.machine("client");
        at_ = server_machine_->ipv4(port);
        const auto start = [&](sim::Machine& machine, const char* name, const Program& program) {
            simulation.process(machine, name, [&, program] {
                SimulatedCalls calls(simulation, machine);
                program(calls);
            });
        };
        start(*server_machine_, "server", server);
        start(*client_machine_, "client", client);
        EXPECT_TRUE(simulation.run()) << simulation.findings().front();
        accounts_ = server_machine_->state().host.network().accounts();
        fired_ = simulation.fired();
        fingerprint_ = simulation.fingerprint();
        simulation_ = nullptr;
    }
    [[nodiscard]] std::chrono::nanoseconds elapsed() const {
        return std::chrono::nanoseconds(simulation_->now_ns() - sim::Simulation::start_ns);
    }
    // Waits for as long as it takes, at most a simulated day.
    static bool comes(SimulatedCalls& calls, int fd, unsigned wanted) {
        for (int tries = 0; tries < 8'640'000; ++tries) {
            if (calls.wait(fd, wanted)) return true;
        }
        return false;
    }

    sim::Simulation* simulation_ = nullptr;
    sim::Machine* server_machine_ = nullptr;
    sim::Machine* client_machine_ = nullptr;
    SocketAddress at_;
    sim::ByteAccounts accounts_;
    sim::FiredFaults fired_;
    std::uint64_t fingerprint_ = 0;
};

TEST_F(NetworkTest, MachinesHaveAddressesOfTheirOwn) {
    sim::Simulation simulation;
    sim::Machine& first = simulation.machine("first");
    sim::Machine& second = simulation.machine("second");
    EXPECT_EQ(first.ipv4(80).to_string(), "10.0.0.1:80");
    EXPECT_EQ(second.ipv6(81).to_string(), "[fd00::2]:81");
    simulation.process(second, "program", [&] {
        SimulatedCalls calls(simulation, second);
        const int fd = calls.socket(AF_INET, SOCK_STREAM);
        EXPECT_EQ(calls.bind(fd, first.ipv4()), -EADDRNOTAVAIL);
        EXPECT_EQ(calls.bind(fd, second.ipv4()), 0);
        const int six = calls.socket(AF_INET6, SOCK_STREAM);
        EXPECT_EQ(calls.bind(six, first.ipv6()), -EADDRNOTAVAIL);
        EXPECT_EQ(calls.bind(six, second.ipv6()), 0);
        EXPECT_EQ(sim::make_socket(second.state().host, AF_INET, SOCK_STREAM, IPPROTO_UDP).error(), -EPROTONOSUPPORT);
        EXPECT_EQ(sim::make_socket(second.state().host, AF_UNIX, SOCK_SEQPACKET, 0).error(), -ESOCKTNOSUPPORT);
    });
    EXPECT_TRUE(simulation.run());
}

TEST_F(NetworkTest, EachMachineHasItsOwnLoopbackAndPorts) {
    run(
        {},
        [&](SimulatedCalls& calls) {
            calls.listener(test::loopback(port));
            simulation_->sleep(1s);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(100ms);
            for (const SocketAddress& to : {test::loopback(port), at_}) {
                const int fd = calls.socket(AF_INET, SOCK_STREAM);
                EXPECT_EQ(calls.connect(fd, to), -EINPROGRESS);
                EXPECT_TRUE(calls.wait(fd, POLLERR));
                EXPECT_EQ(calls.get_int(fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
            }
            calls.listener(test::loopback(port));
        });
}

TEST_F(NetworkTest, AnAddressThatNobodyHasCannotBeReached) {
    run(
        {}, [](SimulatedCalls&) {},
        [&](SimulatedCalls& calls) {
            const int fd = calls.socket(AF_INET, SOCK_STREAM);
            EXPECT_EQ(calls.connect(fd, *SocketAddress::parse("10.0.0.77:80")), -EINPROGRESS);
            EXPECT_EQ(calls.connect(fd, *SocketAddress::parse("10.0.0.77:80")), -EALREADY);
            EXPECT_EQ(calls.events(fd), 0u);
            EXPECT_EQ(calls.send(fd, "x", 0), -EAGAIN);
            EXPECT_TRUE(comes(calls, fd, POLLERR));
            EXPECT_GE(elapsed(), 3s);
            EXPECT_LT(elapsed(), 4s);
            EXPECT_EQ(calls.connect(fd, *SocketAddress::parse("10.0.0.77:80")), -EHOSTUNREACH);
        });
}

TEST_F(NetworkTest, AConnectionToAMachineThatIsCutOffTimesOutAsLinuxsDoes) {
    run(
        {}, [&](SimulatedCalls& calls) { calls.listener(at_); },
        [&](SimulatedCalls& calls) {
            server_machine_->partition();
            const int fd = calls.socket(AF_INET, SOCK_STREAM);
            EXPECT_EQ(calls.connect(fd, at_), -EINPROGRESS);
            EXPECT_TRUE(comes(calls, fd, POLLERR));
            // Seven SYNs, after 1, 2, 4 ... seconds, and 64 seconds after the last.
            EXPECT_GE(elapsed(), 127s);
            EXPECT_LT(elapsed(), 128s);
            EXPECT_EQ(calls.get_int(fd, SOL_SOCKET, SO_ERROR), ETIMEDOUT);
        });
}

TEST_F(NetworkTest, AFullBacklogDropsTheSynAndTheClientTriesAgain) {
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_, 0);
            simulation_->sleep(2500ms);
            EXPECT_GT(calls.accept(listener), 0);
            EXPECT_EQ(calls.accept(listener), -EAGAIN);
            EXPECT_TRUE(comes(calls, listener, POLLIN));
            EXPECT_GE(elapsed(), 3s);
            EXPECT_LT(elapsed(), 3100ms);
            EXPECT_GT(calls.accept(listener), 0);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int first = calls.connected(at_);
            const int second = calls.socket(AF_INET, SOCK_STREAM);
            EXPECT_EQ(calls.connect(second, at_), -EINPROGRESS);
            EXPECT_TRUE(comes(calls, second, POLLOUT));
            EXPECT_GE(elapsed(), 3s);
            EXPECT_EQ(calls.connect(second, at_), 0);
            EXPECT_EQ(calls.events(first) & POLLERR, 0u);
        });
}

TEST_F(NetworkTest, WhoIsDeferredIsAcceptedWithoutDataInTheEnd) {
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            calls.set_int(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
            EXPECT_TRUE(comes(calls, listener, POLLIN));
            // Three retransmissions of the SYN-ACK: 1 + 2 + 4 seconds.
            EXPECT_GE(elapsed(), 7s);
            EXPECT_LT(elapsed(), 8s);
            const int server = calls.accept(listener);
            EXPECT_EQ(calls.send(server, "tired of waiting", 0), 16);
            simulation_->sleep(1s);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int client = calls.connected(at_);
            EXPECT_TRUE(comes(calls, client, POLLIN));
        });
}

TEST_F(NetworkTest, BytesArriveInOrderHoweverTheyAreCut) {
    constexpr std::size_t bytes = 300'000;
    const auto byte_at = [](std::size_t position) { return static_cast<char>(position * 7 + position / 253); };
    for (const bool faults : {false, true}) {
        sim::SimulationOptions options{.seed = faults ? 2u : 1u};
        if (faults) {
            options.faults[Fault::small_segment] = 100'000;
            options.faults[Fault::packet_lost] = 200'000;
            options.faults[Fault::peer_stalls] = 1'000;
            options.faults[Fault::short_send] = 300'000;
            options.faults[Fault::short_receive] = 300'000;
        }
        run(
            options,
            [&](SimulatedCalls& calls) {
                const int listener = calls.listener(at_);
                ASSERT_TRUE(comes(calls, listener, POLLIN));
                const int server = calls.accept(listener);
                std::size_t received = 0;
                std::vector<char> into(10'000);
                while (true) {
                    const long result = calls.receive(server, into, 0);
                    if (result == -EAGAIN) {
                        calls.wait(server, POLLIN);
                        continue;
                    }
                    if (result <= 0) {
                        ASSERT_EQ(result, 0);
                        break;
                    }
                    for (long at = 0; at < result; ++at) {
                        ASSERT_EQ(into[static_cast<std::size_t>(at)], byte_at(received++));
                    }
                }
                EXPECT_EQ(received, bytes);
            },
            [&](SimulatedCalls& calls) {
                simulation_->sleep(10ms);
                const int client = calls.connected(at_);
                std::string all(bytes, '\0');
                for (std::size_t at = 0; at < bytes; ++at) all[at] = byte_at(at);
                std::string_view left = all;
                while (!left.empty()) {
                    const long result = calls.send(client, left.substr(0, 9'999), 0);
                    if (result == -EAGAIN) {
                        calls.wait(client, POLLOUT);
                        continue;
                    }
                    ASSERT_GT(result, 0);
                    left.remove_prefix(static_cast<std::size_t>(result));
                }
                // Closing in order sends the rest all the same.
            });
        EXPECT_EQ(accounts_.sent, bytes);
        EXPECT_EQ(accounts_.received, bytes);
        EXPECT_EQ(accounts_.lost, 0u);
        if (faults) {
            for (const Fault fault :
                 {Fault::small_segment, Fault::packet_lost, Fault::short_send, Fault::short_receive}) {
                EXPECT_GT(fired_[fault].times, 0u) << name_of(fault);
            }
        }
    }
}

TEST_F(NetworkTest, ALostSegmentComesAfterTheRetransmissionTimer) {
    sim::SimulationOptions options;
    // The first packet is the SYN.
    options.faults.placed = {{Fault::packet_lost, 1}};
    run(
        options,
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
            const int server = calls.accept(listener);
            ASSERT_TRUE(comes(calls, server, POLLIN));
            EXPECT_GE(elapsed(), 210ms);
            EXPECT_LT(elapsed(), 300ms);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            EXPECT_EQ(calls.send(calls.connected(at_), "x", 0), 1);
        });
    EXPECT_EQ(fired_[Fault::packet_lost].times, 1u);
    EXPECT_EQ(accounts_.lost, 1u) << "the server closed with it unread";
}

TEST_F(NetworkTest, ALostSynIsSentAgainAfterASecond) {
    sim::SimulationOptions options;
    options.faults.placed = {{Fault::packet_lost, 0}};
    run(
        options, [&](SimulatedCalls& calls) { EXPECT_TRUE(comes(calls, calls.listener(at_), POLLIN)); },
        [&](SimulatedCalls& calls) {
            const int client = calls.socket(AF_INET, SOCK_STREAM);
            EXPECT_EQ(calls.connect(client, at_), -EINPROGRESS);
            EXPECT_TRUE(comes(calls, client, POLLOUT));
            EXPECT_GE(elapsed(), 1s);
            EXPECT_LT(elapsed(), 1100ms);
        });
}

TEST_F(NetworkTest, APathThatIsDownLosesNothingWhenItComesBackInTime) {
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
            const int server = calls.accept(listener);
            ASSERT_TRUE(comes(calls, server, POLLIN));
            EXPECT_GE(elapsed(), 60s);
            std::vector<char> into(100);
            EXPECT_EQ(calls.receive(server, into, 0), 5);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int client = calls.connected(at_);
            client_machine_->partition(*server_machine_);
            EXPECT_EQ(calls.send(client, "hello", 0), 5);
            simulation_->sleep(60s);
            client_machine_->partition(*server_machine_, false);
            EXPECT_TRUE(comes(calls, client, POLLRDHUP));
        });
}

TEST_F(NetworkTest, ABlackHoleEndsAConnectionThatSendsAndNotOneThatWaits) {
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
            const int server = calls.accept(listener);
            // It has nothing to send, so it hears nothing: half open.
            simulation_->sleep(1h);
            EXPECT_EQ(calls.events(server), static_cast<unsigned>(POLLOUT | POLLWRNORM));
            server_machine_->partition(false);
            // Who is asked about a connection that he does not know, resets it.
            EXPECT_EQ(calls.send(server, "still there?", 0), 12);
            EXPECT_TRUE(comes(calls, server, POLLERR));
            EXPECT_EQ(calls.get_int(server, SOL_SOCKET, SO_ERROR), ECONNRESET);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int client = calls.connected(at_);
            simulation_->sleep(1s);
            server_machine_->partition();
            EXPECT_EQ(calls.send(client, "hello", 0), 5);
            EXPECT_TRUE(comes(calls, client, POLLERR));
            // tcp_retries2: 15 retransmissions take 924.6 seconds.
            EXPECT_GE(elapsed(), 924s);
            EXPECT_LT(elapsed(), 927s);
            std::vector<char> into(100);
            EXPECT_EQ(calls.receive(client, into, 0), -ETIMEDOUT);
            EXPECT_EQ(calls.receive(client, into, 0), 0);
            EXPECT_EQ(calls.send(client, "x", 0), -EPIPE);
        });
    EXPECT_EQ(accounts_.lost, 17u);
}

TEST_F(NetworkTest, AUsersTimeoutEndsABlackHoleEarlier) {
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int client = calls.connected(at_);
            EXPECT_EQ(calls.set_int(client, IPPROTO_TCP, TCP_USER_TIMEOUT, 5'000), 0);
            server_machine_->partition();
            EXPECT_EQ(calls.send(client, "hello", 0), 5);
            EXPECT_TRUE(comes(calls, client, POLLERR));
            EXPECT_GE(elapsed(), 5s);
            EXPECT_LT(elapsed(), 6s);
            EXPECT_EQ(calls.get_int(client, SOL_SOCKET, SO_ERROR), ETIMEDOUT);
        });
}

TEST_F(NetworkTest, APeerThatResetsInTheMiddleEndsBothSides) {
    sim::SimulationOptions options;
    options.faults.placed = {{Fault::peer_resets, 1}};
    run(
        options,
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
            const int server = calls.accept(listener);
            ASSERT_TRUE(comes(calls, server, POLLERR));
            std::vector<char> into(100);
            EXPECT_EQ(calls.receive(server, into, 0), 5);
            EXPECT_EQ(calls.receive(server, into, 0), -ECONNRESET);
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int client = calls.connected(at_);
            EXPECT_EQ(calls.send(client, "first", 0), 5);
            simulation_->sleep(1s);
            EXPECT_EQ(calls.send(client, "second", 0), 6);
            ASSERT_TRUE(comes(calls, client, POLLERR));
            EXPECT_EQ(calls.send(client, "x", 0), -ECONNRESET);
        });
    EXPECT_EQ(accounts_.lost, 6u);
}

TEST_F(NetworkTest, AReceiverThatDoesNotReadClosesTheWindow) {
    constexpr int receive_buffer = 8'192;
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            EXPECT_EQ(calls.set_int(listener, SOL_SOCKET, SO_RCVBUF, receive_buffer), 0);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
            const int server = calls.accept(listener);
            simulation_->sleep(5s);
            std::vector<char> into(100'000);
            // A window's worth has come, however long it waited.
            EXPECT_EQ(calls.receive(server, into, 0), receive_buffer);
            std::size_t received = receive_buffer;
            while (received < 20'000) {
                const long result = calls.receive(server, into, 0);
                if (result > 0) received += static_cast<std::size_t>(result);
                if (result == -EAGAIN) {
                    ASSERT_TRUE(calls.wait(server, POLLIN));
                }
            }
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            const int client = calls.connected(at_);
            EXPECT_EQ(calls.set_int(client, SOL_SOCKET, SO_SNDBUF, 20'000), 0);
            const std::string bytes(20'000, 'x');
            EXPECT_EQ(calls.send(client, bytes, 0), 20'000);
            EXPECT_TRUE(comes(calls, client, POLLRDHUP));
        });
    EXPECT_EQ(accounts_.received, 20'000u);
}

TEST_F(NetworkTest, ACloseThatIsDelayedStillEndsTheConnection) {
    sim::SimulationOptions options;
    options.faults[Fault::close_delayed] = 1'000'000;
    run(
        options,
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_);
            ASSERT_TRUE(comes(calls, listener, POLLIN));
            const int server = calls.accept(listener);
            ASSERT_TRUE(comes(calls, server, POLLRDHUP));
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            calls.close(calls.connected(at_));
        });
    EXPECT_GT(fired_[Fault::close_delayed].times, 0u);
}

TEST_F(NetworkTest, TheSameSeedIsTheSameRun) {
    const auto fingerprint = [&](std::uint64_t seed) {
        sim::SimulationOptions options{.seed = seed, .faults = sim::Faults::usual()};
        options.faults[Fault::peer_resets] = 0;
        run(
            options,
            [&](SimulatedCalls& calls) {
                const int listener = calls.listener(at_);
                for (int count = 0; count < 20; ++count) {
                    ASSERT_TRUE(comes(calls, listener, POLLIN));
                    const int server = calls.accept(listener);
                    ASSERT_TRUE(comes(calls, server, POLLIN));
                    std::vector<char> into(100);
                    ASSERT_GT(calls.receive(server, into, 0), 0);
                    calls.close(server);
                }
            },
            [&](SimulatedCalls& calls) {
                simulation_->sleep(10ms);
                for (int count = 0; count < 20; ++count) {
                    const int client = calls.socket(AF_INET, SOCK_STREAM);
                    ASSERT_EQ(calls.connect(client, at_), -EINPROGRESS);
                    ASSERT_TRUE(comes(calls, client, POLLOUT));
                    ASSERT_GT(calls.send(client, "hello", 0), 0);
                    ASSERT_TRUE(comes(calls, client, POLLRDHUP));
                    calls.close(client);
                }
            });
        return fingerprint_;
    };
    EXPECT_EQ(fingerprint(1), fingerprint(1));
    EXPECT_NE(fingerprint(1), fingerprint(2));
}

// More than there are ephemeral ports, one after the other: nothing is left of any.
TEST_F(NetworkTest, ConnectionsComeAndGoWithoutGrowth) {
    constexpr int connections = 40'000;
    run(
        {},
        [&](SimulatedCalls& calls) {
            const int listener = calls.listener(at_, 100);
            sim::File& file = calls.file(listener);
            sim::Network& network = server_machine_->state().host.network();
            for (int count = 0; count < connections; ++count) {
                for (;;) {
                    auto accepted = file.accept(nullptr, nullptr);
                    if (accepted) break;  // and is closed at once
                    simulation_->sleep(50us);
                }
                EXPECT_LT(network.connections(), 20u);
            }
        },
        [&](SimulatedCalls& calls) {
            simulation_->sleep(10ms);
            for (int count = 0; count < connections; ++count) {
                const int client = calls.socket(AF_INET, SOCK_STREAM);
                ASSERT_EQ(calls.connect(client, at_), -EINPROGRESS);
                while ((calls.events(client) & POLLOUT) == 0) simulation_->sleep(50us);
                calls.close(client);
            }
        });
}

}  // namespace
}  // namespace ferrule
