// UDP of the simulated kernel: the same scripts on Linux, and what only a network between machines shows.
#include <ferrule/sim/datagram_socket.hpp>

#include "sim/socket_calls.hpp"
#include "sim/without_thread_sanitizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/filter.h>
#include <netinet/udp.h>

#include <chrono>
#include <cstring>
#include <set>
#include <string>
#include <vector>

namespace ferrule::test {
namespace {

using sim::Fault;
using sim::SocketAddress;
using testing::ElementsAre;

class UdpSocketTest : public ferrule_test::WithoutThreadSanitizer {};

template <class T>
std::string control_of(int level, int type, const T& value) {
    std::string bytes(CMSG_SPACE(sizeof value), '\0');
    cmsghdr header{};
    header.cmsg_len = CMSG_LEN(sizeof value);
    header.cmsg_level = level;
    header.cmsg_type = type;
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + CMSG_LEN(0), &value, sizeof value);
    return bytes;
}

/// What happens to UDP sockets, in lines that are the same on both kernels whichever ports they chose.
class Datagrams {
public:
    explicit Datagrams(SocketCalls& of_kernel) : calls(of_kernel) {}

    int open(const SocketAddress& address) {
        const int fd = calls.socket(address.family(), SOCK_DGRAM);
        EXPECT_EQ(calls.bind(fd, address), 0);
        names.emplace_back(calls.address(fd), std::string(1, static_cast<char>('a' + names.size())));
        return fd;
    }
    SocketAddress address(int fd) { return calls.address(fd); }
    void send(int fd, std::string_view bytes, const SocketAddress& to = {}, std::string_view control = {}) {
        calls.note("send", calls.send_message(fd, bytes, to, control));
    }
    void receive(int fd, std::size_t room = 100, std::size_t control_room = 200) {
        calls.wait(fd, POLLIN);
        try_receive(fd, room, control_room);
    }
    void try_receive(int fd, std::size_t room = 100, std::size_t control_room = 200) {
        std::string bytes(room, '\0');
        std::string control(control_room, '\0');
        SocketAddress from;
        int flags = 0;
        const long result = calls.receive_message(fd, bytes, from, control, &flags);
        calls.note("receive", result);
        if (result < 0) return;
        std::string& line = calls.log.back();
        line += " " + bytes.substr(0, std::min(room, static_cast<std::size_t>(result)));
        line += " from " + name_of(from) + " flags " + std::to_string(flags) + " control ";
        for (const char byte : control) {
            static constexpr const char* digits = "0123456789abcdef";
            line += digits[static_cast<unsigned char>(byte) >> 4];
            line += digits[static_cast<unsigned char>(byte) & 15];
        }
    }
    void note(std::string_view what, long result) { calls.note(what, result); }

