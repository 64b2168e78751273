#pragma once

#include <ferrule/ring/huge_pages.hpp>
#include <ferrule/task/memory_account.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace ferrule::inline v0 {

class SlabRegions;

/// Memory for bytes on their way: what a connection has written and not sent, and what it has received and not
/// consumed. Power-of-two blocks, recycled last in, first out, so that a busy reactor keeps using the same warm ones;
/// counted in one account with a bound. Single-threaded.
class FERRULE_EXPORT SlabPool {
public:
    static constexpr std::uint32_t block_bytes_min = 256;
    static constexpr std::uint32_t class_count = 24;  ///< up to 2 GiB

    /// What is taken from the system is charged to `account`. `bytes_max` bounds what is out at a time;
    /// `idle_bytes_max` bounds what is kept for reuse.
    SlabPool(MemoryAccount& account, std::uint64_t bytes_max, std::uint64_t idle_bytes_max) noexcept;
    SlabPool(const SlabPool&) = delete;
    SlabPool& operator=(const SlabPool&) = delete;
    ~SlabPool();

    /// Blocks of up to 1 MiB lie on huge pages from now on, those of one size together, so that up to one huge page for
    /// each size is taken from the system beyond what is charged. Once, before the first block.
    void use_huge_pages(Kernel& kernel, HugePages pages);

    /// A block of block_bytes(class_of(bytes)) bytes; null when the account is full or memory is out.
    [[nodiscard]] void* take(std::uint32_t bytes) noexcept { return take_class(class_of(bytes)); }

    /// A block of block_bytes(size_class) bytes, as above.
    [[nodiscard]] void* take_class(std::uint32_t size_class) noexcept {
        if (Block* block = free_[size_class]; block != nullptr) [[likely]] {
            if (used_bytes_ + block_bytes(size_class) > bytes_max_) [[unlikely]]
                return nullptr;
            free_[size_class] = block->next;
            idle_bytes_ -= block_bytes(size_class);
            used_bytes_ += block_bytes(size_class);
            return block;
        }
        return take_fresh(size_class);
    }

    /// Gives back a block that was taken for as many bytes.
    void give_back(void* memory, std::uint32_t bytes) noexcept { give_back_class(memory, class_of(bytes)); }

    /// Gives back a block of the class.
    void give_back_class(void* memory, std::uint32_t size_class) noexcept {
        used_bytes_ -= block_bytes(size_class);
        if (idle_bytes_ + block_bytes(size_class) > idle_bytes_max_) [[unlikely]] {
            release(memory, size_class);
            return;
        }
        auto* block = static_cast<Block*>(memory);
        block->next = free_[size_class];
        free_[size_class] = block;
        idle_bytes_ += block_bytes(size_class);
    }

    /// The class of blocks that hold so many bytes.
    [[nodiscard]] static constexpr std::uint32_t class_of(std::uint32_t bytes) noexcept {
        return bytes <= block_bytes_min ? 0 : static_cast<std::uint32_t>(std::bit_width(bytes - 1)) - std::uint32_t{8};
    }
    /// The size of a class's blocks.
    [[nodiscard]] static constexpr std::uint64_t block_bytes(std::uint32_t size_class) noexcept {
        return std::uint64_t{block_bytes_min} << size_class;
    }

    /// Bytes out now.
    [[nodiscard]] std::uint64_t used_bytes() const noexcept { return used_bytes_; }
    /// Bytes kept for reuse.
    [[nodiscard]] std::uint64_t idle_bytes() const noexcept { return idle_bytes_; }

private:
    struct Block {
        Block* next;
    };
    void* take_fresh(std::uint32_t size_class) noexcept;
    void release(void* memory, std::uint32_t size_class) noexcept;
    void release_idle() noexcept;

    [[nodiscard]] void* from_system(std::uint32_t size_class) noexcept;
    void to_system(void* memory, std::uint32_t size_class) noexcept;

    MemoryAccount* account_;
    std::array<Block*, class_count> free_{};
    std::uint64_t used_bytes_ = 0;
    std::uint64_t idle_bytes_ = 0;
    std::uint64_t bytes_max_;
    std::uint64_t idle_bytes_max_;
    std::unique_ptr<SlabRegions> regions_;
};

}  // namespace ferrule::inline v0
