#include <ferrule/assert.hpp>

#include "sim/port_table.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

// net.ipv4.ip_local_port_range.
constexpr std::uint32_t first_ephemeral_port = 32'768;
constexpr std::uint32_t ephemeral_ports = 60'999 - first_ephemeral_port + 1;

// A bound socket covers IPv4 addresses, IPv6 addresses or both, one of each or all.
struct Cover {
    bool ipv4;
    bool ipv6;
    bool all;
};

Cover cover_of(const PortClaim& claim) noexcept {
    if (claim.local.is_ipv4()) return {.ipv4 = true, .ipv6 = false, .all = claim.local.is_any()};
    const bool all = claim.local.is_any();
    return {.ipv4 = all && !claim.v6_only, .ipv6 = true, .all = all};
}

bool overlap(const PortClaim& left, const PortClaim& right) noexcept {
    const Cover one = cover_of(left);
    const Cover other = cover_of(right);
    if (!(one.ipv4 && other.ipv4) && !(one.ipv6 && other.ipv6)) return false;
    return one.all || other.all || left.local.same_address(right.local);
}

bool same_place(const PortClaim& left, const PortClaim& right) noexcept {
    return left.ipv6_socket == right.ipv6_socket && left.v6_only == right.v6_only &&
           left.local.same_address(right.local);
}

}  // namespace

void PortClaim::release() noexcept {
    if (table_ == nullptr) return;
    table_->stop_listening(*this);
    table_->leave(*this);
}

void PortClaim::take(PortClaim& other) noexcept {
    FERRULE_ASSERT(!held() && other.listener == nullptr);
    local = other.local;
    remote = other.remote;
    ipv6_socket = other.ipv6_socket;
    v6_only = other.v6_only;
    reuse_address = other.reuse_address;
    reuse_port = other.reuse_port;
    automatic = other.automatic;
    if (!other.held()) return;
    PortTable& table = *other.table_;
    table.leave(other);
    table.enter(*this);
}

void PortClaim::join(const PortClaim& beside, const InternetAddress& local_end,
                     const InternetAddress& remote_end) noexcept {
    local = local_end;
    remote = remote_end;
    ipv6_socket = beside.ipv6_socket;
    v6_only = beside.v6_only;
    reuse_address = beside.reuse_address;
    reuse_port = beside.reuse_port;
    automatic = false;
    beside.table_->enter(*this);
}

PortTable::PortTable(World& world) : world_(world), secret_(world.random().next()) {}

const PortTable::Bucket* PortTable::find(std::uint16_t port) const noexcept {
    const auto& page = pages_[port >> 8];
    return page ? &(*page)[port & 0xff] : nullptr;
}

PortTable::Bucket& PortTable::bucket(std::uint16_t port) {
    auto& page = pages_[port >> 8];
    if (!page) page = std::make_unique<Page>();
    return (*page)[port & 0xff];
}

void PortTable::enter(PortClaim& claim) {
    Bucket& place = bucket(claim.local.port);
    PortClaim*& list = claim.listener != nullptr ? place.listeners : place.others;
    claim.table_ = this;
    claim.previous_ = nullptr;
    claim.next_ = list;
    if (list != nullptr) list->previous_ = &claim;
    list = &claim;
}

void PortTable::leave(PortClaim& claim) noexcept {
    Bucket& place = (*pages_[claim.local.port >> 8])[claim.local.port & 0xff];
    if (claim.next_ != nullptr) claim.next_->previous_ = claim.previous_;
    if (claim.previous_ != nullptr) {
        claim.previous_->next_ = claim.next_;
    } else {
        (claim.listener != nullptr ? place.listeners : place.others) = claim.next_;
    }
    claim.table_ = nullptr;
}

// inet_csk_bind_conflict of Linux: sockets may share an address when both reuse it and the other does not listen, or
// when both share the port.
bool PortTable::conflicts(const PortClaim& claim) const noexcept {
    const Bucket* place = find(claim.local.port);
    if (place == nullptr) return false;
    for (const PortClaim* list : {place->listeners, place->others}) {
        for (const PortClaim* other = list; other != nullptr; other = other->next_) {
            if (other == &claim || !overlap(claim, *other)) continue;
            if (claim.reuse_address && other->reuse_address && other->listener == nullptr) continue;
            if (claim.reuse_port && other->reuse_port) continue;
            return true;
        }
    }
    return false;
}

int PortTable::bind(PortClaim& claim) {
    if (claim.local.port != 0) {
        if (conflicts(claim)) return -EADDRINUSE;
        enter(claim);
        return 0;
    }
    const auto start = static_cast<std::uint32_t>(world_.random().below(ephemeral_ports));
    for (std::uint32_t step = 0; step < ephemeral_ports; ++step) {
        const auto port = static_cast<std::uint16_t>(first_ephemeral_port + (start + step) % ephemeral_ports);
        const Bucket* place = find(port);
        if (place != nullptr && (place->listeners != nullptr || place->others != nullptr)) continue;
        claim.local.port = port;
        enter(claim);
        return 0;
    }
    return -EADDRINUSE;
}

