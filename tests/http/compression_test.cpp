// Counts what the global operator new is asked for: this program replaces it.
#include <ferrule/http/compression.hpp>
#include <ferrule/http/json_writer.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "http/decoded.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {
std::atomic<std::uint64_t> allocations{0};
}  // namespace

// Not inlined: GCC would take the pair of a caller's new and this free for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    if (void* memory = std::malloc(bytes != 0 ? bytes : 1)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    allocations.fetch_add(1, std::memory_order_relaxed);
    return std::malloc(bytes != 0 ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

using namespace ferrule;
using namespace ferrule::http;
using namespace ferrule_test;
using enum ContentCoding;
using testing::HasSubstr;
using testing::ThrowsMessage;

// ---- What is compressed ----

class Sequence {
public:
    std::uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

private:
    std::uint64_t state_ = 0x9e37'79b9'7f4a'7c15;
};

std::string words(std::size_t size) {
    static constexpr std::array<std::string_view, 8> some{"ring ",    "ferrule ", "completion ", "slab ",
                                                          "reactor ", "lease ",   "\n",          "of the "};
    Sequence sequence;
    std::string text;
    while (text.size() < size) text += some[sequence.next() % some.size()];
    text.resize(size);
    return text;
}
std::string noise(std::size_t size) {
    Sequence sequence;
    std::string text(size, '\0');
    for (char& character : text) character = static_cast<char>(sequence.next() >> 32);
    return text;
}

/// Gives pieces of one size, and refuses now and then, without a rhythm that its caller could fall into.
class PiecesSink {
public:
    explicit PiecesSink(std::size_t more, std::size_t refuse_every = 0) : more_(more), refuse_every_(refuse_every) {}

    std::span<std::byte> span(std::size_t minimum) {
        if (refuse_every_ != 0 && chance_.next() % refuse_every_ == 0) return {};
        memory_ = std::vector<std::byte>(minimum + more_);
        return memory_;
    }
    void advance(std::size_t bytes) {
        ASSERT_LE(bytes, memory_.size());
        text.append(reinterpret_cast<const char*>(memory_.data()), bytes);
    }

    std::string text;

private:
    std::size_t more_;
    std::size_t refuse_every_;
    Sequence chance_;
    std::vector<std::byte> memory_;
};

std::string packed(Compression& compression, ContentCoding coding, std::string_view text) {
    std::string result;
    StringSink sink(result);
    auto compressor = compression.begin(coding);
    EXPECT_TRUE(compressor);
    EXPECT_EQ(compressor->write(text, sink), text.size());
    EXPECT_TRUE(compressor->finish(sink));
    return result;
}

class Codings : public testing::TestWithParam<ContentCoding> {};
INSTANTIATE_TEST_SUITE_P(Compressor, Codings, testing::Values(gzip, br),
                         [](const auto& one) { return std::string(name_of(one.param)); });

TEST_P(Codings, CompressWhatADecoderReads) {
    Compression compression;
    for (const std::size_t size : {0, 1, 2, 100, 4'096, 32'767, 32'768, 32'769, 65'536, 100'000, 1'000'000}) {
        for (const std::string& text : {words(size), noise(size), std::string(size, 'x')}) {
            const std::string bytes = packed(compression, GetParam(), text);
            const Decoded decoded = decode(GetParam(), bytes);
            ASSERT_TRUE(decoded.whole);
            ASSERT_TRUE(decoded.text == text) << size;
        }
        if (size >= 1000) {
            EXPECT_LT(packed(compression, GetParam(), words(size)).size(), size / 2);
        }
    }
    EXPECT_EQ(compression.streams(), 0u);
}

TEST_P(Codings, CompressAtEachLevel) {
    const std::string text = words(70'000);
    for (int level = 0; level <= 11; ++level) {
        Compression compression(
            {.gzip_level = std::clamp(level, 1, 9), .br_quality = level, .br_window_bits = 10 + level});
        const Decoded decoded = decode(GetParam(), packed(compression, GetParam(), text));
        EXPECT_TRUE(decoded.whole) << level;
        EXPECT_EQ(decoded.text.size(), text.size()) << level;
        EXPECT_TRUE(decoded.text == text) << level;
    }
}

TEST_P(Codings, TakeBytesInPartsOfAnySize) {
    Compression compression;
    const std::string text = words(200'000);
    for (const std::size_t part : {1, 7, 1'000, 32'767, 32'768, 40'000, 150'000}) {
        PiecesSink sink(part % 3 * 1000);
        auto compressor = compression.begin(GetParam());
        for (std::size_t at = 0; at < text.size(); at += part) {
            const std::string_view one = std::string_view(text).substr(at, part);
            ASSERT_EQ(compressor->write(one, sink), one.size());
        }
        ASSERT_TRUE(compressor->finish(sink));
        const Decoded decoded = decode(GetParam(), sink.text);
        ASSERT_TRUE(decoded.whole && decoded.text == text) << part;
    }
}

TEST_P(Codings, TakeBytesInPlace) {
    Compression compression;
    const std::string text = words(100'000);
    PiecesSink sink(0);
    auto compressor = compression.begin(GetParam());
    for (std::size_t at = 0; at < text.size();) {
        const std::span<std::byte> room = compressor->span();
        const std::size_t count = std::min({room.size(), text.size() - at, std::size_t{10'001}});
        std::copy_n(reinterpret_cast<const std::byte*>(text.data()) + at, count, room.begin());
        compressor->advance(count);
        at += count;
        if (compressor->span().empty()) {
            ASSERT_TRUE(compressor->compress(sink));
            ASSERT_TRUE(compressor->gathered().empty());
        }
    }
    ASSERT_TRUE(compressor->finish(sink));
    EXPECT_TRUE(decode(GetParam(), sink.text).text == text);
}

TEST_P(Codings, GoOnWhereTheSinkHasRefused) {
    Compression compression;
    const std::string text = words(50'000) + noise(50'000) + words(50'000);
    for (const std::size_t refuse_every : {2, 3, 7, 50}) {
        PiecesSink sink(refuse_every % 2 * 500, refuse_every);
        auto compressor = compression.begin(GetParam());
        std::size_t refused = 0;
        for (std::size_t at = 0; at < text.size();) {
            // Of sizes that are gathered, and of sizes that are not.
            const std::string_view one = std::string_view(text).substr(at, at % 2 == 0 ? 60'001 : 9'999);
            const std::size_t taken = compressor->write(one, sink);
            refused += taken < one.size();
            at += taken;
            if (at / 20'000 % 2 == 1) {
                while (!compressor->flush(sink)) ++refused;
            }
        }
        while (!compressor->finish(sink)) ++refused;
        ASSERT_GT(refused, 0u);
        const Decoded decoded = decode(GetParam(), sink.text);
        ASSERT_TRUE(decoded.whole && decoded.text == text) << refuse_every;
    }
}

// Of what is between a refused flush and the call that completes it nothing may be lost, nor come too early.
TEST_P(Codings, TakeMoreBeforeARefusedFlushIsComplete) {
    Compression compression;
    const std::string text = noise(3'000);
    PiecesSink sink(0, 3);
    auto compressor = compression.begin(GetParam());
    std::string expected;
    for (int round = 0; round < 50; ++round) {
        expected += text.substr(0, compressor->write(text, sink));
        static_cast<void>(compressor->flush(sink));
    }
    while (!compressor->finish(sink)) {
    }
    const Decoded decoded = decode(GetParam(), sink.text);
    EXPECT_TRUE(decoded.whole && decoded.text == expected);
}

TEST_P(Codings, FlushWhatIsWrittenSoFar) {
    Compression compression;
    for (const std::size_t more : {0, 1, 100, 10'000}) {
        PiecesSink sink(more);
        auto compressor = compression.begin(GetParam());
        std::string expected;
        for (int event = 0; event < 20; ++event) {
            const std::string text =
                "data: " + std::to_string(event) + noise(static_cast<std::size_t>(event) * 13) + "\n\n";
            compressor->write(text, sink);
            expected += text;
            ASSERT_TRUE(compressor->flush(sink));
            ASSERT_EQ(decode(GetParam(), sink.text).text, expected);
        }
        ASSERT_TRUE(compressor->finish(sink));
        const Decoded decoded = decode(GetParam(), sink.text);
        ASSERT_TRUE(decoded.whole && decoded.text == expected);
    }
}

TEST_P(Codings, AllocateNothingInASteadyState) {
    Compression compression;
    std::array<std::byte, 4'096> memory;
    struct FixedSink {
        std::array<std::byte, 4'096>* memory;
        std::size_t made = 0;
        std::span<std::byte> span(std::size_t) { return *memory; }
        void advance(std::size_t bytes) { made += bytes; }
    };
    const auto one = [&](std::string_view text) {
        FixedSink sink{&memory};
        auto first = compression.begin(GetParam());
        auto second = compression.begin(GetParam());
        first->write(text, sink);
        second->write(text.substr(0, text.size() / 2), sink);
        static_cast<void>(first->flush(sink));
        first->finish(sink);
        second->finish(sink);
        return sink.made;
    };
    const std::array<std::string, 3> texts{words(300), words(5'000), words(150'000)};
    for (const std::string& text : texts) one(text);
    const std::uint64_t before = allocations;
    std::size_t made = 0;
    for (int round = 0; round < 20; ++round) {
        for (const std::string& text : texts) made += one(text);
    }
    EXPECT_EQ(allocations - before, 0u);
    EXPECT_GT(made, 0u);
}

TEST_P(Codings, RefuseWhatComesBehindTheEnd) {
    Compression compression;
    std::string text;
    StringSink sink(text);
    auto compressor = compression.begin(GetParam());
    compressor->write("text", sink);
    EXPECT_TRUE(compressor->finish(sink));
    const std::string whole = text;
    EXPECT_TRUE(compressor->finish(sink)) << "it is over already";
    EXPECT_EQ(text, whole);
    compressor->write("more", sink);
    EXPECT_THROW(compressor->finish(sink), std::logic_error);
    EXPECT_THROW(static_cast<void>(compressor->flush(sink)), std::logic_error);
    EXPECT_EQ(text, whole);
}

TEST_P(Codings, BeginAnewBehindAStreamThatWasGivenUp) {
    Compression compression;
    const std::string text = words(40'000);
    PiecesSink sink(0, 2);
    for (int round = 0; round < 3; ++round) {
        auto compressor = compression.begin(GetParam());
        compressor->write(noise(100'000), sink);
        static_cast<void>(compressor->flush(sink));
    }
    const Decoded decoded = decode(GetParam(), packed(compression, GetParam(), text));
    EXPECT_TRUE(decoded.whole && decoded.text == text);
}

TEST(Compressor, RefusesToCountMoreThanItHasRoomFor) {
    Compression compression;
    auto compressor = compression.begin(gzip);
    EXPECT_EQ(compressor->span().size(), Compressor::gathered_bytes_max);
    compressor->advance(Compressor::gathered_bytes_max - 1);
    EXPECT_EQ(compressor->span().size(), 1u);
    EXPECT_THROW(compressor->advance(2), std::logic_error);
}

TEST(Compressor, GivesItsCoderBackOnceWhenItIsMoved) {
    Compression compression;
    {
        auto first = compression.begin(gzip);
        Compressor second = std::move(*first);
        first.reset();
        EXPECT_EQ(compression.streams(), 1u);
        auto third = compression.begin(br);
        *third = std::move(second);
        EXPECT_EQ(compression.streams(), 2u);
    }
    EXPECT_EQ(compression.streams(), 0u);
}

TEST(Compression, BoundsItsStreams) {
    Compression compression({.streams_max = 2});
    auto first = compression.begin(gzip);
    {
        auto second = compression.begin(br);
        EXPECT_TRUE(second);
        EXPECT_FALSE(compression.begin(gzip));
    }
    EXPECT_TRUE(compression.begin(gzip));
}

TEST(Compression, OffersWhatItsOptionsSay) {
    using testing::ElementsAre;
    EXPECT_THAT(Compression().offered(), ElementsAre(br, gzip));
    EXPECT_THAT(Compression({.br = false}).offered(), ElementsAre(gzip));
    Compression none({.gzip = false, .br = false});
    EXPECT_TRUE(none.offered().empty());
    EXPECT_FALSE(none.begin(gzip));
    EXPECT_FALSE(none.begin(identity));
}

TEST(Compression, RefusesOptionsOutOfTheirRange) {
    const auto making = [](CompressionOptions options) { return [options] { Compression compression(options); }; };
    EXPECT_THAT(making({.gzip_level = 0}),
                ThrowsMessage<std::invalid_argument>(HasSubstr("gzip_level: 0 is not from 1 to 9")));
    EXPECT_THAT(making({.gzip_level = 10}), ThrowsMessage<std::invalid_argument>(HasSubstr("gzip_level")));
    EXPECT_THAT(making({.br_quality = -1}), ThrowsMessage<std::invalid_argument>(HasSubstr("br_quality")));
    EXPECT_THAT(making({.br_quality = 12}), ThrowsMessage<std::invalid_argument>(HasSubstr("br_quality")));
    EXPECT_THAT(making({.br_window_bits = 9}), ThrowsMessage<std::invalid_argument>(HasSubstr("br_window_bits")));
    EXPECT_THAT(making({.br_window_bits = 25}), ThrowsMessage<std::invalid_argument>(HasSubstr("br_window_bits")));
}

TEST(Compression, IsAServiceOfItsReactor) {
    Reactor with_options;
    with_options.add_service<Compression>(CompressionOptions{.br = false});
    EXPECT_EQ(Compression::of(with_options).offered().size(), 1u);
    Reactor without;
    Compression& made = Compression::of(without);
    EXPECT_EQ(made.offered().size(), 2u);
    EXPECT_EQ(&Compression::of(without), &made);
}

}  // namespace
