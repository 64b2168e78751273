#include <ferrule/http/router.hpp>
#include <ferrule/task/yield.hpp>

#include "http/requests.hpp"
#include "http/served.hpp"
#include "support/counted_allocations.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace ferrule_test;
using ferrule::Task;
using http::Request;
using http::Response;
using http::Router;

/// The parameters as they are.
Task<> show(Request& request, Response& response) {
    std::string text = "show";
    for (const Request::Parameter& parameter : request.parameters())
        text.append(" ").append(parameter.name).append("=").append(parameter.value);
    response.send(text);
    co_return;
}
void show_at_once(Request& request, Response& response) {
    response.send(request.parameter("name"));
}
Task<> wait_and_show(Request& request, Response& response) {
    co_await ferrule::yield_now();
    response.send(request.parameter("name"));
}
Task<> double_number(Request& request, Response& response) {
    const auto number = request.parameter<std::int64_t>("number");
    response.send(std::to_string(*number * 2));
    co_return;
}

std::string ask(std::string_view method, std::string_view target) {
    return std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n\r\n";
}
std::string not_found() {
    return response("404 Not Found", "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n",
                    "no such path\n");
}
std::string not_allowed(std::string_view methods) {
    return response(
        "405 Method Not Allowed",
        "Allow: " + std::string(methods) + "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 28\r\n",
        "the path has no such method\n");
}
std::string allowed(std::string_view methods) {
    return response("204 No Content", "Allow: " + std::string(methods) + "\r\n", "");
}

/// As `serve` keeps it where it is an lvalue: by reference.
struct ByReference {
    const Router* router;
    Task<> operator()(Request& request, Response& response) const { return (*router)(request, response); }
};

class Routed : public testing::Test {
protected:
    void expect(std::string_view requests, const std::string& wanted) {
        Served<ByReference> served{ByReference{&router_}};
        EXPECT_TRUE(same(served.answers(requests), wanted));
    }
    Router router_;
};

static_assert(http::Handler<Router&> && http::Handler<const Router&>);

TEST_F(Routed, HandlersOfEachKind) {
    struct Counted {
        std::unique_ptr<std::string> text = std::make_unique<std::string>("an object");
        void operator()(Request&, Response& response) const { response.send(*text); }
    };
    router_.get("/show/{a}/{b:int}", show)
        .get("/at-once/{name}", show_at_once)
        .get("/wait/{name}", wait_and_show)
        .get("/double/{number:int}", double_number)
        .get("/object", Counted{})
        .get("/lambda", [](Request&, Response& response) { response.send("a lambda"); });
    expect(get("/show/x%20y/7?q") + get("/at-once/n") + get("/wait/m") + get("/double/-21") + get("/object") +
               get("/lambda"),
           ok("show a=x y b=7") + ok("n") + ok("m") + ok("-42") + ok("an object") + ok("a lambda"));
}

TEST_F(Routed, AnswersWhatNoRouteAnswers) {
    router_.get("/items", show).post("/items", show).delete_("/items/{id}", show).put("/items/{id}", show);
    router_.patch("/items/{id}", show).head("/head", show);
    expect(get("/nothing") + ask("PUT", "/items") + ask("GET", "/items/7") + ask("GET", "/head"),
           not_found() + not_allowed("GET, HEAD, POST, OPTIONS") + not_allowed("PUT, DELETE, OPTIONS, PATCH") +
               not_allowed("HEAD, OPTIONS"));
    expect(ask("BREW", "/items") + ask("BREW", "/nothing"),
           not_allowed("GET, HEAD, POST, OPTIONS") +
               response("501 Not Implemented", "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 30\r\n",
                        "the method is not implemented\n"));
}

TEST_F(Routed, AnswersHeadWithTheHandlerOfGet) {
    router_.get("/items/{id}", show).get("/own", show).head("/own", [](Request&, Response& answer) {
        answer.header("X-Own", "yes");
        answer.send();
    });
    expect(ask("HEAD", "/items/7") + ask("HEAD", "/own") + ask("HEAD", "/nothing"),
           response("200 OK", "Content-Length: 9\r\n", "") +
               response("200 OK", "X-Own: yes\r\nContent-Length: 0\r\n", "") +
               response("404 Not Found", "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n", ""));
}

TEST_F(Routed, AnswersOptions) {
    router_.get("/items", show).post("/items", show).patch("/other", show);
    router_.options("/cors", [](Request&, Response& answer) { answer.send("asked"); });
    expect(ask("OPTIONS", "/items") + ask("OPTIONS", "/other") + ask("OPTIONS", "/cors") + ask("OPTIONS", "*") +
               ask("OPTIONS", "/nothing"),
           allowed("GET, HEAD, POST, OPTIONS") + allowed("OPTIONS, PATCH") + ok("asked") +
               allowed("GET, HEAD, POST, OPTIONS, PATCH") + not_found());
}

