#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"
#include "support/manual_clock.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using namespace ferrule_test;
using namespace std::chrono_literals;
namespace http = ferrule::http;
using ferrule::Task;

using SiteHandler = Task<> (*)(http::Request&, http::Response&);

class Serve : public testing::Test {
protected:
    Served<SiteHandler> served_{site};
    std::string answers(std::string_view bytes) { return served_.answers(bytes); }
};

TEST_F(Serve, HelloAndKeepAlive) {
    EXPECT_TRUE(same(answers(get("/")), ok("ok")));
    EXPECT_TRUE(
        same(answers(get("/") + get("/query?name=a%20b+c") + get("/path/x%2Fy")), ok("ok") + ok("a b c") + ok("x/y")));
    EXPECT_TRUE(same(answers(get("/status?code=404")), response("404 Not Found", "Content-Length: 4\r\n", "body")));
    EXPECT_TRUE(
        same(answers(get("/header", "X-Echo:  spaces inside  \r\n")),
             ok("", "").insert(std::string("HTTP/1.1 200 OK\r\nDate: now\r\n").size(), "X-Echo: spaces inside\r\n")));
}

TEST_F(Serve, ConnectionRules) {
    EXPECT_TRUE(same(answers(get("/", "Connection: close\r\n") + get("/")), ok("ok", "Connection: close\r\n")));
    EXPECT_TRUE(same(answers(get("/close") + get("/")), ok("bye", "Connection: close\r\n")));
    EXPECT_TRUE(same(answers("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"), ok("ok", "Connection: close\r\n")));
    EXPECT_TRUE(same(answers("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
                     ok("ok", "Connection: keep-alive\r\n") + ok("ok", "Connection: close\r\n")));
}

TEST_F(Serve, BodiesThatNeverGoOut) {
    const std::string head = "HEAD /large?size=10000 HTTP/1.1\r\nHost: h\r\n\r\n";
    EXPECT_TRUE(same(answers(head + get("/")), response("200 OK", "Content-Length: 10000\r\n", "") + ok("ok")));
    EXPECT_TRUE(same(answers("HEAD /stream?size=100&piece=7 HTTP/1.1\r\nHost: h\r\n\r\n"),
                     response("200 OK", "Content-Length: 100\r\n", "")));
    EXPECT_TRUE(same(answers("HEAD /stream?size=100&piece=7&flush=1 HTTP/1.1\r\nHost: h\r\n\r\n" + get("/")),
                     response("200 OK", "Content-Length: 100\r\n", "") + ok("ok")));
    EXPECT_TRUE(same(answers("HEAD /stream?size=100&piece=7&length HTTP/1.1\r\nHost: h\r\n\r\n"),
                     response("200 OK", "Content-Length: 100\r\n", "")));
    EXPECT_TRUE(same(answers(get("/status?code=204") + get("/status?code=304")),
                     response("204 No Content", "", "") + response("304 Not Modified", "", "")));
    EXPECT_TRUE(same(answers(get("/status?code=205")), response("205 Reset Content", "Content-Length: 0\r\n", "")));
    EXPECT_TRUE(same(answers("HEAD /throw HTTP/1.1\r\nHost: h\r\n\r\n" + get("/")),
                     response("500 Internal Server Error", "Content-Length: 23\r\n", "") + ok("ok")));
}

TEST_F(Serve, RequestBodies) {
    EXPECT_TRUE(same(answers(post("/echo?limit=100", "hello")), ok("hello")));
    EXPECT_TRUE(same(answers(chunked("/echo?limit=100", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") + get("/")),
                     ok("abcde") + ok("ok")));
    EXPECT_TRUE(same(answers(post("/count", letters(100'000)) + get("/")),
                     answers(post("/count", letters(100'000))) + ok("ok")));
    EXPECT_TRUE(same(answers(post("/echo?limit=200000", letters(150'000))), ok(letters(150'000))));
    EXPECT_TRUE(same(answers(post("/echo?limit=4", "hello") + get("/")),
                     response("413 Content Too Large", "Content-Length: 0\r\n", "") + ok("ok")));
    for (const std::size_t size : {0, 1, 1'000, 300'000})
        EXPECT_TRUE(same(answers(post("/return", letters(size)) + get("/")), ok(letters(size)) + ok("ok"))) << size;
    EXPECT_TRUE(same(answers(chunked("/return", "0\r\n\r\n") + get("/")), ok("") + ok("ok")));
    EXPECT_TRUE(same(answers(post("/ignore", "hello") + get("/")), ok("ignored") + ok("ok")));
    EXPECT_TRUE(same(answers(post("/ignore", letters(50'000)) + get("/")), ok("ignored") + ok("ok")));
}

TEST_F(Serve, ResponseBodies) {
    for (const std::size_t size : {0, 1, 900, 5'000, 70'000, 1'000'000}) {
        EXPECT_TRUE(same(answers(get("/large?size=" + std::to_string(size)) + get("/")), ok(letters(size)) + ok("ok")))
            << size;
    }
    const auto gathered = [](std::size_t size) {
        const std::string digits = std::to_string(size);
        return response("200 OK", "Content-Length: " + std::string(10 - digits.size(), ' ') + digits + "\r\n",
                        letters(size));
    };
    EXPECT_TRUE(same(answers(get("/stream?size=100&piece=7")), gathered(100)));
    EXPECT_TRUE(same(answers(get("/stream?size=60000&piece=999") + get("/")), gathered(60'000) + ok("ok")));
    EXPECT_TRUE(same(answers(get("/stream?size=60000&piece=999&length") + get("/")), ok(letters(60'000)) + ok("ok")));
    EXPECT_TRUE(same(answers("GET /stream?size=60000&piece=999&flush=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                     response("200 OK", "Connection: close\r\n", letters(60'000))));
}

TEST_F(Serve, HandlersThatFail) {
    EXPECT_TRUE(same(
        answers(get("/nothing") + get("/")),
        response("500 Internal Server Error", "Content-Length: 29\r\n", "the handler has not answered\n") + ok("ok")));
    EXPECT_TRUE(
        same(answers(get("/throw") + get("/")),
             response("500 Internal Server Error", "Content-Length: 23\r\n", "the handler has failed\n") + ok("ok")));
    ClientSocket client = served_.connect();
    client.send(get("/throw-late"));
    EXPECT_EQ(client.receive_rest().error, ECONNRESET);
    served_.engine().until_empty();
    EXPECT_EQ(served_.engine().faults(), 2u);
}

// ---- Date ----

/// The calendar goes with the clock, from a quarter into a second on, and counts who looks at it.
class CalendarClock : public ManualClock {
public:
    std::uint64_t realtime_ns() noexcept override {
        looks_.fetch_add(1, std::memory_order_relaxed);
        return 784'111'777'250'000'000 + (monotonic_ns() - begun_ns_);
    }
    unsigned looks() const noexcept { return looks_.load(std::memory_order_relaxed); }

private:
    const std::uint64_t begun_ns_ = monotonic_ns();
    std::atomic<unsigned> looks_{0};
};

class ServeDate : public testing::Test {
protected:
    static EngineOptions untimed(ferrule::Kernel& clock) {
        EngineOptions engine;
        engine.kernel = &clock;
        engine.network.idle_timeout = engine.network.read_timeout = 0ms;
        return engine;
    }
    static http::ServeOptions patient() {
        http::ServeOptions options;
        options.idle_timeout = 0ms;
        return options;
    }

    /// The date of an answer, of which the whole is received; then the server waits again.
    std::string date() {
        client_.send(get("/"));
        const std::string answer = client_.receive(dated_size(ok("ok")));
        EXPECT_EQ(without_dates(answer), ok("ok"));
        served_.engine().eventually("idle", [this] { return served_.engine().network().census().reading == 1; });
        constexpr std::string_view name = "Date: ";
        const std::size_t from = answer.find(name) + name.size();
        return answer.substr(from, answer.find('\r', from) - from);
    }
    void pass(std::chrono::nanoseconds time) {
        clock_.advance(time);
        served_.engine().on_reactor([] {});
    }
    std::size_t armed() {
        return served_.engine().on_reactor([this] { return served_.engine().reactor().timers().size(); });
    }

    CalendarClock clock_;
    Served<SiteHandler> served_{site, patient(), untimed(clock_)};
    ClientSocket client_ = served_.connect();
};

TEST_F(ServeDate, IsThatOfTheSecond) {
    EXPECT_EQ(date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    pass(749'999'999ns);
    EXPECT_EQ(date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    pass(1ns);
    EXPECT_EQ(date(), "Sun, 06 Nov 1994 08:49:38 GMT");
    pass(999'999'999ns);
    EXPECT_EQ(date(), "Sun, 06 Nov 1994 08:49:38 GMT");
    pass(1ns);
    EXPECT_EQ(date(), "Sun, 06 Nov 1994 08:49:39 GMT");
    pass(48h + 30s);
    EXPECT_EQ(date(), "Tue, 08 Nov 1994 08:50:09 GMT");
}

// The calendar is looked at once in a second in which there are answers, and for nothing else.
TEST_F(ServeDate, CostsNothingWhileNobodyAsks) {
    EXPECT_EQ(armed(), 0u);
    for (unsigned second = 1; second <= 3; ++second) {
        for (unsigned request = 0; request < 3; ++request) date();
        EXPECT_EQ(armed(), 0u);
        EXPECT_EQ(clock_.looks(), second);
        for (unsigned quarter = 0; quarter < 40; ++quarter) pass(250ms);
        EXPECT_EQ(armed(), 0u);
        EXPECT_EQ(clock_.looks(), second);
    }
}

}  // namespace
