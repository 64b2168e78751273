#include <ferrule/ring/prepare.hpp>
#include <ferrule/server.hpp>

#include "support/client_socket.hpp"
#include "support/forwarding_kernel.hpp"

#include <gtest/gtest.h>

#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ferrule {
namespace {

using namespace std::chrono_literals;
using ferrule_test::Call;
using ferrule_test::ClientSocket;
using ferrule_test::ForwardingKernel;
using ferrule_test::pattern;

Task<> echo(Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

// The first byte asks for so many times 64 KiB, and the end.
Task<> answer_and_close(Connection connection) {
    static const std::string block = pattern(64 << 10, 7);
    if (auto received = co_await connection.read()) {
        const auto times = static_cast<unsigned>(received.contiguous().text().front());
        for (unsigned time = 0; time < times; ++time) connection.write(block);
    }
}

/// A server of its own thread, with what its reactors say of their tuning.
class RunningServer {
public:
    explicit RunningServer(ServerOptions options, ConnectionHandler handler = echo, Kernel& kernel = linux_kernel()) {
        options.host = "127.0.0.1";
        options.port = 0;
        options.handle_signals = false;
        if (options.reactors == 0 && options.cpus.empty()) options.reactors = 2;
        server_ = std::make_unique<Server>(std::move(options), kernel);
        server_->on_connection(std::move(handler));
        server_->on_start([this](Reactor& reactor) {
            const std::lock_guard lock(mutex_);
            tunings_.push_back(reactor.tuning());
            pages_.push_back(Network::of(reactor).huge_pages());
            cpus_.push_back(::sched_getcpu());
        });
        std::promise<void> up;
        server_->on_listening([&up] { up.set_value(); });
        thread_ = std::thread([this] { result_ = server_->run(); });
        up.get_future().wait();
    }
    ~RunningServer() { stop(); }

    Address address() const { return server_->addresses().front(); }
    Server& server() { return *server_; }
    std::vector<ReactorTuning> tunings() {
        const std::lock_guard lock(mutex_);
        return tunings_;
    }
    std::vector<HugePages> pages() {
        const std::lock_guard lock(mutex_);
        return pages_;
    }
    std::vector<int> cpus() {
        const std::lock_guard lock(mutex_);
        return cpus_;
    }
    int stop() {
        if (thread_.joinable()) {
            server_->stop();
            thread_.join();
        }
        return result_;
    }

private:
    std::unique_ptr<Server> server_;
    std::mutex mutex_;
    std::vector<ReactorTuning> tunings_;
    std::vector<HugePages> pages_;
    std::vector<int> cpus_;
    std::thread thread_;
    int result_ = -1;
};

int first_cpu() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    ::sched_getaffinity(0, sizeof cpus, &cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(static_cast<std::size_t>(cpu), &cpus)) return cpu;
    }
    return 0;
}

struct Tuned {
    const char* name;
    std::function<void(ServerOptions&)> change;
    /// Whether it is in force, or said to be refused.
    std::function<bool(const ReactorTuning&)> in_force;

    friend std::ostream& operator<<(std::ostream& stream, const Tuned& tuned) { return stream << tuned.name; }
};

const std::array tuned_cases{
    Tuned{"SubmissionPoll", [](ServerOptions& options) { options.reactor.submission_poll = 50ms; },
          [](const ReactorTuning& tuning) { return tuning.submission_poll; }},
    Tuned{"SubmissionPollThatSleeps", [](ServerOptions& options) { options.reactor.submission_poll = 1ms; },
          [](const ReactorTuning& tuning) { return tuning.submission_poll; }},
    Tuned{"SubmissionPollOfFewEntries",
          [](ServerOptions& options) {
              options.reactor.submission_poll = 50ms;
              options.reactor.submission_entries = 4;
              options.network.write_overflow = WriteOverflow::segmented;
          },
          [](const ReactorTuning& tuning) { return tuning.submission_poll; }},
    Tuned{"Napi",
          [](ServerOptions& options) {
              options.reactor.napi_busy_poll = 20us;
              options.reactor.napi_prefer_busy_poll = true;
          },
          [](const ReactorTuning& tuning) { return tuning.napi_busy_poll; }},
    Tuned{"MinWait",
          [](ServerOptions& options) {
              options.reactor.min_wait = 200us;
              options.reactor.min_wait_completions = 4;
          },
          [](const ReactorTuning& tuning) { return tuning.min_wait; }},
    Tuned{"Resize",
          [](ServerOptions& options) {
              options.reactor.submission_entries = 4;
              options.reactor.completion_entries = 4;
              options.reactor.submission_entries_max = 64;
              options.reactor.completion_entries_max = 256;
          },
          [](const ReactorTuning& tuning) { return tuning.resize; }},
    Tuned{"Workers",
          [](ServerOptions& options) {
              options.reactor.bounded_workers = 2;
              options.reactor.unbounded_workers = 8;
          },
          [](const ReactorTuning& tuning) { return tuning.workers; }},
    Tuned{"LocalMemory",
          [](ServerOptions& options) {
              options.cpus = {first_cpu()};
              options.reactor.local_memory = true;
          },
          [](const ReactorTuning& tuning) { return tuning.memory_node >= 0; }},
    Tuned{"TransparentHugePages", [](ServerOptions& options) { options.network.huge_pages = HugePages::transparent; },
          [](const ReactorTuning&) { return true; }},
    Tuned{"ReservedHugePages", [](ServerOptions& options) { options.network.huge_pages = HugePages::reserved; },
          [](const ReactorTuning&) { return true; }},
};

