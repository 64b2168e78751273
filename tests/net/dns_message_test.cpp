#include "net/dns_message.hpp"
#include "support/dns_answers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using ferrule::dns_query_bytes_max;
using ferrule::DnsName;
using ferrule::DnsQueryOptions;
using ferrule::DnsQuestion;
using ferrule::DnsReply;
using ferrule::DnsReplyKind;
using ferrule::DnsType;
using ferrule_test::DnsMessage;
using ferrule_test::DnsQueryView;

DnsName name_of(std::string_view text) {
    return DnsName::parse(text).value();
}

/// A question, its query, and what a server sees of it.
struct Asked {
    explicit Asked(std::string_view name = "www.example.org", DnsType type = DnsType::a, DnsQueryOptions options = {})
        : question{name_of(name), type} {
        options.id = 0x1234;
        std::array<std::byte, dns_query_bytes_max> out;
        const std::size_t size = ferrule::write_dns_query(out, question, options);
        query.assign(reinterpret_cast<const char*>(out.data()), size);
        view = DnsQueryView::read(query);
    }
    /// Reads from memory that ends where the message does, so that a sanitizer sees each byte too many.
    DnsReply read(std::string_view message) const {
        const auto exact = std::make_unique<std::byte[]>(message.size());
        std::memcpy(exact.get(), message.data(), message.size());
        return ferrule::read_dns_reply({exact.get(), message.size()}, std::as_bytes(std::span(query)), question);
    }
    DnsReplyKind kind(const DnsMessage& message) const { return read(message.bytes()).kind; }
    DnsMessage answer(unsigned code = 0) const { return DnsMessage::answer_to(view, code); }

    DnsQuestion question;
    std::string query;
    DnsQueryView view;
};

std::vector<std::string> texts(const DnsReply& reply, DnsType type) {
    std::vector<std::string> all;
    for (const auto& address : reply.addresses) all.push_back(ferrule::to_address(address, type).to_string());
    return all;
}

// ---- names ----

TEST(DnsName, is_read_with_and_without_its_last_dot_and_in_any_case) {
    EXPECT_EQ(name_of("Example.ORG"), name_of("example.org."));
    EXPECT_EQ(name_of("Example.ORG").text(), "example.org");
    EXPECT_EQ(name_of("_sip._tcp.a-1.example").text(), "_sip._tcp.a-1.example");
}

TEST(DnsName, says_what_is_wrong_with_it) {
    const auto wrong = [](std::string_view text) { return std::string(DnsName::parse(text).error()); };
    EXPECT_EQ(wrong(""), "the name is empty");
    EXPECT_EQ(wrong("."), "the name is empty");
    EXPECT_EQ(wrong("a..b"), "there is nothing between two dots");
    EXPECT_EQ(wrong(".a"), "there is nothing between two dots");
    EXPECT_EQ(wrong("a.."), "there is nothing between two dots");
    EXPECT_EQ(wrong("b\xc3\xbc"
                    "cher.example"),
              "only ASCII: give an internationalised name in the form that begins with xn--");
    EXPECT_EQ(wrong("a b"), "only letters, digits, '-', '_' and '.'");
    EXPECT_EQ(wrong(std::string_view("a\0b", 3)), "only letters, digits, '-', '_' and '.'");
    EXPECT_EQ(wrong(std::string(64, 'a')), "a part between dots has at most 63 characters");
    EXPECT_TRUE(DnsName::parse(std::string(63, 'a')));
    std::string longest;
    for (int label = 0; label < 4; ++label) longest += std::string(label == 3 ? 61 : 63, 'a') + '.';
    EXPECT_TRUE(DnsName::parse(longest)) << "253 characters and a dot";
    EXPECT_EQ(wrong("a." + longest), "a name has at most 253 characters");
}

TEST(DnsName, is_put_below_another_and_found_within_it) {
    const DnsName example = name_of("example.org");
    EXPECT_EQ(name_of("a.b").below(example), name_of("a.b.example.org"));
    EXPECT_FALSE(DnsName::parse(std::string(63, 'a') + '.' + std::string(63, 'b') + '.' + std::string(63, 'c'))
                     ->below(name_of(std::string(63, 'd'))));
    EXPECT_TRUE(name_of("a.example.org").within(example));
    EXPECT_TRUE(example.within(example));
    EXPECT_TRUE(example.within(DnsName{}));
    EXPECT_FALSE(name_of("badexample.org").within(example));
    EXPECT_FALSE(name_of("org").within(example));
}

