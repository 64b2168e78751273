#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ferrule_test;
using ferrule::Task;
using TestHandler = Task<> (*)(http::Request&, http::Response&);

std::string head(std::string_view target) {
    return "HEAD " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n\r\n";
}

// ---- headers ----

/// Adds lines of so many bytes, headers and then trailers, and writes a body of `body` bytes; or tells which of them is
/// one too many.
struct Lines {
    std::vector<std::size_t> headers;
    std::vector<std::size_t> trailers;
    std::size_t body;

    static std::string value(std::size_t line_bytes) {
        return letters(line_bytes - std::string_view("X: \r\n").size());
    }

    Task<> operator()(http::Request&, http::Response& response) const {
        unsigned added = 0;
        try {
            for (const std::size_t bytes : headers) {
                response.header("X", value(bytes));
                ++added;
            }
            for (const std::size_t bytes : trailers) {
                response.trailer("X", value(bytes));
                ++added;
            }
        } catch (const std::length_error&) {
            static_cast<void>(response.restart());
            response.send("one too many behind " + std::to_string(added));
            co_return;
        }
        if (trailers.empty()) {
            response.send(letters(body));
        } else {
            response.write(letters(body));
        }
    }
    std::string lines(const std::vector<std::size_t>& sizes) const {
        std::string text;
        for (const std::size_t bytes : sizes) text += "X: " + value(bytes) + "\r\n";
        return text;
    }
};

constexpr std::size_t all = http::Response::headers_bytes_max;

// With the largest body that is copied behind them there is room for as many as there may be, and for no more however
// the memory for them has grown.
TEST(ServeResponse, AllTheHeadersThatThereMayBe) {
    for (const std::vector<std::size_t>& sizes :
         {std::vector<std::size_t>{all}, std::vector<std::size_t>{all - 505, 505},
          std::vector<std::size_t>{300, all - 700, 400}, std::vector<std::size_t>(64, all / 64)}) {
        Served served{Lines{sizes, {}, 4096}};
        const std::string headers = Lines{}.lines(sizes);
        EXPECT_TRUE(same(served.answers(get("/") + get("/")),
                         times(2, response("200 OK", headers + "Content-Length: 4096\r\n", letters(4096)))));
    }
    for (const std::vector<std::size_t>& sizes :
         {std::vector<std::size_t>{all + 1}, std::vector<std::size_t>{all - 504, 505},
          std::vector<std::size_t>{31'995, 505, 29'505}, std::vector<std::size_t>{300, 16'000, 16'469}}) {
        Served served{Lines{sizes, {}, 4096}};
        const std::size_t let_through = sizes.size() - 1;
        EXPECT_TRUE(same(served.answers(get("/") + get("/")),
                         times(2, ok("one too many behind " + std::to_string(let_through)))));
    }
}

