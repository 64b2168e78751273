#pragma once

#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace ferrule::inline v0 {

class ByteSequence;
class LeaseHome;
class Network;
struct ConnectionState;

/// Whose memory a lease is on.
enum class LeaseOwner : std::uint8_t {
    ring,    ///< a buffer that the kernel fills, of the ring that all connections share
    own,     ///< a buffer that the kernel fills, of the connection's own ring
    heap,    ///< a block of the reactor's slab pool: gathered bytes, and what a starved reader received
    shared,  ///< somebody else's: of a LeaseHome; SharedBytes among the pieces of a chain
    tls,     ///< decrypted bytes of a TLS session: of a LeaseHome
    slab,    ///< not received at all: a block of written bytes among the pieces of a chain
};

/// Received bytes, where the kernel or the carry has put them.
class Slice : public std::span<const std::byte> {
public:
    using std::span<const std::byte>::span;
    /// The bytes as characters.
    [[nodiscard]] std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data()), size()}; }
};

/// The bookkeeping of one piece of received bytes; in the reactor's pool.
struct LeaseNode {
    LeaseNode* next = nullptr;
    std::byte* data = nullptr;
    std::uint32_t length = 0;
    std::uint32_t charged = 0;      ///< bytes that count in the connection's account
    std::uint32_t block_bytes = 0;  ///< what a block was taken for
    std::uint32_t overhead = 0;     ///< bytes of a block that count as the connection's overhead
    std::byte* block = nullptr;     ///< the beginning of a block that has room behind its bytes; null: there is none
    ConnectionState* connection = nullptr;  ///< null: `home` hands it out
    LeaseHome* home = nullptr;
    std::uint16_t buffer = 0;  ///< a ring buffer's number
    LeaseOwner owner = LeaseOwner::ring;
    bool carried = false;  ///< begins with what an earlier read left behind
};
static_assert(sizeof(LeaseNode) == 64);

/// Hands out received bytes in memory of its own, as a TLS session does with what it has decrypted: its nodes have it
/// as their `home`, no connection, and an owner that is not ring or heap. Whoever reads them (ReadResult,
/// BufferedReader, ByteStream) does not see a difference. The thread of whoever holds the leases.
class FERRULE_EXPORT LeaseHome {
public:
    /// The bytes of the node are no longer used, and neither is the node.
    virtual void give_back(LeaseNode& node) noexcept = 0;
    /// The nodes from `first` on are what a read has left behind: they come again in front of the next one.
    virtual void carry(LeaseNode* first) noexcept = 0;
    /// A node of its own without bytes, in whose block so many fit: what straddles nodes is gathered in it. Null when
    /// there is no room.
    virtual LeaseNode* take_block(std::uint32_t bytes) noexcept = 0;

protected:
    ~LeaseHome() = default;
};

namespace detail {

/// Gives the node back to whom it belongs.
FERRULE_EXPORT void give_back_lease(LeaseNode& node) noexcept;

}  // namespace detail

/// One piece of received bytes that its holder keeps beyond the read that brought it. 16 bytes, move-only. Its end
/// gives the memory back; on the reactor's own thread only. A connection that holds too many is not read from
/// (NetworkOptions::receive_lease_limit).
class FERRULE_EXPORT Lease {
public:
    Lease() noexcept = default;
    explicit Lease(LeaseNode* node) noexcept : node_(node), length_(node != nullptr ? node->length : 0) {}
    Lease(Lease&& other) noexcept
        : node_(std::exchange(other.node_, nullptr)),
          offset_(other.offset_),
          length_(std::exchange(other.length_, 0)) {}
    Lease& operator=(Lease&& other) noexcept {
        if (this != &other) {
            reset();
            node_ = std::exchange(other.node_, nullptr);
            offset_ = other.offset_;
            length_ = std::exchange(other.length_, 0);
        }
        return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { reset(); }

    /// Whether it holds anything.
    explicit operator bool() const noexcept { return node_ != nullptr; }
    /// The bytes; valid while the lease lasts.
    [[nodiscard]] Slice slice() const noexcept {
        return node_ != nullptr ? Slice{node_->data + offset_, length_} : Slice{};
    }
    [[nodiscard]] std::size_t size() const noexcept { return length_; }
    /// Drops the first `bytes` of it; all when there are fewer.
    void remove_prefix(std::size_t bytes) noexcept {
        const auto dropped = static_cast<std::uint32_t>(bytes < length_ ? bytes : length_);
        offset_ += dropped;
        length_ -= dropped;
    }
    /// Gives the memory back now.
    void reset() noexcept;

private:
    friend class Network;
    LeaseNode* node_ = nullptr;
    std::uint32_t offset_ = 0;
    std::uint32_t length_ = 0;
};
static_assert(sizeof(Lease) == 16);

/// What one read brought: true when it has bytes, and it is never true and empty. Its end gives all memory back that
/// was not taken or carried. Move-only, 16 bytes; reactor's own thread.
///
/// What a message leaves behind is carried: `consume(n)` says that the first n bytes are done with, and the rest comes
/// again in front of the next read, which waits for new bytes. Without a consume, all are done with. What is carried
/// stays where the kernel has put it while the buffers suffice, and is copied to the connection's own memory when they
/// run short. BufferedReader does more of this.
class [[nodiscard]] FERRULE_EXPORT ReadResult {
public:
    ReadResult() noexcept = default;
    explicit ReadResult(LeaseNode* first) noexcept : first_(first) {}
    ReadResult(ReadResult&& other) noexcept
        : first_(std::exchange(other.first_, nullptr)), consumed_(other.consumed_), partial_(other.partial_) {}
    ReadResult& operator=(ReadResult&& other) noexcept {
        if (this != &other) {
            reset();
            first_ = std::exchange(other.first_, nullptr);
            consumed_ = other.consumed_;
            partial_ = other.partial_;
        }
        return *this;
    }
    ReadResult(const ReadResult&) = delete;
    ReadResult& operator=(const ReadResult&) = delete;
    ~ReadResult() {
        if (first_ != nullptr) reset();
    }

