// Each script runs on Linux's sockets and on the simulated ones, and must give the same results, errors and events.
#include "sim/socket_calls.hpp"
#include "sim/tcp_socket.hpp"

#include <linux/filter.h>
#include <netinet/tcp.h>

#include <array>

namespace ferrule {
namespace {

using sim::SocketAddress;
using test::expect_same_as_linux;
using test::loopback;
using test::loopback6;
using test::SocketCalls;

TEST(TcpSocket, OneThatIsNotConnectedSaysSo) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int fd = calls.socket(AF_INET, SOCK_STREAM);
        calls.note_events(fd);
        calls.note_receive(fd);
        calls.note_send(fd, "x");
        calls.note("accept", calls.accept(fd));
        calls.note("peer", calls.address(fd, true).family());
        calls.log.push_back(calls.address(fd).to_string());
        calls.note_error(fd);
        calls.note("shutdown", calls.shutdown(fd, SHUT_RDWR));
        calls.note("shutdown", calls.shutdown(fd, 7));
        calls.note_events(fd);
        calls.note_receive(fd);
    });
}

TEST(TcpSocket, BytesArriveAndReadinessFollows) {
    for (const SocketAddress& at : {loopback(), loopback6()}) {
        expect_same_as_linux([&](SocketCalls& calls) {
            const int listener = calls.listener(at);
            calls.note_events(listener);
            calls.note("accept", calls.accept(listener));
            const int client = calls.connected(calls.address(listener));
            calls.note_events(client);
            calls.note_wait(listener, POLLIN);
            calls.note_events(listener);
            const int server = calls.accept(listener);
            calls.note_events(listener);
            calls.note_events(server);
            calls.note_receive(server);
            calls.note_send(client, "hello");
            calls.note_wait(server, POLLIN);
            calls.note_events(server);
            calls.note_receive(server, 2);
            calls.note_receive(server, 100, MSG_PEEK);
            calls.note_receive(server, 0);
            calls.note_receive(server);
            calls.note_receive(server);
            calls.note_events(server);
            calls.note_send(server, "");
            calls.note_receive(client, 100, MSG_OOB);
        });
    }
}

TEST(TcpSocket, FinEndsOneDirectionOnly) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        calls.note_send(client, "last");
        calls.note("shutdown", calls.shutdown(client, SHUT_WR));
        calls.note_events(client);
        calls.note_send(client, "x");
        calls.note_wait(server, POLLRDHUP);
        calls.note_events(server);
        calls.note_receive(server);
        calls.note_receive(server);
        calls.note_receive(server);
        calls.note_send(server, "answer");
        calls.note_wait(client, POLLIN);
        calls.note_receive(client);
        calls.note_receive(client);
        calls.note("shutdown", calls.shutdown(server, SHUT_WR));
        calls.note_wait(client, POLLRDHUP);
        calls.note_wait(server, POLLHUP);
        calls.note_events(client);
        calls.note_events(server);
        calls.note_receive(client);
        calls.note_send(server, "x");
        calls.note_error(client);
        calls.note("peer", calls.address(client, true).family());
        calls.note("shutdown", calls.shutdown(server, SHUT_RDWR));
    });
}

TEST(TcpSocket, DataToOneThatIsClosedIsAnsweredWithAReset) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        calls.close(server);
        calls.note_wait(client, POLLRDHUP);
        calls.note_events(client);
        calls.note_send(client, "nobody reads it");
        calls.note_wait(client, POLLERR);
        calls.note_events(client);
        calls.note_receive(client);
        calls.note_events(client);
        calls.note_send(client, "x");
        calls.note_send(client, "x");
        calls.note_events(client);
        calls.note("peer", calls.address(client, true).family());
        calls.note("shutdown", calls.shutdown(client, SHUT_WR));
    });
}

TEST(TcpSocket, AResetAfterHalfAConnectionIsAReset) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        calls.note("shutdown", calls.shutdown(client, SHUT_WR));
        calls.note_wait(server, POLLRDHUP);
        const linger now{.l_onoff = 1, .l_linger = 0};
        calls.note("linger", calls.set(server, SOL_SOCKET, SO_LINGER, &now, sizeof now));
        calls.close(server);
        calls.note_wait(client, POLLERR);
        calls.note_events(client);
        calls.note_receive(client);
        calls.note_receive(client);
    });
}

