// Provided buffers on the kernel's side: which is chosen, what a completion says of it, and who may touch it when.

#include "sim/ring_fixture.hpp"

#include <gmock/gmock.h>

namespace ferrule {
namespace {

using namespace ferrule_test;
using sim::Profile;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint32_t more = abi::completion_more;
constexpr std::uint32_t nonempty = abi::completion_socket_nonempty;
constexpr std::uint32_t buffer_more = abi::completion_buffer_more;

constexpr std::uint32_t in_buffer(std::uint32_t number) {
    return abi::completion_buffer | (number << abi::completion_buffer_shift);
}

class SimulatedBuffers : public SimulatedRingTest {
protected:
    explicit SimulatedBuffers(Profile profile = Profile::linux_6_18) : SimulatedRingTest(profile) {
        std::tie(ours, theirs) = EndDouble::pair();
        fd = kernel.install(ours);
    }

    BufferRing make_buffers(Ring& ring, std::uint32_t count = 4, std::uint32_t size = 16, bool incremental = false) {
        auto made = BufferRing::create(ring, {.group = 64, .count = count, .size = size, .incremental = incremental});
        if (!made) throw std::runtime_error(made.error().message);
        return std::move(*made);
    }
    void receive(Ring& ring, std::uint64_t user_data) {
        abi::SubmissionEntry& entry = ring.entry();
        prepare::receive_multishot(entry, fd, 64, 0);
        entry.user_data = user_data;
    }
    void receive_once(Ring& ring, std::uint64_t user_data, std::uint32_t length = 0) {
        abi::SubmissionEntry& entry = ring.entry();
        prepare::receive_select(entry, fd, 64, length, 0);
        entry.user_data = user_data;
    }
    /// The bytes of completions, whose buffers go back.
    static std::string take_text(BufferRing& buffers, const std::vector<Seen>& completions) {
        std::string text;
        for (const Seen& seen : completions) {
            if ((seen.flags & abi::completion_buffer) == 0) continue;
            const BufferRing::Slice slice =
                buffers.take({.user_data = seen.user_data, .result = seen.result, .flags = seen.flags});
            text.append(reinterpret_cast<const char*>(slice.data), slice.length);
            buffers.give_back(slice.buffer);
        }
        buffers.publish();
        return text;
    }

    std::shared_ptr<EndDouble> ours;
    std::shared_ptr<EndDouble> theirs;
    int fd = -1;
};

TEST_F(SimulatedBuffers, MultishotFillsThemInOrderUntilTheEndOfTheStream) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring);
    receive(ring, 1);
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("0123456789abcdef+");
    auto seen = turn(ring);
    EXPECT_THAT(seen, ElementsAre(Seen{1, 16, in_buffer(0) | more | nonempty}, Seen{1, 1, in_buffer(1) | more}));
    EXPECT_EQ(take_text(buffers, seen), "0123456789abcdef+");
    theirs->say("end");
    theirs->shutdown(SHUT_WR);
    seen = turn(ring);
    EXPECT_THAT(seen, ElementsAre(Seen{1, 3, in_buffer(2) | more}, Seen{1, 0}));
    EXPECT_EQ(take_text(buffers, seen), "end");
    EXPECT_EQ(buffers.held(), 0u);
}

TEST_F(SimulatedBuffers, StarvationEndsAMultishotAndLosesNothing) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2);
    receive(ring, 1);
    theirs->say("0123456789abcdef0123456789abcdef!");
    const auto seen = turn(ring);
    EXPECT_THAT(seen, ElementsAre(Seen{1, 16, in_buffer(0) | more | nonempty},
                                  Seen{1, 16, in_buffer(1) | more | nonempty}, Seen{1, -ENOBUFS}));
    receive(ring, 2);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, -ENOBUFS})) << "as soon as it is armed";
    take_text(buffers, seen);
    receive(ring, 3);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 1, in_buffer(0) | more}));
}

