#include <ferrule/net/udp_group.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/sim/datagram_socket.hpp>

#include "sim/workloads/pattern.hpp"
#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Address;
using ferrule::Datagram;
using ferrule::DatagramKey;
using ferrule::DatagramSendOptions;
using ferrule::Ecn;
using ferrule::EndReason;
using ferrule::Reactor;
using ferrule::Slice;
using ferrule::Task;
using ferrule::UdpGroup;
using ferrule::UdpSocket;
using ferrule::UdpSocketOptions;
using ferrule::sim::DatagramSocket;
using ferrule::sim::Fault;
using namespace std::chrono_literals;

constexpr std::size_t client_machines = 3;
constexpr std::uint16_t group_port = 8053;
constexpr std::uint16_t echo_port = 7;
constexpr std::uint16_t nobodys_port = 9;
/// What is lost is asked for again; so often in a row nothing is lost by chance.
constexpr unsigned attempts_max = 100;
constexpr std::uint64_t patience_ns = 1'000'000'000;
constexpr std::size_t held_max = 6;

/// A datagram that tells its own contents: whose it is and which, and from that its length and every byte.
struct Letter {
    std::uint8_t key = 0;
    std::uint32_t sender = 0;
    std::uint32_t serial = 0;

    static constexpr std::size_t head_bytes = 9;
    static constexpr std::size_t body_bytes_max = 4000;

    [[nodiscard]] std::uint64_t identity() const noexcept {
        return std::uint64_t{key} << 56 ^ std::uint64_t{sender} << 32 ^ serial;
    }
    [[nodiscard]] std::size_t size() const noexcept {
        constexpr std::array<std::size_t, 8> most = {0, 1, 40, 40, 500, 1400, 1400, body_bytes_max};
        const std::uint64_t drawn = ferrule::sim::Random::mix(identity());
        return head_bytes + (drawn >> 8) % (most[drawn % most.size()] + 1);
    }
    [[nodiscard]] std::string text() const {
        std::string text(head_bytes, '\0');
        text[0] = static_cast<char>(key);
        std::memcpy(text.data() + 1, &sender, sizeof sender);
        std::memcpy(text.data() + 5, &serial, sizeof serial);
        return text + Pattern{identity()}.text(0, size() - head_bytes);
    }
    /// Nothing when the bytes are not one whole letter.
    static std::optional<Letter> read(std::span<const std::byte> bytes) {
        if (bytes.size() < head_bytes) return std::nullopt;
        Letter letter;
        letter.key = std::to_integer<std::uint8_t>(bytes[0]);
        std::memcpy(&letter.sender, bytes.data() + 1, sizeof letter.sender);
        std::memcpy(&letter.serial, bytes.data() + 5, sizeof letter.serial);
        if (letter.size() != bytes.size()) return std::nullopt;
        if (Pattern{letter.identity()}.mismatch(bytes.subspan(head_bytes), 0)) return std::nullopt;
        return letter;
    }
};

constexpr std::uint32_t longest_letter = Letter::head_bytes + Letter::body_bytes_max;

/// What all parts of a run know.
struct Post {
    WorkloadRun* run;
    UdpSocketOptions options{};
    std::shared_ptr<UdpGroup> group{};
    bool forwards = false;
    std::uint64_t sent = 0;      // letters that peers have sent to the group
    std::uint64_t received = 0;  // and that its sockets have received
    std::uint64_t asked = 0;     // letters that sockets of the reactors have sent
    std::uint64_t answered = 0;  // and that came to their peers
    std::size_t busy = 0;        // peers and tasks that have not finished
    bool over = false;

    [[nodiscard]] bool may_fail() const { return run->fired(Fault::operation_fails) != 0; }
};

// ---- the group under test ----

// Somebody else has the buffer meanwhile, and nobody answers: it is asked for again.
Task<> mislay(Post* post, Datagram datagram, std::chrono::nanoseconds duration) {
    const TaskCount count{*post->run};
    const Datagram mislaid = std::move(datagram);
    static_cast<void>(co_await post->run->watch(ferrule::sleep_for(duration)));
}

