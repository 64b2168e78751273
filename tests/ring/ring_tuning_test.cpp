#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/huge_pages.hpp>
#include <ferrule/ring/ring.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

namespace ferrule {
namespace {

using ferrule_test::Call;
using ferrule_test::ForwardingKernel;
using ferrule_test::make_ring;
using ferrule_test::prepare_nop;
using ferrule_test::SocketPair;

constexpr std::uint64_t patience_ns = 30'000'000'000;

Ring::Options polled_options(std::uint32_t entries = 8) {
    Ring::Options options;
    options.entries = entries;
    options.submission_poll_idle_ms = 20;
    return options;
}

/// All completions that so many operations have, by the order in which they came.
std::vector<std::uint64_t> take(Ring& ring, std::size_t count) {
    std::vector<std::uint64_t> taken;
    const std::uint64_t until = linux_kernel().monotonic_ns() + patience_ns;
    while (taken.size() < count && linux_kernel().monotonic_ns() < until) {
        // A timeout operation ends the wait, and a polling thread may tell of it only later.
        if (ring.ready() == 0 && ring.enter(1, patience_ns) < 0) break;
        ring.for_each_completion([&](const abi::Completion& completion) {
            EXPECT_TRUE(completion.result >= 0 || completion.result == -ETIME) << completion.result;
            taken.push_back(completion.user_data);
        });
    }
    return taken;
}

// ---- a polling thread ----

class PolledRing : public testing::Test {
protected:
    void SetUp() override {
        if (!make_ring(linux_kernel(), polled_options()).polled())
            GTEST_SKIP() << "this kernel lets nobody have a thread that takes entries";
    }
};

TEST_F(PolledRing, TakesWhatIsSubmittedInOrder) {
    Ring ring = make_ring(linux_kernel(), polled_options(8));
    EXPECT_EQ(ring.setup_flags() & abi::setup_defer_taskrun, 0u);
    std::uint64_t number = 0;
    for (int round = 0; round < 50; ++round) {
        std::vector<std::uint64_t> expected;
        for (int index = 0; index < 5; ++index) {
            expected.push_back(++number);
            prepare_nop(ring.entry(), number);
        }
        ASSERT_GE(ring.enter(0, 0), 0);
        ASSERT_EQ(take(ring, expected.size()), expected);
    }
    EXPECT_EQ(ring.submitted_count(), number);
    EXPECT_EQ(ring.pending(), 0u);
}

TEST_F(PolledRing, AFullQueueIsWaitedForAndKeepsOrder) {
    Ring ring = make_ring(linux_kernel(), polled_options(4));
    std::vector<std::uint64_t> expected;
    for (std::uint64_t number = 1; number <= 12; ++number) {
        expected.push_back(number);
        prepare_nop(ring.entry(), number);
    }
    ASSERT_GE(ring.enter(0, 0), 0);
    EXPECT_EQ(take(ring, expected.size()), expected);
    EXPECT_NE(ring.full_count(), 0u);
}

TEST_F(PolledRing, NeverCutsAChain) {
    Ring ring = make_ring(linux_kernel(), polled_options(4));
    // The first of each chain waits for bytes; what is linked behind it must not overtake it.
    SocketPair sockets;
    std::array<char, 1> data{};
    for (int round = 0; round < 20; ++round) {
        prepare_nop(ring.entry(), 1);
        prepare_nop(ring.entry(), 2);
        abi::SubmissionEntry& first = ring.entry();
        prepare::receive(first, sockets.first.number(), data.data(), data.size(), 0);
        first.flags |= abi::entry_link;
        first.user_data = 3;
        abi::SubmissionEntry& second = ring.entry();
        prepare::nop(second);
        second.flags |= abi::entry_link;
        second.user_data = 4;
        prepare_nop(ring.entry(), 5);
        ASSERT_GE(ring.enter(0, 0), 0);
        ASSERT_EQ(take(ring, 2), (std::vector<std::uint64_t>{1, 2}));
        ASSERT_EQ(::write(sockets.second.number(), "x", 1), 1);
        ASSERT_EQ(take(ring, 3), (std::vector<std::uint64_t>{3, 4, 5}));
    }
}

TEST_F(PolledRing, SkippedEntriesAreNotTaken) {
    Ring ring = make_ring(linux_kernel(), polled_options(8));
    prepare_nop(ring.entry(), 1);
    abi::SubmissionEntry& dropped = ring.entry();
    prepare_nop(dropped, 2);
    prepare_nop(ring.entry(), 3);
    ring.skip(dropped);
    abi::SubmissionEntry& last = ring.entry();
    prepare_nop(last, 4);
    ring.skip(last);
    ASSERT_GE(ring.enter(0, 0), 0);
    EXPECT_EQ(take(ring, 2), (std::vector<std::uint64_t>{1, 3}));
    EXPECT_EQ(ring.pending(), 0u);
}

TEST_F(PolledRing, IsWokenWhenItSleeps) {
    Ring::Options options = polled_options(8);
    options.submission_poll_idle_ms = 1;
    Ring ring = make_ring(linux_kernel(), options);
    // Each wait is longer than the thread stays awake, by the completion of a timeout.
    for (std::uint64_t number = 1; number <= 3; ++number) {
        abi::Timespec time{0, 20'000'000};
        prepare::timeout(ring.entry(), &time, 0, 0);
        EXPECT_EQ(take(ring, 1), std::vector<std::uint64_t>{0});
        prepare_nop(ring.entry(), number);
        ASSERT_GE(ring.enter(0, 0), 0);
        EXPECT_EQ(take(ring, 1), std::vector<std::uint64_t>{number});
    }
}

TEST_F(PolledRing, OverflownCompletionsAreFetched) {
    Ring::Options options = polled_options(8);
    options.completion_entries = 8;
    Ring ring = make_ring(linux_kernel(), options);
    std::vector<std::uint64_t> expected;
    for (std::uint64_t number = 1; number <= 24; ++number) {
        expected.push_back(number);
        prepare_nop(ring.entry(), number);
        if (number % 8 == 0) {
            ASSERT_GE(ring.submit().value_or(99), 0u);
        }
    }
    EXPECT_EQ(take(ring, expected.size()), expected);
}

TEST(RingTuning, AnAbsentCpuOfThePollingThreadIsNamed) {
    Ring::Options options = polled_options();
    if (!make_ring(linux_kernel(), options).polled()) GTEST_SKIP() << "no thread that takes entries can be had here";
    options.submission_poll_cpu = 8000;
    const auto refused = Ring::create(linux_kernel(), options);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, std::errc::invalid_argument);
    EXPECT_NE(refused.error().message.find("CPU 8000"), std::string::npos) << refused.error().message;
}

/// Knows no polling thread.
class UnpolledKernel final : public ForwardingKernel {
public:
    explicit UnpolledKernel(int error) : error_(error) {}
    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        if ((parameters->flags & abi::setup_submission_poll) != 0) return -error_;
        return ForwardingKernel::io_uring_setup(entries, parameters);
    }

private:
    int error_;
};

