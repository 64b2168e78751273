#include <ferrule/net/byte_sequence.hpp>

#include "support/client_socket.hpp"
#include "support/memory_source.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using ferrule::ByteSequence;
using ferrule::ReadResult;
using ferrule::Slice;
using ferrule_test::MemorySource;
using ferrule_test::pattern;

std::string text_of(const ByteSequence& sequence) {
    std::string text;
    for (const Slice slice : sequence) text += slice.text();
    return text;
}

std::vector<std::string> pieces_of(const ByteSequence& sequence) {
    std::vector<std::string> pieces;
    for (const Slice slice : sequence) pieces.emplace_back(slice.text());
    return pieces;
}

/// A text in three pieces, all of which are in memory that its test can look at.
struct Alphabet {
    MemorySource source{{"abcd", "efghij", "klm"}};
    ReadResult received = source.take_all();
    ByteSequence sequence{received, 13};
};

TEST(ByteSequence, shows_slices_in_order_and_parts_of_them) {
    Alphabet alphabet;
    EXPECT_EQ(pieces_of(alphabet.sequence), (std::vector<std::string>{"abcd", "efghij", "klm"}));
    EXPECT_EQ(pieces_of(alphabet.sequence.slice(2, 6)), (std::vector<std::string>{"cd", "efgh"}));
    EXPECT_EQ(pieces_of(alphabet.sequence.slice(4)), (std::vector<std::string>{"efghij", "klm"}));
    EXPECT_EQ(pieces_of(alphabet.sequence.slice(2, 6).slice(1, 2)), (std::vector<std::string>{"d", "e"}));
    EXPECT_EQ(pieces_of(alphabet.sequence.slice(13)), std::vector<std::string>{});
    EXPECT_EQ(pieces_of(alphabet.sequence.slice(99, 3)), std::vector<std::string>{});
    EXPECT_FALSE(alphabet.sequence.slice(13));
    EXPECT_EQ(alphabet.sequence.slice(10, 99).size(), 3u);
    EXPECT_EQ(alphabet.sequence[0], std::byte{'a'});
    EXPECT_EQ(alphabet.sequence[4], std::byte{'e'});
    EXPECT_EQ(alphabet.sequence[12], std::byte{'m'});
    EXPECT_EQ(pieces_of(ByteSequence{}), std::vector<std::string>{});
    EXPECT_TRUE(ByteSequence{}.contiguous().empty());
}

// Every part of it, in one piece: only what straddles is copied, and every view still shows what it showed.
TEST(ByteSequence, every_part_in_one_piece_copies_only_what_straddles) {
    const std::string text = "abcdefghijklm";
    for (std::size_t from = 0; from <= text.size(); ++from) {
        for (std::size_t size = 0; from + size <= text.size(); ++size) {
            Alphabet alphabet;
            const ByteSequence part = alphabet.sequence.slice(from, size);
            const Slice piece = part.contiguous();
            EXPECT_EQ(piece.text(), std::string_view{text}.substr(from, size));
            const bool straddles = size > 1 && ((from < 4 && from + size > 4) || (from < 10 && from + size > 10));
            EXPECT_EQ(alphabet.source.gathered(), straddles ? size : 0);
            EXPECT_EQ(piece.empty() || alphabet.source.in_place(piece), !straddles);
            EXPECT_EQ(text_of(alphabet.sequence), text);
            EXPECT_EQ(text_of(part), text.substr(from, size));
            alphabet.received.reset();
            EXPECT_EQ(alphabet.source.out(), 0u);
        }
    }
}

TEST(ByteSequence, one_piece_after_another_of_the_same_bytes) {
    const std::string text = "abcdefghijklm";
    for (std::size_t first = 0; first <= text.size(); ++first) {
        for (std::size_t second = 0; second <= text.size(); ++second) {
            Alphabet alphabet;
            EXPECT_EQ(alphabet.sequence.contiguous(first).text(), text.substr(0, first));
            EXPECT_EQ(alphabet.sequence.slice(second).contiguous().text(), text.substr(second));
            EXPECT_EQ(alphabet.sequence.contiguous().text(), text);
            EXPECT_EQ(text_of(alphabet.sequence), text);
        }
    }
    Alphabet alphabet;
    EXPECT_TRUE(alphabet.sequence.contiguous(14).empty());
}

TEST(ByteSequence, without_room_for_a_copy_nothing_changes) {
    Alphabet alphabet;
    alphabet.source.full = true;
    EXPECT_TRUE(alphabet.sequence.contiguous(5).empty());
    EXPECT_EQ(pieces_of(alphabet.sequence), (std::vector<std::string>{"abcd", "efghij", "klm"}));
    EXPECT_EQ(alphabet.sequence.contiguous(4).text(), "abcd");
}

// Against a search of the same bytes in one piece, for every way to part them.
TEST(ByteSequence, finds_bytes_and_texts_wherever_the_slices_part_them) {
    const std::string text = "aabaaabcaabaaab";
    const std::vector<std::string> needles = {"",     "a",      "b",  "c", "aab", "aaab",
                                              "aabc", "abcaab", "cb", "x", text,  text + "a"};
    for (unsigned parting = 0; parting < 1u << (text.size() - 1); parting += 7) {
        MemorySource source;
        std::size_t begun = 0;
        for (std::size_t at = 1; at <= text.size(); ++at) {
            if (at != text.size() && ((parting >> (at - 1)) & 1) == 0) continue;
            source.supply(std::string_view{text}.substr(begun, at - begun));
            begun = at;
        }
        ReadResult received = source.take_all();
        const ByteSequence sequence{received, text.size()};
        for (const std::string& needle : needles) {
            for (const std::size_t from :
                 {std::size_t{0}, std::size_t{1}, std::size_t{5}, text.size(), text.size() + 1}) {
                ASSERT_EQ(sequence.find(needle, from), text.find(needle, from))
                    << needle << ", " << from << ", " << parting;
                if (needle.size() != 1) continue;
                ASSERT_EQ(sequence.find(static_cast<std::byte>(needle[0]), from), text.find(needle, from));
            }
        }
    }
}

TEST(ByteSequence, copies_what_fits) {
    Alphabet alphabet;
    std::array<std::byte, 7> some{};
    EXPECT_EQ(alphabet.sequence.slice(2).copy_to(some), 7u);
    EXPECT_EQ((Slice{some.data(), 7}.text()), "cdefghi");
    std::array<std::byte, 20> more{};
    EXPECT_EQ(alphabet.sequence.copy_to(more), 13u);
    EXPECT_EQ((Slice{more.data(), 13}.text()), "abcdefghijklm");
    EXPECT_EQ(alphabet.sequence.copy_to({}), 0u);
}

}  // namespace
