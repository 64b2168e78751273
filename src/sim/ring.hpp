#pragma once

#include <ferrule/ring/abi.hpp>
#include <ferrule/sim/profile.hpp>

#include "sim/descriptors.hpp"
#include "sim/file.hpp"
#include "sim/world.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>

namespace ferrule::inline v0::sim {

/// The locked memory of a process, which rings and buffer rings are charged to from Linux 6.13 on.
struct LockedMemory {
    std::uint64_t limit_bytes = ~std::uint64_t{0};
    std::uint64_t used_bytes = 0;
};

/// The kernel's side of an io_uring: it consumes entries at `enter` and completes them by the rules of Linux, as far as
/// Linux promises them; where it leaves an order open, chance decides. What it does with a descriptor it does through
/// `File`.
///
/// A ring is a file: its descriptor and each mapping of its queues use it (File::acquire), and when the last of them
/// lets go, what is in flight is cancelled.
class SimulatedRing : public File {
public:
    /// io_uring_setup(2): what the profile does not know is refused as its kernel refuses it, and `parameters` are
    /// filled in. `memory` is charged where the profile's kernel does; null: not limited. `paths`: what can be opened;
    /// null: nothing. Errors: -errno.
    static std::expected<std::shared_ptr<SimulatedRing>, int> create(World& world, Descriptors& descriptors,
                                                                     Profile profile, std::uint32_t entries,
                                                                     abi::Parameters* parameters,
                                                                     LockedMemory* memory = nullptr,
                                                                     Paths* paths = nullptr);

    /// Its descriptor, by which findings name it.
    virtual void identify(int descriptor) = 0;

    /// mmap(2) of the ring's descriptor: the queues or the entries; null with a positive errno in `*error`. The memory
    /// is there as long as the ring object is.
    virtual void* map(std::uint64_t offset, std::size_t length, int* error) noexcept = 0;

    /// io_uring_enter(2), of the running fiber, which it may block. The caller has resolved a registered descriptor
    /// (abi::enter_registered_ring is ignored here).
    virtual int enter(std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags, const void* argument,
                      std::size_t argument_size) = 0;

    /// io_uring_register(2), but for abi::register_ring_descriptors and its opposite, which belong to the thread.
    virtual int register_(std::uint32_t opcode, void* argument, std::uint32_t count) = 0;

    /// io_uring_register(2) without a ring (descriptor -1): a message to a ring (6.13). Other opcodes: -EINVAL.
    static int register_without_ring(Descriptors& descriptors, Profile profile, std::uint32_t opcode,
                                     const void* argument, std::uint32_t count);

    /// A call of the kernel reads a file into this memory: a request of the ring may wait to read there, too.
    virtual void read_beside(std::span<const std::byte> memory) = 0;

    /// Requests that have ended, over the ring's life.
    [[nodiscard]] virtual std::uint64_t operations() const noexcept = 0;
    /// Requests that have not ended: submitted, and their last completion not yet posted.
    [[nodiscard]] virtual std::uint32_t in_flight() const noexcept = 0;
    /// What is left, a line each, for the report of a program that ended without its end: requests in flight, buffers
    /// and memory that are the kernel's. Empty: nothing.
    [[nodiscard]] virtual std::string leftovers() const = 0;
};

}  // namespace ferrule::inline v0::sim
