// The way out: connections that a reactor opens, to one address and to the first of several that answers.
#include <ferrule/net/connect.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/scope.hpp>

#include "support/client_socket.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <expected>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::Address;
using ferrule::CancelReason;
using ferrule::CancelScope;
using ferrule::connect;
using ferrule::ConnectError;
using ferrule::Connection;
using ferrule::ConnectOptions;
using ferrule::Environment;
using ferrule::Reactor;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::ForwardingKernel;
using ferrule_test::ManualClock;
using ferrule_test::open_descriptors;
using ferrule_test::Signal;
using testing::StartsWith;

using Result = std::expected<Connection, ConnectError>;

/// How a connect ended, told outside its reactor: the connection itself is closed by then.
struct Outcome {
    std::error_code code;
    std::string message;
    std::string answer;  ///< what came back for a line, over a connection
    std::string local;

    [[nodiscard]] bool connected() const { return !code; }
};

constexpr std::string_view line = "is anybody there?";

Task<> note_outcome(Task<Result> connecting, Outcome* outcome, Signal* ended) {
    Result opened = co_await std::move(connecting);
    if (opened) {
        outcome->local = opened->local_address()->to_string();
        opened->write(line);
        co_await opened->flush();
        std::size_t left = line.size();
        while (left != 0) {
            auto received = co_await opened->read();
            if (!received) break;
            for (const auto slice : received) outcome->answer += slice.text();
            left -= std::min(left, received.size());
        }
        opened->close();
    } else {
        outcome->code = opened.error().code;
        outcome->message = opened.error().message;
    }
    ended->raise();
}

/// Connects on the engine's reactor, talks to whoever is there (an echo), and closes.
class Attempt {
public:
    template <class To>
    Attempt(Engine& engine, To to, ConnectOptions options = {}, Environment* environment = nullptr) {
        engine.on_reactor([&] {
            Reactor& reactor = engine.reactor();
            ferrule::spawn(reactor, note_outcome(connect(reactor, to, options), &outcome_, &ended_), environment);
        });
    }
    const Outcome& wait() {
        ended_.wait();
        return outcome_;
    }
    [[nodiscard]] bool ended() const { return ended_.count() != 0; }

private:
    Outcome outcome_;
    Signal ended_;
};

/// Where nobody listens, and nobody else will: bound, and not listening.
class ClosedPort {
public:
    explicit ClosedPort(const Address& address = Address::loopback(0))
        : socket_(::socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (::bind(socket_.number(), address.data(), address.size()) < 0)
            throw std::system_error(errno, std::system_category(), "bind");
        address_ = *ferrule::local_address(ferrule::linux_kernel(), socket_.number());
    }
    const Address& address() const { return address_; }

private:
    ClientSocket socket_;
    Address address_;
};

/// A listener that answers nobody any more: its backlog is full.
class BlackHole {
public:
    explicit BlackHole(const Address& address = Address::loopback(0))
        : listener_(::socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (::bind(listener_.number(), address.data(), address.size()) < 0 || ::listen(listener_.number(), 0) < 0)
            throw std::system_error(errno, std::system_category(), "listen");
        address_ = *ferrule::local_address(ferrule::linux_kernel(), listener_.number());
        waiting_ = ClientSocket::connect(address_);
    }
    const Address& address() const { return address_; }
    /// Takes who waits, so that the next one gets through.
    ClientSocket accept() {
        for (;;) {
            const int accepted = ::accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC);
            // The end of an earlier ring interrupts its thread's system calls.
            if (accepted >= 0 || errno != EINTR) return ClientSocket{accepted};
        }
    }

private:
    ClientSocket listener_;
    ClientSocket waiting_;
    Address address_;
};

Engine::Remains nothing_remains() {
    return {};
}

void until_descriptors_are(Engine& engine, std::size_t count) {
    engine.eventually("the descriptors of before", [count] { return open_descriptors() <= count; });
}

