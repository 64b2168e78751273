#include <ferrule/net/network.hpp>

#include "net/file_transfer.hpp"
#include "net/waits.hpp"

#include <cerrno>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

// Files that are sent: what a connection does with the one that stands where its slab in the kernel would.

namespace {
/// What one piece of the memory has that files are read into to be in the page cache. It stays in the processor's
/// cache.
constexpr std::size_t warm_piece_bytes = 64 * 1024;
/// Enough pieces for what is sent in one turn.
constexpr std::size_t warm_piece_count = 16;
}  // namespace

/// The pieces are all the same memory: what is read is only to be in the page cache. What the ring reads into is the
/// kernel's meanwhile, and calls read elsewhere.
std::span<const iovec> Network::warm_pieces(bool in_ring) noexcept {
    if (warm_memory_ == nullptr) {
        try {
            warm_pieces_.reserve(2 * warm_piece_count);
            warm_memory_ = std::make_unique<std::byte[]>(2 * warm_piece_bytes);
            warm_pieces_.assign(warm_piece_count, iovec{warm_memory_.get(), warm_piece_bytes});
            warm_pieces_.resize(2 * warm_piece_count, iovec{warm_memory_.get() + warm_piece_bytes, warm_piece_bytes});
        } catch (const std::bad_alloc&) {
            return {};
        }
    }
    return std::span{warm_pieces_}.subspan(in_ring ? 0 : warm_piece_count, warm_piece_count);
}

/// The send or the poll of the file that is being sent has ended.
void Network::file_ready(ConnectionState& state, std::int32_t result) noexcept {
    auto& send = static_cast<FileSend&>(*state.sending);
    if (state.reset_wanted || state.write_failed) {
        fail_write(state, ECONNABORTED);
        return;
    }
    if (!send.owned) {
        // Given up before its first byte: the connection goes on.
        end_file(state, send);
        after_file(state);
        return;
    }
    send.result = result;
    if (send.waiter && !send.queued) {
        CancelScope::remove(send.cancel_node);
        reactor_->resume(std::exchange(send.waiter, nullptr));
    }
}

/// The file has no place any more where the slab in the kernel would be.
void Network::end_file(ConnectionState& state, WriteSlab& slab) noexcept {
    auto& send = static_cast<FileSend&>(slab);
    if (state.sending == &slab) state.sending = nullptr;
    send.attached = false;
    if (state.write_failed) send.result = -static_cast<std::int32_t>(state.error);
    if (WriteSlab* header = std::exchange(send.header, nullptr); header != nullptr) {
        finish_waiters(header->waiters, state.error);
        release_slab(state, header);
    }
    finish_waiters(std::exchange(send.waiters, nullptr), state.write_failed ? state.error : 0);
    wake_file(send);
    unreference(send);
}

/// What was held back by the file goes on.
void Network::after_file(ConnectionState& state) noexcept {
    finish_flusher(state, false);
    if (state.handles == 0 && state.stage == CloseStage::closed) {
        settle(state);
    } else if (state.handles == 0 || (state.staged != nullptr && state.staged->flushed) ||
               (state.fin_wanted && !state.fin_sent)) {
        request_send(state);
    }
}

void Network::wake_file(FileSend& send) noexcept {
    CancelScope::remove(send.cancel_node);
    if (!send.waiter || send.queued) return;
    send.queued = true;
    reactor_->resume_later(send.waiter);
}

void Network::unreference(FileSend& send) noexcept {
    if (--send.references != 0) return;
    ConnectionState& state = *send.state;
    WriteSlab* const segment = send.segment;
    detail::release(send.open_file);
    give_back_slab(&send);
    if (segment != nullptr) drop_segment(state, segment);
}

}  // namespace ferrule::inline v0
