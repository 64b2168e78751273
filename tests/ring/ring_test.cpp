#include <ferrule/ring/ring.hpp>

#include "support/ring_fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <thread>
#include <vector>

namespace ferrule {
namespace {

using ferrule_test::make_ring;
using ferrule_test::prepare_nop;
using ferrule_test::SocketPair;

Ring::Options stopping_at_bad_entries(std::uint32_t entries) {
    Ring::Options options;
    options.entries = entries;
    options.submit_all = false;
    return options;
}

// No kernel has this operation.
constexpr auto invalid_operation = static_cast<abi::Operation>(99);

void take_and_expect(Ring& ring, std::uint64_t user_data, std::int32_t result = 0) {
    const auto completion = ring.try_completion();
    ASSERT_TRUE(completion.has_value()) << "waiting for " << user_data;
    EXPECT_EQ(completion->user_data, user_data);
    EXPECT_EQ(completion->result, result);
}

/// Takes the completions of an entry 1 that ran and an entry 2 that was bad: Linux 6.1 posts the bad one first.
void take_good_and_bad(Ring& ring) {
    for (int number = 0; number != 2; ++number) {
        const auto completion = ring.try_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->result, completion->user_data == 1 ? 0 : -EINVAL) << completion->user_data;
    }
}

TEST(Ring, W1FreshRingHasItsSizesAndRunsOneNop) {
    Ring::Options options;
    options.entries = 8;
    options.completion_entries = 16;
    Ring ring = make_ring(linux_kernel(), options);
    EXPECT_EQ(ring.entries(), 8u);
    EXPECT_EQ(ring.completion_entries(), 16u);
    EXPECT_EQ(ring.pending(), 0u);
    EXPECT_EQ(ring.available(), 8u);
    EXPECT_EQ(ring.setup_flags() & (abi::setup_io_poll | abi::setup_submission_poll), 0u);

    prepare_nop(ring.entry(), 123);
    EXPECT_EQ(ring.pending(), 1u);
    EXPECT_EQ(ring.available(), 7u);
    EXPECT_EQ(ring.submit(), 1u);
    EXPECT_EQ(ring.pending(), 0u);
    EXPECT_EQ(ring.available(), 8u);
    take_and_expect(ring, 123);
}

TEST(Ring, W2EightNopsCompleteInOrder) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 0; number != 8; ++number) {
        prepare_nop(ring.entry(), number);
    }
    EXPECT_EQ(ring.submit(), 8u);
    for (std::uint64_t number = 0; number != 8; ++number) {
        take_and_expect(ring, number);
    }
}

TEST(Ring, W3PrepareSubmitTakeEightTimes) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 0; number != 8; ++number) {
        prepare_nop(ring.entry(), number);
        EXPECT_EQ(ring.submit(), 1u);
        take_and_expect(ring, number);
    }
    EXPECT_FALSE(ring.try_completion().has_value());
}

TEST(Ring, W4BlockingWaitsReturnInOrder) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 0; number != 8; ++number) {
        prepare_nop(ring.entry(), number);
    }
    EXPECT_EQ(ring.submit(), 8u);
    for (std::uint64_t number = 0; number != 8; ++number) {
        const auto completion = ring.wait_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->user_data, number);
    }
}

TEST(Ring, W4WaitBlocksUntilAnotherThreadMakesItReady) {
    Ring ring = make_ring(8);
    SocketPair sockets;
    std::array<char, 8> data{};
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive(entry, sockets.first.number(), data.data(), data.size(), 0);
    entry.user_data = 5;
    ASSERT_EQ(ring.submit(), 1u);
    ASSERT_EQ(ring.ready(), 0u);
    const std::jthread writer([&] { EXPECT_EQ(::write(sockets.second.number(), "wake", 4), 4); });
    const auto completion = ring.wait_completion();
    ASSERT_TRUE(completion.has_value());
    EXPECT_EQ(completion->result, 4);
}

TEST(Ring, W5OneThreadSubmitsAnotherReads) {
    Ring::Options options;
    options.entries = 16;
    options.completion_entries = 2048;
    options.single_issuer = false;
    options.defer_taskrun = false;
    Ring ring = make_ring(linux_kernel(), options);
    constexpr std::uint64_t total = 1024;
    constexpr std::uint64_t batch = 15;
    const std::jthread submitter([&] {
        for (std::uint64_t next = 0; next != total;) {
            for (std::uint64_t in_batch = 0; in_batch != batch && next != total; ++in_batch, ++next) {
                prepare_nop(ring.entry(), next);
            }
            ASSERT_TRUE(ring.submit().has_value());
        }
    });
    for (std::uint64_t number = 0; number != total; ++number) {
        const auto completion = ring.wait_completion();
        ASSERT_TRUE(completion.has_value());
        ASSERT_EQ(completion->user_data, number);
    }
}

