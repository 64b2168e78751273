#include "admin/request_head.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace {

using namespace ferrule;

unsigned status_of(std::string_view text) {
    const auto request = parse_request_head(text);
    return request ? 200 : request.error().status;
}

TEST(RequestHead, IsReadWithPathQueryAndHost) {
    const auto request =
        parse_request_head("GET /metrics?name=x&y HTTP/1.1\r\nHost: 127.0.0.1:9464\r\nAccept: */*\r\n\r\n");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->path, "/metrics");
    EXPECT_EQ(request->query, "name=x&y");
    EXPECT_EQ(request->host, "127.0.0.1:9464");
    EXPECT_FALSE(request->head_only);
    EXPECT_TRUE(request->keep_alive);
}

TEST(RequestHead, TellsWhetherTheConnectionIsKept) {
    EXPECT_TRUE(parse_request_head("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")->head_only);
    EXPECT_FALSE(parse_request_head("GET / HTTP/1.1\r\nHost: x\r\nconnection: Close\r\n\r\n")->keep_alive);
    EXPECT_FALSE(parse_request_head("GET / HTTP/1.1\r\nHost: x\r\nConnection: te, close\r\n\r\n")->keep_alive);
    EXPECT_TRUE(parse_request_head("GET / HTTP/1.1\r\nHost: x\r\nConnection: closed\r\n\r\n")->keep_alive);
    EXPECT_FALSE(parse_request_head("GET / HTTP/1.0\r\n\r\n")->keep_alive);
    EXPECT_FALSE(parse_request_head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")->keep_alive);
}

TEST(RequestHead, RefusesWhatIsNotExactlyOne) {
    const std::string ok = "Host: x\r\n\r\n";
    for (const std::string& text :
         std::initializer_list<std::string>{"",
                                            "\r\n\r\n",
                                            "GET\r\n" + ok,
                                            "GET /\r\n" + ok,
                                            "GET  / HTTP/1.1\r\n" + ok,
                                            "GET / HTTP/1.1 \r\n" + ok,
                                            " GET / HTTP/1.1\r\n" + ok,
                                            "G@T / HTTP/1.1\r\n" + ok,
                                            "GET x HTTP/1.1\r\n" + ok,
                                            "GET http://x/ HTTP/1.1\r\n" + ok,
                                            "GET * HTTP/1.1\r\n" + ok,
                                            "GET / HTTPS/1\r\n" + ok,
                                            "GET / http/1.1\r\n" + ok,
                                            "GET /\x7f HTTP/1.1\r\n" + ok,
                                            "GET /\xc3\xa4 HTTP/1.1\r\n" + ok,
                                            "GET /\tx HTTP/1.1\r\n" + ok,
                                            std::string("GET /\0 HTTP/1.1\r\n", 17) + ok,
                                            "GET / HTTP/1.1\n" + ok,
                                            "GET / HTTP/1.1\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 0\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                                            "GET / HTTP/1.1\r\nHost: x\r\n",
                                            "GET / HTTP/1.1"}) {
        EXPECT_EQ(status_of(text), 400u) << text;
    }
    EXPECT_EQ(status_of("GET / HTTP/2.0\r\n" + ok), 505u);
    EXPECT_EQ(status_of("GET / HTTP/1.2\r\n" + ok), 505u);
    for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get", "PRI"})
        EXPECT_EQ(status_of(std::string(method) + " / HTTP/1.1\r\n" + ok), 405u) << method;
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 200u);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB: \xc3\xa4\r\n\r\n"), 200u);
}

// Each prefix of a head, and each head with one byte changed, is read or refused, and nothing else.
TEST(RequestHead, SurvivesEveryPrefixAndEveryChangedByte) {
    const std::string head = "GET /metrics HTTP/1.1\r\nHost: [::1]:9464\r\nConnection: close\r\n\r\n";
    for (std::size_t size = 0; size < head.size(); ++size)
        EXPECT_EQ(status_of(std::string_view(head).substr(0, size)), 400u) << size;
    for (std::size_t place = 0; place < head.size(); ++place) {
        for (int byte = 0; byte < 256; ++byte) {
            std::string changed = head;
            changed[place] = static_cast<char>(byte);
            const unsigned status = status_of(changed);
            EXPECT_TRUE(status == 200 || status == 400 || status == 405 || status == 505) << status;
        }
    }
}

TEST(RequestHead, TellsAddressesFromNames) {
    for (const char* host :
         {"", "localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9464", "[::1]", "[::1]:9464", "10.1.2.3:80"})
        EXPECT_TRUE(names_an_address(host)) << host;
    for (const char* host : {"evil.example", "evil.example:9464", "127.0.0.1.evil.example", "*", ":80", "unix:/x",
                             "[::1", "[fe80::1%lo]", "localhost.evil.example", "127.1"})
        EXPECT_FALSE(names_an_address(host)) << host;
}

}  // namespace
