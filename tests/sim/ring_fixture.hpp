#pragma once

#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/ring/ring.hpp>
#include <ferrule/sim/random.hpp>

#include "sim/descriptors.hpp"
#include "sim/ring.hpp"
#include "sim/world.hpp"
#include "support/forwarding_kernel.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {

using namespace ferrule;
namespace abi = ferrule::abi;  // the compiler has one of its own
using sim::Fault;
using sim::File;

/// A world with one fiber, whose time goes on when it blocks. Faults happen where a test placed them.
class ManualWorld final : public sim::World {
public:
    std::uint64_t now_ns() const noexcept override { return now_ns_; }
    std::uint64_t at(std::uint64_t time_ns, std::move_only_function<void()> what) override {
        events_.emplace(std::pair{std::max(time_ns, now_ns_), ++last_event_}, std::move(what));
        return last_event_;
    }
    void forget(std::uint64_t event) noexcept override {
        std::erase_if(events_, [event](const auto& entry) { return entry.first.second == event; });
    }
    sim::Fiber* current_fiber() const noexcept override { return in_event_ ? nullptr : fiber_; }
    bool block(std::uint64_t until_ns, const char*, std::int64_t) override {
        while (!woken_) {
            if (events_.empty() || events_.begin()->first.first > until_ns) {
                if (until_ns == ~std::uint64_t{0}) throw std::runtime_error("nothing would ever wake it");
                now_ns_ = until_ns;
                return false;
            }
            step();
        }
        woken_ = false;
        return true;
    }
    void wake(sim::Fiber&) noexcept override { woken_ = true; }
    void may_yield() override {}
    void spend(std::uint64_t duration_ns) noexcept override { now_ns_ += duration_ns; }
    sim::Random& random() noexcept override { return random_; }
    bool fault(Fault kind) noexcept override {
        const std::uint64_t occasion = occasions_[static_cast<std::size_t>(kind)]++;
        const auto found = planned_.find({kind, occasion});
        if (found != planned_.end()) return true;
        return rate_ != 0 && random_.below(1'000'000) < rate_;
    }
    void trace(std::string_view, std::uint64_t, std::uint64_t, std::int64_t) noexcept override {}
    void finding(std::string what) noexcept override { findings.push_back(std::move(what)); }

    /// The fault happens at its next occasion, or so many later.
    void plan(Fault kind, std::uint64_t later = 0) {
        planned_[{kind, occasions_[static_cast<std::size_t>(kind)] + later}] = true;
    }
    /// Every fault happens at so many of a million occasions.
    void rate(std::uint32_t of_a_million) { rate_ = of_a_million; }
    /// What falls due until then happens.
    void pass(std::uint64_t duration_ns) {
        const std::uint64_t until = now_ns_ + duration_ns;
        while (!events_.empty() && events_.begin()->first.first <= until) step();
        now_ns_ = until;
    }
    /// Another thread runs from now on.
    void switch_thread(std::uintptr_t number) { fiber_ = reinterpret_cast<sim::Fiber*>(number * 16); }

    std::vector<std::string> findings;

private:
    void step() {
        auto event = events_.extract(events_.begin());
        now_ns_ = std::max(now_ns_, event.key().first);
        in_event_ = true;
        event.mapped()();
        in_event_ = false;
    }

    std::uint64_t now_ns_ = 1'000'000'000;
    std::uint64_t last_event_ = 0;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::move_only_function<void()>> events_;
    std::map<std::pair<Fault, std::uint64_t>, bool> planned_;
    std::array<std::uint64_t, sim::fault_count> occasions_{};
    std::uint32_t rate_ = 0;
    sim::Random random_{7};
    sim::Fiber* fiber_ = reinterpret_cast<sim::Fiber*>(16);
    bool woken_ = false;
    bool in_event_ = false;
};

/// One end of a pair of sockets: bytes or messages, with room for so many bytes on the way.
class EndDouble final : public File {
public:
    explicit EndDouble(bool stream) : stream_(stream) {}
    static std::pair<std::shared_ptr<EndDouble>, std::shared_ptr<EndDouble>> pair(bool stream = true) {
        auto first = std::make_shared<EndDouble>(stream);
        auto second = std::make_shared<EndDouble>(stream);
        first->peer_ = second;
        second->peer_ = first;
        return {first, second};
    }

