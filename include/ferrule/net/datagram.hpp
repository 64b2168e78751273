#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/version.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>

namespace ferrule::inline v0 {

struct UdpSocketState;

/// Explicit congestion notification: the two bits of the IP header (RFC 3168, section 5).
enum class Ecn : std::uint8_t {
    not_capable = 0,  ///< the sender does not take part, or the socket does not ask (UdpSocketOptions::ecn)
    capable_1 = 1,    ///< ECT(1); low latency traffic (RFC 9331)
    capable_0 = 2,    ///< ECT(0)
    experienced = 3,  ///< CE: a router on the way was congested
};

/// The bookkeeping of one received datagram. `memory` begins with what the kernel says of it: an
/// abi::ReceiveMessageHeader, the sender's address, the control messages.
struct DatagramNode {
    DatagramNode* next = nullptr;
    UdpSocketState* socket = nullptr;
    std::byte* memory = nullptr;
    std::byte* payload = nullptr;
    std::uint32_t length = 0;  ///< of the payload
    std::uint16_t buffer = 0;  ///< the ring buffer's number
    bool truncated = false;    ///< its end is lost
    bool forwarded = false;    ///< not in a ring buffer: it came from another reactor
};

/// What was sent as single datagrams and came as one: walks them. Each is `segment_size` bytes long, the last one may
/// be shorter.
class DatagramSegments {
public:
    /// Walks the segments; forward, once or several times.
    class iterator {
    public:
        using iterator_category = std::forward_iterator_tag;
        using value_type = Slice;
        using difference_type = std::ptrdiff_t;
        iterator() noexcept = default;
        iterator(const std::byte* data, std::size_t left, std::size_t segment_size, bool end) noexcept
            : data_(data), left_(left), segment_size_(segment_size), end_(end) {}
        Slice operator*() const noexcept { return {data_, std::min(left_, segment_size_)}; }
        iterator& operator++() noexcept {
            const std::size_t passed = std::min(left_, segment_size_);
            data_ += passed;
            left_ -= passed;
            end_ = left_ == 0;
            return *this;
        }
        iterator operator++(int) noexcept {
            iterator before = *this;
            ++*this;
            return before;
        }
        bool operator==(const iterator& other) const noexcept { return left_ == other.left_ && end_ == other.end_; }

    private:
        const std::byte* data_ = nullptr;
        std::size_t left_ = 0;
        std::size_t segment_size_ = 0;
        bool end_ = true;  // an empty datagram is one segment without bytes
    };

    /// `segment_size` 0: one segment, all of it.
    DatagramSegments(Slice payload, std::uint32_t segment_size) noexcept
        : payload_(payload), segment_size_(segment_size != 0 ? segment_size : payload.size()) {}

    [[nodiscard]] iterator begin() const noexcept { return {payload_.data(), payload_.size(), segment_size_, false}; }
    [[nodiscard]] iterator end() const noexcept { return {}; }

private:
    Slice payload_;
    std::size_t segment_size_;
};

/// One received datagram, where the kernel has put it: a lease on its buffer. Move-only, 8 bytes. Its end gives the
/// buffer back; on the reactor's own thread, or, when the reactor is gone, on any one. It may outlive its socket.
///
/// ```cpp
/// ferrule::Task<> serve(ferrule::UdpSocket socket) {
///     while (auto datagram = co_await socket.receive()) {
///         for (const ferrule::Slice one : datagram.segments()) socket.send_to(datagram.sender(), one);
///     }
/// }
/// ```
class [[nodiscard]] FERRULE_EXPORT Datagram {
public:
    Datagram() noexcept = default;
    explicit Datagram(DatagramNode* node) noexcept : node_(node) {}
    Datagram(Datagram&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
    Datagram& operator=(Datagram&& other) noexcept {
        if (this != &other) {
            reset();
            node_ = std::exchange(other.node_, nullptr);
        }
        return *this;
    }
    Datagram(const Datagram&) = delete;
    Datagram& operator=(const Datagram&) = delete;
    ~Datagram() {
        if (node_ != nullptr) reset();
    }

    /// Whether it holds a datagram; one without bytes is a datagram too.
    explicit operator bool() const noexcept { return node_ != nullptr; }

    /// The bytes; valid while this lasts. Several datagrams of one sender when `segment_size` says so.
    [[nodiscard]] Slice payload() const noexcept {
        return node_ != nullptr ? Slice{node_->payload, node_->length} : Slice{};
    }
    /// How many bytes.
    [[nodiscard]] std::size_t size() const noexcept { return node_ != nullptr ? node_->length : 0; }
    /// Who sent it. An IPv4 sender is in its IPv6 form on a dual-stack socket, as that socket takes it
    /// (Address::unmapped for the other); none when the kernel did not say.
    [[nodiscard]] Address sender() const noexcept;
    /// The address of this machine that it was sent to, with the socket's port: what an answer of a socket on all
    /// addresses has to come from (DatagramSendOptions::source). None unless UdpSocketOptions::packet_info is on.
    [[nodiscard]] Address local_address() const noexcept;
    /// The congestion bits. `not_capable` unless UdpSocketOptions::ecn is on.
    [[nodiscard]] Ecn ecn() const noexcept;
    /// The kernel has joined datagrams of one sender that came one behind the other (UdpSocketOptions::gro): the size
    /// of each but the last. 0: it is one datagram.
    [[nodiscard]] std::uint32_t segment_size() const noexcept;
    /// The datagrams that were sent, one by one; at least one.
    [[nodiscard]] DatagramSegments segments() const noexcept { return {payload(), segment_size()}; }
    /// Whether it was longer than UdpSocketOptions::datagram_size_max: the rest is lost.
    [[nodiscard]] bool truncated() const noexcept { return node_ != nullptr && node_->truncated; }

    /// Gives the buffer back now.
    void reset() noexcept;

private:
    friend class UdpGroup;
    DatagramNode* node_ = nullptr;
};
static_assert(sizeof(Datagram) == sizeof(void*));

}  // namespace ferrule::inline v0
