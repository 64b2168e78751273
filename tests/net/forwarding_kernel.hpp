#pragma once

#include <ferrule/ring/kernel.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace ferrule::test {

/// The real kernel, to override in parts: what fails, counts or lies is a few lines in the test that wants it.
class ForwardingKernel : public Kernel {
public:
    int io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept override {
        return target_.io_uring_setup(entries, parameters);
    }
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        return target_.io_uring_enter(fd, to_submit, min_complete, flags, argument, argument_size);
    }
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        return target_.io_uring_register(fd, opcode, argument, count);
    }
    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        return target_.map(length, protection, flags, fd, offset, error);
    }
    int unmap(void* address, std::size_t length) noexcept override { return target_.unmap(address, length); }
    int advise(void* address, std::size_t length, int advice) noexcept override {
        return target_.advise(address, length, advice);
    }
    int socket(int domain, int type, int protocol) noexcept override { return target_.socket(domain, type, protocol); }
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return target_.bind(fd, address, length);
    }
    int listen(int fd, int backlog) noexcept override { return target_.listen(fd, backlog); }
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return target_.connect(fd, address, length);
    }
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override {
        return target_.set_option(fd, level, name, value, length);
    }
    int get_option(int fd, int level, int name, void* value, socklen_t* length) noexcept override {
        return target_.get_option(fd, level, name, value, length);
    }
    int socket_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return target_.socket_name(fd, address, length);
    }
    int peer_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return target_.peer_name(fd, address, length);
    }
    int shutdown(int fd, int how) noexcept override { return target_.shutdown(fd, how); }
    int close(int fd) noexcept override { return target_.close(fd); }
    int event_descriptor(unsigned initial, int flags) noexcept override {
        return target_.event_descriptor(initial, flags);
    }
    ssize_t read(int fd, void* data, std::size_t length) noexcept override { return target_.read(fd, data, length); }
    ssize_t write(int fd, const void* data, std::size_t length) noexcept override {
        return target_.write(fd, data, length);
    }
    int unlink(const char* path) noexcept override { return target_.unlink(path); }
    int status(const char* path, unsigned* mode) noexcept override { return target_.status(path, mode); }
    int change_mode(const char* path, unsigned mode) noexcept override { return target_.change_mode(path, mode); }
    ssize_t read_file(const char* path, void* data, std::size_t length) noexcept override {
        return target_.read_file(path, data, length);
    }
    int signal_descriptor(const sigset_t* signals) noexcept override { return target_.signal_descriptor(signals); }
    int block_signals(const sigset_t* signals, sigset_t* old) noexcept override {
        return target_.block_signals(signals, old);
    }
    int restore_signals(const sigset_t* old) noexcept override { return target_.restore_signals(old); }
    std::uint64_t monotonic_ns() noexcept override { return target_.monotonic_ns(); }
    std::uint64_t realtime_ns() noexcept override { return target_.realtime_ns(); }
    void pause_ns(std::uint64_t duration_ns) noexcept override { return target_.pause_ns(duration_ns); }
    int random(void* data, std::size_t length) noexcept override { return target_.random(data, length); }
    long limit_descriptors() noexcept override { return target_.limit_descriptors(); }
    long limit_locked_memory() noexcept override { return target_.limit_locked_memory(); }
    std::unique_ptr<ThreadHandle> start_thread(const char* name, std::function<void()> body) override {
        return target_.start_thread(name, std::move(body));
    }
    std::uint64_t thread_identity() noexcept override { return target_.thread_identity(); }
    int set_affinity(int cpu) noexcept override { return target_.set_affinity(cpu); }
    int affinity(cpu_set_t* cpus, std::size_t size) noexcept override { return target_.affinity(cpus, size); }

private:
    Kernel& target_ = linux_kernel();
};

}  // namespace ferrule::test
