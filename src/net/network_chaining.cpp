#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/shared_count.hpp"
#include "net/waits.hpp"
#include "net/write_chain.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

namespace ferrule::inline v0 {

// Written bytes in several pieces: how a chain is made, grows, is sent piece by piece, and gives its pieces back. The
// connections of most programs never have one.

namespace {

/// Segments are blocks of at most 64 KiB: the pool keeps them for the next one, where it would give larger ones back.
constexpr std::uint8_t segment_class_max = SlabPool::class_of(64u << 10);
/// What sendmsg(2) takes in one call (UIO_MAXIOV).
constexpr std::uint32_t vector_limit = 1024;
/// So few bytes are copied rather than sent from where they are: a chain costs more. Where they go with others there is
/// a vector, too, and the kernel's look at it costs as much as copying a few KiB.
constexpr std::uint64_t copy_limit_alone = 512;
constexpr std::uint64_t copy_limit_among_others = 2048;

/// Where a send waits for the peer nothing is copied: a copy does not hold back whoever it came from.
bool better_copied(const ConnectionState& state, std::uint64_t bytes, bool single = true) noexcept {
    if (state.sending != nullptr && !state.send_silent) return false;
    return bytes <= (single && state.staged == nullptr ? copy_limit_alone : copy_limit_among_others);
}

constexpr std::uint16_t lent_max = 0xffff;

std::uint8_t class_for(std::uint64_t data) noexcept {
    return static_cast<std::uint8_t>(SlabPool::class_of(static_cast<std::uint32_t>(data + sizeof(WriteSlab))));
}

std::uint32_t space_of(const WriteSlab& slab) noexcept {
    return slab.capacity - slab.size;
}

WriteSlab& slab_of(const LeaseNode& piece) noexcept {
    return *reinterpret_cast<WriteSlab*>(piece.block);
}

bool is_shared(const LeaseNode& piece) noexcept {
    return piece.owner == LeaseOwner::shared && piece.home == nullptr;
}

std::uint64_t memory_of(const LeaseNode& piece) noexcept {
    if (piece.owner != LeaseOwner::slab) return piece.length;
    return piece.block != nullptr ? SlabPool::block_bytes(slab_of(piece).size_class) : 0;
}

}  // namespace

// ---- making ----

/// The chain that is staged; what was staged becomes its first piece.
WriteChain* Network::chain_of(ConnectionState& state) noexcept {
    WriteSlab* slab = state.staged;
    if (slab != nullptr && slab->chained) return static_cast<WriteChain*>(slab);
    if (SlabPool::block_bytes(WriteChain::own_class) > room_left(state)) return nullptr;
    LeaseNode* piece = slab != nullptr ? slab_node(*slab) : nullptr;
    if (slab != nullptr && piece == nullptr) return nullptr;
    void* memory = slabs_.take_class(WriteChain::own_class);
    if (memory == nullptr) {
        if (piece != nullptr) free_node(*piece);
        return nullptr;
    }
    auto* chain = new (memory) WriteChain;
    chain->size_class = WriteChain::own_class;
    chain->chained = true;
    if (slab != nullptr) {
        chain->flushed = slab->flushed;
        chain->waiters = std::exchange(slab->waiters, nullptr);
        for (FlushWait* wait = chain->waiters; wait != nullptr; wait = wait->next) wait->slab = chain;
        link(*chain, *piece);
    }
    state.staged = chain;
    return chain;
}

void Network::link(WriteChain& chain, LeaseNode& piece) noexcept {
    piece.next = nullptr;
    (chain.last != nullptr ? chain.last->next : chain.first) = &piece;
    chain.last = &piece;
    ++chain.count;
    chain.size += piece.length;
    chain.capacity = chain.size;
    if (piece.owner == LeaseOwner::slab && &slab_of(piece) == chain.open) {
        // It goes on in the slab of an earlier piece, and is released after that: it is the one that gives it back.
        chain.open_owner->block = nullptr;
    } else {
        chain.memory_bytes += memory_of(piece);
    }
    if (piece.owner == LeaseOwner::slab) {
        chain.open = &slab_of(piece);
        chain.open_owner = &piece;
    }
}

/// A piece of what is written in a slab from the beginning.
LeaseNode* Network::slab_node(WriteSlab& slab) noexcept {
    LeaseNode* piece = take_node();
    if (piece == nullptr) return nullptr;
    piece->owner = LeaseOwner::slab;
    piece->data = slab.data();
    piece->length = slab.size;
    piece->block = reinterpret_cast<std::byte*>(&slab);
    return piece;
}

/// Another slab for `bytes` bytes or the first of them, of which `contiguous` must be in one piece, within the `left`
/// ones that the account has.
WriteSlab* Network::next_slab(std::uint32_t previous_class, std::uint64_t bytes, std::uint64_t contiguous,
                              std::uint64_t left) noexcept {
    const std::uint32_t most = std::max<std::uint32_t>(segment_class_max, first_slab_class_);
    const std::uint32_t needed =
        std::max<std::uint32_t>(std::min<std::uint32_t>(class_for(bytes), segment_class_max), class_for(contiguous));
    const std::uint32_t wanted =
        std::max(needed, std::min(most, std::max<std::uint32_t>(previous_class, first_slab_class_)));
    // Near the bound it does without the room to grow into.
    const std::uint32_t size_class = SlabPool::block_bytes(wanted) <= left ? wanted : needed;
    return SlabPool::block_bytes(size_class) <= left ? take_slab_class(static_cast<std::uint8_t>(size_class)) : nullptr;
}

// ---- writing ----

std::uint64_t Network::limit_left(const ConnectionState& state) const noexcept {
    const std::uint64_t waiting = (state.staged != nullptr ? std::uint64_t{state.staged->size} : 0) +
                                  (state.sending != nullptr ? std::uint64_t{state.sending->size} : 0);
    return waiting < options_.write_limit ? options_.write_limit - waiting : 0;
}

std::size_t detail::writable_connection(const ConnectionState& state) noexcept {
    const Network& network = *state.network;
    if (state.write_failed || state.fin_wanted) return 0;
    std::uint64_t in_place = 0;
    std::uint64_t left = network.room_left(state);
    if (const WriteSlab* slab = state.staged; slab != nullptr) {
        if (slab->chained) slab = static_cast<const WriteChain*>(slab)->open;
        if (slab != nullptr) in_place = space_of(*slab);
        if (!state.staged->chained) left -= std::min(left, SlabPool::block_bytes(WriteChain::own_class));
    } else {
        left -= std::min(left, SlabPool::block_bytes(WriteChain::own_class));
    }
    constexpr std::uint64_t segment = SlabPool::block_bytes(segment_class_max);
    std::uint64_t in_segments = left / segment * (segment - sizeof(WriteSlab));
    if (left % segment >= SlabPool::block_bytes_min) in_segments += std::bit_floor(left % segment) - sizeof(WriteSlab);
    return std::min(network.limit_left(state), in_place + in_segments);
}

/// Writes what does not fit into the slab that is staged, behind it.
bool Network::write_chained(ConnectionState& state, const std::byte* data, std::size_t size) noexcept {
    if (state.write_failed || state.fin_wanted) return false;
    if (size > limit_left(state)) {
        refuse_write(state);
        return false;
    }
    if (state.staged == nullptr) {
        state.staged = next_slab(0, size, 1, room_left(state));
        // The block may be larger than what the connection may have waiting.
        if (WriteSlab* slab = state.staged; slab != nullptr)
            slab->capacity = static_cast<std::uint32_t>(std::min<std::uint64_t>(slab->capacity, limit_left(state)));
    }
    if (state.staged != nullptr && !state.staged->chained && space_of(*state.staged) >= size) {
        std::memcpy(state.staged->data() + state.staged->size, data, size);
        state.staged->size += static_cast<std::uint32_t>(size);
        return true;
    }
    WriteChain* chain = state.staged != nullptr ? chain_of(state) : nullptr;
    if (chain == nullptr) {
        refuse_write(state);
        return false;
    }
    const std::size_t in_place = chain->open != nullptr ? std::min<std::size_t>(space_of(*chain->open), size) : 0;
    // What it needs is taken before anything is kept, so that a refused write leaves nothing behind.
    bool taken = in_place == 0 || continue_open(*chain);
    LeaseNode* fresh = nullptr;
    LeaseNode** end = &fresh;
    std::uint64_t left = room_left(state);
    std::uint32_t previous_class = chain->open != nullptr ? chain->open->size_class : 0;
    for (std::size_t placed = in_place; taken && placed < size;) {
        WriteSlab* slab = next_slab(previous_class + 1, size - placed, 1, left);
        LeaseNode* piece = slab != nullptr ? slab_node(*slab) : nullptr;
        taken = piece != nullptr;
        if (!taken) {
            if (slab != nullptr) give_back_slab(slab);
            break;
        }
        const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(slab->capacity, size - placed));
        slab->size = piece->length = length;
        std::memcpy(slab->data(), data + placed, length);
        placed += length;
        previous_class = slab->size_class;
        left -= SlabPool::block_bytes(slab->size_class);
        piece->next = nullptr;
        *end = piece;
        end = &piece->next;
    }
    if (!taken) {
        release_pieces(fresh);
        refuse_write(state);
        return false;
    }
    if (in_place != 0) {
        std::memcpy(chain->open->data() + chain->open->size, data, in_place);
        chain->count_in_open(static_cast<std::uint32_t>(in_place));
    }
    while (fresh != nullptr) link(*chain, *std::exchange(fresh, fresh->next));
    return true;
}

