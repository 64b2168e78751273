#include <ferrule/ring/buffer_ring.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule {
namespace {

using ferrule_test::Call;
using ferrule_test::capabilities;
using ferrule_test::ForwardingKernel;
using ferrule_test::make_ring;
using ferrule_test::SocketPair;
using testing::AllOf;
using testing::HasSubstr;

BufferRing make_buffers(Ring& ring, std::uint32_t count, std::uint32_t size, bool incremental = false) {
    auto buffers = BufferRing::create(ring, {.group = 64, .count = count, .size = size, .incremental = incremental});
    if (!buffers) {
        throw std::runtime_error(buffers.error().message);
    }
    return std::move(*buffers);
}

std::string_view text_of(const BufferRing::Slice& slice) {
    return {reinterpret_cast<const char*>(slice.data), slice.length};
}

void write_text(const SocketPair& sockets, std::string_view text) {
    ASSERT_EQ(::write(sockets.second.number(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

/// The next completion, submitting and waiting for it.
abi::Completion next(Ring& ring) {
    EXPECT_GE(ring.enter(ring.ready() == 0 ? 1 : 0, 10'000'000'000), 0);
    const auto completion = ring.try_completion();
    EXPECT_TRUE(completion.has_value()) << "nothing came for 10 seconds";
    return completion.value_or(abi::Completion{});
}

void arm(Ring& ring, const SocketPair& sockets, const BufferRing& buffers) {
    prepare::receive_multishot(ring.entry(), sockets.first.number(), buffers.group(), 0);
}

TEST(BufferRing, AllBuffersStartWithTheKernel) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 4, 32);
    EXPECT_EQ(buffers.count(), 4u);
    EXPECT_EQ(buffers.size(), 32u);
    EXPECT_EQ(buffers.group(), 64);
    EXPECT_EQ(buffers.held(), 0u);
    EXPECT_EQ(buffers.staged(), 0u);
    EXPECT_EQ(buffers.slices(), 0u);
    EXPECT_FALSE(buffers.incremental());
    EXPECT_EQ(buffers.publish(), 0u);
}

TEST(BufferRing, SlicesHoldTheBytesAndReturnOnce) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    SocketPair sockets;
    arm(ring, sockets, buffers);
    write_text(sockets, "hello");
    const BufferRing::Slice first = buffers.take(next(ring));
    EXPECT_EQ(text_of(first), "hello");
    EXPECT_EQ(buffers.held(), 1u);
    EXPECT_EQ(buffers.slices(), 1u);
    write_text(sockets, "again");
    const BufferRing::Slice second = buffers.take(next(ring));
    EXPECT_EQ(text_of(second), "again");
    EXPECT_NE(first.buffer, second.buffer);
    EXPECT_EQ(buffers.held(), 2u);

    write_text(sockets, "more");
    const abi::Completion starved = next(ring);
    EXPECT_EQ(starved.result, -ENOBUFS);
    EXPECT_EQ(starved.flags & abi::completion_more, 0u);

    buffers.give_back(second.buffer);
    EXPECT_EQ(buffers.held(), 1u);
    EXPECT_EQ(buffers.staged(), 1u);
    buffers.give_back(first.buffer);
    EXPECT_EQ(buffers.publish(), 2u);
    EXPECT_EQ(buffers.publish(), 0u);
    EXPECT_EQ(buffers.staged(), 0u);
    arm(ring, sockets, buffers);
    EXPECT_EQ(text_of(buffers.take(next(ring))), "more");
}

TEST(BufferRing, OneBufferCarriesALongStream) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 1, 7);
    SocketPair sockets;
    std::string sent;
    std::string received;
    for (int number = 0; number != 200; ++number) {
        sent += std::to_string(number);
    }
    write_text(sockets, sent);
    bool armed = false;
    while (received.size() != sent.size()) {
        if (!armed) {
            arm(ring, sockets, buffers);
            armed = true;
        }
        const abi::Completion completion = next(ring);
        if ((completion.flags & abi::completion_buffer) != 0) {
            const BufferRing::Slice slice = buffers.take(completion);
            received += text_of(slice);
            buffers.give_back(slice.buffer);
            EXPECT_EQ(buffers.publish(), 1u);
        } else {
            ASSERT_EQ(completion.result, -ENOBUFS);
        }
        armed = (completion.flags & abi::completion_more) != 0;
    }
    EXPECT_TRUE(received == sent);
    EXPECT_EQ(buffers.held(), 0u);
}

TEST(BufferRing, TailWrapsAroundManyTimes) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 4, 8);
    SocketPair sockets(SOCK_DGRAM);
    arm(ring, sockets, buffers);
    // More than the 65,536 values of the tail.
    for (int round = 0; round != 70'000; ++round) {
        const char byte = static_cast<char>(round);
        ASSERT_EQ(::write(sockets.second.number(), &byte, 1), 1);
        const abi::Completion completion = next(ring);
        ASSERT_NE(completion.flags & abi::completion_more, 0u);
        const BufferRing::Slice slice = buffers.take(completion);
        ASSERT_EQ(text_of(slice), std::string_view(&byte, 1));
        buffers.give_back(slice.buffer);
        ASSERT_EQ(buffers.publish(), 1u);
    }
}

