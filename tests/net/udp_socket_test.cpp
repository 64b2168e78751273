#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/task_group.hpp>

#include "reactor/reactor_fixture.hpp"
#include "support/client_socket.hpp"
#include "support/datagram_peer.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/network_engine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <expected>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using ferrule::Address;
using ferrule::Datagram;
using ferrule::DatagramSendOptions;
using ferrule::Ecn;
using ferrule::EndReason;
using ferrule::Reactor;
using ferrule::Task;
using ferrule::UdpSocket;
using ferrule::UdpSocketOptions;
using ferrule_test::Call;
using ferrule_test::DatagramPeer;
using ferrule_test::ForwardingKernel;
using ferrule_test::pattern;
using testing::HasSubstr;

/// A socket, or the test fails.
UdpSocket open(Reactor& reactor, UdpSocketOptions options = {.address = Address::loopback(0)}) {
    auto socket = UdpSocket::open(reactor, options);
    if (!socket) throw std::runtime_error(socket.error().message);
    return std::move(*socket);
}

/// The error of a flush; none when it had none.
std::errc error_of(const std::expected<void, std::errc>& flushed) {
    return flushed ? std::errc{} : flushed.error();
}

/// Runs the body on a reactor of its own, and checks that it leaves nothing behind.
void run(Task<> (*body)(Reactor&), ferrule::ReactorOptions options = {}) {
    const std::size_t descriptors = ferrule_test::open_descriptors();
    {
        Reactor reactor{0, options};
        std::size_t faults = 0;
        reactor.on_fault([&](Reactor&, std::exception_ptr fault) {
            ++faults;
            try {
                std::rethrow_exception(fault);
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what();
            }
            reactor.stop();
        });
        ferrule_test::run_task(reactor, [&] { return body(reactor); });
        EXPECT_EQ(faults, 0u);
    }
    EXPECT_EQ(ferrule_test::open_descriptors(), descriptors);
}

// ---- what comes and goes ----

struct Family {
    const char* name;
    Address socket;
    Address peer;
};

std::vector<Family> families() {
    return {{"IPv4", Address::loopback(0), Address::loopback(0)},
            {"IPv6", Address::loopback_ipv6(0), Address::loopback_ipv6(0)},
            {"IPv4 on a dual-stack socket", Address::any(0), Address::loopback(0)},
            {"IPv6 on a dual-stack socket", Address::any(0), Address::loopback_ipv6(0)}};
}

Task<> echo_lengths(Reactor& reactor) {
    for (const Family& family : families()) {
        SCOPED_TRACE(family.name);
        UdpSocket socket = open(reactor, {.address = family.socket});
        DatagramPeer peer{family.peer};
        peer.set(SOL_SOCKET, SO_SNDBUF, 1 << 20);
        const Address there = family.peer.with_port(socket.local_address()->port());
        for (const std::size_t length : {0, 1, 1472, 9000, 65507}) {
            SCOPED_TRACE(length);
            const std::string bytes = pattern(length, static_cast<unsigned>(length));
            peer.send_to(there, bytes);
            auto datagram = co_await socket.receive();
            EXPECT_TRUE(datagram);
            if (!datagram) co_return;
            EXPECT_EQ(datagram.payload().text(), bytes);
            EXPECT_EQ(datagram.size(), length);
            EXPECT_FALSE(datagram.truncated());
            EXPECT_EQ(datagram.segment_size(), 0u);
            EXPECT_EQ(datagram.ecn(), Ecn::not_capable);
            EXPECT_EQ(datagram.local_address().family(), ferrule::AddressFamily::none);
            EXPECT_EQ(datagram.sender().unmapped(), peer.address());
            EXPECT_TRUE(socket.send_to(datagram.sender(), datagram.payload()));
            datagram.reset();
            const auto flushed = co_await socket.flush();
            EXPECT_TRUE(flushed.has_value());
            const DatagramPeer::Received answer = peer.receive();
            EXPECT_EQ(answer.bytes, bytes);
            EXPECT_EQ(answer.sender, there);
        }
        EXPECT_EQ(socket.counters().datagrams_received.value(), 5u);
        EXPECT_EQ(socket.counters().datagrams_sent.value(), 5u);
        EXPECT_EQ(socket.counters().bytes_sent.value(), socket.counters().bytes_received.value());
    }
}

TEST(UdpSocket, echoes_datagrams_of_every_length_and_family) {
    run(echo_lengths);
}