TEST(DnsName, shows_bytes_that_are_not_printable) {
    EXPECT_EQ(DnsName::from_wire(std::string("\3a.\xff\0", 5)).text(), "a\\046\\255");
    EXPECT_EQ(DnsName{}.text(), ".");
}

// ---- queries ----

TEST(DnsQuery, asks_one_question_with_recursion_and_an_option_record) {
    const Asked asked("www.example.org", DnsType::aaaa);
    EXPECT_EQ(asked.view.id, 0x1234);
    EXPECT_EQ(asked.view.flags, 0x0100);
    EXPECT_EQ(asked.view.type, DnsMessage::aaaa);
    EXPECT_EQ(asked.view.name, "www.example.org");
    EXPECT_TRUE(asked.view.extended);
    EXPECT_EQ(asked.query.substr(asked.query.size() - 11), std::string("\0\0\x29\x04\xd0\0\0\0\0\0\0", 11));
}

TEST(DnsQuery, has_no_option_record_for_servers_that_do_not_know_it) {
    DnsQueryOptions options;
    options.extended = false;
    EXPECT_FALSE(Asked("example.org", DnsType::a, options).view.extended);
}

TEST(DnsQuery, mixes_the_case_of_letters_only) {
    DnsQueryOptions options;
    options.case_bits.fill(0xff);
    EXPECT_EQ(Asked("a1-_z.example.org", DnsType::a, options).view.name, "A1-_Z.EXAMPLE.ORG");
    options.case_bits.fill(0x55);
    EXPECT_EQ(Asked("abcd.efgh", DnsType::a, options).view.name, "AbCd.EfGh");
    std::string longest;
    for (int label = 0; label < 4; ++label) longest += std::string(label == 3 ? 61 : 63, 'a') + '.';
    options.case_bits.fill(0xff);
    EXPECT_EQ(Asked(longest, DnsType::a, options).view.lower_name() + '.', longest);
}

// ---- replies ----

TEST(DnsReply, gives_the_addresses_and_the_shortest_time_to_live) {
    const Asked asked;
    DnsMessage message = asked.answer();
    message.ipv4("www.example.org", 300, 0xc0000201).ipv4("WWW.example.ORG", 60, 0xc0000202);
    const DnsReply reply = asked.read(message.bytes());
    EXPECT_EQ(reply.kind, DnsReplyKind::answer);
    EXPECT_EQ(texts(reply, DnsType::a), (std::vector<std::string>{"192.0.2.1:0", "192.0.2.2:0"}));
    EXPECT_EQ(reply.ttl_seconds, 60);
}

TEST(DnsReply, gives_addresses_of_ipv6) {
    const Asked asked("www.example.org", DnsType::aaaa);
    const DnsReply reply = asked.read(asked.answer().ipv6("www.example.org", 300, 7).bytes());
    EXPECT_EQ(texts(reply, DnsType::aaaa), (std::vector<std::string>{"[2001:db8::7]:0"}));
}

TEST(DnsReply, reads_compressed_names) {
    const Asked asked;
    DnsMessage message = asked.answer();
    message.record(6, DnsMessage::pointer(12), DnsMessage::a, 5, DnsMessage::ipv4_data(1));
    EXPECT_EQ(asked.kind(message), DnsReplyKind::answer);
}

TEST(DnsReply, is_foreign_with_another_id_name_type_class_or_without_being_a_response) {
    const Asked asked;
    const auto foreign = [&](auto change) {
        DnsMessage message = asked.answer();
        message.ipv4("www.example.org", 300, 1);
        change(message);
        return asked.kind(message) == DnsReplyKind::foreign;
    };
    EXPECT_FALSE(foreign([](DnsMessage&) {}));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_id(0x1235); }));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_flags(0x0180); }));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_flags(0x8980); })) << "another operation";
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_word(4, 0); }));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_word(4, 2); }));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_word(12 + 17, DnsMessage::aaaa); }));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_word(12 + 19, 3); }));
    EXPECT_TRUE(foreign([](DnsMessage& message) { message.set_word(13, 'x' << 8 | 'w'); }));
    EXPECT_EQ(asked.read("").kind, DnsReplyKind::foreign);
    EXPECT_EQ(asked.read(asked.query.substr(0, 11)).kind, DnsReplyKind::foreign);
    EXPECT_EQ(asked.read(asked.query).kind, DnsReplyKind::foreign) << "the query itself, come back";
}

TEST(DnsReply, is_told_apart_when_the_case_of_the_question_was_changed) {
    DnsQueryOptions options;
    options.case_bits.fill(0x35);
    const Asked asked("www.example.org", DnsType::a, options);
    const Asked lower("www.example.org");
    DnsMessage message = lower.answer();
    message.ipv4("www.example.org", 300, 1);
    EXPECT_EQ(asked.kind(message), DnsReplyKind::wrong_case);
    EXPECT_EQ(asked.kind(asked.answer().ipv4("www.example.org", 300, 1)), DnsReplyKind::answer)
        << "the case of a record's name says nothing";
}

