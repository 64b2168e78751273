#include <ferrule/sim/simulation.hpp>

#include "sim/event_descriptor.hpp"
#include "sim/kernel.hpp"
#include "sim/signal_descriptor.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

namespace ferrule::inline v0::sim {

namespace {

/// A look at the clock, which is no system call.
constexpr std::uint64_t clock_ns = 20;
/// A thread may lose its turn at one look at the clock in so many, and does at some of these.
constexpr std::uint64_t clock_yield_one_in = 4;
/// CLOCK_REALTIME when a simulation begins: 2026-01-01 00:00 UTC.
constexpr std::uint64_t realtime_start_ns = 1'767'225'600'000'000'000;
constexpr std::uint64_t never = ~std::uint64_t{0};
constexpr std::size_t name_length_max = 15;

/// Makes the fiber go on when the file is ready.
class FiberWaiter final : public FileWaiter {
public:
    FiberWaiter(World& world, Fiber& fiber) noexcept : world_(world), fiber_(fiber) {}
    void ready(std::uint32_t) noexcept override {
        leave();
        world_.wake(fiber_);
    }

private:
    World& world_;
    Fiber& fiber_;
};

class SimulatedThread final : public ThreadHandle {
public:
    SimulatedThread(World& world, Thread& thread) noexcept : world_(world), thread_(&thread) {}
    ~SimulatedThread() override { join(); }

