#pragma once

#include <ferrule/version.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define FERRULE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FERRULE_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(FERRULE_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace ferrule::inline v0 {

class Host;

/// Memory for the coroutine frames of one host. Size classes of 16 bytes up to 1024, then powers of two up to 64 KiB;
/// anything larger comes from operator new and is counted here. Free lists are last in, first out, so that a frame is
/// warm when it is used again. Memory of the classes is kept for reuse until the pool is destroyed.
///
/// Each block ends with 8 bytes that name its pool: a frame that dies on another thread finds its way home by them, and
/// the frame itself keeps the 16-byte alignment that compilers expect.
///
/// Thread: the host's own. Destroying a pool while one of its frames is alive is an assertion.
class FERRULE_EXPORT FramePool {
public:
    static constexpr std::size_t trailer_bytes = sizeof(void*);
    static constexpr std::size_t class_step_bytes = 16;
    static constexpr std::size_t stepped_bytes_max = 1024;
    static constexpr std::size_t class_bytes_max = 64 * 1024;
    static constexpr std::size_t slab_bytes = 64 * 1024;
    static constexpr std::uint32_t stepped_classes = stepped_bytes_max / class_step_bytes;
    static constexpr std::uint32_t class_count = stepped_classes + 6;
    /// The class of blocks that are larger than every class.
    static constexpr std::uint32_t large_class = class_count;

    /// `bytes_max`: no more than this is ever taken for frames (law 7); 0: no bound.
    explicit FramePool(Host& host, std::uint64_t bytes_max = 0) noexcept : host_(&host), bytes_max_(bytes_max) {}
    FramePool(const FramePool&) = delete;
    FramePool& operator=(const FramePool&) = delete;
    ~FramePool();

    /// Memory for a frame of `frame_bytes`, aligned to 16. Throws std::bad_alloc when the bound would be passed or
    /// memory is out.
    void* allocate(std::size_t frame_bytes) {
        const std::uint32_t size_class = class_of(frame_bytes);
        if (size_class == large_class) [[unlikely]] {
            return allocate_large(frame_bytes);
        }
        Block* block = free_[size_class];
        if (block == nullptr) [[unlikely]] {
            block = carve(size_class);
        } else {
            unpoison(block, class_bytes(size_class));
            free_[size_class] = block->next;
        }
        ++live_frames_;
        live_bytes_ += class_bytes(size_class);
        return block;
    }

    /// Takes back a block of this pool: the end of each frame, on the host's thread.
    void release(void* memory, std::uint32_t size_class) noexcept {
        if (size_class == large_class) [[unlikely]] {
            release_large(memory);
            return;
        }
        auto* block = static_cast<Block*>(memory);
        block->next = free_[size_class];
        free_[size_class] = block;
        poison(block, class_bytes(size_class));
        --live_frames_;
        live_bytes_ -= class_bytes(size_class);
    }

    /// Changes the bound in bytes; 0: none. What is already taken stays.
    void limit_bytes(std::uint64_t bytes_max) noexcept { bytes_max_ = bytes_max; }

    /// Frames alive now, wherever they are.
    std::uint64_t live_frames() const noexcept { return live_frames_; }
    /// Bytes of the blocks of the frames alive now.
    std::uint64_t live_bytes() const noexcept { return live_bytes_; }
    /// Bytes taken for frames: the highest need of each class so far, summed, and the large ones alive now. The bound
    /// holds for this.
    std::uint64_t peak_bytes() const noexcept { return taken_bytes_; }

    /// The host that this is the pool of.
    Host& host() const noexcept { return *host_; }

    /// The class of a frame of `frame_bytes`, its trailer included.
    static constexpr std::uint32_t class_of(std::size_t frame_bytes) noexcept {
        const std::size_t bytes = frame_bytes + trailer_bytes;
        if (bytes <= stepped_bytes_max) {
            return static_cast<std::uint32_t>((bytes - 1) / class_step_bytes);
        }
        if (bytes <= class_bytes_max) {
            return stepped_classes + static_cast<std::uint32_t>(std::bit_width(bytes - 1)) - first_doubled_width;
        }
        return large_class;
    }

    /// The size of a block of a class, its trailer included.
    static constexpr std::size_t class_bytes(std::uint32_t size_class) noexcept {
        if (size_class < stepped_classes) {
            return (size_class + 1) * class_step_bytes;
        }
        return std::size_t{1} << (size_class - stepped_classes + first_doubled_width);
    }

    /// The pool that a frame came from; null: from operator new, made by a thread without a host.
    static FramePool* owner_of(void* memory, std::size_t frame_bytes) noexcept {
        const std::uint32_t size_class = class_of(frame_bytes);
        if (size_class == large_class) [[unlikely]] {
            return large_header(memory)->owner;
        }
        return *trailer(memory, size_class);
    }

    /// A frame that belongs to no host.
    static void* allocate_without_host(std::size_t frame_bytes);
    static void release_without_host(void* memory, std::uint32_t size_class) noexcept;

private:
    struct Block {
        Block* next;
    };
    struct Slab {
        Slab* next;
    };
    struct LargeHeader {
        FramePool* owner;
        std::uint64_t bytes;
    };
    // Classes above 1024 bytes begin with 2048, whose last byte has an offset of 11 bits.
    static constexpr std::uint32_t first_doubled_width = 11;

    static FramePool** trailer(void* memory, std::uint32_t size_class) noexcept {
        return reinterpret_cast<FramePool**>(static_cast<std::byte*>(memory) + class_bytes(size_class) - trailer_bytes);
    }
    static LargeHeader* large_header(void* memory) noexcept { return static_cast<LargeHeader*>(memory) - 1; }

    static void poison([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(FERRULE_ADDRESS_SANITIZER)
        __asan_poison_memory_region(memory, bytes);
#endif
    }
    static void unpoison([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(FERRULE_ADDRESS_SANITIZER)
        __asan_unpoison_memory_region(memory, bytes);
#endif
    }

    Block* carve(std::uint32_t size_class);
    void* allocate_large(std::size_t frame_bytes);
    void release_large(void* memory) noexcept;
    std::byte* new_slab(std::size_t bytes, std::size_t charged);
    void charge(std::size_t bytes);

    std::uint64_t live_frames_ = 0;
    std::uint64_t live_bytes_ = 0;
    std::array<Block*, class_count> free_{};
    Host* host_;
    std::uint64_t bytes_max_;
    std::uint64_t taken_bytes_ = 0;
    std::byte* fresh_ = nullptr;
    std::byte* fresh_end_ = nullptr;
    Slab* slabs_ = nullptr;
};

}  // namespace ferrule::inline v0
