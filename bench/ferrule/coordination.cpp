// What reactors cost each other, and what waiting costs: calls, channels, deadlines, sleeping coroutines. One pattern
// in a run; its figure as a line of JSON.
#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/cross_channel.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/task/channel.hpp>
#include <ferrule/task/yield.hpp>

#include "thread_share.hpp"

#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using ferrule::CrossReceiver;
using ferrule::CrossSender;
using ferrule::Reactor;
using ferrule::ReactorOptions;
using ferrule::Task;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::duration duration) {
    return std::chrono::duration<double, std::nano>(duration).count();
}

/// Two reactors, on a CPU each; the task runs on the first, whose end ends both.
class Pair {
public:
    Pair(int first_cpu, int second_cpu, std::chrono::microseconds spin)
        : home_(0, options(first_cpu, spin)), there_(1, options(second_cpu, spin)) {}

    template <class Make>
    void run(Make make) {
        std::thread other([this] { there_.run(); });
        home_.on_start([this, &make](Reactor& home) { home.spawn(then_stop(this, make(there_))); });
        home_.run();
        there_.stop();
        other.join();
    }

private:
    static ReactorOptions options(int cpu, std::chrono::microseconds spin) {
        ReactorOptions options;
        options.cpu = cpu;
        options.spin = spin;
        return options;
    }
    static Task<> then_stop(Pair* pair, Task<> task) {
        Task<> inner = std::move(task);
        co_await inner;
        pair->home_.stop();
    }

    Reactor home_;
    Reactor there_;
};

void print(const char* key, double value, const bench::ThreadShare& share) {
    std::printf("{\"%s\": %.4f, \"wait_share\": %.4f}\n", key, value, share.waited());
}

constexpr std::uint32_t warm_up_calls = 2'000;

Task<> call_for(Reactor* there, std::chrono::milliseconds duration) {
    auto function = [] {};
    for (std::uint32_t count = 0; count < warm_up_calls; ++count)
        static_cast<void>(co_await ferrule::call(*there, function));
    const bench::ThreadShare share;
    const auto began = Clock::now();
    std::uint64_t calls = 0;
    auto elapsed = Clock::duration::zero();
    while (elapsed < duration) {
        for (int count = 0; count < 64; ++count) static_cast<void>(co_await ferrule::call(*there, function));
        calls += 64;
        elapsed = Clock::now() - began;
    }
    print("round_trip_us", nanoseconds(elapsed) / 1000 / static_cast<double>(calls), share);
}

constexpr std::size_t channel_capacity = 4096;

Task<> send_for_ever(CrossSender<std::uint64_t> sender) {
    std::array<std::uint64_t, 256> items;
    std::uint64_t number = 0;
    while (!sender.closed()) {
        for (std::uint64_t& item : items) item = number++;
        std::span<std::uint64_t> left(items);
        left = left.subspan(sender.try_send_some(left));
        // What found no room waits for it, one by one.
        for (std::uint64_t item : left) static_cast<void>(co_await sender.send(item));
        // Who never waits must let others run.
        if (left.empty()) static_cast<void>(co_await sender.send(number++));
    }
}

Task<> receive_for(Reactor* there, std::chrono::milliseconds duration) {
    CrossReceiver<std::uint64_t> receiver(channel_capacity);
    auto begin = [sender = receiver.sender()](Reactor& other) mutable {
        other.spawn(send_for_ever(std::move(sender)));
    };
    static_cast<void>(co_await ferrule::call(*there, std::move(begin)));
    std::uint64_t expected = 0;
    for (std::uint64_t warm = 0; warm < 1'000'000;) {
        auto batch = co_await receiver.receive_batch();
        for (const std::uint64_t item : *batch) {
            if (item != expected++) std::abort();
        }
        warm += batch->size();
    }
    const bench::ThreadShare share;
    const auto began = Clock::now();
    std::uint64_t received = 0;
    auto elapsed = Clock::duration::zero();
    while (elapsed < duration) {
        for (int count = 0; count < 16; ++count) {
            auto batch = co_await receiver.receive_batch();
            for (const std::uint64_t item : *batch) {
                if (item != expected++) std::abort();
            }
            received += batch->size();
        }
        elapsed = Clock::now() - began;
    }
    print("item_ns", nanoseconds(elapsed) / static_cast<double>(received), share);
    receiver.close();
}

constexpr std::size_t inside_capacity = 256;

Task<> send_inside(ferrule::Channel<std::uint64_t>* channel, bool* over) {
    for (std::uint64_t number = 0;; ++number) {
        const auto sent = co_await channel->send(number);
        if (!sent) break;
    }
    *over = true;
}

