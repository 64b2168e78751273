#pragma once

#include "sim/file.hpp"
#include "sim/machine_state.hpp"

#include <signal.h>

#include <cstdint>

namespace ferrule::inline v0::sim {

/// signalfd(2): takes the machine's pending signals that are in its mask.
class SignalDescriptor final : public File {
public:
    SignalDescriptor(Machine::State& machine, const Process& process, const sigset_t& signals);
    ~SignalDescriptor() override;

    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    std::int64_t read(std::span<std::byte> into) noexcept override;
    void released() noexcept override;

    [[nodiscard]] bool takes(int signal) const noexcept { return sigismember(&signals_, signal) == 1; }
    /// Whose it is.
    [[nodiscard]] const Process& process() const noexcept { return process_; }

private:
    /// 0: none.
    [[nodiscard]] int next() const noexcept;
    void leave() noexcept;

    Machine::State& machine_;
    const Process& process_;
    sigset_t signals_;
};

}  // namespace ferrule::inline v0::sim
