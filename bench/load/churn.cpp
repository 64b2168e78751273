// A connection per request.
#include "modes.hpp"
#include "raw_ring.hpp"
#include "report.hpp"

#include <sys/socket.h>

#include <array>
#include <cstdio>

namespace load {
namespace {

enum class Operation : uint32_t { receive, send, close };

constexpr unsigned ring_entries = 4096;
constexpr unsigned completion_entries = 16384;
constexpr unsigned completions_per_pass = 16;
constexpr size_t buffer_bytes = 2048;
// More failed connections than this mean that the server or this machine is at its limit, and no figure would be true.
constexpr uint64_t errors_max = 1000;

struct Slot {
    int descriptor = -1;
    uint64_t began = 0;
    std::array<char, buffer_bytes> buffer;
};

class Generator {
public:
    explicit Generator(const Options& options)
        : options_(options),
          head_(request(options, true)),
          ring_(ring_entries, completion_entries,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                    IORING_SETUP_SUBMIT_ALL),
          slots_(options.connections) {
        for (unsigned index = 0; index < options.spread; ++index) addresses_.push_back(server_address(options, index));
        const int descriptor = connect_blocking(options, 0);
        answer_bytes_ = static_cast<int>(ask(descriptor, head_));
        char rest = 0;
        if (recv(descriptor, &rest, 1, 0) != 0) {
            std::fprintf(stderr, "load: the server does not close after Connection: close\n");
            std::exit(1);
        }
        ::close(descriptor);
    }

    int run() {
        Report report(options_);
        report_ = &report;
        for (unsigned index = 0; index < slots_.size(); ++index) begin(index);
        bool idle = false;
        now_ = now_ns();
        while (report.pass(now_, idle) && report.errors() < errors_max) {
            idle = !ring_.has_prepared() && !ring_.has_deferred_work();
            if (!idle) ring_.submit(0);
            const unsigned available = ring_.available();
            now_ = now_ns();
            if (available == 0) continue;
            idle = false;
            ring_.take(available < completions_per_pass ? available : completions_per_pass,
                       [this](const io_uring_cqe& completion) { handle(completion); });
        }
        report.print("churn", static_cast<uint64_t>(answer_bytes_));
        return 0;
    }

private:
    // Opens the next connection of a slot. On loopback the handshake is over when connect() returns, and where it is
    // not, the send waits for it.
    void begin(unsigned index) {
        Slot& slot = slots_[index];
        slot.began = now_ns();
        slot.descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        const sockaddr_in& address = addresses_[next_address_];
        if (++next_address_ == addresses_.size()) next_address_ = 0;
        if (slot.descriptor < 0) bench::fail("socket", errno);
        if (connect(slot.descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
            errno != EINPROGRESS)
            bench::fail("connect", errno);

        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = slot.descriptor;
        entry->addr = reinterpret_cast<uint64_t>(head_.data());
        entry->len = static_cast<uint32_t>(head_.size());
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
        entry->user_data = bench::tag(Operation::send, index);

        // Reads to the end of the stream: the answer is far smaller than the buffer.
        entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = slot.descriptor;
        entry->addr = reinterpret_cast<uint64_t>(slot.buffer.data());
        entry->len = buffer_bytes;
        entry->msg_flags = MSG_WAITALL;
        entry->user_data = bench::tag(Operation::receive, index);
    }

    void handle(const io_uring_cqe& completion) {
        const unsigned index = bench::tag_value(completion.user_data);
        Slot& slot = slots_[index];
        switch (bench::tag_kind<Operation>(completion.user_data)) {
            case Operation::receive:
                if (completion.res == answer_bytes_ && std::memcmp(slot.buffer.data(), "HTTP/1.1 200", 12) == 0) {
                    report_->answered(now_ - slot.began, static_cast<uint64_t>(answer_bytes_));
                } else {
                    report_->error();
                }
                break;
            case Operation::send:
                // A failed send takes the receive behind it along, without a completion.
                report_->error();
                break;
            case Operation::close:
                return;
        }
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_CLOSE;
        entry->fd = slot.descriptor;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = bench::tag(Operation::close, index);
        begin(index);
    }

    const Options& options_;
    std::string head_;
    bench::RawRing ring_;
    std::vector<Slot> slots_;
    std::vector<sockaddr_in> addresses_;
    size_t next_address_ = 0;
    int answer_bytes_ = 0;
    uint64_t now_ = 0;
    Report* report_ = nullptr;
};

}  // namespace

int run_churn(const Options& options) {
    return Generator(options).run();
}

}  // namespace load
