#pragma once

#include <ferrule/http/content_coding.hpp>

#include <gtest/gtest.h>

#include <brotli/decode.h>
#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ferrule_test {

/// What a decoder makes of bytes, as far as they go, and whether that was the end of a whole stream.
struct Decoded {
    std::string text;
    bool whole = false;
};

inline Decoded decode_gzip(std::string_view bytes) {
    z_stream stream{};
    EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    Decoded decoded;
    std::array<char, 4096> part;
    int status = Z_OK;
    do {
        stream.next_out = reinterpret_cast<Bytef*>(part.data());
        stream.avail_out = part.size();
        status = inflate(&stream, Z_SYNC_FLUSH);
        decoded.text.append(part.data(), part.size() - stream.avail_out);
    } while (status == Z_OK);
    EXPECT_TRUE(status == Z_STREAM_END || status == Z_BUF_ERROR) << status;
    decoded.whole = status == Z_STREAM_END && stream.avail_in == 0;
    inflateEnd(&stream);
    return decoded;
}

inline Decoded decode_br(std::string_view bytes) {
    BrotliDecoderState* state = BrotliDecoderCreateInstance(nullptr, nullptr, nullptr);
    std::size_t input_left = bytes.size();
    const auto* input = reinterpret_cast<const std::uint8_t*>(bytes.data());
    Decoded decoded;
    std::array<std::uint8_t, 4096> part;
    BrotliDecoderResult result = BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;
    while (result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT) {
        std::size_t output_left = part.size();
        std::uint8_t* output = part.data();
        result = BrotliDecoderDecompressStream(state, &input_left, &input, &output_left, &output, nullptr);
        decoded.text.append(reinterpret_cast<const char*>(part.data()), part.size() - output_left);
    }
    EXPECT_NE(result, BROTLI_DECODER_RESULT_ERROR);
    decoded.whole = result == BROTLI_DECODER_RESULT_SUCCESS && input_left == 0;
    BrotliDecoderDestroyInstance(state);
    return decoded;
}

inline Decoded decode(ferrule::http::ContentCoding coding, std::string_view bytes) {
    return coding == ferrule::http::ContentCoding::gzip ? decode_gzip(bytes) : decode_br(bytes);
}

}  // namespace ferrule_test
