#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>

namespace ferrule::inline v0::http {

/// Memory to write into in place, piece by piece: a Connection, a Response, a StringSink.
///
/// - `span(minimum)` is room for at least so many bytes, behind what was counted; smaller, or empty, when it refuses.
/// - `advance(bytes)` counts the first bytes of that room, fewer than were given or none: they belong to the sink then,
///   and the rest of the room is given back.
template <class Sink>
concept InPlaceSink = requires(Sink& sink, std::size_t count) {
    { sink.span(count) } -> std::same_as<std::span<std::byte>>;
    sink.advance(count);
};

/// The end of a string as a sink. The string has exactly what was counted whenever no room is handed out. It must
/// outlive the sink, and may not be changed by others between `span` and `advance`. Throws what its allocator throws.
class StringSink {
public:
    explicit StringSink(std::string& text) noexcept : text_(text) {}

    /// Room behind the end of the string: as much again as it has, so that appending costs constant time per byte.
    [[nodiscard]] std::span<std::byte> span(std::size_t minimum) {
        if (!given_) size_ = text_.size();
        given_ = true;
        text_.resize(size_ + std::max({minimum, size_, smallest_room}));
        return std::as_writable_bytes(std::span{text_}).subspan(size_);
    }
    /// Counts the first bytes of the room, and cuts the rest off.
    void advance(std::size_t bytes) {
        text_.resize(size_ + bytes);
        given_ = false;
    }

private:
    static constexpr std::size_t smallest_room = 256;

    std::string& text_;
    std::size_t size_ = 0;
    bool given_ = false;
};

namespace detail {

/// Any sink, for code that is compiled once: its calls are far between, once for each piece of memory.
class SinkReference {
public:
    template <InPlaceSink Sink>
    explicit SinkReference(Sink& sink) noexcept
        : sink_(&sink),
          span_([](void* to, std::size_t minimum) { return static_cast<Sink*>(to)->span(minimum); }),
          advance_([](void* to, std::size_t bytes) { static_cast<Sink*>(to)->advance(bytes); }) {}

    [[nodiscard]] std::span<std::byte> span(std::size_t minimum) const { return span_(sink_, minimum); }
    void advance(std::size_t bytes) const { advance_(sink_, bytes); }

private:
    void* sink_;
    std::span<std::byte> (*span_)(void* sink, std::size_t minimum);
    void (*advance_)(void* sink, std::size_t bytes);
};

}  // namespace detail

}  // namespace ferrule::inline v0::http
