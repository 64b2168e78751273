// sendmsg and recvmsg of a ring: parts, partial results, and the memory that is the kernel's meanwhile.

#include "sim/ring_fixture.hpp"

#include <gmock/gmock.h>

#include <sys/uio.h>

namespace ferrule {
namespace {

using namespace ferrule_test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class MessageHeader : public SimulatedRingTest {
protected:
    MessageHeader() {
        std::tie(end, peer) = EndDouble::pair();
        fd = kernel.install(end);
    }

    /// A header of parts of these lengths, one behind the other.
    msghdr& header_of(std::span<char> bytes, std::initializer_list<std::size_t> lengths) {
        parts.clear();
        for (const std::size_t length : lengths) {
            parts.push_back({bytes.data(), length});
            bytes = bytes.subspan(length);
        }
        header = {};
        header.msg_iov = parts.data();
        header.msg_iovlen = parts.size();
        return header;
    }

    std::shared_ptr<EndDouble> end;
    std::shared_ptr<EndDouble> peer;
    int fd = -1;
    std::vector<iovec> parts;
    msghdr header{};
};

TEST_F(MessageHeader, PartsAreSentInOrderAndTheHeaderIsFreeAtOnce) {
    Ring ring = make_ring();
    std::string bytes = "one, two and three";
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send_message(entry, fd, &header_of(bytes, {3, 0, 9, 6}), MSG_NOSIGNAL);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 18}));
    EXPECT_EQ(peer->heard(), "one, two and three");
}

TEST_F(MessageHeader, ASendThatWaitsForAllGoesOnBehindWhatIsSent) {
    Ring ring = make_ring();
    std::string bytes = "abcdefghijklmnop";
    end->room = 5;
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send_message(entry, fd, &header_of(bytes, {2, 5, 9}), MSG_NOSIGNAL | MSG_WAITALL);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), IsEmpty());
    header = {};
    parts.assign(3, {});
    EXPECT_EQ(peer->heard(), "abcde");
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_EQ(peer->heard(), "fghij");
    EXPECT_THAT(turn(ring), IsEmpty());
    EXPECT_EQ(peer->heard(), "klmno");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 16}));
    EXPECT_EQ(peer->heard(), "p");
}

TEST_F(MessageHeader, ASendWithoutWaitingTakesWhatThereIsRoomFor) {
    Ring ring = make_ring();
    std::string bytes = "abcdefgh";
    end->room = 3;
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send_message(entry, fd, &header_of(bytes, {1, 7}), MSG_NOSIGNAL | MSG_DONTWAIT);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 3}));
    abi::SubmissionEntry& again = ring.entry();
    prepare::send_message(again, fd, &header_of(bytes, {1, 7}), MSG_NOSIGNAL | MSG_DONTWAIT);
    again.user_data = 2;
    EXPECT_THAT(turn(ring), ElementsAre(Seen{2, -EAGAIN}));
}

TEST_F(MessageHeader, WhatComesIsScatteredAndTheHeaderWritten) {
    Ring ring = make_ring();
    std::string bytes(12, '-');
    sockaddr_storage name{};
    msghdr& message = header_of(bytes, {3, 0, 9});
    message.msg_name = &name;
    message.msg_namelen = sizeof name;
    message.msg_flags = -1;
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive_message(entry, fd, &message, MSG_WAITALL);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), IsEmpty());
    peer->say("hello");
    EXPECT_THAT(turn(ring), IsEmpty());
    peer->say(", world, and");
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 12, abi::completion_socket_nonempty}));
    EXPECT_EQ(bytes, "hello, world");
    EXPECT_EQ(message.msg_namelen, 0u);
    EXPECT_EQ(message.msg_flags, 0);
}

TEST_F(MessageHeader, TooManyPartsAreRefused) {
    Ring ring = make_ring();
    msghdr& message = header_of({}, {});
    message.msg_iovlen = 1025;
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send_message(entry, fd, &message, 0);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, -EMSGSIZE}));
}

TEST_F(MessageHeader, ACancelledReceiveGivesItsMemoryBack) {
    Ring ring = make_ring();
    std::string bytes(8, '-');
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive_message(entry, fd, &header_of(bytes, {4, 4}), 0);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), IsEmpty());
    abi::SubmissionEntry& cancel = ring.entry();
    prepare::cancel(cancel, 1, 0);
    cancel.user_data = 2;
    EXPECT_THAT(turn(ring), testing::UnorderedElementsAre(Seen{1, -ECANCELED}, Seen{2, 0}));
    bytes.assign(8, '+');
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_F(MessageHeader, TouchingAPartThatIsBeingSentIsFound) {
    Ring ring = make_ring();
    std::string bytes = "abcdefgh";
    end->room = 2;
    abi::SubmissionEntry& entry = ring.entry();
    prepare::send_message(entry, fd, &header_of(bytes, {4, 4}), MSG_NOSIGNAL | MSG_WAITALL);
    entry.user_data = 1;
    EXPECT_THAT(turn(ring), IsEmpty());
    bytes[1] = 'B';
    EXPECT_EQ(take_finding(), "");
    bytes[6] = 'G';
    end->room = 100;
    peer->heard();
    EXPECT_THAT(turn(ring), ElementsAre(Seen{1, 8}));
    EXPECT_THAT(take_finding(), HasSubstr("was changed while the kernel had it"));
}
#endif

}  // namespace
}  // namespace ferrule
