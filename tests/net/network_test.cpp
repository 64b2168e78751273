#include <ferrule/net/network.hpp>
#include <ferrule/reactor/resume_on.hpp>

#include "support/client_socket.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::open_descriptors;
using ferrule_test::pattern;
using ferrule_test::Signal;

void expect_echo(ClientSocket& client, std::string_view message) {
    client.send(message);
    EXPECT_TRUE(client.receive(message.size()) == message);
}

// ---- what comes and goes leaves nothing ----

/// Opens and closes connections in every way that peers have.
void churn(Engine& engine, unsigned count) {
    in_parallel(4, [&](unsigned thread) {
        for (unsigned number = thread; number < count; number += 4) {
            ClientSocket client = engine.connect();
            switch (number % 5) {
                case 0:
                    expect_echo(client, "hello");
                    client.close();
                    break;
                case 1:
                    client.send("hello");
                    client.shutdown_write();
                    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"hello", 0}));
                    break;
                case 2:
                    client.close();
                    break;
                case 3:
                    client.send("unread");
                    client.reset();
                    break;
                default:
                    expect_echo(client, "hello");
                    client.reset();
                    break;
            }
        }
    });
    engine.until_empty();
}

void expect_churn_leaves_nothing(unsigned count) {
    Engine engine{echo};
    // The first ones grow pools and tables; from then on nothing may be left.
    churn(engine, 100);
    const std::size_t descriptors = open_descriptors();
    const auto frames = engine.on_reactor([&] { return engine.reactor().frames.live_frames(); });
    churn(engine, count);
    EXPECT_EQ(open_descriptors(), descriptors);
    engine.on_reactor([&] {
        EXPECT_EQ(engine.network().buffers().held(), 0u);
        EXPECT_EQ(engine.network().buffers().slices(), 0u);
        EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
        EXPECT_EQ(engine.counters().connections.value(), 0u);
        EXPECT_EQ(engine.counters().leases.value(), 0u);
        EXPECT_EQ(engine.reactor().frames.live_frames(), frames);
    });
    EXPECT_EQ(engine.counters().accepted.value(), engine.counters().closed.value());
    EXPECT_EQ(engine.faults(), 0u);
}

