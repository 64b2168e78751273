// What a server says of its life to systemd and to the program: readiness, watchdog, reload, drain.
#include <ferrule/server.hpp>

#include "support/environment_kernel.hpp"
#include "support/running_server.hpp"
#include "support/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
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
using ferrule_test::EnvironmentKernel;
using ferrule_test::eventually;
using ferrule_test::on_loopback;
using ferrule_test::Running;
using ferrule_test::start_error_of;
using ferrule_test::TemporaryFolder;

using Variables = std::map<std::string, std::string>;

std::string this_process() {
    return std::to_string(::getpid());
}

// In systemd's place: the socket that messages come to.
class NotifySocket {
public:
    explicit NotifySocket(const std::string& name)
        : address_(Address::parse("unix:" + name, 0).value()), fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        const timeval limit{ferrule_test::patience.count(), 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        EXPECT_EQ(::bind(fd_, address_.data(), address_.size()), 0) << std::strerror(errno);
    }
    NotifySocket(const NotifySocket&) = delete;
    NotifySocket& operator=(const NotifySocket&) = delete;
    ~NotifySocket() { ::close(fd_); }

    // The next message; empty when there is none.
    std::string receive(int flags = 0) {
        std::string text(4096, '\0');
        ssize_t size = 0;
        do {
            size = ::recv(fd_, text.data(), text.size(), flags);
        } while (size < 0 && errno == EINTR);
        text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
        return text;
    }
    // The next message with this word in it.
    std::string receive_with(std::string_view word) {
        for (;;) {
            std::string text = receive();
            if (text.empty() || text.find(word) != text.npos) return text;
        }
    }
    std::vector<std::string> receive_all() {
        std::vector<std::string> all;
        for (std::string text; !(text = receive(MSG_DONTWAIT)).empty();) all.push_back(text);
        return all;
    }
    // Fills it with messages of nobody's; how many.
    int fill() {
        const int sender = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        EXPECT_EQ(::connect(sender, address_.data(), address_.size()), 0);
        int sent = 0;
        while (::send(sender, "filler", 6, 0) == 6) ++sent;
        ::close(sender);
        return sent;
    }

private:
    Address address_;
    int fd_;
};

// ---- readiness ----

TEST(LifeCycle, SystemdIsToldOfStartReloadAndEnd) {
    const TemporaryFolder folder;
    for (const std::string& name : {folder / "notify", "@ferrule-life-cycle-" + this_process()}) {
        NotifySocket systemd(name);
        EnvironmentKernel kernel({{"NOTIFY_SOCKET", name}});
        Server server(on_loopback(2), kernel);
        server.on_connection(echo);
        server.on_reload([](Reload&) {});
        Running running(server);
        EXPECT_EQ(systemd.receive(), "READY=1\nSTATUS=Serving");
        server.reload();
        const std::string reloading = systemd.receive();
        const std::string begin = "RELOADING=1\nMONOTONIC_USEC=";
        EXPECT_TRUE(reloading.starts_with(begin) && reloading.ends_with("\nSTATUS=Reloading")) << reloading;
        const auto told_us = std::stoull(reloading.substr(std::min(begin.size(), reloading.size())));
        EXPECT_LE(told_us, linux_kernel().monotonic_ns() / 1000);
        EXPECT_EQ(systemd.receive(), "READY=1\nSTATUS=Reloaded");
        EXPECT_EQ(running.stop(), 0);
        EXPECT_EQ(systemd.receive(), "STOPPING=1\nSTATUS=Draining");
    }
}

TEST(LifeCycle, SystemdIsLeftAloneByOptionAndWithoutASocket) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    for (const Variables& variables :
         {Variables{{"NOTIFY_SOCKET", folder / "notify"}}, Variables{}, Variables{{"NOTIFY_SOCKET", ""}}}) {
        EnvironmentKernel kernel(variables);
        ServerOptions options = on_loopback();
        options.systemd = !variables.contains("NOTIFY_SOCKET") || variables.at("NOTIFY_SOCKET").empty();
        Server server(options, kernel);
        server.on_connection(echo);
        Running running(server);
        EXPECT_EQ(running.stop(), 0);
    }
    EXPECT_TRUE(systemd.receive_all().empty());
}