// ---- one address ----

TEST(Connect, gives_the_connection_that_an_accept_gives) {
    EngineOptions ipv6;
    ipv6.socket.address = Address::loopback_ipv6(0);
    EngineOptions abstract;
    abstract.socket.address = ferrule_test::unique_unix_address();
    EngineOptions path;
    const auto folder = std::filesystem::temp_directory_path() / ("ferrule-connect-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
    path.socket.address = *Address::parse("unix:" + (folder / "socket").string(), 0);
    for (const EngineOptions& options : {EngineOptions{}, ipv6, abstract, path}) {
        Engine engine(echo, options);
        Attempt attempt(engine, engine.address());
        EXPECT_EQ(attempt.wait().message, "");
        EXPECT_EQ(attempt.wait().answer, line);
        engine.until_empty();
    }
    std::filesystem::remove_all(folder);
}

TEST(Connect, that_is_refused_names_the_operation_and_the_address) {
    const ClosedPort ipv4;
    const ClosedPort ipv6{Address::loopback_ipv6(0)};
    const Address unheard_of = ferrule_test::unique_unix_address();
    const Address no_file = *Address::parse("unix:/nonexistent/socket", 0);
    Engine engine(echo);
    EXPECT_EQ(Attempt(engine, ipv4.address()).wait().message,
              "connect to " + ipv4.address().to_string() + ": Connection refused");
    const Outcome refused = Attempt(engine, ipv6.address()).wait();
    EXPECT_EQ(refused.message, "connect to " + ipv6.address().to_string() + ": Connection refused");
    EXPECT_EQ(refused.code, std::errc::connection_refused);
    EXPECT_EQ(Attempt(engine, unheard_of).wait().message,
              "connect to " + unheard_of.to_string() + ": Connection refused");
    EXPECT_EQ(Attempt(engine, no_file).wait().message,
              "connect to unix:/nonexistent/socket: No such file or directory");
    EXPECT_EQ(Attempt(engine, Address{}).wait().code, std::errc::address_family_not_supported);
}

TEST(Connect, without_a_way_says_so) {
    Engine engine(echo);
    // A network of this thread's own, in which nothing is up.
    if (engine.on_reactor([] { return ::unshare(CLONE_NEWNET); }) < 0)
        GTEST_SKIP() << "unshare(CLONE_NEWNET) needs root";
    const Outcome outcome = Attempt(engine, Address::loopback(1)).wait();
    EXPECT_EQ(outcome.message, "connect to 127.0.0.1:1: Network is unreachable");
    EXPECT_EQ(outcome.code, std::errc::network_unreachable);
}

TEST(Connect, from_a_local_address_is_seen_from_there) {
    Engine engine(echo);
    ConnectOptions options;
    options.local = *Address::parse("127.0.0.9", 0);
    EXPECT_THAT(Attempt(engine, engine.address(), options).wait().local, StartsWith("127.0.0.9:"));

    options.local = *Address::parse("192.0.2.1", 0);
    const Outcome foreign = Attempt(engine, engine.address(), options).wait();
    EXPECT_EQ(foreign.code, std::errc::address_not_available);
    EXPECT_EQ(foreign.message,
              "bind 192.0.2.1:0 to " + engine.address().to_string() + ": Cannot assign requested address");

    options.local = Address::loopback_ipv6(0);
    EXPECT_EQ(Attempt(engine, engine.address(), options).wait().code, std::errc::address_family_not_supported);
}

TEST(Connect, of_a_socket_to_itself_is_refused) {
    const Address port = [] { return ClosedPort{}.address(); }();
    Engine engine(echo);
    ConnectOptions options;
    options.local = port;
    EXPECT_EQ(Attempt(engine, port, options).wait().code, std::errc::connection_refused);
}

/// Tells which options were set, and to what.
class ListeningKernel : public ForwardingKernel {
public:
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override {
        if (length == sizeof(int)) {
            const std::lock_guard lock(mutex_);
            options_[{level, name}] = *static_cast<const int*>(value);
        }
        return ForwardingKernel::set_option(fd, level, name, value, length);
    }
    std::map<std::pair<int, int>, int> take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(options_, {});
    }

private:
    std::mutex mutex_;
    std::map<std::pair<int, int>, int> options_;
};

