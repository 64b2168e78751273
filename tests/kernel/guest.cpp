// The first process of the machines that machine.py boots: runs the lines of /commands one after the other, then ends
// the machine. Around each command it prints a line that the other side looks for.
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace {

// Emulation takes about ten times as long. A program that hangs must not keep the others from being run.
constexpr int command_seconds = 300;
constexpr rlim_t descriptors = 65536;

void complain(const char* what) {
    std::printf("guest: %s: %s\n", what, std::strerror(errno));
}

void mount_at(const char* type, const char* place) {
    ::mkdir(place, 0755);
    if (::mount(type, place, type, 0, nullptr) != 0) complain(place);
}

void raise_loopback() {
    const int descriptor = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    if (::ioctl(descriptor, SIOCSIFFLAGS, &request) != 0) complain("lo");
    ::close(descriptor);
}

[[noreturn]] void become(std::vector<std::string>& words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(STDOUT_FILENO, STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    complain(arguments[0]);
    std::fflush(stdout);
    ::_exit(127);
}

// The exit status as a shell has it. Orphans come to the first process and are reaped on the way.
int wait_for(pid_t child) {
    sigset_t child_ended;
    ::sigemptyset(&child_ended);
    ::sigaddset(&child_ended, SIGCHLD);
    timespec deadline{};
    ::clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += command_seconds;
    for (bool killed = false;;) {
        int status = 0;
        for (pid_t ended; (ended = ::waitpid(-1, &status, WNOHANG)) > 0;) {
            if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= deadline.tv_sec && !killed) {
            std::printf("\nguest: not ended in %d s\n", command_seconds);
            ::kill(child, SIGKILL);
            killed = true;
        }
        const timespec patience{killed ? command_seconds : deadline.tv_sec - now.tv_sec, 0};
        ::sigtimedwait(&child_ended, nullptr, &patience);
    }
}

void run(const std::string& line) {
    std::istringstream stream(line);
    std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
    if (words.empty()) return;
    const std::string name = words[0].substr(words[0].rfind('/') + 1);
    std::printf("BEGIN %s\n", name.c_str());
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) become(words);
    if (child < 0) complain("fork");
    // Output that does not end with a line must not hide the next one.
    std::printf("\nEND %s %d\n", name.c_str(), child < 0 ? 127 : wait_for(child));
    std::fflush(stdout);
}

}  // namespace

int main() {
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("devtmpfs", "/dev");
    mount_at("tmpfs", "/dev/shm");
    raise_loopback();
    const rlimit limit{descriptors, descriptors};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) complain("the limit of descriptors");
    ::setenv("LC_ALL", "C", 1);
    sigset_t child_ended;
    ::sigemptyset(&child_ended);
    ::sigaddset(&child_ended, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child_ended, nullptr);
    utsname name{};
    ::uname(&name);
    std::printf("KERNEL %s %s, pages of %ld KiB\n", name.release, name.machine, ::sysconf(_SC_PAGESIZE) / 1024);

    std::ifstream commands("/commands");
    for (std::string line; std::getline(commands, line);) run(line);
    std::printf("ALL COMMANDS DONE\n");
    std::fflush(stdout);
    // Bytes still in the serial port would be lost with the machine.
    ::fsync(STDOUT_FILENO);
    ::reboot(RB_POWER_OFF);
}