    void join() override {
        if (thread_ == nullptr) return;
        while (!thread_->ended) {
            thread_->joiner = world_.current_fiber();
            world_.block(never, "the end of a thread, number", static_cast<std::int64_t>(thread_->identity));
        }
        thread_->detached = true;
        thread_ = nullptr;
    }

private:
    World& world_;
    Thread* thread_;
};

}  // namespace

template <class Call>
auto MachineKernel::wait_for(File& file, std::uint32_t events, const char* what, int fd, Call call) noexcept {
    for (;;) {
        const auto result = call();
        if ((result != -EAGAIN && result != -EINPROGRESS) || file.nonblocking()) return result;
        FiberWaiter waiter(world_, *world_.current_fiber());
        file.wait(waiter, events);
        while (waiter.waiting()) world_.block(never, what, fd);
    }
}

// ---- rings ----

int MachineKernel::io_uring_setup(std::uint32_t entries, abi::Parameters* parameters) noexcept {
    world_.spend(call_ns);
    machine_.forget_ended_rings();
    auto ring = SimulatedRing::create(world_, machine_.descriptors, machine_.options.profile, entries, parameters,
                                      &machine_.locked_memory, &machine_.files);
    if (!ring) return ring.error();
    const int fd = machine_.descriptors.install(*ring);
    if (fd >= 0) {
        (*ring)->identify(fd);
        machine_.rings.push_back(std::move(*ring));
    } else {
        // As one that is closed: it gives back what it was charged.
        (*ring)->acquire();
        (*ring)->release();
    }
    return fd;
}

int MachineKernel::io_uring_enter(int fd, std::uint32_t to_submit, std::uint32_t min_complete, std::uint32_t flags,
                                  const void* argument, std::size_t argument_size) noexcept {
    world_.spend(call_ns);
    world_.may_yield();
    std::shared_ptr<File> found;
    if ((flags & abi::enter_registered_ring) != 0) {
        const Thread& thread = machine_.current_thread();
        if (fd < 0 || static_cast<std::size_t>(fd) >= Thread::ring_limit) return -EINVAL;
        if (static_cast<std::size_t>(fd) < thread.rings.size()) found = thread.rings[static_cast<std::size_t>(fd)];
    } else {
        found = file(fd);
    }
    if (found == nullptr) return -EBADF;
    auto* const ring = dynamic_cast<SimulatedRing*>(found.get());
    if (ring == nullptr) return -EOPNOTSUPP;
    return ring->enter(to_submit, min_complete, flags, argument, argument_size);
}

int MachineKernel::io_uring_register(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) noexcept {
    world_.spend(call_ns);
    if (fd == -1) {
        return SimulatedRing::register_without_ring(machine_.descriptors, machine_.options.profile, opcode, argument,
                                                    count);
    }
    const std::shared_ptr<File> found = file(fd);
    if (found == nullptr) return -EBADF;
    auto* const ring = dynamic_cast<SimulatedRing*>(found.get());
    if (ring == nullptr) return -EOPNOTSUPP;
    if (opcode == abi::register_ring_descriptors || opcode == abi::unregister_ring_descriptors) {
        return change_ring_descriptors(opcode, static_cast<abi::ResourceUpdate*>(argument), count);
    }
    return ring->register_(opcode, argument, count);
}

int MachineKernel::change_ring_descriptors(std::uint32_t opcode, abi::ResourceUpdate* updates,
                                           std::uint32_t count) noexcept {
    if (count == 0 || count > Thread::ring_limit) return -EINVAL;
    std::uint32_t done = 0;
    for (; done < count; ++done) {
        const int result = opcode == abi::register_ring_descriptors ? register_ring_descriptor(updates[done])
                                                                    : unregister_ring_descriptor(updates[done]);
        if (result < 0) return done != 0 ? static_cast<int>(done) : result;
    }
    return static_cast<int>(done);
}

int MachineKernel::register_ring_descriptor(abi::ResourceUpdate& update) noexcept {
    if (update.resv != 0) return -EINVAL;
    const std::shared_ptr<File> ring = file(static_cast<int>(update.data));
    if (ring == nullptr) return -EBADF;
    if (dynamic_cast<SimulatedRing*>(ring.get()) == nullptr) return -EOPNOTSUPP;
    auto& rings = machine_.current_thread().rings;
    rings.resize(Thread::ring_limit);
    std::size_t place = update.offset;
    if (update.offset == ~std::uint32_t{0}) {
        place = static_cast<std::size_t>(std::ranges::find(rings, nullptr) - rings.begin());
    } else if (place >= Thread::ring_limit) {
        return -EINVAL;
    }
    if (place == Thread::ring_limit || rings[place] != nullptr) return -EBUSY;
    ring->acquire();
    rings[place] = ring;
    update.offset = static_cast<std::uint32_t>(place);
    return 0;
}

int MachineKernel::unregister_ring_descriptor(const abi::ResourceUpdate& update) noexcept {
    auto& rings = machine_.current_thread().rings;
    if (update.resv != 0 || update.data != 0 || update.offset >= Thread::ring_limit) return -EINVAL;
    if (update.offset >= rings.size() || rings[update.offset] == nullptr) return 0;
    std::exchange(rings[update.offset], nullptr)->release();
    return 0;
}

// ---- memory ----

void* MachineKernel::map(std::size_t length, int protection, int flags, int fd, std::uint64_t offset,
                         int* error) noexcept {
    world_.spend(call_ns);
    if ((flags & MAP_HUGETLB) != 0) {
        // Nobody has set any huge pages aside.
        *error = ENOMEM;
        return nullptr;
    }
    if ((flags & MAP_ANONYMOUS) != 0) {
        void* const address = ::mmap(nullptr, length, protection, flags, -1, 0);
        if (address == MAP_FAILED) {
            *error = errno;
            return nullptr;
        }
        machine_.mappings.emplace(address, length);
        return address;
    }
    const std::shared_ptr<File> found = file(fd);
    auto* const ring = dynamic_cast<SimulatedRing*>(found.get());
    if (ring == nullptr) {
        *error = found == nullptr ? EBADF : ENODEV;
        return nullptr;
    }
    void* const address = ring->map(offset, length, error);
    if (address != nullptr) {
        found->acquire();
        machine_.ring_mappings.emplace(address, Machine::State::RingMapping{found, length});
    }
    return address;
}

int MachineKernel::unmap(void* address, std::size_t length) noexcept {
    world_.spend(call_ns);
    if (const auto mapping = machine_.ring_mappings.find(address); mapping != machine_.ring_mappings.end()) {
        const std::shared_ptr<File> ring = std::move(mapping->second.ring);
        machine_.ring_mappings.erase(mapping);
        ring->release();
        return 0;
    }
    const auto mapping = machine_.mappings.find(address);
    if (mapping == machine_.mappings.end() || mapping->second != length) {
        world_.finding(machine_.name + ": munmap of " + std::to_string(length) + " bytes that are no mapping");
        return -EINVAL;
    }
    machine_.mappings.erase(mapping);
    ::munmap(address, length);
    return 0;
}

int MachineKernel::advise(void* address, std::size_t, int) noexcept {
    world_.spend(call_ns);
    if (machine_.ring_mappings.contains(address)) return 0;
    const auto behind = machine_.mappings.upper_bound(address);
    if (behind == machine_.mappings.begin()) return -ENOMEM;
    const auto& [base, length] = *std::prev(behind);
    const bool mapped = static_cast<std::byte*>(address) < static_cast<std::byte*>(base) + length;
    return mapped ? 0 : -ENOMEM;
}

// ---- descriptors ----

int MachineKernel::socket(int domain, int type, int protocol) noexcept {
    world_.spend(call_ns);
    const auto made = make_socket(machine_.host, domain, type, protocol);
    if (!made) return made.error();
    (*made)->nonblocking((type & SOCK_NONBLOCK) != 0);
    return machine_.descriptors.install(*made);
}

int MachineKernel::bind(int fd, const sockaddr* address, socklen_t length) noexcept {
    return with_file(fd, [&](File& file) { return file.bind(address, length); });
}

int MachineKernel::listen(int fd, int backlog) noexcept {
    return with_file(fd, [&](File& file) { return file.listen(backlog); });
}

int MachineKernel::connect(int fd, const sockaddr* address, socklen_t length) noexcept {
    return with_file(fd, [&](File& file) {
        return wait_for(file, POLLOUT, "a connection of descriptor", fd, [&] { return file.connect(address, length); });
    });
}

int MachineKernel::set_option(int fd, int level, int name, const void* value, socklen_t length) noexcept {
    return with_file(fd, [&](File& file) { return file.set_option(level, name, value, length); });
}

int MachineKernel::get_option(int fd, int level, int name, void* value, socklen_t* length) noexcept {
    return with_file(fd, [&](File& file) { return file.get_option(level, name, value, length); });
}

int MachineKernel::socket_name(int fd, sockaddr* address, socklen_t* length) noexcept {
    return with_file(fd, [&](File& file) { return file.socket_name(address, length); });
}

int MachineKernel::peer_name(int fd, sockaddr* address, socklen_t* length) noexcept {
    return with_file(fd, [&](File& file) { return file.peer_name(address, length); });
}

int MachineKernel::shutdown(int fd, int how) noexcept {
    return with_file(fd, [&](File& file) { return file.shutdown(how); });
}

int MachineKernel::close(int fd) noexcept {
    world_.spend(call_ns);
    if (machine_.descriptors.remove(fd) != nullptr) return 0;
    world_.finding(machine_.name + ": close of descriptor " + std::to_string(fd) + ", which is not open");
    return -EBADF;
}

int MachineKernel::event_descriptor(unsigned initial, int flags) noexcept {
    world_.spend(call_ns);
    if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK)) != 0) return -EINVAL;
    auto made = std::make_shared<EventDescriptor>(initial);
    made->nonblocking((flags & EFD_NONBLOCK) != 0);
    return machine_.descriptors.install(std::move(made));
}

