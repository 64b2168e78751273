// What io_uring_enter and io_uring_setup do on the kernel's side, for each version, and what faults make of them.

#include <ferrule/ring/probe.hpp>

#include "sim/ring_fixture.hpp"

#include <gmock/gmock.h>

namespace ferrule {
namespace {

using namespace ferrule_test;
using sim::Profile;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using FrontEnd = SimulatedRingTest;

void nop(Ring& ring, std::uint64_t user_data) {
    abi::SubmissionEntry& entry = ring.entry();
    prepare::nop(entry);
    entry.user_data = user_data;
}

TEST_F(FrontEnd, WaitEndsByTimeByCountAndWithWhatThereIs) {
    Ring ring = make_ring();
    const std::uint64_t before = kernel.world.now_ns();
    abi::GetEventsArgument argument{};
    const abi::Timespec time{0, 5'000'000};
    argument.ts = reinterpret_cast<std::uintptr_t>(&time);
    constexpr std::uint32_t flags = abi::enter_get_events | abi::enter_extended_argument;
    EXPECT_EQ(kernel.io_uring_enter(ring.descriptor(), 0, 1, flags, &argument, sizeof argument), -ETIME);
    EXPECT_EQ(kernel.world.now_ns(), before + 5'000'000);
    EXPECT_EQ(kernel.io_uring_enter(ring.descriptor(), 0, 1, flags, &argument, sizeof argument - 1), -EINVAL);
    EXPECT_EQ(kernel.io_uring_enter(ring.descriptor(), 0, 1, 1u << 30, nullptr, 0), -EINVAL);
    nop(ring, 1);
    ASSERT_EQ(ring.submit(), 1u);
    EXPECT_EQ(kernel.io_uring_enter(ring.descriptor(), 0, 2, flags, &argument, sizeof argument), 0)
        << "one is there, so running out of time is no error";
    EXPECT_EQ(kernel.world.now_ns(), before + 10'000'000);
    const abi::Timespec absolute{static_cast<std::int64_t>(before / 1'000'000'000), 20'000'000};
    argument.ts = reinterpret_cast<std::uintptr_t>(&absolute);
    EXPECT_EQ(
        kernel.io_uring_enter(ring.descriptor(), 0, 2, flags | abi::enter_absolute_timer, &argument, sizeof argument),
        0);
    EXPECT_EQ(kernel.world.now_ns(), 1'020'000'000u);
}

TEST_F(FrontEnd, MinimumWaitGathersAndThenSettlesForLess) {
    Ring::Options options;
    options.entries = 8;
    options.min_wait_us = 1000;
    Ring ring = make_ring(options);
    auto event = std::make_shared<EventDouble>();
    const int fd = kernel.install(event);
    alignas(8) std::uint64_t value = 0;
    prepare::read(ring.entry(), fd, &value, sizeof value, 0);
    const std::uint64_t one = 1;
    const std::uint64_t before = kernel.world.now_ns();
    kernel.world.at(before + 300'000, [&] { event->write(std::as_bytes(std::span(&one, 1))); });
    EXPECT_EQ(ring.enter(4, 10'000'000), 1);
    EXPECT_EQ(kernel.world.now_ns(), before + 1'000'000);
    EXPECT_EQ(ring.ready(), 1u);
}

TEST_F(FrontEnd, FaultsOfEnterConsumeNothingOrLess) {
    Ring ring = make_ring();
    for (const auto& [fault, error] : {std::pair{Fault::enter_again, -EAGAIN}, std::pair{Fault::enter_busy, -EBUSY}}) {
        nop(ring, 1);
        kernel.world.plan(fault);
        EXPECT_EQ(ring.enter(0, 0), error);
        EXPECT_EQ(ring.pending(), 1u);
        EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 0}));
    }
    for (std::uint64_t number = 0; number != 8; ++number) nop(ring, number);
    kernel.world.plan(Fault::enter_partial);
    const int consumed = ring.enter(8, Ring::no_timeout);
    EXPECT_GT(consumed, 0);
    EXPECT_LT(consumed, 8);
    EXPECT_EQ(ring.ready(), static_cast<std::uint32_t>(consumed));
    EXPECT_EQ(ring.enter(8, Ring::no_timeout), 8 - consumed);
    EXPECT_EQ(take(ring).size(), 8u);
    kernel.world.plan(Fault::enter_interrupted);
    EXPECT_EQ(ring.enter(1, 1'000'000), -EINTR);
    kernel.world.plan(Fault::spurious_wake);
    EXPECT_EQ(ring.enter(1, 1'000'000), 0);
}

TEST_F(FrontEnd, PartialSubmissionDoesNotCutAChain) {
    for (std::uint64_t round = 0; round != 50; ++round) {
        Ring ring = make_ring();
        for (std::uint64_t number = 0; number != 6; ++number) {
            nop(ring, number);
            if (number >= 2 && number < 5) {
                // The last three are one chain behind its head.
                abi::SubmissionEntry* const entry = ring.try_entry();
                ASSERT_NE(entry, nullptr);
                ring.skip(*entry);
            }
        }
        abi::SubmissionEntry& head = ring.entry();
        prepare::close(head, 999);
        head.user_data = 10;
        head.flags = abi::entry_link;
        nop(ring, 11);
        kernel.world.plan(Fault::enter_partial);
        std::vector<Seen> seen;
        while (ring.pending() != 0) {
            for (const Seen& next : turn(ring)) seen.push_back(next);
        }
        ASSERT_EQ(seen.size(), 8u);
        EXPECT_EQ(seen.back(), (Seen{11, -ECANCELED}));
    }
}

TEST_F(FrontEnd, DelayedCompletionIsOvertaken) {
    Ring ring = make_ring();
    for (std::uint64_t number = 1; number != 5; ++number) nop(ring, number);
    kernel.world.plan(Fault::completion_delayed, 1);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 0}, Seen{3, 0}, Seen{4, 0}, Seen{2, 0}));
}

