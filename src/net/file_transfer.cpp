#include <ferrule/ring/prepare.hpp>

#include "net/file_transfer.hpp"
#include "net/waits.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

namespace ferrule::inline v0 {

namespace {
/// What one connection may send of a file before it is the others' turn: some 100 microseconds of a processor. With
/// half of it, the system calls around each piece cost 2 % per byte more, with twice as much 1 % less.
constexpr std::size_t turn_bytes = 1024 * 1024;
/// Of a file that is read and sent piece by piece.
constexpr std::uint32_t copied_bytes = 64 * 1024 - sizeof(WriteSlab);

std::uint32_t block_of(const WriteSlab& slab) noexcept {
    return static_cast<std::uint32_t>(detail::memory_of_slab(slab));
}

/// Who waits for the file waits for the other.
void pass_waiters(FileSend& send, WriteSlab& other) noexcept {
    FlushWait** end = &other.waiters;
    while (*end != nullptr) end = &(*end)->next;
    *end = std::exchange(send.waiters, nullptr);
    for (FlushWait* wait = *end; wait != nullptr; wait = wait->next) wait->slab = &other;
}
}  // namespace

// ---- FileSend ----

void FileSend::on_cancel(CancelNode& node, CancelReason) noexcept {
    FileSend& send = *static_cast<Cancelled&>(node).send;
    send.cancelled = true;
    send.state->network->wake_file(send);
}

void FileSend::on_read_ended(AbandonedOperation& abandoned, std::int32_t) noexcept {
    FileSend& send = *static_cast<ReadEnded&>(abandoned).send;
    send.reading = false;
    send.state->network->unreference(send);
}

// ---- making and ending ----

FileTransfer::FileTransfer(ConnectionState& state, std::uint32_t generation, detail::OpenFile& file,
                           std::uint64_t offset, std::uint64_t length)
    : state_(&state), generation_(generation), network_(state.network), file_(&file), offset_(offset), left_(length) {
    if (state.generation != generation || state.handles == 0)
        throw std::logic_error("send_file: the connection has ended");
    if (state.sends_file) throw std::logic_error("send_file: another file is being sent on this connection");
    state.sends_file = true;
    if (state.fin_wanted) failure_ = {.refused = true, .error = EPIPE};
    constexpr auto offset_max = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
    if (offset > offset_max || length > offset_max - offset) failure_ = {.of_file = true, .error = EOVERFLOW};
}

FileTransfer::~FileTransfer() {
    if (state_->generation == generation_) state_->sends_file = false;
    leave();
}

void FileTransfer::leave() noexcept {
    FileSend* const send = std::exchange(send_, nullptr);
    if (send == nullptr) return;
    send->owned = false;
    if (send->attached) {
        ConnectionState& state = *state_;
        if (sent_ != 0 || (send->segment != nullptr && state.send_slow)) {
            network_->abort_state(state, ECANCELED);
        } else if (state.send_slow) {
            network_->reactor_->cancel_request(Network::tag_of(network_->send_kind_, state));
        } else {
            give_back_header(*send);
        }
    }
    network_->unreference(*send);
}

/// As if it had never been taken: who waits for the file waits for what was written before it, and what was written
/// since stands behind that.
void FileTransfer::give_back_header(FileSend& send) noexcept {
    ConnectionState& state = *state_;
    WriteSlab* const header = std::exchange(send.header, nullptr);
    if (header == nullptr) {
        network_->end_file(state, send);
        network_->after_file(state);
        return;
    }
    state.overhead_bytes -= block_of(*header);
    pass_waiters(send, *header);
    const bool waited_for = header->waiters != nullptr || (state.flusher && !state.flusher_on_staged);
    network_->end_file(state, send);
    if (state.staged == nullptr) {
        state.staged = header;
        state.flusher_on_staged = static_cast<bool>(state.flusher);
        header->flushed = header->flushed || waited_for;
        if (header->flushed || state.handles == 0) network_->request_send(state);
    } else {
        network_->send_now(state, *header);
    }
}

void FileTransfer::finish() noexcept {
    FileSend* const send = std::exchange(send_, nullptr);
    if (send == nullptr) return;
    send->owned = false;
    if (send->attached) {
        network_->end_file(*state_, *send);
        network_->after_file(*state_);
    }
    network_->unreference(*send);
}

void FileTransfer::fail() noexcept {
    if (!connected() || failure_.refused) return;
    if (failure_.of_file) {
        network_->abort_state(*state_, failure_.error);
    } else {
        network_->fail_write(*state_, failure_.error);
    }
}

bool FileTransfer::connected() const noexcept {
    return state_->generation == generation_ && !state_->write_failed && !state_->reset_wanted &&
           state_->stage <= CloseStage::flushing;
}

bool FileTransfer::cancelled(const Environment& environment) const noexcept {
    return network_->scope_of(&environment)->cancelled();
}

int FileTransfer::connection_error() const noexcept {
    if (failure_.error != 0) return failure_.error;
    if (send_ != nullptr && !send_->attached && send_->result < 0) return -send_->result;
    return state_->generation == generation_ && state_->error != 0 ? state_->error : EPIPE;
}

bool FileTransfer::small() const noexcept {
    return left_ <= network_->options_.file_copy_limit && left_ <= network_->limit_left(*state_);
}

// ---- the connection's place ----

bool FileTransfer::must_flush(bool in_one_piece) const noexcept {
    return state_->sending != nullptr || (state_->staged != nullptr && !in_one_piece);
}

detail::FlushAwaiter FileTransfer::flush_before() noexcept {
    if (state_->staged != nullptr) state_->staged->more = left_ != 0;
    return detail::FlushAwaiter{state_};
}

bool FileTransfer::begin(bool in_one_piece) noexcept {
    ConnectionState& state = *state_;
    // Whoever shuts writing down from now on ends it behind the file.
    if (state.fin_sent) {
        failure_ = {.refused = true, .error = EPIPE};
        return false;
    }
    void* memory = network_->slabs_.take_class(FileSend::own_class);
    if (memory == nullptr) {
        failure_ = {.error = ENOBUFS};
        return false;
    }
    send_ = new (memory) FileSend(state, *file_);
    if (in_one_piece && !take_segment(static_cast<std::uint32_t>(left_))) {
        // Going without a copy needs none.
        network_->unreference(*std::exchange(send_, nullptr));
        return false;
    }
    ++send_->references;
    send_->attached = true;
    if (WriteSlab* header = std::exchange(state.staged, nullptr); header != nullptr) {
        send_->header = header;
        send_->size = header->size;
        state.overhead_bytes += block_of(*header);
        state.flusher_on_staged = false;
    }
    state.sending = send_;
    return true;
}

// ---- reading ----

bool FileTransfer::take_segment(std::uint32_t bytes) noexcept {
    if (send_->segment != nullptr) return true;
    const bool ends = state_->fin_wanted;
    state_->fin_wanted = false;  // that ends what comes behind the file
    WriteSlab* segment = network_->take_segment(*state_, bytes);
    state_->fin_wanted = ends;
    if (segment == nullptr) return false;
    // Not more than is wanted, so that a full one is all.
    segment->capacity = bytes;
    send_->segment = segment;
    return true;
}

bool FileTransfer::take_segment() noexcept {
    if (take_segment(static_cast<std::uint32_t>(std::min<std::uint64_t>(left_, copied_bytes)))) return true;
    failure_ = {.error = ENOBUFS};
    return false;
}

Operation FileTransfer::read_segment() {
    WriteSlab& segment = *send_->segment;
    const auto wanted = static_cast<std::uint32_t>(std::min<std::uint64_t>(left_, segment.capacity - segment.size));
    Operation reading = network_->reactor_->submit("read a file to send", [&](abi::SubmissionEntry& entry) {
        prepare::read(entry, file_->descriptor, segment.data() + segment.size, wanted, offset_);
    });
    if (reading.when_abandoned(send_->read_ended)) {
        send_->reading = true;
        ++send_->references;
    }
    return reading;
}

bool FileTransfer::segment_read(std::int32_t result) noexcept {
    if (std::exchange(send_->reading, false)) --send_->references;
    if (result == -EINTR || result == -EAGAIN) return true;
    if (result <= 0) {
        failure_ = {.of_file = true, .truncated = result == 0, .error = result == 0 ? ENODATA : -result};
        return false;
    }
    WriteSlab& segment = *send_->segment;
    segment.size += static_cast<std::uint32_t>(result);
    offset_ += static_cast<std::uint32_t>(result);
    left_ -= static_cast<std::uint32_t>(result);
    return left_ != 0 && segment.size != segment.capacity;
}

FileTransfer::Commit::Restore::Restore(FileTransfer& transfer) noexcept
    : state_(transfer.state_), later_(state_->staged), flusher_on_later_(state_->flusher_on_staged) {
    FileSend& send = *std::exchange(transfer.send_, nullptr);
    Network& network = *transfer.network_;
    WriteSlab* const header = std::exchange(send.header, nullptr);
    WriteSlab* const segment = std::exchange(send.segment, nullptr);
    if (header != nullptr) state_->overhead_bytes -= block_of(*header);
    state_->staged = header;
    state_->sending = nullptr;
    state_->flusher_on_staged = state_->flusher && !flusher_on_later_;
    const bool ends = state_->fin_wanted;
    state_->fin_wanted = false;  // that ends what comes behind the file
    committed_ = network.append_segment(*state_, segment);
    state_->fin_wanted = ends;
    if (committed_) {
        // Who waits for the file waits for what stands in its place.
        pass_waiters(send, *state_->staged);
    } else {
        network.drop_segment(*state_, segment);
    }
    send.owned = false;
    network.end_file(*state_, send);
    network.unreference(send);
}

FileTransfer::Commit::Restore::~Restore() {
    ConnectionState& state = *state_;
    Network& network = *state.network;
    if (WriteSlab* slab = std::exchange(state.staged, nullptr); slab != nullptr) {
        slab->flushed = true;
        network.send_now(state, *slab);
    }
    state.staged = later_;
    state.flusher_on_staged = flusher_on_later_;
    if (state.sending == nullptr) network.after_file(state);
}

// ---- without a copy ----

std::size_t FileTransfer::cached(std::size_t bytes) noexcept {
    Kernel& kernel = network_->reactor_->kernel();
    if (asks_cache_) {
        const ssize_t told = kernel.cached_bytes(file_->descriptor, offset_, bytes);
        if (told >= 0) return static_cast<std::size_t>(told) == bytes ? bytes : 0;
        asks_cache_ = false;
    }
    // What can be read at once is cached. Where not even that can be asked, what has just been read is.
    const std::span<const iovec> pieces = network_->warm_pieces(false);
    const std::size_t piece_bytes = pieces.empty() ? bytes : pieces.front().iov_len;
    const auto count = static_cast<int>(std::min((bytes + piece_bytes - 1) / piece_bytes, pieces.size()));
    const ssize_t read = kernel.read_cached(file_->descriptor, pieces.data(), count, offset_);
    if (read > 0) return std::min(static_cast<std::size_t>(read), bytes);
    if (read == 0 || (read != -EAGAIN && offset_ < warm_until_)) return bytes;
    return 0;
}

FileTransfer::Step FileTransfer::step() noexcept {
    ConnectionState& state = *state_;
    std::size_t bytes = static_cast<std::size_t>(std::min<std::uint64_t>(left_, turn_bytes));
    if (warm_until_ > offset_) bytes = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, warm_until_ - offset_));
    bytes = cached(bytes);
    // What has just been read, and is not cached all the same, never will be.
    if (bytes == 0) return warm_until_ > offset_ ? Step::copy : Step::cold;
    const ssize_t sent = network_->reactor_->kernel().send_file(state.descriptor, file_->descriptor, offset_, bytes);
    if (sent > 0) {
        const auto count = static_cast<std::size_t>(sent);
        offset_ += count;
        left_ -= count;
        sent_ += count;
        network_->tally_.bytes_sent += count;
        ++network_->tally_.sends;
        if (left_ == 0) return Step::done;
        return count < bytes ? Step::full : Step::turn;
    }
    switch (sent) {
        case 0:
            failure_ = {.of_file = true, .truncated = true, .error = ENODATA};
            return Step::broken;
        case -EAGAIN:
            return Step::full;
        case -EINTR:
            return Step::turn;
        case -EINVAL:
        case -ENOSYS:
        case -EOPNOTSUPP:
            return Step::copy;
        case -EPIPE:
        case -ECONNRESET:
        case -ECONNABORTED:
        case -ENOTCONN:
        case -ETIMEDOUT:
        case -EHOSTUNREACH:
        case -ENETUNREACH:
        case -ENETDOWN:
        case -ENOBUFS:
        case -ENOMEM:
            failure_ = {.error = static_cast<int>(-sent)};
            return Step::broken;
        default:
            failure_ = {.of_file = true, .error = static_cast<int>(-sent)};
            return Step::broken;
    }
}