TEST(DnsReply, is_truncated_whatever_else_is_in_it) {
    const Asked asked;
    DnsMessage message = asked.answer();
    message.set_flags(DnsMessage::response | DnsMessage::truncated).ipv4("www.example.org", 300, 1);
    EXPECT_EQ(asked.kind(message), DnsReplyKind::truncated);
}

TEST(DnsReply, follows_aliases_in_any_order_and_takes_their_time_to_live) {
    const Asked asked;
    DnsMessage message = asked.answer();
    message.ipv4("c.example.net", 300, 0xc0000201)
        .alias("b.example.org", 20, "C.example.net")
        .alias("www.example.org", 100, "b.example.org");
    const DnsReply reply = asked.read(message.bytes());
    EXPECT_EQ(texts(reply, DnsType::a), (std::vector<std::string>{"192.0.2.1:0"}));
    EXPECT_EQ(reply.ttl_seconds, 20);
}

TEST(DnsReply, uses_nothing_but_the_name_and_its_aliases) {
    const Asked asked;
    DnsMessage message = asked.answer();
    message.ipv4("www.example.com", 300, 1)
        .ipv4("example.org", 300, 2)
        .alias("other.example.org", 300, "www.example.org")
        .ipv6("www.example.org", 300, 3)
        .ipv4("www.example.org", 300, 0xc0000204);
    message.record(10, DnsMessage::wire("www.example.org"), DnsMessage::a, 300, DnsMessage::ipv4_data(5));
    EXPECT_EQ(texts(asked.read(message.bytes()), DnsType::a), (std::vector<std::string>{"192.0.2.4:0"}));
    DnsMessage alone = asked.answer();
    alone.ipv4("www.example.com", 300, 1);
    EXPECT_EQ(asked.kind(alone), DnsReplyKind::no_data);
}

TEST(DnsReply, refuses_loops_and_long_chains_of_aliases) {
    const Asked asked;
    DnsMessage loop = asked.answer();
    loop.alias("www.example.org", 300, "b.example.org").alias("b.example.org", 300, "www.example.org");
    EXPECT_EQ(asked.kind(loop), DnsReplyKind::malformed);
    DnsMessage itself = asked.answer();
    itself.alias("www.example.org", 300, "www.example.org");
    EXPECT_EQ(asked.kind(itself), DnsReplyKind::malformed);
    const auto chain = [&](unsigned aliases) {
        DnsMessage message = asked.answer();
        std::string name = "www.example.org";
        for (unsigned alias = 0; alias < aliases; ++alias) {
            const std::string next = "n" + std::to_string(alias) + ".example.org";
            message.alias(name, 300, next);
            name = next;
        }
        message.ipv4(name, 300, 1);
        return asked.kind(message);
    };
    EXPECT_EQ(chain(ferrule::dns_alias_max), DnsReplyKind::answer);
    EXPECT_EQ(chain(ferrule::dns_alias_max + 1), DnsReplyKind::malformed);
}

TEST(DnsReply, says_how_long_to_remember_what_is_not_there) {
    const Asked asked;
    DnsMessage none = asked.answer(3);
    none.authority("example.org", 600, 120);
    DnsReply reply = asked.read(none.bytes());
    EXPECT_EQ(reply.kind, DnsReplyKind::no_such_name);
    EXPECT_EQ(reply.negative_seconds, 120);
    DnsMessage no_data = asked.answer();
    no_data.authority("example.org", 30, 120);
    reply = asked.read(no_data.bytes());
    EXPECT_EQ(reply.kind, DnsReplyKind::no_data);
    EXPECT_EQ(reply.negative_seconds, 30);
    DnsMessage behind_alias = asked.answer(3);
    behind_alias.alias("www.example.org", 10, "gone.example.net").authority("example.net", 600, 120);
    reply = asked.read(behind_alias.bytes());
    EXPECT_EQ(reply.kind, DnsReplyKind::no_such_name);
    EXPECT_EQ(reply.negative_seconds, 10);
    EXPECT_EQ(asked.read(asked.answer(3).bytes()).negative_seconds, std::nullopt) << "RFC 2308, section 5";
    DnsMessage stranger = asked.answer(3);
    stranger.authority("example.com", 600, 120);
    EXPECT_EQ(asked.read(stranger.bytes()).negative_seconds, std::nullopt);
}