TEST_F(SimulatedBuffers, OneShotPicksItsBufferWhenBytesCome) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2);
    receive_once(ring, 1);
    EXPECT_THAT(turn(ring), IsEmpty());
    auto [others, away] = EndDouble::pair();
    const int other = kernel.install(others);
    away->say("first");
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive_select(entry, other, 64, 3, 0);
    entry.user_data = 2;
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 3, in_buffer(0) | nonempty}));
    theirs->say("then");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 4, in_buffer(1)}));
}

TEST_F(SimulatedBuffers, IncrementalBufferIsFilledByPieces) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 4, 8, true);
    receive(ring, 1);
    EXPECT_THAT(turn(ring), IsEmpty());
    theirs->say("abc");
    auto seen = turn(ring);
    EXPECT_THAT(seen, ElementsAre(Seen{1, 3, in_buffer(0) | more | buffer_more}));
    theirs->say("defghij");
    for (const Seen& next : turn(ring)) seen.push_back(next);
    EXPECT_THAT(seen,
                ElementsAre(Seen{1, 3, in_buffer(0) | more | buffer_more}, Seen{1, 5, in_buffer(0) | more | nonempty},
                            Seen{1, 2, in_buffer(1) | more | buffer_more}));
    EXPECT_EQ(take_text(buffers, seen), "abcdefghij");
    for (int round = 0; round != 20; ++round) {
        theirs->say("another piece");
        EXPECT_EQ(take_text(buffers, turn(ring)), "another piece");
    }
}

TEST_F(SimulatedBuffers, MessagesAreNeverMergedOrCut) {
    std::tie(ours, theirs) = EndDouble::pair(false);
    fd = kernel.install(ours);
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring);
    kernel.world.plan(Fault::short_receive);
    receive(ring, 1);
    theirs->say("one");
    theirs->say("two");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 3, in_buffer(0) | more | nonempty}, Seen{1, 3, in_buffer(1) | more}));
}

TEST_F(SimulatedBuffers, OverflowEndsTheMultishotAndLosesNothing) {
    Ring ring = make_ring(4, 4);
    BufferRing buffers = make_buffers(ring, 8);
    std::tie(ours, theirs) = EndDouble::pair(false);
    fd = kernel.install(ours);
    receive(ring, 1);
    for (const char* text : {"a", "b", "c", "d", "e", "f"}) theirs->say(text);
    EXPECT_GE(ring.enter(0, 0), 0);
    EXPECT_EQ(ring.ready(), 4u);
    EXPECT_TRUE(ring.overflowed());
    const auto seen = take(ring);
    EXPECT_THAT(seen,
                ElementsAre(Seen{1, 1, in_buffer(0) | more | nonempty}, Seen{1, 1, in_buffer(1) | more | nonempty},
                            Seen{1, 1, in_buffer(2) | more | nonempty}, Seen{1, 1, in_buffer(3) | more | nonempty},
                            Seen{1, 1, in_buffer(4) | nonempty}));
    EXPECT_FALSE(ring.overflowed());
    EXPECT_EQ(take_text(buffers, seen), "abcde");
    receive(ring, 2);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, 1, in_buffer(5) | more}));
}

TEST_F(SimulatedBuffers, FaultsEndAMultishotInEveryWay) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 8);
    kernel.world.plan(Fault::no_buffers_at_arm);
    receive(ring, 1);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, -ENOBUFS}));
    receive(ring, 2);
    EXPECT_THAT(turn(ring), IsEmpty());
    kernel.world.plan(Fault::no_buffers_later);
    theirs->say("kept");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, -ENOBUFS}));
    kernel.world.plan(Fault::multishot_ends);
    receive(ring, 3);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{3, 4, in_buffer(0)}));
    kernel.world.plan(Fault::completion_overflow);
    theirs->say("over");
    receive(ring, 4);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{4, 4, in_buffer(1)})) << "what does not fit ends the multishot";
    kernel.world.plan(Fault::short_receive);
    theirs->say("0123456789");
    receive(ring, 5);
    const auto seen = turn(ring);
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_LT(seen[0].result, 10);
    EXPECT_EQ(seen[0].result + seen[1].result, 10);
    kernel.world.plan(Fault::operation_fails);
    receive(ring, 6);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{6, -EIO}));
}