int PortTable::bind_for_connect(PortClaim& claim) {
    claim.automatic = true;
    const auto start = static_cast<std::uint32_t>(world_.random().below(ephemeral_ports));
    for (std::uint32_t step = 0; step < ephemeral_ports; ++step) {
        const auto port = static_cast<std::uint16_t>(first_ephemeral_port + (start + step) % ephemeral_ports);
        const Bucket* place = find(port);
        bool usable = true;
        if (place != nullptr) {
            usable = place->listeners == nullptr;
            for (const PortClaim* other = place->others; usable && other != nullptr; other = other->next_) {
                usable = other->automatic && !(other->remote == claim.remote);
            }
        }
        if (!usable) continue;
        claim.local.port = port;
        enter(claim);
        return 0;
    }
    return -EADDRNOTAVAIL;
}

bool PortTable::is_unique(const PortClaim& claim) const noexcept {
    const Bucket* place = find(claim.local.port);
    if (place == nullptr) return true;
    for (const PortClaim* other = place->others; other != nullptr; other = other->next_) {
        if (other != &claim && other->remote == claim.remote && other->local == claim.local) return false;
    }
    return true;
}

int PortTable::listen(PortClaim& claim, TcpSocket& socket) {
    // A second look: what may be bound together may not listen together.
    if (conflicts(claim)) return -EADDRINUSE;
    leave(claim);
    claim.listener = &socket;
    enter(claim);
    if (!claim.reuse_port) return 0;
    // Others' group counts for more than one founded before by attaching a program.
    for (const PortClaim* other = bucket(claim.local.port).listeners; other != nullptr; other = other->next_) {
        if (other != &claim && other->group && same_place(claim, *other)) claim.group = other->group;
    }
    if (!claim.group) claim.group = std::make_shared<ListenGroup>();
    claim.group->sockets.push_back(&socket);
    return 0;
}

void PortTable::stop_listening(PortClaim& claim) noexcept {
    if (claim.listener == nullptr) return;
    if (claim.group) {
        auto& sockets = claim.group->sockets;
        const auto found = std::find(sockets.begin(), sockets.end(), claim.listener);
        FERRULE_ASSERT(found != sockets.end());
        *found = sockets.back();
        sockets.pop_back();
        claim.group.reset();
    }
    leave(claim);
    claim.listener = nullptr;
    enter(claim);
}

std::uint64_t PortTable::tuple_hash(const InternetAddress& local, const InternetAddress& remote) const noexcept {
    std::uint64_t hash = secret_;
    for (const InternetAddress* end : {&local, &remote}) {
        std::uint64_t halves[2];
        std::memcpy(halves, &end->address, sizeof halves);
        hash = Random::mix(hash ^ halves[0]);
        hash = Random::mix(hash ^ halves[1] ^ (std::uint64_t{end->port} << 32));
    }
    return hash;
}

// The best match of Linux's compute_score: an exact address before a wildcard, a wildcard of IPv4 before one of both.
TcpSocket* PortTable::select(const InternetAddress& local, const InternetAddress& remote) {
    const Bucket* place = find(local.port);
    const PortClaim* best = nullptr;
    int best_score = 0;
    for (const PortClaim* claim = place != nullptr ? place->listeners : nullptr; claim != nullptr;
         claim = claim->next_) {
        const Cover covered = cover_of(*claim);
        if (local.is_ipv4() ? !covered.ipv4 : !covered.ipv6) continue;
        if (!covered.all && !claim->local.same_address(local)) continue;
        const int score = (covered.all ? 1 : 3) + (claim->ipv6_socket ? 0 : 1);
        if (score <= best_score) continue;
        best = claim;
        best_score = score;
    }
    if (best == nullptr) return nullptr;
    if (!best->group) return best->listener;
    const auto& sockets = best->group->sockets;
    if (best->group->program) {
        const std::uint32_t chosen = best->group->program->run(world_);
        if (chosen < sockets.size()) return sockets[chosen];
    }
    const std::uint64_t hash = tuple_hash(local, remote) >> 32;
    return sockets[(hash * sockets.size()) >> 32];
}

int PortTable::attach(PortClaim& claim, bool reuse_port, std::span<const sock_filter> program) {
    auto loaded = PacketFilter::load(program);
    if (!loaded) return loaded.error();
    if (!claim.group) {
        // A socket that listens alone cannot found a group any more.
        if (claim.listener != nullptr || !reuse_port) return -EINVAL;
        claim.group = std::make_shared<ListenGroup>();
    }
    claim.group->program = std::move(*loaded);
    return 0;
}

int PortTable::detach(PortClaim& claim) noexcept {
    if (!claim.group || !claim.group->program) return -ENOENT;
    claim.group->program.reset();
    return 0;
}

}  // namespace ferrule::inline v0::sim
