#include "http/vector_scan.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule::http;

using Find = const char* (*)(const char*, const char*, const char*);

struct Twins {
    const char* name;
    Find vector;
    Find portable;
    CharacterClass wanted;
};
constexpr Twins all_twins[] = {
    {"token", VectorScan::token_end, PortableScan::token_end, token_character},
    {"value", VectorScan::value_end, PortableScan::value_end, value_character},
    {"target", VectorScan::target_end, PortableScan::target_end, target_character},
    {"plain host", VectorScan::plain_host_end, PortableScan::plain_host_end, plain_host_character},
};

// Where both stop, counted from the beginning; the bytes are in memory of exactly their size, so that AddressSanitizer
// sees one that is read before or behind it.
void expect_the_same(const Twins& twins, const std::vector<char>& bytes, std::size_t floor, std::size_t at) {
    const char* const begin = bytes.data();
    const char* const end = begin + bytes.size();
    ASSERT_EQ(twins.vector(begin + floor, begin + at, end) - begin,
              twins.portable(begin + floor, begin + at, end) - begin)
        << twins.name << " of " << bytes.size() << " bytes from " << at;
}

TEST(VectorScan, StopsWhereThePortableOneStopsForEveryByteAtEveryPlace) {
    for (const Twins& twins : all_twins) {
        for (std::size_t size = 0; size <= 50; ++size) {
            std::vector<char> bytes(size, 'a');
            for (std::size_t at = 0; at <= size; ++at) expect_the_same(twins, bytes, 0, at);
            for (std::size_t stop = 0; stop < size; ++stop) {
                for (unsigned byte = 0; byte < 256; ++byte) {
                    bytes[stop] = static_cast<char>(byte);
                    expect_the_same(twins, bytes, 0, 0);
                }
                // Bytes that were passed do not stop it, though they are read again.
                bytes[stop] = '\n';
                for (std::size_t at = 0; at <= size; ++at) expect_the_same(twins, bytes, 0, at);
                bytes[stop] = 'a';
            }
        }
    }
}

TEST(VectorScan, FindsTheSameTextsToBeAllValueCharacters) {
    for (std::size_t size = 0; size <= 50; ++size) {
        std::vector<char> bytes(size, 'a');
        const std::string_view text(bytes.data(), size);
        EXPECT_TRUE(VectorScan::are_value_characters(text)) << size;
        for (std::size_t place = 0; place < size; ++place) {
            for (unsigned byte = 0; byte < 256; ++byte) {
                bytes[place] = static_cast<char>(byte);
                ASSERT_EQ(VectorScan::are_value_characters(text), is(value_character, bytes[place]))
                    << byte << " at " << place << " of " << size;
            }
            bytes[place] = 'a';
        }
    }
}

TEST(VectorScan, StopsWhereThePortableOneStopsInRandomBytes) {
    std::mt19937_64 random(9112);
    for (unsigned round = 0; round < 20'000; ++round) {
        for (const Twins& twins : all_twins) {
            std::vector<char> bytes(random() % 200);
            // Mostly bytes of the class, or it would always stop at once.
            const std::uint64_t odds = 1 + random() % 64;
            for (char& byte : bytes) {
                do byte = static_cast<char>(random());
                while (!is(twins.wanted, byte) && random() % odds != 0);
            }
            const std::size_t at = random() % (bytes.size() + 1);
            expect_the_same(twins, bytes, random() % (at + 1), at);
        }
    }
}

}  // namespace
