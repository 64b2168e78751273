#include <ferrule/server.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/running_server.hpp"
#include "support/temporary_folder.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace std::chrono_literals;
using ferrule_test::Call;
using ferrule_test::Client;
using ferrule_test::echo;
using ferrule_test::eventually;
using ferrule_test::ForwardingKernel;
using ferrule_test::on_loopback;
using ferrule_test::Running;
using ferrule_test::start_error_of;
using ferrule_test::tell_reactor;

int open_descriptors() {
    int count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
}

bool has_ipv6() {
    const Address address = Address::loopback_ipv6(0);
    const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool bound = fd >= 0 && ::bind(fd, address.data(), address.size()) == 0;
    if (fd >= 0) ::close(fd);
    return bound;
}

// ---- serving ----

TEST(Server, E1ServesAndStops) {
    const int before = open_descriptors();
    {
        Server server(on_loopback());
        server.on_connection(echo);
        Running running(server);
        Client client(running.address());
        EXPECT_EQ(client.exchange("hello"), "hello");
        EXPECT_EQ(server.port(), running.address().port());
        EXPECT_EQ(running.stop(), 0);
        EXPECT_TRUE(client.ends_in_order());
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Server, E7FourReactorsTwentyClientsFiveRoundTrips) {
    Server server(on_loopback(4));
    server.on_connection(echo);
    Running running(server);
    std::vector<std::thread> clients;
    for (int number = 0; number < 20; ++number) {
        clients.emplace_back([&running, number] {
            Client client(running.address());
            for (int trip = 0; trip < 5; ++trip) {
                const std::string message = "client " + std::to_string(number) + " trip " + std::to_string(trip);
                EXPECT_EQ(client.exchange(message), message);
            }
        });
    }
    for (auto& client : clients) client.join();
    EXPECT_EQ(server.counters().accepted, 20u);
    EXPECT_EQ(running.stop(), 0);
}

TEST(Server, OneReactorForEachAllowedCpuByDefault) {
    cpu_set_t allowed;
    ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
    ServerOptions options = on_loopback(0);
    Server server(options);
    EXPECT_EQ(server.reactors(), static_cast<std::size_t>(CPU_COUNT(&allowed)));
    std::atomic<std::size_t> started = 0;
    server.on_start([&](Reactor&) { ++started; });
    server.on_connection(echo);
    Running running(server);
    EXPECT_EQ(started, server.reactors());
    EXPECT_EQ(server.counters().reactors, server.reactors());
}

TEST(Server, PinnedReactorsStayOnOneCpuEach) {
    ServerOptions options = on_loopback(0);
    options.pin_reactors = true;
    Server server(options);
    std::mutex mutex;
    std::set<int> cpus;
    server.on_start([&](Reactor&) {
        cpu_set_t allowed;
        ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
        EXPECT_EQ(CPU_COUNT(&allowed), 1);
        const std::lock_guard lock(mutex);
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) cpus.insert(cpu);
        }
    });
    server.on_connection(echo);
    Running running(server);
    EXPECT_EQ(cpus.size(), server.reactors());
}

TEST(Server, SeveralPortsHaveAHandlerEach) {
    Server server(on_loopback(2));
    server.on_connection(echo);
    PortOptions second;
    second.host = "127.0.0.1";
    second.port = 0;
    server.listen(second, tell_reactor);
    Running running(server);
    EXPECT_NE(running.address(0).port(), running.address(1).port());
    Client first(running.address(0));
    EXPECT_EQ(first.exchange("x"), "x");
    Client other(running.address(1));
    const std::string answer = other.exchange("x");
    EXPECT_TRUE(answer == "0" || answer == "1") << answer;
}

TEST(Server, ListensOnlyWhereAHandlerIs) {
    Server server;  // whose first port would be 8080
    PortOptions only;
    only.host = "127.0.0.1";
    only.port = 0;
    server.listen(only, echo);
    Running running(server);
    ASSERT_EQ(server.addresses().size(), 1u);
    EXPECT_EQ(server.port(), running.address().port());
    Client client(running.address());
    EXPECT_EQ(client.exchange("x"), "x");
}

