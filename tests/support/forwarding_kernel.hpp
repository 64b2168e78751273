#pragma once

#include <ferrule/ring/kernel.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

namespace ferrule_test {

/// Every call of the seam that can fail, by name.
enum class Call : std::size_t {
    setup,
    enter,
    register_,
    map,
    unmap,
    advise,
    socket,
    bind,
    listen,
    connect,
    set_option,
    get_option,
    socket_name,
    peer_name,
    shutdown,
    close,
    event_descriptor,
    read,
    write,
    unlink,
    status,
    change_mode,
    read_file,
    set_nonblocking,
    read_directory,
    read_cached,
    cached_bytes,
    send_file,
    resolve_name,
    signal_descriptor,
    block_signals,
    restore_signals,
    signal_action,
    signal_thread,
    random,
    start_thread,
    set_affinity,
    affinity,
    clear_environment,
    set_close_on_exec,
    prefer_memory_node,
    futex_wait,
    count_of_calls,
};

/// A kernel that forwards every call to another, counts them, and fails those that a test chose: the call is not
/// forwarded then. Any thread. Derive from it to answer a call differently. Pauses are counted, not slept.
class ForwardingKernel : public ferrule::Kernel {
public:
    explicit ForwardingKernel(ferrule::Kernel& below = ferrule::linux_kernel()) : below_(below) {}

    static constexpr std::uint64_t forever = ~std::uint64_t{0};

    /// The next `times` calls after `skipped` more fail with `error` (a positive errno). Replaces an earlier plan for
    /// this call.
    void fail(Call call, int error, std::uint64_t times = 1, std::uint64_t skipped = 0) {
        const std::lock_guard lock(mutex_);
        plans_[index(call)] = Plan{error, times, skipped};
    }
    /// As `fail`, for io_uring_register with this opcode only; other registrations pass and do not count.
    void fail_registration(std::uint32_t opcode, int error, std::uint64_t times = 1) {
        const std::lock_guard lock(mutex_);
        registration_ = {opcode, Plan{error, times, 0}};
    }
    /// Nothing fails from now on.
    void heal() {
        const std::lock_guard lock(mutex_);
        plans_ = {};
        registration_.reset();
    }
    /// Calls so far, with those that failed.
    std::uint64_t calls(Call call) const {
        const std::lock_guard lock(mutex_);
        return counts_[index(call)];
    }
    /// How often pause_ns was asked for.
    std::uint64_t pauses() const {
        const std::lock_guard lock(mutex_);
        return pauses_;
    }
    /// What limit_locked_memory and limit_descriptors answer, instead of the system.
    void set_limit_locked_memory(long bytes) { limit_locked_memory_ = bytes; }
    void set_limit_descriptors(long count) { limit_descriptors_ = count; }

