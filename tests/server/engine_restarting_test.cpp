// Restarts without a gap: a server hands its ports to the next one.
#include <ferrule/server.hpp>

#include "server/restart_message.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/running_server.hpp"
#include "support/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace std::chrono_literals;
using ferrule_test::Client;
using ferrule_test::echo;
using ferrule_test::eventually;
using ferrule_test::ForwardingKernel;
using ferrule_test::on_loopback;
using ferrule_test::Running;
using ferrule_test::start_error_of;
using ferrule_test::TemporaryFolder;

// Answers each byte with the letter of its server.
Task<> say(Connection connection, char letter) {
    while (auto received = co_await connection.read()) {
        const std::string answer(received.size(), letter);
        received.reset();
        connection.write(answer);
        co_await connection.flush();
    }
}

ConnectionHandler saying(char letter) {
    return [letter](Connection connection) { return say(std::move(connection), letter); };
}

ServerOptions restartable(const std::string& path, std::uint32_t reactors) {
    ServerOptions options = on_loopback(reactors);
    options.restart_path = path;
    return options;
}

// A server that runs.
struct Instance {
    Instance(const ServerOptions& options, ConnectionHandler handler) : server(options) {
        server.on_log([this](const LogMessage& message) {
            const std::lock_guard lock(mutex);
            said.emplace_back(message.text);
        });
        server.on_connection(std::move(handler));
        running.emplace(server);
    }
    bool has_said(std::string_view words) {
        const std::lock_guard lock(mutex);
        return std::ranges::any_of(said, [words](const std::string& line) { return line.find(words) != line.npos; });
    }
    Address address() const { return running->address(); }

    Server server;
    std::mutex mutex;
    std::vector<std::string> said;
    std::optional<Running> running;
};

bool exists(const std::string& path) {
    return std::filesystem::exists(std::filesystem::symlink_status(path));
}

// ---- the ports go over ----

TEST(Restart, TheNewServerTakesThePortsAndTheOldOneDrains) {
    for (const auto [before, after] : {std::pair{1u, 1u}, {2u, 2u}, {1u, 3u}, {3u, 1u}, {4u, 2u}, {2u, 5u}}) {
        SCOPED_TRACE(std::to_string(before) + " reactors, then " + std::to_string(after));
        const TemporaryFolder folder;
        const std::string path = folder / "restart";
        Instance old(restartable(path, before), saying('a'));
        const Address address = old.address();
        struct stat status {};
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0600u);
        Client idle(address);
        EXPECT_EQ(idle.exchange("x"), "a");

        Instance fresh(restartable(path, after), saying('b'));
        EXPECT_EQ(fresh.address(), address);
        EXPECT_TRUE(idle.ends_in_order());
        EXPECT_EQ(old.running->join(), 0);
        EXPECT_TRUE(old.has_said("process " + std::to_string(::getpid()) + " has taken over"));
        // However the kernel chooses, somebody accepts.
        std::vector<Client> clients;
        for (int number = 0; number < 30; ++number) {
            clients.emplace_back(address);
            EXPECT_EQ(clients.back().exchange("x"), "b");
        }
        EXPECT_EQ(fresh.running->stop(), 0);
        EXPECT_FALSE(exists(path));
    }
}

TEST(Restart, EveryReactorGetsItsPartAgain) {
    const TemporaryFolder folder;
    std::unique_ptr<Instance> instance;
    // More sockets than reactors, then more reactors than sockets, then as many.
    for (const std::uint32_t reactors : {3u, 2u, 4u, 3u, 3u}) {
        auto next = std::make_unique<Instance>(restartable(folder / "restart", reactors), ferrule_test::tell_reactor);
        if (instance != nullptr) EXPECT_EQ(instance->running->join(), 0);
        instance = std::move(next);
        std::vector<Client> clients;
        std::set<std::string> seen;
        // Of so many nobody gets none, but once in 10^30 runs.
        for (int number = 0; number < 300; ++number) {
            clients.emplace_back(instance->address());
            seen.insert(clients.back().exchange("x"));
        }
        EXPECT_EQ(seen.size(), reactors);
    }
}