/// Counts what was written where `room` was.
void Network::wrote_in_place(ConnectionState& state, std::uint32_t bytes) noexcept {
    if (state.staged->chained) {
        static_cast<WriteChain&>(*state.staged).count_in_open(bytes);
    } else {
        state.staged->size += bytes;
    }
}

/// Makes what is written into the open slab the last piece.
bool Network::continue_open(WriteChain& chain) noexcept {
    if (chain.last == chain.open_owner) return true;
    LeaseNode* piece = take_node();
    if (piece == nullptr) return false;
    piece->owner = LeaseOwner::slab;
    piece->data = chain.open->data() + chain.open->size;
    piece->length = 0;
    piece->block = reinterpret_cast<std::byte*>(chain.open);
    link(chain, *piece);
    return true;
}

/// Room for so many bytes in one piece, behind what is staged.
std::byte* Network::room_chained(ConnectionState& state, std::size_t bytes) noexcept {
    const std::uint64_t limit = limit_left(state);
    if (bytes > limit) {
        refuse_write(state);
        return nullptr;
    }
    WriteSlab* open = state.staged;
    if (open == nullptr) {
        open = state.staged = next_slab(0, bytes, bytes, room_left(state));
    } else if (open->chained || space_of(*open) < bytes) {
        WriteChain* chain = chain_of(state);
        open = chain != nullptr ? chain->open : nullptr;
        if (open != nullptr && space_of(*open) >= bytes) {
            if (!continue_open(*chain)) open = nullptr;
        } else if (chain != nullptr) {
            const std::uint32_t previous_class = open != nullptr ? open->size_class : 0;
            open = next_slab(previous_class + 1, bytes, bytes, room_left(state));
            LeaseNode* piece = open != nullptr ? slab_node(*open) : nullptr;
            if (piece != nullptr) {
                link(*chain, *piece);
            } else if (open != nullptr) {
                give_back_slab(std::exchange(open, nullptr));
            }
        }
    }
    if (open == nullptr) {
        refuse_write(state);
        return nullptr;
    }
    // The block may be larger than what the connection may have waiting.
    open->capacity = static_cast<std::uint32_t>(std::min<std::uint64_t>(open->capacity, open->size + limit));
    return open->data() + open->size;
}

