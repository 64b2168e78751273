#include <ferrule/assert.hpp>
#include <ferrule/net/slab_pool.hpp>

#include "net/slab_regions.hpp"

#include <new>

namespace ferrule::inline v0 {

namespace {

/// Blocks from this class on, 64 KiB, begin with a page: what is received into them comes in pages, too, and a copy of
/// one page to another costs 4 % less where both begin alike.
constexpr std::uint32_t aligned_class = SlabPool::class_of(64u << 10);
constexpr std::align_val_t block_alignment{4096};

}  // namespace

SlabPool::SlabPool(MemoryAccount& account, std::uint64_t bytes_max, std::uint64_t idle_bytes_max) noexcept
    : account_(&account), bytes_max_(bytes_max), idle_bytes_max_(idle_bytes_max) {}

void SlabPool::use_huge_pages(Kernel& kernel, HugePages pages) {
    FERRULE_ASSERT(used_bytes_ == 0 && idle_bytes_ == 0 && regions_ == nullptr);
    if (pages != HugePages::off) regions_ = std::make_unique<SlabRegions>(kernel, pages);
}

void* SlabPool::from_system(std::uint32_t size_class) noexcept {
    const std::uint64_t bytes = block_bytes(size_class);
    if (regions_ != nullptr && bytes <= SlabRegions::block_bytes_max) return regions_->take(size_class, bytes);
    return size_class < aligned_class ? ::operator new(bytes, std::nothrow)
                                      : ::operator new(bytes, block_alignment, std::nothrow);
}

void SlabPool::to_system(void* memory, std::uint32_t size_class) noexcept {
    if (regions_ != nullptr && block_bytes(size_class) <= SlabRegions::block_bytes_max)
        regions_->give_back(memory);
    else if (size_class < aligned_class)
        ::operator delete(memory);
    else
        ::operator delete(memory, block_alignment);
}

SlabPool::~SlabPool() {
    release_idle();
}

void* SlabPool::take_fresh(std::uint32_t size_class) noexcept {
    if (size_class >= class_count || used_bytes_ + block_bytes(size_class) > bytes_max_) return nullptr;
    if (!account_->charge(block_bytes(size_class))) {
        // What is kept for reuse in other sizes must not stand in the way.
        release_idle();
        if (!account_->charge(block_bytes(size_class))) return nullptr;
    }
    void* memory = from_system(size_class);
    if (memory == nullptr) {
        account_->credit(block_bytes(size_class));
        return nullptr;
    }
    used_bytes_ += block_bytes(size_class);
    return memory;
}

void SlabPool::release(void* memory, std::uint32_t size_class) noexcept {
    account_->credit(block_bytes(size_class));
    to_system(memory, size_class);
}

void SlabPool::release_idle() noexcept {
    for (std::uint32_t size_class = 0; size_class < class_count; ++size_class) {
        while (free_[size_class] != nullptr) {
            Block* block = free_[size_class];
            free_[size_class] = block->next;
            idle_bytes_ -= block_bytes(size_class);
            release(block, size_class);
        }
    }
}

}  // namespace ferrule::inline v0
