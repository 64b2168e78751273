#include <ferrule/net/lease.hpp>
#include <ferrule/net/network.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ferrule::inline v0 {

void Lease::reset() noexcept {
    if (node_ == nullptr) return;
    detail::give_back_lease(*std::exchange(node_, nullptr));
    length_ = 0;
}

std::size_t ReadResult::size() const noexcept {
    std::size_t total = 0;
    for (const LeaseNode* node = first_; node != nullptr; node = node->next) total += node->length;
    return total;
}

Lease ReadResult::take() noexcept {
    if (first_ == nullptr) return {};
    LeaseNode* node = first_;
    first_ = node->next;
    node->next = nullptr;
    return Lease{node};
}

void ReadResult::remove_prefix(std::size_t bytes) noexcept {
    while (first_ != nullptr && bytes >= first_->length) {
        bytes -= first_->length;
        detail::give_back_lease(*std::exchange(first_, first_->next));
    }
    if (first_ == nullptr || bytes == 0) return;
    first_->data += bytes;
    first_->length -= static_cast<std::uint32_t>(bytes);
    first_->carried = false;
}

ReadResult ReadResult::take_prefix(std::size_t bytes) noexcept {
    LeaseNode** link = &first_;
    while (*link != nullptr && bytes >= (*link)->length) {
        bytes -= (*link)->length;
        link = &(*link)->next;
    }
    if (*link != nullptr && bytes != 0) {
        if (!Network::split(*link, static_cast<std::uint32_t>(bytes))) return {};
        link = &(*link)->next;
    }
    if (link == &first_) return {};
    LeaseNode* const rest = std::exchange(*link, nullptr);
    return ReadResult{std::exchange(first_, rest)};
}

Slice ReadResult::contiguous(std::size_t from, std::size_t bytes) noexcept {
    LeaseNode** link = &first_;
    while (*link != nullptr && from >= (*link)->length) {
        from -= (*link)->length;
        link = &(*link)->next;
    }
    if (*link == nullptr || bytes == 0) return {};
    if (bytes > (*link)->length - from) {
        std::size_t behind = (*link)->length - from;
        for (const LeaseNode* node = (*link)->next; node != nullptr && behind < bytes; node = node->next)
            behind += node->length;
        if (behind < bytes ||
            !Network::gather(*link, static_cast<std::uint32_t>(from), static_cast<std::uint32_t>(bytes)))
            return {};
        if (from == (*link)->length) {  // they are in a block behind the node in which they began
            link = &(*link)->next;
            from = 0;
        }
    }
    return {(*link)->data + from, bytes};
}

}  // namespace ferrule::inline v0
