// Messages that come back, and streams: what costs by the byte. Streams are sent from the page cache and received
// without being looked at, so that the generator costs as little of the machine's memory bandwidth as it can.
#include "modes.hpp"
#include "raw_ring.hpp"
#include "report.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace load {
namespace {

// A stream is counted by these: a request of the report is a MiB.
constexpr uint64_t stream_unit = 1 << 20;
constexpr size_t stream_piece = 256 << 10;
constexpr size_t stream_file_bytes = 4 << 20;
constexpr unsigned head_bytes_max = 4096;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

void do_not_wait(int descriptor) {
    if (fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) != 0) fail("fcntl");
}

// ---- messages that come back ----

enum class Operation : uint32_t { send, receive };

class Echoes {
public:
    explicit Echoes(const Options& options)
        : options_(options),
          ring_(4096, 16384,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                    IORING_SETUP_SUBMIT_ALL),
          message_(options.bytes),
          connections_(options.connections) {
        for (size_t at = 0; at < message_.size(); ++at) message_[at] = static_cast<char>(at * 31 + 7);
        for (unsigned index = 0; index < options.connections; ++index) {
            connections_[index].descriptor = connect_blocking(options, index);
            connections_[index].back.resize(options.bytes);
        }
    }

    int run() {
        Report report(options_);
        uint64_t now = now_ns();
        for (unsigned index = 0; index < connections_.size(); ++index) {
            ask(index, now);
            if (ring_.room() < 4) ring_.submit(0);
        }
        bool idle = false;
        while (report.pass(now, idle) && report.errors() < connections_.size()) {
            idle = !ring_.has_prepared() && !ring_.has_deferred_work();
            if (!idle) ring_.submit(0);
            const unsigned available = ring_.available();
            now = now_ns();
            if (available == 0) continue;
            idle = false;
            ring_.take(available < completions_per_pass ? available : completions_per_pass,
                       [&](const io_uring_cqe& completion) { handle(completion, now, report); });
        }
        report.print("echo", options_.bytes);
        return 0;
    }

private:
    static constexpr unsigned completions_per_pass = 32;

    struct Connection {
        int descriptor = -1;
        uint64_t sent = 0;
        std::vector<char> back;
    };

    void ask(unsigned index, uint64_t now) {
        Connection& connection = connections_[index];
        connection.sent = now;
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = connection.descriptor;
        entry->addr = reinterpret_cast<uint64_t>(message_.data());
        entry->len = options_.bytes;
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = bench::tag(Operation::send, index);
        entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = connection.descriptor;
        entry->addr = reinterpret_cast<uint64_t>(connection.back.data());
        entry->len = options_.bytes;
        entry->msg_flags = MSG_WAITALL;
        entry->ioprio = IORING_RECVSEND_POLL_FIRST;
        entry->user_data = bench::tag(Operation::receive, index);
    }

    void handle(const io_uring_cqe& completion, uint64_t now, Report& report) {
        const unsigned index = bench::tag_value(completion.user_data);
        // A send completes here only when it failed, and the receive reports the lost connection.
        if (bench::tag_kind<Operation>(completion.user_data) == Operation::send) return;
        Connection& connection = connections_[index];
        if (completion.res != static_cast<int>(options_.bytes)) {
            report.error();
            return;
        }
        // The first answer of a connection, whole; then as much of each as fits into a register.
        const size_t looked_at = connection.sent < first_pass_ ? message_.size() : sizeof(uint64_t);
        if (std::memcmp(connection.back.data(), message_.data(), std::min(looked_at, message_.size())) != 0)
            report.error();
        report.answered(now - connection.sent, options_.bytes);
        ask(index, now);
    }

    const Options& options_;
    bench::RawRing ring_;
    std::vector<char> message_;
    std::vector<Connection> connections_;
    uint64_t first_pass_ = now_ns() + 100'000'000;
};

// ---- streams ----

// What has gone through one connection, in units.
struct Flow {
    int out = -1;
    int in = -1;
    off_t position = 0;
    uint64_t received = 0;
    uint64_t counted = 0;
    uint64_t since = 0;

    void count(uint64_t bytes, uint64_t now, Report& report) {
        received += bytes;
        for (; received - counted >= stream_unit; counted += stream_unit) {
            report.answered(now - since, stream_unit);
            since = now;
        }
    }
};

int file_of_a_stream() {
    const int file = memfd_create("stream", MFD_CLOEXEC);
    std::vector<char> bytes(stream_file_bytes);
    for (size_t at = 0; at < bytes.size(); ++at) bytes[at] = static_cast<char>(at * 131 >> 7);
    if (file < 0 || write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) fail("memfd");
    return file;
}

