#include <ferrule/server.hpp>
#include <ferrule/server/inherited_sockets.hpp>

#include "support/environment_kernel.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using ferrule_test::Call;
using ferrule_test::EnvironmentKernel;

constexpr int patience_s = 30;
constexpr int first_descriptor = 3;

using Variables = std::map<std::string, std::string>;

std::string this_process() {
    return std::to_string(::getpid());
}

std::string error_of(EnvironmentKernel& kernel) {
    try {
        take_inherited_sockets(kernel);
    } catch (const StartError& error) {
        return error.what();
    }
    return "none";
}

// ---- the variables ----

TEST(InheritedSockets, ThereAreNoneWithoutTheVariables) {
    for (const Variables& variables :
         {Variables{}, Variables{{"LISTEN_FDS", "1"}}, Variables{{"LISTEN_PID", this_process()}}}) {
        EnvironmentKernel kernel(variables);
        EXPECT_TRUE(take_inherited_sockets(kernel).empty());
        EXPECT_TRUE(kernel.variables().empty());
    }
}

TEST(InheritedSockets, ThoseOfAnotherProcessAreNotTaken) {
    EnvironmentKernel kernel({{"LISTEN_PID", "1"}, {"LISTEN_FDS", "1"}, {"LISTEN_FDNAMES", "web"}, {"PATH", "/bin"}});
    EXPECT_TRUE(take_inherited_sockets(kernel).empty());
    EXPECT_EQ(kernel.variables(), (Variables{{"PATH", "/bin"}}));
    EXPECT_EQ(kernel.calls(Call::set_close_on_exec), 0u);
}

TEST(InheritedSockets, NoneMayBePassed) {
    EnvironmentKernel kernel({{"LISTEN_PID", this_process()}, {"LISTEN_FDS", "0"}, {"LISTEN_FDNAMES", ""}});
    EXPECT_TRUE(take_inherited_sockets(kernel).empty());
}

TEST(InheritedSockets, WhatIsNoNumberIsRefused) {
    struct {
        const char* process;
        const char* count;
        const char* error;
    } const cases[] = {
        {"me", "1", "LISTEN_PID=me: it is not the number of a process"},
        {"", "1", "LISTEN_PID=: it is not the number of a process"},
        {nullptr, "", "LISTEN_FDS=: it is not a number of descriptors"},
        {nullptr, "-1", "LISTEN_FDS=-1: it is not a number of descriptors"},
        {nullptr, "1 ", "LISTEN_FDS=1 : it is not a number of descriptors"},
        {nullptr, "99999999999999999999", "LISTEN_FDS=99999999999999999999: it is not a number of descriptors"},
        {nullptr, "4294967296", "LISTEN_FDS=4294967296: it is not a number of descriptors"},
    };
    for (const auto& [process, count, error] : cases) {
        EnvironmentKernel kernel(
            {{"LISTEN_PID", process != nullptr ? process : this_process()}, {"LISTEN_FDS", count}});
        EXPECT_EQ(error_of(kernel), error);
        EXPECT_TRUE(kernel.variables().empty());
    }
}

TEST(InheritedSockets, ADescriptorThatIsNotOpenIsRefused) {
    EnvironmentKernel kernel({{"LISTEN_PID", this_process()}, {"LISTEN_FDS", "2"}});
    kernel.fail(Call::set_close_on_exec, EBADF);
    EXPECT_EQ(error_of(kernel), "LISTEN_FDS=2: descriptor 3: Bad file descriptor");
}

// ---- a process that has been passed some ----

int listening_socket() {
    ListenSocketOptions options;
    options.address = Address::loopback(0);
    options.reuse_port = false;
    return open_listen_socket(linux_kernel(), options).value();
}

