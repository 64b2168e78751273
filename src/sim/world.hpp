#pragma once

#include <ferrule/sim/faults.hpp>
#include <ferrule/sim/random.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace ferrule::inline v0::sim {

class Fiber;

/// What every part of the simulated kernel shares: virtual time, chance, faults, the trace, and what was found. One per
/// simulation, one thread.
class World {
public:
    virtual ~World() = default;

    /// CLOCK_MONOTONIC of every machine.
    [[nodiscard]] virtual std::uint64_t now_ns() const noexcept = 0;
    /// Runs `what` at a time, from the scheduler, between fibers; what falls due together runs in the order in which it
    /// was asked for. The number cancels it.
    virtual std::uint64_t at(std::uint64_t time_ns, std::move_only_function<void()> what) = 0;
    virtual void forget(std::uint64_t event) noexcept = 0;

    /// The fiber that runs; null while an event does.
    [[nodiscard]] virtual Fiber* current_fiber() const noexcept = 0;
    /// Blocks the running fiber until `wake` names it, or the time has come (never: ~0). True when it was woken. A wake
    /// that came since the fiber last ran is not lost: it returns at once.
    /// `what` is a literal, and says in the report of a deadlock what it waits for; `object` (a descriptor, say) goes
    /// with it unless it is -1.
    virtual bool block(std::uint64_t until_ns, const char* what = "something", std::int64_t object = -1) = 0;
    /// Makes a blocked fiber runnable.
    virtual void wake(Fiber& fiber) noexcept = 0;
    /// A point at which another fiber may run: the scheduler decides by chance.
    virtual void may_yield() = 0;
    /// What the caller does takes so long.
    virtual void spend(std::uint64_t duration_ns) noexcept = 0;

    /// Everything but faults draws from here, in program order.
    [[nodiscard]] virtual Random& random() noexcept = 0;
    /// Whether a fault happens at this, its next, occasion; counted and traced.
    [[nodiscard]] virtual bool fault(Fault kind) noexcept = 0;

    /// Notes an event: kept when traces are wanted, and always part of the run's fingerprint. `what` is a literal.
    virtual void trace(std::string_view what, std::uint64_t first = 0, std::uint64_t second = 0,
                       std::int64_t third = 0) noexcept = 0;
    /// Something is wrong: noted with the time and the operation. The simulation ends as soon as the scheduler is back
    /// in control; nothing is thrown through the code under test.
    virtual void finding(std::string what) noexcept = 0;
};

}  // namespace ferrule::inline v0::sim