TEST(TcpSocket, ClosingWithUnreadBytesResets) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        calls.note_send(client, "unread");
        calls.note_wait(server, POLLIN);
        calls.note_send(server, "answer");
        calls.note_wait(client, POLLIN);
        calls.close(server);
        calls.note_wait(client, POLLERR);
        calls.note_events(client);
        // What came before the reset can still be read: then the error, once, then the end.
        calls.note_receive(client);
        calls.note_receive(client);
        calls.note_events(client);
        calls.note_receive(client);
        calls.note_send(client, "x");
    });
}

TEST(TcpSocket, TheFirstSendAfterAResetSaysSo) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        const linger now{.l_onoff = 1, .l_linger = 0};
        calls.note("linger", calls.set(server, SOL_SOCKET, SO_LINGER, &now, sizeof now));
        calls.close(server);
        calls.note_wait(client, POLLERR);
        calls.note_send(client, "x");
        calls.note_send(client, "x");
        calls.note_receive(client);
        calls.note_error(client);
    });
}

TEST(TcpSocket, TheErrorThatIsAskedForIsTaken) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        const linger now{.l_onoff = 1, .l_linger = 0};
        calls.set(server, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        calls.close(server);
        calls.note_wait(client, POLLERR);
        calls.note_error(client);
        calls.note_events(client);
        calls.note_error(client);
        calls.note_receive(client);
    });
}

TEST(TcpSocket, ShutReceivingStillTakesWhatComes) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        calls.note("shutdown", calls.shutdown(server, SHUT_RD));
        calls.note_events(server);
        calls.note_receive(server);
        calls.note_send(client, "late");
        calls.note_wait(server, POLLIN);
        calls.note_receive(server);
        calls.note_receive(server);
    });
}

TEST(TcpSocket, DataAfterBothDirectionsAreShutResets) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        calls.note("shutdown", calls.shutdown(server, SHUT_RDWR));
        calls.note_events(server);
        calls.note_wait(client, POLLRDHUP);
        calls.note_send(client, "late");
        calls.note_wait(client, POLLERR);
        calls.note_events(client);
        calls.note_events(server);
        calls.note_receive(server);
        calls.note_send(server, "x");
        calls.note_error(server);
    });
}

TEST(TcpSocket, ARefusedConnectionCanBeTriedAgain) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.listener(loopback());
        const int taken = calls.socket(AF_INET, SOCK_STREAM);
        calls.note("bind", calls.bind(taken, loopback()));
        const int fd = calls.socket(AF_INET, SOCK_STREAM);
        calls.note("connect", calls.connect(fd, calls.address(taken)));
        calls.note_wait(fd, POLLHUP);
        calls.note_events(fd);
        calls.note("connect", calls.connect(fd, calls.address(taken)));
        calls.note_events(fd);
        calls.note("connect", calls.connect(fd, calls.address(taken)));
        calls.note_wait(fd, POLLHUP);
        calls.note_error(fd);
        calls.note("connect", calls.connect(fd, calls.address(listener)));
        calls.note("connect", calls.connect(fd, calls.address(listener)));
        calls.note_wait(fd, POLLOUT);
        calls.note("connect", calls.connect(fd, calls.address(listener)));
        calls.note("connect", calls.connect(fd, calls.address(listener)));
        calls.note("listen", calls.listen(fd, 1));
        calls.note("bind", calls.bind(fd, loopback()));
        calls.note("connect", calls.connect(listener, calls.address(listener)));
        calls.note_receive(listener);
        calls.note_send(listener, "x");
        calls.note("bind", calls.bind(listener, loopback()));
    });
}

TEST(TcpSocket, AddressesThatDoNotFitAreRefused) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int four = calls.socket(AF_INET, SOCK_STREAM);
        const int six = calls.socket(AF_INET6, SOCK_STREAM);
        calls.note("bind", calls.bind(four, loopback6()));
        calls.note("bind", calls.bind(six, loopback()));
        calls.note("connect", calls.connect(four, loopback6(1)));
        calls.note("connect", calls.connect(six, loopback(1)));
        calls.note("bind", calls.bind(four, *SocketAddress::parse("203.0.113.7:0")));
        calls.note("bind", calls.bind(six, *SocketAddress::parse("[2001:db8::7]:0")));
        calls.note("v6only", calls.set_int(six, IPPROTO_IPV6, IPV6_V6ONLY, 1));
        calls.note("bind", calls.bind(six, *SocketAddress::parse("[::ffff:127.0.0.1]:0")));
        calls.note("connect", calls.connect(six, *SocketAddress::parse("[::ffff:127.0.0.1]:1")));
        calls.note("bind", calls.bind(six, loopback6()));
        calls.note("v6only", calls.set_int(six, IPPROTO_IPV6, IPV6_V6ONLY, 0));
        calls.note("v6only", calls.get_int(six, IPPROTO_IPV6, IPV6_V6ONLY));
        calls.note("v6only", calls.set_int(four, IPPROTO_IPV6, IPV6_V6ONLY, 0));
        calls.note("family", calls.socket(AF_APPLETALK, SOCK_STREAM));
        calls.note("type", calls.socket(AF_INET, SOCK_SEQPACKET));
    });
}

