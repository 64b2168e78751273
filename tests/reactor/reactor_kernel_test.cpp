// Wrong answers of the kernel.
#include <ferrule/reactor/reactor.hpp>

#include "reactor_fixture.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <system_error>

namespace {

using namespace ferrule;
using namespace ferrule_test;
using namespace std::chrono_literals;

Task<> nops(Reactor* reactor, int count) {
    for (int index = 0; index < count; ++index) {
        Operation nop = submit_nop(*reactor);
        const OperationResult ended = co_await nop;
        EXPECT_EQ(ended.result, 0);
        co_await sleep_for(1us);
    }
}

class TransientError : public testing::TestWithParam<int> {};

TEST_P(TransientError, LoopGoesOn) {
    for (std::uint64_t skipped = 0; skipped < 20; ++skipped) {
        ForwardingKernel kernel;
        kernel.fail(Call::enter, GetParam(), 3, skipped);
        Reactor reactor(0, small_options(), kernel);
        run_task(reactor, [&] { return nops(&reactor, 10); });
    }
}

INSTANTIATE_TEST_SUITE_P(Enter, TransientError, testing::Values(EINTR, EAGAIN, EBUSY));

Task<> wait_for_event(Reactor* reactor, const Event* event, std::int32_t* result) {
    Operation poll = poll_event(*reactor, *event);
    const OperationResult ended = co_await poll;
    *result = ended.result;
}

Task<> sleep_long(bool* cancelled) {
    const auto slept = co_await sleep_for(24h);
    *cancelled = !slept;
}

TEST(ReactorKernel, Law3KernelThatCannotBeEnteredEndsRunAndEveryAwait) {
    for (std::uint64_t skipped = 0; skipped < 4; ++skipped) {
        ForwardingKernel kernel;
        kernel.fail(Call::enter, EBADF, ForwardingKernel::forever, skipped);
        Reactor reactor(7, small_options(), kernel);
        const Event event;
        std::int32_t result = 0;
        bool cancelled = false;
        std::string message;
        testing::internal::CaptureStderr();
        reactor.on_start([&](Reactor& started) {
            started.spawn(wait_for_event(&started, &event, &result));
            started.spawn(sleep_long(&cancelled));
            started.spawn(nops(&started, 0));
            EXPECT_TRUE(started.post([&started] { EXPECT_TRUE(started.post([] {})); }));
        });
        // Each turn enters, until the kernel refuses.
        struct Busy : Subsystem {
            [[nodiscard]] bool must_not_sleep() const noexcept override { return true; }
        } busy;
        reactor.add_subsystem(busy);
        struct Entering : Subsystem {
            explicit Entering(Reactor& entered) : reactor(&entered) {}
            void before_submit() noexcept override {
                ferrule::abi::SubmissionEntry& entry = reactor->ring().entry();
                prepare::nop(entry);
                entry.user_data = 0;
            }
            Reactor* reactor;
        } entering(reactor);
        reactor.add_subsystem(entering);
        try {
            reactor.run();
            ADD_FAILURE() << "it cannot have run";
        } catch (const std::system_error& failure) {
            EXPECT_EQ(failure.code(), std::errc::bad_file_descriptor);
            message = failure.what();
        }
        testing::internal::GetCapturedStderr();
        EXPECT_NE(message.find("io_uring_enter of reactor 7"), std::string::npos);
        EXPECT_EQ(result, -ECANCELED);
        EXPECT_TRUE(cancelled);
        EXPECT_EQ(reactor.frames.live_frames(), 0u);
        EXPECT_EQ(reactor.counters().operations.value(), 0u);
        EXPECT_FALSE(reactor.post([] {}));
    }
}

TEST(ReactorKernel, RingThatCannotBeMadeIsExplained) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, EPERM, ForwardingKernel::forever);
    try {
        const Reactor reactor(0, small_options(), kernel);
        ADD_FAILURE() << "it cannot have been made";
    } catch (const std::runtime_error& failure) {
        EXPECT_NE(std::string(failure.what()).find("io_uring"), std::string::npos);
    }
}

TEST(ReactorKernel, NoEventDescriptorLeftIsSaid) {
    ForwardingKernel kernel;
    kernel.fail(Call::event_descriptor, EMFILE);
    EXPECT_THROW(Reactor(0, small_options(), kernel), std::system_error);
}

TEST(ReactorKernel, RingThatCannotBeEnabledIsSaid) {
    ForwardingKernel kernel;
    kernel.fail_registration(ferrule::abi::register_enable_rings, EINVAL);
    Reactor reactor(0, small_options(), kernel);
    EXPECT_THROW(reactor.run(), std::system_error);
}

TEST(ReactorKernel, CpuThatDoesNotExistIsSaid) {
    ForwardingKernel kernel;
    kernel.fail(Call::set_affinity, EINVAL);
    ReactorOptions options = small_options();
    options.cpu = 100'000;
    Reactor reactor(0, options, kernel);
    try {
        reactor.run();
        ADD_FAILURE() << "it cannot have run";
    } catch (const std::system_error& failure) {
        EXPECT_NE(std::string(failure.what()).find("CPU 100000"), std::string::npos);
    }
}

TEST(ReactorKernel, RingDescriptorThatCannotBeRegisteredIsDoneWithout) {
    ForwardingKernel kernel;
    kernel.fail_registration(ferrule::abi::register_ring_descriptors, EBUSY);
    Reactor reactor(0, small_options(), kernel);
    run_task(reactor, [&] { return nops(&reactor, 3); });
    EXPECT_FALSE(reactor.ring().uses_registered_descriptor());
}

TEST(ReactorKernel, SmallestQueues) {
    ReactorOptions options;
    options.submission_entries = 4;
    options.completion_entries = 8;
    Reactor reactor(0, options);
    run_task(reactor, [&] { return nops(&reactor, 100); });
}

}  // namespace
