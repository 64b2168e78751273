#include <ferrule/assert.hpp>
#include <ferrule/net/slab_pool.hpp>

#include <new>

namespace ferrule::inline v0 {

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
    void* memory = ::operator new(block_bytes(size_class), std::nothrow);
    if (memory == nullptr) {
        account_->credit(block_bytes(size_class));
        return nullptr;
    }
    used_bytes_ += block_bytes(size_class);
    return memory;
}

void SlabPool::release(void* memory, std::uint32_t size_class) noexcept {
    account_->credit(block_bytes(size_class));
    ::operator delete(memory);
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
