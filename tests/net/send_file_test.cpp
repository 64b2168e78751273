#include <ferrule/net/send_file.hpp>
#include <ferrule/task/yield.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/network_engine.hpp"
#include "support/temporary_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;
using ::testing::AnyOf;
using ::testing::HasSubstr;

using Sent = std::expected<void, SendFileError>;

/// What the handlers of a test share with it.
struct Served {
    std::string path;
    Signal begun;  ///< a send_file has been called
    Signal ended;  ///< and has ended

    void note(Sent sent) {
        {
            const std::lock_guard lock(mutex_);
            results_.push_back(std::move(sent));
        }
        ended.raise();
    }
    /// How the sends ended, in turn.
    std::vector<Sent> results() const {
        const std::lock_guard lock(mutex_);
        return results_;
    }
    /// The failure of the last one.
    SendFileError error() const {
        const std::lock_guard lock(mutex_);
        if (results_.empty() || results_.back()) throw std::runtime_error("no send_file has failed");
        return results_.back().error();
    }

private:
    mutable std::mutex mutex_;
    std::vector<Sent> results_;
};

Task<File> open_file(Reactor& reactor, std::string path) {
    auto file = co_await File::open(reactor, path);
    if (!file) throw std::runtime_error(file.error().message);
    co_return std::move(*file);
}

/// What a client asks for.
std::string request(std::uint64_t offset, std::uint64_t length, std::size_t header = 0) {
    return std::to_string(offset) + " " + std::to_string(length) + " " + std::to_string(header) + "\n";
}

/// Answers each request, which comes alone, with a header and a piece of the file.
Task<> answer(Connection connection, Served& served) {
    auto opening = open_file(connection.reactor(), served.path);
    const File file = co_await opening;
    while (auto received = co_await connection.read()) {
        std::string text;
        for (const auto slice : received) text.append(reinterpret_cast<const char*>(slice.data()), slice.size());
        std::istringstream words{text};
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        std::size_t header = 0;
        words >> offset >> length >> header;
        if (header != 0) connection.write(pattern(header, 7));
        auto sending = send_file(connection, file, offset, length);
        served.begun.raise();
        auto sent = co_await sending;
        const bool failed = !sent;
        served.note(std::move(sent));
        if (failed) break;
    }
}

class SendFile : public ::testing::Test {
protected:
    /// Serves with the handler until the end of the test; makes the file first.
    void serve(std::string_view contents, EngineOptions options = {},
               const std::function<Task<>(Connection, Served&)>& handler = answer) {
        served.path = folder.write("file", contents);
        options.kernel = &kernel;
        engine = std::make_unique<Engine>(
            [this, handler](Connection connection) { return handler(std::move(connection), served); }, options);
    }
    void TearDown() override {
        engine.reset();
        EXPECT_EQ(open_descriptors(), before_);
    }

    TemporaryFolder folder;
    ForwardingKernel kernel;
    Served served;
    std::unique_ptr<Engine> engine;

private:
    std::size_t before_ = open_descriptors();
};

EngineOptions unix_options() {
    EngineOptions options;
    options.socket.address = unique_unix_address();
    return options;
}

EngineOptions with_network(const std::function<void(NetworkOptions&)>& change) {
    EngineOptions options;
    change(options.network);
    return options;
}

const std::vector<std::uint64_t> lengths = {0,     1,     4095,  4096,  4097,   32767,  32768,   32769,
                                            65535, 65536, 65537, 65496, 524287, 524288, 1048577, 3'000'000};

