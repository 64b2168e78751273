#include <ferrule/assert.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/server/inherited_sockets.hpp>
#include <ferrule/task/describe_live_tasks.hpp>

#include "server/engine.hpp"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {
namespace {

// The control waits for signals and messages: it never has more than a few operations at a time.
constexpr std::uint32_t control_entries = 8;
// Room for the CPUs of any machine that Linux runs on: 16 x 1024.
constexpr std::size_t cpu_sets = 16;

StartError start_error(const std::string& what, std::exception_ptr failure) {
    try {
        std::rethrow_exception(std::move(failure));
    } catch (const StartError& error) {
        return error;
    } catch (const std::system_error& error) {
        return StartError(what + ": " + error.what(), error.code());
    } catch (const std::exception& error) {
        return StartError(what + ": " + error.what(), {});
    } catch (...) {
        return StartError(what + ": an exception of unknown type", {});
    }
}

}  // namespace

Server::Engine::Engine(ServerOptions options, Kernel& kernel)
    : options_(std::move(options)),
      kernel_(kernel),
      hand_over_(kernel, members_, ports_, options_.network.connection_limit),
      mutex_(kernel) {}

Server::Engine::~Engine() {
    // Inherited ones that no run has taken.
    for (const Port& port : ports_) {
        if (port.options.descriptor >= 0) kernel_.close(port.options.descriptor);
    }
}

void Server::Engine::add_first_port(ConnectionHandler handler) {
    if (first_port_) {
        throw std::logic_error(
            "Server::on_connection: there is a handler already; more ports come with Server::listen");
    }
    if (!handler) throw ConfigurationError("Server::on_connection", "the handler is empty");
    ports_.insert(ports_.begin(), Port{first_port_of(options_), std::move(handler)});
    first_port_ = true;
}

void Server::Engine::add_port(PortOptions options, ConnectionHandler handler) {
    if (!handler) throw ConfigurationError("Server::listen", "the handler is empty");
    ports_.push_back(Port{std::move(options), std::move(handler)});
}

// ---- from other threads ----

void Server::Engine::stop() {
    const std::lock_guard lock(mutex_);
    ++stops_asked_;
    if (control_ != nullptr) control_->post([this] { begin_stop(); });
}

void Server::Engine::reload() {
    const std::lock_guard lock(mutex_);
    if (control_ == nullptr) return;
    control_->post([this] {
        if (reloading_ != nullptr) reloading_->request();
    });
}

std::uint16_t Server::Engine::port() const {
    const std::lock_guard lock(mutex_);
    return addresses_.empty() ? std::uint16_t{0} : addresses_.front().port();
}

std::vector<Address> Server::Engine::addresses() const {
    const std::lock_guard lock(mutex_);
    return addresses_;
}

std::string Server::Engine::describe_live_tasks() const {
    std::string text;
    const std::lock_guard lock(mutex_);
    for (const auto& member : members_) {
        if (member->reactor == nullptr) continue;
        text += "reactor " + std::to_string(member->reactor->id()) + ": ";
        text += ferrule::describe_live_tasks(*member->reactor);
    }
    return text;
}

ServerCounters Server::Engine::counters() const {
    const std::lock_guard lock(mutex_);
    if (members_.empty()) return final_counters_;
    ServerCounters sum;
    if (stall_detector_ != nullptr) sum.stalls = stall_detector_->stalls();
    for (const auto& member : members_) {
        if (member->reactor == nullptr) continue;
        sum.faults += member->reactor->counters().faults.value();
        sum.handed_over += member->counters.handed_over.value();
        const Network* network = member->network.load(std::memory_order_acquire);
        if (network == nullptr) continue;
        const NetworkCounters& counted = network->counters();
        if (member->running.load(std::memory_order_relaxed)) ++sum.reactors;
        sum.connections += counted.connections.value();
        sum.accepted += counted.accepted.value();
        sum.closed += counted.closed.value();
        sum.bytes_received += counted.bytes_received.value();
        sum.bytes_sent += counted.bytes_sent.value();
        sum.accept_errors += counted.accept_errors.value();
        sum.timeouts += counted.timeouts.value();
        sum.resets += counted.resets.value();
        for (const Counter* refused : {&counted.refused, &counted.address_refusals, &counted.accept_refusals,
                                       &counted.shed, &counted.proxy_errors, &counted.proxy_strangers})
            sum.refused += refused->value();
    }
    return sum;
}

