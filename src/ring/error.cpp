#include <ferrule/ring/error.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>

namespace ferrule::inline v0 {

namespace {

std::string kibibytes(std::uint64_t bytes) {
    constexpr std::uint64_t kibibyte = 1024;
    return std::to_string((bytes + kibibyte - 1) / kibibyte) + " KiB";
}

std::string memory_advice(Kernel& kernel, std::uint64_t bytes_needed) {
    const long limit = kernel.limit_locked_memory();
    std::string text;
    if (bytes_needed != 0) {
        text += "; it needs about " + kibibytes(bytes_needed) + " of locked memory";
    }
    if (limit < 0) {
        return text +
               "; locked memory is not limited for this process (ulimit -l), so the system or its cgroup is out of "
               "memory";
    }
    text += "; this user may lock " + kibibytes(static_cast<std::uint64_t>(limit)) +
            " in all of its rings and buffer rings together, and rings closed a moment ago still count. Raise the "
            "limit (ulimit -l; LimitMEMLOCK= in a systemd "
            "unit; memlock in /etc/security/limits.conf) or ask for fewer entries or reactors";
    return text;
}

enum class SeccompFilter { absent, active, unknown };

SeccompFilter seccomp_filter(Kernel& kernel) {
    constexpr std::string_view field = "\nSeccomp:\t";
    constexpr char filtering = '2';
    // The field is in the middle of about 1.5 KiB.
    std::array<char, 4096> text{};
    const ssize_t length = kernel.read_file("/proc/self/status", text.data(), text.size());
    const std::string_view status(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    const std::size_t found = status.find(field);
    if (found == status.npos || found + field.size() == status.size()) {
        return SeccompFilter::unknown;
    }
    return status[found + field.size()] == filtering ? SeccompFilter::active : SeccompFilter::absent;
}

constexpr const char* seccomp_remedy =
    "Allow io_uring_setup, io_uring_enter and io_uring_register in the container's profile (docker run --security-opt "
    "seccomp=PROFILE.json; docs/kernels.md of Ferrule says more), or try it out with --security-opt seccomp=unconfined";

std::string permission_advice(Kernel& kernel) {
    std::array<char, 16> value{};
    const ssize_t length = kernel.read_file("/proc/sys/kernel/io_uring_disabled", value.data(), value.size() - 1);
    const SeccompFilter filter = seccomp_filter(kernel);
    if (length > 0 && value[0] != '0') {
        std::string text =
            value[0] == '1'
                ? "; the sysctl kernel.io_uring_disabled is 1: only processes with CAP_SYS_ADMIN or in the group of "
                  "kernel.io_uring_group may use io_uring. Join that group, or run: sudo sysctl "
                  "kernel.io_uring_disabled=0"
                : "; the sysctl kernel.io_uring_disabled is 2: nobody may use io_uring. Run: sudo sysctl "
                  "kernel.io_uring_disabled=0";
        return text + (filter == SeccompFilter::absent ? "" : " (a seccomp filter can forbid it as well)");
    }
    std::string text = length > 0 ? "; the sysctl kernel.io_uring_disabled is 0, so " : "; ";
    switch (filter) {
        case SeccompFilter::active:
            text +=
                "the seccomp filter of this process forbids io_uring, as the default profiles of Docker and "
                "containerd do. ";
            return text + seccomp_remedy;
        case SeccompFilter::absent:
            return text +
                   "a security module (SELinux, AppArmor) or a sandbox forbids io_uring; there is no seccomp "
                   "filter. Its log names the rule";
        case SeccompFilter::unknown:
            break;
    }
    text += "a seccomp filter or a security module forbids io_uring";
    if (length <= 0) {
        text += ", or the sysctl kernel.io_uring_disabled does, which cannot be read here";
    }
    return text + ". In a container: the default profiles of Docker and containerd do. " + seccomp_remedy;
}

std::string absence_advice(Kernel& kernel) {
    std::string text = "; ";
    if (seccomp_filter(kernel) != SeccompFilter::absent) {
        text += "a seccomp filter hides io_uring, as older container runtimes do with calls that they do not know. ";
        text += seccomp_remedy;
        text += ". Or this kernel was built without io_uring";
    } else {
        text += "this kernel was built without io_uring, or a sandbox (gVisor) does not have it";
    }
    return text + ". Linux 6.1 or newer is needed";
}

std::string reason(int error_number) {
    return ": " + system_error(error_number).message();
}

}  // namespace

SetupError explain_setup_failure(Kernel& kernel, int error_number, std::uint32_t entries,
                                 std::uint32_t completion_entries) {
    std::string message = "io_uring_setup with " + std::to_string(entries) + " submission and " +
                          std::to_string(completion_entries) + " completion entries" + reason(error_number);
    switch (error_number) {
        case ENOMEM:
            message +=
                memory_advice(kernel, std::uint64_t{entries} * (sizeof(abi::SubmissionEntry) + sizeof(std::uint32_t)) +
                                          std::uint64_t{completion_entries} * sizeof(abi::Completion));
            break;
        case EPERM:
        case EACCES:
            message += permission_advice(kernel);
            break;
        case ENOSYS:
            message += absence_advice(kernel);
            break;
        case EINVAL:
            message +=
                "; this kernel is older than Linux 6.1 (it does not know DEFER_TASKRUN), or the sizes are beyond its "
                "limits";
            break;
        case EMFILE:
        case ENFILE:
            message += "; no descriptor is left. Raise the limit (ulimit -n; LimitNOFILE= in a systemd unit)";
            break;
        default:
            break;
    }
    return {system_error(error_number), std::move(message)};
}

SetupError explain_registration_failure(Kernel& kernel, int error_number, std::string_view what,
                                        std::uint64_t bytes_needed) {
    std::string message{what};
    message += reason(error_number);
    if (error_number == ENOMEM) {
        message += memory_advice(kernel, bytes_needed);
    } else if (error_number == EPERM || error_number == EACCES) {
        message += permission_advice(kernel);
    } else if (error_number == EEXIST) {
        message += "; it is in use, or the calling thread is not the ring's owner";
    }
    return {system_error(error_number), std::move(message)};
}

std::string_view explain_enter_failure(int error_number) noexcept {
    switch (error_number) {
        case EAGAIN:
            return "the kernel had no memory for a request; take completions and try again";
        case EBUSY:
            return "completions have overflowed the queue; take completions and try again";
        case EINTR:
            return "a signal came while it waited";
        case ETIME:
            return "the timeout passed";
        case EEXIST:
            return "this thread is not the ring's owner (single issuer)";
        case EBADFD:
            return "the ring is not enabled yet";
        case EBADF:
            return "the ring's descriptor is not open";
        case EOPNOTSUPP:
            return "the descriptor is not a ring";
        case ENXIO:
            return "the ring is being torn down, or no ring is registered at this index";
        case EFAULT:
            return "an argument points to memory that is not the process's";
        case EINVAL:
            return "a flag or an argument is not known to this kernel, or another thread's registered ring descriptor "
                   "was used";
        case EOWNERDEAD:
            return "the kernel's polling thread was killed";
        default:
            return "not an error of io_uring_enter";
    }
}

}  // namespace ferrule::inline v0
