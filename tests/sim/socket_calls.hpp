#pragma once

#include <ferrule/sim/simulation.hpp>
#include <ferrule/sim/socket_address.hpp>

#include "sim/descriptors.hpp"
#include "sim/file.hpp"
#include "sim/machine_state.hpp"
#include "sim/network.hpp"

#include <gtest/gtest.h>

#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule::test {

/// The calls that a script makes on sockets, all non-blocking, and what they gave, a line each. The same script on
/// Linux and on the simulated kernel must give the same lines. Results are values or -errno.
class SocketCalls {
public:
    SocketCalls() = default;
    SocketCalls(const SocketCalls&) = delete;
    SocketCalls& operator=(const SocketCalls&) = delete;
    virtual ~SocketCalls() = default;

    virtual int socket(int domain, int type) = 0;
    virtual int bind(int fd, const sim::SocketAddress& address) = 0;
    virtual int listen(int fd, int backlog) = 0;
    virtual int connect(int fd, const sim::SocketAddress& address) = 0;
    /// The accepted one, or -errno.
    virtual int accept(int fd) = 0;
    virtual long send(int fd, std::string_view bytes, int flags) = 0;
    virtual long receive(int fd, std::span<char> into, int flags) = 0;
    /// With a name, if it has one, and control messages.
    virtual long send_message(int fd, std::string_view bytes, const sim::SocketAddress& to,
                              std::string_view control) = 0;
    /// msg_flags in `*flags`, the sender's name in `*from`, what came of control messages in `control`.
    virtual long receive_message(int fd, std::span<char> into, sim::SocketAddress& from, std::string& control,
                                 int* flags) = 0;
    virtual int shutdown(int fd, int how) = 0;
    virtual int close(int fd) = 0;
    /// A descriptor that came in a message is closed at the end, as the others.
    virtual void own(int fd) = 0;
    virtual int set(int fd, int level, int name, const void* value, socklen_t length) = 0;
    virtual int get(int fd, int level, int name, void* value, socklen_t* length) = 0;
    virtual int name(int fd, bool peer, sockaddr* address, socklen_t* length) = 0;
    /// The events that hold.
    virtual unsigned events(int fd) = 0;
    /// Waits until all of the events hold; false when they do not come.
    virtual bool wait(int fd, unsigned wanted) = 0;

    std::vector<std::string> log;

    int set_int(int fd, int level, int option, int value) { return set(fd, level, option, &value, sizeof value); }
    int get_int(int fd, int level, int option) {
        int value = -1;
        socklen_t length = sizeof value;
        const int result = get(fd, level, option, &value, &length);
        return result < 0 ? result : value;
    }
    sim::SocketAddress address(int fd, bool peer = false) {
        sockaddr_storage storage{};
        socklen_t length = sizeof storage;
        auto* address = reinterpret_cast<sockaddr*>(&storage);
        if (name(fd, peer, address, &length) < 0) return {};
        return sim::SocketAddress::from(address, length).value_or(sim::SocketAddress{});
    }

    // The same calls, noted.
    void note(std::string_view what, long result) {
        log.push_back(std::string(what) + " = " +
                      (result < 0 ? strerrorname_np(static_cast<int>(-result)) : std::to_string(result)));
    }
    void note_events(int fd) {
        const unsigned now = events(fd);
        std::string text = "events";
        const std::pair<unsigned, const char*> names[] = {
            {POLLIN, "IN"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"}, {POLLRDHUP, "RDHUP"}, {POLLHUP, "HUP"}};
        for (const auto& [bit, name_of_bit] : names) {
            if ((now & bit) != 0) text.append(1, ' ').append(name_of_bit);
        }
        log.push_back(text);
    }
    void note_wait(int fd, unsigned wanted) { note("wait", wait(fd, wanted) ? 1 : 0); }
    void note_send(int fd, std::string_view bytes) { note("send", send(fd, bytes, 0)); }
    void note_receive(int fd, std::size_t limit = 100, int flags = 0) {
        std::string bytes(limit, '\0');
        const long result = receive(fd, bytes, flags);
        note("receive", result);
        if (result <= 0) return;
        log.back().append(1, ' ').append(bytes, 0, std::min(limit, static_cast<std::size_t>(result)));
    }
    void note_error(int fd) { note("error", -get_int(fd, SOL_SOCKET, SO_ERROR)); }

    /// A listening socket on a loopback address; port 0 chooses one.
    int listener(const sim::SocketAddress& address, int backlog = 8) {
        const int fd = socket(address.family(), SOCK_STREAM);
        EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1), 0);
        EXPECT_EQ(bind(fd, address), 0);
        EXPECT_EQ(listen(fd, backlog), 0);
        return fd;
    }
    /// A connection that is established.
    int connected(const sim::SocketAddress& to) {
        const int fd = socket(to.family(), SOCK_STREAM);
        const int result = connect(fd, to);
        EXPECT_TRUE(result == 0 || result == -EINPROGRESS) << result;
        EXPECT_TRUE(wait(fd, POLLOUT));
        return fd;
    }
    struct Pair {
        int client;
        int server;
        int listener;
    };
    Pair pair(const sim::SocketAddress& at) {
        const int listening = listener(at);
        const int client = connected(address(listening));
        EXPECT_TRUE(wait(listening, POLLIN));
        return {client, accept(listening), listening};
    }
};

