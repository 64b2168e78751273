#pragma once

#include <ferrule/ring/kernel.hpp>

namespace ferrule::inline v0 {

/// The NUMA node that the CPU belongs to, as sysfs says; -1: it does not say, as where the kernel has no NUMA.
[[nodiscard]] int node_of_cpu(Kernel& kernel, int cpu) noexcept;

}  // namespace ferrule::inline v0
