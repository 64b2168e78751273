// The kernel's side of a ring: what it does with each operation, as the program's side sees it.

#include "sim/ring_fixture.hpp"

#include <gmock/gmock.h>

namespace ferrule {
namespace {

using namespace ferrule_test;
using sim::Profile;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

using SimulatedRingOperations = SimulatedRingTest;

void nop(Ring& ring, std::uint64_t user_data, std::uint8_t flags = 0) {
    abi::SubmissionEntry& entry = ring.entry();
    prepare::nop(entry);
    entry.user_data = user_data;
    entry.flags = flags;
}

/// Fails when it runs.
void bad(Ring& ring, std::uint64_t user_data, std::uint8_t flags = 0) {
    abi::SubmissionEntry& entry = ring.entry();
    prepare::close(entry, 999);
    entry.user_data = user_data;
    entry.flags = flags;
}

template <class Prepare>
void submit(Ring& ring, std::uint64_t user_data, Prepare prepare, std::uint8_t flags = 0) {
    abi::SubmissionEntry& entry = ring.entry();
    prepare(entry);
    entry.user_data = user_data;
    entry.flags |= flags;
}

TEST_F(SimulatedRingOperations, NopsCompleteInOrder) {
    Ring ring = make_ring();
    for (std::uint64_t number = 1; number != 5; ++number) nop(ring, number);
    EXPECT_THAT(await(ring, 4), ElementsAre(Seen{1, 0}, Seen{2, 0}, Seen{3, 0}, Seen{4, 0}));
}

TEST_F(SimulatedRingOperations, ReceiveWaitsForBytesAndSendGivesThem) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 16> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), data.size(), 0); });
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_FALSE(ring.task_work_pending());
    theirs->say("hello");
    EXPECT_TRUE(ring.task_work_pending());
    EXPECT_EQ(ring.ready(), 0u);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 5}));
    EXPECT_EQ(std::string_view(data.data(), 5), "hello");
    submit(ring, 2, [&](auto& entry) { prepare::send(entry, fd, "reply", 5, MSG_NOSIGNAL); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 5}));
    EXPECT_EQ(theirs->heard(), "reply");
}

TEST_F(SimulatedRingOperations, ReadOfAnEventDescriptorWaits) {
    Ring ring = make_ring();
    auto event = std::make_shared<EventDouble>();
    const int fd = kernel.install(event);
    alignas(8) std::uint64_t value = 0;
    submit(ring, 1, [&](auto& entry) { prepare::read(entry, fd, &value, sizeof value, 0); });
    EXPECT_THAT(turn(ring), IsEmpty());
    const std::uint64_t three = 3;
    kernel.world.at(kernel.world.now_ns() + 1000, [&] { event->write(std::as_bytes(std::span(&three, 1))); });
    EXPECT_THAT(await(ring, 1), ElementsAre(Seen{1, 8}));
    EXPECT_EQ(value, 3u);
}

TEST_F(SimulatedRingOperations, MultishotAcceptGoesOnUntilItIsCancelled) {
    Ring ring = make_ring();
    auto listener = std::make_shared<ListenerDouble>();
    const int fd = kernel.install(listener);
    const auto first = listener->arrive();
    submit(ring, 1, [&](auto& entry) { prepare::accept_multishot(entry, fd, nullptr, nullptr, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, fd + 1, abi::completion_more}));
    const auto second = listener->arrive();
    const auto third = listener->arrive();
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, fd + 2, abi::completion_more}, Seen{1, fd + 3, abi::completion_more}));
    submit(ring, 2, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 0}, Seen{1, -ECANCELED}));
}

TEST_F(SimulatedRingOperations, AcceptWithoutADescriptorLeavesTheConnection) {
    RingKernel small(Profile::linux_6_18, 5);
    Ring::Options options;
    options.entries = 4;
    auto ring = Ring::create(small, options);
    ASSERT_TRUE(ring.has_value());
    auto listener = std::make_shared<ListenerDouble>();
    const int fd = small.install(listener);
    const auto client = listener->arrive();
    submit(*ring, 1, [&](auto& entry) { prepare::accept_multishot(entry, fd, nullptr, nullptr, 0); });
    EXPECT_THAT(turn(*ring), ElementsAre(Seen{1, -EMFILE}));
    EXPECT_EQ(listener->waiting(), 1u);
}