// ---- starting ----

int Server::Engine::run() {
    if (ran_) throw std::logic_error("Server::run: it ran before");
    if (ports_.empty()) throw std::logic_error("Server::run: there is no handler; call on_connection or listen first");
    ran_ = true;
    try {
        notifier_ = std::make_unique<Notifier>(kernel_, options_.systemd);
        if (options_.network.address_limits.connections != 0)
            limiter_ = std::make_unique<AddressLimiter>(options_.network.address_limits, kernel_);
        make_reactors();
        if (options_.systemd) take_inherited();
        if (!options_.restart_path.empty()) take_over();
        open_ports();
        serve();
    } catch (...) {
        clean_up();
        throw;
    }
    clean_up();
    if (failure_) std::rethrow_exception(failure_);
    return member_failed_ ? 1 : 0;
}

std::size_t Server::Engine::reactor_count() const {
    if (options_.reactors != 0) return options_.reactors;
    return !options_.cpus.empty() ? options_.cpus.size() : allowed_cpus().size();
}

std::vector<int> Server::Engine::allowed_cpus() const {
    std::array<cpu_set_t, cpu_sets> allowed{};
    if (const int result = kernel_.affinity(allowed.data(), sizeof allowed); result < 0) {
        throw StartError("sched_getaffinity: " + system_error(-result).message(), system_error(-result));
    }
    std::vector<int> cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE * static_cast<int>(cpu_sets); ++cpu) {
        if (CPU_ISSET_S(static_cast<std::size_t>(cpu), sizeof allowed, allowed.data())) cpus.push_back(cpu);
    }
    if (cpus.empty()) cpus.push_back(0);
    return cpus;
}

// A limit of locked memory holds for all rings of a user together. Each ring takes what it can get, so under a tight
// limit the first would be large and the last impossible: then all are made anew, half as large.
void Server::Engine::make_reactors() {
    ReactorOptions reactor = options_.reactor;
    std::vector<std::unique_ptr<Member>> members;
    for (;;) {
        const bool smallest = reactor.submission_entries <= control_entries;
        try {
            members = make_members(reactor);
            const std::uint32_t entries = members.front()->reactor->ring().entries();
            const bool alike = std::all_of(members.begin(), members.end(), [entries](const auto& member) {
                return member->reactor->ring().entries() == entries;
            });
            if (alike || smallest) break;
        } catch (const StartError& error) {
            if (error.code() != std::errc::not_enough_memory || smallest) throw;
        }
        members.clear();
        reactor.submission_entries /= 2;
        if (reactor.completion_entries != 0)
            reactor.completion_entries = std::max(reactor.completion_entries / 2, reactor.submission_entries);
    }
    const std::lock_guard lock(mutex_);
    members_ = std::move(members);
}

std::vector<std::unique_ptr<Member>> Server::Engine::make_members(const ReactorOptions& reactor) {
    const std::vector<int> allowed = allowed_cpus();
    for (const int cpu : options_.cpus) {
        if (std::find(allowed.begin(), allowed.end(), cpu) != allowed.end()) continue;
        throw StartError("ServerOptions.cpus: this process may not use CPU " + std::to_string(cpu) +
                             " (taskset, cpuset of its cgroup)",
                         system_error(EINVAL));
    }
    const std::vector<int>& cpus = options_.cpus.empty() ? allowed : options_.cpus;
    const std::vector<int>& poll_cpus = options_.submission_poll_cpus;
    const std::size_t count = reactor_count();
    std::vector<std::unique_ptr<Member>> members;
    for (std::size_t index = 0; index < count; ++index) {
        auto member = std::make_unique<Member>();
        member->given.resize(count);
        ReactorOptions options = reactor;
        if (options_.pin_reactors || !options_.cpus.empty()) options.cpu = cpus[index % cpus.size()];
        if (!poll_cpus.empty()) options.submission_poll_cpu = poll_cpus[index % poll_cpus.size()];
        try {
            member->reactor = std::make_unique<Reactor>(static_cast<std::uint32_t>(index), options, kernel_);
        } catch (...) {
            throw start_error("reactor " + std::to_string(index), std::current_exception());
        }
        if (fault_hook) member->reactor->on_fault(fault_hook);
        if (log_function) member->reactor->on_log(log_function);
        member->reactor->on_start([this, index](Reactor&) { start_member(index); });
        members.push_back(std::move(member));
    }
    return members;
}

