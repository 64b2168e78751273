#include <ferrule/task/host.hpp>
#include <ferrule/task/memory_account.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <new>

namespace {

using ferrule::HostBinding;
using ferrule::MemoryAccount;
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

TEST(MemoryAccountTest, FramesAreChargedToTheirHost) {
    ThreadHost host;
    const HostBinding binding(host);
    void* frame = ferrule::allocate_frame(100);
    EXPECT_EQ(host.memory_account.used_bytes(), host.frames.peak_bytes());
    EXPECT_GT(host.memory_account.used_bytes(), 0u);
    ferrule::deallocate_frame(frame, 100);
    // What else takes the rest leaves none for a frame of another size; the block that is there already is used again.
    host.memory_account.limit_bytes(host.memory_account.used_bytes());
    frame = ferrule::allocate_frame(100);
    EXPECT_THROW(static_cast<void>(ferrule::allocate_frame(500)), std::bad_alloc);
    ferrule::deallocate_frame(frame, 100);
}

}  // namespace
