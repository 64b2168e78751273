#include <ferrule/task/frame_pool.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

using namespace ferrule;

TEST(FramePool, ClassesHoldWhatTheyAreChosenFor) {
    for (std::size_t bytes = 1; bytes <= FramePool::class_bytes_max - FramePool::trailer_bytes; ++bytes) {
        const std::uint32_t size_class = FramePool::class_of(bytes);
        ASSERT_LT(size_class, FramePool::class_count);
        ASSERT_GE(FramePool::class_bytes(size_class), bytes + FramePool::trailer_bytes);
        if (size_class > 0) {
            ASSERT_LT(FramePool::class_bytes(size_class - 1), bytes + FramePool::trailer_bytes);
        }
    }
    EXPECT_EQ(FramePool::class_of(FramePool::class_bytes_max - FramePool::trailer_bytes + 1), FramePool::large_class);
    EXPECT_EQ(FramePool::class_bytes(FramePool::class_of(120)), 128u);
}

TEST(FramePool, BlocksAreAlignedWritableAndComeBackLastInFirstOut) {
    ThreadHost host;
    struct Frame {
        void* memory;
        std::size_t bytes;
    };
    std::vector<Frame> frames;
    for (std::size_t bytes = 8; bytes < 200'000; bytes += bytes / 3 + 8) {
        for (int count = 0; count < 3; ++count) {
            void* memory = host.frames.allocate(bytes);
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 16, 0u);
            std::memset(memory, 0xa5, bytes);
            EXPECT_EQ(FramePool::owner_of(memory, bytes), &host.frames);
            frames.push_back({memory, bytes});
        }
    }
    EXPECT_EQ(host.frames.live_frames(), frames.size());
    for (const Frame& frame : frames) {
        host.frames.release(frame.memory, FramePool::class_of(frame.bytes));
    }
    EXPECT_EQ(host.frames.live_frames(), 0u);
    EXPECT_EQ(host.frames.live_bytes(), 0u);

    void* first = host.frames.allocate(100);
    void* last = host.frames.allocate(100);
    host.frames.release(first, FramePool::class_of(100));
    host.frames.release(last, FramePool::class_of(100));
    EXPECT_EQ(host.frames.allocate(100), last);
    EXPECT_EQ(host.frames.allocate(100), first);
    host.frames.release(last, FramePool::class_of(100));
    host.frames.release(first, FramePool::class_of(100));
}

TEST(FramePool, PeakIsReachedOnceAndReused) {
    ThreadHost host;
    std::vector<void*> blocks;
    for (int round = 0; round < 3; ++round) {
        for (int count = 0; count < 2000; ++count) {
            blocks.push_back(host.frames.allocate(100));
        }
        for (void* block : blocks) {
            host.frames.release(block, FramePool::class_of(100));
        }
        blocks.clear();
        EXPECT_EQ(host.frames.peak_bytes(), 2000u * FramePool::class_bytes(FramePool::class_of(100)));
    }
}

Task<> nothing() {
    co_return;
}

TEST(FramePool, Law7TheBoundIsReportedAndPasses) {
    ThreadHost host;
    const HostBinding binding(host);
    host.frames.limit_bytes(4096);
    std::vector<Task<>> tasks;
    try {
        while (tasks.size() < 1000) {
            tasks.push_back(nothing());
        }
        FAIL() << "no bound";
    } catch (const std::bad_alloc&) {
    }
    EXPECT_LE(host.frames.live_bytes(), 4096u);
    EXPECT_GE(tasks.size(), 4096u / 256u);
    EXPECT_THROW(host.frames.allocate(100'000), std::bad_alloc);
    tasks.pop_back();
    EXPECT_NO_THROW(tasks.push_back(nothing()));
    tasks.clear();
    EXPECT_EQ(host.frames.live_bytes(), 0u);
}

TEST(FramePool, FramesWithoutAHostAreNobodys) {
    for (const std::size_t bytes : {40u, 3000u, 100'000u}) {
        void* memory = FramePool::allocate_without_host(bytes);
        std::memset(memory, 0x5a, bytes);
        EXPECT_EQ(FramePool::owner_of(memory, bytes), nullptr);
        deallocate_frame(memory, bytes);
    }
}

TEST(FramePool, DestroyingItUnderALiveFrameIsAnAssertion) {
    EXPECT_DEATH(
        {
            ThreadHost host;
            host.frames.allocate(64);
        },
        "1 coroutine frames of a host that ends are alive, 80 bytes");
}

#if defined(FERRULE_ADDRESS_SANITIZER)
TEST(FramePool, FreedFramesArePoisoned) {
    ThreadHost host;
    auto* memory = static_cast<volatile char*>(host.frames.allocate(64));
    host.frames.release(const_cast<char*>(memory), FramePool::class_of(64));
    EXPECT_DEATH(memory[32] = 1, "use-after-poison");
}
#endif

}  // namespace
