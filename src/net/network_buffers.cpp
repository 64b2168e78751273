#include <ferrule/net/network.hpp>
#include <ferrule/ring/abi.hpp>

#include <cerrno>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

// The buffers that the kernel receives into: the ring that all connections of a reactor share, and, where that was
// asked for, one of each connection's own. Such a ring is made when its slot receives for the first time, stays
// registered, and serves whoever has the slot next: registering costs five system calls.

namespace {

constexpr LogCause connection_ring_refused{.name = "connection-ring-refused"};
/// So many slots have a ring of their own: half of the group ids, so that others find some.
constexpr std::uint32_t connection_rings_max = 32768;
/// Bytes of a connection are counted in 32 bits.
constexpr std::uint64_t connection_ring_bytes_max = std::uint64_t{1} << 30;
/// After a refusal, connections share for so long before the kernel is asked again.
constexpr std::uint64_t connection_ring_retry_ns = 1'000'000'000;

BufferRing::Options shared_options(const NetworkOptions& options) {
    return {
        .count = options.receive_buffer_count, .size = options.receive_buffer_size, .huge_pages = options.huge_pages};
}

BufferRing::Options connection_options(const NetworkOptions& options) {
    return {.count = options.connection_buffer_count, .size = options.connection_buffer_size, .incremental = true};
}

[[noreturn]] void refuse(const SetupError& error) {
    throw std::system_error(error.code, "receive buffers: " + error.message);
}

}  // namespace

void Network::prepare_buffers() {
    BufferRing::Options shared = shared_options(options_);
    shared.incremental = options_.buffer_mode == BufferMode::shared_incremental;
    auto buffers = BufferRing::create(reactor_->ring(), shared);
    if (!buffers && shared.incremental) {
        shared.incremental = false;
        buffers = BufferRing::create(reactor_->ring(), shared);
    }
    if (!buffers) refuse(buffers.error());
    buffers_ = std::make_unique<BufferRing>(std::move(*buffers));
    if (shared.incremental) buffer_mode_ = BufferMode::shared_incremental;
    if (options_.buffer_mode != BufferMode::per_connection_incremental) return;

    // The first connection's ring is the trial.
    BufferRing::Options own = connection_options(options_);
    connection_ring_bytes_ = std::uint64_t{own.count} * (own.size + sizeof(abi::BufferEntry));
    if (connection_ring_bytes_ > connection_ring_bytes_max) {
        refuse({std::make_error_code(std::errc::invalid_argument),
                "a connection's own ring of " + std::to_string(connection_ring_bytes_) + " bytes is larger than " +
                    std::to_string(connection_ring_bytes_max)});
    }
    auto trial = BufferRing::create(reactor_->ring(), own);
    if (!trial && trial.error().code == std::errc::invalid_argument) {
        own.incremental = false;
        if (const auto classic = BufferRing::create(reactor_->ring(), own); !classic) refuse(classic.error());
        return;  // the kernel has no incremental buffers, and nothing else was wrong
    }
    if (!trial) refuse(trial.error());
    if (!reactor_->memory_account.charge(connection_ring_bytes_)) {
        refuse({std::make_error_code(std::errc::not_enough_memory),
                "a connection's own ring of " + std::to_string(connection_ring_bytes_) +
                    " bytes is more than ReactorOptions.memory_limit has room for"});
    }
    buffer_mode_ = BufferMode::per_connection_incremental;
    connection_buffers_.resize(1);
    connection_buffers_.front().ring = std::make_unique<BufferRing>(std::move(*trial));
    counters_.connection_rings.set(++connection_rings_);
}

std::unique_ptr<BufferRing> Network::make_own_buffers() noexcept {
    if (connection_rings_ == connection_rings_max || reactor_->now_ns() < connection_ring_retry_ns_) return nullptr;
    if (!reactor_->memory_account.charge(connection_ring_bytes_)) return nullptr;
    try {
        BufferRing::Options options = connection_options(options_);
        options.patient = false;  // others are waiting for this thread
        auto made = BufferRing::create(reactor_->ring(), options);
        if (made) {
            auto ring = std::make_unique<BufferRing>(std::move(*made));
            counters_.connection_rings.set(++connection_rings_);
            return ring;
        }
        reactor_->log.write(connection_ring_refused, "%s; connections share buffers while there is no room",
                            made.error().message.c_str());
        connection_ring_error_ = std::move(made.error().message);
    } catch (const std::bad_alloc&) {
        // The shared buffers are there already.
    }
    connection_ring_retry_ns_ = reactor_->now_ns() + connection_ring_retry_ns;
    reactor_->memory_account.credit(connection_ring_bytes_);
    return nullptr;
}

void Network::give_own_buffers(ConnectionState& state) noexcept {
    ConnectionBuffers& own = connection_buffers_[state.index];
    if (own.used || !state.wants_input) return;
    if (has_room(state, connection_ring_bytes_)) {
        if (own.ring == nullptr) own.ring = make_own_buffers();
        own.used = own.ring != nullptr;
    }
    if (own.used) {
        state.overhead_bytes += static_cast<std::uint32_t>(connection_ring_bytes_);
    } else {
        counters_.connection_ring_refusals.add();
    }
}

// What comes counts as received, and no longer as room in the ring, which is in the account as a whole.
LeaseNode* Network::own_node(ConnectionState& state, const BufferRing::Slice& slice) noexcept {
    LeaseNode* node = take_node();
    if (node == nullptr) return nullptr;
    node->owner = LeaseOwner::own;
    node->carried = false;
    node->data = slice.data;
    node->length = node->charged = slice.length;
    node->buffer = slice.buffer;
    state.overhead_bytes -= slice.length;
    ++own_leases_;
    return node;
}

void Network::give_back_own(LeaseNode& node) noexcept {
    ConnectionState& state = *node.connection;
    BufferRing& own = *connection_buffers_[state.index].ring;
    own.give_back(node.buffer);
    own.publish();
    state.overhead_bytes += node.charged;
    --own_leases_;
}

void Network::on_own_receive(void* owner, const abi::Completion& completion) noexcept {
    const Tag tag = Tag::decode(completion.user_data);
    auto& self = *static_cast<Network*>(owner);
    BufferRing& own = *self.connection_buffers_[tag.slot].ring;
    if (ConnectionState* found = self.locate(tag); found != nullptr) {
        self.receive_slowly(*found, completion, own);
    } else {
        self.counters_.stale_completions.add();
        if ((completion.flags & abi::completion_buffer) != 0) {
            own.give_back(own.take(completion).buffer);
        }
    }
    own.publish();
}

}  // namespace ferrule::inline v0
