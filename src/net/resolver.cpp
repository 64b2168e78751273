#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "net/resolver_state.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <new>
#include <stdexcept>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::size_t servers_max = 16;
constexpr std::size_t text_max = 254;  // a name and the dot at its end

class ResolveCategory final : public std::error_category {
public:
    const char* name() const noexcept override { return "resolve"; }
    std::string message(int code) const override {
        switch (static_cast<ResolveErrc>(code)) {
            case ResolveErrc::not_found:
                return "no such name";
            case ResolveErrc::no_data:
                return "the name has no address";
            case ResolveErrc::timed_out:
                return "timed out";
            case ResolveErrc::temporary_failure:
                return "temporary failure";
            case ResolveErrc::refused:
                return "refused";
            case ResolveErrc::malformed:
                return "malformed answer";
            case ResolveErrc::invalid_name:
                return "invalid name";
            case ResolveErrc::limit:
                return "limit reached";
            case ResolveErrc::cancelled:
                return "cancelled";
        }
        return "unknown error";
    }
    std::error_condition default_error_condition(int code) const noexcept override {
        switch (static_cast<ResolveErrc>(code)) {
            case ResolveErrc::timed_out:
                return std::errc::timed_out;
            case ResolveErrc::invalid_name:
                return std::errc::invalid_argument;
            case ResolveErrc::limit:
                return std::errc::not_enough_memory;
            case ResolveErrc::cancelled:
                return std::errc::operation_canceled;
            default:
                return {code, *this};
        }
    }
};

const ResolveCategory the_resolve_category;

/// What is wrong with the name `name`, in a message that names it.
std::unexpected<ResolveError> failure(const std::string& name, std::error_code code, const std::string& detail) {
    constexpr std::size_t shown_max = 260;
    std::string message =
        "resolve " + (name.size() > shown_max ? name.substr(0, shown_max) + "..." : name) + ": " + code.message();
    if (!detail.empty()) message += " (" + detail + ")";
    return std::unexpected(ResolveError{code, std::move(message)});
}

/// Whether the name in lower case is `domain` or below it.
bool is_below(std::string_view key, std::string_view domain) {
    return key.ends_with(domain) && (key.size() == domain.size() || key[key.size() - domain.size() - 1] == '.');
}

/// The shape of an IPv4 literal: such a text is meant as one, and never a name.
bool is_numbers(std::string_view text) {
    return text.contains('.') && text.find_first_not_of("0123456789.") == text.npos;
}

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(std::string("ResolverOptions.") + what);
}

ResolverOptions checked(ResolverOptions options) {
    require(options.servers.size() <= servers_max, "servers: more than 16");
    for (const Address& server : options.servers) {
        require(server.family() == AddressFamily::ipv4 || server.family() == AddressFamily::ipv6,
                "servers: one has no IPv4 or IPv6 address");
        require(server.port() != 0, "servers: one has no port");
    }
    require(!options.timeout || options.timeout->count() > 0, "timeout: it is not positive");
    require(!options.attempts || *options.attempts > 0, "attempts: there are none");
    require(options.ttl_min.count() >= 0, "ttl_min: it is negative");
    require(options.ttl_min <= options.ttl_max, "ttl_min: it is more than ttl_max");
    return options;
}

}  // namespace

const std::error_category& resolve_category() noexcept {
    return the_resolve_category;
}

// ---- the name ----

Resolver::State::State(Reactor& owner, ResolverOptions what)
    : reactor(owner),
      options(checked(std::move(what))),
      cache(owner.memory_account, options.cache_entries, options.cache_bytes, counters),
      out_of_memory(make_failure(ResolveErrc::limit, "no memory, or no thread, for the question")) {
    timer_route =
        reactor.add_timer_route(this, [](void*, Timer& timer) noexcept { static_cast<Wait&>(timer).on_timer(); });
    // Another one on the same reactor is the program's own, and not shown.
    if (reactor.metrics()->value("ferrule_resolver_pending", -1) < 0)
        counters_registered = reactor.metrics()->add(counters);
}

bool Resolver::State::wants(const Address& address) const noexcept {
    return address.family() == AddressFamily::ipv4 ? options.families != ResolverFamilies::ipv6
                                                   : options.families != ResolverFamilies::ipv4;
}

