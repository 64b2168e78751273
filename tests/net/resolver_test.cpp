#include <ferrule/net/resolver.hpp>

#include "support/manual_clock.hpp"
#include "support/name_server.hpp"
#include "support/resolver_host.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <cstring>
#include <functional>
#include <future>
#include <initializer_list>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using ferrule::Address;
using ferrule::CancelReason;
using ferrule::ResolveErrc;
using ferrule::ResolverFamilies;
using ferrule::ResolverOptions;
using ferrule_test::Call;
using ferrule_test::DnsMessage;
using ferrule_test::HostFolder;
using ferrule_test::ManualClock;
using ferrule_test::NameServer;
using ferrule_test::NameServerQuestion;
using ferrule_test::Resolved;
using ferrule_test::ResolverHost;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::UnorderedElementsAre;
using namespace std::chrono_literals;

constexpr std::uint32_t honest_address = 0xc0000201;  // 192.0.2.1
constexpr std::uint32_t forged_address = 0xcb007109;  // 203.0.113.9

/// The honest answer to a question about a name that has one address of each family.
DnsMessage honest(const NameServerQuestion& asked, std::uint32_t ttl = 300) {
    DnsMessage message = DnsMessage::answer_to(asked.query);
    if (asked.query.type == DnsMessage::a) message.ipv4(asked.query.name, ttl, honest_address);
    if (asked.query.type == DnsMessage::aaaa) message.ipv6(asked.query.name, ttl, 1);
    return message;
}

DnsMessage forged(const NameServerQuestion& asked) {
    return DnsMessage::answer_to(asked.query).ipv4(asked.query.name, 300, forged_address);
}

NameServer::Answers send_back(const NameServerQuestion& asked, const DnsMessage& message) {
    return {asked.by_tcp ? message.with_length() : message.bytes()};
}

NameServer::Answers answer_honestly(const NameServerQuestion& asked) {
    return send_back(asked, honest(asked));
}

NameServer::Answers say_nothing(const NameServerQuestion&) {
    return {};
}

/// Always the same code: SERVFAIL, REFUSED and so on.
NameServer::Handler always(unsigned code) {
    return
        [code](const NameServerQuestion& asked) { return send_back(asked, DnsMessage::answer_to(asked.query, code)); };
}

/// Options for these servers, IPv4 only, and no files.
ResolverOptions options_for(std::initializer_list<const NameServer*> servers) {
    ResolverOptions options;
    options.resolv_conf.clear();
    options.hosts.clear();
    options.families = ResolverFamilies::ipv4;
    for (const NameServer* server : servers) options.servers.push_back(server->address());
    return options;
}

std::string text_of(const Address& address) {
    return address.to_string();
}

std::vector<std::string> names_of(const std::vector<NameServerQuestion>& questions) {
    std::vector<std::string> names;
    for (const NameServerQuestion& asked : questions) names.push_back(asked.query.lower_name());
    return names;
}

/// A clock that a silent name server moves: who does not answer lets the time of the question pass.
class PassingTime : public ManualClock {
public:
    void watch(ResolverHost& host) { host_ = &host; }
    /// Moves the clock and lets the reactor see it.
    void pass(std::chrono::nanoseconds time) {
        advance(time);
        if (ResolverHost* host = host_.load()) host->reactor().post([] {});
    }
    NameServer::Handler silence(std::chrono::nanoseconds time = 5s) {
        return [this, time](const NameServerQuestion&) {
            pass(time);
            return NameServer::Answers{};
        };
    }

private:
    std::atomic<ResolverHost*> host_{nullptr};
};

// ---- asking ----

TEST(Resolver, asks_for_both_families_at_once) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.families = ResolverFamilies::both;
    ResolverHost host(options);
    const Resolved resolved = host.resolve("www.example.org");
    EXPECT_THAT(ResolverHost::texts_of(resolved), UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
    EXPECT_LE(resolved->ttl, 300s);
    EXPECT_GE(resolved->ttl, 270s);
    const auto questions = server.questions();
    ASSERT_EQ(questions.size(), 2u);
    EXPECT_THAT((std::set<unsigned>{questions[0].query.type, questions[1].query.type}), ElementsAre(1u, 28u));
    EXPECT_NE(questions[0].port, questions[1].port);
}

TEST(Resolver, asks_for_one_family_only_when_it_is_told_so) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    EXPECT_THAT(ResolverHost(options).texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    options.families = ResolverFamilies::ipv6;
    EXPECT_THAT(ResolverHost(options).texts("www.example.org"), ElementsAre("[2001:db8::1]:0"));
    EXPECT_EQ(server.questions().size(), 2u);
}

TEST(Resolver, asks_a_server_by_ipv6) {
    std::unique_ptr<NameServer> server;
    try {
        server = std::make_unique<NameServer>(answer_honestly, AF_INET6);
    } catch (const std::system_error& failure) {
        GTEST_SKIP() << "no IPv6 here: " << failure.what();
    }
    EXPECT_THAT(ResolverHost(options_for({server.get()})).texts("www.example.org"), ElementsAre("192.0.2.1:0"));
}

TEST(Resolver, asks_by_tcp_alone_when_it_is_told_so) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.use_tcp = true;
    ResolverHost host(options);
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    ASSERT_EQ(server.questions().size(), 1u);
    EXPECT_TRUE(server.questions()[0].by_tcp);
    EXPECT_EQ(host.counters().tcp_questions.value(), 1u);
}

TEST(Resolver, gives_a_bounded_number_of_addresses_of_a_giant_answer) {
    NameServer server([](const NameServerQuestion& asked) {
        DnsMessage message = DnsMessage::answer_to(asked.query);
        if (!asked.by_tcp) return send_back(asked, message.set_flags(DnsMessage::response | DnsMessage::truncated));
        for (std::uint32_t number = 0; number < 4000; ++number)
            message.record(6, DnsMessage::pointer(12), DnsMessage::a, 60, DnsMessage::ipv4_data(number));
        return send_back(asked, message);
    });
    EXPECT_EQ(ResolverHost(options_for({&server})).resolve("www.example.org")->addresses.size(), 256u);
}

// ---- forgery ----

TEST(ResolverForgery, must_guess_id_port_and_case) {
    NameServer server(answer_honestly);
    ResolverHost host(options_for({&server}));
    for (int number = 0; number < 20; ++number)
        host.resolve("some-long-name-" + std::to_string(number) + ".example.org");
    std::set<unsigned> ids;
    std::set<unsigned> ports;
    std::set<std::string> domains;
    for (const NameServerQuestion& asked : server.questions()) {
        ids.insert(asked.query.id);
        ports.insert(asked.port);
        domains.insert(asked.query.name.substr(asked.query.name.find('.')));
        EXPECT_NE(asked.query.name, asked.query.lower_name());
    }
    EXPECT_GE(ids.size(), 18u);
    EXPECT_GE(ports.size(), 15u);
    EXPECT_GE(domains.size(), 15u);
}

/// What is sent in front of the honest answer is ignored.
void expect_ignored(const std::function<std::string(const NameServerQuestion&)>& stranger) {
    NameServer server([&](const NameServerQuestion& asked) {
        return NameServer::Answers{stranger(asked), honest(asked).bytes()};
    });
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(host.counters().strangers.value(), 1u);
    EXPECT_EQ(server.questions().size(), 1u);
}

TEST(ResolverForgery, with_a_wrong_id_is_ignored) {
    expect_ignored([](const NameServerQuestion& asked) {
        return forged(asked).set_id(static_cast<std::uint16_t>(asked.query.id + 1)).bytes();
    });
}