TEST(BufferRing, OneShotReceiveKeepsItsLength) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    SocketPair sockets;
    write_text(sockets, "abcdefgh");
    prepare::receive_select(ring.entry(), sockets.first.number(), buffers.group(), 3, 0);
    EXPECT_EQ(text_of(buffers.take(next(ring))), "abc");
    prepare::receive_select(ring.entry(), sockets.first.number(), buffers.group(), 0, 0);
    EXPECT_EQ(text_of(buffers.take(next(ring))), "defgh");
}

TEST(BufferRing, BufferWithoutBytesIsAccountedForLikeAnyOther) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    for (const std::int32_t result : {0, -ECANCELED}) {
        const BufferRing::Slice slice =
            buffers.take({.user_data = 0, .result = result, .flags = abi::completion_buffer | (1u << 16)});
        EXPECT_EQ(slice.length, 0u);
        EXPECT_EQ(slice.buffer, 1);
        EXPECT_EQ(buffers.held(), 1u);
        buffers.give_back(slice.buffer);
        EXPECT_EQ(buffers.publish(), 1u);
        EXPECT_EQ(buffers.held(), 0u);
    }
}

TEST(BufferRing, EmptyDatagramReturnsItsBuffer) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    SocketPair sockets(SOCK_DGRAM);
    prepare::receive_select(ring.entry(), sockets.first.number(), buffers.group(), 0, 0);
    ASSERT_EQ(::send(sockets.second.number(), "", 0, 0), 0);
    const abi::Completion completion = next(ring);
    EXPECT_EQ(completion.result, 0);
    if ((completion.flags & abi::completion_buffer) != 0) {
        buffers.give_back(buffers.take(completion).buffer);
        EXPECT_EQ(buffers.publish(), 1u);
    }
    EXPECT_EQ(buffers.held(), 0u);
}