TEST(TcpSocket, NamesAreThoseOfItsFamily) {
    expect_same_as_linux([](SocketCalls& calls) {
        // A dual-stack listener sees an IPv4 client in its mapped form.
        const int listener = calls.listener(*SocketAddress::parse("[::]:0"));
        const std::uint16_t port = calls.address(listener).port();
        const int client = calls.connected(loopback(port));
        calls.note_wait(listener, POLLIN);
        const int server = calls.accept(listener);
        const auto without_port = [&](int fd, bool peer) {
            const SocketAddress address = calls.address(fd, peer);
            calls.log.push_back(address.with_port(address.port() == port ? 1 : 2).to_string());
        };
        for (const int fd : {listener, client, server}) {
            without_port(fd, false);
            without_port(fd, true);
        }
        // What does not fit is cut, and the length says how much there is.
        sockaddr_in6 name{};
        socklen_t length = 4;
        calls.note("name", calls.name(server, false, reinterpret_cast<sockaddr*>(&name), &length));
        calls.note("length", static_cast<long>(length));
        calls.note("family", name.sin6_family);
        const int mapped = calls.connected(*SocketAddress::parse("[::ffff:127.0.0.1]:" + std::to_string(port)));
        without_port(mapped, false);
        without_port(mapped, true);
        const int any = calls.connected(SocketAddress::ipv4(INADDR_ANY, port));
        without_port(any, true);
        const int any6 = calls.connected(*SocketAddress::parse("[::]:" + std::to_string(port)));
        without_port(any6, true);
    });
}

TEST(TcpSocket, PortsAreSharedByLinuxsRules) {
    expect_same_as_linux([](SocketCalls& calls) {
        struct Case {
            const char* first;
            const char* second;
            int reuse;
            bool first_listens;
        };
        const Case cases[] = {
            {"127.0.0.1", "127.0.0.1", 0, false},
            {"127.0.0.1", "127.0.0.1", SO_REUSEADDR, false},
            {"127.0.0.1", "127.0.0.1", SO_REUSEADDR, true},
            {"127.0.0.1", "127.0.0.1", SO_REUSEPORT, false},
            {"127.0.0.1", "127.0.0.1", SO_REUSEPORT, true},
            {"127.0.0.1", "127.0.0.2", 0, true},
            {"127.0.0.1", "0.0.0.0", 0, true},
            {"127.0.0.1", "0.0.0.0", SO_REUSEADDR, true},
            {"127.0.0.1", "[::]", SO_REUSEADDR, true},
            {"127.0.0.1", "[::1]", 0, true},
            {"127.0.0.1", "[::ffff:127.0.0.1]", 0, true},
            {"0.0.0.0", "[::]", SO_REUSEPORT, true},
            {"[::]", "0.0.0.0", 0, true},
            {"[::1]", "0.0.0.0", 0, true},
            {"[::1]", "[::]", 0, true},
        };
        for (const Case& one : cases) {
            const SocketAddress first_at = *SocketAddress::parse(std::string(one.first) + ":0");
            const int first = calls.socket(first_at.family(), SOCK_STREAM);
            if (one.reuse != 0) calls.set_int(first, SOL_SOCKET, one.reuse, 1);
            calls.note("bind first", calls.bind(first, first_at));
            if (one.first_listens) calls.note("listen first", calls.listen(first, 1));
            const SocketAddress second_at =
                SocketAddress::parse(std::string(one.second) + ":0")->with_port(calls.address(first).port());
            const int second = calls.socket(second_at.family(), SOCK_STREAM);
            calls.note("bind without", calls.bind(second, second_at));
            const int third = calls.socket(second_at.family(), SOCK_STREAM);
            if (one.reuse != 0) calls.set_int(third, SOL_SOCKET, one.reuse, 1);
            calls.close(second);
            const int result = calls.bind(third, second_at);
            calls.note("bind second", result);
            calls.note("listen first", calls.listen(first, 1));
            if (result == 0) calls.note("listen second", calls.listen(third, 1));
            calls.close(first);
            calls.close(third);
        }
    });
}

