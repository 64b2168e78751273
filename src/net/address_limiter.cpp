#include <ferrule/net/address_limiter.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {
namespace {

constexpr unsigned compression_rounds = 1;
constexpr unsigned finalization_rounds = 3;
constexpr std::uint32_t entries_min = 16;

/// SipHash-1-3 of whole words: short inputs, and a secret that an outsider cannot find by what it does.
class SipHash {
public:
    explicit SipHash(const std::array<std::uint64_t, 2>& secret) noexcept
        : v0_(secret[0] ^ 0x736f'6d65'7073'6575),
          v1_(secret[1] ^ 0x646f'7261'6e64'6f6d),
          v2_(secret[0] ^ 0x6c79'6765'6e65'7261),
          v3_(secret[1] ^ 0x7465'6462'7974'6573) {}

    void add(std::uint64_t word) noexcept {
        v3_ ^= word;
        rounds(compression_rounds);
        v0_ ^= word;
    }
    std::uint64_t end() noexcept {
        v2_ ^= 0xff;
        rounds(finalization_rounds);
        return v0_ ^ v1_ ^ v2_ ^ v3_;
    }

private:
    void rounds(unsigned count) noexcept {
        for (; count != 0; --count) {
            v0_ += v1_;
            v1_ = std::rotl(v1_, 13) ^ v0_;
            v0_ = std::rotl(v0_, 32);
            v2_ += v3_;
            v3_ = std::rotl(v3_, 16) ^ v2_;
            v0_ += v3_;
            v3_ = std::rotl(v3_, 21) ^ v0_;
            v2_ += v1_;
            v1_ = std::rotl(v1_, 17) ^ v2_;
            v2_ = std::rotl(v2_, 32);
        }
    }

    std::uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace

AddressLimiter::AddressLimiter(AddressLimits limits, Kernel& kernel) : limits_(std::move(limits)) {
    const std::uint64_t entries = std::bit_ceil(std::uint64_t{std::max(limits_.table_entries, entries_min)});
    buckets_ = std::make_unique<Bucket[]>(entries / bucket_entries);
    bucket_mask_ = entries / bucket_entries - 1;
    if (kernel.random(secret_.data(), sizeof secret_) < 0) {
        // Where the kernel has no randomness to give, this is at least another in each process.
        secret_ = {kernel.monotonic_ns(), reinterpret_cast<std::uintptr_t>(this)};
    }
}

AddressPrefix AddressLimiter::client_of(const Address& address) const noexcept {
    const Address own = address.unmapped();
    return AddressPrefix::of(own, own.family() == AddressFamily::ipv4 ? limits_.ipv4_bits : limits_.ipv6_bits);
}

std::uint64_t AddressLimiter::key_of(const AddressPrefix& client) const noexcept {
    std::array<std::uint64_t, 2> words;
    static_assert(sizeof words == sizeof client.bytes());
    std::memcpy(words.data(), client.bytes().data(), sizeof words);
    SipHash hash{secret_};
    for (const std::uint64_t word : words) hash.add(word);
    hash.add(static_cast<std::uint64_t>(client.family()));
    return std::max<std::uint64_t>(hash.end(), 1);
}

// Each client may be in one of two places: so the table fills nearly to its end before one finds none.
std::array<AddressLimiter::Bucket*, 2> AddressLimiter::buckets_of(std::uint64_t key) const noexcept {
    constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;
    const std::uint64_t first = key & bucket_mask_;
    const std::uint64_t second = ((key * golden) >> 40) & bucket_mask_;
    return {&buckets_[first], &buckets_[second == first ? first ^ (bucket_mask_ & 1) : second]};
}

std::uint64_t AddressLimiter::tag_of(std::uint64_t key) noexcept {
    return std::max<std::uint64_t>(key >> count_bits, 1) << count_bits;
}

AddressLimiter::Admission AddressLimiter::admit(const Address& client) noexcept {
    if (limits_.connections == 0) return {};
    const AddressPrefix prefix = client_of(client);
    if (prefix.family() != AddressFamily::ipv4 && prefix.family() != AddressFamily::ipv6) return {};
    for (const AddressPrefix& exempt : limits_.exempt) {
        if (exempt.contains(client)) return {};
    }
    const std::uint64_t key = key_of(prefix);
    const std::uint64_t tag = tag_of(key);
    const auto buckets = buckets_of(key);
    for (;;) {
        std::uint64_t count = 0;
        Entry* counted = nullptr;
        Entry* free = nullptr;
        std::uint64_t value = 0;
        for (Bucket* bucket : buckets) {
            for (Entry& entry : bucket->entries) {
                const std::uint64_t seen = entry.load(std::memory_order_relaxed);
                if (seen == 0) {
                    if (free == nullptr) free = &entry;
                } else if ((seen & ~count_mask) == tag) {
                    // Two threads that are first at the same time may take a place each: the sum is what counts.
                    count += seen & count_mask;
                    if (counted == nullptr) {
                        counted = &entry;
                        value = seen;
                    }
                }
            }
        }
        if (count >= limits_.connections) return {.admitted = false};
        if (counted == nullptr && free == nullptr) return {.overflowed = true};
        Entry& entry = counted != nullptr ? *counted : *free;
        const std::uint64_t next = counted != nullptr ? value + 1 : tag | 1;
        if (entry.compare_exchange_strong(value, next, std::memory_order_relaxed)) return {.key = key};
    }
}

void AddressLimiter::leave(std::uint64_t key) noexcept {
    if (key == 0) return;
    const std::uint64_t tag = tag_of(key);
    for (Bucket* bucket : buckets_of(key)) {
        for (Entry& entry : bucket->entries) {
            std::uint64_t seen = entry.load(std::memory_order_relaxed);
            while ((seen & ~count_mask) == tag && seen != 0) {
                const std::uint64_t next = (seen & count_mask) == 1 ? 0 : seen - 1;
                if (entry.compare_exchange_weak(seen, next, std::memory_order_relaxed)) return;
            }
        }
    }
}

std::uint32_t AddressLimiter::connections(const Address& client) const noexcept {
    const std::uint64_t key = key_of(client_of(client));
    const std::uint64_t tag = tag_of(key);
    std::uint64_t count = 0;
    for (const Bucket* bucket : buckets_of(key)) {
        for (const Entry& entry : bucket->entries) {
            const std::uint64_t seen = entry.load(std::memory_order_relaxed);
            if ((seen & ~count_mask) == tag) count += seen & count_mask;
        }
    }
    return static_cast<std::uint32_t>(count);
}

}  // namespace ferrule::inline v0
