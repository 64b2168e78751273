#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace ferrule_test;
using ferrule::Task;
using TestHandler = Task<> (*)(http::Request&, http::Response&);

/// The bytes of a chunked body.
std::string decoded(std::string_view chunks, std::string* trailers = nullptr) {
    http::ChunkedDecoder decoder;
    std::array<char, 1024> kept{};
    std::string body;
    for (;;) {
        const auto step = decoder.step(chunks, kept);
        chunks.remove_prefix(step.consumed);
        if (step.state != http::ChunkState::data) {
            EXPECT_EQ(step.state, http::ChunkState::complete);
            EXPECT_TRUE(chunks.empty());
            if (trailers != nullptr) trailers->assign(kept.data(), decoder.trailers_size());
            return body;
        }
        body += step.data;
    }
}

/// The body of a chunked response to `request`, whose connection ends behind it.
std::string chunked_body(Served<TestHandler>& served, const std::string& request, std::string* trailers = nullptr) {
    const std::string text = served.answers(request);
    const std::size_t end = text.find("\r\n\r\n");
    const std::string head = text.substr(0, end);
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\n")) << head;
    EXPECT_NE(head.find("\r\nTransfer-Encoding: chunked"), head.npos) << head;
    EXPECT_EQ(head.find("Content-Length"), head.npos) << head;
    return decoded(std::string_view(text).substr(end + 4), trailers);
}

