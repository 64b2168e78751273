// Sends each datagram back to whom it came from, with a socket for each reactor on one port.
#include <ferrule/net/udp_group.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "options.hpp"

#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

// A train of datagrams, which the kernel has joined, goes back as one, too, and with the congestion bits that came.
bool send_back(ferrule::UdpSocket& socket, const ferrule::Datagram& datagram) {
    ferrule::DatagramSendOptions options;
    options.segment_size = static_cast<std::uint16_t>(datagram.segment_size());
    options.ecn = datagram.ecn();
    // A socket on every address answers from the one that was asked.
    if (const ferrule::Address own = datagram.local_address(); own.family() != ferrule::AddressFamily::none)
        options.source = own;
    return socket.send_to(datagram.sender(), datagram.payload(), options);
}

ferrule::Task<> echo(ferrule::UdpSocket socket) {
    for (;;) {
        const auto datagram = co_await socket.receive();
        if (!datagram) {
            // What the network has told of an earlier answer ends one receive; the next one goes on.
            if (socket.end_reason() == ferrule::EndReason::failed) continue;
            co_return;
        }
        if (send_back(socket, datagram)) continue;
        // Too many wait to be sent: what comes meanwhile waits in the socket's buffer, and beyond that is dropped.
        co_await socket.flush();
        send_back(socket, datagram);
    }
}

}  // namespace

int main(int count, char** arguments) {
    std::string host = "0.0.0.0";
    std::uint16_t port = 8080;
    std::uint32_t reactor_count = std::max(1u, std::thread::hardware_concurrency());
    ferrule::UdpSocketOptions options;
    options.gro = options.ecn = true;
    playground::CommandLine line("udp-echo", "Sends each datagram back to whom it came from.");
    line.add("--host", "ADDRESS", "where to receive: an IPv4 or IPv6 address; default 0.0.0.0", host);
    line.add("--port", "NUMBER", "the UDP port, 0 for any free one; default 8080", port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", reactor_count);
    line.add("--buffers", "NUMBER", "datagrams that a reactor may have received and not yet answered; default 64",
             options.receive_buffer_count);
    line.parse(count, arguments);
    reactor_count = std::max(1u, reactor_count);

    try {
        const auto address = ferrule::Address::parse(host, port);
        if (!address) throw std::runtime_error("--host " + host + ": " + address.error().message());
        options.address = *address;
        // A socket on one address answers from that one anyway.
        options.packet_info = address->is_any();
        const auto group = ferrule::UdpGroup::open(reactor_count, options);
        if (!group) throw std::runtime_error(group.error().message);

        // SIGTERM and SIGINT are waited for below. Threads inherit what is blocked.
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        pthread_sigmask(SIG_BLOCK, &signals, nullptr);

        std::vector<std::unique_ptr<ferrule::Reactor>> reactors;
        for (std::uint32_t id = 0; id < reactor_count; ++id) {
            auto& reactor = *reactors.emplace_back(std::make_unique<ferrule::Reactor>(id));
            auto socket = (*group)->take(reactor, id);
            if (!socket) throw std::runtime_error(socket.error().message);
            reactor.post([&reactor, own = std::move(*socket)]() mutable { reactor.spawn(echo(std::move(own))); });
        }
        std::printf("udp-echo receives on %s\n", (*group)->address().to_string().c_str());
        std::printf("try: nc -u localhost %d\n", (*group)->address().port());
        std::fflush(stdout);

        std::vector<std::jthread> threads;
        for (const auto& reactor : reactors) threads.emplace_back([&reactor] { reactor->run(); });

        int taken = 0;
        sigwait(&signals, &taken);
        for (const auto& reactor : reactors) reactor->stop();
        for (auto& thread : threads) thread.join();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "udp-echo: %s\n", error.what());
        return 1;
    }
}
