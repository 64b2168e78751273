#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/sim/datagram_socket.hpp>
#include <ferrule/sim/socket.hpp>

#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"
#include "support/dns_answers.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Address;
using ferrule::Reactor;
using ferrule::ResolveErrc;
using ferrule::Resolver;
using ferrule::Task;
using ferrule::sim::DatagramSocket;
using ferrule::sim::Fault;
using ferrule::sim::SocketAddress;
using namespace std::chrono_literals;

constexpr std::uint16_t name_server_port = 53;
constexpr std::size_t servers_max = 3;
constexpr std::size_t names_max = 24;
// Of this many questions a server answers so many wrongly.
constexpr std::uint64_t hostility_of = 4;
constexpr auto patience = 100ms;
constexpr auto stream_patience = 10s;
constexpr std::uint64_t second_ns = 1'000'000'000;

// With these an honest server's answer may not arrive in time.
constexpr std::array delaying = {
    Fault::datagram_lost,   Fault::datagram_overtaken,    Fault::peer_stalls,        Fault::peer_resets,
    Fault::packet_lost,     Fault::accept_no_descriptors, Fault::accept_aborted,     Fault::operation_fails,
    Fault::connect_refused, Fault::connect_unreachable,   Fault::connect_vanishes,   Fault::enter_again,
    Fault::enter_busy,      Fault::cancel_delayed,        Fault::no_memory_at_setup,
};

// ---- what is true ----

/// What the domain `example` has under `n<number>`.
enum class Kind : std::uint8_t { both, only_ipv4, only_ipv6, alias, absent, empty, count };

Kind kind_of(std::size_t number) {
    return static_cast<Kind>(number % static_cast<std::size_t>(Kind::count));
}

std::vector<std::uint32_t> ipv4_of(std::size_t number) {
    const Kind kind = kind_of(number);
    std::vector<std::uint32_t> all;
    if (kind == Kind::only_ipv6 || kind == Kind::absent || kind == Kind::empty) return all;
    for (std::uint32_t each = 0; each <= number % 3; ++each)
        all.push_back(0xc6120000u + static_cast<std::uint32_t>(number) * 256 + each);
    return all;
}

std::vector<std::uint8_t> ipv6_of(std::size_t number) {
    const Kind kind = kind_of(number);
    if (kind == Kind::only_ipv4 || kind == Kind::absent || kind == Kind::empty) return {};
    return {static_cast<std::uint8_t>(number + 1)};
}

std::string name_of(std::size_t number) {
    return "n" + std::to_string(number) + ".example";
}

std::vector<std::string> ipv4_texts(std::size_t number) {
    std::vector<std::string> all;
    for (const std::uint32_t address : ipv4_of(number)) {
        all.push_back(std::to_string(address >> 24) + '.' + std::to_string(address >> 16 & 255) + '.' +
                      std::to_string(address >> 8 & 255) + '.' + std::to_string(address & 255) + ":0");
    }
    std::sort(all.begin(), all.end());
    return all;
}

std::vector<std::string> ipv6_texts(std::size_t number) {
    std::vector<std::string> all;
    for (const std::uint8_t last : ipv6_of(number)) {
        constexpr std::string_view digits = "0123456789abcdef";
        std::string text = "[2001:db8::";
        if (last >= 16) text += digits[last >> 4];
        text += digits[last & 15];
        all.push_back(text + "]:0");
    }
    return all;
}

struct Resolving {
    WorkloadRun* run;
    std::size_t names = 0;
    bool has_honest_server = false;
    bool is_small = false;  ///< few questions may be in flight
    bool over = false;
    std::uint64_t tasks = 0;
    std::uint64_t tasks_over = 0;

    /// Whether a question that nobody cancels must be answered.
    [[nodiscard]] bool must_succeed() const {
        return has_honest_server &&
               std::all_of(delaying.begin(), delaying.end(), [this](Fault fault) { return run->fired(fault) == 0; });
    }
};

// ---- servers ----

