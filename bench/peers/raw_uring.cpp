// The ceiling: the leanest single-purpose io_uring server that answers every blank line. Multishot accept and receive
// over one buffer ring, one send for all that a pass answers on a connection, one enter call for a pass.
#include "answer.hpp"
#include "raw_ring.hpp"

namespace {

using bench::tag;

enum class Operation : uint32_t { accept, receive, send, close };

constexpr unsigned ring_entries = 4096;
// A completion asks for at most two entries, so that a pass of this many never meets a full submission queue.
constexpr unsigned completions_per_pass = ring_entries / 2;
constexpr unsigned buffer_count = 1024;
constexpr unsigned buffer_bytes = 2048;

// State of one descriptor.
struct Connection {
    io_uring_sqe* entry;  // the send of the pass below
    uint32_t pass;
    uint32_t owed;     // bytes to send that no entry carries
    uint32_t sending;  // bytes that the last send carries
    uint16_t offset;   // where in an answer the next byte lies, after a short send
    uint8_t matched;   // progress in CRLF CRLF
    bool reported;     // the last send posts a completion, and nothing may be sent before it
    bool closing;      // close when the send is done
};
static_assert(sizeof(Connection) == 32);

// Keep-alive server. A send is tried without waiting and succeeds in silence. One that could not take all posts a
// completion before the next pass reads from the connection, and the rest waits for room.
class KeepAlive {
public:
    explicit KeepAlive(const bench::PeerOptions& options)
        : ring_(ring_entries, ring_entries,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                    (options.spin ? IORING_SETUP_TASKRUN_FLAG : 0)),
          buffers_(ring_, buffer_count, buffer_bytes),
          spin_(options.spin),
          listener_(bench::listen_on(options)),
          connections_(static_cast<Connection*>(std::calloc(bench::descriptor_limit, sizeof(Connection)))) {}

    [[noreturn]] void run() {
        accept();
        while (true) {
            if (spin_) {
                while (!ring_.has_prepared() && !ring_.has_deferred_work() && ring_.available() == 0) continue;
            }
            ring_.submit(spin_ || ring_.available() != 0 ? 0 : 1);
            ++pass_;
            const unsigned available = ring_.available();
            // Completions that stay queued may hide a failed send, so that such a pass has every send reported.
            report_all_ = available > completions_per_pass;
            ring_.take(report_all_ ? completions_per_pass : available,
                       [this](const io_uring_cqe& completion) { handle(completion); });
            buffers_.publish();
        }
    }

private:
    void handle(const io_uring_cqe& completion) {
        const unsigned descriptor = bench::tag_value(completion.user_data);
        switch (bench::tag_kind<Operation>(completion.user_data)) {
            case Operation::receive:
                received(descriptor, completion);
                break;
            case Operation::send:
                sent(descriptor, completion.res);
                break;
            case Operation::accept:
                if (completion.res >= 0) accepted(static_cast<unsigned>(completion.res));
                if ((completion.flags & IORING_CQE_F_MORE) == 0) accept();
                break;
            case Operation::close:
                break;
        }
    }

    void accept() {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_ACCEPT;
        entry->fd = listener_;
        entry->ioprio = IORING_ACCEPT_MULTISHOT;
        entry->accept_flags = SOCK_CLOEXEC;
        entry->user_data = tag(Operation::accept, 0);
    }

    void accepted(unsigned descriptor) {
        if (descriptor >= bench::descriptor_limit) {
            ::close(static_cast<int>(descriptor));
            return;
        }
        connections_[descriptor] = {};
        receive(descriptor);
    }

    void receive(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = static_cast<int>(descriptor);
        entry->ioprio = IORING_RECV_MULTISHOT;
        entry->flags = IOSQE_BUFFER_SELECT;
        entry->user_data = tag(Operation::receive, descriptor);
    }

    void received(unsigned descriptor, const io_uring_cqe& completion) {
        Connection& connection = connections_[descriptor];
        if (completion.res > 0) {
            const auto buffer = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
            const unsigned heads =
                bench::count_heads(buffers_.data(buffer), static_cast<size_t>(completion.res), connection.matched);
            buffers_.give_back(buffer);
            if (heads != 0) answer(descriptor, connection, heads * static_cast<uint32_t>(bench::answer.size()));
            if ((completion.flags & IORING_CQE_F_MORE) == 0) {
                // A receive submitted together with a send may complete ahead of the send's failure.
                if (connection.pass == pass_) report(connection);
                receive(descriptor);
            }
        } else if (completion.res == -ENOBUFS) {
            receive(descriptor);
        } else {
            finish(descriptor, connection);
        }
    }

    void answer(unsigned descriptor, Connection& connection, uint32_t bytes) {
        if (connection.reported) {
            connection.owed += bytes;
            return;
        }
        if (connection.pass == pass_) {
            if (connection.entry->len + bytes <= send_limit(connection)) {
                connection.entry->len += bytes;
                connection.sending += bytes;
            } else {
                connection.owed += bytes;
                report(connection);
            }
            return;
        }
        connection.owed = bytes;
        send(descriptor, connection, report_all_);
    }

