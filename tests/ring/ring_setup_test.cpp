#include <ferrule/ring/ring.hpp>

#include "support/forwarding_kernel.hpp"
#include "support/ring_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule {
namespace {

using ferrule_test::Call;
using ferrule_test::ForwardingKernel;
using ferrule_test::make_ring;
using testing::AllOf;
using testing::HasSubstr;

/// Knows no setup flag of this set, as an older kernel.
class OlderKernel final : public ForwardingKernel {
public:
    explicit OlderKernel(std::uint32_t unknown_flags) : unknown_flags_(unknown_flags) {}

    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        if ((parameters->flags & unknown_flags_) != 0) {
            return -EINVAL;
        }
        return ForwardingKernel::io_uring_setup(entries, parameters);
    }

private:
    std::uint32_t unknown_flags_;
};

/// Has memory for rings of so many entries only.
class PoorKernel final : public ForwardingKernel {
public:
    explicit PoorKernel(std::uint32_t entries_max) : entries_max_(entries_max) {}

    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        return entries > entries_max_ ? -ENOMEM : ForwardingKernel::io_uring_setup(entries, parameters);
    }

private:
    std::uint32_t entries_max_;
};

/// Answers what a sysctl says.
class SysctlKernel final : public ForwardingKernel {
public:
    explicit SysctlKernel(std::string_view value) : value_(value) {}

    ssize_t read_file(const char* path, void* data, std::size_t length) noexcept override {
        EXPECT_STREQ(path, "/proc/sys/kernel/io_uring_disabled");
        if (value_.empty()) {
            return -ENOENT;
        }
        const std::size_t count = std::min(length, value_.size());
        std::memcpy(data, value_.data(), count);
        return static_cast<ssize_t>(count);
    }

private:
    std::string_view value_;
};

Ring::Options sized(std::uint32_t entries) {
    Ring::Options options;
    options.entries = entries;
    return options;
}

TEST(RingSetup, LateMemoryIsRetriedAtFullSize) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, ENOMEM, 3);
    Ring ring = make_ring(kernel, sized(64));
    EXPECT_EQ(ring.entries(), 64u);
    EXPECT_EQ(ring.completion_entries(), 256u);
    // One more where the kernel has to be asked again without NO_SQARRAY.
    EXPECT_EQ(kernel.calls(Call::setup), (ring.setup_flags() & abi::setup_no_submission_array) != 0 ? 4u : 5u);
    EXPECT_EQ(kernel.pauses(), 3u);
}

TEST(RingSetup, LackOfMemoryHalvesAndReportsTheActualSizes) {
    PoorKernel kernel(16);
    Ring ring = make_ring(kernel, sized(128));
    EXPECT_EQ(ring.entries(), 16u);
    EXPECT_EQ(ring.completion_entries(), 64u);
    EXPECT_EQ(ring.available(), 16u);
}

TEST(RingSetup, NoMemoryAtAllIsReportedWithNeedLimitAndRemedy) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, ENOMEM, ForwardingKernel::forever);
    kernel.set_limit_locked_memory(64 * 1024);
    const auto ring = Ring::create(kernel, sized(64));
    ASSERT_FALSE(ring.has_value());
    EXPECT_EQ(ring.error().code, std::errc::not_enough_memory);
    EXPECT_THAT(
        ring.error().message,
        AllOf(HasSubstr("io_uring_setup with 4 submission and 16 completion entries: Cannot allocate memory"),
              HasSubstr("needs about"), HasSubstr("64 KiB"), HasSubstr("ulimit -l"), HasSubstr("LimitMEMLOCK")));
}

TEST(RingSetup, NoMemoryWithoutALimitBlamesTheSystem) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, ENOMEM, ForwardingKernel::forever);
    kernel.set_limit_locked_memory(-1);
    const auto ring = Ring::create(kernel, sized(8));
    ASSERT_FALSE(ring.has_value());
    EXPECT_THAT(ring.error().message, HasSubstr("not limited"));
}

struct Permission {
    std::string_view sysctl;
    std::string_view said;
};

TEST(RingSetup, MissingPermissionNamesSysctlAndSeccomp) {
    const std::vector<Permission> permissions = {{"0\n", "kernel.io_uring_disabled is 0, so a seccomp filter"},
                                                 {"1\n", "kernel.io_uring_disabled is 1"},
                                                 {"2\n", "kernel.io_uring_disabled is 2"},
                                                 {"", "cannot be read"}};
    for (const auto& [sysctl, said] : permissions) {
        SysctlKernel kernel(sysctl);
        kernel.fail(Call::setup, EPERM, ForwardingKernel::forever);
        const auto ring = Ring::create(kernel, sized(8));
        ASSERT_FALSE(ring.has_value());
        EXPECT_EQ(ring.error().code, std::errc::operation_not_permitted);
        EXPECT_THAT(ring.error().message,
                    AllOf(HasSubstr(std::string(said)), HasSubstr("seccomp"), HasSubstr("io_uring_disabled")));
    }
}

TEST(RingSetup, MissingSystemCallIsExplained) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, ENOSYS, ForwardingKernel::forever);
    const auto ring = Ring::create(kernel, sized(8));
    ASSERT_FALSE(ring.has_value());
    EXPECT_EQ(ring.error().code, std::errc::function_not_supported);
    EXPECT_THAT(ring.error().message, AllOf(HasSubstr("without io_uring"), HasSubstr("6.1")));
}

