#include <ferrule/net/listen_socket.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/ring/error.hpp>

#include "server/take_over.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <utility>

namespace ferrule::inline v0 {
namespace {

// Of the reactor that waits for the offer: one operation and its deadline.
constexpr std::uint32_t entries = 8;

bool listens(Kernel& kernel, int descriptor) noexcept {
    int answer = 0;
    socklen_t size = sizeof answer;
    return kernel.get_option(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &answer, &size) >= 0 && answer != 0;
}

}  // namespace

std::unique_ptr<TakeOver> TakeOver::begin(Kernel& kernel, const Address& path, std::chrono::milliseconds timeout) {
    std::unique_ptr<TakeOver> made(new TakeOver(kernel, path, timeout));
    if (!made->connect()) return nullptr;
    made->receive_offer_on_a_reactor();
    return made;
}

TakeOver::~TakeOver() {
    close_untaken();
    if (restart_listener_ >= 0) kernel_.close(restart_listener_);
    if (connected_ >= 0) kernel_.close(connected_);
}

StartError TakeOver::error(const std::string& what, int number) const {
    std::string text = "take over from " + path_.to_string() + ": " + what;
    if (number == 0) return {text, {}};
    const auto code = system_error(number);
    return {text.append(what.empty() ? "" : ": ").append(code.message()), code};
}

// False when nobody serves the path.
bool TakeOver::connect() {
    connected_ = kernel_.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connected_ < 0) throw error("socket", -std::exchange(connected_, -1));
    // It waits while others wait to be accepted.
    const auto whole = std::chrono::floor<std::chrono::seconds>(timeout_);
    const timeval limit{whole.count(), std::chrono::microseconds(timeout_ - whole).count()};
    kernel_.set_option(connected_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const int result = kernel_.connect(connected_, path_.data(), path_.size());
    if (result == -ENOENT || result == -ECONNREFUSED) return false;
    if (result < 0) throw error("connect", -result);
    return true;
}

void TakeOver::receive_offer_on_a_reactor() {
    ReactorOptions options;
    options.submission_entries = entries;
    Reactor reactor(0, options, kernel_);
    std::exception_ptr failure;
    reactor.on_fault([&failure](Reactor&, std::exception_ptr fault) { failure = std::move(fault); });
    reactor.on_start([this](Reactor& started) { started.spawn(receive_offer(started)); });
    channel_ = std::make_unique<RestartChannel>(reactor, std::exchange(connected_, -1));
    reactor.run();
    if (failure) {
        // It closes its descriptor while its reactor is there.
        channel_.reset();
        std::rethrow_exception(failure);
    }
}

Task<> TakeOver::receive_offer(Reactor& reactor) {
    struct Stop {
        Reactor& reactor;
        ~Stop() { reactor.stop(); }
    };
    const Stop stop{reactor};
    co_await with_deadline(receive_all(), timeout_);
}

std::string TakeOver::expected(int failed, RestartMessage::Kind due) const {
    switch (failed) {
        case 0:
            return fault_of(channel_->received, due);
        case ECANCELED:
            return "no answer within " + std::to_string(timeout_.count()) + " ms";
        case ECONNRESET:
            return "it has ended, or has broken off";
        case EMFILE:
            return "no room for its descriptors (RLIMIT_NOFILE)";
        default:
            return system_error(failed).message();
    }
}

Task<> TakeOver::receive_all() {
    if (const std::string stranger = channel_->stranger(); !stranger.empty()) throw error(stranger, EPERM);
    channel_->next = {};
    channel_->next.kind = RestartMessage::Kind::hello;
    channel_->next.process = kernel_.process_identity();
    int failed = co_await channel_->send();
    // Whatever it was: the other may have said why.
    failed = co_await channel_->receive();
    if (const std::string fault = expected(failed, RestartMessage::Kind::offer); !fault.empty()) throw error(fault, 0);
    process_ = channel_->received.process;
    restart_listener_ = channel_->take_descriptor();
    if (restart_listener_ < 0 || !listens(kernel_, restart_listener_))
        throw error("it offers no socket to ask for the next restart at", 0);
    for (std::uint32_t left = channel_->received.count; left != 0; --left) {
        failed = co_await channel_->receive();
        if (const std::string fault = expected(failed, RestartMessage::Kind::socket); !fault.empty())
            throw error(fault, 0);
        keep_socket();
    }
}

void TakeOver::keep_socket() {
    const RestartMessage& message = channel_->received;
    const Address address = message.bound_address();
    auto port = std::ranges::find(ports_, message.port, &OfferedPort::number);
    if (port == ports_.end()) {
        OfferedPort offered;
        offered.number = message.port;
        offered.address = address;
        port = ports_.insert(port, std::move(offered));
    }
    port->chosen = (message.flags & RestartMessage::flag_chosen) != 0;
    if ((message.flags & RestartMessage::flag_order_unknown) != 0) port->order_known = false;
    port->sockets.reserve(port->sockets.size() + 1);
    const int socket = channel_->take_descriptor();
    if (socket < 0) throw error("a socket did not come with its message", 0);
    port->sockets.push_back(socket);
    const auto bound = local_address(kernel_, socket);
    if (!listens(kernel_, socket) || !bound || *bound != address || address != port->address)
        throw error("what it offers for " + address.to_string() + " does not listen there", 0);
}

TakeOver::OfferedPort* TakeOver::find(const Address& wanted, bool any_host) {
    const auto fits = [&](const OfferedPort& port) {
        if (port.taken) return false;
        const bool same_host =
            port.address.with_port(0) == wanted.with_port(0) || (any_host && port.address.is_any() && wanted.is_any());
        if (!same_host) return false;
        if (wanted.family() == AddressFamily::unix_domain) return true;
        return wanted.port() == 0 ? port.chosen : port.address.port() == wanted.port();
    };
    const auto found = std::ranges::find_if(ports_, fits);
    return found == ports_.end() ? nullptr : &*found;
}

const TakeOver::OfferedPort* TakeOver::take(const Address& wanted, bool any_host) {
    OfferedPort* const port = find(wanted, any_host);
    if (port != nullptr) port->taken = true;
    return port;
}

void TakeOver::close_untaken() noexcept {
    for (OfferedPort& port : ports_) {
        if (port.taken) continue;
        for (const int socket : std::exchange(port.sockets, {})) kernel_.close(socket);
    }
}

int TakeOver::take_restart_listener() noexcept {
    return std::exchange(restart_listener_, -1);
}

Task<TakeOver::Outcome> TakeOver::finish(Reactor& control) {
    channel_->move_to(control);
    co_await with_deadline(conclude(), timeout_);
    channel_.reset();
    co_return outcome_;
}

Task<> TakeOver::conclude() {
    int failed = 0;
    for (std::size_t index = 0; index < ports_.size() && failed == 0; ++index) {
        if (!ports_[index].taken) continue;
        channel_->next.kind = RestartMessage::Kind::taken;
        channel_->next.port = ports_[index].number;
        failed = co_await channel_->send();
    }
    channel_->next.kind = RestartMessage::Kind::ready;
    if (failed == 0) failed = co_await channel_->send();
    // Where that has failed, the other may have said why.
    failed = co_await channel_->receive();
    reason_ = expected(failed, RestartMessage::Kind::handed_over);
    if (reason_.empty()) {
        outcome_ = Outcome::done;
    } else if (failed == 0 && channel_->received.kind == RestartMessage::Kind::refusal) {
        outcome_ = Outcome::refused;
    }
}

}  // namespace ferrule::inline v0