// -1: the connection is over; 0: there is no room.
ssize_t push_piece(Flow& flow, int file) {
    if (flow.position == static_cast<off_t>(stream_file_bytes)) flow.position = 0;
    const ssize_t sent = sendfile(flow.out, file, &flow.position, stream_piece);
    return sent >= 0 ? sent : errno == EAGAIN ? 0 : -1;
}

// MSG_TRUNC drops the bytes where they are: tcp(7).
ssize_t drop_piece(int descriptor, size_t most) {
    const ssize_t dropped = recv(descriptor, nullptr, most, MSG_TRUNC | MSG_DONTWAIT);
    return dropped > 0 ? dropped : dropped < 0 && errno == EAGAIN ? 0 : -1;
}

int listen_for_the_proxy(const Options& options) {
    Options own = options;
    own.port = options.backend;
    const sockaddr_in address = server_address(own, 0);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener, SOMAXCONN) != 0)
        fail("the backend's port");
    return listener;
}

}  // namespace

int run_echo(const Options& options) {
    return Echoes(options).run();
}

int run_stream(const Options& options) {
    const bool pulls = options.mode == "pull";
    const bool relays = options.mode == "relay";
    const int listener = relays ? listen_for_the_proxy(options) : -1;
    const int file = pulls ? -1 : file_of_a_stream();
    std::vector<Flow> flows(options.connections);
    for (unsigned index = 0; index < options.connections; ++index) {
        Flow& flow = flows[index];
        const int descriptor = connect_blocking(options, index);
        do_not_wait(descriptor);
        (pulls ? flow.in : flow.out) = descriptor;
        if (relays) flow.in = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (relays && flow.in < 0) fail("accept");
        flow.since = now_ns();
    }
    Report report(options);
    uint64_t now = now_ns();
    bool idle = false;
    while (report.pass(now, idle) && report.errors() == 0) {
        idle = true;
        for (Flow& flow : flows) {
            const ssize_t sent = flow.out >= 0 ? push_piece(flow, file) : 0;
            const ssize_t got = flow.in >= 0 ? drop_piece(flow.in, stream_unit) : sent;
            if (sent < 0 || got < 0) report.error();
            if (sent > 0 || got > 0) idle = false;
            if (got > 0) flow.count(static_cast<uint64_t>(got), now, report);
        }
        now = now_ns();
    }
    report.print(options.mode.c_str(), stream_unit);
    return 0;
}

int run_fetch(const Options& options) {
    const std::string head = request(options, false);
    struct Fetch {
        int descriptor = -1;
        uint64_t left = 0;
        uint64_t sent = 0;
    };
    std::vector<Fetch> fetches(options.connections);
    const auto ask_again = [&head](Fetch& fetch, uint64_t bytes, uint64_t now) {
        fetch.left = bytes;
        fetch.sent = now;
        return send(fetch.descriptor, head.data(), head.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(head.size());
    };
    uint64_t answer_bytes = 0;
    uint64_t now = now_ns();
    for (unsigned index = 0; index < options.connections; ++index) {
        Fetch& fetch = fetches[index];
        fetch.descriptor = connect_blocking(options, index);
        if (!ask_again(fetch, 0, now)) fail("send");
        if (index == 0) {
            char buffer[head_bytes_max];
            ssize_t received = 0;
            while (answer_bytes == 0) {
                received = recv(fetch.descriptor, buffer, sizeof buffer, MSG_PEEK);
                if (received <= 0) fail("the first answer");
                answer_bytes = answer_length(buffer, static_cast<size_t>(received));
            }
        }
        fetch.left = answer_bytes;
        do_not_wait(fetch.descriptor);
    }
    Report report(options);
    now = now_ns();
    bool idle = false;
    while (report.pass(now, idle) && report.errors() == 0) {
        idle = true;
        for (Fetch& fetch : fetches) {
            const ssize_t got = drop_piece(fetch.descriptor, fetch.left);
            if (got < 0) report.error();
            if (got <= 0) continue;
            idle = false;
            fetch.left -= static_cast<uint64_t>(got);
            if (fetch.left != 0) continue;
            report.answered(now - fetch.sent, answer_bytes);
            if (!ask_again(fetch, answer_bytes, now)) report.error();
        }
        now = now_ns();
    }
    report.print("fetch", answer_bytes);
    return 0;
}

}  // namespace load