TEST(DnsReply, tells_errors_and_referrals) {
    const Asked asked;
    EXPECT_EQ(asked.kind(asked.answer(1)), DnsReplyKind::format_error);
    EXPECT_EQ(asked.kind(asked.answer(2)), DnsReplyKind::server_failure);
    EXPECT_EQ(asked.kind(asked.answer(4)), DnsReplyKind::format_error);
    EXPECT_EQ(asked.kind(asked.answer(5)), DnsReplyKind::refused);
    EXPECT_EQ(asked.kind(asked.answer(9)), DnsReplyKind::server_failure);
    DnsMessage bad_version = asked.answer();
    bad_version.record(10, std::string(1, '\0'), DnsMessage::options, 1u << 24, "");
    EXPECT_EQ(asked.kind(bad_version), DnsReplyKind::format_error);
    DnsMessage headless;
    headless.set_id(0x1234).set_flags(0x8001);
    EXPECT_EQ(asked.kind(headless), DnsReplyKind::format_error) << "a server that repeats no question";
    DnsMessage referral = asked.answer();
    referral.record(8, DnsMessage::wire("org"), DnsMessage::name_server, 300, DnsMessage::wire("ns.org"));
    EXPECT_EQ(asked.kind(referral), DnsReplyKind::referral);
    DnsMessage no_recursion = asked.answer();
    EXPECT_EQ(asked.kind(no_recursion.set_flags(0x8100)), DnsReplyKind::referral);
    DnsMessage authoritative = asked.answer();
    EXPECT_EQ(asked.kind(authoritative.set_flags(0x8400)), DnsReplyKind::no_data);
    EXPECT_EQ(asked.kind(asked.answer()), DnsReplyKind::no_data);
}

TEST(DnsReply, refuses_pointer_loops) {
    const Asked asked;
    const auto end = static_cast<std::uint16_t>(asked.answer().bytes().size());
    const auto with_name = [&](const std::string& name) {
        DnsMessage message = asked.answer();
        message.record(6, name, DnsMessage::a, 5, DnsMessage::ipv4_data(1));
        return asked.kind(message);
    };
    EXPECT_EQ(with_name(DnsMessage::pointer(end)), DnsReplyKind::malformed) << "to itself";
    EXPECT_EQ(with_name(DnsMessage::pointer(static_cast<std::uint16_t>(end + 2))), DnsReplyKind::malformed)
        << "forwards";
    EXPECT_EQ(with_name("\1a" + DnsMessage::pointer(end)), DnsReplyKind::malformed) << "to where its name begins";
    EXPECT_EQ(with_name(DnsMessage::pointer(0)), DnsReplyKind::malformed) << "into the header";
    EXPECT_EQ(with_name(DnsMessage::pointer(0x3fff)), DnsReplyKind::malformed) << "out of the message";
    DnsMessage alias = asked.answer();
    const std::size_t data = alias.bytes().size() + 2 + 10;
    alias.record(6, DnsMessage::pointer(12), DnsMessage::canonical_name, 5,
                 DnsMessage::pointer(static_cast<std::uint16_t>(data)));
    EXPECT_EQ(asked.kind(alias), DnsReplyKind::malformed);
}

TEST(DnsReply, refuses_names_that_grow_by_pointers_beyond_their_length) {
    const Asked asked;
    DnsMessage message = asked.answer();
    // Each record's name is a label of 63 in front of the name before it.
    std::uint16_t before = 12;
    for (int record = 0; record < 6; ++record) {
        const auto at = static_cast<std::uint16_t>(message.bytes().size());
        message.record(6, '\x3f' + std::string(63, 'a') + DnsMessage::pointer(before), DnsMessage::a, 5,
                       DnsMessage::ipv4_data(1));
        before = at;
    }
    EXPECT_EQ(asked.kind(message), DnsReplyKind::malformed);
}

