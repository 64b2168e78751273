#include "sim/signal_descriptor.hpp"

#include <poll.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <cstring>

namespace ferrule::inline v0::sim {

SignalDescriptor::SignalDescriptor(Machine::State& machine, const Process& process, const sigset_t& signals)
    : machine_(machine), process_(process), signals_(signals) {
    machine.signal_descriptors.push_back(this);
}

SignalDescriptor::~SignalDescriptor() {
    leave();
}

void SignalDescriptor::leave() noexcept {
    std::erase(machine_.signal_descriptors, this);
}

void SignalDescriptor::released() noexcept {
    leave();
}

int SignalDescriptor::next() const noexcept {
    for (int signal = 1; signal < NSIG; ++signal) {
        if (takes(signal) && sigismember(&machine_.pending_signals, signal) == 1) return signal;
    }
    return 0;
}

std::uint32_t SignalDescriptor::readiness() const noexcept {
    return next() != 0 ? POLLIN : 0;
}

std::int64_t SignalDescriptor::read(std::span<std::byte> into) noexcept {
    signalfd_siginfo information{};
    if (into.size() < sizeof information) return -EINVAL;
    const int signal = next();
    if (signal == 0) return -EAGAIN;
    sigdelset(&machine_.pending_signals, signal);
    information.ssi_signo = static_cast<std::uint32_t>(signal);
    std::memcpy(into.data(), &information, sizeof information);
    return sizeof information;
}

}  // namespace ferrule::inline v0::sim
