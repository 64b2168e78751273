#include <ferrule/net/address.hpp>
#include <ferrule/net/address_prefix.hpp>

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <net/if.h>

#include <cstring>

namespace {

using ferrule::Address;
using ferrule::AddressFamily;
using ferrule::AddressPrefix;

std::string text_of(std::string_view host, std::uint16_t port = 80) {
    const auto address = Address::parse(host, port);
    return address ? address->to_string() : "error: " + address.error().message();
}

std::error_code error_of(std::string_view host) {
    const auto address = Address::parse(host, 80);
    return address ? std::error_code() : address.error();
}

TEST(Address, DefaultIsNoAddress) {
    const Address address;
    EXPECT_EQ(address.family(), AddressFamily::none);
    EXPECT_EQ(address.size(), 0u);
    EXPECT_EQ(address.port(), 0);
    EXPECT_EQ(address.to_string(), "none");
    EXPECT_FALSE(address.is_any());
    EXPECT_EQ(address, Address());
}

TEST(Address, ReadsAndPrintsLiterals) {
    EXPECT_EQ(text_of("127.0.0.1"), "127.0.0.1:80");
    EXPECT_EQ(text_of("255.255.255.255", 65535), "255.255.255.255:65535");
    EXPECT_EQ(text_of("::1"), "[::1]:80");
    EXPECT_EQ(text_of("[::1]"), "[::1]:80");
    EXPECT_EQ(text_of("2001:DB8:0:0:0:0:0:1", 0), "[2001:db8::1]:0");
    EXPECT_EQ(text_of("::ffff:127.0.0.1"), "[::ffff:127.0.0.1]:80");
    EXPECT_EQ(text_of("fe80::1%7"), "[fe80::1%7]:80");
    EXPECT_EQ(text_of("[fe80::1%7]"), "[fe80::1%7]:80");
    EXPECT_EQ(text_of("*"), "[::]:80");
    EXPECT_EQ(text_of(""), "[::]:80");
    EXPECT_EQ(text_of("localhost"), "127.0.0.1:80");
    EXPECT_EQ(text_of("unix:/run/a.socket"), "unix:/run/a.socket");
    EXPECT_EQ(text_of("unix:relative"), "unix:relative");
    EXPECT_EQ(text_of("unix:@name"), "unix:@name");
    EXPECT_EQ(text_of("unix:/a\n\x80"), "unix:/a\\x0a\\x80");
}

TEST(Address, RefusesWhatIsNoAddress) {
    using namespace std::string_view_literals;
    const std::string_view refused[] = {"1"sv,
                                        "1.2.3"sv,
                                        "1.2.3.4.5"sv,
                                        "256.0.0.1"sv,
                                        "01.2.3.4"sv,
                                        "0x7f.0.0.1"sv,
                                        " 127.0.0.1"sv,
                                        "127.0.0.1 "sv,
                                        "127.0.0.1:80"sv,
                                        "127.0.0.1\0"sv,
                                        "::1\0x"sv,
                                        "[::1"sv,
                                        "::1]"sv,
                                        "[127.0.0.1]"sv,
                                        ":::"sv,
                                        "::12345"sv,
                                        "[]"sv,
                                        "example.org"sv,
                                        "LOCALHOST:"sv,
                                        "fe80::1%"sv,
                                        "fe80::1%0"sv,
                                        "fe80::1%../eth0"sv,
                                        "fe80::1%."sv,
                                        "fe80::1%a/b"sv,
                                        "127.0.0.1%1"sv,
                                        "fe80::1%averylonginterfacename"sv,
                                        "unix:"sv,
                                        "unix:@"sv,
                                        "unix:/a\0b"sv,
                                        "unix"sv};
    for (const std::string_view host : refused) {
        EXPECT_EQ(error_of(host), std::errc::invalid_argument) << '"' << host << '"';
    }
    EXPECT_EQ(error_of(std::string(1000, '1')), std::errc::invalid_argument);
}

TEST(Address, ScopeMayBeAnInterfaceName) {
    const unsigned index = if_nametoindex("lo");
    if (index == 0) GTEST_SKIP() << "this machine has no interface lo";
    EXPECT_EQ(text_of("fe80::1%lo"), "[fe80::1%" + std::to_string(index) + "]:80");
    EXPECT_EQ(error_of("fe80::1%nosuchinterface"), std::errc::no_such_device);
    EXPECT_EQ(error_of("fe80::1%4294967296"), std::errc::no_such_device);
}

TEST(Address, UnixNamesHaveALimit) {
    const std::string longest(107, 'a');
    const auto path = Address::parse("unix:" + longest, 0);
    ASSERT_TRUE(path);
    EXPECT_EQ(path->unix_path(), longest);
    EXPECT_EQ(path->size(), sizeof(sockaddr_un));
    EXPECT_EQ(reinterpret_cast<const sockaddr_un*>(path->data())->sun_path[107], '\0');
    EXPECT_EQ(error_of("unix:" + longest + 'a'), std::errc::filename_too_long);
    EXPECT_EQ(error_of("unix:@" + longest), std::errc::filename_too_long);
}

TEST(Address, LiesInMemoryAsTheKernelTakesIt) {
    const auto ipv4 = Address::parse("127.0.0.1", 8080);
    sockaddr_in expected4{};
    expected4.sin_family = AF_INET;
    expected4.sin_port = htons(8080);
    expected4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(ipv4->size(), sizeof expected4);
    EXPECT_EQ(std::memcmp(ipv4->data(), &expected4, sizeof expected4), 0);

    const auto ipv6 = Address::parse("fe80::2%3", 443);
    sockaddr_in6 expected6{};
    expected6.sin6_family = AF_INET6;
    expected6.sin6_port = htons(443);
    expected6.sin6_addr.s6_addr[0] = 0xfe;
    expected6.sin6_addr.s6_addr[1] = 0x80;
    expected6.sin6_addr.s6_addr[15] = 2;
    expected6.sin6_scope_id = 3;
    ASSERT_EQ(ipv6->size(), sizeof expected6);
    EXPECT_EQ(std::memcmp(ipv6->data(), &expected6, sizeof expected6), 0);

    const auto abstract = Address::parse("unix:@ab", 0);
    EXPECT_EQ(abstract->size(), offsetof(sockaddr_un, sun_path) + 3);
    EXPECT_EQ(std::memcmp(abstract->data()->sa_data, "\0ab", 3), 0);
    EXPECT_FALSE(abstract->unix_path());
}

TEST(Address, B21MappedFormKeepsTheByteOrder) {
    const Address mapped = Address::parse("127.0.0.1", 8080)->mapped();
    EXPECT_EQ(mapped.to_string(), "[::ffff:127.0.0.1]:8080");
    EXPECT_EQ(mapped, *Address::parse("::ffff:127.0.0.1", 8080));
    EXPECT_EQ(mapped.unmapped(), Address::loopback(8080));
    EXPECT_EQ(mapped.mapped(), mapped);
    EXPECT_EQ(Address::loopback_ipv6(1).unmapped(), Address::loopback_ipv6(1));
    EXPECT_EQ(Address::parse("unix:/a", 0)->mapped(), *Address::parse("unix:/a", 0));
}

TEST(Address, KnownAddresses) {
    EXPECT_EQ(Address::any(1).to_string(), "[::]:1");
    EXPECT_EQ(Address::any_ipv4(2).to_string(), "0.0.0.0:2");
    EXPECT_EQ(Address::loopback(3).to_string(), "127.0.0.1:3");
    EXPECT_EQ(Address::loopback_ipv6(4).to_string(), "[::1]:4");
    EXPECT_TRUE(Address::any(1).is_any());
    EXPECT_TRUE(Address::any_ipv4(1).is_any());
    EXPECT_TRUE(Address::any_ipv4(1).mapped().is_any());
    EXPECT_FALSE(Address::loopback(1).is_any());
    EXPECT_FALSE(Address::loopback_ipv6(1).is_any());
    EXPECT_FALSE(Address::parse("unix:/a", 0)->is_any());
}

TEST(Address, PortCanBeReplaced) {
    EXPECT_EQ(Address::loopback(0).with_port(9).to_string(), "127.0.0.1:9");
    EXPECT_EQ(Address::loopback_ipv6(0).with_port(9).to_string(), "[::1]:9");
    EXPECT_EQ(Address::parse("unix:/a", 0)->with_port(9), *Address::parse("unix:/a", 0));
    EXPECT_EQ(Address::parse("unix:/a", 7)->port(), 0);
}

TEST(Address, FromTakesWhatTheKernelFillsIn) {
    for (const std::string_view host : {"192.0.2.1", "2001:db8::5", "fe80::1%4", "unix:/run/x", "unix:@y"}) {
        const Address address = *Address::parse(host, 99);
        const auto copy = Address::from(address.data(), address.size());
        ASSERT_TRUE(copy) << host;
        EXPECT_EQ(*copy, address) << host;
        EXPECT_EQ(copy->to_string(), address.to_string());
    }
}

TEST(Address, FromCountsTheTerminatorOfAPathAlways) {
    const Address address = *Address::parse("unix:/run/x", 0);
    const auto without = Address::from(address.data(), address.size() - 1);
    ASSERT_TRUE(without);
    EXPECT_EQ(*without, address);
    EXPECT_EQ(without->size(), address.size());
}

TEST(Address, FromTakesAnUnnamedUnixSocket) {
    sockaddr_un unnamed{};
    unnamed.sun_family = AF_UNIX;
    const auto address = Address::from(reinterpret_cast<const sockaddr*>(&unnamed), sizeof(sa_family_t));
    ASSERT_TRUE(address);
    EXPECT_EQ(address->family(), AddressFamily::unix_domain);
    EXPECT_EQ(address->to_string(), "unix:");
    EXPECT_FALSE(address->unix_path());
}

TEST(Address, FromRefusesWhatIsTooShortOrUnknown) {
    sockaddr_storage storage{};
    const auto* address = reinterpret_cast<const sockaddr*>(&storage);
    EXPECT_EQ(Address::from(address, 0).error(), std::errc::invalid_argument);
    EXPECT_EQ(Address::from(address, 1).error(), std::errc::invalid_argument);
    storage.ss_family = AF_INET;
    EXPECT_EQ(Address::from(address, sizeof(sockaddr_in) - 1).error(), std::errc::invalid_argument);
    storage.ss_family = AF_INET6;
    EXPECT_EQ(Address::from(address, sizeof(sockaddr_in6) - 1).error(), std::errc::invalid_argument);
    storage.ss_family = AF_UNIX;
    EXPECT_EQ(Address::from(address, sizeof(sockaddr_un) + 1).error(), std::errc::invalid_argument);
    storage.ss_family = AF_NETLINK;
    EXPECT_EQ(Address::from(address, sizeof storage).error(), std::errc::address_family_not_supported);
}

TEST(Address, ComparesByFamilyAddressPortAndScope) {
    const Address sorted[] = {
        Address(),
        *Address::parse("1.0.0.2", 5),
        *Address::parse("1.0.0.2", 6),
        *Address::parse("2.0.0.1", 1),
        *Address::parse("::1", 5),
        *Address::parse("fe80::1%1", 5),
        *Address::parse("fe80::1%2", 4),
        *Address::parse("unix:@a", 0),
        *Address::parse("unix:/a", 0),
        *Address::parse("unix:/b", 0),
    };
    for (const Address& left : sorted) {
        for (const Address& right : sorted) {
            EXPECT_EQ(left <=> right, &left <=> &right) << left.to_string() << ' ' << right.to_string();
            EXPECT_EQ(left == right, &left == &right);
        }
    }
}

TEST(AddressPrefix, is_read_as_it_is_written) {
    for (const char* text : {"10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::1/128", "::/0", "unix:"}) {
        const auto prefix = AddressPrefix::parse(text);
        ASSERT_TRUE(prefix) << text;
        EXPECT_EQ(prefix->to_string(), text);
    }
    EXPECT_EQ(AddressPrefix::parse("192.0.2.1"), AddressPrefix::parse("192.0.2.1/32"));
    EXPECT_EQ(AddressPrefix::parse("::1"), AddressPrefix::parse("::1/128"));
    EXPECT_EQ(AddressPrefix().to_string(), "none");
}

TEST(AddressPrefix, refuses_what_is_none) {
    for (const char* text :
         {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.1/8", "::1/64", "::/129",
          "localhost", "*", "unix:/path", "[::1]", "fe80::1%1", "10.0.0.0/8/8", "banana"}) {
        const auto prefix = AddressPrefix::parse(text);
        ASSERT_FALSE(prefix) << text;
        EXPECT_EQ(prefix.error(), std::errc::invalid_argument) << text;
    }
}

TEST(AddressPrefix, contains_what_begins_alike) {
    const auto contains = [](std::string_view prefix, std::string_view host) {
        return AddressPrefix::parse(prefix).value().contains(Address::parse(host, 7).value());
    };
    EXPECT_TRUE(contains("10.0.0.0/8", "10.255.255.255"));
    EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
    EXPECT_TRUE(contains("10.0.0.0/9", "10.127.0.1"));
    EXPECT_FALSE(contains("10.0.0.0/9", "10.128.0.1"));
    EXPECT_TRUE(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    EXPECT_TRUE(contains("0.0.0.0/0", "192.0.2.1"));
    EXPECT_FALSE(contains("::/0", "192.0.2.1"));
    EXPECT_FALSE(contains("0.0.0.0/0", "::1"));
    EXPECT_TRUE(contains("2001:db8::/63", "2001:db8:0:1:2:3:4:5"));
    EXPECT_FALSE(contains("2001:db8::/64", "2001:db8:0:1:2:3:4:5"));
    EXPECT_TRUE(contains("unix:", "unix:/run/x"));
    EXPECT_TRUE(contains("unix:", "unix:@x"));
    EXPECT_FALSE(contains("unix:", "127.0.0.1"));
    EXPECT_FALSE(contains("0.0.0.0/0", "unix:/run/x"));
    EXPECT_FALSE(AddressPrefix().contains(Address()));
    EXPECT_FALSE(AddressPrefix().contains(Address::loopback(1)));
}

TEST(AddressPrefix, of_an_address_are_its_first_bits) {
    EXPECT_EQ(AddressPrefix::of(Address::parse("192.0.2.99", 7).value(), 24).to_string(), "192.0.2.0/24");
    EXPECT_EQ(AddressPrefix::of(Address::parse("::ffff:192.0.2.99", 7).value(), 64).to_string(), "192.0.2.99/32");
    EXPECT_EQ(AddressPrefix::of(Address::parse("2001:db8:1:2:3::4", 7).value(), 64).to_string(), "2001:db8:1:2::/64");
    EXPECT_EQ(AddressPrefix::of(Address::parse("unix:/run/x", 0).value(), 24).to_string(), "unix:");
    EXPECT_EQ(AddressPrefix::of(Address(), 24), AddressPrefix());
}

}  // namespace
