// The simulated kernel against the real one: random submissions are played to the simulated kernel first, round by
// round, and then the same to Linux. The completions of each round are compared as far as Linux promises them:
//  - per request, in order: result, and the flags MORE, BUFFER, SOCK_NONEMPTY; between requests no order is promised;
//  - the bytes received per request; not into how many pieces a stream's bytes were cut by a multishot receive, and not
//    which buffer they lie in;
//  - not whether a poll that sees the end of both directions sees an error, too: it may have been told already;
//  - not whether a send on a TCP connection that has ended says EPIPE or ECONNRESET;
//  - of a new connection that there is one, not its descriptor's number, nor whether the next has arrived by then.
#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/ring/probe.hpp>
#include <ferrule/ring/ring.hpp>
#include <ferrule/sim/machine.hpp>
#include <ferrule/sim/random.hpp>
#include <ferrule/sim/simulation.hpp>

#include <gtest/gtest.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace abi = ferrule::abi;
namespace prepare = ferrule::prepare;
namespace sim = ferrule::sim;
using ferrule::BufferRing;
using ferrule::Kernel;
using ferrule::linux_kernel;
using ferrule::Ring;
using sim::Random;

constexpr unsigned pair_count = 6;  // the first half Unix, the others TCP over IPv4
constexpr unsigned end_count = 2 * pair_count;
constexpr unsigned event_count = 2;
constexpr unsigned target_count = 5;
constexpr unsigned full_target = 4;
constexpr std::uint32_t buffer_count = 8;
constexpr std::uint32_t buffer_size = 4096;
constexpr std::uint32_t bytes_max = 3000;
constexpr std::size_t parts_max = 5;
constexpr unsigned rounds_per_script = 60;
/// How long Linux may take for what the simulated kernel has done: only a failing test waits so long.
constexpr std::uint64_t patience_ns = 5'000'000'000;
/// Virtual: after so long without a completion nothing more comes of itself.
constexpr std::uint64_t quiet_ns = 2'000'000'000;

enum class Do : std::uint8_t {
    nop,
    bad_descriptor,
    send,
    send_silent,
    send_message,
    receive,
    receive_at_once,
    receive_all,
    receive_message,
    receive_message_all,
    receive_select,
    receive_multishot,
    read_event,
    write_event,
    poll,
    cancel,
    cancel_descriptor,
    cancel_everything,
    message,
    shut_down,
    close,
    give_back,
    connect,
    connect_by_ring,
    connect_again,
    poll_out,
    count_of_kinds,
};

struct Step {
    Do what = Do::nop;
    unsigned object = 0;
    std::uint32_t amount = 0;
    std::uint8_t flags = 0;
    std::uint64_t user_data = 0;
    std::uint64_t target = 0;  ///< user_data of the request to cancel
};

struct Result {
    std::int32_t result = 0;
    std::uint32_t flags = 0;
    std::string bytes;
    std::uint32_t buffers = 0;  ///< that the pieces lie in: not compared

    friend bool operator==(const Result& left, const Result& right) {
        return left.result == right.result && left.flags == right.flags && left.bytes == right.bytes;
    }
};

/// What came of each request in one round.
using Results = std::map<std::uint64_t, std::vector<Result>>;

/// Grows with each completion and with each byte, however a stream is cut into pieces.
std::size_t measure_of(const Results& results) {
    std::size_t measure = 0;
    for (const auto& [user_data, list] : results) {
        measure += list.size();
        for (const Result& result : list) measure += result.bytes.size();
    }
    return measure;
}

std::string describe(const Results& results) {
    std::ostringstream text;
    for (const auto& [user_data, list] : results) {
        text << "  " << user_data << ':';
        for (const Result& result : list) {
            text << ' ' << result.result << "/0x" << std::hex << result.flags << std::dec;
            if (!result.bytes.empty()) text << "+" << result.bytes.size() << " bytes";
        }
        text << '\n';
    }
    return text.str();
}