Task<> talk_connected(Reactor& reactor) {
    for (const Family& family : families()) {
        SCOPED_TRACE(family.name);
        UdpSocket socket = open(reactor, {.address = family.socket});
        DatagramPeer peer{family.peer};
        DatagramPeer stranger{family.peer};
        EXPECT_TRUE(socket.connect(peer.address()).has_value());
        EXPECT_EQ(socket.peer_address()->unmapped(), peer.address());
        for (int turn = 0; turn < 100; ++turn) {
            const std::string question = "question " + std::to_string(turn);
            EXPECT_TRUE(socket.send(question));
            EXPECT_EQ(socket.unsent(), 1u);
            const auto flushed = co_await socket.flush();
            EXPECT_TRUE(flushed.has_value());
            EXPECT_EQ(socket.unsent(), 0u);
            const DatagramPeer::Received received = peer.receive();
            EXPECT_EQ(received.bytes, question);
            peer.send_to(received.sender, "answer " + std::to_string(turn));
            auto answer = co_await socket.receive();
            EXPECT_EQ(answer.payload().text(), "answer " + std::to_string(turn));
        }
    }
}

TEST(UdpSocket, connected_one_talks_to_its_peer) {
    run(talk_connected);
}

Task<> order_of_a_pass(Reactor& reactor) {
    UdpSocket socket = open(reactor);
    DatagramPeer peer;
    peer.set(SOL_SOCKET, SO_RCVBUF, 1 << 20);
    const Address there = peer.address();
    constexpr int many = 300;  // several chains
    for (int number = 0; number < many; ++number) EXPECT_TRUE(socket.send_to(there, std::to_string(number)));
    const auto flushed = co_await socket.flush();
    EXPECT_TRUE(flushed.has_value());
    for (int number = 0; number < many; ++number) EXPECT_EQ(peer.receive().bytes, std::to_string(number));
    EXPECT_TRUE(peer.empty());
}

TEST(UdpSocket, datagrams_leave_in_the_order_of_their_sends) {
    run(order_of_a_pass);
}

TEST(UdpSocket, order_holds_on_a_small_queue) {
    ferrule::ReactorOptions options;
    options.submission_entries = 4;
    options.completion_entries = 8;
    run(order_of_a_pass, options);
}

Task<> truncate(Reactor& reactor) {
    UdpSocket socket = open(reactor, {.address = Address::loopback(0), .datagram_size_max = 100});
    DatagramPeer peer;
    const std::string bytes = pattern(150);
    for (const std::size_t length : {std::size_t{100}, std::size_t{101}, std::size_t{150}}) {
        peer.send_to(*socket.local_address(), bytes.substr(0, length));
        auto datagram = co_await socket.receive();
        EXPECT_EQ(datagram.payload().text(), bytes.substr(0, 100));
        EXPECT_EQ(datagram.truncated(), length > 100);
    }
    EXPECT_EQ(socket.counters().truncated.value(), 2u);
}

TEST(UdpSocket, longer_datagrams_are_cut_and_say_so) {
    run(truncate);
}

Task<> congestion_bits(Reactor& reactor) {
    for (const Family& family : families()) {
        SCOPED_TRACE(family.name);
        UdpSocket socket = open(reactor, {.address = family.socket, .ecn = true});
        DatagramPeer peer{family.peer};
        const Address there = family.peer.with_port(socket.local_address()->port());
        for (const Ecn ecn : {Ecn::not_capable, Ecn::capable_1, Ecn::capable_0, Ecn::experienced}) {
            constexpr int other_bits = 0x88;  // of the traffic class
            peer.send_marked(there, "marked", other_bits | static_cast<int>(ecn));
            auto datagram = co_await socket.receive();
            EXPECT_EQ(datagram.ecn(), ecn);
            EXPECT_TRUE(socket.send_to(datagram.sender(), "marked too", {.ecn = ecn}));
            const auto flushed = co_await socket.flush();
            EXPECT_TRUE(flushed.has_value());
            EXPECT_EQ(peer.receive().traffic_class, static_cast<int>(ecn));
        }
        // The peer of a connected socket decides by which protocol it goes.
        EXPECT_TRUE(socket.connect(peer.address()).has_value());
        EXPECT_TRUE(socket.send("connected", {.ecn = Ecn::capable_0}));
        const auto flushed = co_await socket.flush();
        EXPECT_TRUE(flushed.has_value());
        EXPECT_EQ(peer.receive().traffic_class, static_cast<int>(Ecn::capable_0));
    }
}

TEST(UdpSocket, congestion_bits_come_and_go) {
    run(congestion_bits);
}