class TunedServer : public testing::TestWithParam<Tuned> {
protected:
    ServerOptions options() const {
        ServerOptions changed;
        GetParam().change(changed);
        return changed;
    }
};

TEST_P(TunedServer, Echoes) {
    RunningServer running{options()};
    for (const ReactorTuning& tuning : running.tunings())
        EXPECT_TRUE(GetParam().in_force(tuning) || !tuning.refused.empty());
    std::vector<ClientSocket> clients;
    for (int client = 0; client < 16; ++client) clients.push_back(ClientSocket::connect(running.address()));
    for (unsigned round = 0; round < 20; ++round) {
        // All of them first, so that passes have many completions.
        for (unsigned index = 0; index < clients.size(); ++index) clients[index].send(pattern(100 + round * 37, index));
        for (unsigned index = 0; index < clients.size(); ++index)
            ASSERT_EQ(clients[index].receive(100 + round * 37), pattern(100 + round * 37, index));
    }
    for (ClientSocket& client : clients) {
        client.shutdown_write();
        EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    }
    EXPECT_EQ(running.stop(), 0);
    EXPECT_EQ(running.server().counters().faults, 0u);
}

TEST_P(TunedServer, LargeAnswersReachSlowReadersBeforeTheEnd) {
    RunningServer running{options(), answer_and_close};
    const std::string block = pattern(64 << 10, 7);
    for (const unsigned times : {0u, 1u, 40u}) {
        ClientSocket client = ClientSocket::connect(running.address(), 8 << 10);
        const char asked = static_cast<char>(times);
        client.send(std::string_view(&asked, 1));
        const ClientSocket::Rest rest = client.receive_rest();
        EXPECT_EQ(rest.error, 0);
        ASSERT_EQ(rest.bytes.size(), times * block.size());
        for (unsigned time = 0; time < times; ++time)
            ASSERT_EQ(rest.bytes.compare(time * block.size(), block.size(), block), 0);
    }
    EXPECT_EQ(running.stop(), 0);
}

TEST_P(TunedServer, AConnectionPerRequest) {
    RunningServer running{options(), answer_and_close};
    for (int request = 0; request < 100; ++request) {
        ClientSocket client = ClientSocket::connect(running.address());
        client.send("\1");
        EXPECT_EQ(client.receive_rest().bytes.size(), 64u << 10);
    }
    EXPECT_EQ(running.stop(), 0);
    const ServerCounters counted = running.server().counters();
    EXPECT_EQ(counted.accepted, 100u);
    EXPECT_EQ(counted.connections, 0u);
}

TEST_P(TunedServer, ADrainAnswersWhatCameBefore) {
    for (int round = 0; round < 5; ++round) {
        RunningServer running{options()};
        std::vector<ClientSocket> clients;
        for (int client = 0; client < 8; ++client) clients.push_back(ClientSocket::connect(running.address()));
        // Known to the server, and idle.
        for (ClientSocket& client : clients) {
            client.send("a");
            ASSERT_EQ(client.receive(1), "a");
        }
        for (ClientSocket& client : clients) client.send("b");
        running.server().stop();
        for (ClientSocket& client : clients) EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"b", 0}));
        EXPECT_EQ(running.stop(), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Options, TunedServer, testing::ValuesIn(tuned_cases),
                         [](const auto& named) { return std::string(named.param.name); });

// ---- in detail ----

TEST(ServerTuning, ReactorsAreOnTheCpusThatAreNamed) {
    ServerOptions options;
    options.cpus = {first_cpu(), first_cpu(), first_cpu()};
    RunningServer running{options};
    EXPECT_EQ(running.server().reactors(), 3u);
    EXPECT_EQ(running.cpus(), (std::vector<int>(3, first_cpu())));
}

