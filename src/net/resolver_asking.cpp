#include <ferrule/reactor/offload.hpp>

#include "net/resolver_state.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// After so many questions in a row that a server answered only without an option record, it is no longer sent one.
constexpr unsigned extension_losses_max = 2;
/// Addresses that are taken from getaddrinfo.
constexpr std::size_t system_addresses_max = 64;

std::uint64_t nanoseconds(std::chrono::nanoseconds time) noexcept {
    return time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0;
}

/// A server's address as people write it: without the port that everybody has.
std::string name_of(const Address& server) {
    constexpr std::uint16_t usual_port = 53;
    std::string text = server.to_string();
    if (server.port() == usual_port) {
        text.resize(text.rfind(':'));
        if (text.starts_with('[')) text = text.substr(1, text.size() - 2);
    }
    return text;
}

std::string describe(int error) {
    return std::error_code(error, std::system_category()).message();
}

/// Whether the error is ours: no descriptors, no memory. Another server would not help, and later it may be otherwise.
bool is_shortage(int error) noexcept {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/// What went wrong with each server, of which the most telling is the error of the whole.
class Failures {
public:
    explicit Failures(std::size_t servers) : details_(servers) {}

    void add(std::size_t server, const Address& address, ResolveErrc code, const std::string& what) {
        details_[server] = name_of(address) + ": " + what;
        if (rank(code) > rank(code_)) code_ = code;
    }
    [[nodiscard]] ResolveErrc code() const noexcept { return code_; }
    [[nodiscard]] std::string detail() const {
        std::string all;
        for (const std::string& detail : details_) {
            if (detail.empty()) continue;
            if (!all.empty()) all += "; ";
            all += detail;
        }
        return all;
    }

private:
    /// What a server said counts more than its silence.
    static unsigned rank(ResolveErrc code) noexcept {
        switch (code) {
            case ResolveErrc::limit:
                return 5;
            case ResolveErrc::temporary_failure:
                return 4;
            case ResolveErrc::refused:
                return 3;
            case ResolveErrc::malformed:
                return 2;
            case ResolveErrc::timed_out:
                return 1;
            default:
                return 0;
        }
    }
    std::vector<std::string> details_;
    ResolveErrc code_{};
};

/// What is to be done after a server was asked.
enum class Step : std::uint8_t { take_answer, ask_without_extension, ask_by_tcp, ask_next_server, stop };

/// One server in one attempt.
struct Asking {
    std::size_t server = 0;
    bool extended = false;  ///< with an option record
    bool by_tcp = false;
};

Step judge_reply(const DnsReply& reply, const Asking& asking, const Address& address, Failures& failures) {
    switch (reply.kind) {
        case DnsReplyKind::answer:
        case DnsReplyKind::no_data:
        case DnsReplyKind::no_such_name:
            return Step::take_answer;
        case DnsReplyKind::truncated:
            return Step::ask_by_tcp;
        case DnsReplyKind::format_error:
            if (asking.extended) return Step::ask_without_extension;
            failures.add(asking.server, address, ResolveErrc::temporary_failure, "it does not understand the question");
            break;
        case DnsReplyKind::server_failure:
            failures.add(asking.server, address, ResolveErrc::temporary_failure, "server failure");
            break;
        case DnsReplyKind::referral:
            failures.add(asking.server, address, ResolveErrc::temporary_failure, "it names other servers only");
            break;
        case DnsReplyKind::refused:
            failures.add(asking.server, address, ResolveErrc::refused, "refused");
            break;
        default:
            failures.add(asking.server, address, ResolveErrc::malformed, "its answer is malformed");
            break;
    }
    return Step::ask_next_server;
}

Step judge(const DnsOutcome& outcome, const Asking& asking, const Address& address, Failures& failures) {
    switch (outcome.end) {
        case DnsOutcome::End::replied:
            return judge_reply(outcome.reply, asking, address, failures);
        case DnsOutcome::End::unbelievable:
            return Step::ask_by_tcp;
        case DnsOutcome::End::timed_out:
            failures.add(asking.server, address, ResolveErrc::timed_out, "no answer");
            return Step::ask_next_server;
        case DnsOutcome::End::cancelled:
            return Step::stop;
        default:
            failures.add(asking.server, address,
                         is_shortage(outcome.error) ? ResolveErrc::limit : ResolveErrc::temporary_failure,
                         outcome.error == EPIPE ? "it closed the connection" : describe(outcome.error));
            return Step::ask_next_server;
    }
}

/// What is noted about a server for the next questions.
void learn(DnsServer& server, const DnsOutcome& outcome, const Asking& asking, bool lost_extended,
           std::uint64_t silent_until_ns) {
    if (outcome.end == DnsOutcome::End::timed_out) server.silent_until_ns = silent_until_ns;
    if (outcome.end != DnsOutcome::End::replied) return;
    server.silent_until_ns = 0;
    if (asking.by_tcp) return;
    if (asking.extended) {
        if (outcome.reply.kind != DnsReplyKind::format_error) server.extension_losses = 0;
    } else if (lost_extended && outcome.reply.kind != DnsReplyKind::format_error) {
        ++server.extension_losses;
    }
}

}  // namespace

