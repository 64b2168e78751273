#pragma once

#include <ferrule/net/address.hpp>

#include "support/dns_answers.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace ferrule_test {

/// A question as it came to the server.
struct NameServerQuestion {
    DnsQueryView query;
    bool by_tcp = false;
    std::uint16_t port = 0;  ///< of who asked
};

/// A name server on a loopback port of its own, by UDP and TCP, that answers as a test wants: honestly or not.
class NameServer {
public:
    /// What is sent back for a question: datagrams, or pieces of the stream, which ends behind them.
    using Answers = std::vector<std::string>;
    using Handler = std::function<Answers(const NameServerQuestion&)>;

    explicit NameServer(Handler handler, int family = AF_INET) : handler_(std::move(handler)) {
        open_sockets(family);
        wake_ = ::eventfd(0, EFD_CLOEXEC);
        check(wake_, "eventfd");
        thread_ = std::thread([this] { serve(); });
    }
    NameServer(const NameServer&) = delete;
    NameServer& operator=(const NameServer&) = delete;
    ~NameServer() {
        const std::uint64_t one = 1;
        if (::write(wake_, &one, sizeof one) != sizeof one) std::abort();
        thread_.join();
        for (const int descriptor : {udp_, tcp_, wake_}) ::close(descriptor);
    }

    const ferrule::Address& address() const noexcept { return address_; }

    /// The questions so far, in order.
    std::vector<NameServerQuestion> questions() const {
        const std::lock_guard lock(mutex_);
        return questions_;
    }
    /// Waits until so many have come, and been answered or not.
    void wait_for_questions(std::size_t count) {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, std::chrono::seconds(30), [&] { return done_ >= count; }))
            throw std::runtime_error("a question did not come");
    }

    /// Sends a datagram to somebody who has asked.
    void send_to(std::uint16_t port, std::string_view bytes) {
        const ferrule::Address to = address_.with_port(port);
        check(static_cast<int>(::sendto(udp_, bytes.data(), bytes.size(), 0, to.data(), to.size())), "sendto");
    }

private:
    static void check(int result, const char* what) {
        if (result < 0) throw std::system_error(errno, std::system_category(), what);
    }
    static ferrule::Address name_of(int descriptor) {
        sockaddr_storage storage{};
        socklen_t size = sizeof storage;
        check(::getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &size), "getsockname");
        return *ferrule::Address::from(reinterpret_cast<const sockaddr*>(&storage), size);
    }
    /// UDP and TCP on the same port; another one when the port is taken for TCP.
    void open_sockets(int family) {
        const ferrule::Address any =
            family == AF_INET6 ? ferrule::Address::loopback_ipv6(0) : ferrule::Address::loopback(0);
        for (int attempt = 0; attempt < 100; ++attempt) {
            udp_ = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
            check(udp_, "socket");
            check(::bind(udp_, any.data(), any.size()), "bind");
            address_ = name_of(udp_);
            tcp_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
            check(tcp_, "socket");
            if (::bind(tcp_, address_.data(), address_.size()) == 0) {
                check(::listen(tcp_, 64), "listen");
                return;
            }
            ::close(udp_);
            ::close(tcp_);
        }
        throw std::runtime_error("no port that is free for both UDP and TCP");
    }

    void serve() {
        std::array<pollfd, 3> waits{pollfd{udp_, POLLIN, 0}, pollfd{tcp_, POLLIN, 0}, pollfd{wake_, POLLIN, 0}};
        for (;;) {
            if (::poll(waits.data(), waits.size(), -1) < 0) continue;
            if ((waits[2].revents & POLLIN) != 0) return;
            if ((waits[0].revents & POLLIN) != 0) serve_datagram();
            if ((waits[1].revents & POLLIN) != 0) serve_stream();
        }
    }
    Answers note(NameServerQuestion question) {
        {
            const std::lock_guard lock(mutex_);
            questions_.push_back(question);
        }
        return handler_(question);
    }
    void note_done() {
        const std::lock_guard lock(mutex_);
        ++done_;
        changed_.notify_all();
    }
    void serve_datagram() {
        std::array<char, 65536> bytes;
        sockaddr_storage from{};
        socklen_t size = sizeof from;
        const ssize_t got = ::recvfrom(udp_, bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 0) return;
        const auto peer = *ferrule::Address::from(reinterpret_cast<const sockaddr*>(&from), size);
        const auto query = DnsQueryView::read({bytes.data(), static_cast<std::size_t>(got)});
        for (const std::string& answer : note({query, false, peer.port()})) send_to(peer.port(), answer);
        note_done();
    }
    void serve_stream() {
        const int stream = ::accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC);
        if (stream < 0) return;
        std::string bytes;
        std::array<char, 1024> piece;
        const auto missing = [&] {
            return bytes.size() < 2 ||
                   bytes.size() < 2u + static_cast<std::uint8_t>(bytes[0]) * 256u + static_cast<std::uint8_t>(bytes[1]);
        };
        while (missing()) {
            const ssize_t got = ::recv(stream, piece.data(), piece.size(), 0);
            if (got <= 0) break;
            bytes.append(piece.data(), static_cast<std::size_t>(got));
        }
        if (!missing()) {
            for (const std::string& answer : note({DnsQueryView::read(bytes.substr(2)), true, 0})) {
                if (::send(stream, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
            }
        }
        ::close(stream);
        note_done();
    }

    Handler handler_;
    ferrule::Address address_;
    int udp_ = -1;
    int tcp_ = -1;
    int wake_ = -1;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<NameServerQuestion> questions_;
    std::size_t done_ = 0;
    std::thread thread_;
};

}  // namespace ferrule_test