TEST(RingTuning, WhereNoThreadPollsTheRingIsAsWithout) {
    for (const int error : {EINVAL, EPERM, EACCES}) {
        UnpolledKernel kernel{error};
        Ring::Options options = polled_options();
        options.submission_poll_cpu = 0;
        Ring ring = make_ring(kernel, options);
        EXPECT_FALSE(ring.polled());
        EXPECT_NE(ring.setup_flags() & abi::setup_defer_taskrun, 0u);
        prepare_nop(ring.entry(), 1);
        ASSERT_GE(ring.enter(1, patience_ns), 0);
        EXPECT_EQ(take(ring, 1), std::vector<std::uint64_t>{1});
    }
}

// ---- queues that grow ----

class ResizedRing : public testing::Test {
protected:
    void SetUp() override {
        if (!ferrule_test::capabilities().resize_rings) GTEST_SKIP() << "this kernel cannot resize queues";
    }
};

TEST_F(ResizedRing, KeepsWhatIsInThem) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 1; number <= 8; ++number) prepare_nop(ring.entry(), number);
    ASSERT_EQ(ring.enter(0, 0), 8);
    ASSERT_EQ(ring.ready(), 8u);
    ring.for_each_completion([](const abi::Completion&) {});
    for (std::uint64_t number = 9; number <= 16; ++number) prepare_nop(ring.entry(), number);
    ASSERT_EQ(ring.enter(0, 0), 8);
    const auto resized = ring.resize(32, 128);
    ASSERT_TRUE(resized) << resized.error().message();
    EXPECT_EQ(ring.entries(), 32u);
    EXPECT_EQ(ring.completion_entries(), 128u);
    EXPECT_EQ(ring.available(), 32u);
    EXPECT_EQ(take(ring, 8), (std::vector<std::uint64_t>{9, 10, 11, 12, 13, 14, 15, 16}));
    for (std::uint64_t number = 17; number <= 48; ++number) prepare_nop(ring.entry(), number);
    EXPECT_EQ(ring.enter(32, patience_ns), 32);
    EXPECT_EQ(take(ring, 32).size(), 32u);
    EXPECT_EQ(ring.full_count(), 0u);
}

