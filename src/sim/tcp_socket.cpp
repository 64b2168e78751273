#include <ferrule/assert.hpp>

#include "sim/network.hpp"
#include "sim/tcp_socket.hpp"

#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::uint32_t readable = POLLIN | POLLRDNORM;
constexpr std::uint32_t writable = POLLOUT | POLLWRNORM;
// net.core.somaxconn.
constexpr std::uint32_t largest_backlog = 4096;
constexpr int default_segment_size = 536;
constexpr int longest_keep_idle_s = 32'767;
constexpr int most_keep_probes = 127;
constexpr std::uint64_t ns_per_millisecond = 1'000'000;
// struct tcp_info of Linux, as far as tcpi_bytes_acked; the C library's declaration of it ends before.
constexpr std::size_t information_bytes = 128;
constexpr std::size_t acknowledged_offset = 120;

int give_information(std::uint64_t acknowledged, void* value, socklen_t* length) noexcept {
    std::array<std::byte, information_bytes> information{};
    std::memcpy(information.data() + acknowledged_offset, &acknowledged, sizeof acknowledged);
    *length = std::min<socklen_t>(*length, information_bytes);
    std::memcpy(value, information.data(), *length);
    return 0;
}

// secs_to_retrans of Linux: after how many retransmissions, at 1, 3, 7, ... seconds, so much time is over.
std::uint32_t retransmissions_in(int seconds) noexcept {
    std::uint32_t count = 0;
    for (std::uint64_t timeout = 1, period = 0; static_cast<std::uint64_t>(seconds) > period && count < 255; ++count) {
        period += timeout;
        timeout = std::min<std::uint64_t>(timeout * 2, 120);
    }
    return count;
}

int time_of_retransmissions(std::uint32_t count) noexcept {
    int period = 0;
    for (int timeout = 1; count != 0; --count) {
        period += timeout;
        timeout = std::min(timeout * 2, 120);
    }
    return period;
}

InternetAddress wildcard(int family) noexcept {
    return family == AF_INET ? InternetAddress::ipv4(INADDR_ANY, 0) : InternetAddress{};
}

}  // namespace

TcpSocket::TcpSocket(const TcpSocket& listener, TcpConnection& connection) noexcept
    : host_(listener.host_),
      family_(listener.family_),
      options_(listener.options_),
      connection_(&connection),
      side_(Side::server),
      v6_only_(listener.v6_only_),
      connect_told_(true),
      no_delay_(listener.no_delay_),
      cork_(listener.cork_),
      quick_acknowledge_(listener.quick_acknowledge_),
      keep_idle_s_(listener.keep_idle_s_),
      keep_interval_s_(listener.keep_interval_s_),
      keep_count_(listener.keep_count_),
      syn_count_(listener.syn_count_),
      user_timeout_ms_(listener.user_timeout_ms_) {
    connection.give(*this);
    connection.patience(side_, user_timeout_ms_ * ns_per_millisecond);
}

TcpSocket::~TcpSocket() {
    released();
}

void TcpSocket::released() noexcept {
    if (std::exchange(ended_, true)) return;
    stop_listening();
    if (connection_ != nullptr) {
        const bool reset = options_.lingering.l_onoff != 0 && options_.lingering.l_linger == 0;
        std::exchange(connection_, nullptr)->release(side_, reset);
    }
    claim_.release();
}

void TcpSocket::stop_listening() noexcept {
    if (!listening()) return;
    host_.ports().stop_listening(claim_);
    TcpConnection::abandon(queue_);
}

TcpBuffers TcpSocket::buffers() const noexcept {
    // Of what SO_RCVBUF reports, half is window; the rest is the kernel's own.
    return {.send_buffer = options_.send_buffer, .receive_window = options_.receive_buffer / 2};
}

std::uint32_t TcpSocket::readiness() const noexcept {
    if (connection_ != nullptr) return connection_->readiness(side_);
    if (listening()) return queue_.first != nullptr ? readable : 0;
    std::uint32_t events = POLLHUP | writable;
    if ((shut_ & 1) != 0) events |= readable | POLLRDHUP;
    return events;
}

bool TcpSocket::nonempty() const noexcept {
    if (connection_ == nullptr) return queue_.first != nullptr;
    // A FIN that has arrived counts as a byte (tcp_inq_hint): the reader is told to go on.
    return connection_->unread(side_) != 0 || connection_->input_finished(side_);
}

