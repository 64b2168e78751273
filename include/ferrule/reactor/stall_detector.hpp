#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/version.hpp>

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// A place in the program's code.
struct StackFrame {
    std::string function;       ///< demangled; a coroutine by its own name. Empty where the module has no symbol for it
    bool coroutine = false;     ///< the body of a coroutine
    std::string module;         ///< the program's file or a library's
    std::uintptr_t offset = 0;  ///< in the module, as addr2line(1) takes it: `addr2line -Cfe module offset`
};

/// `wait_for_disk() (/usr/bin/server+0x12ab)`, without what is not known.
FERRULE_EXPORT std::string to_string(const StackFrame& frame);

/// A dispatch that lasts: what a reactor does between two visits to the kernel.
struct StallReport {
    std::uint32_t reactor = 0;            ///< Reactor::id
    bool ended = false;                   ///< false: it still lasts; true: the second report of the same stall
    std::chrono::nanoseconds duration{};  ///< so far, or altogether
    /// The coroutine that blocks: the innermost on the stack, or, without a stack, the one that the loop has resumed
    /// last. Empty: none, as in a posted function.
    std::string handler;
    /// What the kernel says of the thread: `R` it computes, or waits for a CPU; `S` it waits; `D` it waits for a disk.
    /// Nul: not known.
    char thread_state = '\0';
    std::vector<StackFrame> stack;  ///< innermost first. The second report has none
    std::string stack_missing;      ///< why there is no stack; empty when there is one
};

/// The report in a line.
FERRULE_EXPORT std::string to_string(const StallReport& report);

/// How a stall detector looks.
struct StallDetectorOptions {
    /// A dispatch that lasts so long is a stall. At least a millisecond.
    std::chrono::nanoseconds threshold = std::chrono::milliseconds(100);
    /// What makes a stuck thread write down its stack. By default the system ignores SIGURG, so that one which is
    /// delivered late harms nobody.
    int signal = SIGURG;
    /// How long the thread may take for that: one that waits for a disk does not take signals.
    std::chrono::nanoseconds stack_patience = std::chrono::seconds(1);
};

/// Watches reactors from a thread of its own, and names the coroutine that keeps one of them from its work: each
/// dispatch that lasts longer than the threshold is reported once while it lasts, with the stack, and once when it has
/// ended. A reactor pays a store for each pass of its loop and one for each resumption, watched or not.
///
/// The stack is taken by a signal to the stuck thread (tgkill(2)), whose handler only walks the stack; names are looked
/// up here. This is the one place of the library that handles a signal (law 12), by option: the handler stands as long
/// as the detector, and what stood there before comes back. A blocking call of the stuck thread may end with EINTR for
/// it (signal(7) says which are not resumed). Several detectors may use one signal; when they do not end in the
/// opposite order of their making, a stall may be reported without a stack.
///
/// Names come from the symbols of the program's file, also local ones (they need no -rdynamic); of a stripped one
/// module and offset are left.
///
/// On a kernel that has no signals, the simulated one, it does nothing: there a dispatch takes no time.
///
/// ```cpp
/// StallDetector detector{{.threshold = std::chrono::milliseconds(50)}};
/// detector.on_stall([](const StallReport& report) { std::printf("%s\n", to_string(report).c_str()); });
/// detector.watch(reactor);
/// ```
class FERRULE_EXPORT StallDetector {
public:
    /// Throws std::invalid_argument for a threshold of less than a millisecond and for a signal that somebody handles
    /// already, and std::system_error when the signal cannot be handled or the thread not be started.
    explicit StallDetector(StallDetectorOptions options = {}, Kernel& kernel = linux_kernel());
    /// Ends the thread, within 50 ms or the end of a report.
    ~StallDetector();
    StallDetector(const StallDetector&) = delete;
    StallDetector& operator=(const StallDetector&) = delete;

    /// Called for each report, on the detector's thread; it watches nobody meanwhile. It must not call `watch` or
    /// `forget`. The default writes it to the log of the reactor (`stall` and `stall-ended`). Before the first `watch`.
    void on_stall(std::function<void(const StallReport&)> function);

    /// Watches the reactor until `forget`, which comes before the reactor's end. Any thread.
    void watch(Reactor& reactor);
    /// Watches it no more. Waits for a report that is being made. Any thread.
    void forget(Reactor& reactor) noexcept;

    /// Whether it watches at all: not on a kernel without signals.
    [[nodiscard]] bool active() const noexcept;
    /// Stalls so far. Any thread.
    [[nodiscard]] std::uint64_t stalls() const noexcept;

private:
    class Watcher;
    std::unique_ptr<Watcher> watcher_;
};

}  // namespace ferrule::inline v0
