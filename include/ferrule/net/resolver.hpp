#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/reactor/counters.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

namespace ferrule::inline v0 {

/// Why a name has no addresses.
enum class ResolveErrc {
    not_found = 1,      ///< there is no such name
    no_data,            ///< the name exists, and has no address of the families that were asked for
    timed_out,          ///< no server answered in time, or the deadline of the caller came
    temporary_failure,  ///< no server could be reached, or those that answered could not find out
    refused,            ///< the servers refuse to answer this question
    malformed,          ///< the servers answered with what is no answer
    invalid_name,       ///< the text can be no name
    limit,              ///< too many questions at a time, or no memory for one
    cancelled,          ///< the waiting was cancelled
};

/// The category of ResolveErrc. Its codes compare equal to these conditions: timed_out to std::errc::timed_out,
/// cancelled to operation_canceled, invalid_name to invalid_argument, limit to not_enough_memory. Any thread.
[[nodiscard]] FERRULE_EXPORT const std::error_category& resolve_category() noexcept;

/// The code of the error. Any thread.
[[nodiscard]] inline std::error_code make_error_code(ResolveErrc code) noexcept {
    return {static_cast<int>(code), resolve_category()};
}

/// Why a name could not be resolved: the code, of resolve_category, and a message for people that names the name and,
/// where one was asked, the server: `resolve db.example.org: no such name (192.0.2.1:53)`.
struct ResolveError {
    std::error_code code;
    std::string message;
};

/// What a name stands for.
struct ResolvedName {
    /// In the order in which they should be tried (RFC 8305, section 4): IPv6 and IPv4 in turn, IPv6 first where it has
    /// a route, and behind IPv4 where it has none. Never empty. The port of each is 0.
    std::vector<Address> addresses;
    /// How long this is true; 0 for what the hosts file or the system's own resolver says.
    std::chrono::seconds ttl{0};
};

/// Who finds the addresses.
enum class ResolverBackend : std::uint8_t {
    ring,    ///< this library, by /etc/hosts and the servers of /etc/resolv.conf
    system,  ///< getaddrinfo(3) on a thread: slower, but heeds nsswitch.conf (mDNS, LDAP, systemd-resolved)
};

/// Which addresses are asked for.
enum class ResolverFamilies : std::uint8_t {
    both,  ///< both at once; resolv.conf's `no-aaaa` makes it ipv4
    ipv4,  ///< only A
    ipv6,  ///< only AAAA
};

/// How a resolver works. What resolv.conf says, too, is optional here, and counts more than the file when given.
struct ResolverOptions {
    ResolverBackend backend = ResolverBackend::ring;
    ResolverFamilies families = ResolverFamilies::both;
    std::string resolv_conf = "/etc/resolv.conf";      ///< its path; empty: not read
    std::string hosts = "/etc/hosts";                  ///< its path; empty: not read
    std::vector<Address> servers;                      ///< with ports; none: those of resolv.conf, or 127.0.0.1
    std::optional<std::vector<std::string>> search;    ///< domains that a short name is tried in
    std::optional<unsigned> dots;                      ///< `ndots`: a name with as many is tried as it is first
    std::optional<std::chrono::milliseconds> timeout;  ///< how long one server is waited for
    std::optional<unsigned> attempts;                  ///< times that each server is asked
    std::optional<bool> rotate;                        ///< whether questions begin with the servers in turn
    std::optional<bool> use_tcp;                       ///< `use-vc`: TCP for every question
    /// How long the other family is waited for when one has answered with addresses (RFC 8305, section 3).
    std::chrono::milliseconds resolution_delay{50};
    std::chrono::milliseconds deadline{30'000};  ///< of a whole resolve, with all names and servers; 0: none
    bool mixed_case = true;                ///< letters of a question are sent in random case, and must come back so
    std::uint32_t question_limit = 1024;   ///< questions in flight; then a resolve ends with ResolveErrc::limit
    std::uint32_t cache_entries = 4096;    ///< answers that are remembered; 0: none
    std::uint64_t cache_bytes = 1u << 20;  ///< bytes of them, in the reactor's account
    std::chrono::seconds ttl_min{0};       ///< an answer is remembered at least so long
    std::chrono::seconds ttl_max{86'400};  ///< and at most so long
    std::chrono::seconds negative_ttl_max{900};         ///< what is not there is remembered at most so long
    std::chrono::milliseconds failure_ttl{1'000};       ///< so is what the servers failed to answer (RFC 9520)
    std::chrono::milliseconds silence_penalty{10'000};  ///< a server that did not answer is asked last for so long
    std::chrono::milliseconds file_interval{1'000};     ///< how often the files are looked at while names are resolved
};

/// What a resolver counts. Any thread may read.
struct ResolverCounters {
    Counter questions;         ///< sent to servers: one name and type, again for each server and attempt
    Counter tcp_questions;     ///< of these, by TCP
    Counter answers;           ///< that were accepted from servers, good and bad
    Counter strangers;         ///< messages that were no answer to what was asked, and were ignored
    Counter timeouts;          ///< questions that were not answered in time
    Counter cache_hits;        ///< answers taken from the cache
    Counter shared_questions;  ///< answers shared with somebody who had asked already
    Counter cached_entries;    ///< in the cache now
    Counter cached_bytes;      ///< their bytes
    Counter pending;           ///< questions in flight now
    Counter reloads;           ///< times that a changed resolv.conf or hosts file was taken over

    /// What they are called outside.
    static constexpr auto metrics() {
        using Row = MetricOf<ResolverCounters>;
        using Its = ResolverCounters;
        return std::array{
            Row{&Its::questions, {"ferrule_resolver_questions_total", "Questions that were sent to servers."}},
            Row{&Its::tcp_questions, {"ferrule_resolver_tcp_questions_total", "Of these, those by TCP."}},
            Row{&Its::answers, {"ferrule_resolver_answers_total", "Answers that were accepted, good and bad."}},
            Row{&Its::strangers,
                {"ferrule_resolver_strangers_total", "Messages that were no answer to what was asked."}},
            Row{&Its::timeouts, {"ferrule_resolver_timeouts_total", "Questions that were not answered in time."}},
            Row{&Its::cache_hits, {"ferrule_resolver_cache_hits_total", "Answers taken from the cache."}},
            Row{&Its::shared_questions,
                {"ferrule_resolver_shared_questions_total", "Answers shared with somebody who had asked already."}},
            Row{&Its::cached_entries, {"ferrule_resolver_cached_entries", "Entries in the cache."}},
            Row{&Its::cached_bytes,
                {"ferrule_resolver_cached_bytes", "Memory of the cache's entries.", MetricUnit::bytes}},
            Row{&Its::pending, {"ferrule_resolver_pending", "Questions in flight."}},
            Row{&Its::reloads,
                {"ferrule_resolver_reloads_total", "Times that a changed resolv.conf or hosts file was taken over."}},
        };
    }
};

/// Finds the addresses of names, on the ring of its reactor: a stub resolver that asks the servers of resolv.conf and
/// remembers what they say. A service of its reactor: `Resolver::of(reactor)`. Reactor's own thread, unless a member
/// says otherwise; others throw std::logic_error elsewhere.
///
/// Of DNS it uses what was asked for and nothing else: an answer must come from the address and port of the server that
/// was asked, to a port of ours that no other question has, with the random id and the letters' random case of the
/// question (by TCP, the connection says whose it is); of its records only those of the name and of its aliases count.
/// What does not match is ignored, and after sixteen such messages TCP is asked. DNSSEC is not checked.
///
/// Sources: RFC 1035, 2181, 2308, 3596, 5452 (forgery), 6761 (special names), 6891 (EDNS0, 1232 bytes), 7766 (TCP),
/// 8305 sections 3 and 4, 9520; resolv.conf(5), hosts(5).
class FERRULE_EXPORT Resolver {
public:
    /// Throws std::invalid_argument, which names the option, when one makes no sense. Add it as a service:
    /// `reactor.add_service<Resolver>(reactor, options)`.
    explicit Resolver(Reactor& reactor, ResolverOptions options = {});
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

    /// The resolver of the reactor, made with default options when there is none yet.
    static Resolver& of(Reactor& reactor);

    /// The addresses of the name. In this order:
    ///   - a literal address, as Address::parse reads it (no Unix address), is its own answer;
    ///   - `localhost` and what ends in `.localhost` are ::1 and 127.0.0.1, what ends in `.invalid` (RFC 6761) and
    ///     `.onion` (RFC 7686) is not found; nobody is asked about them;
    ///   - what the hosts file has, whatever the case of its letters;
    ///   - the cache, then the servers: A and AAAA at once, each for the name in each domain of the search list that
    ///     resolv.conf(5) lets it be tried in. A dot at its end makes it absolute.
    ///
    /// Names have ASCII letters, digits, `-` and `_`; an internationalised name is given in its `xn--` form.
    ///
    /// Equal questions in flight are asked once. Cancelling this waiting (or its deadline) ends it alone: the question
    /// goes on, and its answer is remembered. Errors: those of ResolveErrc.
    ///
    /// ```cpp
    /// const auto found = co_await Resolver::of(reactor).resolve("example.org");
    /// if (!found) std::fprintf(stderr, "%s\n", found.error().message.c_str());
    /// ```
    [[nodiscard]] Task<std::expected<ResolvedName, ResolveError>> resolve(std::string name);

    /// Forgets all answers. Questions in flight go on.
    void clear_cache();

    /// What in resolv.conf is not heeded, and why, one sentence each.
    [[nodiscard]] std::vector<std::string> notes();

    /// What it counts. Any thread.
    [[nodiscard]] const ResolverCounters& counters() const noexcept;
    /// What it was made with.
    [[nodiscard]] const ResolverOptions& options() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ferrule::inline v0

template <>
struct std::is_error_code_enum<ferrule::ResolveErrc> : std::true_type {};
