#include <ferrule/http/chunked_decoder.hpp>

#include "http/parsing.hpp"
#include "http/probe_cases.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

namespace {

using namespace ferrule_test;

// What becomes of the first request in the bytes: `wait`, `taken`, or the status of a refusal.
std::string outcome_of(std::string_view bytes) {
    const Outcome head = parsed(bytes);
    if (head.state == http::ParseState::incomplete) return "wait";
    if (head.state == http::ParseState::refused) return std::to_string(code_of(status_of(head.refusal)));
    std::string_view body = bytes.substr(head.head_size);
    if (head.framing == http::BodyFraming::length) return body.size() < head.content_length ? "wait" : "taken";
    if (head.framing == http::BodyFraming::none) return "taken";
    http::ChunkedDecoder decoder;
    char trailers[1024];
    for (;;) {
        const auto step = decoder.step(body, trailers);
        body.remove_prefix(step.consumed);
        if (step.state == http::ChunkState::more) return "wait";
        if (step.state == http::ChunkState::refused) return std::to_string(code_of(status_of(decoder.refusal())));
        if (step.state == http::ChunkState::complete) {
            // What a trailer may not say is not heard: SMUG-TRAILER-*.
            EXPECT_TRUE(decoder.trailers_size() == 0 || std::string_view(trailers).starts_with("X-")) << trailers;
            return "taken";
        }
    }
}

class HttpProbe : public testing::Test {
protected:
    const std::vector<ProbeCase> cases = read_probe_cases(PROBE_CASES);
};

// H1-30 (1).
TEST_F(HttpProbe, HasAll215Cases) {
    std::map<std::string, unsigned> categories;
    for (const ProbeCase& one : cases) ++categories[one.id.substr(0, one.id.find_first_of("-0123456789"))];
    EXPECT_EQ(categories["COMP"] + categories["RFC"], 76u);
    EXPECT_EQ(categories["SMUG"], 87u);
    EXPECT_EQ(categories["MAL"], 26u);
    EXPECT_EQ(categories["NORM"], 5u);
    EXPECT_EQ(categories["COOK"], 12u);
    EXPECT_EQ(categories["CAP"], 9u);
    EXPECT_EQ(cases.size(), 215u);
}

// What a server can do with each is decided here: refused with the right status, taken, or waited for.
TEST_F(HttpProbe, EndsEachAsTheCaseSays) {
    for (const ProbeCase& one : cases) {
        const std::string expected = one.here == "2xx" ? "taken" : one.here;
        EXPECT_EQ(outcome_of(one.steps.front()), expected) << one.id;
    }
}

// The status of each refusal is one that the case allows, and where it allows nothing but refusals, there is one.
TEST_F(HttpProbe, PassesWhatIsDecidedByRefusing) {
    for (const ProbeCase& one : cases) {
        bool may_take = false;
        bool may_wait = false;
        bool is_allowed = false;
        for (std::size_t begin = 0; begin <= one.allowed.size();) {
            const std::size_t end = std::min(one.allowed.find('|', begin), one.allowed.size());
            const std::string_view choice = std::string_view(one.allowed).substr(begin, end - begin);
            const std::string_view word = choice.substr(0, choice.find(' '));
            may_wait |= word == "timeout" || word == "close";
            may_take |= word == "2xx" || word == "any" || word.starts_with("not=") || word == "405" || word == "404";
            is_allowed |= word == one.here || (word == "4xx" && one.here.starts_with('4'));
            begin = end + 1;
        }
        if (one.here == "wait") {
            EXPECT_TRUE(may_wait) << one.id;
        } else if (one.here == "2xx" || one.here == "taken") {
            EXPECT_TRUE(may_take) << one.id;
        } else {
            EXPECT_TRUE(is_allowed) << one.id;
        }
    }
}

}  // namespace