/// One socket of the group: sends back what it receives, at once or later.
class Office {
public:
    Office(Post& post, UdpSocket socket, std::size_t index, std::uint64_t seed)
        : post_(&post), socket_(std::move(socket)), index_(index), random_(seed) {
        // Who holds every buffer waits for ever.
        const std::uint64_t most = std::min<std::uint64_t>(held_max, post.options.receive_buffer_count - 1);
        holds_ = random_.one_in(3) ? random_.between(0, most) : 0;
        hurried_ = random_.one_in(4);
        flushes_in_ = random_.between(1, 8);
    }

    [[nodiscard]] UdpSocket& socket() noexcept { return socket_; }
    [[nodiscard]] WorkloadRun& run() noexcept { return *post_->run; }
    [[nodiscard]] bool hurried() const noexcept { return hurried_; }
    [[nodiscard]] bool flushes_now() noexcept { return random_.one_in(flushes_in_); }
    [[nodiscard]] std::chrono::nanoseconds patience() noexcept {
        return std::chrono::nanoseconds(random_.below(2'000'000));
    }

    void take(Datagram datagram) {
        run().expect(!datagram.truncated(), "a datagram was cut");
        if (random_.one_in(10)) {
            Reactor::current()->spawn(mislay(post_, std::move(datagram), patience()));
            return;
        }
        held_.push_back(std::move(datagram));
        if (held_.size() > holds_) send_back();
    }
    /// All that is held.
    void send_back() {
        for (const Datagram& datagram : held_) answer(datagram);
        held_.clear();
    }
    /// Whether the receive that gave nothing may have done so.
    [[nodiscard]] bool goes_on() {
        const EndReason reason = socket_.end_reason();
        if (reason == EndReason::cancelled) return false;
        if (reason == EndReason::failed)
            run().expect(post_->may_fail(), "a receive has failed: " + socket_.error().message());
        run().expect(reason == EndReason::failed || hurried_, "a receive has ended without a reason");
        return true;
    }

private:
    void answer(const Datagram& datagram) {
        if (!random_.one_in(4)) {
            for (const Slice segment : datagram.segments()) answer_one(datagram, segment);
            return;
        }
        // As one train, when all of it is this socket's.
        bool mine = true;
        for (const Slice segment : datagram.segments()) mine = mine && is_mine(segment);
        if (!mine) {
            for (const Slice segment : datagram.segments()) answer_one(datagram, segment);
            return;
        }
        for (const Slice segment : datagram.segments()) check(segment);
        send(datagram, datagram.payload(), static_cast<std::uint16_t>(datagram.segment_size()));
    }
    [[nodiscard]] bool is_mine(Slice segment) const {
        return !post_->forwards || post_->group->owner_of(segment).value_or(index_) == index_;
    }
    void answer_one(const Datagram& datagram, Slice segment) {
        if (!is_mine(segment)) {
            run().expect(!post_->group->steered(), "a datagram has come to the wrong socket of a steered port");
            // Where it finds no room it is lost, as on its way.
            static_cast<void>(post_->group->forward(datagram, segment));
            return;
        }
        check(segment);
        send(datagram, segment, 0);
    }
    void check(Slice segment) {
        ++post_->received;
        run().expect(Letter::read(segment).has_value(), "a datagram has come that is not whole");
        ++run().messages_checked;
        run().bytes_checked += segment.size();
    }
    void send(const Datagram& datagram, Slice bytes, std::uint16_t segment_size) {
        DatagramSendOptions options;
        options.segment_size = segment_size;
        options.ecn = datagram.ecn();
        if (const Address own = datagram.local_address(); own.family() != ferrule::AddressFamily::none)
            options.source = own;
        socket_.send_to(datagram.sender(), bytes, options);
    }

    Post* post_;
    UdpSocket socket_;
    std::size_t index_;
    ferrule::sim::Random random_;
    std::vector<Datagram> held_;
    std::size_t holds_ = 0;
    bool hurried_ = false;
    std::uint64_t flushes_in_ = 1;
};

Task<> keep_office(std::unique_ptr<Office> office) {
    WorkloadRun& run = office->run();
    const TaskCount count{run};
    for (;;) {
        Datagram datagram;
        if (office->hurried()) {
            datagram = co_await run.watch(ferrule::with_deadline(office->socket().receive(), office->patience()));
        } else {
            datagram = co_await run.watch(office->socket().receive());
        }
        if (datagram) {
            office->take(std::move(datagram));
        } else {
            office->send_back();
            if (!office->goes_on()) break;
        }
        if (!office->flushes_now()) continue;
        // Who waits for the kernel has nothing to hold back.
        office->send_back();
        static_cast<void>(co_await run.watch(office->socket().flush()));
    }
}

