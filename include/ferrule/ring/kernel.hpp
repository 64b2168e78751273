#pragma once

#include <ferrule/ring/abi.hpp>
#include <ferrule/version.hpp>

#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace ferrule::inline v0 {

/// A thread that Kernel::start_thread started.
class FERRULE_EXPORT ThreadHandle {
public:
    virtual ~ThreadHandle();

    /// Waits for the thread's end. Once; any thread but the one waited for. Destroying a handle that was not joined
    /// joins it.
    virtual void join() = 0;
};

/// The seam: everything that Ferrule asks of the system and that is not computing. The real kernel and the simulated
/// one are behind it; a test puts one that fails where it wants. Virtual once per system call, never per entry or
/// completion.
///
/// Every function returns its value, or -errno. EINTR is returned, not hidden, unless the function says otherwise. All
/// may be called from any thread at once; what they are called on has its own rules (a single-issuer ring belongs to
/// one thread).
class FERRULE_EXPORT Kernel {
public:
    virtual ~Kernel();

    /// io_uring_setup(2): a ring's descriptor (close-on-exec always).
    virtual int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept = 0;
    /// io_uring_enter2(2): entries consumed.
    virtual int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                               const void* argument, std::size_t argument_size) noexcept = 0;
    /// io_uring_register(2).
    virtual int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept = 0;

    /// mmap(2): the address, or null with the error (positive errno) in `*error`. `fd` -1 with MAP_ANONYMOUS for plain
    /// memory.
    virtual void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
                      int* error) noexcept = 0;
    virtual int unmap(void* address, std::size_t length) noexcept = 0;
    /// madvise(2).
    virtual int advise(void* address, std::size_t length, int advice) noexcept = 0;

    /// socket(2); the caller passes SOCK_CLOEXEC in `type`.
    virtual int socket(int domain, int type, int protocol) noexcept = 0;
    virtual int bind(int fd, const sockaddr* address, socklen_t length) noexcept = 0;
    virtual int listen(int fd, int backlog) noexcept = 0;
    virtual int connect(int fd, const sockaddr* address, socklen_t length) noexcept = 0;
    virtual int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept = 0;
    virtual int get_option(int fd, int level, int name, void* value, socklen_t* length) noexcept = 0;
    virtual int socket_name(int fd, sockaddr* address, socklen_t* length) noexcept = 0;
    virtual int peer_name(int fd, sockaddr* address, socklen_t* length) noexcept = 0;
    virtual int shutdown(int fd, int how) noexcept = 0;
    /// close(2). The descriptor is gone whatever it returns.
    virtual int close(int fd) noexcept = 0;
    /// eventfd(2).
    virtual int event_descriptor(unsigned initial, int flags) noexcept = 0;
    virtual ssize_t read(int fd, void* data, std::size_t length) noexcept = 0;
    virtual ssize_t write(int fd, const void* data, std::size_t length) noexcept = 0;
    virtual int unlink(const char* path) noexcept = 0;
    /// stat(2): st_mode in `*mode`.
    virtual int status(const char* path, unsigned* mode) noexcept = 0;
    /// chmod(2): the permission bits.
    virtual int change_mode(const char* path, unsigned mode) noexcept = 0;
    /// A whole small file (resolv.conf, a sysctl): bytes read, at most `length`. Hides EINTR.
    virtual ssize_t read_file(const char* path, void* data, std::size_t length) noexcept = 0;
    /// getaddrinfo(3) of a name: how many addresses, without a port, at most `capacity`, in the order in which the
    /// system would try them. -ENOENT: no such name; -ENODATA: no address of it; -EAGAIN: not now; -EIO: it cannot be
    /// found out. Blocks, for seconds where servers do not answer: never on a reactor's thread.
    virtual int resolve_name(const char* name, sockaddr_storage* addresses, std::size_t capacity) noexcept = 0;

    /// FIONBIO of ioctl(2): sets or clears O_NONBLOCK.
    virtual int set_nonblocking(int fd, bool on) noexcept = 0;
    /// getdents64(2): bytes of entries, 0 at the end of the directory. May wait for the disk.
    virtual ssize_t read_directory(int fd, void* entries, std::size_t length) noexcept = 0;
    /// preadv2(2) with RWF_NOWAIT: bytes up to where it would wait for the disk; -EAGAIN when that is at once.
    virtual ssize_t read_cached(int fd, const iovec* pieces, int count, std::uint64_t offset) noexcept = 0;
    /// cachestat(2): `length` when every page of the range is in the page cache, and otherwise less: the bytes of those
    /// that are. What is behind the end of the file is not. -ENOSYS before 6.5; -EPERM, on newer kernels, for a file
    /// that the process neither owns nor may write.
    virtual ssize_t cached_bytes(int fd, std::uint64_t offset, std::size_t length) noexcept = 0;
    /// sendfile(2), but it never waits for room in the socket (-EAGAIN when there is none), and raises no signal when
    /// the peer is gone (-EPIPE). For pages that are not cached it waits for the disk. 0 at the end of the file.
    virtual ssize_t send_file(int socket, int file, std::uint64_t offset, std::size_t length) noexcept = 0;

    /// signalfd(2), close-on-exec and non-blocking.
    virtual int signal_descriptor(const sigset_t* signals) noexcept = 0;
    /// Blocks signals in the calling thread; what was blocked before in `*old` (may be null).
    virtual int block_signals(const sigset_t* signals, sigset_t* old) noexcept = 0;
    /// Sets the calling thread's signal mask.
    virtual int restore_signals(const sigset_t* old) noexcept = 0;
    /// sigaction(2): the process's action for a signal. -ENOSYS where there are no signals to be handled, as in the
    /// simulated kernel, and unless it is overridden: what needs them does without then.
    virtual int signal_action(int signal, const struct sigaction* action, struct sigaction* old) noexcept;
    /// tgkill(2): sends a signal to one thread of this process, by its `thread_identity`. -ESRCH when it has ended;
    /// -ENOSYS as above.
    virtual int signal_thread(std::uint64_t thread, int signal) noexcept;

    /// CLOCK_MONOTONIC, nanoseconds.
    virtual std::uint64_t monotonic_ns() noexcept = 0;
    /// CLOCK_REALTIME, nanoseconds since 1970.
    virtual std::uint64_t realtime_ns() noexcept = 0;
    /// Blocks the calling thread. Only for what starts and ends (never on a reactor's hot path). Hides EINTR.
    virtual void pause_ns(std::uint64_t duration_ns) noexcept = 0;
    /// getrandom(2): fills all of it, or an error. Hides EINTR.
    virtual int random(void* data, std::size_t length) noexcept = 0;

    /// The soft limit of open descriptors (RLIMIT_NOFILE); -1: none.
    virtual long limit_descriptors() noexcept = 0;
    /// The soft limit of locked memory in bytes (RLIMIT_MEMLOCK); -1: none.
    virtual long limit_locked_memory() noexcept = 0;

    /// Starts a thread. `name` is cut to 15 bytes. Throws std::system_error when the system has no thread to give.
    virtual std::unique_ptr<ThreadHandle> start_thread(const char* name, std::function<void()> body) = 0;
    /// Identifies the calling thread among the process's live threads.
    virtual std::uint64_t thread_identity() noexcept = 0;
    /// Binds the calling thread to one CPU.
    virtual int set_affinity(int cpu) noexcept = 0;
    /// sched_getaffinity(3) of the calling thread: 0.
    virtual int affinity(cpu_set_t* cpus, std::size_t size) noexcept = 0;
    /// set_mempolicy(2), MPOL_PREFERRED, of the calling thread: memory that it touches first from now on comes from
    /// this NUMA node while the node has some; -1: from the node of the CPU that it runs on. -EINVAL: there is no such
    /// node; -ENOSYS: the kernel has no NUMA; -EPERM: a container's filter forbids the call.
    virtual int prefer_memory_node(int node) noexcept = 0;

    /// getenv(3): bytes of the variable's value, of which at most `length` are copied, without a terminator; -ENOENT.
    /// No other thread may change the environment meanwhile.
    virtual ssize_t environment(const char* name, char* value, std::size_t length) noexcept = 0;
    /// unsetenv(3). No other thread may look at the environment meanwhile.
    virtual int clear_environment(const char* name) noexcept = 0;
    /// getpid(2).
    virtual int process_identity() noexcept = 0;
    /// geteuid(2).
    virtual unsigned user_identity() noexcept = 0;
    /// FIOCLEX of ioctl(2): the descriptor is closed in whatever program this process becomes.
    virtual int set_close_on_exec(int fd) noexcept = 0;

    /// futex(2), FUTEX_WAIT of this process: blocks the calling thread until `futex_wake` names the word. 0, also when
    /// nobody has: look again; -EAGAIN at once when the word is not `expected`; -EINTR.
    virtual int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept = 0;
    /// FUTEX_WAKE: wakes at most `count` threads that wait at the word. How many.
    virtual int futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept = 0;
};

/// The kernel that the process runs on. One object, without state.
FERRULE_EXPORT Kernel& linux_kernel() noexcept;

}  // namespace ferrule::inline v0
