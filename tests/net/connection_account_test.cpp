#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

// Law 7: slabs, leases, carry, private bytes and frames of a connection count in one account.

namespace {

using ferrule::Connection;
using ferrule::EndReason;
using ferrule::Lease;
using ferrule::ReadResult;
using ferrule::SlabPool;
using ferrule::Task;
using ferrule::WriteHalf;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::Gate;
using ferrule_test::pattern;
using ferrule_test::Signal;

constexpr std::uint64_t kibibyte = 1024;

/// What a handler leaves for the test.
struct Notes {
    std::vector<std::uint64_t> bytes;
    std::vector<std::string> lines;
    EndReason reason = EndReason::none;
    std::uint64_t most = 0;
    std::size_t total = 0;
    Signal progress;
    Signal ended;

    void look_at(const Connection& connection) { most = std::max(most, connection.memory_bytes()); }
};

std::uint64_t block_for(std::size_t bytes) {
    return SlabPool::block_bytes(SlabPool::class_of(static_cast<std::uint32_t>(bytes)));
}

std::uint64_t first_slab() {
    return block_for(ferrule::NetworkOptions{}.write_slab_size + sizeof(ferrule::WriteSlab));
}

// ---- the sum over all kinds ----

Task<ReadResult> read_in_child(Connection& connection) {
    co_return co_await connection.read();
}

Task<> note_each_kind(Connection connection, Notes* notes) {
    auto note = [&] { notes->bytes.push_back(connection.memory_bytes()); };
    note();  // this frame
    auto received = co_await read_in_child(connection);
    note();  // the slice of 100 bytes, and the child's frame, which was there at the first wait
    Lease lease = received.take();
    received.reset();
    note();  // the same, as a lease
    lease.reset();
    note();  // the frames
    received = co_await connection.read();
    received.consume(100);
    received.reset();
    note();  // 500 bytes are carried where they came, in a slice of 600
    connection.write("x");
    note();  // and the first slab
    connection.write(pattern(5000));
    note();  // and a larger one in its place
    co_await connection.flush();
    note();  // without it
    received = co_await connection.read();
    received.reset();
    note();  // the frames again
    notes->ended.raise();
}

TEST(ConnectionAccount, adds_up_slices_leases_carry_slabs_and_frames) {
    Notes notes;
    std::uint64_t frames = 0;
    Engine engine{[&](Connection connection) { return note_each_kind(std::move(connection), &notes); }};
    ClientSocket client = engine.connect();
    engine.eventually("the first wait", [&] {
        frames = engine.reactor().frames.live_bytes();
        return notes.bytes.size() == 1;
    });
    client.send(pattern(100));
    engine.eventually("the lease", [&] { return notes.bytes.size() == 4; });
    client.send(pattern(600));
    engine.eventually("the flush", [&] { return notes.bytes.size() == 8; });
    client.send("end");
    notes.ended.wait();
    const std::uint64_t own = notes.bytes.front();
    EXPECT_GT(own, 0u);
    EXPECT_GT(frames, own);
    const std::uint64_t carried = 600;
    EXPECT_EQ(notes.bytes,
              (std::vector<std::uint64_t>{
                  own, frames + 100, frames + 100, frames, frames + carried, frames + carried + first_slab(),
                  frames + carried + block_for(5001 + sizeof(ferrule::WriteSlab)), frames + carried, frames}));
}

Task<> starve(Connection connection, Lease* held, Notes* notes) {
    auto received = co_await connection.read();
    *held = received.take();
    received.reset();
    notes->bytes.push_back(connection.memory_bytes());
    received = co_await connection.read();
    notes->bytes.push_back(connection.memory_bytes());
    notes->ended.raise();
}

TEST(ConnectionAccount, counts_privately_received_bytes_by_their_block) {
    Notes notes;
    Lease held;
    EngineOptions options;
    options.network.receive_buffer_count = 1;
    options.network.receive_buffer_size = 1500;
    Engine engine{[&](Connection connection) { return starve(std::move(connection), &held, &notes); }, options};
    ClientSocket client = engine.connect();
    client.send("1");
    engine.eventually("the lease", [&] { return notes.bytes.size() == 1; });
    client.send("2");
    notes.ended.wait();
    EXPECT_EQ(notes.bytes[1] - notes.bytes[0], block_for(1500));
    engine.on_reactor([&] { held.reset(); });
}

// ---- writing at the bound ----

Task<> write_until_refused(Connection connection, Notes* notes) {
    while (connection.write(pattern(1000))) {
        notes->total += 1000;
        notes->look_at(connection);
    }
    notes->lines.emplace_back(connection.error() == std::errc::no_buffer_space ? "ENOBUFS" : "other");
    const auto flushed = co_await connection.flush();
    notes->lines.emplace_back(flushed ? "flushed" : "failed");
    auto received = co_await connection.read();
    notes->lines.emplace_back(received ? "bytes" : to_string(connection.end_reason()));
    notes->ended.raise();
}

TEST(ConnectionAccount, a_write_beyond_the_bound_is_refused_and_says_so) {
    Notes notes;
    EngineOptions options;
    options.network.connection_memory_limit = 100 * kibibyte;
    Engine engine{[&](Connection connection) { return write_until_refused(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"ENOBUFS", "failed", "failed"}));
    EXPECT_LE(notes.most, 100 * kibibyte);
    // Blocks double, and while one grows into the next both are there: 32 KiB and 64 KiB are not too much.
    EXPECT_GE(notes.total, 60 * kibibyte);
}

Task<> hold_and_write(Connection connection, std::vector<Lease>* held, Notes* notes) {
    while (notes->total < 60 * kibibyte) {
        auto received = co_await connection.read();
        while (Lease lease = received.take()) {
            notes->total += lease.size();
            held->push_back(std::move(lease));
        }
    }
    notes->lines.emplace_back(connection.write(pattern(30 * kibibyte)) ? "kept" : "refused");
    notes->lines.emplace_back(connection.write(pattern(10 * kibibyte)) ? "kept" : "refused");
    notes->look_at(connection);
    notes->ended.raise();
}

TEST(ConnectionAccount, what_was_received_leaves_less_to_write) {
    Notes notes;
    std::vector<Lease> held;
    EngineOptions options;
    options.network.connection_memory_limit = 100 * kibibyte;
    options.network.receive_lease_limit = 1000;
    Engine engine{[&](Connection connection) { return hold_and_write(std::move(connection), &held, &notes); }, options};
    ClientSocket client = engine.connect();
    client.send(pattern(60 * kibibyte));
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"kept", "refused"}));
    engine.on_reactor([&] { held.clear(); });
}

