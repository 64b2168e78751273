#pragma once

#include <ferrule/sim/simulation.hpp>

#include "sim/fiber.hpp"
#include "sim/world.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule::inline v0::sim {

/// The world, run: fibers take turns as chance decides, and when none can run, time goes on to the next event.
class Scheduler final : public World {
public:
    explicit Scheduler(const SimulationOptions& options);
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;
    ~Scheduler() override;

    /// A fiber that can run. `thread` is the caller's, in Fiber::thread.
    Fiber& start(std::string name, std::move_only_function<void()> body, void* thread);
    /// Runs until no fiber is left and no event, or something is found.
    void run();
    /// Forgets all events: what they hold goes, and with it what it refers to.
    void forget_all() noexcept;
    [[nodiscard]] bool has_findings() const noexcept { return !findings_.empty(); }

    // World
    [[nodiscard]] std::uint64_t now_ns() const noexcept override { return now_ns_; }
    std::uint64_t at(std::uint64_t time_ns, std::move_only_function<void()> what) override;
    void forget(std::uint64_t event) noexcept override;
    [[nodiscard]] Fiber* current_fiber() const noexcept override { return current_; }
    bool block(std::uint64_t until_ns, const char* what, std::int64_t object) override;
    void wake(Fiber& fiber) noexcept override;
    void may_yield() override;
    void spend(std::uint64_t duration_ns) noexcept override { now_ns_ += duration_ns; }
    [[nodiscard]] Random& random() noexcept override { return random_; }
    [[nodiscard]] bool fault(Fault kind) noexcept override;
    void trace(std::string_view what, std::uint64_t first, std::uint64_t second, std::int64_t third) noexcept override;
    void finding(std::string what) noexcept override;

    [[nodiscard]] const std::vector<std::string>& findings() const noexcept { return findings_; }
    [[nodiscard]] const FiredFaults& fired() const noexcept { return fired_; }
    [[nodiscard]] std::uint64_t fingerprint() const noexcept;
    [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }
    [[nodiscard]] std::string trace_text() const;
    /// What each fiber waits for, a line each.
    [[nodiscard]] std::string who_waits() const;

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    /// What happens at a time: a call, or the end of a fiber's wait.
    struct Event {
        std::uint64_t time_ns = 0;
        std::uint64_t order = 0;
        std::move_only_function<void()> what;
        Fiber* fiber = nullptr;
        std::uint32_t place = none;  ///< in the heap; none: not in it
        std::uint32_t generation = 1;
        std::uint32_t next_free = none;
    };
    struct Entry {
        std::uint64_t time_ns;
        std::string_view what;
        std::uint64_t first;
        std::uint64_t second;
        std::int64_t third;
        std::uint64_t fiber;  ///< 0: none
    };
    __extension__ using Wide = unsigned __int128;
    /// Whether a fault happens: a rate, and its exceptions in the order of their occasions.
    struct Plan {
        std::uint64_t seed = 0;
        /// Of 2^64.
        Wide threshold = 0;
        /// It does not happen before this occasion.
        std::uint64_t next = 0;
        std::vector<std::uint64_t> placed;
        std::vector<std::uint64_t> left_out;

        [[nodiscard]] bool happens(std::uint64_t occasion) const noexcept;
        /// Sets `next`, to this occasion or a later one.
        void look_ahead(std::uint64_t occasion) noexcept;
    };

    std::uint32_t take_event(std::uint64_t time_ns);
    void free_event(std::uint32_t index) noexcept;
    [[nodiscard]] bool before(std::uint32_t left, std::uint32_t right) const noexcept;
    void move_up(std::uint32_t place) noexcept;
    void move_down(std::uint32_t place) noexcept;
    void put(std::uint32_t place, std::uint32_t index) noexcept;
    void remove_event(std::uint32_t index) noexcept;
    void run_event();
    void run_fiber();
    void make_runnable(Fiber& fiber) noexcept;
    void end_fiber(Fiber& fiber);
    [[nodiscard]] bool within_limits();
    void report_deadlock();
    [[nodiscard]] std::string describe(const Entry& entry) const;

    Random random_;
    std::uint64_t now_ns_ = Simulation::start_ns;
    std::uint64_t fingerprint_;
    std::uint64_t steps_ = 0;
    Fiber* current_ = nullptr;
    std::vector<Fiber*> runnable_;
    std::vector<std::uint32_t> heap_;
    std::vector<Event> events_;
    std::uint32_t free_events_ = none;
    std::uint64_t orders_ = 0;
    std::array<Plan, fault_count> plans_;
    FiredFaults fired_;
    FiberContext context_;

    std::uint64_t time_limit_ns_;
    std::uint64_t step_limit_;
    std::size_t stack_bytes_;
    std::size_t trace_entries_;
    std::uint64_t traced_ = 0;
    std::vector<Entry> entries_;
    std::vector<std::string> findings_;
    std::uint64_t fibers_started_ = 0;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<std::string> fiber_names_;
    std::vector<FiberStack> stacks_;
};

}  // namespace ferrule::inline v0::sim