    int io_uring_setup(std::uint32_t entries, ferrule::abi::Parameters* parameters) noexcept override {
        const int error = failure(Call::setup);
        return error != 0 ? -error : below_.io_uring_setup(entries, parameters);
    }
    int io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                       const void* argument, std::size_t argument_size) noexcept override {
        const int error = failure(Call::enter);
        return error != 0 ? -error : below_.io_uring_enter(fd, to_submit, min_complete, flags, argument, argument_size);
    }
    int io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept override {
        int error = failure(Call::register_);
        if (error == 0) {
            error = registration_failure(opcode);
        }
        return error != 0 ? -error : below_.io_uring_register(fd, opcode, argument, count);
    }
    void* map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
              int* error) noexcept override {
        if (const int failed = failure(Call::map); failed != 0) {
            *error = failed;
            return nullptr;
        }
        return below_.map(length, protection, flags, fd, offset, error);
    }
    int unmap(void* address, std::size_t length) noexcept override {
        const int error = failure(Call::unmap);
        return error != 0 ? -error : below_.unmap(address, length);
    }
    int advise(void* address, std::size_t length, int advice) noexcept override {
        const int error = failure(Call::advise);
        return error != 0 ? -error : below_.advise(address, length, advice);
    }
    int socket(int domain, int type, int protocol) noexcept override {
        const int error = failure(Call::socket);
        return error != 0 ? -error : below_.socket(domain, type, protocol);
    }
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
        const int error = failure(Call::bind);
        return error != 0 ? -error : below_.bind(fd, address, length);
    }
    int listen(int fd, int backlog) noexcept override {
        const int error = failure(Call::listen);
        return error != 0 ? -error : below_.listen(fd, backlog);
    }
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        const int error = failure(Call::connect);
        return error != 0 ? -error : below_.connect(fd, address, length);
    }
    int set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept override {
        const int error = failure(Call::set_option);
        return error != 0 ? -error : below_.set_option(fd, level, name, value, length);
    }
    int get_option(int fd, int level, int name, void* value, socklen_t* length) noexcept override {
        const int error = failure(Call::get_option);
        return error != 0 ? -error : below_.get_option(fd, level, name, value, length);
    }
    int socket_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        const int error = failure(Call::socket_name);
        return error != 0 ? -error : below_.socket_name(fd, address, length);
    }
    int peer_name(int fd, sockaddr* address, socklen_t* length) noexcept override {
        const int error = failure(Call::peer_name);
        return error != 0 ? -error : below_.peer_name(fd, address, length);
    }
    int shutdown(int fd, int how) noexcept override {
        const int error = failure(Call::shutdown);
        return error != 0 ? -error : below_.shutdown(fd, how);
    }
    /// A failing close closes nevertheless, as close(2) does.
    int close(int fd) noexcept override {
        const int error = failure(Call::close);
        const int result = below_.close(fd);
        return error != 0 ? -error : result;
    }
    int event_descriptor(unsigned initial, int flags) noexcept override {
        const int error = failure(Call::event_descriptor);
        return error != 0 ? -error : below_.event_descriptor(initial, flags);
    }
    ssize_t read(int fd, void* data, std::size_t length) noexcept override {
        const int error = failure(Call::read);
        return error != 0 ? -error : below_.read(fd, data, length);
    }
    ssize_t write(int fd, const void* data, std::size_t length) noexcept override {
        const int error = failure(Call::write);
        return error != 0 ? -error : below_.write(fd, data, length);
    }
    int unlink(const char* path) noexcept override {
        const int error = failure(Call::unlink);
        return error != 0 ? -error : below_.unlink(path);
    }
    int status(const char* path, unsigned* mode) noexcept override {
        const int error = failure(Call::status);
        return error != 0 ? -error : below_.status(path, mode);
    }
    int change_mode(const char* path, unsigned mode) noexcept override {
        const int error = failure(Call::change_mode);
        return error != 0 ? -error : below_.change_mode(path, mode);
    }
    ssize_t read_file(const char* path, void* data, std::size_t length) noexcept override {
        const int error = failure(Call::read_file);
        return error != 0 ? -error : below_.read_file(path, data, length);
    }
    int set_nonblocking(int fd, bool on) noexcept override {
        const int error = failure(Call::set_nonblocking);
        return error != 0 ? -error : below_.set_nonblocking(fd, on);
    }
    ssize_t read_directory(int fd, void* entries, std::size_t length) noexcept override {
        const int error = failure(Call::read_directory);
        return error != 0 ? -error : below_.read_directory(fd, entries, length);
    }
    ssize_t read_cached(int fd, const iovec* pieces, int count, std::uint64_t offset) noexcept override {
        const int error = failure(Call::read_cached);
        return error != 0 ? -error : below_.read_cached(fd, pieces, count, offset);
    }
    ssize_t cached_bytes(int fd, std::uint64_t offset, std::size_t length) noexcept override {
        const int error = failure(Call::cached_bytes);
        return error != 0 ? -error : below_.cached_bytes(fd, offset, length);
    }
    ssize_t send_file(int socket, int file, std::uint64_t offset, std::size_t length) noexcept override {
        const int error = failure(Call::send_file);
        return error != 0 ? -error : below_.send_file(socket, file, offset, length);
    }
    int resolve_name(const char* name, sockaddr_storage* addresses, std::size_t capacity) noexcept override {
        const int error = failure(Call::resolve_name);
        return error != 0 ? -error : below_.resolve_name(name, addresses, capacity);
    }
    int signal_descriptor(const sigset_t* signals) noexcept override {
        const int error = failure(Call::signal_descriptor);
        return error != 0 ? -error : below_.signal_descriptor(signals);
    }
    int block_signals(const sigset_t* signals, sigset_t* old) noexcept override {
        const int error = failure(Call::block_signals);
        return error != 0 ? -error : below_.block_signals(signals, old);
    }
    int restore_signals(const sigset_t* old) noexcept override {
        const int error = failure(Call::restore_signals);
        return error != 0 ? -error : below_.restore_signals(old);
    }
    int signal_action(int signal, const struct sigaction* action, struct sigaction* old) noexcept override {
        const int error = failure(Call::signal_action);
        return error != 0 ? -error : below_.signal_action(signal, action, old);
    }
    int signal_thread(std::uint64_t thread, int signal) noexcept override {
        const int error = failure(Call::signal_thread);
        return error != 0 ? -error : below_.signal_thread(thread, signal);
    }
    std::uint64_t monotonic_ns() noexcept override { return below_.monotonic_ns(); }
    std::uint64_t realtime_ns() noexcept override { return below_.realtime_ns(); }
    void pause_ns(std::uint64_t) noexcept override {
        const std::lock_guard lock(mutex_);
        ++pauses_;
    }
    int random(void* data, std::size_t length) noexcept override {
        const int error = failure(Call::random);
        return error != 0 ? -error : below_.random(data, length);
    }
    long limit_descriptors() noexcept override {
        return limit_descriptors_ ? *limit_descriptors_ : below_.limit_descriptors();
    }
    long limit_locked_memory() noexcept override {
        return limit_locked_memory_ ? *limit_locked_memory_ : below_.limit_locked_memory();
    }
    /// A planned failure throws std::system_error.
    std::unique_ptr<ferrule::ThreadHandle> start_thread(const char* name, std::function<void()> body) override {
        if (const int error = failure(Call::start_thread); error != 0) {
            throw std::system_error(error, std::system_category(), "start_thread");
        }
        return below_.start_thread(name, std::move(body));
    }
    std::uint64_t thread_identity() noexcept override { return below_.thread_identity(); }
    int set_affinity(int cpu) noexcept override {
        const int error = failure(Call::set_affinity);
        return error != 0 ? -error : below_.set_affinity(cpu);
    }
    int affinity(cpu_set_t* cpus, std::size_t size) noexcept override {
        const int error = failure(Call::affinity);
        return error != 0 ? -error : below_.affinity(cpus, size);
    }
    ssize_t environment(const char* name, char* value, std::size_t length) noexcept override {
        return below_.environment(name, value, length);
    }
    int clear_environment(const char* name) noexcept override {
        const int error = failure(Call::clear_environment);
        return error != 0 ? -error : below_.clear_environment(name);
    }
    int process_identity() noexcept override { return below_.process_identity(); }
    unsigned user_identity() noexcept override { return below_.user_identity(); }
    int set_close_on_exec(int fd) noexcept override {
        const int error = failure(Call::set_close_on_exec);
        return error != 0 ? -error : below_.set_close_on_exec(fd);
    }
    int prefer_memory_node(int node) noexcept override {
        const int error = failure(Call::prefer_memory_node);
        return error != 0 ? -error : below_.prefer_memory_node(node);
    }
    int futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept override {
        const int error = failure(Call::futex_wait);
        return error != 0 ? -error : below_.futex_wait(word, expected);
    }
    int futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept override {
        return below_.futex_wake(word, count);
    }