TEST(LifeCycle, WhatSystemdSaysWronglyEndsTheStart) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    const std::string nobody = folder / "nobody";
    const std::string notify = folder / "notify";
    struct {
        Variables variables;
        std::string error;
    } const cases[] = {
        {{{"NOTIFY_SOCKET", "vsock:2:1"}},
         "NOTIFY_SOCKET=vsock:2:1: it is neither the path nor the abstract name of a Unix socket"},
        {{{"NOTIFY_SOCKET", nobody}}, "connect to NOTIFY_SOCKET=" + nobody + ": No such file or directory"},
        {{{"NOTIFY_SOCKET", notify}, {"WATCHDOG_USEC", "soon"}},
         "WATCHDOG_USEC=soon: it is not a number of microseconds"},
        {{{"NOTIFY_SOCKET", notify}, {"WATCHDOG_USEC", "0"}}, "WATCHDOG_USEC=0: it is not a number of microseconds"},
    };
    for (const auto& [variables, error] : cases) {
        EnvironmentKernel kernel(variables);
        Server server(on_loopback(), kernel);
        server.on_connection(echo);
        EXPECT_EQ(start_error_of(server), error);
    }
}

TEST(LifeCycle, AMessageWaitsWhileSystemdHasNoRoom) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    const int fillers = systemd.fill();
    EnvironmentKernel kernel({{"NOTIFY_SOCKET", folder / "notify"}});
    Server server(on_loopback(), kernel);
    server.on_connection(echo);
    Running running(server);
    for (int number = 0; number < fillers; ++number) EXPECT_EQ(systemd.receive(), "filler");
    EXPECT_EQ(systemd.receive(), "READY=1\nSTATUS=Serving");
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(systemd.receive(), "STOPPING=1\nSTATUS=Draining");
}

// ---- watchdog ----

// Holds a thread until the test opens it.
class Gate {
public:
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        opened_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        waited_for_ = true;
        opened_.notify_all();
        opened_.wait(lock, [this] { return open_; });
    }
    void wait_until_waited_for() {
        std::unique_lock lock(mutex_);
        opened_.wait(lock, [this] { return waited_for_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable opened_;
    bool open_ = false;
    bool waited_for_ = false;
};

TEST(LifeCycle, TheWatchdogIsFedWhileEveryLoopTurns) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    EnvironmentKernel kernel(
        {{"NOTIFY_SOCKET", folder / "notify"}, {"WATCHDOG_USEC", "20000"}, {"WATCHDOG_PID", this_process()}});
    Gate gate;
    std::atomic<Reactor*> victim = nullptr;
    Server server(on_loopback(2), kernel);
    server.on_start([&](Reactor& reactor) {
        if (reactor.id() == 1) victim = &reactor;
    });
    server.on_connection(echo);
    Running running(server);
    for (int number = 0; number < 3; ++number) EXPECT_EQ(systemd.receive_with("WATCHDOG"), "WATCHDOG=1");
    ASSERT_TRUE(victim.load()->post([&gate] { gate.wait(); }));
    gate.wait_until_waited_for();
    systemd.receive_all();
    // What the stuck reactor has answered before may still be told. Nothing else is, however long one waits.
    std::this_thread::sleep_for(100ms);
    EXPECT_LE(systemd.receive_all().size(), 1u);
    gate.open();
    EXPECT_EQ(systemd.receive_with("WATCHDOG"), "WATCHDOG=1");
    EXPECT_EQ(running.stop(), 0);
}

TEST(LifeCycle, TheWatchdogOfAnotherProcessIsNotFed) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    EnvironmentKernel kernel({{"NOTIFY_SOCKET", folder / "notify"}, {"WATCHDOG_USEC", "100"}, {"WATCHDOG_PID", "1"}});
    Server server(on_loopback(), kernel);
    server.on_connection(echo);
    Running running(server);
    Client client(running.address());
    EXPECT_EQ(client.exchange("x"), "x");
    EXPECT_EQ(running.stop(), 0);
    for (const std::string& message : systemd.receive_all()) EXPECT_EQ(message.find("WATCHDOG"), message.npos);
}

// ---- reload ----