// ---- its peers ----

void write_letters(Post* post, std::uint32_t number, std::uint32_t letters, std::uint64_t seed) {
    WorkloadRun& run = *post->run;
    ferrule::sim::Random random{seed};
    const std::size_t machine = number % client_machines;
    const bool ipv6 = post->group->address().family() == ferrule::AddressFamily::ipv6 && random.one_in(2);
    auto& own = run.client_machine(machine);
    const auto target = ipv6 ? run.server_machine().ipv6(group_port) : run.server_machine().ipv4(group_port);
    auto socket = DatagramSocket::open(own, ipv6 ? own.ipv6(0) : own.ipv4(0));
    if (!socket) return run.find("a peer has no socket: " + socket.error().message());
    ++run.connections_made;
    for (std::uint32_t serial = 0; serial < letters;) {
        // A burst, each of which comes back.
        const auto burst = static_cast<std::uint32_t>(std::min<std::uint64_t>(random.between(1, 20), letters - serial));
        std::vector<bool> back(burst);
        std::uint32_t missing = burst;
        for (unsigned attempt = 0; missing != 0; ++attempt) {
            if (attempt == attempts_max) {
                if (!post->may_fail()) run.find("a datagram was sent a hundred times and never came back");
                return;
            }
            for (std::uint32_t index = 0; index < burst; ++index) {
                if (back[index]) continue;
                const Letter letter{static_cast<std::uint8_t>(serial + index), number, serial + index};
                ++post->sent;
                static_cast<void>(socket->send(target, letter.text()));
            }
            while (missing != 0) {
                const auto answer = socket->receive(patience_ns);
                if (!answer) break;
                const auto letter = Letter::read(std::as_bytes(std::span(answer->bytes)));
                if (!letter || letter->sender != number) {
                    run.find("an answer has come that is not whole, or another's");
                    return;
                }
                run.expect(answer->from == target, "an answer has come from elsewhere");
                // One that comes again was doubled, or asked for twice.
                if (letter->serial < serial || back[letter->serial - serial]) continue;
                back[letter->serial - serial] = true;
                --missing;
            }
        }
        serial += burst;
        if (random.one_in(4)) run.pause(std::chrono::nanoseconds(random.below(3'000'000)));
    }
}

// ---- sockets of the reactors that ask others ----

void answer_letters(Post* post, std::size_t machine) {
    WorkloadRun& run = *post->run;
    auto socket = DatagramSocket::open(run.client_machine(machine), run.client_machine(machine).ipv4(echo_port));
    if (!socket) return run.find("an answering peer has no socket: " + socket.error().message());
    while (!post->over) {
        const auto question = socket->receive(patience_ns);
        if (!question) continue;
        const auto letter = Letter::read(std::as_bytes(std::span(question->bytes)));
        run.expect(letter.has_value(), "a question has come that is not whole");
        ++post->answered;
        static_cast<void>(socket->send(question->from, question->bytes));
    }
}

/// One socket after the other, each of which asks some questions, and goes with whatever is under way.
class Asker {
public:
    Asker(Post& post, std::uint32_t number, std::uint64_t seed) : post_(&post), number_(number), random_(seed) {}

    [[nodiscard]] WorkloadRun& run() noexcept { return *post_->run; }
    [[nodiscard]] ferrule::sim::Random& random() noexcept { return random_; }
    [[nodiscard]] UdpSocket& socket() noexcept { return *socket_; }