// ---- reading at the bound ----

Task<> keep_leases(Connection connection, std::vector<Lease>* kept, Notes* notes) {
    while (auto received = co_await connection.read()) {
        while (Lease lease = received.take()) kept->push_back(std::move(lease));
        notes->look_at(connection);
    }
    notes->reason = connection.end_reason();
    notes->lines.emplace_back(connection.error() == std::errc::no_buffer_space ? "ENOBUFS" : "other");
    notes->ended.raise();
}

TEST(ConnectionAccount, a_reader_that_keeps_everything_ends_with_limit_at_the_bound) {
    Notes notes;
    std::vector<Lease> kept;
    EngineOptions options;
    options.network.connection_memory_limit = 50 * kibibyte;
    options.network.receive_lease_limit = 1'000'000;
    Engine engine{[&](Connection connection) { return keep_leases(std::move(connection), &kept, &notes); }, options};
    ClientSocket client = engine.connect();
    static_cast<void>(client.try_send(pattern(1'000'000)));
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::limit);
    EXPECT_EQ(notes.lines, std::vector<std::string>{"ENOBUFS"});
    EXPECT_GE(notes.most, 49 * kibibyte);
    engine.on_reactor([&] { kept.clear(); });
}

/// Leaves the receive armed, and reads on when the gate opens.
Task<> let_bytes_come(Connection& connection, Gate& gate, Notes& notes) {
    {
        auto received = co_await connection.read();
        notes.total += received.size();
    }
    {
        auto received = co_await ferrule::with_deadline(connection.read(), std::chrono::nanoseconds(1));
        notes.total += received.size();
    }
    notes.progress.raise();
    co_await gate;
}

