#include <ferrule/ring/kernel.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule {
namespace {

using ferrule_test::Call;
using ferrule_test::Descriptor;
using ferrule_test::ForwardingKernel;
using ferrule_test::SocketPair;

TEST(LinuxKernel, ErrorsAreNegativeErrnoValues) {
    Kernel& kernel = linux_kernel();
    char byte = 0;
    unsigned mode = 0;
    sockaddr_un address{};
    socklen_t length = sizeof(address);
    EXPECT_EQ(kernel.io_uring_enter(-1, 0, 0, 0, nullptr, 0), -EBADF);
    EXPECT_EQ(kernel.io_uring_register(1 << 20, abi::register_probe, nullptr, 0), -EBADF);
    EXPECT_EQ(kernel.io_uring_setup(0, nullptr), -EFAULT);
    EXPECT_EQ(kernel.socket(-1, SOCK_STREAM, 0), -EAFNOSUPPORT);
    EXPECT_EQ(kernel.bind(-1, reinterpret_cast<sockaddr*>(&address), length), -EBADF);
    EXPECT_EQ(kernel.listen(-1, 1), -EBADF);
    EXPECT_EQ(kernel.connect(-1, reinterpret_cast<sockaddr*>(&address), length), -EBADF);
    EXPECT_EQ(kernel.set_option(-1, SOL_SOCKET, SO_REUSEADDR, &byte, 1), -EBADF);
    EXPECT_EQ(kernel.get_option(-1, SOL_SOCKET, SO_REUSEADDR, &byte, &length), -EBADF);
    EXPECT_EQ(kernel.socket_name(-1, reinterpret_cast<sockaddr*>(&address), &length), -EBADF);
    EXPECT_EQ(kernel.peer_name(-1, reinterpret_cast<sockaddr*>(&address), &length), -EBADF);
    EXPECT_EQ(kernel.shutdown(-1, SHUT_WR), -EBADF);
    EXPECT_EQ(kernel.close(-1), -EBADF);
    EXPECT_EQ(kernel.read(-1, &byte, 1), -EBADF);
    EXPECT_EQ(kernel.write(-1, &byte, 1), -EBADF);
    EXPECT_EQ(kernel.unlink("/no/such/file"), -ENOENT);
    EXPECT_EQ(kernel.status("/no/such/file", &mode), -ENOENT);
    EXPECT_EQ(kernel.read_file("/no/such/file", &byte, 1), -ENOENT);
    const iovec piece{&byte, 1};
    EXPECT_EQ(kernel.set_nonblocking(-1, true), -EBADF);
    EXPECT_EQ(kernel.read_directory(-1, &byte, 1), -EBADF);
    EXPECT_EQ(kernel.read_cached(-1, &piece, 1, 0), -EBADF);
    EXPECT_THAT(kernel.cached_bytes(-1, 0, 1), ::testing::AnyOf(-EBADF, -ENOSYS));
    EXPECT_EQ(kernel.send_file(-1, -1, 0, 1), -EBADF);
    EXPECT_EQ(kernel.set_affinity(-1), -EINVAL);
    EXPECT_EQ(kernel.set_affinity(CPU_SETSIZE), -EINVAL);
    int error = 0;
    EXPECT_EQ(kernel.map(4096, PROT_READ, MAP_SHARED, -1, 0, &error), nullptr);
    EXPECT_EQ(error, EBADF);
}

TEST(LinuxKernel, SocketsBindListenAndConnect) {
    Kernel& kernel = linux_kernel();
    const Descriptor listener(kernel.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socklen_t length = sizeof(address.sun_family);
    ASSERT_EQ(kernel.bind(listener.number(), reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(kernel.listen(listener.number(), 4), 0);
    length = sizeof(address);
    ASSERT_EQ(kernel.socket_name(listener.number(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    const Descriptor client(kernel.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(kernel.connect(client.number(), reinterpret_cast<sockaddr*>(&address), length), 0);
    sockaddr_un peer{};
    socklen_t peer_length = sizeof(peer);
    EXPECT_EQ(kernel.peer_name(client.number(), reinterpret_cast<sockaddr*>(&peer), &peer_length), 0);
    EXPECT_EQ(peer_length, length);
    int type = 0;
    socklen_t type_length = sizeof(type);
    EXPECT_EQ(kernel.get_option(client.number(), SOL_SOCKET, SO_TYPE, &type, &type_length), 0);
    EXPECT_EQ(type, SOCK_STREAM);
    EXPECT_EQ(kernel.set_option(client.number(), SOL_SOCKET, SO_SNDBUF, &type, sizeof(type)), 0);
    EXPECT_EQ(kernel.shutdown(client.number(), SHUT_WR), 0);
}

TEST(LinuxKernel, FilesReadWholeAndTellTheirMode) {
    Kernel& kernel = linux_kernel();
    std::array<char, 64> text{};
    const ssize_t length = kernel.read_file("/proc/sys/kernel/ostype", text.data(), text.size());
    EXPECT_EQ(std::string_view(text.data(), static_cast<std::size_t>(length)), "Linux\n");
    EXPECT_EQ(kernel.read_file("/proc/sys/kernel/ostype", text.data(), 3), 3);
    EXPECT_EQ(kernel.read_file("/proc", text.data(), 1), -EISDIR);
    unsigned mode = 0;
    EXPECT_EQ(kernel.status("/proc", &mode), 0);
    EXPECT_TRUE(S_ISDIR(mode));
}

TEST(LinuxKernel, FilesAreSentWithoutWaitingForTheSocket) {
    Kernel& kernel = linux_kernel();
    const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    ASSERT_GE(file, 0);
    std::array<char, 4096> byte{};
    const iovec piece{byte.data(), 4};
    // The second where the filesystem cannot tell.
    EXPECT_THAT(kernel.read_cached(file, &piece, 1, 0), ::testing::AnyOf(4, -EOPNOTSUPP));
    EXPECT_THAT(kernel.cached_bytes(file, 0, 4096), ::testing::AnyOf(4096, -ENOSYS, -EPERM));
    EXPECT_THAT(kernel.cached_bytes(file, 1, 4000), ::testing::AnyOf(4000, -ENOSYS, -EPERM));
    EXPECT_THAT(kernel.cached_bytes(file, std::uint64_t{1} << 40, 4000), ::testing::AnyOf(0, -ENOSYS, -EPERM));
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    EXPECT_EQ(kernel.send_file(ends[0], file, 1, 3), 3);
    EXPECT_EQ(::read(ends[1], byte.data(), byte.size()), 3);
    EXPECT_EQ(std::string_view(byte.data(), 3), "ELF");
    EXPECT_EQ(kernel.send_file(ends[0], file, std::uint64_t{1} << 40, 3), 0);
    ssize_t sent = 1;
    while (sent > 0) sent = kernel.send_file(ends[0], file, 0, 65536);
    EXPECT_EQ(sent, -EAGAIN);
    EXPECT_EQ(::fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    // Nor does it raise a signal, which would end the process.
    ::close(ends[1]);
    EXPECT_EQ(kernel.send_file(ends[0], file, 0, 3), -EPIPE);
    EXPECT_EQ(kernel.set_nonblocking(ends[0], true), 0);
    EXPECT_EQ(::fcntl(ends[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    EXPECT_EQ(kernel.set_nonblocking(ends[0], false), 0);
    EXPECT_EQ(::fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    for (const int number : {file, ends[0]}) ::close(number);
}

TEST(LinuxKernel, DirectoriesAreReadEntryByEntry) {
    Kernel& kernel = linux_kernel();
    const int directory = ::open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_GE(directory, 0);
    std::array<std::byte, 1024> entries{};
    EXPECT_GT(kernel.read_directory(directory, entries.data(), entries.size()), 0);
    ssize_t got = 1;
    while (got > 0) got = kernel.read_directory(directory, entries.data(), entries.size());
    EXPECT_EQ(got, 0);
    ::close(directory);
}

TEST(LinuxKernel, MemoryIsMappedAdvisedAndUnmapped) {
    Kernel& kernel = linux_kernel();
    int error = 0;
    void* const memory = kernel.map(8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &error);
    ASSERT_NE(memory, nullptr);
    static_cast<char*>(memory)[8191] = 1;
    EXPECT_EQ(kernel.advise(memory, 8192, MADV_DONTFORK), 0);
    EXPECT_EQ(kernel.advise(memory, 8192, -1), -EINVAL);
    EXPECT_EQ(kernel.unmap(memory, 8192), 0);
}

TEST(LinuxKernel, ClocksGoForwardAndPausesLastAtLeastAsLong) {
    Kernel& kernel = linux_kernel();
    const std::uint64_t before = kernel.monotonic_ns();
    kernel.pause_ns(2'000'000);
    EXPECT_GE(kernel.monotonic_ns() - before, 2'000'000u);
    // 2020 in nanoseconds.
    EXPECT_GT(kernel.realtime_ns(), 1'577'836'800'000'000'000u);
}

TEST(LinuxKernel, RandomFillsEverything) {
    std::array<unsigned char, 1024> first{};
    std::array<unsigned char, 1024> second{};
    EXPECT_EQ(linux_kernel().random(first.data(), first.size()), 0);
    EXPECT_EQ(linux_kernel().random(second.data(), second.size()), 0);
    EXPECT_NE(first, second);
    EXPECT_EQ(linux_kernel().random(nullptr, 16), -EFAULT);
}

TEST(LinuxKernel, EventDescriptorsCount) {
    Kernel& kernel = linux_kernel();
    const Descriptor event(kernel.event_descriptor(3, EFD_CLOEXEC | EFD_NONBLOCK));
    std::uint64_t value = 4;
    EXPECT_EQ(kernel.write(event.number(), &value, sizeof(value)), 8);
    EXPECT_EQ(kernel.read(event.number(), &value, sizeof(value)), 8);
    EXPECT_EQ(value, 7u);
    EXPECT_EQ(kernel.read(event.number(), &value, sizeof(value)), -EAGAIN);
}

TEST(LinuxKernel, BlockedSignalsArriveAtTheDescriptor) {
    Kernel& kernel = linux_kernel();
    sigset_t signals;
    sigset_t old;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    ASSERT_EQ(kernel.block_signals(&signals, &old), 0);
    const Descriptor descriptor(kernel.signal_descriptor(&signals));
    ASSERT_GE(descriptor.number(), 0);
    EXPECT_NE(::fcntl(descriptor.number(), F_GETFD) & FD_CLOEXEC, 0);
    std::array<std::byte, 128> information{};
    EXPECT_EQ(kernel.read(descriptor.number(), information.data(), information.size()), -EAGAIN);
    ::pthread_kill(::pthread_self(), SIGUSR1);
    EXPECT_EQ(kernel.read(descriptor.number(), information.data(), information.size()), 128);
    EXPECT_EQ(kernel.restore_signals(&old), 0);
    sigset_t now;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
    EXPECT_EQ(sigismember(&now, SIGUSR1), 0);
}

TEST(LinuxKernel, ThreadsHaveNamesIdentitiesAndPlaces) {
    Kernel& kernel = linux_kernel();
    std::array<char, 32> name{};
    std::uint64_t identity = 0;
    int placed = -1;
    cpu_set_t allowed;
    ASSERT_EQ(kernel.affinity(&allowed, sizeof(allowed)), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed)) {
        ++cpu;
    }
    const auto thread = kernel.start_thread("a-name-of-more-than-15-bytes", [&] {
        ::pthread_getname_np(::pthread_self(), name.data(), name.size());
        identity = kernel.thread_identity();
        placed = kernel.set_affinity(cpu);
        cpu_set_t own;
        EXPECT_EQ(kernel.affinity(&own, sizeof(own)), 0);
        EXPECT_EQ(CPU_COUNT(&own), 1);
    });
    thread->join();
    EXPECT_STREQ(name.data(), "a-name-of-more-");
    EXPECT_NE(identity, kernel.thread_identity());
    EXPECT_EQ(placed, 0);
}

TEST(LinuxKernel, HandleThatWasNotJoinedJoins) {
    std::atomic<bool> ended = false;
    {
        const auto thread = linux_kernel().start_thread("short", [&] { ended = true; });
    }
    EXPECT_TRUE(ended);
}

TEST(LinuxKernel, LimitsAreCountsOrNone) {
    EXPECT_TRUE(linux_kernel().limit_descriptors() == -1 || linux_kernel().limit_descriptors() > 0);
    EXPECT_GE(linux_kernel().limit_locked_memory(), -1);
}

TEST(ForwardingKernel, FailsExactlyTheChosenCalls) {
    ForwardingKernel kernel;
    kernel.fail(Call::event_descriptor, EMFILE, 2, 1);
    const Descriptor first(kernel.event_descriptor(0, EFD_CLOEXEC));
    EXPECT_GE(first.number(), 0);
    EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), -EMFILE);
    EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), -EMFILE);
    const Descriptor last(kernel.event_descriptor(0, EFD_CLOEXEC));
    EXPECT_GE(last.number(), 0);
    EXPECT_EQ(kernel.calls(Call::event_descriptor), 4u);
    kernel.fail(Call::start_thread, EAGAIN);
    EXPECT_THROW(kernel.start_thread("none", [] {}), std::system_error);
}

TEST(LinuxKernel, FutexWaitsUntilItsWordIsNamed) {
    Kernel& kernel = linux_kernel();
    std::atomic<std::uint32_t> word{0};
    EXPECT_EQ(kernel.futex_wait(word, 1), -EAGAIN);
    EXPECT_EQ(kernel.futex_wake(word, 1), 0);
    std::atomic<bool> seen{false};
    const auto waiter = kernel.start_thread("waiter", [&] {
        while (word.load() == 0) kernel.futex_wait(word, 0);
        seen.store(true);
    });
    word.store(1);
    kernel.futex_wake(word, 1);
    waiter->join();
    EXPECT_TRUE(seen.load());
}

}  // namespace
}  // namespace ferrule