Task<> packet_information(Reactor& reactor) {
    // All of 127.0.0.0/8 is this machine.
    const Address second = *Address::parse("127.0.0.2", 0);
    for (const Address& any : {Address::any_ipv4(0), Address::any(0)}) {
        UdpSocket socket = open(reactor, {.address = any, .packet_info = true});
        const Address there = second.with_port(socket.local_address()->port());
        DatagramPeer peer;
        peer.connect(there);  // takes answers from this address only
        peer.send_to(there, "hello");
        auto datagram = co_await socket.receive();
        EXPECT_EQ(datagram.local_address().unmapped(), there);
        EXPECT_TRUE(socket.send_to(datagram.sender(), "from there", {.source = datagram.local_address()}));
        const auto flushed = co_await socket.flush();
        EXPECT_TRUE(flushed.has_value());
        EXPECT_EQ(peer.receive().sender, there);
    }
    UdpSocket socket = open(reactor, {.address = Address::any(0), .packet_info = true});
    DatagramPeer peer{Address::loopback_ipv6(0)};
    const Address there = Address::loopback_ipv6(socket.local_address()->port());
    peer.send_to(there, "hello");
    auto datagram = co_await socket.receive();
    EXPECT_EQ(datagram.local_address(), there);
    EXPECT_TRUE(socket.send_to(datagram.sender(), "back", {.source = datagram.local_address()}));
    const auto flushed = co_await socket.flush();
    EXPECT_TRUE(flushed.has_value());
    EXPECT_EQ(peer.receive().sender, there);
    // A source of the other family is no source.
    EXPECT_FALSE(socket.send_to(datagram.sender(), "back", {.source = second}));
    const auto refused = co_await socket.flush();
    EXPECT_EQ(error_of(refused), std::errc::address_family_not_supported);
}

TEST(UdpSocket, tells_where_a_datagram_was_sent_to_and_answers_from_there) {
    run(packet_information);
}

// ---- trains ----

void expect_segments(const Datagram& datagram, std::string_view bytes, std::size_t size) {
    std::size_t offset = 0;
    for (const ferrule::Slice segment : datagram.segments()) {
        EXPECT_EQ(segment.text(), bytes.substr(offset, size));
        offset += segment.size();
    }
    EXPECT_EQ(offset, bytes.size());
}

Task<> trains(Reactor& reactor) {
    UdpSocket sender = open(reactor);
    UdpSocket joined = open(reactor, {.address = Address::loopback(0), .gro = true});
    UdpSocket single = open(reactor);
    struct Train {
        std::size_t bytes;
        std::uint16_t segment;
        std::size_t segments;
    };
    for (const Train& train :
         {Train{5500, 1000, 6}, Train{6000, 1000, 6}, Train{1001, 1000, 2}, Train{60000, 1400, 43}}) {
        SCOPED_TRACE(train.bytes);
        const std::string bytes = pattern(train.bytes);
        EXPECT_TRUE(sender.send_to(*joined.local_address(), bytes, {.segment_size = train.segment}));
        auto datagram = co_await joined.receive();
        EXPECT_EQ(datagram.segment_size(), train.segment);
        EXPECT_EQ(datagram.payload().text(), bytes);
        expect_segments(datagram, bytes, train.segment);
        EXPECT_TRUE(sender.send_to(*single.local_address(), bytes, {.segment_size = train.segment}));
        for (std::size_t number = 0; number < train.segments; ++number) {
            auto one = co_await single.receive();
            EXPECT_EQ(one.payload().text(), bytes.substr(number * train.segment, train.segment));
            EXPECT_EQ(one.segment_size(), 0u);
        }
    }
    // One segment is no train.
    for (const std::size_t length : {0, 999, 1000}) {
        EXPECT_TRUE(sender.send_to(*joined.local_address(), pattern(length), {.segment_size = 1000}));
        auto datagram = co_await joined.receive();
        EXPECT_EQ(datagram.segment_size(), 0u);
        std::size_t segments = 0;
        for (const ferrule::Slice segment : datagram.segments()) segments += segment.size() == length ? 1 : 100;
        EXPECT_EQ(segments, 1u);
    }
    EXPECT_EQ(sender.counters().split_trains.value(), 0u);
}

TEST(UdpSocket, trains_are_cut_by_the_kernel_and_joined_again) {
    run(trains);
}

Task<> refused_trains(Reactor& reactor) {
    UdpSocket sender = open(reactor);
    DatagramPeer peer;
    peer.set(SOL_SOCKET, SO_RCVBUF, 1 << 20);
    // More segments than a kernel takes.
    const std::string bytes = pattern(200);
    EXPECT_TRUE(sender.send_to(peer.address(), "before"));
    EXPECT_TRUE(sender.send_to(peer.address(), bytes, {.segment_size = 1}));
    EXPECT_TRUE(sender.send_to(peer.address(), "behind"));
    const auto flushed = co_await sender.flush();
    EXPECT_TRUE(flushed.has_value());
    EXPECT_EQ(peer.receive().bytes, "before");
    for (const char byte : bytes) EXPECT_EQ(peer.receive().bytes, std::string(1, byte));
    EXPECT_EQ(peer.receive().bytes, "behind");
    EXPECT_EQ(sender.counters().split_trains.value(), 1u);
    // Without checksums nothing is cut (udp(7)).
    const int on = 1;
    EXPECT_TRUE(sender.set_option(SOL_SOCKET, SO_NO_CHECK, std::as_bytes(std::span(&on, 1))).has_value());
    EXPECT_TRUE(sender.connect(peer.address()).has_value());
    EXPECT_TRUE(sender.send("aaaabbbbcc", {.segment_size = 4, .ecn = Ecn::capable_0}));
    const auto again = co_await sender.flush();
    EXPECT_TRUE(again.has_value());
    for (const char* segment : {"aaaa", "bbbb", "cc"}) {
        const auto received = peer.receive();
        EXPECT_EQ(received.bytes, segment);
        EXPECT_EQ(received.traffic_class, static_cast<int>(Ecn::capable_0));
    }
    EXPECT_EQ(sender.counters().datagrams_sent.value(), 4u);
    EXPECT_TRUE(peer.empty());
}

