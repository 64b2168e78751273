#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/address_prefix.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ferrule::inline v0 {

/// How many connections one client may have at a time.
struct AddressLimits {
    std::uint32_t connections = 0;  ///< of one client, at most 2^23; 0: as many as it likes, and nothing is kept
    std::uint32_t ipv4_bits = 32;   ///< first bits that make an IPv4 client one; an IPv4-mapped address is IPv4
    std::uint32_t ipv6_bits = 64;   ///< the same for IPv6: a /64 is what one subscriber gets (RFC 6177)
    /// Clients that are kept apart at a time, eight bytes for each; rounded up to a power of two of at least 16.
    /// Beyond them clients are admitted without being counted.
    std::uint32_t table_entries = 65'536;
    std::vector<AddressPrefix> exempt{};  ///< clients without a limit: a monitor, an office behind one address
};

/// Counts the connections of each client address, for one network or for all of a server: a table of a fixed size that
/// any thread uses without a lock. Two atomic operations for a connection, none for a request.
///
/// The table keeps a keyed hash (SipHash) in the place of an address, so nobody outside can aim at a part of it.
class FERRULE_EXPORT AddressLimiter {
public:
    /// The whole table, at once. Throws std::bad_alloc.
    explicit AddressLimiter(AddressLimits limits, Kernel& kernel = linux_kernel());
    AddressLimiter(const AddressLimiter&) = delete;
    AddressLimiter& operator=(const AddressLimiter&) = delete;

    /// What is said of a connection.
    struct Admission {
        bool admitted = true;
        bool overflowed = false;  ///< admitted without being counted, because the table is full
        std::uint64_t key = 0;    ///< for `leave` when the connection ends; 0: it is not counted
    };

    /// Counts a connection, unless its client has as many as it may. Unix addresses, none at all and those that are
    /// exempt have no limit. Any thread.
    [[nodiscard]] Admission admit(const Address& client) noexcept;

    /// A connection of that key has ended. Any thread.
    void leave(std::uint64_t key) noexcept;

    /// The connections that are counted for the client now. Any thread; for tests and for who is curious.
    [[nodiscard]] std::uint32_t connections(const Address& client) const noexcept;

    /// What it was made with.
    [[nodiscard]] const AddressLimits& limits() const noexcept { return limits_; }

private:
    using Entry = std::atomic<std::uint64_t>;
    // An entry: forty bits of the hash, and the count. All zero: free.
    static constexpr unsigned count_bits = 24;
    static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    static constexpr std::size_t bucket_entries = 8;  // a cache line
    struct alignas(64) Bucket {
        std::array<Entry, bucket_entries> entries{};
    };

    [[nodiscard]] std::uint64_t key_of(const AddressPrefix& client) const noexcept;
    [[nodiscard]] AddressPrefix client_of(const Address& address) const noexcept;
    [[nodiscard]] std::array<Bucket*, 2> buckets_of(std::uint64_t key) const noexcept;
    [[nodiscard]] static std::uint64_t tag_of(std::uint64_t key) noexcept;

    AddressLimits limits_;
    std::array<std::uint64_t, 2> secret_{};
    std::unique_ptr<Bucket[]> buckets_;
    std::uint64_t bucket_mask_;
};

}  // namespace ferrule::inline v0
