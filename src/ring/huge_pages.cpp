#include <ferrule/ring/huge_pages.hpp>

#include <sys/mman.h>

namespace ferrule::inline v0 {

namespace {

constexpr int protection = PROT_READ | PROT_WRITE;
constexpr int private_memory = MAP_PRIVATE | MAP_ANONYMOUS;

std::size_t whole_huge_pages(std::size_t bytes) noexcept {
    return (bytes + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
}

}  // namespace

LargeMapping map_large(Kernel& kernel, std::size_t bytes, HugePages pages, int* error) noexcept {
    LargeMapping mapping;
    if (bytes < huge_page_bytes / 2) pages = HugePages::off;
    const std::size_t rounded = whole_huge_pages(bytes);
    if (pages == HugePages::reserved) {
        mapping.base = kernel.map(rounded, protection, private_memory | MAP_HUGETLB, -1, 0, error);
        if (mapping.base != nullptr) {
            mapping.memory = static_cast<std::byte*>(mapping.base);
            mapping.size = rounded;
            mapping.pages = HugePages::reserved;
            return mapping;
        }
    }
    // Kernels before 6.7 do not align it by themselves; what is not touched is only addresses.
    mapping.size = pages == HugePages::off ? bytes : rounded + huge_page_bytes;
    mapping.base = kernel.map(mapping.size, protection, private_memory, -1, 0, error);
    if (mapping.base == nullptr) return {};
    mapping.memory = static_cast<std::byte*>(mapping.base);
    if (pages == HugePages::off) return mapping;
    const auto address = reinterpret_cast<std::uintptr_t>(mapping.base);
    mapping.memory += whole_huge_pages(address) - address;
    if (kernel.advise(mapping.memory, rounded, MADV_HUGEPAGE) >= 0) mapping.pages = HugePages::transparent;
    return mapping;
}

}  // namespace ferrule::inline v0
