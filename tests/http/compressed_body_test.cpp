#include <ferrule/http/compressed_body.hpp>
#include <ferrule/http/json_writer.hpp>
#include <ferrule/http/router.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "http/decoded.hpp"
#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"
#include "support/counted_allocations.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace ferrule_test;
using ferrule::Task;
using http::CompressedBody;
using http::ContentCoding;
using http::Request;
using http::Response;

static_assert(http::InPlaceSink<Response> && http::InPlaceSink<CompressedBody>);

/// An answer, taken apart as a client does.
struct Answer {
    std::string head;  // with the blank line behind it
    std::string body;  // without its chunks
    bool whole = false;

    [[nodiscard]] bool has(std::string_view line) const {
        return head.find("\r\n" + std::string(line) + "\r\n") != std::string::npos;
    }
    [[nodiscard]] bool has_field(std::string_view name) const {
        return head.find("\r\n" + std::string(name) + ":") != std::string::npos;
    }
    /// The body as it was before it was compressed; empty when it is not whole.
    [[nodiscard]] std::string content() const {
        if (!whole) return {};
        for (const ContentCoding coding : {ContentCoding::gzip, ContentCoding::br}) {
            if (!has("Content-Encoding: " + std::string(name_of(coding)))) continue;
            const Decoded decoded = decode(coding, body);
            return decoded.whole ? decoded.text : std::string();
        }
        return body;
    }
};

Answer parse(const std::string& bytes) {
    Answer answer;
    const std::size_t end = bytes.find("\r\n\r\n");
    if (end == std::string::npos) return answer;
    answer.head = bytes.substr(0, end + 4);
    std::string_view rest = std::string_view(bytes).substr(end + 4);
    if (!answer.has("Transfer-Encoding: chunked")) {
        const std::size_t length = answer.head.find("\r\nContent-Length:");
        std::size_t bytes_of_body = rest.size();
        if (length != std::string::npos) {
            const std::size_t digits = answer.head.find_first_of("0123456789", length);
            std::from_chars(answer.head.data() + digits, answer.head.data() + answer.head.size(), bytes_of_body);
        }
        answer.body = rest;
        answer.whole = rest.size() == bytes_of_body;
        return answer;
    }
    for (;;) {
        std::size_t size = 0;
        const auto [digits, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size, 16);
        if (error != std::errc()) return answer;
        rest.remove_prefix(static_cast<std::size_t>(digits - rest.data()) + 2);
        if (rest.size() < size + 2) return answer;
        answer.body += rest.substr(0, size);
        rest.remove_prefix(size + 2);
        if (size != 0) continue;
        answer.whole = rest.empty();
        return answer;
    }
}

/// Words, which become smaller.
std::string words(std::size_t size) {
    std::string text;
    for (std::size_t number = 0; text.size() < size; ++number)
        text += "completion " + std::to_string(number * 31 % 97) + " ";
    text.resize(size);
    return text;
}

std::string_view type_of(Request& request) {
    return request.query_parameter("type").value_or("text/plain");
}

/// A body of `size`, in pieces of `piece`, flushed behind each `flush`th.
Task<> write_pieces(Request& request, Response& response) {
    const std::string text = words(number_in(request, "size"));
    const std::size_t piece = std::max<std::size_t>(number_in(request, "piece"), 1);
    const std::size_t flush_every = number_in(request, "flush");
    if (request.query_parameter("status"))
        response.status(http::Status{static_cast<std::uint16_t>(number_in(request, "status"))});
    CompressedBody body(request, response, type_of(request));
    std::size_t pieces = 0;
    for (std::size_t at = 0; at < text.size(); at += piece) {
        const std::string_view part = std::string_view(text).substr(at, piece);
        while (!body.write(part)) {
            const auto flushed = co_await body.flush();
            if (!flushed) co_return;
        }
        if (flush_every == 0 || ++pieces % flush_every != 0) continue;
        const auto flushed = co_await body.flush();
        if (!flushed) co_return;
    }
    const auto finished = co_await body.finish();
    EXPECT_TRUE(finished);
}
Task<> write_at_once(Request& request, Response& response) {
    const std::string text = words(number_in(request, "size"));
    CompressedBody body(request, response, type_of(request));
    const auto written = co_await body.write_all(text);
    EXPECT_TRUE(written);
    const auto finished = co_await body.finish();
    EXPECT_TRUE(finished);
}
void write_items(http::JsonWriter& json, std::size_t count) {
    json.begin_array();
    for (std::size_t number = 0; number < count; ++number) {
        json.begin_object();
        json.member("id", number);
        json.member("name", "an item of ferrule");
        json.end_object();
    }
    json.end_array();
}
std::string items(std::size_t count) {
    std::string text;
    http::StringSink sink(text);
    http::JsonWriter json(sink);
    write_items(json, count);
    EXPECT_TRUE(json.finish());
    return text;
}
void write_json_at_once(Request& request, Response& response) {
    CompressedBody body(request, response, "application/json");
    http::JsonWriter json(body);
    write_items(json, number_in(request, "count"));
    EXPECT_TRUE(json.finish());
    EXPECT_TRUE(body.try_finish());
}
void write_plain_json(Request& request, Response& response) {
    response.content_type("application/json");
    http::JsonWriter json(response);
    write_items(json, number_in(request, "count"));
    EXPECT_TRUE(json.finish());
}
Task<> leave(Request& request, Response& response) {
    CompressedBody body(request, response, "text/plain");
    body.write(words(number_in(request, "size")));
    if (number_in(request, "flush") != 0) {
        const auto flushed = co_await body.flush();
        EXPECT_TRUE(flushed);
    }
    if (number_in(request, "throw") != 0) throw std::runtime_error("as asked");
}

