#include <ferrule/http/route_tree.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule::http;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// A tree whose routes are numbered in the order in which they are given: `GET /path`, or `* /path` of any method.
class Tree {
public:
    Tree(std::initializer_list<std::string_view> routes) {
        for (const std::string_view route : routes) add(route);
    }
    void add(std::string_view route) {
        const std::size_t space = route.find(' ');
        const std::string_view method = route.substr(0, space);
        tree_.add(method == "*" ? std::nullopt : std::optional(method_of(method)), route.substr(space + 1),
                  static_cast<std::uint32_t>(routes_.size()));
        routes_.emplace_back(route);
    }
    /// The route, and its parameters in brackets; or `none`, and the methods that are allowed.
    std::string find(std::string_view method, std::string_view path) const {
        std::vector<char> buffer(path.find('%') != std::string_view::npos ? path.size() * 2 : 0);
        RouteTree::Match match;
        tree_.find(method_of(method), path, buffer, match);
        if (match.route == RouteTree::none) {
            std::array<char, allow_bytes_max> allow;
            const std::string_view methods = write_allow(match.methods, allow);
            return methods.empty() ? "none" : "none, but " + std::string(methods);
        }
        std::string text = routes_[match.route];
        for (std::uint32_t index = 0; index < match.count; ++index)
            text.append(" [").append(match.value(index)).append("]");
        return text;
    }
    std::string get(std::string_view path) const { return find("GET", path); }

private:
    RouteTree tree_;
    std::vector<std::string> routes_;
};

TEST(RouteTree, ComparesPathsSegmentBySegment) {
    const Tree tree{"GET /", "GET /a", "GET /a/", "GET /a/b", "GET /ab", "GET /a//b", "GET /a/b/c/d/e/f"};
    EXPECT_EQ(tree.get("/"), "GET /");
    EXPECT_EQ(tree.get("/a"), "GET /a");
    EXPECT_EQ(tree.get("/a/"), "GET /a/");
    EXPECT_EQ(tree.get("/a/b"), "GET /a/b");
    EXPECT_EQ(tree.get("/ab"), "GET /ab");
    EXPECT_EQ(tree.get("/a//b"), "GET /a//b");
    EXPECT_EQ(tree.get("/a/b/c/d/e/f"), "GET /a/b/c/d/e/f");
    for (const std::string_view path : {"", "a", "*", "//", "/A", "/a/b/", "/a///b", "/b", "/a/b/c", "/a/b/c/d/e/f/",
                                        "/a/b/c/d/e/f/g", "/abc", "/./a", "/x/../a"}) {
        EXPECT_EQ(tree.get(path), "none") << path;
    }
}

TEST(RouteTree, TellsWhatParametersStandFor) {
    const Tree tree{"GET /items/{id}", "GET /items/{id}/parts/{part}", "GET /users/{user}/items/{item:int}",
                    "GET /files/{path...}"};
    EXPECT_EQ(tree.get("/items/7"), "GET /items/{id} [7]");
    EXPECT_EQ(tree.get("/items/a b;c=d"), "GET /items/{id} [a b;c=d]");
    EXPECT_EQ(tree.get("/items/7/parts/x"), "GET /items/{id}/parts/{part} [7] [x]");
    EXPECT_EQ(tree.get("/users/ann/items/-12"), "GET /users/{user}/items/{item:int} [ann] [-12]");
    EXPECT_EQ(tree.get("/files/a/b/c.txt"), "GET /files/{path...} [a/b/c.txt]");
    EXPECT_EQ(tree.get("/files/"), "GET /files/{path...} []");
    EXPECT_EQ(tree.get("/files//a/"), "GET /files/{path...} [/a/]");
    for (const std::string_view path :
         {"/items/", "/items", "/items//parts/x", "/items/7/parts/", "/items/7/", "/files", "/users/ann/items/x"}) {
        EXPECT_EQ(tree.get(path), "none") << path;
    }
}

TEST(RouteTree, TakesForAnIntegerWhatFitsInOne) {
    const Tree tree{"GET /{id:int}"};
    for (const std::string_view id : {"0", "-1", "007", "9223372036854775807", "-9223372036854775808"})
        EXPECT_EQ(tree.get("/" + std::string(id)), "GET /{id:int} [" + std::string(id) + "]");
    for (const std::string_view id :
         {"", "-", "+1", " 1", "1 ", "1.0", "0x1", "1e3", "9223372036854775808", "1a", "--1"})
        EXPECT_EQ(tree.get("/" + std::string(id)), "none") << id;
}

