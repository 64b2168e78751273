#pragma once

#include <ferrule/assert.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace ferrule::inline v0::sim {

/// The bytes of a stream from one offset to another, counted from the stream's begin. Grows as needed; its users bound
/// it. Empty, it keeps only a small store.
class ByteRing {
public:
    /// The first byte that is here, and the one after the last.
    [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
    [[nodiscard]] std::uint64_t last() const noexcept { return last_; }

    void append(std::span<const std::byte> bytes) {
        reserve(last_ - first_ + bytes.size());
        const std::size_t at = last_ & (capacity_ - 1);
        const std::size_t head = std::min(bytes.size(), capacity_ - at);
        if (head != 0) std::memcpy(store_.get() + at, bytes.data(), head);
        if (head != bytes.size()) std::memcpy(store_.get(), bytes.data() + head, bytes.size() - head);
        last_ += bytes.size();
    }

    /// The bytes from the first on; they stay.
    void copy(std::span<std::byte> into) const noexcept {
        FERRULE_ASSERT(into.size() <= last_ - first_);
        if (into.empty()) return;
        const std::size_t at = first_ & (capacity_ - 1);
        const std::size_t head = std::min(into.size(), capacity_ - at);
        std::memcpy(into.data(), store_.get() + at, head);
        if (head != into.size()) std::memcpy(into.data() + head, store_.get(), into.size() - head);
    }

    /// Forgets bytes from the first on.
    void drop(std::uint64_t bytes) noexcept {
        FERRULE_ASSERT(bytes <= last_ - first_);
        first_ += bytes;
        if (first_ == last_ && capacity_ > kept_when_empty) {
            store_.reset();
            capacity_ = 0;
        }
    }

    /// Forgets the bytes from an offset on.
    void truncate(std::uint64_t offset) noexcept {
        FERRULE_ASSERT(first_ <= offset && offset <= last_);
        last_ = offset;
    }

private:
    static constexpr std::size_t smallest = 256;
    static constexpr std::size_t kept_when_empty = 4096;

    void reserve(std::uint64_t bytes) {
        if (bytes <= capacity_) return;
        const std::size_t capacity = std::bit_ceil(std::max<std::uint64_t>(bytes, smallest));
        auto store = std::make_unique_for_overwrite<std::byte[]>(capacity);
        for (std::uint64_t offset = first_; offset != last_;) {
            const std::size_t from = offset & (capacity_ - 1);
            const std::size_t to = offset & (capacity - 1);
            const std::size_t run =
                std::min({static_cast<std::size_t>(last_ - offset), capacity_ - from, capacity - to});
            std::memcpy(store.get() + to, store_.get() + from, run);
            offset += run;
        }
        store_ = std::move(store);
        capacity_ = capacity;
    }

    std::unique_ptr<std::byte[]> store_;
    std::size_t capacity_ = 0;
    std::uint64_t first_ = 0;
    std::uint64_t last_ = 0;
};

}  // namespace ferrule::inline v0::sim
