#include <ferrule/http/response_parser.hpp>

#include "http/portable_scan.hpp"
#include "http/response_machine.hpp"
#include "http/vector_scan.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace http = ferrule::http;
using http::BodyFraming;
using http::HeadLimits;
using http::Method;
using http::ParseState;
using http::Refusal;
using http::Status;

// What a parser says of the bytes, which are given to it in two pieces that lie in memory of exactly their sizes.
struct Outcome {
    ParseState state = ParseState::incomplete;
    Refusal refusal = Refusal::none;
    std::size_t head_size = 0;
    unsigned code = 0;
    std::string reason;
    std::string fields;

    friend bool operator==(const Outcome&, const Outcome&) = default;
};

template <class Scan = http::VectorScan>
Outcome parsed(std::string_view text, const HeadLimits& limits = {}, std::size_t first = 0) {
    http::ResponseParser parser(limits);
    std::vector<http::FieldPosition> fields(16);
    Outcome outcome;
    for (const std::size_t size : {first, text.size()}) {
        const std::vector<char> copy(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
        outcome.state = http::ResponseMachine<Scan>::parse(parser, {copy.data(), copy.size()}, fields);
        if (outcome.state != ParseState::incomplete) break;
    }
    outcome.refusal = parser.refusal();
    if (outcome.state != ParseState::complete) return outcome;
    outcome.head_size = parser.head_size();
    outcome.code = code_of(parser.status());
    outcome.reason = parser.reason(text);
    for (const http::Field field : parser.fields(text, fields))
        outcome.fields.append(field.name).append("=").append(field.value).append(";");
    return outcome;
}

// At every split, and with both ways to look for bytes: all the same.
Outcome everywhere(const std::string& text, const HeadLimits& limits = {}) {
    const Outcome whole = parsed(text, limits);
    for (std::size_t first = 0; first <= text.size(); ++first) {
        EXPECT_EQ(parsed(text, limits, first), whole) << text << " split at " << first;
        EXPECT_EQ(parsed<http::PortableScan>(text, limits, first), whole) << text << " split at " << first;
    }
    return whole;
}

http::ResponseParser parser_of(std::string_view text) {
    http::ResponseParser parser;
    http::FieldPosition fields[16];
    EXPECT_EQ(parser.parse(text, fields), ParseState::complete) << text << text_of(parser.refusal());
    return parser;
}

TEST(ResponseParser, ReadsAHead) {
    const std::string text = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX:  y \r\n\r\nabc";
    const Outcome outcome = everywhere(text);
    EXPECT_EQ(outcome.state, ParseState::complete);
    EXPECT_EQ(outcome.head_size, text.size() - 3);
    EXPECT_EQ(outcome.code, 404u);
    EXPECT_EQ(outcome.reason, "Not Found");
    EXPECT_EQ(outcome.fields, "Content-Length=3;X=y;");
    const http::ResponseParser parser = parser_of(text);
    EXPECT_EQ(parser.status(), Status::not_found);
    EXPECT_EQ(parser.version(), http::Version::http_1_1);
    EXPECT_EQ(parser.content_length(), 3u);
}

TEST(ResponseParser, TakesAReasonOrNone) {
    EXPECT_EQ(everywhere("HTTP/1.1 200 \r\n\r\n").reason, "");
    EXPECT_EQ(everywhere("HTTP/1.1 200\r\n\r\n").state, ParseState::complete);
    EXPECT_EQ(everywhere("HTTP/1.1 200\r\n\r\n").reason, "");
    EXPECT_EQ(everywhere("HTTP/1.1 299 \t\xff x\r\n\r\n").reason, "\t\xff x");
    EXPECT_EQ(everywhere("HTTP/1.0 200 OK\r\n\r\n").state, ParseState::complete);
}

TEST(ResponseParser, RefusesWhatIsNone) {
    const auto refusal = [](const std::string& text) { return name_of(everywhere(text).refusal); };
    EXPECT_EQ(refusal("HTTP/1.1 20 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/1.1 2000 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/1.1 099 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/1.1  200 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/1.1\t200 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/1.1 200\tOK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("http/1.1 200 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("\r\nHTTP/1.1 200 OK\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("SSH-2.0-OpenSSH_9\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/1.1 200 \x01\r\n\r\n"), "status_line");
    EXPECT_EQ(refusal("HTTP/2.0 200 OK\r\n\r\n"), "version_not_supported");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\n\r\n"), "bare_line_feed");
    EXPECT_EQ(refusal("HTTP/1.1 200\n\r\n"), "bare_line_feed");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\rX\r\n"), "bare_carriage_return");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\r\nX : y\r\n\r\n"), "space_before_colon");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n"), "folded_line");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"), "length_repeated");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n"), "length_malformed");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
              "coding_and_length");
    EXPECT_EQ(refusal("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), "coding_unknown");
    EXPECT_EQ(refusal("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "coding_in_http_1_0");
}

TEST(ResponseParser, BoundsLinesAndHead) {
    HeadLimits limits;
    limits.line_bytes = 20;
    EXPECT_EQ(everywhere("HTTP/1.1 200 " + std::string(7, 'r') + "\r\n\r\n", limits).state, ParseState::complete);
    EXPECT_EQ(everywhere("HTTP/1.1 200 " + std::string(8, 'r') + "\r\n\r\n", limits).refusal, Refusal::field_too_long);
    const std::string text = "HTTP/1.1 200 OK\r\nName: value\r\n\r\n";
    for (std::uint32_t size = 0; size < text.size(); ++size) {
        limits.head_bytes = size;
        EXPECT_EQ(everywhere(text, limits).refusal, Refusal::head_too_long) << size;
    }
    limits.head_bytes = static_cast<std::uint32_t>(text.size());
    EXPECT_EQ(everywhere(text, limits).state, ParseState::complete);
    limits.fields = 0;
    EXPECT_EQ(everywhere(text, limits).refusal, Refusal::too_many_fields);
}

// RFC 9112, section 6.3.
TEST(ResponseParser, FramesTheBodyByTheMethodOfTheRequest) {
    const std::string length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    EXPECT_EQ(parser_of(length).framing(Method::get), BodyFraming::length);
    EXPECT_EQ(parser_of(length).framing(Method::head), BodyFraming::none);
    EXPECT_EQ(parser_of(length).framing(Method::connect), BodyFraming::none);
    EXPECT_EQ(parser_of("HTTP/1.1 403 \r\nContent-Length: 5\r\n\r\n").framing(Method::connect), BodyFraming::length);
    for (const std::string_view code : {"100", "101", "103", "204", "304"})
        EXPECT_EQ(parser_of("HTTP/1.1 " + std::string(code) + " \r\nContent-Length: 5\r\n\r\n").framing(Method::get),
                  BodyFraming::none);
    EXPECT_EQ(parser_of("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n").framing(Method::get),
              BodyFraming::chunked);
    EXPECT_EQ(parser_of("HTTP/1.1 200 \r\n\r\n").framing(Method::get), BodyFraming::until_close);
}

TEST(ResponseParser, TellsWhetherTheConnectionIsKept) {
    EXPECT_TRUE(parser_of("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").keep_alive(Method::get));
    EXPECT_FALSE(parser_of("HTTP/1.1 200 \r\n\r\n").keep_alive(Method::get));
    EXPECT_TRUE(parser_of("HTTP/1.1 200 \r\n\r\n").keep_alive(Method::head));
    EXPECT_FALSE(parser_of("HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n").keep_alive(Method::get));
    EXPECT_FALSE(parser_of("HTTP/1.0 200 \r\nContent-Length: 0\r\n\r\n").keep_alive(Method::get));
    EXPECT_TRUE(
        parser_of("HTTP/1.0 200 \r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n").keep_alive(Method::get));
}

TEST(ResponseParser, ReadsTheNextHeadWhenItIsReset) {
    http::ResponseParser parser;
    http::FieldPosition fields[4];
    EXPECT_EQ(parser.parse("HTTP/1.1 100 Continue\r\nX: y\r\n\r\n", fields), ParseState::complete);
    EXPECT_TRUE(is_informational(parser.status()));
    parser.reset();
    EXPECT_EQ(parser.parse("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", fields), ParseState::complete);
    EXPECT_EQ(parser.status(), Status::ok);
    EXPECT_EQ(parser.field_count(), 1u);
    EXPECT_EQ(parser.reason("HTTP/1.1 200\r\n"), "");
}

TEST(Status, HasAReason) {
    EXPECT_EQ(http::reason_of(Status::ok), "OK");
    EXPECT_EQ(http::reason_of(Status::content_too_large), "Content Too Large");
    EXPECT_EQ(http::reason_of(Status{299}), "");
    EXPECT_FALSE(is_informational(Status::switching_protocols));
    EXPECT_TRUE(has_no_body(Status::switching_protocols));
    EXPECT_FALSE(has_no_body(Status::ok));
}

}  // namespace