TEST_F(SimulatedRingOperations, CloseEndsTheFileWhenItsOperationsHaveEnded) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 16> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), data.size(), 0); });
    submit(ring, 2, [&](auto& entry) { prepare::close(entry, fd); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 0}));
    EXPECT_FALSE(theirs->ended()) << "the receive holds the file";
    submit(ring, 3, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 0}, Seen{1, -ECANCELED}));
    EXPECT_TRUE(theirs->ended());
    submit(ring, 4, [&](auto& entry) { prepare::close(entry, fd); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{4, -EBADF}));
}

TEST_F(SimulatedRingOperations, SilentSendSaysOnlyWhatItCouldNotDo) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    constexpr int at_once = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT;
    submit(
        ring, 1, [&](auto& entry) { prepare::send(entry, fd, "all of it", 9, at_once); },
        abi::entry_completion_skip_success);
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->room = ours->room = 12;
    submit(
        ring, 2, [&](auto& entry) { prepare::send(entry, fd, "a part of it", 12, at_once); },
        abi::entry_completion_skip_success);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 3}));
    submit(
        ring, 3, [&](auto& entry) { prepare::send(entry, fd, "nothing", 7, at_once); },
        abi::entry_completion_skip_success);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, -EAGAIN}));
    EXPECT_EQ(theirs->heard(), "all of ita p");
}

TEST_F(SimulatedRingOperations, WholeSendAndReceiveGoOnUntilAllIsThere) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    ours->room = 4;
    submit(ring, 1, [&](auto& entry) { prepare::send(entry, fd, "0123456789", 10, MSG_NOSIGNAL | MSG_WAITALL); });
    std::string heard;
    for (int round = 0; round != 2; ++round) {
        EXPECT_THAT(turn(ring), IsEmpty());
        heard += theirs->heard();
    }
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 10}));
    EXPECT_EQ(heard + theirs->heard(), "0123456789");
    std::array<char, 6> data{};
    submit(ring, 2, [&](auto& entry) { prepare::receive(entry, fd, data.data(), data.size(), MSG_WAITALL); });
    theirs->say("abc");
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("def");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 6}));
    EXPECT_EQ(std::string_view(data.data(), data.size()), "abcdef");
}

TEST_F(SimulatedRingOperations, CancelledPartOfAWholeReceiveIsItsResult) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 6> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), data.size(), MSG_WAITALL); });
    theirs->say("abc");
    EXPECT_THAT(turn(ring), IsEmpty());
    submit(ring, 2, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 0}, Seen{1, 3}));
}

TEST_F(SimulatedRingOperations, PollTellsReadinessOnceAndAgain) {
    Ring ring = make_ring();
    auto event = std::make_shared<EventDouble>();
    const int fd = kernel.install(event);
    const std::uint64_t one = 1;
    const auto signal = [&] { event->write(std::as_bytes(std::span(&one, 1))); };
    submit(ring, 1, [&](auto& entry) { prepare::poll_add(entry, fd, POLLIN); });
    EXPECT_THAT(turn(ring), IsEmpty());
    signal();
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, POLLIN}));
    submit(ring, 2, [&](auto& entry) { prepare::poll_add_multishot(entry, fd, POLLIN); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, POLLIN, abi::completion_more}));
    signal();
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, POLLIN, abi::completion_more}));
    submit(ring, 3, [](auto& entry) { prepare::cancel(entry, 2, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 0}, Seen{2, -ECANCELED}));
}

TEST_F(SimulatedRingOperations, ShutdownAndAsyncEntriesAreDoneByAWorker) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    submit(ring, 1, [&](auto& entry) { prepare::shutdown(entry, fd, SHUT_WR); });
    nop(ring, 2, abi::entry_async);
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_FALSE(theirs->ended());
    EXPECT_THAT(await(ring, 2), UnorderedElementsAre(Seen{1, 0}, Seen{2, 0}));
    EXPECT_TRUE(theirs->ended());
}

TEST_F(SimulatedRingOperations, MissingThingsAreNamedByTheirErrors) {
    Ring ring = make_ring();
    auto event = std::make_shared<EventDouble>();
    const int fd = kernel.install(event);
    std::array<char, 4> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, 77, data.data(), 4, 0); });
    submit(ring, 2, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    submit(ring, 3, [&](auto& entry) { prepare::receive_multishot(entry, fd, 64, 0); });
    submit(ring, 4, [&](auto& entry) { prepare::message_ring(entry, fd, 0, 0, 0); });
    submit(ring, 5, [&](auto& entry) { prepare::close(entry, ring.descriptor()); });
    EXPECT_THAT(turn(ring), UnorderedElementsAre(Seen{1, -EBADF}, Seen{2, -ENOTSOCK}, Seen{3, -ENOTSOCK},
                                                 Seen{4, -EBADFD}, Seen{5, -EBADF}));
}

