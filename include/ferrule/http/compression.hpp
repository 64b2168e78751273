#pragma once

#include <ferrule/http/content_coding.hpp>
#include <ferrule/http/in_place_sink.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {
class Reactor;
}  // namespace ferrule::inline v0

namespace ferrule::inline v0::http {

/// How bodies are compressed. What is out of its range throws std::invalid_argument where it is used.
struct CompressionOptions {
    bool gzip = true;  ///< offered to clients
    bool br = true;    ///< the same; of two that a client likes equally it gets this one, which is faster and smaller
    /// Of zlib, 1 to 9. Answers are compressed as often as they are asked for: higher levels take twice the time for
    /// each few hundredths of the size.
    int gzip_level = 1;
    /// Of brotli, 0 to 11; above 4 for what is compressed once and kept.
    int br_quality = 1;
    /// Brotli looks back for so many bytes, as a power of two: 10 to 24. Memory of each stream grows with it.
    int br_window_bits = 18;
    /// Shorter bodies leave as they are: what the coding saves is less than what its headers cost, and all of it is one
    /// packet anyway.
    std::uint32_t minimum_bytes = 1024;
    /// Bodies that a reactor compresses at the same time; more leave as they are. Each takes about 300 KiB (gzip) or
    /// 500 KiB (br of this quality, more of higher ones), which are kept for the next one.
    std::uint32_t streams_max = 64;
};

class Compression;

namespace detail {

/// What a stream is compressed with, and the bytes that wait for it.
struct CompressionState;
/// Memory of coders, which is used again by the next.
class RecycledMemory;

}  // namespace detail

/// One stream of bytes that is being compressed. Bytes are gathered first, because coders are better and faster with
/// many at a time; then they go through the coder into a sink. `compress`, `flush` and `finish` return false when the
/// sink refuses room: nothing is lost, and the same call goes on when there is room again.
///
/// ```cpp
/// std::string packed;
/// http::StringSink sink{packed};
/// http::Compression compression;
/// if (auto compressor = compression.begin(http::ContentCoding::gzip)) {
///     compressor->write("as often as you like", sink);
///     compressor->finish(sink);
/// }
/// ```
///
/// Made by Compression, which has to outlive it. Throws std::bad_alloc. Single-threaded.
class Compressor {
public:
    Compressor(Compressor&& other) noexcept : home_(other.home_), state_(std::exchange(other.state_, nullptr)) {}
    Compressor& operator=(Compressor&& other) noexcept {
        std::swap(home_, other.home_);
        std::swap(state_, other.state_);
        return *this;
    }
    ~Compressor() {
        if (state_ != nullptr) give_back();
    }

    /// The most that is gathered, and that `span` has room for.
    static constexpr std::size_t gathered_bytes_max = 32u << 10;

    /// Room for bytes to be compressed; as much as there is until `compress` is called.
    [[nodiscard]] FERRULE_EXPORT std::span<std::byte> span() noexcept;
    /// Counts the first bytes of the room. More than it had is misuse and throws std::logic_error.
    FERRULE_EXPORT void advance(std::size_t bytes);
    /// What is gathered and did not go through the coder yet.
    [[nodiscard]] FERRULE_EXPORT std::span<const std::byte> gathered() const noexcept;

    /// Writes bytes behind those before, any number of them. Returns how many it has taken: fewer when the sink has
    /// refused room.
    template <InPlaceSink Sink>
    std::size_t write(std::span<const std::byte> bytes, Sink& sink) {
        return write_to(bytes, detail::SinkReference{sink});
    }
    /// As above.
    template <InPlaceSink Sink>
    std::size_t write(std::string_view text, Sink& sink) {
        return write(std::as_bytes(std::span{text}), sink);
    }
    /// Moves what is gathered through the coder, which may keep it until more comes.
    template <InPlaceSink Sink>
    bool compress(Sink& sink) {
        return run(Operation::process, detail::SinkReference{sink});
    }
    /// Moves everything into the sink, so that its reader can read all of it now. Costs some bytes each time.
    template <InPlaceSink Sink>
    bool flush(Sink& sink) {
        return run(Operation::flush, detail::SinkReference{sink});
    }
    /// The same, and the end of the stream, without which it is not whole. Nothing may be written behind it
    /// (std::logic_error).
    template <InPlaceSink Sink>
    bool finish(Sink& sink) {
        return run(Operation::finish, detail::SinkReference{sink});
    }

private:
    friend class Compression;
    enum class Operation : std::uint8_t { process, flush, finish };

    Compressor(Compression& home, detail::CompressionState& state) noexcept : home_(&home), state_(&state) {}
    FERRULE_EXPORT std::size_t write_to(std::span<const std::byte> bytes, detail::SinkReference sink);
    FERRULE_EXPORT bool run(Operation operation, detail::SinkReference sink);
    FERRULE_EXPORT void give_back() noexcept;
    bool move_through(std::span<const std::byte>& input, Operation operation, detail::SinkReference sink);

    Compression* home_;
    detail::CompressionState* state_;
};

/// A reactor's coders, and their memory: what one stream gives back the next one uses, so that in a steady state
/// nothing is allocated. A service of the reactor (`Reactor::add_service`), with options or, where none was added,
/// without.
///
/// ```cpp
/// reactor.add_service<http::Compression>(http::CompressionOptions{.br_quality = 4});
/// ```
///
/// Single-threaded.
class Compression {
public:
    /// Throws std::invalid_argument when an option is out of its range.
    FERRULE_EXPORT explicit Compression(const CompressionOptions& options = {});
    Compression(const Compression&) = delete;
    Compression& operator=(const Compression&) = delete;
    FERRULE_EXPORT ~Compression();

    /// That of a reactor; with default options where there is none yet.
    [[nodiscard]] FERRULE_EXPORT static Compression& of(Reactor& reactor);

    /// Begins a stream. Nothing when so many are compressed already, or the coding is not offered: the bytes can always
    /// leave as they are. Throws std::bad_alloc.
    [[nodiscard]] FERRULE_EXPORT std::optional<Compressor> begin(ContentCoding coding);

    /// The codings that are offered, the best one first.
    [[nodiscard]] std::span<const ContentCoding> offered() const noexcept { return {offered_.data(), offered_count_}; }
    /// The options that it was made with.
    [[nodiscard]] const CompressionOptions& options() const noexcept { return options_; }
    /// How many streams are being compressed.
    [[nodiscard]] std::size_t streams() const noexcept { return streams_; }

private:
    friend class Compressor;
    void give_back(detail::CompressionState& state) noexcept;

    CompressionOptions options_;
    std::array<ContentCoding, 2> offered_{};
    std::size_t offered_count_ = 0;
    std::size_t streams_ = 0;
    std::unique_ptr<detail::RecycledMemory> memory_;                              // outlives what it was given to
    std::array<std::vector<std::unique_ptr<detail::CompressionState>>, 3> idle_;  // by their coding
};

}  // namespace ferrule::inline v0::http