TEST_F(ResizedRing, GrowsAgainAndAgain) {
    Ring ring = make_ring(4);
    std::uint64_t number = 0;
    for (std::uint32_t size = 4; size <= 64; size *= 2) {
        ASSERT_TRUE(ring.resize(size, size * 4));
        for (int round = 0; round < 3; ++round) {
            std::vector<std::uint64_t> expected;
            for (std::uint32_t index = 0; index < size - 1; ++index) {
                expected.push_back(++number);
                prepare_nop(ring.entry(), number);
            }
            ASSERT_EQ(ring.enter(1, patience_ns), static_cast<int>(size - 1));
            ASSERT_EQ(take(ring, expected.size()), expected);
        }
    }
}

TEST_F(ResizedRing, NotWithAnIndexArray) {
    Ring::Options options;
    options.entries = 4;
    options.no_sqarray = false;
    Ring ring = make_ring(linux_kernel(), options);
    EXPECT_EQ(ring.resize(8, 32).error(), std::errc::invalid_argument);
    prepare_nop(ring.entry(), 1);
    ASSERT_EQ(ring.enter(1, patience_ns), 1);
    EXPECT_EQ(take(ring, 1), std::vector<std::uint64_t>{1});
}

TEST_F(ResizedRing, RefusesWhatIsNotSubmittedOrHasNoRoom) {
    Ring ring = make_ring(8);
    prepare_nop(ring.entry(), 1);
    EXPECT_EQ(ring.resize(16, 64).error(), std::errc::device_or_resource_busy);
    ASSERT_EQ(ring.enter(0, 0), 1);
    for (std::uint64_t number = 2; number <= 8; ++number) prepare_nop(ring.entry(), number);
    ASSERT_EQ(ring.enter(0, 0), 7);
    EXPECT_EQ(ring.resize(4, 4).error(), std::errc::value_too_large);
    EXPECT_EQ(ring.entries(), 8u);
    EXPECT_EQ(take(ring, 8).size(), 8u);
}

TEST_F(ResizedRing, ArmedOperationsGoOn) {
    Ring ring = make_ring(8);
    SocketPair sockets;
    std::array<char, 8> data{};
    prepare::receive(ring.entry(), sockets.first.number(), data.data(), data.size(), 0);
    ASSERT_EQ(ring.enter(0, 0), 1);
    ASSERT_TRUE(ring.resize(16, 64));
    ASSERT_EQ(::write(sockets.second.number(), "x", 1), 1);
    EXPECT_EQ(take(ring, 1).size(), 1u);
}

TEST(RingTuning, NewQueuesThatCannotBeMappedAreAnErrorOfTheirOwn) {
    if (!ferrule_test::capabilities().resize_rings) GTEST_SKIP() << "this kernel cannot resize queues";
    for (const Call call : {Call::map, Call::advise}) {
        for (std::uint64_t skipped = 0; skipped < 2; ++skipped) {
            ForwardingKernel kernel;
            Ring::Options options;
            options.entries = 8;
            Ring ring = make_ring(kernel, options);
            kernel.fail(call, ENOMEM, 1, skipped);
            EXPECT_EQ(ring.resize(16, 64).error(), std::error_code(ENOLINK, std::system_category()));
            EXPECT_EQ(ring.ready(), 0u);
            // It is closed and unmapped like any other.
        }
    }
}

// ---- registrations ----

TEST(RingTuning, WorkersAreBounded) {
    Ring ring = make_ring(8);
    const auto limited = ring.limit_workers(1, 2);
    ASSERT_TRUE(limited) << limited.error().message();
    std::array<std::uint32_t, 2> former{};
    ASSERT_TRUE(ring.register_raw(abi::register_workers_max, former.data(), 2));
    EXPECT_EQ(former, (std::array<std::uint32_t, 2>{1, 2}));
}