Task<> count_later(Connection connection, Gate* gate, Notes* notes) {
    co_await let_bytes_come(connection, *gate, *notes);
    while (auto received = co_await connection.read()) notes->total += received.size();
    notes->ended.raise();
}

TEST(ConnectionAccount, a_connection_at_its_bound_is_not_read_from_and_goes_on) {
    Notes notes;
    Gate gate;
    EngineOptions options;
    options.network.connection_memory_limit = 64 * kibibyte;
    options.network.receive_lease_limit = 1'000'000;
    options.network.receive_limit = 1u << 30;
    options.network.receive_buffer_count = 8192;
    options.network.stream_memory = 0;  // only what is armed all the time has to be paused
    Engine engine{[&](Connection connection) { return count_later(std::move(connection), &gate, &notes); }, options};
    ClientSocket client = engine.connect();
    client.set(SOL_SOCKET, SO_SNDBUF, 16384);
    client.send("x");
    notes.progress.wait();
    // The peer's window closes: it can send only so much.
    std::size_t sent = 0;
    const std::string piece = pattern(10'000);
    for (unsigned refusals = 0; refusals < 50;) {
        const std::size_t now = client.send_now(piece);
        sent += now;
        refusals = now == 0 ? refusals + 1 : 0;
        if (now == 0) engine.on_reactor([] {});
        ASSERT_LT(sent, std::size_t{64} << 20);
    }
    EXPECT_GE(engine.counters().pauses.value(), 1u);
    // The bound, and what was posted before the cancel.
    EXPECT_LE(engine.on_reactor([&] { return engine.network().buffers().held(); }), 256u);
    engine.on_reactor([&] { gate.open(); });
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.total, sent + 1);
}

Task<> flush(WriteHalf half, Signal* flushed) {
    co_await half.flush();
    flushed->raise();
}

Task<> fill_account_while_sending(Connection connection, std::vector<Lease>* kept, Signal* flushed, Notes* notes) {
    auto [reader, writer] = std::move(connection).split();
    // A block of 8 MiB: more than the kernel takes while the peer does not read.
    writer.write(pattern(5 << 20));
    reader.reactor().spawn(flush(std::move(writer), flushed));
    while (auto received = co_await reader.read()) {
        while (Lease lease = received.take()) {
            notes->total += lease.size();
            kept->push_back(std::move(lease));
        }
        notes->progress.raise();
    }
    notes->reason = reader.end_reason();
    notes->ended.raise();
}

TEST(ConnectionAccount, a_reader_at_the_bound_waits_for_what_is_being_sent) {
    Notes notes;
    Signal flushed;
    std::vector<Lease> kept;
    EngineOptions options;
    options.network.connection_memory_limit = (8 << 20) + 20 * kibibyte;
    options.network.receive_lease_limit = 1'000'000;
    options.network.stream_memory = 0;  // only what is armed all the time has to be paused
    Engine engine{[&](Connection connection) {
                      return fill_account_while_sending(std::move(connection), &kept, &flushed, &notes);
                  },
                  options};
    ClientSocket client = engine.connect(8192);
    const std::string sent = pattern(200 * kibibyte);
    std::jthread sender{[&] { client.send(sent); }};
    engine.eventually("the bound", [&] { return engine.counters().pauses.value() != 0; });
    EXPECT_EQ(notes.ended.count(), 0u);
    EXPECT_EQ(client.receive(5 << 20).size(), std::size_t{5} << 20);
    flushed.wait();
    sender.join();
    client.shutdown_write();
    notes.ended.wait();
    EXPECT_EQ(notes.reason, EndReason::end_of_stream);
    EXPECT_EQ(notes.total, sent.size());
    engine.on_reactor([&] { kept.clear(); });
}

Task<> gather_too_much(Connection connection, Gate* gate, Notes* notes) {
    co_await let_bytes_come(connection, *gate, *notes);
    auto received = co_await connection.read();
    notes->lines.emplace_back(received.contiguous().empty() ? "no room" : "gathered");
    for (std::size_t dropped = 0; dropped < 6000;) dropped += received.take().size();
    notes->total += received.size();
    notes->lines.emplace_back(received.contiguous().size() == received.size() ? "gathered" : "no room");
    notes->ended.raise();
}

