#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/resume_on.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// Law 1: a connection belongs to one thread, and says so to others.

namespace {

using ferrule::Connection;
using ferrule::Reactor;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::Signal;

struct Notes {
    std::vector<std::string> lines;
    Signal ended;
};

std::string refusal(const std::function<void()>& call) {
    try {
        call();
    } catch (const std::logic_error& misuse) {
        return misuse.what();
    }
    return "taken";
}

/// Makes every call that changes a connection or its network.
void misuse_all(Connection& connection, Notes& notes) {
    ferrule::Network& network = ferrule::Network::of(connection.reactor());
    const std::function<void()> calls[] = {
        [&] { static_cast<void>(connection.read()); },
        [&] { connection.write(std::string(5000, 'x')); },
        [&] { static_cast<void>(connection.span(1)); },
        [&] { connection.advance(1); },
        [&] { connection.shutdown_write(); },
        [&] { static_cast<void>(connection.peer_address()); },
        [&] { static_cast<void>(connection.local_address()); },
        [&] { connection.abort(); },
        [&] { static_cast<void>(std::move(connection).split()); },
        [&] { network.add_handler(&ferrule_test::echo); },
        [&] { network.adopt(-1, 0); },
        [&] { static_cast<void>(network.open(-1)); },
        [&] { network.listen(-1, &ferrule_test::echo); },
    };
    for (const auto& call : calls) notes.lines.push_back(refusal(call));
}

Task<> use_elsewhere(Connection connection, Reactor* other, Notes* notes) {
    Reactor& home = connection.reactor();
    connection.write("staged");
    static_cast<void>(connection.span(10));
    static_cast<void>(co_await ferrule::resume_on(*other));
    misuse_all(connection, *notes);
    try {
        co_await connection.flush();
        notes->lines.emplace_back("taken");
    } catch (const std::logic_error& misuse) {
        notes->lines.emplace_back(misuse.what());
    }
    static_cast<void>(co_await ferrule::resume_on(home));
    // Nothing has happened to it.
    co_await connection.flush();
    notes->ended.raise();
}

TEST(ConnectionThread, Law1_calls_on_another_thread_are_refused_by_name_and_change_nothing) {
    Notes notes;
    std::atomic<Engine*> shared = nullptr;
    EngineOptions options;
    options.reactors = 2;
    Engine engine{[&](Connection connection) {
                      Engine& all = *shared;
                      Reactor& other = all.reactor(&connection.reactor() == &all.reactor(0) ? 1 : 0);
                      return use_elsewhere(std::move(connection), &other, &notes);
                  },
                  options};
    shared = &engine;
    ClientSocket client = engine.connect();
    notes.ended.wait();
    EXPECT_EQ(client.receive(6), "staged");
    const std::string elsewhere = ": called on a thread that is not the reactor's";
    std::vector<std::string> expected;
    for (const char* call :
         {"read", "write", "span", "advance", "shutdown_write", "peer_address", "local_address", "abort", "split"}) {
        expected.push_back("Connection::" + std::string(call) + elsewhere + " of its connection");
    }
    for (const char* call : {"add_handler", "adopt", "open", "listen"}) {
        expected.push_back("Network::" + std::string(call) + elsewhere);
    }
    expected.push_back("Connection::flush" + elsewhere + " of its connection");
    EXPECT_EQ(notes.lines, expected);
}

Task<> take_bytes_along(Connection connection, Engine* engine) {
    auto received = co_await connection.read();
    Reactor& other = engine->reactor(&connection.reactor() == &engine->reactor(0) ? 1 : 0);
    static_cast<void>(co_await ferrule::resume_on(other));
    received.reset();
}

void give_bytes_back_elsewhere() {
    std::atomic<Engine*> shared = nullptr;
    EngineOptions options;
    options.reactors = 2;
    Engine engine{[&](Connection connection) { return take_bytes_along(std::move(connection), shared); }, options};
    shared = &engine;
    ClientSocket client = engine.connect();
    client.send("x");
    static_cast<void>(client.receive_rest());
}

TEST(ConnectionThreadDeathTest, Law1_received_bytes_that_end_on_another_thread_abort_and_say_so) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(give_bytes_back_elsewhere(), "a ReadResult or Lease ends on a thread that is not its reactor's");
}

}  // namespace
