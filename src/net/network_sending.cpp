#include <ferrule/assert.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/defence.hpp"
#include "net/waits.hpp"
#include "net/write_chain.hpp"
#include "ring/probes.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

// The sending side of a network's connections: slabs of written bytes, one send of all of them per pass, and who waits
// for it.

namespace {
/// A silent send: what the kernel cannot take at once is reported, and sent again when there is room.
constexpr int send_at_once = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT;
/// A send that waits in the kernel for room, and ends when it has found some: the write timeout counts from the last
/// byte that the peer made room for.
constexpr int send_when_possible = MSG_NOSIGNAL;
}  // namespace

bool Network::write_slowly(ConnectionState& state, const std::byte* data, std::size_t size) noexcept {
    if (options_.write_overflow != WriteOverflow::grow || (state.staged != nullptr && state.staged->chained))
        return write_chained(state, data, size);
    std::byte* into = room(state, size);
    if (into == nullptr) return false;
    std::memcpy(into, data, size);
    state.staged->size += static_cast<std::uint32_t>(size);
    return true;
}

/// Under back-pressure a write that finds no room does no harm, unless nothing is there whose sending would make room:
/// then it would wait for ever.
void Network::refuse_write(ConnectionState& state) noexcept {
    if (options_.write_overflow == WriteOverflow::back_pressure && detail::unsent_connection(state) != 0) return;
    fail_write(state, ENOBUFS);
}

std::byte* Network::room(ConnectionState& state, std::size_t bytes) noexcept {
    if (state.write_failed || state.fin_wanted) return nullptr;
    WriteSlab* slab = state.staged;
    if (options_.write_overflow != WriteOverflow::grow || (slab != nullptr && slab->chained))
        return room_chained(state, bytes);
    const std::uint64_t size = slab != nullptr ? slab->size : 0;
    const std::uint64_t pending = state.sending != nullptr ? state.sending->size : 0;
    if (bytes > options_.write_limit || size + pending + bytes > options_.write_limit) {
        fail_write(state, ENOBUFS);
        return nullptr;
    }
    if (slab != nullptr && slab->capacity - slab->size >= bytes) return slab->data() + slab->size;
    if (slab == nullptr && state.sending == nullptr && bytes <= first_slab_bytes_) [[likely]] {
        if (slab = stage_first_slab(state); slab != nullptr) [[likely]]
            return slab->data();
    }
    std::uint64_t capacity = std::max<std::uint64_t>(size + bytes, options_.write_slab_size);
    if (slab != nullptr) capacity = std::max<std::uint64_t>(capacity, std::uint64_t{slab->capacity} * 2);
    capacity =
        std::min<std::uint64_t>(capacity, std::max<std::uint64_t>(options_.write_limit, options_.write_slab_size));
    const auto class_for = [](std::uint64_t data) {
        return static_cast<std::uint8_t>(SlabPool::class_of(static_cast<std::uint32_t>(data + sizeof(WriteSlab))));
    };
    const std::uint64_t left = room_left(state);
    std::uint8_t size_class = class_for(capacity);
    // Near the bound it does without the room to grow into.
    if (SlabPool::block_bytes(size_class) > left) size_class = class_for(size + bytes);
    WriteSlab* larger = SlabPool::block_bytes(size_class) <= left ? take_slab_class(size_class) : nullptr;
    if (larger == nullptr) {
        fail_write(state, ENOBUFS);
        return nullptr;
    }
    if (slab != nullptr) {
        std::memcpy(larger->data(), slab->data(), slab->size);
        larger->size = slab->size;
        larger->flushed = slab->flushed;
        larger->waiters = slab->waiters;
        for (FlushWait* wait = larger->waiters; wait != nullptr; wait = wait->next) wait->slab = larger;
        give_back_slab(slab);
    }
    // The block may be larger than what the connection may have waiting.
    larger->capacity = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(larger->capacity, std::uint64_t{options_.write_limit} - pending));
    state.staged = larger;
    return larger->data() + larger->size;
}

void Network::build_send(ConnectionState& state) noexcept {
    if (state.sending != nullptr) return;  // its end asks again
    WriteSlab* slab = state.staged;
    if (slab == nullptr || slab->size == 0 || state.write_failed) {
        if (slab != nullptr && (state.handles == 0 || slab->flushed)) {
            state.staged = nullptr;
            finish_waiters(slab->waiters, state.write_failed ? state.error : 0);
            finish_flusher(state, true);
            release_slab(state, slab);
        }
        if (state.handles == 0) {
            progress_close(state);
        } else if (state.fin_wanted && !state.fin_sent && !state.write_failed) {
            state.fin_sent = true;
            reactor_->kernel().shutdown(state.descriptor, SHUT_WR);
        }
        return;
    }
    state.staged = nullptr;
    state.sending = slab;
    state.flusher_on_staged = false;
    const bool link = state.handles == 0 && state.stage == CloseStage::flushing && may_close_at_once(state);
    if (slab->chained || slab->more) [[unlikely]]
        send_silently<true>(state, link);
    else
        send_silently<false>(state, link);
}

