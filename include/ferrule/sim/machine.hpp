#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/sim/profile.hpp>
#include <ferrule/sim/socket_address.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace ferrule::inline v0::sim {

class Simulation;

/// What a simulated machine is like.
struct MachineOptions {
    /// The Linux that it runs.
    Profile profile = Profile::linux_6_18;
    /// CPUs, which its threads may use all.
    unsigned cpus = 2;
    /// RLIMIT_NOFILE: the descriptors of all its processes together, which share one table.
    std::uint32_t descriptor_limit = 1024;
    /// RLIMIT_MEMLOCK in bytes; -1: none.
    long locked_memory_limit = -1;
    /// What Kernel::read_file finds, by path.
    std::map<std::string, std::string> files{};
};

/// A machine of the simulated network: 10.0.0.N and fd00::N, where N counts the machines from 1; 127.0.0.0/8 and ::1;
/// a file system as far as Unix sockets need one. Its processes share one table of descriptors and one address space.
/// Made by Simulation::machine, and lives as long as the simulation.
class FERRULE_EXPORT Machine {
public:
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    ~Machine();

    /// Its Linux: what a Server, a Reactor or a Ring is given in a simulation. Only for code that runs in a process of
    /// this machine, or in a thread of one.
    [[nodiscard]] Kernel& kernel() noexcept;
    [[nodiscard]] const std::string& name() const noexcept;
    [[nodiscard]] Profile profile() const noexcept;

    /// 10.0.0.N with this port.
    [[nodiscard]] SocketAddress ipv4(std::uint16_t port = 0) const noexcept;
    /// fd00::N with this port.
    [[nodiscard]] SocketAddress ipv6(std::uint16_t port = 0) const noexcept;

    /// kill(2) with every process of the machine: who waits for the signal with a signal descriptor gets it. A process
    /// that would die of it, because a thread of it does not block the signal or nobody waits for it, is a finding.
    void signal(int number);

    /// Nothing arrives at the machine, and nothing from it at others, until `partition(false)`: connections are not
    /// told; their segments are sent again when it is over, and given up after as long as Linux does.
    void partition(bool down = true);
    /// The same between these two machines only.
    void partition(Machine& other, bool down = true);

    /// Descriptors that are open now.
    [[nodiscard]] std::uint32_t descriptors() const noexcept;

    /// For the other parts of the simulated kernel.
    class State;
    [[nodiscard]] State& state() noexcept { return *state_; }

private:
    friend Simulation;
    explicit Machine(std::unique_ptr<State> state) noexcept;

    std::unique_ptr<State> state_;
};

}  // namespace ferrule::inline v0::sim