TEST(Server, DefaultHostTakesIpv4AndIpv6) {
    ServerOptions options = on_loopback();
    options.host.clear();
    Server server(options);
    server.on_connection(echo);
    Running running(server);
    Client ipv4(Address::loopback(server.port()));
    EXPECT_EQ(ipv4.exchange("x"), "x");
    if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
    Client ipv6(Address::loopback_ipv6(server.port()));
    EXPECT_EQ(ipv6.exchange("x"), "x");
}

TEST(Server, DefaultHostIsIpv4WhereThereIsNoIpv6) {
    struct : ForwardingKernel {
        int socket(int domain, int type, int protocol) noexcept override {
            return domain == AF_INET6 ? -EAFNOSUPPORT : ForwardingKernel::socket(domain, type, protocol);
        }
    } kernel;
    ServerOptions options = on_loopback();
    options.host.clear();
    Server server(options, kernel);
    server.on_connection(echo);
    Running running(server);
    EXPECT_EQ(running.address(), Address::any_ipv4(server.port()));
    Client client(Address::loopback(server.port()));
    EXPECT_EQ(client.exchange("x"), "x");
}

TEST(Server, SmallRingsServeToo) {
    ServerOptions options = on_loopback();
    options.reactor.submission_entries = 4;
    options.reactor.completion_entries = 8;
    options.network.receive_buffer_count = 1;
    Server server(options);
    server.on_connection(echo);
    Running running(server);
    std::vector<Client> clients;
    for (int number = 0; number < 20; ++number) clients.emplace_back(running.address());
    for (auto& client : clients) client.send("hello");
    for (auto& client : clients) EXPECT_EQ(client.receive(5), "hello");
}

// 64 KiB x 32 Ki is 2^31: it works, or it is refused with a reason, and nothing hangs.
TEST(Server, B19TwoGigabytesOfBuffersServeOrAreRefused) {
    ServerOptions options = on_loopback();
    options.network.receive_buffer_size = 64 * 1024;
    options.network.receive_buffer_count = 32 * 1024;
    Server server(options);
    server.on_connection(echo);
    try {
        Running running(server);
        if (server.counters().reactors != 0) {
            Client client(running.address());
            EXPECT_EQ(client.exchange("x"), "x");
        }
        running.stop();
    } catch (const StartError& error) {
        EXPECT_NE(std::string(error.what()).find("receive buffers"), std::string::npos) << error.what();
    }
}

// ---- accept modes ----

TEST(Server, RoundRobinGivesToEachInTurn) {
    ServerOptions options = on_loopback(3);
    options.accept_mode = AcceptMode::hand_over_round_robin;
    Server server(options);
    server.on_connection(tell_reactor);
    Running running(server);
    std::vector<Client> clients;
    std::string reactors;
    for (int number = 0; number < 9; ++number) {
        clients.emplace_back(running.address());
        reactors += clients.back().exchange("x");
    }
    EXPECT_EQ(reactors, "012012012");
    // The giver counts when it has given: the last one may be served by then.
    EXPECT_TRUE(eventually([&] { return server.counters().handed_over == 6; }));
}

TEST(Server, LeastLoadedGivesToTheOneWithFewest) {
    ServerOptions options = on_loopback(3);
    options.accept_mode = AcceptMode::hand_over_least_loaded;
    Server server(options);
    server.on_connection(tell_reactor);
    Running running(server);
    std::vector<std::unique_ptr<Client>> clients(3);
    for (int number = 0; number < 9; ++number) {
        auto client = std::make_unique<Client>(running.address());
        const std::string reactor = client->exchange("x");
        ASSERT_EQ(reactor, std::to_string(number % 3));
        if (number < 3)
            clients[static_cast<std::size_t>(number)] = std::move(client);
        else
            clients.push_back(std::move(client));
    }
    clients[1].reset();
    ASSERT_TRUE(eventually([&] { return server.counters().connections == 8; }));
    Client next(running.address());
    EXPECT_EQ(next.exchange("x"), "1");
}