TEST(Ring, W6FullQueueRefusesTryEntryAndFlushesEntry) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 0; number != 8; ++number) {
        prepare_nop(ring.entry(), number);
    }
    EXPECT_EQ(ring.try_entry(), nullptr);
    EXPECT_EQ(ring.available(), 0u);
    EXPECT_EQ(ring.submitted_count(), 0u);
    prepare_nop(ring.entry(), 8);
    EXPECT_EQ(ring.submitted_count(), 8u);
    EXPECT_EQ(ring.pending(), 1u);
    EXPECT_EQ(ring.submit(), 1u);
    for (std::uint64_t number = 0; number != 9; ++number) {
        take_and_expect(ring, number);
    }
}

TEST(Ring, W7InvalidEntryStopsTheBatchWithoutSubmitAll) {
    Ring ring = make_ring(linux_kernel(), stopping_at_bad_entries(8));
    prepare_nop(ring.entry(), 1);
    abi::SubmissionEntry& bad = ring.entry();
    bad.opcode = invalid_operation;
    bad.user_data = 2;
    prepare_nop(ring.entry(), 3);
    EXPECT_EQ(ring.submit_and_wait(3), 2u);
    take_good_and_bad(ring);
    EXPECT_FALSE(ring.try_completion().has_value());

    EXPECT_EQ(ring.available(), 7u);
    for (std::uint64_t number = 4; number != 11; ++number) {
        abi::SubmissionEntry* const entry = ring.try_entry();
        ASSERT_NE(entry, nullptr);
        prepare_nop(*entry, number);
    }
    EXPECT_EQ(ring.try_entry(), nullptr);
    EXPECT_EQ(ring.submit(), 8u);
    for (std::uint64_t number = 3; number != 11; ++number) {
        take_and_expect(ring, number);
    }
    EXPECT_EQ(ring.dropped_entries(), 0u);
}

TEST(Ring, W7SubmitAllPassesOverAnInvalidEntry) {
    Ring ring = make_ring(8);
    prepare_nop(ring.entry(), 1);
    abi::SubmissionEntry& bad = ring.entry();
    bad.opcode = invalid_operation;
    bad.user_data = 2;
    prepare_nop(ring.entry(), 3);
    EXPECT_EQ(ring.submit_and_wait(3), 3u);
    take_good_and_bad(ring);
    take_and_expect(ring, 3);
    EXPECT_EQ(ring.dropped_entries(), 0u);
}

TEST(Ring, W8ReservedEntryPreparedLaterExecutesFirst) {
    Ring ring = make_ring(8);
    abi::SubmissionEntry& reserved = ring.entry();
    prepare_nop(ring.entry(), 2);
    prepare_nop(reserved, 1);
    EXPECT_EQ(ring.submit(), 2u);
    take_and_expect(ring, 1);
    take_and_expect(ring, 2);
}

void run_four_nops(Ring& ring) {
    for (std::uint64_t number = 10; number != 14; ++number) {
        prepare_nop(ring.entry(), number);
    }
    ASSERT_EQ(ring.submit_and_wait(4), 4u);
    for (std::uint64_t number = 10; number != 14; ++number) {
        take_and_expect(ring, number);
    }
}

TEST(Ring, W9SkippedEntryIsDroppedAndTheRestRuns) {
    Ring ring = make_ring(4);
    run_four_nops(ring);
    abi::SubmissionEntry& reserved = ring.entry();
    prepare_nop(ring.entry(), 2);
    ring.skip(reserved);
    EXPECT_EQ(ring.pending(), 1u);
    EXPECT_EQ(ring.submit(), 1u);
    take_and_expect(ring, 2);
    EXPECT_FALSE(ring.try_completion().has_value());
    EXPECT_EQ(ring.pending(), 0u);
    EXPECT_EQ(ring.available(), 4u);
    run_four_nops(ring);
}

