#include "sim/byte_ring.hpp"

#include <gtest/gtest.h>

#include <string>

namespace ferrule {
namespace {

using sim::ByteRing;

std::string contents(const ByteRing& ring, std::size_t bytes) {
    std::string text(bytes, '\0');
    ring.copy(std::as_writable_bytes(std::span(text)));
    return text;
}

void append(ByteRing& ring, std::string_view text) {
    ring.append(std::as_bytes(std::span(text)));
}

TEST(ByteRing, KeepsTheOrderWhileItWrapsAndGrows) {
    ByteRing ring;
    std::string expected;
    std::uint64_t dropped = 0;
    for (unsigned step = 0; step < 5'000; ++step) {
        std::string piece((step * 37) % 501, '\0');
        for (std::size_t at = 0; at < piece.size(); ++at) piece[at] = static_cast<char>(step + at * 3);
        append(ring, piece);
        expected += piece;
        const std::size_t less = std::min(expected.size(), static_cast<std::size_t>((step * 53) % 499));
        ASSERT_EQ(contents(ring, less), expected.substr(0, less));
        ring.drop(less);
        expected.erase(0, less);
        dropped += less;
        ASSERT_EQ(ring.first(), dropped);
        ASSERT_EQ(ring.last(), dropped + expected.size());
    }
    EXPECT_EQ(contents(ring, expected.size()), expected);
}

TEST(ByteRing, ForgetsWhatIsTruncated) {
    ByteRing ring;
    append(ring, "hello world");
    ring.drop(2);
    ring.truncate(5);
    EXPECT_EQ(contents(ring, 3), "llo");
    append(ring, "!");
    EXPECT_EQ(contents(ring, 4), "llo!");
    ring.drop(4);
    EXPECT_EQ(ring.first(), ring.last());
}

TEST(ByteRing, AnEmptyOneStartsAgainAfterItsStoreIsGone) {
    ByteRing ring;
    const std::string large(100'000, 'x');
    for (int round = 0; round < 3; ++round) {
        append(ring, large);
        ring.drop(large.size());
        append(ring, "next");
        EXPECT_EQ(contents(ring, 4), "next");
        ring.drop(4);
    }
    EXPECT_EQ(ring.first(), 3 * (large.size() + 4));
}

}  // namespace
}  // namespace ferrule
