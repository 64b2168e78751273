#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/ring/abi.hpp>

#include "support/client_socket.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/manual_clock.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// Buffer rings of connections' own: I1 to I9 run on them with the other cases of each adapter; here is what only they
// have.

namespace {

using namespace std::chrono_literals;
using ferrule::BufferMode;
using ferrule::Connection;
using ferrule::Lease;
using ferrule::Task;
using ferrule_test::ClientSocket;
using ferrule_test::echo;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::ForwardingKernel;
using ferrule_test::in_parallel;
using ferrule_test::ManualClock;
using ferrule_test::pattern;
using ferrule_test::Signal;

namespace abi = ferrule::abi;

EngineOptions own_rings() {
    EngineOptions options;
    options.network.buffer_mode = BufferMode::per_connection_incremental;
    return options;
}

#define SKIP_WITHOUT_OWN_RINGS(engine)                                              \
    if ((engine).network().buffer_mode() != BufferMode::per_connection_incremental) \
    GTEST_SKIP() << "the kernel has no incremental buffers (6.12)"

/// What a handler leaves for the test.
struct Notes {
    std::vector<std::uint64_t> bytes;
    std::vector<Lease> held;
    Signal progress;
};

TEST(ConnectionBuffers, a_ring_is_made_when_first_needed_and_stays_with_the_slot) {
    Engine engine{echo, own_rings()};
    SKIP_WITHOUT_OWN_RINGS(engine);
    // The trial's ring is the first slot's.
    for (unsigned turn = 0; turn < 5; ++turn) {
        ClientSocket client = engine.connect();
        const std::string message = pattern(10'000, turn);
        client.send(message);
        EXPECT_TRUE(client.receive(message.size()) == message);
        client.close();
        engine.until_empty();
        EXPECT_EQ(engine.counters().connection_rings.value(), 1u);
    }
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 10; ++number) clients.push_back(engine.connect());
    for (ClientSocket& client : clients) {
        client.send("x");
        EXPECT_EQ(client.receive(1), "x");
    }
    EXPECT_EQ(engine.counters().connection_rings.value(), 10u);
    EXPECT_EQ(engine.counters().connection_ring_refusals.value(), 0u);
    // Nothing was taken from the buffers that connections without a ring share.
    EXPECT_EQ(engine.on_reactor([&] { return engine.network().buffers().held(); }), 0u);
}

Task<> note_memory(Connection connection, Notes* notes) {
    notes->bytes.push_back(connection.memory_bytes());
    auto received = co_await connection.read();
    notes->bytes.push_back(connection.memory_bytes());
    notes->held.push_back(received.take());
    received.reset();
    notes->bytes.push_back(connection.memory_bytes());
    notes->held.clear();
    notes->bytes.push_back(connection.memory_bytes());
    notes->progress.raise();
    received = co_await connection.read();
}

TEST(ConnectionBuffers, a_ring_counts_in_the_account_and_its_slices_not_a_second_time) {
    for (unsigned turn = 0; turn < 2; ++turn) {
        Notes notes;
        Engine engine{[&](Connection connection) { return note_memory(std::move(connection), &notes); }, own_rings()};
        SKIP_WITHOUT_OWN_RINGS(engine);
        ClientSocket client = engine.connect();
        client.send(pattern(1000));
        notes.progress.wait();
        const std::uint64_t own = 16 * (4096 + sizeof(abi::BufferEntry));
        EXPECT_EQ(notes.bytes, (std::vector<std::uint64_t>{notes.bytes[0], notes.bytes[0] + own, notes.bytes[0] + own,
                                                           notes.bytes[0] + own}));
        EXPECT_GE(engine.on_reactor([&] { return engine.reactor().memory_account.used_bytes(); }), own);
    }
}

/// The first connection keeps all that it gets; the others echo.
Task<> hoard_or_echo(Connection connection, Notes* notes) {
    if (notes->progress.count() != 0) {
        co_await echo(std::move(connection));
        co_return;
    }
    while (auto received = co_await connection.read()) {
        while (Lease lease = received.take()) notes->held.push_back(std::move(lease));
        notes->progress.raise();
    }
}

TEST(ConnectionBuffers, A5_one_that_holds_all_of_its_buffers_takes_none_from_others) {
    Notes notes;
    EngineOptions options = own_rings();
    options.network.connection_buffer_count = 2;
    options.network.connection_buffer_size = 100;
    options.network.receive_buffer_count = 1;
    Engine engine{[&](Connection connection) { return hoard_or_echo(std::move(connection), &notes); }, options};
    SKIP_WITHOUT_OWN_RINGS(engine);
    ClientSocket hoarder = engine.connect();
    const std::string hoarded = pattern(5000);
    hoarder.send(std::string_view{hoarded}.substr(0, 1));
    notes.progress.wait();
    hoarder.send(std::string_view{hoarded}.substr(1));
    engine.eventually("all of it", [&] { return engine.counters().bytes_received.value() == hoarded.size(); });
    EXPECT_GT(engine.counters().private_receives.value(), 0u);
    const std::uint64_t privately = engine.counters().private_receives.value();
    in_parallel(4, [&](unsigned number) {
        ClientSocket client = engine.connect();
        const std::string message = pattern(100, number);
        for (unsigned turn = 0; turn < 20; ++turn) {
            client.send(message);
            EXPECT_TRUE(client.receive(message.size()) == message);
        }
    });
    EXPECT_EQ(engine.counters().private_receives.value(), privately);
    std::string all;
    engine.on_reactor([&] {
        for (const Lease& lease : notes.held) all += lease.slice().text();
        notes.held.clear();
    });
    EXPECT_TRUE(all == hoarded);
}

/// Echoes whole blocks, which it wants in one piece.
Task<> echo_blocks(Connection connection, std::size_t size, std::uint64_t* most) {
    ferrule::BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        *most = std::max(*most, ferrule::Network::of(connection.reactor()).slabs().used_bytes());
        if (received.size() < size) continue;
        connection.write(received.contiguous(size));
        reader.advance(size);
        co_await connection.flush();
    }
}