TEST(TcpSocket, AnIpv6OnlyListenerLeavesIpv4ToAnother) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int six = calls.socket(AF_INET6, SOCK_STREAM);
        calls.set_int(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        calls.note("bind", calls.bind(six, *SocketAddress::parse("[::]:0")));
        calls.note("listen", calls.listen(six, 1));
        const std::uint16_t port = calls.address(six).port();
        const int refused = calls.socket(AF_INET, SOCK_STREAM);
        calls.note("connect", calls.connect(refused, loopback(port)));
        calls.note_wait(refused, POLLHUP);
        calls.note_error(refused);
        const int four = calls.socket(AF_INET, SOCK_STREAM);
        calls.note("bind", calls.bind(four, SocketAddress::ipv4(INADDR_ANY, port)));
        calls.note("listen", calls.listen(four, 1));
        calls.connected(loopback(port));
        calls.connected(loopback6(port));
        calls.note_wait(four, POLLIN);
        calls.note_wait(six, POLLIN);
    });
}

TEST(TcpSocket, AConnectionKeepsItsListenersPort) {
    expect_same_as_linux([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        const SocketAddress at = calls.address(listener);
        calls.close(listener);
        const int without = calls.socket(AF_INET, SOCK_STREAM);
        calls.note("bind", calls.bind(without, at));
        const int reusing = calls.socket(AF_INET, SOCK_STREAM);
        calls.set_int(reusing, SOL_SOCKET, SO_REUSEADDR, 1);
        calls.note("bind", calls.bind(reusing, at));
        calls.note("listen", calls.listen(reusing, 1));
    });
}

TEST(TcpSocket, ClosingAListenerResetsWhatNobodyAccepted) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.listener(loopback());
        const int client = calls.connected(calls.address(listener));
        calls.note_wait(listener, POLLIN);
        calls.note_send(client, "hello");
        calls.close(listener);
        calls.note_wait(client, POLLERR);
        calls.note_events(client);
        calls.note_receive(client);
    });
}

TEST(TcpSocket, AListenerThatIsShutStaysBound) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.listener(loopback());
        const SocketAddress at = calls.address(listener);
        const int client = calls.connected(at);
        calls.note_wait(listener, POLLIN);
        calls.note("shutdown", calls.shutdown(listener, SHUT_WR));
        calls.note("listens", calls.get_int(listener, SOL_SOCKET, SO_ACCEPTCONN));
        calls.note("shutdown", calls.shutdown(listener, SHUT_RDWR));
        calls.note("listens", calls.get_int(listener, SOL_SOCKET, SO_ACCEPTCONN));
        calls.note_events(listener);
        calls.note("accept", calls.accept(listener));
        calls.note_wait(client, POLLERR);
        calls.note_error(client);
        const int refused = calls.socket(AF_INET, SOCK_STREAM);
        calls.note("connect", calls.connect(refused, at));
        calls.note_wait(refused, POLLHUP);
        calls.note_error(refused);
        calls.note("same", calls.address(listener) == at);
    });
}

TEST(TcpSocket, AConnectionThatEndedIsAcceptedAllTheSame) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.listener(loopback());
        const int finished = calls.connected(calls.address(listener));
        calls.note_send(finished, "bye");
        calls.close(finished);
        const int reset = calls.connected(calls.address(listener));
        calls.note_wait(listener, POLLIN);
        const linger now{.l_onoff = 1, .l_linger = 0};
        calls.set(reset, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        calls.close(reset);
        const int first = calls.accept(listener);
        calls.note_wait(first, POLLRDHUP);
        calls.note_receive(first);
        calls.note_receive(first);
        calls.note_send(first, "x");
        calls.note_wait(listener, POLLIN);
        const int second = calls.accept(listener);
        calls.note_wait(second, POLLERR);
        calls.note_events(second);
        calls.note("peer", calls.address(second, true).family());
        calls.note_receive(second);
        calls.note_receive(second);
    });
}