TEST(UdpSocket, trains_that_the_kernel_refuses_leave_one_by_one) {
    run(refused_trains);
}

// ---- buffers ----

Task<> one_buffer(Reactor& reactor) {
    UdpSocket socket = open(reactor, {.address = Address::loopback(0), .receive_buffer_count = 1});
    DatagramPeer peer;
    constexpr int burst = 50;
    int received = 0;
    for (int turn = 0; turn < 4; ++turn) {
        for (int number = 0; number < burst; ++number) peer.send_to(*socket.local_address(), std::to_string(number));
        for (int number = 0; number < burst; ++number) {
            auto datagram = co_await socket.receive();
            EXPECT_EQ(datagram.payload().text(), std::to_string(number));
            ++received;
        }
    }
    EXPECT_EQ(received, 4 * burst);
    EXPECT_GE(socket.counters().starvations.value(), 1u);
}

TEST(UdpSocket, bursts_come_whole_through_one_buffer) {
    run(one_buffer);
}

Task<> held_buffers(Reactor& reactor) {
    UdpSocket socket = open(reactor, {.address = Address::loopback(0), .receive_buffer_count = 4});
    DatagramPeer peer;
    std::vector<Datagram> held;
    for (int number = 0; number < 10; ++number) peer.send_to(*socket.local_address(), std::to_string(number));
    for (int number = 0; number < 4; ++number) held.push_back(co_await socket.receive());
    const std::uint64_t passes = reactor.counters().passes.value();
    auto nothing = co_await ferrule::with_deadline(socket.receive(), 50ms);
    EXPECT_FALSE(nothing) << "the program holds every buffer";
    EXPECT_EQ(socket.end_reason(), EndReason::deadline);
    EXPECT_LE(reactor.counters().passes.value() - passes, 10u) << "it waits without turning";
    for (int number = 0; number < 4; ++number) {
        EXPECT_EQ(held[static_cast<std::size_t>(number)].payload().text(), std::to_string(number));
    }
    held[2].reset();
    auto next = co_await socket.receive();
    EXPECT_EQ(next.payload().text(), "4") << "the kernel has kept it";
    held.clear();
    next.reset();
    for (int number = 5; number < 10; ++number) {
        auto datagram = co_await socket.receive();
        EXPECT_EQ(datagram.payload().text(), std::to_string(number));
    }
}

TEST(UdpSocket, waits_while_the_program_holds_every_buffer) {
    run(held_buffers);
}

Task<> wait_for_one(UdpSocket* socket, std::string* got) {
    auto datagram = co_await socket->receive();
    *got = datagram ? std::string(datagram.payload().text()) : "nothing";
}

Task<> buffer_given_back_while_waiting(Reactor& reactor) {
    UdpSocket socket = open(reactor, {.address = Address::loopback(0), .receive_buffer_count = 1});
    DatagramPeer peer;
    peer.send_to(*socket.local_address(), "first");
    peer.send_to(*socket.local_address(), "second");
    auto held = co_await socket.receive();
    std::string got;
    ferrule::TaskGroup group(co_await ferrule::this_environment());
    EXPECT_TRUE(group.spawn(wait_for_one(&socket, &got)));
    co_await ferrule_test::submit_nop(reactor);
    co_await ferrule_test::submit_nop(reactor);
    EXPECT_EQ(got, "");
    held.reset();
    co_await group.join();
    EXPECT_EQ(got, "second");
}

TEST(UdpSocket, a_buffer_that_comes_back_lets_a_waiter_go_on) {
    run(buffer_given_back_while_waiting);
}

// ---- cancelling and ending ----

Task<> cancelled_receive(Reactor& reactor) {
    UdpSocket socket = open(reactor);
    DatagramPeer peer;
    for (int turn = 0; turn < 3; ++turn) {
        auto nothing = co_await ferrule::with_deadline(socket.receive(), 1ms);
        EXPECT_FALSE(nothing);
        EXPECT_EQ(socket.end_reason(), EndReason::deadline);
        EXPECT_EQ(socket.error(), std::errc::timed_out);
        peer.send_to(*socket.local_address(), "later");
        auto datagram = co_await socket.receive();
        EXPECT_EQ(datagram.payload().text(), "later");
    }
    std::string got;
    {
        ferrule::TaskGroup group(co_await ferrule::this_environment());
        EXPECT_TRUE(group.spawn(wait_for_one(&socket, &got)));
        group.cancel();
        co_await group.join();
    }
    EXPECT_EQ(got, "nothing");
    EXPECT_EQ(socket.end_reason(), EndReason::cancelled);
    EXPECT_EQ(socket.error(), std::errc::operation_canceled);
    // In a scope that is cancelled already nothing is taken.
    peer.send_to(*socket.local_address(), "kept");
    {
        ferrule::TaskGroup group(co_await ferrule::this_environment());
        group.cancel();
        EXPECT_TRUE(group.spawn(wait_for_one(&socket, &got)));
        co_await group.join();
    }
    auto kept = co_await socket.receive();
    EXPECT_EQ(kept.payload().text(), "kept");
}