TEST_F(SimulatedBuffers, MultishotWithALengthEndsWhenItHasCome) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring);
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive_multishot(entry, fd, 64, 0);
    entry.len = 20;
    theirs->say("0123456789abcdef0123456789abcdef");
    EXPECT_THAT(turn(ring),
                ElementsAre(Seen{0, 16, in_buffer(0) | more | nonempty}, Seen{0, 4, in_buffer(1) | nonempty}));
}

TEST_F(SimulatedBuffers, StatusTellsTheHead) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring);
    theirs->say("x");
    receive_once(ring, 1);
    EXPECT_EQ(turn(ring).size(), 1u);
    abi::BufferRingStatus status{};
    status.buf_group = 64;
    EXPECT_TRUE(ring.register_raw(abi::register_buffer_ring_status, &status, 1).has_value());
    EXPECT_EQ(status.head, 1u);
    status.buf_group = 65;
    EXPECT_FALSE(ring.register_raw(abi::register_buffer_ring_status, &status, 1).has_value());
}

TEST_F(SimulatedBuffers, RegistrationIsCheckedAndFailsWhereMemoryIsShort) {
    Ring ring = make_ring();
    kernel.memory = {.limit_bytes = kernel.memory.used_bytes + 4096, .used_bytes = kernel.memory.used_bytes};
    BufferRing buffers = make_buffers(ring);
    EXPECT_EQ(BufferRing::create(ring, {.group = 64, .count = 4, .size = 16, .incremental = false}).error().code,
              std::errc::file_exists);
    EXPECT_EQ(BufferRing::create(ring, {.group = 65, .count = 4, .size = 16, .incremental = false}).error().code,
              std::errc::not_enough_memory);
    kernel.memory.limit_bytes += 4096;
    kernel.world.plan(Fault::no_memory_at_register);
    EXPECT_TRUE(BufferRing::create(ring, {.group = 65, .count = 4, .size = 16, .incremental = false}).has_value());
}

// ---- whose memory it is ----

