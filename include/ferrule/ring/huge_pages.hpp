#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>

namespace ferrule::inline v0 {

/// What pages memory lies on. A large one needs one entry of the processor's address cache where 512 small ones need as
/// many; it is taken from the system as a whole, touched or not.
enum class HugePages : std::uint8_t {
    /// As the system does it.
    off,
    /// The kernel is asked for huge pages where it has some (madvise(2), MADV_HUGEPAGE). Where
    /// /sys/kernel/mm/transparent_hugepage/enabled is `never`, nothing changes.
    transparent,
    /// Pages that the administrator has set aside (vm.nr_hugepages). Where none is left: `transparent`.
    reserved,
};

/// 2 MiB: a huge page of x86-64, and of arm64 with pages of 4 KiB. Others ignore the request.
inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// Anonymous memory.
struct LargeMapping {
    std::byte* memory = nullptr;  ///< to be used; at the beginning of a huge page if such were asked for
    void* base = nullptr;         ///< to be unmapped, with `size`
    std::size_t size = 0;
    HugePages pages = HugePages::off;  ///< what was got
};

/// Maps so many bytes, which are zero. `memory` is null when there are none, with the reason, a positive errno, in
/// `*error`. Less than half a huge page is mapped as if `pages` were off. Any thread.
[[nodiscard]] FERRULE_EXPORT LargeMapping map_large(Kernel& kernel, std::size_t bytes, HugePages pages,
                                                    int* error) noexcept;

}  // namespace ferrule::inline v0