TEST(TcpSocket, DeferringAListenerWaitsForData) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int listener = calls.listener(loopback());
        for (const int seconds : {0, 1, 2, 3, 4, 7, 8, 30, 127, 128}) {
            calls.note("set", calls.set_int(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds));
            calls.note("get", calls.get_int(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT));
        }
        const int silent = calls.connected(calls.address(listener));
        const int talking = calls.connected(calls.address(listener));
        const int ending = calls.connected(calls.address(listener));
        calls.note_events(listener);
        calls.note("accept", calls.accept(listener));
        calls.note_send(talking, "data");
        calls.note_wait(listener, POLLIN);
        const int accepted = calls.accept(listener);
        calls.note_receive(accepted);
        calls.note("accept", calls.accept(listener));
        // A FIN counts as data.
        calls.note("shutdown", calls.shutdown(ending, SHUT_WR));
        calls.note_wait(listener, POLLIN);
        calls.note("accepted", calls.accept(listener) > 0);
        calls.note("accept", calls.accept(listener));
        calls.close(silent);
        calls.note_wait(listener, POLLIN);
    });
}

TEST(TcpSocket, OptionsAreLinuxs) {
    expect_same_as_linux([](SocketCalls& calls) {
        const int fd = calls.socket(AF_INET6, SOCK_STREAM);
        struct Option {
            int level;
            int name;
            std::vector<int> values;
        };
        const Option options[] = {
            {SOL_SOCKET, SO_REUSEADDR, {1, 0, 7}},
            {SOL_SOCKET, SO_REUSEPORT, {1, 0}},
            {SOL_SOCKET, SO_KEEPALIVE, {1, 0}},
            {SOL_SOCKET, SO_RCVBUF, {0, 1, 4000, 100'000}},
            {SOL_SOCKET, SO_SNDBUF, {0, 1, 4000, 100'000}},
            {SOL_SOCKET, SO_TYPE, {}},
            {SOL_SOCKET, SO_DOMAIN, {}},
            {SOL_SOCKET, SO_PROTOCOL, {}},
            {SOL_SOCKET, SO_ACCEPTCONN, {}},
            {SOL_SOCKET, SO_ERROR, {}},
            {SOL_SOCKET, 9999, {1}},
            {IPPROTO_TCP, TCP_NODELAY, {1, 0}},
            {IPPROTO_TCP, TCP_CORK, {1, 0}},
            {IPPROTO_TCP, TCP_KEEPIDLE, {10, 0, 40'000}},
            {IPPROTO_TCP, TCP_KEEPINTVL, {10, 0, 40'000}},
            {IPPROTO_TCP, TCP_KEEPCNT, {5, 0, 200}},
            {IPPROTO_TCP, TCP_SYNCNT, {3, 0}},
            {IPPROTO_TCP, TCP_USER_TIMEOUT, {1000, -1}},
            {IPPROTO_TCP, 9999, {1}},
            {IPPROTO_IPV6, 9999, {1}},
        };
        for (const Option& option : options) {
            calls.note("get", calls.get_int(fd, option.level, option.name));
            for (const int value : option.values) {
                calls.note("set", calls.set_int(fd, option.level, option.name, value));
                calls.note("get", calls.get_int(fd, option.level, option.name));
            }
        }
        const char byte = 1;
        calls.note("short", calls.set(fd, SOL_SOCKET, SO_REUSEADDR, &byte, sizeof byte));
        calls.note("short", calls.set(fd, IPPROTO_TCP, TCP_NODELAY, &byte, sizeof byte));
        calls.note("short", calls.set(fd, SOL_SOCKET, SO_LINGER, &byte, sizeof byte));
    });
}

sock_filter choose(std::uint32_t number) {
    return BPF_STMT(BPF_RET | BPF_K, number);
}

TEST(TcpSocket, AFilterChoosesAmongThoseThatShareAPort) {
    expect_same_as_linux([](SocketCalls& calls) {
        std::array<int, 3> listeners{};
        SocketAddress at = loopback();
        for (int& fd : listeners) {
            fd = calls.socket(AF_INET, SOCK_STREAM);
            calls.set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
            calls.note("bind", calls.bind(fd, at));
            calls.note("listen", calls.listen(fd, 8));
            at = calls.address(fd);
        }
        const auto attach = [&](int fd, std::vector<sock_filter> program) {
            const sock_fprog attached{.len = static_cast<unsigned short>(program.size()), .filter = program.data()};
            calls.note("attach", calls.set(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &attached, sizeof attached));
        };
        const auto who_gets = [&] {
            const int client = calls.connected(at);
            for (;;) {
                for (std::size_t number = 0; number < listeners.size(); ++number) {
                    if (listeners[number] < 0 || !(calls.events(listeners[number]) & POLLIN)) continue;
                    calls.note("goes to", static_cast<long>(number));
                    calls.close(calls.accept(listeners[number]));
                    calls.close(client);
                    return;
                }
                calls.wait(client, POLLOUT);
            }
        };
        for (std::uint32_t number = 0; number < 3; ++number) {
            attach(listeners[0], {choose(number)});
            who_gets();
        }
        // Arithmetic and jumps: 7 % 4 = 3, less than 5, minus 1 is 2.
        attach(listeners[2], {BPF_STMT(BPF_LD | BPF_IMM, 7), BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 4),
                              BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 5, 1, 0), BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 1),
                              BPF_STMT(BPF_RET | BPF_A, 0)});
        who_gets();
        // A random number below 1.
        attach(listeners[2],
               {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)),
                BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 1), BPF_STMT(BPF_RET | BPF_A, 0)});
        who_gets();
        // The last takes the place of one that leaves.
        attach(listeners[0], {choose(0)});
        calls.close(std::exchange(listeners[0], -1));
        who_gets();
        const int on = 1;
        calls.note("detach", calls.set(listeners[1], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &on, sizeof on));
        calls.note("detach", calls.set(listeners[1], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &on, sizeof on));
        attach(listeners[1], {BPF_STMT(BPF_LD | BPF_IMM, 7)});
        attach(listeners[1], {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), choose(0)});
        attach(listeners[1], {BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0), choose(0)});
        const int alone = calls.listener(loopback());
        attach(alone, {choose(0)});
        const int unbound = calls.socket(AF_INET, SOCK_STREAM);
        attach(unbound, {choose(0)});
        calls.set_int(unbound, SOL_SOCKET, SO_REUSEPORT, 1);
        attach(unbound, {choose(0)});
    });
}

