#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace ferrule_test;
using SiteHandler = ferrule::Task<> (*)(http::Request&, http::Response&);

std::uint64_t sends(Engine& engine) {
    return engine.on_reactor([&engine] { return engine.counters().sends.value(); });
}

TEST(ServePipelining, RequestsThatAreThereTogetherAreAnsweredByOneSend) {
    Served<SiteHandler> served{site};
    ClientSocket client = served.connect();
    const std::string wanted = times(16, ok("ok"));
    for (unsigned round = 0; round < 3; ++round) {
        client.send(times(16, get("/")));
        EXPECT_TRUE(same(without_dates(client.receive(dated_size(wanted))), wanted));
    }
    client.close();
    served.engine().until_empty();
    EXPECT_EQ(sends(served.engine()), 3u);
}

// H1-11: so many, and no fewer while more are there.
TEST(ServePipelining, APortionIsOfThePipelineLimit) {
    std::string requests;
    std::string wanted;
    for (unsigned number = 0; number < 16; ++number) {
        requests += get("/path/" + std::to_string(number));
        wanted += ok(std::to_string(number));
    }
    constexpr std::pair<std::uint32_t, std::uint64_t> portions[] = {{1, 16}, {4, 4}, {15, 2}, {16, 1}};
    for (const auto& [limit, wanted_sends] : portions) {
        http::ServeOptions options;
        options.pipeline_limit = limit;
        Served<SiteHandler> served{site, options};
        ClientSocket client = served.connect();
        client.send(requests);
        EXPECT_TRUE(same(without_dates(client.receive(dated_size(wanted))), wanted));
        client.close();
        served.engine().until_empty();
        EXPECT_EQ(sends(served.engine()), wanted_sends) << "portions of " << limit;
    }
}

// H1-11: no more than 64 answers wait for one send.
TEST(ServePipelining, ManyAreAnsweredInPortions) {
    Served<SiteHandler> served{site};
    EXPECT_TRUE(same(served.answers(times(1000, get("/"))), times(1000, ok("ok"))));
    served.engine().until_empty();
    EXPECT_GE(sends(served.engine()), 1000u / 64);
}

TEST(ServePipelining, AHandlerThatWaitsDoesNotHoldBackEarlierAnswers) {
    static Gate* gate;
    Gate its_gate;
    gate = &its_gate;
    const auto waits = [](http::Request& request, http::Response& response) -> ferrule::Task<> {
        if (request.path() == "/wait") {
            response.write("begun, ");
            co_await *gate;
            response.write("waited");
        } else {
            response.send("ok");
        }
    };
    Served served{waits};
    ClientSocket client = served.connect();
    client.send(get("/") + get("/") + get("/wait") + get("/"));
    EXPECT_TRUE(same(without_dates(client.receive(2 * dated_size(ok("ok")))), ok("ok") + ok("ok")));
    served.engine().on_reactor([&] { its_gate.open(); });
    client.shutdown_write();
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes),
                     response("200 OK", "Content-Length:         13\r\n", "begun, waited") + ok("ok")));
}

// Every form of request and response, wherever the bytes are split.
TEST(ServePipelining, EveryTwoWaySplitGivesTheSameAnswers) {
    Served<SiteHandler> served{site};
    const std::string requests = get("/") + post("/echo?limit=100", "hello") +
                                 chunked("/count", "3\r\nabc\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\n") +
                                 get("/stream?size=300&piece=100") +
                                 get("/path/a%20b", "X-Long: " + std::string(300, 'x') + "\r\n") +
                                 post("/ignore", letters(100)) + "HEAD /large?size=7 HTTP/1.1\r\nHost: h\r\n\r\n\r\n" +
                                 get("/yield?times=2") + get("/nowhere", "Connection: close\r\n") + get("/");
    const std::string whole = served.answers(requests);
    EXPECT_TRUE(whole.ends_with("nothing here")) << whole;
    for (std::size_t at = 1; at < requests.size(); ++at) {
        ClientSocket client = served.connect();
        const std::uint64_t received = served.engine().counters().bytes_received.value();
        client.send(std::string_view(requests).substr(0, at));
        served.until_received(received + at);
        client.send(std::string_view(requests).substr(at));
        ASSERT_TRUE(same(without_dates(client.receive_rest().bytes), whole)) << "split at " << at;
    }
}

TEST(ServePipelining, OneByteAtATime) {
    Served<SiteHandler> served{site};
    const std::string requests = get("/") + chunked("/count", "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n") +
                                 post("/count", "xyz") + get("/", "Connection: close\r\n");
    const std::string whole = served.answers(requests);
    ClientSocket client = served.connect();
    std::uint64_t received = served.engine().counters().bytes_received.value();
    for (const char byte : requests) {
        client.send(std::string_view(&byte, 1));
        served.until_received(++received);
    }
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes), whole));
}

}  // namespace
