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
/// - `advance(bytes)` counts the first bytes of that room: they belong to the sink then. Fewer than were given, and
///   none, is right, too.
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
        size_ = text_.size();
        text_.resize(size_ + std::max({minimum, size_, smallest_room}));
        return std::as_writable_bytes(std::span{text_}).subspan(size_);
    }
    /// Counts the first bytes of the room, and cuts the rest off.
    void advance(std::size_t bytes) { text_.resize(size_ + bytes); }

private:
    static constexpr std::size_t smallest_room = 256;

    std::string& text_;
    std::size_t size_ = 0;
};

}  // namespace ferrule::inline v0::http
