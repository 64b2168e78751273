#pragma once

#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace ferrule::inline v0 {

class Network;
struct ConnectionState;

/// Whose memory a lease is on.
enum class LeaseOwner : std::uint8_t {
    ring,    ///< a buffer that the kernel fills; it goes back to the ring
    heap,    ///< a block of the reactor's slab pool: carried bytes, and what a starved reader received
    shared,  ///< somebody else's, counted there
    tls,     ///< decrypted bytes of a TLS session
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
    std::uint32_t block_bytes = 0;  ///< what a heap block was taken for
    std::byte* block = nullptr;     ///< a heap block's beginning
    ConnectionState* connection = nullptr;
    std::uint16_t buffer = 0;  ///< a ring buffer's number
    LeaseOwner owner = LeaseOwner::ring;
    bool carried = false;  ///< of a heap block: begins with what an earlier read left behind
};

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
    LeaseNode* node_ = nullptr;
    std::uint32_t offset_ = 0;
    std::uint32_t length_ = 0;
};
static_assert(sizeof(Lease) == 16);

/// What one read brought: true when it has bytes, and it is never true and empty. Its end gives all memory back that
/// was not taken or carried. Move-only, 16 bytes; reactor's own thread.
///
/// What a message leaves behind is carried: `consume(n)` says that the first n bytes are done with, and the rest comes
/// again in front of the next read, which waits for new bytes. Without a consume, all are done with.
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
    [[nodiscard]] Slice contiguous() noexcept;

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

    /// Takes the first slice out, item by item, until the result is false. What is taken is the caller's to give back.
    [[nodiscard]] Lease take() noexcept;

    /// Gives back, or carries, now.
    void reset() noexcept;

private:
    LeaseNode* first_ = nullptr;
    std::uint32_t consumed_ = 0;
    bool partial_ = false;
};
static_assert(sizeof(ReadResult) == 16);

}  // namespace ferrule::inline v0
