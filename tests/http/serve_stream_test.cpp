// Over what is no connection, and how a handler gets at the stream.
#include "http/requests.hpp"
#include "http/served.hpp"
#include "http/site.hpp"
#include "http/tunnel.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace ferrule_test;
using ferrule::Connection;
using ferrule::Task;
using TestHandler = Task<> (*)(http::Request&, http::Response&);

using TunnelServed = Served<TestHandler, Tunnel>;

TEST(ServeTunnel, RequestsAlone) {
    TunnelServed served{site};
    EXPECT_TRUE(same(served.answers(get("/")), ok("ok")));
    EXPECT_TRUE(same(served.answers(get("/", "Connection: close\r\n") + get("/")), ok("ok", "Connection: close\r\n")));
    EXPECT_TRUE(same(served.answers("HEAD /large?size=10000 HTTP/1.1\r\nHost: h\r\n\r\n"),
                     response("200 OK", "Content-Length: 10000\r\n", "")));
    EXPECT_TRUE(same(served.answers("GET / HTTP/1.1\r\n\r\n").substr(0, 12), "HTTP/1.1 400"));
    ClientSocket client = served.connect();
    for (unsigned request = 0; request < 3; ++request) {
        client.send(get("/"));
        EXPECT_TRUE(same(without_dates(client.receive(dated_size(ok("ok")))), ok("ok")));
    }
    served.engine().eventually("idle", [&] { return served.engine().network().census().reading == 1; });
}

TEST(ServeTunnel, BodiesOfBothKinds) {
    TunnelServed served{site};
    const std::string request = chunked("/echo?limit=100", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    EXPECT_TRUE(same(served.answers(request + get("/")), ok("abcde") + ok("ok")));
    EXPECT_TRUE(same(served.answers(post("/count", "xyz") + get("/")), ok("3 bytes, sum 363") + ok("ok")));
    EXPECT_TRUE(same(served.answers(post("/return", letters(300'000)) + get("/")), ok(letters(300'000)) + ok("ok")));
    EXPECT_TRUE(same(served.answers(get("/stream?size=9&piece=4&flush=1")),
                     response("200 OK", "Transfer-Encoding: chunked\r\n",
                              "00000004\r\nabcd\r\n00000004\r\nefgh\r\n00000001\r\ni\r\n0\r\n\r\n")));
    // Piece by piece: the server waits within the head, within each chunk, and at the end.
    ClientSocket client = served.connect();
    std::uint64_t received = served.engine().counters().bytes_received.value();
    for (const char byte : request) {
        client.send(std::string_view(&byte, 1));
        served.until_received(++received);
    }
    EXPECT_TRUE(same(without_dates(client.receive(dated_size(ok("abcde")))), ok("abcde")));
}

// It cannot take them without a copy, and has less room than they need.
TEST(ServeTunnel, SharedBytes) {
    EngineOptions engine;
    engine.network.write_limit = 20'000;
    TunnelServed served{shared_page, {}, engine};
    for (const std::size_t size : {10, 5'000, 500'000}) {
        EXPECT_TRUE(same(served.answers(get("/?size=" + std::to_string(size)) + get("/?size=3")),
                         ok(letters(size)) + ok("abc")));
    }
}

TEST(ServeTunnel, RequestsThatAreThereTogetherAreAnsweredByOneSend) {
    TunnelServed served{site};
    ClientSocket client = served.connect();
    const std::string wanted = times(16, ok("a") + ok("b"));
    for (unsigned round = 0; round < 3; ++round) {
        client.send(times(16, get("/path/a") + get("/path/b")));
        EXPECT_TRUE(same(without_dates(client.receive(dated_size(wanted))), wanted));
    }
    client.close();
    served.engine().until_empty();
    EXPECT_EQ(served.engine().counters().sends.value(), 3u);
}

// A response that does not come to its end: the stream cannot be aborted, so it ends where the bytes do.
TEST(ServeTunnel, ResponsesWithoutAnEnd) {
    TunnelServed served{site};
    ClientSocket client = served.connect();
    client.send(get("/throw-late") + get("/"));
    const ClientSocket::Rest rest = client.receive_rest();
    EXPECT_EQ(rest.error, 0);
    EXPECT_TRUE(
        same(without_dates(rest.bytes), response("200 OK", "Transfer-Encoding: chunked\r\n", "00000004\r\npart\r\n")));
    EXPECT_EQ(served.engine().faults(), 1u);
}

TEST(ServeTunnel, IsTurnedOverToAnotherProtocol) {
    TunnelServed served{shout<Tunnel>};
    const std::string upgrade = get("/", "Connection: upgrade\r\nUpgrade: shout\r\n");
    const std::string switched =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\nDate: now\r\nX-Said: yes\r\n\r\n";
    EXPECT_TRUE(same(served.answers(get("/") + upgrade + "behind"), ok("not upgraded") + switched + "behind!/"));
    ClientSocket client = served.connect();
    client.send(upgrade);
    EXPECT_TRUE(same(without_dates(client.receive(dated_size(switched) + 1)), switched + "!"));
    client.send("later");
    EXPECT_EQ(client.receive(6), "later!");
    client.shutdown_write();
    EXPECT_EQ(client.receive_rest(), (ClientSocket::Rest{"/", 0}));
    served.engine().until_empty();
    EXPECT_EQ(served.metric("ferrule_http_upgrades_total"), 2);
    EXPECT_EQ(served.engine().faults(), 0u);
}

// ---- the stream in a handler ----

template <class Stream>
Task<> ask_for_stream(http::Request& request, http::Response& response) {
    try {
        if (request.path() == "/upgrade") {
            Stream stream = response.upgrade<Stream>("any");
            stream.close();
            co_return;
        }
        response.send(std::to_string(request.stream<Stream>().unsent()));
    } catch (const std::logic_error&) {
        response.send("another");
    }
}

TEST(ServeStream, IsOfTheTypeThatIsServed) {
    const std::string upgrade = get("/upgrade", "Connection: upgrade\r\nUpgrade: any\r\n");
    TunnelServed tunnel{ask_for_stream<Tunnel>};
    EXPECT_TRUE(same(tunnel.answers(get("/")), ok("0")));
    TunnelServed tunnel_for_connection{ask_for_stream<Connection>};
    EXPECT_TRUE(same(tunnel_for_connection.answers(get("/") + upgrade), ok("another") + ok("another")));
    Served<TestHandler> connection{ask_for_stream<Connection>};
    EXPECT_TRUE(same(connection.answers(get("/")), ok("0")));
    Served<TestHandler> connection_for_tunnel{ask_for_stream<Tunnel>};
    EXPECT_TRUE(same(connection_for_tunnel.answers(get("/") + upgrade), ok("another") + ok("another")));
}

Task<> tell_address(http::Request& request, http::Response& response) {
    co_await ferrule::yield_now();
    const auto address = request.stream<Connection>().peer_address();
    response.send(address ? address->to_string() : "none");
}

TEST(ServeStream, TellsTheAddressOfTheClient) {
    Served<TestHandler> served{tell_address};
    for (unsigned number = 0; number < 2; ++number) {
        ClientSocket client = served.connect();
        const std::string wanted = ok(ferrule::local_address(ferrule::linux_kernel(), client.number())->to_string());
        client.send(times(2, get("/")));
        EXPECT_TRUE(same(without_dates(client.receive(2 * dated_size(wanted))), times(2, wanted)));
    }
}

}  // namespace