TEST(ServeBodies, LongOnesAreChunkedInWhateverPieces) {
    Served<TestHandler> served{site};
    for (const std::string_view piece : {"1", "7", "999", "4096", "16384", "70000", "300000"}) {
        for (const std::string_view flush : {"0", "1"}) {
            if (piece == "1" && flush == "1") continue;
            const std::string target =
                "/stream?size=300000&piece=" + std::string(piece) + "&flush=" + std::string(flush);
            EXPECT_TRUE(same(chunked_body(served, get(target)), letters(300'000))) << target;
        }
    }
    EXPECT_TRUE(same(served.answers(get("/stream?size=300000&piece=70000&flush=1&length") + get("/")),
                     ok(letters(300'000)) + ok("ok")));
    EXPECT_TRUE(same(served.answers("GET /stream?size=300000&piece=70000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                     response("200 OK", "Connection: close\r\n", letters(300'000))));
}

// Under each mode, and with so little room that answers have to wait for the client.
TEST(ServeBodies, WhereThereIsLittleRoom) {
    using ferrule::WriteOverflow;
    for (const WriteOverflow overflow : {WriteOverflow::grow, WriteOverflow::segmented, WriteOverflow::back_pressure}) {
        EngineOptions engine;
        engine.network.write_overflow = overflow;
        engine.network.write_limit = 20'000;
        Served<TestHandler> served{site, {}, engine};
        EXPECT_TRUE(same(served.answers(get("/large?size=300000") + get("/")), ok(letters(300'000)) + ok("ok")));
        EXPECT_TRUE(same(chunked_body(served, get("/stream?size=300000&piece=9999")), letters(300'000)));
        EXPECT_TRUE(same(served.answers(get("/stream?size=60000&piece=999") + get("/")),
                         response("200 OK", "Content-Length:      60000\r\n", letters(60'000)) + ok("ok")));
        EXPECT_TRUE(same(served.answers(get("/stream?size=300000&piece=9999&length") + get("/")),
                         ok(letters(300'000)) + ok("ok")));
        EXPECT_TRUE(same(served.answers(times(40, get("/large?size=3000"))), times(40, ok(letters(3000)))));
    }
}

// The window of a connection that has grown holds more than a response is gathered in.
TEST(ServeBodies, WhereThereIsMuchRoom) {
    EngineOptions engine;
    engine.network.write_slab_size = 256u << 10;
    Served<TestHandler> served{site, {}, engine};
    EXPECT_TRUE(same(chunked_body(served, get("/stream?size=400000&piece=999")), letters(400'000)));
    EXPECT_TRUE(same(served.answers(get("/stream?size=60000&piece=999") + get("/")),
                     response("200 OK", "Content-Length:      60000\r\n", letters(60'000)) + ok("ok")));
}

Task<> write_all_of_it(http::Request& request, http::Response& response) {
    const std::string text = letters(number_in(request, "size"));
    const auto written = co_await response.write_all(text);
    if (written) response.write(" and more");
}

TEST(ServeBodies, WriteAllAndSharedBytes) {
    for (const std::uint32_t limit : {20'000u, 16u << 20}) {
        EngineOptions engine;
        engine.network.write_limit = limit;
        Served<TestHandler> written{write_all_of_it, {}, engine};
        EXPECT_TRUE(same(chunked_body(written, get("/?size=500000")), letters(500'000) + " and more"));
        Served<TestHandler> shared{shared_page, {}, engine};
        for (const std::size_t size : {10, 5'000, 500'000}) {
            EXPECT_TRUE(same(shared.answers(get("/?size=" + std::to_string(size)) + get("/?size=3")),
                             ok(letters(size)) + ok("abc")));
        }
        EXPECT_TRUE(same(shared.answers("HEAD /?size=500000 HTTP/1.1\r\nHost: h\r\n\r\n"),
                         response("200 OK", "Content-Length: 500000\r\n", "")));
    }
}

TEST(ServeBodies, WrittenInPlace) {
    Served<TestHandler> served{write_in_place};
    EXPECT_TRUE(same(served.answers(get("/?size=5000&span=100&part=12345") + get("/?size=1&span=100&part=12345")),
                     response("200 OK", "Content-Length:       5000\r\n", letters(5000)) +
                         response("200 OK", "Content-Length:          1\r\n", "a")));
    EXPECT_TRUE(same(chunked_body(served, get("/?size=200000&span=100&part=12345")), letters(200'000)));
    EXPECT_TRUE(same(served.answers("HEAD /?size=5000&span=100&part=12345 HTTP/1.1\r\nHost: h\r\n\r\n"),
                     response("200 OK", "Content-Length: 5000\r\n", "")));
}

Task<> with_trailers(http::Request&, http::Response& response) {
    if (!response.trailer("X-Sum", "42")) response.header("X-No-Trailers", "1");
    response.write("body");
    response.trailer("X-More", "43");
    co_return;
}

TEST(ServeBodies, ResponsesWithTrailers) {
    Served<TestHandler> served{with_trailers};
    std::string trailers;
    EXPECT_EQ(chunked_body(served, get("/"), &trailers), "body");
    EXPECT_EQ(trailers, "X-Sum: 42\r\nX-More: 43\r\n");
    EXPECT_NE(served.answers(get("/")).find("\r\nTrailer: X-Sum\r\n"), std::string::npos);
    EXPECT_TRUE(
        same(served.answers("GET / HTTP/1.0\r\n\r\n"),
             response("200 OK", "X-No-Trailers: 1\r\nContent-Length:          4\r\nConnection: close\r\n", "body")));
}

Task<> tell_trailers(http::Request& request, http::Response& response) {
    const auto body = co_await request.collect(100);
    if (!body) co_return;
    std::string text(*body);
    std::string_view trailers = request.trailers();
    while (const auto trailer = http::next_trailer(trailers)) {
        text += ' ';
        text += trailer->name;
        text += '=';
        text += trailer->value;
    }
    response.send(text);
}

TEST(ServeBodies, RequestsWithTrailers) {
    const std::string request = chunked("/", "2\r\nab\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nY: 2\r\n\r\n");
    http::ServeOptions options;
    options.keep_trailers = true;
    Served<TestHandler> keeps{tell_trailers, options};
    EXPECT_TRUE(same(keeps.answers(request), ok("ab X-Sum=1 Y=2")));
    Served<TestHandler> drops{tell_trailers};
    EXPECT_TRUE(same(drops.answers(request), ok("ab")));
}

/// Bytes of the reactor's frames and of the memory of its requests.
std::uint64_t frame_bytes(Served<TestHandler>& served) {
    return served.engine().on_reactor([&] { return served.engine().reactor().frames.live_bytes(); });
}

// What is collected takes memory as it comes, and not as it was announced.
TEST(ServeBodies, CollectedInWhatHasComeAllows) {
    Served<TestHandler> served{site};
    constexpr std::size_t size = 4u << 20;
    const std::string body = letters(size);
    ClientSocket client = served.connect();
    const std::string head = "POST /echo?limit=" + std::to_string(size) +
                             " HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n";
    client.send(head);
    std::size_t sent = 0;
    for (const std::size_t part : {1u, 60'000u, 10'000u, 300'000u}) {
        client.send(std::string_view(body).substr(sent, part));
        sent += part;
        served.until_received(head.size() + sent);
        EXPECT_LE(frame_bytes(served), 6 * sent + (128u << 10)) << sent;
    }
    client.send(std::string_view(body).substr(sent));
    client.shutdown_write();
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes), ok(body)));
}

// H1-12.
TEST(ServeBodies, ContinueIsSentWhenTheHandlerReads) {
    Served<TestHandler> served{site};
    const std::string head =
        "POST /echo?limit=10 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    ClientSocket client = served.connect();
    client.send(get("/") + head);
    const std::string continued = "HTTP/1.1 100 Continue\r\n\r\n";
    const std::string first = client.receive(dated_size(ok("ok")) + continued.size());
    EXPECT_TRUE(same(without_dates(first), ok("ok") + continued));
    client.send("hello" + get("/"));
    client.shutdown_write();
    EXPECT_TRUE(same(without_dates(client.receive_rest().bytes), ok("hello") + ok("ok")));
    // It need not be said when the body is there, and is not when nobody reads it.
    EXPECT_TRUE(same(served.answers(head + "hello" + get("/")), ok("hello") + ok("ok")));
    ClientSocket ignored = served.connect();
    ignored.send("POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_TRUE(same(without_dates(ignored.receive_rest().bytes), ok("ignored", "Connection: close\r\n")));
    ClientSocket refused = served.connect();
    refused.send("POST /echo?limit=2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_TRUE(same(without_dates(refused.receive_rest().bytes),
                     response("413 Content Too Large", "Content-Length: 0\r\nConnection: close\r\n", "")));
}

Task<> hint_early(http::Request&, http::Response& response) {
    const bool sent = response.informational(http::Status::early_hints, {{"Link", "</style.css>; rel=preload"}});
    response.send(sent ? "hinted" : "not hinted");
    co_return;
}

TEST(ServeBodies, InformationalResponses) {
    Served<TestHandler> served{hint_early};
    EXPECT_TRUE(same(served.answers(get("/") + get("/")),
                     times(2, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + ok("hinted"))));
    EXPECT_TRUE(same(served.answers("GET / HTTP/1.0\r\n\r\n"), ok("not hinted", "Connection: close\r\n")));
}

// A flood of chunks of one byte.
TEST(ServeBodies, ChunksOfOneByte) {
    Served<TestHandler> served{site};
    const std::string flood = times(20'000, "1\r\nx\r\n") + "0\r\n\r\n";
    EXPECT_TRUE(same(served.answers(chunked("/count", flood) + get("/")), ok("20000 bytes, sum 2400000") + ok("ok")));
    EXPECT_TRUE(
        same(served.answers(chunked("/echo?limit=100000", flood) + get("/")), ok(std::string(20'000, 'x')) + ok("ok")));
    EXPECT_TRUE(same(served.answers(chunked("/echo?limit=19999", flood)),
                     response("413 Content Too Large", "Content-Length: 0\r\n", "")));
}

// H1-14.
Task<> bad_header(http::Request& request, http::Response& response) {
    try {
        if (request.path() == "/value") response.header("X", "a\r\nSet-Cookie: b");
        if (request.path() == "/nul") response.header("X", std::string_view("a\0b", 3));
        if (request.path() == "/name") response.header("X Y", "a");
        if (request.path() == "/colon") response.header("X:", "a");
        if (request.path() == "/length") response.header("content-length", "5");
        if (request.path() == "/coding") response.header("Transfer-Encoding", "chunked");
        if (request.path() == "/trailer") response.trailer("Set-Cookie", "a");
        if (request.path() == "/line-feed") response.header("X", "a\n");
        if (request.path() == "/status") response.status(http::Status::continue_);
        response.send("let through");
    } catch (const std::invalid_argument&) {
        response.send("refused");
    }
    co_return;
}

TEST(ServeBodies, HeadersThatCannotBeSent) {
    Served<TestHandler> served{bad_header};
    for (const std::string_view target :
         {"/value", "/nul", "/name", "/colon", "/length", "/coding", "/trailer", "/line-feed", "/status"}) {
        EXPECT_TRUE(same(served.answers(get(target)), ok("refused"))) << target;
    }
}

Task<> many_headers(http::Request& request, http::Response& response) {
    const std::size_t count = number_in(request, "count");
    for (std::size_t number = 0; number < count; ++number) {
        response.header("X-" + std::to_string(number), letters(100));
    }
    response.send("ok");
    co_return;
}

TEST(ServeBodies, ManyHeaders) {
    Served<TestHandler> served{many_headers};
    const std::string text = served.answers(get("/?count=250"));
    EXPECT_NE(text.find("\r\nX-249: " + letters(100) + "\r\n"), text.npos);
    EXPECT_TRUE(text.ends_with("\r\n\r\nok"));
    // More than a response may have.
    EXPECT_TRUE(same(served.answers(get("/?count=500")),
                     response("500 Internal Server Error", "Content-Length: 23\r\n", "the handler has failed\n")));
}

}  // namespace
