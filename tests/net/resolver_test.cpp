#include <ferrule/net/resolver.hpp>

#include "support/manual_clock.hpp"
#include "support/name_server.hpp"
#include "support/resolver_host.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

using ferrule::Address;
using ferrule::ResolveErrc;
using ferrule::ResolverOptions;
using ferrule_test::DnsMessage;
using ferrule_test::HostFolder;
using ferrule_test::NameServer;
using ferrule_test::NameServerQuestion;
using ferrule_test::Resolved;
using ferrule_test::ResolverHost;
using testing::ElementsAre;
using namespace std::chrono_literals;

constexpr std::uint32_t first_address = 0xc0000201;  // 192.0.2.1

/// The honest answer to a question about a name that has one address of each family.
DnsMessage honest(const NameServerQuestion& asked, std::uint32_t ttl = 300) {
    DnsMessage message = DnsMessage::answer_to(asked.query);
    if (asked.query.type == DnsMessage::a) message.ipv4(asked.query.name, ttl, first_address);
    if (asked.query.type == DnsMessage::aaaa) message.ipv6(asked.query.name, ttl, 1);
    return message;
}

NameServer::Answers send_back(const NameServerQuestion& asked, const DnsMessage& message) {
    return {asked.by_tcp ? message.with_length() : message.bytes()};
}

NameServer::Answers answer_honestly(const NameServerQuestion& asked) {
    return send_back(asked, honest(asked));
}

/// Options for these servers and no files.
ResolverOptions options_for(std::initializer_list<const NameServer*> servers) {
    ResolverOptions options;
    options.resolv_conf.clear();
    options.hosts.clear();
    options.families = ferrule::ResolverFamilies::ipv4;
    for (const NameServer* server : servers) options.servers.push_back(server->address());
    return options;
}

TEST(Resolver, asks_for_both_families_at_once) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.families = ferrule::ResolverFamilies::both;
    ResolverHost host(options);
    EXPECT_THAT(host.texts("www.example.org"), testing::UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
    const auto questions = server.questions();
    ASSERT_EQ(questions.size(), 2u);
    EXPECT_THAT((std::set<unsigned>{questions[0].query.type, questions[1].query.type}), ElementsAre(1u, 28u));
    EXPECT_NE(questions[0].port, questions[1].port);
}

}  // namespace
