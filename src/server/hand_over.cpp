#include "server/hand_over.hpp"

#include <algorithm>
#include <utility>

namespace ferrule::inline v0 {
namespace {

// An accepted connection on its way to another reactor; closed if it never arrives.
class OnItsWay {
public:
    OnItsWay(Kernel& kernel, int descriptor) noexcept : kernel_(kernel), descriptor_(descriptor) {}
    OnItsWay(const OnItsWay&) = delete;
    OnItsWay& operator=(const OnItsWay&) = delete;
    ~OnItsWay() {
        if (descriptor_ >= 0) kernel_.close(descriptor_);
    }
    int release() noexcept { return std::exchange(descriptor_, -1); }

private:
    Kernel& kernel_;
    int descriptor_;
};

}  // namespace

bool HandOver::give(std::size_t from, int descriptor, std::uint16_t listener) const {
    Member& giver = *members_[from];
    if (!giver.hands_over) return false;
    const auto found = std::ranges::find(giver.listeners, listener, &PortListener::number);
    if (found == giver.listeners.end()) return false;  // not a port of the server: an on_start hook listens there
    const std::size_t port = found->port;
    const std::size_t to = choose(giver, from, ports_[port]);
    if (to == from) return false;
    Member& taker = *members_[to];
    const auto on_its_way = std::make_shared<OnItsWay>(kernel_, descriptor);
    const bool sent = taker.reactor->post([&taker, port, on_its_way] {
        taker.counters.arrived.add();
        taker.network.load(std::memory_order_relaxed)->adopt(on_its_way->release(), taker.listeners[port].number);
    });
    if (!sent) {
        on_its_way->release();
        return false;
    }
    ++giver.given[to];
    giver.counters.handed_over.add();
    return true;
}

std::size_t HandOver::choose(Member& giver, std::size_t from, const Port& port) const {
    if (port.shared) return has_room(giver, from) ? from : least_loaded(giver, from);
    if (port.options.accept_mode == AcceptMode::hand_over_least_loaded) return least_loaded(giver, from);
    for (std::size_t turn = 0; turn < members_.size(); ++turn) {
        const std::size_t candidate = giver.next++ % members_.size();
        if (has_room(giver, candidate)) return candidate;
    }
    return from;
}

std::size_t HandOver::least_loaded(const Member& giver, std::size_t otherwise) const {
    std::size_t best = otherwise;
    std::uint64_t best_load = connection_limit_;
    for (std::size_t candidate = 0; candidate < members_.size(); ++candidate) {
        if (!has_room(giver, candidate)) continue;
        const std::uint64_t candidate_load = load(giver, candidate);
        if (candidate_load >= best_load) continue;
        best = candidate;
        best_load = candidate_load;
    }
    return best;
}

// Connections that are there, and those that the giver knows to be on their way.
std::uint64_t HandOver::load(const Member& giver, std::size_t index) const {
    const Member& member = *members_[index];
    const Network* network = member.network.load(std::memory_order_acquire);
    const std::uint64_t there = network != nullptr ? network->counters().connections.value() : 0;
    const std::uint64_t arrived = member.counters.arrived.value();
    const std::uint64_t given = giver.given[index];
    return there + (given > arrived ? given - arrived : 0);
}

bool HandOver::has_room(const Member& giver, std::size_t index) const {
    const Member& member = *members_[index];
    if (!member.running.load(std::memory_order_relaxed)) return false;
    const Network* network = member.network.load(std::memory_order_acquire);
    if (network != nullptr && network->counters().overloaded.value() != 0) return false;
    return load(giver, index) < connection_limit_;
}

}  // namespace ferrule::inline v0
