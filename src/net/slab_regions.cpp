#include <ferrule/assert.hpp>

#include "net/slab_regions.hpp"

#include <iterator>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

SlabRegions::~SlabRegions() {
    for (auto& [memory, region] : regions_) kernel_->unmap(region.mapping.base, region.mapping.size);
}

void* SlabRegions::take(std::uint32_t size_class, std::uint64_t bytes) noexcept {
    const auto blocks = static_cast<std::uint32_t>(huge_page_bytes / bytes);
    for (auto& [memory, region] : regions_) {
        if (region.size_class != size_class || region.out == blocks) continue;
        ++region.out;
        if (region.free != nullptr) return std::exchange(region.free, region.free->next);
        return memory + bytes * region.fresh++;
    }
    int error = 0;
    const LargeMapping mapping = map_large(*kernel_, huge_page_bytes, pages_, &error);
    if (mapping.memory == nullptr) return nullptr;
    try {
        Region& made = regions_[mapping.memory];
        made.mapping = mapping;
        made.size_class = size_class;
        made.fresh = made.out = 1;
    } catch (const std::bad_alloc&) {
        kernel_->unmap(mapping.base, mapping.size);
        return nullptr;
    }
    return mapping.memory;
}

void SlabRegions::give_back(void* block) noexcept {
    const auto behind = regions_.upper_bound(static_cast<std::byte*>(block));
    FERRULE_ASSERT(behind != regions_.begin());
    const auto found = std::prev(behind);
    Region& region = found->second;
    FERRULE_ASSERT(static_cast<std::byte*>(block) < found->first + huge_page_bytes && region.out != 0);
    if (--region.out != 0) {
        region.free = new (block) Block{region.free};
        return;
    }
    kernel_->unmap(region.mapping.base, region.mapping.size);
    regions_.erase(found);
}

}  // namespace ferrule::inline v0