TEST(TcpSocket, WithoutAFilterOneOfThoseThatShareAPortGetsEachConnection) {
    constexpr int connections = 200;
    std::vector<int> counts(3);
    test::simulated([&](SocketCalls& calls) {
        std::array<int, 3> listeners{};
        SocketAddress at = loopback();
        for (int& fd : listeners) {
            fd = calls.socket(AF_INET, SOCK_STREAM);
            calls.set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
            calls.bind(fd, at);
            calls.listen(fd, connections);
            at = calls.address(fd);
        }
        for (int count = 0; count < connections; ++count) calls.connected(at);
        for (std::size_t number = 0; number < listeners.size(); ++number) {
            while (calls.accept(listeners[number]) >= 0) ++counts[number];
        }
    });
    EXPECT_EQ(counts[0] + counts[1] + counts[2], connections);
    for (const int count : counts) EXPECT_GT(count, connections / 6);
}

TEST(TcpSocket, ASendFillsTheBufferAndReadinessSaysWhenThereIsRoom) {
    test::simulated([](SocketCalls& calls) {
        const auto [client, server, listener] = calls.pair(loopback());
        const std::string piece(10'000, 'x');
        std::size_t sent = 0;
        for (;;) {
            long result = calls.send(client, piece, 0);
            if (result > 0) {
                sent += static_cast<std::size_t>(result);
                continue;
            }
            ASSERT_EQ(result, -EAGAIN);
            ASSERT_EQ(calls.events(client) & POLLOUT, 0u);
            calls.wait(client, 0);
            // Nobody reads: the window closes, and the buffer behind it fills.
            result = calls.send(client, piece, 0);
            if (result == -EAGAIN) break;
            sent += static_cast<std::size_t>(result);
        }
        EXPECT_GT(sent, 16'000u);
        EXPECT_LE(sent, (256u + 128u) * 1024);
        std::vector<char> into(sent);
        std::size_t received = 0;
        while (received < sent) {
            const long result = calls.receive(server, into, 0);
            if (result == -EAGAIN) {
                ASSERT_TRUE(calls.wait(server, POLLIN));
                continue;
            }
            received += static_cast<std::size_t>(result);
        }
        EXPECT_EQ(received, sent);
        EXPECT_TRUE(calls.wait(client, POLLOUT));
    });
}

}  // namespace
}  // namespace ferrule
