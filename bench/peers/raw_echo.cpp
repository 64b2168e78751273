// The ceiling of an echo: what comes is sent back from where it lies. Small messages come by a multishot receive over a
// buffer ring; large ones into memory of the connection, which costs less from some KiB on. With --copied large ones
// are copied twice, as a program does that reads into memory of its own and may change it after each write.
#include "answer.hpp"
#include "raw_ring.hpp"

namespace {

using bench::tag;

enum class Operation : uint32_t { accept, receive, send, close };

constexpr unsigned ring_entries = 4096;
constexpr unsigned ring_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL;
constexpr unsigned buffer_count = 1024;
constexpr unsigned buffer_bytes = 2048;
// From this size on a receive into memory of the connection costs less.
constexpr unsigned large_bytes = 4096;
constexpr unsigned large_buffer_bytes = 64 << 10;

void accept_all(bench::RawRing& ring, int listener) {
    io_uring_sqe* entry = ring.next();
    entry->opcode = IORING_OP_ACCEPT;
    entry->fd = listener;
    entry->ioprio = IORING_ACCEPT_MULTISHOT;
    entry->accept_flags = SOCK_CLOEXEC;
    entry->user_data = tag(Operation::accept, 0);
}

// A pass gives back what the pass before has sent: the sends of a pass have taken their bytes when its entries have
// been submitted, and one that has not says so at once.
class SmallEcho {
public:
    explicit SmallEcho(const bench::PeerOptions& options)
        : ring_(ring_entries, ring_entries, ring_flags),
          buffers_(ring_, buffer_count, buffer_bytes),
          listener_(bench::listen_on(options)) {}

    [[noreturn]] void run() {
        accept_all(ring_, listener_);
        while (true) {
            ring_.submit(1);
            for (unsigned index = 0; index < used_count_; ++index) buffers_.give_back(used_[index]);
            used_count_ = 0;
            ring_.take(ring_.available(), [this](const io_uring_cqe& completion) { handle(completion); });
            buffers_.publish();
        }
    }

private:
    void handle(const io_uring_cqe& completion) {
        const unsigned descriptor = bench::tag_value(completion.user_data);
        switch (bench::tag_kind<Operation>(completion.user_data)) {
            case Operation::accept:
                if (completion.res >= 0) receive(static_cast<unsigned>(completion.res));
                if ((completion.flags & IORING_CQE_F_MORE) == 0) accept_all(ring_, listener_);
                break;
            case Operation::receive:
                received(descriptor, completion);
                break;
            case Operation::send:
                // A peer that lets its answers lie is none of this program's.
                ::shutdown(static_cast<int>(descriptor), SHUT_RDWR);
                break;
            case Operation::close:
                break;
        }
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
        if (completion.res > 0) {
            const auto buffer = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
            used_[used_count_++] = buffer;
            io_uring_sqe* entry = ring_.next();
            entry->opcode = IORING_OP_SEND;
            entry->fd = static_cast<int>(descriptor);
            entry->addr = reinterpret_cast<uint64_t>(buffers_.data(buffer));
            entry->len = static_cast<uint32_t>(completion.res);
            entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT;
            entry->flags = IOSQE_CQE_SKIP_SUCCESS;
            entry->user_data = tag(Operation::send, descriptor);
            if ((completion.flags & IORING_CQE_F_MORE) == 0) receive(descriptor);
        } else if (completion.res == -ENOBUFS) {
            receive(descriptor);
        } else {
            ::close(static_cast<int>(descriptor));
        }
    }

    bench::RawRing ring_;
    bench::RawBuffers buffers_;
    int listener_;
    uint16_t used_[buffer_count]{};
    unsigned used_count_ = 0;
};

// One completion a message: the send is silent, and the next receive is linked behind it.
class LargeEcho {
public:
    explicit LargeEcho(const bench::PeerOptions& options)
        : ring_(ring_entries, ring_entries, ring_flags),
          listener_(bench::listen_on(options)),
          memory_(static_cast<char**>(std::calloc(bench::descriptor_limit, sizeof(char*)))),
          read_(options.copied ? static_cast<char**>(std::calloc(bench::descriptor_limit, sizeof(char*))) : nullptr),
          written_(options.copied ? bench::aligned_memory(std::size_t{ring_entries} * large_buffer_bytes) : nullptr) {}

    [[noreturn]] void run() {
        accept_all(ring_, listener_);
        while (true) {
            ring_.submit(1);
            next_written_ = 0;
            ring_.take(ring_.available(), [this](const io_uring_cqe& completion) { handle(completion); });
        }
    }

private:
    void handle(const io_uring_cqe& completion) {
        const unsigned descriptor = bench::tag_value(completion.user_data);
        switch (bench::tag_kind<Operation>(completion.user_data)) {
            case Operation::accept:
                if (completion.res >= 0) {
                    const auto accepted = static_cast<unsigned>(completion.res);
                    if (memory_[accepted] == nullptr) memory_[accepted] = bench::aligned_memory(large_buffer_bytes);
                    receive(accepted);
                }
                if ((completion.flags & IORING_CQE_F_MORE) == 0) accept_all(ring_, listener_);
                break;
            case Operation::receive:
                if (completion.res > 0) {
                    const auto bytes = static_cast<uint32_t>(completion.res);
                    send(descriptor, read_ != nullptr ? copied(descriptor, bytes) : memory_[descriptor], bytes);
                    receive(descriptor);
                } else if (completion.res != -ECANCELED) {
                    ::close(static_cast<int>(descriptor));
                }
                break;
            case Operation::send:
                ::close(static_cast<int>(descriptor));
                break;
            case Operation::close:
                break;
        }
    }

    // The sends of a pass have taken their bytes when its entries have been submitted, so that few blocks are enough,
    // and these stay in the cache; one that has not says so at once.
    char* copied(unsigned descriptor, uint32_t bytes) {
        if (read_[descriptor] == nullptr) read_[descriptor] = bench::aligned_memory(large_buffer_bytes);
        char* const written = written_ + std::size_t{next_written_++} * large_buffer_bytes;
        std::memcpy(read_[descriptor], memory_[descriptor], bytes);
        std::memcpy(written, read_[descriptor], bytes);
        return written;
    }

    void send(unsigned descriptor, const char* memory, uint32_t bytes) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(memory);
        entry->len = bytes;
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL | (read_ != nullptr ? MSG_DONTWAIT : 0);
        entry->flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
        entry->user_data = tag(Operation::send, descriptor);
    }

    void receive(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(memory_[descriptor]);
        entry->len = large_buffer_bytes;
        entry->ioprio = IORING_RECVSEND_POLL_FIRST;
        entry->user_data = tag(Operation::receive, descriptor);
    }

    bench::RawRing ring_;
    int listener_;
    char** memory_;
    char** read_;
    char* written_;
    unsigned next_written_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
    const bench::PeerOptions options = bench::parse_options(count, arguments);
    if (options.bytes >= large_bytes) LargeEcho(options).run();
    SmallEcho(options).run();
}