// Runs the program in a process to which these descriptors have been passed, and whose environment says so.
class Child {
public:
    Child(const std::vector<int>& descriptors, std::string names,
          const std::function<int(EnvironmentKernel&)>& program) {
        process_ = ::fork();
        if (process_ != 0) return;
        const int count = static_cast<int>(descriptors.size());
        std::vector<int> kept;
        for (const int descriptor : descriptors) kept.push_back(::fcntl(descriptor, F_DUPFD, first_descriptor + count));
        for (int index = 0; index < count; ++index)
            ::dup2(kept[static_cast<std::size_t>(index)], first_descriptor + index);
        ::close_range(static_cast<unsigned>(first_descriptor + count), ~0u, 0);
        Variables variables{{"LISTEN_PID", this_process()}, {"LISTEN_FDS", std::to_string(count)}};
        if (!names.empty()) variables.emplace("LISTEN_FDNAMES", names);
        EnvironmentKernel kernel(std::move(variables));
        int status = 99;
        try {
            status = program(kernel);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "%s\n", error.what());
        }
        ::_exit(status);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        if (process_ <= 0) return;
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
    }
    void stop() { ::kill(process_, SIGTERM); }
    int exit_status() {
        int status = 0;
        ::waitpid(std::exchange(process_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

private:
    pid_t process_ = -1;
};

TEST(InheritedSockets, TheyComeInOrderWithTheirNamesAndCloseOnExec) {
    const std::vector<int> sockets{listening_socket(), listening_socket(), listening_socket()};
    const auto address_of = [](int socket) { return local_address(linux_kernel(), socket).value(); };
    const std::vector<Address> addresses{address_of(sockets[0]), address_of(sockets[1]), address_of(sockets[2])};
    const auto take = [&](std::vector<std::string> names) {
        return [&, names](EnvironmentKernel& kernel) {
            const std::vector<InheritedSocket> taken = take_inherited_sockets(kernel);
            if (taken.size() != 3 || !kernel.variables().empty()) return 1;
            for (std::size_t index = 0; index < taken.size(); ++index) {
                if (taken[index].descriptor != first_descriptor + static_cast<int>(index)) return 2;
                if (taken[index].name != names[index]) return 3;
                if (::fcntl(taken[index].descriptor, F_GETFD) != FD_CLOEXEC) return 4;
                if (address_of(taken[index].descriptor) != addresses[index]) return 5;
            }
            return take_inherited_sockets(kernel).empty() ? 0 : 6;
        };
    };
    EXPECT_EQ(Child(sockets, "web:admin:web", take({"web", "admin", "web"})).exit_status(), 0);
    EXPECT_EQ(Child(sockets, "web::", take({"web", "", ""})).exit_status(), 0);
    EXPECT_EQ(Child(sockets, "", take({"unknown", "unknown", "unknown"})).exit_status(), 0);
    const auto refused = [](EnvironmentKernel& kernel) {
        return error_of(kernel) == "LISTEN_FDNAMES=web:admin: not as many names as LISTEN_FDS says, 3" ? 0 : 1;
    };
    EXPECT_EQ(Child(sockets, "web:admin", refused).exit_status(), 0);
    for (const int socket : sockets) ::close(socket);
}

// ---- ports ----

Task<> say(Connection connection, char letter) {
    connection.write(std::string_view(&letter, 1));
    co_return;
}

ConnectionHandler saying(char letter) {
    return [letter](Connection connection) { return say(std::move(connection), letter); };
}

// What the server that accepts from the socket says.
std::string said_at(int socket) {
    const Address address = local_address(linux_kernel(), socket).value();
    const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval limit{patience_s, 0};
    ::setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    // The end of a ring may interrupt both: the connecting goes on by itself, and the receiving is to be repeated.
    EXPECT_TRUE(::connect(client, address.data(), address.size()) == 0 || errno == EINTR);
    char bytes[16];
    std::size_t size = 0;
    while (size < sizeof bytes) {
        const ssize_t received = ::recv(client, bytes + size, sizeof bytes - size, 0);
        if (received < 0 && errno == EINTR) continue;
        if (received <= 0) break;
        size += static_cast<std::size_t>(received);
    }
    ::close(client);
    return {bytes, size};
}

ServerOptions small_options() {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    options.reactors = 2;
    options.network.linger_timeout = std::chrono::milliseconds(10);
    options.reactor.submission_entries = 64;
    options.network.receive_buffer_count = 64;
    return options;
}

PortOptions port_named(std::string name) {
    PortOptions port;
    port.host = "127.0.0.1";
    port.port = 0;
    port.socket_name = std::move(name);
    return port;
}

TEST(InheritedSockets, BecomePortsByNameAndInOrder) {
    std::vector<int> sockets;
    for (int number = 0; number < 5; ++number) sockets.push_back(listening_socket());
    Child child(sockets, "a:x:b:x:c", [](EnvironmentKernel& kernel) {
        Server server(small_options(), kernel);
        server.on_connection(saying('1'));
        server.listen(port_named("x"), saying('x'));
        server.listen(port_named(""), saying('2'));
        server.listen(port_named("absent"), saying('a'));
        server.listen(port_named(""), saying('3'));
        server.on_listening([&] {
            if (server.addresses().size() != 5 || !kernel.variables().empty()) std::abort();
        });
        return server.run();
    });
    std::string said;
    for (int round = 0; round < 4; ++round) {
        for (const int socket : sockets) said += said_at(socket);
    }
    EXPECT_EQ(said, "1x2x31x2x31x2x31x2x3");
    child.stop();
    EXPECT_EQ(child.exit_status(), 0);
    for (const int socket : sockets) ::close(socket);
}

TEST(InheritedSockets, TheOnlyPortWithoutANameTakesAllThatAreLeft) {
    std::vector<int> sockets;
    for (int number = 0; number < 4; ++number) sockets.push_back(listening_socket());
    // Where a ring would not wait.
    ::fcntl(sockets[1], F_SETFL, O_NONBLOCK);
    Child child(sockets, "a:a:b:c", [](EnvironmentKernel& kernel) {
        Server server(small_options(), kernel);
        server.on_connection(saying('1'));
        server.listen(port_named("b"), saying('b'));
        return server.run();
    });
    std::string said;
    for (const int socket : sockets) said += said_at(socket);
    EXPECT_EQ(said, "11b1");
    child.stop();
    EXPECT_EQ(child.exit_status(), 0);
    for (const int socket : sockets) ::close(socket);
}

int run_expecting(Server& server, std::string_view expected) {
    try {
        server.run();
    } catch (const StartError& error) {
        if (error.what() == expected) return 0;
        std::fprintf(stderr, "%s\n", error.what());
    }
    return 1;
}

TEST(InheritedSockets, OneThatNoPortTakesIsAnError) {
    const std::vector<int> sockets{listening_socket(), listening_socket(), listening_socket()};
    Child child(sockets, "a:b:c", [](EnvironmentKernel& kernel) {
        Server server(small_options(), kernel);
        server.on_connection(saying('1'));
        server.listen(port_named(""), saying('2'));
        return run_expecting(server, "descriptor 5, which systemd has passed as \"c\": no port takes it");
    });
    EXPECT_EQ(child.exit_status(), 0);
    for (const int socket : sockets) ::close(socket);
}

TEST(InheritedSockets, OneThatDoesNotListenIsAnError) {
    const std::vector<int> sockets{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    Child child(sockets, "", [](EnvironmentKernel& kernel) {
        Server server(small_options(), kernel);
        server.on_connection(saying('1'));
        return run_expecting(server, "accept on descriptor 3: it is not a listening socket");
    });
    EXPECT_EQ(child.exit_status(), 0);
    ::close(sockets[0]);
}

TEST(InheritedSockets, OneThatIsNamedByItsNumberIsNotTakenTwice) {
    const std::vector<int> sockets{listening_socket(), listening_socket()};
    Child child(sockets, "", [](EnvironmentKernel& kernel) {
        Server server(small_options(), kernel);
        PortOptions second;
        second.descriptor = first_descriptor;
        server.on_connection(saying('1'));
        server.listen(second, saying('2'));
        return server.run();
    });
    EXPECT_EQ(said_at(sockets[0]) + said_at(sockets[1]), "21");
    child.stop();
    EXPECT_EQ(child.exit_status(), 0);
    for (const int socket : sockets) ::close(socket);
}

TEST(InheritedSockets, AreLeftAloneByOption) {
    EnvironmentKernel kernel({{"LISTEN_PID", this_process()}, {"LISTEN_FDS", "1"}});
    ServerOptions options = small_options();
    options.systemd = false;
    Server server(options, kernel);
    server.on_connection(saying('1'));
    server.stop();
    EXPECT_EQ(server.run(), 0);
    EXPECT_EQ(kernel.variables().size(), 2u);
}

}  // namespace
