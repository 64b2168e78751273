#include <ferrule/server.hpp>
#include <ferrule/task/yield.hpp>

#include "support/client_socket.hpp"
#include "support/own_symbols.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using ferrule_test::ClientSocket;
using std::chrono::milliseconds;
using testing::HasSubstr;

ServerOptions on_loopback() {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    options.reactors = 2;
    options.handle_signals = false;
    options.network.linger_timeout = milliseconds(10);
    options.reactor.submission_entries = 64;
    options.network.receive_buffer_count = 64;
    return options;
}

/// Runs the server meanwhile.
void while_serving(Server& server, const std::function<void()>& meanwhile) {
    std::promise<void> up;
    server.on_listening([&] { up.set_value(); });
    auto result = std::async(std::launch::async, [&] { return server.run(); });
    up.get_future().wait();
    meanwhile();
    server.stop();
    EXPECT_EQ(result.get(), 0);
}

void nap() {
    const timespec millisecond{0, 1'000'000};
    ::nanosleep(&millisecond, nullptr);
}

/// What was said, of all threads.
class Said {
public:
    void add(std::string text) {
        const std::lock_guard lock(mutex_);
        texts_.push_back(std::move(text));
    }
    bool has(const std::string& part) {
        const std::lock_guard lock(mutex_);
        return std::any_of(texts_.begin(), texts_.end(),
                           [&](const std::string& text) { return text.find(part) != std::string::npos; });
    }

    std::size_t count() {
        const std::lock_guard lock(mutex_);
        return texts_.size();
    }

private:
    std::mutex mutex_;
    std::vector<std::string> texts_;
};

Task<> hold_until_the_peer_ends(Connection connection) {
    while (auto received = co_await connection.read()) {
    }
}

TEST(ServerDiagnosis, messages_of_all_reactors_come_to_one_function) {
    Server server{on_loopback()};
    Said said;
    server.on_log([&](const LogMessage& message) {
        said.add(std::string(to_string(message.level)) + " " + std::to_string(message.reactor) + " " +
                 std::string(message.cause) + " " + std::string(message.text));
    });
    server.on_start([](Reactor& reactor) { reactor.post([] { throw std::runtime_error("thrown at the start"); }); });
    server.on_connection(hold_until_the_peer_ends);
    while_serving(server, [&] {
        while (server.counters().faults != 2) nap();
    });
    EXPECT_TRUE(said.has("error 0 unhandled-exception unhandled exception: thrown at the start"));
    EXPECT_TRUE(said.has("error 1 unhandled-exception unhandled exception: thrown at the start"));
}

/// The peer's byte makes it block until the detector has said that it does.
class Blocking {
public:
    explicit Blocking(Said& said) : said_(&said) {}
    Task<> block_in_a_connection(Connection connection) {
        while (auto received = co_await connection.read()) {
            // Each dispatch is reported once, and this one may have been when the handler did not run yet: then again.
            while (!said_->has("block_in_a_connection")) {
                const std::size_t before = said_->count();
                co_await yield_now();
                while (said_->count() == before) nap();
            }
            connection.write("over");
            co_await connection.flush();
        }
    }

private:
    Said* said_;
};

TEST(ServerDiagnosis, a_handler_that_blocks_is_named_and_the_others_are_served) {
    if (!ferrule_test::has_symbols()) GTEST_SKIP() << "this program is stripped: nothing can be named";
    ServerOptions options = on_loopback();
    options.stall_threshold = milliseconds(2);
    Server server{options};
    Said said;
    Said ended;
    server.on_stall([&](const StallReport& report) { (report.ended ? ended : said).add(to_string(report)); });
    Blocking blocking{said};
    server.on_connection([&](Connection connection) { return blocking.block_in_a_connection(std::move(connection)); });
    while_serving(server, [&] {
        ClientSocket client = ClientSocket::connect(server.addresses().front());
        client.send("x");
        EXPECT_EQ(client.receive(4), "over");
        while (!ended.has("block_in_a_connection")) nap();
        EXPECT_GE(server.counters().stalls, 1u);
    });
    EXPECT_GE(server.counters().stalls, 1u);
    EXPECT_TRUE(said.has("Blocking::block_in_a_connection"));
}

TEST(ServerDiagnosis, a_signal_that_is_handled_already_is_not_taken) {
    struct sigaction mine {};
    struct sigaction former {};
    mine.sa_handler = [](int) {};
    ASSERT_EQ(::sigaction(SIGUSR2, &mine, &former), 0);
    ServerOptions options = on_loopback();
    options.stall_threshold = milliseconds(100);
    options.stall_signal = SIGUSR2;
    Server server{options};
    server.on_connection(hold_until_the_peer_ends);
    try {
        server.run();
        ADD_FAILURE() << "it has started";
    } catch (const StartError& error) {
        EXPECT_THAT(error.what(), HasSubstr("signal 12 is handled already"));
    }
    ASSERT_EQ(::sigaction(SIGUSR2, &former, nullptr), 0);
}

TEST(ServerDiagnosis, live_tasks_of_all_reactors_are_described_from_another_thread) {
    Server server{on_loopback()};
    server.on_connection(hold_until_the_peer_ends);
    EXPECT_EQ(server.describe_live_tasks(), "");
    while_serving(server, [&] {
        ClientSocket client = ClientSocket::connect(server.addresses().front());
        while (server.counters().connections != 1) nap();
#if defined(FERRULE_LIVE_TASKS)
        std::string text;
        do {
            text = server.describe_live_tasks();
        } while (text.find("hold_until_the_peer_ends") == std::string::npos);
        EXPECT_THAT(text, HasSubstr("diagnosis_test.cpp:"));
#else
        EXPECT_THAT(server.describe_live_tasks(), HasSubstr("FERRULE_LIVE_TASKS"));
#endif
        EXPECT_THAT(server.describe_live_tasks(), testing::StartsWith("reactor 0: "));
        EXPECT_THAT(server.describe_live_tasks(), HasSubstr("\nreactor 1: "));
    });
    EXPECT_EQ(server.describe_live_tasks(), "");
}

}  // namespace
