#pragma once

#include <ferrule/net/address.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace ferrule_test {

/// What a peer of a UDP socket has: a plain blocking socket. Its timeout is there so that a broken socket fails the
/// test instead of stopping it; what takes longer throws, as does every other error.
class DatagramPeer {
public:
    static constexpr int patience_seconds = 30;

    struct Received {
        std::string bytes;
        ferrule::Address sender;
        int traffic_class = 0;
    };

    explicit DatagramPeer(const ferrule::Address& address = ferrule::Address::loopback(0))
        : number_(::socket(address.data()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        check(number_, "socket");
        const timeval patience{.tv_sec = patience_seconds, .tv_usec = 0};
        check(::setsockopt(number_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
        const bool ipv4 = address.family() == ferrule::AddressFamily::ipv4;
        set(ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1);
        check(::bind(number_, address.data(), address.size()), "bind");
    }
    DatagramPeer(DatagramPeer&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    DatagramPeer& operator=(DatagramPeer&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~DatagramPeer() { close(); }

    void close() noexcept {
        if (number_ >= 0) ::close(std::exchange(number_, -1));
    }
    int number() const noexcept { return number_; }

    void set(int level, int name, int value) { check(::setsockopt(number_, level, name, &value, sizeof value), "set"); }

    ferrule::Address address() const {
        sockaddr_storage name{};
        socklen_t size = sizeof name;
        check(::getsockname(number_, reinterpret_cast<sockaddr*>(&name), &size), "getsockname");
        return *ferrule::Address::from(reinterpret_cast<const sockaddr*>(&name), size);
    }

    void connect(const ferrule::Address& peer) { check(::connect(number_, peer.data(), peer.size()), "connect"); }

    void send_to(const ferrule::Address& peer, std::string_view bytes) {
        check(retry([&] { return ::sendto(number_, bytes.data(), bytes.size(), 0, peer.data(), peer.size()); }),
              "sendto");
    }

    /// With the bits in the traffic class of its header.
    void send_marked(const ferrule::Address& peer, std::string_view bytes, int traffic_class) {
        const bool ipv4 = peer.family() == ferrule::AddressFamily::ipv4;
        set(ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, traffic_class);
        send_to(peer, bytes);
    }

    /// One datagram.
    Received receive() {
        std::array<char, 65536> bytes;
        alignas(cmsghdr) std::array<char, 256> control;
        sockaddr_storage name{};
        iovec vector{bytes.data(), bytes.size()};
        msghdr message{};
        message.msg_name = &name;
        message.msg_namelen = sizeof name;
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t got = retry([&] { return ::recvmsg(number_, &message, 0); });
        check(got, "recvmsg");
        Received received;
        received.bytes.assign(bytes.data(), static_cast<std::size_t>(got));
        received.sender = *ferrule::Address::from(reinterpret_cast<const sockaddr*>(&name), message.msg_namelen);
        for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
            if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_TOS) {
                received.traffic_class = *CMSG_DATA(one);
            } else if (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_TCLASS) {
                std::memcpy(&received.traffic_class, CMSG_DATA(one), sizeof received.traffic_class);
            }
        }
        return received;
    }

    /// Whether nothing is there.
    bool empty() const {
        char byte = 0;
        return ::recv(number_, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
    }

private:
    template <class SystemCall>
    static ssize_t retry(SystemCall call) {
        ssize_t result = call();
        while (result < 0 && errno == EINTR) result = call();
        return result;
    }
    static void check(ssize_t result, const char* what) {
        if (result < 0) throw std::system_error(errno, std::system_category(), std::string("UDP peer: ") + what);
    }

    int number_;
};

}  // namespace ferrule_test
