#include "http/parsing.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using namespace ferrule_test;
using http::HeadLimits;
using http::ParseState;
using http::Refusal;

constexpr std::string_view host_line = "Host: x\r\n";

// The text read at once, in two at every place, and by bytes, with both ways to look for them: all the same.
Outcome everywhere(const std::string& text, const HeadLimits& limits, std::size_t room = 128) {
    const Outcome whole = parsed(text, limits, room);
    EXPECT_EQ(parsed<http::PortableScan>(text, limits, room), whole) << shown(text);
    for (std::size_t first = 0; first <= text.size(); ++first)
        EXPECT_EQ(parsed_in_two(text, first, limits, room), whole) << shown(text) << " split at " << first;
    EXPECT_EQ(parsed_by_bytes(text, limits, room), whole) << shown(text);
    EXPECT_EQ(parsed_by_bytes<http::PortableScan>(text, limits, room), whole) << shown(text);
    return whole;
}

std::string request_line_of(std::size_t size) {
    return "GET /" + std::string(size - 14, 'a') + " HTTP/1.1\r\n";
}

// H1-06: a request line of exactly the limit, and of one byte more.
TEST(RequestParserLimits, EndsALongRequestLineWith414) {
    HeadLimits limits;
    limits.line_bytes = 64;
    const std::string rest = std::string(host_line) + "\r\n";
    EXPECT_EQ(everywhere(request_line_of(64) + rest, limits).state, ParseState::complete);
    EXPECT_EQ(everywhere(request_line_of(65) + rest, limits).refusal, Refusal::target_too_long);
    EXPECT_EQ(everywhere(request_line_of(72) + rest, limits).refusal, Refusal::target_too_long);
    EXPECT_EQ(everywhere(request_line_of(73) + rest, limits).refusal, Refusal::target_too_long);
    EXPECT_EQ(everywhere(request_line_of(300) + rest, limits).refusal, Refusal::target_too_long);
    // The empty line before it is none of it.
    EXPECT_EQ(everywhere("\r\n" + request_line_of(64) + rest, limits).state, ParseState::complete);
    EXPECT_EQ(everywhere("\r\n" + request_line_of(65) + rest, limits).refusal, Refusal::target_too_long);
    // What is wrong behind the limit is not reached, what is wrong before it is.
    EXPECT_EQ(everywhere("GET /" + std::string(59, 'a') + "\x01", limits).refusal, Refusal::target_letter);
    EXPECT_EQ(everywhere("GET /" + std::string(60, 'a') + "\x01", limits).refusal, Refusal::target_too_long);
}

TEST(RequestParserLimits, TakesThe8KibOfTheRules) {
    const std::string rest = std::string(host_line) + "\r\n";
    EXPECT_EQ(parsed(request_line_of(8192) + rest).state, ParseState::complete);
    EXPECT_EQ(parsed(request_line_of(8193) + rest).refusal, Refusal::target_too_long);
    const std::string get = "GET / HTTP/1.1\r\n" + std::string(host_line);
    EXPECT_EQ(parsed(get + "X: " + std::string(8189, 'v') + "\r\n\r\n").state, ParseState::complete);
    EXPECT_EQ(parsed(get + "X: " + std::string(8190, 'v') + "\r\n\r\n").refusal, Refusal::field_too_long);
    std::string fields;
    for (unsigned field = 1; field < 100; ++field) fields += "X:\r\n";
    EXPECT_EQ(parsed(get + fields + "\r\n").state, ParseState::complete);
    EXPECT_EQ(parsed(get + fields + "X:\r\n\r\n").refusal, Refusal::too_many_fields);
}

TEST(RequestParserLimits, EndsALongFieldWith431) {
    HeadLimits limits;
    limits.line_bytes = 40;
    const std::string get = "GET / HTTP/1.1\r\n" + std::string(host_line);
    EXPECT_EQ(everywhere(get + "X: " + std::string(37, 'v') + "\r\n\r\n", limits).state, ParseState::complete);
    EXPECT_EQ(everywhere(get + "X: " + std::string(38, 'v') + "\r\n\r\n", limits).refusal, Refusal::field_too_long);
    EXPECT_EQ(everywhere(get + std::string(39, 'n') + ":\r\n\r\n", limits).state, ParseState::complete);
    EXPECT_EQ(everywhere(get + std::string(40, 'n') + ":\r\n\r\n", limits).refusal, Refusal::field_too_long);
    EXPECT_EQ(everywhere(get + std::string(41, 'n') + ":\r\n\r\n", limits).refusal, Refusal::field_too_long);
    EXPECT_EQ(everywhere(get + "X:" + std::string(38, ' ') + "\r\n\r\n", limits).state, ParseState::complete);
    EXPECT_EQ(everywhere(get + "X:" + std::string(39, ' ') + "\r\n\r\n", limits).refusal, Refusal::field_too_long);
}

