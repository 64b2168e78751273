#include <ferrule/task/describe_live_tasks.hpp>

#if defined(FERRULE_LIVE_TASKS)
#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>
#endif

namespace ferrule::inline v0 {

#if defined(FERRULE_LIVE_TASKS)

namespace {

constexpr std::size_t none = ~std::size_t{0};

/// A task, with its place in the tree: the first of those that it awaits, and the next that the same one awaits.
struct Node {
    LiveTask task;
    std::size_t parent = none;
    std::size_t first = none;
    std::size_t next = none;
};

bool before(const void* one, const void* other) noexcept {
    return reinterpret_cast<std::uintptr_t>(one) < reinterpret_cast<std::uintptr_t>(other);
}

/// Whose frame the pointer is in, of nodes in the order of their frames.
std::size_t holder_of(const std::vector<Node>& nodes, const void* pointer) noexcept {
    const auto behind = std::upper_bound(nodes.begin(), nodes.end(), pointer, [](const void* wanted, const Node& node) {
        return before(wanted, node.task.frame);
    });
    if (pointer == nullptr || behind == nodes.begin()) return none;
    const LiveTask& task = std::prev(behind)->task;
    const auto offset = reinterpret_cast<std::uintptr_t>(pointer) - reinterpret_cast<std::uintptr_t>(task.frame);
    // A handle points to a frame's begin, also where its size is not known.
    if (offset != 0 && offset >= task.frame_bytes) return none;
    return static_cast<std::size_t>(std::prev(behind) - nodes.begin());
}

/// `Task<> serve(Connection)` without what every coroutine has in front of its name, and the path without its folders.
std::string_view name_of(const LiveTask& task) noexcept {
    std::string_view name = task.function.function_name();
    for (const std::string_view prefix : {"static ", "ferrule::v0::"})
        if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
    if (!name.starts_with("Task<")) return name;
    int depth = 0;
    for (std::size_t at = 0; at < name.size(); ++at) {
        if (name[at] == '<') ++depth;
        if (name[at] == '>' && --depth == 0) return name.substr(std::min(name.size(), at + 2));
    }
    return name;
}

std::string_view file_of(const LiveTask& task) noexcept {
    const std::string_view path = task.function.file_name();
    const std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

void describe(const Node& node, std::size_t depth, std::uint64_t now_ns, std::string& text) {
    constexpr std::uint64_t millisecond_ns = 1'000'000;
    const std::uint64_t age_ms =
        now_ns > node.task.since_ns ? (now_ns - node.task.since_ns) / millisecond_ns : std::uint64_t{0};
    std::array<char, 64> tail;
    std::snprintf(tail.data(), tail.size(), ":%u), %" PRIu64 ".%03" PRIu64 " s\n",
                  static_cast<unsigned>(node.task.function.line()), age_ms / 1000, age_ms % 1000);
    text.append(2 * depth, ' ');
    text.append(name_of(node.task)).append(" (").append(file_of(node.task)).append(tail.data());
}

}  // namespace

std::string describe_live_tasks(Host& host, std::size_t lines_max) {
    std::vector<Node> nodes;
    for_each_live_task(host, [&](const LiveTask& task) { nodes.push_back({.task = task}); });
    std::sort(nodes.begin(), nodes.end(),
              [](const Node& one, const Node& other) { return before(one.task.frame, other.task.frame); });
    std::vector<std::size_t> roots;
    for (std::size_t index = 0; index < nodes.size(); ++index) {
        Node& node = nodes[index];
        const void* pointer = node.task.awaited_by != nullptr ? node.task.awaited_by : node.task.told;
        const std::size_t parent = holder_of(nodes, pointer);
        if (parent == none || parent == index) {
            roots.push_back(index);
            continue;
        }
        node.parent = parent;
        node.next = std::exchange(nodes[parent].first, index);
    }
    // The oldest first: it is the one that does not end.
    std::sort(roots.begin(), roots.end(), [&](std::size_t one, std::size_t other) {
        return nodes[one].task.since_ns < nodes[other].task.since_ns;
    });
    const std::uint64_t now_ns = host.clock_ns();
    std::string text =
        std::to_string(nodes.size()) + " tasks, of which nobody awaits " + std::to_string(roots.size()) + "\n";
    std::size_t lines = 0;
    for (const std::size_t root : roots) {
        // Down to the first child, else on to the next one of the same parent, of the grandparent, ...: no recursion,
        // because chains may be long.
        std::size_t depth = 0;
        for (std::size_t at = root; at != none;) {
            if (lines++ == lines_max) return text + "and " + std::to_string(nodes.size() - lines_max) + " more\n";
            describe(nodes[at], depth, now_ns, text);
            if (nodes[at].first != none) {
                at = nodes[at].first;
                ++depth;
                continue;
            }
            while (at != root && nodes[at].next == none) {
                at = nodes[at].parent;
                --depth;
            }
            at = at == root ? none : nodes[at].next;
        }
    }
    return text;
}

#else

std::string describe_live_tasks(Host&, std::size_t) {
    return "this build keeps no list of its tasks: configure with -DFERRULE_LIVE_TASKS=ON (debug builds have it), or "
           "use "
           "`ferrule tasks` in gdb, which finds those that wait\n";
}

#endif

}  // namespace ferrule::inline v0
