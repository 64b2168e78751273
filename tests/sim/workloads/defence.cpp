#include <ferrule/net/address_limiter.hpp>
#include <ferrule/net/proxy_header.hpp>

#include "sim/workloads/audit.hpp"
#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/requests.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Address;
using ferrule::Connection;
using ferrule::Excess;
using ferrule::ProxyProtocol;
using ferrule::ProxyVersion;
using ferrule::Task;
using std::chrono::nanoseconds;
using namespace std::chrono_literals;

// Longer than any fault holds a segment of an honest peer back.
constexpr auto deadline = 5min;
// What bounds a peer where a defence is off.
constexpr auto last_deadline = 30min;
// From the server's end of a connection until its peer has seen it; and from the handshake to the accept.
constexpr auto margin = 10min;
// All that was open has ended after it, whatever has become of its peers.
constexpr auto long_rest = 2h;
// Who is reset before he has seen that he is connected tries again, this often at most.
constexpr std::uint64_t attempts = 8;
constexpr std::size_t flood_machine = ServerProgram::client_machines;
constexpr std::size_t strange_machine = flood_machine + 1;

// Of 100 KB each: more than the buffers of both sides take.
constexpr std::uint32_t answers_of_a_reader = 6;

// SO_RCVBUF of peers that take little: so much has gone to them when they have not begun to read.
constexpr std::uint32_t small_buffer = 4096;
// What a connection's buffers hold at most where the run has small ones.
constexpr std::uint64_t small_buffers = 20'000;

enum class Attack : std::uint8_t {
    silence,
    dripping_sender,
    stalling_sender,
    dripping_reader,
    stubborn_reader,
    gulping_reader,
    // Where a PROXY header is required:
    no_header,
    wrong_header,
    half_a_header,
    stranger,
    health_check,
    count_of_attacks,
};

/// What is counted, by peers and by the server.
struct Counts {
    std::uint64_t first_byte_timeouts = 0;
    std::uint64_t slow_senders = 0;
    std::uint64_t slow_receivers = 0;
    std::uint64_t address_refusals = 0;
    std::uint64_t proxied = 0;
    std::uint64_t proxy_errors = 0;
    std::uint64_t proxy_timeouts = 0;
    std::uint64_t proxy_strangers = 0;
};

/// A peer that takes less than it must, as it is known to the handler of its connection.
struct SlowReader {
    /// When so many have been sent to one that takes nothing, its own buffer is full.
    static constexpr std::uint32_t settled = 2;

    bool takes_nothing = false;
    std::uint64_t taken = 0;  // bytes, by the peer

    std::uint32_t flushed = 0;             // how many flushes have ended well
    bool sent_slowly = false;              // a send may have waited in one of them
    nanoseconds waited{0};                 // in flushes
    std::uint64_t taken_at_the_first = 0;  // when the first flush waited
};

struct Defended {
    WorkloadRun* run;
    bool behind_proxy = false;
    bool knows_sources = false;
    bool guards_first_byte = false;
    std::chrono::milliseconds receive_window{0};  // 0: no least rate
    std::chrono::milliseconds send_window{0};
    std::uint32_t send_rate = 0;
    std::uint32_t address_limit = 0;  // 0: none
    bool computes = false;
    bool polled = false;                       // a thread of the kernel takes the server's entries
    std::map<std::uint64_t, Address> named{};  // whom the header in front of the requests of a key names, if anybody
    std::map<std::uint64_t, SlowReader> slow_readers{};  // by key
    Counts planned{};                                    // what the peers of the run may bring about
    Counts seen{};                                       // what peers have seen happen to them
    Counts counted{};                                    // by the server
    std::uint64_t timeouts = 0;
    std::uint64_t turned_away = 0;  // by the accept rate, or because of overload
};