TEST(BufferRing, OptionsAreCheckedByName) {
    Ring ring = make_ring();
    struct Wrong {
        BufferRing::Options options;
        const char* said;
    };
    const std::vector<Wrong> wrongs = {
        {{.group = 63, .count = 4, .size = 16, .incremental = false}, "group must be at least 64"},
        {{.group = 1, .count = 4, .size = 16, .incremental = false}, "group must be at least 64"},
        {{.group = 64, .count = 0, .size = 16, .incremental = false}, "count must be a power of two"},
        {{.group = 64, .count = 3, .size = 16, .incremental = false}, "count must be a power of two"},
        {{.group = 64, .count = 65536, .size = 16, .incremental = false}, "count must be a power of two"},
        {{.group = 64, .count = 4, .size = 0, .incremental = false}, "size must be"},
        {{.group = 64, .count = 4, .size = 0xffff'ffff, .incremental = false}, "size must be"},
    };
    for (const Wrong& wrong : wrongs) {
        const auto buffers = BufferRing::create(ring, wrong.options);
        ASSERT_FALSE(buffers.has_value());
        EXPECT_EQ(buffers.error().code, std::errc::invalid_argument);
        EXPECT_THAT(buffers.error().message, AllOf(HasSubstr("buffer ring"), HasSubstr(wrong.said)));
    }
}

TEST(BufferRing, GroupInUseIsRefusedAndFreeAgainAfterwards) {
    Ring ring = make_ring();
    {
        BufferRing buffers = make_buffers(ring, 4, 16);
        const auto second = BufferRing::create(ring, {.group = 64, .count = 4, .size = 16, .incremental = false});
        ASSERT_FALSE(second.has_value());
        EXPECT_EQ(second.error().code, std::errc::file_exists);
        EXPECT_THAT(second.error().message, HasSubstr("registering buffer ring 64 of 4 x 16 bytes: File exists"));
    }
    BufferRing again = make_buffers(ring, 4, 16);
    SocketPair sockets;
    arm(ring, sockets, again);
    std::set<std::uint16_t> seen;
    for (int number = 0; number != 4; ++number) {
        write_text(sockets, "x");
        seen.insert(again.take(next(ring)).buffer);
    }
    EXPECT_EQ(seen.size(), 4u) << "a group that was registered again hands out each buffer once";
}

TEST(BufferRing, AnyGroupIsTheLowestThatNoOtherHas) {
    Ring ring = make_ring();
    const BufferRing::Options any{.count = 1, .size = 16};
    const BufferRing named = make_buffers(ring, 1, 16);
    auto second = BufferRing::create(ring, any);
    auto third = BufferRing::create(ring, any);
    ASSERT_TRUE(second.has_value() && third.has_value());
    EXPECT_EQ(named.group(), 64);
    EXPECT_EQ(second->group(), 65);
    EXPECT_EQ(third->group(), 66);
    *second = std::move(*third);
    EXPECT_EQ(BufferRing::create(ring, any)->group(), 65) << "free again when its ring has gone";
    ForwardingKernel kernel;
    Ring failing = make_ring(kernel, {});
    kernel.fail_registration(abi::register_buffer_ring, EPERM, 1);
    EXPECT_FALSE(BufferRing::create(failing, any).has_value());
    EXPECT_EQ(BufferRing::create(failing, any)->group(), 64) << "what could not be made has none";
}

TEST(BufferRing, GroupsOfOneRingAreMany) {
    Ring ring = make_ring();
    std::vector<BufferRing> all;
    constexpr std::size_t many = 200;  // more than one word of the table of groups
    for (std::size_t number = 0; number != many; ++number) {
        auto buffers = BufferRing::create(ring, {.count = 1, .size = 16});
        ASSERT_TRUE(buffers.has_value()) << buffers.error().message;
        ASSERT_EQ(buffers->group(), BufferRing::first_group + number);
        all.push_back(std::move(*buffers));
    }
    all.erase(all.begin() + 3, all.begin() + 150);
    EXPECT_EQ(BufferRing::create(ring, {.count = 1, .size = 16})->group(), 67);
}

TEST(BufferRing, LateMemoryIsRetriedAndLackOfItExplained) {
    ForwardingKernel kernel;
    Ring ring = make_ring(kernel, {});
    kernel.set_limit_locked_memory(8 * 1024);
    kernel.fail_registration(abi::register_buffer_ring, ENOMEM, 2);
    EXPECT_TRUE(BufferRing::create(ring, {.group = 64, .count = 4, .size = 16, .incremental = false}).has_value());
    EXPECT_EQ(kernel.pauses(), 2u);
    kernel.fail_registration(abi::register_buffer_ring, ENOMEM, ForwardingKernel::forever);
    const auto buffers = BufferRing::create(ring, {.group = 64, .count = 1024, .size = 16, .incremental = false});
    ASSERT_FALSE(buffers.has_value());
    EXPECT_EQ(buffers.error().code, std::errc::not_enough_memory);
    EXPECT_THAT(buffers.error().message, AllOf(HasSubstr("16 KiB"), HasSubstr("8 KiB"), HasSubstr("ulimit -l")));
}

TEST(BufferRing, FailureAtEachPointLeavesNothingBehind) {
    for (const Call call : {Call::map, Call::advise}) {
        for (std::uint64_t point = 0; point != 2; ++point) {
            ForwardingKernel kernel;
            Ring ring = make_ring(kernel, {});
            kernel.fail(call, ENOMEM, 1, point);
            const auto buffers = BufferRing::create(ring, {.group = 64, .count = 4, .size = 16, .incremental = false});
            ASSERT_FALSE(buffers.has_value());
            EXPECT_EQ(kernel.calls(Call::unmap), call == Call::map ? point : 2u);
            kernel.heal();
            EXPECT_TRUE(
                BufferRing::create(ring, {.group = 64, .count = 4, .size = 16, .incremental = false}).has_value());
        }
    }
}

TEST(BufferRing, RingMayBeMovedOrDestroyedFirst) {
    auto ring = std::make_unique<Ring>(make_ring());
    BufferRing buffers = make_buffers(*ring, 4, 16);
    Ring moved = std::move(*ring);
    SocketPair sockets;
    arm(moved, sockets, buffers);
    write_text(sockets, "moved");
    const BufferRing::Slice slice = buffers.take(next(moved));
    EXPECT_EQ(text_of(slice), "moved");
    BufferRing other = std::move(buffers);
    other.give_back(slice.buffer);
    EXPECT_EQ(other.publish(), 1u);
    moved = make_ring();
    other = make_buffers(moved, 2, 16);
    EXPECT_EQ(other.count(), 2u);
}

TEST(BufferRingDeathTest, GivingBackTwiceAborts) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    const BufferRing::Slice slice = buffers.take({.user_data = 0, .result = 3, .flags = abi::completion_buffer});
    buffers.give_back(slice.buffer);
    EXPECT_DEATH(buffers.give_back(slice.buffer), "assertion failed");
}

TEST(BufferRingDeathTest, GivingBackWhatWasNeverTakenAborts) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    EXPECT_DEATH(buffers.give_back(1), "assertion failed");
    EXPECT_DEATH(buffers.give_back(2), "assertion failed");
}

