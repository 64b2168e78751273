#include <ferrule/http/chunked_decoder.hpp>

#include "http/parsing.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule_test;
using http::ChunkState;
using http::HeadLimits;
using http::Refusal;

struct Decoded {
    ChunkState state = ChunkState::more;
    Refusal refusal = Refusal::none;
    std::string body;
    std::string trailers;
    std::size_t consumed = 0;

    friend bool operator==(const Decoded&, const Decoded&) = default;
};

std::ostream& operator<<(std::ostream& stream, const Decoded& decoded) {
    return stream << "state " << static_cast<int>(decoded.state) << ", refusal " << name_of(decoded.refusal)
                  << ", body \"" << shown(decoded.body) << "\", trailers \"" << shown(decoded.trailers)
                  << "\", consumed " << decoded.consumed;
}

// The text in pieces of these sizes, the rest at last; each in memory of exactly its size.
Decoded decoded(std::string_view text, const std::vector<std::size_t>& pieces, const HeadLimits& limits = {},
                std::size_t room = 256) {
    http::ChunkedDecoder decoder(limits);
    Decoded result;
    std::string trailers(room, '?');
    std::size_t begin = 0;
    for (std::size_t index = 0; index <= pieces.size(); ++index) {
        const std::size_t size = index < pieces.size() ? pieces[index] : text.size() - begin;
        const std::string_view piece = text.substr(begin, size);
        const std::vector<char> copy(piece.begin(), piece.end());
        std::string_view bytes(copy.data(), copy.size());
        for (;;) {
            const auto step = decoder.step(bytes, trailers);
            result.state = step.state;
            result.consumed += step.consumed;
            bytes.remove_prefix(step.consumed);
            if (step.state != ChunkState::data) break;
            EXPECT_FALSE(step.data.empty());
            result.body += step.data;
        }
        if (result.state != ChunkState::more) break;
        EXPECT_TRUE(bytes.empty());
        begin += piece.size();
    }
    result.refusal = decoder.refusal();
    if (result.state == ChunkState::complete) {
        EXPECT_EQ(decoder.body_size(), result.body.size());
        result.trailers = trailers.substr(0, decoder.trailers_size());
    }
    return result;
}

Decoded everywhere(const std::string& text, const HeadLimits& limits = {}, std::size_t room = 256) {
    const Decoded whole = decoded(text, {}, limits, room);
    for (std::size_t first = 0; first <= text.size(); ++first)
        EXPECT_EQ(decoded(text, {first}, limits, room), whole) << shown(text) << " split at " << first;
    EXPECT_EQ(decoded(text, std::vector<std::size_t>(text.size(), 1), limits, room), whole) << shown(text);
    return whole;
}

Refusal refusal_of(const std::string& text, const HeadLimits& limits = {}) {
    return everywhere(text, limits).refusal;
}

TEST(ChunkedDecoder, TakesChunksApartAtEverySplit) {
    const Decoded result = everywhere("5\r\nhello\r\n00000001\r\n \r\nA\r\n0123456789\r\n0\r\n\r\nGET /");
    EXPECT_EQ(result.state, ChunkState::complete);
    EXPECT_EQ(result.body, "hello 0123456789");
    EXPECT_EQ(result.trailers, "");
    EXPECT_EQ(result.consumed, 43u);
    EXPECT_EQ(everywhere("0\r\n\r\n").state, ChunkState::complete);
    EXPECT_EQ(everywhere("000\r\n\r\n").state, ChunkState::complete);
    EXPECT_EQ(everywhere("aB\r\n" + std::string(0xab, 'x') + "\r\n0\r\n\r\n").body.size(), 0xabu);
    EXPECT_EQ(everywhere("2\r\n\r\n\r\n0\r\n\r\n").body, "\r\n");
}

TEST(ChunkedDecoder, NeedsMoreUntilItsLastByte) {
    const std::string text = "3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for (std::size_t size = 0; size < text.size(); ++size)
        EXPECT_EQ(decoded(text.substr(0, size), {}).state, ChunkState::more) << size;
}

TEST(ChunkedDecoder, GivesDataAsAViewIntoTheBytes) {
    http::ChunkedDecoder decoder;
    const std::string_view text = "4\r\nab";
    const auto step = decoder.step(text);
    EXPECT_EQ(step.state, ChunkState::data);
    EXPECT_EQ(step.data.data(), text.data() + 3);
    EXPECT_EQ(step.data, "ab");
}

