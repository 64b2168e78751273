#include <ferrule/http/compression.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "http/encoder.hpp"
#include "http/recycled_memory.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace ferrule::inline v0::http {

namespace detail {

struct CompressionState {
    ContentCoding coding;
    std::unique_ptr<Encoder> encoder;
    std::size_t begin = 0;  // of what is gathered
    std::size_t end = 0;
    bool flushing = false;  // a flush has begun, and the sink has not taken all of it
    bool finished = false;
    std::array<std::byte, Compressor::gathered_bytes_max> bytes;
};

}  // namespace detail

namespace {

/// Coders get at least so much room at a time. A flush must find more than its own mark takes, 6 bytes of gzip's, or it
/// would not know its end from a full buffer (zlib.h, deflate).
constexpr std::size_t room_min = 64;

void check(const char* name, int value, int least, int most) {
    if (value < least || value > most) {
        throw std::invalid_argument(std::string("CompressionOptions::") + name + ": " + std::to_string(value) +
                                    " is not from " + std::to_string(least) + " to " + std::to_string(most));
    }
}

}  // namespace

// ---- Compressor ----

std::span<std::byte> Compressor::span() noexcept {
    return std::span{state_->bytes}.subspan(state_->end);
}

void Compressor::advance(std::size_t bytes) {
    if (bytes > state_->bytes.size() - state_->end)
        throw std::logic_error("Compressor::advance: more than there is room for");
    state_->end += bytes;
}

std::span<const std::byte> Compressor::gathered() const noexcept {
    return std::span{state_->bytes}.subspan(state_->begin, state_->end - state_->begin);
}

std::size_t Compressor::write_to(std::span<const std::byte> bytes, detail::SinkReference sink) {
    std::size_t written = 0;
    while (written < bytes.size()) {
        const std::span<const std::byte> rest = bytes.subspan(written);
        if (state_->begin == state_->end && rest.size() >= state_->bytes.size()) {
            // No less than would be gathered: from where it is.
            std::span<const std::byte> input = rest;
            const bool taken = move_through(input, Operation::process, sink);
            written += rest.size() - input.size();
            if (!taken) break;
            continue;
        }
        const std::span<std::byte> room = span();
        if (room.empty()) {
            if (!run(Operation::process, sink)) break;
            continue;
        }
        const std::size_t count = std::min(room.size(), rest.size());
        std::memcpy(room.data(), rest.data(), count);
        state_->end += count;
        written += count;
    }
    return written;
}

bool Compressor::run(Operation operation, detail::SinkReference sink) {
    std::span<const std::byte> input = gathered();
    const bool complete = move_through(input, operation, sink);
    state_->begin = state_->end - input.size();
    if (input.empty()) state_->begin = state_->end = 0;
    return complete;
}

bool Compressor::move_through(std::span<const std::byte>& input, Operation operation, detail::SinkReference sink) {
    if (state_->finished) {
        if (operation == Operation::finish && input.empty()) return true;
        throw std::logic_error("Compressor: written to behind its end");
    }
    // What a refused flush has left comes first, alone: coders take nothing new in between.
    std::span<const std::byte> nothing;
    bool resumed = state_->flushing;
    for (;;) {
        const std::span<std::byte> room = sink.span(room_min);
        if (room.size() < room_min) {
            if (!room.empty()) sink.advance(0);
            return false;
        }
        std::span<std::byte> output = room;
        const Operation now = resumed ? Operation::flush : operation;
        if (now == Operation::flush) state_->flushing = true;
        const bool complete =
            state_->encoder->step(resumed ? nothing : input, output, static_cast<detail::Encoder::Operation>(now));
        sink.advance(room.size() - output.size());
        if (!complete) continue;
        if (now == Operation::flush) state_->flushing = false;
        if (!std::exchange(resumed, false)) {
            state_->finished = operation == Operation::finish;
            return true;
        }
        if (operation == Operation::flush && input.empty()) return true;
    }
}

void Compressor::give_back() noexcept {
    home_->give_back(*state_);
}

// ---- Compression ----

Compression::Compression(const CompressionOptions& options)
    : options_(options), memory_(std::make_unique<detail::RecycledMemory>()) {
    check("gzip_level", options.gzip_level, 1, 9);
    check("br_quality", options.br_quality, 0, 11);
    check("br_window_bits", options.br_window_bits, 10, 24);
    if (options.br) offered_[offered_count_++] = ContentCoding::br;
    if (options.gzip) offered_[offered_count_++] = ContentCoding::gzip;
}

Compression::~Compression() {
    FERRULE_ASSERT(streams_ == 0);
}

Compression& Compression::of(Reactor& reactor) {
    if (Compression* there = reactor.find_service<Compression>()) return *there;
    return reactor.add_service<Compression>();
}

std::optional<Compressor> Compression::begin(ContentCoding coding) {
    if (streams_ == options_.streams_max || std::ranges::find(offered(), coding) == offered().end())
        return std::nullopt;
    auto& idle = idle_[static_cast<std::size_t>(coding)];
    if (idle.empty()) {
        // Room for all that may come back, so that giving back cannot fail.
        idle.reserve(options_.streams_max);
        auto state = std::make_unique<detail::CompressionState>();
        state->coding = coding;
        state->encoder = coding == ContentCoding::gzip
                             ? detail::make_gzip_encoder(*memory_, options_.gzip_level)
                             : detail::make_br_encoder(*memory_, options_.br_quality, options_.br_window_bits);
        idle.push_back(std::move(state));
    }
    idle.back()->encoder->begin();
    detail::CompressionState& state = *idle.back().release();
    idle.pop_back();
    ++streams_;
    return Compressor(*this, state);
}

void Compression::give_back(detail::CompressionState& state) noexcept {
    state.encoder->end();
    state.begin = state.end = 0;
    state.flushing = state.finished = false;
    idle_[static_cast<std::size_t>(state.coding)].emplace_back(&state);
    --streams_;
}

}  // namespace ferrule::inline v0::http
