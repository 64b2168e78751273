#include <ferrule/task/host.hpp>
#include <ferrule/task/memory_account.hpp>
#include <ferrule/task/task.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <new>

namespace {

using ferrule::HostBinding;
using ferrule::MemoryAccount;
using ferrule::Task;
using ferrule::ThreadHost;

TEST(MemoryAccountTest, CountsUpToItsBoundAndNoFurther) {
    MemoryAccount account(100);
    EXPECT_TRUE(account.charge(60));
    EXPECT_FALSE(account.charge(41));
    EXPECT_EQ(account.used_bytes(), 60u);
    EXPECT_TRUE(account.charge(40));
    EXPECT_FALSE(account.charge(1));
    account.credit(60);
    EXPECT_TRUE(account.charge(60));
    EXPECT_FALSE(account.charge(std::numeric_limits<std::uint64_t>::max())) << "no sum may wrap";
}

TEST(MemoryAccountTest, WithoutABoundItOnlyCounts) {
    MemoryAccount account;
    EXPECT_TRUE(account.charge(std::uint64_t{1} << 62));
    EXPECT_EQ(account.used_bytes(), std::uint64_t{1} << 62);
}

Task<> nothing() {
    co_return;
}

TEST(MemoryAccountTest, FramesAreChargedToTheirHost) {
    ThreadHost host;
    const HostBinding binding(host);
    {
        const Task<> task = nothing();
        EXPECT_EQ(host.memory_account.used_bytes(), host.frames.peak_bytes());
        EXPECT_GT(host.memory_account.used_bytes(), 0u);
    }
    // What else takes the rest leaves none for a frame of another size.
    host.memory_account.limit_bytes(host.memory_account.used_bytes());
    EXPECT_NO_THROW(static_cast<void>(nothing())) << "its block is there already";
    EXPECT_THROW(static_cast<void>(host.frames.allocate(500)), std::bad_alloc);
}

}  // namespace
