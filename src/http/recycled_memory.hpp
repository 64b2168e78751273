#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

namespace ferrule::inline v0::http::detail {

/// Memory of coders, kept for the next one in blocks of powers of two: brotli has no way to begin a stream anew, and
/// asks for all it needs again, in about the same pieces. As much is kept as was ever in use at the same time, which
/// the number of streams bounds. Throws nothing: coders are told of it with a null pointer. Single-threaded.
class RecycledMemory {
public:
    RecycledMemory() = default;
    RecycledMemory(const RecycledMemory&) = delete;
    RecycledMemory& operator=(const RecycledMemory&) = delete;
    ~RecycledMemory() {
        for (Block*& first : free_) {
            while (first != nullptr) ::operator delete(take(first));
        }
    }

    [[nodiscard]] void* allocate(std::size_t bytes) noexcept {
        if (bytes > largest) return nullptr;
        const auto power = static_cast<std::uint32_t>(std::bit_width((bytes + sizeof(Block) - 1) | smallest));
        Block* block = free_[power] != nullptr
                           ? take(free_[power])
                           : static_cast<Block*>(::operator new (std::size_t{1} << power, std::nothrow));
        if (block == nullptr) return nullptr;
        block->power = power;
        return block + 1;
    }
    void release(void* memory) noexcept {
        if (memory == nullptr) return;
        Block* block = static_cast<Block*>(memory) - 1;
        Block*& first = free_[block->power];
        block->next = first;
        first = block;
    }

private:
    /// In front of what is handed out.
    struct alignas(std::max_align_t) Block {
        Block* next;
        std::uint32_t power;
    };
    static constexpr std::size_t smallest = 63;
    static constexpr std::size_t largest = std::size_t{1} << 32;

    static Block* take(Block*& first) noexcept {
        Block* block = first;
        first = block->next;
        return block;
    }

    std::array<Block*, 40> free_{};
};

}  // namespace ferrule::inline v0::http::detail
