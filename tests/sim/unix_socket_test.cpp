// Each script runs on Linux's sockets and on the simulated ones, and must give the same results, errors and events.
#include "sim/socket_calls.hpp"
#include "sim/unix_socket.hpp"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

namespace ferrule {
namespace {

using sim::SocketAddress;
using test::expect_same_as_linux;
using test::SocketCalls;

SocketAddress unnamed() {
    const sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    return *SocketAddress::from(reinterpret_cast<const sockaddr*>(&address), sizeof address.sun_family);
}

// A name that the kernel chooses, so that nobody else has it.
SocketAddress choose_name(SocketCalls& calls) {
    const int fd = calls.socket(AF_UNIX, SOCK_STREAM);
    EXPECT_EQ(calls.bind(fd, unnamed()), 0);
    const SocketAddress name = calls.address(fd);
    calls.close(fd);
    return name;
}

SocketCalls::Pair unix_pair(SocketCalls& calls) {
    const int listener = calls.socket(AF_UNIX, SOCK_STREAM);
    EXPECT_EQ(calls.bind(listener, unnamed()), 0);
    EXPECT_EQ(calls.listen(listener, 4), 0);
    const int client = calls.socket(AF_UNIX, SOCK_STREAM);
    EXPECT_EQ(calls.connect(client, calls.address(listener)), 0);
    return {client, calls.accept(listener), listener};
}

TEST(UnixSocket, OneThatIsNotConnectedSaysSo) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
        expect_same_as_linux([type](SocketCalls& calls) {
            const int fd = calls.socket(AF_UNIX, type);
            calls.note_events(fd);
            calls.note_receive(fd);
            calls.note_send(fd, "x");
            calls.note("accept", calls.accept(fd));
            calls.note("peer", calls.address(fd, true).family());
            calls.log.push_back(calls.address(fd).to_string());
            calls.note("size", static_cast<long>(calls.address(fd).size()));
            calls.note("listen", calls.listen(fd, 1));
            calls.note("type", calls.get_int(fd, SOL_SOCKET, SO_TYPE));
            calls.note("domain", calls.get_int(fd, SOL_SOCKET, SO_DOMAIN));
            calls.note("protocol", calls.get_int(fd, SOL_SOCKET, SO_PROTOCOL));
            calls.note("tcp", calls.set_int(fd, IPPROTO_TCP, 1, 1));
            calls.note_error(fd);
            calls.note("shutdown", calls.shutdown(fd, SHUT_RDWR));
            calls.note("shutdown", calls.shutdown(fd, 9));
            calls.note_events(fd);
        });
    }
}

TEST(UnixSocket, BytesArriveAndReadinessFollows) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = unix_pair(calls);
        calls.note_events(listener);
        calls.note_events(client);
        calls.note_receive(client);
        calls.note_send(client, "hello");
        calls.note_events(server);
        calls.note_receive(server, 2, MSG_PEEK);
        calls.note_receive(server, 2);
        calls.note_receive(server);
        calls.note_receive(server);
        calls.note("connect", calls.connect(client, calls.address(listener)));
        calls.note("connect", calls.connect(listener, calls.address(listener)));
        calls.note("listen", calls.listen(client, 1));
        calls.note("accept", calls.accept(listener));
    });
}

TEST(UnixSocket, ShuttingOneSideShutsTheOthers) {
    for (const int how : {SHUT_RD, SHUT_WR, SHUT_RDWR}) {
        expect_same_as_linux([how](SocketCalls& calls) {
            const auto [client, server, listener] = unix_pair(calls);
            calls.note_send(client, "before");
            calls.note("shutdown", calls.shutdown(client, how));
            calls.note_events(client);
            calls.note_events(server);
            calls.note_send(client, "x");
            calls.note_send(server, "y");
            calls.note_receive(client);
            calls.note_receive(server);
            calls.note_receive(server);
            calls.note("peer", calls.address(client, true).family());
        });
    }
}

TEST(UnixSocket, ClosingEndsTheStreamOrResetsIt) {
    for (const bool unread : {false, true}) {
        expect_same_as_linux([unread](SocketCalls& calls) {
            const auto [client, server, listener] = unix_pair(calls);
            if (unread) calls.note_send(client, "unread");
            calls.note_send(server, "answer");
            calls.close(server);
            calls.note_events(client);
            calls.note_receive(client);
            calls.note_receive(client);
            calls.note_receive(client);
            calls.note_send(client, "x");
            calls.note_error(client);
            calls.note("peer", calls.address(client, true).family());
        });
    }
}

