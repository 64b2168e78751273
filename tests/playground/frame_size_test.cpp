// What an idle connection costs beside its place in the table: the frame of its handler.
#define main plaintext_main
#include "../../playground/plaintext.cpp"
#undef main
#define main echo_main
#define echo echo_handler
#include "../../playground/echo.cpp"
#undef main
#define main proxy_tcp_main
#include "../../playground/proxy-tcp.cpp"
#undef main

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <cstdint>

namespace {

// Bytes that the pool hands out for the frame of one handler.
std::uint64_t frame_bytes(ferrule::Task<> (*handler)(ferrule::Connection)) {
    std::uint64_t bytes = 0;
    ferrule::Reactor reactor(0, {.submission_entries = 16});
    reactor.on_start([&](ferrule::Reactor& started) {
        int ends[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        auto& network =
            started.add_service<ferrule::Network>(started, ferrule::NetworkOptions{.receive_buffer_count = 1});
        auto connection = network.open(ends[0]);
        ASSERT_TRUE(connection);
        const std::uint64_t before = started.frames.live_bytes();
        const auto task = handler(std::move(*connection));
        bytes = started.frames.live_bytes() - before;
        ::close(ends[1]);
    });
    reactor.stop();
    reactor.run();
    return bytes;
}

// GCC 12 gives every co_await a place of its own in the frame and 64 bytes to the frame itself.
TEST(FrameSize, OfPlaintext) {
#if defined(FERRULE_LIVE_TASKS)
    GTEST_SKIP() << "the list of live tasks makes frames larger";
#endif
    EXPECT_LE(frame_bytes(plaintext), 128u);
}

TEST(FrameSize, OfEcho) {
#if defined(FERRULE_LIVE_TASKS)
    GTEST_SKIP() << "the list of live tasks makes frames larger";
#endif
    EXPECT_LE(frame_bytes(echo_handler), 176u);
}

// One for each direction.
ferrule::Task<> forward_nowhere(ferrule::Connection connection) {
    auto [reads, writes] = std::move(connection).split();
    return forward(std::move(reads), std::move(writes), nullptr, "", "");
}

TEST(FrameSize, OfProxyTcp) {
#if defined(FERRULE_LIVE_TASKS)
    GTEST_SKIP() << "the list of live tasks makes frames larger";
#endif
    EXPECT_LE(frame_bytes(forward_nowhere), 320u);
    EXPECT_LE(frame_bytes([](ferrule::Connection connection) { return relay(std::move(connection), nullptr); }), 640u);
}

}  // namespace
