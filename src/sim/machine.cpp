#include <ferrule/assert.hpp>

#include "sim/kernel.hpp"
#include "sim/machine_state.hpp"
#include "sim/signal_descriptor.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <span>
#include <utility>

namespace ferrule::inline v0::sim {

Machine::State::State(Scheduler& scheduler, Host& of_network, std::string of_machine, MachineOptions chosen)
    : world(scheduler),
      host(of_network),
      name(std::move(of_machine)),
      options(std::move(chosen)),
      files(scheduler, options.disk_bytes),
      descriptors(options.descriptor_limit),
      kernel(std::make_unique<MachineKernel>(*this)) {
    if (options.locked_memory_limit >= 0) {
        locked_memory.limit_bytes = static_cast<std::uint64_t>(options.locked_memory_limit);
    }
    for (const auto& [path, contents] : options.files) files.put(path, contents);
    sigemptyset(&pending_signals);
}

Machine::State::~State() {
    // Rings look at the memory of the program once more as they end.
    threads.clear();
    ring_mappings.clear();
    for (int fd = 0; descriptors.count() != 0; ++fd) descriptors.remove(fd);
    rings.clear();
    for (const auto& [address, length] : mappings) ::munmap(address, length);
}

// ---- threads ----

void Machine::State::start(std::string process_name, std::function<void()> main) {
    processes.push_back(std::make_unique<Process>(std::move(process_name)));
    Process& process = *processes.back();
    start_thread(process, "main", [this, &process, body = std::move(main)] {
        body();
        for (const auto& thread : threads) {
            if (thread->process == &process && !thread->ended && thread->name != "main") {
                world.finding("the process has ended, and its thread " + thread->name + " has not");
            }
        }
    }).detached = true;
}

Thread& Machine::State::start_thread(Process& process, std::string thread_name, std::function<void()> body) {
    std::erase_if(threads, [](const auto& thread) { return thread->ended && thread->detached; });
    threads.push_back(std::make_unique<Thread>());
    Thread& thread = *threads.back();
    thread.process = &process;
    thread.name = std::move(thread_name);
    thread.identity = ++identities;
    sigemptyset(&thread.blocked);
    CPU_ZERO(&thread.cpus);
    for (unsigned cpu = 0; cpu < options.cpus; ++cpu) CPU_SET(cpu, &thread.cpus);
    if (Fiber* const fiber = world.current_fiber(); fiber != nullptr && fiber->thread != nullptr) {
        const Thread& parent = *static_cast<Thread*>(fiber->thread);
        if (parent.process == &process) {
            thread.blocked = parent.blocked;
            thread.cpus = parent.cpus;
        }
    }
    std::string fiber_name = name + "/" + process.name;
    if (thread.name != "main") fiber_name += "/" + thread.name;
    thread.fiber = &world.start(
        std::move(fiber_name),
        [this, &thread, run = std::move(body)] {
            try {
                run();
            } catch (const std::exception& failure) {
                world.finding(std::string("an exception has left it: ") + failure.what());
            } catch (...) {
                world.finding("an exception of unknown type has left it");
            }
            end(thread);
        },
        &thread);
    return thread;
}

void Machine::State::end(Thread& thread) {
    for (const auto& ring : thread.rings) {
        if (ring != nullptr) ring->release();
    }
    thread.rings.clear();
    thread.ended = true;
    thread.fiber = nullptr;
    if (thread.joiner != nullptr) world.wake(*thread.joiner);
}

Thread& Machine::State::current_thread() noexcept {
    Fiber* const fiber = world.current_fiber();
    if (fiber == nullptr || fiber->thread == nullptr) {
        assertion_failed(__FILE__, __LINE__, "a simulated kernel was called from outside of its processes");
    }
    return *static_cast<Thread*>(fiber->thread);
}

// ---- signals ----

void Machine::State::signal(int number) {
    world.trace("signal", static_cast<std::uint64_t>(number), 0, 0);
    const auto taker = std::ranges::find_if(signal_descriptors,
                                            [number](const auto* descriptor) { return descriptor->takes(number); });
    if (taker == signal_descriptors.end()) {
        const bool alive = std::ranges::any_of(threads, [](const auto& thread) { return !thread->ended; });
        if (alive) {
            world.finding("signal " + std::to_string(number) + " ends the processes of " + name +
                          ": nobody waits for it");
        }
        return;
    }
    for (const auto& thread : threads) {
        if (!thread->ended && thread->process == &(*taker)->process() && sigismember(&thread->blocked, number) == 0) {
            world.finding("signal " + std::to_string(number) + " ends the process " + thread->process->name + " of " +
                          name + ": its thread " + thread->name + " does not block it");
            return;
        }
    }
    sigaddset(&pending_signals, number);
    // A copy: who is told may close its descriptor.
    for (SignalDescriptor* const descriptor : std::vector(signal_descriptors)) {
        if (descriptor->takes(number)) descriptor->notify(POLLIN);
    }
}

void Machine::State::may_deliver(const Thread& thread) {
    for (int number = 1; number < NSIG; ++number) {
        if (sigismember(&pending_signals, number) == 1 && sigismember(&thread.blocked, number) == 0) {
            sigdelset(&pending_signals, number);
            world.finding("signal " + std::to_string(number) + " ends the process " + thread.process->name + " of " +
                          name + ": it was pending when a thread ceased to block it");
        }
    }
}

// ---- what is left ----

void Machine::State::forget_ended_rings() {
    std::erase_if(rings, [this](const std::shared_ptr<SimulatedRing>& ring) {
        if (ring.use_count() != 1 || ring->in_flight() != 0) return false;
        operations_of_ended_rings += ring->operations();
        return true;
    });
}

std::uint64_t Machine::State::operations() const noexcept {
    std::uint64_t sum = operations_of_ended_rings;
    for (const auto& ring : rings) sum += ring->operations();
    return sum;
}

void Machine::State::check_quiet() {
    std::uint32_t left = descriptors.count();
    for (int fd = 0; left != 0; ++fd) {
        const std::shared_ptr<File> file = descriptors.get(fd);
        if (file == nullptr) continue;
        --left;
        const char* const kind = dynamic_cast<const SimulatedRing*>(file.get()) != nullptr ? "a ring"
                                 : file->is_socket()                                       ? "a socket"
                                 : dynamic_cast<const DiskFile*>(file.get()) != nullptr    ? "a file"
                                                                                           : "an event descriptor";
        world.finding(name + ": descriptor " + std::to_string(fd) + " is still open: " + kind);
    }
    for (const auto& [address, length] : mappings) {
        world.finding(name + ": a mapping of " + std::to_string(length) + " bytes is left");
    }
    for (const auto& [address, mapping] : ring_mappings) {
        world.finding(name + ": a mapping of a ring is left, " + std::to_string(mapping.length) + " bytes");
    }
    forget_ended_rings();
    for (const auto& ring : rings) {
        if (const std::string leftovers = ring->leftovers(); !leftovers.empty()) {
            world.finding(name + ": a ring has ended with\n" + leftovers);
        }
    }
    if (locked_memory.used_bytes != 0) {
        world.finding(name + ": " + std::to_string(locked_memory.used_bytes) + " bytes of memory are still locked");
    }
}

// ---- Machine ----

Machine::Machine(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

Machine::~Machine() = default;

Kernel& Machine::kernel() noexcept {
    return *state_->kernel;
}

const std::string& Machine::name() const noexcept {
    return state_->name;
}

Profile Machine::profile() const noexcept {
    return state_->options.profile;
}

SocketAddress Machine::ipv4(std::uint16_t port) const noexcept {
    return state_->host.ipv4().with_port(port);
}

SocketAddress Machine::ipv6(std::uint16_t port) const noexcept {
    return state_->host.ipv6().with_port(port);
}

void Machine::signal(int number) {
    state_->signal(number);
}

void Machine::partition(bool down) {
    state_->host.network().cut(state_->host, down);
}

void Machine::partition(Machine& other, bool down) {
    state_->host.network().cut(state_->host, other.state_->host, down);
}

void Machine::write_file(std::string_view path, std::string_view contents) {
    state_->files.put(path, contents);
}

void Machine::make_directory(std::string_view path) {
    FERRULE_ASSERT(state_->files.make(path, S_IFDIR | 0755) != nullptr);
}

void Machine::make_link(std::string_view path, std::string_view target) {
    const auto link = state_->files.make(path, S_IFLNK | 0777);
    FERRULE_ASSERT(link != nullptr);
    link->write(0, std::as_bytes(std::span(target)), state_->world.now_ns());
}

bool Machine::remove_file(std::string_view path) {
    return state_->files.remove(path) == 0;
}

std::optional<std::string> Machine::file(std::string_view path) const {
    const auto inode = state_->files.find(path);
    if (inode == nullptr || !inode->is_regular()) return std::nullopt;
    return inode->bytes();
}

bool Machine::resize_file(std::string_view path, std::uint64_t bytes) {
    const auto inode = state_->files.find(path);
    if (inode == nullptr || !inode->is_regular()) return false;
    const std::uint64_t before = inode->bytes().size();
    if (bytes > before && !state_->files.take(bytes - before)) return false;
    if (bytes < before) state_->files.give_back(before - bytes);
    inode->resize(bytes, state_->world.now_ns());
    return true;
}

bool Machine::drop_pages(std::string_view path) {
    const auto inode = state_->files.find(path);
    if (inode == nullptr) return false;
    inode->drop_pages();
    return true;
}

bool Machine::file_mode(std::string_view path, unsigned mode) {
    const auto inode = state_->files.find(path);
    if (inode == nullptr) return false;
    inode->permissions(mode);
    return true;
}

std::uint32_t Machine::descriptors() const noexcept {
    return state_->descriptors.count();
}

}  // namespace ferrule::inline v0::sim
