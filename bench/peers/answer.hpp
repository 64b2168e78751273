// What every peer of ours shares: its command line, its listening socket, the answer, and the count of request heads.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace bench {

// The bytes of Ferrule's plaintext sample, exactly.
inline constexpr std::string_view answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Answers that one send can carry.
inline constexpr unsigned answers_per_send = 1024;

// `answers_per_send` answers in a row: any number of them is one contiguous send.
inline const std::vector<char>& answers() {
    static const std::vector<char> bytes = [] {
        std::vector<char> block;
        block.reserve(answers_per_send * answer.size());
        for (unsigned index = 0; index < answers_per_send; ++index)
            block.insert(block.end(), answer.begin(), answer.end());
        return block;
    }();
    return bytes;
}

// Feeds one byte to the search for CRLF CRLF. True when it completes one.
inline bool match_byte(char byte, uint8_t& matched) {
    constexpr char pattern[] = {'\r', '\n', '\r', '\n'};
    if (byte != pattern[matched]) {
        matched = byte == '\r' ? 1 : 0;
        return false;
    }
    if (++matched != sizeof pattern) return false;
    matched = 0;
    return true;
}

// Counts the blank lines in `received`. `matched` is how much of CRLF CRLF the bytes before it ended with. It looks at
// every fourth byte, which is all that a pattern of four needs while the text has no line end there.
inline unsigned count_heads(const char* received, size_t bytes, uint8_t& matched) {
    unsigned heads = 0;
    const char* at = received;
    const char* const end = received + bytes;
    while (at != end && matched != 0) heads += match_byte(*at++, matched) ? 1 : 0;
    while (end - at >= 4) {
        if (at[3] > '\r') {
            at += 4;
        } else if (at[3] == '\n') {
            const bool complete = std::memcmp(at, "\r\n\r\n", 4) == 0;
            heads += complete ? 1 : 0;
            at += complete ? 4 : 2;
        } else {
            at += at[3] == '\r' ? 1 : 4;
        }
    }
    while (at != end) heads += match_byte(*at++, matched) ? 1 : 0;
    return heads;
}

// How a peer was asked to run.
struct PeerOptions {
    uint16_t port = 8080;
    bool churn = false;     // close after each answered batch
    bool deferred = false;  // TCP_DEFER_ACCEPT on the listener
    bool spin = false;      // raw_uring without --churn: never sleep
    unsigned bytes = 64;    // raw_echo: of a message
    bool copied = false;    // raw_echo: copy each message out of where it came, and again for its send
    bool shared = false;    // raw_sink: receive from all connections into the same memory
    uint16_t to = 8081;     // raw_proxy: the port on 127.0.0.1 that it leads to
};

template <class Number>
void parse_number(std::string_view argument, std::string_view value, Number& into) {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), into);
    if (error == std::errc() && end == value.data() + value.size()) return;
    std::fprintf(stderr, "%.*s %.*s: not a number for it\n", static_cast<int>(argument.size()), argument.data(),
                 static_cast<int>(value.size()), value.data());
    std::exit(2);
}

inline PeerOptions parse_options(int count, char** arguments) {
    PeerOptions options;
    for (int index = 1; index < count; ++index) {
        const std::string_view argument = arguments[index];
        if (argument == "--churn") {
            options.churn = true;
        } else if (argument == "--deferred") {
            options.deferred = true;
        } else if (argument == "--spin") {
            options.spin = true;
        } else if (argument == "--copied") {
            options.copied = true;
        } else if (argument == "--shared") {
            options.shared = true;
        } else if (argument == "--port" && index + 1 < count) {
            parse_number(argument, arguments[++index], options.port);
        } else if (argument == "--bytes" && index + 1 < count) {
            parse_number(argument, arguments[++index], options.bytes);
        } else if (argument == "--to" && index + 1 < count) {
            parse_number(argument, arguments[++index], options.to);
        } else {
            std::fprintf(stderr,
                         "usage: %s [--port N] [--churn] [--deferred] [--spin] [--bytes N] [--copied] [--shared] "
                         "[--to PORT]\n",
                         arguments[0]);
            std::exit(argument == "--help" ? 0 : 2);
        }
    }
    return options;
}

// A listening socket on every IPv4 address. Accepted sockets inherit its TCP_NODELAY, which costs no call for each.
inline int listen_on(const PeerOptions& options) {
    const auto check = [&](int result, const char* operation) {
        if (result >= 0) return result;
        std::fprintf(stderr, "%s 0.0.0.0:%u: %s\n", operation, static_cast<unsigned>(options.port),
                     std::strerror(errno));
        std::exit(1);
    };
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    const int listener = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    const int on = 1;
    check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "setsockopt SO_REUSEADDR");
    check(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt TCP_NODELAY");
    if (options.deferred)
        check(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof on), "setsockopt TCP_DEFER_ACCEPT");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    check(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
    check(listen(listener, 4096), "listen");
    return listener;
}

// Memory that begins with a page: the kernel copies into it faster than into any.
inline char* aligned_memory(size_t bytes) {
    constexpr size_t page = 4096;
    return static_cast<char*>(std::aligned_alloc(page, (bytes + page - 1) / page * page));
}

// Descriptors above this are refused: per-connection state lives in a table indexed by descriptor.
inline constexpr unsigned descriptor_limit = 65536;

}  // namespace bench
