// The ceiling of a stream that comes in: large receives, one after the other, into memory of the connection. With
// --shared into the same memory for all of them: receives that are in the kernel together overwrite each other's bytes,
// so that nobody could read them, but the memory stays in the cache.
#include "answer.hpp"
#include "raw_ring.hpp"

namespace {

using bench::tag;

enum class Operation : uint32_t { accept, receive };

constexpr unsigned ring_entries = 1024;

class Sink {
public:
    explicit Sink(const bench::PeerOptions& options)
        : ring_(ring_entries, ring_entries,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL),
          piece_(options.bytes),
          memory_(static_cast<char**>(std::calloc(bench::descriptor_limit, sizeof(char*)))),
          shared_(options.shared ? bench::aligned_memory(piece_) : nullptr),
          listener_(bench::listen_on(options)) {}

    [[noreturn]] void run() {
        accept();
        while (true) {
            ring_.submit(1);
            ring_.take(ring_.available(), [this](const io_uring_cqe& completion) { handle(completion); });
        }
    }

private:
    void handle(const io_uring_cqe& completion) {
        const unsigned descriptor = bench::tag_value(completion.user_data);
        if (bench::tag_kind<Operation>(completion.user_data) == Operation::accept) {
            if (completion.res >= 0) begin(static_cast<unsigned>(completion.res));
            if ((completion.flags & IORING_CQE_F_MORE) == 0) accept();
        } else if (completion.res > 0) {
            receive(descriptor);
        } else {
            ::close(static_cast<int>(descriptor));
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

    void begin(unsigned descriptor) {
        if (memory_[descriptor] == nullptr)
            memory_[descriptor] = shared_ != nullptr ? shared_ : bench::aligned_memory(piece_);
        receive(descriptor);
    }

    void receive(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(memory_[descriptor]);
        entry->len = piece_;
        entry->user_data = tag(Operation::receive, descriptor);
    }

    bench::RawRing ring_;
    unsigned piece_;
    char** memory_;
    char* shared_;
    int listener_;
};

}  // namespace

int main(int count, char** arguments) {
    Sink(bench::parse_options(count, arguments)).run();
}