TEST(NetworkChurn, A9_twenty_thousand_connections_leave_nothing) {
    expect_churn_leaves_nothing(20'000);
}

TEST(NetworkChurnLong, A9_a_million_connections_leave_nothing) {
    expect_churn_leaves_nothing(1'000'000);
}

// ---- accepting ----

TEST(NetworkAccept, A13_a_dual_stack_listener_takes_both_families) {
    EngineOptions options;
    options.socket.address = ferrule::Address::any(0);
    const auto trial = ferrule::open_listen_socket(ferrule::linux_kernel(), options.socket);
    if (!trial) GTEST_SKIP() << "no IPv6 here: " << trial.error().message;
    ferrule::linux_kernel().close(*trial);
    Engine engine{echo, options};
    const std::uint16_t port = engine.address().port();
    ClientSocket by_ipv4 = ClientSocket::connect(ferrule::Address::loopback(port));
    expect_echo(by_ipv4, "four");
    ClientSocket by_ipv6 = ClientSocket::connect(*ferrule::Address::parse("::1", port));
    expect_echo(by_ipv6, "six");
}

TEST(NetworkAccept, connections_beyond_those_that_may_wait_for_their_turn_are_closed) {
    EngineOptions options;
    options.network.connection_limit = 1;
    options.network.waiting_limit = 1;
    Engine engine{echo, options};
    std::vector<ClientSocket> peers;
    for (unsigned number = 0; number < 3; ++number) {
        int pair[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        peers.emplace_back(pair[0]);
        engine.on_reactor([&, adopted = pair[1]] { engine.network().adopt(adopted, 0); });
    }
    EXPECT_EQ(peers[2].receive_rest(), ClientSocket::Rest{});
    EXPECT_EQ(engine.counters().refused.value(), 1u);
    expect_echo(peers[0], "served");
    peers[0].close();
    expect_echo(peers[1], "its turn has come");
}

TEST(NetworkAccept, stops_at_the_connection_limit_and_goes_on_below_it) {
    EngineOptions options;
    options.network.connection_limit = 3;
    Engine engine{echo, options};
    std::vector<ClientSocket> clients;
    for (int number = 0; number < 10; ++number) {
        clients.push_back(engine.connect());
        clients.back().send("hello");
    }
    while (!clients.empty()) {
        EXPECT_EQ(clients.front().receive(5), "hello");
        EXPECT_LE(engine.on_reactor([&] { return engine.counters().connections.value(); }), 3u);
        clients.erase(clients.begin());
    }
    engine.until_empty();
    ClientSocket client = engine.connect();
    expect_echo(client, "and again");
}

/// Makes connections of sockets that exist already, beside five that are served; ends when the reactor has waited so
/// often for descriptors.
void serve_late_ones(Engine& engine, std::vector<int> sockets, std::uint64_t shortages) {
    std::vector<ClientSocket> clients;
    for (int number = 0; number < 5; ++number) {
        clients.push_back(engine.connect());
        expect_echo(clients.back(), "before");
    }
    std::vector<int> hoard;
    while (shortages != 0) {
        const int taken = ::dup(STDERR_FILENO);
        if (taken < 0) break;
        hoard.push_back(taken);
    }
    std::vector<ClientSocket> late;
    for (const int socket : sockets) {
        late.emplace_back(socket);
        late.back().limit_waits(ClientSocket::patience_seconds);
        // One that the end of an earlier ring has interrupted goes on by itself, and sending waits for it.
        if (::connect(socket, engine.address().data(), engine.address().size()) < 0 && errno != EINTR)
            throw std::runtime_error("connect");
        late.back().send("after");
    }
    engine.eventually("a shortage", [&] { return engine.counters().accept_backoffs.value() >= shortages; });
    // Those who are there are served meanwhile.
    for (ClientSocket& client : clients) expect_echo(client, "during");
    clients.clear();
    for (ClientSocket& client : late) {
        if (client.receive(5) != "after") throw std::runtime_error("not served");
    }
    late.clear();
    engine.until_empty();
    for (const int taken : hoard) ::close(taken);
}

std::vector<int> unconnected_sockets() {
    std::vector<int> sockets;
    for (int number = 0; number < 5; ++number) {
        sockets.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    }
    return sockets;
}

/// In a process of its own: takes all descriptors that there may be, and gives them back.
void run_out_of_descriptors() {
    // An accept keeps the limit of the time when it was armed.
    const rlimit few{.rlim_cur = 100, .rlim_max = 100};
    ::setrlimit(RLIMIT_NOFILE, &few);
    Engine engine{echo};
    // Once with enough of them: sanitizers need some for what they see for the first time.
    serve_late_ones(engine, unconnected_sockets(), 0);
    serve_late_ones(engine, unconnected_sockets(), 2);
    if (engine.faults() != 0 || testing::Test::HasFailure()) throw std::runtime_error("failed");
}

TEST(NetworkAcceptDeathTest, A10_a_shortage_of_descriptors_is_waited_out_and_said_once) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [] {
        try {
            run_out_of_descriptors();
            std::exit(0);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "%s\n", error.what());
            std::exit(1);
        }
    };
    // One line, and nothing else on standard error.
    EXPECT_EXIT(run(), testing::ExitedWithCode(0),
                "^ferrule: warning: reactor 0: accept: Too many open files; accepting waits and goes on by itself\n$");
}

TEST(NetworkAccept, unix_sockets_are_served) {
    EngineOptions options;
    options.reactors = 2;
    options.socket.address = ferrule_test::unique_unix_address();
    Engine engine{echo, options};
    in_parallel(8, [&](unsigned number) {
        ClientSocket client = engine.connect();
        for (int turn = 0; turn < 10; ++turn) expect_echo(client, pattern(3000, number));
    });
    EXPECT_EQ(engine.counters(0).accepted.value(), 8u);
    EXPECT_EQ(engine.counters(1).adopted.value(), 4u);
}