TEST(UnixSocket, ClosingAListenerResetsWhatNobodyAccepted) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.bind(listener, unnamed());
        const SocketAddress at = calls.address(listener);
        const int early = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(early, at));
        calls.note("listen", calls.listen(listener, 1));
        // One more than the backlog fits.
        int client = -1;
        for (int count = 0; count < 3; ++count) {
            client = calls.socket(AF_UNIX, SOCK_STREAM);
            calls.note("connect", calls.connect(client, at));
        }
        calls.note("accepted", calls.accept(listener) > 0);
        calls.note("connect", calls.connect(client, at));
        calls.note_send(client, "x");
        calls.close(listener);
        calls.note_events(client);
        calls.note_receive(client);
        calls.note_receive(client);
        calls.note_send(client, "x");
        const int late = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(late, at));
    });
}

TEST(UnixSocket, AListenerThatIsShutAcceptsWhatCameAndNoMore) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.bind(listener, unnamed());
        calls.listen(listener, 4);
        const int client = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(client, calls.address(listener)));
        calls.note("shutdown", calls.shutdown(listener, SHUT_RDWR));
        calls.note_events(listener);
        calls.note("accepted", calls.accept(listener) > 0);
        const int late = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(late, calls.address(listener)));
        calls.note("listens", calls.get_int(listener, SOL_SOCKET, SO_ACCEPTCONN));
    });
}

TEST(UnixSocket, PathsStayWhenTheirSocketsGo) {
    char directory[] = "/tmp/ferrule-unix-socket-XXXXXX";
    ASSERT_NE(::mkdtemp(directory), nullptr);
    const std::string path = std::string(directory) + "/socket";
    expect_same_as_linux([&](SocketCalls& calls) {
        const SocketAddress at = *SocketAddress::parse("unix:" + path);
        const int listener = calls.socket(AF_UNIX, SOCK_STREAM);
        const int client = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(client, at));
        calls.note("bind", calls.bind(listener, at));
        calls.note("bind", calls.bind(listener, unnamed()));
        calls.note("bind", calls.bind(client, at));
        calls.note("connect", calls.connect(client, at));
        calls.note("listen", calls.listen(listener, 1));
        const int datagram = calls.socket(AF_UNIX, SOCK_DGRAM);
        calls.note("connect", calls.connect(datagram, at));
        calls.note("connect", calls.connect(client, at));
        const int server = calls.accept(listener);
        calls.note("name", calls.address(client, true) == at);
        calls.note("name", calls.address(server) == at);
        calls.log.push_back(calls.address(server, true).to_string());
        calls.note("length", static_cast<long>(calls.address(listener).size()) == static_cast<long>(at.size()));
        calls.close(listener);
        const int late = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(late, at));
        calls.note("bind", calls.bind(late, at));
        ::unlink(path.c_str());
    });
    ::rmdir(directory);
}

TEST(UnixSocket, AbstractNamesGoWithTheirSockets) {
    expect_same_as_linux([](SocketCalls& calls) {
        const SocketAddress name = choose_name(calls);
        calls.note("length", static_cast<long>(name.size()));
        const int first = calls.socket(AF_UNIX, SOCK_STREAM);
        const int second = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(second, name));
        calls.note("bind", calls.bind(first, name));
        calls.note("bind", calls.bind(second, name));
        calls.close(first);
        calls.note("bind", calls.bind(second, name));
        calls.note("bind", calls.bind(second, name));
        calls.note("connect", calls.connect(second, *SocketAddress::parse("127.0.0.1:1")));
    });
}

TEST(UnixSocket, DatagramsKeepTheirBounds) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int receiver = calls.socket(AF_UNIX, SOCK_DGRAM);
        const int sender = calls.socket(AF_UNIX, SOCK_DGRAM);
        calls.note("bind", calls.bind(receiver, unnamed()));
        calls.note("connect", calls.connect(sender, calls.address(receiver)));
        calls.note_events(sender);
        calls.note_events(receiver);
        calls.note_send(sender, "first");
        calls.note_send(sender, "");
        calls.note_send(sender, "second one");
        calls.note_events(receiver);
        calls.note_receive(receiver, 100, MSG_PEEK);
        calls.note_receive(receiver);
        calls.note_receive(receiver);
        calls.note_receive(receiver, 3, MSG_TRUNC);
        calls.note_receive(receiver);
        // The receiver's queue holds eleven.
        long result = 0;
        int count = 0;
        while ((result = calls.send(sender, "x", 0)) > 0) ++count;
        calls.note("count", count);
        calls.note("full", result);
        calls.note_events(sender);
        calls.note_receive(receiver);
        calls.note_events(sender);
        calls.close(receiver);
        calls.note_events(sender);
        calls.note_send(sender, "x");
        calls.note_send(sender, "x");
    });
}