TEST(Restart, ClientsThatWaitInTheQueueAreServed) {
    const TemporaryFolder folder;
    ServerOptions options = restartable(folder / "restart", 1);
    options.network.connection_limit = 1;
    Instance old(options, saying('a'));
    Client first(old.address());
    EXPECT_EQ(first.exchange("x"), "a");
    // Some wait inside the server, the others in the kernel.
    std::vector<Client> waiting;
    for (int number = 0; number < 20; ++number) {
        waiting.emplace_back(old.address());
        waiting.back().send("x");
    }
    Instance fresh(restartable(folder / "restart", 2), saying('b'));
    EXPECT_TRUE(first.ends_in_order());
    for (Client& client : waiting) {
        const std::string answer = client.receive(1);
        EXPECT_TRUE(answer == "a" || answer == "b") << '"' << answer << '"';
    }
    EXPECT_EQ(old.running->join(), 0);
    EXPECT_EQ(fresh.running->stop(), 0);
}

TEST(Restart, PortsThatHaveGoneAreClosedAndNewOnesOpened) {
    const TemporaryFolder folder;
    const auto unix_port = [&](std::string_view name) {
        PortOptions port;
        port.host = "unix:" + folder / name;
        return port;
    };
    Server old(restartable(folder / "restart", 2));
    old.on_connection(saying('a'));
    old.listen(unix_port("kept"), saying('k'));
    old.listen(unix_port("gone"), saying('g'));
    Running old_running(old);
    const Address gone = old_running.address(2);
    Client queued(gone);
    EXPECT_EQ(queued.exchange("x"), "g");

    Server fresh(restartable(folder / "restart", 2));
    fresh.listen(unix_port("new"), saying('n'));
    fresh.listen(unix_port("kept"), saying('K'));
    Running fresh_running(fresh);
    EXPECT_TRUE(queued.ends_in_order());
    EXPECT_EQ(old_running.join(), 0);
    EXPECT_EQ(Client(fresh_running.address(0)).exchange("x"), "n");
    EXPECT_EQ(Client(fresh_running.address(1)).exchange("x"), "K");
    EXPECT_FALSE(Client(gone).connected());
    EXPECT_FALSE(exists(folder / "gone"));
    EXPECT_EQ(fresh_running.stop(), 0);
    EXPECT_FALSE(exists(folder / "kept"));
    EXPECT_FALSE(exists(folder / "new"));
}

TEST(Restart, APortThatNeedsNoSocketForEachReactorIsHandedOver) {
    const TemporaryFolder folder;
    for (const AcceptMode before : {AcceptMode::per_reactor, AcceptMode::hand_over_round_robin}) {
        for (const AcceptMode after : {AcceptMode::hand_over_least_loaded, AcceptMode::per_reactor}) {
            ServerOptions options = restartable(folder / "restart", 3);
            options.accept_mode = before;
            Instance old(options, saying('a'));
            options.accept_mode = after;
            Instance fresh(options, saying('b'));
            EXPECT_EQ(old.running->join(), 0);
            std::vector<Client> clients;
            for (int number = 0; number < 20; ++number) {
                clients.emplace_back(fresh.address());
                EXPECT_EQ(clients.back().exchange("x"), "b");
            }
            EXPECT_EQ(fresh.running->stop(), 0);
        }
    }
}