TEST(ConnectionAccount, what_cannot_be_gathered_stays_in_its_slices) {
    Notes notes;
    Gate gate;
    EngineOptions options;
    options.network.connection_memory_limit = 60 * kibibyte;
    options.network.receive_lease_limit = 1000;
    Engine engine{[&](Connection connection) { return gather_too_much(std::move(connection), &gate, &notes); },
                  options};
    ClientSocket client = engine.connect();
    client.send("x");
    notes.progress.wait();
    client.send(pattern(30'000));
    engine.eventually("all of it", [&] { return engine.counters().bytes_received.value() == 30'001; });
    engine.on_reactor([&] { gate.open(); });
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"no room", "gathered"}));
    EXPECT_GT(notes.total, 20'000u);
}

// ---- handlers ----

Task<> with_a_large_frame(Connection connection, Notes* notes) {
    std::array<std::byte, 32 * kibibyte> large{};
    auto received = co_await connection.read();
    for (const auto slice : received) large[0] = slice[0];
    connection.write({large.data(), 1});
    co_await connection.flush();
    notes->ended.raise();
}

TEST(ConnectionAccount, a_handler_whose_frame_has_no_room_does_not_begin) {
    Notes notes;
    EngineOptions options;
    options.network.connection_memory_limit = 32 * kibibyte;
    Engine engine{[&](Connection connection) { return with_a_large_frame(std::move(connection), &notes); }, options};
    ClientSocket client = engine.connect();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
    client.close();
    engine.until_empty();
    EXPECT_EQ(engine.faults(), 1u);
    EXPECT_EQ(notes.ended.count(), 0u);
}

// ---- hostile peers ----

/// Answers a hundred bytes for each one, and waits for nothing but bytes.
Task<> answer_without_waiting(Connection connection, Notes* notes) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) {
            if (!connection.write(std::string(slice.size() * 100, '.'))) break;
        }
        notes->look_at(connection);
        static_cast<void>(connection.flush());
    }
    notes->ended.raise();
}

/// Keeps everything in the carry.
Task<> never_consume(Connection connection, Notes* notes) {
    while (auto received = co_await connection.read()) {
        static_cast<void>(received.contiguous());
        received.consume(0);
        received.reset();
        notes->look_at(connection);
    }
    notes->ended.raise();
}

TEST(ConnectionAccount, peers_that_send_without_end_and_never_read_stay_within_the_bound) {
    constexpr unsigned peers = 16;
    constexpr std::uint64_t bound = 128 * kibibyte;
    Notes notes;
    std::atomic<unsigned> served = 0;
    EngineOptions options;
    options.network.connection_memory_limit = bound;
    options.network.receive_buffer_count = 16;
    Engine engine{[&](Connection connection) {
                      const unsigned number = served.fetch_add(1);
                      if (number >= peers) return ferrule_test::echo(std::move(connection));
                      return number % 2 == 0 ? answer_without_waiting(std::move(connection), &notes)
                                             : never_consume(std::move(connection), &notes);
                  },
                  options};
    std::vector<ClientSocket> hostile;
    for (unsigned number = 0; number < peers; ++number) hostile.push_back(engine.connect(4096));
    engine.eventually("all peers", [&] { return served.load() == peers; });
    ferrule_test::in_parallel(peers, [&](unsigned number) {
        // Until this side is refused, in the middle of the stream or after it.
        for (unsigned turn = 0; turn < 40 && hostile[number].try_send(pattern(5000, turn)) == 0; ++turn) {
        }
    });
    notes.ended.wait(peers);
    engine.on_reactor([&] {
        // What was posted before a receive was cancelled comes on top: at most all buffers.
        EXPECT_LE(notes.most, bound + engine.network().buffers().count() * engine.network().buffers().size());
        EXPECT_GT(notes.most, bound / 4);
        EXPECT_LE(engine.network().slabs().used_bytes(), peers * bound);
    });
    ClientSocket client = engine.connect();
    client.send("served");
    EXPECT_EQ(client.receive(6), "served");
    hostile.clear();
    client.close();
    engine.until_empty();
}

}  // namespace