template <bool special>
inline void Network::send_silently(ConnectionState& state, bool link) noexcept {
    WriteSlab* slab = state.sending;
    Ring& ring = reactor_->ring();
    const bool chained = special && slab->chained;
    if (ring.polled()) [[unlikely]] {
        send_aloud(state);
        return;
    }
    if (chained) link = fill_vector(state) && link;  // otherwise another send follows
    // A linked close must stand right behind its send.
    if (link && ring.available() < 2) {
        static_cast<void>(ring.submit());
        link = ring.available() >= 2;
    }
    slab->sequence = ring.next_sequence();
    abi::SubmissionEntry& entry = ring.entry();
    const int flags = special && slab->more ? send_at_once | MSG_MORE : send_at_once;
    if (chained)
        prepare_vector(entry, state, flags);
    else
        prepare::send(entry, state.descriptor, slab->data(), slab->size, flags);
    entry.flags = static_cast<std::uint8_t>(abi::entry_completion_skip_success | (link ? abi::entry_link : 0));
    entry.user_data = tag_of(send_kind_, state);
    state.send_silent = true;
    FERRULE_PROBE(flush, state.descriptor, slab->size);
    unconfirmed_.push_back(&state);
    if (link) {
        state.close_linked = true;
        submit_close(state);
    }
}

/// A thread of the kernel's takes the entry at its own time: that nothing was said does not mean that it went.
void Network::send_aloud(ConnectionState& state) noexcept {
    WriteSlab& slab = *state.sending;
    if (slab.chained) fill_vector(state);
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    // Nobody waits for a peer that does not read when the reactor ends.
    const int flags = send_when_possible | (slab.more ? MSG_MORE : 0) | (shutting_down_ ? MSG_DONTWAIT : 0);
    if (slab.chained)
        prepare_vector(entry, state, flags);
    else
        prepare::send(entry, state.descriptor, slab.data(), slab.size, flags);
    entry.user_data = tag_of(send_kind_, state);
    wait_for_send(state);
}

/// Sends it in place of what is staged. Nothing is being sent.
void Network::send_now(ConnectionState& state, WriteSlab& slab) noexcept {
    state.sending = &slab;
    send_silently<true>(state, false);
}

void Network::send_rest(ConnectionState& state) noexcept {
    if (shutting_down_) [[unlikely]] {
        // Nobody waits for a peer that does not read.
        state.reset_wanted = true;
        fail_write(state, ECANCELED);
        return;
    }
    WriteSlab& slab = *state.sending;
    if (slab.chained) fill_vector(state);
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    if (slab.chained)
        prepare_vector(entry, state, send_when_possible);
    else
        prepare::send(entry, state.descriptor, slab.data() + slab.sent, slab.size - slab.sent, send_when_possible);
    entry.user_data = tag_of(send_kind_, state);
    wait_slowly(state);
}

/// The kernel waits for room, from now on.
void Network::wait_slowly(ConnectionState& state) noexcept {
    counters_.slow_sends.add();
    wait_for_send(state);
}

void Network::wait_for_send(ConnectionState& state) noexcept {
    state.send_slow = true;
    ++state.operations;
    state.sending->since = ticks_now();
    if (options_.write_timeout.count() > 0) {
        const std::uint64_t due = due_of(state.sending->since, options_.write_timeout);
        if (!state.timer.armed() || reactor_->timers().due(state.timer) > due) reactor_->timers().arm(state.timer, due);
    }
    if (defence_ != nullptr) guard_send(state);
}

void Network::on_send(void* owner, const abi::Completion& completion) noexcept {
    const Tag tag = Tag::decode(completion.user_data);
    auto& self = *static_cast<Network*>(owner);
    ConnectionState* found = self.find(tag);
    if (found == nullptr) return;
    ConnectionState& state = *found;
    if (state.sending == nullptr || (!state.send_silent && !state.send_slow)) {
        self.counters_.stale_completions.add();
        return;
    }
    if (state.send_slow) {
        state.send_slow = false;
        --state.operations;
        if (self.defence_ != nullptr) self.guard_sent(state);
    }
    state.send_silent = false;
    if (state.close_linked) {
        // The close behind it was cancelled, and says nothing of it: a silent entry that fails silences its chain.
        state.close_linked = false;
        state.stage = CloseStage::flushing;
        --state.operations;
    }
    WriteSlab& slab = *state.sending;
    if (slab.file) [[unlikely]] {
        self.file_ready(state, completion.result);
        return;
    }
    if (completion.result > 0) slab.sent += static_cast<std::uint32_t>(completion.result);
    if (slab.sent == slab.size) {
        self.send_done(state);
        return;
    }
    LeaseNode* gone =
        slab.chained && completion.result > 0
            ? self.trim_chain(static_cast<WriteChain&>(slab), static_cast<std::uint32_t>(completion.result))
            : nullptr;
    if (state.reset_wanted || state.write_failed) {
        self.fail_write(state, ECONNABORTED);
    } else if (completion.result >= 0 || completion.result == -EAGAIN || completion.result == -EINTR) {
        self.send_rest(state);
    } else {
        self.fail_write(state, -completion.result);
    }
    // Giving back may end another connection, and so begin the handler of one that waited: it comes last.
    self.release_pieces(gone);
}

