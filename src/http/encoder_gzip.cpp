#include "http/encoder.hpp"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace ferrule::inline v0::http::detail {

namespace {

/// A window of 32 KiB, and a gzip header rather than zlib's own (zlib.h, deflateInit2).
constexpr int gzip_window_bits = 15 + 16;
/// zlib's default. Less would make its tables smaller, and what it writes larger.
constexpr int memory_level = 8;

void* allocate(void* memory, uInt count, uInt bytes) {
    return static_cast<RecycledMemory*>(memory)->allocate(std::size_t{count} * bytes);
}
void release(void* memory, void* block) {
    static_cast<RecycledMemory*>(memory)->release(block);
}

class GzipEncoder final : public Encoder {
public:
    GzipEncoder(RecycledMemory& memory, int level) {
        stream_.zalloc = allocate;
        stream_.zfree = release;
        stream_.opaque = &memory;
        const int status =
            deflateInit2(&stream_, level, Z_DEFLATED, gzip_window_bits, memory_level, Z_DEFAULT_STRATEGY);
        if (status == Z_MEM_ERROR) throw std::bad_alloc();
        if (status != Z_OK) throw std::runtime_error("deflateInit2: " + std::to_string(status));
    }
    ~GzipEncoder() override { deflateEnd(&stream_); }

    void begin() override { deflateReset(&stream_); }
    void end() noexcept override {}

    bool step(std::span<const std::byte>& input, std::span<std::byte>& output, Operation operation) override {
        static constexpr std::size_t most = std::numeric_limits<uInt>::max();
        // zlib does not write to its input, but has no const.
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(input.data()));
        stream_.avail_in = static_cast<uInt>(std::min(input.size(), most));
        stream_.next_out = reinterpret_cast<Bytef*>(output.data());
        stream_.avail_out = static_cast<uInt>(std::min(output.size(), most));
        const std::size_t input_given = stream_.avail_in;
        const std::size_t output_given = stream_.avail_out;
        // What is larger than zlib can count comes in several steps, and only the last of them ends the operation.
        const bool last = input_given == input.size();
        const int flush = !last || operation == Operation::process ? Z_NO_FLUSH
                          : operation == Operation::flush          ? Z_SYNC_FLUSH
                                                                   : Z_FINISH;
        const int status = deflate(&stream_, flush);
        // Z_BUF_ERROR: there was nothing to do.
        if (status == Z_STREAM_ERROR) throw std::logic_error("deflate: a stream that has ended");
        input = input.subspan(input_given - stream_.avail_in);
        output = output.subspan(output_given - stream_.avail_out);
        if (operation == Operation::finish) return status == Z_STREAM_END;
        return input.empty() && (operation == Operation::process || stream_.avail_out != 0);
    }

private:
    z_stream stream_{};
};

}  // namespace

std::unique_ptr<Encoder> make_gzip_encoder(RecycledMemory& memory, int level) {
    return std::make_unique<GzipEncoder>(memory, level);
}

}  // namespace ferrule::inline v0::http::detail