    /// False when there is no memory for one.
    [[nodiscard]] bool open() {
        leftover_.reset();
        UdpSocketOptions options;
        options.address = random_.one_in(2) ? Address::any_ipv4(0) : Address::any(0);
        options.receive_buffer_count = 1u << random_.below(5);
        options.gro = random_.one_in(2);
        // A joined train must not be cut.
        if (!options.gro) options.datagram_size_max = longest_letter;
        options.ecn = random_.one_in(2);
        options.send_limit = static_cast<std::uint32_t>(random_.between(1, 10));
        auto opened = UdpSocket::open(*Reactor::current(), options);
        if (!opened) {
            run().expect(run().fired(Fault::no_memory_at_register) != 0 || post_->may_fail(),
                         "a socket could not be opened: " + opened.error().message);
            return false;
        }
        socket_ = std::move(*opened);
        refused_ = random_.one_in(6);
        auto& machine = run().client_machine(random_.below(client_machines));
        const auto peer = machine.ipv4(refused_ ? nobodys_port : echo_port);
        peer_ = *Address::from(peer.data(), peer.size());
        connected_ = refused_ || random_.one_in(2);
        if (connected_) run().expect(socket_->connect(peer_).has_value(), "a socket could not be connected");
        return true;
    }
    /// Some questions, or a train of them that are all alike.
    void ask() {
        const std::uint64_t questions = random_.between(1, 12);
        for (std::uint64_t index = 0; index < questions; ++index) {
            const std::string text = Letter{0, number_, next_++}.text();
            if (send(text, {})) ++post_->asked;
        }
        if (!random_.one_in(3)) return;
        const Letter letter{0, number_, next_++};
        std::string train;
        const std::uint64_t segments = random_.between(2, 5);
        for (std::uint64_t index = 0; index < segments; ++index) train += letter.text();
        DatagramSendOptions options;
        options.segment_size = static_cast<std::uint16_t>(letter.size());
        options.ecn = random_.one_in(2) ? Ecn::capable_0 : Ecn::not_capable;
        if (send(train, options)) post_->asked += segments;
    }
    void take(Datagram datagram) {
        for (const Slice segment : datagram.segments()) {
            const auto letter = Letter::read(segment);
            run().expect(letter.has_value() && letter->sender == number_, "an answer has come that is not whole");
            run().expect(!connected_ || datagram.sender().unmapped() == peer_, "a stranger's datagram has come");
            ++run().messages_checked;
        }
        if (random_.one_in(5)) leftover_ = std::move(datagram);
    }
    /// Whether a receive that gave nothing may have done so.
    [[nodiscard]] bool may_be_nothing() {
        const EndReason reason = socket_->end_reason();
        if (reason == EndReason::failed) {
            const bool told = socket_->error() == std::errc::connection_refused;
            run().expect((refused_ && told) || post_->may_fail(),
                         "a receive has failed: " + socket_->error().message());
        }
        return reason != EndReason::cancelled;
    }
    void check(const std::expected<void, std::errc>& flushed) {
        if (flushed || post_->may_fail()) return;
        run().expect((refused_ && flushed.error() == std::errc::connection_refused) ||
                         flushed.error() == std::errc::operation_canceled,
                     "a flush has failed: " + std::make_error_code(flushed.error()).message());
    }
    /// Destroys it, sometimes with a datagram of it still here.
    void close() { socket_.reset(); }
    void finish() {
        leftover_.reset();
        --post_->busy;
    }

private:
    [[nodiscard]] bool send(std::string_view text, const DatagramSendOptions& options) {
        return connected_ ? socket_->send(text, options) : socket_->send_to(peer_, text, options);
    }

    Post* post_;
    std::uint32_t number_;
    ferrule::sim::Random random_;
    std::optional<UdpSocket> socket_;
    std::optional<Datagram> leftover_;
    Address peer_;
    std::uint32_t next_ = 0;
    bool connected_ = false;
    bool refused_ = false;
};

Task<> ask_others(std::unique_ptr<Asker> asker, std::uint32_t sockets) {
    WorkloadRun& run = asker->run();
    const TaskCount count{run};
    for (std::uint32_t number = 0; number < sockets; ++number) {
        if (!asker->open()) continue;
        bool goes_on = true;
        for (std::uint64_t rounds = asker->random().between(1, 6); rounds != 0 && goes_on; --rounds) {
            asker->ask();
            if (asker->random().one_in(3)) {
                const auto flushed = co_await run.watch(asker->socket().flush());
                asker->check(flushed);
            }
            const auto patience = std::chrono::nanoseconds(asker->random().below(10'000'000));
            auto datagram = co_await run.watch(ferrule::with_deadline(asker->socket().receive(), patience));
            while (datagram) {
                asker->take(std::move(datagram));
                datagram = co_await run.watch(ferrule::with_deadline(asker->socket().receive(), patience));
            }
            goes_on = asker->may_be_nothing();
        }
        asker->close();
        if (!goes_on) break;
    }
    asker->finish();
}