/// The system's own.
class LinuxCalls final : public SocketCalls {
public:
    ~LinuxCalls() override {
        for (const int fd : open_) ::close(fd);
    }
    int socket(int domain, int type) override { return keep(::socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }
    int bind(int fd, const sim::SocketAddress& address) override {
        return result_of(::bind(fd, address.data(), address.size()));
    }
    int listen(int fd, int backlog) override { return result_of(::listen(fd, backlog)); }
    int connect(int fd, const sim::SocketAddress& address) override {
        return result_of(::connect(fd, address.data(), address.size()));
    }
    int accept(int fd) override { return keep(::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)); }
    long send(int fd, std::string_view bytes, int flags) override {
        return result_of(::send(fd, bytes.data(), bytes.size(), flags | MSG_NOSIGNAL));
    }
    long receive(int fd, std::span<char> into, int flags) override {
        return result_of(::recv(fd, into.data(), into.size(), flags));
    }
    long send_message(int fd, std::string_view bytes, const sim::SocketAddress& to, std::string_view control) override {
        iovec part{const_cast<char*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (to.family() != AF_UNSPEC) {
            message.msg_name = const_cast<sockaddr*>(to.data());
            message.msg_namelen = to.size();
        }
        message.msg_control = const_cast<char*>(control.data());
        message.msg_controllen = control.size();
        return result_of(::sendmsg(fd, &message, MSG_NOSIGNAL));
    }
    long receive_message(int fd, std::span<char> into, sim::SocketAddress& from, std::string& control,
                         int* flags) override {
        iovec part{into.data(), into.size()};
        sockaddr_storage name{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_name = &name;
        message.msg_namelen = sizeof name;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const long result = result_of(::recvmsg(fd, &message, 0));
        if (result < 0) return result;
        from = sim::SocketAddress::from(reinterpret_cast<const sockaddr*>(&name), message.msg_namelen)
                   .value_or(sim::SocketAddress{});
        control.resize(message.msg_controllen);
        *flags = message.msg_flags;
        return result;
    }
    int shutdown(int fd, int how) override { return result_of(::shutdown(fd, how)); }
    int close(int fd) override {
        open_.erase(fd);
        return result_of(::close(fd));
    }
    void own(int fd) override { open_.insert(fd); }
    int set(int fd, int level, int name, const void* value, socklen_t length) override {
        return result_of(::setsockopt(fd, level, name, value, length));
    }
    int get(int fd, int level, int name, void* value, socklen_t* length) override {
        return result_of(::getsockopt(fd, level, name, value, length));
    }
    int name(int fd, bool peer, sockaddr* address, socklen_t* length) override {
        return result_of(peer ? ::getpeername(fd, address, length) : ::getsockname(fd, address, length));
    }
    unsigned events(int fd) override { return poll_now(fd, 0); }
    bool wait(int fd, unsigned wanted) override {
        // poll(2) returns for any event: the others are not asked for, and errors always count.
        constexpr int tries = 2000;
        constexpr int try_ms = 5;
        for (int count = 0; count < tries; ++count) {
            if ((poll_now(fd, 0) & wanted) == wanted) return true;
            ::poll(nullptr, 0, try_ms);
        }
        return false;
    }

private:
    template <class Result>
    static Result result_of(Result result) {
        return result < 0 ? static_cast<Result>(-errno) : result;
    }
    int keep(int fd) {
        const int result = result_of(fd);
        if (result >= 0) open_.insert(result);
        return result;
    }
    static unsigned poll_now(int fd, int timeout_ms) {
        pollfd asked{.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP, .revents = 0};
        ::poll(&asked, 1, timeout_ms);
        return static_cast<unsigned>(asked.revents);
    }

    std::set<int> open_;
};

/// Those of a simulated machine; on a fiber of the simulation.
class SimulatedCalls final : public SocketCalls {
public:
    SimulatedCalls(sim::Simulation& simulation, sim::Machine& machine) : simulation_(simulation), machine_(machine) {}
    ~SimulatedCalls() override {
        for (int fd = 0; files_.count() != 0; ++fd) files_.remove(fd);
    }
    int socket(int domain, int type) override {
        auto made = sim::make_socket(machine_.state().host, domain, type, 0);
        return made ? keep(std::move(*made)) : made.error();
    }
    int bind(int fd, const sim::SocketAddress& address) override {
        return file(fd).bind(address.data(), address.size());
    }
    int listen(int fd, int backlog) override { return file(fd).listen(backlog); }
    int connect(int fd, const sim::SocketAddress& address) override {
        return file(fd).connect(address.data(), address.size());
    }
    int accept(int fd) override {
        auto accepted = file(fd).accept(nullptr, nullptr);
        return accepted ? keep(std::move(*accepted)) : accepted.error();
    }
    long send(int fd, std::string_view bytes, int flags) override {
        return file(fd).send(std::as_bytes(std::span(bytes)), flags);
    }
    long receive(int fd, std::span<char> into, int flags) override {
        return file(fd).receive(std::as_writable_bytes(into), flags);
    }
    long send_message(int fd, std::string_view bytes, const sim::SocketAddress& to, std::string_view control) override {
        sim::Ancillary with;
        if (to.family() != AF_UNSPEC) {
            with.name_length = to.size();
            std::memcpy(&with.name, to.data(), to.size());
        }
        std::string copy{control};
        with.control = std::as_writable_bytes(std::span(copy));
        with.descriptors = &files_;
        return file(fd).send_message(std::as_bytes(std::span(bytes)), with, 0);
    }
    long receive_message(int fd, std::span<char> into, sim::SocketAddress& from, std::string& control,
                         int* flags) override {
        sim::Ancillary with;
        with.control = std::as_writable_bytes(std::span(control));
        with.descriptors = &files_;
        const long result = file(fd).receive_message(std::as_writable_bytes(into), with, 0);
        if (result < 0) return result;
        from = sim::SocketAddress::from(reinterpret_cast<const sockaddr*>(&with.name), with.name_length)
                   .value_or(sim::SocketAddress{});
        control.resize(with.control_length);
        *flags = with.flags;
        return result;
    }
    int shutdown(int fd, int how) override { return file(fd).shutdown(how); }
    int close(int fd) override { return files_.remove(fd) != nullptr ? 0 : -EBADF; }
    void own(int) override {}
    int set(int fd, int level, int name, const void* value, socklen_t length) override {
        return file(fd).set_option(level, name, value, length);
    }
    int get(int fd, int level, int name, void* value, socklen_t* length) override {
        return file(fd).get_option(level, name, value, length);
    }
    int name(int fd, bool peer, sockaddr* address, socklen_t* length) override {
        return peer ? file(fd).peer_name(address, length) : file(fd).socket_name(address, length);
    }
    unsigned events(int fd) override { return file(fd).readiness(); }
    bool wait(int fd, unsigned wanted) override {
        // Everything arrives within that, and no timer of TCP is as short.
        simulation_.sleep(std::chrono::milliseconds(10));
        return (file(fd).readiness() & wanted) == wanted;
    }

    sim::File& file(int fd) { return *files_.get(fd); }

private:
    int keep(std::shared_ptr<sim::File> file) { return files_.install(std::move(file)); }

    sim::Simulation& simulation_;
    sim::Machine& machine_;
    sim::Descriptors files_{1024};
};

/// Gives the process a network of its own, where the system lets it. The simulated machine is alone too: beside others
/// on this one, a port that is free for one family may be taken for the other.
inline void leave_shared_network() {
    if (::unshare(CLONE_NEWNET) < 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) return;
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    EXPECT_EQ(::ioctl(fd, SIOCSIFFLAGS, &loopback), 0);
    ::close(fd);
}

using SocketScript = std::function<void(SocketCalls&)>;

/// Runs a script on one simulated machine.
inline std::vector<std::string> simulated(const SocketScript& script, sim::SimulationOptions options = {}) {
    std::vector<std::string> log;
    sim::Simulation simulation(std::move(options));
    sim::Machine& machine = simulation.machine("host");
    simulation.process(machine, "script", [&] {
        SimulatedCalls calls(simulation, machine);
        script(calls);
        log = std::move(calls.log);
    });
    EXPECT_TRUE(simulation.run()) << simulation.findings().front();
    return log;
}

/// Runs it on Linux and on several seeds of the simulation; all must give the same.
inline void expect_same_as_linux(const SocketScript& script) {
    constexpr std::uint64_t seeds = 20;
    leave_shared_network();
    LinuxCalls calls;
    script(calls);
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        EXPECT_EQ(simulated(script, {.seed = seed}), calls.log) << "seed " << seed;
        if (testing::Test::HasFailure()) return;
    }
}

inline sim::SocketAddress loopback(std::uint16_t port = 0) {
    return sim::SocketAddress::ipv4(INADDR_LOOPBACK, port);
}
inline sim::SocketAddress loopback6(std::uint16_t port = 0) {
    return sim::SocketAddress::ipv6(in6addr_loopback, port);
}

}  // namespace ferrule::test
