// Runs a program without io_uring, as under the seccomp filter of a container runtime:
//
//     forbid EPERM|ENOSYS PROGRAM [ARGUMENT...]
//
// The default profiles of Docker and containerd answer io_uring's calls with EPERM, and older runtimes, which do not
// know the calls, with ENOSYS. Exit status 77 where no filter can be installed; 126 where the program cannot be run.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

namespace {

#if defined(__x86_64__)
constexpr unsigned architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned architecture = AUDIT_ARCH_AARCH64;
#endif

// The three calls have neighbouring numbers, the same on every architecture.
static_assert(SYS_io_uring_enter == SYS_io_uring_setup + 1 && SYS_io_uring_register == SYS_io_uring_setup + 2);

bool forbid(unsigned error_number) {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error_number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof(filter) / sizeof(filter[0]), filter};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

int main(int count, char** words) {
    constexpr int skipped = 77;
    constexpr int cannot_run = 126;
    const bool hidden = count > 2 && std::strcmp(words[1], "ENOSYS") == 0;
    if (count < 3 || (!hidden && std::strcmp(words[1], "EPERM") != 0)) {
        std::fprintf(stderr, "usage: forbid EPERM|ENOSYS PROGRAM [ARGUMENT...]\n");
        return cannot_run;
    }
    if (!forbid(hidden ? ENOSYS : EPERM)) {
        std::printf("SKIPPED: no seccomp filter can be installed here: %s\n", std::strerror(errno));
        return skipped;
    }
    ::execvp(words[2], words + 2);
    std::fprintf(stderr, "forbid: %s: %s\n", words[2], std::strerror(errno));
    return cannot_run;
}