TEST(UnixSocket, ADatagramSocketCanBeItsOwnPeer) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int fd = calls.socket(AF_UNIX, SOCK_DGRAM);
        calls.note("bind", calls.bind(fd, unnamed()));
        calls.note("connect", calls.connect(fd, calls.address(fd)));
        calls.note("same", calls.address(fd) == calls.address(fd, true));
        for (int count = 0; count < 20; ++count) calls.note_send(fd, "to myself");
        calls.note_events(fd);
        for (int count = 0; count < 21; ++count) calls.note_receive(fd);
    });
}

TEST(UnixSocket, AFullBufferHasRoomAgainWhenAQuarterIsLeft) {
    test::simulated([](SocketCalls& calls) {
        const auto [client, server, listener] = unix_pair(calls);
        const std::string piece(10'000, 'x');
        long sent = 0;
        for (long result = 0; (result = calls.send(client, piece, 0)) > 0;) sent += result;
        EXPECT_EQ(sent, 212'992);
        EXPECT_EQ(calls.events(client) & POLLOUT, 0u);
        std::vector<char> into(150'000);
        EXPECT_EQ(calls.receive(server, into, 0), 150'000);
        EXPECT_EQ(calls.events(client) & POLLOUT, 0u);
        EXPECT_EQ(calls.receive(server, std::span(into).first(20'000), 0), 20'000);
        EXPECT_NE(calls.events(client) & POLLOUT, 0u);
    });
}

TEST(UnixSocket, ThePathsOfAMachineHaveModes) {
    sim::Simulation simulation;
    sim::Machine& machine = simulation.machine("host");
    simulation.process(machine, "program", [&] {
        sim::Host& host = machine.state().host;
        test::SimulatedCalls calls(simulation, machine);
        unsigned mode = 0;
        EXPECT_EQ(host.status("/run/socket", &mode), -ENOENT);
        EXPECT_EQ(host.change_mode("/run/socket", 0600), -ENOENT);
        EXPECT_EQ(host.unlink("/run/socket"), -ENOENT);
        const int fd = calls.socket(AF_UNIX, SOCK_STREAM);
        EXPECT_EQ(calls.bind(fd, *SocketAddress::parse("unix:/run/socket")), 0);
        EXPECT_EQ(host.status("/run/socket", &mode), 0);
        EXPECT_TRUE(S_ISSOCK(mode));
        EXPECT_EQ(host.change_mode("/run/socket", 0600), 0);
        EXPECT_EQ(host.status("/run/socket", &mode), 0);
        EXPECT_EQ(mode, static_cast<unsigned>(S_IFSOCK) | 0600u);
        EXPECT_EQ(host.unlink("/run/socket"), 0);
        EXPECT_EQ(host.status("/run/socket", &mode), -ENOENT);
        const int other = calls.socket(AF_UNIX, SOCK_STREAM);
        EXPECT_EQ(calls.bind(other, *SocketAddress::parse("unix:/run/socket")), 0);
        // The one that was unlinked takes nothing with it.
        calls.close(fd);
        EXPECT_EQ(calls.listen(other, 1), 0);
        EXPECT_EQ(calls.connect(calls.socket(AF_UNIX, SOCK_STREAM), calls.address(other)), 0);
    });
    EXPECT_TRUE(simulation.run());
}

// ---- descriptors ----

std::string rights(std::initializer_list<int> descriptors, int type = SCM_RIGHTS) {
    const std::size_t bytes = descriptors.size() * sizeof(int);
    std::string control(CMSG_SPACE(bytes), '\0');
    auto* const header = reinterpret_cast<cmsghdr*>(control.data());
    header->cmsg_len = CMSG_LEN(bytes);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = type;
    std::memcpy(CMSG_DATA(header), std::data(descriptors), bytes);
    return control;
}

void note_send_with(SocketCalls& calls, int fd, std::string_view bytes, const std::string& control) {
    calls.note("send with", calls.send_message(fd, bytes, {}, control));
}

// What comes, with as many descriptors as there is room for: these.
std::vector<int> note_receive_with(SocketCalls& calls, int fd, std::size_t limit, std::size_t room_bytes) {
    std::string bytes(limit, '\0');
    std::string control(room_bytes, '\0');
    SocketAddress from;
    int flags = 0;
    const long result = calls.receive_message(fd, bytes, from, control, &flags);
    calls.note("receive with", result);
    std::vector<int> descriptors;
    if (result <= 0) return descriptors;
    calls.log.back().append(1, ' ').append(bytes, 0, static_cast<std::size_t>(result));
    calls.note("truncated", (flags & MSG_CTRUNC) != 0 ? 1 : 0);
    calls.note("control", static_cast<long>(control.size()));
    if (control.size() < sizeof(cmsghdr)) return descriptors;
    const auto* const header = reinterpret_cast<const cmsghdr*>(control.data());
    calls.note("type", header->cmsg_type);
    descriptors.resize((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(descriptors.data(), CMSG_DATA(header), descriptors.size() * sizeof(int));
    calls.note("descriptors", static_cast<long>(descriptors.size()));
    for (const int descriptor : descriptors) calls.own(descriptor);
    return descriptors;
}

constexpr std::size_t room_for_many = CMSG_SPACE(8 * sizeof(int));

TEST(UnixSocket, AListenerIsPassedAndOutlivesTheSendersDescriptor) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = unix_pair(calls);
        const SocketAddress name = calls.address(listener);
        const int early = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(early, name));
        note_send_with(calls, client, "hello", rights({listener}));
        calls.note("close", calls.close(listener));
        calls.note_events(server);
        const auto passed = note_receive_with(calls, server, 2, room_for_many);
        note_receive_with(calls, server, 100, room_for_many);
        note_receive_with(calls, server, 100, room_for_many);
        ASSERT_EQ(passed.size(), 1u);
        calls.note("listens", calls.get_int(passed[0], SOL_SOCKET, SO_ACCEPTCONN));
        const int late = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(late, name));
        for (const int connected : {early, late}) {
            const int accepted = calls.accept(passed[0]);
            calls.note_send(connected, "served");
            calls.note_receive(accepted);
        }
        calls.note("close", calls.close(passed[0]));
        const int too_late = calls.socket(AF_UNIX, SOCK_STREAM);
        calls.note("connect", calls.connect(too_late, name));
    });
}

TEST(UnixSocket, AReceiveEndsBehindThePieceThatDescriptorsCameWith) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = unix_pair(calls);
        calls.note_send(client, "before ");
        note_send_with(calls, client, "with ", rights({client}));
        note_send_with(calls, client, "again ", rights({listener, server, client}));
        calls.note_send(client, "behind");
        note_receive_with(calls, server, 100, room_for_many);
        note_receive_with(calls, server, 3, room_for_many);
        note_receive_with(calls, server, 100, room_for_many);
        note_receive_with(calls, server, 100, room_for_many);
    });
}

