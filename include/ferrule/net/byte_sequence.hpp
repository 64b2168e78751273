#pragma once

#include <ferrule/net/lease.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>

namespace ferrule::inline v0 {

/// A view of received bytes that lie in one or several slices. 16 bytes; it is valid until the reader that it came from
/// reads or advances. Copying what straddles slices in order to have it in one piece (`contiguous`) moves bytes, but
/// changes nothing of what any view of them shows. Reactor's own thread.
class FERRULE_EXPORT ByteSequence {
public:
    /// What `find` returns when there is nothing.
    static constexpr std::size_t npos = ~std::size_t{0};

    ByteSequence() noexcept = default;
    /// The first `size` bytes of what was received, which stays where it is and has so many.
    ByteSequence(ReadResult& received, std::size_t size) noexcept
        : received_(&received), size_(static_cast<std::uint32_t>(size)) {}

    /// Whether it has bytes.
    explicit operator bool() const noexcept { return size_ != 0; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// All bytes of it.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Walks the slices, none of which is empty.
    class iterator {
    public:
        using value_type = Slice;
        using difference_type = std::ptrdiff_t;
        iterator() noexcept = default;
        iterator(const LeaseNode* node, std::uint32_t offset, std::uint32_t left) noexcept
            : node_(node), offset_(offset), left_(left) {
            if (left_ != 0) skip();
        }
        Slice operator*() const noexcept { return {node_->data + offset_, length()}; }
        iterator& operator++() noexcept {
            left_ -= length();
            offset_ = 0;
            node_ = node_->next;
            if (left_ != 0) skip();
            return *this;
        }
        iterator operator++(int) noexcept {
            iterator before = *this;
            ++*this;
            return before;
        }
        bool operator==(std::default_sentinel_t) const noexcept { return left_ == 0; }
        /// Of the same sequence.
        bool operator==(const iterator& other) const noexcept { return left_ == other.left_; }

    private:
        [[nodiscard]] std::uint32_t length() const noexcept {
            const std::uint32_t there = node_->length - offset_;
            return there < left_ ? there : left_;
        }
        void skip() noexcept {
            while (offset_ >= node_->length) {
                offset_ -= node_->length;
                node_ = node_->next;
            }
        }

        const LeaseNode* node_ = nullptr;
        std::uint32_t offset_ = 0;
        std::uint32_t left_ = 0;
    };

    /// The slices in order.
    [[nodiscard]] iterator begin() const noexcept {
        return received_ != nullptr ? iterator{received_->first_, from_, size_} : iterator{};
    }
    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

    /// The view of `bytes` bytes from the offset on; of fewer when there are not so many.
    [[nodiscard]] ByteSequence slice(std::size_t offset, std::size_t bytes = npos) const noexcept {
        ByteSequence part = *this;
        const std::size_t skipped = offset < size_ ? offset : size_;
        part.from_ += static_cast<std::uint32_t>(skipped);
        part.size_ -= static_cast<std::uint32_t>(skipped);
        if (bytes < part.size_) part.size_ = static_cast<std::uint32_t>(bytes);
        return part;
    }

    /// All of it in one piece: in place where it lies in one slice; otherwise its own bytes, and no others, are copied.
    /// Empty when it is, and when the account of the connection or of the reactor has no room for that copy: nothing
    /// has changed then.
    [[nodiscard]] Slice contiguous() const noexcept {
        return received_ != nullptr ? received_->contiguous(from_, size_) : Slice{};
    }
    /// As above, the first `bytes` bytes; empty, too, when there are not so many.
    [[nodiscard]] Slice contiguous(std::size_t bytes) const noexcept {
        return bytes <= size_ && received_ != nullptr ? received_->contiguous(from_, bytes) : Slice{};
    }

    /// Where this byte is for the first time from the offset on, counted from the beginning of the view; `npos`:
    /// nowhere.
    [[nodiscard]] std::size_t find(std::byte byte, std::size_t offset = 0) const noexcept;
    /// As above, where these bytes begin, which may straddle slices. An empty text is at the offset, when that is
    /// within.
    [[nodiscard]] std::size_t find(std::string_view text, std::size_t offset = 0) const noexcept;

    /// Copies what fits into the destination, and says how much that was.
    std::size_t copy_to(std::span<std::byte> into) const noexcept;

    /// The byte at an offset below `size`.
    [[nodiscard]] std::byte operator[](std::size_t offset) const noexcept { return (*slice(offset, 1).begin())[0]; }

private:
    ReadResult* received_ = nullptr;
    std::uint32_t from_ = 0;
    std::uint32_t size_ = 0;
};
static_assert(sizeof(ByteSequence) == 16);

}  // namespace ferrule::inline v0
