#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "server/member.hpp"
#include "server/notifier.hpp"
#include "server/roll_call.hpp"

#include <memory>
#include <vector>

namespace ferrule::inline v0 {

/// Tells systemd's watchdog that all is well, as long as it is: twice in the time that it wants, when the loop of every
/// reactor has turned since the last time. A reactor that is stuck, and a control that is, end it. The control's.
class Watchdog {
public:
    Watchdog(Reactor& control, const std::vector<std::unique_ptr<Member>>& members, Notifier& notifier)
        : control_(control), notifier_(notifier), roll_(control, members) {}

    /// Until the control ends. Not where no watchdog watches.
    Task<> feed();

private:
    Reactor& control_;
    Notifier& notifier_;
    RollCall roll_;
};

}  // namespace ferrule::inline v0