std::string describe(const Step& step) {
    static constexpr std::array<const char*, static_cast<std::size_t>(Do::count_of_kinds)> names = {
        "nop",
        "bad descriptor",
        "send",
        "silent send",
        "send message",
        "receive",
        "receive at once",
        "receive all",
        "receive message",
        "receive message all",
        "receive select",
        "receive multishot",
        "read event",
        "write event",
        "poll",
        "cancel",
        "cancel descriptor",
        "cancel everything",
        "message",
        "shut down",
        "close",
        "give back",
        "connect",
        "connect by ring",
        "connect again",
        "poll out"};
    std::ostringstream text;
    text << "  " << step.user_data << ": " << names[static_cast<std::size_t>(step.what)] << " object " << step.object
         << " amount " << step.amount << " flags 0x" << std::hex << unsigned{step.flags} << std::dec << " target "
         << step.target << '\n';
    return text.str();
}

int must(int result, const char* what) {
    if (result < 0) throw std::runtime_error(std::string(what) + ": error " + std::to_string(-result));
    return result;
}

constexpr std::uint64_t accept_user_data = 1;
constexpr std::uint64_t first_user_data = 100;
/// Added to what came by message to the second ring.
constexpr std::uint64_t by_message = std::uint64_t{1} << 32;

/// One kernel, and the same objects on each: a ring, a second one for messages, connected sockets, events, a listener.
class Player {
public:
    explicit Player(Kernel& kernel)
        : kernel_(kernel), ring_(make_ring(kernel)), other_(make_ring(kernel)), buffers_(make_buffers(ring_)) {
        for (unsigned pair = 0; pair < pair_count; ++pair) connect_pair(pair);
        for (int& event : events_) event = must(kernel.event_descriptor(0, EFD_CLOEXEC), "eventfd");
        listener_ = listen_on(AF_INET);
        make_targets();
        abi::SubmissionEntry& entry = ring_.entry();
        prepare::accept_multishot(entry, listener_, nullptr, nullptr, SOCK_CLOEXEC);
        entry.user_data = accept_user_data;
        must(ring_.enter(0, 0), "io_uring_enter");
    }
    Player(const Player&) = delete;
    Player& operator=(const Player&) = delete;
    ~Player() {
        // Nothing of the rings may use the memory any longer.
        static_cast<void>(ring_.cancel_sync(0, -1, abi::cancel_any | abi::cancel_all, patience_ns));
        Results dropped;
        take(ring_, 0, dropped);
        for (const int fd : ends_) close(fd);
        for (const int fd : events_) close(fd);
        for (const int fd : extra_) close(fd);
        close(listener_);
    }

    void apply(const Step& step) {
        switch (step.what) {
            case Do::write_event: {
                const std::uint64_t value = step.amount;
                must(static_cast<int>(kernel_.write(events_[step.object], &value, sizeof value)), "write");
                return;
            }
            case Do::give_back:
                for (std::uint32_t index = 0; index < step.amount && !held_.empty(); ++index) {
                    buffers_.give_back(held_.front());
                    held_.erase(held_.begin());
                }
                buffers_.publish();
                return;
            case Do::connect:
                connect_extra();
                return;
            default:
                submit(step);
        }
    }

    /// What comes until `expected` completions are there, and all that is there then. Without an expectation: until
    /// nothing more comes.
    Results collect(std::optional<std::size_t> expected) {
        Results results;
        must(ring_.enter(0, 0), "io_uring_enter");
        take(ring_, 0, results);
        const std::uint64_t give_up = kernel_.monotonic_ns() + patience_ns;
        for (;;) {
            must(other_.enter(0, 0), "io_uring_enter");
            take(other_, by_message, results);
            const std::size_t before = measure_of(results);
            if (expected && before >= *expected) break;
            const int entered = ring_.enter(1, expected ? patience_ns / 50 : quiet_ns);
            if (entered < 0 && entered != -EINTR) must(entered, "io_uring_enter");
            take(ring_, 0, results);
            if (expected ? kernel_.monotonic_ns() > give_up : measure_of(results) == before) break;
        }
        return results;
    }

private:
    static Ring make_ring(Kernel& kernel) {
        auto ring = Ring::create(kernel, {.entries = 64, .completion_entries = 512});
        if (!ring) throw std::runtime_error(ring.error().message);
        return std::move(*ring);
    }
    static BufferRing make_buffers(Ring& ring) {
        auto buffers = BufferRing::create(
            ring, {.group = BufferRing::first_group, .count = buffer_count, .size = buffer_size, .incremental = false});
        if (!buffers) throw std::runtime_error(buffers.error().message);
        return std::move(*buffers);
    }

    void close(int fd) {
        if (fd >= 0) kernel_.close(fd);
    }

