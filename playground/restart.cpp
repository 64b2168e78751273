// Restarts without a gap: started a second time with the same --restart-socket, it takes the port over from the first,
// which drains and ends. Each line is answered with the name of the process that serves it.
#include <ferrule/server.hpp>

#include "options.hpp"

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

// How a reactor begins its answers. One of each reactor's own, so that a reload needs no lock.
struct Prefix {
    std::string text;
};

// Answers the complete lines and says how many bytes they are.
std::size_t answer_lines(ferrule::Connection& connection, const Prefix& prefix, std::string_view text) {
    std::size_t consumed = 0;
    for (std::size_t end = text.find('\n'); end != text.npos; end = text.find('\n', consumed)) {
        connection.write(prefix.text);
        connection.write(text.substr(consumed, end + 1 - consumed));
        consumed = end + 1;
    }
    return consumed;
}

ferrule::Task<> answer(ferrule::Connection connection) {
    const Prefix& prefix = connection.reactor().service<Prefix>();
    while (auto received = co_await connection.read()) {
        // A line that has not come whole is carried to the next read.
        received.consume(answer_lines(connection, prefix, received.contiguous().text()));
        co_await connection.flush();
    }
}

// Read again by SIGHUP.
std::string prefix_of(const std::string& name, const std::string& file) {
    std::string text = name;
    if (!file.empty()) {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(std::fopen(file.c_str(), "r"), &std::fclose);
        if (opened == nullptr) throw std::runtime_error("cannot read " + file);
        char line[256];
        text = std::fgets(line, sizeof line, opened.get()) != nullptr ? line : "";
        text = text.substr(0, text.find('\n'));
    }
    return text + ": ";
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::string name = "process " + std::to_string(::getpid());
    std::string name_file;
    playground::CommandLine line("restart", "Answers lines, and hands its port to the next process without a gap.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--restart-socket", "PATH", "takes over from the process that serves this path; serves it afterwards",
             options.restart_path);
    line.add("--name", "TEXT", "what answers begin with; default: the number of the process", name);
    line.add("--name-file", "PATH", "the same, from the first line of a file, which SIGHUP has read again", name_file);
    line.parse(count, arguments);

    try {
        ferrule::Server server(options);
        const std::string prefix = prefix_of(name, name_file);
        server.on_start([&prefix](ferrule::Reactor& reactor) { reactor.add_service<Prefix>().text = prefix; });
        server.on_reload([&](ferrule::Reload& reload) {
            const std::string fresh = prefix_of(name, name_file);
            reload.on_each_reactor([fresh](ferrule::Reactor& reactor) { reactor.service<Prefix>().text = fresh; });
        });
        server.on_connection(answer);
        server.on_listening([&server] {
            std::printf("restart listens on %s\n", server.addresses().front().to_string().c_str());
            std::fflush(stdout);
        });
        server.on_drain_progress([](const ferrule::DrainProgress& progress) {
            std::printf("draining: %llu connections on %u reactors, %lld ms left\n",
                        static_cast<unsigned long long>(progress.connections()), progress.reactors,
                        static_cast<long long>(progress.time_left.count()));
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "restart: %s\n", error.what());
        return 1;
    }
}
