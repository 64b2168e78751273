#pragma once

#include <ferrule/ring/kernel.hpp>

#include "server/member.hpp"
#include "server/port.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ferrule::inline v0 {

/// Which reactor serves an accepted connection, and the way there. Each reactor asks for those that it has accepted, on
/// its own thread.
class HandOver {
public:
    HandOver(Kernel& kernel, const std::vector<std::unique_ptr<Member>>& members, const std::vector<Port>& ports,
             std::uint64_t connection_limit)
        : kernel_(kernel), members_(members), ports_(ports), connection_limit_(connection_limit) {}

    /// False when the connection is served where it was accepted; otherwise it is on its way, and the descriptor
    /// another's.
    bool give(std::size_t from, int descriptor, std::uint16_t listener) const;

private:
    std::size_t choose(Member& giver, std::size_t from, const Port& port) const;
    std::size_t least_loaded(const Member& giver, std::size_t otherwise) const;
    std::uint64_t load(const Member& giver, std::size_t index) const;
    bool has_room(const Member& giver, std::size_t index) const;

    Kernel& kernel_;
    const std::vector<std::unique_ptr<Member>>& members_;
    const std::vector<Port>& ports_;
    std::uint64_t connection_limit_;
};

}  // namespace ferrule::inline v0
