// The load generator of `./ferrule bench`. It never sleeps while it measures, so that no wake-up of a sleeping client
// is charged to the server.
#include "modes.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace load {

std::string request(const Options& options, bool close) {
    return "GET " + options.path + " HTTP/1.1\r\nHost: bench\r\n" + (close ? "Connection: close\r\n\r\n" : "\r\n");
}

int connect_blocking(const Options& options, unsigned index) {
    const sockaddr_in address = server_address(options, index);
    const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    const timeval patience{static_cast<time_t>(options.timeout_milliseconds / 1000),
                           static_cast<suseconds_t>(options.timeout_milliseconds % 1000 * 1000)};
    if (descriptor < 0 || connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        std::fprintf(stderr, "load: connection %u to %s:%u: %s\n", index, options.host.c_str(),
                     static_cast<unsigned>(options.port), std::strerror(errno));
        std::exit(1);
    }
    return descriptor;
}

size_t answer_length(const char* received, size_t bytes) {
    const std::string_view text(received, bytes);
    const size_t end = text.find("\r\n\r\n");
    if (end == text.npos) return 0;
    constexpr std::string_view status = "HTTP/1.1 200";
    if (!text.starts_with(status)) {
        std::fprintf(stderr, "load: the server answers %.*s\n", static_cast<int>(text.find('\r')), text.data());
        std::exit(1);
    }
    constexpr std::string_view field = "\r\ncontent-length:";
    for (size_t at = text.find('\r'); at < end; at = text.find('\r', at + 1)) {
        if (strncasecmp(received + at, field.data(), field.size()) != 0) continue;
        const char* value = received + at + field.size();
        while (*value == ' ') ++value;
        size_t length = 0;
        std::from_chars(value, received + end, length);
        return end + 4 + length;
    }
    std::fprintf(stderr, "load: the answer has no Content-Length\n");
    std::exit(1);
}

size_t ask(int descriptor, const std::string& head) {
    if (send(descriptor, head.data(), head.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(head.size())) {
        std::fprintf(stderr, "load: send: %s\n", std::strerror(errno));
        std::exit(1);
    }
    char buffer[16384];
    size_t received = 0;
    size_t length = 0;
    while (length == 0 || received < length) {
        const ssize_t bytes = recv(descriptor, buffer + received, sizeof buffer - received, 0);
        if (bytes <= 0) {
            const char* reason = bytes == 0        ? "the server closed the connection"
                                 : errno == EAGAIN ? "the server does not answer"
                                                   : std::strerror(errno);
            std::fprintf(stderr, "load: receive: %s\n", reason);
            std::exit(1);
        }
        received += static_cast<size_t>(bytes);
        length = answer_length(buffer, received);
    }
    if (received == length) return length;
    std::fprintf(stderr, "load: one request, but %zu bytes for an answer of %zu\n", received, length);
    std::exit(1);
}

}  // namespace load

int main(int count, char** arguments) {
    const load::Options options = load::parse_options(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (options.mode == "closed" || options.mode == "rate") return load::run_keep_alive(options);
    if (options.mode == "churn") return load::run_churn(options);
    if (options.mode == "hold") return load::run_hold(options);
    if (options.mode == "start") return load::run_start(options);
    if (options.mode == "echo") return load::run_echo(options);
    if (options.mode == "push" || options.mode == "pull" || options.mode == "relay") return load::run_stream(options);
    if (options.mode == "fetch") return load::run_fetch(options);
    std::fprintf(stderr, "load: %s: no such mode\n", options.mode.c_str());
    return 2;
}
