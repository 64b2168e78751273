#include <ferrule/reactor/retry.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <expected>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

/// Chance as the test has it.
class ChanceKernel : public ClockKernel {
public:
    int random(void* data, std::size_t length) noexcept override {
        if (fails) return -EIO;
        std::memcpy(data, &chance, std::min(length, sizeof chance));
        return 0;
    }
    std::uint64_t chance = 0;
    bool fails = false;
};

using Answer = std::expected<std::string, std::error_code>;

Task<Answer> answer_at(std::uint32_t attempt, std::uint32_t success) {
    if (attempt >= success) co_return "attempt " + std::to_string(attempt);
    co_return std::unexpected(std::make_error_code(std::errc::connection_refused));
}

TEST(BackOff, DoublesUpToTheCapAndIsUniformBelow) {
    ChanceKernel kernel;
    BackOff back_off({.base = 100ns, .cap = 350ns});
    kernel.chance = 0;
    EXPECT_EQ(back_off.next(kernel), 0ns);
    EXPECT_EQ(back_off.limit(), 200ns);
    kernel.chance = 200;
    EXPECT_EQ(back_off.next(kernel), 200ns) << "the longest is one of them";
    EXPECT_EQ(back_off.limit(), 350ns);
    kernel.chance = 351 + 7;
    EXPECT_EQ(back_off.next(kernel), 7ns);
    EXPECT_EQ(back_off.limit(), 350ns);
    back_off.reset();
    EXPECT_EQ(back_off.limit(), 100ns);
    kernel.fails = true;
    EXPECT_EQ(back_off.next(kernel), 100ns);
}

TEST(BackOff, LargestWaitsDoNotOverflow) {
    ChanceKernel kernel;
    kernel.fails = true;
    BackOff back_off({.base = std::chrono::nanoseconds::max() / 2, .cap = std::chrono::nanoseconds::max()});
    for (int round = 0; round < 4; ++round) EXPECT_GT(back_off.next(kernel), 0ns);
    EXPECT_EQ(back_off.limit(), std::chrono::nanoseconds::max());
}

TEST(BackOff, OptionsThatCannotBeNameTheField) {
    EXPECT_THROW(BackOff({.base = -1ns}), std::invalid_argument);
    EXPECT_THROW(BackOff({.base = 2s, .cap = 1s}), std::invalid_argument);
}

Task<> until_it_succeeds(ChanceKernel* kernel) {
    kernel->fails = true;  // the longest waits
    const std::uint64_t begun = kernel->monotonic_ns();
    auto function = [](std::uint32_t attempt) { return answer_at(attempt, 4); };
    const RetryOptions options1{.attempts = 5, .base = 100ms, .cap = 250ms};
    const auto answer = co_await retry(options1, function);
    EXPECT_EQ(answer.value(), "attempt 4");
    EXPECT_EQ(kernel->monotonic_ns() - begun, 100'000'000u + 200'000'000u + 250'000'000u);
}

TEST(Retry, TriesUntilItSucceeds) {
    ChanceKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return until_it_succeeds(&kernel); });
}

Task<> at_most_so_often() {
    std::uint32_t calls = 0;
    auto function = [&calls](std::uint32_t attempt) {
        ++calls;
        return answer_at(attempt, 100);
    };
    const RetryOptions options2{.attempts = 3};
    const auto answer = co_await retry(options2, function);
    EXPECT_EQ(answer.error(), std::errc::connection_refused);
    EXPECT_EQ(calls, 3u);
    auto worth = [](std::error_code error) { return error != std::errc::connection_refused; };
    const RetryOptions options3{.attempts = 3};
    const auto other = co_await retry(options3, function, worth);
    EXPECT_FALSE(other);
    EXPECT_EQ(calls, 4u) << "not worth a second attempt";
}

TEST(Retry, GivesTheLastErrorAfterTheLastAttemptOrOneThatIsNotWorthIt) {
    ChanceKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [] { return at_most_so_often(); });
}

