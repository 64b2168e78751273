#include <ferrule/net/byte_sequence.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

namespace ferrule::inline v0 {

namespace {

/// Whether the slices from this place on begin with the text.
bool begins_with(ByteSequence::iterator at, std::string_view piece, std::string_view text) noexcept {
    for (;;) {
        const std::size_t compared = std::min(piece.size(), text.size());
        if (std::memcmp(piece.data(), text.data(), compared) != 0) return false;
        text.remove_prefix(compared);
        if (text.empty()) return true;
        if (++at == std::default_sentinel) return false;
        piece = (*at).text();
    }
}

}  // namespace

std::size_t ByteSequence::find(std::byte byte, std::size_t offset) const noexcept {
    std::size_t passed = std::min<std::size_t>(offset, size_);
    for (const Slice piece : slice(offset)) {
        const void* found = std::memchr(piece.data(), std::to_integer<int>(byte), piece.size());
        if (found != nullptr) {
            return passed + static_cast<std::size_t>(static_cast<const std::byte*>(found) - piece.data());
        }
        passed += piece.size();
    }
    return npos;
}

std::size_t ByteSequence::find(std::string_view text, std::size_t offset) const noexcept {
    if (text.empty()) return offset <= size_ ? offset : npos;
    std::size_t passed = std::min<std::size_t>(offset, size_);
    const ByteSequence searched = slice(offset);
    for (iterator at = searched.begin(); at != std::default_sentinel; ++at) {
        const std::string_view piece = (*at).text();
        if (const std::size_t within = piece.find(text); within != std::string_view::npos) return passed + within;
        // What begins in the last bytes of this slice may end in the next ones.
        for (std::size_t start = piece.size() - std::min(piece.size(), text.size() - 1); start < piece.size();
             ++start) {
            start = std::min(piece.find(text.front(), start), piece.size());
            if (start < piece.size() && begins_with(at, piece.substr(start), text)) return passed + start;
        }
        passed += piece.size();
    }
    return npos;
}

std::size_t ByteSequence::copy_to(std::span<std::byte> into) const noexcept {
    std::size_t copied = 0;
    for (const Slice piece : slice(0, into.size())) {
        std::memcpy(into.data() + copied, piece.data(), piece.size());
        copied += piece.size();
    }
    return copied;
}

}  // namespace ferrule::inline v0
