#include <ferrule/http/content_coding.hpp>

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule::http;
using enum ContentCoding;

struct Case {
    std::vector<std::string_view> fields;
    ContentCoding of_both;  // br is offered first
    ContentCoding of_gzip;  // only gzip is offered
};

std::string shown(const Case& example) {
    std::string text;
    for (const std::string_view field : example.fields) text.append("Accept-Encoding: ").append(field).append("\n");
    return text;
}

// RFC 9110, sections 12.4.2 and 12.5.3.
TEST(AcceptEncoding, ChoosesWhatTheClientLikesBest) {
    const std::vector<Case> cases{
        // Nobody has asked.
        {{}, identity, identity},
        {{""}, identity, identity},
        {{" , ,"}, identity, identity},
        {{"identity"}, identity, identity},
        {{"deflate, compress, zstd"}, identity, identity},
        // Asked for.
        {{"gzip"}, gzip, gzip},
        {{"x-gzip"}, gzip, gzip},
        {{"GZip"}, gzip, gzip},
        {{"br"}, br, identity},
        {{"gzip, br"}, br, gzip},
        {{"gzip,deflate,br,zstd"}, br, gzip},
        {{"gzip", "br"}, br, gzip},
        {{"gzip ;q=1 ,\tbr ; Q=1.000"}, br, gzip},
        // Weights.
        {{"gzip;q=1.0, br;q=0.5"}, gzip, gzip},
        {{"gzip;q=0.5, br;q=0.501"}, br, gzip},
        {{"br;q=0, gzip"}, gzip, gzip},
        {{"gzip;q=0"}, identity, identity},
        {{"gzip;q=0.000, br;q=0.0"}, identity, identity},
        {{"gzip;q=0.001"}, gzip, gzip},
        {{"gzip;q=0, gzip"}, identity, identity},
        {{"gzip", "gzip;q=0"}, identity, identity},
        // Identity is liked better, as much, or not at all.
        {{"gzip;q=0.5, identity"}, identity, identity},
        {{"gzip;q=0.5, br;q=0.8, identity;q=0.6"}, br, identity},
        {{"gzip, identity"}, gzip, gzip},
        {{"gzip, identity;q=0"}, gzip, gzip},
        {{"identity;q=0"}, identity, identity},
        {{"gzip;q=0, identity;q=0"}, identity, identity},
        // Any other.
        {{"*"}, br, gzip},
        {{"*;q=0"}, identity, identity},
        {{"gzip, *;q=0"}, gzip, gzip},
        {{"br;q=0, *"}, gzip, gzip},
        {{"gzip;q=0.3, *;q=0.7"}, br, identity},
        {{"identity;q=0.1, *;q=0.5"}, br, gzip},
        // Malformed: not asked for.
        {{"gzip;q=2"}, identity, identity},
        {{"gzip;q=1.001"}, identity, identity},
        {{"gzip;q=0.1234"}, identity, identity},
        {{"gzip;q=,br"}, br, identity},
        {{"gzip;q=-1"}, identity, identity},
        {{"gzip;q=.5"}, identity, identity},
        {{"gzip;q=1x"}, identity, identity},
        {{"gzip;level=9"}, identity, identity},
        {{"gzip;"}, identity, identity},
        {{"gzip q=1"}, identity, identity},
        {{"gzip;q=1;q=0"}, identity, identity},
        {{"gzip;q= 1"}, identity, identity},
        {{"gzipped, brr, xbr"}, identity, identity},
        {{";q=1, gzip"}, gzip, gzip},
    };
    for (const Case& example : cases) {
        AcceptEncoding accepted;
        for (const std::string_view field : example.fields) accepted.add(field);
        EXPECT_EQ(name_of(accepted.choose(std::array{br, gzip})), name_of(example.of_both)) << shown(example);
        EXPECT_EQ(name_of(accepted.choose(std::array{gzip})), name_of(example.of_gzip)) << shown(example);
        EXPECT_EQ(name_of(accepted.choose({})), "identity") << shown(example);
    }
}

TEST(AcceptEncoding, TakesTheFirstOfferOfThoseThatWeighTheSame) {
    AcceptEncoding accepted;
    accepted.add("br, gzip");
    EXPECT_EQ(accepted.choose(std::array{gzip, br}), gzip);
    EXPECT_EQ(accepted.choose(std::array{identity, br, gzip}), br);
}

TEST(AcceptEncoding, TellsWhatIsNotAcceptable) {
    const auto weights = [](std::string_view value) {
        AcceptEncoding accepted;
        accepted.add(value);
        return std::array{accepted.weight(identity), accepted.weight(gzip), accepted.weight(br)};
    };
    using Weights = std::array<std::uint16_t, 3>;
    EXPECT_EQ(weights(""), (Weights{1, 0, 0}));
    EXPECT_EQ(weights("gzip;q=0.25"), (Weights{1, 250, 0}));
    EXPECT_EQ(weights("*;q=0.5"), (Weights{500, 500, 500}));
    EXPECT_EQ(weights("*;q=0"), (Weights{0, 0, 0}));
    EXPECT_EQ(weights("*;q=0, identity;q=0.7"), (Weights{700, 0, 0}));
    EXPECT_EQ(weights("identity;q=0"), (Weights{0, 0, 0}));
}

TEST(ContentCoding, KnowsWhatTypesBecomeSmaller) {
    for (const std::string_view type :
         {"text/html", "text/plain; charset=utf-8", "TEXT/CSS", "application/json", "Application/JSON ;charset=utf-8",
          "application/problem+json", "image/svg+xml", "application/javascript", "application/wasm", "font/ttf",
          "application/atom+xml"}) {
        EXPECT_TRUE(is_compressible(type)) << type;
    }
    for (const std::string_view type :
         {"", "text/", "image/png", "image/jpeg", "video/mp4", "font/woff2", "application/zip",
          "application/octet-stream", "+json", "json", "application/jsonx", ";text/html"}) {
        EXPECT_FALSE(is_compressible(type)) << type;
    }
}

}  // namespace
