#include "net/host_files.hpp"
#include "support/forwarding_kernel.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

using ferrule::HostTable;
using ferrule::ResolvConf;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

ResolvConf read(std::string_view text) {
    return ferrule::read_resolv_conf(text, ferrule::linux_kernel());
}

std::vector<std::string> servers(const ResolvConf& conf) {
    std::vector<std::string> all;
    for (const auto& server : conf.servers) all.push_back(server.to_string());
    return all;
}

std::vector<std::string> found(const HostTable& table, std::string_view name) {
    std::vector<std::string> all;
    if (const auto* addresses = table.find(name)) {
        for (const auto& address : *addresses) all.push_back(address.to_string());
    }
    return all;
}

TEST(ResolvConf, has_the_defaults_of_its_manual_page_when_it_is_missing) {
    const ResolvConf conf = read("");
    EXPECT_THAT(servers(conf), ElementsAre("127.0.0.1:53"));
    EXPECT_TRUE(conf.search.empty());
    EXPECT_EQ(conf.dots, 1u);
    EXPECT_EQ(conf.timeout, 5s);
    EXPECT_EQ(conf.attempts, 2u);
    EXPECT_FALSE(conf.rotate || conf.use_tcp || conf.only_ipv4);
    EXPECT_TRUE(conf.may_reload);
    EXPECT_TRUE(conf.notes.empty());
}

TEST(ResolvConf, names_up_to_three_servers_of_both_families_with_scopes) {
    const ResolvConf conf = read(
        "nameserver 192.0.2.1\n"
        "nameserver\t2001:db8::1 behind it stands something\n"
        "nameserver fe80::1%1\n"
        "nameserver 192.0.2.4\n");
    EXPECT_THAT(servers(conf), ElementsAre("192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"));
    EXPECT_THAT(conf.notes, ElementsAre("nameserver 192.0.2.4 is one too many: 3 are asked"));
}

TEST(ResolvConf, reads_the_index_of_a_scope_that_is_a_name) {
    EXPECT_THAT(servers(read("nameserver fe80::1%lo")), ElementsAre("[fe80::1%1]:53"));
}

TEST(ResolvConf, leaves_out_what_is_no_address) {
    const ResolvConf conf = read("nameserver example.org\nnameserver\nnameserver localhost\nnameserver unix:/x\n");
    EXPECT_THAT(servers(conf), ElementsAre("127.0.0.1:53"));
    EXPECT_EQ(conf.notes.size(), 4u);
    EXPECT_EQ(conf.notes.front(), "nameserver \"example.org\" is not an address");
}

TEST(ResolvConf, has_comments_blank_lines_and_either_line_end) {
    const ResolvConf conf = read(
        "# nameserver 192.0.2.9\n; nameserver 192.0.2.8\n\n  \t\nnameserver 192.0.2.1\r\n"
        "nameserver 192.0.2.2");
    EXPECT_THAT(servers(conf), ElementsAre("192.0.2.1:53", "192.0.2.2:53"));
    EXPECT_TRUE(conf.notes.empty());
}

TEST(ResolvConf, takes_the_last_of_search_and_domain) {
    EXPECT_THAT(read("domain a.example\nsearch b.example c.example").search, ElementsAre("b.example", "c.example"));
    EXPECT_THAT(read("search b.example c.example\ndomain a.example d.example").search, ElementsAre("a.example"));
    EXPECT_TRUE(read("search a.example\nsearch .").search.empty());
}

TEST(ResolvConf, bounds_the_search_list) {
    std::string line = "search";
    for (int domain = 0; domain < 40; ++domain) line += " d" + std::to_string(domain) + ".example";
    const ResolvConf conf = read(line);
    EXPECT_EQ(conf.search.size(), ResolvConf::search_max);
    EXPECT_THAT(conf.notes, ElementsAre("search: only the first 32 domains count"));
}

