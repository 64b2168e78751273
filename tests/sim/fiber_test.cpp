#include <ferrule/task/host.hpp>

#include "sim/fiber.hpp"
#include "sim/without_thread_sanitizer.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ferrule::sim {
namespace {

using FiberTest = ferrule_test::WithoutThreadSanitizer;

constexpr std::size_t stack_bytes = 256 * 1024;

TEST_F(FiberTest, GoesOnWhereItWasSuspended) {
    FiberContext here;
    std::vector<int> seen;
    Fiber* self = nullptr;
    Fiber fiber(FiberStack(stack_bytes), "fiber", [&] {
        for (int value = 0; value < 3; ++value) {
            seen.push_back(value);
            self->suspend();
        }
    });
    self = &fiber;
    for (int turn = 0; turn < 3; ++turn) {
        seen.push_back(100 + turn);
        fiber.resume(here);
        EXPECT_FALSE(fiber.ended());
    }
    fiber.resume(here);
    EXPECT_TRUE(fiber.ended());
    EXPECT_EQ(seen, (std::vector{100, 0, 101, 1, 102, 2}));
}

TEST_F(FiberTest, RunsOnAnAlignedStackThatPreservesWhatFunctionsMust) {
    FiberContext here;
    Fiber* self = nullptr;
    double sum = 0;
    std::uintptr_t misaligned = 1;
    Fiber fiber(FiberStack(stack_bytes), "fiber", [&] {
        alignas(16) std::array<double, 4> values{1.5, 2.5, 3.5, 4.5};
        misaligned = reinterpret_cast<std::uintptr_t>(values.data()) % 16;
        for (const double value : values) {
            sum += value;
            self->suspend();
        }
    });
    self = &fiber;
    double outside = 0;
    while (!fiber.ended()) {
        outside += 0.25;
        fiber.resume(here);
    }
    EXPECT_EQ(misaligned, 0u);
    EXPECT_EQ(sum, 12.0);
    EXPECT_EQ(outside, 1.25);
}

TEST_F(FiberTest, ExceptionsThatAreHandledOnSeveralStacksAtOnceDoNotMix) {
    FiberContext here;
    std::array<std::unique_ptr<Fiber>, 3> fibers;
    std::vector<std::string> rethrown;
    for (std::size_t index = 0; index < fibers.size(); ++index) {
        fibers[index] = std::make_unique<Fiber>(FiberStack(stack_bytes), "fiber", [&, index] {
            try {
                throw std::runtime_error("of " + std::to_string(index));
            } catch (const std::runtime_error&) {
                fibers[index]->suspend();
                try {
                    throw;
                } catch (const std::runtime_error& again) {
                    fibers[index]->suspend();
                    rethrown.push_back(again.what());
                }
            }
            EXPECT_EQ(std::current_exception(), nullptr);
            EXPECT_EQ(std::uncaught_exceptions(), 0);
        });
    }
    for (int turn = 0; turn < 3; ++turn) {
        for (std::size_t index = fibers.size(); index-- > 0;) {
            fibers[index]->resume(here);
            EXPECT_EQ(std::current_exception(), nullptr);
        }
    }
    EXPECT_EQ(rethrown, (std::vector<std::string>{"of 2", "of 1", "of 0"}));
}

TEST_F(FiberTest, EachHasItsOwnCurrentHost) {
    FiberContext here;
    Fiber* self = nullptr;
    ThreadHost mine;
    ThreadHost outside;
    Fiber fiber(FiberStack(stack_bytes), "fiber", [&] {
        EXPECT_EQ(Host::current(), nullptr);
        const HostBinding binding(mine);
        self->suspend();
        EXPECT_EQ(Host::current(), &mine);
    });
    self = &fiber;
    const HostBinding binding(outside);
    fiber.resume(here);
    EXPECT_EQ(Host::current(), &outside);
    fiber.resume(here);
    EXPECT_EQ(Host::current(), &outside);
}

TEST_F(FiberTest, AStackServesOneAfterTheOther) {
    FiberContext here;
    FiberStack stack(stack_bytes);
    for (int turn = 0; turn < 3; ++turn) {
        Fiber fiber(std::move(stack), "fiber", [] {
            std::array<volatile char, 4096> used;
            for (volatile char& byte : used) byte = 1;
        });
        fiber.resume(here);
        ASSERT_TRUE(fiber.ended());
        stack.~FiberStack();
        new (&stack) FiberStack(fiber.take_stack());
    }
}

}  // namespace
}  // namespace ferrule::sim
