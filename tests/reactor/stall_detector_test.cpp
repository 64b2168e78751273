#include <ferrule/reactor/stall_detector.hpp>
#include <ferrule/task/yield.hpp>

#include "reactor_fixture.hpp"
#include "support/own_symbols.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using namespace ferrule;
using ferrule_test::Call;
using ferrule_test::ForwardingKernel;
using ferrule_test::ReactorThread;
using ferrule_test::small_options;
using std::chrono::hours;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

bool contains(const std::vector<StackFrame>& stack, const std::string& function) {
    return std::any_of(stack.begin(), stack.end(),
                       [&](const StackFrame& frame) { return frame.function.find(function) != std::string::npos; });
}

bool names(const StallReport& report, const std::string& handler) {
    return report.handler.find(handler) != std::string::npos;
}

void nap() {
    const timespec millisecond{0, 1'000'000};
    ::nanosleep(&millisecond, nullptr);
}

/// The reports of a detector, and who waits for one of them. A machine that is busy makes stalls of its own, in any
/// place: what is looked for is told by what it says.
class Reports {
public:
    using Wanted = std::function<bool(const StallReport&)>;

    explicit Reports(StallDetector& detector) {
        detector.on_stall([this](const StallReport& report) {
            const std::lock_guard lock(mutex_);
            reports_.push_back(report);
            changed_.notify_all();
        });
    }

    StallReport wait(const Wanted& wanted) {
        std::unique_lock lock(mutex_);
        auto found = reports_.end();
        changed_.wait(lock, [&] {
            found = std::find_if(reports_.begin(), reports_.end(), wanted);
            return found != reports_.end();
        });
        return *found;
    }
    std::size_t count(const Wanted& wanted) {
        const std::lock_guard lock(mutex_);
        return static_cast<std::size_t>(std::count_if(reports_.begin(), reports_.end(), wanted));
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<StallReport> reports_;
};

/// As short as it may be, and patient with a machine that is busy.
StallDetectorOptions short_threshold() {
    return {.threshold = milliseconds(1), .stack_patience = hours(1)};
}

bool begun(const StallReport& report) {
    return !report.ended;
}

/// Keeps the thread until more stalls were reported than before, which was counted in an earlier dispatch. Whatever is
/// said of this one: each is reported once, and it may have been when the handler did not run yet.
[[gnu::noinline]] void block_until_it_is_reported(Reports& reports, std::size_t before) {
    while (reports.count(begun) == before) nap();
    asm volatile("" ::: "memory");  // no tail call: the frame is looked for
}

bool as_wanted(const StallReport& report) {
    return !report.ended && names(report, "block_in_a_handler") && contains(report.stack, "block_until_it_is_reported");
}

Task<> block_in_a_handler(Reports* reports) {
    // Again, when it was seen elsewhere, or just after another stall whose stack was taken.
    while (reports->count(as_wanted) == 0) {
        const std::size_t before = reports->count(begun);
        co_await yield_now();
        block_until_it_is_reported(*reports, before);
    }
}

Task<> await_one_that_blocks(Reports* reports, std::atomic<bool>* ended) {
    co_await block_in_a_handler(reports);
    *ended = true;
}

TEST(StallDetector, a_handler_that_blocks_is_named_with_its_stack_and_told_of_again_when_it_goes_on) {
    if (!ferrule_test::has_symbols()) GTEST_SKIP() << "this program is stripped: nothing can be named";
    ReactorThread thread{3};
    StallDetector detector{short_threshold()};
    Reports reports{detector};
    detector.watch(*thread);
    std::atomic<bool> done{false};
    ASSERT_TRUE(thread->post([&] { thread->spawn(await_one_that_blocks(&reports, &done)); }));
    const StallReport report = reports.wait(as_wanted);
    EXPECT_EQ(report.reactor, 3u);
    EXPECT_GE(report.duration, milliseconds(1));
    EXPECT_THAT(report.handler, HasSubstr("block_in_a_handler("));
    EXPECT_THAT(report.handler, Not(HasSubstr("actor")));
    EXPECT_TRUE(contains(report.stack, "block_in_a_handler")) << to_string(report);
    EXPECT_TRUE(contains(report.stack, "ferrule::Reactor::run")) << to_string(report);
    EXPECT_EQ(report.stack_missing, "");
    for (const StackFrame& frame : report.stack) EXPECT_FALSE(frame.module.empty());
    const StallReport ended =
        reports.wait([&](const StallReport& told) { return told.ended && told.handler == report.handler; });
    EXPECT_GE(ended.duration, milliseconds(1));
    EXPECT_TRUE(ended.stack.empty());
    while (!done) nap();
    detector.forget(*thread);
    EXPECT_GE(detector.stalls(), 1u);
    EXPECT_THAT(to_string(report), HasSubstr("block_in_a_handler("));
    EXPECT_THAT(to_string(report), HasSubstr(" blocks the reactor, for "));
    EXPECT_THAT(to_string(report), HasSubstr("::block_until_it_is_reported < "));
    EXPECT_THAT(to_string(ended), HasSubstr(" has blocked the reactor for "));
}

TEST(StallDetector, without_a_function_it_writes_to_the_log_of_the_reactor) {
    ReactorThread thread;
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> texts;
    std::atomic<bool> said{false};
    thread->on_log([&](const LogMessage& message) {
        const std::lock_guard lock(mutex);
        texts.emplace_back(std::string(message.cause) + ": " + std::string(message.text));
        if (message.text.find("blocks the reactor") != std::string_view::npos) said = true;
        changed.notify_all();
    });
    StallDetector detector{short_threshold()};
    detector.watch(*thread);
    ASSERT_TRUE(thread->post([&] {
        while (!said) nap();
    }));
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return texts.size() >= 2; });
    EXPECT_THAT(texts, testing::Contains(HasSubstr("stall: ")));
    EXPECT_THAT(texts, testing::Contains(HasSubstr("stall-ended: ")));
    lock.unlock();
    detector.forget(*thread);
}

