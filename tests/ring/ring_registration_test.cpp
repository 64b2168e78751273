#include <ferrule/ring/ring.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <thread>

namespace ferrule {
namespace {

using ferrule_test::capabilities;
using ferrule_test::Descriptor;
using ferrule_test::ForwardingKernel;
using ferrule_test::make_ring;
using ferrule_test::prepare_nop;
using ferrule_test::SocketPair;

/// Submits, waits, and takes one completion's result.
std::int32_t run_one(Ring& ring) {
    EXPECT_GE(ring.enter(1, 10'000'000'000), 0);
    const auto completion = ring.try_completion();
    EXPECT_TRUE(completion.has_value());
    return completion ? completion->result : -ETIME;
}

TEST(Registration, FixedFilesAreUsedUpdatedAndGone) {
    Ring ring = make_ring();
    SocketPair first;
    SocketPair second;
    const std::array<int, 2> files = {first.first.number(), -1};
    ASSERT_TRUE(ring.register_files(files).has_value());
    EXPECT_EQ(ring.register_files(files).error(), std::errc::device_or_resource_busy);

    abi::SubmissionEntry& entry = ring.entry();
    prepare::send(entry, 0, "to", 2, MSG_NOSIGNAL);
    entry.flags |= abi::entry_fixed_file;
    EXPECT_EQ(run_one(ring), 2);
    std::array<char, 4> data{};
    EXPECT_EQ(::read(first.second.number(), data.data(), data.size()), 2);

    const std::array<int, 2> replaced = {abi::files_skip, second.first.number()};
    EXPECT_EQ(ring.update_files(0, replaced), 2u);
    abi::SubmissionEntry& other = ring.entry();
    prepare::send(other, 1, "too", 3, MSG_NOSIGNAL);
    other.flags |= abi::entry_fixed_file;
    EXPECT_EQ(run_one(ring), 3);
    EXPECT_EQ(::read(second.second.number(), data.data(), data.size()), 3);

    ASSERT_TRUE(ring.unregister_files().has_value());
    abi::SubmissionEntry& gone = ring.entry();
    prepare::send(gone, 0, "x", 1, MSG_NOSIGNAL);
    gone.flags |= abi::entry_fixed_file;
    EXPECT_EQ(run_one(ring), -EBADF);
    EXPECT_FALSE(ring.unregister_files().has_value());
}

TEST(Registration, SparseFilesAreAllocatedFromTheirRange) {
    Ring ring = make_ring();
    ASSERT_TRUE(ring.register_files_sparse(8).has_value());
    ASSERT_TRUE(ring.register_file_range(6, 2).has_value());
    prepare::socket_direct(ring.entry(), AF_UNIX, SOCK_STREAM, 0, abi::file_index_allocate, 0);
    EXPECT_EQ(run_one(ring), 6);
    prepare::socket_direct(ring.entry(), AF_UNIX, SOCK_STREAM, 0, abi::file_index_allocate, 0);
    EXPECT_EQ(run_one(ring), 7);
    prepare::socket_direct(ring.entry(), AF_UNIX, SOCK_STREAM, 0, abi::file_index_allocate, 0);
    EXPECT_EQ(run_one(ring), -ENFILE);
    prepare::socket_direct(ring.entry(), AF_UNIX, SOCK_STREAM, 0, 2, 0);
    EXPECT_EQ(run_one(ring), 0);
    prepare::close_direct(ring.entry(), 6);
    EXPECT_EQ(run_one(ring), 0);
    prepare::close_direct(ring.entry(), 6);
    EXPECT_EQ(run_one(ring), -EBADF);
}

TEST(Registration, FixedBuffersCarryReadsAndWrites) {
    Ring ring = make_ring();
    SocketPair sockets;
    alignas(4096) std::array<std::byte, 4096> memory{};
    const std::array<std::span<std::byte>, 1> buffers = {std::span(memory)};
    ASSERT_TRUE(ring.register_buffers(buffers).has_value());
    std::memcpy(memory.data(), "fixed", 5);
    prepare::write_fixed(ring.entry(), sockets.first.number(), memory.data(), 5, 0, 0);
    EXPECT_EQ(run_one(ring), 5);
    prepare::read_fixed(ring.entry(), sockets.second.number(), memory.data() + 100, 10, 0, 0);
    EXPECT_EQ(run_one(ring), 5);
    EXPECT_EQ(std::memcmp(memory.data() + 100, "fixed", 5), 0);
    // Outside of the buffer.
    prepare::read_fixed(ring.entry(), sockets.second.number(), memory.data() + 4090, 10, 0, 0);
    EXPECT_EQ(run_one(ring), -EFAULT);
    ASSERT_TRUE(ring.unregister_buffers().has_value());
    EXPECT_FALSE(ring.unregister_buffers().has_value());
}

TEST(Registration, EventDescriptorIsSignalledByCompletions) {
    Ring ring = make_ring();
    const Descriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ASSERT_TRUE(ring.register_eventfd(event.number()).has_value());
    prepare_nop(ring.entry(), 1);
    ASSERT_EQ(ring.enter(1, Ring::no_timeout), 1);
    std::uint64_t count = 0;
    EXPECT_EQ(::read(event.number(), &count, sizeof(count)), 8);
    EXPECT_GE(count, 1u);
    ASSERT_TRUE(ring.unregister_eventfd().has_value());
    prepare_nop(ring.entry(), 2);
    ASSERT_EQ(ring.enter(1, Ring::no_timeout), 1);
    EXPECT_EQ(::read(event.number(), &count, sizeof(count)), -1);
    ASSERT_TRUE(ring.register_eventfd(event.number(), true).has_value());
    ASSERT_TRUE(ring.unregister_eventfd().has_value());
}

TEST(Registration, PersonalityIsUsedAndGone) {
    Ring ring = make_ring();
    const auto personality = ring.register_personality();
    ASSERT_TRUE(personality.has_value());
    EXPECT_NE(*personality, 0);
    abi::SubmissionEntry& entry = ring.entry();
    prepare_nop(entry, 1);
    entry.personality = *personality;
    EXPECT_EQ(run_one(ring), 0);
    ASSERT_TRUE(ring.unregister_personality(*personality).has_value());
    abi::SubmissionEntry& gone = ring.entry();
    prepare_nop(gone, 2);
    gone.personality = *personality;
    EXPECT_EQ(run_one(ring), -EINVAL);
}

TEST(Registration, SyncCancelEndsAnOperationAndTellsWhatItFound) {
    Ring ring = make_ring();
    SocketPair sockets;
    std::array<char, 4> data{};
    abi::SubmissionEntry& entry = ring.entry();
    prepare::receive(entry, sockets.first.number(), data.data(), data.size(), 0);
    entry.user_data = 42;
    ASSERT_EQ(ring.submit(), 1u);
    EXPECT_EQ(ring.cancel_sync(41, -1, 0, 0).error(), std::errc::no_such_file_or_directory);
    EXPECT_TRUE(ring.cancel_sync(42, -1, 0, Ring::no_timeout).has_value());
    EXPECT_EQ(run_one(ring), -ECANCELED);
    EXPECT_EQ(ring.cancel_sync(0, sockets.first.number(), abi::cancel_descriptor, 1'000'000).error(),
              std::errc::no_such_file_or_directory);
}

TEST(Registration, FailureIsTheKernelsError) {
    ForwardingKernel kernel;
    Ring ring = make_ring(kernel, {});
    kernel.fail_registration(abi::register_files2, EMFILE);
    EXPECT_EQ(ring.register_files_sparse(8).error(), std::errc::too_many_files_open);
    EXPECT_TRUE(ring.register_files_sparse(8).has_value());
}

TEST(Operations, MessageRingReachesAnotherThreadsRing) {
    Ring::Options options;
    options.entries = 8;
    options.start_disabled = true;
    Ring target = make_ring(linux_kernel(), options);
    Ring source = make_ring();
    // To a ring that is not enabled yet.
    prepare::message_ring(source.entry(), target.descriptor(), 1, 1, 0);
    EXPECT_EQ(run_one(source), -EBADFD);

    std::atomic<bool> enabled = false;
    std::jthread owner([&] {
        ASSERT_TRUE(target.enable().has_value());
        enabled = true;
        enabled.notify_one();
        const auto completion = target.wait_completion();
        ASSERT_TRUE(completion.has_value());
        EXPECT_EQ(completion->result, 77);
        EXPECT_EQ(completion->user_data, 0xfeedu);
    });
    enabled.wait(false);
    prepare::message_ring(source.entry(), target.descriptor(), 77, 0xfeed, 0);
    EXPECT_EQ(run_one(source), 0);
}

TEST(Operations, CancelEndsByUserDataAndByDescriptor) {
    Ring ring = make_ring();
    SocketPair sockets;
    std::array<char, 4> data{};
    for (const bool by_descriptor : {false, true}) {
        abi::SubmissionEntry& receive = ring.entry();
        prepare::receive(receive, sockets.first.number(), data.data(), data.size(), 0);
        receive.user_data = 1;
        abi::SubmissionEntry& cancel = ring.entry();
        if (by_descriptor) {
            prepare::cancel_fd(cancel, sockets.first.number(), abi::cancel_all);
        } else {
            prepare::cancel(cancel, 1, 0);
        }
        cancel.user_data = 2;
        ASSERT_EQ(ring.enter(2, 10'000'000'000), 2);
        EXPECT_EQ(ring.for_each_completion([&](const abi::Completion& completion) {
            EXPECT_EQ(completion.result, completion.user_data == 1 ? -ECANCELED : (by_descriptor ? 1 : 0));
        }),
                  2u);
    }
}

TEST(Operations, AcceptConnectSendReceiveShutdownClose) {
    Ring ring = make_ring();
    Kernel& kernel = linux_kernel();
    const Descriptor listener(kernel.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    address.ss_family = AF_UNIX;
    socklen_t length = sizeof(address.ss_family);
    ASSERT_EQ(kernel.bind(listener.number(), reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(kernel.listen(listener.number(), 4), 0);
    length = sizeof(address);
    ASSERT_EQ(kernel.socket_name(listener.number(), reinterpret_cast<sockaddr*>(&address), &length), 0);

    prepare::socket(ring.entry(), AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
    const Descriptor client(run_one(ring));
    ASSERT_GE(client.number(), 0);
    abi::SubmissionEntry& accept = ring.entry();
    prepare::accept_multishot(accept, listener.number(), nullptr, nullptr, SOCK_CLOEXEC);
    accept.user_data = 1;
    abi::SubmissionEntry& connect = ring.entry();
    prepare::connect(connect, client.number(), reinterpret_cast<sockaddr*>(&address), length);
    connect.user_data = 2;
    ASSERT_EQ(ring.enter(2, 10'000'000'000), 2);
    int accepted = -1;
    ring.for_each_completion([&](const abi::Completion& completion) {
        if (completion.user_data == 1) {
            accepted = completion.result;
            EXPECT_NE(completion.flags & abi::completion_more, 0u);
        } else {
            EXPECT_EQ(completion.result, 0);
        }
    });
    ASSERT_GE(accepted, 0);
    prepare::send(ring.entry(), client.number(), "hello", 5, MSG_NOSIGNAL);
    EXPECT_EQ(run_one(ring), 5);
    std::array<char, 16> data{};
    prepare::receive(ring.entry(), accepted, data.data(), data.size(), 0);
    EXPECT_EQ(run_one(ring), 5);
    EXPECT_EQ(std::string_view(data.data(), 5), "hello");
    prepare::shutdown(ring.entry(), client.number(), SHUT_WR);
    EXPECT_EQ(run_one(ring), 0);
    prepare::receive(ring.entry(), accepted, data.data(), data.size(), 0);
    EXPECT_EQ(run_one(ring), 0);
    prepare::close(ring.entry(), accepted);
    EXPECT_EQ(run_one(ring), 0);
    prepare::cancel(ring.entry(), 1, 0);
    ASSERT_EQ(ring.enter(2, 10'000'000'000), 1);
    EXPECT_EQ(ring.ready(), 2u);
}

TEST(Operations, PollTellsReadinessOnceAndAgain) {
    Ring ring = make_ring();
    const Descriptor event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    constexpr std::uint32_t poll_in = 1;
    prepare::poll_add(ring.entry(), event.number(), poll_in);
    EXPECT_EQ(run_one(ring), static_cast<int>(poll_in));
    abi::SubmissionEntry& multishot = ring.entry();
    prepare::poll_add_multishot(multishot, event.number(), poll_in);
    multishot.user_data = 1;
    EXPECT_EQ(run_one(ring), static_cast<int>(poll_in));
    const std::uint64_t one = 1;
    ASSERT_EQ(::write(event.number(), &one, sizeof(one)), 8);
    EXPECT_EQ(run_one(ring), static_cast<int>(poll_in));
    prepare::poll_remove(ring.entry(), 1);
    ASSERT_EQ(ring.enter(2, 10'000'000'000), 1);
    EXPECT_EQ(ring.ready(), 2u);
}

TEST(Operations, SocketOptionsByCommand) {
    if (!capabilities().socket_commands) {
        GTEST_SKIP() << "socket commands need Linux 6.7";
    }
    Ring ring = make_ring();
    const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    prepare::socket_set_option(ring.entry(), socket.number(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    EXPECT_EQ(run_one(ring), 0);
    int value = 0;
    prepare::socket_get_option(ring.entry(), socket.number(), SOL_SOCKET, SO_REUSEADDR, &value, sizeof(value));
    EXPECT_EQ(run_one(ring), static_cast<int>(sizeof(value)));
    EXPECT_EQ(value, 1);
}

TEST(Operations, FutexWaitsAndIsWoken) {
    if (!capabilities().supports(abi::Operation::futex_wait)) {
        GTEST_SKIP() << "futex operations need Linux 6.7";
    }
    Ring ring = make_ring();
    const std::uint32_t futex = 5;
    constexpr std::uint32_t futex_flags = abi::futex_size_32 | abi::futex_private;
    constexpr std::uint64_t any = 0xffff'ffff;
    prepare::futex_wait(ring.entry(), &futex, 4, any, futex_flags);
    EXPECT_EQ(run_one(ring), -EAGAIN);
    abi::SubmissionEntry& wait = ring.entry();
    prepare::futex_wait(wait, &futex, 5, any, futex_flags);
    wait.user_data = 1;
    abi::SubmissionEntry& wake = ring.entry();
    prepare::futex_wake(wake, &futex, 8, any, futex_flags);
    wake.user_data = 2;
    ASSERT_EQ(ring.enter(2, 10'000'000'000), 2);
    EXPECT_EQ(ring.for_each_completion([](const abi::Completion& completion) {
        EXPECT_EQ(completion.result, completion.user_data == 1 ? 0 : 1);
    }),
              2u);
}

TEST(Operations, BindAndListen) {
    if (!capabilities().supports(abi::Operation::listen)) {
        GTEST_SKIP() << "bind and listen need Linux 6.11";
    }
    Ring ring = make_ring();
    const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    address.ss_family = AF_UNIX;
    prepare::bind(ring.entry(), socket.number(), reinterpret_cast<sockaddr*>(&address), sizeof(address.ss_family));
    EXPECT_EQ(run_one(ring), 0);
    prepare::listen(ring.entry(), socket.number(), 4);
    EXPECT_EQ(run_one(ring), 0);
}

TEST(Operations, PipeIsMade) {
    if (!capabilities().supports(abi::Operation::pipe)) {
        GTEST_SKIP() << "the pipe operation needs Linux 6.16";
    }
    Ring ring = make_ring();
    std::array<int, 2> ends = {-1, -1};
    prepare::pipe(ring.entry(), ends.data(), O_CLOEXEC);
    ASSERT_EQ(run_one(ring), 0);
    const Descriptor reading(ends[0]);
    const Descriptor writing(ends[1]);
    EXPECT_EQ(::write(writing.number(), "x", 1), 1);
}

}  // namespace
}  // namespace ferrule