// ---- chains ----

TEST_F(SimulatedRingOperations, FailureCancelsAChainAndHardLinksGoOn) {
    Ring ring = make_ring();
    bad(ring, 1, abi::entry_link);
    nop(ring, 2, abi::entry_link);
    nop(ring, 3);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, -EBADF}, Seen{2, -ECANCELED}, Seen{3, -ECANCELED}));
    bad(ring, 4, abi::entry_hard_link);
    nop(ring, 5);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{4, -EBADF}, Seen{5, 0}));
}

TEST_F(SimulatedRingOperations, EntryThatIsRefusedCancelsTheWholeChain) {
    Ring ring = make_ring();
    nop(ring, 1, abi::entry_link);
    submit(
        ring, 2, [](auto& entry) { entry.opcode = static_cast<abi::Operation>(99); }, abi::entry_hard_link);
    nop(ring, 3);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, -ECANCELED}, Seen{2, -EINVAL}, Seen{3, -ECANCELED}));
}

TEST_F(SimulatedRingOperations, SilentEntryThatFailsSilencesItsChain) {
    Ring ring = make_ring();
    bad(ring, 1, abi::entry_link | abi::entry_completion_skip_success);
    nop(ring, 2);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, -EBADF}));
    bad(ring, 3, abi::entry_link);
    nop(ring, 4, abi::entry_completion_skip_success);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, -EBADF}, Seen{4, -ECANCELED}));
    nop(ring, 5, abi::entry_link | abi::entry_completion_skip_success);
    nop(ring, 6);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{6, 0}));
}

TEST_F(SimulatedRingOperations, ChainWaitsForItsArmedMember) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    submit(
        ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); }, abi::entry_link);
    submit(ring, 2, [&](auto& entry) { prepare::close(entry, fd); });
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("x");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 1}, Seen{2, 0}));
}

TEST_F(SimulatedRingOperations, DrainWaitsForWhatWasBeforeIt) {
    Ring ring = make_ring();
    const abi::Timespec time{0, 1'000'000};
    submit(ring, 1, [&](auto& entry) { prepare::timeout(entry, &time, 0, 0); });
    nop(ring, 2, abi::entry_drain);
    nop(ring, 3);
    EXPECT_THAT(turn(ring), IsEmpty());
    std::vector<Seen> all = await(ring, 1);
    while (all.size() < 3) {
        for (const Seen& seen : await(ring, 1)) all.push_back(seen);
    }
    EXPECT_THAT(all, ElementsAre(Seen{1, -ETIME}, Seen{2, 0}, Seen{3, 0}));
    nop(ring, 4, abi::entry_completion_skip_success);
    nop(ring, 5, abi::entry_drain);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{5, -EOPNOTSUPP}));
}

TEST_F(SimulatedRingOperations, LinkedTimeoutBoundsItsRequest) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    const abi::Timespec time{0, 1'000'000};
    std::array<char, 4> data{};
    submit(
        ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); }, abi::entry_link);
    submit(ring, 2, [&](auto& entry) { prepare::link_timeout(entry, &time, 0); });
    EXPECT_THAT(await(ring, 2), UnorderedElementsAre(Seen{1, -ECANCELED}, Seen{2, -ETIME}));
    submit(
        ring, 3, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); }, abi::entry_link);
    submit(ring, 4, [&](auto& entry) { prepare::link_timeout(entry, &time, 0); });
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("in");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 2}, Seen{4, -ECANCELED}));
    kernel.world.pass(10'000'000);
    EXPECT_THAT(turn(ring), IsEmpty());
    nop(ring, 5, abi::entry_link);
    submit(
        ring, 6, [&](auto& entry) { prepare::link_timeout(entry, &time, 0); }, abi::entry_link);
    nop(ring, 7);
    EXPECT_THAT(turn(ring), UnorderedElementsAre(Seen{5, 0}, Seen{6, -ECANCELED}, Seen{7, 0}));
}