// ---- shared bytes ----

bool Network::write_shared(ConnectionState& state, const SharedBytes& bytes) {
    if (bytes.count_ == nullptr || better_copied(state, bytes.size()))
        return detail::write_connection(state, bytes.slice().data(), bytes.size());
    if (bytes.count_->host != reactor_) [[unlikely]]
        throw std::logic_error("Connection::write_shared: the bytes are of another reactor (SharedBytes::for_reactor)");
    if (state.write_failed || state.fin_wanted) return false;
    WriteChain* chain = chain_for(state, bytes.size());
    if (chain == nullptr) return false;
    LeaseNode* piece = take_node();
    if (piece == nullptr) {
        refuse_write(state);
        return false;
    }
    piece->owner = LeaseOwner::shared;
    piece->home = nullptr;
    piece->data = const_cast<std::byte*>(bytes.slice().data());  // nobody writes to what is sent
    piece->length = static_cast<std::uint32_t>(bytes.size());
    piece->block = reinterpret_cast<std::byte*>(bytes.count_);
    bytes.count_->add();
    link(*chain, *piece);
    return true;
}

// ---- forwarding ----

void Network::check_origin(const LeaseNode& node) const noexcept {
    if (node.home == nullptr && node.connection->network != this) [[unlikely]]
        assertion_failed(__FILE__, __LINE__, "received bytes are forwarded to a connection of another reactor");
}