/// Adds what a reactor's network has counted when it ends.
class DefenceCounts {
public:
    DefenceCounts(Defended& defended, ferrule::Reactor& reactor) : defended_(&defended), reactor_(&reactor) {}
    DefenceCounts(const DefenceCounts&) = delete;
    DefenceCounts& operator=(const DefenceCounts&) = delete;
    ~DefenceCounts() {
        const ferrule::NetworkCounters& network = reactor_->service<ferrule::Network>().counters();
        Counts& counted = defended_->counted;
        counted.first_byte_timeouts += network.first_byte_timeouts.value();
        counted.slow_senders += network.slow_senders.value();
        counted.slow_receivers += network.slow_receivers.value();
        counted.address_refusals += network.address_refusals.value();
        counted.proxied += network.proxied.value();
        counted.proxy_errors += network.proxy_errors.value();
        counted.proxy_timeouts += network.proxy_timeouts.value();
        counted.proxy_strangers += network.proxy_strangers.value();
        defended_->timeouts += network.timeouts.value();
        const std::uint64_t turned_away = network.accept_refusals.value() + network.shed.value();
        defended_->turned_away += turned_away;
        defended_->run->refused(turned_away);
        defended_->run->expect(network.address_overflows.value() == 0, "a table of clients with room has overflowed");
    }

private:
    Defended* defended_;
    ferrule::Reactor* reactor_;
};

// ---- the server ----

/// A flush for a peer that may take little, from its beginning. The server's own clock is all that counts here: what a
/// peer sees of its end is late by whatever the network does.
class FlushWatch {
public:
    explicit FlushWatch(Defended& defended) : defended_(&defended), begun_ns_(now_ns()), slow_sends_(slow_sends()) {}

    void ended(SlowReader& reader, bool sent) {
        WorkloadRun& run = *defended_->run;
        constexpr auto at_once = 1s;
        if (defended_->send_window.count() == 0 || run.fired(ferrule::sim::Fault::operation_fails) != 0) return;
        const auto took = nanoseconds(now_ns() - begun_ns_);
        if (!sent && reader.takes_nothing && !reader.sent_slowly && reader.flushed >= SlowReader::settled) {
            run.expect(took <= defended_->send_window + 10s,
                       "a peer that took nothing for a whole window was waited for in the next one, too");
        }
        if (sent) ++reader.flushed;
        // A send that waits for a moment only begins a window, too. A polling thread's are all like that.
        reader.sent_slowly = reader.sent_slowly || defended_->polled || slow_sends() != slow_sends_;
        if (took > at_once && reader.waited.count() == 0) reader.taken_at_the_first = reader.taken;
        if (took > at_once) reader.waited += took;
        if (reader.takes_nothing || reader.waited < 4 * defended_->send_window) return;
        // Three of them are whole windows, in each of which the peer must have acknowledged what the rate asks for.
        const auto seconds = std::chrono::floor<std::chrono::seconds>(3 * defended_->send_window).count();
        run.expect(reader.taken - reader.taken_at_the_first + small_buffers >=
                       static_cast<std::uint64_t>(seconds) * defended_->send_rate,
                   "a peer that takes too little was waited for in one send after the other");
    }

private:
    [[nodiscard]] std::uint64_t now_ns() const { return defended_->run->simulation().now_ns(); }
    [[nodiscard]] static std::uint64_t slow_sends() {
        return ferrule::Reactor::current()->service<ferrule::Network>().counters().slow_sends.value();
    }

    Defended* defended_;
    std::uint64_t begun_ns_;
    std::uint64_t slow_sends_;
};

Task<> serve_defended(Defended* defended, Connection connection) {
    WorkloadRun& run = *defended->run;
    const TaskCount count{run};
    RequestsSeen seen;
    ferrule::sim::Random random = run.fork();
    while (auto received = co_await run.watch(connection.read())) {
        const bool first = seen.next == 0;
        const std::size_t done = answer_requests(run, seen, connection, received.contiguous());
        received.consume(done);
        received.reset();
        if (first && seen.next != 0) {
            const auto named = defended->named.find(seen.key);
            const auto told = connection.peer_address();
            const auto transport = connection.transport_peer_address();
            if (named != defended->named.end() ? !told || *told != named->second
                                               : told && transport && *told != *transport)
                run.find("a connection is not of the client that its header has named");
        }
        if (defended->computes && random.one_in(8)) run.pause(nanoseconds(random.below(20'000'000)));
        FlushWatch watch{*defended};
        const auto flushed = co_await run.watch(connection.flush());
        const auto reader = defended->slow_readers.find(seen.key);
        if (reader != defended->slow_readers.end()) watch.ended(reader->second, flushed.has_value());
        if (!flushed) break;
    }
}

