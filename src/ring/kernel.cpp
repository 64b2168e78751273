#include <ferrule/ring/kernel.hpp>

#include <fcntl.h>
#include <linux/futex.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <utility>

namespace ferrule::inline v0 {

ThreadHandle::~ThreadHandle() = default;
Kernel::~Kernel() = default;

int Kernel::signal_action(int, const struct sigaction*, struct sigaction*) noexcept {
    return -ENOSYS;
}

int Kernel::signal_thread(std::uint64_t, int) noexcept {
    return -ENOSYS;
}

namespace {

template <class Value>
Value or_errno(Value value) noexcept {
    return value < 0 ? static_cast<Value>(-errno) : value;
}

std::uint64_t clock_ns(clockid_t clock) noexcept {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

long soft_limit(int resource) noexcept {
    rlimit limit{};
    if (getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return -1;
    }
    return limit.rlim_cur > static_cast<rlim_t>(LONG_MAX) ? LONG_MAX : static_cast<long>(limit.rlim_cur);
}

/// cachestat(2), which the system's headers may be too old for: its number, the same everywhere, and its arguments.
constexpr long cachestat_number = 451;
struct CachedRange {
    std::uint64_t offset;
    std::uint64_t length;
};
struct CachedPages {
    std::uint64_t cached;
    std::uint64_t dirty;
    std::uint64_t in_writeback;
    std::uint64_t evicted;
    std::uint64_t recently_evicted;
};

/// Keeps SIGPIPE, which sendfile(2) cannot be told not to raise, from this thread.
class PipeSignalHeld {
public:
    PipeSignalHeld() noexcept {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe_, &former_);
    }
    PipeSignalHeld(const PipeSignalHeld&) = delete;
    PipeSignalHeld& operator=(const PipeSignalHeld&) = delete;
    ~PipeSignalHeld() {
        // Where it was blocked before, one that came may wait on as another would.
        if (sigismember(&former_, SIGPIPE) != 0) return;
        if (raised_) {
            const timespec now{};
            while (::sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) {
            }
        }
        ::pthread_sigmask(SIG_SETMASK, &former_, nullptr);
    }
    /// What was sent was all of it: then none was raised.
    void sent_all() noexcept { raised_ = false; }

private:
    bool raised_ = true;  // or may have been
    sigset_t pipe_;
    sigset_t former_;
};

class LinuxThread final : public ThreadHandle {
public:
    LinuxThread(const char* name, std::function<void()> body)
        : thread_([name = std::string(name).substr(0, name_length_max), body = std::move(body)] {
              pthread_setname_np(pthread_self(), name.c_str());
              body();
          }) {}

    void join() override { thread_.join(); }

private:
    // pthread_setname_np(3): 16 bytes with the terminator.
    static constexpr std::size_t name_length_max = 15;