// ---- who asks, and who waits ----

std::shared_ptr<Resolver::State::Lookup> Resolver::State::known(const std::string& key) {
    if (Answer cached = cache.find(key, reactor.kernel().monotonic_ns())) {
        counters.cache_hits.add();
        auto lookup = std::make_shared<Lookup>();
        lookup->answer = std::move(cached);
        return lookup;
    }
    if (const auto found = pending.find(key); found != pending.end()) {
        counters.shared_questions.add();
        return found->second;
    }
    if (pending.size() < options.question_limit) return nullptr;
    auto lookup = std::make_shared<Lookup>();
    lookup->answer = make_failure(ResolveErrc::limit, std::to_string(pending.size()) +
                                                          " questions are in flight (ResolverOptions::question_limit)");
    return lookup;
}

std::shared_ptr<Resolver::State::Lookup> Resolver::State::ask(const DnsName& name, DnsType type) {
    std::string key(name.wire());
    key += type == DnsType::a ? 'a' : 'q';
    if (auto lookup = known(key)) return lookup;
    auto lookup = std::make_shared<Lookup>();
    lookup->key = std::move(key);
    lookup->question = {name, type};
    lookup->exchange = std::make_unique<DnsExchange>();
    begin(lookup, ask_servers(lookup, settings));
    return lookup;
}

std::shared_ptr<Resolver::State::Lookup> Resolver::State::ask_system(const std::string& name) {
    std::string key = host_key(name) + "/s";
    if (auto lookup = known(key)) return lookup;
    auto lookup = std::make_shared<Lookup>();
    lookup->key = std::move(key);
    begin(lookup, ask_library(name));
    return lookup;
}

void Resolver::State::begin(const std::shared_ptr<Lookup>& lookup, Task<Answer> asking) {
    Task<> running = run(this, lookup, std::move(asking));
    pending.emplace(lookup->key, lookup);
    counters.pending.set(pending.size());
    // Under the reactor's own environment: it belongs to all who wait for it, and to none.
    reactor.spawn(std::move(running));
}

Task<> Resolver::State::run(State* state, std::shared_ptr<Lookup> lookup, Task<Answer> asking) {
    Answer answer;
    try {
        answer = co_await asking;
        if (answer->expires_ns != 0) state->cache.put(lookup->key, answer);
    } catch (...) {
        // No memory, or no thread for the system's resolver.
        if (answer == nullptr) answer = state->out_of_memory;
    }
    state->finish(*lookup, std::move(answer));
}

