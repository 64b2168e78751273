#include <ferrule/ring/ring.hpp>
#include <ferrule/sim/machine.hpp>
#include <ferrule/sim/simulation.hpp>

#include "sim/without_thread_sanitizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::sim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class MachineTest : public ferrule_test::WithoutThreadSanitizer {
protected:
    /// Runs this on a machine, as its only process.
    void on_machine(const std::function<void(Kernel&)>& main, MachineOptions options = {}) {
        machine_ = &simulation_.machine("machine", std::move(options));
        simulation_.process(*machine_, "program", [&] { main(machine_->kernel()); });
        simulation_.run();
    }

    Simulation simulation_;
    Machine* machine_ = nullptr;
};

sigset_t terminations() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    return signals;
}

TEST_F(MachineTest, DescriptorsAreTheLowestThatAreFree) {
    on_machine(
        [](Kernel& kernel) {
            EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), 3);
            EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), 4);
            EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), 5);
            EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), -EMFILE);
            EXPECT_EQ(kernel.limit_descriptors(), 6);
            EXPECT_EQ(kernel.close(4), 0);
            EXPECT_EQ(kernel.event_descriptor(0, EFD_CLOEXEC), 4);
            for (int fd = 3; fd < 6; ++fd) EXPECT_EQ(kernel.close(fd), 0);
        },
        {.descriptor_limit = 6});
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, EventDescriptorsCountAndBlock) {
    on_machine([](Kernel& kernel) {
        const int fd = kernel.event_descriptor(2, EFD_CLOEXEC);
        std::uint64_t value = 0;
        EXPECT_EQ(kernel.read(fd, &value, 4), -EINVAL);
        EXPECT_EQ(kernel.read(fd, &value, sizeof value), 8);
        EXPECT_EQ(value, 2u);
        const auto writer = kernel.start_thread("writer", [&] {
            kernel.pause_ns(1'000'000'000);
            const std::uint64_t three = 3;
            EXPECT_EQ(kernel.write(fd, &three, sizeof three), 8);
            EXPECT_EQ(kernel.write(fd, &three, sizeof three), 8);
        });
        EXPECT_EQ(kernel.read(fd, &value, sizeof value), 8);
        EXPECT_THAT(value, testing::AnyOf(3u, 6u));
        writer->join();
        kernel.close(fd);
        const int other = kernel.event_descriptor(0, EFD_CLOEXEC | EFD_NONBLOCK);
        EXPECT_EQ(kernel.read(other, &value, sizeof value), -EAGAIN);
        kernel.close(other);
    });
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, PausesTakeVirtualTimeAndClocksAgree) {
    on_machine([](Kernel& kernel) {
        const std::uint64_t monotonic = kernel.monotonic_ns();
        const std::uint64_t real = kernel.realtime_ns();
        kernel.pause_ns(86'400'000'000'000 / 2);
        EXPECT_GE(kernel.monotonic_ns(), monotonic + 43'200'000'000'000);
        EXPECT_LT(kernel.monotonic_ns(), monotonic + 43'201'000'000'000);
        EXPECT_GE(kernel.realtime_ns() - real, 43'200'000'000'000u);
    });
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, ThreadsHaveTheirOwnIdentitySignalMaskAndCpus) {
    on_machine(
        [](Kernel& kernel) {
            const sigset_t signals = terminations();
            sigset_t before;
            EXPECT_EQ(kernel.block_signals(&signals, &before), 0);
            EXPECT_EQ(kernel.set_affinity(2), 0);
            EXPECT_EQ(kernel.set_affinity(3), -EINVAL);
            const std::uint64_t main_thread = kernel.thread_identity();
            const auto thread = kernel.start_thread("thread", [&] {
                EXPECT_NE(kernel.thread_identity(), main_thread);
                sigset_t inherited;
                EXPECT_EQ(kernel.block_signals(&signals, &inherited), 0);
                EXPECT_EQ(sigismember(&inherited, SIGTERM), 1);
                cpu_set_t cpus;
                EXPECT_EQ(kernel.affinity(&cpus, sizeof cpus), 0);
                EXPECT_EQ(CPU_COUNT(&cpus), 1);
                EXPECT_TRUE(CPU_ISSET(2, &cpus));
                EXPECT_EQ(kernel.set_affinity(0), 0);
            });
            thread->join();
            EXPECT_EQ(kernel.thread_identity(), main_thread);
            cpu_set_t cpus;
            EXPECT_EQ(kernel.affinity(&cpus, sizeof cpus), 0);
            EXPECT_TRUE(CPU_ISSET(2, &cpus));
            EXPECT_EQ(kernel.restore_signals(&before), 0);
        },
        {.cpus = 3});
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, FutexesWakeThoseWhoWaitAtTheirWord) {
    on_machine([](Kernel& kernel) {
        std::array<std::atomic<std::uint32_t>, 2> words{};
        EXPECT_EQ(kernel.futex_wait(words[0], 1), -EAGAIN);
        EXPECT_EQ(kernel.futex_wake(words[0], 1), 0);
        std::vector<std::unique_ptr<ThreadHandle>> threads;
        std::atomic<int> woken{0};
        for (int index = 0; index < 3; ++index) {
            threads.push_back(kernel.start_thread("waiter", [&] {
                while (words[0].load() == 0) kernel.futex_wait(words[0], 0);
                ++woken;
            }));
        }
        kernel.pause_ns(1'000'000);
        words[0] = 1;
        EXPECT_EQ(kernel.futex_wake(words[1], 8), 0);
        EXPECT_EQ(kernel.futex_wake(words[0], 1), 1);
        kernel.pause_ns(1'000'000);
        EXPECT_EQ(woken.load(), 1);
        EXPECT_EQ(kernel.futex_wake(words[0], 8), 2);
        threads.clear();
        EXPECT_EQ(woken.load(), 3);
    });
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, SignalsComeByDescriptorToWhoBlocksThem) {
    std::vector<std::uint32_t> taken;
    on_machine([&](Kernel& kernel) {
        const sigset_t signals = terminations();
        sigset_t before;
        kernel.block_signals(&signals, &before);
        const int fd = kernel.signal_descriptor(&signals);
        signalfd_siginfo information{};
        EXPECT_EQ(kernel.read(fd, &information, sizeof information), -EAGAIN);
        machine_->signal(SIGTERM);
        machine_->signal(SIGTERM);
        machine_->signal(SIGINT);
        while (kernel.read(fd, &information, sizeof information) > 0) taken.push_back(information.ssi_signo);
        kernel.close(fd);
        kernel.restore_signals(&before);
    });
    EXPECT_THAT(taken, ElementsAre(SIGINT, SIGTERM));
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, ASignalThatNobodyWaitsForIsAFinding) {
    on_machine([&](Kernel&) { machine_->signal(SIGTERM); });
    EXPECT_THAT(simulation_.findings(), ElementsAre(HasSubstr("signal 15 ends the processes of machine")));
}

TEST_F(MachineTest, ASignalThatAThreadDoesNotBlockIsAFinding) {
    on_machine([&](Kernel& kernel) {
        const auto thread = kernel.start_thread("careless", [&] { kernel.pause_ns(1'000'000); });
        const sigset_t signals = terminations();
        kernel.block_signals(&signals, nullptr);
        const int fd = kernel.signal_descriptor(&signals);
        machine_->signal(SIGTERM);
        kernel.close(fd);
    });
    EXPECT_THAT(simulation_.findings(), testing::Contains(HasSubstr("its thread careless does not block it")));
}

TEST_F(MachineTest, FilesAreThoseThatItWasGiven) {
    on_machine(
        [](Kernel& kernel) {
            std::array<char, 8> text{};
            EXPECT_EQ(kernel.read_file("/etc/hosts", text.data(), text.size()), 5);
            EXPECT_STREQ(text.data(), "hosts");
            EXPECT_EQ(kernel.read_file("/etc/hosts", text.data(), 2), 2);
            EXPECT_EQ(kernel.read_file("/etc/other", text.data(), text.size()), -ENOENT);
        },
        {.files = {{"/etc/hosts", "hosts"}}});
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, MemoryIsMappedAndMustBeGivenBack) {
    on_machine([](Kernel& kernel) {
        int error = 0;
        void* const memory = kernel.map(8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &error);
        ASSERT_NE(memory, nullptr);
        std::memset(memory, 1, 8192);
        EXPECT_EQ(kernel.advise(memory, 8192, MADV_DONTFORK), 0);
        EXPECT_EQ(kernel.unmap(memory, 8192), 0);
        EXPECT_EQ(kernel.map(8192, PROT_READ, MAP_SHARED, 99, 0, &error), nullptr);
        EXPECT_EQ(error, EBADF);
    });
    EXPECT_THAT(simulation_.findings(), ElementsAre());
}

TEST_F(MachineTest, WhatIsLeftAtTheEndIsAFindingEach) {
    on_machine([](Kernel& kernel) {
        int error = 0;
        kernel.event_descriptor(0, EFD_CLOEXEC);
        kernel.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        kernel.map(4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &error);
        abi::Parameters parameters{};
        kernel.io_uring_setup(4, &parameters);
    });
    EXPECT_THAT(simulation_.findings(),
                ElementsAre(HasSubstr("machine: descriptor 3 is still open: an event descriptor"),
                            HasSubstr("machine: descriptor 4 is still open: a socket"),
                            HasSubstr("machine: descriptor 5 is still open: a ring"),
                            HasSubstr("machine: a mapping of 4096 bytes is left"),
                            HasSubstr("machine: 8192 bytes of memory are still locked")));
}

TEST_F(MachineTest, ClosingWhatIsNotOpenIsAFinding) {
    on_machine([](Kernel& kernel) { EXPECT_EQ(kernel.close(7), -EBADF); });
    EXPECT_THAT(simulation_.findings(), ElementsAre(HasSubstr("close of descriptor 7, which is not open")));
}

TEST_F(MachineTest, RingsWorkByTheirRegisteredDescriptor) {
    on_machine([](Kernel& kernel) {
        auto ring = Ring::create(kernel, {.entries = 8});
        ASSERT_TRUE(ring) << ring.error().message;
        EXPECT_TRUE(ring->uses_registered_descriptor());
        for (std::uint64_t number = 0; number < 20; ++number) {
            abi::SubmissionEntry& entry = ring->entry();
            entry.opcode = abi::Operation::nop;
            entry.user_data = number;
            ASSERT_GE(ring->enter(1, 1'000'000'000), 0);
            const auto completion = ring->try_completion();
            ASSERT_TRUE(completion);
            EXPECT_EQ(completion->user_data, number);
            EXPECT_EQ(completion->result, 0);
        }
    });
    EXPECT_THAT(simulation_.findings(), ElementsAre());
    EXPECT_EQ(simulation_.operations(), 20u);
}

TEST_F(MachineTest, RandomBytesComeFromTheSeed) {
    const auto drawn = [](std::uint64_t seed) {
        Simulation simulation{{.seed = seed}};
        Machine& machine = simulation.machine("machine");
        std::array<unsigned char, 13> bytes{};
        simulation.process(machine, "program",
                           [&] { EXPECT_EQ(machine.kernel().random(bytes.data(), bytes.size()), 0); });
        EXPECT_TRUE(simulation.run());
        return bytes;
    };
    EXPECT_EQ(drawn(3), drawn(3));
    EXPECT_NE(drawn(3), drawn(4));
}

}  // namespace
}  // namespace ferrule::sim
