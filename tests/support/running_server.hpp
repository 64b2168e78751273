#pragma once

#include <ferrule/server.hpp>

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace ferrule_test {

/// How long a test waits for what must come; never for what must not.
inline constexpr auto patience = std::chrono::seconds(30);

/// Whether it becomes true.
template <class Predicate>
bool eventually(Predicate predicate) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (!predicate()) {
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::yield();
    }
    return true;
}

/// A blocking client.
class Client {
public:
    explicit Client(const ferrule::Address& address)
        : fd_(::socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const timeval limit{std::chrono::duration_cast<std::chrono::seconds>(patience).count(), 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        connected_ = ::connect(fd_, address.data(), address.size()) == 0 || (errno == EINTR && connects_later());
    }
    Client(Client&& other) noexcept : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
    Client& operator=(Client&&) = delete;
    ~Client() {
        if (fd_ >= 0) ::close(fd_);
    }

    bool connected() const { return connected_; }
    void send(std::string_view text) {
        EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    }
    // Exactly this many bytes, or what came before the end.
    std::string receive(std::size_t bytes) {
        std::string text(bytes, '\0');
        std::size_t size = 0;
        while (size != bytes) {
            const ssize_t received = receive_some(text.data() + size, bytes - size);
            if (received <= 0) break;
            size += static_cast<std::size_t>(received);
        }
        text.resize(size);
        return text;
    }
    std::string exchange(std::string_view text) {
        send(text);
        return receive(text.size());
    }
    // What comes until the peer ends: true for FIN, false for anything else.
    bool ends_in_order(std::string* rest = nullptr) { return receive_all(rest) == 0; }
    // The connection is over, in whatever way.
    bool ends() { return receive_all(nullptr) != EAGAIN; }

private:
    // A connect that was interrupted goes on by itself.
    bool connects_later() const {
        pollfd writable{.fd = fd_, .events = POLLOUT, .revents = 0};
        const int patience_ms = static_cast<int>(std::chrono::milliseconds(patience).count());
        while (::poll(&writable, 1, patience_ms) < 0 && errno == EINTR) {
        }
        int error = ETIMEDOUT;
        socklen_t size = sizeof error;
        ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
        return error == 0 && (writable.revents & POLLOUT) != 0;
    }

    // The kernel interrupts the calls of a thread that has run a ring when it ends that ring, some time after it was
    // closed.
    ssize_t receive_some(char* bytes, std::size_t size) {
        for (;;) {
            const ssize_t received = ::recv(fd_, bytes, size, 0);
            if (received >= 0 || errno != EINTR) return received;
        }
    }

    // Until FIN (0) or an error.
    int receive_all(std::string* bytes) {
        for (;;) {
            char piece[4096];
            const ssize_t received = receive_some(piece, sizeof piece);
            if (received == 0) return 0;
            if (received < 0) return errno;
            if (bytes != nullptr) bytes->append(piece, static_cast<std::size_t>(received));
        }
    }

    int fd_;
    bool connected_ = false;
};

/// Sends back what it receives.
inline ferrule::Task<> echo(ferrule::Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

/// Answers each byte with the number of its reactor.
inline ferrule::Task<> tell_reactor(ferrule::Connection connection) {
    const char digit = static_cast<char>('0' + connection.reactor().id());
    while (auto received = co_await connection.read()) {
        connection.write(std::string_view(&digit, 1));
        co_await connection.flush();
    }
}

/// A small server at a port that the system chooses.
inline ferrule::ServerOptions on_loopback(std::uint32_t reactors = 1) {
    ferrule::ServerOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    options.reactors = reactors;
    options.handle_signals = false;
    // Clients of these tests keep their sockets open: the server need not wait for their FIN.
    options.network.linger_timeout = std::chrono::milliseconds(10);
    options.reactor.submission_entries = 64;
    options.network.receive_buffer_count = 64;
    return options;
}

/// A server that runs on a thread of its own until the end of the test.
class Running {
public:
    explicit Running(ferrule::Server& server) : server_(server) {
        server_.on_listening([this] { up_.set_value(); });
        thread_ = std::thread([this] {
            try {
                result_ = server_.run();
            } catch (...) {
                failure_ = std::current_exception();
            }
            ended_.set_value();
        });
        auto up = up_.get_future();
        while (up.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready &&
               ended_future_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
        }
    }
    ~Running() {
        if (!thread_.joinable()) return;
        server_.stop();
        server_.stop();
        thread_.join();
    }
    ferrule::Address address(std::size_t port = 0) const { return server_.addresses().at(port); }
    // What run returned. It rethrows what run threw.
    int join() {
        thread_.join();
        if (failure_) std::rethrow_exception(failure_);
        return result_;
    }
    int stop() {
        server_.stop();
        return join();
    }

private:
    ferrule::Server& server_;
    std::promise<void> up_;
    std::promise<void> ended_;
    std::future<void> ended_future_ = ended_.get_future();
    std::thread thread_;
    std::exception_ptr failure_;
    int result_ = -1;
};

/// What `run` throws as a StartError.
inline std::string start_error_of(ferrule::Server& server) {
    try {
        server.run();
    } catch (const ferrule::StartError& error) {
        return error.what();
    }
    return "it started";
}

}  // namespace ferrule_test
