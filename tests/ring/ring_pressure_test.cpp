// The submission queue when it is full and the kernel takes nothing, and the completion queue when it overflows.

#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/ring.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace ferrule {
namespace {

using ferrule_test::Call;
using ferrule_test::ForwardingKernel;
using ferrule_test::make_ring;
using ferrule_test::prepare_nop;
using ferrule_test::SocketPair;

/// Remembers how many entries each enter offered.
class WatchedKernel final : public ForwardingKernel {
public:
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        offered.push_back(to_submit);
        return ForwardingKernel::io_uring_enter(fd, to_submit, min_complete, flags, argument, argument_size);
    }

    std::vector<std::uint32_t> offered;
};

/// Takes one entry per call, as a kernel short of memory does.
class StingyKernel final : public ForwardingKernel {
public:
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        return ForwardingKernel::io_uring_enter(fd, std::min(to_submit, 1u), min_complete, flags, argument,
                                                argument_size);
    }
};

Ring::Options smallest() {
    Ring::Options options;
    options.entries = 4;
    options.completion_entries = 8;
    return options;
}

std::vector<std::uint64_t> drain(Ring& ring) {
    std::vector<std::uint64_t> seen;
    while (const auto completion = ring.try_completion()) {
        seen.push_back(completion->user_data);
    }
    return seen;
}

std::vector<std::uint64_t> numbers(std::uint64_t count) {
    std::vector<std::uint64_t> all(count);
    for (std::uint64_t number = 0; number != count; ++number) {
        all[number] = number;
    }
    return all;
}

TEST(RingPressure, RefusedEntriesWaitInOrder) {
    for (const int error : {EBUSY, EAGAIN}) {
        ForwardingKernel kernel;
        Ring ring = make_ring(kernel, smallest());
        kernel.fail(Call::enter, error, ForwardingKernel::forever);
        for (std::uint64_t number = 0; number != 20; ++number) {
            prepare_nop(ring.entry(), number);
        }
        EXPECT_EQ(ring.pending(), 20u);
        EXPECT_EQ(ring.available(), 0u);
        EXPECT_EQ(ring.try_entry(), nullptr);
        EXPECT_EQ(ring.next_sequence(), 20u);
        // One attempt when the queue was first full, none per entry behind it.
        EXPECT_EQ(kernel.calls(Call::enter), 1u);
        EXPECT_EQ(ring.enter(0, 0), -error);
        EXPECT_EQ(ring.submit().error(), system_error(error));
        EXPECT_EQ(ring.pending(), 20u);

        kernel.heal();
        EXPECT_EQ(ring.enter(0, 0), 20);
        EXPECT_EQ(ring.pending(), 0u);
        EXPECT_TRUE(ring.consumed(19));
        EXPECT_EQ(drain(ring), numbers(20));
    }
}

TEST(RingPressure, EntriesAskedForWhileOthersWaitGoBehindThem) {
    ForwardingKernel kernel;
    Ring ring = make_ring(kernel, smallest());
    kernel.fail(Call::enter, EAGAIN, 1);
    for (std::uint64_t number = 0; number != 5; ++number) {
        prepare_nop(ring.entry(), number);
    }
    // The kernel would take entries again, but the fifth has to go first.
    for (std::uint64_t number = 5; number != 9; ++number) {
        prepare_nop(ring.entry(), number);
    }
    EXPECT_EQ(ring.submit(), 9u);
    EXPECT_EQ(drain(ring), numbers(9));
}

TEST(RingPressure, PartialSubmissionGoesOnWhereItStopped) {
    StingyKernel kernel;
    Ring ring = make_ring(kernel, smallest());
    for (std::uint64_t number = 0; number != 4; ++number) {
        prepare_nop(ring.entry(), number);
    }
    EXPECT_EQ(ring.submit(), 1u);
    EXPECT_EQ(ring.pending(), 3u);
    EXPECT_TRUE(ring.consumed(0));
    EXPECT_FALSE(ring.consumed(1));
    for (std::uint64_t number = 4; number != 12; ++number) {
        prepare_nop(ring.entry(), number);
    }
    std::vector<std::uint64_t> seen;
    while (ring.pending() != 0) {
        ASSERT_TRUE(ring.submit().has_value());
        const std::vector<std::uint64_t> now = drain(ring);
        seen.insert(seen.end(), now.begin(), now.end());
    }
    EXPECT_EQ(seen, numbers(12));
}