TEST(ResolverForgery, with_a_wrong_question_is_ignored) {
    expect_ignored([](const NameServerQuestion& asked) {
        return DnsMessage()
            .set_id(asked.query.id)
            .set_flags(DnsMessage::response)
            .question("www.example.com", DnsMessage::a)
            .ipv4("www.example.org", 300, forged_address)
            .bytes();
    });
    expect_ignored([](const NameServerQuestion& asked) {
        return DnsMessage()
            .set_id(asked.query.id)
            .set_flags(DnsMessage::response)
            .question(asked.query.name, DnsMessage::aaaa)
            .ipv4("www.example.org", 300, forged_address)
            .bytes();
    });
}

TEST(ResolverForgery, that_is_no_response_or_too_short_is_ignored) {
    expect_ignored([](const NameServerQuestion& asked) { return forged(asked).set_flags(0x0100).bytes(); });
    expect_ignored([](const NameServerQuestion&) { return std::string(); });
    expect_ignored([](const NameServerQuestion& asked) { return forged(asked).bytes().substr(0, 11); });
}

TEST(ResolverForgery, from_another_port_does_not_arrive) {
    NameServer other(say_nothing);
    NameServer server([&](const NameServerQuestion& asked) {
        other.send_to(asked.port, forged(asked).bytes());
        return answer_honestly(asked);
    });
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(host.counters().strangers.value(), 0u);
}

constexpr const char* long_name = "a-name-of-many-letters-so-that-its-case-is-not-guessed.example.org";

TEST(ResolverForgery, with_wrong_case_is_asked_about_by_tcp) {
    NameServer server([&](const NameServerQuestion& asked) {
        if (asked.by_tcp) return answer_honestly(asked);
        return send_back(asked, DnsMessage()
                                    .set_id(asked.query.id)
                                    .set_flags(DnsMessage::response)
                                    .question(long_name, DnsMessage::a)
                                    .ipv4(long_name, 300, forged_address));
    });
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts(long_name), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(server.questions().size(), 2u);
    // Who is told not to mix it takes the answer as it is.
    ResolverOptions options = options_for({&server});
    options.mixed_case = false;
    EXPECT_THAT(ResolverHost(options).texts(long_name), ElementsAre("203.0.113.9:0"));
}

TEST(ResolverForgery, in_great_number_ends_in_tcp) {
    NameServer server([](const NameServerQuestion& asked) {
        if (asked.by_tcp) return answer_honestly(asked);
        NameServer::Answers answers;
        for (unsigned guess = 1; guess <= 40; ++guess)
            answers.push_back(forged(asked).set_id(static_cast<std::uint16_t>(asked.query.id + guess)).bytes());
        answers.push_back(forged(asked).bytes());
        return answers;
    });
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(host.counters().strangers.value(), 16u);
}