/// Publishes by hand what a BufferRing would never publish.
struct HandMadeGroup {
    explicit HandMadeGroup(Ring& owner, std::uint32_t count = 4) : ring(owner), size(count * sizeof(abi::BufferEntry)) {
        entries = static_cast<abi::BufferEntry*>(
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        abi::BufferRingRegistration registration{};
        registration.ring_addr = reinterpret_cast<std::uintptr_t>(entries);
        registration.ring_entries = count;
        registration.bgid = 64;
        EXPECT_TRUE(ring.register_raw(abi::register_buffer_ring, &registration, 1).has_value());
    }
    ~HandMadeGroup() {
        abi::BufferRingRegistration registration{};
        registration.bgid = 64;
        EXPECT_TRUE(ring.register_raw(abi::unregister_buffer_ring, &registration, 1).has_value());
        ::munmap(entries, size);
    }
    void stage(std::uint16_t number, void* memory, std::uint32_t length) {
        abi::BufferEntry& entry = entries[tail++ % 4];
        entry.addr = reinterpret_cast<std::uintptr_t>(memory);
        entry.len = length;
        entry.bid = number;
    }
    void publish() { entries[0].resv = tail; }

    Ring& ring;
    std::size_t size;
    abi::BufferEntry* entries;
    std::uint16_t tail = 0;
};

TEST_F(SimulatedBuffers, DoublePublicationIsFound) {
    Ring ring = make_ring();
    HandMadeGroup group(ring);
    alignas(16) std::array<std::byte, 64> memory{};
    group.stage(3, memory.data(), 32);
    group.stage(3, memory.data(), 32);
    group.publish();
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_EQ(ring.enter(1, 1), 0);
    EXPECT_THAT(take_finding(), HasSubstr("buffer group 64: buffer 3 is given to the kernel, which has it already"));
}

TEST_F(SimulatedBuffers, BuffersThatShareMemoryAreFound) {
    Ring ring = make_ring();
    HandMadeGroup group(ring);
    alignas(16) std::array<std::byte, 64> memory{};
    group.stage(0, memory.data(), 32);
    group.stage(1, memory.data() + 16, 32);
    group.publish();
    EXPECT_EQ(ring.enter(1, 1), 0);
    EXPECT_THAT(take_finding(), HasSubstr("buffer 1 of group 64 and buffer 0 of group 64 share memory"));
}

TEST_F(SimulatedBuffers, TailBeyondTheRingIsFound) {
    Ring ring = make_ring();
    HandMadeGroup group(ring);
    alignas(16) std::array<std::byte, 64> memory{};
    for (std::uint16_t number = 0; number != 4; ++number) group.stage(number, memory.data() + 16 * number, 16);
    group.tail = 5;
    group.publish();
    EXPECT_EQ(ring.enter(1, 1), 0);
    EXPECT_THAT(take_finding(), HasSubstr("its tail is 5 where its head is 0"));
}

TEST_F(SimulatedBuffers, EntryThatIsReusedBeforeItIsConsumedIsFound) {
    Ring ring = make_ring();
    HandMadeGroup group(ring);
    alignas(16) std::array<std::byte, 64> memory{};
    group.stage(0, memory.data(), 16);
    group.publish();
    EXPECT_EQ(ring.enter(1, 1), 0);
    group.entries[0].bid = 7;
    theirs->say("x");
    receive_once(ring, 1);
    EXPECT_EQ(turn(ring).size(), 1u);
    EXPECT_THAT(take_finding(), HasSubstr("names buffer 7 now"));
}

TEST_F(SimulatedBuffers, ReceiveIntoABufferThatTheKernelHasIsFound) {
    Ring ring = make_ring();
    HandMadeGroup group(ring);
    alignas(16) std::array<std::byte, 64> memory{};
    group.stage(0, memory.data(), 32);
    group.publish();
    EXPECT_EQ(ring.enter(1, 1), 0);
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive(entry, fd, memory.data() + 8, 8, 0);
    entry.user_data = 5;
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_THAT(take_finding(), HasSubstr("lies in buffer 0 of group 64, which the kernel has"));
    prepare::cancel(ring.entry(), 5, 0);
    EXPECT_EQ(turn(ring).size(), 2u);
}

TEST_F(SimulatedBuffers, TwoReceivesIntoTheSameMemoryAreFound) {
    Ring ring = make_ring();
    alignas(16) std::array<std::byte, 32> memory{};
    for (const std::uint64_t number : {1, 2}) {
        abi::SubmissionEntry& entry = ring.entry();
        prepare::receive(entry, fd, memory.data(), 16, 0);
        entry.user_data = number;
    }
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_THAT(take_finding(), HasSubstr("the memory of receive 0x2 (16 bytes"));
    prepare::cancel(ring.entry(), 0, abi::cancel_any);
    EXPECT_EQ(turn(ring).size(), 3u);
}

TEST_F(SimulatedBuffers, SendDataThatChangesMeanwhileIsFound) {
    Ring ring = make_ring();
    ours->room = 4;
    std::string text = "0123456789";
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send(entry, fd, text.data(), 10, MSG_WAITALL);
    entry.user_data = 9;
    EXPECT_THAT(turn(ring), IsEmpty());
    text[8] = '!';
    EXPECT_EQ(theirs->heard(), "0123");
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_THAT(take_finding(), HasSubstr("the memory of send 0x9 (6 bytes at"));
    EXPECT_EQ(theirs->heard(), "4567");
    EXPECT_EQ(turn(ring).size(), 1u);
}

#if !defined(__SANITIZE_ADDRESS__)
// Under AddressSanitizer the touch itself is an error.

TEST_F(SimulatedBuffers, TouchingWhatTheKernelHasIsFound) {
    Ring ring = make_ring();
    HandMadeGroup group(ring);
    alignas(16) std::array<std::byte, 32> memory{};
    group.stage(0, memory.data(), 32);
    group.publish();
    EXPECT_EQ(ring.enter(1, 1), 0);
    memory[0] = std::byte{1};
    theirs->say("x");
    receive_once(ring, 1);
    EXPECT_EQ(turn(ring).size(), 1u);
    EXPECT_THAT(take_finding(), HasSubstr("buffer 0 of group 64 was changed while the kernel had it"));
    alignas(16) std::array<std::byte, 16> own{};
    prepare::receive(ring.entry(), fd, own.data(), 16, 0);
    EXPECT_THAT(turn(ring), IsEmpty());
    own[3] = std::byte{1};
    theirs->say("y");
    EXPECT_EQ(turn(ring).size(), 1u);
    EXPECT_THAT(take_finding(), HasSubstr("was changed while the kernel had it"));
}
#else
TEST_F(SimulatedBuffers, TouchingWhatTheKernelHasAborts) {
    Ring ring = make_ring();
    BufferRing buffers = make_buffers(ring, 2, 64);
    theirs->say("x");
    receive_once(ring, 1);
    const auto seen = turn(ring);
    ASSERT_EQ(seen.size(), 1u);
    const BufferRing::Slice slice = buffers.take({.user_data = 1, .result = 1, .flags = seen[0].flags});
    EXPECT_EQ(*slice.data, std::byte{'x'});
    buffers.give_back(slice.buffer);
    buffers.publish();
    EXPECT_EQ(ring.enter(1, 1), 0);
    EXPECT_DEATH(static_cast<volatile std::byte*>(slice.data)[0] = std::byte{1}, "use-after-poison");
}
#endif

// ---- older kernels ----

class SimulatedBuffersOn6_1 : public SimulatedBuffers {
protected:
    SimulatedBuffersOn6_1() : SimulatedBuffers(Profile::linux_6_1) {}
};

TEST_F(SimulatedBuffersOn6_1, IncrementalBuffersAreRefused) {
    Ring ring = make_ring();
    EXPECT_EQ(BufferRing::create(ring, {.group = 64, .count = 4, .size = 16, .incremental = true}).error().code,
              std::errc::invalid_argument);
}

TEST_F(SimulatedBuffersOn6_1, LowGroupThatIsRegisteredAgainKeepsItsHead) {
    Ring ring = make_ring();
    const auto registration = [&](std::uint32_t opcode, void* entries) {
        abi::BufferRingRegistration wanted{};
        wanted.ring_addr = reinterpret_cast<std::uintptr_t>(entries);
        wanted.ring_entries = 4;
        wanted.bgid = 3;
        EXPECT_TRUE(ring.register_raw(opcode, &wanted, 1).has_value());
    };
    void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto* const entries = static_cast<abi::BufferEntry*>(memory);
    std::array<std::array<std::byte, 16>, 2> data{};
    const auto fill = [&] {
        for (std::uint16_t number = 0; number != 2; ++number) {
            entries[number].addr = reinterpret_cast<std::uintptr_t>(data[number].data());
            entries[number].len = 16;
            entries[number].bid = number;
        }
        entries[0].resv = 2;
    };
    registration(abi::register_buffer_ring, memory);
    fill();
    theirs->say("x");
    prepare::receive_select(ring.entry(), fd, 3, 0, 0);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{0, 1, in_buffer(0)}));
    registration(abi::unregister_buffer_ring, memory);
    fill();
    registration(abi::register_buffer_ring, memory);
    theirs->say("y");
    prepare::receive_select(ring.entry(), fd, 3, 0, 0);
    EXPECT_THAT(turn(ring), ElementsAre(Seen{0, 1, in_buffer(1)})) << "buffer 0 is lost";
    registration(abi::unregister_buffer_ring, memory);
    ::munmap(memory, 4096);
}

}  // namespace
}  // namespace ferrule