Resolver::State::Plan Resolver::State::plan(const std::string& name) {
    const auto ended = [](Result result) {
        Plan plan;
        plan.result = std::move(result);
        return plan;
    };
    const auto refused = [&](std::string_view why) {
        return ended(failure(name, ResolveErrc::invalid_name, std::string(why)));
    };
    if (name.empty() || name == ".") return refused("the name is empty");
    if (name.size() > text_max) return refused("a name has at most 253 characters");
    // What Address::parse takes beyond literals is no name either.
    if (name != "*" && name != "localhost" && !name.starts_with("unix:")) {
        if (const auto literal = Address::parse(name, 0, reactor.kernel()))
            return ended(ResolvedName{{*literal}, options.ttl_max});
    }
    const std::string key = host_key(name);
    if (is_below(key, "localhost")) {
        std::vector<Address> loopback;
        if (options.families != ResolverFamilies::ipv4) loopback.push_back(Address::loopback_ipv6(0));
        if (options.families != ResolverFamilies::ipv6) loopback.push_back(Address::loopback(0));
        return ended(found(std::move(loopback), options.ttl_max));
    }
    if (is_below(key, "invalid") || is_below(key, "onion"))
        return ended(failure(name, ResolveErrc::not_found, "names that end so are never asked for"));

    Plan plan;
    if (options.backend == ResolverBackend::system) {
        if (name.contains('\0')) return refused("it contains a zero byte");
        plan.by_system = true;
        return plan;
    }
    look_at_files();
    if (const auto* listed = hosts.find(key)) {
        std::vector<Address> addresses;
        std::copy_if(listed->begin(), listed->end(), std::back_inserter(addresses),
                     [this](const Address& address) { return wants(address); });
        if (!addresses.empty()) return ended(found(std::move(addresses), std::chrono::seconds(0)));
    }
    if (is_numbers(name)) return refused("neither an address nor a name");
    const auto own = DnsName::parse(name);
    if (!own) return refused(own.error());
    const auto dots = static_cast<unsigned>(std::count(key.begin(), key.end(), '.'));
    const bool is_absolute = name.ends_with('.');
    if (is_absolute || dots >= settings->dots) plan.names.push_back(*own);
    if (!is_absolute) {
        for (const DnsName& domain : settings->search) {
            if (auto longer = own->below(domain)) plan.names.push_back(std::move(*longer));
        }
        if (dots < settings->dots) plan.names.push_back(*own);
    }
    return plan;
}

Task<Resolver::State::Result> Resolver::State::resolve(std::string name) {
    try {
        Plan planned = plan(name);
        if (planned.result) co_return std::move(*planned.result);
        auto resolving = resolve_names(name, planned);
        if (options.deadline.count() <= 0) co_return co_await resolving;
        auto in_time = with_deadline(std::move(resolving), options.deadline);
        co_return co_await in_time;
    } catch (const std::bad_alloc&) {
        co_return failure(name, ResolveErrc::limit, "no memory for the question");
    }
}

Task<Resolver::State::Result> Resolver::State::resolve_names(const std::string& name, Plan& planned) {
    if (planned.by_system) planned.names.emplace_back();
    // The best of what the names have ended with: some data is missing rather than the whole name, and a server's
    // trouble may hide that there is one.
    Result best = failure(name, ResolveErrc::not_found, {});
    const auto rank = [](const std::error_code& code) {
        return code == ResolveErrc::not_found ? 0 : code == ResolveErrc::no_data ? 1 : 2;
    };
    bool is_first = true;
    for (const DnsName& asked : planned.names) {
        Wait wait(*this);
        if (planned.by_system) {
            wait.add(ask_system(name));
        } else {
            if (settings->wants_ipv6) wait.add(ask(asked, DnsType::aaaa));
            if (settings->wants_ipv4) wait.add(ask(asked, DnsType::a));
        }
        co_await wait;
        if (wait.cancelled() != CancelReason::none) {
            const bool is_deadline = wait.cancelled() == CancelReason::deadline;
            co_return failure(name, is_deadline ? ResolveErrc::timed_out : ResolveErrc::cancelled,
                              is_deadline ? "the deadline came before an answer" : "");
        }
        Result result = settle(name, wait);
        if (result) co_return result;
        const std::error_code code = result.error().code;
        if (is_first || rank(code) > rank(best.error().code)) best = std::move(result);
        is_first = false;
        // The other names would end no better.
        if (code != ResolveErrc::not_found && code != ResolveErrc::no_data && code != ResolveErrc::refused &&
            code != ResolveErrc::temporary_failure) {
            break;
        }
    }
    co_return best;
}

