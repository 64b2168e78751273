#include <ferrule/assert.hpp>
#include <ferrule/net/slab_pool.hpp>

#include <new>

namespace ferrule::inline v0 {

SlabPool::~SlabPool() {
    for (Block* block : free_) {
        while (block != nullptr) {
            Block* next = block->next;
            release(block);
            block = next;
        }
    }
}

void* SlabPool::take_fresh(std::uint32_t size_class) noexcept {
    if (size_class >= class_count || used_bytes_ + block_bytes(size_class) > bytes_max_) return nullptr;
    void* memory = ::operator new(block_bytes(size_class), std::nothrow);
    if (memory != nullptr) used_bytes_ += block_bytes(size_class);
    return memory;
}

void SlabPool::release(void* memory) noexcept {
    ::operator delete(memory);
}

}  // namespace ferrule::inline v0
