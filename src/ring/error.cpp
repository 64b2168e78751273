#include <ferrule/ring/error.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>

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

std::string permission_advice(Kernel& kernel) {
    std::array<char, 16> value{};
    const ssize_t length = kernel.read_file("/proc/sys/kernel/io_uring_disabled", value.data(), value.size() - 1);
    if (length <= 0) {
        return "; a seccomp filter forbids io_uring (containers: Docker's default profile does; allow io_uring_setup, "
               "io_uring_enter "
               "and io_uring_register, or run with --security-opt seccomp=unconfined), or the sysctl "
               "kernel.io_uring_disabled "
               "does, which cannot be read here";
    }
    if (value[0] == '1') {
        return "; the sysctl kernel.io_uring_disabled is 1: only processes with CAP_SYS_ADMIN or in the group of "
               "kernel.io_uring_group "
               "may use io_uring. Set it to 0, or join that group (a seccomp filter can forbid it as well)";
    }
    if (value[0] != '0') {
        return "; the sysctl kernel.io_uring_disabled is 2: nobody may use io_uring. Set it to 0 (a seccomp filter can "
               "forbid it as "
               "well)";
    }
    return "; the sysctl kernel.io_uring_disabled is 0, so a seccomp filter or a security module forbids io_uring "
           "(containers: Docker's "
           "default profile does; allow io_uring_setup, io_uring_enter and io_uring_register, or run with "
           "--security-opt seccomp=unconfined)";
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
            message +=
                "; this kernel was built without io_uring, or a seccomp filter hides it. Linux 6.1 or newer is needed";
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
