#include <ferrule/net/address_limiter.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using ferrule::Address;
using ferrule::AddressLimiter;
using ferrule::AddressLimits;
using ferrule::AddressPrefix;

Address host(std::string_view text, std::uint16_t port = 4711) {
    return Address::parse(text, port).value();
}

TEST(AddressLimiter, counts_what_comes_and_goes) {
    AddressLimiter limiter{{.connections = 2}};
    const auto first = limiter.admit(host("192.0.2.1", 1));
    const auto second = limiter.admit(host("192.0.2.1", 2));
    EXPECT_TRUE(first.admitted);
    EXPECT_TRUE(second.admitted);
    EXPECT_FALSE(limiter.admit(host("192.0.2.1", 3)).admitted);
    EXPECT_TRUE(limiter.admit(host("192.0.2.2")).admitted);
    EXPECT_EQ(limiter.connections(host("192.0.2.1")), 2u);
    limiter.leave(first.key);
    EXPECT_EQ(limiter.connections(host("192.0.2.1")), 1u);
    EXPECT_TRUE(limiter.admit(host("192.0.2.1", 4)).admitted);
    EXPECT_FALSE(limiter.admit(host("192.0.2.1", 5)).admitted);
}

TEST(AddressLimiter, a_client_is_an_address_or_a_network) {
    AddressLimiter limiter{{.connections = 1}};
    EXPECT_TRUE(limiter.admit(host("2001:db8:0:1::1")).admitted);
    EXPECT_FALSE(limiter.admit(host("2001:db8:0:1:ffff::2")).admitted);
    EXPECT_TRUE(limiter.admit(host("2001:db8:0:2::1")).admitted);
    EXPECT_TRUE(limiter.admit(host("192.0.2.1")).admitted);
    EXPECT_FALSE(limiter.admit(host("::ffff:192.0.2.1")).admitted);
    EXPECT_TRUE(limiter.admit(host("::ffff:192.0.2.2")).admitted);
    AddressLimiter wide{{.connections = 1, .ipv4_bits = 24, .ipv6_bits = 48}};
    EXPECT_TRUE(wide.admit(host("192.0.2.1")).admitted);
    EXPECT_FALSE(wide.admit(host("192.0.2.200")).admitted);
    EXPECT_TRUE(wide.admit(host("2001:db8:7:1::1")).admitted);
    EXPECT_FALSE(wide.admit(host("2001:db8:7:2::1")).admitted);
}

TEST(AddressLimiter, some_have_no_limit) {
    AddressLimits limits{.connections = 1};
    limits.exempt = {AddressPrefix::parse("10.0.0.0/8").value()};
    AddressLimiter limiter{limits};
    for (const Address& client : {host("10.1.2.3"), host("::ffff:10.1.2.3"), host("unix:/run/x"), Address()}) {
        for (unsigned count = 0; count < 3; ++count) {
            const auto admission = limiter.admit(client);
            EXPECT_TRUE(admission.admitted) << client.to_string();
            EXPECT_EQ(admission.key, 0u);
            limiter.leave(admission.key);
        }
    }
    AddressLimiter none{{}};
    for (unsigned count = 0; count < 3; ++count) EXPECT_TRUE(none.admit(host("192.0.2.1")).admitted);
}

// Clients beyond the table are admitted and not counted; one that is counted stays so, and nothing is left of any.
TEST(AddressLimiter, a_full_table_admits) {
    AddressLimiter limiter{{.connections = 3, .table_entries = 64}};
    std::vector<std::pair<Address, std::uint64_t>> counted;
    unsigned overflowed = 0;
    for (unsigned number = 0; number < 1000; ++number) {
        const Address client = host("10.0." + std::to_string(number / 250) + '.' + std::to_string(number % 250));
        const auto admission = limiter.admit(client);
        ASSERT_TRUE(admission.admitted);
        EXPECT_EQ(admission.overflowed, admission.key == 0);
        if (admission.overflowed) ++overflowed;
        if (admission.key != 0) counted.emplace_back(client, admission.key);
    }
    EXPECT_LE(counted.size(), 64u);
    EXPECT_GE(counted.size(), 48u);
    EXPECT_EQ(counted.size() + overflowed, 1000u);
    for (const auto& [client, key] : counted) {
        ASSERT_EQ(limiter.connections(client), 1u);
        limiter.leave(key);
        ASSERT_EQ(limiter.connections(client), 0u);
    }
    EXPECT_FALSE(limiter.admit(host("10.0.0.1")).overflowed);
}

// Never more than the limit at a time, whoever asks when; and at the end nobody is counted.
TEST(AddressLimiter, threads_share_it) {
    constexpr std::uint32_t limit = 3;
    constexpr unsigned clients = 40;
    constexpr unsigned thread_count = 4;
    AddressLimiter limiter{{.connections = limit, .table_entries = 1024}};
    std::vector<std::atomic<int>> open(clients);
    std::atomic<unsigned> beyond = 0;
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < thread_count; ++number) {
        threads.emplace_back([&, number] {
            std::mt19937 random{number};
            std::vector<std::pair<unsigned, std::uint64_t>> mine;
            for (unsigned turn = 0; turn < 20'000; ++turn) {
                if (mine.size() > 30 || (!mine.empty() && random() % 2 == 0)) {
                    std::swap(mine[random() % mine.size()], mine.back());
                    open[mine.back().first].fetch_sub(1);
                    limiter.leave(mine.back().second);
                    mine.pop_back();
                    continue;
                }
                const unsigned client = random() % clients;
                const auto admission = limiter.admit(host("192.0.2." + std::to_string(client)));
                if (!admission.admitted) continue;
                // A client whom threads find first at the same time may have several places for a moment.
                if (open[client].fetch_add(1) >= static_cast<int>(limit + thread_count - 1)) beyond.fetch_add(1);
                mine.emplace_back(client, admission.key);
            }
            for (const auto& [client, key] : mine) {
                open[client].fetch_sub(1);
                limiter.leave(key);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(beyond.load(), 0u);
    for (unsigned client = 0; client < clients; ++client)
        EXPECT_EQ(limiter.connections(host("192.0.2." + std::to_string(client))), 0u);
}

}  // namespace