TEST(UdpSocket, cancelling_removes_the_waiter_only) {
    run(cancelled_receive);
}

Task<> destroy_at_each_point(Reactor& reactor) {
    DatagramPeer peer;
    const std::size_t descriptors = ferrule_test::open_descriptors();
    {
        // Never used.
        UdpSocket socket = open(reactor);
    }
    {
        // Received from once, nothing there.
        UdpSocket socket = open(reactor);
        auto nothing = co_await ferrule::with_deadline(socket.receive(), 1ms);
        EXPECT_FALSE(nothing);
    }
    Datagram outlives;
    {
        // Datagrams in its queue, and one in the program's hands.
        UdpSocket socket = open(reactor);
        for (int number = 0; number < 10; ++number) peer.send_to(*socket.local_address(), std::to_string(number));
        outlives = co_await socket.receive();
        EXPECT_TRUE(outlives);
    }
    {
        // Datagrams on their way out: they go.
        UdpSocket socket = open(reactor);
        for (int number = 0; number < 100; ++number)
            EXPECT_TRUE(socket.send_to(peer.address(), std::to_string(number)));
    }
    // The peer's receive blocks this thread: they are all gone when the socket is.
    const auto all_closed = [&] { return ferrule_test::open_descriptors() == descriptors; };
    {
        ferrule_test::Until until_all_sent(reactor, all_closed);
        co_await until_all_sent;
    }
    for (int number = 0; number < 100; ++number) EXPECT_EQ(peer.receive().bytes, std::to_string(number));
    {
        // Starved.
        UdpSocket socket = open(reactor, {.address = Address::loopback(0), .receive_buffer_count = 1});
        peer.send_to(*socket.local_address(), "first");
        peer.send_to(*socket.local_address(), "second");
        auto held = co_await socket.receive();
        auto nothing = co_await ferrule::with_deadline(socket.receive(), 1ms);
        EXPECT_FALSE(nothing);
    }
    std::string got;
    ferrule::TaskGroup group(co_await ferrule::this_environment());
    {
        // Somebody receives.
        UdpSocket socket = open(reactor);
        EXPECT_TRUE(group.spawn(wait_for_one(&socket, &got)));
        co_await ferrule_test::submit_nop(reactor);
    }
    co_await group.join();
    EXPECT_EQ(got, "nothing");
    EXPECT_EQ(outlives.payload().text(), "0") << "its memory outlives the socket";
    EXPECT_EQ(outlives.sender(), peer.address());
    ferrule_test::Until until_all_closed(reactor, all_closed);
    co_await until_all_closed;
    // The group of the one that is held is still taken, and all others are free again.
    UdpSocket last = open(reactor);
    EXPECT_EQ(ferrule_test::open_descriptors(), descriptors + 1);
}

TEST(UdpSocket, may_be_destroyed_at_each_point) {
    run(destroy_at_each_point);
}

Task<> flush_it(UdpSocket* socket, std::vector<std::errc>* ended) {
    const auto flushed = co_await socket->flush();
    ended->push_back(error_of(flushed));
}

Task<> several_flushes(Reactor& reactor) {
    DatagramPeer peer;
    std::vector<std::errc> ended;
    ferrule::TaskGroup group(co_await ferrule::this_environment());
    {
        UdpSocket socket = open(reactor);
        EXPECT_TRUE(socket.send_to(peer.address(), "one"));
        EXPECT_TRUE(group.spawn(flush_it(&socket, &ended)));
        EXPECT_TRUE(group.spawn(flush_it(&socket, &ended)));
        EXPECT_TRUE(socket.send_to(peer.address(), "two"));
        {
            ferrule::TaskGroup cancelled(co_await ferrule::this_environment());
            EXPECT_TRUE(cancelled.spawn(flush_it(&socket, &ended)));
            cancelled.cancel();
            co_await cancelled.join();
        }
        EXPECT_THAT(ended, testing::Contains(std::errc::operation_canceled));
        EXPECT_TRUE(group.spawn(flush_it(&socket, &ended)));
        // The socket goes with flushes waiting.
        EXPECT_TRUE(socket.send_to(peer.address(), "three"));
        EXPECT_TRUE(group.spawn(flush_it(&socket, &ended)));
    }
    co_await group.join();
    EXPECT_EQ(ended.size(), 5u);
    EXPECT_EQ(std::count(ended.begin(), ended.end(), std::errc{}), 4);
    for (const char* text : {"one", "two", "three"}) EXPECT_EQ(peer.receive().bytes, text);
}