void defend(Defended& defended, ferrule::ServerOptions& options, std::uint32_t peers_of_a_machine) {
    WorkloadRun& run = *defended.run;
    ferrule::NetworkOptions& network = options.network;
    auto& random = run.random();
    defended.polled = options.reactor.submission_poll.count() > 0;
    network.idle_timeout = network.read_timeout = network.write_timeout = last_deadline;
    defended.guards_first_byte = random.one_in(2);
    if (defended.guards_first_byte) network.first_byte_timeout = deadline;
    network.rate_window = run.choose<std::chrono::milliseconds>({2min, deadline});
    if (random.one_in(2)) {
        network.receive_rate_min = 1;
        defended.receive_window = network.rate_window;
    }
    if (random.one_in(2)) {
        // Faster than what is lost and held back lets anybody be.
        network.send_rate_min = defended.send_rate = run.choose({1u, 100u});
        defended.send_window = network.rate_window;
    }
    defended.behind_proxy = random.one_in(2);
    defended.knows_sources = defended.behind_proxy && random.one_in(2);
    std::vector<ferrule::AddressPrefix> honest;
    for (std::size_t machine = 0; machine <= flood_machine; ++machine) {
        for (const auto& address : {run.client_machine(machine).ipv4(), run.client_machine(machine).ipv6()}) {
            const auto known = *Address::from(address.data(), address.size());
            honest.push_back(ferrule::AddressPrefix::of(known, 128));
        }
    }
    if (defended.behind_proxy) options.proxy = {.protocol = ProxyProtocol::required, .timeout = deadline};
    if (defended.knows_sources) options.proxy.sources = honest;
    if (random.one_in(2)) {
        // Behind a proxy, each honest client has an address of its own.
        defended.address_limit = run.choose({1u, 2u, 5u});
        if (!defended.behind_proxy && random.one_in(2)) {
            honest.resize(honest.size() - 2);
            network.address_limits.exempt = honest;
        } else if (!defended.behind_proxy) {
            defended.address_limit = peers_of_a_machine;
        }
        network.address_limits.connections = defended.address_limit;
        network.address_limits.ipv6_bits = 128;
        network.address_limits.table_entries = 4096;
    }
    if (random.one_in(3)) {
        network.accept_rate = run.choose({1u, 10u, 1000u});
        network.accept_burst = run.choose({1u, 10u, 100u});
        network.accept_excess = run.choose({Excess::wait, Excess::wait, Excess::refuse});
    }
    if (random.one_in(3)) {
        network.overload_latency = run.choose<std::chrono::milliseconds>({1ms, 10ms});
        network.overload_interval = run.choose<std::chrono::milliseconds>({1ms, 100ms});
        network.overload_excess = run.choose({Excess::wait, Excess::refuse});
        defended.computes = true;
    }
}

void check(const Defended& defended) {
    WorkloadRun& run = *defended.run;
    if (run.fired(ferrule::sim::Fault::operation_fails) != 0) return;
    const std::uint64_t breaks = run.breaks();
    const auto compare = [&](const char* what, std::uint64_t Counts::*count) {
        const std::uint64_t counted = defended.counted.*count;
        const std::uint64_t seen = defended.seen.*count;
        const std::uint64_t planned = defended.planned.*count;
        if (counted + breaks + defended.turned_away >= seen && counted <= planned + breaks) return;
        run.find(std::string(what) + ": the server counts " + std::to_string(counted) + ", of " +
                 std::to_string(planned) + " peers " + std::to_string(seen) + " have seen it, and faults broke " +
                 std::to_string(breaks));
    };
    compare("first bytes that did not come", &Counts::first_byte_timeouts);
    compare("slow senders", &Counts::slow_senders);
    compare("slow receivers", &Counts::slow_receivers);
    compare("refusals by address", &Counts::address_refusals);
    compare("clients of proxies", &Counts::proxied);
    compare("wrong headers", &Counts::proxy_errors);
    compare("headers that did not come", &Counts::proxy_timeouts);
    compare("strangers", &Counts::proxy_strangers);
    const Counts& counted = defended.counted;
    run.expect(defended.timeouts >=
                   counted.first_byte_timeouts + counted.slow_senders + counted.slow_receivers + counted.proxy_timeouts,
               "fewer connections were ended by a timeout than by each kind of it");
}

// ---- peers ----

struct DefencePlan {
    std::string name;
    Attack attack{};
    std::size_t machine = 0;
    std::uint64_t seed = 0;
    std::uint32_t requests = 0;
};

