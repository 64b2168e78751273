#include "sim/socket_options.hpp"

#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ferrule::inline v0::sim {
namespace {

// net.core.wmem_max and rmem_max as distributions have them, the least that Linux leaves a socket, and what a socket
// reports that nobody has set.
constexpr int largest_buffer = 212'992;
constexpr int smallest_send_buffer = 4'608;
constexpr int smallest_receive_buffer = 2'304;
constexpr int default_send_buffer = 16'384;
constexpr int default_receive_buffer = 131'072;
constexpr std::uint64_t ns_per_second = 1'000'000'000;
constexpr std::uint64_t ns_per_microsecond = 1'000;

std::uint32_t buffer_size(int wanted, int smallest) noexcept {
    // Negative sizes are huge: the kernel compares them unsigned.
    const auto size = std::min(static_cast<std::uint32_t>(wanted), static_cast<std::uint32_t>(largest_buffer));
    return std::max(size * 2, static_cast<std::uint32_t>(smallest));
}

int take_timeout(const void* value, socklen_t length, std::uint64_t& timeout_ns) noexcept {
    timeval timeout{};
    if (length < sizeof timeout) return -EINVAL;
    std::memcpy(&timeout, value, sizeof timeout);
    if (timeout.tv_usec < 0 || timeout.tv_usec >= 1'000'000) return -EDOM;
    timeout_ns = timeout.tv_sec < 0 ? 0
                                    : static_cast<std::uint64_t>(timeout.tv_sec) * ns_per_second +
                                          static_cast<std::uint64_t>(timeout.tv_usec) * ns_per_microsecond;
    return 0;
}

int give(const void* option, socklen_t size, void* value, socklen_t* length) noexcept {
    if (static_cast<int>(*length) < 0) return -EINVAL;
    *length = std::min(*length, size);
    std::memcpy(value, option, *length);
    return 0;
}

int give_timeout(std::uint64_t timeout_ns, void* value, socklen_t* length) noexcept {
    const timeval timeout{.tv_sec = static_cast<time_t>(timeout_ns / ns_per_second),
                          .tv_usec = static_cast<suseconds_t>(timeout_ns % ns_per_second / ns_per_microsecond)};
    return give(&timeout, sizeof timeout, value, length);
}

}  // namespace

int give_option(int option, void* value, socklen_t* length) noexcept {
    return give(&option, sizeof option, value, length);
}

bool take_option(const void* value, socklen_t length, int& option) noexcept {
    if (length < sizeof option) return false;
    std::memcpy(&option, value, sizeof option);
    return true;
}

int SocketLevelOptions::set(int name, const void* value, socklen_t length) noexcept {
    if (name == SO_LINGER) {
        if (length < sizeof lingering) return -EINVAL;
        std::memcpy(&lingering, value, sizeof lingering);
        return 0;
    }
    if (name == SO_RCVTIMEO) return take_timeout(value, length, receive_timeout_ns);
    if (name == SO_SNDTIMEO) return take_timeout(value, length, send_timeout_ns);
    int option = 0;
    if (!take_option(value, length, option)) return -EINVAL;
    switch (name) {
        case SO_REUSEADDR:
            reuse_address = option != 0;
            return 0;
        case SO_REUSEPORT:
            reuse_port = option != 0;
            return 0;
        case SO_KEEPALIVE:
            keep_alive = option != 0;
            return 0;
        case SO_SNDBUF:
            send_buffer = buffer_size(option, smallest_send_buffer);
            return 0;
        case SO_RCVBUF:
            receive_buffer = buffer_size(option, smallest_receive_buffer);
            return 0;
        default:
            return -ENOPROTOOPT;
    }
}

int SocketLevelOptions::get(int name, void* value, socklen_t* length) const noexcept {
    switch (name) {
        case SO_LINGER:
            return give(&lingering, sizeof lingering, value, length);
        case SO_RCVTIMEO:
            return give_timeout(receive_timeout_ns, value, length);
        case SO_SNDTIMEO:
            return give_timeout(send_timeout_ns, value, length);
        case SO_REUSEADDR:
            return give_option(reuse_address ? 1 : 0, value, length);
        case SO_REUSEPORT:
            return give_option(reuse_port ? 1 : 0, value, length);
        case SO_KEEPALIVE:
            return give_option(keep_alive ? 1 : 0, value, length);
        case SO_SNDBUF:
            return give_option(send_buffer != 0 ? static_cast<int>(send_buffer) : default_send_buffer, value, length);
        case SO_RCVBUF:
            return give_option(receive_buffer != 0 ? static_cast<int>(receive_buffer) : default_receive_buffer, value,
                               length);
        default:
            return -ENOPROTOOPT;
    }
}

}  // namespace ferrule::inline v0::sim