Task<> no_wait_in_vain(ChanceKernel* kernel) {
    kernel->fails = true;
    std::uint32_t calls = 0;
    auto function = [&calls](std::uint32_t attempt) {
        ++calls;
        return answer_at(attempt, 100);
    };
    const std::uint64_t begun = kernel->monotonic_ns();
    const RetryOptions options4{.attempts = 0, .base = 1s, .cap = 1min, .timeout = 5s};
    const auto own = co_await retry(options4, function);
    EXPECT_FALSE(own);
    EXPECT_EQ(calls, 3u) << "1 s and 2 s, and the next wait would be 4 s";
    EXPECT_EQ(kernel->monotonic_ns() - begun, 3'000'000'000u);
    calls = 0;
    const RetryOptions options5{.base = 1s, .cap = 1min};
    const auto around = co_await with_deadline(retry(options5, function), 2s);
    EXPECT_FALSE(around);
    EXPECT_EQ(calls, 2u);
    EXPECT_EQ(kernel->monotonic_ns() - begun, 4'000'000'000u);
}

TEST(Retry, DoesNotWaitForWhatADeadlineWouldEnd) {
    ChanceKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return no_wait_in_vain(&kernel); });
}

Task<Answer> slow(std::chrono::nanoseconds duration) {
    const auto slept = co_await sleep_for(duration);
    if (!slept) co_return std::unexpected(slept.error());
    co_return "slow";
}

Task<> cancelled_attempt(ChanceKernel* kernel) {
    const std::uint64_t begun = kernel->monotonic_ns();
    std::uint32_t calls = 0;
    auto function = [&calls] {
        ++calls;
        return slow(1h);
    };
    const RetryOptions options6{.timeout = 5s};
    const auto answer = co_await retry(options6, function);
    EXPECT_EQ(answer.error(), std::errc::operation_canceled);
    EXPECT_EQ(calls, 1u);
    EXPECT_EQ(kernel->monotonic_ns() - begun, 5'000'000'000u);
}

TEST(Retry, TimeoutEndsTheAttemptUnderWay) {
    ChanceKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return cancelled_attempt(&kernel); });
}

Task<> cancelled_wait() {
    CancelScope scope(scope_here(co_await this_environment()));
    std::uint32_t calls = 0;
    struct Body {
        static Task<> run(std::uint32_t* calls, bool* ended) {
            auto function = [calls](std::uint32_t attempt) {
                ++*calls;
                return answer_at(attempt, 100);
            };
            const RetryOptions options7{.base = 1h, .cap = 1h};
            const auto answer = co_await retry(options7, function);
            EXPECT_EQ(answer.error(), std::errc::connection_refused);
            *ended = true;
        }
    };
    bool ended = false;
    Environment environment{&scope, Reactor::current(), 0};
    spawn(*Reactor::current(), Body::run(&calls, &ended), &environment);
    EXPECT_EQ(calls, 1u);
    scope.cancel(CancelReason::cancelled);
    while (!ended) co_await sleep_for(1ms);
    EXPECT_EQ(calls, 1u);
}

TEST(Retry, CancellationEndsTheWait) {
    ChanceKernel kernel;
    kernel.fails = true;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [] { return cancelled_wait(); });
}

Task<> exceptions_go_through() {
    std::uint32_t calls = 0;
    struct Body {
        static Task<Answer> run() {
            co_await sleep_for(1ms);
            throw std::runtime_error("not an error that is a value");
        }
    };
    auto function = [&calls] {
        ++calls;
        return Body::run();
    };
    const RetryOptions options8{};
    EXPECT_THROW(static_cast<void>(co_await retry(options8, function)), std::runtime_error);
    EXPECT_EQ(calls, 1u);
    const RetryOptions options9{.base = -1s};
    EXPECT_THROW(static_cast<void>(co_await retry(options9, function)), std::invalid_argument);
}

TEST(Retry, ExceptionsAreNotTriedAgain) {
    ChanceKernel kernel;
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [] { return exceptions_go_through(); });
}

}  // namespace