/// What is forwarded holds what all connections share: it does not wait for a flush.
void Network::send_soon(ConnectionState& state) noexcept {
    state.staged->flushed = true;
    request_send(state);
}

/// The chain that is staged, when so many bytes more that are somewhere else may wait in it.
WriteChain* Network::chain_for(ConnectionState& state, std::uint64_t bytes) noexcept {
    WriteChain* chain = nullptr;
    if (bytes <= limit_left(state) && has_room(state, bytes)) chain = chain_of(state);
    if (chain == nullptr) refuse_write(state);
    return chain;
}

bool Network::forward(ConnectionState& state, Lease& lease) noexcept {
    if (state.write_failed || state.fin_wanted) return false;
    LeaseNode* node = lease.node_;
    if (node == nullptr) return true;
    check_origin(*node);
    ConnectionState* source = node->connection;  // none, when it has another home
    if (better_copied(state, lease.length_) || (source != nullptr && source->lent == lent_max)) {
        const Slice bytes = lease.slice();
        if (!detail::write_connection(state, bytes.data(), bytes.size())) return false;
        if (state.staged != nullptr) send_soon(state);
        lease.reset();
        return true;
    }
    WriteChain* chain = chain_for(state, lease.length_);
    if (chain == nullptr) return false;
    node->data += lease.offset_;
    node->length = std::exchange(lease.length_, 0);
    lease.node_ = nullptr;
    if (source != nullptr) ++source->lent;
    link(*chain, *node);
    send_soon(state);
    return true;
}