void Resolver::State::finish(Lookup& lookup, Answer answer) noexcept {
    lookup.answer = std::move(answer);
    lookup.exchange.reset();
    pending.erase(lookup.key);
    counters.pending.set(pending.size());
    for (Wait* wait : std::exchange(lookup.waits, {})) wait->on_answer();
}

// ---- servers ----

Task<Resolver::State::Answer> Resolver::State::ask_servers(std::shared_ptr<Lookup> lookup,
                                                           std::shared_ptr<Settings> asked) {
    Failures failures(asked->servers.size());
    std::vector<bool> lost_extended(asked->servers.size(), false);
    const std::vector<std::size_t> order = order_of_servers(*asked);
    for (unsigned attempt = 0; attempt < asked->attempts; ++attempt) {
        for (const std::size_t index : order) {
            DnsServer& server = asked->servers[index];
            Asking asking{.server = index,
                          .extended = attempt == 0 && server.extension_losses < extension_losses_max,
                          .by_tcp = asked->use_tcp};
            Step step = Step::ask_next_server;
            do {
                if (!prepare_query(*lookup, asking.extended, asking.by_tcp)) {
                    co_return make_failure(ResolveErrc::temporary_failure, "there is no randomness for a question");
                }
                counters.questions.add();
                auto question = asking.by_tcp ? ask_by_tcp(reactor, *lookup->exchange, lookup->question, server.address,
                                                           asked->timeout, counters)
                                              : ask_by_udp(reactor, *lookup->exchange, lookup->question, server.address,
                                                           asked->timeout, counters);
                const DnsOutcome outcome = co_await question;
                learn(server, outcome, asking, lost_extended[index],
                      reactor.kernel().monotonic_ns() + nanoseconds(options.silence_penalty));
                if (outcome.end == DnsOutcome::End::replied) counters.answers.add();
                if (outcome.end == DnsOutcome::End::timed_out) counters.timeouts.add();
                step = judge(outcome, asking, server.address, failures);
                if (step == Step::take_answer) co_return make_answer(*lookup, server, outcome.reply);
                if (step == Step::stop) co_return make_failure(ResolveErrc::cancelled, "the reactor ends");
                if (asking.extended && (step == Step::ask_without_extension || outcome.end != DnsOutcome::End::replied))
                    lost_extended[index] = true;
                asking.extended = asking.extended && step != Step::ask_without_extension;
                asking.by_tcp = asking.by_tcp || step == Step::ask_by_tcp;
            } while (step != Step::ask_next_server);
        }
    }
    const bool is_ours = failures.code() == ResolveErrc::limit;
    co_return make_failure(failures.code(), failures.detail(),
                           is_ours ? 0 : reactor.kernel().monotonic_ns() + nanoseconds(options.failure_ttl));
}

std::vector<std::size_t> Resolver::State::order_of_servers(const Settings& asked) {
    const std::size_t count = asked.servers.size();
    const std::size_t first = asked.rotate ? next_server++ % count : 0;
    const std::uint64_t now_ns = reactor.kernel().monotonic_ns();
    std::vector<std::size_t> order;
    for (const bool silent : {false, true}) {
        for (std::size_t place = 0; place < count; ++place) {
            const std::size_t index = (first + place) % count;
            if ((asked.servers[index].silent_until_ns > now_ns) == silent) order.push_back(index);
        }
    }
    return order;
}

bool Resolver::State::take_random(std::span<std::byte> out) noexcept {
    if (random_left < out.size()) {
        if (reactor.kernel().random(random.data(), random.size()) < 0) return false;
        random_left = random.size();
    }
    random_left -= out.size();
    std::memcpy(out.data(), random.data() + random_left, out.size());
    // What was used must not be found again.
    std::memset(random.data() + random_left, 0, out.size());
    return true;
}