TEST(ConnectionBuffers, I9_pieces_of_a_message_that_follow_each_other_are_one_without_a_copy) {
    std::uint64_t most = 0;
    Engine engine{[&](Connection connection) { return echo_blocks(std::move(connection), 2000, &most); }, own_rings()};
    SKIP_WITHOUT_OWN_RINGS(engine);
    ClientSocket client = engine.connect();
    const std::string message = pattern(2000);
    std::size_t received = 0;
    for (std::size_t sent = 0; sent < message.size(); sent += 20) {
        client.send(std::string_view{message}.substr(sent, 20));
        received += 20;
        engine.eventually("the piece", [&] { return engine.counters().bytes_received.value() == received; });
    }
    EXPECT_TRUE(client.receive(message.size()) == message);
    EXPECT_EQ(most, 0u);
    EXPECT_EQ(engine.counters().pauses.value(), 0u);
}

// The completion queue is too small for what comes: receives end while the kernel still has their buffers.
TEST(ConnectionBuffers, a_receive_that_an_overflow_ends_does_not_end_its_buffer) {
    for (const BufferMode mode : {BufferMode::shared_incremental, BufferMode::per_connection_incremental}) {
        EngineOptions options = own_rings();
        options.network.buffer_mode = mode;
        options.reactor.submission_entries = 4;
        options.reactor.completion_entries = 8;
        Engine engine{echo, options};
        if (engine.network().buffer_mode() != mode) GTEST_SKIP() << "the kernel has no incremental buffers (6.12)";
        std::vector<ClientSocket> clients;
        for (unsigned number = 0; number < 40; ++number) {
            clients.push_back(engine.connect());
            // Twice: the second receive is the multishot one.
            for (unsigned turn = 0; turn < 2; ++turn) {
                clients.back().send("x");
                EXPECT_EQ(clients.back().receive(1), "x");
            }
        }
        const std::uint64_t overflows = engine.reactor().counters().overflows.value();
        for (unsigned turn = 0; turn < 20; ++turn) {
            const std::string message = pattern(50, turn);
            // All of it comes while the reactor is busy.
            engine.on_reactor([&] {
                for (ClientSocket& client : clients) client.send(message);
            });
            for (ClientSocket& client : clients) ASSERT_TRUE(client.receive(message.size()) == message);
        }
        EXPECT_GT(engine.reactor().counters().overflows.value(), overflows);
    }
}

// ---- no room for a ring, and no ring at all ----

TEST(ConnectionBuffers, without_room_in_its_account_a_connection_shares) {
    EngineOptions options = own_rings();
    options.network.connection_memory_limit = 32 * 1024;
    Engine engine{echo, options};
    SKIP_WITHOUT_OWN_RINGS(engine);
    ClientSocket client = engine.connect();
    const std::string message = pattern(5000);
    client.send(message);
    EXPECT_TRUE(client.receive(message.size()) == message);
    EXPECT_EQ(engine.counters().connection_ring_refusals.value(), 1u);
}

TEST(ConnectionBuffers, without_room_in_the_reactors_account_a_connection_shares) {
    EngineOptions options = own_rings();
    options.reactor.memory_limit = 256 * 1024;
    Engine engine{echo, options};
    SKIP_WITHOUT_OWN_RINGS(engine);
    std::vector<ClientSocket> clients;
    for (unsigned number = 0; number < 10; ++number) {
        clients.push_back(engine.connect());
        clients.back().send("x");
        EXPECT_EQ(clients.back().receive(1), "x");
    }
    EXPECT_GE(engine.counters().connection_rings.value(), 1u);
    EXPECT_GE(engine.counters().connection_ring_refusals.value(), 1u);
}