std::int64_t TcpSocket::receive(std::span<std::byte> into, int flags) noexcept {
    if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
    if ((flags & MSG_OOB) != 0) return -EINVAL;
    if (connection_ != nullptr) return connection_->receive(side_, into, flags);
    return (shut_ & 1) != 0 ? 0 : -ENOTCONN;
}

std::int64_t TcpSocket::send(std::span<const std::byte> from, int flags) noexcept {
    if ((flags & MSG_OOB) != 0) return -EOPNOTSUPP;
    return connection_ != nullptr ? connection_->send(side_, from) : -EPIPE;
}

std::expected<std::shared_ptr<File>, int> TcpSocket::accept(sockaddr* address, socklen_t* length) noexcept {
    if (!listening()) return std::unexpected(-EINVAL);
    TcpConnection* connection = TcpConnection::accept(queue_);
    if (connection == nullptr) return std::unexpected(-EAGAIN);
    auto socket = std::make_shared<TcpSocket>(*this, *connection);
    if (address != nullptr) {
        const int result = copy_address(connection->remote(Side::server).seen_by(family_), address, length);
        if (result < 0) return std::unexpected(result);
    }
    return socket;
}

int TcpSocket::connect(const sockaddr* address, socklen_t length) noexcept {
    if (connection_ != nullptr) return end_of_connect();
    if (listening()) return -EISCONN;
    const auto to = InternetAddress::given_to(family_, address, length);
    if (!to) return to.error();
    if (family_ == AF_INET6 && v6_only_ && to->is_ipv4()) return -ENETUNREACH;
    return begin_connection(*to);
}

int TcpSocket::end_of_connect() noexcept {
    const TcpState state = connection_->state(side_);
    if (connect_told_) return -EISCONN;
    if (state == TcpState::connecting) return -EALREADY;
    if (state == TcpState::established) {
        connect_told_ = true;
        return 0;
    }
    const int error = connection_->take_error(side_);
    forget_connection();
    return error != 0 ? -error : -ECONNABORTED;
}

void TcpSocket::forget_connection() noexcept {
    std::exchange(connection_, nullptr)->detach(side_);
    shut_ = 0;
}

int TcpSocket::begin_connection(InternetAddress to) {
    // "This host on this network" is this host: ip(7).
    if (to.is_any()) {
        const InternetAddress loopback = InternetAddress::ipv4(INADDR_LOOPBACK, to.port);
        if (to.is_ipv4() || family_ == AF_INET) {
            to = loopback;
        } else {
            to.address = in6addr_loopback;
        }
    }
    const bool bound = claim_.held();
    if (bound && !claim_.local.is_any() && claim_.local.is_ipv4() != to.is_ipv4()) return -EINVAL;
    if (named_without_port_ && claim_.local.is_ipv4() != to.is_ipv4()) return -EINVAL;
    if ((!bound && !named_without_port_) || claim_.local.is_any()) {
        InternetAddress source;
        if (to.is_ipv4()) {
            source = to.is_loopback() ? InternetAddress::ipv4(INADDR_LOOPBACK, 0)
                                      : *InternetAddress::given_to(AF_INET, host_.ipv4().data(), host_.ipv4().size());
        } else if (to.is_loopback()) {
            source.address = in6addr_loopback;
        } else {
            source = *InternetAddress::given_to(AF_INET6, host_.ipv6().data(), host_.ipv6().size());
        }
        source.port = claim_.local.port;
        claim_.local = source;
    }
    claim_.remote = to;
    claim_.ipv6_socket = family_ == AF_INET6;
    claim_.v6_only = v6_only_;
    claim_.reuse_address = options_.reuse_address;
    claim_.reuse_port = options_.reuse_port;
    if (!bound) {
        claim_.local.port = 0;
        if (const int result = host_.ports().bind_for_connect(claim_); result < 0) return result;
    } else if (!host_.ports().is_unique(claim_)) {
        return -EADDRNOTAVAIL;
    }
    connect_told_ = false;
    side_ = Side::client;
    connection_ = &TcpConnection::open(host_, *this, claim_, buffers());
    connection_->patience(side_, user_timeout_ms_ * ns_per_millisecond);
    return -EINPROGRESS;
}