TEST(RingPressure, InterruptedWaitIsReturnedAndLosesNothing) {
    ForwardingKernel kernel;
    Ring ring = make_ring(kernel, smallest());
    prepare_nop(ring.entry(), 0);
    kernel.fail(Call::enter, EINTR, 3);
    EXPECT_EQ(ring.enter(1, Ring::no_timeout), -EINTR);
    EXPECT_EQ(ring.submit_and_wait(1).error(), std::errc::interrupted);
    EXPECT_EQ(ring.wait_completion().error(), std::errc::interrupted);
    EXPECT_EQ(ring.pending(), 1u);
    EXPECT_EQ(ring.enter(1, Ring::no_timeout), 1);
    EXPECT_EQ(drain(ring), numbers(1));
}

TEST(RingPressure, SkippedEntriesThatWaitAreDropped) {
    ForwardingKernel kernel;
    Ring ring = make_ring(kernel, smallest());
    kernel.fail(Call::enter, EAGAIN, 1);
    std::array<abi::SubmissionEntry*, 8> entries{};
    for (std::uint64_t number = 0; number != 8; ++number) {
        entries[number] = &ring.entry();
        prepare_nop(*entries[number], number);
    }
    ring.skip(*entries[1]);
    ring.skip(*entries[4]);
    ring.skip(*entries[7]);
    EXPECT_EQ(ring.pending(), 5u);
    EXPECT_EQ(ring.submit(), 5u);
    EXPECT_EQ(ring.pending(), 0u);
    EXPECT_EQ(ring.available(), 4u);
    EXPECT_EQ(drain(ring), (std::vector<std::uint64_t>{0, 2, 3, 5, 6}));
}

void prepare_chain(Ring& ring, std::uint64_t first, std::uint64_t length) {
    for (std::uint64_t number = 0; number != length; ++number) {
        abi::SubmissionEntry& entry = ring.entry();
        prepare_nop(entry, first + number);
        if (number == 0) {
            // Fails when it runs, so a chain that was not cut is cancelled to its end.
            prepare::close(entry, -1);
            entry.user_data = first;
        }
        if (number + 1 != length) {
            entry.flags |= abi::entry_link;
        }
    }
}

TEST(RingPressure, FlushDoesNotCutAChain) {
    for (std::uint64_t before = 0; before != 4; ++before) {
        for (std::uint64_t length = 2; length != 5; ++length) {
            WatchedKernel kernel;
            Ring ring = make_ring(kernel, smallest());
            for (std::uint64_t number = 0; number != before; ++number) {
                prepare_nop(ring.entry(), number);
            }
            prepare_chain(ring, 100, length);
            ASSERT_TRUE(ring.submit_and_wait(0).has_value());
            std::uint64_t cancelled = 0;
            ring.for_each_completion(
                [&](const abi::Completion& completion) { cancelled += completion.result == -ECANCELED; });
            EXPECT_EQ(cancelled, length - 1) << "with " << before << " before a chain of " << length;
        }
    }
}

TEST(RingPressure, WaitingChainIsNotCut) {
    for (std::uint64_t before = 0; before != 8; ++before) {
        ForwardingKernel kernel;
        Ring::Options options = smallest();
        options.completion_entries = 32;
        Ring ring = make_ring(kernel, options);
        kernel.fail(Call::enter, EAGAIN, 1);
        for (std::uint64_t number = 0; number != before; ++number) {
            prepare_nop(ring.entry(), number);
        }
        prepare_chain(ring, 100, 3);
        prepare_chain(ring, 200, 4);
        std::uint32_t submitted = 0;
        while (ring.pending() != 0) {
            const auto now = ring.submit_and_wait(0);
            ASSERT_TRUE(now.has_value());
            submitted += *now;
        }
        EXPECT_EQ(ring.submitted_count(), before + 7);
        std::uint64_t cancelled = 0;
        ring.for_each_completion(
            [&](const abi::Completion& completion) { cancelled += completion.result == -ECANCELED; });
        EXPECT_EQ(cancelled, 5u) << "with " << before << " before";
        EXPECT_LE(submitted, before + 7);
    }
}

