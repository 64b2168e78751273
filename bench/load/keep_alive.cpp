// Closed loop and fixed rate over connections that stay open.
#include "modes.hpp"
#include "raw_ring.hpp"
#include "report.hpp"

#include <sys/socket.h>

#include <cstdio>
#include <deque>

namespace load {
namespace {

enum class Operation : uint32_t { receive, send };

constexpr unsigned ring_entries = 4096;
constexpr unsigned completion_entries = 16384;
constexpr unsigned buffer_count = 1024;
constexpr unsigned buffer_bytes = 8192;
// A short pass keeps the time that is taken once for it near the time of each completion.
constexpr unsigned completions_per_pass = 32;

struct Connection {
    int descriptor = -1;
    uint32_t partial = 0;  // bytes of the answer that is not complete
    uint32_t oldest = 0;   // index of the oldest request in flight among its stamps
    uint32_t in_flight = 0;
    std::vector<uint64_t> sent;  // when each request was sent, or should have been; a ring of `depth`
};

class Generator {
public:
    explicit Generator(const Options& options)
        : options_(options),
          by_rate_(options.mode == "rate"),
          depth_(by_rate_ ? 1 : options.depth),
          ring_(ring_entries, completion_entries,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                    IORING_SETUP_SUBMIT_ALL),
          buffers_(ring_, buffer_count, buffer_bytes),
          connections_(options.connections) {
        const std::string head = request(options, false);
        head_bytes_ = static_cast<uint32_t>(head.size());
        for (unsigned index = 0; index < depth_; ++index) requests_ += head;
        for (unsigned index = 0; index < options.connections; ++index) {
            connections_[index].descriptor = connect_blocking(options, index);
            connections_[index].sent.resize(depth_);
        }
        answer_bytes_ = static_cast<uint32_t>(ask(connections_[0].descriptor, head));
    }

    int run() {
        Report report(options_);
        report_ = &report;
        now_ = now_ns();
        schedule_begin_ = now_;
        for (unsigned index = 0; index < connections_.size(); ++index) {
            receive(index);
            if (by_rate_) {
                free_.push_back(index);
            } else {
                send(index, depth_, now_);
            }
            if (ring_.room() < 4) ring_.submit(0);
        }
        bool idle = false;
        while (report.pass(now_, idle) && report.errors() < connections_.size()) {
            idle = !ring_.has_prepared() && !ring_.has_deferred_work();
            if (!idle) ring_.submit(0);
            const unsigned available = ring_.available();
            now_ = now_ns();
            if (available != 0) {
                idle = false;
                ring_.take(available < completions_per_pass ? available : completions_per_pass,
                           [this](const io_uring_cqe& completion) { handle(completion); });
                buffers_.publish();
            }
            if (by_rate_ && send_due()) idle = false;
        }
        report.print(options_.mode.c_str(), answer_bytes_);
        return 0;
    }

private:
    // Sends what the schedule has reached on the connection that has been free for longest. What finds none free waits,
    // and its latency counts from the schedule all the same.
    bool send_due() {
        const uint64_t due = (now_ - schedule_begin_) * options_.rate / 1'000'000'000;
        bool any = false;
        while (scheduled_ < due && !free_.empty() && ring_.room() > completions_per_pass) {
            const unsigned index = free_.front();
            free_.pop_front();
            send(index, 1, schedule_begin_ + scheduled_ * 1'000'000'000 / options_.rate);
            ++scheduled_;
            any = true;
        }
        return any;
    }

    void send(unsigned index, unsigned count, uint64_t stamp) {
        Connection& connection = connections_[index];
        for (unsigned request = 0; request < count; ++request) {
            uint32_t slot = connection.oldest + connection.in_flight;
            if (slot >= depth_) slot -= depth_;
            connection.sent[slot] = stamp;
            ++connection.in_flight;
        }
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = connection.descriptor;
        entry->addr = reinterpret_cast<uint64_t>(requests_.data());
        entry->len = count * head_bytes_;
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = bench::tag(Operation::send, index);
    }

    void receive(unsigned index) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = connections_[index].descriptor;
        entry->ioprio = IORING_RECV_MULTISHOT;
        entry->flags = IOSQE_BUFFER_SELECT;
        entry->user_data = bench::tag(Operation::receive, index);
    }

    void handle(const io_uring_cqe& completion) {
        const unsigned index = bench::tag_value(completion.user_data);
        // A send completes here only when it failed, and the receive reports the lost connection.
        if (bench::tag_kind<Operation>(completion.user_data) == Operation::send) return;
        if (completion.res == -ENOBUFS) {
            receive(index);
            return;
        }
        if (completion.res <= 0) {
            report_->error();
            return;
        }
        const auto buffer = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
        received(index, buffers_.data(buffer), static_cast<uint32_t>(completion.res));
        buffers_.give_back(buffer);
        if ((completion.flags & IORING_CQE_F_MORE) == 0) receive(index);
    }

    void received(unsigned index, const char* data, uint32_t bytes) {
        Connection& connection = connections_[index];
        constexpr char status[] = "HTTP/1.1 200";
        if (connection.partial == 0 && bytes >= sizeof status && std::memcmp(data, status, sizeof status - 1) != 0)
            report_->error();
        const uint32_t total = connection.partial + bytes;
        const uint32_t answers = total / answer_bytes_;
        connection.partial = total % answer_bytes_;
        if (answers > connection.in_flight) {
            report_->error();
            return;
        }
        for (uint32_t answer = 0; answer < answers; ++answer) {
            report_->answered(now_ - connection.sent[connection.oldest], answer_bytes_);
            if (++connection.oldest == depth_) connection.oldest = 0;
        }
        connection.in_flight -= answers;
        if (answers == 0) return;
        if (by_rate_) {
            free_.push_back(index);
        } else {
            send(index, answers, now_);
        }
    }

    const Options& options_;
    bool by_rate_;
    unsigned depth_;
    bench::RawRing ring_;
    bench::RawBuffers buffers_;
    std::vector<Connection> connections_;
    std::string requests_;
    uint32_t head_bytes_ = 0;
    uint32_t answer_bytes_ = 0;
    std::deque<unsigned> free_;
    uint64_t schedule_begin_ = 0;
    uint64_t scheduled_ = 0;
    uint64_t now_ = 0;
    Report* report_ = nullptr;
};

}  // namespace

int run_keep_alive(const Options& options) {
    return Generator(options).run();
}

}  // namespace load