void Server::Engine::take_inherited() {
    std::vector<InheritedSocket> sockets = take_inherited_sockets(kernel_);
    // One that the program has named by its number is its own.
    std::erase_if(sockets, [this](const InheritedSocket& socket) {
        return std::ranges::any_of(
            ports_, [&socket](const Port& port) { return port.options.descriptor == socket.descriptor; });
    });
    const auto give = [&sockets](Port& port, auto socket) {
        port.sockets.push_back(socket->descriptor);
        sockets.erase(socket);
    };
    std::vector<Port*> others;
    for (Port& port : ports_) {
        if (port.options.descriptor >= 0) continue;
        const std::string& name = port.options.socket_name;
        if (name.empty()) {
            others.push_back(&port);
            continue;
        }
        for (auto found = sockets.begin(); found != sockets.end();) {
            if (found->name != name) {
                ++found;
                continue;
            }
            port.sockets.push_back(found->descriptor);
            found = sockets.erase(found);
        }
    }
    for (Port* port : others) {
        if (sockets.empty()) break;
        give(*port, sockets.begin());
        while (others.size() == 1 && !sockets.empty()) give(*port, sockets.begin());
    }
    if (sockets.empty()) return;
    const InheritedSocket& left = sockets.front();
    const std::string what = "descriptor " + std::to_string(left.descriptor) + ", which systemd has passed as \"" +
                             left.name + "\": no port takes it";
    for (const InheritedSocket& socket : sockets) kernel_.close(socket.descriptor);
    throw StartError(what, {});
}

void Server::Engine::open_ports() {
    for (Port& port : ports_) {
        if (port.options.descriptor >= 0) port.sockets.push_back(std::exchange(port.options.descriptor, -1));
        if (port.sockets.empty()) {
            open_port(port);
            continue;
        }
        if (port.taken) {
            adopt_taken(port);
            continue;
        }
        for (const int socket : port.sockets) prepare_inherited(kernel_, socket);
        add_address(port.sockets.front());
    }
    if (!options_.restart_path.empty() && take_over_ == nullptr) open_restart_listener();
    give_sockets_to_reactors();
}

Address Server::Engine::add_address(int descriptor) {
    const auto address = local_address(kernel_, descriptor);
    if (!address) throw StartError("getsockname of a listening socket: " + address.error().message(), address.error());
    const std::lock_guard lock(mutex_);
    addresses_.push_back(*address);
    return *address;
}

void Server::Engine::open_port(Port& port) {
    ListenSocketOptions socket = port.socket_options(kernel_);
    port.sockets.push_back(port.open_first(kernel_, socket));
    // A port that the system has chosen is known now, and the other reactors join it.
    socket.address = add_address(port.sockets.front());
    port.shared = port.can_be_shared(socket.address);
    if (!port.shared) return;
    port.group = std::make_shared<PortGroup>(socket.take_over);
    port.group->add(port.sockets.front());
    for (std::size_t other = 1; other < members_.size(); ++other) {
        const auto opened = open_listen_socket(kernel_, socket);
        if (!opened) throw StartError(opened.error().message, opened.error().code);
        port.sockets.push_back(*opened);
        port.group->add(*opened);
    }
}

// One accepts from several where there are more sockets than reactors.
void Server::Engine::give_sockets_to_reactors() {
    for (std::size_t index = 0; index < ports_.size(); ++index) {
        Port& port = ports_[index];
        for (std::size_t place = 0; place < port.sockets.size(); ++place) {
            Member& member = *members_[port.shared ? place % members_.size() : 0];
            member.sockets.push_back({.port = index, .descriptor = port.sockets[place]});
        }
        port.sockets.clear();
    }
}