// Where no more sockets can be opened, those that there are serve all reactors.
TEST(Restart, ReactorsWithoutASocketAreHandedTheirPart) {
    class NoMoreSockets : public ForwardingKernel {
    public:
        std::atomic<bool> refuses = false;
        int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
            if (refuses && address->sa_family == AF_INET) return -EADDRINUSE;
            return ForwardingKernel::bind(fd, address, length);
        }
    } kernel;
    const TemporaryFolder folder;
    Instance old(restartable(folder / "restart", 1), saying('a'));
    kernel.refuses = true;
    Server fresh(restartable(folder / "restart", 3), kernel);
    std::atomic<int> said = 0;
    fresh.on_log([&](const LogMessage& message) {
        if (message.cause == "restart-few-sockets") ++said;
    });
    fresh.on_connection(ferrule_test::tell_reactor);
    Running running(fresh);
    EXPECT_EQ(old.running->join(), 0);
    std::string reactors;
    std::vector<Client> clients;
    for (int number = 0; number < 6; ++number) {
        clients.emplace_back(running.address());
        reactors += clients.back().exchange("x");
    }
    EXPECT_EQ(reactors, "012012");
    EXPECT_EQ(said, 1);
    EXPECT_EQ(running.stop(), 0);
}

// ---- the path ----

TEST(Restart, WhereNobodyServesThePathThePortsAreOpened) {
    const TemporaryFolder folder;
    const std::string path = folder / "restart";
    const Address address = Address::parse("unix:" + path, 0).value();
    // What one that was killed has left behind.
    const int dead = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(dead, address.data(), address.size()), 0);
    ::close(dead);
    Instance instance(restartable(path, 1), saying('a'));
    EXPECT_EQ(Client(instance.address()).exchange("x"), "a");
    EXPECT_EQ(instance.running->stop(), 0);
    EXPECT_FALSE(exists(path));
}

TEST(Restart, WhatIsNoSocketIsAnError) {
    const TemporaryFolder folder;
    const std::string path = folder.write("restart", "a file");
    Server server(restartable(path, 1));
    server.on_connection(echo);
    // connect(2) does not tell a file from a socket that nobody listens at.
    EXPECT_EQ(start_error_of(server), "bind unix:" + path + ": File exists");
    EXPECT_TRUE(exists(path));
}

// ---- what does not succeed ----

TEST(Restart, ANewServerThatCannotStartHarmsNobody) {
    const TemporaryFolder folder;
    Instance old(restartable(folder / "restart", 2), saying('a'));
    Client client(old.address());
    EXPECT_EQ(client.exchange("x"), "a");
    for (int attempt = 0; attempt < 3; ++attempt) {
        Server fresh(restartable(folder / "restart", 3));
        fresh.on_connection(saying('b'));
        fresh.on_start([](Reactor& reactor) {
            if (reactor.id() == 1) throw std::runtime_error("no database");
        });
        EXPECT_EQ(start_error_of(fresh), "reactor 1: no database");
        EXPECT_TRUE(eventually([&] { return old.has_said("it has ended before it was ready; this one serves on"); }));
        EXPECT_EQ(client.exchange("x"), "a");
        for (int number = 0; number < 10; ++number) EXPECT_EQ(Client(old.address()).exchange("x"), "a");
    }
    Instance fresh(restartable(folder / "restart", 2), saying('b'));
    EXPECT_TRUE(client.ends_in_order());
    EXPECT_EQ(old.running->join(), 0);
    EXPECT_EQ(Client(fresh.address()).exchange("x"), "b");
    EXPECT_EQ(fresh.running->stop(), 0);
}

