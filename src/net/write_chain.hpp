#pragma once

#include <ferrule/net/connection_state.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/net/slab_pool.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace ferrule::inline v0 {

/// Bytes that were written and not yet handed to the kernel, in several pieces: further slabs, received slices that are
/// forwarded, shared bytes. It stands where a single slab would, and its `size` is that of all pieces; its `capacity`
/// says that nothing more fits, so that whoever writes comes to look what it is. One vectored send takes all of it.
struct WriteChain : WriteSlab {
    /// Pieces that are sent without another block for the vector: a head and a body, a batch of slices.
    static constexpr std::size_t pieces_inside = 22;
    /// The class of the block that it is in.
    static constexpr std::uint8_t own_class = 1;

    LeaseNode* first = nullptr;
    LeaseNode* last = nullptr;
    WriteSlab* open = nullptr;        // the last slab among the pieces: its `size` bytes are in use, the rest is free
    LeaseNode* open_owner = nullptr;  // the last piece that is in it, which gives it back
    iovec* vector = nullptr;          // a block of its own, when there are many pieces
    std::uint64_t memory_bytes = 0;   // blocks of slabs and of the vector; forwarded and shared bytes by their number
    std::uint32_t vector_bytes = 0;   // bytes that the send in the kernel is of
    std::uint32_t count = 0;          // pieces
    std::uint8_t vector_class = 0;
    msghdr message{};
    std::array<iovec, pieces_inside> vector_inside;

    /// More was written into the open slab, behind its last piece.
    void count_in_open(std::uint32_t bytes) noexcept {
        open->size += bytes;
        open_owner->length += bytes;
        size += bytes;
        capacity = size;
    }
};
static_assert(sizeof(WriteChain) <= SlabPool::block_bytes(WriteChain::own_class));

}  // namespace ferrule::inline v0
