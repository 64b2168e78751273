#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/address_limiter.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/stall_detector.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/drain_progress.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/server/reload.hpp>
#include <ferrule/server/server.hpp>
#include <ferrule/task/task.hpp>

#include "ring/mutex.hpp"
#include "server/drain_watch.hpp"
#include "server/hand_over.hpp"
#include "server/member.hpp"
#include "server/notifier.hpp"
#include "server/port.hpp"
#include "server/reloading.hpp"
#include "server/restart_channel.hpp"
#include "server/roll_call.hpp"
#include "server/signals.hpp"
#include "server/take_over.hpp"
#include "server/watchdog.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ferrule::inline v0 {

/// What a Server does. The thread of `run` runs a small reactor of its own, the control: signals, stops and the reports
/// of the others come to it as completions and messages, so that none of its state is shared.
class Server::Engine {
public:
    Engine(ServerOptions options, Kernel& kernel);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    void add_first_port(ConnectionHandler handler);
    void add_port(PortOptions options, ConnectionHandler handler);
    int run();
    void stop();
    void reload();
    std::size_t reactor_count() const;
    std::uint16_t port() const;
    std::vector<Address> addresses() const;
    std::string describe_live_tasks() const;
    ServerCounters counters() const;

    std::vector<std::function<void(Reactor&)>> start_hooks;
    std::function<void(Reactor&, std::exception_ptr)> fault_hook;
    Log::Function log_function;
    std::function<void(const StallReport&)> stall_hook;
    std::vector<std::function<void()>> listening_hooks;
    std::vector<std::function<void(Reload&)>> reload_hooks;
    std::vector<std::function<void(const DrainProgress&)>> drain_hooks;

private:
    void take_inherited();
    void take_over();
    void take_offered();
    void open_ports();
    void adopt_taken(Port& port);
    Address add_address(int descriptor);
    void open_port(Port& port);
    void give_sockets_to_reactors();
    std::vector<int> allowed_cpus() const;
    void make_reactors();
    std::vector<std::unique_ptr<Member>> make_members(const ReactorOptions& reactor);
    void start_threads();
    void run_member(std::size_t index) noexcept;
    void start_member(std::size_t index);
    void begin_serving(std::size_t index);
    void leave_selection(const Member& member) noexcept;

    // On the control.
    Task<> watch_signals();
    void member_started();
    void member_serves();
    void begin_listening();
    void begin_draining();
    void member_ended(std::size_t index, std::exception_ptr failure);
    void begin_stop();
    void prepare_drain();
    void member_ready_to_drain(std::size_t index);
    void drain_when_all_are_ready();
    void stop_now();
    void fail(std::exception_ptr failure);

    void watch_for_stalls();
    // Restarts, on the control: engine_restarting.cpp.
    void open_restart_listener();
    void prepare_taken(std::size_t index);
    Task<> complete_take_over();
    Task<> offer_restarts();
    Task<bool> hand_over_to(int descriptor);
    Task<> talk_to_successor(RestartChannel& channel);
    Task<> refuse(RestartChannel& channel, std::string reason);
    Task<> release_ports();
    struct OfferedSocket {
        std::size_t port;
        int descriptor;
        Address address;
    };
    std::vector<OfferedSocket> offered_sockets() const;

    void serve();
    void clean_up() noexcept;

    const ServerOptions options_;
    Kernel& kernel_;
    std::vector<Port> ports_;
    std::unique_ptr<AddressLimiter> limiter_;  // of all reactors together; outlives them
    std::vector<std::unique_ptr<Member>> members_;
    const HandOver hand_over_;

    // Of what other threads ask for: the next three, and the coming and going of members_, stall_detector_ and
    // control_.
    mutable Mutex mutex_;
    unsigned stops_asked_ = 0;
    std::vector<Address> addresses_;
    ServerCounters final_counters_;

    std::unique_ptr<StallDetector> stall_detector_;
    std::unique_ptr<Reactor> control_;
    // The control's.
    std::unique_ptr<Signals> signals_;
    std::unique_ptr<Notifier> notifier_;
    std::unique_ptr<Reloading> reloading_;
    std::unique_ptr<Watchdog> watchdog_;
    std::unique_ptr<DrainWatch> drain_watch_;
    std::unique_ptr<TakeOver> take_over_;  // from the server before, until this one serves
    std::unique_ptr<RollCall> restart_roll_;
    Address restart_address_;
    int restart_listener_ = -1;
    bool successor_starts_ = false;  // another server has been offered the ports
    bool successor_ready_ = false;   // and accepts
    std::string successor_fault_;
    unsigned stops_ = 0;
    std::size_t started_ = 0;
    std::size_t serving_ = 0;
    std::size_t ended_ = 0;
    bool ending_ = false;
    bool draining_ = false;
    bool first_port_ = false;
    bool ran_ = false;
    bool member_failed_ = false;
    std::exception_ptr failure_;  // what `run` throws
};

}  // namespace ferrule::inline v0
