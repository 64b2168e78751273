#pragma once

#include "sim/workloads/workload.hpp"

namespace ferrule_test {

extern const Workload echo_workload;
extern const Workload pipelined_workload;
extern const Workload half_close_workload;
extern const Workload storm_workload;
extern const Workload cancellation_workload;
extern const Workload drain_workload;
extern const Workload deadlines_workload;
extern const Workload posts_workload;
extern const Workload starvation_workload;
extern const Workload proxy_workload;
extern const Workload gateway_workload;
extern const Workload unix_workload;
extern const Workload hop_workload;
extern const Workload hostile_workload;
extern const Workload limits_workload;
extern const Workload operations_workload;
extern const Workload resolver_workload;
extern const Workload segments_workload;
extern const Workload datagrams_workload;
extern const Workload connect_workload;
extern const Workload files_workload;
extern const Workload streams_workload;
extern const Workload tcp_proxy_workload;
extern const Workload day_workload;
extern const Workload crossing_workload;
extern const Workload coordination_workload;
extern const Workload defence_workload;
extern const Workload restart_workload;
extern const Workload http_workload;

}  // namespace ferrule_test
