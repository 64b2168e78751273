#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/task/task.hpp>

#include "server/restart_channel.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// What a running server offers to this process, which is to serve in its place: its listening sockets, by port. The
/// running one serves on until `finish`, and if this ends before.
class TakeOver {
public:
    /// A port of the running server.
    struct OfferedPort {
        std::uint16_t number = 0;  ///< there
        Address address;           ///< that it is bound to
        bool chosen = false;       ///< by the system
        bool order_known = true;   ///< the sockets are in the kernel's order
        bool taken = false;
        std::vector<int> sockets;
    };
    /// How the take-over ended.
    enum class Outcome : std::uint8_t {
        done,     ///< the other accepts no more
        alone,    ///< the other has ended in the middle: there is nobody left to wait for
        refused,  ///< the other goes on serving
    };

    /// Asks the server that serves the path for what it has, and waits for it. Null when nobody serves the path. Throws
    /// StartError for everything else. Not on a reactor's thread.
    static std::unique_ptr<TakeOver> begin(Kernel& kernel, const Address& path, std::chrono::milliseconds timeout);
    /// Closes what was not taken.
    ~TakeOver();
    TakeOver(const TakeOver&) = delete;
    TakeOver& operator=(const TakeOver&) = delete;

    /// The sockets of a port with this address, which are the caller's from now on; null when none was offered. With
    /// `any_host`, IPv4's any address is as good as IPv6's. A port that the system chooses gets what it chose there.
    const OfferedPort* take(const Address& wanted, bool any_host);
    /// Closes the sockets of ports that were not taken: where nobody accepts, nobody may be let in.
    void close_untaken() noexcept;
    /// The socket at which restarts are asked for. The caller's.
    int take_restart_listener() noexcept;
    /// The number of the other process.
    [[nodiscard]] std::int32_t process() const noexcept { return process_; }

    /// Says that this process accepts, and waits for the other to accept no more. Once, on the control's thread.
    Task<Outcome> finish(Reactor& control);
    /// What there is to say of that: why it is not done.
    [[nodiscard]] const std::string& reason() const noexcept { return reason_; }

private:
    TakeOver(Kernel& kernel, const Address& path, std::chrono::milliseconds timeout)
        : kernel_(kernel), path_(path), timeout_(timeout) {}
    bool connect();
    void receive_offer_on_a_reactor();
    Task<> receive_offer(Reactor& reactor);
    Task<> receive_all();
    void keep_socket();
    Task<> conclude();
    [[nodiscard]] OfferedPort* find(const Address& wanted, bool any_host);
    [[nodiscard]] StartError error(const std::string& what, int number) const;
    [[nodiscard]] std::string expected(int failed, RestartMessage::Kind due) const;

    Kernel& kernel_;
    const Address path_;
    const std::chrono::milliseconds timeout_;
    int connected_ = -1;
    std::unique_ptr<RestartChannel> channel_;
    std::vector<OfferedPort> ports_;
    int restart_listener_ = -1;
    std::int32_t process_ = 0;
    Outcome outcome_ = Outcome::alone;
    std::string reason_;
};

}  // namespace ferrule::inline v0