void Server::Engine::watch_for_stalls() {
    if (options_.stall_threshold.count() == 0) return;
    std::unique_ptr<StallDetector> detector;
    try {
        detector = std::make_unique<StallDetector>(
            StallDetectorOptions{.threshold = options_.stall_threshold, .signal = options_.stall_signal}, kernel_);
    } catch (...) {
        throw start_error("the stall detector", std::current_exception());
    }
    if (stall_hook) detector->on_stall(stall_hook);
    for (const auto& member : members_) detector->watch(*member->reactor);
    const std::lock_guard lock(mutex_);
    stall_detector_ = std::move(detector);
}

void Server::Engine::serve() {
    watch_for_stalls();
    ReactorOptions control_options;
    control_options.submission_entries = control_entries;
    std::unique_ptr<Reactor> control;
    try {
        control = std::make_unique<Reactor>(static_cast<std::uint32_t>(members_.size()), control_options, kernel_);
    } catch (...) {
        throw start_error("the server's own ring", std::current_exception());
    }
    if (options_.handle_signals) signals_ = std::make_unique<Signals>(kernel_, !reload_hooks.empty());
    notifier_->attach(*control);
    drain_watch_ = std::make_unique<DrainWatch>(*control, members_, drain_hooks, *notifier_);
    if (log_function) control->on_log(log_function);
    control->on_fault([this](Reactor&, std::exception_ptr failure) { fail(std::move(failure)); });
    control->on_start([this](Reactor& reactor) {
        if (signals_ != nullptr) reactor.spawn(watch_signals());
    });
    {
        const std::lock_guard lock(mutex_);
        control_ = std::move(control);
        for (unsigned stop = 0; stop < stops_asked_; ++stop) control_->post([this] { begin_stop(); });
    }
    start_threads();
    try {
        if (ended_ < members_.size()) control_->run();
    } catch (...) {
        fail(std::make_exception_ptr(start_error("the server's own reactor", std::current_exception())));
    }
    for (const auto& member : members_) {
        if (member->thread != nullptr) member->thread->join();
    }
}

void Server::Engine::start_threads() {
    for (std::size_t index = 0; index < members_.size(); ++index) {
        try {
            const std::string name = "reactor-" + std::to_string(index);
            members_[index]->thread = kernel_.start_thread(name.c_str(), [this, index] { run_member(index); });
        } catch (...) {
            // Those that run are stopped and report their end; the others have nothing to end.
            for (std::size_t missing = index; missing < members_.size(); ++missing) {
                members_[missing]->ended = true;
                ++ended_;
            }
            fail(std::make_exception_ptr(
                start_error("thread of reactor " + std::to_string(index), std::current_exception())));
            return;
        }
    }
}

// ---- on the reactors' threads ----

void Server::Engine::run_member(std::size_t index) noexcept {
    Member& member = *members_[index];
    std::exception_ptr failure;
    try {
        member.reactor->run();
    } catch (...) {
        failure = std::current_exception();
    }
    member.running.store(false, std::memory_order_relaxed);
    if (failure) leave_selection(member);
    if (failure && member.serving) {
        const HostBinding binding(*member.reactor);
        member.reactor->fault(failure);
    }
    control_->post([this, index, failure = std::move(failure)]() mutable { member_ended(index, std::move(failure)); });
}

void Server::Engine::start_member(std::size_t index) {
    Member& member = *members_[index];
    Reactor& reactor = *member.reactor;
    NetworkOptions options = options_.network;
    if (options.address_limiter == nullptr) options.address_limiter = limiter_.get();
    Network& network = reactor.add_service<Network>(reactor, std::move(options));
    member.counters_registered = reactor.metrics()->add(member.counters);
    member.network.store(&network, std::memory_order_release);
    if (members_.size() > 1) {
        network.on_accept([this, index](int descriptor, std::uint16_t listener) {
            return hand_over_.give(index, descriptor, listener);
        });
    }
    for (const auto& hook : start_hooks) hook(reactor);
    control_->post([this] { member_started(); });
}