Operation FileTransfer::warm() {
    const std::span<const iovec> pieces = network_->warm_pieces(true);
    const std::uint64_t bytes = std::min<std::uint64_t>(left_, turn_bytes);
    const std::size_t piece_bytes = pieces.empty() ? turn_bytes : pieces.front().iov_len;
    const auto count = static_cast<std::uint32_t>(std::min((bytes + piece_bytes - 1) / piece_bytes, pieces.size()));
    return network_->reactor_->submit("read a file to send", [&](abi::SubmissionEntry& entry) {
        prepare::readv(entry, file_->descriptor, pieces.data(), count, offset_, 0);
    });
}

bool FileTransfer::warmed(std::int32_t result) noexcept {
    if (result == -EINTR || result == -EAGAIN) return true;
    if (result <= 0) {
        failure_ = {.of_file = true, .truncated = result == 0, .error = result == 0 ? ENODATA : -result};
        return false;
    }
    warm_until_ = offset_ + static_cast<std::uint32_t>(result);
    return true;
}

// ---- waiting for room ----

bool FileTransfer::suspend(std::coroutine_handle<> waiter, Environment* environment) noexcept {
    ConnectionState& state = *state_;
    // At the end of the reactor nobody waits for a peer that does not read.
    send_->cancelled = network_->shutting_down_ || !network_->scope_of(environment)->add(send_->cancel_node);
    if (send_->cancelled) return false;
    abi::SubmissionEntry& entry = network_->reactor_->ring().entry();
    if (WriteSlab* segment = send_->segment; segment != nullptr) {
        prepare::send(entry, state.descriptor, segment->data() + segment->sent, segment->size - segment->sent,
                      MSG_NOSIGNAL);
    } else {
        prepare::poll_add(entry, state.descriptor, POLLOUT);
    }
    entry.user_data = Network::tag_of(network_->send_kind_, state);
    network_->wait_slowly(state);
    send_->waiter = waiter;
    return true;
}