TEST(ServerTuning, ACpuThatTheProcessMayNotUseIsNamed) {
    ServerOptions options;
    options.cpus = {first_cpu(), 8191};
    options.host = "127.0.0.1";
    options.port = 0;
    Server server(options);
    server.on_connection(echo);
    try {
        server.run();
        FAIL() << "it started";
    } catch (const StartError& error) {
        EXPECT_NE(std::string(error.what()).find("ServerOptions.cpus: this process may not use CPU 8191"),
                  std::string::npos)
            << error.what();
    }
}

TEST(ServerTuning, QueuesGrowWhenTheyOverflow) {
    bool can = false;
    int left = 200;
    std::string refused;
    ReactorOptions options;
    options.submission_entries = 4;
    options.completion_entries = 4;
    options.submission_entries_max = 16;
    options.completion_entries_max = 64;
    Reactor reactor(0, options);
    struct Work {
        static Task<> nops(Reactor& home, int count, int& left) {
            for (int index = 0; index < count; ++index) {
                auto operation = home.submit("nop", [](abi::SubmissionEntry& entry) { prepare::nop(entry); });
                const OperationResult ended = co_await operation;
                EXPECT_EQ(ended.result, 0);
            }
            if (--left == 0) home.stop();
        }
    };
    reactor.on_start([&](Reactor& home) {
        can = home.tuning().resize;
        refused = home.tuning().refused;
        for (int task = left; task > 0; --task) home.spawn(Work::nops(home, 5, left));
    });
    reactor.run();
    if (!can) {
        EXPECT_NE(refused.find("submission_entries_max"), std::string::npos) << refused;
        EXPECT_EQ(reactor.ring().completion_entries(), 4u);
        GTEST_SKIP() << "this kernel cannot resize queues";
    }
    EXPECT_GT(reactor.counters().resizes.value(), 0u);
    EXPECT_GT(reactor.ring().entries(), 4u);
    EXPECT_LE(reactor.ring().entries(), 16u);
    EXPECT_GE(reactor.ring().completion_entries(), reactor.ring().entries());
    EXPECT_LE(reactor.ring().completion_entries(), 64u);
}

/// Refuses what a kernel may lack.
class BareKernel final : public ForwardingKernel {
public:
    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        if ((parameters->flags & abi::setup_submission_poll) != 0) return -EINVAL;
        const int ring = ForwardingKernel::io_uring_setup(entries, parameters);
        parameters->features &= ~abi::feature_min_timeout;
        return ring;
    }
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        if (opcode == abi::register_napi || opcode == abi::register_resize_rings || opcode == abi::register_workers_max)
            return -EINVAL;
        return ForwardingKernel::io_uring_register(fd, opcode, argument, count);
    }
    int prefer_memory_node(int) noexcept override { return -ENOSYS; }
};

TEST(ServerTuning, WhatAKernelLacksIsSaidAndDoneWithout) {
    BareKernel kernel;
    ServerOptions options;
    options.cpus = {first_cpu()};
    options.reactor.submission_poll = 10ms;
    options.reactor.napi_busy_poll = 10us;
    options.reactor.min_wait = 10us;
    options.reactor.bounded_workers = 1;
    options.reactor.local_memory = true;
    RunningServer running{options, echo, kernel};
    ASSERT_EQ(running.tunings().size(), 1u);
    const ReactorTuning tuning = running.tunings().front();
    EXPECT_FALSE(tuning.submission_poll || tuning.napi_busy_poll || tuning.min_wait || tuning.resize || tuning.workers);
    EXPECT_EQ(tuning.memory_node, -1);
    for (const char* const option :
         {"submission_poll: ", "napi_busy_poll: ", "min_wait: ", "bounded_workers", "local_memory: "})
        EXPECT_NE(tuning.refused.find(option), std::string::npos) << option << " in\n" << tuning.refused;
    ClientSocket client = ClientSocket::connect(running.address());
    client.send("still served");
    EXPECT_EQ(client.receive(12), "still served");
}

TEST(ServerTuning, NothingIsSaidOfWhatWasNotAskedFor) {
    RunningServer running{ServerOptions{}};
    for (const ReactorTuning& tuning : running.tunings()) {
        EXPECT_TRUE(tuning.refused.empty()) << tuning.refused;
        EXPECT_FALSE(tuning.submission_poll || tuning.napi_busy_poll || tuning.min_wait || tuning.resize ||
                     tuning.workers);
    }
    for (const HugePages pages : running.pages()) EXPECT_EQ(pages, HugePages::off);
}

}  // namespace
}  // namespace ferrule