// ---- engines ----

TEST(NetworkEngines, A11_two_in_one_process_do_not_know_each_other) {
    EngineOptions options;
    options.reactors = 2;
    std::optional<Engine> first{std::in_place, echo, options};
    Engine second{echo, options};
    ClientSocket of_second = second.connect();
    in_parallel(8, [&](unsigned number) {
        ClientSocket client = number % 2 == 0 ? first->connect() : second.connect();
        for (int turn = 0; turn < 20; ++turn) expect_echo(client, pattern(1000, number));
    });
    EXPECT_EQ(first->counters(0).accepted.value() + first->counters(1).accepted.value(), 4u);
    EXPECT_EQ(second.counters(0).accepted.value() + second.counters(1).accepted.value(), 5u);
    first.reset();
    expect_echo(of_second, "still here");
}

TEST(NetworkEngines, A12_stopping_with_live_connections_ends_them_all) {
    const std::size_t before = open_descriptors();
    {
        EngineOptions options;
        options.reactors = 2;
        Engine engine{echo, options};
        std::vector<ClientSocket> clients;
        for (int number = 0; number < 50; ++number) {
            clients.push_back(engine.connect());
            expect_echo(clients.back(), "hello");
        }
        // Some are in the middle of something.
        for (std::size_t number = 0; number < clients.size(); number += 2) clients[number].send_now(pattern(100'000));
        engine.stop();
        engine.join();
        for (ClientSocket& client : clients) static_cast<void>(client.receive_rest());
        EXPECT_EQ(engine.remains(0), Engine::Remains{});
        EXPECT_EQ(engine.remains(1), Engine::Remains{});
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(NetworkEngines, A16_a_burst_far_beyond_the_completion_queue_loses_nothing) {
    EngineOptions options;
    options.reactor.submission_entries = 4;
    options.reactor.completion_entries = 8;
    Engine engine{echo, options};
    std::vector<ClientSocket> clients;
    for (int number = 0; number < 200; ++number) clients.push_back(engine.connect());
    // All of it arrives while the reactor looks away.
    Signal blocked;
    Signal go;
    engine.reactor().post([&] {
        blocked.raise();
        go.wait();
    });
    blocked.wait();
    for (std::size_t number = 0; number < clients.size(); ++number) {
        clients[number].send(pattern(3000, static_cast<unsigned>(number)));
    }
    go.raise();
    for (std::size_t number = 0; number < clients.size(); ++number) {
        EXPECT_TRUE(clients[number].receive(3000) == pattern(3000, static_cast<unsigned>(number)));
    }
    clients.clear();
    engine.until_empty();
}

/// Leaves its reactor after each message and comes back; bytes arrive meanwhile.
Task<> hop_and_echo(Connection connection, ferrule::Reactor* home, ferrule::Reactor* other) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        received.reset();
        co_await connection.flush();
        const auto left = co_await ferrule::resume_on(*other);
        EXPECT_TRUE(left);
        EXPECT_EQ(ferrule::Reactor::current(), other);
        const auto back = co_await ferrule::resume_on(*home);
        EXPECT_TRUE(back);
    }
}

TEST(NetworkEngines, A17_handlers_that_hop_while_data_arrives_lose_nothing) {
    ferrule::Reactor other{9};
    std::thread elsewhere{[&] { other.run(); }};
    {
        Engine engine{[&](Connection connection) {
            ferrule::Reactor& home = connection.reactor();
            return hop_and_echo(std::move(connection), &home, &other);
        }};
        in_parallel(8, [&](unsigned number) {
            ClientSocket client = engine.connect();
            const std::string message = pattern(200'000, number);
            in_parallel(2, [&](unsigned side) {
                if (side == 0) {
                    for (std::size_t sent = 0; sent < message.size(); sent += 1000) {
                        client.send(std::string_view{message}.substr(sent, 1000));
                    }
                } else {
                    EXPECT_TRUE(client.receive(message.size()) == message);
                }
            });
        });
        engine.until_empty();
    }
    other.stop();
    elsewhere.join();
}

// ---- idle ----

TEST(NetworkIdle, a_hundred_idle_connections_cost_no_system_call) {
    ferrule_test::ForwardingKernel kernel;
    EngineOptions options;
    options.kernel = &kernel;
    Engine engine{echo, options};
    std::vector<ClientSocket> clients;
    for (int number = 0; number < 100; ++number) {
        clients.push_back(engine.connect());
        for (int turn = 0; turn < 3; ++turn) expect_echo(clients.back(), "hello");
    }
    engine.on_reactor([] {});
    // The reactor is asleep when it has entered the kernel for the last time; deadlines are armed.
    const auto all_calls = [&] {
        std::uint64_t sum = 0;
        for (std::size_t call = 0; call < static_cast<std::size_t>(ferrule_test::Call::count_of_calls); ++call) {
            sum += kernel.calls(static_cast<ferrule_test::Call>(call));
        }
        return sum;
    };
    // The window is what is measured: nothing waits for its end. On a busy machine the first may begin before the
    // reactor has fallen asleep; what ticks makes calls in each.
    constexpr int windows = 6;
    bool silent = false;
    for (int window = 0; window < windows && !silent; ++window) {
        const std::uint64_t calls = all_calls();
        std::this_thread::sleep_for(5s);
        silent = all_calls() == calls;
    }
    EXPECT_TRUE(silent);
    expect_echo(clients.front(), "awake");
}

// ---- hostile peers ----

TEST(NetworkHostile, ten_thousand_that_send_one_byte_and_stop) {
    // Each takes a descriptor on either side.
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const std::size_t count = std::min<std::size_t>(10'000, (limit.rlim_cur - 200) / 2);
    if (count < 1000) GTEST_SKIP() << "no more than " << limit.rlim_cur << " descriptors";
    Engine engine{[](Connection connection) -> Task<> {
        return [](Connection own) -> Task<> {
            // Waits for whole lines.
            while (auto received = co_await own.read()) {
                const std::string_view text = received.contiguous().text();
                if (!text.ends_with('\n')) {
                    received.consume(0);
                    continue;
                }
                own.write(text);
                co_await own.flush();
            }
        }(std::move(connection));
    }};
    std::vector<ClientSocket> silent;
    for (std::size_t number = 0; number < count; ++number) {
        silent.push_back(engine.connect());
        silent.back().send("x");
        if (number % 500 == 0) {
            ClientSocket client = engine.connect();
            expect_echo(client, "served meanwhile\n");
        }
    }
    engine.eventually("all bytes", [&] { return engine.counters().bytes_received.value() >= count; });
    engine.on_reactor([&] {
        // What is carried stays where it came while a quarter of the buffers is free for the others.
        EXPECT_LE(engine.network().buffers().held(), engine.network().buffers().count() * 3 / 4);
        EXPECT_LE(engine.network().slabs().used_bytes(), count * 256);
    });
    ClientSocket client = engine.connect();
    expect_echo(client, "served after\n");
    // In portions: what a processor has not looked at yet is dropped beyond a thousand packets, and nobody repeats a
    // reset.
    while (!silent.empty()) {
        for (std::size_t number = 0; number < 200 && !silent.empty(); ++number) {
            if (silent.size() % 2 == 0) silent.back().reset();
            silent.pop_back();
        }
        engine.eventually("a portion gone", [&] { return engine.counters().connections.value() <= silent.size() + 1; });
    }
    client.close();
    engine.until_empty();
}

TEST(NetworkHostile, random_bytes_and_resets_in_the_middle) {
    EngineOptions options;
    options.network.receive_buffer_count = 16;
    Engine engine{echo, options};
    in_parallel(6, [&](unsigned thread) {
        if (thread == 0) {
            for (unsigned turn = 0; turn < 200; ++turn) {
                ClientSocket client = engine.connect();
                expect_echo(client, pattern(2000, turn));
            }
            return;
        }
        for (unsigned turn = 0; turn < 200; ++turn) {
            ClientSocket client = engine.connect(4096);
            static_cast<void>(client.send_now(pattern(turn * 97 % 60'000, turn)));
            if (turn % 3 == 0) static_cast<void>(client.receive_now());
            if (turn % 2 == 0) client.reset();
        }
    });
    engine.until_empty();
    EXPECT_EQ(engine.faults(), 0u);
}

// ---- draining ----

/// Echoes; a message that ends in '!' is answered only after a while of waiting.
Task<> echo_slowly(Connection connection, Signal* begun, std::atomic<bool>* finish, std::atomic<int>* reason) {
    while (auto received = co_await connection.read()) {
        const std::string text{received.contiguous().text()};
        received.reset();
        if (text.ends_with('!')) {
            begun->raise();
            while (!finish->load()) {
                const auto slept = co_await ferrule::sleep_for(1ms);
                if (!slept) break;
            }
        }
        connection.write(text);
        co_await connection.flush();
    }
    reason->store(static_cast<int>(connection.end_reason()));
}

struct DrainEngine {
    Signal begun;
    std::atomic<bool> finish{false};
    std::atomic<int> reason{-1};
    Engine engine;

    explicit DrainEngine(EngineOptions options = {})
        : engine{[this](Connection connection) { return echo_slowly(std::move(connection), &begun, &finish, &reason); },
                 options} {}
};

TEST(NetworkDrain, an_idle_connection_ends_with_draining) {
    DrainEngine drain;
    ClientSocket client = drain.engine.connect();
    expect_echo(client, "hello");
    drain.engine.drain(60s);
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    drain.engine.join();
    EXPECT_EQ(static_cast<EndReason>(drain.reason.load()), EndReason::draining);
}

TEST(NetworkDrain, an_idle_connection_is_served_on_for_its_grace) {
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    options.network.drain_grace = 5s;
    DrainEngine drain{options};
    ClientSocket client = drain.engine.connect();
    expect_echo(client, "before");
    drain.engine.drain(60s);
    clock.advance(4999ms);
    drain.engine.on_reactor([] {});
    expect_echo(client, "meanwhile");
    clock.advance(2ms);
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    drain.engine.join();
    EXPECT_EQ(static_cast<EndReason>(drain.reason.load()), EndReason::draining);
}

/// Counts the bytes of a body of ten, of which nothing is carried.
Task<> count_body(Connection connection, Signal* begun) {
    connection.begin_message();
    std::size_t left = 10;
    while (left != 0) {
        const auto received = co_await connection.read();
        if (!received) co_return;
        begun->raise();
        left -= received.size();
    }
    connection.end_message();
    connection.write("counted");
    co_await connection.flush();
    while (auto received = co_await connection.read()) begun->raise();
}

TEST(NetworkDrain, a_connection_is_not_idle_within_a_message) {
    Signal begun;
    Engine engine{[&](Connection connection) { return count_body(std::move(connection), &begun); }};
    ClientSocket client = engine.connect();
    client.send("01234");
    begun.wait();
    engine.drain(60s);
    for (unsigned pass = 0; pass < 3; ++pass) engine.on_reactor([] {});
    client.send("56789");
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"counted", 0}));
    client.close();
    engine.join();
}

TEST(NetworkDrain, nobody_waits_for_a_grace_that_nobody_needs) {
    ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    options.network.drain_grace = 5s;
    DrainEngine drain{options};
    ClientSocket client = drain.engine.connect();
    expect_echo(client, "before");
    drain.engine.drain(60s);
    expect_echo(client, "meanwhile");
    client.close();
    clock.advance(100ms);  // what the listener waits for
    drain.engine.join();
    EXPECT_EQ(static_cast<EndReason>(drain.reason.load()), EndReason::end_of_stream);
}

TEST(NetworkDrain, a_busy_connection_finishes_what_it_received) {
    DrainEngine drain;
    ClientSocket client = drain.engine.connect();
    client.send("work!");
    drain.begun.wait();
    drain.engine.drain(60s);
    drain.finish = true;
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"work!", 0}));
    client.close();
    drain.engine.join();
}

/// Answers one message, and ends.
Task<> answer_once(Connection connection, Signal* begun, std::atomic<bool>* finish) {
    {
        const auto received = co_await connection.read();
        begun->raise();
    }
    while (!finish->load()) {
        const auto slept = co_await ferrule::sleep_for(1ms);
        if (!slept) break;
    }
    connection.write("answer");
}

TEST(NetworkDrain, whoever_is_ended_by_it_may_have_sent_more) {
    Signal begun;
    std::atomic<bool> finish{false};
    Engine engine{[&](Connection connection) { return answer_once(std::move(connection), &begun, &finish); }};
    ClientSocket client = engine.connect();
    client.send("one");
    begun.wait();
    engine.drain(60s);
    engine.on_reactor([] {});
    client.send("the next");
    finish = true;
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"answer", 0}));
    client.close();
    engine.join();
}

