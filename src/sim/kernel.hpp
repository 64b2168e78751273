#pragma once

#include <ferrule/ring/kernel.hpp>

#include "sim/machine_state.hpp"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

namespace ferrule::inline v0::sim {

/// The Linux of a simulated machine: every function of the seam. A thread may lose its turn in io_uring_enter,
/// pause_ns, join, futex_wait and in what blocks; nowhere else, because Ferrule holds mutexes over other calls, and a
/// fiber that waits for a mutex would stop all of them.
class MachineKernel final : public Kernel {
public:
    explicit MachineKernel(Machine::State& machine) noexcept : machine_(machine), world_(machine.world) {}

    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override;
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override;
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override;

    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override;
    int unmap(void* address, std::size_t length) noexcept override;
    int advise(void* address, std::size_t length, int advice) noexcept override;

    int socket(int domain, int type, int protocol) noexcept override;
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override;
    int listen(int fd, int backlog) noexcept override;
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override;
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override;
    int get_option(int fd, int level, int name, void* value, socklen_t* length) noexcept override;
    int socket_name(int fd, sockaddr* address, socklen_t* length) noexcept override;
    int peer_name(int fd, sockaddr* address, socklen_t* length) noexcept override;
    int shutdown(int fd, int how) noexcept override;
    int close(int fd) noexcept override;
    int event_descriptor(unsigned initial, int flags) noexcept override;
    ssize_t read(int fd, void* data, std::size_t length) noexcept override;
    ssize_t write(int fd, const void* data, std::size_t length) noexcept override;
    int unlink(const char* path) noexcept override;
    int status(const char* path, unsigned* mode) noexcept override;
    int change_mode(const char* path, unsigned mode) noexcept override;
    ssize_t read_file(const char* path, void* data, std::size_t length) noexcept override;
    int resolve_name(const char* name, sockaddr_storage* addresses, std::size_t capacity) noexcept override;

    int set_nonblocking(int fd, bool on) noexcept override;
    ssize_t read_directory(int fd, void* entries, std::size_t length) noexcept override;
    ssize_t read_cached(int fd, const iovec* pieces, int count, std::uint64_t offset) noexcept override;
    ssize_t cached_bytes(int fd, std::uint64_t offset, std::size_t length) noexcept override;
    ssize_t send_file(int socket, int file, std::uint64_t offset, std::size_t length) noexcept override;

    int signal_descriptor(const sigset_t* signals) noexcept override;
    int block_signals(const sigset_t* signals, sigset_t* old) noexcept override;
    int restore_signals(const sigset_t* old) noexcept override;

    std::uint64_t monotonic_ns() noexcept override;
    std::uint64_t realtime_ns() noexcept override;
    void pause_ns(std::uint64_t duration_ns) noexcept override;
    int random(void* data, std::size_t length) noexcept override;

    long limit_descriptors() noexcept override;
    long limit_locked_memory() noexcept override;

    std::unique_ptr<ThreadHandle> start_thread(const char* name, std::function<void()> body) override;
    std::uint64_t thread_identity() noexcept override;
    int set_affinity(int cpu) noexcept override;
    int affinity(cpu_set_t* cpus, std::size_t size) noexcept override;
    int prefer_memory_node(int node) noexcept override;

    // A simulated process has no environment, is nobody's child, and becomes no other program.
    ssize_t environment(const char* name, char* value, std::size_t length) noexcept override;
    int clear_environment(const char* name) noexcept override;
    int process_identity() noexcept override;
    unsigned user_identity() noexcept override;
    int set_close_on_exec(int fd) noexcept override;

    int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept override;
    int futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept override;

private:
    /// What a system call takes, at least.
    static constexpr std::uint64_t call_ns = 100;

    [[nodiscard]] std::shared_ptr<File> file(int fd) const noexcept { return machine_.descriptors.get(fd); }
    /// `call(file)`, or -EBADF.
    template <class Call>
    auto with_file(int fd, Call call) noexcept -> decltype(call(std::declval<File&>())) {
        world_.spend(call_ns);
        const std::shared_ptr<File> found = file(fd);
        if (found == nullptr) return -EBADF;
        return call(*found);
    }
    /// `call()` until it does not have to wait, or at once when the file is non-blocking.
    template <class Call>
    auto wait_for(File& file, std::uint32_t events, const char* what, int fd, Call call) noexcept;
    int change_ring_descriptors(std::uint32_t opcode, abi::ResourceUpdate* updates, std::uint32_t count) noexcept;
    int register_ring_descriptor(abi::ResourceUpdate& update) noexcept;
    int unregister_ring_descriptor(const abi::ResourceUpdate& update) noexcept;

    Machine::State& machine_;
    World& world_;
};

}  // namespace ferrule::inline v0::sim