TEST(BufferRingDeathTest, TakingWhatTheKernelDoesNotHaveAborts) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    const abi::Completion completion{.user_data = 0, .result = 3, .flags = abi::completion_buffer};
    static_cast<void>(buffers.take(completion));
    EXPECT_DEATH(static_cast<void>(buffers.take(completion)), "assertion failed");
    EXPECT_DEATH(
        static_cast<void>(buffers.take({.user_data = 0, .result = 3, .flags = abi::completion_buffer | (2u << 16)})),
        "assertion failed");
    EXPECT_DEATH(static_cast<void>(buffers.take({.user_data = 0, .result = 3, .flags = 1u << 16})), "assertion failed");
    EXPECT_DEATH(
        static_cast<void>(buffers.take({.user_data = 0, .result = 17, .flags = abi::completion_buffer | (1u << 16)})),
        "assertion failed");
}

// The accounting of incremental buffers, without a kernel that has them.

TEST(BufferRing, IncrementalSlicesFollowEachOtherUntilTheKernelIsDone) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 16);
    constexpr std::uint32_t more = abi::completion_buffer | abi::completion_buffer_more;
    const BufferRing::Slice first = buffers.take({.user_data = 0, .result = 5, .flags = more});
    const BufferRing::Slice second = buffers.take({.user_data = 0, .result = 4, .flags = more});
    EXPECT_EQ(second.data, first.data + 5);
    EXPECT_EQ(buffers.held(), 0u);
    EXPECT_EQ(buffers.slices(), 2u);
    // The kernel still has the buffer, so it is not staged though all its slices are back.
    buffers.give_back(first.buffer);
    buffers.give_back(second.buffer);
    EXPECT_EQ(buffers.staged(), 0u);
    const BufferRing::Slice third = buffers.take({.user_data = 0, .result = 7, .flags = abi::completion_buffer});
    EXPECT_EQ(third.data, first.data + 9);
    EXPECT_EQ(buffers.held(), 1u);
    buffers.give_back(third.buffer);
    EXPECT_EQ(buffers.staged(), 1u);
    EXPECT_EQ(buffers.publish(), 1u);
    const BufferRing::Slice fresh = buffers.take({.user_data = 0, .result = 1, .flags = more});
    EXPECT_EQ(fresh.data, first.data);
}

