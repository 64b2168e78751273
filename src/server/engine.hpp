#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/server/server.hpp>
#include <ferrule/task/task.hpp>

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
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
    ServerCounters counters() const;

    std::vector<std::function<void(Reactor&)>> start_hooks;
    std::function<void(Reactor&, std::exception_ptr)> fault_hook;
    std::vector<std::function<void()>> listening_hooks;

private:
    struct Port {
        PortOptions options;
        ConnectionHandler handler;
        std::optional<Address> file = std::nullopt;  // of a Unix path that is bound
        bool shared = false;  // a socket for each reactor; otherwise the first accepts and hands over
    };

    // A listening socket on its way to the network of its reactor.
    struct Socket {
        int descriptor = -1;
        bool given = false;
    };

    // A reactor. The first group is made before its thread starts and does not change; the second is for its thread;
    // the third is the control's.
    struct Member {
        std::unique_ptr<Reactor> reactor;
        std::unique_ptr<ThreadHandle> thread;
        std::atomic<Network*> network = nullptr;
        std::atomic<bool> running = true;
        Counter handed_over;  // connections that it has given to others
        Counter arrived;      // connections that others have given to it

        std::vector<Socket> sockets;           // by port; no descriptor where another reactor accepts
        std::vector<std::uint16_t> listeners;  // by port: its number in the network
        std::vector<std::uint64_t> given;      // by reactor: connections that this one has sent there
        std::size_t next = 0;                  // whose turn it is
        bool serving = false;
        bool hands_over = true;  // until the server ends

        bool started = false;
        bool ended = false;
        bool ready_to_drain = false;
    };

    class Signals;
    class HandedOver;

    void open_ports();
    void check_inherited(int descriptor);
    Address add_address(int descriptor);
    void open_port(std::size_t index, Socket& first);
    int open_first_socket(const Port& port, ListenSocketOptions& socket);
    std::vector<int> allowed_cpus() const;
    void make_reactors();
    void start_threads();
    void run_member(std::size_t index) noexcept;
    void start_member(std::size_t index);
    bool hand_over(std::size_t from, int descriptor, std::uint16_t listener);
    std::size_t choose_member(Member& giver, std::size_t from, const Port& port);
    std::size_t least_loaded(const Member& giver, std::size_t otherwise) const;
    std::uint64_t load(const Member& giver, std::size_t index) const;
    bool has_room(const Member& giver, std::size_t index) const;
    void leave_selection(const Member& member) noexcept;

    // On the control.
    Task<> watch_signals();
    void member_started(std::size_t index);
    void member_ended(std::size_t index, std::exception_ptr failure);
    void begin_stop();
    void prepare_drain();
    void member_ready_to_drain(std::size_t index);
    void drain_when_all_are_ready();
    void stop_now();
    void fail(std::exception_ptr failure);

    void serve();
    void clean_up() noexcept;

    const ServerOptions options_;
    Kernel& kernel_;
    std::vector<Port> ports_;
    std::vector<std::unique_ptr<Member>> members_;

    // Of what other threads ask for: the next three, and the coming and going of members_ and control_.
    mutable std::mutex mutex_;
    unsigned stops_asked_ = 0;
    std::vector<Address> addresses_;
    ServerCounters final_counters_;

    std::unique_ptr<Reactor> control_;
    // The control's.
    std::unique_ptr<Signals> signals_;
    unsigned stops_ = 0;
    std::size_t started_ = 0;
    std::size_t ended_ = 0;
    bool draining_ = false;
    bool first_port_ = false;
    bool ran_ = false;
    bool member_failed_ = false;
    std::exception_ptr failure_;  // what `run` throws
};

}  // namespace ferrule::inline v0