ssize_t MachineKernel::read(int fd, void* data, std::size_t length) noexcept {
    return with_file(fd, [&](File& file) {
        const std::span into(static_cast<std::byte*>(data), length);
        return static_cast<ssize_t>(
            wait_for(file, POLLIN, "something to read from descriptor", fd, [&] { return file.read(into); }));
    });
}

ssize_t MachineKernel::write(int fd, const void* data, std::size_t length) noexcept {
    return with_file(fd, [&](File& file) {
        const std::span from(static_cast<const std::byte*>(data), length);
        const auto written = static_cast<ssize_t>(
            wait_for(file, POLLOUT, "room to write to descriptor", fd, [&] { return file.write(from); }));
        // Who was woken may run, and end, before the writer goes on.
        world_.may_yield();
        return written;
    });
}

// ---- signals ----

int MachineKernel::signal_descriptor(const sigset_t* signals) noexcept {
    world_.spend(call_ns);
    auto made = std::make_shared<SignalDescriptor>(machine_, *machine_.current_thread().process, *signals);
    made->nonblocking(true);
    return machine_.descriptors.install(std::move(made));
}

int MachineKernel::block_signals(const sigset_t* signals, sigset_t* old) noexcept {
    world_.spend(call_ns);
    Thread& thread = machine_.current_thread();
    if (old != nullptr) *old = thread.blocked;
    for (int number = 1; number < NSIG; ++number) {
        if (sigismember(signals, number) == 1) sigaddset(&thread.blocked, number);
    }
    return 0;
}

