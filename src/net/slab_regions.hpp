#pragma once

#include <ferrule/ring/huge_pages.hpp>
#include <ferrule/ring/kernel.hpp>

#include <cstddef>
#include <cstdint>
#include <map>

namespace ferrule::inline v0 {

/// Cuts huge pages into blocks of one size each, and gives a page back when all of its blocks have come back. Behind
/// the free lists of a SlabPool, so it is asked seldom. Single-threaded. All blocks must be back before it ends.
class SlabRegions {
public:
    /// Larger blocks fill huge pages by themselves, as far as the system has any.
    static constexpr std::uint64_t block_bytes_max = huge_page_bytes / 2;

    SlabRegions(Kernel& kernel, HugePages pages) noexcept : kernel_(&kernel), pages_(pages) {}
    SlabRegions(const SlabRegions&) = delete;
    SlabRegions& operator=(const SlabRegions&) = delete;
    ~SlabRegions();

    /// A block of so many bytes; those of one class have one size. Null when memory is out.
    [[nodiscard]] void* take(std::uint32_t size_class, std::uint64_t bytes) noexcept;
    void give_back(void* block) noexcept;

    /// Huge pages in use.
    [[nodiscard]] std::size_t count() const noexcept { return regions_.size(); }

private:
    struct Block {
        Block* next;
    };
    struct Region {
        LargeMapping mapping;
        Block* free = nullptr;    // blocks that have come back
        std::uint32_t fresh = 0;  // of those, and behind them, none was out yet
        std::uint32_t out = 0;
        std::uint32_t size_class = 0;
    };

    Kernel* kernel_;
    HugePages pages_;
    std::map<std::byte*, Region> regions_;  // by their first byte
};

}  // namespace ferrule::inline v0