TEST(NetworkDrain, what_was_received_is_answered) {
    DrainEngine drain;
    std::vector<ClientSocket> clients;
    // More than Linux tells of in one call.
    for (int number = 0; number < 100; ++number) {
        clients.push_back(drain.engine.connect());
        expect_echo(clients.back(), "hello");
    }
    // The requests are in the sockets when the drain begins, and the reactor has not seen them yet.
    Signal blocked;
    Signal go;
    drain.engine.reactor().post([&] {
        blocked.raise();
        go.wait();
        drain.engine.reactor().drain(60s);
    });
    blocked.wait();
    for (ClientSocket& client : clients) client.send("in time");
    go.raise();
    for (ClientSocket& client : clients) EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"in time", 0}));
    clients.clear();
    drain.engine.join();
}

TEST(NetworkDrain, the_accept_queue_is_served) {
    for (const bool smallest : {false, true}) {
        EngineOptions options;
        if (smallest) {
            options.reactor.submission_entries = 4;
            options.reactor.completion_entries = 8;
        }
        DrainEngine drain{options};
        Signal blocked;
        Signal go;
        drain.engine.reactor().post([&] {
            blocked.raise();
            go.wait();
            drain.engine.reactor().drain(60s);
        });
        blocked.wait();
        std::vector<ClientSocket> clients;
        for (int number = 0; number < 300; ++number) {
            clients.push_back(drain.engine.connect());
            clients.back().send("queued");
        }
        go.raise();
        unsigned answered = 0;
        for (ClientSocket& client : clients) {
            answered += client.receive_rest() == ClientSocket::Rest{"queued", 0} ? 1u : 0u;
        }
        EXPECT_EQ(answered, clients.size());
        clients.clear();
        drain.engine.join();
    }
}

