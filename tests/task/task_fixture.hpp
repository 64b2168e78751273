#pragma once

#include <ferrule/task/cancel.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>

#include <gtest/gtest.h>

#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <stdexcept>

namespace ferrule::testing {

/// What an operation is to the tests of task/: waits that end in order when the test says so, that a scope can cancel,
/// and that detach themselves when their coroutine is destroyed.
class Source {
public:
    class Wait : private CancelNode {
    public:
        explicit Wait(Source& source) noexcept : CancelNode(&on_cancel), source_(&source) {}
        Wait(const Wait&) = delete;
        Wait& operator=(const Wait&) = delete;
        ~Wait() {
            CancelScope::remove(*this);
            std::erase(source_->waits_, this);
            if (cancelled_ && handle_) {
                Host::current()->forget(handle_);
            }
        }

        bool await_ready() const noexcept { return false; }

        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) {
            ++source_->started_;
            if (CancelScope* scope = environment_of(handle)->scope; scope != nullptr && !scope->add(*this)) {
                reason_ = scope->reason();
                return false;
            }
            handle_ = handle;
            source_->waits_.push_back(this);
            return true;
        }

        /// Throws at the point that the test has chosen.
        CancelReason await_resume() {
            handle_ = nullptr;
            if (source_->ended_++ == source_->fail_at) {
                throw std::runtime_error("failure was asked for");
            }
            return reason_;
        }

    private:
        friend Source;
        static void on_cancel(CancelNode& node, CancelReason reason) noexcept {
            auto& self = static_cast<Wait&>(node);
            std::erase(self.source_->waits_, &self);
            self.reason_ = reason;
            self.cancelled_ = true;
            Host::current()->resume_later(self.handle_);
        }

        Source* source_;
        std::coroutine_handle<> handle_;
        CancelReason reason_ = CancelReason::none;
        bool cancelled_ = false;
    };

    Wait wait() noexcept { return Wait(*this); }

    /// Ends the longest wait: its coroutine runs before this returns. False when there is none.
    bool fire() {
        if (waits_.empty()) {
            return false;
        }
        Wait* wait = waits_.front();
        waits_.pop_front();
        CancelScope::remove(*wait);
        wait->handle_.resume();
        return true;
    }

    /// Ends the latest wait.
    bool fire_last() {
        if (waits_.empty()) {
            return false;
        }
        Wait* wait = waits_.back();
        waits_.pop_back();
        CancelScope::remove(*wait);
        wait->handle_.resume();
        return true;
    }

    std::size_t waiting() const noexcept { return waits_.size(); }
    std::size_t started() const noexcept { return started_; }

    /// The number of the wait, counted as they end, that throws.
    std::size_t fail_at = static_cast<std::size_t>(-1);

private:
    std::deque<Wait*> waits_;
    std::size_t started_ = 0;
    std::size_t ended_ = 0;
};

/// Counts the objects alive, so that a test sees what a destroyed coroutine has forgotten or destroyed twice.
class Tracked {
public:
    explicit Tracked(int& alive) noexcept : alive_(&alive) { ++*alive_; }
    Tracked(const Tracked& other) noexcept : alive_(other.alive_) { ++*alive_; }
    Tracked& operator=(const Tracked&) = delete;
    ~Tracked() { --*alive_; }

private:
    int* alive_;
};

/// A host that is current for the whole test, a source, and the check that nothing is left.
class TaskTest : public ::testing::Test {
protected:
    ~TaskTest() override {
        EXPECT_EQ(host.run_ready(), 0u);
        EXPECT_EQ(source.waiting(), 0u);
        EXPECT_EQ(host.frames.live_frames(), 0u);
        EXPECT_EQ(host.frames.live_bytes(), 0u);
        EXPECT_EQ(host.deadlines(), 0u);
        EXPECT_EQ(alive, 0);
    }

    /// Starts a task that the test owns. True when it has ended.
    template <class T>
    bool start(const Task<T>& task) {
        return !task.start(host.root_environment, std::noop_coroutine());
    }

    /// Does one thing that the outside world can do. False when there is nothing left to do.
    bool step() { return host.run_ready() != 0 || source.fire(); }

    /// Runs what `make` makes up to each of its suspension points in turn, and destroys it there.
    template <class Make>
    void destroy_at_every_point(Make make) {
        for (std::size_t steps = 0;; ++steps) {
            Task<> task = make();
            bool ended = start(task);
            for (std::size_t done = 0; done < steps && !ended; ++done) {
                step();
                ended = task.done();
            }
            task.reset();
            ASSERT_EQ(alive, 0) << "after " << steps << " steps";
            ASSERT_EQ(source.waiting(), 0u) << "after " << steps << " steps";
            ASSERT_EQ(host.frames.live_frames(), 0u) << "after " << steps << " steps";
            ASSERT_EQ(host.run_ready(), 0u) << "after " << steps << " steps";
            if (ended) {
                points = steps;
                return;
            }
            ASSERT_LT(steps, 10'000u) << "it never ends";
        }
    }

    /// Runs what `make` makes to its end, each time with another wait failing, until none is left to fail.
    template <class Make>
    void fail_at_every_point(Make make) {
        for (std::size_t failing = 0;; ++failing) {
            Source faulty;
            faulty.fail_at = failing;
            std::size_t faults = 0;
            {
                Task<> task = make(faulty);
                bool ended = start(task);
                while (!ended) {
                    ASSERT_TRUE(host.run_ready() != 0 || faulty.fire()) << "it waits for ever";
                    ended = task.done();
                }
                try {
                    task.await_resume();
                } catch (const std::runtime_error&) {
                    faults = 1;
                }
            }
            ASSERT_EQ(alive, 0) << "failing at " << failing;
            ASSERT_EQ(faulty.waiting(), 0u) << "failing at " << failing;
            ASSERT_EQ(host.frames.live_frames(), 0u) << "failing at " << failing;
            if (faults == 0) {
                points = failing;
                return;
            }
        }
    }

    int alive = 0;
    std::size_t points = 0;
    Source source;
    ThreadHost host;

private:
    HostBinding binding_{host};
};

}  // namespace ferrule::testing