/// Each length, at several offsets, with headers of several sizes, on one connection.
void expect_exact_bytes(const Engine& engine, const std::string& contents) {
    auto client = engine.connect();
    for (const std::uint64_t length : lengths) {
        for (const std::uint64_t offset : {0u, 1u, 4095u, 100'000u}) {
            for (const std::size_t header : {0u, 200u, 5000u}) {
                if (header + length == 0) continue;  // an answer that nobody could wait for
                client.send(request(offset, length, header));
                const std::string got = client.receive(header + length);
                ASSERT_TRUE(got == pattern(header, 7) + contents.substr(offset, length))
                    << length << " from " << offset << " behind " << header;
            }
        }
    }
    client.shutdown_write();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
}

TEST_F(SendFile, ExactBytesForEachLengthAndOffset) {
    const std::string contents = pattern(3'200'000);
    serve(contents);
    expect_exact_bytes(*engine, contents);
    EXPECT_GT(kernel.calls(Call::send_file), 0u);
}

TEST_F(SendFile, ExactBytesOverAUnixSocket) {
    const std::string contents = pattern(3'200'000);
    serve(contents, unix_options());
    expect_exact_bytes(*engine, contents);
}

TEST_F(SendFile, ExactBytesUnderEachOverflowPolicy) {
    const std::string contents = pattern(3'200'000);
    for (const WriteOverflow overflow : {WriteOverflow::segmented, WriteOverflow::back_pressure}) {
        serve(contents, with_network([&](NetworkOptions& network) { network.write_overflow = overflow; }));
        expect_exact_bytes(*engine, contents);
        engine.reset();
    }
}

TEST_F(SendFile, ExactBytesWithEveryLimitOfTheCopy) {
    const std::string contents = pattern(3'200'000);
    for (const std::uint32_t limit : {0u, 4096u, 1u << 20}) {
        serve(contents, with_network([&](NetworkOptions& network) { network.file_copy_limit = limit; }));
        expect_exact_bytes(*engine, contents);
        engine.reset();
    }
}

TEST_F(SendFile, WithoutCachestatTheCacheIsFoundByReadingWithoutWaiting) {
    const std::string contents = pattern(3'200'000);
    for (const int error : {ENOSYS, EPERM}) {
        kernel.fail(Call::cached_bytes, error, ForwardingKernel::forever);
        serve(contents);
        expect_exact_bytes(*engine, contents);
        engine.reset();
    }
    EXPECT_GT(kernel.calls(Call::read_cached), 0u);
}

TEST_F(SendFile, WithoutAnyWayToAskEachPieceIsReadBeforeItIsSent) {
    const std::string contents = pattern(3'200'000);
    kernel.fail(Call::cached_bytes, ENOSYS, ForwardingKernel::forever);
    kernel.fail(Call::read_cached, EOPNOTSUPP, ForwardingKernel::forever);
    serve(contents);
    expect_exact_bytes(*engine, contents);
}

TEST_F(SendFile, WhatIsNeverCachedIsReadAndSentPieceByPiece) {
    const std::string contents = pattern(3'200'000);
    kernel.fail(Call::cached_bytes, ENOSYS, ForwardingKernel::forever);
    kernel.fail(Call::read_cached, EAGAIN, ForwardingKernel::forever);
    serve(contents);
    expect_exact_bytes(*engine, contents);
    EXPECT_EQ(kernel.calls(Call::send_file), 0u);
}

TEST_F(SendFile, FilesThatCannotBeSentAreReadAndSentPieceByPiece) {
    const std::string contents = pattern(3'200'000);
    kernel.fail(Call::send_file, EINVAL, ForwardingKernel::forever);
    serve(contents);
    expect_exact_bytes(*engine, contents);
}

TEST_F(SendFile, SocketThatIsFullNowAndThenIsWaitedFor) {
    const std::string contents = pattern(3'200'000);
    serve(contents);
    for (std::uint64_t skipped = 0; skipped < 3; ++skipped) {
        kernel.fail(Call::send_file, EAGAIN, 3, skipped);
        auto client = engine->connect();
        client.send(request(0, 2'000'000, 10));
        EXPECT_TRUE(client.receive(2'000'010) == pattern(10, 7) + contents.substr(0, 2'000'000));
    }
    EXPECT_GE(engine->counters().slow_sends.value(), 6u);
}

TEST_F(SendFile, HeaderAndSmallBodyLeaveInOneSend) {
    serve(pattern(40'000));
    auto client = engine->connect();
    for (unsigned round = 1; round <= 3; ++round) {
        client.send(request(round, 30'000, 200));
        static_cast<void>(client.receive(30'200));
        served.ended.wait(round);
    }
    engine->eventually("all is counted", [&] { return engine->counters().bytes_sent.value() == 3 * 30'200u; });
    EXPECT_EQ(engine->counters().sends.value(), 3u);
    EXPECT_EQ(kernel.calls(Call::send_file), 0u);
}

TEST_F(SendFile, LargeBodyLeavesWithoutACopyInTurns) {
    serve(pattern(4'000'000));
    auto client = engine->connect();
    client.send(request(0, 4'000'000, 200));
    static_cast<void>(client.receive(4'000'200));
    served.ended.wait();
    EXPECT_GE(kernel.calls(Call::send_file), 4u) << "1 MiB is one turn";
    engine->eventually("all is counted", [&] { return engine->counters().bytes_sent.value() == 4'000'200u; });
}

TEST_F(SendFile, ColdPagesAreReadInTheRingFirst) {
    const std::string contents = pattern(3'200'000);
    serve(contents);
    for (const bool asks : {true, false}) {
        if (!asks) kernel.fail(Call::cached_bytes, ENOSYS, ForwardingKernel::forever);
        for (const std::uint64_t length : {20'000u, 3'000'000u}) {
            const int number = ::open(served.path.c_str(), O_RDONLY | O_CLOEXEC);
            ASSERT_EQ(::fdatasync(number), 0);
            ASSERT_EQ(::posix_fadvise(number, 0, 0, POSIX_FADV_DONTNEED), 0);
            ::close(number);
            auto client = engine->connect();
            client.send(request(123, length, 10));
            EXPECT_TRUE(client.receive(10 + length) == pattern(10, 7) + contents.substr(123, length));
        }
    }
}

TEST_F(SendFile, Sf09FileThatIsTooShortEndsTheConnectionAndIsNeverPadded) {
    const std::string contents = pattern(1'000'000);
    serve(contents);
    const struct {
        std::uint64_t offset, length, missing;
    } cases[] = {{0, 1'000'001, 1},           {999'999, 2, 1},           {1'000'000, 1, 1},
                 {5'000'000, 70'000, 70'000}, {0, 3'000'000, 2'000'000}, {990'000, 30'000, 20'000}};
    unsigned number = 0;
    for (const auto& one : cases) {
        auto client = engine->connect();
        client.send(request(one.offset, one.length, 100));
        const auto rest = client.receive_rest();
        EXPECT_EQ(rest.error, ECONNRESET);
        const std::string whole =
            pattern(100, 7) + (one.offset < contents.size() ? contents.substr(one.offset, one.length) : "");
        EXPECT_TRUE(whole.starts_with(rest.bytes)) << rest.bytes.size();
        served.ended.wait(++number);
        const SendFileError error = served.error();
        EXPECT_EQ(error.failure, SendFileFailure::truncated);
        EXPECT_EQ(error.code.value(), ENODATA);
        EXPECT_EQ(error.message, "send_file " + served.path + ": it ends " + std::to_string(one.missing) +
                                     " bytes before what was to be sent of it");
    }
}

TEST_F(SendFile, Sf09FileThatShrinksWhileAPeerReadsSlowlyEndsTheConnection) {
    const std::string contents = pattern(30'000'000);
    for (const bool copies : {false, true}) {
        if (copies) kernel.fail(Call::send_file, EINVAL, ForwardingKernel::forever);
        serve(contents);
        auto client = engine->connect(16384);
        client.send(request(0, contents.size()));
        const std::string first = client.receive(100'000);
        ASSERT_EQ(::truncate(served.path.c_str(), 20'000'000), 0);
        const auto rest = client.receive_rest();
        EXPECT_EQ(rest.error, ECONNRESET);
        EXPECT_TRUE(contents.substr(0, 20'000'000).starts_with(first + rest.bytes));
        served.ended.wait(copies ? 2 : 1);
        EXPECT_EQ(served.error().failure, SendFileFailure::truncated);
        engine.reset();
    }
}

TEST_F(SendFile, FileThatGrowsGivesWhatWasPromised) {
    const std::string contents = pattern(10'000'000);
    serve(contents);
    auto client = engine->connect(16384);
    client.send(request(0, contents.size()));
    std::string got = client.receive(100'000);
    {
        std::ofstream file{served.path, std::ios::binary | std::ios::app};
        file << "more";
    }
    got += client.receive(contents.size() - got.size());
    EXPECT_TRUE(got == contents);
    client.shutdown_write();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
}

TEST_F(SendFile, ErrorsOfTheFileEndTheConnection) {
    serve(pattern(2'000'000));
    kernel.fail(Call::send_file, EIO, 1, 1);
    auto client = engine->connect();
    client.send(request(0, 2'000'000));
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    served.ended.wait();
    EXPECT_EQ(served.error().failure, SendFileFailure::file);
    EXPECT_EQ(served.error().message, "send_file " + served.path + ": Input/output error");
    auto other = engine->connect();
    other.send(request(std::uint64_t{1} << 62, std::uint64_t{1} << 63));
    EXPECT_EQ(other.receive_rest().error, ECONNRESET);
    served.ended.wait(2);
    EXPECT_EQ(served.error().code.value(), EOVERFLOW);
}

TEST_F(SendFile, PeerThatIsGoneIsAnErrorAndNoSignal) {
    serve(pattern(20'000'000));
    auto client = engine->connect(16384);
    client.send(request(0, 20'000'000));
    static_cast<void>(client.receive(100'000));
    client.reset();
    served.ended.wait();
    EXPECT_EQ(served.error().failure, SendFileFailure::connection);
    EXPECT_THAT(served.error().code.value(), AnyOf(EPIPE, ECONNRESET));
}

TEST_F(SendFile, Sf11SlowPeerCostsNoMemoryAndIsCutOffByTheWriteTimeout) {
    serve(pattern(20'000'000), with_network([](NetworkOptions& network) { network.write_timeout = 50ms; }));
    auto client = engine->connect(16384);
    client.send(request(0, 20'000'000, 100));
    static_cast<void>(client.receive(1000));
    served.begun.wait();
    EXPECT_LE(engine->on_reactor([&] { return engine->network().slabs().used_bytes(); }), 1024u);
    served.ended.wait();
    EXPECT_EQ(served.error().failure, SendFileFailure::connection);
    EXPECT_EQ(served.error().code.value(), ETIMEDOUT);
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
}

// ---- what else happens to the connection meanwhile ----

/// Sends the file to a peer that does not read, until the gate opens, and calls the function meanwhile.
template <class Function>
Task<> send_while(Connection connection, Served& served, Function function) {
    auto opening = open_file(connection.reactor(), served.path);
    const File file = co_await opening;
    auto status = co_await file.status();
    connection.write("head");
    auto sending = send_file(connection, file, 0, status->size);
    Task<> task = [](Task<Sent> inner, Served& into) -> Task<> {
        Task<Sent> own = std::move(inner);
        into.note(co_await own);
    }(std::move(sending), served);
    connection.reactor().spawn(std::move(task));
    Until until{connection.reactor(), [&connection] { return connection.unsent() == 0; }};
    co_await until;
    served.begun.raise();
    function(connection);
    co_await yield_now();
}

TEST_F(SendFile, WhatIsWrittenMeanwhileLeavesBehindTheFile) {
    const std::string contents = pattern(20'000'000);
    serve(contents, {}, [](Connection connection, Served& into) {
        return send_while(std::move(connection), into, [](Connection& writing) { writing.write("tail"); });
    });
    auto client = engine->connect(16384);
    served.begun.wait();
    const auto rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(rest.bytes == "head" + contents + "tail") << rest.bytes.size();
    EXPECT_TRUE(served.results().back());
}

TEST_F(SendFile, ConnectionThatIsClosedMeanwhileSendsTheFileFirst) {
    const std::string contents = pattern(20'000'000);
    serve(contents, {}, [](Connection connection, Served& into) {
        return send_while(std::move(connection), into, [](Connection& closing) { closing.close(); });
    });
    auto client = engine->connect(16384);
    served.begun.wait();
    const auto rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(rest.bytes == "head" + contents) << rest.bytes.size();
}

TEST_F(SendFile, ConnectionThatIsShutDownForWritingSendsTheFileFirst) {
    const std::string contents = pattern(20'000'000);
    serve(contents, {}, [](Connection connection, Served& into) {
        return send_while(std::move(connection), into, [](Connection& ending) { ending.shutdown_write(); });
    });
    auto client = engine->connect(16384);
    const auto rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(rest.bytes == "head" + contents) << rest.bytes.size();
}

/// Ends the connection, or its writing half, while the ring reads the file.
Task<> end_while_it_is_read(Connection connection, Served& served, std::uint64_t length, bool half) {
    auto opening = open_file(connection.reactor(), served.path);
    const File file = co_await opening;
    connection.write("head");
    auto sending = send_file(connection, file, 0, length);
    EXPECT_TRUE(sending.start(connection.reactor().root_environment, std::noop_coroutine()));
    Reactor& reactor = connection.reactor();
    if (half) {
        connection.shutdown_write();
        EXPECT_FALSE(connection.write("lost"));
        auto refused = send_file(connection, file, 0, 1);
        EXPECT_THROW(co_await refused, std::logic_error);
    } else {
        connection.close();
    }
    Until until{reactor, [&sending] { return sending.done(); }};
    co_await until;
    if (half) {
        auto late = send_file(connection, file, 0, 1);
        const auto refused = co_await late;
        EXPECT_EQ(refused.error().failure, SendFileFailure::connection);
        EXPECT_EQ(refused.error().code.value(), EPIPE);
    }
    served.ended.raise();
}

TEST_F(SendFile, ConnectionThatEndsWhileTheFileIsReadSendsItFirst) {
    const std::string contents = pattern(600'000);
    unsigned count = 0;
    for (const int error : {0, EINVAL}) {
        if (error != 0) kernel.fail(Call::send_file, error, ForwardingKernel::forever);
        for (const std::uint64_t length : {20'000u, 600'000u}) {
            for (const bool half : {true, false}) {
                serve(contents, {}, [=](Connection connection, Served& into) {
                    return end_while_it_is_read(std::move(connection), into, length, half);
                });
                auto client = engine->connect();
                const auto rest = client.receive_rest();
                EXPECT_EQ(rest.error, 0);
                EXPECT_TRUE(rest.bytes == "head" + contents.substr(0, length)) << rest.bytes.size();
                served.ended.wait(++count);
                engine.reset();
            }
        }
    }
}

Task<> send_what_cannot_be_read(Connection connection, Served& served) {
    Reactor& reactor = connection.reactor();
    // Not before the peer knows that it is connected.
    const auto asked = co_await connection.read();
    EXPECT_TRUE(asked);
    const OpenOptions write_only{.flags = O_WRONLY};
    const auto file = co_await File::open(reactor, served.path, write_only);
    auto sending = send_file(connection, *file, 0, 100'000);
    served.note(co_await sending);
}

TEST_F(SendFile, FileThatCannotBeReadIsAnErrorOfTheFile) {
    serve(pattern(100'000), {}, send_what_cannot_be_read);
    auto client = engine->connect();
    client.send("x");
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    served.ended.wait();
    EXPECT_EQ(served.error().failure, SendFileFailure::file);
    EXPECT_EQ(served.error().code.value(), EBADF);
}

TEST_F(SendFile, AbortedConnectionEndsTheSending) {
    serve(pattern(20'000'000), {}, [](Connection connection, Served& into) {
        return send_while(std::move(connection), into, [](Connection& ending) { ending.abort(); });
    });
    auto client = engine->connect(16384);
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    served.ended.wait();
    EXPECT_EQ(served.error().failure, SendFileFailure::connection);
    EXPECT_EQ(served.error().code.value(), ECONNABORTED);
}

Task<> send_two(Connection connection, Served& served) {
    auto opening = open_file(connection.reactor(), served.path);
    const File file = co_await opening;
    auto first = send_file(connection, file, 0, 20'000'000);
    EXPECT_TRUE(first.start(connection.reactor().root_environment, std::noop_coroutine()));
    auto second = send_file(connection, file, 0, 10);
    EXPECT_THROW(co_await second, std::logic_error);
    served.begun.raise();
    Until until{connection.reactor(), [&first] { return first.done(); }};
    co_await until;
    auto third = send_file(connection, file, 0, 10);
    served.note(co_await third);
}

TEST_F(SendFile, SecondSenderIsMisuse) {
    const std::string contents = pattern(20'000'000);
    serve(contents, {}, send_two);
    auto client = engine->connect();
    const auto rest = client.receive_rest();
    EXPECT_TRUE(rest.bytes == contents + contents.substr(0, 10)) << rest.bytes.size();
}

Task<> misuse(Connection connection, Served& served) {
    auto opening = open_file(connection.reactor(), served.path);
    File file = co_await opening;
    auto late = send_file(connection, file, 0, 10);
    Connection moved = std::move(connection);
    EXPECT_THROW(static_cast<void>(send_file(connection, file, 0, 10)), std::logic_error);
    File gone = std::move(file);
    EXPECT_THROW(static_cast<void>(send_file(moved, file, 0, 10)), std::logic_error);
    std::thread([&] { EXPECT_THROW(static_cast<void>(send_file(moved, gone, 0, 10)), std::logic_error); }).join();
    moved.close();
    EXPECT_THROW(co_await late, std::logic_error);
    served.ended.raise();
}

TEST_F(SendFile, MisuseThrows) {
    serve("0123456789", {}, misuse);
    auto client = engine->connect();
    served.ended.wait();
    EXPECT_EQ(client.receive_rest(), ClientSocket::Rest{});
}

Task<> send_by_half(Connection connection, Served& served) {
    Reactor& reactor = connection.reactor();
    auto opening = open_file(reactor, served.path);
    std::optional<File> file;
    file.emplace(co_await opening);
    auto [reading, writing] = std::move(connection).split();
    WriteHalf half = std::move(writing);
    half.write("head");
    auto sending = send_file(half, *file, 0, 3'000'000);
    file.reset();  // it stays open for what has begun
    served.note(co_await sending);
    served.ended.raise();
}

TEST_F(SendFile, FromAHalfAndAFileThatHasEnded) {
    const std::string contents = pattern(3'000'000);
    serve(contents, {}, send_by_half);
    auto client = engine->connect();
    EXPECT_TRUE(client.receive_rest().bytes == "head" + contents);
}

// ---- cancelled, destroyed ----

/// Sends under a deadline; then, when the connection is as it was, one more line.
Task<> send_with_deadline(Connection connection, Served& served, std::uint64_t length, std::chrono::nanoseconds time) {
    auto opening = open_file(connection.reactor(), served.path);
    const File file = co_await opening;
    connection.write("head");
    auto sending = with_deadline(send_file(connection, file, 0, length), time);
    served.note(co_await sending);
    connection.write("tail");
    co_await connection.flush();
}

void expect_cancelled(const SendFileError& error) {
    EXPECT_EQ(error.failure, SendFileFailure::cancelled) << error.message;
    EXPECT_EQ(error.code.value(), ECANCELED);
    EXPECT_THAT(error.message, HasSubstr("Operation canceled"));
}

TEST_F(SendFile, CancelledBeforeItsFirstByteItLeavesTheConnectionAsItWas) {
    for (const std::uint64_t length : {100u, 1'000'000u}) {
        serve(pattern(1'000'000), {}, [length](Connection connection, Served& into) {
            return send_with_deadline(std::move(connection), into, length, 0ns);
        });
        auto client = engine->connect();
        const auto rest = client.receive_rest();
        EXPECT_EQ(rest.error, 0);
        // What was committed in the pass in which the deadline came goes out.
        EXPECT_THAT(rest.bytes, AnyOf("headtail", "head" + pattern(1'000'000).substr(0, 100) + "tail")) << length;
        expect_cancelled(served.error());
        engine.reset();
    }
}

TEST_F(SendFile, CancelledWhileItWaitsForRoomBeforeItsFirstByteToo) {
    kernel.fail(Call::send_file, EAGAIN, ForwardingKernel::forever);
    serve(pattern(1'000'000), {}, [](Connection connection, Served& into) {
        return send_with_deadline(std::move(connection), into, 1'000'000, 5ms);
    });
    auto client = engine->connect();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"headtail", 0}));
    expect_cancelled(served.error());
}

TEST_F(SendFile, CancelledOnTheWayItResetsTheConnection) {
    for (const bool copies : {false, true}) {
        if (copies) kernel.fail(Call::send_file, EINVAL, ForwardingKernel::forever);
        const std::string contents = pattern(20'000'000);
        serve(contents, {}, [](Connection connection, Served& into) {
            return send_with_deadline(std::move(connection), into, 20'000'000, 20ms);
        });
        auto client = engine->connect(16384);
        served.ended.wait(copies ? 2 : 1);
        expect_cancelled(served.error());
        const auto rest = client.receive_rest();
        EXPECT_EQ(rest.error, ECONNRESET);
        EXPECT_TRUE(("head" + contents).starts_with(rest.bytes));
        engine.reset();
    }
}

/// Destroys the sending after so many turns of the loop.
Task<> send_and_destroy(Connection connection, Served& served, std::uint64_t length, unsigned turns) {
    auto opening = open_file(connection.reactor(), served.path);
    const File file = co_await opening;
    connection.write("head");
    {
        auto sending = send_file(connection, file, 0, length);
        if (sending.start(connection.reactor().root_environment, std::noop_coroutine())) {
            for (unsigned turn = 0; turn < turns && !sending.done(); ++turn) co_await sleep_for(1ns);
        }
    }
    connection.write("tail");
    co_await connection.flush();
    served.ended.raise();
}

TEST_F(SendFile, Law5DestroyedAtAnyTimeItLeavesNothingAndNoGap) {
    const std::string contents = pattern(8'000'000);
    unsigned count = 0;
    for (const bool cold : {false, true}) {
        for (const std::uint64_t length : {20'000u, 8'000'000u}) {
            for (unsigned turns = 0; turns < 8; ++turns) {
                serve(contents, {}, [=](Connection connection, Served& into) {
                    return send_and_destroy(std::move(connection), into, length, turns);
                });
                if (cold) {
                    const int number = ::open(served.path.c_str(), O_RDONLY | O_CLOEXEC);
                    ASSERT_EQ(::fdatasync(number), 0);
                    ASSERT_EQ(::posix_fadvise(number, 0, 0, POSIX_FADV_DONTNEED), 0);
                    ::close(number);
                }
                auto client = engine->connect(16384);
                served.ended.wait(++count);
                const auto rest = client.receive_rest();
                const std::string body = contents.substr(0, length);
                if (rest.error == 0) {
                    EXPECT_THAT(rest.bytes.size(), AnyOf(8u, 8 + length));
                    EXPECT_TRUE(rest.bytes == "headtail" || rest.bytes == "head" + body + "tail");
                } else {
                    EXPECT_EQ(rest.error, ECONNRESET);
                    EXPECT_TRUE(("head" + body).starts_with(rest.bytes));
                }
                engine.reset();
            }
        }
    }
}

TEST_F(SendFile, EndOfTheReactorEndsIt) {
    serve(pattern(20'000'000));
    auto client = engine->connect(16384);
    client.send(request(0, 20'000'000, 10));
    served.begun.wait();
    static_cast<void>(client.receive(1000));
    engine->reactor().stop();
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    engine.reset();
    EXPECT_FALSE(served.results().at(0));
}

TEST_F(SendFile, DrainWaitsForIt) {
    const std::string contents = pattern(20'000'000);
    serve(contents);
    auto client = engine->connect(16384);
    client.send(request(0, contents.size()));
    std::string got = client.receive(1000);
    engine->on_reactor([&] { engine->reactor().drain(30s); });
    got += client.receive_rest().bytes;
    EXPECT_TRUE(got == contents);
}

TEST_F(SendFile, AccountWithoutRoomForACopySendsWithoutOne) {
    const std::string contents = pattern(100'000);
    serve(contents, with_network([](NetworkOptions& network) {
              network.connection_memory_limit = 16384;
              network.write_limit = 8192;
          }));
    auto client = engine->connect();
    client.send(request(0, 30'000, 100));
    EXPECT_TRUE(client.receive(30'100) == pattern(100, 7) + contents.substr(0, 30'000));
    EXPECT_GT(kernel.calls(Call::send_file), 0u);
}

TEST_F(SendFile, FilesOfProcAreReadAndSent) {
    serve("", with_network([](NetworkOptions& network) { network.file_copy_limit = 0; }));
    served.path = "/proc/version";
    const std::string expected = contents(served.path);
    auto client = engine->connect();
    client.send(request(3, expected.size() - 3, 10));
    EXPECT_EQ(client.receive(10 + expected.size() - 3), pattern(10, 7) + expected.substr(3));
    client.send(request(0, expected.size() + 1));
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    served.ended.wait(2);
    EXPECT_EQ(served.error().failure, SendFileFailure::truncated);
}

std::string why_it_ended(const Served& served) {
    const auto results = served.results();
    if (results.empty()) return "sending has not ended";
    return results.back() ? "sending has succeeded" : results.back().error().message;
}

TEST_F(SendFile, SendFileLongSparseGibibyteToASlowPeerInBoundedMemory) {
    serve("");
    constexpr std::uint64_t size = std::uint64_t{1} << 30;
    ASSERT_EQ(::truncate(served.path.c_str(), size), 0);
    auto client = engine->connect(65536);
    client.send(request(0, size));
    std::vector<char> piece(1 << 20);
    std::uint64_t received = 0;
    std::uint64_t most = 0;
    bool zero = true;
    while (received < size) {
        const ssize_t got = ::recv(client.number(), piece.data(), piece.size(), 0);
        // The end of an earlier ring interrupts its thread's system calls.
        if (got < 0 && errno == EINTR) continue;
        ASSERT_GT(got, 0) << std::strerror(errno) << " after " << received << " bytes: " << why_it_ended(served);
        zero = zero && std::all_of(piece.begin(), piece.begin() + got, [](char byte) { return byte == 0; });
        if (received >> 24 != (received + static_cast<std::uint64_t>(got)) >> 24) {
            most = std::max(most, engine->on_reactor([&] { return engine->network().slabs().used_bytes(); }));
        }
        received += static_cast<std::uint64_t>(got);
    }
    EXPECT_TRUE(zero);
    EXPECT_LE(most, 1024u);
}

}  // namespace
