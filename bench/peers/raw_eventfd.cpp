// Two threads that wake each other through event descriptors and do nothing else: the least that a round trip between
// threads which sleep can cost. Its figure as a line of JSON.
#include "thread_share.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
}

bool wait(int descriptor, std::uint64_t* value) {
    return ::read(descriptor, value, sizeof *value) == sizeof *value;
}

void wake(int descriptor, std::uint64_t value) {
    if (::write(descriptor, &value, sizeof value) != sizeof value) std::abort();
}

constexpr std::uint64_t go_on = 1;
constexpr std::uint64_t end = 2;

// Answers each wake-up by one, until it is told to end.
void answer(int cpu, int question, int reply) {
    pin(cpu);
    for (std::uint64_t value = 0; wait(question, &value) && value != end;) wake(reply, go_on);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) {
        std::fputs("usage: raw_eventfd CPU CPU MILLISECONDS\n", stderr);
        return 2;
    }
    const int question = ::eventfd(0, EFD_CLOEXEC);
    const int reply = ::eventfd(0, EFD_CLOEXEC);
    if (question < 0 || reply < 0) {
        std::perror("raw_eventfd: eventfd");
        return 1;
    }
    pin(std::atoi(arguments[1]));
    std::thread other(answer, std::atoi(arguments[2]), question, reply);
    const std::chrono::milliseconds duration(std::atoi(arguments[3]));
    std::uint64_t value = 0;
    const auto round_trip = [&] {
        wake(question, go_on);
        if (!wait(reply, &value)) std::abort();
    };
    for (int warm = 0; warm < 2'000; ++warm) round_trip();
    const bench::ThreadShare share;
    const auto began = Clock::now();
    std::uint64_t trips = 0;
    auto elapsed = Clock::duration::zero();
    while (elapsed < duration) {
        for (int trip = 0; trip < 64; ++trip) round_trip();
        trips += 64;
        elapsed = Clock::now() - began;
    }
    const double microseconds = std::chrono::duration<double, std::micro>(elapsed).count();
    std::printf("{\"round_trip_us\": %.4f, \"wait_share\": %.4f}\n", microseconds / static_cast<double>(trips),
                share.waited());
    wake(question, end);
    other.join();
    ::close(question);
    ::close(reply);
    return 0;
}
