#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/resolver.hpp>
#include <ferrule/task/memory_account.hpp>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <vector>

namespace ferrule::inline v0 {

/// What is known about one question: addresses, or why there are none.
struct DnsAnswer {
    std::error_code error;           ///< of resolve_category; none: there are addresses
    std::vector<Address> addresses;  ///< with port 0
    std::string detail;              ///< for the message of an error: what was found, and who said so
    std::uint64_t expires_ns = 0;    ///< monotonic time until which it is true; what is past: not to be remembered
};

/// The answers that are remembered, bounded in number and bytes: who was asked for least lately goes first. Charged to
/// the account of its reactor. Single-threaded.
class DnsCache {
public:
    /// The counters `cached_entries` and `cached_bytes` are kept by it.
    DnsCache(MemoryAccount& account, std::uint32_t entries_max, std::uint64_t bytes_max, ResolverCounters& counters);
    DnsCache(const DnsCache&) = delete;
    DnsCache& operator=(const DnsCache&) = delete;
    ~DnsCache() { clear(); }

    /// The answer, when it has not expired; null otherwise.
    std::shared_ptr<const DnsAnswer> find(const std::string& key, std::uint64_t now_ns);

    /// Remembers the answer, where it fits, in the place of an older one.
    void put(const std::string& key, std::shared_ptr<const DnsAnswer> answer);

    void clear() noexcept;

private:
    struct Entry {
        std::string key;
        std::shared_ptr<const DnsAnswer> answer;
        std::uint64_t bytes;
    };
    using Entries = std::list<Entry>;
    void erase(Entries::iterator entry) noexcept;
    void count() noexcept;

    MemoryAccount& account_;
    std::uint32_t entries_max_;
    std::uint64_t bytes_max_;
    ResolverCounters& counters_;
    Entries entries_;                                                // the one that was asked for last in front
    std::unordered_map<std::string_view, Entries::iterator> index_;  // its keys are those of the entries
    std::uint64_t bytes_ = 0;
};

}  // namespace ferrule::inline v0
