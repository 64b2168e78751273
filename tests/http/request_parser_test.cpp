#include <ferrule/http/request_head.hpp>

#include "http/parsing.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule_test;
using http::BodyFraming;
using http::Method;
using http::ParseState;
using http::Refusal;
using http::TargetForm;

constexpr std::string_view ok = "Host: x\r\n\r\n";

std::string operator+(const std::string& one, std::string_view other) {
    return std::string(one).append(other);
}

// A head, and what is wrong with it; `none`: nothing is.
struct Case {
    std::string text;
    Refusal refusal;
};

std::string get(std::string_view lines) {
    return std::string("GET / HTTP/1.1\r\nHost: x\r\n") + lines + "\r\n";
}

std::string with_zero(std::string_view before, std::string_view behind) {
    return std::string(before).append(1, '\0').append(behind);
}

const std::vector<Case>& cases() {
    static const std::vector<Case> all = {
        // H1-01: lines end with CRLF, and nothing else.
        {"GET / HTTP/1.1\nHost: x\n\n", Refusal::bare_line_feed},
        {"GET / HTTP/1.1\nHost: x\r\n\r\n", Refusal::bare_line_feed},
        {"GET / HTTP/1.1\rHost: x\r\n\r\n", Refusal::bare_carriage_return},
        {"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", Refusal::bare_carriage_return},
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", Refusal::bare_line_feed},
        {"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", Refusal::bare_carriage_return},
        {"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", Refusal::bare_carriage_return},
        {"GET / HTTP/1.1\r\nHost: x\r\n\n", Refusal::bare_line_feed},
        {"GET / HTTP/1.1\r\nHost: x\r\n\rX", Refusal::bare_carriage_return},
        {"GET\n/ HTTP/1.1\r\n", Refusal::bare_line_feed},
        {"GET /\n", Refusal::bare_line_feed},
        {"\n", Refusal::bare_line_feed},
        {"\rX", Refusal::bare_carriage_return},
        {"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"\r\n\r\nGET / HTTP/1.1\r\n", Refusal::empty_lines},
        // H1-02: the request line.
        {"GET / HTTP/1.0\r\n\r\n", Refusal::none},
        {"QUERY-ME / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"get / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {" GET / HTTP/1.1\r\n", Refusal::method_letter},
        {"G@T / HTTP/1.1\r\n", Refusal::method_letter},
        {"GET\t/ HTTP/1.1\r\n", Refusal::method_letter},
        {"GET\r\n", Refusal::method_letter},
        {"\x16\x03\x01\x02", Refusal::method_letter},
        {std::string(32, 'M') + " / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {std::string(33, 'M') + " / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::method_too_long},
        {"GET  / HTTP/1.1\r\n", Refusal::target_form},
        {"GET /\r\n", Refusal::version},
        {"GET / HTTP/1.1 \r\n", Refusal::version},
        {"GET /  HTTP/1.1\r\n", Refusal::version},
        {"GET / x HTTP/1.1\r\n", Refusal::version},
        {"GET HTTP/1.1\r\n", Refusal::version},
        {"GET / http/1.1\r\n", Refusal::version},
        {"GET / HTTPS/1.1\r\n", Refusal::version},
        {"GET / HTTP/1.10\r\n", Refusal::version},
        {"GET / HTTP/2.00\r\n", Refusal::version},
        {"GET / HTTP/11.1\r\n", Refusal::version},
        {"GET / HTTP/1,1\r\n\r\n", Refusal::version},
        {"GET / HTTP/1.1\t\r\n", Refusal::version},
        {"GET / HTTP/2.0\r\n\r\n", Refusal::version_not_supported},
        {"GET / HTTP/0.9\r\n\r\n", Refusal::version_not_supported},
        {"GET / HTTP/1.2\r\n\r\n", Refusal::version_not_supported},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::target_form},
        // H1-03: targets.
        {"GET /?a=%00|{}\"<>\\^` HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"GET /#x HTTP/1.1\r\n", Refusal::target_letter},
        {"GET /\tx HTTP/1.1\r\n", Refusal::target_letter},
        {"GET /\x7f HTTP/1.1\r\n", Refusal::target_letter},
        {"GET /\xc3\xa4 HTTP/1.1\r\n", Refusal::target_letter},
        {with_zero("GET /", " HTTP/1.1\r\n"), Refusal::target_letter},
        {"GET x HTTP/1.1\r\n", Refusal::target_form},
        {"GET x:80 HTTP/1.1\r\n", Refusal::target_form},
        {"GET * HTTP/1.1\r\n", Refusal::target_form},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"OPTIONS ** HTTP/1.1\r\n", Refusal::target_form},
        {"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"GET HTTP://X:80?q HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"GET https://x HTTP/1.1\r\nHost: x:443\r\n\r\n", Refusal::none},
        {"GET http://x:/ HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::none},
        {"GET http://x/ HTTP/1.0\r\n\r\n", Refusal::none},
        {"GET http://x/ HTTP/1.1\r\nHost: y\r\n\r\n", Refusal::host_differs},
        {"GET http://x:81/ HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::host_differs},
        {"GET https://x/ HTTP/1.1\r\nHost: x:80\r\n\r\n", Refusal::host_differs},
        {"GET http:/x HTTP/1.1\r\n", Refusal::target_form},
        {"GET ftp://x/ HTTP/1.1\r\n", Refusal::target_form},
        {"GET ://x/ HTTP/1.1\r\n", Refusal::target_form},
        {"GET http:/// HTTP/1.1\r\n", Refusal::target_authority},
        {"GET http://a@x/ HTTP/1.1\r\n", Refusal::target_authority},
        {"GET http://x:99999/ HTTP/1.1\r\n", Refusal::target_authority},
        {"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", Refusal::none},
        {"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", Refusal::none},
        {"CONNECT x HTTP/1.1\r\n", Refusal::target_authority},
        {"CONNECT x: HTTP/1.1\r\n", Refusal::target_authority},
        {"CONNECT / HTTP/1.1\r\n", Refusal::target_authority},
        {"CONNECT http://x:1/ HTTP/1.1\r\n", Refusal::target_authority},
        {"CONNECT * HTTP/1.1\r\n", Refusal::target_authority},
        // H1-04: one Host.
        {"GET / HTTP/1.1\r\n\r\n", Refusal::host_missing},
        {"GET / HTTP/1.1\r\nX-Host: x\r\n\r\n", Refusal::host_missing},
        {get("Host: x\r\n"), Refusal::host_repeated},
        {get("HOST: y\r\n"), Refusal::host_repeated},
        {"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", Refusal::host_repeated},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: \xc3\xa4.de\r\n\r\n", Refusal::host_malformed},
        {"GET / HTTP/1.1\r\nHost: a%41_b-c.~!$&'()*+,;=:65535\r\n\r\n", Refusal::none},
        {"GET / HTTP/1.1\r\nHost: [2001:db8::1:2.3.4.5]:80\r\n\r\n", Refusal::none},
        // H1-05: names and values.
        {get("X: y\r\n"), Refusal::none},
        {get("X:y\r\n"), Refusal::none},
        {get("X:\r\n"), Refusal::none},
        {get("X: \t \r\n"), Refusal::none},
        {get("!#$%&'*+-.^_`|~: \x80\xff\t!\r\n"), Refusal::none},
        {get("X : y\r\n"), Refusal::space_before_colon},
        {get("X\t: y\r\n"), Refusal::space_before_colon},
        {get("X y: z\r\n"), Refusal::space_before_colon},
        {get(": y\r\n"), Refusal::field_name},
        {get("X\r\n"), Refusal::field_name},
        {get("X[: y\r\n"), Refusal::field_name},
        {get("X\x7f: y\r\n"), Refusal::field_name},
        {get("X\xc3\xa4: y\r\n"), Refusal::field_name},
        {get(with_zero("X", ": y\r\n")), Refusal::field_name},
        {get(" X: y\r\n"), Refusal::folded_line},
        {get("X: y\r\n z\r\n"), Refusal::folded_line},
        {get("X: y\r\n\tz\r\n"), Refusal::folded_line},
        {get("X: y\r\n \r\n"), Refusal::folded_line},
        {get(with_zero("X: y", "\r\n")), Refusal::field_value_letter},
        {get("X: \x01\r\n"), Refusal::field_value_letter},
        {get("X: \x0b\r\n"), Refusal::field_value_letter},
        {get("X: \x1b[0m\r\n"), Refusal::field_value_letter},
        {get("X: \x7f\r\n"), Refusal::field_value_letter},
        // H1-07: Content-Length.
        {get("Content-Length: 0\r\n"), Refusal::none},
        {get("Content-Length: 9223372036854775807\r\n"), Refusal::none},
        {get("Content-Length: 007\r\n"), Refusal::none},
        {get("Content-Length: 9223372036854775808\r\n"), Refusal::length_too_large},
        {get("Content-Length: 99999999999999999999999\r\n"), Refusal::length_too_large},
        {get("Content-Length:\r\n"), Refusal::length_malformed},
        {get("Content-Length: +1\r\n"), Refusal::length_malformed},
        {get("Content-Length: -1\r\n"), Refusal::length_malformed},
        {get("Content-Length: 0x1\r\n"), Refusal::length_malformed},
        {get("Content-Length: 1 2\r\n"), Refusal::length_malformed},
        {get("Content-Length: 1,1\r\n"), Refusal::length_malformed},
        {get("Content-Length: 1_0\r\n"), Refusal::length_malformed},
        {get("Content-Length: 1.0\r\n"), Refusal::length_malformed},
        {get("Content-Length: \"1\"\r\n"), Refusal::length_malformed},
        {get("Content-Length: 1\xc2\xa0\r\n"), Refusal::length_malformed},
        {get("Content-Length: 1\r\ncontent-length: 1\r\n"), Refusal::length_repeated},
        // H1-08: Transfer-Encoding.
        {get("Transfer-Encoding: chunked\r\n"), Refusal::none},
        {get("Transfer-Encoding:\tCHUNKED \r\n"), Refusal::none},
        {get("Transfer-Encoding:\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: xchunked\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: identity\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: chunked, gzip\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: chunked, chunked\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: chunked,\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: ,chunked\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: \"chunked\"\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: chunked;q=1\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: chunked\xa0\r\n"), Refusal::coding_malformed},
        {get("Transfer-Encoding: gzip, chunked\r\n"), Refusal::coding_unknown},
        {get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Refusal::coding_repeated},
        {get("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), Refusal::coding_and_length},
        {get("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), Refusal::coding_and_length},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::coding_in_http_1_0},
        // H1-10: bodies where there is none.
        {"TRACE / HTTP/1.1\r\nContent-Length: 1\r\n" + ok, Refusal::body_not_allowed},
        {"TRACE / HTTP/1.1\r\nContent-Length: 0\r\n" + ok, Refusal::none},
        {"CONNECT x:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + ok, Refusal::body_not_allowed},
        // H1-12: expectations.
        {get("Expect: 100-Continue\r\n"), Refusal::none},
        {get("Expect: 100-continue, x\r\n"), Refusal::expectation_unknown},
        {get("Expect: 200-ok\r\n"), Refusal::expectation_unknown},
        {get("Expect:\r\n"), Refusal::expectation_unknown},
    };
    return all;
}

TEST(RequestParser, ReadsAHead) {
    const std::string_view text =
        "POST /upload/%41?x=1&y HTTP/1.1\r\nHost: example.com:8080\r\nContent-Length: 12\r\n"
        "Accept-Encoding:\tgzip, br  \r\nX-Empty:\r\nexpect: 100-continue\r\nX-Empty: no\r\n\r\nhello";
    http::FieldPosition fields[8];
    http::RequestParser parser;
    ASSERT_EQ(parser.parse(text, fields), ParseState::complete) << text_of(parser.refusal());
    EXPECT_EQ(parser.head_size(), text.size() - 5);
    const http::RequestHead head(text, parser, fields);
    EXPECT_EQ(parser.method(), Method::post);
    EXPECT_EQ(head.method_text(), "POST");
    EXPECT_EQ(head.target(), "/upload/%41?x=1&y");
    EXPECT_EQ(head.split().path, "/upload/%41");
    EXPECT_EQ(head.split().query, "x=1&y");
    EXPECT_EQ(head.host(), "example.com:8080");
    EXPECT_EQ(head.fields().size(), 6u);
    EXPECT_EQ(head.field("accept-encoding"), "gzip, br");
    EXPECT_EQ(head.field(http::KnownField::accept_encoding), "gzip, br");
    EXPECT_EQ(head.field("x-empty"), "");
    EXPECT_EQ(head.field("x-none"), std::nullopt);
    EXPECT_EQ(head.field("accept"), std::nullopt);
    std::string names;
    for (const http::Field field : head.fields()) names.append(field.name).append(" ");
    EXPECT_EQ(names, "Host Content-Length Accept-Encoding X-Empty expect X-Empty ");
    EXPECT_EQ(head.text(), text.substr(0, parser.head_size()));
    EXPECT_EQ(parser.framing(), BodyFraming::length);
    EXPECT_EQ(parser.content_length(), 12u);
    EXPECT_TRUE(parser.keep_alive());
    EXPECT_TRUE(parser.expects_continue());
}

TEST(RequestParser, AcceptsAndRefusesByTheRules) {
    for (const Case& one : cases()) {
        const Outcome outcome = parsed(one.text);
        EXPECT_EQ(name_of(outcome.refusal), name_of(one.refusal)) << shown(one.text);
        EXPECT_EQ(outcome.state, one.refusal == Refusal::none ? ParseState::complete : ParseState::refused)
            << shown(one.text);
    }
}

// H1-15, and the gate: a head means the same however it arrives, with either way to look for bytes.
TEST(RequestParser, ReadsEveryHeadAlikeAtEverySplit) {
    for (const Case& one : cases()) {
        const std::string text = one.text + "GET /behind";
        const Outcome whole = parsed(text);
        EXPECT_EQ(parsed<http::PortableScan>(text), whole) << shown(text);
        for (std::size_t first = 0; first <= text.size(); ++first) {
            ASSERT_EQ(parsed_in_two(text, first), whole) << shown(text) << " split at " << first;
            ASSERT_EQ(parsed_in_two<http::PortableScan>(text, first), whole) << shown(text) << " split at " << first;
        }
        ASSERT_EQ(parsed_by_bytes(text), whole) << shown(text);
    }
}

TEST(RequestParser, NeedsMoreUntilTheBlankLineAndNothingBehindIt) {
    const std::string text = get("Accept: */*\r\n");
    for (std::size_t size = 0; size < text.size(); ++size)
        ASSERT_EQ(parsed(text.substr(0, size)).state, ParseState::incomplete) << size;
    EXPECT_EQ(parsed(text + "\x01\x02").head_size, text.size());
}

TEST(RequestParser, KnowsTheMethods) {
    for (const Method method : {Method::get, Method::head, Method::post, Method::put, Method::delete_, Method::options,
                                Method::trace, Method::patch}) {
        EXPECT_EQ(parsed(std::string(name_of(method)) + " / HTTP/1.1\r\n" + ok).method, method);
        EXPECT_EQ(http::method_of(name_of(method)), method);
    }
    EXPECT_EQ(parsed("CONNECT x:1 HTTP/1.1\r\n" + std::string(ok)).method, Method::connect);
    EXPECT_EQ(http::method_of("CONNECT"), Method::connect);
    for (const std::string_view name :
         {"GOT", "get", "HEAT", "POSS", "PITCH", "TRACK", "DELET", "OPTION", "OPTIONT", "X"})
        EXPECT_EQ(parsed(std::string(name) + " / HTTP/1.1\r\n" + ok).method, Method::other) << name;
    EXPECT_EQ(name_of(Method::other), "");
}

// H1-11: whether another request may follow.
TEST(RequestParser, TellsWhetherTheConnectionIsKept) {
    const auto keeps = [](std::string_view version, std::string_view line) {
        return parsed(std::string("GET / ") + version + "\r\nHost: x\r\n" + line + "\r\n").keep_alive;
    };
    EXPECT_TRUE(keeps("HTTP/1.1", ""));
    EXPECT_TRUE(keeps("HTTP/1.1", "Connection: keep-alive\r\n"));
    EXPECT_TRUE(keeps("HTTP/1.1", "Connection: closed\r\n"));
    EXPECT_FALSE(keeps("HTTP/1.1", "Connection: Close\r\n"));
    EXPECT_FALSE(keeps("HTTP/1.1", "Connection: te , close\r\n"));
    EXPECT_FALSE(keeps("HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
    EXPECT_FALSE(keeps("HTTP/1.0", ""));
    EXPECT_TRUE(keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
    EXPECT_TRUE(keeps("HTTP/1.0", "Connection: te, keep-alive\r\n"));
    EXPECT_FALSE(keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
}

// H1-12.
TEST(RequestParser, ExpectsContinueOnlyOfABodyInHttp11) {
    EXPECT_TRUE(parsed(get("Expect: 100-continue\r\nContent-Length: 1\r\n")).expects_continue);
    EXPECT_TRUE(parsed(get("Transfer-Encoding: chunked\r\nExpect: 100-CONTINUE\r\n")).expects_continue);
    EXPECT_FALSE(parsed(get("Expect: 100-continue\r\n")).expects_continue);
    EXPECT_FALSE(parsed(get("Expect: 100-continue\r\nContent-Length: 0\r\n")).expects_continue);
    EXPECT_FALSE(parsed("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expects_continue);
}

// H1-13.
TEST(RequestParser, WantsAnUpgradeOnlyWhereConnectionNamesIt) {
    EXPECT_TRUE(parsed(get("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n")).wants_upgrade);
    EXPECT_FALSE(parsed(get("Upgrade: websocket\r\n")).wants_upgrade);
    EXPECT_FALSE(parsed(get("Connection: upgrade\r\n")).wants_upgrade);
    EXPECT_FALSE(parsed("GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").wants_upgrade);
}

TEST(RequestParser, FramesTheBody) {
    EXPECT_EQ(parsed(get("")).framing, BodyFraming::none);
    EXPECT_EQ(parsed(get("Content-Length: 0\r\n")).framing, BodyFraming::length);
    EXPECT_EQ(parsed(get("Transfer-Encoding: chunked\r\n")).framing, BodyFraming::chunked);
    EXPECT_EQ(parsed(get("Content-Length: 9223372036854775807\r\n")).content_length, ~std::uint64_t{0} >> 1);
}

TEST(RequestParser, TellsTheFormOfTheTarget) {
    EXPECT_EQ(parsed(get("")).form, TargetForm::origin);
    EXPECT_EQ(parsed("GET http://x/ HTTP/1.1\r\n" + std::string(ok)).form, TargetForm::absolute);
    EXPECT_EQ(parsed("CONNECT x:1 HTTP/1.1\r\n" + std::string(ok)).form, TargetForm::authority);
    EXPECT_EQ(parsed("OPTIONS * HTTP/1.1\r\n" + std::string(ok)).form, TargetForm::asterisk);
}

// H1-07.
TEST(RequestParser, RefusesNeedlessZerosBehindAProxy) {
    http::HeadLimits limits;
    limits.behind_proxy = true;
    EXPECT_EQ(parsed(get("Content-Length: 007\r\n"), limits).refusal, Refusal::length_malformed);
    EXPECT_EQ(parsed(get("Content-Length: 00\r\n"), limits).refusal, Refusal::length_malformed);
    EXPECT_EQ(parsed(get("Content-Length: 0\r\n"), limits).state, ParseState::complete);
    EXPECT_EQ(parsed(get("Content-Length: 10\r\n"), limits).state, ParseState::complete);
}

TEST(RequestParser, StaysAsItIsUntilItIsReset) {
    http::FieldPosition fields[4];
    http::RequestParser parser;
    EXPECT_EQ(parser.parse("X", fields), ParseState::incomplete);
    EXPECT_EQ(parser.parse("X\n", fields), ParseState::refused);
    EXPECT_EQ(parser.parse(get(""), fields), ParseState::refused);
    EXPECT_EQ(parser.refusal(), Refusal::bare_line_feed);
    parser.reset();
    EXPECT_EQ(parser.refusal(), Refusal::none);
    const std::string text = "\r\n" + get("Content-Length: 3\r\nConnection: close\r\n");
    EXPECT_EQ(parser.parse(text, fields), ParseState::complete);
    EXPECT_EQ(parser.head_size(), text.size());
    EXPECT_EQ(parser.parse("", fields), ParseState::complete);
    parser.reset();
    EXPECT_EQ(parser.parse(get(""), fields), ParseState::complete);
    EXPECT_EQ(parser.framing(), BodyFraming::none);
    EXPECT_EQ(parser.content_length(), 0u);
    EXPECT_TRUE(parser.keep_alive());
    EXPECT_EQ(http::RequestHead(get(""), parser, fields).target(), "/");
}

TEST(RequestParser, AnswersEveryRefusalWithItsStatus) {
    using http::Status;
    for (unsigned value = 1; value <= static_cast<unsigned>(Refusal::trailers_too_long); ++value) {
        const auto refusal = static_cast<Refusal>(value);
        EXPECT_FALSE(name_of(refusal).empty());
        EXPECT_FALSE(text_of(refusal).empty());
        Status expected = Status::bad_request;
        switch (refusal) {
            case Refusal::target_too_long:
                expected = Status::uri_too_long;
                break;
            case Refusal::field_too_long:
            case Refusal::too_many_fields:
            case Refusal::head_too_long:
            case Refusal::trailers_too_long:
                expected = Status::request_header_fields_too_large;
                break;
            case Refusal::coding_unknown:
                expected = Status::not_implemented;
                break;
            case Refusal::version_not_supported:
                expected = Status::http_version_not_supported;
                break;
            case Refusal::expectation_unknown:
                expected = Status::expectation_failed;
                break;
            default:
                break;
        }
        EXPECT_EQ(status_of(refusal), expected) << name_of(refusal);
    }
}

}  // namespace