    // Prepares a send of what is owed, as far as the block of answers reaches.
    void send(unsigned descriptor, Connection& connection, bool reported) {
        const uint32_t limit = send_limit(connection);
        const uint32_t bytes = connection.owed < limit ? connection.owed : limit;
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(bench::answers().data() + connection.offset);
        entry->len = bytes;
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = tag(Operation::send, descriptor);
        connection.owed -= bytes;
        connection.sending = bytes;
        connection.pass = pass_;
        connection.entry = entry;
        if (reported || connection.owed != 0) report(connection);
    }

    // Turns the send of this pass into one that waits for room and always posts a completion.
    static void report(Connection& connection) {
        connection.entry->flags = 0;
        connection.entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        connection.reported = true;
    }

    // A send completes here only when it was reported or could not take everything.
    void sent(unsigned descriptor, int result) {
        Connection& connection = connections_[descriptor];
        if (result < 0 && result != -EAGAIN) {
            connection.owed = 0;
            // Ends the armed receive, whose last completion closes the descriptor.
            ::shutdown(static_cast<int>(descriptor), SHUT_RDWR);
        } else {
            const uint32_t done = result < 0 ? 0 : static_cast<uint32_t>(result);
            connection.owed += connection.sending - done;
            connection.offset = static_cast<uint16_t>((connection.offset + done) % bench::answer.size());
        }
        connection.reported = false;
        if (connection.owed != 0) {
            send(descriptor, connection, true);
        } else if (connection.closing) {
            close(descriptor);
        }
    }

    // The peer is done. What was answered in this pass leaves before the descriptor goes.
    void finish(unsigned descriptor, Connection& connection) {
        if (!connection.reported && connection.pass == pass_) report(connection);
        if (connection.reported) {
            connection.closing = true;
        } else {
            close(descriptor);
        }
    }

    void close(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_CLOSE;
        entry->fd = static_cast<int>(descriptor);
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = tag(Operation::close, descriptor);
    }

    static uint32_t send_limit(const Connection& connection) {
        return static_cast<uint32_t>(bench::answers().size()) - connection.offset;
    }

    bench::RawRing ring_;
    bench::RawBuffers buffers_;
    bool spin_;
    int listener_;
    Connection* connections_;
    uint32_t pass_ = 1;
    bool report_all_ = false;
};

// A connection per request: the first receive is one-shot into the descriptor's own buffer, so that nothing holds the
// socket when the close linked behind the send runs.
class Churn {
public:
    explicit Churn(const bench::PeerOptions& options)
        : ring_(ring_entries, ring_entries,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL),
          listener_(bench::listen_on(options)),
          memory_(static_cast<char*>(std::calloc(bench::descriptor_limit, buffer_bytes))),
          matched_(static_cast<uint8_t*>(std::calloc(bench::descriptor_limit, 1))) {}

    [[noreturn]] void run() {
        accept();
        while (true) {
            ring_.submit(ring_.available() == 0 ? 1 : 0);
            const unsigned available = ring_.available();
            ring_.take(available < completions_per_pass ? available : completions_per_pass,
                       [this](const io_uring_cqe& completion) { handle(completion); });
        }
    }

private:
    void handle(const io_uring_cqe& completion) {
        const unsigned descriptor = bench::tag_value(completion.user_data);
        switch (bench::tag_kind<Operation>(completion.user_data)) {
            case Operation::accept:
                if (completion.res >= 0) accepted(static_cast<unsigned>(completion.res));
                if ((completion.flags & IORING_CQE_F_MORE) == 0) accept();
                break;
            case Operation::receive:
                received(descriptor, completion.res);
                break;
            case Operation::send:
                // Reported only when it failed, and the close behind it was cancelled.
                ::close(static_cast<int>(descriptor));
                break;
            case Operation::close:
                break;
        }
    }

    void accept() {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_ACCEPT;
        entry->fd = listener_;
        entry->ioprio = IORING_ACCEPT_MULTISHOT;
        entry->accept_flags = SOCK_CLOEXEC;
        entry->user_data = tag(Operation::accept, 0);
    }

    void accepted(unsigned descriptor) {
        if (descriptor >= bench::descriptor_limit) {
            ::close(static_cast<int>(descriptor));
            return;
        }
        matched_[descriptor] = 0;
        receive(descriptor);
    }

    void receive(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(memory_ + static_cast<size_t>(descriptor) * buffer_bytes);
        entry->len = buffer_bytes;
        entry->user_data = tag(Operation::receive, descriptor);
    }

    void received(unsigned descriptor, int result) {
        if (result <= 0) {
            close(descriptor);
            return;
        }
        const char* received = memory_ + static_cast<size_t>(descriptor) * buffer_bytes;
        const unsigned heads = bench::count_heads(received, static_cast<size_t>(result), matched_[descriptor]);
        if (heads == 0) {
            receive(descriptor);
            return;
        }
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(bench::answers().data());
        entry->len = heads * static_cast<uint32_t>(bench::answer.size());
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
        entry->user_data = tag(Operation::send, descriptor);
        close(descriptor);
    }

    void close(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_CLOSE;
        entry->fd = static_cast<int>(descriptor);
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = tag(Operation::close, descriptor);
    }

    bench::RawRing ring_;
    int listener_;
    char* memory_;
    uint8_t* matched_;
};

static_assert(bench::answers_per_send >= buffer_bytes / 4, "one receive never holds more heads than one send answers");

}  // namespace

int main(int count, char** arguments) {
    const bench::PeerOptions options = bench::parse_options(count, arguments);
    if (options.churn) Churn(options).run();
    KeepAlive(options).run();
}
