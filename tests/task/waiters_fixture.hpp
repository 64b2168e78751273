#pragma once

#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include "task_fixture.hpp"

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule::testing {

/// One letter for how an await ended: '+' as asked, 'c' cancelled, 'p' closed, 'a' it would have to wait.
inline char letter_of(const std::error_code& error) {
    if (error == std::errc::operation_canceled) return 'c';
    if (error == std::errc::broken_pipe) return 'p';
    if (error == std::errc::resource_unavailable_try_again) return 'a';
    return error ? '?' : '+';
}
template <class T>
char letter_of(const std::expected<T, std::error_code>& result) {
    return result ? '+' : letter_of(result.error());
}

/// Tasks that wait for one thing, each below a scope of its own.
class WaitersTest : public TaskTest {
protected:
    struct Waiting {
        CancelScope scope;
        Environment environment;
        Task<> task;
    };

    WaitersTest() { host.inline_budget = budget; }
    ~WaitersTest() override { waiting.clear(); }

    /// Starts one, under the next number.
    void start_waiter(Task<> task) {
        auto& waiter = *waiting.emplace_back(std::make_unique<Waiting>());
        waiter.environment = {.scope = &waiter.scope, .host = &host};
        waiter.task = std::move(task);
        host.inline_budget = budget;
        static_cast<void>(waiter.task.start(waiter.environment, std::noop_coroutine()));
    }
    void cancel(std::size_t number) { waiting[number]->scope.cancel(CancelReason::cancelled); }
    void destroy(std::size_t number) { waiting[number]->task.reset(); }

    /// What becomes of a waiter, and when: before it is given what it waits for, or between that and its run.
    enum class Fate : std::uint8_t { none, cancelled_before, destroyed_before, cancelled_after, destroyed_after };
    static constexpr std::size_t fates = 5;
    static constexpr std::size_t waiters = 3;
    static bool gets_it(Fate fate) noexcept { return fate == Fate::none || fate == Fate::cancelled_after; }

    /// Three wait; each has each fate, in both orders. `make(number)` is one that logs its number and how its wait has
    /// ended, and keeps what it was given; `give()` gives that to the next. At the end it must have come back.
    template <class Begin, class Make, class Give, class End>
    void each_fate_of_three(Begin begin, Make make, Give give, End end) {
        for (std::size_t code = 0; code < 2 * fates * fates * fates; ++code) {
            SCOPED_TRACE(code);
            const std::array<Fate, waiters> fate = {Fate(code % fates), Fate(code / fates % fates),
                                                    Fate(code / fates / fates % fates)};
            const bool backwards = code >= fates * fates * fates;
            begin();
            log.clear();
            std::string expected;
            for (std::size_t number = 0; number < waiters; ++number) start_waiter(make(number));
            ASSERT_EQ(host.run_ready(), 0u);
            for (std::size_t step = 0; step < waiters; ++step) {
                const std::size_t number = backwards ? waiters - 1 - step : step;
                if (fate[number] == Fate::cancelled_before) {
                    cancel(number);
                    expected += std::to_string(number) + "c";
                }
                if (fate[number] == Fate::destroyed_before) destroy(number);
            }
            host.run_ready();
            give();
            for (std::size_t number = 0; number < waiters; ++number) {
                if (fate[number] == Fate::destroyed_after) destroy(number);
                if (!gets_it(fate[number])) continue;
                // It was given it, and has not run yet.
                if (fate[number] == Fate::cancelled_after) cancel(number);
                host.run_ready();
                expected += std::to_string(number) + "+";
                give();
            }
            host.run_ready();
            EXPECT_EQ(log, expected);
            waiting.clear();
            end();
            ASSERT_EQ(host.frames.live_frames(), 0u);
        }
    }

    std::vector<std::unique_ptr<Waiting>> waiting;
    std::string log;
    /// What each begins with: 0, and it has to wait for its turn in the ready list at its first await.
    std::uint32_t budget = 64;
};

}  // namespace ferrule::testing