// A message by hand, and what is answered.
class Stranger {
public:
    explicit Stranger(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const Address address = Address::parse("unix:" + path, 0).value();
        EXPECT_EQ(::connect(fd_, address.data(), address.size()), 0) << std::strerror(errno);
        const timeval limit{ferrule_test::patience.count(), 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }
    Stranger(const Stranger&) = delete;
    Stranger& operator=(const Stranger&) = delete;
    ~Stranger() { ::close(fd_); }

    void send(const void* bytes, std::size_t size) {
        EXPECT_EQ(::send(fd_, bytes, size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
    }
    void send(const RestartMessage& message) { send(&message, sizeof message); }
    RestartMessage receive() {
        RestartMessage message;
        const ssize_t received = ::recv(fd_, &message, sizeof message, MSG_WAITALL);
        EXPECT_EQ(received, static_cast<ssize_t>(sizeof message));
        return message;
    }

private:
    int fd_;
};

RestartMessage hello() {
    RestartMessage message;
    message.kind = RestartMessage::Kind::hello;
    message.process = 42;
    return message;
}

TEST(Restart, WhoeverDoesNotSpeakItIsRefusedAndTheServerServesOn) {
    const TemporaryFolder folder;
    const std::string path = folder / "restart";
    Instance old(restartable(path, 2), saying('a'));
    { const Stranger looks_only(path); }
    {
        Stranger half(path);
        half.send("hello", 5);
    }
    {
        Stranger garbage(path);
        garbage.send(std::string(sizeof(RestartMessage), '!').data(), sizeof(RestartMessage));
        EXPECT_EQ(garbage.receive().reason(), "what it says belongs to no take-over");
    }
    {
        Stranger later(path);
        RestartMessage message = hello();
        message.version_least = 2;
        message.version_most = 7;
        later.send(message);
        EXPECT_EQ(later.receive().reason(), "it speaks versions 2 to 7 of the take-over, this one version 1");
    }
    {
        Stranger impatient(path);
        RestartMessage message = hello();
        message.kind = RestartMessage::Kind::ready;
        impatient.send(message);
        EXPECT_EQ(impatient.receive().reason(), "it says 6 where 1 was due");
    }
    {
        // It is offered everything, and takes what is not there.
        Stranger greedy(path);
        greedy.send(hello());
        const RestartMessage offer = greedy.receive();
        EXPECT_EQ(offer.kind, RestartMessage::Kind::offer);
        EXPECT_EQ(offer.count, 2u);
        EXPECT_EQ(offer.process, ::getpid());
        for (std::uint32_t number = 0; number < offer.count; ++number) {
            const RestartMessage socket = greedy.receive();
            EXPECT_EQ(socket.kind, RestartMessage::Kind::socket);
            EXPECT_EQ(socket.bound_address(), old.address());
        }
        RestartMessage message = hello();
        message.kind = RestartMessage::Kind::taken;
        message.port = 1;
        greedy.send(message);
        EXPECT_EQ(greedy.receive().reason(), "it says 5 where 6 was due");
    }
    EXPECT_EQ(Client(old.address()).exchange("x"), "a");
    Instance fresh(restartable(path, 1), saying('b'));
    EXPECT_EQ(old.running->join(), 0);
    EXPECT_EQ(fresh.running->stop(), 0);
}

TEST(Restart, ANewServerThatTakesTooLongIsRefused) {
    const TemporaryFolder folder;
    ServerOptions options = restartable(folder / "restart", 1);
    options.restart_timeout = 50ms;
    Instance old(options, saying('a'));
    Stranger slow(folder / "restart");
    slow.send(hello());
    // A busy machine may not even get to the offer.
    RestartMessage last = slow.receive();
    while (last.kind == RestartMessage::Kind::offer || last.kind == RestartMessage::Kind::socket) last = slow.receive();
    EXPECT_EQ(last.reason(), "not ready within 50 ms");
    EXPECT_EQ(Client(old.address()).exchange("x"), "a");
    EXPECT_EQ(old.running->stop(), 0);
}

Task<> hold(Connection connection) {
    auto received = co_await connection.read();
    if (!received) co_return;
    connection.write("held");
    co_await connection.flush();
    const auto slept = co_await sleep_for(1h);
    EXPECT_FALSE(slept);
}

TEST(Restart, AServerThatStopsRefuses) {
    const TemporaryFolder folder;
    const std::string path = folder / "restart";
    ServerOptions options = restartable(path, 1);
    options.drain_timeout = 1h;
    Instance old(options, hold);
    Client busy(old.address());
    EXPECT_EQ((busy.send("x"), busy.receive(4)), "held");
    Client idle(old.address());
    old.server.stop();
    EXPECT_TRUE(idle.ends_in_order());
    Server fresh(restartable(path, 1));
    fresh.on_connection(echo);
    EXPECT_EQ(start_error_of(fresh), "take over from unix:" + path + ": it refuses: the server is stopping");
    old.server.stop();
    EXPECT_EQ(old.running->join(), 0);
    EXPECT_FALSE(exists(path));
}

TEST(Restart, WhatTheRunningServerOffersIsChecked) {
    const TemporaryFolder folder;
    const std::string path = folder / "restart";
    ListenSocketOptions socket;
    socket.address = Address::parse("unix:" + path, 0).value();
    const int listener = open_listen_socket(linux_kernel(), socket).value();
    const auto answered_with = [&](const RestartMessage& message) {
        std::thread false_server([&] {
            const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            RestartMessage heard;
            EXPECT_EQ(::recv(fd, &heard, sizeof heard, MSG_WAITALL), static_cast<ssize_t>(sizeof heard));
            EXPECT_EQ(fault_of(heard, RestartMessage::Kind::hello), "");
            ::send(fd, &message, sizeof message, MSG_NOSIGNAL);
            ::close(fd);
        });
        Server server(restartable(path, 1));
        server.on_connection(echo);
        const std::string error = start_error_of(server);
        false_server.join();
        const std::string begin = "take over from unix:" + path + ": ";
        EXPECT_TRUE(error.starts_with(begin)) << error;
        return error.substr(std::min(begin.size(), error.size()));
    };
    RestartMessage message;
    message.kind = RestartMessage::Kind::offer;
    EXPECT_EQ(answered_with(message), "it offers no socket to ask for the next restart at");
    message.version_least = message.version_most = 3;
    EXPECT_EQ(answered_with(message), "it speaks version 3 of the take-over, this one version 1");
    message.kind = RestartMessage::Kind::refusal;
    message.set_text("it is closing time");
    EXPECT_EQ(answered_with(message), "it refuses: it is closing time");
    message.magic = 0;
    EXPECT_EQ(answered_with(message), "what it says belongs to no take-over");
    ::close(listener);
}

// ---- stopping meanwhile ----

// Keeps a server from starting until the test opens it.
class Gate {
public:
    void open() { open_ = true; }
    void wait() {
        waited_for = true;
        while (!open_) std::this_thread::sleep_for(1ms);
    }
    std::atomic<bool> waited_for = false;

private:
    std::atomic<bool> open_ = false;
};

TEST(Restart, AStopWaitsForTheNewServer) {
    for (const bool starts : {true, false}) {
        const TemporaryFolder folder;
        Instance old(restartable(folder / "restart", 2), saying('a'));
        Client client(old.address());
        EXPECT_EQ(client.exchange("x"), "a");
        Gate gate;
        Server fresh(restartable(folder / "restart", 2));
        fresh.on_connection(saying('b'));
        fresh.on_start([&](Reactor& reactor) {
            if (reactor.id() != 0) return;
            gate.wait();
            if (!starts) throw std::runtime_error("no database");
        });
        std::string error = "none";
        std::thread thread([&] {
            try {
                EXPECT_EQ(fresh.run(), 0);
            } catch (const StartError& failure) {
                error = failure.what();
            }
        });
        ASSERT_TRUE(eventually([&] { return gate.waited_for.load(); }));
        old.server.stop();
        // It is asked, and still serves.
        EXPECT_EQ(Client(old.address()).exchange("x"), "a");
        EXPECT_EQ(client.exchange("y"), "a");
        const Address address = old.address();
        gate.open();
        EXPECT_TRUE(client.ends_in_order());
        EXPECT_EQ(old.running->join(), 0);
        if (starts) {
            EXPECT_EQ(Client(address).exchange("x"), "b");
            fresh.stop();
        }
        thread.join();
        EXPECT_EQ(error, starts ? "none" : "reactor 0: no database");
        EXPECT_FALSE(exists(folder / "restart"));
    }
}

// ---- under load ----

// Talks without end: numbered messages, each of which has to come back whole. Where the server ends the connection
// between two of them, it goes on over another one.
class Conversation {
public:
    explicit Conversation(const Address& address) : address_(address), thread_([this] { talk(); }) {}
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;
    ~Conversation() {
        if (thread_.joinable()) end();
    }

    std::uint64_t answered() const { return answered_; }
    bool is_broken() const { return broken_; }
    // How it was broken; empty when it was not.
    std::string end() {
        over_ = true;
        thread_.join();
        return how_;
    }

private:
    void talk() {
        int fd = -1;
        while (!over_ && !broken_) {
            if (fd < 0) fd = connect();
            if (fd < 0) break;
            const std::string message = "message " + std::to_string(answered_) + " of a conversation\n";
            if (exchange(fd, message)) {
                ++answered_;
            } else {
                ::close(std::exchange(fd, -1));
            }
        }
        if (fd >= 0) ::close(fd);
    }
    int connect() {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const timeval limit{ferrule_test::patience.count(), 0};
        ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        // One that the end of a ring has interrupted goes on by itself.
        if (::connect(fd, address_.data(), address_.size()) == 0 || errno == EINTR) return fd;
        break_off(std::string("connect: ") + std::strerror(errno));
        ::close(fd);
        return -1;
    }
    // False when the server has ended the connection in order, before it answered.
    bool exchange(int fd, const std::string& message) {
        if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) < 0 && errno != EPIPE)
            break_off(std::string("send: ") + std::strerror(errno));
        std::string answer(message.size(), '\0');
        ssize_t received = 0;
        do {
            received = ::recv(fd, answer.data(), answer.size(), MSG_WAITALL);
        } while (received < 0 && errno == EINTR);
        if (received == 0) return false;
        if (received < 0) {
            break_off(std::string("recv: ") + std::strerror(errno));
        } else if (answer != message) {
            break_off("half an answer: " + answer.substr(0, static_cast<std::size_t>(received)));
        }
        return true;
    }
    void break_off(std::string how) {
        how_ = std::move(how);
        broken_ = true;
    }

    Address address_;
    std::atomic<std::uint64_t> answered_ = 0;
    std::atomic<bool> broken_ = false;
    std::atomic<bool> over_ = false;
    std::string how_;  // the thread's, until it has ended
    std::thread thread_;
};

// As a protocol that can say so: the peer hears of the drain behind an answer. One that always has its next message
// there would be served until the drain's timeout.
Task<> converse(Connection connection) {
    while (auto received = co_await connection.read()) {
        connection.write(received.contiguous().text());
        received.reset();
        co_await connection.flush();
        if (connection.draining()) break;
    }
}

TEST(Restart, ConversationsGoOnOverThreeRestarts) {
    const TemporaryFolder folder;
    const auto options = [&folder](std::uint32_t reactors) {
        ServerOptions with = restartable(folder / "restart", reactors);
        with.network.linger_timeout = 10s;  // who answers a FIN late is not reset
        return with;
    };
    auto instance = std::make_unique<Instance>(options(2), converse);
    std::vector<std::unique_ptr<Conversation>> conversations;
    for (int number = 0; number < 8; ++number)
        conversations.push_back(std::make_unique<Conversation>(instance->address()));
    for (const std::uint32_t reactors : {3u, 1u, 2u}) {
        auto next = std::make_unique<Instance>(options(reactors), converse);
        EXPECT_EQ(instance->running->join(), 0);
        instance = std::move(next);
        // From here on only the new one can answer.
        for (const auto& conversation : conversations) {
            const std::uint64_t before = conversation->answered();
            EXPECT_TRUE(
                eventually([&] { return conversation->answered() > before + 10 || conversation->is_broken(); }));
        }
    }
    for (const auto& conversation : conversations) EXPECT_EQ(conversation->end(), "");
    EXPECT_EQ(instance->running->stop(), 0);
}

}  // namespace
