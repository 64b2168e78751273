#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/task/task.hpp>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace ferrule::inline v0 {

/// Tells systemd how the process is, by the protocol of sd_notify(3): a datagram of NAME=VALUE lines for each message,
/// sent to the Unix socket that NOTIFY_SOCKET names. Does nothing where there is none. The control's.
class Notifier {
public:
    /// Throws StartError for a NOTIFY_SOCKET that cannot be sent to, and for variables of the watchdog that are no
    /// numbers: systemd would wait for words that never come.
    Notifier(Kernel& kernel, bool wanted);
    ~Notifier();
    Notifier(const Notifier&) = delete;
    Notifier& operator=(const Notifier&) = delete;

    /// Whether there is somebody to tell.
    [[nodiscard]] bool active() const noexcept { return descriptor_ >= 0; }
    /// Within which time the watchdog wants to be told that all is well, in nanoseconds (WATCHDOG_USEC); 0: never.
    [[nodiscard]] std::uint64_t watchdog_ns() const noexcept { return watchdog_ns_; }

    /// The line that describes the state to people: `STATUS=...`, whatever the text has in it.
    [[nodiscard]] static std::string status(std::string_view text);
    /// Who waits where systemd has no room for a message.
    void attach(Reactor& control) noexcept { control_ = &control; }
    /// Says no more.
    void mute() noexcept { muted_ = true; }
    /// Sends the lines, behind those that wait. On the control's thread.
    void tell(std::string lines);

private:
    void open(const std::string& name);
    void read_watchdog();
    int write(std::string_view lines) noexcept;
    Task<> send_waiting();

    Kernel& kernel_;
    Reactor* control_ = nullptr;
    int descriptor_ = -1;
    bool muted_ = false;
    std::uint64_t watchdog_ns_ = 0;
    std::deque<std::string> waiting_;
};

}  // namespace ferrule::inline v0