TEST(ConnectionBuffers, a_refused_ring_is_told_and_asked_for_again_later) {
    ManualClock kernel;
    EngineOptions options = own_rings();
    options.kernel = &kernel;
    kernel.set_limit_locked_memory(65536);
    Engine engine{echo, options};
    SKIP_WITHOUT_OWN_RINGS(engine);
    std::vector<ClientSocket> clients;
    const auto exchange = [&] {
        clients.push_back(engine.connect());
        clients.back().send("x");
        EXPECT_EQ(clients.back().receive(1), "x");
    };
    exchange();
    EXPECT_EQ(engine.counters().connection_rings.value(), 1u);
    kernel.fail_registration(abi::register_buffer_ring, ENOMEM);
    for (unsigned number = 0; number < 3; ++number) exchange();
    EXPECT_EQ(engine.counters().connection_rings.value(), 1u);
    EXPECT_EQ(engine.counters().connection_ring_refusals.value(), 3u);
    EXPECT_EQ(kernel.pauses(), 0u) << "other connections wait for this thread";
    const std::string error = engine.on_reactor([&] { return engine.network().connection_ring_error(); });
    EXPECT_NE(error.find("buffer ring"), std::string::npos) << error;
    EXPECT_NE(error.find("16 x 4096 bytes"), std::string::npos) << error;
    EXPECT_NE(error.find("64 KiB"), std::string::npos) << error;
    kernel.advance(1100ms);
    exchange();
    EXPECT_EQ(engine.counters().connection_rings.value(), 2u);
    EXPECT_EQ(engine.counters().connection_ring_refusals.value(), 3u);
}

/// Makes a network, as a reactor's start does.
std::string error_of_network(ferrule::Kernel& kernel, const ferrule::NetworkOptions& options,
                             BufferMode* mode = nullptr) {
    std::string error;
    ferrule::Reactor reactor{0, {.submission_entries = 16}, kernel};
    reactor.on_start([&](ferrule::Reactor& started) {
        try {
            const auto& network = started.add_service<ferrule::Network>(started, options);
            if (mode != nullptr) *mode = network.buffer_mode();
        } catch (const std::system_error& failure) {
            error = failure.what();
        }
    });
    reactor.stop();
    reactor.run();
    return error;
}

/// Knows no incremental rings.
class OldKernel : public ForwardingKernel {
public:
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        if (opcode == abi::register_buffer_ring &&
            (static_cast<abi::BufferRingRegistration*>(argument)->flags & abi::buffer_ring_incremental) != 0)
            return -EINVAL;
        return ForwardingKernel::io_uring_register(fd, opcode, argument, count);
    }
};

TEST(ConnectionBuffers, where_the_kernel_has_none_all_share) {
    OldKernel kernel;
    for (const BufferMode wanted : {BufferMode::shared_incremental, BufferMode::per_connection_incremental}) {
        EngineOptions options = own_rings();
        options.kernel = &kernel;
        options.network.buffer_mode = wanted;
        Engine engine{echo, options};
        EXPECT_EQ(engine.network().buffer_mode(), BufferMode::shared);
        EXPECT_FALSE(engine.network().buffers().incremental());
        ClientSocket client = engine.connect();
        const std::string message = pattern(50'000);
        client.send(message);
        EXPECT_TRUE(client.receive(message.size()) == message);
        EXPECT_EQ(engine.counters().connection_rings.value(), 0u);
    }
}

TEST(ConnectionBuffers, what_cannot_be_is_refused_at_the_start) {
    ForwardingKernel kernel;
    ferrule::NetworkOptions options{.buffer_mode = BufferMode::per_connection_incremental};
    options.connection_buffer_count = 24;
    EXPECT_NE(error_of_network(kernel, options).find("power of two"), std::string::npos);
    options.connection_buffer_count = 32768;
    options.connection_buffer_size = 1u << 30;
    EXPECT_NE(error_of_network(kernel, options).find("larger than"), std::string::npos);
    OldKernel old;
    options.connection_buffer_count = 24;
    options.connection_buffer_size = 4096;
    EXPECT_NE(error_of_network(old, options).find("power of two"), std::string::npos);
    BufferMode mode = BufferMode::shared;
    options.connection_buffer_count = 16;
    EXPECT_EQ(error_of_network(old, options, &mode), "");
    EXPECT_EQ(mode, BufferMode::shared);
}

}  // namespace
