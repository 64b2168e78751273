// Puts Ferrule in front of any TCP or Unix service: what either side sends goes to the other, its end too.
#include <ferrule/net/connect.hpp>
#include <ferrule/server.hpp>
#include <ferrule/task/when_all.hpp>

#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <expected>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

constexpr std::uint32_t write_limit_max = 1u << 30;

// Where connections lead, and what is said of them.
struct Service {
    std::string name;          // as it was given
    std::string host;          // where it is no address
    std::uint16_t port = 0;    // of the host
    ferrule::Address address;  // where it is one
    bool quiet = false;

    // Names are looked up for each connection: the resolver remembers what it may.
    ferrule::Task<std::expected<ferrule::Connection, ferrule::ConnectError>> open(ferrule::Reactor& reactor) const {
        return host.empty() ? ferrule::connect(reactor, address) : ferrule::connect(reactor, host, port);
    }

    void say(const ferrule::Address& client, std::string_view what) const {
        if (quiet) return;
        std::fprintf(stderr, "proxy-tcp: client %s: %.*s\n", client.to_string().c_str(), static_cast<int>(what.size()),
                     what.data());
    }
};

// One client and its connection to the service.
struct Relay {
    const Service* service;
    ferrule::Address client;
    bool failed = false;  // what fails next does so because of that

    // A side has failed: the other one is not to take this for an ordinary end.
    void fail(std::string_view side, std::error_code reason) {
        if (std::exchange(failed, true)) return;
        service->say(client, std::string(side) + ": " + reason.message());
    }
};

// Passes on what comes, then how it has ended. While what was received last is on its way out, no more is asked for:
// the slower side sets the pace, and a connection holds no more than it may (NetworkOptions::receive_lease_limit).
ferrule::Task<> forward(ferrule::ReadHalf reads, ferrule::WriteHalf writes, Relay* relay, const char* source,
                        const char* target) {
    // Locals end with the loop; a parameter would with the task, and the FIN is what the other side waits for.
    ferrule::ReadHalf from = std::move(reads);
    ferrule::WriteHalf to = std::move(writes);
    while (auto received = co_await from.read()) {
        to.write(std::move(received));  // the buffers that the kernel has filled: no copy
        const auto flushed = co_await to.flush();
        if (!flushed) {
            relay->fail(target, std::make_error_code(flushed.error()));
            from.abort();
            co_return;
        }
    }
    switch (from.end_reason()) {
        case ferrule::EndReason::end_of_stream:
        case ferrule::EndReason::draining:
            co_return;  // the end of `to` sends what is left, and a FIN
        default:
            relay->fail(source, from.error());
            to.abort();
    }
}

ferrule::Task<> relay(ferrule::Connection client, const Service* service) {
    Relay both{service, client.peer_address().value_or(ferrule::Address{})};
    auto opened = co_await service->open(client.reactor());
    if (!opened) {
        service->say(both.client, opened.error().message);
        client.abort();
        co_return;
    }
    auto [client_reads, client_writes] = std::move(client).split();
    auto [service_reads, service_writes] = std::move(*opened).split();
    auto there = forward(std::move(client_reads), std::move(service_writes), &both, "client", "service");
    auto back = forward(std::move(service_reads), std::move(client_writes), &both, "service", "client");
    co_await ferrule::when_all(std::move(there), std::move(back));
}

// `10.0.0.1:5432`, `[::1]:5432`, `db.internal:5432`, `unix:PATH`.
void read_address(const std::string& text, Service& service) {
    service.name = text;
    const std::size_t colon = text.starts_with("unix:") ? text.size() : text.rfind(':');
    if (colon != text.size()) {
        const char* const begin = text.data() + (colon == text.npos ? text.size() : colon + 1);
        const auto [end, error] = std::from_chars(begin, text.data() + text.size(), service.port);
        if (error != std::errc() || end != text.data() + text.size())
            throw std::runtime_error("--to " + text + ": it ends with no port");
    }
    const std::string host = text.substr(0, colon);
    const auto address = ferrule::Address::parse(host, service.port);
    if (address) {
        service.address = *address;
    } else if (text.starts_with("unix:")) {
        throw std::runtime_error("--to " + text + ": " + address.error().message());
    } else {
        service.host = host;
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    Service service;
    std::string to = "localhost:80";
    std::uint32_t idle_seconds = 0;
    playground::CommandLine line("proxy-tcp", "Puts Ferrule in front of any TCP or Unix service.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--to", "HOST:PORT", "the service: an address or a name, or unix:PATH; default localhost:80", to);
    line.add("--idle", "SECONDS", "end a connection one of whose sides is silent for so long; default 0: never",
             idle_seconds);
    line.add("--buffers", "NUMBER", "receive buffers of each reactor, a power of two; default 1024",
             options.network.receive_buffer_count);
    line.add("--buffer-size", "BYTES", "of each of them; default 2048", options.network.receive_buffer_size);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--quiet", "say nothing of connections that fail", service.quiet);
    line.parse(count, arguments);
    // One read may bring what all buffers hold, and one write passes it on.
    options.network.write_limit = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
        std::uint64_t{options.network.receive_buffer_count} * options.network.receive_buffer_size,
        options.network.write_limit, write_limit_max));
    options.network.idle_timeout = std::chrono::seconds(idle_seconds);

    try {
        read_address(to, service);
        ferrule::Server server(options);
        server.on_connection(
            [&service](ferrule::Connection connection) { return relay(std::move(connection), &service); });
        server.on_listening([&] {
            std::printf("proxy-tcp listens on %s and leads to %s\n", server.addresses().front().to_string().c_str(),
                        service.name.c_str());
            if (server.port() != 0) std::printf("try: nc localhost %d\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "proxy-tcp: %s\n", error.what());
        return 1;
    }
}