TEST(ServeResponse, TrailersCountWithThem) {
    const std::vector<std::size_t> half{all / 2};
    Served fits{Lines{half, half, 60'000}};
    const std::string text = fits.answers(get("/"));
    const std::string lines = Lines{}.lines(half);
    EXPECT_TRUE(text.starts_with("HTTP/1.1 200 OK\r\nDate: now\r\n" + lines));
    EXPECT_TRUE(text.ends_with("\r\n0\r\n" + lines + "\r\n"));
    Served does_not{Lines{half, {all / 2 + 1}, 60'000}};
    EXPECT_TRUE(same(does_not.answers(get("/")), ok("one too many behind 1")));
    Served grown{Lines{{31'995, 505}, {200, 29'505}, 60'000}};
    EXPECT_TRUE(same(grown.answers(get("/")), ok("one too many behind 3")));
}

// ---- bodies ----

/// The body of a chunked response that is whole; nothing of one that is not.
std::string whole_body(const std::string& text) {
    const std::size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) return {};
    std::string_view chunks = std::string_view(text).substr(end + 4);
    http::ChunkedDecoder decoder;
    std::string body;
    for (;;) {
        const auto step = decoder.step(chunks);
        chunks.remove_prefix(step.consumed);
        if (step.state == http::ChunkState::complete) return body;
        if (step.state != http::ChunkState::data) return {};
        body += step.data;
    }
}

// A span that was refused, and is there after a flush, leaves nothing to be made up for: also where it is the last.
TEST(ServeResponse, SpansThatAreRefusedAtFirst) {
    EngineOptions engine;
    engine.network.write_limit = 300'000;
    Served<TestHandler> served{write_in_place, {}, engine};
    for (std::size_t size = 290'000; size < 350'000; size += 5'000) {
        const std::string text = served.answers(get("/?span=64&size=" + std::to_string(size)));
        EXPECT_TRUE(same(whole_body(text), letters(size))) << size;
    }
    served.engine().until_empty();
    EXPECT_EQ(served.metric("ferrule_http_aborts_total"), 0);
}

Task<> send_status(http::Request& request, http::Response& response) {
    response.status(http::Status{static_cast<std::uint16_t>(number_in(request, "code"))});
    std::string body = letters(number_in(request, "size"));
    if (request.path() == "/shared") {
        response.send(ferrule::SharedBytes::own(std::move(body)));
    } else if (request.path() == "/written") {
        response.write(body);
    } else {
        response.send(body);
    }
    co_return;
}

// RFC 9110, section 15.3.6: behind 205 there is none, and it says so; 204 and 304 say nothing of a length.
TEST(ServeResponse, NoBodyBehindAStatusThatHasNone) {
    Served<TestHandler> served{send_status};
    for (const std::string_view path : {"/sent", "/shared", "/written"}) {
        for (const std::string_view size : {"10", "5000", "100000"}) {
            const std::string query = "&size=" + std::string(size);
            const std::string target = std::string(path) + "?code=";
            EXPECT_TRUE(same(
                served.answers(get(target + "205" + query) + head(target + "205" + query) +
                               get(target + "204" + query) + get(target + "304" + query) + get(target + "200&size=1")),
                times(2, response("205 Reset Content", "Content-Length: 0\r\n", "")) +
                    response("204 No Content", "", "") + response("304 Not Modified", "", "") +
                    response("200 OK", path == "/written" ? "Content-Length:          1\r\n" : "Content-Length: 1\r\n",
                             "a")))
                << target << query;
        }
    }
}

Task<> announce(http::Request& request, http::Response& response) {
    response.content_length(100);
    const std::size_t written = number_in(request, "written");
    if (written != 0) response.write(letters(written));
    co_return;
}

// A handler need not make the body that nobody gets.
TEST(ServeResponse, HeadHasTheLengthThatWasAnnounced) {
    Served<TestHandler> served{announce};
    for (const std::string_view written : {"0", "1", "40", "100"}) {
        const std::string target = "/?written=" + std::string(written);
        EXPECT_TRUE(
            same(served.answers(times(2, head(target))), times(2, response("200 OK", "Content-Length: 100\r\n", ""))))
            << target;
    }
    EXPECT_TRUE(same(served.answers(head("/?written=101")),
                     response("500 Internal Server Error", "Content-Length: 23\r\n", "")));
}

// ---- options ----

Task<> serve_and_tell(ferrule::Connection connection, const http::ServeOptions& options, std::string& misuse) {
    try {
        auto serving = http::serve(std::move(connection), site, options);
        co_await std::move(serving);
    } catch (const std::invalid_argument& error) {
        misuse = error.what();
    }
}

/// What serving a connection with these options throws; empty: it served it.
std::string misuse(const http::ServeOptions& options) {
    std::string said;
    Engine engine{[&](ferrule::Connection connection) { return serve_and_tell(std::move(connection), options, said); }};
    ClientSocket client = engine.connect();
    client.try_send(get("/"));
    client.shutdown_write();
    const auto rest = client.receive_rest();
    engine.until_empty();
    EXPECT_EQ(rest.bytes.empty(), !said.empty());
    return said;
}

http::ServeOptions with_server(std::string_view name) {
    http::ServeOptions options;
    options.server = name;
    return options;
}

TEST(ServeResponse, OptionsThatAreMisuse) {
    EXPECT_EQ(misuse({}), "");
    EXPECT_EQ(misuse({.pipeline_limit = 1}), "");
    EXPECT_EQ(misuse({.pipeline_limit = 0}), "ServeOptions::pipeline_limit is 0");
    EXPECT_NE(misuse({.limits = {.line_bytes = 65'536}}).find("line_bytes"), std::string::npos);
    EXPECT_NE(misuse({.limits = {.chunk_extension_bytes = 65'536}}).find("chunk_extension_bytes"), std::string::npos);
    EXPECT_NE(misuse({.limits = {.trailer_bytes = (16u << 20) + 1}}).find("trailer_bytes"), std::string::npos);
    const std::string longest = letters(http::ServeOptions::server_bytes_max);
    EXPECT_EQ(misuse(with_server(longest)), "");
    const std::string longer = longest + 'a';
    for (const std::string_view name : {std::string_view(longer), std::string_view("a\r\nSet-Cookie: b"),
                                        std::string_view("a\0b", 3), std::string_view("a\x7f")}) {
        EXPECT_EQ(misuse(with_server(name)), "ServeOptions::server is no value of a field, or too long");
    }
}

// The longest of all that may stand in front of a body, with the longest body that is copied behind it.
TEST(ServeResponse, TheLongestServerFieldLeavesRoom) {
    const std::string longest = letters(http::ServeOptions::server_bytes_max);
    Served served{Lines{{all}, {}, 4096}, with_server(longest)};
    EXPECT_TRUE(
        same(served.answers(get("/")),
             response("200 OK", "Server: " + longest + "\r\n" + Lines{}.lines({all}) + "Content-Length: 4096\r\n",
                      letters(4096))));
}

}  // namespace
