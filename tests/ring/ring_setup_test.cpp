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
using testing::Not;

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

/// Answers what the files say that tell who forbids io_uring; an empty text is a file that is not there.
class ForbiddingKernel final : public ForwardingKernel {
public:
    ForbiddingKernel(std::string_view sysctl, std::string_view status) : sysctl_(sysctl), status_(status) {}

    ssize_t read_file(const char* path, void* data, std::size_t length) noexcept override {
        const bool is_sysctl = std::string_view(path) == "/proc/sys/kernel/io_uring_disabled";
        EXPECT_TRUE(is_sysctl || std::string_view(path) == "/proc/self/status") << path;
        const std::string_view text = is_sysctl ? sysctl_ : status_;
        if (text.empty()) {
            return -ENOENT;
        }
        const std::size_t count = std::min(length, text.size());
        std::memcpy(data, text.data(), count);
        return static_cast<ssize_t>(count);
    }

private:
    std::string_view sysctl_;
    std::string_view status_;
};

constexpr std::string_view no_file;
constexpr std::string_view no_filter = "Name:\tserver\nSeccomp:\t0\nSeccomp_filters:\t0\n";
constexpr std::string_view filter = "Name:\tserver\nSeccomp:\t2\nSeccomp_filters:\t1\n";

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

std::string failure_with(Kernel& kernel, std::errc code) {
    const auto ring = Ring::create(kernel, sized(8));
    if (ring) return "a ring";
    EXPECT_EQ(ring.error().code, code);
    return ring.error().message;
}

struct Forbidden {
    std::string_view sysctl;
    std::string_view status;
    std::vector<std::string> said;
    std::string not_said;
};

TEST(RingSetup, MissingPermissionNamesWhoForbidsItAndTheRemedy) {
    const std::vector<Forbidden> cases = {
        {"1\n",
         no_filter,
         {"io_uring_disabled is 1", "io_uring_group", "sysctl kernel.io_uring_disabled=0"},
         "seccomp"},
        {"2\n", no_filter, {"io_uring_disabled is 2", "nobody", "sysctl kernel.io_uring_disabled=0"}, "seccomp"},
        {"2\n", filter, {"io_uring_disabled is 2", "a seccomp filter can forbid it as well"}, "SELinux"},
        {"0\n", filter, {"the seccomp filter of this process", "io_uring_register", "seccomp=unconfined"}, "SELinux"},
        {"0\n", no_filter, {"a security module", "there is no seccomp filter"}, "Docker"},
        {no_file, filter, {"the seccomp filter of this process", "io_uring_register"}, "sysctl"},
        {no_file, no_file, {"a seccomp filter or a security module", "kernel.io_uring_disabled", "cannot be read"}, ""},
        {"0\n", "Seccomp", {"a seccomp filter or a security module"}, "cannot be read"}};
    for (const auto& [sysctl, status, said, not_said] : cases) {
        ForbiddingKernel kernel(sysctl, status);
        kernel.fail(Call::setup, EPERM, ForwardingKernel::forever);
        const std::string message = failure_with(kernel, std::errc::operation_not_permitted);
        for (const std::string& words : said) EXPECT_THAT(message, HasSubstr(words));
        if (!not_said.empty()) {
            EXPECT_THAT(message, Not(HasSubstr(not_said)));
        }
    }
}

TEST(RingSetup, MissingSystemCallIsExplained) {
    ForbiddingKernel without(no_file, no_filter);
    without.fail(Call::setup, ENOSYS, ForwardingKernel::forever);
    EXPECT_THAT(failure_with(without, std::errc::function_not_supported),
                AllOf(HasSubstr("without io_uring"), HasSubstr("6.1"), Not(HasSubstr("seccomp"))));
    for (const std::string_view status : {filter, no_file}) {
        ForbiddingKernel hidden(no_file, status);
        hidden.fail(Call::setup, ENOSYS, ForwardingKernel::forever);
        EXPECT_THAT(failure_with(hidden, std::errc::function_not_supported),
                    AllOf(HasSubstr("a seccomp filter hides io_uring"), HasSubstr("Allow io_uring_setup"),
                          HasSubstr("without io_uring")));
    }
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

/// Knows how to leave a wait out of the count, or does not.
class CountingKernel final : public ForwardingKernel {
public:
    explicit CountingKernel(bool knows) : knows_(knows) {}

    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        const int result = ForwardingKernel::io_uring_setup(entries, parameters);
        parameters->features &= ~abi::feature_no_iowait;
        parameters->features |= knows_ ? abi::feature_no_iowait : 0;
        return result;
    }
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        if (min_complete != 0) left_out = (flags & abi::enter_no_iowait) != 0;
        return ForwardingKernel::io_uring_enter(fd, to_submit, min_complete, flags & ~abi::enter_no_iowait, argument,
                                                argument_size);
    }

    bool left_out = false;

private:
    bool knows_;
};

TEST(RingSetup, WaitsAreNotCountedAsIoWaitWhereTheKernelCan) {
    for (const bool knows : {true, false}) {
        CountingKernel kernel(knows);
        Ring::Options options;
        options.entries = 8;
        Ring ring = make_ring(kernel, options);
        EXPECT_EQ(ring.enter(1, 1'000), 0);
        EXPECT_EQ(kernel.left_out, knows);
    }
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