    std::uint32_t readiness() const noexcept override {
        std::uint32_t events = 0;
        if (!arrived_.empty() || ended_) events |= POLLIN;
        if (ended_) events |= POLLRDHUP;
        if (const auto peer = peer_.lock(); peer == nullptr || peer->bytes() < room) events |= POLLOUT;
        return events;
    }
    std::int64_t receive(std::span<std::byte> into, int) noexcept override {
        if (arrived_.empty()) return ended_ ? 0 : -EAGAIN;
        std::size_t got = 0;
        while (!arrived_.empty() && (got < into.size() || !stream_)) {
            std::string& piece = arrived_.front();
            const std::size_t count = std::min(piece.size(), into.size() - got);
            std::memcpy(into.data() + got, piece.data(), count);
            got += count;
            if (stream_ && count < piece.size()) {
                piece.erase(0, count);
            } else {
                arrived_.pop_front();
            }
            if (!stream_) break;
        }
        if (const auto peer = peer_.lock()) peer->notify(POLLOUT);
        return static_cast<std::int64_t>(got);
    }
    std::int64_t send(std::span<const std::byte> from, int) noexcept override {
        const auto peer = peer_.lock();
        if (peer == nullptr) return -EPIPE;
        const std::size_t free = room - std::min(room, peer->bytes());
        if (free == 0 || (!stream_ && free < from.size())) return -EAGAIN;
        const std::size_t count = std::min(free, from.size());
        peer->arrived_.emplace_back(reinterpret_cast<const char*>(from.data()), count);
        peer->notify(POLLIN);
        return static_cast<std::int64_t>(count);
    }
    std::int64_t write(std::span<const std::byte> from) noexcept override { return send(from, 0); }
    std::int64_t read(std::span<std::byte> into) noexcept override { return receive(into, 0); }
    bool nonempty() const noexcept override { return !arrived_.empty(); }
    bool is_socket() const noexcept override { return true; }
    bool is_stream() const noexcept override { return stream_; }
    int shutdown(int) noexcept override {
        released();
        return 0;
    }
    int get_option(int, int, void* value, socklen_t* length) noexcept override {
        const int type = stream_ ? SOCK_STREAM : SOCK_DGRAM;
        std::memcpy(value, &type, sizeof type);
        *length = sizeof type;
        return 0;
    }
    void released() noexcept override {
        if (const auto peer = peer_.lock(); peer != nullptr && !peer->ended_) {
            peer->ended_ = true;
            peer->notify(POLLIN | POLLRDHUP);
        }
    }

    void say(std::string_view text) { send(std::as_bytes(std::span(text)), 0); }
    std::string heard() {
        std::string all;
        for (const std::string& piece : std::exchange(arrived_, {})) all += piece;
        if (const auto peer = peer_.lock()) peer->notify(POLLOUT);
        return all;
    }
    bool ended() const { return ended_; }
    /// Bytes that have arrived and were not received.
    std::size_t pending() const noexcept { return bytes(); }
    std::size_t room = 1u << 20;

private:
    std::size_t bytes() const noexcept {
        std::size_t sum = 0;
        for (const std::string& piece : arrived_) sum += piece.size();
        return sum;
    }

    bool stream_;
    bool ended_ = false;
    std::weak_ptr<EndDouble> peer_;
    std::deque<std::string> arrived_;
};

/// A listening socket: connections are put into its backlog by a test.
class ListenerDouble final : public File {
public:
    std::uint32_t readiness() const noexcept override { return backlog_.empty() ? 0 : POLLIN; }
    std::expected<std::shared_ptr<File>, int> accept(sockaddr*, socklen_t*) noexcept override {
        if (backlog_.empty()) return std::unexpected(-EAGAIN);
        auto next = std::move(backlog_.front());
        backlog_.pop_front();
        return next;
    }
    bool is_socket() const noexcept override { return true; }
    std::shared_ptr<EndDouble> arrive() {
        auto [ours, theirs] = EndDouble::pair();
        backlog_.push_back(ours);
        notify(POLLIN);
        return theirs;
    }
    std::size_t waiting() const { return backlog_.size(); }

private:
    std::deque<std::shared_ptr<File>> backlog_;
};

/// An event descriptor.
class EventDouble final : public File {
public:
    std::uint32_t readiness() const noexcept override { return POLLOUT | (count_ != 0 ? POLLIN : 0); }
    std::int64_t read(std::span<std::byte> into) noexcept override {
        if (into.size() < sizeof count_) return -EINVAL;
        if (count_ == 0) return -EAGAIN;
        std::memcpy(into.data(), &count_, sizeof count_);
        count_ = 0;
        return sizeof count_;
    }
    std::int64_t write(std::span<const std::byte> from) noexcept override {
        std::uint64_t more = 0;
        std::memcpy(&more, from.data(), sizeof more);
        count_ += more;
        notify(POLLIN);
        return sizeof more;
    }
    std::uint64_t count() const { return count_; }

private:
    std::uint64_t count_ = 0;
};