TEST_F(FrontEnd, LateNoticeIsStillANotice) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    prepare::receive(ring.entry(), fd, data.data(), 4, 0);
    EXPECT_THAT(turn(ring), IsEmpty());
    kernel.world.plan(Fault::wake_delayed);
    theirs->say("x");
    EXPECT_FALSE(ring.task_work_pending());
    EXPECT_THAT(await(ring, 1), ElementsAre(Seen{0, 1}));
}

TEST_F(FrontEnd, CloseMayTakeItsTime) {
    Ring ring = make_ring();
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    kernel.world.plan(Fault::close_delayed);
    prepare::close(ring.entry(), fd);
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_FALSE(theirs->ended());
    EXPECT_THAT(await(ring, 1), ElementsAre(Seen{0, 0}));
    EXPECT_TRUE(theirs->ended());
}

TEST_F(FrontEnd, SilentSendAtOnceIsNeverPutOff) {
    // Who saw no completion of it when enter returned knows that all was sent.
    kernel.world.rate(300'000);
    auto [ours, theirs] = EndDouble::pair();
    std::string expected;
    Ring ring = [&] {
        for (;;) {
            Ring::Options options;
            options.entries = 8;
            if (auto made = Ring::create(kernel, options)) return std::move(*made);
        }
    }();
    const int fd = kernel.install(ours);
    for (int round = 0; round != 2000; ++round) {
        const std::string text = "message " + std::to_string(round);
        abi::SubmissionEntry& entry = ring.entry();
        prepare::send(entry, fd, text.data(), static_cast<std::uint32_t>(text.size()),
                      MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT);
        entry.flags = abi::entry_completion_skip_success;
        while (ring.pending() != 0) static_cast<void>(ring.enter(0, 0));
        std::int32_t result = static_cast<std::int32_t>(text.size());
        while (ring.ready() != 0 || ring.overflowed()) {
            static_cast<void>(ring.enter(0, 0));
            ring.for_each_completion([&](const abi::Completion& completion) { result = completion.result; });
        }
        expected += text.substr(0, static_cast<std::size_t>(std::max(result, 0)));
        ASSERT_EQ(kernel.ring(ring.descriptor())->in_flight(), 0u);
    }
    EXPECT_EQ(theirs->heard(), expected);
    kernel.world.rate(0);
}

TEST_F(FrontEnd, RingWithoutDeferredWorkRunsItByItself) {
    Ring::Options options;
    options.entries = 8;
    options.single_issuer = options.defer_taskrun = false;
    Ring ring = make_ring(options);
    auto [ours, theirs] = EndDouble::pair();
    const int fd = kernel.install(ours);
    std::array<char, 4> data{};
    prepare::receive(ring.entry(), fd, data.data(), 4, 0);
    ASSERT_EQ(ring.submit(), 1u);
    theirs->say("x");
    EXPECT_EQ(ring.ready(), 0u);
    kernel.world.pass(0);
    EXPECT_EQ(ring.ready(), 1u);
    nop(ring, 2);
    abi::SubmissionEntry& first = ring.entry();
    prepare::nop(first);
    first.user_data = 3;
    first.flags = abi::entry_link;
    nop(ring, 4);
    kernel.world.switch_thread(2);
    ASSERT_EQ(ring.submit(), 3u) << "any thread may submit";
    EXPECT_THAT(take(ring), ElementsAre(Seen{0, 1}, Seen{2, 0}, Seen{3, 0}, Seen{4, 0}));
}

TEST_F(FrontEnd, TenThousandArmedReceivesAreFoundAndEnd) {
    Ring ring = make_ring(256);
    std::vector<std::shared_ptr<EndDouble>> peers;
    RingKernel& seam = kernel;
    seam.descriptors.limit(20'000);
    auto buffers = BufferRing::create(ring, {.group = 64, .count = 16, .size = 64, .incremental = false});
    ASSERT_TRUE(buffers.has_value());
    for (std::uint64_t number = 0; number != 10'000; ++number) {
        auto [ours, theirs] = EndDouble::pair();
        peers.push_back(theirs);
        abi::SubmissionEntry& entry = ring.entry();
        prepare::receive_multishot(entry, kernel.install(ours), 64, 0);
        entry.user_data = number;
    }
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_EQ(kernel.ring(ring.descriptor())->in_flight(), 10'000u);
    for (std::uint64_t number = 0; number != 10'000; number += 2) {
        prepare::cancel(ring.entry(), number, 0);
        if (number % 100 == 0) {
            for (const Seen& seen : turn(ring)) ASSERT_TRUE(seen.result == 0 || seen.result == -ECANCELED);
        }
    }
    turn(ring);
    EXPECT_EQ(kernel.ring(ring.descriptor())->in_flight(), 5'000u);
    peers[5]->say("still there");
    const auto seen = turn(ring);
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen.front().user_data, 5u);
}

// ---- set-up ----

TEST_F(FrontEnd, SetupChecksSizesAndFlags) {
    const auto setup = [this](std::uint32_t entries, std::uint32_t flags, std::uint32_t completions = 0) {
        abi::Parameters parameters{};
        parameters.flags = flags;
        parameters.cq_entries = completions;
        const int fd = kernel.io_uring_setup(entries, &parameters);
        if (fd >= 0) kernel.close(fd);
        return fd >= 0 ? static_cast<int>(parameters.cq_entries) : fd;
    };
    EXPECT_EQ(setup(0, 0), -EINVAL);
    EXPECT_EQ(setup(5, 0), 16);
    EXPECT_EQ(setup(5, abi::setup_completion_size, 9), 16);
    EXPECT_EQ(setup(16, abi::setup_completion_size, 8), -EINVAL);
    EXPECT_EQ(setup(16, abi::setup_completion_size, 0), -EINVAL);
    EXPECT_EQ(setup(65536, 0), -EINVAL);
    EXPECT_EQ(setup(65536, abi::setup_clamp), 65536);
    EXPECT_EQ(setup(8, abi::setup_defer_taskrun), -EINVAL);
    EXPECT_EQ(setup(8, abi::setup_taskrun_flag), -EINVAL);
    EXPECT_EQ(setup(8, abi::setup_taskrun_flag | abi::setup_cooperative_taskrun), 16);
    EXPECT_EQ(setup(8, 1u << 30), -EINVAL);
    kernel.world.plan(Fault::no_memory_at_setup);
    EXPECT_EQ(setup(8, 0), -ENOMEM);
    kernel.memory.limit_bytes = 4096;
    EXPECT_EQ(setup(8, 0), -ENOMEM);
    EXPECT_EQ(kernel.memory.used_bytes, 0u);
}

TEST_F(FrontEnd, SubmissionTailBeyondTheQueueIsFound) {
    abi::Parameters parameters{};
    const int fd = kernel.io_uring_setup(4, &parameters);
    int error = 0;
    auto* const memory = static_cast<std::byte*>(
        kernel.map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, abi::offset_submission_ring, &error));
    ASSERT_NE(memory, nullptr);
    *reinterpret_cast<std::uint32_t*>(memory + parameters.sq_off.tail) = 9;
    EXPECT_EQ(kernel.io_uring_enter(fd, 9, 0, 0, nullptr, 0), 4);
    EXPECT_THAT(take_finding(), HasSubstr("has 4 entries, and its tail is 9 ahead of its head"));
    EXPECT_EQ(kernel.unmap(memory, 4096), 0);
    EXPECT_EQ(kernel.close(fd), 0);
}

struct Version {
    Profile profile;
    std::uint32_t features;
    std::uint8_t last_operation;
    bool no_array, by_operation, flags_pass, commands, incremental, without_ring, no_iowait, accept_flags, length;
};

TEST(Profiles, ProbeFindsWhatEachVersionHas) {
    const Version versions[] = {
        {Profile::linux_6_1, 0x1fff, 48, false, false, false, false, false, false, false, false, false},
        {Profile::linux_6_6, 0x3fff, 48, true, true, true, false, false, false, false, false, false},
        {Profile::linux_6_12, 0xffff, 57, true, true, true, true, true, false, false, true, false},
        {Profile::linux_6_18, 0x3ffff, 62, true, true, true, true, true, true, true, true, true},
    };
    for (const Version& version : versions) {
        // The probe's own sockets: a datagram socket that is connected to itself.
        class LoopbackKernel final : public RingKernel {
        public:
            using RingKernel::RingKernel;
            int socket(int, int, int) noexcept override {
                auto [first, second] = EndDouble::pair(false);
                others.push_back(second);
                return install(first);
            }
            int bind(int, const sockaddr*, socklen_t) noexcept override { return 0; }
            int connect(int, const sockaddr*, socklen_t) noexcept override { return 0; }
            int socket_name(int, sockaddr*, socklen_t*) noexcept override { return 0; }
            ssize_t write(int, const void* data, std::size_t length) noexcept override {
                return others.back()->send({static_cast<const std::byte*>(data), length}, 0);
            }
            std::vector<std::shared_ptr<EndDouble>> others;
        };
        LoopbackKernel kernel(version.profile);
        const auto found = probe(kernel);
        ASSERT_TRUE(found.has_value()) << found.error().message;
        EXPECT_EQ(found->features, version.features);
        EXPECT_EQ(found->last_operation, version.last_operation);
        EXPECT_EQ(found->no_submission_array, version.no_array);
        EXPECT_EQ(found->cancel_by_operation, version.by_operation);
        EXPECT_EQ(found->message_ring_flags, version.flags_pass);
        EXPECT_EQ(found->incremental_buffers, version.incremental);
        EXPECT_EQ(found->message_without_ring, version.without_ring);
        EXPECT_EQ(found->no_iowait, version.no_iowait);
        EXPECT_EQ(found->accept_flags, version.accept_flags);
        EXPECT_EQ(found->receive_multishot_length, version.length);
        EXPECT_TRUE(found->receive_multishot);
        EXPECT_TRUE(found->buffer_ring);
        EXPECT_TRUE(found->message_ring);
        EXPECT_TRUE(found->cancel_sync);
        EXPECT_EQ(kernel.world.findings, std::vector<std::string>{});
    }
}

class FrontEndOn6_1 : public SimulatedRingTest {
protected:
    FrontEndOn6_1() : SimulatedRingTest(Profile::linux_6_1) {}
};

TEST_F(FrontEndOn6_1, NewerThingsAreRefused) {
    Ring ring = make_ring();
    EXPECT_EQ(ring.setup_flags() & abi::setup_no_submission_array, 0u);
    abi::SubmissionEntry& entry = ring.entry();
    entry.opcode = abi::Operation::read_multishot;
    EXPECT_THAT(turn(ring), ElementsAre(Seen{0, -EINVAL}));
    prepare::cancel(ring.entry(), 1, abi::cancel_user_data);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{0, -EINVAL}));
    abi::GetEventsArgument argument{};
    argument.min_wait_usec = 5;
    EXPECT_EQ(kernel.io_uring_enter(ring.descriptor(), 0, 1, abi::enter_get_events | abi::enter_extended_argument,
                                    &argument, sizeof argument),
              -EINVAL);
    EXPECT_EQ(kernel.io_uring_register(-1, abi::register_send_message_ring, &argument, 1), -EINVAL);
}

TEST_F(FrontEndOn6_1, MessageIsPostedAtOnce) {
    Ring from = make_ring();
    kernel.world.switch_thread(2);
    Ring to = make_ring();
    kernel.world.switch_thread(1);
    prepare::message_ring(from.entry(), to.descriptor(), 7, 70, 0);
    EXPECT_THAT(turn(from), ElementsAre(Seen{0, 0}));
    EXPECT_EQ(to.ready(), 1u);
}

}  // namespace
}  // namespace ferrule