TEST(Connect, sets_the_options_of_its_socket) {
    using Options = std::map<std::pair<int, int>, int>;
    ListeningKernel kernel;
    EngineOptions engine_options;
    engine_options.kernel = &kernel;
    Engine engine(echo, engine_options);
    kernel.take();
    EXPECT_TRUE(Attempt(engine, engine.address()).wait().connected());
    EXPECT_EQ(kernel.take(), (Options{{{IPPROTO_TCP, TCP_NODELAY}, 1}}));

    ConnectOptions options;
    options.no_delay = false;
    options.keepalive_idle = 20s;
    options.keepalive_interval = 5s;
    options.keepalive_count = 3;
    options.user_timeout = 30s;
    options.local = Address::loopback(0);
    EXPECT_TRUE(Attempt(engine, engine.address(), options).wait().connected());
    EXPECT_EQ(kernel.take(), (Options{{{SOL_SOCKET, SO_KEEPALIVE}, 1},
                                      {{IPPROTO_TCP, TCP_KEEPIDLE}, 20},
                                      {{IPPROTO_TCP, TCP_KEEPINTVL}, 5},
                                      {{IPPROTO_TCP, TCP_KEEPCNT}, 3},
                                      {{IPPROTO_TCP, TCP_USER_TIMEOUT}, 30'000},
                                      {{IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT}, 1}}));

    options.keepalive_count = 1000;
    EXPECT_EQ(Attempt(engine, engine.address(), options).wait().message,
              "TCP_KEEPCNT for " + engine.address().to_string() + ": Invalid argument");
}

TEST(Connect, without_a_descriptor_a_slot_or_a_place_says_so) {
    ForwardingKernel kernel;
    EngineOptions options;
    options.kernel = &kernel;
    options.network.connection_limit = 1;
    Engine engine(echo, options);
    kernel.fail(ferrule_test::Call::socket, EMFILE);
    EXPECT_EQ(Attempt(engine, engine.address()).wait().message,
              "open a socket for " + engine.address().to_string() + ": Too many open files");

    Engine other(echo);
    ClientSocket only = engine.connect();
    engine.eventually("a connection", [&] { return engine.counters().connections.value() == 1; });
    const std::size_t before = open_descriptors();
    const Outcome full = Attempt(engine, other.address()).wait();
    EXPECT_EQ(full.message, "open a connection to " + other.address().to_string() + ": Too many open files in system");
    until_descriptors_are(engine, before);

    EngineOptions few;
    few.reactor.operation_limit = 2;
    Engine narrow(echo, few);
    const BlackHole hole;
    const std::vector<Address> three(3, hole.address());
    EXPECT_EQ(Attempt(narrow, std::span<const Address>{three}).wait().code, std::errc::no_buffer_space);
}

TEST(Connect, is_misuse_on_another_thread_or_with_a_negative_time) {
    Engine engine(echo);
    Task<Result> elsewhere = connect(engine.reactor(), engine.address());
    ferrule::Environment environment;
    elsewhere.start(environment, std::noop_coroutine());
    EXPECT_THROW(static_cast<void>(elsewhere.await_resume()), std::logic_error);
    EXPECT_THROW(static_cast<void>(connect(engine.reactor(), engine.address(), {.timeout = -1ms})),
                 std::invalid_argument);
    EXPECT_THROW(static_cast<void>(connect(engine.reactor(), engine.address(), {.user_timeout = -1ms})),
                 std::invalid_argument);
    EXPECT_EQ(Attempt(engine, std::span<const Address>{}).wait().message, "connect: no address");
}

/// Hands out sockets on which a connect has begun already: what io_uring's finds after it was interrupted.
class InterruptedKernel : public ForwardingKernel {
public:
    int socket(int domain, int type, int protocol) noexcept override {
        const int descriptor = ForwardingKernel::socket(domain, type, protocol);
        if (!armed_.exchange(false)) return descriptor;
        const int flags = ::fcntl(descriptor, F_GETFL);
        ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
        static_cast<void>(::connect(descriptor, target_.data(), target_.size()));
        if (waits_) {
            pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
            static_cast<void>(::poll(&writable, 1, ClientSocket::patience_seconds * 1000));
        }
        ::fcntl(descriptor, F_SETFL, flags);
        return descriptor;
    }
    void begin(const Address& target, bool waits) {
        target_ = target;
        waits_ = waits;
        armed_ = true;
    }

private:
    std::atomic<bool> armed_ = false;
    bool waits_ = false;
    Address target_;
};

TEST(Connect, that_was_under_way_already_is_waited_for) {
    InterruptedKernel kernel;
    EngineOptions options;
    options.kernel = &kernel;
    Engine engine(echo, options);
    // Its outcome was not asked for yet.
    kernel.begin(engine.address(), true);
    EXPECT_TRUE(Attempt(engine, engine.address()).wait().connected());
    // It is refused meanwhile.
    const ClosedPort closed;
    kernel.begin(closed.address(), true);
    EXPECT_FALSE(Attempt(engine, closed.address()).wait().connected());
    // It goes on: EALREADY. Nobody answers, so that the deadline ends it.
    const BlackHole hole;
    kernel.begin(hole.address(), false);
    const std::size_t before = open_descriptors();
    EXPECT_EQ(Attempt(engine, hole.address(), {.timeout = 20ms}).wait().code, std::errc::timed_out);
    until_descriptors_are(engine, before);
}

// ---- ends before it is connected ----

TEST(ConnectEnd, by_its_own_deadline_says_how_long_it_has_waited) {
    const BlackHole tcp;
    const BlackHole local{ferrule_test::unique_unix_address()};
    for (const BlackHole* hole : {&tcp, &local}) {
        ManualClock clock;
        EngineOptions options;
        options.kernel = &clock;
        Engine engine(echo, options);
        const std::size_t before = open_descriptors();
        Attempt attempt(engine, hole->address());
        clock.advance(9'900ms);
        engine.on_reactor([] {});
        EXPECT_FALSE(attempt.ended());
        clock.advance(200ms);
        engine.on_reactor([] {});
        EXPECT_EQ(attempt.wait().message, "connect to " + hole->address().to_string() + ": no answer within 10000 ms");
        EXPECT_EQ(attempt.wait().code, std::errc::timed_out);
        until_descriptors_are(engine, before);
    }
}

Task<> connect_with_deadline(Reactor* reactor, Address address, Outcome* outcome, Signal* ended) {
    auto opened = co_await with_deadline(connect(*reactor, address), 10ms);
    outcome->code = opened ? std::error_code{} : opened.error().code;
    ended->raise();
}

TEST(ConnectEnd, by_a_deadline_of_its_scope) {
    const BlackHole hole;
    Engine engine(echo);
    Outcome outcome;
    Signal ended;
    engine.on_reactor(
        [&] { engine.reactor().spawn(connect_with_deadline(&engine.reactor(), hole.address(), &outcome, &ended)); });
    ended.wait();
    EXPECT_EQ(outcome.code, std::errc::timed_out);
}

/// A scope below the root of an engine's reactor.
class Region {
public:
    explicit Region(Engine& engine) : engine_(&engine) {
        engine.on_reactor([&] {
            scope_.emplace(engine.reactor().root_environment.scope);
            environment_ = engine.reactor().root_environment;
            environment_.scope = &*scope_;
        });
    }
    ~Region() {
        engine_->on_reactor([&] { scope_.reset(); });
    }
    void cancel() {
        engine_->on_reactor([&] { scope_->cancel(CancelReason::cancelled); });
    }
    Environment* environment() { return &environment_; }

private:
    Engine* engine_;
    std::optional<CancelScope> scope_;
    Environment environment_;
};

TEST(ConnectEnd, ten_that_are_cancelled_leave_nothing) {
    const BlackHole tcp;
    const BlackHole local{ferrule_test::unique_unix_address()};
    Engine engine(echo);
    const std::size_t before = open_descriptors();
    for (const BlackHole* hole : {&tcp, &local}) {
        Region region(engine);
        std::vector<std::unique_ptr<Attempt>> attempts;
        for (int number = 0; number < 10; ++number) {
            attempts.push_back(
                std::make_unique<Attempt>(engine, hole->address(), ConnectOptions{}, region.environment()));
        }
        EXPECT_EQ(open_descriptors(), before + 10);
        region.cancel();
        for (const auto& attempt : attempts) {
            EXPECT_EQ(attempt->wait().message, "connect to " + hole->address().to_string() + ": Operation canceled");
        }
        until_descriptors_are(engine, before);
        // In a scope that is cancelled already nothing begins.
        EXPECT_EQ(Attempt(engine, engine.address(), {}, region.environment()).wait().code,
                  std::errc::operation_canceled);
    }
}

TEST(ConnectEnd, a_task_may_be_destroyed_at_any_wait) {
    const BlackHole tcp;
    const BlackHole local{ferrule_test::unique_unix_address()};
    Engine engine(echo);
    const std::size_t before = open_descriptors();
    for (const Address& address : {tcp.address(), local.address(), engine.address()}) {
        // Not begun, begun, cancelled and not yet resumed.
        for (int point = 0; point < 3; ++point) {
            Region region(engine);
            engine.on_reactor([&] {
                auto task = std::make_unique<Task<Result>>(connect(engine.reactor(), address));
                if (point > 0) task->start(*region.environment(), std::noop_coroutine());
                if (point > 1) region.environment()->scope->cancel(CancelReason::cancelled);
                task.reset();
            });
        }
        until_descriptors_are(engine, before);
    }
}

TEST(ConnectEnd, with_its_reactor) {
    const BlackHole tcp;
    const BlackHole local{ferrule_test::unique_unix_address()};
    const std::size_t before = open_descriptors();
    {
        Engine engine(echo);
        Attempt first(engine, tcp.address());
        Attempt second(engine, local.address());
        engine.stop();
        engine.join();
        EXPECT_EQ(first.wait().code, std::errc::operation_canceled);
        EXPECT_EQ(second.wait().code, std::errc::operation_canceled);
        EXPECT_EQ(engine.remains(), nothing_remains());
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(ConnectEnd, a_thousand_connections_come_back_to_where_they_began) {
    Engine engine(echo);
    for (int number = 0; number < 10; ++number) EXPECT_TRUE(Attempt(engine, engine.address()).wait().connected());
    engine.until_empty();
    const std::size_t before = open_descriptors();
    const auto frames = engine.on_reactor([&] { return engine.reactor().frames.live_frames(); });
    for (int round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<Attempt>> attempts;
        for (int number = 0; number < 50; ++number) {
            attempts.push_back(std::make_unique<Attempt>(engine, engine.address()));
        }
        for (const auto& attempt : attempts) {
            EXPECT_EQ(attempt->wait().message, "");
            EXPECT_EQ(attempt->wait().answer, line);
        }
    }
    engine.until_empty();
    until_descriptors_are(engine, before);
    engine.eventually("the frames of before", [&] { return engine.reactor().frames.live_frames() == frames; });
}

// ---- several addresses (RFC 8305) ----

constexpr auto very_long = 1h;

TEST(ConnectSeveral, goes_on_at_once_when_one_fails) {
    const ClosedPort first;
    const ClosedPort second{Address::loopback_ipv6(0)};
    Engine engine(echo);
    const std::vector<Address> addresses{first.address(), second.address(), engine.address()};
    Attempt attempt(engine, std::span<const Address>{addresses}, {.attempt_delay = very_long});
    EXPECT_EQ(attempt.wait().message, "");
    EXPECT_EQ(attempt.wait().answer, line);
}

TEST(ConnectSeveral, tries_the_next_beside_one_that_is_silent_and_leaves_nothing_of_it) {
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine(echo, options);
    const BlackHole hole;
    const std::size_t before = open_descriptors();
    const std::vector<Address> addresses{hole.address(), engine.address()};
    Attempt attempt(engine, std::span<const Address>{addresses});
    clock.advance(240ms);
    engine.on_reactor([] {});
    EXPECT_FALSE(attempt.ended());
    EXPECT_EQ(open_descriptors(), before + 1);
    clock.advance(20ms);
    engine.on_reactor([] {});
    EXPECT_EQ(attempt.wait().answer, line);
    engine.until_empty();
    until_descriptors_are(engine, before);
}

TEST(ConnectSeveral, takes_turns_between_the_families_and_tells_each_reason) {
    const ClosedPort four;
    const ClosedPort other_four;
    const ClosedPort six{Address::loopback_ipv6(0)};
    const ClosedPort other_six{Address::loopback_ipv6(0)};
    const auto refused = [](const ClosedPort& port) {
        return "connect to " + port.address().to_string() + ": Connection refused";
    };
    Engine engine(echo);
    const std::vector<Address> addresses{six.address(), other_six.address(), four.address(), other_four.address()};
    const Outcome outcome = Attempt(engine, std::span<const Address>{addresses}, {.attempt_delay = very_long}).wait();
    EXPECT_EQ(outcome.message,
              refused(six) + "; " + refused(four) + "; " + refused(other_six) + "; " + refused(other_four));
    EXPECT_EQ(outcome.code, std::errc::connection_refused);
}

TEST(ConnectSeveral, ends_at_the_deadline_of_all) {
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    Engine engine(echo, options);
    const ClosedPort closed;
    const BlackHole hole;
    const BlackHole other;
    const BlackHole third;
    const std::size_t before = open_descriptors();
    const std::vector<Address> addresses{hole.address(), closed.address(), other.address(), third.address()};
    Attempt attempt(engine, std::span<const Address>{addresses}, {.timeout = 400ms});
    // The refused one lets the third begin at once; the fourth would be next.
    clock.advance(260ms);
    engine.eventually("a second silent one", [&] { return open_descriptors() == before + 2; });
    clock.advance(150ms);
    engine.on_reactor([] {});
    const auto text = [](const Address& address) { return "connect to " + address.to_string() + ": "; };
    EXPECT_EQ(attempt.wait().message, text(hole.address()) + "no answer within 400 ms; " + text(closed.address()) +
                                          "Connection refused; " + text(other.address()) + "no answer within 400 ms; " +
                                          text(third.address()) + "not tried in time");
    EXPECT_EQ(attempt.wait().code, std::errc::timed_out);
    until_descriptors_are(engine, before);
}

TEST(ConnectSeveral, the_first_that_answers_wins_whichever_it_is) {
    Engine engine(echo);
    const BlackHole hole;
    const std::size_t before = open_descriptors();
    // Ten milliseconds is the least, whatever is asked for.
    const std::vector<Address> addresses{hole.address(), hole.address(), hole.address(), engine.address(),
                                         engine.address()};
    Attempt attempt(engine, std::span<const Address>{addresses}, {.attempt_delay = 0ms});
    EXPECT_EQ(attempt.wait().answer, line);
    engine.until_empty();
    until_descriptors_are(engine, before);
}

// ---- by name ----

/// A hosts file, which the resolver of an engine reads instead of the system's; nobody is asked beyond it.
class Names {
public:
    Names(Engine& engine, std::string_view hosts)
        : path_(std::filesystem::temp_directory_path() / ("ferrule-hosts-" + std::to_string(::getpid()))) {
        std::ofstream(path_) << hosts;
        engine.on_reactor([&] {
            ferrule::ResolverOptions options;
            options.hosts = path_;
            options.resolv_conf.clear();
            options.servers = {nobody_.address()};
            options.timeout = 1h;
            engine.reactor().add_service<ferrule::Resolver>(engine.reactor(), options);
        });
    }
    ~Names() { std::filesystem::remove(path_); }

private:
    /// A name server that takes questions and answers none.
    class Silence {
    public:
        Silence() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
            const Address any = Address::loopback(0);
            if (::bind(socket_.number(), any.data(), any.size()) < 0)
                throw std::system_error(errno, std::system_category(), "bind");
        }
        Address address() const { return *ferrule::local_address(ferrule::linux_kernel(), socket_.number()); }

    private:
        ClientSocket socket_;
    };

    Silence nobody_;
    std::filesystem::path path_;
};

/// As Attempt, to a host.
class NamedAttempt {
public:
    NamedAttempt(Engine& engine, const std::string& host, std::uint16_t port, ConnectOptions options = {}) {
        engine.on_reactor([&] {
            Reactor& reactor = engine.reactor();
            reactor.spawn(note_outcome(connect(reactor, host, port, options), &outcome_, &ended_));
        });
    }
    const Outcome& wait() {
        ended_.wait();
        return outcome_;
    }

private:
    Outcome outcome_;
    Signal ended_;
};

TEST(ConnectName, tries_the_addresses_of_a_host) {
    Engine engine(echo);
    const std::uint16_t port = engine.address().port();
    const Names names(engine, "::1 here\n127.0.0.1 here\n");
    // Nobody listens on ::1 there.
    EXPECT_EQ(NamedAttempt(engine, "here", port, {.attempt_delay = very_long}).wait().message, "");
    EXPECT_EQ(NamedAttempt(engine, "here", port).wait().answer, line);
    EXPECT_EQ(NamedAttempt(engine, "localhost", port).wait().answer, line);
    EXPECT_EQ(NamedAttempt(engine, "127.0.0.1", port).wait().answer, line);

    const ClosedPort closed;
    const std::string number = std::to_string(closed.address().port());
    EXPECT_EQ(NamedAttempt(engine, "here", closed.address().port()).wait().message,
              "here:" + number + ": connect to [::1]:" + number +
                  ": Connection refused; connect to 127.0.0.1:" + number + ": Connection refused");
}

TEST(ConnectName, of_a_unix_socket_is_its_path) {
    EngineOptions options;
    options.socket.address = ferrule_test::unique_unix_address();
    Engine engine(echo, options);
    EXPECT_EQ(NamedAttempt(engine, options.socket.address.to_string(), 0).wait().answer, line);
    EXPECT_EQ(NamedAttempt(engine, "unix:", 0).wait().message, "connect to unix:: Invalid argument");
}

TEST(ConnectName, that_is_not_found_in_time_says_so) {
    Engine engine(echo);
    const Names names(engine, "127.0.0.1 here\n");
    const Outcome invalid = NamedAttempt(engine, "no name", 80).wait();
    EXPECT_THAT(invalid.message, StartsWith("connect to no name:80: resolve no name: "));
    EXPECT_EQ(invalid.code, std::errc::invalid_argument);
    const Outcome late = NamedAttempt(engine, "elsewhere.example", 80, {.timeout = 20ms}).wait();
    EXPECT_THAT(late.message, StartsWith("connect to elsewhere.example:80: resolve elsewhere.example: "));
    EXPECT_EQ(late.code, std::errc::timed_out);
    EXPECT_THROW(static_cast<void>(connect(engine.reactor(), "here", 80, {.timeout = -1ms})), std::invalid_argument);
}

}  // namespace
