#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/server/reload.hpp>

#include "server/member.hpp"
#include "server/notifier.hpp"
#include "server/roll_call.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// The reloads of a server, one after the other. The control's.
class Reloading {
public:
    Reloading(Reactor& control, const std::vector<std::unique_ptr<Member>>& members,
              const std::vector<std::function<void(Reload&)>>& hooks, Notifier& notifier)
        : control_(control), members_(members), hooks_(hooks), notifier_(notifier), roll_(control, members) {}

    /// Reloads; when it does already, once more afterwards, because what has been read may be older than this.
    void request();
    /// The server ends: what has not begun is not wanted any more.
    void stop() noexcept { stopped_ = true; }

private:
    void begin();
    void end(const std::string& outcome);

    Reactor& control_;
    const std::vector<std::unique_ptr<Member>>& members_;
    const std::vector<std::function<void(Reload&)>>& hooks_;
    Notifier& notifier_;
    RollCall roll_;
    bool under_way_ = false;
    bool again_ = false;
    bool stopped_ = false;
};

}  // namespace ferrule::inline v0