TEST(Ring, W9SkippingInTheMiddleKeepsTheOrder) {
    Ring ring = make_ring(8);
    std::array<abi::SubmissionEntry*, 8> entries{};
    for (std::uint64_t number = 0; number != 8; ++number) {
        entries[number] = &ring.entry();
        prepare_nop(*entries[number], number);
    }
    ring.skip(*entries[0]);
    ring.skip(*entries[3]);
    ring.skip(*entries[7]);
    EXPECT_EQ(ring.pending(), 5u);
    EXPECT_EQ(ring.submit(), 5u);
    for (const std::uint64_t number : {1, 2, 4, 5, 6}) {
        take_and_expect(ring, number);
    }
    EXPECT_FALSE(ring.try_completion().has_value());
}

TEST(Ring, W10SkippingTheOnlyEntrySubmitsNothing) {
    Ring ring = make_ring(8);
    ring.skip(ring.entry());
    EXPECT_EQ(ring.submit(), 0u);
    EXPECT_EQ(ring.pending(), 0u);
    EXPECT_EQ(ring.available(), 8u);
}

TEST(Ring, W10SkippingAllSubmitsNothing) {
    Ring ring = make_ring(8);
    abi::SubmissionEntry& first = ring.entry();
    abi::SubmissionEntry& second = ring.entry();
    ring.skip(first);
    ring.skip(second);
    EXPECT_EQ(ring.submit(), 0u);
    EXPECT_EQ(ring.pending(), 0u);
    EXPECT_EQ(ring.available(), 8u);
    EXPECT_EQ(ring.enter_count(), 0u);
}

TEST(Ring, W11EnumeratingYieldsAllAndFreesTheirPlaces) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 1; number != 4; ++number) {
        prepare_nop(ring.entry(), number);
    }
    ASSERT_EQ(ring.submit(), 3u);
    std::vector<std::uint64_t> seen;
    EXPECT_EQ(
        ring.for_each_completion([&](const abi::Completion& completion) { seen.push_back(completion.user_data); }), 3u);
    EXPECT_EQ(seen, (std::vector<std::uint64_t>{1, 2, 3}));
    EXPECT_EQ(ring.ready(), 0u);
    EXPECT_EQ(ring.for_each_completion([](const abi::Completion&) { FAIL(); }), 0u);
}

TEST(Ring, W13RingsShareWorkersAndKeepTheirSizes) {
    Ring first = make_ring(8);
    Ring::Options options;
    options.entries = 8;
    options.completion_entries = 64;
    options.share_workers_with = first.descriptor();
    Ring second = make_ring(linux_kernel(), options);
    EXPECT_EQ(second.completion_entries(), 64u);
    EXPECT_NE(second.setup_flags() & abi::setup_attach_work_queue, 0u);
    abi::SubmissionEntry& entry = second.entry();
    prepare_nop(entry, 7);
    entry.flags |= abi::entry_async;
    ASSERT_EQ(second.submit_and_wait(1), 1u);
    take_and_expect(second, 7);
}

TEST(Ring, W14TimeoutAppearsWithoutAnExplicitEnter) {
    Ring ring = make_ring(8);
    // Shorter than the second of the case: what is shown is that try_completion enters when work is flagged.
    const abi::Timespec time{0, 20'000'000};
    abi::SubmissionEntry& entry = ring.entry();
    prepare::timeout(entry, &time, 0, 0);
    entry.user_data = 14;
    ASSERT_EQ(ring.submit(), 1u);
    EXPECT_EQ(ring.ready(), 0u);
    auto completion = ring.try_completion();
    for (const std::uint64_t end = linux_kernel().monotonic_ns() + 10'000'000'000;
         !completion && linux_kernel().monotonic_ns() < end; completion = ring.try_completion()) {
        std::this_thread::yield();
    }
    ASSERT_TRUE(completion.has_value());
    EXPECT_EQ(completion->result, -ETIME);
    EXPECT_EQ(completion->user_data, 14u);
}

TEST(Ring, W15TimeoutByCountCompletesAfterTheNop) {
    Ring ring = make_ring(8);
    const abi::Timespec time{10, 0};
    abi::SubmissionEntry& entry = ring.entry();
    prepare::timeout(entry, &time, 1, 0);
    entry.user_data = 1;
    prepare_nop(ring.entry(), 2);
    ASSERT_EQ(ring.submit(), 2u);
    for (const std::uint64_t number : {2, 1}) {
        const auto completion = ring.wait_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->user_data, number);
        EXPECT_EQ(completion->result, 0);
    }
}

