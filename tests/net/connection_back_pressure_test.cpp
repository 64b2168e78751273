#include <ferrule/net/connection.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// WriteOverflow::back_pressure: a write that finds no room does no harm.

namespace {

using ferrule::Connection;
using ferrule::SharedBytes;
using ferrule::Task;
using ferrule::WriteHalf;
using ferrule::WriteOverflow;
using ferrule_test::ClientSocket;
using ferrule_test::Engine;
using ferrule_test::EngineOptions;
using ferrule_test::pattern;
using ferrule_test::Signal;

constexpr std::size_t mebibyte = std::size_t{1} << 20;

struct Notes {
    std::vector<std::string> lines;
    std::size_t most = 0;
    std::size_t refusals = 0;
    Signal ended;
};

std::string text_of(const std::expected<void, std::errc>& flushed) {
    return flushed ? "flushed" : std::make_error_code(flushed.error()).message();
}

EngineOptions with_limit(std::uint32_t write_limit) {
    EngineOptions options;
    options.network.write_overflow = WriteOverflow::back_pressure;
    options.network.write_limit = write_limit;
    return options;
}

/// Writes in pieces of all sizes, by copy, in place and shared in turn, and waits whenever one is refused.
Task<> write_all(Connection connection, std::size_t size, std::size_t piece_most, Notes* notes) {
    std::string written = pattern(size);
    std::string_view bytes = written;
    std::mt19937 random{size > 100 ? 1u : 2u};
    while (!bytes.empty()) {
        const std::size_t length = std::min(bytes.size(), std::size_t{random()} % piece_most + 1);
        const std::string_view piece = bytes.substr(0, length);
        bool taken = false;
        switch (random() % 3) {
            case 0:
                taken = connection.write(piece);
                break;
            case 1: {
                const auto into = connection.span(length);
                taken = !into.empty();
                if (taken) {
                    std::memcpy(into.data(), piece.data(), length);
                    connection.advance(length);
                }
                break;
            }
            default:
                taken = connection.write_shared(SharedBytes::copy(piece));
        }
        notes->most = std::max(notes->most, connection.unsent());
        if (taken) {
            bytes.remove_prefix(length);
            continue;
        }
        ++notes->refusals;
        if (const auto flushed = co_await connection.flush(); !flushed) throw std::logic_error(text_of(flushed));
    }
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

TEST(ConnectionBackPressure, a2_all_arrives_and_no_more_than_the_limit_waits) {
    for (const int receive_buffer : {0, 8192}) {
        for (const std::uint32_t limit : {4000u, 100'000u}) {
            Notes notes;
            Engine engine{
                [&](Connection connection) { return write_all(std::move(connection), 2 * mebibyte, 3999, &notes); },
                with_limit(limit)};
            ClientSocket client = engine.connect(receive_buffer);
            EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(2 * mebibyte), 0}));
            notes.ended.wait();
            EXPECT_EQ(notes.lines, std::vector<std::string>{"flushed"});
            EXPECT_LE(notes.most, limit);
            EXPECT_GT(notes.refusals, 2 * mebibyte / limit / 2);
            client.close();
            engine.until_empty();
            EXPECT_EQ(engine.faults(), 0u);
            EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
        }
    }
}

TEST(ConnectionBackPressure, the_account_of_the_connection_bounds_what_waits) {
    Notes notes;
    EngineOptions options = with_limit(16 * mebibyte);
    options.network.connection_memory_limit = 64'000;
    Engine engine{[&](Connection connection) { return write_all(std::move(connection), 2 * mebibyte, 5000, &notes); },
                  options};
    ClientSocket client = engine.connect(8192);
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{pattern(2 * mebibyte), 0}));
    notes.ended.wait();
    EXPECT_EQ(notes.lines, std::vector<std::string>{"flushed"});
    EXPECT_LE(notes.most, 64'000u);
    client.close();
    engine.until_empty();
    EXPECT_EQ(engine.faults(), 0u);
}