bool Network::forward(ConnectionState& state, ReadResult& received) noexcept {
    if (state.write_failed || state.fin_wanted) return false;
    LeaseNode* node = received.first_;
    if (node == nullptr) return true;
    check_origin(*node);
    std::uint64_t done = received.partial_ ? received.consumed_ : 0;
    std::uint64_t total = 0;
    std::uint32_t slices = 0;
    for (const LeaseNode* each = node; each != nullptr; each = each->next, ++slices) total += each->length;
    done = std::min(done, total);
    total -= done;
    ConnectionState* source = node->connection;  // none, when they have another home
    const bool copies = better_copied(state, total, slices == 1) ||
                        (source != nullptr && slices > std::uint32_t{lent_max} - source->lent);
    if (copies) {
        std::byte* into = total != 0 ? room(state, total) : nullptr;
        if (total != 0 && into == nullptr) return false;
        for (const LeaseNode* each = node; each != nullptr; each = each->next) {
            const auto skipped = std::min<std::uint64_t>(done, each->length);
            done -= skipped;
            into = std::copy_n(each->data + skipped, each->length - skipped, into);
        }
        if (total != 0) wrote_in_place(state, static_cast<std::uint32_t>(total));
        if (state.staged != nullptr) send_soon(state);
        received.partial_ = false;
        received.reset();
        return true;
    }
    WriteChain* chain = chain_for(state, total);
    if (chain == nullptr) return false;
    received.partial_ = false;
    received.first_ = nullptr;
    LeaseNode* gone = nullptr;
    while (node != nullptr) {
        LeaseNode& each = *std::exchange(node, node->next);
        if (done >= each.length) {
            done -= each.length;
            each.next = std::exchange(gone, &each);
            continue;
        }
        each.data += done;
        each.length -= static_cast<std::uint32_t>(std::exchange(done, 0));
        if (source != nullptr) ++source->lent;
        link(*chain, each);
    }
    send_soon(state);
    while (gone != nullptr) detail::give_back_lease(*std::exchange(gone, gone->next));
    return true;
}

// ---- segments that are filled elsewhere ----

WriteSlab* Network::take_segment(ConnectionState& state, std::uint32_t bytes) noexcept {
    const std::uint8_t size_class = class_for(bytes);
    const std::uint64_t block = SlabPool::block_bytes(size_class);
    if (state.write_failed || state.fin_wanted || !has_room(state, block)) return nullptr;
    WriteSlab* slab = take_slab_class(size_class);
    if (slab == nullptr) return nullptr;
    state.overhead_bytes += static_cast<std::uint32_t>(block);
    ++state.held;
    return slab;
}

bool Network::append_segment(ConnectionState& state, WriteSlab* slab) noexcept {
    if (state.write_failed || state.fin_wanted) return false;
    if (slab->size > limit_left(state)) {
        refuse_write(state);
        return false;
    }
    if (slab->size == 0) {
        drop_segment(state, slab);
        return true;
    }
    if (state.staged == nullptr) {
        state.staged = slab;
    } else {
        WriteChain* chain = chain_of(state);
        LeaseNode* piece = chain != nullptr ? slab_node(*slab) : nullptr;
        if (piece == nullptr) {
            refuse_write(state);
            return false;
        }
        link(*chain, *piece);
    }
    state.overhead_bytes -= static_cast<std::uint32_t>(SlabPool::block_bytes(slab->size_class));
    --state.held;
    return true;
}

void Network::drop_segment(ConnectionState& state, WriteSlab* slab) noexcept {
    state.overhead_bytes -= static_cast<std::uint32_t>(SlabPool::block_bytes(slab->size_class));
    --state.held;
    give_back_slab(slab);
    settle(state);
}

// ---- sending ----

/// Points the vector to the pieces that are left, as many as it can have. False when those are not all.
bool Network::fill_vector(ConnectionState& state) noexcept {
    auto& chain = static_cast<WriteChain&>(*state.sending);
    const std::uint32_t wanted = std::min(chain.count, vector_limit);
    std::size_t most = WriteChain::pieces_inside;
    if (wanted > most) {
        if (chain.vector == nullptr) {
            const std::uint32_t size_class = SlabPool::class_of(wanted * static_cast<std::uint32_t>(sizeof(iovec)));
            const std::uint64_t block = SlabPool::block_bytes(size_class);
            // Without it, the send is of fewer pieces, and there are more sends.
            void* memory = block <= room_left(state) ? slabs_.take_class(size_class) : nullptr;
            if (memory != nullptr) {
                chain.vector = static_cast<iovec*>(memory);
                chain.vector_class = static_cast<std::uint8_t>(size_class);
                chain.memory_bytes += block;
            }
        }
        if (chain.vector != nullptr)
            most = std::min<std::size_t>(SlabPool::block_bytes(chain.vector_class) / sizeof(iovec), vector_limit);
    }
    iovec* entries = chain.vector != nullptr ? chain.vector : chain.vector_inside.data();
    std::size_t used = 0;
    chain.vector_bytes = 0;
    for (const LeaseNode* piece = chain.first; piece != nullptr && used < most; piece = piece->next) {
        if (piece->length == 0) continue;
        entries[used++] = {.iov_base = piece->data, .iov_len = piece->length};
        chain.vector_bytes += piece->length;
    }
    chain.message.msg_iov = entries;
    chain.message.msg_iovlen = used;
    return chain.vector_bytes == chain.size - chain.sent;
}