bool without_a_stack(const StallReport& report) {
    return !report.ended && names(report, "handle_without_signals") && report.stack.empty();
}

Task<> handle_without_signals(Reports* reports, std::atomic<bool>* ended) {
    while (reports->count(without_a_stack) == 0) {
        const std::size_t before = reports->count(begun);
        co_await yield_now();
        sigset_t all;
        sigset_t former;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &former);
        block_until_it_is_reported(*reports, before);
        pthread_sigmask(SIG_SETMASK, &former, nullptr);
    }
    *ended = true;
}

TEST(StallDetector, a_thread_that_takes_no_signal_is_named_without_a_stack) {
    if (!ferrule_test::has_symbols()) GTEST_SKIP() << "this program is stripped: nothing can be named";
    ReactorThread thread;
    std::atomic<bool> ended{false};
    StallDetectorOptions options = short_threshold();
    options.stack_patience = milliseconds(1);
    StallDetector detector{options};
    Reports reports{detector};
    detector.watch(*thread);
    ASSERT_TRUE(thread->post([&] { thread->spawn(handle_without_signals(&reports, &ended)); }));
    const StallReport report = reports.wait(without_a_stack);
    while (!ended) nap();
    EXPECT_NE(report.stack_missing, "");
    EXPECT_THAT(to_string(report), HasSubstr("; no stack: "));
    detector.forget(*thread);
}

TEST(StallDetector, a_reactor_that_waits_stalls_nobody) {
    ReactorThread thread;
    // It sleeps by the time that the message has been run, and its thread is waited for.
    std::atomic<bool> ran{false};
    ASSERT_TRUE(thread->post([&] { ran = true; }));
    while (!ran || thread->activity().since_ns != 0) nap();
    StallDetector detector{short_threshold()};
    Reports reports{detector};
    detector.watch(*thread);
    for (int look = 0; look < 20; ++look) nap();
    EXPECT_EQ(detector.stalls(), 0u);
    detector.forget(*thread);
}

struct sigaction action_of(int signal) {
    struct sigaction present {};
    EXPECT_EQ(::sigaction(signal, nullptr, &present), 0);
    return present;
}

TEST(StallDetector, the_handler_stands_as_long_as_the_detector) {
    ASSERT_EQ(action_of(SIGURG).sa_handler, SIG_DFL);
    {
        StallDetector first;
        EXPECT_NE(action_of(SIGURG).sa_flags & SA_SIGINFO, 0);
        {
            StallDetector second;
            EXPECT_TRUE(second.active());
        }
        EXPECT_NE(action_of(SIGURG).sa_flags & SA_SIGINFO, 0);
    }
    EXPECT_EQ(action_of(SIGURG).sa_handler, SIG_DFL);
    {
        auto first = std::make_unique<StallDetector>();
        StallDetector second;
        first.reset();  // not in the opposite order: the second one takes it anew when it needs it
        EXPECT_EQ(action_of(SIGURG).sa_handler, SIG_DFL);
    }
    EXPECT_EQ(action_of(SIGURG).sa_handler, SIG_DFL);
}

TEST(StallDetector, a_signal_that_comes_from_elsewhere_does_nothing) {
    StallDetector detector{{.threshold = hours(1)}};
    EXPECT_EQ(::raise(SIGURG), 0);
    ReactorThread thread;
    detector.watch(*thread);
    std::atomic<bool> raised{false};
    ASSERT_TRUE(thread->post([&] {
        EXPECT_EQ(::raise(SIGURG), 0);
        raised = true;
    }));
    while (!raised) nap();
    detector.forget(*thread);
}

TEST(StallDetector, what_cannot_be_is_refused) {
    EXPECT_THROW(StallDetector({.threshold = std::chrono::microseconds(999)}), std::invalid_argument);
    EXPECT_THROW(StallDetector({.signal = 9}), std::system_error);
    struct sigaction mine {};
    struct sigaction former {};
    mine.sa_handler = [](int) {};
    ASSERT_EQ(::sigaction(SIGUSR2, &mine, &former), 0);
    EXPECT_THROW(StallDetector({.signal = SIGUSR2}), std::invalid_argument);
    ASSERT_EQ(::sigaction(SIGUSR2, &former, nullptr), 0);
    ForwardingKernel kernel;
    kernel.fail(Call::start_thread, EAGAIN);
    EXPECT_THROW(StallDetector({}, kernel), std::system_error);
    EXPECT_EQ(action_of(SIGURG).sa_handler, SIG_DFL);
}

TEST(StallDetector, a_kernel_without_signals_has_no_detector) {
    ForwardingKernel kernel;
    kernel.fail(Call::signal_action, ENOSYS);
    StallDetector detector{{}, kernel};
    EXPECT_FALSE(detector.active());
    EXPECT_EQ(kernel.calls(Call::start_thread), 0u);
    Reactor reactor;
    detector.watch(reactor);
    detector.forget(reactor);
    EXPECT_EQ(detector.stalls(), 0u);
}

}  // namespace
