#pragma once

#include <ferrule/net/address.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule_test {

/// What a peer of the library has: a plain blocking socket. Its timeouts are there so that a broken server fails the
/// test instead of stopping it; what takes longer than them throws, as does every other error.
class ClientSocket {
public:
    static constexpr int patience_seconds = 30;

    /// How the stream ended, and what came before.
    struct Rest {
        std::string bytes;
        int error = 0;  ///< 0: the peer's FIN

        bool operator==(const Rest&) const = default;
        friend std::ostream& operator<<(std::ostream& stream, const Rest& rest) {
            return stream << rest.bytes.size() << " bytes, error " << rest.error;
        }
    };

    /// A connection to the address. `receive_buffer` bounds what the kernel takes for this side; 0: its own choice.
    static ClientSocket connect(const ferrule::Address& address, int receive_buffer = 0) {
        const int number = ::socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (number < 0) throw std::system_error(errno, std::system_category(), "socket of a client");
        ClientSocket client{number};
        client.limit_waits(patience_seconds);
        // Before connecting: the window that is announced then cannot shrink later.
        if (receive_buffer != 0) client.set(SOL_SOCKET, SO_RCVBUF, receive_buffer);
        if (::connect(number, address.data(), address.size()) < 0) {
            int error = errno;
            // The end of an earlier ring interrupts its thread's system calls; a connect then goes on by itself.
            if (error == EINTR) error = client.outcome_of_connect();
            if (error != 0) throw std::system_error(error, std::system_category(), "connect " + address.to_string());
        }
        if (address.data()->sa_family != AF_UNIX) client.set(IPPROTO_TCP, TCP_NODELAY, 1);
        return client;
    }

    explicit ClientSocket(int number = -1) noexcept : number_(number) {}
    ClientSocket(ClientSocket&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    ClientSocket& operator=(ClientSocket&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~ClientSocket() { close(); }

    int number() const noexcept { return number_; }

    void limit_waits(int seconds) {
        const timeval patience{.tv_sec = seconds, .tv_usec = 0};
        check(::setsockopt(number_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
        check(::setsockopt(number_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), "SO_SNDTIMEO");
    }

    void set(int level, int name, int value) { check(::setsockopt(number_, level, name, &value, sizeof value), "set"); }

    /// Sends all of it.
    void send(std::string_view bytes) {
        while (!bytes.empty()) bytes.remove_prefix(static_cast<std::size_t>(send_some(bytes)));
    }

    /// Sends what the kernel takes without waiting; 0: nothing.
    std::size_t send_now(std::string_view bytes) {
        const ssize_t sent = ::send(number_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) return 0;
        check(sent, "send");
        return static_cast<std::size_t>(sent);
    }

    /// Sends all of it, or returns the error that the connection has.
    int try_send(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = retry([&] { return ::send(number_, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
            if (sent < 0) return errno;
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
        return 0;
    }

    /// Receives exactly so many bytes; an end before is an error.
    std::string receive(std::size_t count) {
        std::string bytes(count, '\0');
        std::size_t received = 0;
        while (received < count) {
            const ssize_t got = retry([&] { return ::recv(number_, bytes.data() + received, count - received, 0); });
            check(got, "receive");
            if (got == 0) {
                throw std::runtime_error("the stream ended after " + std::to_string(received) + " of " +
                                         std::to_string(count) + " bytes");
            }
            received += static_cast<std::size_t>(got);
        }
        return bytes;
    }

    /// Receives until the peer ends the stream or resets it.
    Rest receive_rest() {
        Rest rest;
        std::array<char, 65536> piece;
        for (;;) {
            const ssize_t got = retry([&] { return ::recv(number_, piece.data(), piece.size(), 0); });
            if (got < 0 && errno == EAGAIN) throw std::runtime_error("neither bytes nor an end came in time");
            if (got < 0) rest.error = errno;
            if (got <= 0) return rest;
            rest.bytes.append(piece.data(), static_cast<std::size_t>(got));
        }
    }

    /// What is there without waiting.
    std::string receive_now() {
        std::array<char, 65536> piece;
        const ssize_t got = ::recv(number_, piece.data(), piece.size(), MSG_DONTWAIT);
        return got > 0 ? std::string{piece.data(), static_cast<std::size_t>(got)} : std::string{};
    }

    void shutdown_write() { check(::shutdown(number_, SHUT_WR), "shutdown"); }
    void close() noexcept {
        if (number_ >= 0) ::close(std::exchange(number_, -1));
    }
    /// Closes with a reset instead of a FIN.
    void reset() noexcept {
        const linger now{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(number_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }

private:
    int outcome_of_connect() {
        pollfd writable{.fd = number_, .events = POLLOUT, .revents = 0};
        retry([&] { return ::poll(&writable, 1, patience_seconds * 1000); });
        int error = 0;
        socklen_t size = sizeof error;
        check(::getsockopt(number_, SOL_SOCKET, SO_ERROR, &error, &size), "SO_ERROR");
        return error;
    }
    template <class SystemCall>
    static ssize_t retry(SystemCall call) {
        ssize_t result = call();
        while (result < 0 && errno == EINTR) result = call();
        return result;
    }
    static void check(ssize_t result, const char* what) {
        if (result < 0) throw std::system_error(errno, std::system_category(), std::string("client: ") + what);
    }
    ssize_t send_some(std::string_view bytes) {
        const ssize_t sent = retry([&] { return ::send(number_, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
        check(sent, "send");
        return sent;
    }

    int number_;
};

/// Bytes that repeat with no power of two, so that a piece that is lost, doubled or moved shows.
inline std::string pattern(std::size_t size, unsigned seed = 0) {
    std::string bytes(size, '\0');
    std::uint32_t state = seed * 2654435761u + 12345;
    for (char& byte : bytes) {
        state = state * 1664525 + 1013904223;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

}  // namespace ferrule_test
