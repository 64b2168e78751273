#include <ferrule/assert.hpp>
#include <ferrule/task/frame_pool.hpp>
#include <ferrule/task/host.hpp>

#include <new>

namespace ferrule::inline v0 {

namespace {

constexpr std::size_t block_alignment = 32;
// A slab begins with its link, padded so that the first block is aligned.
constexpr std::size_t slab_header_bytes = block_alignment;
// Blocks above this size get a slab of their own: a slab shared by blocks of such sizes would waste much of its end.
constexpr std::size_t shared_slab_bytes_max = 4096;

}  // namespace

FramePool::~FramePool() {
    FERRULE_ASSERT(live_frames_ == 0);
    while (slabs_ != nullptr) {
        Slab* slab = slabs_;
        slabs_ = slab->next;
        ::operator delete (slab, std::align_val_t{block_alignment});
    }
}

void FramePool::charge(std::size_t bytes) {
    if (bytes_max_ != 0 && (bytes > bytes_max_ || taken_bytes_ > bytes_max_ - bytes)) {
        throw std::bad_alloc();
    }
    if (!host_->memory_account.charge(bytes)) throw std::bad_alloc();
}

std::byte* FramePool::new_slab(std::size_t bytes, std::size_t charged) {
    void* memory = nullptr;
    try {
        memory = ::operator new (slab_header_bytes + bytes, std::align_val_t{block_alignment});
    } catch (...) {
        host_->memory_account.credit(charged);
        throw;
    }
    slabs_ = new (memory) Slab{slabs_};
    return static_cast<std::byte*>(memory) + slab_header_bytes;
}

FramePool::Block* FramePool::carve(std::uint32_t size_class) {
    const std::size_t bytes = class_bytes(size_class);
    charge(bytes);
    std::byte* memory = nullptr;
    if (bytes > shared_slab_bytes_max) {
        memory = new_slab(bytes, bytes);
    } else {
        if (static_cast<std::size_t>(fresh_end_ - fresh_) < bytes) {
            std::byte* fresh = new_slab(slab_bytes - slab_header_bytes, bytes);
            fresh_ = fresh;
            fresh_end_ = fresh + (slab_bytes - slab_header_bytes);
        }
        memory = fresh_;
        fresh_ += bytes;
    }
    taken_bytes_ += bytes;
    new (trailer(memory, size_class)) FramePool*(this);
    return new (memory) Block{nullptr};
}

void* FramePool::allocate_large(std::size_t frame_bytes) {
    charge(frame_bytes);
    LargeHeader* header = nullptr;
    try {
        header = static_cast<LargeHeader*>(::operator new(sizeof(LargeHeader) + frame_bytes));
    } catch (...) {
        host_->memory_account.credit(frame_bytes);
        throw;
    }
    new (header) LargeHeader{this, frame_bytes};
    taken_bytes_ += frame_bytes;
    live_bytes_ += frame_bytes;
    ++live_frames_;
    return header + 1;
}

void FramePool::release_large(void* memory) noexcept {
    LargeHeader* header = large_header(memory);
    taken_bytes_ -= header->bytes;
    host_->memory_account.credit(header->bytes);
    live_bytes_ -= header->bytes;
    --live_frames_;
    ::operator delete(header);
}

void* FramePool::allocate_without_host(std::size_t frame_bytes) {
    const std::uint32_t size_class = class_of(frame_bytes);
    if (size_class == large_class) {
        auto* header = static_cast<LargeHeader*>(::operator new(sizeof(LargeHeader) + frame_bytes));
        new (header) LargeHeader{nullptr, frame_bytes};
        return header + 1;
    }
    void* memory = ::operator new(class_bytes(size_class));
    new (trailer(memory, size_class)) FramePool*(nullptr);
    return memory;
}

void FramePool::release_without_host(void* memory, std::uint32_t size_class) noexcept {
    ::operator delete(size_class == large_class ? static_cast<void*>(large_header(memory)) : memory);
}

}  // namespace ferrule::inline v0
