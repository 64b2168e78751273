#include "sim/workloads/registry.hpp"

#include <algorithm>
#include <array>

namespace ferrule_test {

std::span<const Workload> workloads() {
    static const std::array all = {
        echo_workload,         pipelined_workload, half_close_workload, storm_workload,      cancellation_workload,
        drain_workload,        deadlines_workload, posts_workload,      starvation_workload, proxy_workload,
        gateway_workload,      unix_workload,      hop_workload,        hostile_workload,    limits_workload,
        operations_workload,   resolver_workload,  segments_workload,   datagrams_workload,  connect_workload,
        files_workload,        streams_workload,   tcp_proxy_workload,  day_workload,        crossing_workload,
        coordination_workload, defence_workload,   restart_workload,    http_workload,
    };
    return all;
}

const Workload* find_workload(std::string_view name) {
    const auto all = workloads();
    const auto found = std::find_if(all.begin(), all.end(), [name](const Workload& each) { return each.name == name; });
    return found != all.end() ? &*found : nullptr;
}

}  // namespace ferrule_test