    /// Bound only when the backlog is negative.
    int listen_on(int family, int backlog = 64) {
        const int fd = must(kernel_.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        if (family == AF_UNIX) {
            const sa_family_t any = AF_UNIX;  // autobind
            must(kernel_.bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any), "bind");
        } else {
            sockaddr_in address{};
            address.sin_family = AF_INET;
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            must(kernel_.bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
        }
        if (backlog >= 0) must(kernel_.listen(fd, backlog), "listen");
        return fd;
    }

    /// Whom a ring connects to: one who accepts, one who does not listen, and, by TCP alone, one whose backlog is full:
    /// a Unix socket is always ready to send, so Linux tries again and again, and a cancel finds it only at times.
    void make_targets() {
        for (const int family : {AF_INET, AF_UNIX}) {
            const int accepts = family == AF_INET ? listener_ : listen_on(family);
            const int deaf = listen_on(family, -1);
            for (const int fd : {accepts, deaf}) {
                targets_.push_back({family, fd});
                if (fd != listener_) extra_.push_back(fd);
            }
        }
        const int full = listen_on(AF_INET, 0);
        extra_.push_back(connect_to(full, AF_INET));
        extra_.push_back(full);
        targets_.push_back({AF_INET, full});
    }

    int connect_to(int listener, int family) {
        sockaddr_storage address{};
        socklen_t length = sizeof address;
        must(kernel_.socket_name(listener, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
        const int fd = must(kernel_.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        must(kernel_.connect(fd, reinterpret_cast<const sockaddr*>(&address), length), "connect");
        return fd;
    }

    void connect_pair(unsigned pair) {
        const int family = pair < pair_count / 2 ? AF_UNIX : AF_INET;
        const int listener = listen_on(family);
        ends_[2 * pair] = connect_to(listener, family);
        prepare::accept(ring_.entry(), listener, nullptr, nullptr, SOCK_CLOEXEC);
        must(ring_.enter(1, patience_ns), "io_uring_enter");
        const auto completion = ring_.try_completion();
        if (!completion) throw std::runtime_error("no connection to accept");
        ends_[2 * pair + 1] = must(completion->result, "accept");
        kernel_.close(listener);
        if (family == AF_UNIX) return;
        // Nagle's algorithm would hold small segments back for as long as an acknowledgement is delayed.
        const int on = 1;
        for (const int end : {ends_[2 * pair], ends_[2 * pair + 1]})
            must(kernel_.set_option(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    }

    void connect_extra() { extra_.push_back(connect_to(listener_, AF_INET)); }

    void submit(const Step& step) {
        const std::size_t slot = memory_.size();
        const int end = step.object < end_count ? ends_[step.object] : -1;
        memory_.push_back(std::make_unique<Memory>());
        Memory& memory = *memory_[slot];
        abi::SubmissionEntry& entry = ring_.entry();
        switch (step.what) {
            case Do::nop:
                prepare::nop(entry);
                break;
            case Do::bad_descriptor:
                prepare::read(entry, -1, memory.bytes.data(), 8, 0);
                break;
            case Do::send:
            case Do::send_silent:
                for (std::uint32_t index = 0; index < step.amount; ++index)
                    memory.bytes[index] = static_cast<char>('a' + (step.user_data + index) % 26);
                prepare::send(entry, end, memory.bytes.data(), step.amount, MSG_NOSIGNAL | MSG_WAITALL);
                break;
            case Do::connect_by_ring:
            case Do::connect_again: {
                const auto [family, target] = targets_[step.object];
                socklen_t length = sizeof memory.name;
                auto* const address = reinterpret_cast<sockaddr*>(&memory.name);
                must(kernel_.socket_name(target, address, &length), "getsockname");
                int& fd = connected_[step.object];
                if (step.what == Do::connect_by_ring) {
                    fd = must(kernel_.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
                    extra_.push_back(fd);
                }
                prepare::connect(entry, fd, address, length);
                break;
            }
            case Do::poll_out:
                prepare::poll_add(entry, end, POLLOUT);
                polls_.insert(step.user_data);
                break;
            case Do::send_message:
                for (std::uint32_t index = 0; index < step.amount; ++index)
                    memory.bytes[index] = static_cast<char>('a' + (step.user_data + index) % 26);
                memory.cut(step);
                prepare::send_message(entry, end, &memory.header, MSG_NOSIGNAL | MSG_WAITALL);
                break;
            case Do::receive_message:
            case Do::receive_message_all:
                memory.cut(step);
                prepare::receive_message(entry, end, &memory.header,
                                         step.what == Do::receive_message_all ? MSG_WAITALL : 0);
                break;
            case Do::receive:
                prepare::receive(entry, end, memory.bytes.data(), step.amount, 0);
                break;
            case Do::receive_at_once:
                prepare::receive(entry, end, memory.bytes.data(), step.amount, MSG_DONTWAIT);
                break;
            case Do::receive_all:
                prepare::receive(entry, end, memory.bytes.data(), step.amount, MSG_WAITALL);
                break;
            case Do::receive_select:
                prepare::receive_select(entry, end, buffers_.group(), 0, 0);
                break;
            case Do::receive_multishot:
                prepare::receive_multishot(entry, end, buffers_.group(), 0);
                break;
            case Do::read_event:
                prepare::read(entry, events_[step.object], memory.bytes.data(), 8, 0);
                break;
            case Do::poll:
                prepare::poll_add(entry, end, POLLIN);
                polls_.insert(step.user_data);
                break;
            case Do::cancel:
                prepare::cancel(entry, step.target, 0);
                break;
            case Do::cancel_descriptor:
                prepare::cancel_fd(entry, end, abi::cancel_all);
                break;
            case Do::cancel_everything:
                prepare::cancel(entry, 0, abi::cancel_any | abi::cancel_all);
                break;
            case Do::message:
                prepare::message_ring(entry, other_.descriptor(), step.amount, step.user_data, 0);
                break;
            case Do::shut_down:
                prepare::shutdown(entry, end, SHUT_WR);
                break;
            case Do::close:
                prepare::close(entry, end);
                closing_[step.user_data] = std::exchange(ends_[step.object], -1);
                break;
            default:
                break;
        }
        entry.flags = static_cast<std::uint8_t>(
            entry.flags | step.flags | (step.what == Do::send_silent ? abi::entry_completion_skip_success : 0));
        entry.user_data = step.user_data;
        if (entry.opcode == abi::Operation::send || entry.opcode == abi::Operation::send_message)
            sends_.insert(step.user_data);
        if (entry.opcode == abi::Operation::receive || entry.opcode == abi::Operation::read ||
            entry.opcode == abi::Operation::receive_message)
            receives_into_[step.user_data] = slot;
    }

    void take(Ring& ring, std::uint64_t added, Results& results) {
        while (const auto completion = ring.try_completion()) {
            Result result{completion->result, completion->flags, {}};
            if (polls_.contains(completion->user_data) && result.result > 0 && (result.result & POLLHUP) != 0) {
                result.result |= POLLERR;
            }
            if ((completion->flags & abi::completion_buffer) != 0) {
                const BufferRing::Slice slice = buffers_.take(*completion);
                result.bytes.assign(reinterpret_cast<const char*>(slice.data), slice.length);
                held_.push_back(slice.buffer);
                result.buffers = 1;
                result.flags &= (1u << abi::completion_buffer_shift) - 1;
            } else if (added == 0 && completion->result > 0 && receives_into_.contains(completion->user_data)) {
                const Memory& memory = *memory_[receives_into_[completion->user_data]];
                result.bytes.assign(
                    memory.bytes.data(),
                    std::min<std::size_t>(memory.bytes.size(), static_cast<std::size_t>(completion->result)));
                if (memory.header.msg_iovlen != 0) {
                    result.bytes += " name of " + std::to_string(memory.header.msg_namelen) + " bytes, flags " +
                                    std::to_string(memory.header.msg_flags);
                }
            }
            if (completion->user_data == accept_user_data && completion->result >= 0) {
                extra_.push_back(completion->result);
                result.result = 0;
                result.flags &= ~abi::completion_socket_nonempty;
            }
            // One that was cancelled with its chain has closed nothing.
            if (const auto closing = closing_.find(completion->user_data);
                added == 0 && closing != closing_.end() && completion->result == -ECANCELED)
                extra_.push_back(closing->second);
            if (result.result == -ECONNRESET && sends_.contains(completion->user_data)) result.result = -EPIPE;
            append(results[completion->user_data + added], std::move(result));
        }
    }

    /// Pieces of a stream that follow each other are one.
    static void append(std::vector<Result>& list, Result result) {
        constexpr std::uint32_t piece = abi::completion_buffer | abi::completion_more;
        const auto is_piece = [](const Result& part) { return (part.flags & piece) == piece && part.result > 0; };
        if (!list.empty() && is_piece(list.back()) && is_piece(result)) {
            list.back().result += result.result;
            list.back().bytes += result.bytes;
            list.back().flags = result.flags;
            list.back().buffers += result.buffers;
            return;
        }
        list.push_back(std::move(result));
    }

    struct Memory {
        std::array<char, bytes_max> bytes{};
        std::array<iovec, parts_max> parts{};
        sockaddr_storage name{};
        msghdr header{};

        /// The bytes in parts, some of them empty.
        void cut(const Step& step) {
            Random random{step.user_data};
            const std::size_t count = 1 + random.below(parts_max);
            std::size_t from = 0;
            for (std::size_t index = 0; index < count; ++index) {
                const std::size_t left = step.amount - from;
                const std::size_t length = index + 1 == count ? left : random.below(left + 1);
                parts[index] = {bytes.data() + from, length};
                from += length;
            }
            header = {};
            header.msg_iov = parts.data();
            header.msg_iovlen = count;
            if (step.what == Do::send_message) return;
            header.msg_name = &name;
            header.msg_namelen = sizeof name;
            header.msg_flags = -1;
        }
    };

    Kernel& kernel_;
    std::vector<std::unique_ptr<Memory>> memory_;  // outlives the rings
    std::map<std::uint64_t, std::size_t> receives_into_;
    Ring ring_;
    Ring other_;
    BufferRing buffers_;
    std::vector<std::uint16_t> held_;
    std::array<int, end_count> ends_{};
    std::array<int, event_count> events_{};
    std::vector<int> extra_;
    std::map<std::uint64_t, int> closing_;
    std::set<std::uint64_t> sends_;
    std::set<std::uint64_t> polls_;
    int listener_ = -1;
    std::vector<std::pair<int, int>> targets_;
    std::array<int, target_count> connected_{};
};

struct Round {
    std::vector<Step> steps;
    Results expected;
    std::size_t expected_measure = 0;
};

/// Makes up rounds, knowing what the simulated kernel answered so far: only what Linux answers in one way is asked.
class Author {
public:
    explicit Author(std::uint64_t seed) : random_(seed) {}

    std::vector<Step> next_round() {
        std::vector<Step> steps;
        used_ends_.fill(false);
        used_events_.fill(false);
        served_ = 0;
        used_targets_.fill(false);
        const std::uint64_t count = random_.between(1, 6);
        while (steps.size() < count) {
            const auto step = next_step();
            if (!step) continue;
            // What stands behind an entry that waits comes in a later round, beside requests that it was not made with:
            // only what concerns nobody.
            if (!steps.empty() && waits(steps.back()) && steps.back().flags != 0) steps.push_back(nop_of(*step));
            steps.push_back(*step);
        }
        // A chain ends with the last entry of its round: Linux gives an unfinished one to a worker.
        for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
            if (step->what == Do::write_event || step->what == Do::give_back || step->what == Do::connect) continue;
            step->flags = 0;
            break;
        }
        return steps;
    }

    void learn(const Results& results) {
        for (const auto& [user_data, list] : results) {
            for (const Result& result : list) {
                held_ += result.buffers;
                if ((result.flags & abi::completion_more) == 0) pending_.erase(user_data);
            }
        }
    }

private:
    struct Pending {
        unsigned object;
        bool on_event;
        bool selects;
    };

    [[nodiscard]] bool receives(unsigned object, bool on_event) const {
        for (const auto& [user_data, pending] : pending_) {
            if (pending.object == object && pending.on_event == on_event) return true;
        }
        return false;
    }

    /// Whether there is a buffer for one more receive, should it try in this round: who gets the last one depends on
    /// the order.
    bool serve(unsigned object, bool even_without) {
        for (const auto& [user_data, pending] : pending_) {
            if (pending.on_event || pending.object != object || !pending.selects) continue;
            if (served_ >= buffer_count - held_ && !(even_without && served_ == 0)) return false;
            ++served_;
        }
        return true;
    }

    static bool waits(const Step& step) { return step.what >= Do::receive && step.what <= Do::poll; }

    Step nop_of(Step step) {
        step.what = Do::nop;
        step.flags = 0;
        step.user_data = next_user_data_++;
        return step;
    }

    std::optional<Step> next_step() {
        Step step;
        step.what = static_cast<Do>(random_.below(static_cast<std::uint64_t>(Do::count_of_kinds)));
        step.user_data = next_user_data_;
        step.object = static_cast<unsigned>(random_.below(end_count));
        step.amount = static_cast<std::uint32_t>(random_.between(1, bytes_max));
        switch (step.what) {
            case Do::nop:
            case Do::bad_descriptor:
                step.flags = random_.one_in(3) ? abi::entry_link : random_.one_in(4) ? abi::entry_hard_link : 0;
                break;
            case Do::send:
            case Do::send_silent:
            case Do::send_message:
                if (sent_[step.object] + step.amount > unread_max || !serve(step.object ^ 1u, true))
                    return std::nullopt;
                if (!take_end(step.object)) return std::nullopt;
                sent_[step.object] += step.amount;
                break;
            case Do::receive:
            case Do::receive_at_once:
            case Do::receive_all:
            case Do::receive_message:
            case Do::receive_message_all:
            case Do::receive_select:
            case Do::receive_multishot:
            case Do::poll:
            case Do::poll_out:
                if (!take_end(step.object) || receives(step.object, false)) return std::nullopt;
                pending_[step.user_data] = {step.object, false,
                                            step.what == Do::receive_select || step.what == Do::receive_multishot};
                if (random_.one_in(8) && step.what != Do::receive_multishot) step.flags = abi::entry_link;
                break;
            case Do::read_event:
            case Do::write_event:
                step.object %= event_count;
                if (used_events_[step.object]) return std::nullopt;
                used_events_[step.object] = true;
                if (step.what == Do::read_event) {
                    if (receives(step.object, true)) return std::nullopt;
                    pending_[step.user_data] = {step.object, true, false};
                }
                break;
            case Do::cancel:
                step.target = random_.one_in(4) ? nobodys_user_data : any_pending();
                if (step.target == 0 || (pending_.contains(step.target) && !touch_pending(step.target)))
                    return std::nullopt;
                break;
            case Do::cancel_descriptor:
                if (!take_end(step.object)) return std::nullopt;
                break;
            case Do::cancel_everything:
                if (!random_.one_in(20) || used_any()) return std::nullopt;
                used_ends_.fill(true);
                used_targets_.fill(true);
                used_events_.fill(true);
                break;
            case Do::shut_down:
                // TCP wakes even who waits to receive at the end that is shut.
                if (!random_.one_in(4) || !serve(step.object, false) || !take_end(step.object)) return std::nullopt;
                break;
            case Do::close:
                if (!random_.one_in(6) || !take_end(step.object)) return std::nullopt;
                closed_[step.object] = true;
                break;
            case Do::give_back:
                if (held_ == 0) return std::nullopt;
                step.amount = static_cast<std::uint32_t>(random_.between(1, held_));
                held_ -= step.amount;
                break;
            case Do::connect_by_ring:
                step.object %= target_count;
                if (std::exchange(used_targets_[step.object], true)) return std::nullopt;
                if (step.object == full_target) pending_[step.user_data] = {nobody, false, false};
                connected_[step.object] = true;
                break;
            case Do::connect_again:
                step.object %= target_count;
                if (std::exchange(used_targets_[step.object], true)) return std::nullopt;
                // Refused on the same machine, Linux has refused it at once, and begins anew.
                if (!connected_[step.object] || step.object == full_target || step.object % 2 != 0) return std::nullopt;
                break;
            case Do::message:
            case Do::connect:
            case Do::count_of_kinds:
                break;
        }
        ++next_user_data_;
        return step;
    }

    /// Each end, and its peer, is touched once per round: what two requests of one round do to each other depends on
    /// their order.
    bool take_end(unsigned object) {
        if (closed_[object] || used_ends_[object] || used_ends_[object ^ 1u]) return false;
        used_ends_[object] = true;
        return true;
    }
    [[nodiscard]] bool used_any() const {
        for (const bool used : used_ends_) {
            if (used) return true;
        }
        for (const bool used : used_events_) {
            if (used) return true;
        }
        for (const bool used : used_targets_) {
            if (used) return true;
        }
        return false;
    }
    bool touch_pending(std::uint64_t user_data) {
        const Pending& pending = pending_.at(user_data);
        if (pending.object == nobody) return true;
        bool& used = pending.on_event ? used_events_[pending.object] : used_ends_[pending.object];
        if (used || (!pending.on_event && used_ends_[pending.object ^ 1u])) return false;
        used = true;
        return true;
    }
    std::uint64_t any_pending() {
        if (pending_.empty()) return 0;
        auto chosen = pending_.begin();
        std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(pending_.size())));
        return chosen->first;
    }

    static constexpr std::uint64_t nobodys_user_data = 7;
    static constexpr unsigned nobody = ~0u;
    static constexpr std::uint32_t unread_max = 60'000;

    Random random_;
    std::uint64_t next_user_data_ = first_user_data;
    std::map<std::uint64_t, Pending> pending_;
    std::array<bool, end_count> used_ends_{};
    std::array<bool, event_count> used_events_{};
    std::array<bool, end_count> closed_{};
    std::array<bool, target_count> connected_{};
    std::array<bool, target_count> used_targets_{};
    std::array<std::uint32_t, end_count> sent_{};
    std::uint32_t held_ = 0;
    std::uint32_t served_ = 0;  // receives of this round that may have taken a buffer
};

/// The profile that is like the Linux that this runs on; none when it is older than all of them.
std::optional<sim::Profile> profile_of_linux() {
    const auto found = ferrule::probe(linux_kernel());
    if (!found || !found->receive_multishot) return std::nullopt;
    if (found->receive_multishot_length) return sim::Profile::linux_6_18;
    if (found->min_wait) return sim::Profile::linux_6_12;
    if (found->no_submission_array) return sim::Profile::linux_6_6;
    return sim::Profile::linux_6_1;
}

/// The simulated kernel answers first.
std::vector<Round> play_simulated(std::uint64_t seed, sim::Profile profile, std::vector<std::string>& findings) {
    std::vector<Round> rounds;
    // Sizes of segments are not what is compared.
    sim::Simulation simulation{{.seed = seed, .network = {.loopback_latency_max_ns = 0, .cut_percent = 0}}};
    sim::Machine& machine = simulation.machine("linux", {.profile = profile});
    simulation.process(machine, "player", [&] {
        Player player{machine.kernel()};
        Author author{seed};
        player.collect(std::nullopt);
        for (unsigned index = 0; index < rounds_per_script; ++index) {
            Round round;
            round.steps = author.next_round();
            for (const Step& step : round.steps) player.apply(step);
            round.expected = player.collect(std::nullopt);
            round.expected_measure = measure_of(round.expected);
            author.learn(round.expected);
            rounds.push_back(std::move(round));
        }
    });
    simulation.run();
    for (const auto& finding : simulation.findings()) findings.push_back(finding);
    return rounds;
}

class LinuxComparison : public testing::TestWithParam<unsigned> {};

constexpr std::uint64_t scripts_per_test = 25;

TEST_P(LinuxComparison, RandomSubmissionsEndAsTheyDoOnLinux) {
    const auto profile = profile_of_linux();
    if (!profile) GTEST_SKIP() << "this Linux has no io_uring, or an older one than any that is simulated";
    for (std::uint64_t script = 0; script < scripts_per_test; ++script) {
        const std::uint64_t seed = GetParam() * scripts_per_test + script;
        std::vector<std::string> findings;
        const std::vector<Round> rounds = play_simulated(seed, *profile, findings);
        ASSERT_TRUE(findings.empty()) << "seed " << seed << ": " << findings.front();
        ASSERT_EQ(rounds.size(), rounds_per_script) << "seed " << seed;
        Player real{linux_kernel()};
        real.collect(0);
        std::string history;
        for (std::size_t index = 0; index < rounds.size(); ++index) {
            history += "round " + std::to_string(index) + "\n";
            for (const Step& step : rounds[index].steps) {
                history += describe(step);
                real.apply(step);
            }
            const Results got = real.collect(rounds[index].expected_measure);
            ASSERT_EQ(got, rounds[index].expected) << "seed " << seed << "\n"
                                                   << history << "Linux:\n"
                                                   << describe(got) << "simulated:\n"
                                                   << describe(rounds[index].expected);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Scripts, LinuxComparison, testing::Range(0u, 8u));
INSTANTIATE_TEST_SUITE_P(ManyScripts, LinuxComparison, testing::Range(8u, 200u));

}  // namespace