TEST(LifeCycle, AReloadReachesEveryReactor) {
    Server server(on_loopback(3));
    server.on_connection(echo);
    std::mutex mutex;
    std::multiset<std::string> called;
    const auto note = [&](const std::string& what) {
        const std::lock_guard lock(mutex);
        called.insert(what);
    };
    for (const std::string name : {"first", "second"}) {
        server.on_reload([&, name](Reload& reload) {
            note(name);
            reload.on_each_reactor([&, name](Reactor& reactor) {
                EXPECT_EQ(Reactor::current(), &reactor);
                note(name + std::to_string(reactor.id()));
            });
        });
    }
    Running running(server);
    server.reload();
    EXPECT_TRUE(eventually([&] {
        const std::lock_guard lock(mutex);
        return called.size() == 8;
    }));
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(called, (std::multiset<std::string>{"first", "first0", "first1", "first2", "second", "second0", "second1",
                                                  "second2"}));
}

TEST(LifeCycle, AReloadThatThrowsLeavesEverythingAsItWas) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    EnvironmentKernel kernel({{"NOTIFY_SOCKET", folder / "notify"}});
    Server server(on_loopback(2), kernel);
    server.on_connection(echo);
    std::mutex mutex;
    std::vector<std::string> said;
    server.on_log([&](const LogMessage& message) {
        const std::lock_guard lock(mutex);
        said.emplace_back(message.text);
    });
    std::atomic<bool> fails = true;
    std::atomic<int> applied = 0;
    server.on_reload([&](Reload& reload) { reload.on_each_reactor([&](Reactor&) { ++applied; }); });
    server.on_reload([&](Reload&) {
        if (fails) throw std::runtime_error("no\nsettings");
    });
    Running running(server);
    server.reload();
    EXPECT_EQ(systemd.receive_with("failed"), "READY=1\nSTATUS=Reload failed: no settings");
    EXPECT_EQ(applied, 0);
    fails = false;
    server.reload();
    EXPECT_EQ(systemd.receive_with("READY"), "READY=1\nSTATUS=Reloaded");
    EXPECT_EQ(applied, 2);
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(said, std::vector<std::string>{"reload: no\nsettings; what was before stays"});
}

TEST(LifeCycle, WhatAReloadThrowsOnAReactorIsItsFault) {
    Server server(on_loopback(2));
    server.on_connection(echo);
    std::atomic<int> faults = 0;
    server.on_fault([&](Reactor&, std::exception_ptr) { ++faults; });
    std::atomic<int> applied = 0;
    server.on_reload([&](Reload& reload) {
        reload.on_each_reactor([](Reactor& reactor) {
            if (reactor.id() == 0) throw std::runtime_error("as asked");
        });
        reload.on_each_reactor([&](Reactor&) { ++applied; });
    });
    Running running(server);
    server.reload();
    EXPECT_TRUE(eventually([&] { return faults == 1 && applied == 2; }));
    Client client(running.address());
    EXPECT_EQ(client.exchange("x"), "x");
    EXPECT_EQ(running.stop(), 0);
}

TEST(LifeCycle, ReloadsThatAreAskedForMeanwhileBecomeOne) {
    Server server(on_loopback(2));
    server.on_connection(echo);
    std::atomic<int> reloads = 0;
    server.on_reload([&](Reload&) {
        if (++reloads != 1) return;
        for (int number = 0; number < 3; ++number) server.reload();
    });
    server.reload();  // before the server serves: nothing
    Running running(server);
    EXPECT_EQ(reloads, 0);
    server.reload();
    EXPECT_TRUE(eventually([&] { return reloads == 2; }));
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(reloads, 2);
}

TEST(LifeCycle, SighupReloads) {
    ServerOptions options = on_loopback(2);
    options.handle_signals = true;
    Server server(options);
    server.on_connection(echo);
    int reloads = 0;
    server.on_reload([&](Reload&) {
        ++reloads;
        server.stop();
    });
    server.on_listening([] { ::kill(::getpid(), SIGHUP); });
    EXPECT_EQ(server.run(), 0);
    EXPECT_EQ(reloads, 1);
}

