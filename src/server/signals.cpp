#include <ferrule/ring/error.hpp>
#include <ferrule/server/options.hpp>

#include "server/signals.hpp"

#include <sys/signalfd.h>

namespace ferrule::inline v0 {

Signals::Signals(Kernel& kernel, bool with_hangup) : kernel_(kernel) {
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGTERM);
    sigaddset(&taken, SIGINT);
    if (with_hangup) sigaddset(&taken, SIGHUP);
    if (const int result = kernel_.block_signals(&taken, &former_); result < 0) {
        const auto code = system_error(-result);
        throw StartError("block SIGTERM and SIGINT: " + code.message(), code);
    }
    descriptor_ = kernel_.signal_descriptor(&taken);
    if (descriptor_ < 0) {
        kernel_.restore_signals(&former_);
        const auto code = system_error(-descriptor_);
        throw StartError("signalfd for SIGTERM and SIGINT: " + code.message(), code);
    }
}

Signals::~Signals() {
    // One that comes now, while everything has ended as it asks, would end the process when the mask is restored.
    while (take() != 0) {
    }
    kernel_.close(descriptor_);
    kernel_.restore_signals(&former_);
}

int Signals::take() noexcept {
    signalfd_siginfo signal;
    return kernel_.read(descriptor_, &signal, sizeof signal) > 0 ? static_cast<int>(signal.ssi_signo) : 0;
}

}  // namespace ferrule::inline v0