TEST(Ring, C3ChainOfTwoSubmittedOneByOneRunsBoth) {
    Ring ring = make_ring(8);
    abi::SubmissionEntry& first = ring.entry();
    prepare_nop(first, 1);
    first.flags |= abi::entry_link;
    EXPECT_EQ(ring.submit_and_wait(1), 1u);
    take_and_expect(ring, 1);
    prepare_nop(ring.entry(), 2);
    EXPECT_EQ(ring.submit_and_wait(1), 1u);
    take_and_expect(ring, 2);
}

TEST(Ring, C4InvalidEntryAmongFour) {
    Ring ring = make_ring(linux_kernel(), stopping_at_bad_entries(8));
    prepare_nop(ring.entry(), 1);
    abi::SubmissionEntry& bad = ring.entry();
    bad.opcode = invalid_operation;
    bad.user_data = 2;
    prepare_nop(ring.entry(), 3);
    prepare_nop(ring.entry(), 4);
    EXPECT_EQ(ring.submit_and_wait(4), 2u);
    take_good_and_bad(ring);
    for (std::uint64_t number = 5; number != 11; ++number) {
        abi::SubmissionEntry* const entry = ring.try_entry();
        ASSERT_NE(entry, nullptr);
        prepare_nop(*entry, number);
    }
    EXPECT_EQ(ring.try_entry(), nullptr);
    EXPECT_EQ(ring.submit(), 8u);
    for (std::uint64_t number = 3; number != 11; ++number) {
        take_and_expect(ring, number);
    }
}

TEST(Ring, EntriesAreZeroedEachTime) {
    Ring ring = make_ring(2);
    for (int round = 0; round != 4; ++round) {
        abi::SubmissionEntry& entry = ring.entry();
        EXPECT_EQ(entry.user_data, 0u);
        EXPECT_EQ(entry.flags, 0u);
        EXPECT_EQ(entry.addr3, 0u);
        prepare_nop(entry, 77);
        entry.flags = abi::entry_async;
        entry.addr3 = 0;
        ASSERT_EQ(ring.submit_and_wait(1), 1u);
        ASSERT_TRUE(ring.wait_completion().has_value());
    }
}

TEST(Ring, SequenceTellsWhenAnEntryIsConsumed) {
    Ring ring = make_ring(4);
    const std::uint32_t first = ring.next_sequence();
    prepare_nop(ring.entry(), 1);
    const std::uint32_t second = ring.next_sequence();
    EXPECT_EQ(second, first + 1);
    EXPECT_FALSE(ring.consumed(first));
    ASSERT_EQ(ring.submit(), 1u);
    EXPECT_TRUE(ring.consumed(first));
    EXPECT_FALSE(ring.consumed(second));
    prepare_nop(ring.entry(), 2);
    EXPECT_FALSE(ring.consumed(second));
    ASSERT_EQ(ring.submit(), 1u);
    EXPECT_TRUE(ring.consumed(second));
}

TEST(Ring, CopyingWrapsAroundTheQueueAndTakesWhatFits) {
    Ring::Options options;
    options.entries = 4;
    options.completion_entries = 8;
    Ring ring = make_ring(linux_kernel(), options);
    std::array<abi::Completion, 5> copied{};
    std::uint64_t submitted = 0;
    std::uint64_t taken = 0;
    for (int round = 0; round != 40; ++round) {
        for (int number = 0; number != 3; ++number) {
            prepare_nop(ring.entry(), submitted++);
        }
        ASSERT_EQ(ring.submit(), 3u);
        ASSERT_EQ(ring.ready(), 3u);
        const std::uint32_t count =
            ring.copy_completions(std::span(copied).first(2)) + ring.copy_completions(std::span(copied).subspan(2));
        ASSERT_EQ(count, 3u);
        for (std::uint32_t index = 0; index != count; ++index) {
            ASSERT_EQ(copied[index].user_data, taken++);
        }
    }
    EXPECT_EQ(ring.copy_completions(copied), 0u);
    EXPECT_EQ(ring.copy_completions({}), 0u);
}

TEST(Ring, EnterMakesNoSystemCallWhenThereIsNothingToDo) {
    Ring ring = make_ring(8);
    EXPECT_EQ(ring.enter(0, 0), 0);
    EXPECT_EQ(ring.enter(1, 0), 0);
    EXPECT_EQ(ring.enter(0, Ring::no_timeout), 0);
    EXPECT_EQ(ring.enter_count(), 0u);
    EXPECT_EQ(ring.submit(), 0u);
    EXPECT_EQ(ring.enter_count(), 0u);
}