TEST(ResolvConf, has_options_within_their_bounds) {
    ResolvConf conf = read("options ndots:2 timeout:3 attempts:4\noptions rotate use-vc no-aaaa no-reload");
    EXPECT_EQ(conf.dots, 2u);
    EXPECT_EQ(conf.timeout, 3s);
    EXPECT_EQ(conf.attempts, 4u);
    EXPECT_TRUE(conf.rotate && conf.use_tcp && conf.only_ipv4);
    EXPECT_FALSE(conf.may_reload);
    conf = read("options ndots:99 timeout:99999999999999 attempts:77");
    EXPECT_EQ(conf.dots, 15u);
    EXPECT_EQ(conf.timeout, 30s);
    EXPECT_EQ(conf.attempts, 5u);
    conf = read("options ndots:0 timeout:0 attempts:0");
    EXPECT_EQ(conf.dots, 0u);
    EXPECT_EQ(conf.timeout, 1s);
    EXPECT_EQ(conf.attempts, 1u);
}

TEST(ResolvConf, says_what_it_does_not_heed_and_why) {
    const ResolvConf conf =
        read("options single-request trust-ad ndots:x attempts whatever\nsortlist 1.2.3.4\nfoo bar");
    EXPECT_THAT(conf.notes,
                ElementsAre("option single-request is not heeded: each question has a socket of its own, so answers "
                            "are never mixed up",
                            "option trust-ad is not heeded: the authentic-data bit is neither asked for nor used",
                            "option \"ndots:x\" has no number", "option \"attempts\" has no number",
                            "option \"whatever\" is not known", HasSubstr("sortlist"), "line \"foo\" is not known"));
    EXPECT_EQ(conf.dots, 1u);
}

TEST(HostTable, has_names_and_aliases_in_any_case) {
    const HostTable table = HostTable::read(
        "127.0.0.1 localhost\n"
        "192.0.2.1\tDatabase.Example.Org  database db # the old one\n"
        "2001:db8::1 database.example.org\n"
        "fe80::1%1 link\n"
        "# 192.0.2.9 commented\n"
        "192.0.2.2 database\r\n",
        ferrule::linux_kernel());
    EXPECT_THAT(found(table, "DATABASE.example.org"), ElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
    EXPECT_THAT(found(table, "database.example.org."), ElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
    EXPECT_THAT(found(table, "database"), ElementsAre("192.0.2.1:0", "192.0.2.2:0"));
    EXPECT_THAT(found(table, "db"), ElementsAre("192.0.2.1:0"));
    EXPECT_THAT(found(table, "link"), ElementsAre("[fe80::1%1]:0"));
    EXPECT_TRUE(found(table, "commented").empty());
    EXPECT_TRUE(found(table, "the").empty());
    EXPECT_EQ(table.find("other"), nullptr);
}

TEST(HostTable, leaves_out_lines_without_an_address_and_repetitions) {
    const HostTable table =
        HostTable::read("name other\n300.1.1.1 a\n192.0.2.1\n192.0.2.1 a a\n192.0.2.1 a\n", ferrule::linux_kernel());
    EXPECT_EQ(table.size(), 1u);
    EXPECT_THAT(found(table, "a"), ElementsAre("192.0.2.1:0"));
}

TEST(HostFiles, are_read_whatever_is_in_them) {
    std::mt19937 random(4);
    const std::string words[] = {"nameserver", "search",  "domain", "options", "ndots:", "timeout:", "127.0.0.1", "::1",
                                 "fe80::1%",   "example", ".",      "#",       ";",      "\n",       " ",         "\t",
                                 "\r",         ":",       "\0",     "9999999", "[",      "]",        "unix:",     "*"};
    ferrule_test::ForwardingKernel kernel;
    kernel.fail(ferrule_test::Call::read_file, ENOENT, ferrule_test::ForwardingKernel::forever);
    for (int round = 0; round < 4000; ++round) {
        std::string text;
        for (std::uint32_t count = random() % 60; count != 0; --count) {
            text +=
                random() % 8 == 0 ? std::string(1, static_cast<char>(random())) : words[random() % std::size(words)];
        }
        const ResolvConf conf = ferrule::read_resolv_conf(text, kernel);
        EXPECT_FALSE(conf.servers.empty());
        EXPECT_LE(conf.servers.size(), ResolvConf::servers_max);
        EXPECT_LE(conf.search.size(), ResolvConf::search_max);
        HostTable::read(text, kernel);
    }
}

}  // namespace