TEST(RingSetup, MissingDescriptorsAreExplained) {
    ForwardingKernel kernel;
    kernel.fail(Call::setup, EMFILE, ForwardingKernel::forever);
    const auto ring = Ring::create(kernel, sized(8));
    ASSERT_FALSE(ring.has_value());
    EXPECT_THAT(ring.error().message, HasSubstr("ulimit -n"));
}

TEST(RingSetup, KernelBefore6_1IsRefusedByName) {
    OlderKernel kernel(abi::setup_defer_taskrun | abi::setup_no_submission_array);
    const auto ring = Ring::create(kernel, sized(8));
    ASSERT_FALSE(ring.has_value());
    EXPECT_EQ(ring.error().code, std::errc::invalid_argument);
    EXPECT_THAT(ring.error().message, HasSubstr("older than Linux 6.1"));
}

TEST(RingSetup, KernelWithoutNoSubmissionArrayGetsTheArray) {
    OlderKernel kernel(abi::setup_no_submission_array);
    Ring ring = make_ring(kernel, sized(4));
    EXPECT_EQ(ring.setup_flags() & abi::setup_no_submission_array, 0u);
    for (std::uint64_t number = 0; number != 11; ++number) {
        ferrule_test::prepare_nop(ring.entry(), number);
    }
    ASSERT_TRUE(ring.submit_and_wait(11).has_value());
    std::uint64_t expected = 0;
    ring.for_each_completion([&](const abi::Completion& completion) { EXPECT_EQ(completion.user_data, expected++); });
    EXPECT_EQ(expected, 11u);
    EXPECT_EQ(ring.dropped_entries(), 0u);
}

TEST(RingSetup, EveryOptionOffIsAPlainRing) {
    Ring::Options options;
    options.entries = 8;
    options.single_issuer = options.defer_taskrun = options.taskrun_flag = options.submit_all = options.clamp = false;
    options.no_sqarray = options.register_ring_descriptor = options.no_iowait = false;
    Ring ring = make_ring(linux_kernel(), options);
    EXPECT_EQ(ring.setup_flags(), abi::setup_completion_size);
    EXPECT_FALSE(ring.uses_registered_descriptor());
    ferrule_test::prepare_nop(ring.entry(), 1);
    EXPECT_EQ(ring.enter(1, 1'000'000'000), 1);
    EXPECT_EQ(ring.ready(), 1u);
}

TEST(RingSetup, ClampReportsTheActualSizes) {
    ForwardingKernel kernel;
    Ring ring = make_ring(kernel, sized(1u << 20));
    EXPECT_LE(ring.entries(), 32768u);
    EXPECT_LE(ring.completion_entries(), 65536u);
    EXPECT_EQ(ring.available(), ring.entries());
}

TEST(RingSetup, TooLargeWithoutClampIsRefused) {
    Ring::Options options = sized(1u << 20);
    options.clamp = false;
    const auto ring = Ring::create(linux_kernel(), options);
    ASSERT_FALSE(ring.has_value());
    EXPECT_EQ(ring.error().code, std::errc::invalid_argument);
}

TEST(RingSetup, FailureAtEachPointLeavesNothingBehind) {
    for (const Call call : {Call::map, Call::advise}) {
        for (std::uint64_t point = 0; point != 2; ++point) {
            ForwardingKernel kernel;
            kernel.fail(call, ENOMEM, 1, point);
            const auto ring = Ring::create(kernel, sized(8));
            ASSERT_FALSE(ring.has_value());
            EXPECT_EQ(ring.error().code, std::errc::not_enough_memory);
            EXPECT_EQ(kernel.calls(Call::close), 1u);
            EXPECT_EQ(kernel.calls(Call::unmap), call == Call::map ? point : 2u);
        }
    }
}

TEST(RingSetup, RingWorksWithoutARegisteredDescriptor) {
    ForwardingKernel kernel;
    kernel.fail_registration(abi::register_ring_descriptors, EBUSY);
    Ring ring = make_ring(kernel, sized(8));
    EXPECT_FALSE(ring.uses_registered_descriptor());
    ferrule_test::prepare_nop(ring.entry(), 1);
    EXPECT_EQ(ring.enter(1, Ring::no_timeout), 1);
}

TEST(RingSetup, EnableErrorIsReturned) {
    ForwardingKernel kernel;
    Ring::Options options = sized(8);
    options.start_disabled = true;
    Ring ring = make_ring(kernel, options);
    kernel.fail_registration(abi::register_enable_rings, EACCES);
    EXPECT_EQ(ring.enable().error(), std::errc::permission_denied);
    EXPECT_TRUE(ring.enable().has_value());
}

TEST(EnterErrors, EachErrnoOfEnterHasItsOwnMeaning) {
    std::vector<std::string_view> meanings;
    for (const int error :
         {EAGAIN, EBUSY, EINTR, ETIME, EEXIST, EBADFD, EBADF, EOPNOTSUPP, ENXIO, EFAULT, EINVAL, EOWNERDEAD}) {
        const std::string_view meaning = explain_enter_failure(error);
        EXPECT_EQ(std::count(meanings.begin(), meanings.end(), meaning), 0) << meaning;
        meanings.push_back(meaning);
    }
    EXPECT_EQ(explain_enter_failure(ENOTDIR), "not an error of io_uring_enter");
}

}  // namespace
}  // namespace ferrule