TEST(UnixSocket, DescriptorsWithoutRoomAreClosed) {
    for (const std::size_t room : {std::size_t{0}, CMSG_LEN(0), CMSG_LEN(sizeof(int)), CMSG_SPACE(sizeof(int))}) {
        expect_same_as_linux([room](SocketCalls& calls) {
            const auto [client, server, listener] = unix_pair(calls);
            const auto [first, first_end, first_listener] = unix_pair(calls);
            const auto [second, second_end, second_listener] = unix_pair(calls);
            const auto [third, third_end, third_listener] = unix_pair(calls);
            note_send_with(calls, client, "three", rights({first_end, second_end, third_end}));
            for (const int end : {first_end, second_end, third_end}) calls.close(end);
            calls.note_events(first);
            note_receive_with(calls, server, 100, room);
            // Linux closes them when the call has returned.
            calls.note_wait(third, POLLHUP);
            calls.note_events(first);
            calls.note_events(second);
        });
    }
}

TEST(UnixSocket, DescriptorsThatNobodyTakesGoWithTheBytesOrTheSocket) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = unix_pair(calls);
        const auto [first, first_end, first_listener] = unix_pair(calls);
        const auto [second, second_end, second_listener] = unix_pair(calls);
        note_send_with(calls, client, "one", rights({first_end}));
        note_send_with(calls, client, "two", rights({second_end}));
        calls.close(first_end);
        calls.close(second_end);
        calls.note_receive(server);
        calls.note_wait(first, POLLHUP);
        calls.note_events(second);
        calls.close(server);
        calls.note_wait(second, POLLHUP);
    });
}

TEST(UnixSocket, WhatIsNoDescriptorIsNotPassed) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = unix_pair(calls);
        note_send_with(calls, client, "x", rights({999}));
        note_send_with(calls, client, "x", rights({client}, 99));
        std::string longer = rights({client});
        reinterpret_cast<cmsghdr*>(longer.data())->cmsg_len += 64;
        note_send_with(calls, client, "x", longer);
        note_send_with(calls, client, "", rights({client}));
        calls.close(server);
        note_send_with(calls, client, "x", rights({client}));
        note_send_with(calls, client, "x", rights({999}));
        calls.note_events(client);
    });
}

}  // namespace
}  // namespace ferrule