TEST_F(Routed, OptionsOfAServerWithoutRoutes) {
    expect(ask("OPTIONS", "*"), allowed("OPTIONS"));
}

TEST_F(Routed, AnyMethodAndOtherwise) {
    router_.any("/any", [](Request& request, Response& response) { response.send(request.method_text()); });
    router_.get("/get", show);
    router_.otherwise([](Request& request, Response& response) { response.send(request.target()); });
    expect(
        ask("BREW", "/any") + ask("DELETE", "/any") + ask("OPTIONS", "/any") + get("/nothing?x") + ask("BREW", "/no") +
            ask("PUT", "/get"),
        ok("BREW") + ok("DELETE") + ok("OPTIONS") + ok("/nothing?x") + ok("/no") + not_allowed("GET, HEAD, OPTIONS"));
}

TEST_F(Routed, AbsoluteTargets) {
    router_.get("/items/{id}", show);
    expect("GET http://h/items/a%2Fb?x HTTP/1.1\r\nHost: h\r\n\r\n", ok("show id=a/b"));
}

TEST_F(Routed, MountsOtherRouters) {
    {
        Router parts;
        parts.get("/", show).get("/{part}", show);
        parts.otherwise(show);
        Router items;
        items.get("/{item}", show).mount("/{item}/parts", parts);
        router_.mount("/api/items", items);
    }
    expect(get("/api/items/7") + get("/api/items/7/parts/") + get("/api/items/7/parts/x") + get("/api/items/7/parts") +
               get("/7"),
           ok("show item=7") + ok("show item=7") + ok("show item=7 part=x") + not_found() + not_found());
}

TEST_F(Routed, KeepsParametersWhenRoutersAreHandlers) {
    Router inner;
    inner.get("/outer/{name}", show);
    router_.get("/outer/{rest...}",
                [&inner](Request& request, Response& response) { return inner(request, response); });
    expect(get("/outer/x"), ok("show rest=x name=x"));
}

TEST_F(Routed, HandlersThatThrow) {
    router_.get("/throw", [](Request&, Response&) { throw std::runtime_error("as asked"); });
    router_.get("/ok", show);
    expect(get("/throw") + get("/ok"),
           response("500 Internal Server Error", "Content-Length: 23\r\n", "the handler has failed\n") + ok("show"));
}

TEST(Router, RefusesWhatCannotBeARoute) {
    Router router;
    router.get("/items/{id}", show);
    EXPECT_THROW(router.get("/items/{name}", show), std::logic_error);
    EXPECT_THROW(router.route(http::Method::other, "/x", show), std::invalid_argument);
    EXPECT_THROW(router.get("items", show), std::invalid_argument);
    Router other;
    other.get("/{id}", show);
    EXPECT_THROW(router.mount("/items", other), std::logic_error);
    EXPECT_THROW(router.mount("/x/", other), std::invalid_argument);
    EXPECT_THROW(router.mount("/{rest...}", other), std::invalid_argument);
    EXPECT_THROW(router.mount("x", other), std::invalid_argument);
    EXPECT_NO_THROW(router.mount("/{y}", router));
}

TEST(Router, AllocatesNothingForARequest) {
    Router router;
    router.get("/users/{user}/items/{item:int}",
               [](Request& request, Response& response) { response.send(request.parameter("item")); });
    router.get("/wait/{name}", wait_and_show);
    router.get("/allocating", [](Request&, Response& response) { response.send(std::string(100, 'x')); });
    Served<ByReference> served{ByReference{&router}};
    ClientSocket client = served.connect();
    const std::string requests = get("/users/ann/items/7") + get("/users/%41nn/items/7") + get("/wait/x") +
                                 get("/nothing") + ask("PUT", "/wait/x") + ask("OPTIONS", "/wait/x");
    const auto allocations_for = [&](const std::string& asked) {
        const std::size_t answer = dated_size(served.answers(asked));
        const auto exchange = [&](int times) {
            for (int time = 0; time < times; ++time) {
                client.send(asked);
                ASSERT_EQ(client.receive(answer).size(), answer);
            }
        };
        exchange(20);
        return allocations_of(served.engine(), [&] { exchange(200); });
    };
    EXPECT_EQ(allocations_for(requests), 0u);
    EXPECT_EQ(allocations_for(get("/allocating")), 200u) << "what is made is not counted";
}

}  // namespace