int TcpSocket::bind(const sockaddr* address, socklen_t length) noexcept {
    const auto local = InternetAddress::given_to(family_, address, length);
    if (!local) return local.error();
    if (family_ == AF_INET6 && v6_only_ && local->is_ipv4()) return -EINVAL;
    if (claim_.held() || connection_ != nullptr) return -EINVAL;
    if (!host_.has_address(local->address)) return -EADDRNOTAVAIL;
    claim_.local = *local;
    claim_.remote = {};
    claim_.ipv6_socket = family_ == AF_INET6;
    claim_.v6_only = v6_only_;
    claim_.reuse_address = options_.reuse_address;
    claim_.reuse_port = options_.reuse_port;
    claim_.automatic = false;
    if (binds_without_port_ && local->port == 0) {
        named_without_port_ = true;
        return 0;
    }
    const int result = host_.ports().bind(claim_);
    bound_explicitly_ = result == 0 && local->port != 0;
    return result;
}

int TcpSocket::listen(int backlog) noexcept {
    if (connection_ != nullptr) return -EINVAL;
    queue_.backlog = std::min(static_cast<std::uint32_t>(backlog), largest_backlog);
    if (listening()) return 0;
    if (!claim_.held()) {
        claim_.local = wildcard(family_);
        claim_.ipv6_socket = family_ == AF_INET6;
        claim_.v6_only = v6_only_;
        if (const int result = host_.ports().bind(claim_); result < 0) return result;
    }
    // Set between bind and listen, they count too.
    claim_.reuse_address = options_.reuse_address;
    claim_.reuse_port = options_.reuse_port;
    shut_ = 0;
    return host_.ports().listen(claim_, *this);
}

int TcpSocket::shutdown(int how) noexcept {
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
    if (listening()) {
        // inet_shutdown of Linux: a listener stops listening when its reading side is shut, and stays bound.
        if (how == SHUT_WR) return 0;
        stop_listening();
        notify(readiness());
        return 0;
    }
    if (connection_ != nullptr) return connection_->shutdown(side_, how);
    // Linux reports the error and shuts it all the same.
    shut_ |= static_cast<std::uint8_t>(how + 1);
    notify(readiness());
    return -ENOTCONN;
}

int TcpSocket::attach_filter(const void* value, socklen_t length) noexcept {
    sock_fprog program{};
    if (length != sizeof program) return -EINVAL;
    std::memcpy(&program, value, sizeof program);
    if (program.filter == nullptr) return -EINVAL;
    return PortTable::attach(claim_, options_.reuse_port, {program.filter, program.len});
}

int TcpSocket::set_option(int level, int name, const void* value, socklen_t length) noexcept {
    if (value == nullptr) return -EFAULT;
    int option = 0;
    if (level == IPPROTO_TCP) return set_tcp_option(name, value, length);
    if (level == IPPROTO_IPV6 && family_ == AF_INET6 && name == IPV6_V6ONLY) {
        if (!take_option(value, length, option) || claim_.held() || connection_ != nullptr) return -EINVAL;
        v6_only_ = option != 0;
        return 0;
    }
    if (level == IPPROTO_IP && name == IP_BIND_ADDRESS_NO_PORT) {
        if (!take_option(value, length, option)) return -EINVAL;
        binds_without_port_ = option != 0;
        return 0;
    }
    if (level != SOL_SOCKET) return -ENOPROTOOPT;
    if (name == SO_ATTACH_REUSEPORT_CBPF) return attach_filter(value, length);
    if (name == SO_DETACH_REUSEPORT_BPF) return PortTable::detach(claim_);
    const int result = options_.set(name, value, length);
    if (result < 0) return result;
    if (connection_ != nullptr && (name == SO_SNDBUF || name == SO_RCVBUF)) connection_->resize(side_, buffers());
    if (claim_.held()) {
        claim_.reuse_address = options_.reuse_address;
        claim_.reuse_port = options_.reuse_port;
    }
    return 0;
}