    std::jthread thread_;
};

/// What getaddrinfo(3) says, as an errno. Called right after it.
int error_of_resolving(int code) noexcept {
    switch (code) {
        case EAI_NONAME:
            return -ENOENT;
        case EAI_NODATA:
        case EAI_ADDRFAMILY:
            return -ENODATA;
        case EAI_AGAIN:
            return -EAGAIN;
        case EAI_MEMORY:
            return -ENOMEM;
        case EAI_SYSTEM:
            return -errno;
        default:
            return -EIO;
    }
}

class LinuxKernel final : public Kernel {
public:
    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        return static_cast<int>(or_errno(::syscall(SYS_io_uring_setup, entries, parameters)));
    }
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        return static_cast<int>(
            or_errno(::syscall(SYS_io_uring_enter, fd, to_submit, min_complete, flags, argument, argument_size)));
    }
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        return static_cast<int>(or_errno(::syscall(SYS_io_uring_register, fd, opcode, argument, count)));
    }

    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        void* const address = ::mmap(nullptr, length, protection, flags, fd, static_cast<off_t>(offset));
        if (address == MAP_FAILED) {
            *error = errno;
            return nullptr;
        }
        return address;
    }
    int unmap(void* address, std::size_t length) noexcept override { return or_errno(::munmap(address, length)); }
    int advise(void* address, std::size_t length, int advice) noexcept override {
        return or_errno(::madvise(address, length, advice));
    }

    int socket(int domain, int type, int protocol) noexcept override {
        return or_errno(::socket(domain, type, protocol));
    }
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return or_errno(::bind(fd, address, length));
    }
    int listen(int fd, int backlog) noexcept override { return or_errno(::listen(fd, backlog)); }
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return or_errno(::connect(fd, address, length));
    }
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override {
        return or_errno(::setsockopt(fd, level, name, value, length));
    }
    int get_option(int fd, int level, int name, void* value, socklen_t* length) noexcept override {
        return or_errno(::getsockopt(fd, level, name, value, length));
    }
    int socket_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return or_errno(::getsockname(fd, address, length));
    }
    int peer_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return or_errno(::getpeername(fd, address, length));
    }
    int shutdown(int fd, int how) noexcept override { return or_errno(::shutdown(fd, how)); }
    int close(int fd) noexcept override { return or_errno(::close(fd)); }
    int event_descriptor(unsigned initial, int flags) noexcept override { return or_errno(::eventfd(initial, flags)); }
    ssize_t read(int fd, void* data, std::size_t length) noexcept override {
        return or_errno(::read(fd, data, length));
    }
    ssize_t write(int fd, const void* data, std::size_t length) noexcept override {
        return or_errno(::write(fd, data, length));
    }
    int unlink(const char* path) noexcept override { return or_errno(::unlink(path)); }
    int status(const char* path, unsigned* mode) noexcept override {
        struct stat status {};
        if (::stat(path, &status) != 0) {
            return -errno;
        }
        *mode = status.st_mode;
        return 0;
    }
    int change_mode(const char* path, unsigned mode) noexcept override { return or_errno(::chmod(path, mode)); }
    ssize_t read_file(const char* path, void* data, std::size_t length) noexcept override {
        int fd = -1;
        do {
            fd = ::open(path, O_RDONLY | O_CLOEXEC);
        } while (fd < 0 && errno == EINTR);
        if (fd < 0) {
            return -errno;
        }
        std::size_t done = 0;
        ssize_t result = 0;
        while (done != length) {
            result = ::read(fd, static_cast<char*>(data) + done, length - done);
            if (result < 0 && errno == EINTR) {
                continue;
            }
            if (result <= 0) {
                result = or_errno(result);
                break;
            }
            done += static_cast<std::size_t>(result);
        }
        ::close(fd);
        return result < 0 ? result : static_cast<ssize_t>(done);
    }

    int set_nonblocking(int fd, bool on) noexcept override {
        int value = on ? 1 : 0;
        return or_errno(::ioctl(fd, FIONBIO, &value));
    }
    ssize_t read_directory(int fd, void* entries, std::size_t length) noexcept override {
        return or_errno(static_cast<ssize_t>(::syscall(SYS_getdents64, fd, entries, length)));
    }
    ssize_t read_cached(int fd, const iovec* pieces, int count, std::uint64_t offset) noexcept override {
        return or_errno(::preadv2(fd, pieces, count, static_cast<off_t>(offset), RWF_NOWAIT));
    }
    ssize_t cached_bytes(int fd, std::uint64_t offset, std::size_t length) noexcept override {
        CachedRange range{offset, length};
        CachedPages pages{};
        if (::syscall(cachestat_number, fd, &range, &pages, 0) < 0) return -errno;
        const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        const std::uint64_t touched = (offset + length + page - 1) / page - offset / page;
        if (pages.cached >= touched) return static_cast<ssize_t>(length);
        return static_cast<ssize_t>(std::min<std::uint64_t>(pages.cached * page, length - 1));
    }
    ssize_t send_file(int socket, int file, std::uint64_t offset, std::size_t length) noexcept override {
        // A flag of the descriptor decides whether it waits, and no argument does. Nothing else of this thread's ring
        // runs meanwhile, so nobody sees the flag.
        if (const int result = set_nonblocking(socket, true); result < 0) return result;
        PipeSignalHeld held;
        auto from = static_cast<off_t>(offset);
        const ssize_t sent = or_errno(::sendfile(socket, file, &from, length));
        if (sent == static_cast<ssize_t>(length)) held.sent_all();
        set_nonblocking(socket, false);
        return sent;
    }
    int resolve_name(const char* name, sockaddr_storage* addresses, std::size_t capacity) noexcept override {
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;  // else each address comes once for each kind of socket
        addrinfo* found = nullptr;
        if (const int failed = ::getaddrinfo(name, nullptr, &hints, &found); failed != 0) {
            return error_of_resolving(failed);
        }
        std::size_t count = 0;
        for (const addrinfo* entry = found; entry != nullptr && count != capacity; entry = entry->ai_next) {
            if (entry->ai_addrlen <= sizeof *addresses) {
                std::memcpy(&addresses[count++], entry->ai_addr, entry->ai_addrlen);
            }
        }
        ::freeaddrinfo(found);
        return static_cast<int>(count);
    }

    int signal_descriptor(const sigset_t* signals) noexcept override {
        return or_errno(::signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    int block_signals(const sigset_t* signals, sigset_t* old) noexcept override {
        return -::pthread_sigmask(SIG_BLOCK, signals, old);
    }
    int restore_signals(const sigset_t* old) noexcept override { return -::pthread_sigmask(SIG_SETMASK, old, nullptr); }
    int signal_action(int signal, const struct sigaction* action, struct sigaction* old) noexcept override {
        return or_errno(::sigaction(signal, action, old));
    }
    int signal_thread(std::uint64_t thread, int signal) noexcept override {
        return static_cast<int>(or_errno(::syscall(SYS_tgkill, ::getpid(), static_cast<pid_t>(thread), signal)));
    }

    std::uint64_t monotonic_ns() noexcept override { return clock_ns(CLOCK_MONOTONIC); }
    std::uint64_t realtime_ns() noexcept override { return clock_ns(CLOCK_REALTIME); }
    void pause_ns(std::uint64_t duration_ns) noexcept override {
        timespec left{static_cast<time_t>(duration_ns / 1'000'000'000), static_cast<long>(duration_ns % 1'000'000'000)};
        while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
    }
    int random(void* data, std::size_t length) noexcept override {
        std::size_t done = 0;
        while (done != length) {
            const ssize_t result = ::getrandom(static_cast<char*>(data) + done, length - done, 0);
            if (result < 0 && errno != EINTR) {
                return -errno;
            }
            done += result > 0 ? static_cast<std::size_t>(result) : 0;
        }
        return 0;
    }

    long limit_descriptors() noexcept override { return soft_limit(RLIMIT_NOFILE); }
    long limit_locked_memory() noexcept override { return soft_limit(RLIMIT_MEMLOCK); }

    std::unique_ptr<ThreadHandle> start_thread(const char* name, std::function<void()> body) override {
        return std::make_unique<LinuxThread>(name, std::move(body));
    }
    std::uint64_t thread_identity() noexcept override { return static_cast<std::uint64_t>(::gettid()); }
    int set_affinity(int cpu) noexcept override {
        if (cpu < 0 || cpu >= CPU_SETSIZE) {
            return -EINVAL;
        }
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(static_cast<std::size_t>(cpu), &cpus);
        return or_errno(::sched_setaffinity(0, sizeof(cpus), &cpus));
    }
    int affinity(cpu_set_t* cpus, std::size_t size) noexcept override {
        return or_errno(::sched_getaffinity(0, size, cpus));
    }
    int prefer_memory_node(int node) noexcept override {
        // <linux/mempolicy.h>, which is not everywhere.
        constexpr int policy_default = 0;
        constexpr int policy_preferred = 1;
        constexpr int bits_per_word = 8 * sizeof(unsigned long);
        std::array<unsigned long, 1024 / bits_per_word> nodes{};
        if (node >= 1024) {
            return -EINVAL;
        }
        if (node < 0) {
            return static_cast<int>(or_errno(::syscall(SYS_set_mempolicy, policy_default, nullptr, 0)));
        }
        nodes[static_cast<std::size_t>(node / bits_per_word)] = 1ul << (node % bits_per_word);
        // The kernel reads one bit less than it is told.
        constexpr unsigned long bits = 1024 + 1;
        return static_cast<int>(or_errno(::syscall(SYS_set_mempolicy, policy_preferred, nodes.data(), bits)));
    }

    ssize_t environment(const char* name, char* value, std::size_t length) noexcept override {
        const char* const found = ::getenv(name);
        if (found == nullptr) return -ENOENT;
        const std::size_t size = std::strlen(found);
        std::memcpy(value, found, std::min(size, length));
        return static_cast<ssize_t>(size);
    }
    int clear_environment(const char* name) noexcept override { return or_errno(::unsetenv(name)); }
    int process_identity() noexcept override { return static_cast<int>(::getpid()); }
    unsigned user_identity() noexcept override { return ::geteuid(); }
    int set_close_on_exec(int fd) noexcept override { return or_errno(::ioctl(fd, FIOCLEX)); }

    int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept override {
        return static_cast<int>(
            or_errno(::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0)));
    }
    int futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept override {
        return static_cast<int>(or_errno(::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0)));
    }
};

// No state, so sharing it between engines and threads is harmless.
constinit LinuxKernel the_linux_kernel;

}  // namespace

Kernel& linux_kernel() noexcept {
    return the_linux_kernel;
}

}  // namespace ferrule::inline v0