// H1-01, H1-09: sizes and ends of lines.
TEST(ChunkedDecoder, RefusesWhatIsNoChunk) {
    EXPECT_EQ(refusal_of("5\nhello\r\n"), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of("5\r\r\nhello"), Refusal::bare_carriage_return);
    EXPECT_EQ(refusal_of("5\rhello"), Refusal::bare_carriage_return);
    EXPECT_EQ(refusal_of("\r\n5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("\n"), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of(" 5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("5 \r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("5\t\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("+5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("-5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("0x5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("g\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("5_0\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("5,5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("1 5\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of(std::string("5\0\r\n", 4)), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("5\r\nhello5\r\n"), Refusal::chunk_end);
    EXPECT_EQ(refusal_of("5\r\nhello\n0\r\n\r\n"), Refusal::chunk_end);
    EXPECT_EQ(refusal_of("5\r\nhello\rX"), Refusal::chunk_end);
    EXPECT_EQ(refusal_of("5\r\nhello6\r\n"), Refusal::chunk_end);
    EXPECT_EQ(refusal_of("0\r\n\n"), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of("0\r\n\rX"), Refusal::bare_carriage_return);
}

// H1-09: 1*16HEXDIG, and no body of more than 2^63-1 bytes.
TEST(ChunkedDecoder, TakesSizesUpToTheirLimit) {
    EXPECT_EQ(decoded("7fffffffffffffff\r\nx", {}).body, "x");
    EXPECT_EQ(refusal_of("0000000000000005\r\nhello\r\n0\r\n\r\n"), Refusal::none);
    EXPECT_EQ(refusal_of("8000000000000000\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("ffffffffffffffff\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("00000000000000005\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("10000000000000005\r\n"), Refusal::chunk_size);
    EXPECT_EQ(refusal_of("1\r\nx\r\n7fffffffffffffff\r\n"), Refusal::chunk_size);
    EXPECT_EQ(decoded("1\r\nx\r\n7ffffffffffffffe\r\ny", {}).body, "xy");
}

// H1-09: extensions are refused unless they are asked for, and then are bounded.
TEST(ChunkedDecoder, LetsExtensionsThroughOnlyWhereItIsToldTo) {
    EXPECT_EQ(refusal_of("5;a=b\r\nhello\r\n0\r\n\r\n"), Refusal::chunk_extension);
    EXPECT_EQ(refusal_of("5;\r\n"), Refusal::chunk_extension);
    HeadLimits limits;
    limits.chunk_extension_bytes = 16;
    EXPECT_EQ(everywhere("5;a=b;c\r\nhello\r\n0; d = \"\\\"\t;x\"\r\n\r\n", limits).body, "hello");
    EXPECT_EQ(refusal_of("5;" + std::string(15, 'a') + "\r\nhello\r\n0\r\n\r\n", limits), Refusal::none);
    EXPECT_EQ(refusal_of("5;" + std::string(16, 'a') + "\r\n", limits), Refusal::chunk_extension);
    EXPECT_EQ(refusal_of("5;a\n", limits), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of("5;a\rX", limits), Refusal::bare_carriage_return);
    EXPECT_EQ(refusal_of("5;a=\"\r\n", limits), Refusal::chunk_extension);
    EXPECT_EQ(refusal_of("5;a=\"\n", limits), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of("5;a=\"\\\r\n", limits), Refusal::chunk_extension);
    EXPECT_EQ(refusal_of("5;a=\x01\r\n", limits), Refusal::chunk_extension);
    EXPECT_EQ(refusal_of("5;a,b\r\n", limits), Refusal::chunk_extension);
    EXPECT_EQ(refusal_of("5 ;a\r\n", limits), Refusal::chunk_size);
    std::string many;
    for (unsigned chunk = 0; chunk < 1024; ++chunk) many += "1;" + std::string(15, 'a') + "\r\nx\r\n";
    EXPECT_EQ(decoded(many + "0\r\n\r\n", {}, limits).state, ChunkState::complete);
    EXPECT_EQ(decoded(many + "0;\r\n\r\n", {}, limits).refusal, Refusal::chunk_extension);
}

// H1-09: trailers, and which of them are left out.
TEST(ChunkedDecoder, KeepsTrailersButForThoseThatDecideAboutTheMessage) {
    const Decoded result = everywhere(
        "0\r\nServer-Timing: a \t\r\nContent-Length: 5\r\nTRANSFER-ENCODING: chunked\r\nX:\r\nHost: y\r\nY:\t b "
        "c\r\n\r\n");
    EXPECT_EQ(result.state, ChunkState::complete);
    EXPECT_EQ(shown(result.trailers), shown("Server-Timing: a\r\nX: \r\nY: b c\r\n"));
    std::string_view rest = result.trailers;
    EXPECT_EQ(http::next_trailer(rest)->value, "a");
    EXPECT_EQ(http::next_trailer(rest)->name, "X");
    EXPECT_EQ(http::next_trailer(rest)->value, "b c");
    EXPECT_EQ(http::next_trailer(rest), std::nullopt);
    // Nobody wants them: they are read all the same.
    EXPECT_EQ(everywhere("0\r\nX: y\r\n\r\n", {}, 0).state, ChunkState::complete);
    EXPECT_EQ(everywhere("0\r\nX y\r\n\r\n", {}, 0).state, ChunkState::refused);
}

// H1-01, H1-05 in trailers.
TEST(ChunkedDecoder, RefusesMalformedTrailers) {
    EXPECT_EQ(refusal_of("0\r\nX: y\n\r\n"), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of("0\r\nX: y\rZ"), Refusal::bare_carriage_return);
    EXPECT_EQ(refusal_of("0\r\nX : y\r\n"), Refusal::space_before_colon);
    EXPECT_EQ(refusal_of("0\r\n X: y\r\n"), Refusal::folded_line);
    EXPECT_EQ(refusal_of("0\r\nX: y\r\n z\r\n"), Refusal::folded_line);
    EXPECT_EQ(refusal_of("0\r\n: y\r\n"), Refusal::field_name);
    EXPECT_EQ(refusal_of("0\r\nX\r\n"), Refusal::field_name);
    EXPECT_EQ(refusal_of("0\r\nX\n"), Refusal::bare_line_feed);
    EXPECT_EQ(refusal_of("0\r\nX: \x7f\r\n"), Refusal::field_value_letter);
    EXPECT_EQ(refusal_of(std::string("0\r\nX: \0\r\n", 9)), Refusal::field_value_letter);
    EXPECT_EQ(refusal_of("0\r\nGET / HTTP/1.1\r\n"), Refusal::space_before_colon);
}

// H1-06.
TEST(ChunkedDecoder, BoundsTrailersAtTheEdge) {
    HeadLimits limits;
    limits.line_bytes = 10;
    EXPECT_EQ(refusal_of("0\r\nX: 3456789\r\n\r\n", limits), Refusal::none);
    EXPECT_EQ(refusal_of("0\r\nX: 34567890\r\n\r\n", limits), Refusal::field_too_long);
    EXPECT_EQ(refusal_of("0\r\n012345678:\r\n\r\n", limits), Refusal::none);
    EXPECT_EQ(refusal_of("0\r\n0123456789:\r\n\r\n", limits), Refusal::field_too_long);
    limits = {};
    limits.fields = 2;
    EXPECT_EQ(refusal_of("0\r\nX: y\r\nX: y\r\n\r\n", limits), Refusal::none);
    EXPECT_EQ(refusal_of("0\r\nX: y\r\nX: y\r\nX: y\r\n\r\n", limits), Refusal::too_many_fields);
    limits = {};
    limits.trailer_bytes = 8;
    EXPECT_EQ(refusal_of("0\r\nX: y\r\n\r\n", limits), Refusal::none);
    EXPECT_EQ(refusal_of("0\r\nX: yz\r\n\r\n", limits), Refusal::trailers_too_long);
    const std::string long_trailer =
        "0\r\nX: " + std::string(8000, 'v') + "\r\nY: " + std::string(8000, 'v') + "\r\nZ: ";
    EXPECT_EQ(decoded(long_trailer + std::string(367, 'v') + "\r\n\r\n", {}, {}, 20'000).state, ChunkState::complete);
    EXPECT_EQ(decoded(long_trailer + std::string(368, 'v') + "\r\n\r\n", {}, {}, 20'000).refusal,
              Refusal::trailers_too_long);
    for (std::size_t room = 1; room < 6; ++room)
        EXPECT_EQ(everywhere("0\r\nX: y\r\n\r\n", {}, room).refusal, Refusal::trailers_too_long);
    EXPECT_EQ(everywhere("0\r\nX: y\r\n\r\n", {}, 6).trailers, "X: y\r\n");
}

TEST(ChunkedDecoder, ChecksItsLimitsAndBeginsAnew) {
    HeadLimits limits;
    limits.chunk_extension_bytes = 65'536;
    EXPECT_THROW(http::ChunkedDecoder{limits}, std::invalid_argument);
    http::ChunkedDecoder decoder;
    EXPECT_EQ(decoder.step("x").state, ChunkState::refused);
    EXPECT_EQ(decoder.step("0\r\n\r\n").state, ChunkState::refused);
    decoder.reset();
    const auto step = decoder.step("0\r\n\r\nrest");
    EXPECT_EQ(step.state, ChunkState::complete);
    EXPECT_EQ(step.consumed, 5u);
    EXPECT_EQ(decoder.step("rest").consumed, 0u);
    EXPECT_EQ(decoder.step("rest").state, ChunkState::complete);
}

}  // namespace
