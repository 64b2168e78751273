#pragma once

#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/task/task.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule::inline v0 {

/// What Prometheus' client libraries tell of a process, by their names, and which build of this library it has. From
/// proc(5): what the system does not tell is left out.
class ProcessMetrics {
public:
    explicit ProcessMetrics(Kernel& kernel);

    /// Reads them, on the reactor's thread.
    Task<std::vector<MetricSample>> read(Reactor& reactor) const;

private:
    void add_statistics(std::vector<MetricSample>& samples) const;
    void add_memory(std::vector<MetricSample>& samples) const;
    [[nodiscard]] std::string file(const char* path) const;

    Kernel* kernel_;
    std::uint64_t started_ns_ = 0;  // since 1970; 0: it is not known
};

}  // namespace ferrule::inline v0