TEST(DnsReply, refuses_wrong_lengths_and_counts) {
    const Asked asked;
    DnsMessage short_address = asked.answer();
    short_address.answer("www.example.org", DnsMessage::a, 5, "abc");
    EXPECT_EQ(asked.kind(short_address), DnsReplyKind::malformed);
    DnsMessage long_address = asked.answer();
    long_address.answer("www.example.org", DnsMessage::a, 5, "abcde");
    EXPECT_EQ(asked.kind(long_address), DnsReplyKind::malformed);
    for (const std::size_t count_at : {6, 8, 10}) {
        DnsMessage many = asked.answer();
        many.ipv4("www.example.org", 5, 1);
        EXPECT_EQ(asked.kind(many.set_word(count_at, 0xffff)), DnsReplyKind::malformed) << count_at;
    }
    DnsMessage alias = asked.answer();
    alias.answer("www.example.org", DnsMessage::canonical_name, 5, DnsMessage::wire("a.example") + "x");
    EXPECT_EQ(asked.kind(alias), DnsReplyKind::malformed) << "bytes behind the name";
    DnsMessage authority = asked.answer(3);
    authority.record(8, DnsMessage::wire("example.org"), DnsMessage::start_of_authority, 5, "abc");
    EXPECT_EQ(asked.kind(authority), DnsReplyKind::malformed);
    DnsMessage other_label = asked.answer();
    other_label.record(6, std::string("\x80\0", 2), DnsMessage::a, 5, DnsMessage::ipv4_data(1));
    EXPECT_EQ(asked.kind(other_label), DnsReplyKind::malformed);
}

TEST(DnsReply, keeps_a_bounded_number_of_addresses_of_a_giant_answer) {
    const Asked asked;
    DnsMessage message = asked.answer();
    for (std::uint32_t record = 0; record < 3000; ++record) {
        message.record(6, DnsMessage::pointer(12), DnsMessage::a, 5, DnsMessage::ipv4_data(record));
    }
    const DnsReply reply = asked.read(message.bytes());
    EXPECT_EQ(reply.kind, DnsReplyKind::answer);
    EXPECT_EQ(reply.addresses.size(), ferrule::dns_address_max);
}

TEST(DnsReply, has_no_time_to_live_when_its_highest_bit_is_set) {
    const Asked asked;
    EXPECT_EQ(asked.read(asked.answer().ipv4("www.example.org", 0x8000'0000, 1).bytes()).ttl_seconds, 0);
}

/// A message with a bit of everything.
std::string rich_message(const Asked& asked) {
    DnsMessage message = asked.answer();
    message.alias("www.example.org", 100, "b.example.org");
    message.record(6, "\1b" + DnsMessage::pointer(16), DnsMessage::a, 5, DnsMessage::ipv4_data(0xc0000201));
    message.authority("example.org", 30, 120);
    message.record(10, std::string(1, '\0'), DnsMessage::options, 0, std::string("\0\3\0\2hi", 6));
    return message.bytes();
}

TEST(DnsReply, is_read_within_its_bounds_when_it_is_cut_anywhere) {
    const Asked asked;
    const std::string whole = rich_message(asked);
    ASSERT_EQ(asked.read(whole).kind, DnsReplyKind::answer);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const DnsReplyKind kind = asked.read(whole.substr(0, size)).kind;
        EXPECT_TRUE(kind == DnsReplyKind::foreign || kind == DnsReplyKind::malformed) << size;
    }
}

TEST(DnsReply, is_read_within_its_bounds_with_any_byte_changed) {
    const Asked asked;
    const std::string whole = rich_message(asked);
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (unsigned value = 0; value < 256; ++value) {
            std::string changed = whole;
            changed[at] = static_cast<char>(value);
            EXPECT_LE(asked.read(changed).addresses.size(), 1u);
        }
    }
}

TEST(DnsReply, is_read_within_its_bounds_whatever_comes) {
    std::mt19937 random(4);
    const Asked asked;
    const std::string whole = rich_message(asked);
    const std::string header = asked.answer().bytes();
    for (int round = 0; round < 40'000; ++round) {
        std::string message;
        if (round % 2 == 0) {
            // Random bytes behind a header that passes, with random counts.
            message = header;
            for (std::size_t at = 6; at < 12; ++at) message[at] = static_cast<char>(random() % 3 == 0 ? random() : 0);
            message[7] = static_cast<char>(random() % 8);
            const std::size_t size = random() % 200;
            for (std::size_t at = 0; at < size; ++at) {
                // Pointers, small lengths and types are likelier than chance would have them.
                const std::uint32_t choice = random();
                message += static_cast<char>(choice % 4 == 0 ? 0xc0 : choice % 4 == 1 ? choice >> 8 & 15 : choice >> 8);
            }
        } else {
            // A good message, with pieces exchanged.
            message = whole;
            for (std::uint32_t change = random() % 6 + 1; change != 0; --change) {
                const std::size_t from = 12 + random() % (message.size() - 12);
                const std::size_t to = 12 + random() % (message.size() - 12);
                const std::size_t size =
                    std::min<std::size_t>({random() % 20, message.size() - from, message.size() - to});
                message.replace(to, size, message.substr(from, size));
            }
        }
        EXPECT_LE(asked.read(message).addresses.size(), ferrule::dns_address_max);
    }
}

}  // namespace