TEST_F(SimulatedRingOperations, TimeoutsEndByTimeAndByCount) {
    Ring ring = make_ring();
    const abi::Timespec time{1, 0};
    submit(ring, 1, [&](auto& entry) { prepare::timeout(entry, &time, 2, 0); });
    nop(ring, 2);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 0}));
    nop(ring, 3);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 0}, Seen{1, 0}));
    const std::uint64_t before = kernel.world.now_ns();
    submit(ring, 4, [&](auto& entry) { prepare::timeout(entry, &time, 0, 0); });
    EXPECT_THAT(await(ring, 5, Ring::no_timeout), ElementsAre(Seen{4, -ETIME})) << "its end ends the wait";
    EXPECT_EQ(kernel.world.now_ns(), before + 1'000'000'000);
    submit(ring, 5, [&](auto& entry) { prepare::timeout(entry, &time, 2, abi::timeout_multishot); });
    EXPECT_THAT(await(ring, 1, 5'000'000'000), ElementsAre(Seen{5, -ETIME, abi::completion_more}));
    EXPECT_THAT(await(ring, 1, 5'000'000'000), ElementsAre(Seen{5, -ETIME}));
}

// ---- cancelling ----

TEST_F(SimulatedRingOperations, CancelFindsByUserDataDescriptorOperationAndAll) {
    Ring ring = make_ring(32);
    auto [ours, theirs] = EndDouble::pair();
    auto [others, away] = EndDouble::pair();
    const int fd = kernel.install(ours);
    const int other = kernel.install(others);
    std::array<std::array<char, 8>, 8> data{};
    std::uint64_t next = 0;
    const auto arm = [&](int descriptor, std::uint64_t user_data) {
        submit(ring, user_data,
               [&](auto& entry) { prepare::receive(entry, descriptor, data[next++ % 8].data(), 8, 0); });
    };
    const auto cancel = [&](std::uint64_t user_data, std::uint32_t flags, int descriptor = -1) {
        submit(ring, 100, [&](auto& entry) {
            prepare::cancel(entry, user_data, flags);
            entry.fd = descriptor;
        });
    };
    arm(fd, 1);
    arm(fd, 2);
    arm(other, 2);
    arm(other, 4);
    cancel(9, 0);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{100, -ENOENT}));
    cancel(2, 0);
    EXPECT_EQ(turn(ring).size(), 2u) << "one of two";
    cancel(0, abi::cancel_descriptor | abi::cancel_all, fd);
    const auto by_descriptor = turn(ring);
    ASSERT_FALSE(by_descriptor.empty());
    EXPECT_EQ(by_descriptor.front().result, static_cast<int>(by_descriptor.size()) - 1);
    cancel(0, abi::cancel_descriptor, 88);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{100, -EBADF}));
    cancel(0, abi::cancel_descriptor | abi::cancel_all, fd);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{100, 0})) << "a count, though it is none";
    arm(fd, 6);
    submit(ring, 7, [&](auto& entry) { prepare::poll_add(entry, fd, POLLIN); });
    submit(ring, 100, [](auto& entry) {
        prepare::cancel(entry, 0, abi::cancel_operation | abi::cancel_all);
        entry.len = static_cast<std::uint32_t>(abi::Operation::poll_add);
    });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{100, 1}, Seen{7, -ECANCELED}));
    const abi::Timespec time{1, 0};
    submit(ring, 8, [&](auto& entry) { prepare::timeout(entry, &time, 0, 0); });
    cancel(0, abi::cancel_any);
    const auto any = turn(ring);
    ASSERT_FALSE(any.empty());
    EXPECT_EQ(any.front().result, static_cast<int>(any.size()) - 1);
    EXPECT_EQ(kernel.ring(ring.descriptor())->in_flight(), 0u);
}

TEST_F(SimulatedRingOperations, CancelWinsOverBytesThatHaveArrived) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("late");
    submit(ring, 2, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 0}, Seen{1, -ECANCELED}));
    submit(ring, 3, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 4}));
}

TEST_F(SimulatedRingOperations, CancelIsTooLateOrMissesWhereFaultsSaySo) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    submit(ring, 2, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    kernel.world.plan(Fault::cancel_too_late);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, -EALREADY}));
    EXPECT_THAT(await(ring, 1), ElementsAre(Seen{1, -ECANCELED})) << "it was interrupted, and ends soon";
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("late");
    submit(ring, 3, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    kernel.world.plan(Fault::cancel_misses);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, -ENOENT}, Seen{1, 4}));
}