TEST(RingPressure, ChainLongerThanTheQueueIsStillSubmitted) {
    Ring ring = make_ring(linux_kernel(), smallest());
    prepare_chain(ring, 0, 10);
    ASSERT_TRUE(ring.submit_and_wait(0).has_value());
    EXPECT_EQ(ring.submitted_count(), 10u);
}

TEST(RingPressure, OverflowLosesNothingAndIsCounted) {
    Ring ring = make_ring(linux_kernel(), smallest());
    ASSERT_EQ(ring.entries(), 4u);
    ASSERT_EQ(ring.completion_entries(), 8u);
    for (std::uint64_t number = 0; number != 30; ++number) {
        prepare_nop(ring.entry(), number);
    }
    ASSERT_TRUE(ring.submit().has_value());
    ASSERT_EQ(ring.pending(), 0u);
    EXPECT_TRUE(ring.overflowed());
    EXPECT_EQ(ring.ready(), 8u);
    std::vector<std::uint64_t> seen;
    std::array<abi::Completion, 3> batch{};
    while (true) {
        const std::uint32_t count = ring.copy_completions(batch);
        for (std::uint32_t index = 0; index != count; ++index) {
            seen.push_back(batch[index].user_data);
        }
        if (count == 0) {
            if (!ring.overflowed()) {
                break;
            }
            ASSERT_EQ(ring.enter(0, 0), 0);
        }
    }
    EXPECT_EQ(seen, numbers(30));
    EXPECT_GT(ring.overflow_count(), 0u);
    EXPECT_EQ(ring.dropped_completions(), 0u);
}

TEST(RingPressure, WaitingFlushesTheOverflow) {
    Ring ring = make_ring(linux_kernel(), smallest());
    for (std::uint64_t number = 0; number != 20; ++number) {
        prepare_nop(ring.entry(), number);
    }
    ASSERT_TRUE(ring.submit().has_value());
    for (std::uint64_t number = 0; number != 20; ++number) {
        const auto completion = ring.wait_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->user_data, number);
    }
    EXPECT_FALSE(ring.overflowed());
}

TEST(RingPressure, A16MultishotSurvivesACompletionQueueThatIsFarTooSmall) {
    Ring ring = make_ring(linux_kernel(), smallest());
    auto buffers = BufferRing::create(ring, {.group = 64, .count = 32, .size = 16, .incremental = false});
    ASSERT_TRUE(buffers.has_value());
    SocketPair sockets(SOCK_DGRAM);
    std::string expected;
    std::string received;
    bool armed = false;
    for (int round = 0; round != 10; ++round) {
        if (!armed) {
            prepare::receive_multishot(ring.entry(), sockets.first.number(), buffers->group(), 0);
            ASSERT_GE(ring.enter(0, 0), 0);
            armed = true;
        }
        for (int message = 0; message != 20; ++message) {
            const std::string text = std::to_string(round * 20 + message) + ";";
            ASSERT_EQ(::write(sockets.second.number(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
            expected += text;
        }
        while (received.size() != expected.size()) {
            ASSERT_GE(ring.enter(ring.ready() == 0 ? 1 : 0, 5'000'000'000), 0);
            std::array<abi::Completion, 8> batch{};
            const std::uint32_t count = ring.copy_completions(batch);
            ASSERT_NE(count, 0u) << "nothing came for 5 seconds";
            for (std::uint32_t index = 0; index != count; ++index) {
                const abi::Completion& completion = batch[index];
                if ((completion.flags & abi::completion_buffer) != 0) {
                    const BufferRing::Slice slice = buffers->take(completion);
                    received.append(reinterpret_cast<const char*>(slice.data), slice.length);
                    buffers->give_back(slice.buffer);
                }
                if ((completion.flags & abi::completion_more) == 0) {
                    armed = false;
                }
            }
            buffers->publish();
            if (!armed) {
                prepare::receive_multishot(ring.entry(), sockets.first.number(), buffers->group(), 0);
                armed = true;
            }
        }
    }
    EXPECT_EQ(received, expected);
    EXPECT_EQ(buffers->held(), 0u);
}

}  // namespace
}  // namespace ferrule