/// `among_strangers`: between records of names that nobody asked for.
DnsMessage honest_answer(const DnsQueryView& query, std::uint32_t ttl, bool among_strangers = false) {
    const std::string lower = query.lower_name();
    std::size_t number = names_max;
    for (std::size_t each = 0; each < names_max; ++each) {
        if (lower == name_of(each)) number = each;
    }
    if (number == names_max || kind_of(number) == Kind::absent) {
        DnsMessage message = DnsMessage::answer_to(query, 3);
        return ttl % 2 == 0 ? message.authority("example", ttl, ttl) : message;
    }
    DnsMessage message = DnsMessage::answer_to(query);
    const std::string lie =
        query.type == DnsMessage::a ? DnsMessage::ipv4_data(0xcb007109) : DnsMessage::ipv6_data(0xff);
    if (among_strangers) message.answer("example", query.type, 86'400, lie).answer("bank", query.type, 86'400, lie);
    std::string owner = query.name;
    if (kind_of(number) == Kind::alias) {
        const std::string middle = "m" + std::to_string(number) + ".elsewhere";
        message.alias(owner, ttl, middle).alias(middle, ttl, "end.elsewhere");
        owner = "end.elsewhere";
    }
    bool is_empty = true;
    if (query.type == DnsMessage::a) {
        for (const std::uint32_t address : ipv4_of(number)) message.ipv4(owner, ttl, address), is_empty = false;
    } else {
        for (const std::uint8_t last : ipv6_of(number)) message.ipv6(owner, ttl, last), is_empty = false;
    }
    if (is_empty) message.authority("example", ttl, ttl);
    if (among_strangers) message.record(10, DnsMessage::wire(query.name), query.type, 86'400, lie);
    return message;
}

/// What a forger wants to be believed: an address that no name has.
DnsMessage lie(const DnsQueryView& query) {
    DnsMessage message = DnsMessage::answer_to(query);
    if (query.type == DnsMessage::a) return message.ipv4(query.name, 86'400, 0xcb007109);
    return message.ipv6(query.name, 86'400, 0xff);
}

/// What a server does with the option record of a question.
enum class Extension : std::uint8_t { known, rejected, dropped };

/// One name server, by UDP and TCP: honest, or now and then not.
class SimulatedNameServer {
public:
    SimulatedNameServer(Resolving& resolving, std::size_t machine, std::uint64_t hostility, Extension extension)
        : resolving_(&resolving),
          machine_(machine),
          hostility_(hostility),
          extension_(extension),
          random_(resolving.run->fork()) {}

    void start() {
        WorkloadRun& run = *resolving_->run;
        run.client("name-server", machine_, [this] { serve_datagrams(); });
        run.client("name-server-tcp", machine_, [this] { serve_streams(); });
    }
    /// Whether it hears what it is asked.
    [[nodiscard]] bool is_up() const noexcept { return receives_ && listens_; }

private:
    [[nodiscard]] ferrule::sim::Machine& machine() const { return resolving_->run->client_machine(machine_); }
    [[nodiscard]] bool misbehaves() { return random_.below(hostility_of) < hostility_; }
    [[nodiscard]] std::uint32_t any_ttl() {
        constexpr std::array<std::uint32_t, 6> ttls = {0, 1, 2, 60, 3600, 3601};
        return ttls[random_.below(ttls.size())];
    }
    [[nodiscard]] std::uint16_t other_id(const DnsQueryView& query) {
        return static_cast<std::uint16_t>(query.id + random_.between(1, 0xffff));
    }
    [[nodiscard]] std::string garbage() {
        std::string bytes(random_.below(300), '\0');
        for (char& byte : bytes) byte = static_cast<char>(random_.below(256));
        return bytes;
    }
    /// The query with its letters' case turned, as who has not seen it would have to guess.
    static DnsQueryView in_other_case(DnsQueryView query) {
        for (std::string* text : {&query.name, &query.question}) {
            for (std::size_t at = 0; at + (text == &query.question ? 4 : 0) < text->size(); ++at) {
                char& letter = (*text)[at];
                if ((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))
                    letter = static_cast<char>(letter ^ 0x20);
            }
        }
        return query;
    }

    void serve_datagrams() {
        auto opened = DatagramSocket::open(machine(), machine().ipv4(name_server_port));
        if (!opened) return resolving_->run->find("no UDP socket for a name server: " + opened.error().message());
        DatagramSocket socket = std::move(*opened);
        receives_ = true;
        while (!resolving_->over) {
            const auto received =
                socket.receive(static_cast<std::uint64_t>(std::chrono::nanoseconds(patience).count()));
            if (!received) continue;
            const DnsQueryView query = read(received->bytes);
            if (query.name.empty()) continue;
            for (const std::string& answer : answers(query, received->from))
                static_cast<void>(socket.send(received->from, answer));
        }
    }

    DnsQueryView read(const std::string& bytes) {
        try {
            return DnsQueryView::read(bytes);
        } catch (const std::exception& failure) {
            resolving_->run->find(std::string("a question that is none: ") + failure.what());
            return {};
        }
    }

    /// From a server that has never heard of option records: not even the question is repeated.
    static DnsMessage misunderstanding(const DnsQueryView& query) {
        return DnsMessage().set_id(query.id).set_flags(0x8001);
    }

    std::vector<std::string> answers(const DnsQueryView& query, const SocketAddress& from) {
        if (query.extended && extension_ == Extension::dropped) return {};
        if (query.extended && extension_ == Extension::rejected) return {misunderstanding(query).bytes()};
        const DnsMessage honest = honest_answer(query, any_ttl());
        if (!misbehaves()) return {honest.bytes()};
        WorkloadRun& run = *resolving_->run;
        switch (random_.below(15)) {
            case 0:
                return {};
            case 1:
                // Too late, perhaps for somebody else who has the port by then.
                run.simulation().at(
                    run.simulation().now_ns() + random_.below(20 * second_ns), [this, from, bytes = honest.bytes()] {
                        if (!resolving_->over)
                            DatagramSocket::forge(machine(), machine().ipv4(name_server_port), from, bytes);
                    });
                return {};
            case 2:
                return {lie(query).set_flags(DnsMessage::response | DnsMessage::truncated).bytes()};
            case 3:
                return {lie(query).set_id(other_id(query)).bytes(), honest.bytes()};
            case 4: {
                DnsMessage other;
                other.set_id(query.id).set_flags(DnsMessage::response).question("n1.example.net", query.type);
                return {other.ipv4(query.name, 60, 0xcb007109).bytes(), honest.bytes()};
            }
            case 5:
                // Somebody else, who knows everything but the case of the letters.
                DatagramSocket::forge(run.server_machine(), machine().ipv4(name_server_port), from,
                                      lie(in_other_case(query)).bytes());
                return {honest.bytes()};
            case 6: {
                std::vector<std::string> flood;
                for (int guess = 0; guess < 20; ++guess) flood.push_back(lie(query).set_id(other_id(query)).bytes());
                flood.push_back(honest.bytes());
                return flood;
            }
            case 7:
                return {DnsMessage::answer_to(query, 2).bytes()};
            case 8:
                return {DnsMessage::answer_to(query, 5).bytes()};
            case 9:
                return {query.extended ? misunderstanding(query).bytes() : honest.bytes()};
            case 10:
                return {honest.bytes().substr(0, random_.between(12, honest.bytes().size()))};
            case 11: {
                DnsMessage loop = DnsMessage::answer_to(query);
                const auto end = static_cast<std::uint16_t>(loop.bytes().size());
                return {loop.record(6, DnsMessage::pointer(end), query.type, 60, "").bytes()};
            }
            case 12:
                return {honest_answer(query, any_ttl(), true).bytes()};
            case 13:
                return {garbage(), lie(query).alias("n2.example", 60, query.name).set_flags(0x0100).bytes(),
                        honest.bytes()};
            default: {
                DnsMessage loop = DnsMessage::answer_to(query);
                return {loop.alias(query.name, 60, "x.example").alias("x.example", 60, query.name).bytes()};
            }
        }
    }

    void serve_streams() {
        ferrule::sim::ListenSocketOptions options;
        options.accepted.time_limit_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(stream_patience).count());
        auto listener = ferrule::sim::ListenSocket::open(machine(), machine().ipv4(name_server_port), options);
        if (!listener) return resolving_->run->find("a name server cannot listen: " + listener.error().message());
        listens_ = true;
        std::vector<std::unique_ptr<ferrule::ThreadHandle>> threads;
        while (!resolving_->over) {
            auto accepted = listener->accept(static_cast<std::uint64_t>(std::chrono::nanoseconds(patience).count()));
            if (!accepted) continue;
            auto socket = std::make_shared<ferrule::sim::Socket>(std::move(*accepted));
            threads.push_back(machine().kernel().start_thread("stream", [this, socket] { answer_stream(*socket); }));
        }
        for (const auto& thread : threads) thread->join();
    }

    void answer_stream(ferrule::sim::Socket& socket) {
        const auto length = socket.receive_exactly(2);
        if (!length) return;
        const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>((*length)[at]); };
        const auto bytes = socket.receive_exactly(byte(0) * 256u + byte(1));
        if (!bytes) return;
        const DnsQueryView query = read(*bytes);
        if (query.name.empty()) return;
        if (query.extended && extension_ == Extension::dropped) return static_cast<void>(socket.receive());
        if (query.extended && extension_ == Extension::rejected)
            return static_cast<void>(socket.send(misunderstanding(query).with_length()));
        const std::string honest = honest_answer(query, any_ttl()).with_length();
        if (!misbehaves()) {
            static_cast<void>(socket.send(honest));
            return;
        }
        switch (random_.below(5)) {
            case 0:
                return;
            case 1:
                static_cast<void>(socket.send(honest.substr(0, random_.below(honest.size()))));
                return;
            case 2:
                static_cast<void>(socket.send(lie(query).set_id(other_id(query)).with_length()));
                return;
            case 3:
                // Nothing, until whoever asks has lost patience.
                static_cast<void>(socket.receive());
                return;
            default:
                static_cast<void>(socket.send(garbage()));
                return;
        }
    }

    Resolving* resolving_;
    std::size_t machine_;
    bool receives_ = false;
    bool listens_ = false;
    std::uint64_t hostility_;
    Extension extension_;
    ferrule::sim::Random random_;
};

// ---- who resolves ----

using Resolved = std::expected<ferrule::ResolvedName, ferrule::ResolveError>;

/// Either family is there as a whole, or, when its own question found nothing in time, not at all.
bool is_truth(const ferrule::ResolvedName& resolved, std::size_t number) {
    std::vector<std::string> ipv4;
    std::vector<std::string> ipv6;
    for (const Address& address : resolved.addresses)
        (address.family() == ferrule::AddressFamily::ipv4 ? ipv4 : ipv6).push_back(address.to_string());
    std::sort(ipv4.begin(), ipv4.end());
    return (!ipv4.empty() || !ipv6.empty()) && (ipv4.empty() || ipv4 == ipv4_texts(number)) &&
           (ipv6.empty() || ipv6 == ipv6_texts(number));
}

void check(const Resolving& resolving, std::size_t number, bool is_limited, const Resolved& resolved) {
    WorkloadRun& run = *resolving.run;
    ++run.messages_checked;
    const Kind kind = kind_of(number);
    if (resolved) {
        if (is_truth(*resolved, number)) return;
        std::string what = name_of(number) + " has been resolved to";
        for (const Address& address : resolved->addresses) what += ' ' + address.to_string();
        return run.find(what);
    }
    const std::error_code code = resolved.error().code;
    if (code == ResolveErrc::not_found && kind == Kind::absent) return;
    if (code == ResolveErrc::no_data && kind == Kind::empty) return;
    const bool is_excuse = code == ResolveErrc::timed_out || code == ResolveErrc::temporary_failure ||
                           code == ResolveErrc::refused || code == ResolveErrc::malformed ||
                           (code == ResolveErrc::limit && resolving.is_small);
    if (!is_excuse) return run.find("that is no reason: " + resolved.error().message);
    if (is_limited || resolving.is_small) return;
    if (resolving.must_succeed()) run.find("an honest server was not heard: " + resolved.error().message);
}

Task<> resolve_names(Resolving* resolving, std::uint64_t seed, std::uint32_t rounds) {
    WorkloadRun& run = *resolving->run;
    const TaskCount count{run};
    Reactor& reactor = *Reactor::current();
    ferrule::sim::Random random{seed};
    for (std::uint32_t round = 0; round < rounds; ++round) {
        const std::size_t number = random.below(resolving->names);
        const std::string name = random.one_in(2) ? name_of(number) : "N" + std::to_string(number);
        const bool is_limited = random.one_in(3);
        auto resolving_it = Resolver::of(reactor).resolve(random.one_in(8) ? name_of(number) + "." : name);
        if (is_limited) {
            auto limited =
                ferrule::with_deadline(std::move(resolving_it), std::chrono::nanoseconds(random.below(8 * second_ns)));
            const auto resolved = co_await run.watch(std::move(limited));
            check(*resolving, number, true, resolved);
        } else {
            const auto resolved = co_await run.watch(std::move(resolving_it));
            check(*resolving, number, false, resolved);
        }
        if (random.one_in(3))
            co_await run.watch(ferrule::sleep_for(std::chrono::nanoseconds(random.below(3 * second_ns))));
    }
    ++resolving->tasks_over;
}

void run_resolver(WorkloadRun& run) {
    Resolving resolving{&run};
    resolving.names = run.random().between(1, names_max);
    const std::uint64_t servers = run.random().between(1, servers_max);
    std::vector<std::unique_ptr<SimulatedNameServer>> name_servers;
    std::string conf =
        run.choose({"search example\n", "domain example\noptions ndots:0\n", "search one two example\n"});
    if (run.random().one_in(3)) conf += "options rotate\n";
    if (run.random().one_in(6)) conf += "options use-vc\n";
    if (run.random().one_in(6)) conf += "options timeout:1 attempts:3\n";
    for (std::size_t index = 0; index < servers; ++index) {
        const std::uint64_t hostility = run.choose<std::uint64_t>({0, 0, 1, 2, hostility_of});
        const Extension extension =
            run.choose({Extension::known, Extension::known, Extension::rejected, Extension::dropped});
        resolving.has_honest_server = resolving.has_honest_server || hostility == 0;
        std::string address = run.client_machine(index).ipv4().to_string();
        conf += "nameserver " + address.substr(0, address.find(':')) + '\n';
        name_servers.push_back(std::make_unique<SimulatedNameServer>(resolving, index, hostility, extension));
    }
    run.file("/etc/resolv.conf", conf);
    run.file("/etc/hosts", "192.0.2.1 elsewhere\n");

    ferrule::ResolverOptions options;
    options.deadline = 0s;
    options.cache_entries = run.choose({0u, 1u, 4u, 4096u});
    options.cache_bytes = run.choose<std::uint64_t>({0, 600, 1u << 20});
    options.question_limit = run.choose({1u, 4u, 1024u, 1024u, 1024u});
    options.ttl_min = run.choose({0s, 0s, 5s});
    options.mixed_case = true;
    resolving.is_small = options.question_limit < 1024;
    const std::uint32_t tasks = run.connections(1, 12);
    const std::uint32_t rounds = run.messages(1, 20);
    ReactorProgram program{run, run.random().between(1, 2), run.reactor_options(), run.network_options()};
    resolving.tasks = tasks * program.size();
    program.on_start([&, random = run.fork()](Reactor& reactor) mutable {
        reactor.add_service<Resolver>(reactor, options);
        for (std::uint32_t task = 0; task < tasks; ++task)
            reactor.spawn(resolve_names(&resolving, random.next(), rounds));
    });
    program.until([&resolving] { return resolving.tasks_over == resolving.tasks; });
    program.on_end([&](Reactor& reactor) {
        resolving.over = true;
        const auto& counters = Resolver::of(reactor).counters();
        run.expect(counters.pending.value() == 0, "a question is still in flight at the end");
        run.expect(counters.cached_entries.value() <= options.cache_entries, "the cache has too many entries");
        run.expect(counters.cached_bytes.value() <= options.cache_bytes, "the cache has too many bytes");
        run.connections_made += counters.questions.value();
    });
    for (const auto& server : name_servers) server->start();
    // An honest server that is not up yet refuses.
    run.program("beginning", [&] {
        const auto are_up = [&] {
            return std::all_of(name_servers.begin(), name_servers.end(),
                               [](const auto& server) { return server->is_up(); });
        };
        if (run.wait_until(are_up, "name servers that listen")) program.start();
    });
    run.finish();
}

}  // namespace

const Workload resolver_workload{"resolver", "names asked of honest and hostile servers, by UDP and TCP", run_resolver};

}  // namespace ferrule_test