const http::Router& routes() {
    static const http::Router router = [] {
        http::Router made;
        made.get("/pieces", write_pieces).get("/at-once", write_at_once).get("/leave", leave);
        made.get("/json", write_json_at_once).get("/plain-json", write_plain_json);
        return made;
    }();
    return router;
}

struct Site {
    Task<> operator()(Request& request, Response& response) const { return routes()(request, response); }
};

class Compressed : public testing::Test {
protected:
    Answer ask(std::string_view target, std::string_view accept_encoding = "gzip, br",
               std::string_view method = "GET") {
        std::string request = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n";
        if (accept_encoding != "none") request.append("Accept-Encoding: ").append(accept_encoding).append("\r\n");
        // The server ends the connection: who aborts it may do so before its client could.
        ClientSocket client = served_.connect();
        client.send(request + "Connection: close\r\n\r\n");
        return parse(client.receive_rest().bytes);
    }
    Served<Site> served_{Site{}};
};

TEST_F(Compressed, BodiesOfEachSizeAndPiece) {
    for (const std::string_view coding : {"gzip", "br"}) {
        for (const std::size_t size : {1'024, 5'000, 32'768, 100'000, 1'000'000}) {
            for (const std::size_t piece : {100, 32'768}) {
                const Answer answer =
                    ask("/pieces?size=" + std::to_string(size) + "&piece=" + std::to_string(piece), coding);
                EXPECT_TRUE(answer.has("Content-Encoding: " + std::string(coding)));
                EXPECT_TRUE(answer.has("Vary: Accept-Encoding"));
                EXPECT_TRUE(answer.has("Content-Type: text/plain"));
                EXPECT_LT(answer.body.size(), size / 2);
                EXPECT_TRUE(same(answer.content(), words(size)));
            }
        }
        const Answer answer = ask("/at-once?size=3000000", coding);
        EXPECT_TRUE(answer.has("Content-Encoding: " + std::string(coding)));
        EXPECT_TRUE(same(answer.content(), words(3'000'000)));
    }
}

TEST_F(Compressed, SmallOnesWithTheirLength) {
    const Answer answer = ask("/json?count=100", "gzip, br");
    EXPECT_TRUE(answer.has("Content-Encoding: br"));
    EXPECT_TRUE(answer.has_field("Content-Length"));
    EXPECT_TRUE(same(answer.content(), items(100)));
}

TEST_F(Compressed, NeverWhatNobodyHasAskedFor) {
    for (const std::string_view accepted : {"none", "", "identity", "gzip;q=0", "deflate", "br;q=0.5, identity"}) {
        for (const std::string_view target : {"/pieces?size=5000&piece=1000", "/at-once?size=5000"}) {
            const Answer answer = ask(target, accepted);
            EXPECT_FALSE(answer.has_field("Content-Encoding")) << accepted;
            EXPECT_TRUE(answer.has("Vary: Accept-Encoding")) << accepted;
            EXPECT_TRUE(same(answer.body, words(5'000))) << accepted;
        }
    }
}

TEST_F(Compressed, NeverWhatIsTooSmall) {
    for (const std::size_t size : {0, 1, 1'023}) {
        const Answer answer = ask("/pieces?piece=100&size=" + std::to_string(size));
        EXPECT_FALSE(answer.has_field("Content-Encoding"));
        EXPECT_TRUE(answer.has("Vary: Accept-Encoding"));
        EXPECT_TRUE(answer.has("Content-Length: " + std::to_string(size)));
        EXPECT_TRUE(answer.whole && answer.body == words(size));
    }
    const Answer refused = ask("/pieces?piece=100&size=1", "gzip, identity;q=0");
    EXPECT_TRUE(refused.has("Content-Encoding: gzip")) << "it is not taken as it is";
    EXPECT_EQ(refused.content(), words(1));
}

TEST_F(Compressed, NeverWhatDoesNotBecomeSmaller) {
    const Answer answer = ask("/pieces?size=5000&piece=1000&type=image/png");
    EXPECT_FALSE(answer.has_field("Content-Encoding"));
    EXPECT_FALSE(answer.has_field("Vary"));
    EXPECT_TRUE(same(answer.body, words(5'000)));
}

TEST_F(Compressed, NeverWhereThereIsNoBodyOrAPartOfOne) {
    const Answer head = ask("/pieces?size=5000&piece=1000", "gzip", "HEAD");
    EXPECT_FALSE(head.has_field("Content-Encoding"));
    EXPECT_TRUE(head.has("Vary: Accept-Encoding"));
    EXPECT_EQ(head.body, "");
    for (const std::string_view status : {"204", "304"}) {
        const Answer answer = ask("/pieces?size=5000&piece=1000&status=" + std::string(status), "gzip");
        EXPECT_FALSE(answer.has_field("Content-Encoding")) << status;
        EXPECT_EQ(answer.body, "") << status;
    }
    const Answer part = ask("/pieces?size=5000&piece=1000&status=206", "gzip");
    EXPECT_FALSE(part.has_field("Content-Encoding"));
    EXPECT_TRUE(same(part.body, words(5'000)));
}

TEST_F(Compressed, FlushedInBetween) {
    for (const std::string_view coding : {"gzip", "br"}) {
        const Answer answer = ask("/pieces?size=20000&piece=50&flush=3", coding);
        EXPECT_TRUE(answer.has("Transfer-Encoding: chunked"));
        EXPECT_TRUE(same(answer.content(), words(20'000)));
    }
    const Answer small = ask("/pieces?size=10&piece=5&flush=1", "gzip");
    EXPECT_TRUE(small.has("Content-Encoding: gzip")) << "what follows a flush may be any number of bytes";
    EXPECT_EQ(small.content(), words(10));
}

TEST_F(Compressed, AbandonedWithoutItsEnd) {
    for (const std::string_view accepted : {"gzip", "br", "none"}) {
        for (const std::string_view size : {"10", "5000"}) {
            for (const std::string_view thrown : {"0", "1"}) {
                const std::string target = "/leave?size=" + std::string(size) + "&throw=" + std::string(thrown);
                const Answer nothing_left = ask(target, accepted);
                EXPECT_TRUE(nothing_left.head.starts_with("HTTP/1.1 500 ")) << target;
                EXPECT_FALSE(nothing_left.has_field("Content-Encoding")) << target;
                EXPECT_TRUE(nothing_left.whole) << target;
                EXPECT_FALSE(ask(target + "&flush=1", accepted).whole) << target;
            }
        }
    }
}

TEST_F(Compressed, RefusesMoreAtATimeThanItTakes) {
    Served<void (*)(Request&, Response&)> served{[](Request& request, Response& response) {
        CompressedBody body(request, response, "text/plain");
        const std::string text(CompressedBody::write_bytes_max + 1, 'x');
        EXPECT_THROW(body.write(text), std::length_error);
        EXPECT_TRUE(body.span(CompressedBody::write_bytes_max + 1).empty());
        EXPECT_TRUE(body.write(std::string_view(text).substr(1)));
        EXPECT_TRUE(body.try_finish());
        EXPECT_TRUE(body.try_finish()) << "it is over";
    }};
    for (const std::string_view accepted : {"gzip", "identity"}) {
        const Answer answer = parse(served.answers(get("/", "Accept-Encoding: " + std::string(accepted) + "\r\n")));
        EXPECT_EQ(answer.content(), std::string(CompressedBody::write_bytes_max, 'x')) << accepted;
    }
}

TEST_F(Compressed, AsItIsBeyondSoManyAtATime) {
    Served<void (*)(Request&, Response&)> served{[](Request& request, Response& response) {
        if (request.reactor().find_service<http::Compression>() == nullptr)
            request.reactor().add_service<http::Compression>(http::CompressionOptions{.streams_max = 0});
        CompressedBody body(request, response, "text/plain");
        EXPECT_EQ(body.coding(), ContentCoding::identity);
        body.write(words(5'000));
        EXPECT_TRUE(body.try_finish());
    }};
    EXPECT_TRUE(same(parse(served.answers(get("/", "Accept-Encoding: br\r\n"))).body, words(5'000)));
}

TEST_F(Compressed, JsonIntoTheResponseItself) {
    for (const std::size_t count : {0, 1, 25, 200}) {
        const Answer answer = ask("/plain-json?count=" + std::to_string(count));
        EXPECT_TRUE(answer.whole);
        EXPECT_TRUE(same(answer.body, items(count)));
    }
}

TEST_F(Compressed, AllocatesNothingForARequest) {
    const auto allocations_for = [&](std::string_view target, std::string_view accepted) {
        const std::string request = get(target, "Accept-Encoding: " + std::string(accepted) + "\r\n");
        ClientSocket client = served_.connect();
        const std::size_t answer = dated_size(served_.answers(request));
        const auto exchange = [&](int times) {
            for (int time = 0; time < times; ++time) {
                client.send(request);
                ASSERT_EQ(client.receive(answer).size(), answer);
            }
        };
        exchange(20);
        return allocations_of(served_.engine(), [&] { exchange(200); });
    };
    for (const std::string_view accepted : {"gzip", "br", "identity"}) {
        EXPECT_EQ(allocations_for("/json?count=100", accepted), 0u) << accepted;
        // Its handler makes a string of the words.
        EXPECT_GE(allocations_for("/pieces?size=5000&piece=5000", accepted), 200u) << "what is made is not counted";
    }
}

}  // namespace
