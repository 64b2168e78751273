#pragma once

#include <ferrule/task/host.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <string>

namespace ferrule::inline v0 {

/// The tasks of the host that have not ended, as text: a block for each task that nobody awaits, with its function,
/// file and line, how long it has been alive, and, indented, what it awaits, down to what waits for the ring. Tasks of
/// a when_all, a when_any or a TaskGroup stand below the coroutine that has it. At most so many lines, then how many
/// more.
///
///     serve(Connection) (server.cpp:31), 12.204 s
///       answer(Connection&) (server.cpp:12), 0.031 s
///
/// In builds without FERRULE_LIVE_TASKS (only debug builds have it by default) it says so, and that gdb finds most of
/// them. Any thread; the host's, for a host whose `clock_ns` is.
FERRULE_EXPORT std::string describe_live_tasks(Host& host, std::size_t lines_max = 10'000);

}  // namespace ferrule::inline v0
