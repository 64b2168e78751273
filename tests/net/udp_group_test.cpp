#include <ferrule/net/udp_group.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "reactor/reactor_fixture.hpp"
#include "support/client_socket.hpp"
#include "support/datagram_peer.hpp"
#include "support/forwarding_kernel.hpp"
#include "support/network_engine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <netinet/udp.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using ferrule::Address;
using ferrule::DatagramKey;
using ferrule::Ecn;
using ferrule::Reactor;
using ferrule::Task;
using ferrule::UdpGroup;
using ferrule::UdpSocket;
using ferrule::UdpSocketOptions;
using ferrule_test::DatagramPeer;
using ferrule_test::ForwardingKernel;
using ferrule_test::ReactorThread;
using testing::HasSubstr;

/// A kernel that lets no program choose among the sockets of a port.
class UnsteeredKernel : public ForwardingKernel {
public:
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override {
        if (level == SOL_SOCKET && name == SO_ATTACH_REUSEPORT_CBPF) return -EPERM;
        return ForwardingKernel::set_option(fd, level, name, value, length);
    }
};

std::shared_ptr<UdpGroup> open_group(std::size_t count, UdpSocketOptions options, std::optional<DatagramKey> key = {},
                                     ferrule::Kernel& kernel = ferrule::linux_kernel()) {
    auto group = UdpGroup::open(count, options, key, kernel);
    if (!group) throw std::runtime_error(group.error().message);
    return *group;
}

/// Answers each datagram with its own number and the congestion bits; forwards what is another's.
Task<> serve(UdpSocket socket, std::shared_ptr<UdpGroup> group, std::size_t index, std::atomic<unsigned>* strays) {
    while (auto datagram = co_await socket.receive()) {
        if (datagram.payload().text() == "leave") break;
        for (const ferrule::Slice segment : datagram.segments()) {
            if (group->owner_of(segment).value_or(index) == index) {
                socket.send_to(datagram.sender(),
                               std::to_string(index) + ' ' + std::to_string(static_cast<int>(datagram.ecn())));
            } else {
                strays->fetch_add(1);
                EXPECT_TRUE(group->forward(datagram, segment));
            }
        }
    }
}

/// A group with a reactor for each of its sockets.
class Fleet {
public:
    explicit Fleet(std::size_t count, std::optional<DatagramKey> key, UdpSocketOptions options = default_options(),
                   ferrule::Kernel& kernel = ferrule::linux_kernel())
        : group_(open_group(count, options, key, kernel)) {
        for (std::size_t index = 0; index < count; ++index) {
            reactors_.push_back(std::make_unique<ReactorThread>(static_cast<std::uint32_t>(index)));
            Reactor& reactor = **reactors_.back();
            reactor.post([this, &reactor, index] {
                auto socket = group_->take(reactor, index);
                EXPECT_TRUE(socket.has_value());
                if (socket) reactor.spawn(serve(std::move(*socket), group_, index, &strays_));
                started_.raise();
            });
        }
        started_.wait(static_cast<unsigned>(count));
    }

    static UdpSocketOptions default_options() {
        UdpSocketOptions options;
        options.address = Address::loopback(0);
        options.ecn = true;
        return options;
    }

    UdpGroup& group() { return *group_; }
    ReactorThread& reactor(std::size_t index) { return *reactors_[index]; }
    /// Datagrams that came to another socket than their own.
    unsigned strays() const { return strays_.load(); }

    /// The number of the socket that answers.
    std::size_t ask(DatagramPeer& peer, std::string_view question) {
        peer.send_to(group_->address(), question);
        return std::stoul(peer.receive().bytes);
    }

private:
    std::shared_ptr<UdpGroup> group_;
    std::atomic<unsigned> strays_{0};
    ferrule_test::Signal started_;
    std::vector<std::unique_ptr<ReactorThread>> reactors_;
};

std::string big_endian(std::uint32_t number, std::size_t width) {
    std::string bytes;
    for (std::size_t shift = width; shift-- > 0;) bytes.push_back(static_cast<char>(number >> (8 * shift)));
    return bytes;
}

TEST(UdpGroup, key_in_the_datagram_chooses_the_reactor) {
    Fleet fleet(4, DatagramKey{.offset = 0, .width = 1});
    EXPECT_TRUE(fleet.group().steered());
    EXPECT_EQ(fleet.group().size(), 4u);
    for (int peers = 0; peers < 3; ++peers) {
        DatagramPeer peer;
        for (std::uint32_t key = 0; key < 256; ++key) EXPECT_EQ(fleet.ask(peer, big_endian(key, 1) + "rest"), key % 4);
    }
    EXPECT_EQ(fleet.strays(), 0u) << "the kernel has found the right socket for each";
}