TEST(ResolverForgery, outside_of_the_question_is_neither_used_nor_remembered) {
    NameServer server([](const NameServerQuestion& asked) {
        DnsMessage message = honest(asked);
        if (asked.query.lower_name() == "www.example.org") {
            message.ipv4("bank.example", 86'400, forged_address);
            message.record(8, DnsMessage::wire("example"), DnsMessage::name_server, 86'400,
                           DnsMessage::wire("ns.evil"));
            message.record(10, DnsMessage::wire("bank.example"), DnsMessage::a, 86'400,
                           DnsMessage::ipv4_data(forged_address));
        }
        return send_back(asked, message);
    });
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_THAT(host.texts("bank.example"), ElementsAre("192.0.2.1:0"));
    EXPECT_THAT(names_of(server.questions()), ElementsAre("www.example.org", "bank.example"));
}

// ---- servers that do not answer well ----

TEST(ResolverServers, are_asked_by_tcp_when_the_answer_is_truncated) {
    NameServer server([](const NameServerQuestion& asked) {
        if (asked.by_tcp) return answer_honestly(asked);
        return send_back(asked, forged(asked).set_flags(DnsMessage::response | DnsMessage::truncated));
    });
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(host.counters().tcp_questions.value(), 1u);
}

TEST(ResolverServers, are_asked_by_tcp_when_a_datagram_is_larger_than_it_may_be) {
    NameServer server([](const NameServerQuestion& asked) {
        if (asked.by_tcp) return answer_honestly(asked);
        DnsMessage message = forged(asked);
        message.record(10, DnsMessage::wire("x"), 16, 0, std::string(5000, 'x'));
        return send_back(asked, message);
    });
    EXPECT_THAT(ResolverHost(options_for({&server})).texts("www.example.org"), ElementsAre("192.0.2.1:0"));
}

/// A first server that fails in this way by TCP, and a second one.
void expect_second_server_after_tcp(const std::function<NameServer::Answers(const NameServerQuestion&)>& by_tcp,
                                    const std::string& what) {
    NameServer broken([&](const NameServerQuestion& asked) {
        if (asked.by_tcp) return by_tcp(asked);
        return send_back(asked, forged(asked).set_flags(DnsMessage::response | DnsMessage::truncated));
    });
    NameServer good(answer_honestly);
    EXPECT_THAT(ResolverHost(options_for({&broken, &good})).texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    ResolverOptions options = options_for({&broken});
    options.attempts = 1;
    const Resolved resolved = ResolverHost(options).resolve("www.example.org");
    ASSERT_FALSE(resolved);
    EXPECT_THAT(resolved.error().message, HasSubstr(text_of(broken.address()) + ": " + what));
}

TEST(ResolverServers, that_cut_a_stream_anywhere_are_followed_by_the_next) {
    for (const std::size_t kept : {0u, 1u, 2u, 3u, 40u}) {
        expect_second_server_after_tcp(
            [kept](const NameServerQuestion& asked) {
                return NameServer::Answers{honest(asked).with_length().substr(0, kept)};
            },
            "it closed the connection");
    }
}

TEST(ResolverServers, that_answer_something_else_by_tcp_are_followed_by_the_next) {
    const std::string malformed = "its answer is malformed";
    expect_second_server_after_tcp(
        [](const NameServerQuestion& asked) {
            return send_back(asked, forged(asked).set_id(static_cast<std::uint16_t>(asked.query.id + 1)));
        },
        malformed);
    expect_second_server_after_tcp(
        [](const NameServerQuestion& asked) {
            return send_back(asked, forged(asked).set_flags(DnsMessage::response | DnsMessage::truncated));
        },
        malformed);
    expect_second_server_after_tcp(
        [](const NameServerQuestion&) { return NameServer::Answers{std::string("\0\0", 2)}; }, malformed);
}

TEST(ResolverServers, take_answers_in_pieces_by_tcp) {
    NameServer server([](const NameServerQuestion& asked) {
        const std::string bytes = honest(asked).with_length();
        NameServer::Answers pieces;
        for (const char byte : bytes) pieces.emplace_back(1, byte);
        return pieces;
    });
    ResolverOptions options = options_for({&server});
    options.use_tcp = true;
    EXPECT_THAT(ResolverHost(options).texts("www.example.org"), ElementsAre("192.0.2.1:0"));
}

TEST(ResolverServers, that_do_not_answer_are_followed_by_the_next_and_asked_last_for_a_while) {
    PassingTime clock;
    NameServer silent(clock.silence());
    NameServer good(answer_honestly);
    ResolverHost host(options_for({&silent, &good}), clock);
    clock.watch(host);
    EXPECT_THAT(host.texts("a.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(silent.questions().size(), 1u);
    EXPECT_EQ(host.counters().timeouts.value(), 1u);
    EXPECT_THAT(host.texts("b.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(silent.questions().size(), 1u);
    clock.advance(10s);
    EXPECT_THAT(host.texts("c.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(silent.questions().size(), 2u);
    EXPECT_EQ(good.questions().size(), 3u);
}

TEST(ResolverServers, that_answer_too_late_are_not_heard) {
    PassingTime clock;
    NameServer late(clock.silence());
    NameServer good([&](const NameServerQuestion& asked) {
        // The first server's time is over: what comes from it now finds nobody.
        const NameServerQuestion before = late.questions().back();
        late.send_to(before.port, forged(before).bytes());
        return answer_honestly(asked);
    });
    ResolverHost host(options_for({&late, &good}), clock);
    clock.watch(host);
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(host.counters().strangers.value(), 0u);
}

TEST(ResolverServers, that_all_say_nothing_are_named) {
    PassingTime clock;
    NameServer first(clock.silence(2s));
    NameServer second(clock.silence(2s));
    ResolverOptions options = options_for({&first, &second});
    options.timeout = 2s;
    options.attempts = 3;
    ResolverHost host(options, clock);
    clock.watch(host);
    const Resolved resolved = host.resolve("www.example.org");
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().code, ResolveErrc::timed_out);
    EXPECT_EQ(resolved.error().code, std::errc::timed_out);
    EXPECT_EQ(resolved.error().message, "resolve www.example.org: timed out (" + text_of(first.address()) +
                                            ": no answer; " + text_of(second.address()) + ": no answer)");
    EXPECT_EQ(first.questions().size(), 3u);
    EXPECT_EQ(second.questions().size(), 3u);
}

TEST(ResolverServers, with_an_error_are_followed_by_the_next) {
    const std::vector<NameServer::Handler> broken{
        always(2),
        always(5),
        always(1),
        always(9),
        [](const NameServerQuestion& asked) {
            return send_back(
                asked, DnsMessage::answer_to(asked.query)
                           .record(6, DnsMessage::pointer(static_cast<std::uint16_t>(12 + asked.query.question.size())),
                                   DnsMessage::a, 5, DnsMessage::ipv4_data(1)));
        },
        [](const NameServerQuestion& asked) {
            return send_back(asked, DnsMessage::answer_to(asked.query)
                                        .alias("www.example.org", 5, "b.example")
                                        .alias("b.example", 5, "www.example.org"));
        },
        [](const NameServerQuestion& asked) {
            return send_back(asked, DnsMessage::answer_to(asked.query)
                                        .record(8, DnsMessage::wire("org"), DnsMessage::name_server, 300,
                                                DnsMessage::wire("ns.org")));
        },
    };
    for (const NameServer::Handler& handler : broken) {
        NameServer bad(handler);
        NameServer good(answer_honestly);
        EXPECT_THAT(ResolverHost(options_for({&bad, &good})).texts("www.example.org"), ElementsAre("192.0.2.1:0"));
        EXPECT_GE(bad.questions().size(), 1u);
    }
}

TEST(ResolverServers, say_by_their_errors_how_the_name_fails) {
    const auto error_of = [](std::initializer_list<const NameServer*> servers) {
        return ResolverHost(options_for(servers)).resolve("www.example.org").error();
    };
    NameServer fails(always(2));
    NameServer refuses(always(5));
    NameServer babbles([](const NameServerQuestion& asked) {
        return send_back(asked, DnsMessage::answer_to(asked.query).set_word(6, 7));
    });
    EXPECT_EQ(error_of({&fails}).code, ResolveErrc::temporary_failure);
    EXPECT_EQ(error_of({&refuses}).code, ResolveErrc::refused);
    EXPECT_EQ(error_of({&babbles}).code, ResolveErrc::malformed);
    const ferrule::ResolveError all = error_of({&babbles, &refuses, &fails});
    EXPECT_EQ(all.code, ResolveErrc::temporary_failure);
    EXPECT_EQ(all.message, "resolve www.example.org: temporary failure (" + text_of(babbles.address()) +
                               ": its answer is malformed; " + text_of(refuses.address()) + ": refused; " +
                               text_of(fails.address()) + ": server failure)");
}

TEST(ResolverServers, that_are_not_there_are_followed_by_the_next) {
    Address nobody;
    { nobody = NameServer(say_nothing).address(); }
    NameServer good(answer_honestly);
    ResolverOptions options = options_for({&good});
    options.servers.insert(options.servers.begin(), nobody);
    ResolverHost host(options);
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    options.servers.pop_back();
    EXPECT_THAT(
        ResolverHost(options).texts("www.example.org"),
        ElementsAre("resolve www.example.org: temporary failure (" + text_of(nobody) + ": Connection refused)"));
}

TEST(ResolverServers, that_do_not_know_option_records_are_asked_without) {
    NameServer server([](const NameServerQuestion& asked) {
        if (!asked.query.extended) return answer_honestly(asked);
        DnsMessage headless;
        return send_back(asked, headless.set_id(asked.query.id).set_flags(0x8001));
    });
    ResolverHost host(options_for({&server}));
    for (const char* name : {"a.example.org", "b.example.org", "c.example.org"})
        EXPECT_THAT(host.texts(name), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(server.questions().size(), 5u) << "the third is asked without at once";
}

TEST(ResolverServers, that_drop_option_records_are_asked_without) {
    PassingTime clock;
    NameServer server([&](const NameServerQuestion& asked) {
        if (!asked.query.extended) return answer_honestly(asked);
        clock.pass(5s);
        return NameServer::Answers{};
    });
    ResolverHost host(options_for({&server}), clock);
    clock.watch(host);
    for (const char* name : {"a.example.org", "b.example.org", "c.example.org"})
        EXPECT_THAT(host.texts(name), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(server.questions().size(), 5u);
}

TEST(ResolverServers, are_asked_in_turn_with_rotate) {
    NameServer first(answer_honestly);
    NameServer second(answer_honestly);
    ResolverOptions options = options_for({&first, &second});
    options.rotate = true;
    ResolverHost host(options);
    for (const char* name : {"a.example.org", "b.example.org", "c.example.org", "d.example.org"}) host.resolve(name);
    EXPECT_EQ(first.questions().size(), 2u);
    EXPECT_EQ(second.questions().size(), 2u);
}

// ---- memory ----

TEST(ResolverCache, remembers_an_answer_for_its_time_to_live) {
    ManualClock clock;
    NameServer server([](const NameServerQuestion& asked) { return send_back(asked, honest(asked, 60)); });
    ResolverHost host(options_for({&server}), clock);
    EXPECT_EQ(host.resolve("www.example.org")->ttl, 60s);
    clock.advance(59s);
    EXPECT_EQ(host.resolve("WWW.example.org.")->ttl, 1s);
    EXPECT_EQ(server.questions().size(), 1u);
    EXPECT_EQ(host.counters().cache_hits.value(), 1u);
    clock.advance(1s);
    EXPECT_EQ(host.resolve("www.example.org")->ttl, 60s);
    EXPECT_EQ(server.questions().size(), 2u);
}

TEST(ResolverCache, does_not_remember_what_has_no_time_to_live) {
    NameServer server([](const NameServerQuestion& asked) { return send_back(asked, honest(asked, 0)); });
    ResolverHost host(options_for({&server}));
    EXPECT_EQ(host.resolve("www.example.org")->ttl, 0s);
    EXPECT_EQ(host.resolve("www.example.org")->ttl, 0s);
    EXPECT_EQ(server.questions().size(), 2u);
    EXPECT_EQ(host.counters().cached_entries.value(), 0u);
}

TEST(ResolverCache, keeps_times_to_live_within_bounds) {
    ManualClock clock;
    NameServer server([](const NameServerQuestion& asked) {
        return send_back(asked, honest(asked, asked.query.lower_name() == "short.example" ? 1 : 1'000'000));
    });
    ResolverOptions options = options_for({&server});
    options.ttl_min = 10s;
    options.ttl_max = 100s;
    ResolverHost host(options, clock);
    EXPECT_EQ(host.resolve("short.example")->ttl, 10s);
    EXPECT_EQ(host.resolve("long.example")->ttl, 100s);
}

TEST(ResolverCache, remembers_what_is_not_there_as_long_as_the_zone_says) {
    ManualClock clock;
    NameServer server([](const NameServerQuestion& asked) {
        const std::string name = asked.query.lower_name();
        DnsMessage message = DnsMessage::answer_to(asked.query, name == "empty.example" ? 0 : 3);
        if (name != "unsigned.example") message.authority("example", 3600, name == "long.example" ? 100'000 : 30);
        return send_back(asked, message);
    });
    ResolverHost host(options_for({&server}), clock);
    const auto code = [&](const char* name) { return host.resolve(name).error().code; };
    const auto questions = [&] { return server.questions().size(); };
    EXPECT_EQ(code("gone.example"), ResolveErrc::not_found);
    EXPECT_EQ(code("gone.example"), ResolveErrc::not_found);
    EXPECT_EQ(questions(), 1u);
    EXPECT_EQ(code("empty.example"), ResolveErrc::no_data);
    EXPECT_EQ(code("empty.example"), ResolveErrc::no_data);
    EXPECT_EQ(questions(), 2u);
    clock.advance(30s);
    EXPECT_EQ(code("gone.example"), ResolveErrc::not_found);
    EXPECT_EQ(questions(), 3u);
    EXPECT_EQ(code("unsigned.example"), ResolveErrc::not_found);
    EXPECT_EQ(code("unsigned.example"), ResolveErrc::not_found);
    EXPECT_EQ(questions(), 5u) << "without a start of authority it is not remembered";
    EXPECT_EQ(code("long.example"), ResolveErrc::not_found);
    clock.advance(900s);
    EXPECT_EQ(code("long.example"), ResolveErrc::not_found);
    EXPECT_EQ(questions(), 7u) << "negative_ttl_max";
    EXPECT_EQ(host.resolve("gone.example").error().message,
              "resolve gone.example: no such name (" + text_of(server.address()) + ")");
}

TEST(ResolverCache, remembers_failures_shortly) {
    ManualClock clock;
    NameServer server(always(2));
    ResolverOptions options = options_for({&server});
    options.attempts = 1;
    ResolverHost host(options, clock);
    EXPECT_EQ(host.resolve("www.example.org").error().code, ResolveErrc::temporary_failure);
    EXPECT_EQ(host.resolve("www.example.org").error().code, ResolveErrc::temporary_failure);
    EXPECT_EQ(server.questions().size(), 1u);
    clock.advance(1s);
    EXPECT_EQ(host.resolve("www.example.org").error().code, ResolveErrc::temporary_failure);
    EXPECT_EQ(server.questions().size(), 2u);
}

TEST(ResolverCache, forgets_who_was_asked_for_least_lately_at_its_bounds) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.cache_entries = 2;
    ResolverHost host(options);
    for (const char* name : {"a.example", "b.example", "a.example", "c.example", "a.example", "b.example"})
        host.resolve(name);
    EXPECT_THAT(names_of(server.questions()), ElementsAre("a.example", "b.example", "c.example", "b.example"));
    EXPECT_EQ(host.counters().cached_entries.value(), 2u);
}

TEST(ResolverCache, is_bounded_in_bytes_and_counted_in_the_account_of_the_reactor) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.cache_bytes = 2000;
    ResolverHost host(options);
    for (int number = 0; number < 50; ++number) host.resolve("n" + std::to_string(number) + ".example");
    const std::uint64_t cached = host.counters().cached_bytes.value();
    EXPECT_LE(cached, 2000u);
    EXPECT_GE(host.counters().cached_entries.value(), 2u);
    host.on_reactor([&] {
        const std::uint64_t full = host.reactor().memory_account.used_bytes();
        host.resolver().clear_cache();
        EXPECT_EQ(host.reactor().memory_account.used_bytes(), full - cached);
    });
    EXPECT_EQ(host.counters().cached_bytes.value(), 0u);
    EXPECT_EQ(host.counters().cached_entries.value(), 0u);
}

TEST(ResolverCache, remembers_nothing_when_it_may_have_no_entries) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.cache_entries = 0;
    ResolverHost host(options);
    host.resolve("www.example.org");
    host.resolve("www.example.org");
    EXPECT_EQ(server.questions().size(), 2u);
}

// ---- waiting ----

TEST(ResolverWaiting, shares_one_question_among_all_who_ask_it) {
    NameServer server(say_nothing);
    ResolverHost host(options_for({&server}));
    const auto first = host.begin("www.example.org");
    const auto second = host.begin("WWW.EXAMPLE.ORG");
    const auto third = host.begin("www.example.org.");
    server.wait_for_questions(1);
    EXPECT_EQ(host.counters().shared_questions.value(), 2u);
    const NameServerQuestion asked = server.questions()[0];
    server.send_to(asked.port, honest(asked).bytes());
    for (const auto& pending : {first, second, third})
        EXPECT_THAT(ResolverHost::texts_of(pending->result.get()), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(server.questions().size(), 1u);
    EXPECT_EQ(host.counters().pending.value(), 0u);
}

TEST(ResolverWaiting, cancelled_by_one_goes_on_for_the_others) {
    NameServer server(say_nothing);
    ResolverHost host(options_for({&server}));
    const auto leaves = host.begin("www.example.org");
    const auto stays = host.begin("www.example.org");
    server.wait_for_questions(1);
    host.cancel(leaves);
    const Resolved left = leaves->result.get();
    ASSERT_FALSE(left);
    EXPECT_EQ(left.error().code, ResolveErrc::cancelled);
    EXPECT_EQ(left.error().message, "resolve www.example.org: cancelled");
    const NameServerQuestion asked = server.questions()[0];
    server.send_to(asked.port, honest(asked).bytes());
    EXPECT_THAT(ResolverHost::texts_of(stays->result.get()), ElementsAre("192.0.2.1:0"));
}

TEST(ResolverWaiting, that_is_over_does_not_keep_a_late_answer_from_being_remembered) {
    NameServer server(say_nothing);
    ResolverHost host(options_for({&server}));
    const auto pending = host.begin("www.example.org");
    server.wait_for_questions(1);
    host.cancel(pending, CancelReason::deadline);
    const Resolved resolved = pending->result.get();
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().code, ResolveErrc::timed_out);
    const NameServerQuestion asked = server.questions()[0];
    server.send_to(asked.port, honest(asked).bytes());
    host.wait_until([&] { return host.counters().pending.value() == 0; });
    EXPECT_THAT(host.texts("www.example.org"), ElementsAre("192.0.2.1:0"));
    EXPECT_EQ(server.questions().size(), 1u);
}

TEST(ResolverWaiting, ends_at_its_own_deadline) {
    PassingTime clock;
    NameServer server(clock.silence(3s));
    ResolverOptions options = options_for({&server});
    options.deadline = 3s;
    ResolverHost host(options, clock);
    clock.watch(host);
    const Resolved resolved = host.resolve("www.example.org");
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().code, ResolveErrc::timed_out);
    EXPECT_EQ(resolved.error().message, "resolve www.example.org: timed out (the deadline came before an answer)");
    EXPECT_EQ(host.counters().pending.value(), 1u);
}

TEST(ResolverWaiting, ends_with_the_reactor) {
    NameServer server(say_nothing);
    ResolverHost host(options_for({&server}));
    const auto pending = host.begin("www.example.org");
    server.wait_for_questions(1);
    host.end();
    EXPECT_EQ(pending->result.get().error().code, ResolveErrc::cancelled);
}

TEST(ResolverWaiting, ends_with_the_reactor_by_tcp) {
    std::atomic<ResolverHost*> running{nullptr};
    NameServer server([&](const NameServerQuestion&) {
        running.load()->reactor().stop();
        return NameServer::Answers{"\0"};
    });
    ResolverOptions options = options_for({&server});
    options.use_tcp = true;
    options.attempts = 1;
    ResolverHost host(options);
    running = &host;
    const auto pending = host.begin("www.example.org");
    EXPECT_FALSE(pending->result.get());
    host.end();
}

TEST(ResolverWaiting, may_be_destroyed_at_any_time) {
    for (const bool end_is_on_its_way : {false, true}) {
        NameServer server(say_nothing);
        ResolverHost host(options_for({&server}));
        std::optional<ferrule::CancelScope> scope;
        ferrule::Environment environment;
        ferrule::Task<Resolved> destroyed;
        host.on_reactor([&] {
            scope.emplace(host.reactor().root_environment.scope);
            environment = {&*scope, &host.reactor(), 0};
            destroyed = host.resolver().resolve("www.example.org");
            EXPECT_TRUE(destroyed.start(environment, std::noop_coroutine()));
        });
        const auto stays = host.begin("www.example.org");
        server.wait_for_questions(1);
        host.on_reactor([&] {
            if (end_is_on_its_way) scope->cancel(CancelReason::cancelled);
            destroyed.reset();
            scope.reset();
        });
        const NameServerQuestion asked = server.questions()[0];
        server.send_to(asked.port, honest(asked).bytes());
        EXPECT_THAT(ResolverHost::texts_of(stays->result.get()), ElementsAre("192.0.2.1:0"));
    }
}

TEST(ResolverWaiting, waits_fifty_milliseconds_for_the_other_family) {
    for (const std::uint16_t answered : {DnsMessage::a, DnsMessage::aaaa}) {
        ManualClock clock;
        NameServer server([&](const NameServerQuestion& asked) {
            return asked.query.type == answered ? answer_honestly(asked) : NameServer::Answers{};
        });
        ResolverOptions options = options_for({&server});
        options.families = ResolverFamilies::both;
        ResolverHost host(options, clock);
        const auto pending = host.begin("www.example.org");
        server.wait_for_questions(2);
        host.wait_until([&] { return host.counters().answers.value() == 1; });
        clock.advance(49ms);
        host.turn();
        EXPECT_EQ(pending->result.wait_for(0s), std::future_status::timeout);
        clock.advance(1ms);
        host.turn();
        const std::string only = answered == DnsMessage::a ? "192.0.2.1:0" : "[2001:db8::1]:0";
        EXPECT_THAT(ResolverHost::texts_of(pending->result.get()), ElementsAre(only));
        // The other question goes on, and its answer is remembered.
        for (const NameServerQuestion& asked : server.questions()) {
            if (asked.query.type != answered) server.send_to(asked.port, honest(asked).bytes());
        }
        host.wait_until([&] { return host.counters().pending.value() == 0; });
        EXPECT_THAT(host.texts("www.example.org"), UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
        EXPECT_EQ(server.questions().size(), 2u);
    }
}

TEST(ResolverWaiting, does_not_take_the_lack_of_one_family_for_the_lack_of_the_name) {
    for (const unsigned code : {0u, 2u, 3u}) {
        NameServer server([&](const NameServerQuestion& asked) {
            if (asked.query.type == DnsMessage::a) return answer_honestly(asked);
            return send_back(asked, DnsMessage::answer_to(asked.query, code));
        });
        ResolverOptions options = options_for({&server});
        options.families = ResolverFamilies::both;
        EXPECT_THAT(ResolverHost(options).texts("www.example.org"), ElementsAre("192.0.2.1:0")) << code;
    }
}

TEST(ResolverWaiting, tells_trouble_from_the_lack_of_a_family) {
    NameServer server([](const NameServerQuestion& asked) {
        return send_back(asked, DnsMessage::answer_to(asked.query, asked.query.type == DnsMessage::a ? 2 : 0));
    });
    ResolverOptions options = options_for({&server});
    options.families = ResolverFamilies::both;
    options.attempts = 1;
    EXPECT_EQ(ResolverHost(options).resolve("www.example.org").error().code, ResolveErrc::temporary_failure);
}

TEST(ResolverWaiting, is_refused_beyond_the_limit_of_questions) {
    NameServer server(say_nothing);
    ResolverOptions options = options_for({&server});
    options.question_limit = 1;
    ResolverHost host(options);
    const auto pending = host.begin("a.example.org");
    const Resolved refused = host.resolve("b.example.org");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ResolveErrc::limit);
    EXPECT_EQ(refused.error().message,
              "resolve b.example.org: limit reached (1 questions are in flight (ResolverOptions::question_limit))");
    server.wait_for_questions(1);
    const NameServerQuestion asked = server.questions()[0];
    server.send_to(asked.port, honest(asked).bytes());
    EXPECT_TRUE(pending->result.get());
    EXPECT_EQ(host.counters().pending.value(), 0u) << "there is room again";
}

// ---- names ----

TEST(ResolverNames, that_are_literals_are_asked_of_nobody) {
    NameServer server(answer_honestly);
    ResolverHost host(options_for({&server}));
    EXPECT_THAT(host.texts("192.0.2.7"), ElementsAre("192.0.2.7:0"));
    EXPECT_THAT(host.texts("2001:db8::7"), ElementsAre("[2001:db8::7]:0"));
    EXPECT_THAT(host.texts("[2001:db8::7]"), ElementsAre("[2001:db8::7]:0"));
    EXPECT_THAT(host.texts("fe80::1%1"), ElementsAre("[fe80::1%1]:0"));
    EXPECT_TRUE(server.questions().empty());
}

TEST(ResolverNames, that_are_special_are_asked_of_nobody) {
    NameServer server(answer_honestly);
    ResolverOptions options = options_for({&server});
    options.families = ResolverFamilies::both;
    ResolverHost host(options);
    for (const char* name : {"localhost", "LocalHost.", "www.localhost", "a.b.localhost"})
        EXPECT_THAT(host.texts(name), UnorderedElementsAre("[::1]:0", "127.0.0.1:0")) << name;
    for (const char* name : {"invalid", "www.invalid.", "abc.onion"}) {
        const Resolved resolved = host.resolve(name);
        ASSERT_FALSE(resolved);
        EXPECT_EQ(resolved.error().code, ResolveErrc::not_found) << name;
    }
    EXPECT_TRUE(server.questions().empty());
    EXPECT_TRUE(host.resolve("notlocalhost"));
    EXPECT_EQ(server.questions().size(), 2u);
}

TEST(ResolverNames, that_can_be_none_are_refused) {
    NameServer server(answer_honestly);
    ResolverHost host(options_for({&server}));
    const auto message = [&](std::string name) {
        const Resolved resolved = host.resolve(std::move(name));
        if (resolved) return std::string("resolved");
        EXPECT_EQ(resolved.error().code, ResolveErrc::invalid_name);
        EXPECT_EQ(resolved.error().code, std::errc::invalid_argument);
        return resolved.error().message;
    };
    EXPECT_EQ(message(""), "resolve : invalid name (the name is empty)");
    EXPECT_EQ(message("."), "resolve .: invalid name (the name is empty)");
    EXPECT_EQ(message("b\xc3\xbc"
                      "cher.example"),
              "resolve b\xc3\xbc"
              "cher.example: invalid name (only ASCII: give an internationalised name in the form that begins with "
              "xn--)");
    EXPECT_EQ(message("a b"), "resolve a b: invalid name (only letters, digits, '-', '_' and '.')");
    EXPECT_EQ(message("a..b"), "resolve a..b: invalid name (there is nothing between two dots)");
    EXPECT_EQ(message("1.2.3.400"), "resolve 1.2.3.400: invalid name (neither an address nor a name)");
    EXPECT_EQ(message("127.1"), "resolve 127.1: invalid name (neither an address nor a name)");
    EXPECT_THAT(message("unix:/run/socket"), HasSubstr("invalid name"));
    EXPECT_THAT(message("*"), HasSubstr("invalid name"));
    EXPECT_THAT(message("1:2:3"), HasSubstr("invalid name"));
    EXPECT_THAT(message("example.org:80"), HasSubstr("invalid name"));
    EXPECT_THAT(message(std::string("a\0b", 3)), HasSubstr("invalid name"));
    EXPECT_THAT(message(std::string(64, 'a') + ".example"), HasSubstr("at most 63 characters"));
    EXPECT_THAT(message(std::string(100'000, 'a')), HasSubstr("at most 253 characters"));
    EXPECT_TRUE(server.questions().empty());
}

/// Knows only these names.
NameServer::Handler knows(std::set<std::string> names) {
    return [names = std::move(names)](const NameServerQuestion& asked) {
        if (names.contains(asked.query.lower_name())) return answer_honestly(asked);
        return send_back(asked, DnsMessage::answer_to(asked.query, 3));
    };
}

TEST(ResolverNames, are_tried_in_the_search_list) {
    NameServer server(knows({"db.two.example"}));
    ResolverOptions options = options_for({&server});
    options.search = {"one.example", "two.example", "three.example"};
    ResolverHost host(options);
    EXPECT_TRUE(host.resolve("db"));
    EXPECT_THAT(names_of(server.questions()), ElementsAre("db.one.example", "db.two.example"));
}

TEST(ResolverNames, with_enough_dots_are_tried_as_they_are_first) {
    NameServer server(knows({"a.b.one.example"}));
    ResolverOptions options = options_for({&server});
    options.search = {"one.example"};
    EXPECT_TRUE(ResolverHost(options).resolve("a.b"));
    EXPECT_THAT(names_of(server.questions()), ElementsAre("a.b", "a.b.one.example"));
    options.dots = 2;
    EXPECT_TRUE(ResolverHost(options).resolve("a.b"));
    EXPECT_THAT(names_of(server.questions()), ElementsAre("a.b", "a.b.one.example", "a.b.one.example"));
}

TEST(ResolverNames, that_are_absolute_are_tried_as_they_are_alone) {
    NameServer server(knows({}));
    ResolverOptions options = options_for({&server});
    options.search = {"one.example"};
    options.dots = 2;
    EXPECT_EQ(ResolverHost(options).resolve("a.b.").error().code, ResolveErrc::not_found);
    EXPECT_THAT(names_of(server.questions()), ElementsAre("a.b"));
}

TEST(ResolverNames, that_are_found_nowhere_end_with_the_most_telling_error) {
    const auto code = [](unsigned one, unsigned two, unsigned itself) {
        NameServer server([=](const NameServerQuestion& asked) {
            const std::string name = asked.query.lower_name();
            const unsigned answer = name == "db.one.example" ? one : name == "db.two.example" ? two : itself;
            return send_back(asked, DnsMessage::answer_to(asked.query, answer));
        });
        ResolverOptions options = options_for({&server});
        options.search = {"one.example", "two.example"};
        options.attempts = 1;
        const auto error = ResolverHost(options).resolve("db").error();
        EXPECT_EQ(server.questions().size(), 3u);
        EXPECT_THAT(error.message, StartsWith("resolve db: "));
        return error.code;
    };
    EXPECT_EQ(code(3, 3, 3), ResolveErrc::not_found);
    EXPECT_EQ(code(3, 0, 3), ResolveErrc::no_data);
    EXPECT_EQ(code(0, 3, 3), ResolveErrc::no_data);
    EXPECT_EQ(code(2, 0, 3), ResolveErrc::temporary_failure);
    EXPECT_EQ(code(3, 5, 0), ResolveErrc::refused);
}

TEST(ResolverNames, too_long_for_a_domain_are_not_tried_in_it) {
    NameServer server(knows({}));
    ResolverOptions options = options_for({&server});
    options.search = {std::string(63, 'a') + '.' + std::string(63, 'b') + '.' + std::string(63, 'c'), "short.example"};
    options.dots = 2;
    const std::string name = std::string(63, 'd') + ".example";
    ResolverHost(options).resolve(name);
    EXPECT_THAT(names_of(server.questions()), ElementsAre(name + ".short.example", name));
}

// ---- order ----

/// Says whether there is a route for IPv6.
class RouteKernel : public ferrule_test::ForwardingKernel {
public:
    explicit RouteKernel(bool has_route) : has_route_(has_route) {}
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        if (address->sa_family == AF_INET6) return has_route_ ? 0 : -ENETUNREACH;
        return ForwardingKernel::connect(fd, address, length);
    }

private:
    bool has_route_;
};

NameServer::Answers answer_with_three(const NameServerQuestion& asked) {
    DnsMessage message = DnsMessage::answer_to(asked.query);
    for (std::uint8_t number = 1; number <= 3; ++number) {
        if (asked.query.type == DnsMessage::a) message.ipv4(asked.query.name, 60, 0xc0000200u + number);
        if (asked.query.type == DnsMessage::aaaa && number < 3) message.ipv6(asked.query.name, 60, number);
    }
    return send_back(asked, message);
}

TEST(ResolverOrder, takes_the_families_in_turn_ipv6_first_where_it_has_a_route) {
    NameServer server(answer_with_three);
    ResolverOptions options = options_for({&server});
    options.families = ResolverFamilies::both;
    RouteKernel kernel(true);
    EXPECT_THAT(ResolverHost(options, kernel).texts("www.example.org"),
                ElementsAre("[2001:db8::1]:0", "192.0.2.1:0", "[2001:db8::2]:0", "192.0.2.2:0", "192.0.2.3:0"));
}

TEST(ResolverOrder, puts_ipv6_last_where_it_has_no_route) {
    NameServer server(answer_with_three);
    ResolverOptions options = options_for({&server});
    options.families = ResolverFamilies::both;
    RouteKernel kernel(false);
    EXPECT_THAT(ResolverHost(options, kernel).texts("www.example.org"),
                ElementsAre("192.0.2.1:0", "192.0.2.2:0", "192.0.2.3:0", "[2001:db8::1]:0", "[2001:db8::2]:0"));
}

// ---- files ----

TEST(ResolverFiles, answer_from_the_hosts_file_before_any_server) {
    NameServer server(answer_honestly);
    HostFolder folder;
    folder.write("hosts", "192.0.2.50 Printer.example.org printer # upstairs\n2001:db8::50 six\n");
    ResolverOptions options = folder.options();
    options.servers = {server.address()};
    ResolverHost host(options);
    EXPECT_THAT(host.texts("PRINTER"), ElementsAre("192.0.2.50:0"));
    EXPECT_THAT(host.texts("printer.example.org."), ElementsAre("192.0.2.50:0"));
    EXPECT_THAT(host.texts("six"), ElementsAre("[2001:db8::50]:0"));
    EXPECT_EQ(host.resolve("six")->ttl, 0s);
    EXPECT_TRUE(server.questions().empty());
    ResolverOptions ipv4 = options;
    ipv4.families = ResolverFamilies::ipv4;
    EXPECT_THAT(ResolverHost(ipv4).texts("six"), ElementsAre("192.0.2.1:0")) << "the file has it in the other family";
}

TEST(ResolverFiles, are_looked_at_once_a_second_and_taken_over_when_they_changed) {
    ManualClock clock;
    NameServer server(answer_honestly);
    HostFolder folder;
    folder.write("hosts", "192.0.2.50 printer\n");
    ResolverOptions options = folder.options();
    options.servers = {server.address()};
    ResolverHost host(options, clock);
    EXPECT_THAT(host.texts("printer"), ElementsAre("192.0.2.50:0"));
    const auto looks = clock.calls(Call::read_file);
    folder.write("hosts", "192.0.2.51 printer\n");
    clock.advance(999ms);
    EXPECT_THAT(host.texts("printer"), ElementsAre("192.0.2.50:0"));
    EXPECT_EQ(clock.calls(Call::read_file), looks);
    clock.advance(1ms);
    EXPECT_THAT(host.texts("printer"), ElementsAre("192.0.2.51:0"));
    EXPECT_EQ(host.counters().reloads.value(), 1u);
    clock.advance(1s);
    EXPECT_THAT(host.texts("printer"), ElementsAre("192.0.2.51:0"));
    EXPECT_EQ(host.counters().reloads.value(), 1u);
    clock.advance(1s);
    clock.fail(Call::read_file, EIO, 2);
    EXPECT_THAT(host.texts("printer"), ElementsAre("192.0.2.51:0")) << "a file that cannot be read stays as it was";
    folder.remove("hosts");
    clock.advance(1s);
    EXPECT_THAT(host.texts("printer"), UnorderedElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
}

TEST(ResolverFiles, are_read_up_to_a_mebibyte) {
    HostFolder folder;
    std::string text;
    while (text.size() < 1u << 20) text += "192.0.2.9 name-" + std::to_string(text.size()) + "\n";
    folder.write("hosts", "192.0.2.50 first\n" + text + "192.0.2.51 last\n");
    ResolverOptions options = folder.options();
    NameServer server(knows({}));
    options.servers = {server.address()};
    ResolverHost host(options);
    EXPECT_THAT(host.texts("first"), ElementsAre("192.0.2.50:0"));
    EXPECT_EQ(host.resolve("last").error().code, ResolveErrc::not_found);
}

TEST(ResolverFiles, say_how_names_are_searched_until_they_change) {
    ManualClock clock;
    NameServer server(answer_honestly);
    HostFolder folder;
    folder.write("resolv.conf", "search one.example\noptions ndots:3 trust-ad\n");
    ResolverOptions options = folder.options();
    options.servers = {server.address()};
    options.families = ResolverFamilies::ipv4;
    ResolverHost host(options, clock);
    host.resolve("a.b");
    host.on_reactor([&] { EXPECT_THAT(host.resolver().notes(), ElementsAre(HasSubstr("trust-ad"))); });
    folder.write("resolv.conf", "search two.example\noptions ndots:3\n");
    clock.advance(1s);
    host.resolve("a.b");
    host.on_reactor([&] { EXPECT_TRUE(host.resolver().notes().empty()); });
    EXPECT_EQ(host.counters().cached_entries.value(), 1u) << "another network may have other answers";
    folder.write("resolv.conf", "search three.example\noptions ndots:3 no-reload no-aaaa\n");
    clock.advance(1s);
    host.resolve("a.b");
    folder.write("resolv.conf", "search four.example\n");
    clock.advance(1s);
    host.resolve("a.b");
    EXPECT_THAT(names_of(server.questions()), ElementsAre("a.b.one.example", "a.b.two.example", "a.b.three.example"));
}

TEST(ResolverFiles, give_way_to_options) {
    NameServer server(answer_honestly);
    HostFolder folder;
    folder.write("resolv.conf", "nameserver 192.0.2.1\nsearch one.example\noptions ndots:3 use-vc no-aaaa\n");
    ResolverOptions options = folder.options();
    options.servers = {server.address()};
    options.search = {"two.example"};
    options.use_tcp = false;
    ResolverHost host(options);
    EXPECT_THAT(host.texts("a.b"), ElementsAre("192.0.2.1:0"));
    EXPECT_THAT(names_of(server.questions()), ElementsAre("a.b.two.example"));
    EXPECT_FALSE(server.questions()[0].by_tcp);
}

TEST(ResolverFiles, that_are_missing_mean_the_server_of_this_machine) {
    ferrule_test::ForwardingKernel kernel;
    kernel.fail(Call::connect, EHOSTUNREACH, ferrule_test::ForwardingKernel::forever);
    HostFolder folder;
    ResolverOptions options = folder.options();
    options.families = ResolverFamilies::ipv4;
    EXPECT_THAT(ResolverHost(options, kernel).texts("www.example.org"),
                ElementsAre("resolve www.example.org: temporary failure (127.0.0.1: No route to host)"));
    folder.write("resolv.conf", "nameserver 2001:db8::53\nnameserver 192.0.2.53\n");
    EXPECT_THAT(ResolverHost(options, kernel).texts("www.example.org"),
                ElementsAre("resolve www.example.org: temporary failure (2001:db8::53: No route to host; 192.0.2.53: "
                            "No route to host)"));
}

// ---- the system's resolver ----

/// A machine whose own resolver says what a test wants.
class SystemKernel : public ferrule_test::ForwardingKernel {
public:
    int resolve_name(const char* name, sockaddr_storage* addresses, std::size_t capacity) noexcept override {
        ++calls;
        if (std::strcmp(name, "printer.local") != 0) return -error;
        const Address all[] = {Address::parse("192.0.2.60", 0).value(), Address::parse("2001:db8::60", 0).value(),
                               Address::parse("192.0.2.60", 0).value()};
        int count = 0;
        for (const Address& address : all) {
            if (static_cast<std::size_t>(count) < capacity)
                std::memcpy(&addresses[count++], address.data(), address.size());
        }
        return count;
    }
    std::atomic<int> calls{0};
    std::atomic<int> error{ENOENT};
};

TEST(ResolverSystem, is_asked_on_a_thread_and_has_the_last_word_about_order) {
    SystemKernel kernel;
    ResolverOptions options = options_for({});
    options.backend = ferrule::ResolverBackend::system;
    options.families = ResolverFamilies::both;
    ResolverHost host(options, kernel);
    EXPECT_THAT(host.texts("printer.local"), ElementsAre("192.0.2.60:0", "[2001:db8::60]:0"));
    EXPECT_EQ(host.resolve("printer.local")->ttl, 0s);
    EXPECT_EQ(kernel.calls.load(), 2) << "it has its own memory";
    EXPECT_THAT(host.texts("127.0.0.1"), ElementsAre("127.0.0.1:0"));
    EXPECT_TRUE(host.resolve("localhost"));
    EXPECT_EQ(kernel.calls.load(), 2);
    options.families = ResolverFamilies::ipv6;
    EXPECT_THAT(ResolverHost(options, kernel).texts("printer.local"), ElementsAre("[2001:db8::60]:0"));
}

TEST(ResolverSystem, has_errors_of_its_own) {
    SystemKernel kernel;
    ResolverOptions options = options_for({});
    options.backend = ferrule::ResolverBackend::system;
    ResolverHost host(options, kernel);
    EXPECT_THAT(host.texts("x.local"), ElementsAre("resolve x.local: no such name (getaddrinfo)"));
    kernel.error = ENODATA;
    EXPECT_EQ(host.resolve("x.local").error().code, ResolveErrc::no_data);
    kernel.error = ENOMEM;
    EXPECT_EQ(host.resolve("x.local").error().code, ResolveErrc::limit);
    kernel.error = EAGAIN;
    EXPECT_THAT(host.texts("x.local"), ElementsAre("resolve x.local: temporary failure (getaddrinfo: Resource "
                                                   "temporarily unavailable)"));
    kernel.fail(Call::start_thread, EAGAIN, ferrule_test::ForwardingKernel::forever);
    ResolverHost without_threads(options, kernel);
    EXPECT_EQ(without_threads.resolve("x.local").error().code, ResolveErrc::limit);
    EXPECT_EQ(host.resolve(std::string("a\0b", 3)).error().code, ResolveErrc::invalid_name);
}

TEST(ResolverSystem, of_linux_knows_literals) {
    sockaddr_storage found[2];
    EXPECT_EQ(ferrule::linux_kernel().resolve_name("192.0.2.1", found, 2), 1);
    EXPECT_EQ(Address::from(reinterpret_cast<const sockaddr*>(&found[0]), sizeof found[0])->to_string(), "192.0.2.1:0");
    EXPECT_EQ(ferrule::linux_kernel().resolve_name("192.0.2.1", found, 0), 0);
}

// ---- shortages ----

TEST(ResolverShortage, of_descriptors_is_said_and_not_remembered) {
    ferrule_test::ForwardingKernel kernel;
    NameServer server(answer_honestly);
    ResolverHost host(options_for({&server}), kernel);
    kernel.fail(Call::socket, EMFILE, ferrule_test::ForwardingKernel::forever);
    const Resolved resolved = host.resolve("www.example.org");
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().code, ResolveErrc::limit);
    EXPECT_THAT(resolved.error().message, HasSubstr("Too many open files"));
    kernel.heal();
    EXPECT_TRUE(host.resolve("www.example.org"));
}

TEST(ResolverShortage, of_randomness_asks_nobody) {
    ferrule_test::ForwardingKernel kernel;
    NameServer server(answer_honestly);
    ResolverHost host(options_for({&server}), kernel);
    kernel.fail(Call::random, EAGAIN);
    EXPECT_THAT(host.texts("www.example.org"),
                ElementsAre("resolve www.example.org: temporary failure (there is no randomness for a question)"));
    EXPECT_TRUE(server.questions().empty());
    EXPECT_TRUE(host.resolve("www.example.org"));
}

TEST(ResolverShortage, of_operations_ends_the_question) {
    NameServer server(answer_honestly);
    ferrule::ReactorOptions reactor;
    reactor.operation_limit = 0;
    const Resolved resolved =
        ResolverHost(options_for({&server}), ferrule::linux_kernel(), reactor).resolve("a.example");
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().code, ResolveErrc::limit);
}

ferrule::Task<> resolve_in_little_memory(ResolverHost* host, unsigned* limited, std::promise<void>* ended) {
    try {
        auto resolving = host->resolver().resolve("www.example.org");
        const Resolved resolved = co_await resolving;
        if (!resolved && resolved.error().code == ResolveErrc::limit) ++*limited;
    } catch (const std::bad_alloc&) {
        ++*limited;
    }
    ended->set_value();
}

TEST(ResolverShortage, of_frames_ends_the_question) {
    NameServer server(answer_honestly);
    unsigned limited = 0;
    for (std::uint64_t limit = 1u << 11; limit <= 1u << 15; limit += 1u << 10) {
        ferrule::ReactorOptions reactor;
        reactor.frame_memory_limit = limit;
        ResolverHost host(options_for({&server}), ferrule::linux_kernel(), reactor);
        std::promise<void> ended;
        host.on_reactor([&] {
            try {
                host.reactor().spawn(resolve_in_little_memory(&host, &limited, &ended));
            } catch (const std::bad_alloc&) {
                ended.set_value();  // not even the test's own task fits
            }
        });
        ended.get_future().wait();
        host.wait_until([&] { return host.counters().pending.value() == 0; });
    }
    EXPECT_GT(limited, 0u);
}

// ---- options and errors ----

TEST(ResolverOptions, that_make_no_sense_are_refused_by_name) {
    ferrule::Reactor reactor;
    const auto refused = [&](auto change) {
        ResolverOptions options;
        change(options);
        try {
            const ferrule::Resolver resolver(reactor, options);
        } catch (const std::invalid_argument& failure) {
            return std::string(failure.what());
        }
        return std::string("accepted");
    };
    EXPECT_EQ(refused([](ResolverOptions&) {}), "accepted");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.servers = {Address()}; }),
              "ResolverOptions.servers: one has no IPv4 or IPv6 address");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.servers = {Address::loopback(0)}; }),
              "ResolverOptions.servers: one has no port");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.servers.resize(17, Address::loopback(53)); }),
              "ResolverOptions.servers: more than 16");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.timeout = 0ms; }),
              "ResolverOptions.timeout: it is not positive");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.attempts = 0; }),
              "ResolverOptions.attempts: there are none");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.ttl_min = -1s; }),
              "ResolverOptions.ttl_min: it is negative");
    EXPECT_EQ(refused([](ResolverOptions& options) { options.ttl_max = 1s, options.ttl_min = 2s; }),
              "ResolverOptions.ttl_min: it is more than ttl_max");
}

