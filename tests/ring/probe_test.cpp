#include <ferrule/ring/probe.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <string>

namespace ferrule {
namespace {

using ferrule_test::Call;
using ferrule_test::capabilities;
using ferrule_test::ForwardingKernel;
using testing::HasSubstr;

/// Answers as Linux 6.1 where the probe asks: fewer features and operations, and unknown flags and registrations
/// refused.
class Kernel6_1 final : public ForwardingKernel {
public:
    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        if (parameters->flags >= abi::setup_no_mmap) {
            return -EINVAL;
        }
        const int result = ForwardingKernel::io_uring_setup(entries, parameters);
        parameters->features &= 0x1fff;
        return result;
    }
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        if (opcode > abi::register_file_alloc_range) {
            return -EINVAL;
        }
        if (opcode == abi::register_buffer_ring && static_cast<abi::BufferRingRegistration*>(argument)->flags != 0) {
            return -EINVAL;
        }
        const int result = ForwardingKernel::io_uring_register(fd, opcode, argument, count);
        if (opcode == abi::register_probe && result >= 0) {
            auto* const probe = static_cast<abi::Probe*>(argument);
            probe->last_op = probe->ops_len = static_cast<std::uint8_t>(abi::Operation::send_message_zero_copy);
            ++probe->ops_len;
        }
        return result;
    }
};

std::size_t open_descriptors() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST(Probe, W12EveryOperationOfLinux6_1IsSupported) {
    const Capabilities found = capabilities();
    for (int number = 0; number <= static_cast<int>(abi::Operation::send_message_zero_copy); ++number) {
        const auto operation = static_cast<abi::Operation>(number);
        EXPECT_TRUE(found.supports(operation)) << name_of(operation);
    }
    EXPECT_FALSE(found.supports(static_cast<abi::Operation>(200)));
    EXPECT_GE(found.last_operation, static_cast<int>(abi::Operation::send_message_zero_copy));
}

TEST(Probe, WhatLinux6_1HasIsFoundByTrial) {
    const Capabilities found = capabilities();
    EXPECT_TRUE(found.receive_multishot);
    EXPECT_TRUE(found.buffer_ring);
    EXPECT_TRUE(found.message_ring);
    EXPECT_TRUE(found.cancel_sync);
    EXPECT_TRUE(found.registered_ring_descriptor);
    EXPECT_TRUE(found.worker_limits);
    EXPECT_EQ(found.features & 0x1fffu, 0x1fffu);
}

TEST(Probe, TrialsAgreeWithWhatTheKernelReports) {
    const Capabilities found = capabilities();
    // Each pair came with one kernel version.
    EXPECT_EQ(found.no_iowait, found.supports(abi::Operation::epoll_wait));
    EXPECT_EQ(found.min_wait, found.incremental_buffers);
    EXPECT_EQ(found.bundles, found.accept_flags);
    EXPECT_EQ(found.message_without_ring, found.resize_rings);
    EXPECT_EQ(found.buffer_ring_status, found.supports(abi::Operation::fixed_descriptor_install));
    EXPECT_EQ(found.socket_commands, found.supports(abi::Operation::futex_wait));
}

TEST(Probe, LeavesNoDescriptorOpen) {
    capabilities();
    const std::size_t before = open_descriptors();
    capabilities();
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Probe, OldKernelIsFoundToBeOld) {
    Kernel6_1 kernel;
    const auto found = probe(kernel);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    EXPECT_EQ(found->last_operation, 48);
    EXPECT_FALSE(found->supports(abi::Operation::read_multishot));
    EXPECT_FALSE(found->no_submission_array);
    EXPECT_FALSE(found->no_iowait);
    EXPECT_FALSE(found->min_wait);
    EXPECT_FALSE(found->bundles);
    EXPECT_FALSE(found->incremental_buffers);
    EXPECT_FALSE(found->buffer_ring_status);
    EXPECT_FALSE(found->message_without_ring);
    EXPECT_FALSE(found->resize_rings);
    EXPECT_FALSE(found->napi_busy_poll);
    EXPECT_TRUE(found->worker_limits);
    EXPECT_TRUE(found->buffer_ring);
    EXPECT_TRUE(found->message_ring);
    EXPECT_THAT(found->describe(), HasSubstr("the last is 48 (send_message_zero_copy)"));
    EXPECT_THAT(found->describe(), HasSubstr("no   incremental buffers         6.12  a buffer per completion"));
}

TEST(Probe, FailsAsTheRingDoes) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, ENOSYS, ForwardingKernel::forever);
    const auto found = probe(kernel);
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().code, std::errc::function_not_supported);
}

TEST(Probe, TrialsThatCannotBeMadeAreNoCapabilities) {
    ForwardingKernel kernel;
    kernel.fail(Call::socket, EMFILE, ForwardingKernel::forever);
    const auto found = probe(kernel);
    ASSERT_TRUE(found.has_value());
    EXPECT_FALSE(found->socket_commands);
    EXPECT_FALSE(found->incremental_buffers);
    EXPECT_TRUE(found->buffer_ring);
}

TEST(Probe, EveryOperationHasAName) {
    for (std::uint32_t number = 0; number != abi::operation_count; ++number) {
        ASSERT_NE(name_of(static_cast<abi::Operation>(number)), nullptr);
    }
    EXPECT_STREQ(name_of(abi::Operation::nop), "nop");
    EXPECT_STREQ(name_of(abi::Operation::message_ring), "message_ring");
    EXPECT_STREQ(name_of(abi::Operation::pipe), "pipe");
    EXPECT_EQ(name_of(static_cast<abi::Operation>(99)), nullptr);
}

TEST(Probe, DescriptionHasALinePerCapability) {
    const std::string table = capabilities().describe();
    for (const char* const name :
         {"multishot receive", "buffer rings", "incremental buffers", "minimum wait", "bundles"}) {
        EXPECT_THAT(table, HasSubstr(name));
    }
}

}  // namespace
}  // namespace ferrule