TEST(RingTuning, BusyPollingIsRegisteredOrRefused) {
    Ring ring = make_ring(8);
    const auto polls = ring.register_busy_poll(50, true);
    if (!polls) {
        EXPECT_TRUE(polls.error() == std::errc::invalid_argument || polls.error() == std::errc::operation_not_supported)
            << polls.error().message();
        GTEST_SKIP() << "this kernel does not poll network cards: " << polls.error().message();
    }
    abi::NapiRegistration former{};
    ASSERT_TRUE(ring.register_raw(abi::unregister_napi, &former, 1));
    EXPECT_EQ(former.busy_poll_to, 50u);
    EXPECT_EQ(former.prefer_busy_poll, 1u);
}

TEST(RingTuning, WaitsForOneGatherNothing) {
    Ring::Options options;
    options.entries = 8;
    options.min_wait_us = 3'600'000'000u;
    Ring ring = make_ring(linux_kernel(), options);
    if (!ring.gathers()) GTEST_SKIP() << "this kernel has no minimum wait";
    prepare_nop(ring.entry(), 1);
    // An hour passes by if it does.
    ASSERT_GE(ring.enter(1, Ring::no_timeout), 0);
    EXPECT_EQ(take(ring, 1).size(), 1u);
    // As many as asked for end it, too.
    prepare_nop(ring.entry(), 2);
    prepare_nop(ring.entry(), 3);
    ASSERT_GE(ring.enter(2, Ring::no_timeout), 0);
    EXPECT_EQ(take(ring, 2).size(), 2u);
}

// ---- pages ----

TEST(RingTuning, LargeMemoryLiesOnHugePagesWhereThereAreSome) {
    for (const HugePages pages : {HugePages::off, HugePages::transparent, HugePages::reserved}) {
        int error = 0;
        const LargeMapping mapping = map_large(linux_kernel(), 3u << 20, pages, &error);
        ASSERT_NE(mapping.memory, nullptr) << std::strerror(error);
        if (pages == HugePages::off) {
            EXPECT_EQ(mapping.pages, HugePages::off);
            EXPECT_EQ(mapping.size, 3u << 20);
        } else {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping.memory) % huge_page_bytes, 0u);
        }
        std::memset(mapping.memory, 1, 3u << 20);
        EXPECT_EQ(linux_kernel().unmap(mapping.base, mapping.size), 0);
    }
}

/// A system without huge pages.
class SmallPages final : public ForwardingKernel {
public:
    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        if ((flags & MAP_HUGETLB) != 0) {
            *error = ENOMEM;
            return nullptr;
        }
        return ForwardingKernel::map(length, protection, flags, fd, offset, error);
    }
    int advise(void* address, std::size_t length, int advice) noexcept override {
        return advice == MADV_HUGEPAGE ? -EINVAL : ForwardingKernel::advise(address, length, advice);
    }
};

TEST(RingTuning, WhereThereAreNoneSmallOnesDo) {
    SmallPages kernel;
    Ring::Options options;
    options.entries = 8;
    Ring ring = make_ring(kernel, options);
    auto buffers = BufferRing::create(ring, {.count = 1024, .size = 2048, .huge_pages = HugePages::reserved});
    ASSERT_TRUE(buffers) << buffers.error().message;
    EXPECT_EQ(buffers->huge_pages(), HugePages::off);
    SocketPair sockets;
    prepare::receive_select(ring.entry(), sockets.first.number(), buffers->group(), 0, 0);
    ASSERT_EQ(::write(sockets.second.number(), "x", 1), 1);
    ASSERT_GE(ring.enter(1, patience_ns), 0);
    const auto completion = ring.try_completion();
    ASSERT_TRUE(completion && completion->result == 1);
    const BufferRing::Slice slice = buffers->take(*completion);
    EXPECT_EQ(*slice.data, std::byte{'x'});
    buffers->give_back(slice.buffer);
}

TEST(RingTuning, SmallMemoryIsLeftAlone) {
    int error = 0;
    const LargeMapping mapping = map_large(linux_kernel(), 8192, HugePages::reserved, &error);
    ASSERT_NE(mapping.memory, nullptr);
    EXPECT_EQ(mapping.size, 8192u);
    EXPECT_EQ(mapping.pages, HugePages::off);
    EXPECT_EQ(linux_kernel().unmap(mapping.base, mapping.size), 0);
}

}  // namespace
}  // namespace ferrule