TEST(UdpSocket, several_may_wait_for_a_flush) {
    run(several_flushes);
}

Task<> receive_for_ever(UdpSocket socket, std::optional<EndReason>* reason) {
    while (auto datagram = co_await socket.receive()) {
    }
    *reason = socket.end_reason();
}

Task<> end_while_received_from(Reactor& reactor) {
    static std::optional<EndReason> reason;
    reason.reset();
    reactor.spawn(receive_for_ever(open(reactor), &reason));
    co_await ferrule_test::submit_nop(reactor);
}

TEST(UdpSocket, the_end_of_the_reactor_ends_a_receive) {
    run(end_while_received_from);
}

/// A client of a reactor's that keeps its socket for as long as that lasts.
struct Client {
    std::optional<UdpSocket> socket;
};

Task<> keep_in_a_service(Reactor& reactor) {
    // The client is there before the sockets' own service, and so ends after it.
    Client& client = reactor.add_service<Client>();
    client.socket = open(reactor);
    DatagramPeer peer;
    peer.send_to(*client.socket->local_address(), "hello");
    auto datagram = co_await client.socket->receive();
    EXPECT_EQ(datagram.payload().text(), "hello");
    EXPECT_TRUE(client.socket->send_to(datagram.sender(), "never flushed"));
}

TEST(UdpSocket, may_be_kept_by_a_service_that_ends_later) {
    run(keep_in_a_service);
}

Task<> give_out(Reactor& reactor, std::optional<UdpSocket>* socket, Datagram* datagram) {
    socket->emplace(open(reactor));
    DatagramPeer peer;
    peer.send_to(*(*socket)->local_address(), "hello");
    *datagram = co_await (*socket)->receive();
}

TEST(UdpSocket, and_its_datagrams_may_outlive_the_reactor) {
    for (const bool datagram_first : {false, true}) {
        std::optional<UdpSocket> socket;
        Datagram datagram;
        {
            Reactor reactor;
            ferrule_test::run_task(reactor, [&] { return give_out(reactor, &socket, &datagram); });
        }
        EXPECT_EQ(datagram.payload().text(), "hello");
        if (datagram_first) datagram.reset();
        socket.reset();
    }
}

TEST(UdpSocket, may_be_opened_before_the_reactor_runs_and_end_elsewhere) {
    const std::size_t descriptors = ferrule_test::open_descriptors();
    {
        Reactor reactor;
        { UdpSocket never_run = open(reactor); }
        UdpSocket used = open(reactor);
        std::string got;
        DatagramPeer peer;
        peer.send_to(*used.local_address(), "early");
        ferrule_test::run_task(reactor, [&] { return wait_for_one(&used, &got); });
        EXPECT_EQ(got, "early");
        // Its reactor's loop is over: what is left of it ends with the reactor.
        used.close();
    }
    EXPECT_EQ(ferrule_test::open_descriptors(), descriptors);
}

TEST(UdpSocket, handle_that_ends_on_another_thread_goes_home) {
    ferrule_test::ReactorThread reactor;
    std::optional<UdpSocket> socket;
    ferrule_test::Signal opened;
    reactor->post([&] {
        socket.emplace(open(*reactor));
        opened.raise();
    });
    opened.wait();
    EXPECT_THROW(static_cast<void>(socket->receive()), std::logic_error);
    EXPECT_THROW(socket->send("text"), std::logic_error);
    const std::size_t descriptors = ferrule_test::open_descriptors();
    socket.reset();
    const auto until = std::chrono::steady_clock::now() + 30s;
    while (ferrule_test::open_descriptors() == descriptors && std::chrono::steady_clock::now() < until)
        std::this_thread::sleep_for(1ms);
    EXPECT_EQ(ferrule_test::open_descriptors(), descriptors - 1);
}

// ---- errors ----

Task<> refused(Reactor& reactor) {
    UdpSocket socket = open(reactor);
    Address nobody;
    {
        DatagramPeer gone;
        nobody = gone.address();
    }
    EXPECT_TRUE(socket.connect(nobody).has_value());
    for (int turn = 0; turn < 3; ++turn) {
        EXPECT_TRUE(socket.send("anybody there?"));
        auto nothing = co_await socket.receive();
        EXPECT_FALSE(nothing);
        EXPECT_EQ(socket.end_reason(), EndReason::failed);
        EXPECT_EQ(socket.error(), std::errc::connection_refused);
    }
    EXPECT_EQ(socket.counters().receive_errors.value(), 3u);
    // The socket goes on.
    DatagramPeer peer{nobody};
    EXPECT_TRUE(socket.send("and now?"));
    const auto flushed = co_await socket.flush();
    EXPECT_TRUE(flushed.has_value());
    const auto received = peer.receive();
    EXPECT_EQ(received.bytes, "and now?");
    peer.send_to(received.sender, "yes");
    auto answer = co_await socket.receive();
    EXPECT_EQ(answer.payload().text(), "yes");
}

