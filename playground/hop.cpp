// A handler that leaves its reactor and comes back: to another reactor's thread, and to a thread for blocking calls. It
// tells what both cost.
#include <ferrule/server.hpp>

#include "options.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// The reactors of the server, each entered by itself when it starts.
class Neighbours {
public:
    explicit Neighbours(std::size_t count) : reactors_(count) {}

    void add(ferrule::Reactor& reactor) { reactors_[reactor.id()].store(&reactor, std::memory_order_release); }

    // The one after this; the same when it is alone, or when the next has not started yet.
    ferrule::Reactor& next(ferrule::Reactor& reactor) const {
        ferrule::Reactor* after = reactors_[(reactor.id() + 1) % reactors_.size()].load(std::memory_order_acquire);
        return after != nullptr ? *after : reactor;
    }

private:
    std::vector<std::atomic<ferrule::Reactor*>> reactors_;
};

using Clock = std::chrono::steady_clock;

// The complete request heads in the text: how many bytes they are, and how many heads.
struct Requests {
    std::size_t bytes = 0;
    std::size_t count = 0;
};

Requests find_requests(std::string_view text) {
    constexpr std::string_view end_of_head = "\r\n\r\n";
    Requests found;
    for (std::size_t end = text.find(end_of_head); end != text.npos; end = text.find(end_of_head, found.bytes)) {
        found.bytes = end + end_of_head.size();
        ++found.count;
    }
    return found;
}

// What blocks its thread for a while, as a library without an asynchronous interface does.
int blocking_call() {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return 42;
}

struct Journey {
    std::uint32_t visited = 0;
    Clock::duration hop{};
    Clock::duration call{};
};

// Goes to the next reactor and back, then waits for a blocking call elsewhere. Ends on the reactor where it began.
ferrule::Task<Journey> travel(const Neighbours& neighbours, ferrule::Reactor& home) {
    Journey journey;
    ferrule::Reactor& other = neighbours.next(home);
    const auto began = Clock::now();
    // A failure means that the other has ended, and that we are still where we were.
    if (const auto there = co_await ferrule::resume_on(other)) {
        // Here runs the other's thread: what belongs to home, the connection above all, is out of reach.
        journey.visited = ferrule::Reactor::current()->id();
        const auto back = co_await ferrule::resume_on(home);
        if (!back) throw std::system_error(back.error(), "come back to reactor " + std::to_string(home.id()));
    }
    const auto returned = Clock::now();
    const auto called = co_await ferrule::offload(blocking_call);
    if (!called) throw std::system_error(called.error(), "make a blocking call");
    journey.hop = returned - began;
    journey.call = Clock::now() - returned;
    co_return journey;
}

void answer(ferrule::Connection& connection, const Journey& journey) {
    const auto microseconds = [](Clock::duration time) {
        return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(time).count()) + " us";
    };
    const std::string body = "reactor " + std::to_string(connection.reactor().id()) + " to reactor " +
                             std::to_string(journey.visited) + " and back: " + microseconds(journey.hop) +
                             "; a blocking call of 1 ms: " + microseconds(journey.call) + "\n";
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

ferrule::Task<> hop(ferrule::Connection connection) {
    const auto& neighbours = *connection.reactor().service<std::shared_ptr<const Neighbours>>();
    while (auto received = co_await connection.read()) {
        Requests requests = find_requests(received.contiguous().text());
        received.consume(requests.bytes);
        received.reset();
        for (; requests.count != 0; --requests.count) {
            const Journey journey = co_await travel(neighbours, connection.reactor());
            answer(connection, journey);
        }
        co_await connection.flush();
    }
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    options.reactors = 2;
    playground::CommandLine line("hop", "Answers HTTP requests after a visit to another thread.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default 2", options.reactors);
    line.parse(count, arguments);

    try {
        ferrule::Server server(options);
        const auto neighbours = std::make_shared<Neighbours>(server.reactors());
        server.on_connection(hop);
        server.on_start([neighbours](ferrule::Reactor& reactor) {
            reactor.add_service<std::shared_ptr<const Neighbours>>(neighbours);
            neighbours->add(reactor);
        });
        server.on_listening([&server] {
            std::printf("hop listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: curl -i http://localhost:%d/\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "hop: %s\n", error.what());
        return 1;
    }
}