TEST(Ring, EnterSubmitsAllAndWaits) {
    Ring ring = make_ring(8);
    for (std::uint64_t number = 0; number != 5; ++number) {
        prepare_nop(ring.entry(), number);
    }
    EXPECT_EQ(ring.enter(5, Ring::no_timeout), 5);
    EXPECT_EQ(ring.ready(), 5u);
    EXPECT_EQ(ring.enter_count(), 1u);
}

TEST(Ring, EnterTimeoutIsNoError) {
    Ring ring = make_ring(8);
    const std::uint64_t before = linux_kernel().monotonic_ns();
    EXPECT_EQ(ring.enter(1, 5'000'000), 0);
    EXPECT_GE(linux_kernel().monotonic_ns() - before, 5'000'000u);
    EXPECT_EQ(ring.ready(), 0u);
}

TEST(Ring, EnterWaitsThroughTheMinimumWaitOption) {
    Ring::Options options;
    options.entries = 8;
    options.min_wait_us = 1000;
    Ring ring = make_ring(linux_kernel(), options);
    prepare_nop(ring.entry(), 1);
    EXPECT_EQ(ring.enter(1, Ring::no_timeout), 1);
    EXPECT_EQ(ring.ready(), 1u);
    EXPECT_EQ(ring.enter(2, 2'000'000), 0);
}

TEST(Ring, EnterRunsDeferredWork) {
    Ring ring = make_ring(8);
    SocketPair sockets;
    std::array<char, 8> data{};
    prepare::receive(ring.entry(), sockets.first.number(), data.data(), data.size(), 0);
    ASSERT_EQ(ring.enter(0, 0), 1);
    ASSERT_EQ(ring.ready(), 0u);
    ASSERT_EQ(::write(sockets.second.number(), "x", 1), 1);
    EXPECT_TRUE(ring.task_work_pending());
    EXPECT_EQ(ring.ready(), 0u);
    EXPECT_EQ(ring.enter(0, 0), 0);
    EXPECT_EQ(ring.ready(), 1u);
    EXPECT_FALSE(ring.task_work_pending());
}

TEST(Ring, WrongThreadIsTold) {
    Ring ring = make_ring(8);
    prepare_nop(ring.entry(), 1);
    std::error_code error;
    int entered = 0;
    std::jthread([&] {
        // The registered descriptor belongs to the other thread as well; without it the kernel sees whose ring this is.
        const int result = linux_kernel().io_uring_enter(ring.descriptor(), 1, 0, 0, nullptr, 0);
        error = system_error(-result);
        entered = ring.enter(1, Ring::no_timeout);
    }).join();
    EXPECT_EQ(error, std::errc::file_exists);
    EXPECT_LT(entered, 0);
    EXPECT_EQ(ring.submit(), 1u);
    take_and_expect(ring, 1);
}

TEST(Ring, WrongThreadIsToldWithoutRegisteredDescriptor) {
    Ring::Options options;
    options.entries = 8;
    options.register_ring_descriptor = false;
    Ring ring = make_ring(linux_kernel(), options);
    EXPECT_FALSE(ring.uses_registered_descriptor());
    prepare_nop(ring.entry(), 1);
    std::jthread([&] { EXPECT_EQ(ring.enter(1, Ring::no_timeout), -EEXIST); }).join();
    EXPECT_EQ(ring.enter(1, Ring::no_timeout), 1);
}

TEST(Ring, StartsDisabledAndIsOwnedByTheThreadThatEnablesIt) {
    Ring::Options options;
    options.entries = 8;
    options.start_disabled = true;
    Ring ring = make_ring(linux_kernel(), options);
    prepare_nop(ring.entry(), 1);
    EXPECT_EQ(ring.submit().error(), std::error_code(EBADFD, std::system_category()));
    std::jthread([&] {
        ASSERT_TRUE(ring.enable().has_value());
        EXPECT_TRUE(ring.uses_registered_descriptor());
        EXPECT_EQ(ring.enter(1, Ring::no_timeout), 1);
        EXPECT_EQ(ring.ready(), 1u);
        EXPECT_EQ(ring.enable().error(), std::error_code(EBADFD, std::system_category()));
    }).join();
}

TEST(Ring, MovesAndKeepsItsState) {
    Ring first = make_ring(4);
    prepare_nop(first.entry(), 1);
    Ring second = std::move(first);
    EXPECT_EQ(second.pending(), 1u);
    EXPECT_EQ(second.submit(), 1u);
    first = make_ring(8);
    first = std::move(second);
    take_and_expect(first, 1);
    EXPECT_EQ(first.entries(), 4u);
}