TEST(UdpSocket, refusal_ends_one_receive_and_not_the_socket) {
    run(refused);
}

Task<> refused_sends(Reactor& reactor) {
    UdpSocket socket = open(reactor);
    Address nobody;
    {
        DatagramPeer gone;
        nobody = gone.address();
    }
    EXPECT_TRUE(socket.connect(nobody).has_value());
    // Nobody receives: the next send finds what the network has told of the one before, and is not sent itself.
    std::vector<std::errc> told;
    for (int turn = 0; turn < 4; ++turn) {
        EXPECT_TRUE(socket.send("anybody there?"));
        const auto flushed = co_await socket.flush();
        told.push_back(error_of(flushed));
    }
    EXPECT_THAT(told, testing::ElementsAre(std::errc{}, std::errc::connection_refused, std::errc{},
                                           std::errc::connection_refused));
    EXPECT_EQ(socket.counters().send_errors.value(), 2u);
    EXPECT_EQ(socket.counters().datagrams_sent.value(), 2u);
}

TEST(UdpSocket, refusal_is_told_by_a_flush_when_nobody_receives) {
    run(refused_sends);
}

Task<> errors_of_sends(Reactor& reactor) {
    UdpSocket socket = open(reactor);
    DatagramPeer peer;
    const std::string too_long = pattern(65508);
    EXPECT_TRUE(socket.send_to(peer.address(), "one"));
    EXPECT_TRUE(socket.send_to(peer.address(), too_long));
    EXPECT_TRUE(socket.send("no peer"));
    EXPECT_TRUE(socket.send_to(peer.address(), "two"));
    const auto first = co_await socket.flush();
    EXPECT_EQ(error_of(first), std::errc::message_size);
    EXPECT_EQ(peer.receive().bytes, "one");
    EXPECT_EQ(peer.receive().bytes, "two") << "those behind one that failed go all the same";
    EXPECT_TRUE(peer.empty());
    EXPECT_EQ(socket.counters().send_errors.value(), 2u);
    const auto told = co_await socket.flush();
    EXPECT_TRUE(told.has_value()) << "an error is told once";
    EXPECT_TRUE(socket.send("no peer"));
    const auto second = co_await socket.flush();
    EXPECT_EQ(error_of(second), std::errc::destination_address_required);
    // What cannot be a datagram is not taken.
    EXPECT_FALSE(socket.send_to(peer.address(), pattern(65536)));
    const auto third = co_await socket.flush();
    EXPECT_EQ(error_of(third), std::errc::message_size);
    EXPECT_FALSE(socket.send_to(Address::loopback_ipv6(peer.address().port()), "wrong family"));
    const auto fourth = co_await socket.flush();
    EXPECT_EQ(error_of(fourth), std::errc::address_family_not_supported);
    // The IPv6 form of an IPv4 address is the same.
    EXPECT_TRUE(socket.send_to(peer.address().mapped(), "mapped"));
    const auto fifth = co_await socket.flush();
    EXPECT_TRUE(fifth.has_value());
    EXPECT_EQ(peer.receive().bytes, "mapped");
}

TEST(UdpSocket, an_error_is_of_its_own_datagram) {
    run(errors_of_sends);
}

Task<> limits(Reactor& reactor) {
    UdpSocket socket = open(reactor, {.address = Address::loopback(0), .send_limit = 3, .send_bytes_limit = 4096});
    DatagramPeer peer;
    const Address there = peer.address();
    for (int turn = 0; turn < 2; ++turn) {
        EXPECT_TRUE(socket.send_to(there, "1"));
        EXPECT_TRUE(socket.send_to(there, "2"));
        EXPECT_TRUE(socket.send_to(there, "3"));
        EXPECT_FALSE(socket.send_to(there, "4"));
        const auto flushed = co_await socket.flush();
        EXPECT_TRUE(flushed.has_value()) << "a full queue is no error";
        for (const char* text : {"1", "2", "3"}) EXPECT_EQ(peer.receive().bytes, text);
    }
    // One may wait, however large; then its memory counts.
    EXPECT_TRUE(socket.send_to(there, pattern(5000)));
    EXPECT_FALSE(socket.send_to(there, "1"));
    const auto flushed = co_await socket.flush();
    EXPECT_TRUE(flushed.has_value());
    EXPECT_EQ(peer.receive().bytes, pattern(5000));
    EXPECT_EQ(socket.counters().refused_sends.value(), 3u);
    EXPECT_TRUE(peer.empty());
}

TEST(UdpSocket, sends_are_bounded_in_number_and_bytes) {
    run(limits);
}