    explicit operator bool() const noexcept { return first_ != nullptr; }

    /// Walks the slices; forward, single pass or several.
    class iterator {
    public:
        using value_type = Slice;
        using difference_type = std::ptrdiff_t;
        iterator() noexcept = default;
        explicit iterator(const LeaseNode* node) noexcept : node_(node) {}
        Slice operator*() const noexcept { return {node_->data, node_->length}; }
        iterator& operator++() noexcept {
            node_ = node_->next;
            return *this;
        }
        iterator operator++(int) noexcept {
            iterator before = *this;
            ++*this;
            return before;
        }
        bool operator==(const iterator&) const noexcept = default;

    private:
        const LeaseNode* node_ = nullptr;
    };

    /// The slices in order.
    [[nodiscard]] iterator begin() const noexcept { return iterator{first_}; }
    [[nodiscard]] iterator end() const noexcept { return {}; }

    /// All bytes of it.
    [[nodiscard]] std::size_t size() const noexcept;

    /// All bytes in one piece: in place when there is one slice, gathered otherwise. Empty when there are none, and
    /// when the account of the connection or of the reactor has no room for the gathering: the slices are untouched
    /// then.
    [[nodiscard]] Slice contiguous() noexcept {
        if (first_ != nullptr && first_->next == nullptr) [[likely]]
            return {first_->data, first_->length};
        return contiguous(0, size());
    }

    /// As above, the `bytes` bytes from the offset `from` on: only what straddles slices is copied, and nothing else
    /// changes its place. Empty, too, when there are not so many.
    [[nodiscard]] Slice contiguous(std::size_t from, std::size_t bytes) noexcept;

    /// Says that the first `bytes` bytes, counted from the beginning of this result, are done with; the rest is carried
    /// to the next read.
    ///
    /// ```cpp
    /// while (auto received = co_await connection.read()) {
    ///     const std::string_view text = received.contiguous().text();
    ///     const std::size_t whole = find_messages(text);  // bytes that are whole messages
    ///     connection.write(text.substr(0, whole));
    ///     received.consume(whole);  // half a message comes again, in front of the next read
    ///     co_await connection.flush();
    /// }
    /// ```
    void consume(std::size_t bytes) noexcept {
        consumed_ = static_cast<std::uint32_t>(bytes);
        partial_ = true;
    }

    /// Gives the first `bytes` bytes back now, all when there are fewer; what `consume` and offsets count begins behind
    /// them.
    void remove_prefix(std::size_t bytes) noexcept;

    /// Takes the first `bytes` bytes out, all when there are fewer, as a result of their own; what `consume` and
    /// offsets count begins behind them. Slices stay where they are; of one that lies on both sides, the smaller part
    /// is copied. False when `bytes` is 0, and when the account of the connection or of the reactor has no room for
    /// that copy: nothing has changed then.
    [[nodiscard]] ReadResult take_prefix(std::size_t bytes) noexcept;

    /// Takes the first slice out, item by item, until the result is false. What is taken is the caller's to give back.
    [[nodiscard]] Lease take() noexcept;

    /// Gives back, or carries, now.
    void reset() noexcept;

private:
    friend class ByteSequence;
    friend class Network;
    LeaseNode* first_ = nullptr;
    std::uint32_t consumed_ = 0;
    bool partial_ = false;
};
static_assert(sizeof(ReadResult) == 16);

}  // namespace ferrule::inline v0