TEST(RouteTree, TriesLiteralsBeforeParametersBeforeTheRest) {
    const Tree tree{"GET /{rest...}", "GET /{name}",     "GET /{id:int}",
                    "GET /new",       "GET /new/{name}", "GET /{name}/edit"};
    EXPECT_EQ(tree.get("/new"), "GET /new");
    EXPECT_EQ(tree.get("/12"), "GET /{id:int} [12]");
    EXPECT_EQ(tree.get("/old"), "GET /{name} [old]");
    EXPECT_EQ(tree.get("/old/x"), "GET /{rest...} [old/x]");
    EXPECT_EQ(tree.get("/new/x"), "GET /new/{name} [x]");
    EXPECT_EQ(tree.get("/new/edit"), "GET /new/{name} [edit]");
    EXPECT_EQ(tree.get("/old/edit"), "GET /{name}/edit [old]");
    EXPECT_EQ(tree.get("/12/edit"), "GET /{name}/edit [12]");
    EXPECT_EQ(tree.get("/"), "GET /{rest...} []");
}

TEST(RouteTree, GoesBackWhereAPathLeadsToNothing) {
    const Tree tree{"GET /a/b/c",         "GET /a/{x}/d",          "GET /{y}/b/e", "GET /{n:int}/{m:int}/f",
                    "GET /{n:int}/{x}/g", "GET /{a}/{b}/{rest...}"};
    EXPECT_EQ(tree.get("/a/b/c"), "GET /a/b/c");
    EXPECT_EQ(tree.get("/a/b/d"), "GET /a/{x}/d [b]");
    EXPECT_EQ(tree.get("/a/b/e"), "GET /{y}/b/e [a]");
    EXPECT_EQ(tree.get("/1/2/f"), "GET /{n:int}/{m:int}/f [1] [2]");
    EXPECT_EQ(tree.get("/1/2/g"), "GET /{n:int}/{x}/g [1] [2]");
    EXPECT_EQ(tree.get("/1/b/h"), "GET /{a}/{b}/{rest...} [1] [b] [h]");
    EXPECT_EQ(tree.get("/a/b"), "none");
}

TEST(RouteTree, DecodesEachSegmentByItself) {
    const Tree tree{"GET /items/{id}",      "GET /items/{id}/parts", "GET /a b/\xc3\xa4",
                    "GET /files/{path...}", "GET /100%/x",           "GET /{n:int}"};
    EXPECT_EQ(tree.get("/items/a%2Fb"), "GET /items/{id} [a/b]");
    EXPECT_EQ(tree.get("/%69tems/%37/part%73"), "GET /items/{id}/parts [7]");
    EXPECT_EQ(tree.get("/items/a%252Fb"), "GET /items/{id} [a%2Fb]");
    EXPECT_EQ(tree.get("/items%2F7"), "none");
    EXPECT_EQ(tree.get("/a%20b/%C3%A4"), "GET /a b/\xc3\xa4");
    EXPECT_EQ(tree.get("/files/a%20b/c%2Fd%2e"), "GET /files/{path...} [a b/c/d.]");
    EXPECT_EQ(tree.get("/100%25/x"), "GET /100%/x");
    EXPECT_EQ(tree.get("/%31%32"), "GET /{n:int} [12]");
    EXPECT_EQ(tree.get("/items/%ff%01"), "GET /items/{id} [\xff\x01]");
    for (const std::string_view path : {"/items/%", "/items/%zz", "/items/%00", "/%2", "/files/a/b/c/d/%4"})
        EXPECT_EQ(tree.get(path), "none") << path;
}

TEST(RouteTree, LetsNoParameterLeadOut) {
    const Tree tree{"GET /files/{path...}", "GET /items/{id}", "GET /x/{id}/y", "GET /literal/.."};
    for (const std::string_view path :
         {"/files/..", "/files/../a", "/files/a/../b", "/files/a/..", "/files/.", "/files/a/./b", "/files/%2e%2e/a",
          "/files/a%2f..%2fb", "/files/a/.%2E/b", "/items/.", "/items/..", "/items/%2e%2e", "/items/..%2f..%2fetc",
          "/items/a%2F..", "/x/../y", "/x/%2E/y"}) {
        EXPECT_EQ(tree.get(path), "none") << path;
    }
    EXPECT_EQ(tree.get("/files/..."), "GET /files/{path...} [...]");
    EXPECT_EQ(tree.get("/files/.a/b.."), "GET /files/{path...} [.a/b..]");
    EXPECT_EQ(tree.get("/items/.hidden"), "GET /items/{id} [.hidden]");
    EXPECT_EQ(tree.get("/literal/.."), "GET /literal/..");
}