/// One task sends to another of the same reactor, item by item.
Task<> receive_inside(Reactor* reactor, std::chrono::milliseconds duration) {
    ferrule::Channel<std::uint64_t> channel(inside_capacity);
    bool over = false;
    reactor->spawn(send_inside(&channel, &over));
    std::uint64_t expected = 0;
    while (expected < 1'000'000) {
        const auto item = co_await channel.receive();
        if (!item || *item != expected++) std::abort();
    }
    const bench::ThreadShare share;
    const auto began = Clock::now();
    const std::uint64_t first = expected;
    auto elapsed = Clock::duration::zero();
    while (elapsed < duration) {
        for (int count = 0; count < 4096; ++count) {
            const auto item = co_await channel.receive();
            if (!item || *item != expected++) std::abort();
        }
        elapsed = Clock::now() - began;
    }
    print("item_ns", nanoseconds(elapsed) / static_cast<double>(expected - first), share);
    channel.close();
    while (!over) co_await ferrule::yield_now();
    reactor->stop();
}

constexpr std::size_t armed_deadlines = 1'000'000;
constexpr std::size_t hot_deadlines = 64;
constexpr std::uint64_t spread_ns = 60'000'000'000;

/// A sequence that is cheap and the same in each run.
class Sequence {
public:
    std::uint64_t next() noexcept {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

private:
    std::uint64_t state_ = 0x9e37'79b9'7f4a'7c15;
};

void arm_and_cancel(Reactor& reactor, std::chrono::milliseconds duration) {
    Sequence sequence;
    const std::uint64_t now = reactor.now_ns() + spread_ns;
    const auto armed = std::make_unique<ferrule::CancelScope[]>(armed_deadlines);
    for (std::size_t index = 0; index < armed_deadlines; ++index)
        armed[index].set_deadline(now + sequence.next() % spread_ns);
    // As many are under way as a busy reactor has requests: the oldest ends, a new one begins.
    std::array<ferrule::CancelScope, hot_deadlines> hot;
    const bench::ThreadShare share;
    const auto began = Clock::now();
    std::uint64_t count = 0;
    auto elapsed = Clock::duration::zero();
    while (elapsed < duration) {
        for (ferrule::CancelScope& scope : hot) {
            scope.clear_deadline();
            scope.set_deadline(now + sequence.next() % spread_ns);
        }
        count += hot.size();
        elapsed = Clock::now() - began;
    }
    print("deadline_ns", nanoseconds(elapsed) / static_cast<double>(count), share);
}

constexpr std::size_t sleepers = 100'000;

Task<> sleep_long() {
    static_cast<void>(co_await ferrule::sleep_for(1h));
}

std::uint64_t resident_bytes() {
    std::uint64_t size = 0;
    std::uint64_t resident = 0;
    std::ifstream("/proc/self/statm") >> size >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void sleep_many(Reactor& reactor) {
    const bench::ThreadShare share;
    const std::uint64_t before = resident_bytes();
    for (std::size_t count = 0; count < sleepers; ++count) reactor.spawn(sleep_long());
    const double grown = static_cast<double>(resident_bytes() - before);
    print("bytes_per_sleeper", grown / static_cast<double>(sleepers), share);
}

/// One reactor, which begins with this and runs until it is stopped.
template <class Work>
void run_until_stopped(int cpu, Work work) {
    ReactorOptions options;
    options.cpu = cpu;
    Reactor reactor(0, options);
    reactor.on_start([&work](Reactor& started) { work(started); });
    reactor.run();
}

/// One reactor, which does this and ends.
template <class Work>
void run_alone(int cpu, Work work) {
    run_until_stopped(cpu, [&work](Reactor& started) {
        work(started);
        started.stop();
    });
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) {
        std::fputs("usage: ferrule_coordination PATTERN CPU CPU MILLISECONDS\n", stderr);
        return 2;
    }
    const std::string_view pattern = arguments[1];
    const int first = std::atoi(arguments[2]);
    const int second = std::atoi(arguments[3]);
    const std::chrono::milliseconds duration(std::atoi(arguments[4]));
    try {
        if (pattern == "call-spin") {
            Pair(first, second, 10ms).run([duration](Reactor& there) { return call_for(&there, duration); });
        } else if (pattern == "call-sleep") {
            Pair(first, second, 0us).run([duration](Reactor& there) { return call_for(&there, duration); });
        } else if (pattern == "channel") {
            Pair(first, second, 0us).run([duration](Reactor& there) { return receive_for(&there, duration); });
        } else if (pattern == "channel-inside") {
            run_until_stopped(first,
                              [duration](Reactor& reactor) { reactor.spawn(receive_inside(&reactor, duration)); });
        } else if (pattern == "deadlines") {
            run_alone(first, [duration](Reactor& reactor) { arm_and_cancel(reactor, duration); });
        } else if (pattern == "sleepers") {
            run_alone(first, [](Reactor& reactor) { sleep_many(reactor); });
        } else {
            std::fputs(
                "ferrule_coordination: patterns are call-spin, call-sleep, channel, channel-inside, deadlines, "
                "sleepers\n",
                stderr);
            return 2;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ferrule_coordination: %s\n", error.what());
        return 1;
    }
    return 0;
}
