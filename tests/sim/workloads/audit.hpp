#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "sim/workloads/workload.hpp"

namespace ferrule_test {

/// A service that looks at what its reactor and network have left when the reactor is destroyed: nothing in use, and
/// accounts that balance. Added behind the Network, so that it ends before it.
class Audit {
public:
    /// Makes the network, if need be, and the audit of a reactor.
    static void attach(WorkloadRun& run, ferrule::Reactor& reactor, const ferrule::NetworkOptions& options = {}) {
        if (reactor.find_service<ferrule::Network>() == nullptr)
            reactor.add_service<ferrule::Network>(reactor, options);
        reactor.add_service<Audit>(run, reactor);
    }

    Audit(WorkloadRun& run, ferrule::Reactor& reactor) : run_(&run), reactor_(&reactor) {}
    Audit(const Audit&) = delete;
    Audit& operator=(const Audit&) = delete;
    ~Audit();

private:
    void expect_none(std::uint64_t count, const char* what) const;

    WorkloadRun* run_;
    ferrule::Reactor* reactor_;
};

}  // namespace ferrule_test