int TcpSocket::set_tcp_option(int name, const void* value, socklen_t length) noexcept {
    int option = 0;
    if (!take_option(value, length, option)) return -EINVAL;
    const auto between = [option](int first, int last) { return first <= option && option <= last; };
    switch (name) {
        case TCP_NODELAY:
            no_delay_ = option != 0;
            return 0;
        case TCP_CORK:
            cork_ = option != 0;
            return 0;
        case TCP_QUICKACK:
            quick_acknowledge_ = option != 0;
            return 0;
        case TCP_DEFER_ACCEPT:
            queue_.deferred = option > 0 ? retransmissions_in(option) : 0;
            return 0;
        case TCP_KEEPIDLE:
            if (!between(1, longest_keep_idle_s)) return -EINVAL;
            keep_idle_s_ = option;
            return 0;
        case TCP_KEEPINTVL:
            if (!between(1, longest_keep_idle_s)) return -EINVAL;
            keep_interval_s_ = option;
            return 0;
        case TCP_KEEPCNT:
            if (!between(1, most_keep_probes)) return -EINVAL;
            keep_count_ = option;
            return 0;
        case TCP_SYNCNT:
            if (!between(1, most_keep_probes)) return -EINVAL;
            syn_count_ = option;
            return 0;
        case TCP_USER_TIMEOUT:
            if (option < 0) return -EINVAL;
            user_timeout_ms_ = static_cast<std::uint32_t>(option);
            if (connection_ != nullptr) connection_->patience(side_, user_timeout_ms_ * ns_per_millisecond);
            return 0;
        default:
            return -ENOPROTOOPT;
    }
}

int TcpSocket::get_option(int level, int name, void* value, socklen_t* length) noexcept {
    if (value == nullptr || length == nullptr) return -EFAULT;
    if (level == IPPROTO_TCP) return get_tcp_option(name, value, length);
    if (level == IPPROTO_IPV6 && family_ == AF_INET6 && name == IPV6_V6ONLY) {
        return give_option(v6_only_ ? 1 : 0, value, length);
    }
    if (level != SOL_SOCKET) return -ENOPROTOOPT;
    switch (name) {
        case SO_TYPE:
            return give_option(SOCK_STREAM, value, length);
        case SO_DOMAIN:
            return give_option(family_, value, length);
        case SO_PROTOCOL:
            return give_option(IPPROTO_TCP, value, length);
        case SO_ACCEPTCONN:
            return give_option(listening() ? 1 : 0, value, length);
        case SO_ERROR:
            return give_option(connection_ != nullptr ? connection_->take_error(side_) : 0, value, length);
        case SO_MEMINFO: {
            // Nine numbers, of which the first is what waits to be received; the others nobody asks for.
            std::array<std::uint32_t, 9> memory{};
            if (connection_ != nullptr) memory[0] = static_cast<std::uint32_t>(connection_->unread(side_));
            *length = std::min<socklen_t>(*length, sizeof memory);
            std::memcpy(value, memory.data(), *length);
            return 0;
        }
        default:
            return options_.get(name, value, length);
    }
}

int TcpSocket::get_tcp_option(int name, void* value, socklen_t* length) const noexcept {
    switch (name) {
        case TCP_NODELAY:
            return give_option(no_delay_ ? 1 : 0, value, length);
        case TCP_CORK:
            return give_option(cork_ ? 1 : 0, value, length);
        case TCP_QUICKACK:
            return give_option(quick_acknowledge_ ? 1 : 0, value, length);
        case TCP_DEFER_ACCEPT:
            return give_option(time_of_retransmissions(queue_.deferred), value, length);
        case TCP_KEEPIDLE:
            return give_option(keep_idle_s_, value, length);
        case TCP_KEEPINTVL:
            return give_option(keep_interval_s_, value, length);
        case TCP_KEEPCNT:
            return give_option(keep_count_, value, length);
        case TCP_SYNCNT:
            return give_option(syn_count_, value, length);
        case TCP_USER_TIMEOUT:
            return give_option(static_cast<int>(user_timeout_ms_), value, length);
        case TCP_MAXSEG:
            return give_option(default_segment_size, value, length);
        case TCP_INFO:
            return give_information(connection_ != nullptr ? connection_->acknowledged(side_) : 0, value, length);
        default:
            return -ENOPROTOOPT;
    }
}

int TcpSocket::socket_name(sockaddr* address, socklen_t* length) noexcept {
    InternetAddress local = wildcard(family_);
    if (connection_ != nullptr) {
        local = connection_->local(side_);
    } else if (claim_.held() || named_without_port_) {
        local = claim_.local;
    }
    return copy_address(local.seen_by(family_), address, length);
}

int TcpSocket::peer_name(sockaddr* address, socklen_t* length) noexcept {
    if (connection_ == nullptr || connection_->state(side_) != TcpState::established) return -ENOTCONN;
    return copy_address(connection_->remote(side_).seen_by(family_), address, length);
}

}  // namespace ferrule::inline v0::sim