/// What the answers that came in time say together.
Resolver::State::Result Resolver::State::settle(const std::string& name, const Wait& wait) {
    const std::uint64_t now_ns = reactor.kernel().monotonic_ns();
    std::vector<Address> addresses;
    std::uint64_t expires_ns = ~std::uint64_t{0};
    Answer failed;
    for (std::size_t index = 0; index < wait.size(); ++index) {
        const Answer answer = wait.answer(index);
        if (answer == nullptr) continue;
        if (answer->error) {
            // A trouble says more than that there is nothing of one family.
            if (failed == nullptr || failed->error == ResolveErrc::no_data ||
                (failed->error == ResolveErrc::not_found && answer->error != ResolveErrc::no_data)) {
                failed = answer;
            }
            continue;
        }
        std::copy_if(answer->addresses.begin(), answer->addresses.end(), std::back_inserter(addresses),
                     [this](const Address& address) { return wants(address); });
        expires_ns = std::min(expires_ns, answer->expires_ns);
    }
    if (!addresses.empty()) {
        // The system has ordered them already, as its gai.conf says.
        if (options.backend == ResolverBackend::system) return ResolvedName{std::move(addresses), {}};
        const std::uint64_t left_ns = expires_ns > now_ns ? expires_ns - now_ns : 0;
        return found(std::move(addresses), std::chrono::floor<std::chrono::seconds>(std::chrono::nanoseconds(left_ns)));
    }
    if (failed == nullptr) return failure(name, ResolveErrc::no_data, {});
    return failure(name, failed->error, failed->detail);
}

bool Resolver::State::has_route(const Address& address) {
    constexpr std::uint16_t any_port = 53;  // nothing is sent to it
    Kernel& kernel = reactor.kernel();
    const int probe = kernel.socket(address.data()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0) return false;
    const Address target = address.with_port(any_port);
    const bool connects = kernel.connect(probe, target.data(), target.size()) == 0;
    kernel.close(probe);
    return connects;
}

Resolver::State::Result Resolver::State::found(std::vector<Address> addresses, std::chrono::seconds ttl) {
    std::vector<Address> ipv4;
    std::vector<Address> ipv6;
    for (Address& address : addresses) (address.family() == AddressFamily::ipv4 ? ipv4 : ipv6).push_back(address);
    addresses.clear();
    if (!ipv4.empty() && !ipv6.empty() && !has_route(ipv6.front())) {
        addresses = std::move(ipv4);
        addresses.insert(addresses.end(), ipv6.begin(), ipv6.end());
    } else {
        for (std::size_t index = 0; index < std::max(ipv4.size(), ipv6.size()); ++index) {
            if (index < ipv6.size()) addresses.push_back(ipv6[index]);
            if (index < ipv4.size()) addresses.push_back(ipv4[index]);
        }
    }
    return ResolvedName{std::move(addresses), ttl};
}

// ---- the resolver ----

Resolver::Resolver(Reactor& reactor, ResolverOptions options)
    : state_(std::make_unique<State>(reactor, std::move(options))) {}

Resolver::~Resolver() = default;

Resolver& Resolver::of(Reactor& reactor) {
    Resolver* found = reactor.find_service<Resolver>();
    return found != nullptr ? *found : reactor.add_service<Resolver>(reactor);
}

Task<std::expected<ResolvedName, ResolveError>> Resolver::resolve(std::string name) {
    state_->reactor.check_thread("Resolver::resolve");
    return state_->resolve(std::move(name));
}

void Resolver::clear_cache() {
    state_->reactor.check_thread("Resolver::clear_cache");
    state_->cache.clear();
}

std::vector<std::string> Resolver::notes() {
    state_->reactor.check_thread("Resolver::notes");
    state_->look_at_files();
    return state_->settings->notes;
}

const ResolverCounters& Resolver::counters() const noexcept {
    return state_->counters;
}

const ResolverOptions& Resolver::options() const noexcept {
    return state_->options;
}

}  // namespace ferrule::inline v0