TEST(Ring, DescriptorIsClosedWithTheRingAndOnExec) {
    int number = -1;
    {
        Ring ring = make_ring(4);
        number = ring.descriptor();
        EXPECT_NE(::fcntl(number, F_GETFD) & FD_CLOEXEC, 0);
    }
    EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(Ring, ManyRingsInARowLeaveNoRegistrationBehind) {
    // A thread can register 16 ring descriptors; a ring that left its own behind would be found out here.
    for (int round = 0; round != 40; ++round) {
        Ring ring = make_ring(4);
        ASSERT_TRUE(ring.uses_registered_descriptor());
    }
}

TEST(Ring, ForkedChildHasNoQueues) {
    Ring ring = make_ring(4);
    abi::SubmissionEntry& entry = ring.entry();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        // The pages are not there: an address that is not mapped is no argument to write from.
        std::array<int, 2> ends{};
        const bool gone = ::pipe(ends.data()) == 0 && ::write(ends[1], &entry, 1) < 0 && errno == EFAULT;
        ::_exit(gone ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    prepare_nop(entry, 3);
    EXPECT_EQ(ring.submit(), 1u);
    take_and_expect(ring, 3);
}

TEST(Ring, LinksHardLinksAndSkipSuccessWork) {
    Ring ring = make_ring(8);
    abi::SubmissionEntry& bad = ring.entry();
    bad.opcode = invalid_operation;
    bad.user_data = 1;
    bad.flags |= abi::entry_link;
    prepare_nop(ring.entry(), 2);
    ASSERT_EQ(ring.submit_and_wait(2), 2u);
    take_and_expect(ring, 1, -EINVAL);
    take_and_expect(ring, 2, -ECANCELED);

    abi::SubmissionEntry& read = ring.entry();
    char byte = 0;
    prepare::read(read, -1, &byte, 1, 0);
    read.user_data = 3;
    read.flags |= abi::entry_hard_link;
    prepare_nop(ring.entry(), 4);
    ASSERT_EQ(ring.submit_and_wait(2), 2u);
    take_and_expect(ring, 3, -EBADF);
    take_and_expect(ring, 4);

    abi::SubmissionEntry& silent = ring.entry();
    prepare_nop(silent, 5);
    silent.flags |= abi::entry_completion_skip_success;
    abi::SubmissionEntry& last = ring.entry();
    prepare_nop(last, 6);
    ASSERT_EQ(ring.submit_and_wait(1), 2u);
    take_and_expect(ring, 6);
    EXPECT_FALSE(ring.try_completion().has_value());
}

TEST(Ring, DrainedEntryWaitsForThoseBeforeIt) {
    // A ring of its own: an entry that skipped its completion forbids draining from then on.
    Ring ring = make_ring(8);
    const abi::Timespec time{0, 1'000'000};
    abi::SubmissionEntry& first = ring.entry();
    prepare::timeout(first, &time, 0, 0);
    first.user_data = 7;
    abi::SubmissionEntry& drained = ring.entry();
    prepare_nop(drained, 8);
    drained.flags |= abi::entry_drain;
    ASSERT_EQ(ring.submit(), 2u);
    // A timeout operation ends a wait for more, so each is waited for by itself.
    for (const std::uint64_t number : {7, 8}) {
        const auto completion = ring.wait_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->user_data, number);
    }
}

TEST(Ring, LinkTimeoutEndsWhatItIsLinkedTo) {
    Ring ring = make_ring(8);
    SocketPair sockets;
    std::array<char, 8> data{};
    const abi::Timespec time{0, 1'000'000};
    abi::SubmissionEntry& receive = ring.entry();
    prepare::receive(receive, sockets.first.number(), data.data(), data.size(), 0);
    receive.user_data = 1;
    receive.flags |= abi::entry_link;
    abi::SubmissionEntry& timeout = ring.entry();
    prepare::link_timeout(timeout, &time, 0);
    timeout.user_data = 2;
    ASSERT_EQ(ring.submit(), 2u);
    // Their order differs between kernels.
    for (int number = 0; number != 2; ++number) {
        const auto completion = ring.wait_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->result, completion->user_data == 1 ? -ECANCELED : -ETIME);
    }
}

}  // namespace
}  // namespace ferrule
