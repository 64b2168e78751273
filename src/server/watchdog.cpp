#include "server/watchdog.hpp"

namespace ferrule::inline v0 {

Task<> Watchdog::feed() {
    // sd_watchdog_enabled(3) recommends half of the time.
    const std::uint64_t period_ns = notifier_.watchdog_ns() / 2;
    for (;;) {
        if (!roll_.under_way()) roll_.ask([](std::size_t) {}, [this] { notifier_.tell("WATCHDOG=1"); });
        auto operation = control_.wait_until(control_.now_ns() + period_ns);
        const OperationResult ended = co_await operation;
        if (ended.result < 0) co_return;
    }
}

}  // namespace ferrule::inline v0
