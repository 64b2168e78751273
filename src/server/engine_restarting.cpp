#include <ferrule/reactor/deadline.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/prepare.hpp>

#include "server/engine.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

namespace ferrule::inline v0 {
namespace {

using Kind = RestartMessage::Kind;

// Restarts are asked for by one process at a time.
constexpr int restart_backlog = 8;
constexpr std::uint32_t owner_only = 0600;
// Who has connected and does not say what for keeps others waiting.
constexpr std::chrono::seconds hello_timeout{5};
constexpr std::chrono::milliseconds shortage_pause{100};
constexpr std::uint64_t release_look_ns = 1'000'000;

constexpr LogCause restart_failed{.name = "restart-failed", .burst = 8};
constexpr LogCause handed_over{.name = "restarted", .level = LogLevel::information, .interval = {}};
constexpr LogCause few_sockets{.name = "restart-few-sockets", .burst = 8};

bool listens(Kernel& kernel, int descriptor) noexcept {
    int answer = 0;
    socklen_t size = sizeof answer;
    return kernel.get_option(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &answer, &size) >= 0 && answer != 0;
}

}  // namespace

// ---- taking over ----

void Server::Engine::take_over() {
    restart_address_ = *Address::parse("unix:" + options_.restart_path, 0, kernel_);
    take_over_ = TakeOver::begin(kernel_, restart_address_, options_.restart_timeout);
    if (take_over_ != nullptr) take_offered();
}

void Server::Engine::take_offered() {
    // Ports with a number first: what the system has chosen for one of the others is nobody's.
    for (const bool chosen : {false, true}) {
        for (Port& port : ports_) {
            const bool wants =
                port.options.descriptor < 0 && port.sockets.empty() && (port.options.port == 0) == chosen;
            if (!wants) continue;
            const Address wanted = port.socket_options(kernel_).address;
            const TakeOver::OfferedPort* const offered = take_over_->take(wanted, port.options.host.empty());
            if (offered == nullptr) continue;
            port.sockets = offered->sockets;
            port.taken = true;
            if (offered->address.family() != AddressFamily::unix_domain) {
                port.group = std::make_shared<PortGroup>(!offered->order_known);
                for (const int socket : port.sockets) port.group->add(socket);
            }
        }
    }
    take_over_->close_untaken();
}

void Server::Engine::adopt_taken(Port& port) {
    port.shared = port.can_be_shared(add_address(port.sockets.front()));
}

void Server::Engine::open_restart_listener() {
    ListenSocketOptions socket;
    socket.address = restart_address_;
    socket.backlog = restart_backlog;
    socket.unix_mode = owner_only;
    const auto opened = open_listen_socket(kernel_, socket);
    if (!opened) throw StartError(opened.error().message, opened.error().code);
    restart_listener_ = *opened;
}

// When every reactor has started: what is opened here is lost to clients if this server does not serve after all.
void Server::Engine::prepare_taken(std::size_t index) {
    Port& port = ports_[index];
    std::vector<Member*> without;
    std::vector<int> sockets;
    for (const auto& member : members_) {
        const std::size_t before = sockets.size();
        for (const Socket& socket : member->sockets) {
            if (socket.port == index) sockets.push_back(socket.descriptor);
        }
        if (sockets.size() == before) without.push_back(member.get());
    }
    ListenSocketOptions options = port.socket_options(kernel_);
    for (const int socket : sockets) {
        kernel_.listen(socket, options.backlog);
        const int seconds = options.defer_accept ? static_cast<int>(options.defer_accept_seconds) : 0;
        if (port.group != nullptr) kernel_.set_option(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
    }
    if (!port.shared) return;
    const auto address = local_address(kernel_, sockets.front());
    if (address) options.address = *address;
    for (Member* const member : without) {
        const auto opened = open_listen_socket(kernel_, options);
        if (!opened) {
            control_->log.write(few_sockets, "%s; the reactors that have a socket there hand over to the others",
                                opened.error().message.c_str());
            port.shared = false;
            return;
        }
        port.group->add(*opened);
        member->sockets.push_back({.port = index, .descriptor = *opened});
    }
}

Task<> Server::Engine::complete_take_over() {
    const TakeOver::Outcome outcome = co_await take_over_->finish(*control_);
    if (outcome == TakeOver::Outcome::refused) {
        failure_ = std::make_exception_ptr(
            StartError("take over from " + restart_address_.to_string() + ": " + take_over_->reason(), {}));
        for (Port& port : ports_) port.released = port.taken;
        co_await release_ports();
        begin_draining();
        co_return;
    }
    restart_listener_ = take_over_->take_restart_listener();
    if (outcome == TakeOver::Outcome::alone) {
        control_->log.write(restart_failed, "restart: the server before, process %d: %s; this one serves",
                            take_over_->process(), take_over_->reason().c_str());
    }
    for (Port& port : ports_) {
        // The file of a Unix path is now this one's to remove.
        if (port.taken && port.group == nullptr) port.file = port.socket_options(kernel_).address;
        // Sockets beyond one for each reactor get no new clients; who was given to them is accepted still.
        if (port.taken && port.group != nullptr)
            port.group->select_first(kernel_, port.shared ? members_.size() : port.group->size());
    }
    auto asked = restart_roll_->asked(
        [this](std::size_t index) { members_[index]->network.load(std::memory_order_relaxed)->accept_anew(); });
    co_await asked;
    if (!ending_ && !failure_) begin_listening();
}

// ---- handing over ----

Task<> Server::Engine::offer_restarts() {
    const int listener = restart_listener_;
    for (;;) {
        auto operation = control_->submit("wait for a restart", [listener](abi::SubmissionEntry& entry) {
            prepare::accept(entry, listener, nullptr, nullptr, SOCK_CLOEXEC);
        });
        const OperationResult ended = co_await operation;
        if (ended.result == -ECANCELED) co_return;
        if (ended.result < 0) {
            const std::string reason = system_error(-ended.result).message();
            control_->log.write(restart_failed, "restart: accept: %s", reason.c_str());
            const auto slept = co_await sleep_for(shortage_pause);
            if (!slept) co_return;
            continue;
        }
        const bool handed = co_await hand_over_to(ended.result);
        if (handed) co_return;
    }
}

// True when the other one serves.
Task<bool> Server::Engine::hand_over_to(int descriptor) {
    RestartChannel channel(*control_, descriptor);
    if (const std::string stranger = channel.stranger(); !stranger.empty()) {
        control_->log.write(restart_failed, "restart: %s", stranger.c_str());
        co_return false;
    }
    const int failed = co_await with_deadline(channel.receive(), hello_timeout);
    // One that has said nothing has only looked whether somebody listens.
    if (failed != 0) co_return false;
    std::string fault = fault_of(channel.received, Kind::hello);
    if (fault.empty() && ending_) fault = "the server is stopping";
    if (!fault.empty()) {
        control_->log.write(restart_failed, "restart: process %d: %s", channel.received.process, fault.c_str());
        co_await refuse(channel, std::move(fault));
        co_return false;
    }
    const std::int32_t process = channel.received.process;
    successor_starts_ = true;
    successor_ready_ = false;
    successor_fault_ = "not ready within " + std::to_string(options_.restart_timeout.count()) + " ms";
    for (Port& port : ports_) port.released = false;
    co_await with_deadline(talk_to_successor(channel), options_.restart_timeout);
    successor_starts_ = false;
    if (!successor_ready_) {
        for (Port& port : ports_) port.released = false;
        control_->log.write(restart_failed, "restart: process %d: %s; this one serves on", process,
                            successor_fault_.c_str());
        co_await refuse(channel, successor_fault_);
        if (stops_ != 0) begin_draining();
        co_return false;
    }
    // The socket file is the other's now, and so are those of its ports.
    kernel_.close(std::exchange(restart_listener_, -1));
    for (Port& port : ports_) {
        if (port.released) port.file.reset();
    }
    co_await release_ports();
    control_->log.write(handed_over, "process %d has taken over", process);
    // The end of this process is not the end of the service.
    notifier_->mute();
    channel.next = {};
    channel.next.kind = Kind::handed_over;
    co_await channel.send();
    begin_draining();
    co_return true;
}

std::vector<Server::Engine::OfferedSocket> Server::Engine::offered_sockets() const {
    std::vector<OfferedSocket> offered;
    const auto offer = [&](std::size_t port, int descriptor) {
        const auto address = local_address(kernel_, descriptor);
        // That of a reactor which has failed does not listen any more.
        if (address && listens(kernel_, descriptor)) offered.push_back({port, descriptor, *address});
    };
    for (std::size_t index = 0; index < ports_.size(); ++index) {
        if (ports_[index].group != nullptr) {
            for (const int descriptor : ports_[index].group->descriptors()) offer(index, descriptor);
            continue;
        }
        for (const auto& member : members_) {
            for (const Socket& socket : member->sockets) {
                if (socket.port == index) offer(index, socket.descriptor);
            }
        }
    }
    return offered;
}

// Until it is ready, or successor_fault_ says why not.
Task<> Server::Engine::talk_to_successor(RestartChannel& channel) {
    const std::vector<OfferedSocket> offered = offered_sockets();
    channel.next = {};
    channel.next.kind = Kind::offer;
    channel.next.process = kernel_.process_identity();
    channel.next.count = static_cast<std::uint32_t>(offered.size());
    int failed = co_await channel.send(restart_listener_);
    channel.next.kind = Kind::socket;
    for (std::size_t index = 0; index < offered.size() && failed == 0; ++index) {
        const Port& port = ports_[offered[index].port];
        channel.next.port = static_cast<std::uint16_t>(offered[index].port);
        channel.next.flags = port.options.port == 0 ? RestartMessage::flag_chosen : 0;
        if (port.group != nullptr && !port.group->order_is_known())
            channel.next.flags |= RestartMessage::flag_order_unknown;
        channel.next.set_address(offered[index].address);
        failed = co_await channel.send(offered[index].descriptor);
    }
    while (failed == 0) {
        failed = co_await channel.receive();
        if (failed != 0) break;
        const RestartMessage& said = channel.received;
        if (said.kind == Kind::taken && fault_of(said, Kind::taken).empty() && said.port < ports_.size()) {
            ports_[said.port].released = true;
            continue;
        }
        successor_fault_ = fault_of(said, Kind::ready);
        successor_ready_ = successor_fault_.empty();
        co_return;
    }
    if (failed == ECONNRESET || failed == EPIPE) {
        successor_fault_ = "it has ended before it was ready";
    } else if (failed != ECANCELED) {
        successor_fault_ = system_error(failed).message();
    }
}

Task<> Server::Engine::refuse(RestartChannel& channel, std::string reason) {
    channel.next = {};
    channel.next.kind = Kind::refusal;
    channel.next.set_text(reason);
    // Who does not read it need not be waited for.
    co_await with_deadline(channel.send(), hello_timeout);
}

// Ends when none of the reactors accepts from a released port any more.
Task<> Server::Engine::release_ports() {
    std::atomic<std::size_t> held = 0;
    auto released = restart_roll_->asked([this](std::size_t index) {
        Network& network = *members_[index]->network.load(std::memory_order_relaxed);
        for (Socket& socket : members_[index]->sockets) {
            if (!ports_[socket.port].released) continue;
            socket.released = true;
            network.release_listener(socket.listener);
        }
    });
    co_await released;
    for (;;) {
        held = 0;
        auto looked = restart_roll_->asked([this, &held](std::size_t index) {
            const Network& network = *members_[index]->network.load(std::memory_order_relaxed);
            for (const Socket& socket : members_[index]->sockets) {
                if (socket.released && !network.released(socket.listener)) ++held;
            }
        });
        co_await looked;
        if (held == 0) co_return;
        auto operation = control_->wait_until(control_->now_ns() + release_look_ns);
        const OperationResult waited = co_await operation;
        if (waited.result < 0) co_return;
    }
}

}  // namespace ferrule::inline v0