protected:
    ferrule::Kernel& below() noexcept { return below_; }

private:
    struct Plan {
        int error = 0;
        std::uint64_t times = 0;
        std::uint64_t skipped = 0;

        int next() noexcept {
            if (times == 0) {
                return 0;
            }
            if (skipped != 0) {
                --skipped;
                return 0;
            }
            times -= times == forever ? 0 : 1;
            return error;
        }
    };

    static std::size_t index(Call call) noexcept { return static_cast<std::size_t>(call); }
    int failure(Call call) noexcept {
        const std::lock_guard lock(mutex_);
        ++counts_[index(call)];
        return plans_[index(call)].next();
    }
    int registration_failure(std::uint32_t opcode) noexcept {
        const std::lock_guard lock(mutex_);
        return registration_ && registration_->first == opcode ? registration_->second.next() : 0;
    }

    ferrule::Kernel& below_;
    mutable std::mutex mutex_;
    std::array<Plan, static_cast<std::size_t>(Call::count_of_calls)> plans_{};
    std::array<std::uint64_t, static_cast<std::size_t>(Call::count_of_calls)> counts_{};
    std::optional<std::pair<std::uint32_t, Plan>> registration_;
    std::uint64_t pauses_ = 0;
    std::optional<long> limit_locked_memory_;
    std::optional<long> limit_descriptors_;
};

}  // namespace ferrule_test