TEST(UdpGroup, keys_may_be_wide_and_stand_anywhere) {
    for (const DatagramKey key : {DatagramKey{1, 2}, DatagramKey{7, 4}, DatagramKey{1200, 4}}) {
        Fleet fleet(3, key);
        DatagramPeer peer;
        for (const std::uint32_t number : {0u, 1u, 2u, 255u, 256u, 0xfedcu, 0xffffu, 0xdeadbeefu, 0xffff'ffffu}) {
            const std::uint32_t seen = key.width == 2 ? number & 0xffff : number;
            EXPECT_EQ(fleet.ask(peer, std::string(key.offset, 'x') + big_endian(seen, key.width)), seen % 3);
        }
        EXPECT_EQ(fleet.strays(), 0u);
    }
}

TEST(UdpGroup, datagram_without_a_key_is_anybodys_but_its_peers_go_together) {
    Fleet fleet(4, DatagramKey{.offset = 2, .width = 2});
    EXPECT_EQ(fleet.group().owner_of({}), std::nullopt);
    std::set<std::size_t> reached;
    for (int turn = 0; turn < 64; ++turn) {
        DatagramPeer peer;
        const std::size_t first = fleet.ask(peer, "abc");
        EXPECT_EQ(fleet.ask(peer, ""), first);
        EXPECT_EQ(fleet.ask(peer, "x"), first);
        reached.insert(first);
    }
    EXPECT_GT(reached.size(), 1u) << "the hash spreads them";
    EXPECT_EQ(fleet.strays(), 0u);
}

TEST(UdpGroup, ipv6_is_steered_too) {
    UdpSocketOptions options = Fleet::default_options();
    options.address = Address::any(0);
    Fleet fleet(4, DatagramKey{}, options);
    for (const Address& loopback : {Address::loopback(0), Address::loopback_ipv6(0)}) {
        DatagramPeer peer{loopback};
        for (std::uint32_t key = 0; key < 16; ++key) {
            peer.send_to(loopback.with_port(fleet.group().address().port()), big_endian(key, 1));
            EXPECT_EQ(std::stoul(peer.receive().bytes), key % 4);
        }
    }
    EXPECT_EQ(fleet.strays(), 0u);
}

TEST(UdpGroup, what_comes_to_the_wrong_reactor_is_forwarded) {
    UnsteeredKernel kernel;
    Fleet fleet(4, DatagramKey{}, Fleet::default_options(), kernel);
    EXPECT_FALSE(fleet.group().steered());
    for (int peers = 0; peers < 4; ++peers) {
        DatagramPeer peer;
        for (std::uint32_t key = 0; key < 64; ++key) {
            peer.send_marked(fleet.group().address(), big_endian(key, 1), static_cast<int>(Ecn::capable_0));
            EXPECT_EQ(peer.receive().bytes, std::to_string(key % 4) + " 2") << "with its sender and its bits";
        }
    }
    EXPECT_EQ(fleet.strays(), 4u * 48) << "a peer's datagrams all come to one, and a fourth of them is its own";
}

TEST(UdpGroup, without_a_key_nothing_has_an_owner) {
    Fleet fleet(2, std::nullopt);
    EXPECT_FALSE(fleet.group().steered());
    DatagramPeer peer;
    const std::size_t first = fleet.ask(peer, "hello");
    for (int turn = 0; turn < 10; ++turn) EXPECT_EQ(fleet.ask(peer, std::to_string(turn)), first);
}

TEST(UdpGroup, member_that_leaves_is_forwarded_to_no_more) {
    Fleet fleet(4, DatagramKey{});
    DatagramPeer peer;
    // "leave" has the key of its first letter.
    const std::size_t gone = 'l' % 4;
    const std::size_t descriptors = ferrule_test::open_descriptors();
    peer.send_to(fleet.group().address(), "leave");
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(DatagramPeer::patience_seconds);
    while (ferrule_test::open_descriptors() != descriptors - 1 && std::chrono::steady_clock::now() < until)
        std::this_thread::yield();
    for (std::uint32_t key = 0; key < 64; ++key) {
        peer.send_to(fleet.group().address(), big_endian(key, 1));
        if (key % 4 == gone) continue;
        EXPECT_EQ(std::stoul(peer.receive().bytes), key % 4) << "the others go on";
    }
    EXPECT_GT(fleet.strays(), 0u) << "the order of the sockets is another now";
}

TEST(UdpGroup, reactor_that_has_ended_is_forwarded_to_in_vain) {
    UnsteeredKernel kernel;
    Fleet fleet(2, DatagramKey{}, Fleet::default_options(), kernel);
    // A peer of the first.
    std::optional<DatagramPeer> peer;
    do {
        peer.emplace();
        peer->send_to(fleet.group().address(), "");
    } while (std::stoul(peer->receive().bytes) != 0);
    fleet.reactor(1).stop_and_join();
    // Not the peers of the second, whose socket has left the port: all come to the first now.
    for (int turn = 0; turn < 10; ++turn) {
        peer->send_to(fleet.group().address(), big_endian(1, 1));
        EXPECT_EQ(fleet.ask(*peer, big_endian(2, 1)), 0u);
    }
    EXPECT_TRUE(peer->empty());
}

TEST(UdpGroup, segments_of_a_train_are_forwarded_one_by_one) {
    UnsteeredKernel kernel;
    UdpSocketOptions options = Fleet::default_options();
    options.gro = true;
    Fleet fleet(4, DatagramKey{}, options, kernel);
    DatagramPeer peer;
    peer.set(SOL_UDP, UDP_SEGMENT, 4);
    peer.send_to(fleet.group().address(), std::string("\1aaa\3bbb\0ccc\2", 13));
    std::multiset<std::string> answers;
    for (int segment = 0; segment < 4; ++segment) answers.insert(peer.receive().bytes);
    EXPECT_THAT(answers, testing::ElementsAre("0 0", "1 0", "2 0", "3 0"));
    EXPECT_EQ(fleet.strays(), 3u);
}

Task<> more_forwards_than_room(Reactor& reactor) {
    UdpSocketOptions options = Fleet::default_options();
    options.receive_buffer_count = 2;
    const auto group = open_group(2, options, DatagramKey{});
    // One reactor may have several sockets of a group.
    auto first = group->take(reactor, 0);
    EXPECT_TRUE(first.has_value());
    DatagramPeer peer;
    peer.send_to(group->address(), std::string("\0", 1));
    auto datagram = co_await first->receive();
    EXPECT_FALSE(group->forward(ferrule::Datagram{}, {}));
    EXPECT_FALSE(group->forward(datagram, {})) << "without a key it is nobody's";
    const std::string theirs = "\1a";
    EXPECT_FALSE(group->forward(datagram, std::as_bytes(std::span(theirs)))) << "its socket was not taken";
    auto second = group->take(reactor, 1);
    EXPECT_TRUE(second.has_value());
    for (int turn = 0; turn < 3; ++turn) {
        for (const char* bytes : {"\1a", "\1b", "\1c"}) {
            EXPECT_TRUE(group->forward(datagram, std::as_bytes(std::span(bytes, 2))));
        }
        auto one = co_await second->receive();
        auto two = co_await second->receive();
        EXPECT_EQ(one.payload().text(), "\1a");
        EXPECT_EQ(two.payload().text(), "\1b");
        EXPECT_EQ(one.sender(), peer.address());
        auto none = co_await ferrule::with_deadline(second->receive(), std::chrono::milliseconds(1));
        EXPECT_FALSE(none);
        EXPECT_EQ(second->counters().forwards_dropped.value(), turn + 1u);
    }
    // What is under way when the socket goes is dropped, what the program holds stays.
    EXPECT_TRUE(group->forward(datagram, std::as_bytes(std::span(theirs))));
    auto held = co_await second->receive();
    EXPECT_TRUE(group->forward(datagram, std::as_bytes(std::span(theirs))));
    second->close();
    co_await ferrule::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(held.payload().text(), "\1a");
}

TEST(UdpGroup, forwarded_datagrams_are_bounded) {
    Reactor reactor;
    ferrule_test::run_task(reactor, [&] { return more_forwards_than_room(reactor); });
}

TEST(UdpGroup, port_that_another_has_is_an_error) {
    const std::size_t descriptors = ferrule_test::open_descriptors();
    {
        const auto group = open_group(4, Fleet::default_options());
        EXPECT_EQ(ferrule_test::open_descriptors(), descriptors + 4);
        UdpSocketOptions options = Fleet::default_options();
        options.address = group->address();
        const auto second = UdpGroup::open(2, options);
        ASSERT_FALSE(second.has_value());
        EXPECT_EQ(second.error().code, std::errc::address_in_use);
        EXPECT_THAT(second.error().message, HasSubstr("bind " + group->address().to_string()));
        EXPECT_EQ(ferrule_test::open_descriptors(), descriptors + 4);
    }
    EXPECT_EQ(ferrule_test::open_descriptors(), descriptors) << "what was not taken is closed";
}

TEST(UdpGroup, what_cannot_be_is_named) {
    const UdpSocketOptions options = Fleet::default_options();
    EXPECT_THAT(UdpGroup::open(0, options).error().message, HasSubstr("count"));
    EXPECT_THAT(UdpGroup::open(1, options, DatagramKey{0, 3}).error().message, HasSubstr("DatagramKey::width"));
    EXPECT_THAT(UdpGroup::open(1, options, DatagramKey{65536, 1}).error().message, HasSubstr("DatagramKey::offset"));
    UdpSocketOptions broken = options;
    broken.receive_buffer_count = 5;
    EXPECT_THAT(UdpGroup::open(1, broken).error().message, HasSubstr("receive_buffer_count"));
    const auto group = open_group(1, options);
    Reactor reactor;
    const auto socket = group->take(reactor, 0);
    EXPECT_TRUE(socket.has_value());
    EXPECT_THROW(static_cast<void>(group->take(reactor, 0)), std::logic_error);
    EXPECT_THROW(static_cast<void>(group->take(reactor, 1)), std::logic_error);
}

}  // namespace
