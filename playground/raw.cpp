// What Server does, by hand: a reactor per thread, each with a listening socket of its own on the same port. It shows
// where a program puts what belongs to a reactor (here a count of requests), and how it reads item by item.
#include <ferrule/net/connection.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "options.hpp"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

// One for each reactor, and so without a lock.
struct Served {
    std::uint64_t requests = 0;
};

// How much of `\r\n\r\n` the bytes so far end with: the whole parser of a program that only needs to know when a
// request is complete.
bool completes_request(char byte, unsigned& matched) {
    constexpr std::string_view end_of_head = "\r\n\r\n";
    matched = byte == end_of_head[matched] ? matched + 1 : byte == '\r' ? 1 : 0;
    if (matched != end_of_head.size()) return false;
    matched = 0;
    return true;
}

void answer(ferrule::Connection& connection, std::string_view text, unsigned& matched, Served& served) {
    for (const char byte : text) {
        if (!completes_request(byte, matched)) continue;
        const std::string body = "request " + std::to_string(++served.requests) + " of reactor " +
                                 std::to_string(connection.reactor().id()) + "\n";
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    }
}

ferrule::Task<> handle(ferrule::Connection connection) {
    auto& served = connection.reactor().service<Served>();
    unsigned matched = 0;
    while (auto received = co_await connection.read()) {
        // Each item is a lease on a buffer that the kernel has filled; its end gives the buffer back.
        while (auto item = received.take()) answer(connection, item.slice().text(), matched, served);
        co_await connection.flush();
    }
}

}  // namespace

int main(int count, char** arguments) {
    std::string host = "0.0.0.0";
    std::uint16_t port = 8080;
    std::uint32_t reactor_count = std::max(1u, std::thread::hardware_concurrency());
    playground::CommandLine line("raw", "Counts HTTP requests, with reactors and threads made by hand.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address; default 0.0.0.0", host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", reactor_count);
    line.parse(count, arguments);

    try {
        const auto address = ferrule::Address::parse(host, port);
        if (!address) throw std::runtime_error("--host " + host + ": " + address.error().message());
        ferrule::ListenSocketOptions socket{.address = *address};
        // Sockets that share a port would share it with another server too.
        const auto free = ferrule::check_port_is_free(ferrule::linux_kernel(), socket);
        if (!free) throw std::runtime_error(free.error().message);

        // SIGTERM and SIGINT are waited for below. Threads inherit what is blocked.
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        pthread_sigmask(SIG_BLOCK, &signals, nullptr);

        std::vector<std::unique_ptr<ferrule::Reactor>> reactors;
        for (std::uint32_t id = 0; id < std::max(1u, reactor_count); ++id) {
            auto& reactor = *reactors.emplace_back(std::make_unique<ferrule::Reactor>(id));
            // Clients that ride this reactor's ring would be opened here too.
            reactor.on_start([](ferrule::Reactor& started) { started.add_service<Served>(); });
            const auto listening = ferrule::listen(reactor, socket, handle);
            if (!listening) throw std::runtime_error(listening.error().message);
            socket.address = *listening;  // with port 0, the others join the first
        }
        std::printf("raw listens on %s\n", socket.address.to_string().c_str());
        std::printf("try: curl -i http://localhost:%d/\n", socket.address.port());
        std::fflush(stdout);

        std::vector<std::jthread> threads;
        for (const auto& reactor : reactors) threads.emplace_back([&reactor] { reactor->run(); });

        int taken = 0;
        sigwait(&signals, &taken);
        for (const auto& reactor : reactors) {
            reactor->post([&reactor] { reactor->drain(std::chrono::seconds(10)); });
        }
        for (auto& thread : threads) thread.join();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "raw: %s\n", error.what());
        return 1;
    }
}
