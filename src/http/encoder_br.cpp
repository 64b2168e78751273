#include "http/encoder.hpp"

#include <brotli/encode.h>

#include <new>
#include <stdexcept>

namespace ferrule::inline v0::http::detail {

namespace {

void* allocate(void* memory, size_t bytes) {
    return static_cast<RecycledMemory*>(memory)->allocate(bytes);
}
void release(void* memory, void* block) {
    static_cast<RecycledMemory*>(memory)->release(block);
}

class BrEncoder final : public Encoder {
public:
    BrEncoder(RecycledMemory& memory, int quality, int window_bits)
        : memory_(&memory),
          quality_(static_cast<std::uint32_t>(quality)),
          window_bits_(static_cast<std::uint32_t>(window_bits)) {}
    ~BrEncoder() override { end(); }

    void begin() override {
        end();
        state_ = BrotliEncoderCreateInstance(allocate, release, memory_);
        if (state_ == nullptr) throw std::bad_alloc();
        // Both fail only behind the first byte.
        BrotliEncoderSetParameter(state_, BROTLI_PARAM_QUALITY, quality_);
        BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGWIN, window_bits_);
    }
    void end() noexcept override {
        if (state_ == nullptr) return;
        BrotliEncoderDestroyInstance(state_);
        state_ = nullptr;
    }

    bool step(std::span<const std::byte>& input, std::span<std::byte>& output, Operation operation) override {
        if (BrotliEncoderIsFinished(state_) != 0 && (!input.empty() || operation != Operation::finish))
            throw std::logic_error("brotli: a stream that has ended");
        std::size_t input_left = input.size();
        std::size_t output_left = output.size();
        const auto* next_input = reinterpret_cast<const std::uint8_t*>(input.data());
        auto* next_output = reinterpret_cast<std::uint8_t*>(output.data());
        const BrotliEncoderOperation what = operation == Operation::process ? BROTLI_OPERATION_PROCESS
                                            : operation == Operation::flush ? BROTLI_OPERATION_FLUSH
                                                                            : BROTLI_OPERATION_FINISH;
        // Its only failures are misuse, which is excluded above and by the order of operations, and memory.
        if (!BrotliEncoderCompressStream(state_, what, &input_left, &next_input, &output_left, &next_output, nullptr))
            throw std::bad_alloc();
        input = input.last(input_left);
        output = output.last(output_left);
        if (operation == Operation::finish) return BrotliEncoderIsFinished(state_) != 0;
        return input.empty() && BrotliEncoderHasMoreOutput(state_) == 0;
    }

private:
    RecycledMemory* memory_;
    std::uint32_t quality_;
    std::uint32_t window_bits_;
    BrotliEncoderState* state_ = nullptr;
};

}  // namespace

std::unique_ptr<Encoder> make_br_encoder(RecycledMemory& memory, int quality, int window_bits) {
    return std::make_unique<BrEncoder>(memory, quality, window_bits);
}

}  // namespace ferrule::inline v0::http::detail