/// A vector has gone. When it was not all of the chain, the next one follows.
void Network::chain_done(ConnectionState& state) noexcept {
    auto& chain = static_cast<WriteChain&>(*state.sending);
    if (chain.sent != chain.size) chain.sent += chain.vector_bytes;  // nobody has told: it was silent
    if (chain.sent == chain.size) {
        state.sending = nullptr;
        tally_.bytes_sent += chain.size;
        ++tally_.sends;
        finish_waiters(chain.waiters, 0);
        release_chain(state, &chain);
        after_send(state);
        return;
    }
    LeaseNode* gone = trim_chain(chain, chain.vector_bytes);
    if (state.reset_wanted || state.write_failed || shutting_down_) {
        if (shutting_down_) state.reset_wanted = true;
        fail_write(state, ECONNABORTED);
    } else {
        send_silently<true>(state,
                            state.handles == 0 && state.stage == CloseStage::flushing && may_close_at_once(state));
    }
    release_pieces(gone);
}

void Network::send_done(ConnectionState& state) noexcept {
    WriteSlab* slab = state.sending;
    if (slab->chained) [[unlikely]] {
        chain_done(state);
        return;
    }
    state.sending = nullptr;
    tally_.bytes_sent += slab->size;
    ++tally_.sends;
    if (slab->waiters != nullptr) [[unlikely]]
        finish_waiters(std::exchange(slab->waiters, nullptr), 0);
    give_back_slab(slab);
    after_send(state);
}

inline void Network::after_send(ConnectionState& state) noexcept {
    if (state.handles == 0) [[unlikely]] {
        finish_flusher(state, false);
        if (state.stage == CloseStage::closed) {
            settle(state);
        } else {
            request_send(state);
        }
        return;
    }
    if ((state.staged != nullptr && state.staged->flushed) || (state.fin_wanted && !state.fin_sent)) [[unlikely]]
        request_send(state);
    // The usual case: one waiter, resumed here and now. It may do anything, so it comes last.
    if (state.flusher && !state.flusher_on_staged && !state.flusher_queued) [[likely]]
        reactor_->resume(state.flusher);
}

void Network::finish_waiters(FlushWait* first, int error) noexcept {
    // They go to the ready list: each may end what the next one waits for.
    for (FlushWait* wait = first; wait != nullptr; wait = wait->next) {
        CancelScope::remove(wait->cancel_node);
        wait->slab = nullptr;
        wait->error = error;
        wait->stage = FlushWait::Stage::queued;
        reactor_->resume_later(wait->waiter);
    }
}

void Network::finish_flusher(ConnectionState& state, bool staged) noexcept {
    if (!state.flusher || state.flusher_queued || state.flusher_on_staged != staged) return;
    state.flusher_queued = true;
    reactor_->resume_later(state.flusher);
}

void Network::fail_write(ConnectionState& state, int error) noexcept {
    if (!state.write_failed) {
        state.write_failed = true;
        if (state.error == 0) state.error = static_cast<std::uint8_t>(error);
    }
    // What the kernel still works on stays until its completion.
    if (state.sending != nullptr && !state.send_slow && !state.send_silent) {
        WriteSlab* slab = std::exchange(state.sending, nullptr);
        finish_waiters(slab->waiters, state.error);
        finish_flusher(state, false);
        release_slab(state, slab);
    }
    if (state.staged != nullptr) {
        WriteSlab* slab = std::exchange(state.staged, nullptr);
        finish_waiters(slab->waiters, state.error);
        finish_flusher(state, true);
        release_slab(state, slab);
    }
    if (state.handles != 0) {
        const EndReason reason = state.error == ETIMEDOUT                            ? EndReason::deadline
                                 : state.error == EPIPE || state.error == ECONNRESET ? EndReason::reset
                                                                                     : EndReason::failed;
        end_read(state, reason, 0);
    } else if (state.stage != CloseStage::closed) {
        progress_close(state);
    } else {
        settle(state);
    }
}

}  // namespace ferrule::inline v0
