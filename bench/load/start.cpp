// The time from starting a server to its first answer.
#include "modes.hpp"
#include "report.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace load {
namespace {

constexpr useconds_t retry_microseconds = 50;

pid_t run_command(const Options& options) {
    std::vector<char*> arguments;
    for (const std::string& argument : options.command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const pid_t child = fork();
    if (child != 0) return child;
    if (options.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<size_t>(options.cpu), &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    setpgid(0, 0);
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
    execvp(arguments[0], arguments.data());
    std::fprintf(stderr, "load: %s: %s\n", arguments[0], std::strerror(errno));
    _exit(127);
}

int connect_when_listening(const Options& options, pid_t child, uint64_t deadline) {
    const sockaddr_in address = server_address(options, 0);
    while (now_ns() < deadline && waitpid(child, nullptr, WNOHANG) == 0) {
        const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return descriptor;
        close(descriptor);
        usleep(retry_microseconds);
    }
    return -1;
}

}  // namespace

int run_start(const Options& options) {
    if (options.command.empty()) {
        std::fprintf(stderr, "load: start needs a command after --\n");
        return 2;
    }
    const uint64_t begin = now_ns();
    const pid_t child = run_command(options);
    const int descriptor =
        connect_when_listening(options, child, begin + uint64_t{options.timeout_milliseconds} * 1'000'000);
    if (descriptor < 0) {
        std::fprintf(stderr, "load: %s never listened on port %u\n", options.command[0].c_str(),
                     static_cast<unsigned>(options.port));
        kill(-child, SIGKILL);
        return 1;
    }
    ask(descriptor, request(options, false));
    const uint64_t end = now_ns();
    std::printf("{\"mode\": \"start\", \"start_us\": %.1f}\n", static_cast<double>(end - begin) / 1000.0);
    kill(-child, SIGKILL);
    waitpid(child, nullptr, 0);
    return 0;
}

}  // namespace load