TEST(RouteTree, ChoosesByMethod) {
    const Tree tree{"GET /items", "POST /items", "DELETE /items/{id}", "HEAD /own",   "GET /own",
                    "* /any",     "GET /any",    "OPTIONS /options",   "GET /options"};
    EXPECT_EQ(tree.find("POST", "/items"), "POST /items");
    EXPECT_EQ(tree.find("HEAD", "/items"), "GET /items");
    EXPECT_EQ(tree.find("HEAD", "/own"), "HEAD /own");
    EXPECT_EQ(tree.find("PUT", "/items"), "none, but GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(tree.find("OPTIONS", "/items"), "none, but GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(tree.find("GET", "/items/7"), "none, but DELETE, OPTIONS");
    EXPECT_EQ(tree.find("get", "/items"), "none, but GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(tree.find("GET", "/any"), "GET /any");
    EXPECT_EQ(tree.find("HEAD", "/any"), "GET /any");
    EXPECT_EQ(tree.find("PUT", "/any"), "* /any");
    EXPECT_EQ(tree.find("BREW", "/any"), "* /any");
    EXPECT_EQ(tree.find("OPTIONS", "/any"), "* /any");
    EXPECT_EQ(tree.find("OPTIONS", "/options"), "OPTIONS /options");
    EXPECT_EQ(tree.find("PATCH", "/none"), "none");
}

// A more exact pattern does not hide what another one answers, and all that match say what is allowed.
TEST(RouteTree, GoesOnWhereAPatternHasNotTheMethod) {
    const Tree tree{"POST /items/new", "GET /items/{id:int}", "GET /items/{name}", "DELETE /items/{name}",
                    "PUT /items/{rest...}"};
    EXPECT_EQ(tree.find("POST", "/items/new"), "POST /items/new");
    EXPECT_EQ(tree.find("GET", "/items/new"), "GET /items/{name} [new]");
    EXPECT_EQ(tree.find("DELETE", "/items/7"), "DELETE /items/{name} [7]");
    EXPECT_EQ(tree.find("PUT", "/items/new"), "PUT /items/{rest...} [new]");
    EXPECT_EQ(tree.find("PATCH", "/items/new"), "none, but GET, HEAD, POST, PUT, DELETE, OPTIONS");
    EXPECT_EQ(tree.find("PATCH", "/items/a/b"), "none, but PUT, OPTIONS");
}

TEST(RouteTree, RefusesWhatTheSameRequestsLeadTo) {
    const auto adding = [](std::initializer_list<std::string_view> routes) { return [routes] { Tree tree(routes); }; };
    EXPECT_THAT(adding({"GET /a", "GET /a"}),
                ThrowsMessage<std::logic_error>(HasSubstr("route GET /a conflicts with GET /a")));
    EXPECT_THAT(adding({"GET /items/{id}", "GET /items/{name}"}),
                ThrowsMessage<std::logic_error>(HasSubstr("route GET /items/{name} conflicts with GET /items/{id}")));
    EXPECT_THAT(adding({"PUT /{a:int}/{b}", "PUT /{b:int}/{a}"}),
                ThrowsMessage<std::logic_error>(HasSubstr("conflicts")));
    EXPECT_THAT(adding({"GET /a/{x...}", "GET /a/{y...}"}), ThrowsMessage<std::logic_error>(HasSubstr("conflicts")));
    EXPECT_THAT(adding({"* /a", "* /a"}),
                ThrowsMessage<std::logic_error>(HasSubstr("route any method of /a conflicts with any method of /a")));
    EXPECT_NO_THROW(adding({"GET /a", "POST /a", "* /a", "GET /a/", "GET /{a}", "GET /{a:int}", "GET /{a...}"})());
    EXPECT_NO_THROW(adding({"GET /items/{id}", "PUT /items/{name}"})()) << "each has its own names";
}

TEST(RouteTree, RefusesWhatIsNoPattern) {
    const auto refusal = [](std::string_view pattern, const char* why) {
        EXPECT_THAT(
            [pattern] { static_cast<void>(parse_route_pattern(pattern)); },
            ThrowsMessage<std::invalid_argument>(AllOf(HasSubstr("route " + std::string(pattern)), HasSubstr(why))));
    };
    refusal("", "begin with a slash");
    refusal("items", "begin with a slash");
    refusal("*", "begin with a slash");
    refusal("/{}", "name");
    refusal("/{:int}", "name");
    refusal("/{...}", "name");
    refusal("/{a b}", "name");
    refusal("/{id:float}", "the only type");
    refusal("/{id:}", "the only type");
    refusal("/{id", "whole segment");
    refusal("/id}", "whole segment");
    refusal("/x{id}", "whole segment");
    refusal("/{id}.json", "whole segment");
    refusal("/{id}{other}", "name");
    refusal("/{rest...}/x", "nothing can follow");
    refusal("/{rest...}/", "nothing can follow");
    refusal("/{a}/{b}/{a}", "twice");
    refusal("/{a}/{a:int}", "twice");
    refusal("/a\nb", "control character");
    std::string deep;
    for (std::size_t count = 0; count < RouteTree::segments_max; ++count) deep += "/x";
    EXPECT_EQ(parse_route_pattern(deep).size(), RouteTree::segments_max);
    refusal(deep + "/x", "more than 32 segments");
    std::string wide;
    for (std::size_t count = 0; count < RouteTree::parameters_max; ++count) wide += "/{p" + std::to_string(count) + "}";
    EXPECT_EQ(parse_route_pattern(wide).size(), RouteTree::parameters_max);
    refusal(wide + "/{q}", "more than 16 parameters");
}

TEST(RouteTree, FindsTheDeepestPatternAndNothingBehindIt) {
    std::string deep;
    std::string path;
    for (std::size_t count = 0; count < RouteTree::segments_max; ++count) {
        deep += count < RouteTree::parameters_max ? "/{p" + std::to_string(count) + "}" : "/x";
        path += "/x";
    }
    const Tree tree{"GET " + deep};
    EXPECT_THAT(tree.get(path), HasSubstr("GET " + deep));
    EXPECT_EQ(tree.get(path + "/"), "none");
    EXPECT_EQ(tree.get(path + "/x"), "none");
    EXPECT_EQ(tree.get(std::string(8'000, '/')), "none");
}

TEST(RouteTree, FindsEachOfManyRoutes) {
    Tree tree{};
    for (int number = 0; number < 1'000; ++number) {
        tree.add("GET /" + std::string(static_cast<std::size_t>(number % 7), 'x') + std::to_string(number * 7919));
        tree.add("GET /{p}/" + std::to_string(number));
    }
    for (int number = 0; number < 1'000; ++number) {
        const std::string path =
            "/" + std::string(static_cast<std::size_t>(number % 7), 'x') + std::to_string(number * 7919);
        ASSERT_EQ(tree.get(path), "GET " + path);
        ASSERT_EQ(tree.get(path + "x"), "none");
        ASSERT_EQ(tree.get("/v/" + std::to_string(number)), "GET /{p}/" + std::to_string(number) + " [v]");
    }
}

// Few are looked at one after the other, more are not.
TEST(RouteTree, FindsEachLiteralHoweverManyThereAre) {
    constexpr unsigned most = 40;
    Tree tree{};
    for (unsigned count = 1; count <= most; ++count) {
        const auto path_of = [](unsigned index) {
            return "/" + std::string(index % 7, 'x') + std::to_string(index * 7919 % 100);
        };
        tree.add("GET " + path_of(count));
        for (unsigned index = 1; index <= most; ++index)
            ASSERT_EQ(tree.get(path_of(index)), index <= count ? "GET " + path_of(index) : "none") << "of " << count;
        ASSERT_EQ(tree.get("/"), "none");
        ASSERT_EQ(tree.get("/xxxxxxxxxxxx"), "none");
    }
}

TEST(RouteTree, WritesAllMethodsInTheRoomThatItAsksFor) {
    std::array<char, allow_bytes_max> buffer;
    EXPECT_EQ(write_allow(UINT32_MAX, buffer), "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH");
    EXPECT_EQ(write_allow(0, buffer), "");
}

}  // namespace