TEST(RequestParserLimits, TakesAsManyFieldsAsAreAllowedAndThereIsRoomFor) {
    HeadLimits limits;
    limits.fields = 3;
    const std::string get = "GET / HTTP/1.1\r\n" + std::string(host_line);
    EXPECT_EQ(everywhere(get + "A: 1\r\nB: 2\r\n\r\n", limits).state, ParseState::complete);
    EXPECT_EQ(everywhere(get + "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", limits).refusal, Refusal::too_many_fields);
    EXPECT_EQ(everywhere(get + "A: 1\r\nB: 2\r\n\r\n", limits, 2).refusal, Refusal::too_many_fields);
    EXPECT_EQ(everywhere(get + "A: 1\r\n\r\n", limits, 2).state, ParseState::complete);
    EXPECT_EQ(everywhere(get + "\r\n", limits, 0).refusal, Refusal::too_many_fields);
    EXPECT_EQ(everywhere("GET / HTTP/1.0\r\n\r\n", limits, 0).state, ParseState::complete);
}

TEST(RequestParserLimits, EndsALongHeadWhereverItsEndFalls) {
    const std::string text = "GET /target HTTP/1.1\r\nHost: x\r\nName: value\r\n\r\n";
    for (std::uint32_t size = 0; size < text.size(); ++size) {
        HeadLimits limits;
        limits.head_bytes = size;
        const Refusal refusal = everywhere(text, limits).refusal;
        EXPECT_EQ(name_of(refusal), size < 22 ? "target_too_long" : "head_too_long") << size;
    }
    HeadLimits limits;
    limits.head_bytes = static_cast<std::uint32_t>(text.size());
    EXPECT_EQ(everywhere(text, limits).state, ParseState::complete);
    EXPECT_EQ(everywhere("\r\n" + text, limits).refusal, Refusal::head_too_long);
}

TEST(RequestParserLimits, TakesAHeadOf64KibAndNotAByteMore) {
    std::string text = "GET / HTTP/1.1\r\n" + std::string(host_line);
    while (text.size() + 8000 < 65'536) text += "X: " + std::string(7000, 'v') + "\r\n";
    const std::string full = text + "X: " + std::string(65'536 - text.size() - 7, 'v') + "\r\n\r\n";
    ASSERT_EQ(full.size(), 65'536u);
    EXPECT_EQ(parsed(full).state, ParseState::complete);
    EXPECT_EQ(parsed(text + "X: " + std::string(65'536 - text.size() - 6, 'v') + "\r\n\r\n").refusal,
              Refusal::head_too_long);
}

TEST(RequestParserLimits, AreCheckedWhenTheyAreGiven) {
    const auto refused = [](auto set) {
        HeadLimits limits;
        set(limits);
        try {
            const http::RequestParser parser(limits);
        } catch (const std::invalid_argument& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    EXPECT_EQ(refused([](HeadLimits& limits) { limits.line_bytes = 65'536; }),
              "HeadLimits::line_bytes is 65536; it can be at most 65535");
    EXPECT_EQ(refused([](HeadLimits& limits) { limits.fields = 65'536; }),
              "HeadLimits::fields is 65536; it can be at most 65535");
    EXPECT_EQ(refused([](HeadLimits& limits) { limits.head_bytes = (16 << 20) + 1; }),
              "HeadLimits::head_bytes is 16777217; it can be at most 16777216");
    EXPECT_EQ(refused([](HeadLimits& limits) { limits.line_bytes = limits.fields = 65'535; }), "");
}

// Counts the bytes that are looked at.
std::size_t bytes_looked_at = 0;
struct CountingScan {
    static const char* token_end(const char* floor, const char* at, const char* end) noexcept {
        return counted(at, http::PortableScan::token_end(floor, at, end));
    }
    static const char* value_end(const char* floor, const char* at, const char* end) noexcept {
        return counted(at, http::PortableScan::value_end(floor, at, end));
    }
    static const char* target_end(const char* floor, const char* at, const char* end) noexcept {
        return counted(at, http::PortableScan::target_end(floor, at, end));
    }
    static const char* plain_host_end(const char* floor, const char* at, const char* end) noexcept {
        return http::PortableScan::plain_host_end(floor, at, end);
    }
    static const char* counted(const char* at, const char* found) noexcept {
        bytes_looked_at += static_cast<std::size_t>(found - at) + 1;
        return found;
    }
};

// H1-15: never quadratic, whatever the lines are.
TEST(RequestParserLimits, ReadsAHeadByBytesWithinTwiceTheWorkOfReadingItAtOnce) {
    for (const std::size_t line : {5, 100, 8000}) {
        HeadLimits limits;
        limits.fields = 20'000;
        std::string text = request_line_of(8000) + std::string(host_line);
        while (text.size() + line + 2 < 65'534) text += "X:" + std::string(line - 2, 'v') + "\r\n";
        text += "\r\n";
        Reading<CountingScan> whole(limits, limits.fields);
        bytes_looked_at = 0;
        ASSERT_EQ(whole.give(text), ParseState::complete);
        const std::size_t at_once = bytes_looked_at;
        EXPECT_LE(at_once, text.size());
        Reading<CountingScan> drip(limits, limits.fields);
        bytes_looked_at = 0;
        for (std::size_t size = 1; size < text.size(); ++size)
            ASSERT_EQ(drip.give_in_place(std::string_view(text).substr(0, size)), ParseState::incomplete);
        ASSERT_EQ(drip.give_in_place(text), ParseState::complete);
        // Each call looks at the new byte, and once more at the one where a name, a value or the target ended.
        EXPECT_LE(bytes_looked_at, 2 * text.size());
        EXPECT_EQ(drip.outcome(), whole.outcome());
    }
}

}  // namespace
