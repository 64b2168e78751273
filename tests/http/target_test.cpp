#include <ferrule/http/target.hpp>

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace {

namespace http = ferrule::http;
using http::DecodeError;
using http::TargetForm;

TEST(Target, IsSplitByItsForm) {
    const auto origin = http::split_target("/a/b?c=d?e", TargetForm::origin);
    EXPECT_EQ(origin.path, "/a/b");
    EXPECT_EQ(origin.query, "c=d?e");
    EXPECT_TRUE(origin.has_query);
    EXPECT_EQ(origin.authority, "");
    EXPECT_FALSE(http::split_target("/a", TargetForm::origin).has_query);
    EXPECT_TRUE(http::split_target("/a?", TargetForm::origin).has_query);
    const auto absolute = http::split_target("http://x:80/a?b", TargetForm::absolute);
    EXPECT_EQ(absolute.scheme, "http");
    EXPECT_EQ(absolute.authority, "x:80");
    EXPECT_EQ(absolute.path, "/a");
    EXPECT_EQ(absolute.query, "b");
    EXPECT_EQ(http::split_target("http://x?b", TargetForm::absolute).path, "/");
    EXPECT_EQ(http::split_target("http://x?b", TargetForm::absolute).query, "b");
    EXPECT_EQ(http::split_target("http://x", TargetForm::absolute).path, "/");
    EXPECT_EQ(http::split_target("x:443", TargetForm::authority).authority, "x:443");
    EXPECT_EQ(http::split_target("*", TargetForm::asterisk).path, "*");
}

TEST(Target, ReadsAuthorities) {
    EXPECT_EQ(http::parse_authority("x")->host, "x");
    EXPECT_EQ(http::parse_authority("x")->port, std::nullopt);
    EXPECT_EQ(http::parse_authority("x:")->port, std::nullopt);
    EXPECT_EQ(http::parse_authority("x:080")->port, 80);
    EXPECT_EQ(http::parse_authority("x:65535")->port, 65535);
    EXPECT_EQ(http::parse_authority("[::1]:1")->host, "[::1]");
    for (const std::string_view address :
         {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::3:4:5:6:7:8",
          "abcd:EF01::", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "::ffff:255.255.255.255"})
        EXPECT_TRUE(http::parse_authority("[" + std::string(address) + "]")) << address;
    for (const std::string_view address : {"",
                                           ":",
                                           ":::",
                                           "1",
                                           "1:2:3:4:5:6:7",
                                           "1:2:3:4:5:6:7:8:9",
                                           "1:2:3:4:5:6:7:8::",
                                           "::1::",
                                           "12345::",
                                           "g::",
                                           "1:",
                                           "1::2:",
                                           ":1::",
                                           "::1.2.3",
                                           "::1.2.3.256",
                                           "::1.2.3.4.5",
                                           "::01.2.3.4",
                                           "1:2:3:4:5:6:7:1.2.3.4",
                                           "::1.2.3.4:1",
                                           "fe80::1%25eth0",
                                           "v1.x"})
        EXPECT_FALSE(http::parse_authority("[" + std::string(address) + "]")) << address;
}

TEST(Target, IsDecodedOnce) {
    char buffer[16];
    EXPECT_EQ(http::decode_path("a%2Fb%2f%41%25", buffer), "a/b/A%");
    EXPECT_EQ(http::decode_path("%2541", buffer), "%41");
    EXPECT_EQ(http::decode_path("a+b", buffer), "a+b");
    EXPECT_EQ(http::decode_query("a+b%2B%00", buffer), std::string_view("a b+\0", 5));
    EXPECT_EQ(http::decode_path("%C3%a4%ff", buffer), "\xc3\xa4\xff");
    EXPECT_EQ(http::decode_path("", buffer), "");
}

TEST(Target, IsItselfWhereNothingIsEscaped) {
    const std::string_view text = "/a/long/path/without/any/escape";
    EXPECT_EQ(http::decode_path(text, {})->data(), text.data());
    EXPECT_EQ(http::decode_query(text, {})->data(), text.data());
}

TEST(Target, RefusesEscapesThatAreNone) {
    char buffer[16];
    for (const std::string_view text : {"%", "%4", "a%4", "%4g", "%g4", "%%41", "% 41", "%+1", "%-1", "%4%", "%41%"}) {
        EXPECT_EQ(http::decode_path(text, buffer), std::unexpected(DecodeError::malformed)) << text;
        EXPECT_EQ(http::decode_query(text, buffer), std::unexpected(DecodeError::malformed)) << text;
    }
    EXPECT_EQ(http::decode_path("a%00", buffer), std::unexpected(DecodeError::nul));
}

TEST(Target, NeedsRoomForWhatItMakes) {
    char buffer[3];
    EXPECT_EQ(http::decode_path("ab%41", buffer), "abA");
    EXPECT_EQ(http::decode_path("ab%41c", buffer), std::unexpected(DecodeError::no_room));
    EXPECT_EQ(http::decode_path("abcd%41", buffer), std::unexpected(DecodeError::no_room));
    EXPECT_EQ(http::decode_path("%41", {}), std::unexpected(DecodeError::no_room));
}

TEST(Target, FindsDotSegments) {
    for (const std::string_view path :
         {".", "..", "/.", "/..", "/a/../b", "/./", "../x", "/a/..", "/%2e%2E/", "/.%2e/x", "/a%2f..%2Fb", "%2e"})
        EXPECT_TRUE(http::has_dot_segment(path)) << path;
    for (const std::string_view path :
         {"", "/", "/...", "/a..", "/..a/b", "/.a", "/%2e%2e%2e", "/a.b/", "/%2", "/x%2e."})
        EXPECT_FALSE(http::has_dot_segment(path)) << path;
}

TEST(Query, IsSplitIntoParameters) {
    std::string seen;
    for (const auto& parameter : http::Query("a=1&b&&c==&=d&%41=%42"))
        seen.append(parameter.name).append(parameter.has_value ? "=" : "!").append(parameter.value).append(" ");
    EXPECT_EQ(seen, "a=1 b! c== =d %41=%42 ");
    for (const std::string_view empty : {"", "&", "&&&"}) {
        const http::Query query(empty);
        EXPECT_EQ(query.begin(), query.end());
    }
}

TEST(Query, FindsAParameterByItsDecodedName) {
    const http::Query query("a=1&a=2&b&x%20y=3&z+w=4&%zz=5&long=6");
    EXPECT_EQ(query.find("a"), "1");
    EXPECT_EQ(query.find("b"), "");
    EXPECT_EQ(query.find("x y"), "3");
    EXPECT_EQ(query.find("z w"), "4");
    EXPECT_EQ(query.find("%zz"), std::nullopt);
    EXPECT_EQ(query.find("lon"), std::nullopt);
    EXPECT_EQ(query.find("longer"), std::nullopt);
    EXPECT_EQ(query.find(""), std::nullopt);
}

}  // namespace
