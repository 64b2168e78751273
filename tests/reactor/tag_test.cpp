#include <ferrule/reactor/tag.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>

namespace {

using ferrule::Tag;

TEST(Tag, LayoutIsKindGenerationSlot) {
    EXPECT_EQ((Tag{0, 0, 0}.encode()), 0u);
    EXPECT_EQ((Tag{0xab, 0x123456, 0x89abcdef}.encode()), 0xab123456'89abcdefu);
    EXPECT_EQ((Tag{0xff, 0xffffff, 0xffffffff}.encode()), ~std::uint64_t{0});
}

TEST(Tag, DecodesWhatItEncodes) {
    for (const std::uint8_t kind : {0, 1, 31, 255}) {
        for (const std::uint32_t generation : {0u, 1u, 0x7fffffu, 0xffffffu}) {
            for (const std::uint32_t slot : {0u, 1u, 0x80000000u, 0xffffffffu}) {
                const Tag decoded = Tag::decode(Tag{kind, generation, slot}.encode());
                EXPECT_EQ(decoded.kind, kind);
                EXPECT_EQ(decoded.generation, generation);
                EXPECT_EQ(decoded.slot, slot);
            }
        }
    }
}

TEST(Tag, Law4GenerationThatWrapsLeavesTheKindAlone) {
    const Tag wrapped = Tag::decode(Tag{7, Tag::generation_mask + 1, 3}.encode());
    EXPECT_EQ(wrapped.kind, 7);
    EXPECT_EQ(wrapped.generation, 0u);
    EXPECT_EQ(wrapped.slot, 3u);
}

}  // namespace
