#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <utility>

namespace ferrule::inline v0 {

/// Starts `task` at once, on the current host's thread, as a root that nobody awaits: it runs until it first has to
/// wait, then spawn returns. It owns itself: at its end its frame is destroyed, and then `hook(argument, exception)` is
/// called, by whatever resumed it last. `exception` is what left the task, or null; reporting it is the hook's affair.
/// `hook` may spawn. There is no frame besides the task's own. `environment` (null: the host's root) outlives the task.
/// `host` is current; `argument` is null or aligned to 8 (assertions).
inline void spawn(Host& host, Task<> task, Environment* environment, CompletionHook hook, void* argument) {
    FERRULE_ASSERT(Host::current() == &host);
    FERRULE_ASSERT(task);
    const Task<>::Handle handle = task.release();
    handle.promise().environment = environment != nullptr ? environment : &host.root_environment;
    handle.promise().detach(hook, argument);
    handle.resume();
}

/// As above, and an exception that leaves the task goes to `host.fault`.
inline void spawn(Host& host, Task<> task, Environment* environment) {
    constexpr CompletionHook report = [](void* argument, std::exception_ptr exception) noexcept {
        if (exception != nullptr) {
            static_cast<Host*>(argument)->fault(std::move(exception));
        }
    };
    spawn(host, std::move(task), environment, report, &host);
}

/// As above, under the host's root environment.
inline void spawn(Host& host, Task<> task) {
    spawn(host, std::move(task), nullptr);
}

}  // namespace ferrule::inline v0
