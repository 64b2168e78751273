#include "reactor/memory_node.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {

namespace {

// MAX_NUMNODES of the largest configuration.
constexpr int nodes_max = 1024;

/// Whether a list as the kernel writes it, `0-3,8,10-11`, has the number.
bool list_has(std::string_view list, int number) noexcept {
    while (!list.empty()) {
        int first = 0;
        auto [at, error] = std::from_chars(list.data(), list.data() + list.size(), first);
        if (error != std::errc{}) return false;
        list.remove_prefix(static_cast<std::size_t>(at - list.data()));
        int last = first;
        if (list.starts_with('-')) {
            list.remove_prefix(1);
            const auto read = std::from_chars(list.data(), list.data() + list.size(), last);
            if (read.ec != std::errc{}) return false;
            list.remove_prefix(static_cast<std::size_t>(read.ptr - list.data()));
        }
        if (number >= first && number <= last) return true;
        if (!list.starts_with(',')) return false;
        list.remove_prefix(1);
    }
    return false;
}

std::string_view read_list(Kernel& kernel, const char* path, std::span<char> into) noexcept {
    const ssize_t length = kernel.read_file(path, into.data(), into.size());
    return {into.data(), length > 0 ? static_cast<std::size_t>(length) : 0};
}

}  // namespace

int node_of_cpu(Kernel& kernel, int cpu) noexcept {
    std::array<char, 4096> online;
    std::array<char, 4096> cpus;
    const std::string_view nodes = read_list(kernel, "/sys/devices/system/node/online", online);
    for (int node = 0; !nodes.empty() && node < nodes_max; ++node) {
        if (!list_has(nodes, node)) continue;
        std::array<char, 64> path;
        std::snprintf(path.data(), path.size(), "/sys/devices/system/node/node%d/cpulist", node);
        if (list_has(read_list(kernel, path.data(), cpus), cpu)) return node;
    }
    return -1;
}

}  // namespace ferrule::inline v0
