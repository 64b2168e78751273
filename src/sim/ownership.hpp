#pragma once

#include "sim/world.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <set>
#include <span>
#include <string>

namespace ferrule::inline v0::sim {

/// How a request has a piece of its program's memory.
enum class Access : std::uint8_t {
    reads,   ///< a send: it must stay as it is
    writes,  ///< a receive: nobody else may look or write
};

/// A piece of the program's memory that a request has, from its submission to its last completion.
struct Claim {
    std::uintptr_t address = 0;
    std::size_t length = 0;  ///< 0: nothing is claimed
    Access access = Access::reads;
    bool open = false;  ///< the kernel itself is at it
    std::uint64_t hash = 0;
    const char* operation = "";
    std::uint64_t user_data = 0;
    /// It may be read into only so that it has been read: then others read into the same memory.
    bool may_be_sink = false;
};

/// Which memory of the program is the kernel's, for one ring. Under AddressSanitizer what the kernel writes is poisoned
/// meanwhile, so that a touch is reported where it happens; in other builds it is hashed or filled with a pattern, and
/// a change is a finding when the kernel looks next.
class Ownership {
public:
    Ownership(World& world, const std::string& ring) : world_(world), ring_(ring) {}

    /// The kernel has it from now on. An overlap with what it has already is a finding, unless both are only read.
    void claim(Claim& claim);
    /// The kernel is about to touch it itself: verifies it, and lifts the poison.
    void open(Claim& claim);
    /// The kernel keeps what is behind `done` bytes more, which are the program's again.
    void shut(Claim& claim, std::size_t done);
    /// The program has it back.
    void release(Claim& claim);
    /// The kernel reads a file into it without a claim, at once: what waits to read there, too, may be a sink, and is
    /// not compared from now on.
    void read_beside(std::span<const std::byte> memory);
    [[nodiscard]] std::size_t claims() const noexcept { return claims_.size(); }

    /// A provided buffer is given to the kernel: it must not overlap a claim. `first` when its place was not known.
    void publish(std::uint16_t group, std::uint16_t buffer, std::uintptr_t address, std::size_t length, bool first);
    /// A buffer has another place from now on, or its group is gone (`length` 0).
    void forget(std::uintptr_t address, std::size_t length);
    /// Before the kernel fills a part of a buffer that it has.
    void open_buffer(std::uint16_t group, std::uint16_t buffer, std::uintptr_t address, std::size_t length);
    /// The kernel has not used it after all.
    void shut_buffer(std::uintptr_t address, std::size_t length);
    /// The program has this part back.
    void hand_out(std::uintptr_t address, std::size_t length);
    /// Whether this part of a buffer is the kernel's now; of buffers that a claim overlaps.
    using KernelHas = bool (*)(const void* groups, std::uint16_t group, std::uint16_t buffer);
    void set_kernel_has(KernelHas has, const void* groups) noexcept {
        kernel_has_ = has;
        groups_ = groups;
    }

private:
    struct Place {
        std::size_t length;
        std::uint16_t group;
        std::uint16_t buffer;
        std::size_t handed_out = 0;  // of an incremental buffer, what the program has back at its beginning
    };

    [[nodiscard]] bool is_sink(const Claim& claim);
    void erase(const Claim& claim);
    void verify(const Claim& claim);
    [[nodiscard]] const Claim* overlapping(std::uintptr_t address, std::size_t length, const Claim* but) const;
    void find(const Claim& claim, const std::string& what);

    World& world_;
    const std::string& ring_;
    KernelHas kernel_has_ = nullptr;
    const void* groups_ = nullptr;
    std::pmr::unsynchronized_pool_resource pool_;
    std::pmr::multimap<std::uintptr_t, Claim*> claims_{&pool_};
    std::size_t longest_claim_ = 0;
    /// Where requests that may read for nothing's sake were seen to read at once: nobody looks at that.
    std::set<std::uintptr_t> sinks_;
    std::map<std::uintptr_t, Place> buffers_;
};

/// A request in words: `receive 0x1f`.
[[nodiscard]] std::string describe(const char* operation, std::uint64_t user_data);

}  // namespace ferrule::inline v0::sim
