#include "options.hpp"

#include <arpa/inet.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace load {
namespace {

constexpr std::string_view usage = R"(usage: load MODE [options] [-- command...]

A lean HTTP load generator on one spinning thread. Prints one line of JSON.

modes
  closed   each connection keeps --depth requests in flight
  rate     --rate requests per second on a fixed schedule; latency counts from the schedule
  churn    a connection per request: connect, request, read to the end, close
  hold     opens connections, one request on each, then holds them: prints READY at each of --steps,
           goes on at each line of standard input, ends when it closes
  start    runs the command after -- and measures the time to its first answer
  echo     each connection sends --bytes, waits until they are back, and goes on
  push     each connection sends as much as the server takes; a request is a MiB
  pull     each connection takes as much as the server sends; a request is a MiB
  relay    push, through a proxy that leads to the generator's own --backend
  fetch    closed, without looking at the answers behind the first head: large ones

options
  --host ADDRESS      IPv4 address (127.0.0.1)
  --port N            (8080)
  --path PATH         what is asked for, with its query (/)
  --connections N     (64)
  --depth N           closed: pipeline depth (1)
  --rate N            rate: requests per second (120000)
  --spread N          churn: connect in turn to N addresses from --host on, so that local ports last (1)
  --ms N              measured window in milliseconds (1000)
  --warmup N          milliseconds before it (300)
  --timeout N         milliseconds without any answer that end the run (10000)
  --watch PID[,PID]   report the CPU time that these processes used in the window
  --steps N[,N]       hold: numbers of connections
  --bytes N           echo: of a message (64)
  --backend N         relay: the port to which the proxy leads (8081)
  --cpu N             the servers' CPU: report how busy it was, with anything; start: pin the command to it
)";

[[noreturn]] void refuse(std::string_view argument, std::string_view value) {
    std::fprintf(stderr, "load: %.*s %.*s: not understood\n", static_cast<int>(argument.size()), argument.data(),
                 static_cast<int>(value.size()), value.data());
    std::exit(2);
}

template <class Number>
Number number(std::string_view argument, std::string_view value) {
    Number result{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size()) refuse(argument, value);
    return result;
}

template <class Number>
std::vector<Number> numbers(std::string_view argument, std::string_view value) {
    std::vector<Number> result;
    while (!value.empty()) {
        const size_t comma = value.find(',');
        result.push_back(number<Number>(argument, value.substr(0, comma)));
        value.remove_prefix(comma == value.npos ? value.size() : comma + 1);
    }
    return result;
}

// Requests in flight on a connection stay far below its send buffer, so that no send is ever short.
constexpr unsigned depth_max = 256;
constexpr unsigned connections_max = 60000;

}  // namespace

Options parse_options(int count, char** arguments) {
    Options options;
    if (count < 2 || std::string_view(arguments[1]) == "--help") {
        std::fputs(usage.data(), stdout);
        std::exit(count < 2 ? 2 : 0);
    }
    options.mode = arguments[1];
    for (int index = 2; index < count; ++index) {
        const std::string_view argument = arguments[index];
        if (argument == "--") {
            options.command.assign(arguments + index + 1, arguments + count);
            break;
        }
        if (argument == "--help") {
            std::fputs(usage.data(), stdout);
            std::exit(0);
        }
        if (index + 1 == count) refuse(argument, "(without a value)");
        const std::string_view value = arguments[++index];
        if (argument == "--host") {
            options.host = value;
        } else if (argument == "--port") {
            options.port = number<uint16_t>(argument, value);
        } else if (argument == "--path") {
            options.path = value;
        } else if (argument == "--connections") {
            options.connections = number<unsigned>(argument, value);
        } else if (argument == "--depth") {
            options.depth = number<unsigned>(argument, value);
        } else if (argument == "--rate") {
            options.rate = number<unsigned>(argument, value);
        } else if (argument == "--spread") {
            options.spread = number<unsigned>(argument, value);
        } else if (argument == "--ms") {
            options.milliseconds = number<unsigned>(argument, value);
        } else if (argument == "--warmup") {
            options.warmup_milliseconds = number<unsigned>(argument, value);
        } else if (argument == "--timeout") {
            options.timeout_milliseconds = number<unsigned>(argument, value);
        } else if (argument == "--watch") {
            options.watched = numbers<pid_t>(argument, value);
        } else if (argument == "--steps") {
            options.steps = numbers<unsigned>(argument, value);
        } else if (argument == "--bytes") {
            options.bytes = number<unsigned>(argument, value);
        } else if (argument == "--backend") {
            options.backend = number<uint16_t>(argument, value);
        } else if (argument == "--cpu") {
            options.cpu = number<int>(argument, value);
        } else {
            refuse(argument, value);
        }
    }
    if (options.connections == 0 || options.connections > connections_max) refuse("--connections", "out of range");
    if (options.depth == 0 || options.depth > depth_max) refuse("--depth", "out of range");
    if (options.bytes == 0) refuse("--bytes", "0");
    if (options.rate == 0) refuse("--rate", "0");
    if (options.spread == 0) refuse("--spread", "0");
    if (options.milliseconds == 0) refuse("--ms", "0");
    server_address(options, 0);
    return options;
}

sockaddr_in server_address(const Options& options, unsigned index) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    if (inet_pton(AF_INET, options.host.c_str(), &address.sin_addr) != 1) refuse("--host", options.host);
    address.sin_addr.s_addr = htonl(ntohl(address.sin_addr.s_addr) + index % options.spread);
    return address;
}

}  // namespace load