TEST(LifeCycle, SighupIsLeftAloneWithoutSomethingToReload) {
    ServerOptions options = on_loopback();
    options.handle_signals = true;
    Server server(options);
    server.on_connection(echo);
    sigset_t seen;
    sigemptyset(&seen);
    server.on_start([&](Reactor&) { pthread_sigmask(SIG_BLOCK, nullptr, &seen); });
    server.on_listening([&] { server.stop(); });
    EXPECT_EQ(server.run(), 0);
    EXPECT_EQ(sigismember(&seen, SIGTERM), 1);
    EXPECT_EQ(sigismember(&seen, SIGHUP), 0);
}

// ---- drain ----

// Does what the first byte says, for ever.
Task<> as_asked(Connection connection) {
    char what = 0;
    if (auto received = co_await connection.read()) {
        what = received.contiguous().text()[0];
        received.consume(0);  // its end leaves what was read, and a message that has begun is not idle
    }
    if (what == 'w') {
        connection.write("w");
        co_await connection.flush();
        const auto slept = co_await sleep_for(1h);
        EXPECT_FALSE(slept);
    } else if (what == 's') {
        connection.write(std::string(12u << 20, 's'));
        co_await connection.flush();
    } else {
        connection.write("r");
        co_await connection.flush();
        const auto more = co_await connection.read();
        EXPECT_FALSE(more);
    }
}

std::string last_of(const std::vector<DrainProgress>& told) {
    if (told.empty()) return "nothing was told";
    const DrainProgress& last = told.back();
    return std::to_string(told.size()) + " times, at last: reactors " + std::to_string(last.reactors) + ", working " +
           std::to_string(last.working) + ", sending " + std::to_string(last.sending) + ", reading " +
           std::to_string(last.reading) + ", closing " + std::to_string(last.closing) + ", " +
           std::to_string(last.time_left.count()) + " ms left";
}

TEST(LifeCycle, ADrainTellsHowFarItIs) {
    const TemporaryFolder folder;
    NotifySocket systemd(folder / "notify");
    EnvironmentKernel kernel({{"NOTIFY_SOCKET", folder / "notify"}});
    ServerOptions options = on_loopback(2);
    options.drain_timeout = 1h;
    Server server(options, kernel);
    server.on_connection(as_asked);
    std::mutex mutex;
    std::vector<DrainProgress> told;
    server.on_drain_progress([&](const DrainProgress& progress) {
        {
            const std::lock_guard lock(mutex);
            told.push_back(progress);
        }
        throw std::runtime_error("it is said, and the drain goes on");
    });
    std::atomic<int> said = 0;
    server.on_log([&](const LogMessage& message) {
        if (message.cause == "drain-hook-failed") ++said;
    });
    Running running(server);
    std::vector<Client> clients;
    for (const char* what : {"w", "s", "r", "w"}) {
        clients.emplace_back(running.address());
        clients.back().send(what);
        EXPECT_EQ(clients.back().receive(1), what);
    }
    server.stop();
    // One that has just been answered may still be at work when they are counted first, and a reactor that no client
    // has come to has ended.
    const auto is_right = [](const DrainProgress& progress) {
        return progress.reactors >= 1 && progress.working == 2 && progress.sending == 1 && progress.reading == 1 &&
               progress.closing == 0 && progress.connections() == 4 && progress.time_left > 50min &&
               progress.time_left <= 1h;
    };
    ASSERT_TRUE(eventually([&] {
        const std::lock_guard lock(mutex);
        return std::ranges::any_of(told, is_right);
    })) << last_of(told);
    const std::string message = systemd.receive_with("(2 working, 1 sending, 1 reading, 0 closing), ");
    EXPECT_TRUE(message.starts_with("STATUS=Draining: 4 connections are left (")) << message;
    const std::string asked = "EXTEND_TIMEOUT_USEC=";
    const auto at = message.find(asked);
    ASSERT_NE(at, message.npos) << message;
    EXPECT_GT(std::stoull(message.substr(at + asked.size())), 3'000'000'000u);
    server.stop();
    EXPECT_EQ(running.join(), 0);
    EXPECT_EQ(told.back().reactors, 0u);
    EXPECT_EQ(told.back().connections(), 0u);
    EXPECT_EQ(told.back().time_left, 0ms);
    EXPECT_GE(said, 1);
}

}  // namespace
