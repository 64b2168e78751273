#pragma once

#include <ferrule/ring/abi.hpp>

#include "sim/ownership.hpp"
#include "sim/world.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ferrule::inline v0::sim {

/// The kernel's side of a ring of provided buffers: which the program has published, and which of them is next.
class BufferGroup {
public:
    /// The buffer that a receive would fill.
    struct Choice {
        std::byte* data = nullptr;
        std::uint32_t length = 0;
        std::uint16_t buffer = 0;
    };

    /// `head`: where the kernel goes on (0 but for the bug of older kernels).
    BufferGroup(World& world, Ownership& ownership, const std::string& ring,
                const abi::BufferRingRegistration& registration, std::uint16_t head);
    BufferGroup(const BufferGroup&) = delete;
    BufferGroup& operator=(const BufferGroup&) = delete;
    /// What the kernel has goes back to the program.
    ~BufferGroup();

    [[nodiscard]] std::uint16_t number() const noexcept { return number_; }
    [[nodiscard]] std::uint32_t entries() const noexcept { return mask_ + 1; }
    [[nodiscard]] bool incremental() const noexcept { return incremental_; }
    [[nodiscard]] std::uint16_t head() const noexcept { return head_; }

    /// Looks at what the program has published since.
    void look();
    /// The next buffer, `length` bytes of it at most (0: all); without data when there is none. It stays the group's
    /// until `commit`.
    [[nodiscard]] Choice choose(std::uint32_t length);
    /// The choice is not used.
    void put_back(const Choice& choice);
    /// The choice has been filled with so many bytes: the flags for its completion.
    std::uint32_t commit(const Choice& choice, std::uint32_t filled);
    /// The kernel has this buffer.
    [[nodiscard]] bool has(std::uint16_t buffer) const noexcept {
        return buffer < buffers_.size() && buffers_[buffer].kernel_has;
    }
    /// Buffers that the kernel has.
    [[nodiscard]] std::uint32_t count() const noexcept { return held_; }

private:
    struct Buffer {
        std::uintptr_t address = 0;
        std::uint32_t length = 0;
        bool kernel_has = false;
    };

    [[nodiscard]] abi::BufferEntry& entry(std::uint16_t number) const noexcept { return entries_[number & mask_]; }
    void take(const abi::BufferEntry& published);
    void find(const std::string& what);

    World& world_;
    Ownership& ownership_;
    const std::string& ring_;
    abi::BufferEntry* entries_;
    std::uint32_t mask_;
    std::uint32_t held_ = 0;
    std::uint16_t number_;
    std::uint16_t head_;
    std::uint16_t seen_;  // the program's tail when the kernel last looked
    bool incremental_;
    std::vector<Buffer> buffers_;
};

}  // namespace ferrule::inline v0::sim