/// Whatever is staged, a write of what `writable` says is taken; with the limit alone to bound it, one byte more is
/// not.
Task<> write_to_the_brim(Connection connection, bool limit_alone, std::string* expected, Notes* notes) {
    std::mt19937 random{1};
    for (unsigned turn = 0; turn < 300; ++turn) {
        for (unsigned piece = random() % 4; piece != 0 && connection.writable() != 0; --piece) {
            const std::string bytes = pattern(std::min<std::size_t>(connection.writable(), random() % 3000 + 1), turn);
            if (random() % 3 == 0) {
                if (!connection.write_shared(SharedBytes::copy(bytes))) continue;
            } else if (!connection.write(bytes)) {
                throw std::logic_error("a write below what is writable was refused");
            }
            *expected += bytes;
        }
        const std::size_t room = connection.writable();
        if (limit_alone && connection.unsent() != 0 && connection.write(pattern(room + 1)))
            throw std::logic_error("a write above what is writable was taken");
        const std::string bytes = pattern(room, turn);
        if (!connection.write(bytes)) throw std::logic_error("a write of what is writable was refused");
        *expected += bytes;
        if (limit_alone && connection.writable() != 0) throw std::logic_error("more is writable");
        co_await connection.flush();
    }
    connection.shutdown_write();
    notes->lines.push_back(std::to_string(connection.writable()));
    notes->ended.raise();
}

TEST(ConnectionBackPressure, a_write_of_what_is_writable_is_taken) {
    for (const bool limit_alone : {true, false}) {
        Notes notes;
        std::string expected;
        EngineOptions options = with_limit(limit_alone ? 20'000 : 16 * mebibyte);
        if (!limit_alone) options.network.connection_memory_limit = 300'000;
        Engine engine{[&](Connection connection) {
                          return write_to_the_brim(std::move(connection), limit_alone, &expected, &notes);
                      },
                      options};
        ClientSocket client = engine.connect();
        const ClientSocket::Rest rest = client.receive_rest();
        client.close();
        engine.until_empty();
        EXPECT_EQ(engine.faults(), 0u);
        EXPECT_EQ(notes.lines, std::vector<std::string>{"0"});
        EXPECT_EQ(rest, (ClientSocket::Rest{expected, 0}));
    }
}

TEST(ConnectionBackPressure, both_halves_and_other_policies_tell_what_is_writable) {
    Notes notes;
    EngineOptions options;
    options.network.write_limit = 10'000;
    Engine engine{[&](Connection whole) {
                      return [](Connection connection, Notes* into) -> Task<> {
                          into->lines.push_back(std::to_string(connection.writable()));
                          auto [reads, writes] = std::move(connection).split();
                          writes.write(pattern(100));
                          into->lines.push_back(std::to_string(writes.writable()));
                          into->ended.raise();
                          co_await writes.flush();
                      }(std::move(whole), &notes);
                  },
                  options};
    ClientSocket client = engine.connect();
    notes.ended.wait();
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"10000", "9900"}));
}

Task<> write_too_much(Connection connection, std::size_t size, Notes* notes) {
    notes->lines.push_back(connection.write(pattern(size)) ? "kept" : "refused");
    notes->lines.push_back(connection.error() == std::errc::no_buffer_space ? "ENOBUFS" : "other");
    notes->lines.push_back(std::to_string(connection.writable()));
    notes->lines.push_back(text_of(co_await connection.flush()));
    notes->ended.raise();
}

TEST(ConnectionBackPressure, what_could_never_be_taken_is_an_error) {
    EngineOptions limited = with_limit(4000);
    EngineOptions no_memory = with_limit(16 * mebibyte);
    no_memory.network.memory_limit = 100'000;
    for (const EngineOptions& options : {limited, no_memory}) {
        Notes notes;
        Engine engine{[&](Connection connection) { return write_too_much(std::move(connection), 200'000, &notes); },
                      options};
        ClientSocket client = engine.connect();
        notes.ended.wait();
        EXPECT_EQ(notes.lines, (std::vector<std::string>{"refused", "ENOBUFS", "0", "No buffer space available"}));
        client.close();
        engine.until_empty();
        EXPECT_EQ(engine.network().slabs().used_bytes(), 0u);
    }
}

}  // namespace
