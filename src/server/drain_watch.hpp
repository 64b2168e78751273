#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/server/drain_progress.hpp>
#include <ferrule/task/task.hpp>

#include "server/member.hpp"
#include "server/notifier.hpp"
#include "server/roll_call.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace ferrule::inline v0 {

/// Looks every second how far a drain is, and says so. The control's.
class DrainWatch {
public:
    using Hooks = std::vector<std::function<void(const DrainProgress&)>>;

    DrainWatch(Reactor& control, const std::vector<std::unique_ptr<Member>>& members, const Hooks& hooks,
               Notifier& notifier)
        : control_(control),
          members_(members),
          hooks_(hooks),
          notifier_(notifier),
          roll_(control, members),
          counting_(members.size()),
          counted_(members.size()) {}

    /// From the beginning of the drain until the control ends.
    Task<> watch(std::chrono::milliseconds drain_timeout);
    /// All reactors have ended.
    void end();

private:
    void count(std::size_t index);
    void report();
    void call_hooks(const DrainProgress& progress) noexcept;
    [[nodiscard]] DrainProgress sum() const;

    Reactor& control_;
    const std::vector<std::unique_ptr<Member>>& members_;
    const Hooks& hooks_;
    Notifier& notifier_;
    RollCall roll_;
    std::vector<ConnectionCensus> counting_;  // by the reactors, each its own
    std::vector<ConnectionCensus> counted_;   // the last time that all have
    std::uint64_t due_ns_ = 0;
};

}  // namespace ferrule::inline v0