Task<> misuse(Reactor& reactor) {
    UdpSocket socket = open(reactor);
    std::string got;
    ferrule::TaskGroup group(co_await ferrule::this_environment());
    EXPECT_TRUE(group.spawn(wait_for_one(&socket, &got)));
    EXPECT_THROW(static_cast<void>(socket.receive()), std::logic_error);
    UdpSocket moved = std::move(socket);
    EXPECT_FALSE(socket);
    EXPECT_THROW(socket.send("text"), std::logic_error);
    EXPECT_THROW(static_cast<void>(socket.local_address()), std::logic_error);
    DatagramPeer peer;
    peer.send_to(*moved.local_address(), "the waiter is the socket's");
    co_await group.join();
    EXPECT_EQ(got, "the waiter is the socket's");
}

TEST(UdpSocket, misuse_throws) {
    run(misuse);
}

Task<> broken_options(Reactor& reactor) {
    DatagramPeer peer;
    struct Wrong {
        UdpSocketOptions options;
        const char* said;
    };
    const Address here = Address::loopback(0);
    const Wrong wrong[] = {
        {{.address = *Address::parse("unix:@name", 0)}, "UDP socket for unix:@name"},
        {{.address = here, .receive_buffer_count = 3}, "UdpSocketOptions::receive_buffer_count"},
        {{.address = here, .receive_buffer_count = 65536}, "UdpSocketOptions::receive_buffer_count"},
        {{.address = here, .datagram_size_max = 0}, "UdpSocketOptions::datagram_size_max"},
        {{.address = here, .datagram_size_max = 65536}, "UdpSocketOptions::datagram_size_max"},
        {{.address = here, .send_limit = 0}, "UdpSocketOptions::send_limit"},
        {{.address = peer.address()}, "bind 127.0.0.1:"},
    };
    for (const Wrong& one : wrong) {
        const auto socket = UdpSocket::open(reactor, one.options);
        EXPECT_FALSE(socket.has_value());
        if (!socket) {
            EXPECT_THAT(socket.error().message, HasSubstr(one.said));
        }
    }
    const UdpSocket anywhere = open(reactor, {});
    EXPECT_TRUE(anywhere.local_address()->is_any());
    EXPECT_NE(anywhere.local_address()->port(), 0);
    UdpSocket socket = open(reactor);
    const auto connected = socket.connect(Address::loopback_ipv6(1));
    EXPECT_FALSE(connected.has_value());
    EXPECT_THAT(connected.error().message, HasSubstr("connect [::1]:1: "));
    co_return;
}

TEST(UdpSocket, what_cannot_be_opened_says_why) {
    run(broken_options);
}

TEST(UdpSocket, failure_at_each_point_leaves_nothing_behind) {
    ForwardingKernel kernel;
    Reactor reactor{0, {}, kernel};
    UdpSocketOptions options{.address = Address::loopback(0)};
    options.gro = options.ecn = options.packet_info = true;
    options.socket_receive_bytes = options.socket_send_bytes = 4096;
    for (const Call call : {Call::socket, Call::set_option, Call::bind, Call::socket_name, Call::map, Call::advise}) {
        for (std::uint64_t point = 0; point < 4; ++point) {
            // Those that were opened end with the reactor, which does not run.
            const std::size_t descriptors = ferrule_test::open_descriptors();
            kernel.heal();
            kernel.fail(call, EACCES, 1, point);
            const auto socket = UdpSocket::open(reactor, options);
            if (socket) break;
            EXPECT_THAT(socket.error().message, HasSubstr("Permission denied"));
            EXPECT_EQ(ferrule_test::open_descriptors(), descriptors);
        }
    }
    kernel.heal();
    const std::size_t descriptors = ferrule_test::open_descriptors();
    kernel.fail_registration(ferrule::abi::register_buffer_ring, EPERM, 1);
    EXPECT_FALSE(UdpSocket::open(reactor, options).has_value());
    EXPECT_EQ(ferrule_test::open_descriptors(), descriptors);
    EXPECT_TRUE(UdpSocket::open(reactor, options).has_value());
}

TEST(UdpSocket, socket_buffers_are_asked_for_and_read_back) {
    Reactor reactor;
    testing::internal::CaptureStderr();
    const UdpSocket usual = open(reactor);
    const UdpSocket smaller =
        open(reactor, {.address = Address::loopback(0), .socket_receive_bytes = 20'000, .socket_send_bytes = 10'000});
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    EXPECT_EQ(smaller.socket_receive_bytes(), 40'000u) << "as the kernel counts";
    EXPECT_EQ(smaller.socket_send_bytes(), 20'000u);
    EXPECT_GT(usual.socket_receive_bytes(), 0u);
    testing::internal::CaptureStderr();
    const UdpSocket greedy = open(reactor, {.address = Address::loopback(0), .socket_receive_bytes = 1u << 30});
    EXPECT_THAT(
        testing::internal::GetCapturedStderr(),
        HasSubstr("UDP socket 127.0.0.1:0: 1073741824 bytes of socket buffer were asked for, the system gives"));
}

}  // namespace