TEST(BufferRing, I1IncrementalDeliversWhatWasSent) {
    if (!capabilities().incremental_buffers) {
        GTEST_SKIP() << "incremental buffers need Linux 6.12";
    }
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 4, 64, true);
    EXPECT_TRUE(buffers.incremental());
    SocketPair sockets;
    arm(ring, sockets, buffers);
    write_text(sockets, "one message");
    const BufferRing::Slice slice = buffers.take(next(ring));
    EXPECT_EQ(text_of(slice), "one message");
    buffers.give_back(slice.buffer);
}

/// Sends the payload in fragments, each received before the next, and counts consecutive slices of the same buffer.
std::uint32_t echo_fragments(bool incremental, const std::string& payload, std::size_t fragment) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 4, 1024, incremental);
    SocketPair sockets;
    arm(ring, sockets, buffers);
    std::string received;
    std::uint32_t reused = 0;
    int previous = -1;
    std::vector<std::uint16_t> kept;
    for (std::size_t offset = 0; offset < payload.size(); offset += fragment) {
        const std::string_view text = std::string_view(payload).substr(offset, fragment);
        write_text(sockets, text);
        // A fragment that does not fit into the rest of a buffer comes in two pieces.
        while (received.size() < offset + text.size()) {
            const abi::Completion completion = next(ring);
            const BufferRing::Slice slice = buffers.take(completion);
            received += text_of(slice);
            reused += slice.buffer == previous ? 1 : 0;
            previous = slice.buffer;
            kept.push_back(slice.buffer);
            if ((completion.flags & abi::completion_more) == 0) {
                arm(ring, sockets, buffers);
            }
        }
        // Some slices stay out for a while, so that buffers return out of order.
        if (kept.size() >= 3) {
            buffers.give_back(kept[1]);
            buffers.give_back(kept[0]);
            kept.erase(kept.begin(), kept.begin() + 2);
            buffers.publish();
        }
    }
    for (const std::uint16_t buffer : kept) {
        buffers.give_back(buffer);
    }
    buffers.publish();
    EXPECT_TRUE(received == payload);
    EXPECT_EQ(buffers.slices(), 0u);
    EXPECT_EQ(buffers.held(), 0u);
    EXPECT_EQ(buffers.staged(), 0u);
    return reused;
}

TEST(BufferRing, I9IncrementalReusesBuffersAndClassicDoesNot) {
    std::mt19937 random(9);
    std::string payload(16 * 1024, '\0');
    for (char& byte : payload) {
        byte = static_cast<char>(random());
    }
    constexpr std::size_t fragment = 17;
    const std::uint32_t classic = echo_fragments(false, payload, fragment);
    if (!capabilities().incremental_buffers) {
        GTEST_SKIP() << "incremental buffers need Linux 6.12; the classic half passed";
    }
    const std::uint32_t incremental = echo_fragments(true, payload, fragment);
    EXPECT_GT(incremental, classic);
    EXPECT_GT(incremental, 0u);
}

}  // namespace
}  // namespace ferrule