bool Resolver::State::prepare_query(Lookup& lookup, bool extended, bool by_tcp) noexcept {
    DnsQueryOptions query;
    query.extended = extended;
    if (!take_random(std::as_writable_bytes(std::span(&query.id, 1)))) return false;
    // By TCP nobody else can answer, and there the letters are repeated by servers that do not keep their case.
    if (options.mixed_case && !by_tcp && !take_random(std::as_writable_bytes(std::span(query.case_bits)))) return false;
    lookup.exchange->prepare(lookup.question, query);
    return true;
}

Resolver::State::Answer Resolver::State::make_answer(const Lookup& lookup, const DnsServer& server,
                                                     const DnsReply& reply) {
    auto answer = std::make_shared<DnsAnswer>();
    std::chrono::seconds ttl{0};
    if (reply.kind == DnsReplyKind::answer) {
        ttl = std::clamp(std::chrono::seconds(reply.ttl_seconds), options.ttl_min, options.ttl_max);
        answer->addresses.reserve(reply.addresses.size());
        for (const DnsAddress& address : reply.addresses)
            answer->addresses.push_back(to_address(address, lookup.question.type));
    } else {
        const bool is_there = reply.kind == DnsReplyKind::no_data;
        ttl = std::min(std::chrono::seconds(reply.negative_seconds.value_or(0)), options.negative_ttl_max);
        answer->error = is_there ? ResolveErrc::no_data : ResolveErrc::not_found;
        answer->detail = name_of(server.address);
    }
    if (ttl.count() > 0) answer->expires_ns = reactor.kernel().monotonic_ns() + nanoseconds(ttl);
    return answer;
}

Resolver::State::Answer Resolver::State::make_failure(ResolveErrc code, std::string detail, std::uint64_t expires_ns) {
    auto answer = std::make_shared<DnsAnswer>();
    answer->error = code;
    answer->detail = std::move(detail);
    answer->expires_ns = expires_ns;
    return answer;
}

// ---- the system's own resolver ----

namespace {

struct SystemAnswer {
    int error = 0;
    std::vector<Address> addresses;
};

/// On another thread.
SystemAnswer call_system(Kernel& kernel, const std::string& name) {
    std::array<sockaddr_storage, system_addresses_max> found;
    const int count = kernel.resolve_name(name.c_str(), found.data(), found.size());
    SystemAnswer answer;
    if (count < 0) answer.error = -count;
    for (int index = 0; index < count; ++index) {
        const auto* address = reinterpret_cast<const sockaddr*>(&found[static_cast<std::size_t>(index)]);
        if (const auto taken = Address::from(address, sizeof(sockaddr_storage))) {
            if (std::find(answer.addresses.begin(), answer.addresses.end(), *taken) == answer.addresses.end())
                answer.addresses.push_back(*taken);
        }
    }
    return answer;
}

ResolveErrc code_of_system(int error) noexcept {
    switch (error) {
        case ENOENT:
            return ResolveErrc::not_found;
        case ENODATA:
            return ResolveErrc::no_data;
        case ENOMEM:
            return ResolveErrc::limit;
        default:
            return ResolveErrc::temporary_failure;
    }
}

}  // namespace

Task<Resolver::State::Answer> Resolver::State::ask_library(std::string name) {
    Kernel& kernel = reactor.kernel();
    auto call = [&kernel, name] { return call_system(kernel, name); };
    auto calling = offload(std::move(call));
    auto called = co_await calling;
    if (!called) co_return make_failure(ResolveErrc::limit, "too many blocking calls (ReactorOptions::offload_limit)");
    if (called->error != 0) {
        const ResolveErrc code = code_of_system(called->error);
        const bool is_plain = code == ResolveErrc::not_found || code == ResolveErrc::no_data;
        co_return make_failure(code, is_plain ? "getaddrinfo" : "getaddrinfo: " + describe(called->error));
    }
    auto answer = std::make_shared<DnsAnswer>();
    answer->addresses = std::move(called->addresses);
    co_return answer;
}

}  // namespace ferrule::inline v0
