#pragma once

#include <ferrule/ring/kernel.hpp>
#include <ferrule/sim/profile.hpp>
#include <ferrule/sim/socket_address.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

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
    /// Files that it has from the beginning, by path: /etc/resolv.conf, say. More are made by Machine::write_file.
    std::map<std::string, std::string> files{};
    /// What its files may have together; then ENOSPC.
    std::uint64_t disk_bytes = std::uint64_t{1} << 30;
};

/// A machine of the simulated network: 10.0.0.N and fd00::N, where N counts the machines from 1; 127.0.0.0/8 and ::1;
/// a file system in memory. Its processes share one table of descriptors and one address space.
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

    /// Its files, as another program on it would change them. The directories on the way are made; paths begin at the
    /// root. A file is made anew, with all of it in the page cache.
    void write_file(std::string_view path, std::string_view contents);
    void make_directory(std::string_view path);
    void make_link(std::string_view path, std::string_view target);
    /// False when there is none; so with all below.
    bool remove_file(std::string_view path);
    /// What it has; nothing when there is no such file.
    [[nodiscard]] std::optional<std::string> file(std::string_view path) const;
    /// Shortens it, or fills it up with zeros.
    bool resize_file(std::string_view path, std::uint64_t bytes);
    /// Nothing of it is in the page cache any more: who reads it waits for the disk.
    bool drop_pages(std::string_view path);
    /// chmod(2).
    bool file_mode(std::string_view path, unsigned mode);

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