// Only when every reactor has started: a server that cannot has not taken anybody's connection.
void Server::Engine::begin_serving(std::size_t index) {
    Member& member = *members_[index];
    Network& network = *member.network.load(std::memory_order_relaxed);
    const auto listen = [&](Socket& socket) {
        const Port& port = ports_[socket.port];
        socket.given = true;
        socket.listener = network.listen(socket.descriptor, port.handler, port.group, port.options.proxy);
        member.listeners.push_back({socket.listener, socket.port});
    };
    for (std::size_t port = 0; port < ports_.size(); ++port) {
        const auto first = std::ranges::find(member.sockets, port, &Socket::port);
        if (first != member.sockets.end()) {
            listen(*first);
        } else {
            member.listeners.push_back({network.add_handler(ports_[port].handler, ports_[port].options.proxy), port});
        }
    }
    for (Socket& further : member.sockets) {
        if (!further.given) listen(further);
    }
    member.serving = true;
    member.running.store(true, std::memory_order_relaxed);
    control_->post([this] { member_serves(); });
}

// A reactor that fails in the middle of its work may not have closed its sockets. As long as they listen, clients are
// given to them that nobody would serve.
void Server::Engine::leave_selection(const Member& member) noexcept {
    for (const Socket& socket : member.sockets) {
        if (!socket.given || socket.released) continue;
        int listens = 0;
        socklen_t size = sizeof listens;
        const int result = kernel_.get_option(socket.descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
        if (result < 0 || listens == 0) continue;
        if (const auto& group = ports_[socket.port].group; group != nullptr) {
            group->abandon(kernel_, socket.descriptor);
        } else {
            kernel_.shutdown(socket.descriptor, SHUT_RDWR);
        }
    }
}

// ---- on the control ----

Task<> Server::Engine::watch_signals() {
    const int descriptor = signals_->descriptor();
    for (;;) {
        auto operation = control_->submit("wait for signals", [descriptor](abi::SubmissionEntry& entry) {
            prepare::poll_add(entry, descriptor, POLLIN);
        });
        const OperationResult ended = co_await operation;
        if (ended.result == -ECANCELED) co_return;
        if (ended.result < 0) throw std::system_error(system_error(-ended.result), "poll for signals");
        while (const int signal = signals_->take()) {
            if (signal != SIGHUP) {
                begin_stop();
            } else if (reloading_ != nullptr) {
                reloading_->request();
            }
        }
    }
}

void Server::Engine::member_started() {
    if (++started_ != members_.size() || ending_ || failure_) return;
    for (std::size_t index = 0; index < ports_.size(); ++index) {
        if (ports_[index].taken) prepare_taken(index);
    }
    for (std::size_t index = 0; index < members_.size(); ++index) {
        // One that has ended says so itself.
        members_[index]->reactor->post([this, index] {
            try {
                begin_serving(index);
            } catch (...) {
                control_->post([this, index, failure = std::current_exception()]() mutable {
                    fail(std::make_exception_ptr(start_error("reactor " + std::to_string(index), std::move(failure))));
                });
            }
        });
    }
}

void Server::Engine::member_serves() {
    if (++serving_ != members_.size() || ending_ || failure_) return;
    restart_roll_ = std::make_unique<RollCall>(*control_, members_);
    if (take_over_ != nullptr) {
        control_->spawn(complete_take_over());
    } else {
        begin_listening();
    }
}

void Server::Engine::begin_listening() {
    reloading_ = std::make_unique<Reloading>(*control_, members_, reload_hooks, *notifier_);
    try {
        for (const auto& hook : listening_hooks) hook();
    } catch (...) {
        fail(std::current_exception());
        return;
    }
    std::string ready = "READY=1\nSTATUS=Serving";
    // systemd knows the process that was before.
    if (take_over_ != nullptr) ready = "MAINPID=" + std::to_string(kernel_.process_identity()) + '\n' + ready;
    notifier_->tell(std::move(ready));
    if (restart_listener_ >= 0) control_->spawn(offer_restarts());
    if (notifier_->watchdog_ns() == 0) return;
    watchdog_ = std::make_unique<Watchdog>(*control_, members_, *notifier_);
    control_->spawn(watchdog_->feed());
}

void Server::Engine::member_ended(std::size_t index, std::exception_ptr failure) {
    Member& member = *members_[index];
    member.ended = true;
    ++ended_;
    if (failure) {
        if (serving_ == members_.size()) {
            member_failed_ = true;
        } else {
            fail(std::make_exception_ptr(start_error("reactor " + std::to_string(index), std::move(failure))));
        }
    }
    drain_when_all_are_ready();
    if (ended_ != members_.size()) return;
    if (draining_) drain_watch_->end();
    control_->stop();
}

void Server::Engine::begin_stop() {
    if (++stops_ != 1) {
        stop_now();
    } else if (!successor_starts_) {
        // Otherwise when it accepts, or cannot: it may be nearly there, and what it was given must not be closed.
        begin_draining();
    }
}

void Server::Engine::begin_draining() {
    if (std::exchange(ending_, true)) return;
    notifier_->tell("STOPPING=1\nSTATUS=Draining");
    if (reloading_ != nullptr) reloading_->stop();
    prepare_drain();
}

// A connection that is handed over to a reactor which has drained already would be lost. So all of them first cease to
// hand over, and what is on its way is in the mailboxes before they are told to drain.
void Server::Engine::prepare_drain() {
    for (std::size_t index = 0; index < members_.size(); ++index) {
        if (members_[index]->ended) continue;
        const bool sent = members_[index]->reactor->post([this, index] {
            members_[index]->hands_over = false;
            control_->post([this, index] { member_ready_to_drain(index); });
        });
        if (!sent) members_[index]->reactor->stop();
    }
}

void Server::Engine::member_ready_to_drain(std::size_t index) {
    members_[index]->ready_to_drain = true;
    drain_when_all_are_ready();
}

void Server::Engine::drain_when_all_are_ready() {
    if (draining_ || !ending_) return;
    for (const auto& member : members_) {
        if (!member->ready_to_drain && !member->ended) return;
    }
    draining_ = true;
    control_->spawn(drain_watch_->watch(options_.drain_timeout));
    for (const auto& member : members_) {
        if (member->ended) continue;
        Reactor& reactor = *member->reactor;
        const auto timeout = options_.drain_timeout;
        if (!reactor.post([&reactor, timeout] { reactor.drain(timeout); })) reactor.stop();
    }
}

void Server::Engine::stop_now() {
    for (const auto& member : members_) {
        if (!member->ended) member->reactor->stop();
    }
}

void Server::Engine::fail(std::exception_ptr failure) {
    if (!failure_) failure_ = std::move(failure);
    stop_now();
}

// ---- ending ----

void Server::Engine::clean_up() noexcept {
    std::vector<std::unique_ptr<Member>> members;
    std::unique_ptr<Reactor> control;
    std::unique_ptr<StallDetector> detector;
    {
        const ServerCounters counted = counters();
        const std::lock_guard lock(mutex_);
        final_counters_ = counted;
        final_counters_.reactors = 0;
        members.swap(members_);
        control.swap(control_);
        detector.swap(stall_detector_);
    }
    detector.reset();
    for (const auto& member : members) {
        member->reactor.reset();
        for (const Socket& socket : member->sockets) {
            if (socket.descriptor >= 0 && !socket.given) kernel_.close(socket.descriptor);
        }
    }
    control.reset();
    watchdog_.reset();
    reloading_.reset();
    drain_watch_.reset();
    notifier_.reset();
    take_over_.reset();
    restart_roll_.reset();
    if (restart_listener_ >= 0) {
        kernel_.close(std::exchange(restart_listener_, -1));
        remove_stale_unix_file(kernel_, restart_address_);
    }
    for (Port& port : ports_) {
        for (const int socket : std::exchange(port.sockets, {})) kernel_.close(socket);
        if (port.file) remove_stale_unix_file(kernel_, *port.file);
    }
    signals_.reset();
}

}  // namespace ferrule::inline v0