int MachineKernel::restore_signals(const sigset_t* old) noexcept {
    world_.spend(call_ns);
    Thread& thread = machine_.current_thread();
    thread.blocked = *old;
    machine_.may_deliver(thread);
    return 0;
}

// ---- time and chance ----

std::uint64_t MachineKernel::monotonic_ns() noexcept {
    world_.spend(clock_ns);
    if (world_.random().one_in(clock_yield_one_in)) world_.may_yield();
    return world_.now_ns();
}

std::uint64_t MachineKernel::realtime_ns() noexcept {
    world_.spend(clock_ns);
    return realtime_start_ns + (world_.now_ns() - Simulation::start_ns);
}

void MachineKernel::pause_ns(std::uint64_t duration_ns) noexcept {
    world_.spend(call_ns);
    const std::uint64_t until = world_.now_ns() + duration_ns;
    while (world_.now_ns() < until) world_.block(until, "a time to pass");
}

int MachineKernel::random(void* data, std::size_t length) noexcept {
    world_.spend(call_ns);
    auto* to = static_cast<std::byte*>(data);
    while (length != 0) {
        const std::uint64_t bits = world_.random().next();
        const std::size_t taken = std::min(length, sizeof bits);
        std::memcpy(to, &bits, taken);
        to += taken;
        length -= taken;
    }
    return 0;
}

// ---- limits and threads ----

long MachineKernel::limit_descriptors() noexcept {
    return static_cast<long>(machine_.descriptors.limit());
}

long MachineKernel::limit_locked_memory() noexcept {
    return machine_.options.locked_memory_limit;
}

std::unique_ptr<ThreadHandle> MachineKernel::start_thread(const char* name, std::function<void()> body) {
    world_.spend(call_ns);
    Process& process = *machine_.current_thread().process;
    Thread& thread = machine_.start_thread(process, std::string(name).substr(0, name_length_max), std::move(body));
    return std::make_unique<SimulatedThread>(world_, thread);
}

std::uint64_t MachineKernel::thread_identity() noexcept {
    return machine_.current_thread().identity;
}

int MachineKernel::set_affinity(int cpu) noexcept {
    world_.spend(call_ns);
    if (cpu < 0 || static_cast<unsigned>(cpu) >= machine_.options.cpus) return -EINVAL;
    Thread& thread = machine_.current_thread();
    CPU_ZERO(&thread.cpus);
    CPU_SET(static_cast<std::size_t>(cpu), &thread.cpus);
    return 0;
}

int MachineKernel::affinity(cpu_set_t* cpus, std::size_t size) noexcept {
    world_.spend(call_ns);
    if (size < machine_.options.cpus / 8 + 1) return -EINVAL;
    std::memset(cpus, 0, size);
    std::memcpy(cpus, &machine_.current_thread().cpus, std::min(size, sizeof(cpu_set_t)));
    return 0;
}

ssize_t MachineKernel::environment(const char*, char*, std::size_t) noexcept {
    return -ENOENT;
}

int MachineKernel::clear_environment(const char*) noexcept {
    return 0;
}

int MachineKernel::process_identity() noexcept {
    return 1;
}

unsigned MachineKernel::user_identity() noexcept {
    return 0;
}

int MachineKernel::set_close_on_exec(int fd) noexcept {
    return with_file(fd, [](File&) { return 0; });
}

int MachineKernel::prefer_memory_node(int node) noexcept {
    world_.spend(call_ns);
    // One node, number 0.
    return node > 0 ? -EINVAL : 0;
}

int MachineKernel::futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
    world_.spend(call_ns);
    world_.may_yield();
    if (word.load() != expected) return -EAGAIN;
    if (world_.fault(Fault::spurious_wake)) return 0;
    FutexWaiter waiter{&word, world_.current_fiber(), false};
    machine_.futex_waiters.push_back(&waiter);
    while (!waiter.woken) world_.block(never, "a futex");
    return 0;
}

int MachineKernel::futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept {
    world_.spend(call_ns);
    auto& waiters = machine_.futex_waiters;
    int woken = 0;
    for (auto waiter = waiters.begin(); woken < count && waiter != waiters.end();) {
        if ((*waiter)->word != &word) {
            ++waiter;
            continue;
        }
        (*waiter)->woken = true;
        world_.wake(*(*waiter)->fiber);
        waiter = waiters.erase(waiter);
        ++woken;
    }
    return woken;
}

}  // namespace ferrule::inline v0::sim
