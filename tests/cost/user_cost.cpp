// What a request costs in user space: the same requests, on a kernel that does nothing, through a raw loop and through
// Ferrule. Prints nanoseconds of CPU time (`user_cost ferrule 64 1 5000000`), which bench/run compares;
// user_cost_test.py runs it under callgrind for instructions.
#include <ferrule/net/network.hpp>
#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/prepare.hpp>

#include "cost/null_kernel.hpp"

#include <sys/socket.h>
#include <time.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule;

constexpr std::string_view request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
constexpr std::string_view answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr unsigned answers_in_a_row = 64;

const std::string& answers() {
    static const std::string bytes = [] {
        std::string block;
        for (unsigned index = 0; index < answers_in_a_row; ++index) block += answer;
        return block;
    }();
    return bytes;
}

/// Counts blank lines. Both programs parse with this, so that parsing cancels out.
unsigned count_heads(const char* at, std::size_t bytes) {
    unsigned heads = 0;
    const char* const end = at + bytes;
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
    return heads;
}

/// The leanest loop: a table, a switch, no abstraction.
void run_raw(ferrule_test::NullKernel& kernel, unsigned connections) {
    Ring::Options options;
    options.entries = 1024;
    options.register_ring_descriptor = false;
    Ring ring = std::move(*Ring::create(kernel, options));
    BufferRing buffers = std::move(*BufferRing::create(ring, {.group = 64, .count = 1024, .size = 2048}));
    std::vector<int> descriptors;
    descriptors.reserve(connections);
    prepare::accept_multishot(ring.entry(), 3, nullptr, nullptr, 0);
    std::array<abi::Completion, 128> batch;
    while (!kernel.done()) {
        buffers.publish();
        if (ring.enter(1, Ring::no_timeout) < 0) std::abort();
        while (const std::uint32_t count = ring.copy_completions(batch)) {
            for (std::uint32_t index = 0; index < count; ++index) {
                const abi::Completion& completion = batch[index];
                if (completion.user_data == 0) {  // the accept
                    abi::SubmissionEntry& entry = ring.entry();
                    prepare::receive_multishot(entry, completion.result, 64, 0);
                    descriptors.push_back(completion.result);
                    entry.user_data = descriptors.size();
                    continue;
                }
                const BufferRing::Slice slice = buffers.take(completion);
                const unsigned heads = count_heads(reinterpret_cast<const char*>(slice.data), slice.length);
                buffers.give_back(slice.buffer);
                abi::SubmissionEntry& entry = ring.entry();
                prepare::send(entry, descriptors[completion.user_data - 1], answers().data(),
                              static_cast<std::uint32_t>(heads * answer.size()), MSG_NOSIGNAL | MSG_WAITALL);
                entry.flags = abi::entry_completion_skip_success;
            }
        }
    }
}

Task<> serve(Connection connection) {
    while (auto received = co_await connection.read()) {
        unsigned heads = 0;
        for (const Slice slice : received) heads += count_heads(slice.text().data(), slice.size());
        connection.write(std::string_view(answers()).substr(0, heads * answer.size()));
        co_await connection.flush();
    }
}

void run_ferrule(ferrule_test::NullKernel& kernel) {
    Reactor reactor{0, {}, kernel};
    kernel.finished = [&] { reactor.stop(); };
    Network& network = Network::of(reactor);
    network.listen(3, serve);
    reactor.run();
}

/// Nanoseconds that a clock shows.
double now_ns(clockid_t clock) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) std::abort();
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) {
        std::fprintf(stderr, "usage: %s raw|ferrule connections depth requests\n", arguments[0]);
        return 2;
    }
    const auto connections = static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10));
    ferrule_test::NullKernel kernel{{.connections = connections,
                                     .depth = static_cast<unsigned>(std::strtoul(arguments[3], nullptr, 10)),
                                     .requests = std::strtoull(arguments[4], nullptr, 10),
                                     .request = request,
                                     .answer_bytes = answer.size()}};
    // CPU time leaves out the time in which others had the CPU; how much that was says how far to trust the rest.
    const double begun_ns = now_ns(CLOCK_MONOTONIC);
    const double cpu_begun_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (std::string_view(arguments[1]) == "raw") {
        run_raw(kernel, connections);
    } else {
        run_ferrule(kernel);
    }
    const double cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begun_ns;
    const double elapsed_ns = now_ns(CLOCK_MONOTONIC) - begun_ns;
    std::printf("%.2f ns per request, on the CPU for %.1f %% of the time\n",
                cpu_ns / std::strtod(arguments[4], nullptr), 100 * cpu_ns / elapsed_ns);
}
