// The counting of request heads in the plaintext sample, in every way that they can be cut into pieces.
#define main plaintext_main
#include "../../playground/plaintext.cpp"
#undef main

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace {

struct Counted {
    std::size_t heads = 0;
    bool close = false;
    bool operator==(const Counted&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Counted& counted) {
    return out << counted.heads << " heads" << (counted.close ? ", then close" : "");
}

Counted count(const std::vector<std::string_view>& pieces) {
    HeadCounter counter;
    Counted counted;
    for (const std::string_view piece : pieces) counted.heads += counter.count(piece);
    counted.close = counter.close();
    return counted;
}

// In one piece, cut in two and in three at every place, and byte by byte.
void expect_in_any_pieces(std::string_view bytes, Counted expected) {
    EXPECT_EQ(count({bytes}), expected) << bytes;
    for (std::size_t first = 0; first <= bytes.size(); ++first) {
        EXPECT_EQ(count({bytes.substr(0, first), bytes.substr(first)}), expected) << bytes << " cut at " << first;
        for (std::size_t second = first; second <= bytes.size(); ++second) {
            const Counted counted =
                count({bytes.substr(0, first), bytes.substr(first, second - first), bytes.substr(second)});
            ASSERT_EQ(counted, expected) << bytes << " cut at " << first << " and " << second;
        }
    }
    std::vector<std::string_view> single;
    for (std::size_t index = 0; index < bytes.size(); ++index) single.push_back(bytes.substr(index, 1));
    EXPECT_EQ(count(single), expected) << bytes << " byte by byte";
}

TEST(Plaintext, CountsHeadsInAnyPieces) {
    expect_in_any_pieces("GET / HTTP/1.1\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nHost: example\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: bcd\r\n\r\n", {2, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /unfinished HTTP/1.1\r\nHost: b\r\n", {1, false});
    expect_in_any_pieces("", {0, false});
    expect_in_any_pieces("G\r\n\r\nG\r\n\r\nG\r\n\r\nG\r\n\r\nG\r\n\r\n", {5, false});
}

TEST(Plaintext, EmptyLinesBeforeAHeadDoNotCount) {
    expect_in_any_pieces("\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", {2, false});
    expect_in_any_pieces("\r\n\r\n\r\n", {0, false});
}

TEST(Plaintext, OnlyReturnAndFeedEndALine) {
    expect_in_any_pieces("GET / HTTP/1.1\n\nX: y\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\n\r\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nA: b\n\r\n", {0, false});
    expect_in_any_pieces("\rGET\r\n\r\n", {1, false});
}

TEST(Plaintext, FindsConnectionCloseInAnyPieces) {
    expect_in_any_pieces("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", {1, true});
    expect_in_any_pieces("GET / HTTP/1.1\r\ncOnNeCtIoN:CLOSE\r\n\r\n", {1, true});
    expect_in_any_pieces("G / HTTP/1.1\r\nConnection:close\r\n\r\n", {1, true});
    expect_in_any_pieces("GET / HTTP/1.1\r\nHost: a\r\nConnection: te, cclose\r\nX: y\r\n\r\n", {1, true});
}

TEST(Plaintext, WhatFollowsACloseIsNotCounted) {
    expect_in_any_pieces("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\nGET /3 HTTP/1.1\r\n\r\n",
                         {2, true});
}

TEST(Plaintext, OtherMentionsOfCloseDoNotClose) {
    expect_in_any_pieces("GET /connection:close HTTP/1.1\r\nHost: a\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nConnection: keep-alive\r\nHost: close\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nX-Connection: close\r\nHost: abcdefg\r\n\r\n", {1, false});
    expect_in_any_pieces("GET / HTTP/1.1\r\nConnections: close\r\nHost: abcdefg\r\n\r\n", {1, false});
    expect_in_any_pieces("Connection: close\r\nHost: abcdefghijklmnopqrs\r\n\r\n", {1, false});
}

TEST(Plaintext, RandomPiecesOfManyHeadsCountTheSame) {
    std::mt19937 random(20240607);
    for (int round = 0; round < 200; ++round) {
        std::string bytes;
        const std::size_t heads = 1 + random() % 40;
        for (std::size_t head = 0; head < heads; ++head) {
            bytes += "GET /" + std::string(random() % 30, 'p') + " HTTP/1.1\r\n";
            for (std::size_t line = random() % 4; line > 0; --line)
                bytes += "C: " + std::string(random() % 30, 'c') + "\r\n";
            bytes += "\r\n";
        }
        HeadCounter counter;
        std::size_t counted = 0;
        for (std::string_view rest = bytes; !rest.empty();) {
            const std::size_t piece = 1 + random() % 50;
            counted += counter.count(rest.substr(0, piece));
            rest.remove_prefix(std::min(piece, rest.size()));
        }
        EXPECT_EQ(counted, heads);
        EXPECT_FALSE(counter.close());
    }
}

TEST(Plaintext, TheCounterIsSmall) {
    EXPECT_LE(sizeof(HeadCounter), 3u);
}

}  // namespace