bool FileTransfer::Room::await_resume() noexcept {
    FileTransfer& transfer = *std::exchange(transfer_, nullptr);
    FileSend& send = *transfer.send_;
    send.waiter = nullptr;
    send.queued = false;
    if (send.cancelled) return false;
    if (!send.attached) return true;
    if (send.result < 0 && send.result != -EAGAIN && send.result != -EINTR) {
        transfer.failure_ = {.error = -send.result};
    } else if (WriteSlab* segment = send.segment; segment != nullptr && send.result > 0) {
        segment->sent += static_cast<std::uint32_t>(send.result);
        transfer.sent_ += static_cast<std::uint32_t>(send.result);
        transfer.network_->tally_.bytes_sent += static_cast<std::uint32_t>(send.result);
    }
    return true;
}

FileTransfer::Room::~Room() {
    if (transfer_ == nullptr || transfer_->send_ == nullptr) return;
    FileSend& send = *transfer_->send_;
    CancelScope::remove(send.cancel_node);
    if (send.queued) transfer_->network_->reactor_->forget(send.waiter);
    send.waiter = nullptr;
    send.queued = false;
}

void FileTransfer::empty_segment() noexcept {
    WriteSlab& segment = *send_->segment;
    segment.size = 0;
    segment.sent = 0;
}

}  // namespace ferrule::inline v0
