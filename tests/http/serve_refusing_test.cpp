#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>

namespace {

using namespace ferrule_test;
using SiteHandler = ferrule::Task<> (*)(http::Request&, http::Response&);

/// That the request is refused with the status, behind the answer to one before it, and that nothing comes behind.
void expect_refusal(Served<SiteHandler>& served, std::string_view request, std::string_view status) {
    const std::string text = served.answers(get("/") + std::string(request) + get("/"));
    ASSERT_TRUE(text.starts_with(ok("ok"))) << text;
    const std::string_view behind = std::string_view(text).substr(ok("ok").size());
    EXPECT_TRUE(behind.starts_with("HTTP/1.1 " + std::string(status) + "\r\nDate: now\r\n")) << request << text;
    EXPECT_NE(behind.find("\r\nConnection: close\r\n"), behind.npos) << text;
    const std::size_t body = behind.find("\r\n\r\n") + 4;
    EXPECT_NE(behind.find("\r\nContent-Length: " + std::to_string(behind.size() - body) + "\r\n"), behind.npos) << text;
}

TEST(ServeRefusing, EveryStatusOfTheParser) {
    Served<SiteHandler> served{site};
    expect_refusal(served, "GET / HTTP/1.1\r\n\r\n", "400 Bad Request");
    expect_refusal(served, "GET / HTTP/1.1\r\nHost: h\n\r\n", "400 Bad Request");
    expect_refusal(served, "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", "400 Bad Request");
    expect_refusal(served, "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "400 Bad Request");
    expect_refusal(served, "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", "414 URI Too Long");
    expect_refusal(served, get("/", "Expect: a-miracle\r\n"), "417 Expectation Failed");
    expect_refusal(served, get("/", "X: " + std::string(9000, 'a') + "\r\n"), "431 Request Header Fields Too Large");
    expect_refusal(served, get("/", times(100, "X: a\r\n")), "431 Request Header Fields Too Large");
    expect_refusal(served, get("/", times(90, "X: " + std::string(1000, 'a') + "\r\n")),
                   "431 Request Header Fields Too Large");
    expect_refusal(served, get("/", "Transfer-Encoding: gzip, chunked\r\n"), "501 Not Implemented");
    expect_refusal(served, "GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505 HTTP Version Not Supported");
    EXPECT_EQ(served.metric("ferrule_http_refusals_total", "400"), 4);
    EXPECT_EQ(served.metric("ferrule_http_refusals_total", "431"), 3);
    EXPECT_EQ(served.metric("ferrule_http_responses_total", "2xx"), 11);
}

TEST(ServeRefusing, TheFirstRequestOfAConnection) {
    for (const std::string_view request :
         {"GET / HTTP/1.1\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "\n"}) {
        Served<SiteHandler> served{site};
        const std::string text = served.answers(request);
        EXPECT_TRUE(text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.1 505 ")) << request << text;
        EXPECT_NE(text.find("\r\nConnection: close\r\n"), text.npos) << text;
    }
}

TEST(ServeRefusing, BodiesBeforeAndWhileTheyAreRead) {
    http::ServeOptions options;
    options.body_limit = 1000;
    Served<SiteHandler> served{site, options};
    expect_refusal(served, post("/count", letters(1001)), "413 Content Too Large");
    expect_refusal(served, chunked("/count", "3e9\r\n" + letters(1001) + "\r\n0\r\n\r\n"), "413 Content Too Large");
    expect_refusal(served, chunked("/count", "3\r\nabcd\r\n0\r\n\r\n"), "400 Bad Request");
    expect_refusal(served, chunked("/count", "x\r\n"), "400 Bad Request");
    expect_refusal(served, chunked("/echo?limit=100", "1;ext\r\na\r\n0\r\n\r\n"), "400 Bad Request");
    expect_refusal(served, chunked("/count", "0\r\n" + times(17, "X: " + std::string(1000, 'a') + "\r\n") + "\r\n"),
                   "431 Request Header Fields Too Large");
}

// H1-09: the semicolon counts, too.
TEST(ServeRefusing, ExtensionsOfChunksBeyondTheirLimit) {
    http::ServeOptions options;
    options.limits.chunk_extension_bytes = 256;
    Served<SiteHandler> served{site, options};
    const std::string longest = ";" + std::string(255, 'e');
    const auto body = [](const std::string& first, const std::string& last) {
        return chunked("/count", "1" + first + "\r\na\r\n0" + last + "\r\n\r\n");
    };
    EXPECT_TRUE(same(served.answers(body(longest, longest) + get("/")), ok("1 bytes, sum 97") + ok("ok")));
    expect_refusal(served, body(longest + "e", ""), "400 Bad Request");
    expect_refusal(served, body("", longest + "e"), "400 Bad Request");
    // By default there are none at all.
    Served<SiteHandler> strict{site};
    EXPECT_TRUE(same(strict.answers(body("", "") + get("/")), ok("1 bytes, sum 97") + ok("ok")));
    expect_refusal(strict, body(";", ""), "400 Bad Request");
    expect_refusal(strict, body("", ";"), "400 Bad Request");
}

TEST(ServeRefusing, LengthRequired) {
    http::ServeOptions options;
    options.length_required = true;
    Served<SiteHandler> served{site, options};
    expect_refusal(served, chunked("/count", "1\r\na\r\n0\r\n\r\n"), "411 Length Required");
}

TEST(ServeRefusing, BodiesWithoutAnEnd) {
    Served<SiteHandler> served{site};
    const std::string truncated = refusal("400 Bad Request", "the body has no end");
    EXPECT_TRUE(same(served.answers("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"), truncated));
    EXPECT_TRUE(same(served.answers(chunked("/echo?limit=100", "5\r\nabc")), truncated));
    EXPECT_TRUE(
        same(served.answers(get("/") + "GET / HT"), ok("ok") + refusal("400 Bad Request", "the request has no end")));
    EXPECT_TRUE(same(served.answers(""), ""));
}

// H1-10: what the handler does not read is read for it, up to a bound.
TEST(ServeRefusing, UnreadBodies) {
    Served<SiteHandler> served{site};
    const std::string small = chunked("/ignore", "5\r\nhello\r\n0\r\n\r\n");
    EXPECT_TRUE(same(served.answers(small + get("/")), ok("ignored") + ok("ok")));
    const std::string large = post("/ignore", letters(100'000));
    EXPECT_TRUE(same(served.answers(large + get("/")), ok("ignored", "Connection: close\r\n")));
    const std::string chunks = chunked("/ignore", times(20, "2710\r\n" + letters(10'000) + "\r\n") + "0\r\n\r\n");
    EXPECT_TRUE(same(served.answers(chunks + get("/")), ok("ignored")));
}

// H1-10: 64 KiB, and no byte more.
TEST(ServeRefusing, UnreadBodiesAtTheBound) {
    Served<SiteHandler> served{site};
    constexpr std::size_t bound = 65'536;
    const auto in_chunks = [](std::size_t size) {
        return chunked("/ignore", "8000\r\n" + letters(32'768) + "\r\n8000\r\n" + letters(32'768) + "\r\n" +
                                      (size == bound ? "" : "1\r\nx\r\n") + "0\r\n\r\n");
    };
    EXPECT_TRUE(same(served.answers(in_chunks(bound) + get("/")), ok("ignored") + ok("ok")));
    EXPECT_TRUE(same(served.answers(in_chunks(bound + 1) + get("/")), ok("ignored")));

    // The head alone: what is there with it is read in any case.
    const auto head = [](std::size_t size) {
        return "POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n";
    };
    ClientSocket taken = served.connect();
    const std::uint64_t received = served.engine().counters().bytes_received.value();
    taken.send(head(bound));
    served.until_received(received + head(bound).size());
    taken.send(letters(bound) + get("/"));
    taken.shutdown_write();
    EXPECT_TRUE(same(without_dates(taken.receive_rest().bytes), ok("ignored") + ok("ok")));
    ClientSocket closed = served.connect();
    closed.send(head(bound + 1));
    EXPECT_TRUE(same(without_dates(closed.receive_rest().bytes), ok("ignored", "Connection: close\r\n")));
}

// H1-10: a body belongs to its request whatever the method, and is no request itself.
TEST(ServeRefusing, BodiesOfEachMethod) {
    Served<SiteHandler> served{site};
    const std::string inner = get("/query?name=smuggled");
    unsigned sum = 0;
    for (const char byte : inner) sum += static_cast<unsigned char>(byte);
    const std::string read = std::to_string(inner.size()) + " bytes, sum " + std::to_string(sum);
    for (const std::string method : {"DELETE", "GET", "OPTIONS", "HEAD"}) {
        const auto request = [&](std::string_view target, bool in_chunks) {
            std::string text = in_chunks ? chunked(target, "2e\r\n" + inner + "\r\n0\r\n\r\n") : post(target, inner);
            return text.replace(0, std::string_view("POST").size(), method);
        };
        const auto answer = [&](std::string_view body) {
            const std::string whole = ok(body);
            return method == "HEAD" ? whole.substr(0, whole.size() - body.size()) : whole;
        };
        for (const bool in_chunks : {false, true}) {
            EXPECT_TRUE(same(served.answers(request("/count", in_chunks) + request("/ignore", in_chunks) + get("/")),
                             answer(read) + answer("ignored") + ok("ok")))
                << method << in_chunks;
        }
    }
}

// H1-10: a proxy that has the whole answer may send the next request on the connection, though it owes a part of the
// body: that must not be read as its rest. So the answer waits for the body; those before it do not.
TEST(ServeRefusing, AnswersWaitForUnreadBodies) {
    Served<SiteHandler> served{site};
    ClientSocket client = served.connect();
    client.send(get("/") + "POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
    EXPECT_EQ(without_dates(client.receive(dated_size(ok("ok")))), ok("ok"));
    EXPECT_EQ(served.answers(get("/")), ok("ok"));
    char byte = 0;
    EXPECT_EQ(::recv(client.number(), &byte, 1, MSG_DONTWAIT), -1);
    EXPECT_EQ(errno, EAGAIN);
    client.send("world" + get("/"));
    client.shutdown_write();
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes), ok("ignored") + ok("ok")));
}

TEST(ServeRefusing, RequestsPerConnection) {
    http::ServeOptions options;
    options.requests_per_connection = 2;
    Served<SiteHandler> served{site, options};
    EXPECT_TRUE(same(served.answers(times(3, get("/"))), ok("ok") + ok("ok", "Connection: close\r\n")));
}

}  // namespace