TEST(Server, AReactorAtItsLimitHandsOver) {
    ServerOptions options = on_loopback(4);
    options.network.connection_limit = 2;
    Server server(options);
    server.on_connection(echo);
    Running running(server);
    // However the kernel spreads them, all eight are served.
    std::vector<Client> clients;
    for (int number = 0; number < 8; ++number) {
        clients.emplace_back(running.address());
        EXPECT_EQ(clients.back().exchange("x"), "x");
    }
    EXPECT_EQ(server.counters().connections, 8u);
    // One more waits until there is room again.
    Client waiting(running.address());
    waiting.send("y");
    clients.clear();
    EXPECT_EQ(waiting.receive(1), "y");
}

TEST(Server, UnixSocketsAreHandedOverAndRemoved) {
    const ferrule_test::TemporaryFolder folder;
    const std::string path = folder / "server.socket";
    ServerOptions options = on_loopback(2);
    options.host = "unix:" + path;
    options.unix_mode = 0600;
    Server server(options);
    server.on_connection(tell_reactor);
    {
        Running running(server);
        EXPECT_EQ(server.port(), 0);
        EXPECT_EQ(running.address().to_string(), "unix:" + path);
        std::string reactors;
        std::vector<Client> clients;
        for (int number = 0; number < 4; ++number) {
            clients.emplace_back(running.address());
            reactors += clients.back().exchange("x");
        }
        EXPECT_EQ(reactors, "0101");
        EXPECT_EQ(running.stop(), 0);
    }
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Server, InheritedListenersAreTakenOver) {
    const int before = open_descriptors();
    {
        PortOptions inherited;
        inherited.descriptor =
            open_listen_socket(linux_kernel(), {.address = Address::loopback(0), .reuse_port = false}).value();
        const Address address = local_address(linux_kernel(), inherited.descriptor).value();
        Server server(on_loopback(2));
        server.listen(inherited, tell_reactor);
        Running running(server);
        EXPECT_EQ(running.address(), address);
        Client first(address);
        EXPECT_EQ(first.exchange("x"), "0");
        Client second(address);
        EXPECT_EQ(second.exchange("x"), "1");
        EXPECT_EQ(running.stop(), 0);
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Server, InheritedListenersAreClosedWhenTheServerNeverRuns) {
    const int before = open_descriptors();
    {
        PortOptions inherited;
        inherited.descriptor = open_listen_socket(linux_kernel(), {.address = Address::loopback(0)}).value();
        Server server(on_loopback());
        server.listen(inherited, echo);
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Server, InheritedDescriptorsThatDoNotListenAreRefused) {
    const int before = open_descriptors();
    {
        PortOptions inherited;
        inherited.descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const std::string number = std::to_string(inherited.descriptor);
        Server server(on_loopback());
        server.listen(inherited, echo);
        EXPECT_EQ(start_error_of(server), "accept on descriptor " + number + ": it is not a listening socket");
    }
    EXPECT_EQ(open_descriptors(), before);
}

// ---- what cannot start ----

TEST(Server, MisuseIsRefused) {
    EXPECT_THROW(Server({.port = 70000}), ConfigurationError);
    Server server(on_loopback());
    EXPECT_THROW(server.run(), std::logic_error);
    EXPECT_THROW(server.on_connection(nullptr), ConfigurationError);
    EXPECT_THROW(server.listen({}, nullptr), ConfigurationError);
    EXPECT_THROW(server.listen({.port = -1}, echo), ConfigurationError);
    server.on_connection(echo);
    EXPECT_THROW(server.on_connection(echo), std::logic_error);
    server.stop();
    EXPECT_EQ(server.run(), 0);
    EXPECT_THROW(server.run(), std::logic_error);
}

TEST(Server, APortThatAnotherServerHasIsAnError) {
    Server first(on_loopback());
    first.on_connection(echo);
    Running running(first);
    ServerOptions options = on_loopback();
    options.port = first.port();
    Server second(options);
    second.on_connection(echo);
    EXPECT_EQ(start_error_of(second), "bind " + running.address().to_string() + ": Address already in use");

    options.take_over = true;
    Server heir(options);
    heir.on_connection(tell_reactor);
    Running heir_running(heir);
    EXPECT_EQ(running.stop(), 0);
    Client client(heir_running.address());
    EXPECT_EQ(client.exchange("x"), "0");
}

TEST(Server, AStartHookThatThrowsEndsTheStart) {
    const int before = open_descriptors();
    {
        Server server(on_loopback(3));
        server.on_connection(echo);
        server.on_start([](Reactor& reactor) {
            if (reactor.id() == 1) throw std::runtime_error("no database");
        });
        bool listening = false;
        server.on_listening([&] { listening = true; });
        EXPECT_EQ(start_error_of(server), "reactor 1: no database");
        EXPECT_FALSE(listening);
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Server, AListeningHookThatThrowsEndsTheServer) {
    Server server(on_loopback(2));
    server.on_connection(echo);
    server.on_listening([] { throw std::out_of_range("no pid file"); });
    EXPECT_THROW(server.run(), std::out_of_range);
}

// Every call of the seam that starting makes fails once, the first time, the second, and so on: the server either
// starts or says why not, and leaves nothing behind.
TEST(Server, AFailureAtAnyPointOfTheStartIsReportedAndLeavesNothing) {
    sigset_t mask_before;
    pthread_sigmask(SIG_BLOCK, nullptr, &mask_before);
    const int before = open_descriptors();
    for (const Call call : {Call::setup, Call::register_, Call::map, Call::socket, Call::bind, Call::listen,
                            Call::set_option, Call::socket_name, Call::event_descriptor, Call::signal_descriptor,
                            Call::block_signals, Call::start_thread, Call::set_affinity, Call::affinity}) {
        for (std::uint64_t skipped = 0;; ++skipped) {
            SCOPED_TRACE("call " + std::to_string(static_cast<int>(call)) + ", skipped " + std::to_string(skipped));
            ForwardingKernel kernel;
            kernel.fail(call, EPERM, 1, skipped);
            ServerOptions options = on_loopback(2);
            options.handle_signals = true;
            options.pin_reactors = true;
            Server server(options, kernel);
            server.on_connection(echo);
            bool served = false;
            server.on_listening([&] {
                Client client(server.addresses().front());
                served = client.connected();
                server.stop();
            });
            try {
                EXPECT_EQ(server.run(), 0);
                EXPECT_TRUE(served);
            } catch (const StartError& error) {
                EXPECT_NE(std::string(error.what()).find("not permitted"), std::string::npos) << error.what();
                EXPECT_FALSE(served);
            }
            EXPECT_EQ(open_descriptors(), before);
            sigset_t mask_now;
            pthread_sigmask(SIG_BLOCK, nullptr, &mask_now);
            EXPECT_EQ(sigismember(&mask_now, SIGTERM), sigismember(&mask_before, SIGTERM));
            if (HasFailure()) return;
            if (kernel.calls(call) <= skipped) break;
        }
    }
}

/// A user who may lock only so many entries of all rings together.
class TightKernel : public ForwardingKernel {
public:
    explicit TightKernel(std::uint32_t entries) : left_(entries) {}

    int io_uring_setup(std::uint32_t entries, ferrule::abi::Parameters* parameters) noexcept override {
        const std::lock_guard lock(mutex_);
        if (entries > left_) return -ENOMEM;
        const int ring = ForwardingKernel::io_uring_setup(entries, parameters);
        if (ring >= 0) {
            rings_[ring] = entries;
            left_ -= entries;
        }
        return ring;
    }
    int close(int fd) noexcept override {
        const std::lock_guard lock(mutex_);
        if (const auto ring = rings_.find(fd); ring != rings_.end()) {
            left_ += ring->second;
            rings_.erase(ring);
        }
        return ForwardingKernel::close(fd);
    }
    std::vector<std::uint32_t> rings() {
        const std::lock_guard lock(mutex_);
        std::vector<std::uint32_t> entries;
        for (const auto& [ring, size] : rings_) entries.push_back(size);
        std::sort(entries.begin(), entries.end());
        return entries;
    }

private:
    std::mutex mutex_;
    std::uint32_t left_;
    std::map<int, std::uint32_t> rings_;
};

TEST(Server, UnderATightLimitOfLockedMemoryAllRingsAreHalvedAlike) {
    TightKernel kernel(2500);
    ServerOptions options = on_loopback(4);
    options.reactor.submission_entries = 1024;
    Server server(options, kernel);
    server.on_connection(tell_reactor);
    Running running(server);
    Client client(running.address());
    EXPECT_EQ(client.exchange("x").size(), 1u);
    EXPECT_EQ(kernel.rings(), (std::vector<std::uint32_t>{8, 512, 512, 512, 512}));
    EXPECT_EQ(running.stop(), 0);
}

TEST(Server, LockedMemoryForNoMoreThanAFewRingsIsAnError) {
    TightKernel kernel(20);
    Server server(on_loopback(8), kernel);
    server.on_connection(echo);
    try {
        server.run();
        ADD_FAILURE() << "it started";
    } catch (const StartError& error) {
        EXPECT_EQ(error.code(), std::errc::not_enough_memory);
        EXPECT_NE(std::string(error.what()).find("reactor "), std::string::npos) << error.what();
    }
    EXPECT_EQ(kernel.rings(), std::vector<std::uint32_t>{});
}

// ---- faults ----

TEST(Server, A7AHandlerThatThrowsHarmsOnlyItsConnection) {
    Server server(on_loopback());
    std::mutex mutex;
    std::vector<std::string> faults;
    server.on_fault([&](Reactor&, std::exception_ptr fault) {
        const std::lock_guard lock(mutex);
        try {
            std::rethrow_exception(fault);
        } catch (const std::exception& error) {
            faults.emplace_back(error.what());
        }
    });
    struct Throws {
        static Task<> handle(Connection connection) {
            while (auto received = co_await connection.read()) {
                if (received.contiguous().text() == "throw") throw std::runtime_error("as asked");
                for (const auto slice : received) connection.write(slice);
                co_await connection.flush();
            }
        }
    };
    server.on_connection(Throws::handle);
    Running running(server);
    Client other(running.address());
    EXPECT_EQ(other.exchange("before"), "before");
    Client victim(running.address());
    victim.send("throw");
    EXPECT_TRUE(victim.ends());
    EXPECT_EQ(other.exchange("after"), "after");
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(faults, std::vector<std::string>{"as asked"});
    EXPECT_EQ(server.counters().faults, 1u);
}

TEST(Server, AReactorThatFailsLeavesTheOthersServing) {
    // Fails every enter of the thread that is marked.
    struct FailingKernel : ForwardingKernel {
        std::atomic<std::uint64_t> failing_thread = 0;
        int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                           const void* argument, std::size_t size) noexcept override {
            if (thread_identity() == failing_thread) return -EBADFD;
            return ForwardingKernel::io_uring_enter(fd, to_submit, min_complete, flags, argument, size);
        }
    } kernel;
    Server server(on_loopback(2), kernel);
    std::promise<Reactor*> failed;
    server.on_fault([&](Reactor& reactor, std::exception_ptr) { failed.set_value(&reactor); });
    std::atomic<Reactor*> victim = nullptr;
    server.on_start([&](Reactor& reactor) {
        if (reactor.id() == 1) victim = &reactor;
    });
    server.on_connection(tell_reactor);
    Running running(server);
    ASSERT_TRUE(victim.load()->post([&] { kernel.failing_thread = kernel.thread_identity(); }));
    EXPECT_EQ(failed.get_future().get(), victim.load());
    // None of these may be lost to the socket of the reactor that is no more.
    for (int number = 0; number < 20; ++number) {
        Client client(running.address());
        EXPECT_EQ(client.exchange("x"), "0");
    }
    EXPECT_EQ(server.counters().reactors, 1u);
    EXPECT_EQ(running.stop(), 1);
}

// ---- ending ----

TEST(Server, StopBeforeRunReturnsAtOnce) {
    Server server(on_loopback(2));
    server.on_connection(echo);
    server.stop();
    EXPECT_EQ(server.run(), 0);
}

TEST(Server, SignalsDrainAndAreGivenBack) {
    for (const int signal : {SIGTERM, SIGINT}) {
        sigset_t before;
        pthread_sigmask(SIG_BLOCK, nullptr, &before);
        ServerOptions options = on_loopback(2);
        options.handle_signals = true;
        Server server(options);
        server.on_connection(echo);
        std::unique_ptr<Client> idle;
        server.on_listening([&] {
            idle = std::make_unique<Client>(server.addresses().front());
            EXPECT_EQ(idle->exchange("x"), "x");
            ::kill(::getpid(), signal);
        });
        EXPECT_EQ(server.run(), 0);
        EXPECT_TRUE(idle->ends_in_order());
        sigset_t after;
        pthread_sigmask(SIG_BLOCK, nullptr, &after);
        EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal));
        sigset_t pending;
        sigpending(&pending);
        EXPECT_EQ(sigismember(&pending, signal), 0);
    }
}

