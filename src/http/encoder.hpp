#pragma once

#include <ferrule/http/compression.hpp>

#include "http/recycled_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace ferrule::inline v0::http::detail {

/// A coder of one of the codings, for one stream after the other. Throws std::bad_alloc.
class Encoder {
public:
    enum class Operation : std::uint8_t { process, flush, finish };

    Encoder() = default;
    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;
    virtual ~Encoder() = default;

    /// A new stream.
    virtual void begin() = 0;
    /// Takes bytes from the front of the input, and writes to the front of the output; both become what is left. True
    /// when the operation is complete: all input is taken, and for `flush` and `finish` all output is made. Otherwise
    /// it wants more output. An operation that has begun is to be completed before another one.
    virtual bool step(std::span<const std::byte>& input, std::span<std::byte>& output, Operation operation) = 0;
    /// The stream is over, or given up: gives back what the next one takes anew.
    virtual void end() noexcept = 0;
};

[[nodiscard]] std::unique_ptr<Encoder> make_gzip_encoder(RecycledMemory& memory, int level);
[[nodiscard]] std::unique_ptr<Encoder> make_br_encoder(RecycledMemory& memory, int quality, int window_bits);

}  // namespace ferrule::inline v0::http::detail