/// A client address that no other peer has.
Address client_of(std::uint64_t key, bool ipv6) {
    const auto part = [key](unsigned shift) { return std::to_string((key >> shift) & 0xff); };
    const std::string ipv4 = "10." + part(0) + "." + part(8) + "." + part(16);
    return *Address::parse(ipv6 ? "2001:db8::" + part(24) + ":" + part(32) + ":" + part(40) : ipv4,
                           static_cast<std::uint16_t>(1024 + (key >> 48) % 60'000));
}

/// The header in front of the requests of that key: nothing where none is asked for.
std::string introduction(Defended& defended, ServerProgram& server, ferrule::sim::Random& random, std::uint64_t key,
                         std::optional<Address> client = {}) {
    if (!defended.behind_proxy) return {};
    const auto version = random.one_in(2) ? ProxyVersion::text : ProxyVersion::binary;
    ferrule::ProxyHeaderBytes header;
    if (!client && random.one_in(8)) {
        header = ferrule::write_proxy_header(version, Address{}, Address{});
    } else {
        const Address server_address = server.address();
        const bool ipv6 = server_address.family() == ferrule::AddressFamily::ipv6;
        if (!client) client = client_of(key, ipv6);
        header = ferrule::write_proxy_header(version, *client, server_address);
        defended.named[key] = *client;
    }
    const auto bytes = header.view();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string text_of(const RequestHeader& request) {
    const auto bytes = request.bytes();
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return text + Pattern{request.key}.text(request.position, request.size);
}

bool send_in_pieces(WorkloadRun& run, Peer& peer, ferrule::sim::Random& random, std::string_view text) {
    constexpr std::size_t sizes[] = {1, 3, 50, 100'000};
    const std::size_t piece_max = sizes[random.below(std::size(sizes))];
    while (!text.empty()) {
        const std::string_view piece = text.substr(0, random.between(1, piece_max));
        if (!peer.send(piece)) return false;
        text.remove_prefix(piece.size());
        if (random.one_in(4)) run.pause(nanoseconds(random.below(20'000'000)));
    }
    return true;
}

// Slow, and five times as fast as it must be.
bool send_slowly(WorkloadRun& run, Peer& peer, std::string_view text) {
    constexpr std::size_t piece_size = 10;
    while (!text.empty()) {
        const std::string_view piece = text.substr(0, piece_size);
        if (!peer.send(piece)) return false;
        text.remove_prefix(piece.size());
        run.pause(2s);
    }
    return true;
}

void behave(Defended& defended, ServerProgram& server, const DefencePlan& plan, std::optional<Address> client = {}) {
    WorkloadRun& run = *defended.run;
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) return run.incomplete(plan.name + ": could not connect");
    ferrule::sim::Random random{plan.seed};
    RequestHeader request{.key = random.next()};
    std::string before = introduction(defended, server, random, request.key, client);
    for (; request.sequence < plan.requests; ++request.sequence) {
        const bool slowly = request.sequence != 0 && random.one_in(16);
        request.size = static_cast<std::uint32_t>(slowly ? 1000 : random.below(500));
        request.answer_size = static_cast<std::uint32_t>(random.below(random.one_in(8) ? 30'000 : 2000));
        const std::string text = before + text_of(request);
        before.clear();
        if (slowly ? !send_slowly(run, *peer, text) : !send_in_pieces(run, *peer, random, text)) break;
        if (!receive_answer(run, *peer, request)) break;
        if (request.sequence == 0 && defended.behind_proxy) ++defended.seen.proxied;
        // An idle connection may be silent for longer than one that has said nothing yet.
        run.pause(random.one_in(16) ? nanoseconds(3 * deadline) : nanoseconds(random.below(100'000'000)));
    }
    if (request.sequence != plan.requests) {
        run.incomplete(plan.name + ": " + std::to_string(request.sequence) + " of " + std::to_string(plan.requests) +
                       " requests were answered beside hostile peers");
    }
}

// One client with more connections than it may have. Those that it may have are served; and later it may come again.
void flood(Defended& defended, ServerProgram& server, const DefencePlan& plan) {
    WorkloadRun& run = *defended.run;
    ferrule::sim::Random random{plan.seed};
    const std::uint32_t total = defended.address_limit + plan.requests;
    const std::uint32_t allowed = defended.address_limit != 0 ? defended.address_limit : total;
    const bool ipv6 = server.address().family() == ferrule::AddressFamily::ipv6;
    const auto client =
        defended.behind_proxy ? std::optional(client_of(random.next(), ipv6)) : std::optional<Address>();
    std::vector<Peer> peers;
    std::vector<RequestHeader> requests;
    for (std::uint32_t index = 0; index < total; ++index) {
        auto peer = Peer::connect(run, flood_machine, server.address());
        if (!peer) continue;
        const RequestHeader request{.key = random.next(), .size = 10, .answer_size = 100};
        const std::string before = introduction(defended, server, random, request.key, client);
        peer->send(before + text_of(request));
        peers.push_back(std::move(*peer));
        requests.push_back(request);
    }
    std::uint32_t answered = 0;
    for (std::size_t index = 0; index < peers.size(); ++index) {
        if (receive_answer(run, peers[index], requests[index])) {
            ++answered;
        } else if (defended.address_limit != 0) {
            run.expect(peers[index].broken() || run.fired(ferrule::sim::Fault::operation_fails) != 0,
                       "a connection of a client that has too many was not reset");
            ++defended.seen.address_refusals;
        }
    }
    if (defended.behind_proxy) defended.seen.proxied += answered;
    // One that a fault has broken after its answer has made room for another.
    if (answered > allowed + run.breaks()) {
        run.find("a client that may have " + std::to_string(allowed) + " connections has " + std::to_string(answered));
    }
    for (std::uint32_t missing = answered; missing < allowed; ++missing) {
        run.incomplete(plan.name + ": one of the connections that it may have was not served");
    }
    // Each that faults have broken makes room for one that nobody has counted on.
    peers.clear();
    run.pause(long_rest);
    DefencePlan again = plan;
    again.machine = flood_machine;
    again.requests = 1;
    again.name = plan.name + ", when it comes again";
    again.seed = random.next();
    behave(defended, server, again, client);
}

/// A connection is watched to its end, which comes by then; `least`: an orderly end does not come sooner.
void await_end(WorkloadRun& run, Peer& peer, std::string_view what, nanoseconds least, nanoseconds most) {
    const std::uint64_t began = run.simulation().now_ns();
    const std::uint64_t received = peer.receive_to_end();
    const auto took = nanoseconds(run.simulation().now_ns() - began);
    run.expect(received == 0, std::string(what) + ": was answered");
    if (run.fired(ferrule::sim::Fault::operation_fails) != 0) return;
    run.expect(took <= most + margin, std::string(what) + ": was waited for, for ever");
    if (!peer.broken()) run.expect(took >= least, std::string(what) + ": was ended before its time");
}

void be_silent(Defended& defended, Peer& peer) {
    const bool soon = defended.behind_proxy || defended.guards_first_byte;
    const nanoseconds limit = soon ? nanoseconds(deadline) : nanoseconds(last_deadline);
    // The server's time began when it accepted: a moment before the peer looked.
    await_end(*defended.run, peer, "a silent peer", limit - margin / 10, limit);
    if (defended.behind_proxy) {
        ++defended.seen.proxy_timeouts;
    } else if (defended.guards_first_byte) {
        ++defended.seen.first_byte_timeouts;
    }
}

void drip(Defended& defended, ServerProgram& server, Peer& peer, ferrule::sim::Random& random) {
    WorkloadRun& run = *defended.run;
    const RequestHeader request{.key = random.next(), .size = 1000, .answer_size = 10};
    if (!send_in_pieces(run, peer, random, introduction(defended, server, random, request.key))) return;
    const auto interval = std::chrono::seconds(random.between(20, 60));
    bool over = false;
    const std::string text = text_of(request);
    peer.both(
        [&] {
            for (const char& byte : text) {
                if (over || !peer.send(std::string_view(&byte, 1))) break;
                run.pause(interval);
            }
        },
        [&] {
            const bool guarded = defended.receive_window.count() != 0;
            await_end(run, peer, "a peer that drips", guarded ? nanoseconds(defended.receive_window) / 2 : 0ns,
                      guarded ? nanoseconds(2 * defended.receive_window) : nanoseconds(last_deadline));
            if (guarded) ++defended.seen.slow_senders;
            over = true;
        });
}

// As much as the rate asks for in half an hour at once, and then no more.
void stall(Defended& defended, ServerProgram& server, Peer& peer, ferrule::sim::Random& random) {
    WorkloadRun& run = *defended.run;
    const RequestHeader request{.key = random.next(), .size = 5000, .answer_size = 10};
    const std::string begun = introduction(defended, server, random, request.key) + text_of(request);
    if (!peer.send(std::string_view(begun).substr(0, begun.size() - 2000))) return;
    const bool guarded = defended.receive_window.count() != 0;
    await_end(run, peer, "a peer that stalls", guarded ? nanoseconds(defended.receive_window) : 0ns,
              guarded ? nanoseconds(2 * defended.receive_window) : nanoseconds(last_deadline));
    if (guarded) ++defended.seen.slow_senders;
}

void read_drop_by_drop(Defended& defended, ServerProgram& server, Peer& peer, ferrule::sim::Random& random) {
    WorkloadRun& run = *defended.run;
    RequestHeader request{.key = random.next(), .size = 0, .answer_size = 100'000};
    constexpr std::uint32_t requests = answers_of_a_reader;
    if (!send_in_pieces(run, peer, random, introduction(defended, server, random, request.key))) return;
    for (; request.sequence < requests; ++request.sequence) {
        if (!send_request(peer, request)) break;
    }
    const std::uint64_t until = run.simulation().now_ns() + static_cast<std::uint64_t>(nanoseconds(24min).count());
    std::uint64_t received = 0;
    while (run.simulation().now_ns() < until) {
        std::byte drop{};
        const std::size_t taken = peer.receive({&drop, 1});
        received += taken;
        if (taken == 0) break;
        run.pause(20s);
    }
    // What lies in this machine's own buffers is still to be had.
    if (defended.send_window.count() == 0) return;
    received += peer.receive_to_end();
    run.expect(received < std::uint64_t{requests} * request.answer_size,
               "a peer that reads drop by drop was waited for, for ever");
    ++defended.seen.slow_receivers;
}

// Has a connection on which sends wait for it, and takes all of it in the end. Then comes again, perhaps in the same
// slot, and lets answers gather that it does not take.
void take_nothing(Defended& defended, ServerProgram& server, const DefencePlan& plan) {
    WorkloadRun& run = *defended.run;
    ferrule::sim::Random random{plan.seed};
    {
        auto peer = Peer::connect(run, plan.machine, server.address(), 4h, small_buffer);
        if (!peer) return;
        RequestHeader request{.key = random.next(), .answer_size = 100'000};
        if (!peer->send(introduction(defended, server, random, request.key))) return;
        const std::uint32_t requests = 3;
        for (; request.sequence < requests; ++request.sequence) {
            if (!send_request(*peer, request)) return;
        }
        run.pause(10s);
        for (request.sequence = 0; request.sequence < requests; ++request.sequence) {
            if (!receive_answer(run, *peer, request)) break;
        }
    }
    run.pause(margin);
    auto peer = Peer::connect(run, plan.machine, server.address(), 4h, small_buffer);
    if (!peer) return;
    RequestHeader request{.key = random.next(), .answer_size = 8000};
    defended.slow_readers[request.key].takes_nothing = true;
    if (!peer->send(introduction(defended, server, random, request.key))) return;
    constexpr std::uint32_t requests = 50;
    for (; request.sequence < requests; ++request.sequence) {
        if (!send_request(*peer, request)) break;
        // What fills its own buffer has arrived by then.
        run.pause(request.sequence < SlowReader::settled ? nanoseconds(margin) : nanoseconds(1s));
    }
    run.pause(3 * defended.send_window + margin);
    if (defended.send_window.count() == 0) return;
    run.expect(peer->receive_to_end() < std::uint64_t{requests} * request.answer_size,
               "a peer that takes nothing was waited for, for ever");
    ++defended.seen.slow_receivers;
}

// Asks for the next answer when it has taken one, which it does so seldom that every send waits for it, and none for
// as long as a window.
void gulp(Defended& defended, ServerProgram& server, const DefencePlan& plan) {
    WorkloadRun& run = *defended.run;
    ferrule::sim::Random random{plan.seed};
    auto peer = Peer::connect(run, plan.machine, server.address(), 4h, small_buffer);
    if (!peer) return;
    RequestHeader request{.key = random.next(), .answer_size = 1500 - sizeof(RequestHeader)};
    SlowReader& reader = defended.slow_readers[request.key];
    if (!peer->send(introduction(defended, server, random, request.key))) return;
    constexpr std::uint32_t waiting = small_buffers / 1500 + 1;
    constexpr std::uint32_t gulps = 16;
    for (; request.sequence < waiting; ++request.sequence) {
        if (!send_request(*peer, request)) return;
        run.pause(5s);
    }
    RequestHeader answered = request;
    for (; request.sequence < waiting + gulps; ++request.sequence) {
        answered.sequence = request.sequence - waiting;
        if (!receive_answer(run, *peer, answered)) break;
        reader.taken += sizeof answered + answered.answer_size;
        if (!send_request(*peer, request)) break;
        run.pause(nanoseconds(defended.send_window) * 2 / 5);
    }
}

std::string wrong_header(ferrule::sim::Random& random, const Address& server) {
    const Address client = client_of(random.next(), server.family() == ferrule::AddressFamily::ipv6);
    const auto bytes = ferrule::write_proxy_header(ProxyVersion::binary, client, server);
    std::string binary(reinterpret_cast<const char*>(bytes.view().data()), bytes.view().size());
    switch (random.below(7)) {
        case 0:
            return "PROXY TCP9 192.0.2.1 203.0.113.7 51312 443\r\n";
        case 1:
            return "PROXY TCP4 192.0.2.01 203.0.113.7 51312 443\r\n";
        case 2:
            return "PROXY UNKNOWN " + std::string(200, 'x');
        case 3:
            return "PROXY TCP4 192.0.2.1 203.0.113.7 51312 443 \r\n";
        case 4:
            binary[12] = '\x31';  // another version
            return binary;
        case 5:
            binary[14] = '\x7f';  // more bytes than any header has
            return binary;
        default:
            binary[13] = '\x7a';  // a family that there is not
            return binary;
    }
}

void attack_header(Defended& defended, ServerProgram& server, Peer& peer, const DefencePlan& plan,
                   ferrule::sim::Random& random) {
    WorkloadRun& run = *defended.run;
    const RequestHeader request{.key = random.next(), .size = 100, .answer_size = 100};
    std::string text = introduction(defended, server, random, request.key);
    std::uint64_t Counts::*reason = &Counts::proxy_errors;
    if (plan.attack == Attack::no_header) text = text_of(request);
    if (plan.attack == Attack::wrong_header) text = wrong_header(random, server.address()) + text_of(request);
    if (plan.attack == Attack::half_a_header) {
        text.resize(random.between(1, text.size() - 1));
        reason = &Counts::proxy_timeouts;
    }
    if (plan.attack == Attack::stranger) {
        text += text_of(request);
        reason = &Counts::proxy_strangers;
    }
    send_in_pieces(run, peer, random, text);
    await_end(run, peer, plan.name, 0ns, deadline);
    // What cannot be read from is closed.
    run.expect(peer.broken() || run.fired(ferrule::sim::Fault::operation_fails) != 0, plan.name + ": was not reset");
    if (plan.attack != Attack::half_a_header || defended.receive_window.count() == 0) ++(defended.seen.*reason);
}

void attack(Defended& defended, ServerProgram& server, const DefencePlan& plan) {
    WorkloadRun& run = *defended.run;
    if (plan.attack == Attack::stubborn_reader) return take_nothing(defended, server, plan);
    if (plan.attack == Attack::gulping_reader) return gulp(defended, server, plan);
    auto peer = Peer::connect(run, plan.machine, server.address(), 4h);
    if (!peer) return;
    ferrule::sim::Random random{plan.seed};
    switch (plan.attack) {
        case Attack::silence:
            return be_silent(defended, *peer);
        case Attack::dripping_sender:
            return drip(defended, server, *peer, random);
        case Attack::stalling_sender:
            return stall(defended, server, *peer, random);
        case Attack::dripping_reader:
            return read_drop_by_drop(defended, server, *peer, random);
        case Attack::health_check:
            run.pause(nanoseconds(random.below(10'000'000)));
            peer->shutdown_sending();
            run.expect(peer->receive_to_end() == 0, "a health check was answered");
            return;
        default:
            return attack_header(defended, server, *peer, plan, random);
    }
}

Attack any_attack(WorkloadRun& run, const Defended& defended) {
    if (!defended.behind_proxy || run.random().one_in(3))
        return run.choose({Attack::silence, Attack::silence, Attack::dripping_sender, Attack::dripping_sender,
                           Attack::stalling_sender, Attack::dripping_reader, Attack::stubborn_reader,
                           Attack::gulping_reader});
    const auto strange = defended.knows_sources ? Attack::stranger : Attack::wrong_header;
    return run.choose({Attack::no_header, Attack::wrong_header, Attack::wrong_header, Attack::half_a_header, strange,
                       Attack::health_check});
}

// What an attack may move, at most.
void plan_attack(Defended& defended, Attack attack) {
    Counts& planned = defended.planned;
    switch (attack) {
        case Attack::silence:
            ++(defended.behind_proxy ? planned.proxy_timeouts : planned.first_byte_timeouts);
            break;
        case Attack::dripping_sender:
        case Attack::stalling_sender:
            if (defended.receive_window.count() != 0) ++planned.slow_senders;
            ++planned.proxied;
            break;
        case Attack::dripping_reader:
        case Attack::gulping_reader:
            if (defended.send_window.count() != 0) ++planned.slow_receivers;
            ++planned.proxied;
            break;
        case Attack::stubborn_reader:
            if (defended.send_window.count() != 0) ++planned.slow_receivers;
            planned.proxied += 2;
            break;
        case Attack::no_header:
        case Attack::wrong_header:
            ++planned.proxy_errors;
            break;
        case Attack::half_a_header:
            // It drips, too; which comes first is a matter of the window.
            ++planned.proxy_timeouts;
            if (defended.receive_window.count() != 0) ++planned.slow_senders;
            break;
        case Attack::stranger:
            planned.proxy_strangers += attempts;
            break;
        default:
            break;
    }
}

void run_defence(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    Defended defended{&run};
    const std::uint32_t good = run.connections(1, 12);
    const std::uint32_t bad = run.connections(1, 12);
    const std::uint32_t beyond = run.connections(0, 10);
    const auto of_a_machine = [](std::uint32_t peers) {
        return (peers + static_cast<std::uint32_t>(ServerProgram::client_machines) - 1) /
               static_cast<std::uint32_t>(ServerProgram::client_machines);
    };
    defend(defended, options, of_a_machine(good) + of_a_machine(bad));
    std::optional<ferrule::AddressLimiter> limiter;
    if (defended.address_limit != 0 && run.random().one_in(2)) {
        limiter.emplace(options.network.address_limits);
        options.network.address_limiter = &*limiter;
    }
    ServerProgram server{run, options};
    server.on_connection(
        [&defended](Connection connection) { return serve_defended(&defended, std::move(connection)); });
    server.on_start([&defended](ferrule::Reactor& reactor) { reactor.add_service<DefenceCounts>(defended, reactor); });
    for (std::uint32_t index = 0; index < good; ++index) {
        DefencePlan plan;
        plan.name = "honest peer " + std::to_string(index);
        plan.machine = index % ServerProgram::client_machines;
        plan.seed = run.random().next();
        plan.requests = run.messages(1, 20);
        server.client(plan.name, plan.machine, [&defended, &server, plan] { behave(defended, server, plan); });
    }
    // Each takes as much as a hundred others: a run that is asked to be small has none.
    std::uint32_t readers = run.messages(answers_of_a_reader, answers_of_a_reader) == answers_of_a_reader ? 2 : 0;
    for (std::uint32_t index = 0; index < bad; ++index) {
        DefencePlan plan;
        plan.name = "hostile peer " + std::to_string(index);
        plan.attack = any_attack(run, defended);
        if (plan.attack == Attack::dripping_reader && readers-- == 0) {
            plan.attack = Attack::silence;
            readers = 0;
        }
        plan.machine = plan.attack == Attack::stranger ? strange_machine : index % ServerProgram::client_machines;
        plan.seed = run.random().next();
        plan_attack(defended, plan.attack);
        server.client(plan.name, plan.machine, [&defended, &server, plan] { attack(defended, server, plan); });
    }
    defended.planned.proxied += good;
    if (beyond != 0) {
        DefencePlan plan;
        plan.name = "a flood";
        plan.seed = run.random().next();
        plan.requests = beyond;
        defended.planned.proxied += defended.address_limit + beyond + 1;
        if (defended.address_limit != 0) defended.planned.address_refusals = attempts * beyond;
        server.client(plan.name, flood_machine, [&defended, &server, plan] { flood(defended, server, plan); });
    }
    server.on_end([&defended, &limiter, &run] {
        check(defended);
        if (!limiter) return;
        for (std::size_t machine = 0; machine <= flood_machine; ++machine) {
            for (const auto& address : {run.client_machine(machine).ipv4(), run.client_machine(machine).ipv6()}) {
                run.expect(limiter->connections(*Address::from(address.data(), address.size())) == 0,
                           "connections of a machine are counted after all have ended");
            }
        }
        for (const auto& [key, client] : defended.named) {
            run.expect(limiter->connections(client) == 0,
                       "connections of a proxy's client are counted after all have ended");
        }
    });
    server.start();
    run.finish();
}

}  // namespace

const Workload defence_workload{
    "defence", "silent and dripping peers, floods and wrong PROXY headers, against a server that defends itself",
    run_defence};

}  // namespace ferrule_test
