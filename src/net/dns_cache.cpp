#include "net/dns_cache.hpp"

#include <iterator>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// What the nodes of list and index, and the counts of the shared answer, take beside what they hold.
constexpr std::uint64_t entry_overhead_bytes = 128;

std::uint64_t bytes_of(const std::string& key, const DnsAnswer& answer) noexcept {
    return entry_overhead_bytes + key.capacity() + sizeof(DnsAnswer) + answer.addresses.capacity() * sizeof(Address) +
           answer.detail.capacity();
}

}  // namespace

DnsCache::DnsCache(MemoryAccount& account, std::uint32_t entries_max, std::uint64_t bytes_max,
                   ResolverCounters& counters)
    : account_(account), entries_max_(entries_max), bytes_max_(bytes_max), counters_(counters) {}

std::shared_ptr<const DnsAnswer> DnsCache::find(const std::string& key, std::uint64_t now_ns) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    if (found->second->answer->expires_ns <= now_ns) {
        erase(found->second);
        return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->answer;
}

void DnsCache::put(const std::string& key, std::shared_ptr<const DnsAnswer> answer) {
    if (const auto found = index_.find(key); found != index_.end()) erase(found->second);
    const std::uint64_t bytes = bytes_of(key, *answer);
    if (entries_max_ == 0 || bytes > bytes_max_) return;
    while (entries_.size() >= entries_max_ || bytes_ + bytes > bytes_max_) erase(std::prev(entries_.end()));
    if (!account_.charge(bytes)) return;
    bytes_ += bytes;
    try {
        entries_.push_front({key, std::move(answer), bytes});
    } catch (...) {
        bytes_ -= bytes;
        account_.credit(bytes);
        throw;
    }
    try {
        index_.emplace(entries_.front().key, entries_.begin());
    } catch (...) {
        erase(entries_.begin());
        throw;
    }
    count();
}

void DnsCache::erase(Entries::iterator entry) noexcept {
    index_.erase(entry->key);
    bytes_ -= entry->bytes;
    account_.credit(entry->bytes);
    entries_.erase(entry);
    count();
}

void DnsCache::clear() noexcept {
    while (!entries_.empty()) erase(entries_.begin());
}

void DnsCache::count() noexcept {
    counters_.cached_entries.set(entries_.size());
    counters_.cached_bytes.set(bytes_);
}

}  // namespace ferrule::inline v0