// ---- the run ----

UdpSocketOptions group_options(WorkloadRun& run) {
    UdpSocketOptions options;
    options.address = run.random().one_in(2) ? Address::any(group_port) : Address::any_ipv4(group_port);
    options.receive_buffer_count = run.choose({1u, 2u, 4u, 16u, 64u});
    options.gro = run.random().one_in(2);
    options.ecn = run.random().one_in(2);
    options.packet_info = run.random().one_in(2);
    options.send_limit = run.choose({1u, 3u, 1024u});
    // A joined train must not be cut.
    if (!options.gro) options.datagram_size_max = run.choose({longest_letter, 65'535u});
    return options;
}

void begin_office(Post& post, Reactor& reactor, std::size_t index, std::uint64_t seed) {
    auto socket = post.group->take(reactor, index);
    if (!socket) {
        post.run->expect(post.run->fired(Fault::no_memory_at_register) != 0,
                         "a socket of the group could not be taken: " + socket.error().message);
        return;
    }
    reactor.spawn(keep_office(std::make_unique<Office>(post, std::move(*socket), index, seed)));
}

void run_datagrams(WorkloadRun& run) {
    Post post{&run};
    post.options = group_options(run);
    ReactorProgram program{run, run.random().between(1, 4), run.reactor_options(), run.network_options()};
    post.forwards = run.random().one_in(2);
    const std::uint32_t peers = run.connections(1, 12);
    const std::uint32_t letters = run.messages(1, 60);
    const std::uint32_t askers = run.connections(0, 4);
    const std::uint32_t sockets = run.messages(1, 8);
    std::vector<std::uint64_t> seeds;
    for (std::size_t index = 0; index < program.size() + peers + askers; ++index) seeds.push_back(run.random().next());
    post.busy = peers + askers;
    program.main([&] {
        const auto key = post.forwards ? std::optional<DatagramKey>{DatagramKey{}} : std::nullopt;
        auto group = UdpGroup::open(program.size(), post.options, key, run.server_machine().kernel());
        if (!group) {
            run.find("a group could not be opened: " + group.error().message);
            post.busy = 0;
            return;
        }
        post.group = std::move(*group);
        std::size_t seed = 0;
        for (std::size_t index = 0; index < program.size(); ++index) {
            Reactor& reactor = program.reactor(index);
            reactor.post(
                [&post, &reactor, index, drawn = seeds[seed++]] { begin_office(post, reactor, index, drawn); });
        }
        for (std::uint32_t number = 0; number < askers; ++number) {
            Reactor& reactor = program.reactor(number % program.size());
            auto asker = std::make_unique<Asker>(post, number, seeds[seed++]);
            reactor.post([&reactor, asker = std::move(asker), sockets]() mutable {
                reactor.spawn(ask_others(std::move(asker), sockets));
            });
        }
        for (std::uint32_t number = 0; number < peers; ++number) {
            run.client("peer " + std::to_string(number), number % client_machines,
                       [&post, number, letters, drawn = seeds[seed++]] {
                           write_letters(&post, number, letters, drawn);
                           --post.busy;
                       });
        }
    });
    for (std::size_t machine = 0; askers != 0 && machine < client_machines; ++machine) {
        run.client("answering peer " + std::to_string(machine), machine,
                   [&post, machine] { answer_letters(&post, machine); });
    }
    program.until([&post] { return post.busy == 0; });
    program.on_end([&post](Reactor&) {
        post.over = true;
        // It keeps the mailboxes of its reactors.
        post.group.reset();
    });
    program.start();
    run.finish();
    post.over = true;
    run.expect(post.received <= post.sent + run.fired(Fault::datagram_doubled),
               "more datagrams have come than were sent and doubled");
    run.expect(post.answered <= post.asked + run.fired(Fault::datagram_doubled),
               "more questions have come than were sent and doubled");
}

}  // namespace

const Workload datagrams_workload{
    "datagrams", "UDP: a steered port over several reactors, and sockets that ask and are destroyed with all under way",
    run_datagrams};

}  // namespace ferrule_test