TEST(ResolveError, has_a_category_whose_codes_compare_to_the_usual_conditions) {
    EXPECT_STREQ(ferrule::resolve_category().name(), "resolve");
    EXPECT_EQ(std::error_code(ResolveErrc::timed_out), std::errc::timed_out);
    EXPECT_EQ(std::error_code(ResolveErrc::cancelled), std::errc::operation_canceled);
    EXPECT_EQ(std::error_code(ResolveErrc::limit), std::errc::not_enough_memory);
    EXPECT_EQ(std::error_code(ResolveErrc::invalid_name), std::errc::invalid_argument);
    EXPECT_NE(std::error_code(ResolveErrc::not_found), std::errc::timed_out);
    EXPECT_EQ(std::error_code(ResolveErrc::not_found).message(), "no such name");
    EXPECT_EQ(ferrule::resolve_category().message(99), "unknown error");
}

TEST(Resolver, is_a_service_of_its_reactor_made_when_it_is_first_asked_for) {
    ferrule::Reactor reactor;
    ferrule::Resolver& resolver = ferrule::Resolver::of(reactor);
    EXPECT_EQ(&resolver, &ferrule::Resolver::of(reactor));
    EXPECT_EQ(resolver.options().hosts, "/etc/hosts");
}

TEST(Resolver, refuses_threads_that_are_not_its_reactors) {
    NameServer server(answer_honestly);
    ResolverHost host(options_for({&server}));
    host.turn();
    EXPECT_THROW(static_cast<void>(host.resolver().resolve("a.example")), std::logic_error);
    EXPECT_THROW(host.resolver().clear_cache(), std::logic_error);
    EXPECT_THROW(static_cast<void>(host.resolver().notes()), std::logic_error);
}

TEST(Resolver, gives_back_every_descriptor) {
    NameServer server([](const NameServerQuestion& asked) {
        if (asked.by_tcp || asked.query.lower_name().starts_with('u')) return answer_honestly(asked);
        return send_back(asked, forged(asked).set_flags(DnsMessage::response | DnsMessage::truncated));
    });
    ResolverHost host(options_for({&server}));
    host.turn();
    const std::size_t before = ferrule_test::open_descriptors();
    for (int number = 0; number < 10; ++number) {
        EXPECT_TRUE(host.resolve("u" + std::to_string(number) + ".example"));
        EXPECT_TRUE(host.resolve("t" + std::to_string(number) + ".example"));
    }
    EXPECT_LE(ferrule_test::open_descriptors(), before + 1) << "the server may be closing its side of the last";
}

}  // namespace
