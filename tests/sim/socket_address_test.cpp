#include <ferrule/sim/socket_address.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>

namespace ferrule {
namespace {

using sim::SocketAddress;

TEST(SocketAddress, IsWrittenAsItIsRead) {
    for (const char* text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80", "[fd00::1]:8080",
                             "[::ffff:10.0.0.1]:1", "unix:/run/server.sock", "unix:@abstract"}) {
        const auto address = SocketAddress::parse(text);
        ASSERT_TRUE(address) << text;
        EXPECT_EQ(address->to_string(), text);
        EXPECT_EQ(SocketAddress::from(address->data(), address->size()), address);
    }
}

TEST(SocketAddress, NonsenseIsNone) {
    for (const char* text : {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:8x",
                             "127.0.0:80", "name:80", "::1:80", "[::1]", "[::1:80", "[x]:80", "unix:"}) {
        EXPECT_FALSE(SocketAddress::parse(text)) << text;
    }
    const std::size_t longest = sizeof(sockaddr_un::sun_path);
    EXPECT_TRUE(SocketAddress::parse("unix:" + std::string(longest - 1, 'x')));
    EXPECT_FALSE(SocketAddress::parse("unix:" + std::string(longest, 'x')));
    EXPECT_TRUE(SocketAddress::parse("unix:@" + std::string(longest - 1, 'x')));
    EXPECT_FALSE(SocketAddress::parse("unix:@" + std::string(longest, 'x')));
}

TEST(SocketAddress, SizesMustFitTheFamily) {
    const SocketAddress address = SocketAddress::ipv4(INADDR_LOOPBACK, 80);
    EXPECT_EQ(address.size(), sizeof(sockaddr_in));
    EXPECT_FALSE(SocketAddress::from(address.data(), sizeof(sockaddr_in) - 1));
    EXPECT_FALSE(SocketAddress::from(address.data(), 1));
    EXPECT_FALSE(SocketAddress::from(nullptr, sizeof(sockaddr_in)));
    const sockaddr_storage other{.ss_family = AF_APPLETALK, .__ss_padding = {}, .__ss_align = 0};
    EXPECT_FALSE(SocketAddress::from(reinterpret_cast<const sockaddr*>(&other), sizeof(sockaddr_in)));
    sockaddr_un unnamed{.sun_family = AF_UNIX, .sun_path = {}};
    EXPECT_EQ(SocketAddress::from(reinterpret_cast<const sockaddr*>(&unnamed), sizeof unnamed.sun_family)->to_string(),
              "unix:");
}

TEST(SocketAddress, AnotherPortIsAnotherAddress) {
    const SocketAddress address = SocketAddress::ipv4(INADDR_LOOPBACK, 80);
    EXPECT_EQ(address.port(), 80);
    EXPECT_EQ(address.family(), AF_INET);
    EXPECT_EQ(address.with_port(81).to_string(), "127.0.0.1:81");
    EXPECT_NE(address, address.with_port(81));
    EXPECT_EQ(SocketAddress::ipv6(in6addr_loopback, 80).with_port(81).to_string(), "[::1]:81");
    EXPECT_EQ(SocketAddress{}.to_string(), "-");
    EXPECT_EQ(SocketAddress{}.port(), 0);
}

}  // namespace
}  // namespace ferrule