TEST(Server, SignalsAreLeftAloneByOption) {
    sigset_t seen;
    sigfillset(&seen);
    Server server(on_loopback());
    server.on_start([&](Reactor&) { pthread_sigmask(SIG_BLOCK, nullptr, &seen); });
    server.on_connection(echo);
    Running running(server);
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(sigismember(&seen, SIGTERM), 0);
}

// Lets a handler wait in the middle of a request until the test opens it.
class Gate {
public:
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        opened_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        opened_.wait(lock, [this] { return open_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable opened_;
    bool open_ = false;
};

Task<> answer_when_open(Connection connection, Gate& gate, std::atomic<int>& begun) {
    while (auto received = co_await connection.read()) {
        received.reset();
        ++begun;
        auto wait = [&gate] { gate.wait(); };
        const auto waited = co_await offload(wait);
        EXPECT_TRUE(waited);
        connection.write("answer");
        co_await connection.flush();
    }
}

TEST(Server, DrainEndsIdleConnectionsAndLetsOthersFinish) {
    Gate gate;
    std::atomic<int> begun = 0;
    Server server(on_loopback(2));
    server.on_connection([&](Connection connection) { return answer_when_open(std::move(connection), gate, begun); });
    Running running(server);
    Client idle(running.address());
    Client busy(running.address());
    busy.send("request");
    ASSERT_TRUE(eventually([&] { return begun == 1; }));
    server.stop();
    EXPECT_TRUE(idle.ends_in_order());
    gate.open();
    std::string answer;
    EXPECT_TRUE(busy.ends_in_order(&answer));
    EXPECT_EQ(answer, "answer");
    EXPECT_EQ(running.join(), 0);
}

TEST(Server, A12ASecondStopEndsLiveConnections) {
    const int before = open_descriptors();
    {
        ServerOptions options = on_loopback(2);
        options.drain_timeout = 1h;
        Server server(options);
        // A connection that always has something unread is not idle, so a drain alone does not end it.
        struct Holds {
            static Task<> handle(Connection connection) {
                auto received = co_await connection.read();
                connection.write("held");
                co_await connection.flush();
                auto slept = co_await sleep_for(1h);
                EXPECT_FALSE(slept);
            }
        };
        server.on_connection(Holds::handle);
        Running running(server);
        std::vector<Client> clients;
        for (int number = 0; number < 8; ++number) {
            clients.emplace_back(running.address());
            clients.back().send("hold");
            EXPECT_EQ(clients.back().receive(4), "held");
        }
        server.stop();
        server.stop();
        for (auto& client : clients) EXPECT_TRUE(client.ends());
        EXPECT_EQ(running.join(), 0);
        EXPECT_EQ(server.counters().connections, 0u);
        EXPECT_EQ(server.counters().closed, 8u);
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Server, DrainEndsAtItsTimeout) {
    ServerOptions options = on_loopback(2);
    options.drain_timeout = 0ms;
    Server server(options);
    struct Holds {
        static Task<> handle(Connection connection) {
            auto received = co_await connection.read();
            connection.write("held");
            co_await connection.flush();
            auto slept = co_await sleep_for(1h);
            EXPECT_FALSE(slept);
        }
    };
    server.on_connection(Holds::handle);
    Running running(server);
    Client client(running.address());
    client.send("x");
    EXPECT_EQ(client.receive(4), "held");
    EXPECT_EQ(running.stop(), 0);
    EXPECT_TRUE(client.ends());
}

TEST(Server, A11TwoServersInOneProcess) {
    Server first(on_loopback(2));
    Server second(on_loopback(2));
    first.on_connection(echo);
    second.on_connection(tell_reactor);
    Running first_running(first);
    {
        Running second_running(second);
        Client one(first_running.address());
        Client two(second_running.address());
        EXPECT_EQ(one.exchange("x"), "x");
        EXPECT_NE(two.exchange("x"), "x");
        EXPECT_EQ(second_running.stop(), 0);
        EXPECT_EQ(one.exchange("y"), "y");
    }
    Client later(first_running.address());
    EXPECT_EQ(later.exchange("z"), "z");
    EXPECT_EQ(first_running.stop(), 0);
}

// Connections that are handed over while the server begins to drain arrive where somebody still waits for them.
TEST(Server, HandedOverConnectionsSurviveTheBeginningOfADrain) {
    for (int round = 0; round < 20; ++round) {
        ServerOptions options = on_loopback(3);
        options.accept_mode = AcceptMode::hand_over_round_robin;
        Server server(options);
        server.on_connection(echo);
        Running running(server);
        std::vector<Client> clients;
        for (int number = 0; number < 6; ++number) {
            clients.emplace_back(running.address());
            clients.back().send("request");
        }
        ASSERT_TRUE(eventually([&] { return server.counters().accepted == 6; }));
        server.stop();
        for (auto& client : clients) {
            std::string answer;
            EXPECT_TRUE(client.ends_in_order(&answer));
            EXPECT_EQ(answer, "request");
        }
        EXPECT_EQ(running.join(), 0);
    }
}

TEST(Server, CountersOutliveTheRun) {
    Server server(on_loopback(2));
    server.on_connection(echo);
    Running running(server);
    {
        Client client(running.address());
        EXPECT_EQ(client.exchange("hello"), "hello");
    }
    ASSERT_TRUE(eventually([&] { return server.counters().closed == 1; }));
    EXPECT_EQ(running.stop(), 0);
    const ServerCounters counted = server.counters();
    EXPECT_EQ(counted.accepted, 1u);
    EXPECT_EQ(counted.closed, 1u);
    EXPECT_EQ(counted.connections, 0u);
    EXPECT_EQ(counted.bytes_received, 5u);
    EXPECT_EQ(counted.bytes_sent, 5u);
    EXPECT_EQ(counted.reactors, 0u);
}

}  // namespace