    SocketCalls& calls;
    std::vector<std::pair<SocketAddress, std::string>> names;

private:
    std::string name_of(const SocketAddress& address) {
        for (const auto& [known, name] : names) {
            if (known == address) return name;
            if (known.port() == address.port()) return name + " as " + address.with_port(0).to_string();
        }
        return address.with_port(0).to_string();
    }
};

void script(const std::function<void(Datagrams&)>& steps) {
    expect_same_as_linux([&](SocketCalls& calls) {
        Datagrams datagrams(calls);
        steps(datagrams);
    });
}

TEST_F(UdpSocketTest, DatagramsGoWhereTheyAreSentAndTellWhereTheyCameFrom) {
    script([](Datagrams& udp) {
        const int one = udp.open(loopback());
        const int other = udp.open(loopback());
        udp.try_receive(one);
        udp.send(other, "hello", udp.address(one));
        udp.receive(one);
        udp.send(one, "", udp.address(other));
        udp.receive(other);
        udp.send(one, "too long for the room", udp.address(other));
        udp.receive(other, 8);
        udp.send(one, "nobody");
        udp.note("peer name", udp.calls.address(one, true).family());
        udp.note("listen", udp.calls.listen(one, 1));
        udp.note("shutdown", udp.calls.shutdown(one, SHUT_RD));
        udp.calls.note_events(one);
    });
}

TEST_F(UdpSocketTest, AConnectedSocketHearsItsPeerAlone) {
    script([](Datagrams& udp) {
        const int one = udp.open(loopback());
        const int other = udp.open(loopback());
        const int stranger = udp.open(loopback());
        udp.note("connect", udp.calls.connect(one, udp.address(other)));
        udp.note("connect", udp.calls.connect(other, udp.address(one)));
        udp.calls.note_events(one);
        udp.send(stranger, "from a stranger", udp.address(one));
        udp.send(one, "ping");
        udp.receive(other);
        udp.send(other, "pong");
        udp.receive(one);
        udp.try_receive(one);
        udp.send(one, "elsewhere", udp.address(stranger));
        udp.receive(stranger);
        udp.note("close", udp.calls.close(other));
        udp.send(one, "into the void");
        udp.calls.wait(one, POLLERR);
        udp.calls.note_events(one);
        udp.send(one, "again");
        udp.send(one, "and again");
        udp.calls.wait(one, POLLERR);
        udp.try_receive(one);
        udp.try_receive(one);
    });
}

TEST_F(UdpSocketTest, AddressesAndPortsAreInUseOrNot) {
    script([](Datagrams& udp) {
        const int one = udp.open(loopback());
        const auto taken = udp.address(one);
        const int second = udp.calls.socket(AF_INET, SOCK_DGRAM);
        udp.note("bind", udp.calls.bind(second, taken));
        udp.note("bind", udp.calls.bind(second, SocketAddress::ipv4(0x7f000002, taken.port())));
        udp.note("bind again", udp.calls.bind(second, loopback()));
        const int third = udp.calls.socket(AF_INET6, SOCK_DGRAM);
        udp.note("bind", udp.calls.bind(third, loopback6(taken.port())));
        const int any = udp.calls.socket(AF_INET6, SOCK_DGRAM);
        udp.note("bind", udp.calls.bind(any, SocketAddress::ipv6(in6addr_any, taken.port())));
        udp.note("reuse", udp.calls.set_int(any, SOL_SOCKET, SO_REUSEPORT, 1));
        udp.note("bind", udp.calls.bind(any, SocketAddress::ipv6(in6addr_any, taken.port())));
        udp.note("bind", udp.calls.bind(any, SocketAddress::ipv4(0x0a636363, 0)));
        const int first_of_group = udp.calls.socket(AF_INET, SOCK_DGRAM);
        const int second_of_group = udp.calls.socket(AF_INET, SOCK_DGRAM);
        udp.calls.set_int(first_of_group, SOL_SOCKET, SO_REUSEPORT, 1);
        udp.note("bind", udp.calls.bind(first_of_group, loopback()));
        udp.note("bind", udp.calls.bind(second_of_group, udp.address(first_of_group)));
        udp.calls.set_int(second_of_group, SOL_SOCKET, SO_REUSEPORT, 1);
        udp.note("bind", udp.calls.bind(second_of_group, udp.address(first_of_group)));
    });
}

TEST_F(UdpSocketTest, ControlMessagesTellAddressAndClass) {
    script([](Datagrams& udp) {
        const int one = udp.open(SocketAddress::ipv4(INADDR_ANY, 0));
        const int other = udp.open(loopback());
        udp.note("option", udp.calls.set_int(one, IPPROTO_IP, IP_PKTINFO, 1));
        udp.note("option", udp.calls.set_int(one, IPPROTO_IP, IP_RECVTOS, 1));
        const auto to = loopback(udp.address(one).port());
        udp.send(other, "plain", to);
        udp.receive(one);
        udp.send(other, "marked", to, control_of(IPPROTO_IP, IP_TOS, 2));
        udp.receive(one);
        udp.send(other, "cut", to, control_of(IPPROTO_IP, IP_TOS, 1));
        udp.receive(one, 100, 40);
        udp.send(other, "nothing fits", to, control_of(IPPROTO_IP, IP_TOS, 1));
        udp.receive(one, 100, 10);
        udp.note("option", udp.calls.set_int(other, IPPROTO_IP, IP_TOS, 3));
        udp.send(other, "by option", SocketAddress::ipv4(0x7f000003, to.port()));
        udp.receive(one);
        in_pktinfo info{};
        info.ipi_spec_dst.s_addr = htonl(0x7f000005);
        udp.send(one, "from another address", udp.address(other), control_of(IPPROTO_IP, IP_PKTINFO, info));
        udp.receive(other);
        info.ipi_spec_dst.s_addr = htonl(0x08080808);
        udp.send(one, "from a foreign address", udp.address(other), control_of(IPPROTO_IP, IP_PKTINFO, info));
        udp.send(one, "unknown", udp.address(other), control_of(IPPROTO_IP, 99, 1));
        udp.send(one, "short", udp.address(other), std::string(20, '\0'));
    });
}

TEST_F(UdpSocketTest, ControlMessagesOfIpv6AndOfItsIpv4Guests) {
    script([](Datagrams& udp) {
        const int both = udp.open(SocketAddress::ipv6(in6addr_any, 0));
        const int four = udp.open(loopback());
        const int six = udp.open(loopback6());
        udp.note("option", udp.calls.set_int(both, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
        udp.note("option", udp.calls.set_int(both, IPPROTO_IPV6, IPV6_RECVTCLASS, 1));
        udp.note("option", udp.calls.set_int(both, IPPROTO_IP, IP_RECVTOS, 1));
        const std::uint16_t port = udp.address(both).port();
        udp.send(six, "six", loopback6(port), control_of(IPPROTO_IPV6, IPV6_TCLASS, 2));
        udp.receive(both);
        udp.send(four, "four", loopback(port), control_of(IPPROTO_IP, IP_TOS, 1));
        udp.receive(both);
        udp.send(both, "back", udp.address(six), control_of(IPPROTO_IPV6, IPV6_TCLASS, 1));
        udp.receive(six);
        in6_addr mapped{};
        mapped.s6_addr[10] = mapped.s6_addr[11] = 0xff;
        mapped.s6_addr[12] = 127;
        mapped.s6_addr[15] = 1;
        udp.send(both, "back", SocketAddress::ipv6(mapped, udp.address(four).port()),
                 control_of(IPPROTO_IP, IP_TOS, 2));
        udp.receive(four);
        udp.send(both, "as four", udp.address(four));
        udp.receive(four);
    });
}

TEST_F(UdpSocketTest, ATrainIsCutForWhoDoesNotJoinIt) {
    script([](Datagrams& udp) {
        const int sender = udp.open(loopback());
        const int apart = udp.open(loopback());
        const int together = udp.open(loopback());
        udp.note("option", udp.calls.set_int(together, IPPROTO_UDP, UDP_GRO, 1));
        const std::string bytes = "aaaaabbbbbcc";
        const auto five = control_of(IPPROTO_UDP, UDP_SEGMENT, std::uint16_t{5});
        udp.send(sender, bytes, udp.address(apart), five);
        for (int count = 0; count < 3; ++count) udp.receive(apart);
        udp.send(sender, bytes, udp.address(together), five);
        udp.receive(together);
        udp.send(sender, "five5", udp.address(together), five);
        udp.receive(together);
        udp.send(sender, std::string(1000, 'x'), udp.address(together), five);
        udp.send(sender, bytes, udp.address(together), control_of(IPPROTO_UDP, UDP_SEGMENT, 5));
        udp.note("option", udp.calls.set_int(sender, IPPROTO_UDP, UDP_SEGMENT, 5));
        udp.note("option", udp.calls.get_int(sender, IPPROTO_UDP, UDP_SEGMENT));
        udp.send(sender, bytes, udp.address(apart));
        for (int count = 0; count < 3; ++count) udp.receive(apart);
        udp.send(sender, std::string(70'000, 'x'), udp.address(apart));
        udp.note("option", udp.calls.set_int(sender, IPPROTO_UDP, UDP_SEGMENT, 0));
        udp.send(sender, std::string(65'508, 'x'), udp.address(apart));
    });
}

TEST_F(UdpSocketTest, AProgramChoosesTheSocketByThePayload) {
    script([](Datagrams& udp) {
        std::vector<int> group;
        SocketAddress port;
        for (int count = 0; count < 3; ++count) {
            const int fd = udp.calls.socket(AF_INET, SOCK_DGRAM);
            udp.calls.set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
            udp.note("bind", udp.calls.bind(fd, count == 0 ? loopback() : port));
            port = udp.address(fd);
            group.push_back(fd);
        }
        sock_filter steps[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),  BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 3, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, 1),           BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 1),
            BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), BPF_STMT(BPF_RET | BPF_A, 0),
        };
        const sock_fprog program{.len = std::size(steps), .filter = steps};
        udp.note("attach", udp.calls.set(group[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program));
        const int sender = udp.open(loopback());
        for (const char* key : {"x", "-\1\1-", "-\2\0-", "-\1\3-"}) {
            udp.send(sender, {key, key[0] == 'x' ? 1u : 4u}, port);
            udp.calls.wait(group[0], 0);
            for (const int fd : group) {
                udp.calls.wait(fd, 0);
                udp.try_receive(fd);
            }
        }
    });
}

// ---- Between machines.

struct Exchange {
    std::vector<std::string> received;
    sim::FiredFaults fired;
};

/// So many datagrams from one machine to another.
Exchange exchange(sim::Faults faults, unsigned count, bool joins = false, std::string_view train = {}) {
    Exchange result;
    sim::Simulation simulation{{.faults = std::move(faults)}};
    sim::Machine& here = simulation.machine("here");
    sim::Machine& there = simulation.machine("there");
    simulation.process(there, "receiver", [&] {
        SimulatedCalls calls(simulation, there);
        const int fd = calls.socket(AF_INET, SOCK_DGRAM);
        EXPECT_EQ(calls.bind(fd, there.ipv4(4000)), 0);
        if (joins) EXPECT_EQ(calls.set_int(fd, IPPROTO_UDP, UDP_GRO, 1), 0);
        simulation.sleep(std::chrono::seconds(1));
        for (;;) {
            std::string bytes(65'535, '\0');
            const long length = calls.receive(fd, bytes, 0);
            if (length < 0) break;
            result.received.push_back(bytes.substr(0, static_cast<std::size_t>(length)));
        }
    });
    simulation.process(here, "sender", [&] {
        SimulatedCalls calls(simulation, here);
        const int fd = calls.socket(AF_INET, SOCK_DGRAM);
        simulation.sleep(std::chrono::milliseconds(1));
        for (unsigned number = 0; number < count; ++number) {
            EXPECT_EQ(calls.send_message(fd, std::to_string(number), there.ipv4(4000), {}),
                      static_cast<long>(std::to_string(number).size()));
        }
        if (!train.empty()) {
            EXPECT_EQ(calls.send_message(fd, train, there.ipv4(4000),
                                         control_of(IPPROTO_UDP, UDP_SEGMENT, std::uint16_t{10})),
                      static_cast<long>(train.size()));
        }
    });
    EXPECT_TRUE(simulation.run()) << simulation.findings().front();
    result.fired = simulation.fired();
    return result;
}

TEST_F(UdpSocketTest, WithoutFaultsAllArriveInOrder) {
    EXPECT_THAT(exchange({}, 4).received, ElementsAre("0", "1", "2", "3"));
}

TEST_F(UdpSocketTest, PlacedFaultsLoseDoubleAndReorder) {
    sim::Faults faults;
    faults.placed = {{Fault::datagram_lost, 1}};
    EXPECT_THAT(exchange(faults, 3).received, ElementsAre("0", "2"));
    faults.placed = {{Fault::datagram_doubled, 1}};
    EXPECT_EQ(exchange(faults, 3).received.size(), 4u);
    faults.placed = {{Fault::datagram_overtaken, 0}};
    const auto received = exchange(faults, 3).received;
    EXPECT_THAT(received, testing::UnorderedElementsAre("0", "1", "2"));
    EXPECT_EQ(received.back(), "0");
}

TEST_F(UdpSocketTest, ATrainBetweenMachinesIsJoinedAgain) {
    const std::string train = "0123456789abcdefghijABCD";
    EXPECT_THAT(exchange({}, 0, true, train).received, ElementsAre(train));
    EXPECT_THAT(exchange({}, 0, false, train).received, ElementsAre("0123456789", "abcdefghij", "ABCD"));
    sim::Faults faults;
    faults.placed = {{Fault::datagram_lost, 1}};
    EXPECT_THAT(exchange(faults, 0, true, train).received, ElementsAre("0123456789ABCD"));
}

TEST_F(UdpSocketTest, ASlowReaderLosesWhatDoesNotFit) {
    const auto received = exchange({}, 2000).received;
    EXPECT_LT(received.size(), 500u);
    EXPECT_EQ(received.front(), "0");
}

TEST_F(UdpSocketTest, PeersOfATestTalkAndForge) {
    sim::Simulation simulation{{}};
    sim::Machine& server = simulation.machine("server");
    sim::Machine& client = simulation.machine("client");
    sim::Machine& stranger = simulation.machine("stranger");
    simulation.process(server, "server", [&] {
        auto socket = sim::DatagramSocket::open(server, server.ipv4(53));
        ASSERT_TRUE(socket);
        const auto question = socket->receive();
        ASSERT_TRUE(question);
        EXPECT_EQ(question->bytes, "who?");
        EXPECT_FALSE(socket->send(question->from, "me"));
    });
    simulation.process(client, "client", [&] {
        auto socket = sim::DatagramSocket::open(client, client.ipv4(5353));
        ASSERT_TRUE(socket);
        simulation.sleep(std::chrono::milliseconds(1));
        EXPECT_FALSE(socket->connect(server.ipv4(53)));
        EXPECT_FALSE(socket->send("who?"));
        std::set<std::string> heard;
        heard.insert(socket->receive()->bytes);
        heard.insert(socket->receive()->bytes);
        EXPECT_THAT(heard, ElementsAre("forged", "me"));
        EXPECT_EQ(socket->receive(1'000'000).error(), std::errc::timed_out);
        EXPECT_FALSE(socket->connect(server.ipv4(54)));
        EXPECT_FALSE(socket->send("anybody?"));
        EXPECT_EQ(socket->receive().error(), std::errc::connection_refused);
    });
    simulation.process(stranger, "stranger", [&] {
        simulation.sleep(std::chrono::microseconds(1300));
        sim::DatagramSocket::forge(stranger, server.ipv4(53), client.ipv4(5353), "forged");
    });
    EXPECT_TRUE(simulation.run()) << simulation.findings().front();
}

}  // namespace
}  // namespace ferrule::test
