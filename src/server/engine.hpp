#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/stall_detector.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/server/server.hpp>
#include <ferrule/task/task.hpp>

#include "ring/mutex.hpp"
#include "server/hand_over.hpp"
#include "server/member.hpp"
#include "server/port.hpp"
#include "server/signals.hpp"

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

private:
    void take_inherited();
    void open_ports();
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
    void member_ended(std::size_t index, std::exception_ptr failure);
    void begin_stop();
    void prepare_drain();
    void member_ready_to_drain(std::size_t index);
    void drain_when_all_are_ready();
    void stop_now();
    void fail(std::exception_ptr failure);

    void watch_for_stalls();
    void serve();
    void clean_up() noexcept;

    const ServerOptions options_;
    Kernel& kernel_;
    std::vector<Port> ports_;
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
    unsigned stops_ = 0;
    std::size_t started_ = 0;
    std::size_t serving_ = 0;
    std::size_t ended_ = 0;
    bool draining_ = false;
    bool first_port_ = false;
    bool ran_ = false;
    bool member_failed_ = false;
    std::exception_ptr failure_;  // what `run` throws
};

}  // namespace ferrule::inline v0