TEST_F(SimulatedRingOperations, LastCompletionOfACancelledRequestComesLateWhereAFaultSaysSo) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    submit(ring, 2, [](auto& entry) { prepare::cancel(entry, 1, 0); });
    kernel.world.plan(Fault::cancel_delayed);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 0}));
    theirs->say("late");
    EXPECT_THAT(await(ring, 1), ElementsAre(Seen{1, -ECANCELED})) << "it was cancelled, whatever comes";
}

TEST_F(SimulatedRingOperations, SynchronousCancelTellsWhatItFound) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_EQ(ring.cancel_sync(9, -1, 0, 0).error(), std::errc::no_such_file_or_directory);
    EXPECT_TRUE(ring.cancel_sync(1, -1, 0, Ring::no_timeout).has_value());
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, -ECANCELED}));
}

// ---- rings ----

TEST_F(SimulatedRingOperations, MessageIsWorkOfTheRingThatGetsIt) {
    Ring from = make_ring();
    Ring::Options options;
    options.entries = 8;
    options.start_disabled = true;
    Ring to = make_ring(options);
    submit(from, 1, [&](auto& entry) { prepare::message_ring(entry, to.descriptor(), 7, 70, 0); });
    EXPECT_THAT(turn(from), ElementsAre(Seen{1, -EBADFD}));
    kernel.world.switch_thread(2);
    ASSERT_TRUE(to.enable().has_value());
    EXPECT_EQ(from.enter(1, 0), 0);
    kernel.world.switch_thread(1);
    submit(from, 2, [&](auto& entry) { prepare::message_ring(entry, to.descriptor(), 7, 70, 0); });
    EXPECT_THAT(turn(from), ElementsAre(Seen{2, 0}));
    abi::SubmissionEntry alone{};
    prepare::message_ring(alone, to.descriptor(), 8, 80, 0);
    EXPECT_EQ(kernel.io_uring_register(-1, abi::register_send_message_ring, &alone, 1), 0);
    EXPECT_EQ(to.ready(), 0u);
    EXPECT_TRUE(to.task_work_pending());
    kernel.world.switch_thread(2);
    EXPECT_THAT(await(to, 2), ElementsAre(Seen{70, 7}, Seen{80, 8}));
}

TEST_F(SimulatedRingOperations, ForeignThreadIsRefused) {
    Ring ring = make_ring();
    nop(ring, 1);
    kernel.world.switch_thread(2);
    EXPECT_EQ(ring.enter(1, 0), -EEXIST);
    EXPECT_EQ(ring.cancel_sync(1, -1, 0, 0).error(), std::errc::file_exists);
    kernel.world.switch_thread(1);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 0}));
}

TEST_F(SimulatedRingOperations, FixedFilesAreUsedUpdatedAndClosed) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    const std::array<int, 2> files = {-1, fd};
    ASSERT_TRUE(ring.register_files(files).has_value());
    EXPECT_EQ(kernel.close(fd), 0);
    EXPECT_FALSE(theirs->ended());
    submit(
        ring, 1, [](auto& entry) { prepare::send(entry, 1, "x", 1, 0); }, abi::entry_fixed_file);
    submit(
        ring, 2, [](auto& entry) { prepare::send(entry, 0, "x", 1, 0); }, abi::entry_fixed_file);
    submit(ring, 3, [](auto& entry) { prepare::close_direct(entry, 1); });
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 1}, Seen{2, -EBADF}, Seen{3, 0}));
    EXPECT_TRUE(theirs->ended());
    EXPECT_TRUE(ring.unregister_files().has_value());
}

TEST_F(SimulatedRingOperations, ClosingARingWhoseRequestsHaveMemoryIsFound) {
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    {
        Ring ring = make_ring();
        submit(ring, 1, [&](auto& entry) { prepare::receive(entry, fd, data.data(), 4, 0); });
        EXPECT_THAT(turn(ring), IsEmpty());
        EXPECT_THAT(kernel.ring(ring.descriptor())->leftovers(), HasSubstr("receive 0x1 on descriptor"));
    }
    EXPECT_THAT(take_finding(), HasSubstr("is closed while receive 0x1 still has memory of the program's"));
    EXPECT_EQ(kernel.close(fd), 0);
    EXPECT_TRUE(theirs->ended()) << "what was in flight has let go of its file";
}

}  // namespace
}  // namespace ferrule
