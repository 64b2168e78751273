#include "sim/workloads/audit.hpp"

#include <string>

namespace ferrule_test {

void Audit::expect_none(std::uint64_t count, const char* what) const {
    if (count != 0)
        run_->find("reactor " + std::to_string(reactor_->id()) + " has ended with " + std::to_string(count) + " " +
                   what);
}

Audit::~Audit() {
    const ferrule::Network& network = reactor_->service<ferrule::Network>();
    const ferrule::NetworkCounters& counted = network.counters();
    expect_none(counted.connections.value(), "connections");
    expect_none(counted.leases.value(), "leases");
    expect_none(network.buffers().held(), "receive buffers held");
    expect_none(network.buffers().slices(), "slices of receive buffers");
    expect_none(network.slabs().used_bytes(), "bytes in slabs");
    expect_none(reactor_->counters().operations.value(), "operations");
    // Frames that came home late are taken in behind the services; the pool itself then sees that none is left.
    run_->refused(counted.refused.value());
    // One account for frames, slabs and connections' own buffers: what is left in it is what is kept for reuse.
    const ferrule::NetworkOptions& options = network.options();
    const std::uint64_t ring_bytes = std::uint64_t{options.connection_buffer_count} *
                                     (options.connection_buffer_size + sizeof(ferrule::abi::BufferEntry));
    const std::uint64_t kept =
        reactor_->frames.peak_bytes() + network.slabs().idle_bytes() + counted.connection_rings.value() * ring_bytes;
    if (reactor_->memory_account.used_bytes() != kept) {
        run_->find("the memory account of reactor " + std::to_string(reactor_->id()) + " says " +
                   std::to_string(reactor_->memory_account.used_bytes()) + " bytes, its pools " + std::to_string(kept));
    }
}

}  // namespace ferrule_test
