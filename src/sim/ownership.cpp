#include <ferrule/sim/random.hpp>

#include "sim/ownership.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define FERRULE_SIM_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FERRULE_SIM_POISONS 1
#endif
#endif
#if defined(FERRULE_SIM_POISONS)
#include <sanitizer/asan_interface.h>
#endif

namespace ferrule::inline v0::sim {

namespace {

// Of memory beyond this, one word in each cache line is looked at: enough to notice who writes there for long, and the
// cost of a large buffer stays small.
constexpr std::size_t dense_bytes = 2048;
constexpr std::size_t stride = 64;
constexpr unsigned char pattern_byte = 0xd6;

using AnyWord [[gnu::may_alias, gnu::aligned(1)]] = std::uint64_t;

// Not checked by AddressSanitizer: memory that two requests have is poisoned, and the finding that says so is better.
[[gnu::no_sanitize_address]] std::uint64_t word_at(const std::byte* memory) noexcept {
    return *reinterpret_cast<const AnyWord*>(memory);
}

const std::byte* bytes_at(std::uintptr_t address) noexcept {
    return reinterpret_cast<const std::byte*>(address);
}

[[gnu::no_sanitize_address]] std::uint64_t hash_of(std::uintptr_t address, std::size_t length) noexcept {
    const std::byte* const memory = bytes_at(address);
    constexpr std::uint64_t odd = 0x9e37'79b9'7f4a'7c15;
    std::uint64_t hash = length;
    std::size_t at = 0;
    for (; at + sizeof(std::uint64_t) <= length; at += at < dense_bytes ? sizeof(std::uint64_t) : stride) {
        hash = (hash ^ word_at(memory + at)) * odd;
        hash ^= hash >> 29;
    }
    for (at = length - length % sizeof(std::uint64_t); at < length; ++at) {
        hash = (hash ^ static_cast<std::uint64_t>(memory[at])) * odd;
    }
    return Random::mix(hash);
}

void poison([[maybe_unused]] std::uintptr_t address, [[maybe_unused]] std::size_t length) noexcept {
#if defined(FERRULE_SIM_POISONS)
    __asan_poison_memory_region(reinterpret_cast<void*>(address), length);
#endif
}

void lift([[maybe_unused]] std::uintptr_t address, [[maybe_unused]] std::size_t length) noexcept {
#if defined(FERRULE_SIM_POISONS)
    __asan_unpoison_memory_region(reinterpret_cast<void*>(address), length);
#endif
}

#if !defined(FERRULE_SIM_POISONS)
// All of it: what is left of an incremental buffer is looked at from wherever it begins then.
void fill(std::uintptr_t address, std::size_t length) noexcept {
    std::memset(reinterpret_cast<void*>(address), pattern_byte, length);
}

/// Whether the pattern is still there, in one word of each cache line.
bool filled(std::uintptr_t address, std::size_t length) noexcept {
    std::uint64_t expected = 0;
    std::memset(&expected, pattern_byte, sizeof expected);
    const std::byte* const memory = bytes_at(address);
    std::uint64_t difference = 0;
    for (std::size_t at = 0; at + sizeof expected <= std::min(length, dense_bytes); at += stride) {
        difference |= word_at(memory + at) ^ expected;
    }
    for (std::size_t at = dense_bytes; at + sizeof expected <= length; at += stride) {
        difference |= word_at(memory + at) ^ expected;
    }
    return difference == 0;
}
#endif

std::string hexadecimal(std::uint64_t value) {
    char text[16];
    const auto end = std::to_chars(std::begin(text), std::end(text), value, 16).ptr;
    return "0x" + std::string(text, end);
}

std::string name_of_buffer(std::uint16_t group, std::uint16_t buffer) {
    return "buffer " + std::to_string(buffer) + " of group " + std::to_string(group);
}

}  // namespace

std::string describe(const char* operation, std::uint64_t user_data) {
    return std::string(operation) + " " + hexadecimal(user_data);
}

void Ownership::find(const Claim& claim, const std::string& what) {
    world_.finding(ring_ + ": the memory of " + describe(claim.operation, claim.user_data) + " (" +
                   std::to_string(claim.length) + " bytes at " + hexadecimal(claim.address) + ") " + what);
}

const Claim* Ownership::overlapping(std::uintptr_t address, std::size_t length, const Claim* but) const {
    const std::uintptr_t from = address > longest_claim_ ? address - longest_claim_ : 0;
    for (auto at = claims_.lower_bound(from); at != claims_.end() && at->first < address + length; ++at) {
        if (at->second != but && at->first + at->second->length > address) return at->second;
    }
    return nullptr;
}

void Ownership::claim(Claim& claim) {
    claim.open = false;
    if (claim.length == 0) return;
    if (is_sink(claim)) {
        claim.length = 0;
        return;
    }
    if (const Claim* const other = overlapping(claim.address, claim.length, &claim);
        other != nullptr && (other->access == Access::writes || claim.access == Access::writes)) {
        find(claim, "is at the same time the memory of " + describe(other->operation, other->user_data));
    }
    auto place = buffers_.upper_bound(claim.address);
    if (place != buffers_.begin()) --place;
    for (; place != buffers_.end() && place->first < claim.address + claim.length; ++place) {
        const auto& [address, buffer] = *place;
        // Of an incremental buffer, the program has what was filled.
        const std::uintptr_t kernels = address + buffer.handed_out;
        if (address + buffer.length > claim.address && claim.address + claim.length > kernels &&
            kernel_has_(groups_, buffer.group, buffer.buffer)) {
            find(claim, "lies in " + name_of_buffer(buffer.group, buffer.buffer) + ", which the kernel has");
        }
    }
    claims_.emplace(claim.address, &claim);
    longest_claim_ = std::max(longest_claim_, claim.length);
    claim.hash = hash_of(claim.address, claim.length);
    if (claim.access == Access::writes) poison(claim.address, claim.length);
}

void Ownership::erase(const Claim& claim) {
    const auto range = claims_.equal_range(claim.address);
    for (auto at = range.first; at != range.second; ++at) {
        if (at->second != &claim) continue;
        claims_.erase(at);
        break;
    }
}

bool Ownership::is_sink(const Claim& claim) {
    if (!claim.may_be_sink) return false;
    const auto same = claims_.equal_range(claim.address);
    for (auto at = same.first; at != same.second; ++at) {
        Claim& other = *at->second;
        if (!other.may_be_sink) continue;
        sinks_.insert(claim.address);
        lift(other.address, other.length);
        claims_.erase(at);
        other.length = 0;
        return true;
    }
    return sinks_.contains(claim.address);
}

void Ownership::read_beside(std::span<const std::byte> memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    const auto same = claims_.equal_range(address);
    for (auto at = same.first; at != same.second; ++at) {
        const Claim& claim = *at->second;
        if (!claim.may_be_sink || claim.open) continue;
        sinks_.insert(address);
        lift(claim.address, claim.length);
    }
}

void Ownership::verify(const Claim& claim) {
    if (claim.may_be_sink && sinks_.contains(claim.address)) return;
    if (hash_of(claim.address, claim.length) != claim.hash) {
        find(claim, "was changed while the kernel had it");
    }
}

void Ownership::open(Claim& claim) {
    if (claim.length == 0 || claim.open) return;
    if (claim.access == Access::writes) lift(claim.address, claim.length);
    verify(claim);
    claim.open = true;
}

void Ownership::shut(Claim& claim, std::size_t done) {
    if (claim.length == 0) return;
    claim.open = false;
    if (done != 0) {
        erase(claim);
        claim.address += done;
        claim.length -= done;
        if (claim.length == 0) return;
        claims_.emplace(claim.address, &claim);
        claim.hash = hash_of(claim.address, claim.length);
    }
    if (claim.access == Access::writes) poison(claim.address, claim.length);
}

void Ownership::release(Claim& claim) {
    if (claim.length == 0) return;
    if (claim.access == Access::writes) lift(claim.address, claim.length);
    if (!claim.open) verify(claim);
    erase(claim);
    claim.length = 0;
}

// ---- provided buffers ----

void Ownership::publish(std::uint16_t group, std::uint16_t buffer, std::uintptr_t address, std::size_t length,
                        bool first) {
    if (first) {
        auto other = buffers_.upper_bound(address);
        if (other != buffers_.begin()) --other;
        for (; other != buffers_.end() && other->first < address + length; ++other) {
            if (other->first + other->second.length <= address) continue;
            world_.finding(ring_ + ": " + name_of_buffer(group, buffer) + " and " +
                           name_of_buffer(other->second.group, other->second.buffer) + " share memory");
        }
        buffers_[address] = {.length = length, .group = group, .buffer = buffer};
    } else if (const auto place = buffers_.find(address); place != buffers_.end()) {
        place->second.handed_out = 0;
    }
    if (const Claim* const other = overlapping(address, length, nullptr); other != nullptr) {
        find(*other, "lies in " + name_of_buffer(group, buffer) + ", which is given to the kernel");
    }
#if defined(FERRULE_SIM_POISONS)
    poison(address, length);
#else
    fill(address, length);
#endif
}

void Ownership::forget(std::uintptr_t address, std::size_t length) {
    buffers_.erase(address);
    lift(address, length);
}

void Ownership::open_buffer([[maybe_unused]] std::uint16_t group, [[maybe_unused]] std::uint16_t buffer,
                            std::uintptr_t address, std::size_t length) {
#if defined(FERRULE_SIM_POISONS)
    lift(address, length);
#else
    if (!filled(address, length)) {
        world_.finding(ring_ + ": " + name_of_buffer(group, buffer) + " was changed while the kernel had it");
    }
#endif
}

void Ownership::shut_buffer(std::uintptr_t address, std::size_t length) {
    poison(address, length);
}

void Ownership::hand_out(std::uintptr_t address, std::size_t length) {
    lift(address, length);
    auto place = buffers_.upper_bound(address);
    if (place == buffers_.begin()) return;
    --place;
    if (address - place->first < place->second.length) place->second.handed_out = address + length - place->first;
}

}  // namespace ferrule::inline v0::sim
