#pragma once

#include <ferrule/version.hpp>

#include <cstdint>

namespace ferrule::inline v0 {

class CancelScope;
class Host;

/// What a task inherits from the one that awaits it. Each promise holds one pointer to it; whoever makes an environment
/// (a host's root, a connection, a scope) keeps it alive until the tasks that run under it have ended. The host's own
/// thread.
struct Environment {
    /// The scope whose cancellation ends this task's waits; null: nothing cancels them.
    CancelScope* scope = nullptr;
    /// The host that this task belongs to. A task that visits another thread still belongs to it.
    Host* host = nullptr;
    /// An identity for logs and traces; 0: none. The library passes it on and never reads it.
    std::uint64_t trace = 0;
};

}  // namespace ferrule::inline v0