/// The seam with simulated rings and files of a test behind it; plain memory is the system's.
class RingKernel : public ForwardingKernel {
public:
    explicit RingKernel(sim::Profile profile = sim::Profile::linux_6_18, std::uint32_t descriptor_limit = 1024)
        : descriptors(descriptor_limit), profile_(profile) {}
    ~RingKernel() override {
        for (const auto& [address, ring] : mapped_) ring->release();
    }

    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        auto ring = sim::SimulatedRing::create(world, descriptors, profile_, entries, parameters, &memory);
        if (!ring) return ring.error();
        const int fd = descriptors.install(*ring);
        (*ring)->identify(fd);
        return fd;
    }
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        const auto found = ring(fd);
        return found == nullptr ? -EBADF : found->enter(to_submit, min_complete, flags, argument, argument_size);
    }
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        if (fd == -1) {
            return sim::SimulatedRing::register_without_ring(descriptors, profile_, opcode, argument, count);
        }
        if (opcode == abi::register_ring_descriptors) return -EINVAL;
        const auto found = ring(fd);
        return found == nullptr ? -EBADF : found->register_(opcode, argument, count);
    }
    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        const auto found = ring(fd);
        if (found == nullptr) return ForwardingKernel::map(length, protection, flags, fd, offset, error);
        void* const address = found->map(offset, length, error);
        if (address != nullptr) {
            found->acquire();
            mapped_[address] = found;
        }
        return address;
    }
    int unmap(void* address, std::size_t length) noexcept override {
        const auto found = mapped_.extract(address);
        if (found.empty()) return ForwardingKernel::unmap(address, length);
        found.mapped()->release();
        return 0;
    }
    int close(int fd) noexcept override { return descriptors.remove(fd) == nullptr ? -EBADF : 0; }
    std::uint64_t monotonic_ns() noexcept override { return world.now_ns(); }

    int install(std::shared_ptr<File> file) { return descriptors.install(std::move(file)); }
    std::shared_ptr<sim::SimulatedRing> ring(int fd) const {
        return std::dynamic_pointer_cast<sim::SimulatedRing>(descriptors.get(fd));
    }

    ManualWorld world;
    sim::LockedMemory memory;
    sim::Descriptors descriptors;

private:
    sim::Profile profile_;
    std::map<void*, std::shared_ptr<sim::SimulatedRing>> mapped_;
};

/// A completion as tests write it.
struct Seen {
    std::uint64_t user_data;
    std::int32_t result;
    std::uint32_t flags = 0;
    friend bool operator==(const Seen&, const Seen&) = default;
    friend void PrintTo(const Seen& seen, std::ostream* out) {
        *out << "{" << seen.user_data << ", " << seen.result << ", " << seen.flags << "}";
    }
};

/// A test with a kernel of one profile and a ring on it. Ends without findings, unless it has taken them.
class SimulatedRingTest : public testing::Test {
protected:
    explicit SimulatedRingTest(sim::Profile profile = sim::Profile::linux_6_18) : kernel(profile) {}
    void TearDown() override { EXPECT_EQ(kernel.world.findings, std::vector<std::string>{}); }

    Ring make_ring(std::uint32_t entries = 16, std::uint32_t completion_entries = 0) {
        Ring::Options options;
        options.entries = entries;
        options.completion_entries = completion_entries;
        return make_ring(options);
    }
    Ring make_ring(const Ring::Options& options) {
        auto made = Ring::create(kernel, options);
        if (!made) throw std::runtime_error(made.error().message);
        return std::move(*made);
    }
    /// Submits and runs what can run now, and takes all completions.
    std::vector<Seen> turn(Ring& ring) {
        EXPECT_GE(ring.enter(0, 0), 0);
        return take(ring);
    }
    /// As turn, and waits for so many.
    std::vector<Seen> await(Ring& ring, std::uint32_t count, std::uint64_t timeout_ns = 1'000'000'000) {
        const int result = ring.enter(count, timeout_ns);
        EXPECT_GE(result, 0);
        return take(ring);
    }
    static std::vector<Seen> take(Ring& ring) {
        std::vector<Seen> seen;
        while (ring.ready() != 0 || ring.overflowed() || ring.task_work_pending()) {
            if (ring.ready() == 0) {
                EXPECT_GE(ring.enter(0, 0), 0);
            }
            ring.for_each_completion([&seen](const abi::Completion& completion) {
                seen.push_back({completion.user_data, completion.result, completion.flags});
            });
        }
        return seen;
    }
    std::string take_finding() {
        if (kernel.world.findings.empty()) return "";
        std::string first = kernel.world.findings.front();
        kernel.world.findings.clear();
        return first;
    }

    RingKernel kernel;
};

}  // namespace ferrule_test
