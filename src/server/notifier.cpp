#include <ferrule/net/address.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/server/options.hpp>

#include "server/environment.hpp"
#include "server/notifier.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace ferrule::inline v0 {
namespace {

// systemd takes what is sent at once, unless it is stuck: then a state that is older than this many others is no news.
constexpr std::size_t waiting_max = 64;
// What may be multiplied and still be told from nothing.
constexpr std::uint64_t watchdog_us_max = 1ull << 50;
constexpr std::uint64_t ns_per_us = 1'000;
constexpr LogCause cannot_tell{.name = "systemd-unreachable"};

}  // namespace

Notifier::Notifier(Kernel& kernel, bool wanted) : kernel_(kernel) {
    if (!wanted) return;
    const auto name = environment_variable(kernel, "NOTIFY_SOCKET");
    if (!name || name->empty()) return;
    read_watchdog();
    open(*name);
}

Notifier::~Notifier() {
    if (descriptor_ >= 0) kernel_.close(descriptor_);
}

void Notifier::open(const std::string& name) {
    const auto address = Address::parse("unix:" + name, 0, kernel_);
    const bool absolute = name.front() == '/' || name.front() == '@';
    if (!absolute || !address) {
        throw StartError("NOTIFY_SOCKET=" + name + ": it is neither the path nor the abstract name of a Unix socket",
                         system_error(EAFNOSUPPORT));
    }
    const int socket = kernel_.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket < 0) throw StartError("socket for NOTIFY_SOCKET", system_error(-socket));
    if (const int result = kernel_.connect(socket, address->data(), address->size()); result < 0) {
        kernel_.close(socket);
        const auto code = system_error(-result);
        throw StartError("connect to NOTIFY_SOCKET=" + name + ": " + code.message(), code);
    }
    descriptor_ = socket;
}

void Notifier::read_watchdog() {
    const auto period = environment_variable(kernel_, "WATCHDOG_USEC");
    if (!period) return;
    if (const auto process = environment_variable(kernel_, "WATCHDOG_PID")) {
        // A parent's.
        if (whole_number(*process) != static_cast<std::uint64_t>(kernel_.process_identity())) return;
    }
    const auto period_us = whole_number(*period);
    if (!period_us || *period_us == 0 || *period_us > watchdog_us_max)
        throw StartError("WATCHDOG_USEC=" + *period + ": it is not a number of microseconds", system_error(EINVAL));
    watchdog_ns_ = *period_us * ns_per_us;
}

int Notifier::write(std::string_view lines) noexcept {
    const ssize_t sent = kernel_.write(descriptor_, lines.data(), lines.size());
    if (sent == -EAGAIN || sent == -EINTR) return static_cast<int>(sent);
    if (sent < 0) {
        const std::string reason = system_error(static_cast<int>(-sent)).message();
        control_->log.write(cannot_tell, "tell systemd: %s", reason.c_str());
    }
    return 0;
}

std::string Notifier::status(std::string_view text) {
    std::string line = "STATUS=";
    // A line break would begin another variable.
    for (const char character : text) line += static_cast<unsigned char>(character) < ' ' ? ' ' : character;
    return line;
}

void Notifier::tell(std::string lines) {
    if (!active() || muted_) return;
    if (waiting_.empty() && write(lines) == 0) return;
    if (waiting_.size() == waiting_max) waiting_.erase(waiting_.begin() + 1);  // the first is being waited for
    waiting_.push_back(std::move(lines));
    if (waiting_.size() == 1) control_->spawn(send_waiting());
}

Task<> Notifier::send_waiting() {
    while (!waiting_.empty()) {
        const int result = write(waiting_.front());
        if (result == 0) waiting_.pop_front();
        if (result != -EAGAIN) continue;
        auto operation = control_->submit(
            "tell systemd", [this](abi::SubmissionEntry& entry) { prepare::poll_add(entry, descriptor_, POLLOUT); });
        const OperationResult ended = co_await operation;
        if (ended.result < 0) {
            waiting_.clear();
            co_return;
        }
    }
}

}  // namespace ferrule::inline v0
