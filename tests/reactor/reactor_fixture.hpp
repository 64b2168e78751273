#pragma once

#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/abi.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/task/task.hpp>

#include "support/forwarding_kernel.hpp"

#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

namespace ferrule_test {

/// Few entries, so that queues are full now and then.
inline ferrule::ReactorOptions small_options() {
    ferrule::ReactorOptions options;
    options.submission_entries = 64;
    return options;
}

namespace detail {
inline ferrule::Task<> then_stop(ferrule::Reactor& reactor, ferrule::Task<> task) {
    ferrule::Task<> inner = std::move(task);
    co_await inner;
    reactor.stop();
}
}  // namespace detail

/// Runs the reactor until the task that `make` makes on its thread has ended, and checks that nothing is left.
inline void run_task(ferrule::Reactor& reactor, const std::function<ferrule::Task<>()>& make) {
    reactor.on_start([&make](ferrule::Reactor& started) { started.spawn(detail::then_stop(started, make())); });
    reactor.run();
    EXPECT_EQ(reactor.frames.live_frames(), 0u);
    EXPECT_EQ(reactor.counters().operations.value(), 0u);
    EXPECT_EQ(reactor.timers().size(), 0u);
}

/// A reactor that runs on a thread of its own until the end of the scope.
class ReactorThread {
public:
    explicit ReactorThread(std::uint32_t id = 0, ferrule::ReactorOptions options = small_options(),
                           ferrule::Kernel& kernel = ferrule::linux_kernel())
        : reactor_(id, options, kernel), thread_([this] { reactor_.run(); }) {}
    ~ReactorThread() { stop_and_join(); }

    void stop_and_join() {
        if (!thread_.joinable()) {
            return;
        }
        reactor_.stop();
        thread_.join();
    }
    ferrule::Reactor& operator*() noexcept { return reactor_; }
    ferrule::Reactor* operator->() noexcept { return &reactor_; }

private:
    ferrule::Reactor reactor_;
    std::thread thread_;
};

/// An event descriptor, for waits that end when the test says so.
class Event {
public:
    Event() : descriptor_(::eventfd(0, EFD_CLOEXEC)) {
        if (descriptor_ < 0) {
            throw std::system_error(errno, std::system_category(), "eventfd");
        }
    }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() { ::close(descriptor_); }

    int descriptor() const noexcept { return descriptor_; }
    void signal() const { EXPECT_EQ(::eventfd_write(descriptor_, 1), 0); }

private:
    int descriptor_;
};

/// Waits until the event is signalled; touches no memory.
inline ferrule::Operation poll_event(ferrule::Reactor& reactor, const Event& event) {
    return reactor.submit("poll", [&event](ferrule::abi::SubmissionEntry& entry) {
        ferrule::prepare::poll_add(entry, event.descriptor(), 1 /* POLLIN */);
    });
}

inline ferrule::Operation submit_nop(ferrule::Reactor& reactor) {
    return reactor.submit("nop", [](ferrule::abi::SubmissionEntry& entry) { ferrule::prepare::nop(entry); });
}

/// Time goes on only while a reactor waits with a deadline, and then at once.
class ClockKernel : public ForwardingKernel {
public:
    std::uint64_t monotonic_ns() noexcept override { return now_ns_.load(); }
    void advance(std::uint64_t duration_ns) noexcept { now_ns_ += duration_ns; }

    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        if (min_complete == 0 || (flags & ferrule::abi::enter_extended_argument) == 0) {
            return ForwardingKernel::io_uring_enter(fd, to_submit, min_complete, flags, argument, argument_size);
        }
        const int submitted = ForwardingKernel::io_uring_enter(
            fd, to_submit, 0, flags & ~ferrule::abi::enter_extended_argument, nullptr, 8);
        if (submitted < 0) {
            return submitted;
        }
        // Looks whether there is something to wait for.
        auto extended = *static_cast<const ferrule::abi::GetEventsArgument*>(argument);
        const auto timeout = *reinterpret_cast<const ferrule::abi::Timespec*>(extended.ts);
        const ferrule::abi::Timespec no_time{0, 0};
        extended.ts = reinterpret_cast<std::uintptr_t>(&no_time);
        if (ForwardingKernel::io_uring_enter(fd, 0, min_complete, flags, &extended, sizeof extended) == -ETIME) {
            now_ns_ += static_cast<std::uint64_t>(timeout.seconds) * 1'000'000'000 +
                       static_cast<std::uint64_t>(timeout.nanoseconds);
        }
        return submitted;
    }

private:
    std::atomic<std::uint64_t> now_ns_{1'000'000'000};
};

}  // namespace ferrule_test
