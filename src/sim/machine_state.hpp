#pragma once

#include <ferrule/sim/machine.hpp>

#include "sim/descriptors.hpp"
#include "sim/file_system.hpp"
#include "sim/network.hpp"
#include "sim/ring.hpp"
#include "sim/scheduler.hpp"

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace ferrule::inline v0::sim {

class MachineKernel;
class SignalDescriptor;

/// A process of a machine: its threads end with it.
struct Process {
    std::string name;
};

/// A thread of a process, which runs on a fiber.
struct Thread {
    static constexpr std::size_t ring_limit = 16;

    Process* process = nullptr;
    std::string name;
    std::uint64_t identity = 0;
    Fiber* fiber = nullptr;
    Fiber* joiner = nullptr;
    bool ended = false;
    /// Nobody will join it any more.
    bool detached = false;
    sigset_t blocked{};
    cpu_set_t cpus{};
    /// The ring descriptors that it has registered (abi::register_ring_descriptors).
    std::vector<std::shared_ptr<File>> rings;
};

/// Who waits at a word of memory.
struct FutexWaiter {
    const void* word;
    Fiber* fiber;
    bool woken;
};

/// What a machine consists of.
class Machine::State {
public:
    State(Scheduler& scheduler, Host& host, std::string name, MachineOptions options);
    ~State();

    /// Starts a process's main thread.
    void start(std::string name, std::function<void()> main);
    /// A thread that runs `body` on a fiber, of this process.
    Thread& start_thread(Process& process, std::string name, std::function<void()> body);
    /// The thread that runs; it is one of this machine (assertion).
    [[nodiscard]] Thread& current_thread() noexcept;

    void signal(int number);
    /// After a thread has changed its mask: a pending signal that it does not block any more is its process's end.
    void may_deliver(const Thread& thread);
    /// Requests that its rings have completed.
    [[nodiscard]] std::uint64_t operations() const noexcept;
    /// Lets go of the rings that nobody else has and that have nothing in flight.
    void forget_ended_rings();
    /// At the end: what is left is a finding each.
    void check_quiet();

    void end(Thread& thread);

    Scheduler& world;
    Host& host;
    std::string name;
    MachineOptions options;
    FileSystem files;
    Descriptors descriptors;
    LockedMemory locked_memory;
    std::unique_ptr<MachineKernel> kernel;
    std::vector<std::unique_ptr<Process>> processes;
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<FutexWaiter*> futex_waiters;
    std::vector<SignalDescriptor*> signal_descriptors;
    sigset_t pending_signals{};
    /// Anonymous memory, by address.
    std::map<void*, std::size_t> mappings;
    struct RingMapping {
        std::shared_ptr<File> ring;
        std::size_t length;
    };
    std::map<void*, RingMapping> ring_mappings;
    /// The rings that were made, without those that are known to have ended; and what these have completed.
    std::vector<std::shared_ptr<SimulatedRing>> rings;
    std::uint64_t operations_of_ended_rings = 0;
    std::uint64_t identities = 0;
};

}  // namespace ferrule::inline v0::sim