void Network::prepare_vector(abi::SubmissionEntry& entry, const ConnectionState& state, int flags) noexcept {
    const auto& chain = static_cast<const WriteChain&>(*state.sending);
    if (chain.message.msg_iovlen == 1) {
        prepare::send(entry, state.descriptor, chain.message.msg_iov->iov_base, chain.vector_bytes, flags);
    } else {
        prepare::send_message(entry, state.descriptor, &chain.message, flags);
    }
}

/// Takes away the pieces that are sent, and what is sent of the first that is left. They are the caller's to release.
LeaseNode* Network::trim_chain(WriteChain& chain, std::uint64_t bytes) noexcept {
    LeaseNode* gone = chain.first;
    LeaseNode* last = nullptr;
    LeaseNode* piece = chain.first;
    for (; piece->length <= bytes; piece = piece->next) {
        bytes -= piece->length;
        chain.memory_bytes -= memory_of(*piece);
        --chain.count;
        last = piece;
    }
    chain.first = piece;
    if (piece->owner != LeaseOwner::slab) chain.memory_bytes -= bytes;
    piece->data += bytes;
    piece->length -= static_cast<std::uint32_t>(bytes);
    if (last == nullptr) return nullptr;
    last->next = nullptr;
    return gone;
}

// ---- giving back ----

void Network::release_piece(LeaseNode& piece) noexcept {
    if (is_shared(piece)) {
        reinterpret_cast<detail::SharedCount*>(piece.block)->release();
        free_node(piece);
        return;
    }
    if (piece.owner != LeaseOwner::slab) {
        if (piece.home == nullptr) --piece.connection->lent;
        detail::give_back_lease(piece);
        return;
    }
    if (piece.block != nullptr) give_back_slab(&slab_of(piece));
    free_node(piece);
}

void Network::release_pieces(LeaseNode* first) noexcept {
    while (first != nullptr) release_piece(*std::exchange(first, first->next));
}

void Network::release_chain(ConnectionState& state, WriteSlab* head) noexcept {
    auto* chain = static_cast<WriteChain*>(head);
    LeaseNode* pieces = chain->first;
    if (chain->vector != nullptr) slabs_.give_back_class(chain->vector, chain->vector_class);
    give_back_slab(chain);
    // A piece may be one that this connection has received itself: its slot is settled by the caller, who still needs
    // it.
    ++state.operations;
    release_pieces(pieces);
    --state.operations;
}

/// The network goes: only memory is given back, which outlives nothing else of it.
void Network::abandon_pieces(WriteSlab& head) noexcept {
    auto& chain = static_cast<WriteChain&>(head);
    for (const LeaseNode* piece = chain.first; piece != nullptr; piece = piece->next) {
        if (piece->owner == LeaseOwner::slab) {
            if (piece->block != nullptr) give_back_slab(&slab_of(*piece));
        } else if (is_shared(*piece)) {
            reinterpret_cast<detail::SharedCount*>(piece->block)->release();
        } else if (piece->owner == LeaseOwner::heap) {
            slabs_.give_back(piece->block, piece->block_bytes);
        }
    }
    if (chain.vector != nullptr) slabs_.give_back_class(chain.vector, chain.vector_class);
}

}  // namespace ferrule::inline v0