TEST(NetworkDrain, the_deadline_cancels_the_rest) {
    ferrule_test::ManualClock clock;
    EngineOptions options;
    options.kernel = &clock;
    DrainEngine drain{options};
    ClientSocket client = drain.engine.connect();
    client.send("work!");
    drain.begun.wait();
    drain.engine.drain(10s);
    drain.engine.on_reactor([] {});
    clock.advance(11s);
    // Nobody tells the reactor of the manual clock's time.
    drain.engine.reactor().post([] {});
    EXPECT_EQ(client.receive_rest().error, 0);
    client.close();
    drain.engine.join();
    EXPECT_EQ(drain.engine.remains(), Engine::Remains{});
}

TEST(NetworkDrain, new_connections_are_refused_afterwards) {
    DrainEngine drain;
    ClientSocket busy = drain.engine.connect();
    busy.send("work!");
    drain.begun.wait();
    drain.engine.drain(60s);
    drain.engine.eventually("a closed listener", [&] { return !drain.engine.network().listen_address(0); });
    EXPECT_THROW(drain.engine.connect(), std::system_error);
    drain.finish = true;
    EXPECT_EQ(busy.receive_rest(), (ClientSocket::Rest{"work!", 0}));
    busy.close();
    drain.engine.join();
}

}  // namespace
