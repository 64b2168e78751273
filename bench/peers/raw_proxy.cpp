// The ceiling of a proxy in user space: what one side sends is received into memory of the direction and sent on from
// there, with the next receive linked behind the silent send. One completion a piece.
#include "answer.hpp"
#include "raw_ring.hpp"

#include <arpa/inet.h>

namespace {

using bench::tag;

enum class Operation : uint32_t { accept, connect, receive, send };

constexpr unsigned ring_entries = 1024;

class Proxy {
public:
    explicit Proxy(const bench::PeerOptions& options)
        : ring_(ring_entries, ring_entries,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL),
          piece_(options.bytes),
          ends_(static_cast<End*>(std::calloc(bench::descriptor_limit, sizeof(End)))),
          listener_(bench::listen_on(options)) {
        target_.sin_family = AF_INET;
        target_.sin_port = htons(options.to);
        target_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }

    [[noreturn]] void run() {
        accept();
        while (true) {
            ring_.submit(1);
            ring_.take(ring_.available(), [this](const io_uring_cqe& completion) { handle(completion); });
        }
    }

private:
    // What comes from a descriptor, and where it goes.
    struct End {
        char* memory;
        int other;
        bool over;
    };

    void handle(const io_uring_cqe& completion) {
        const unsigned descriptor = bench::tag_value(completion.user_data);
        switch (bench::tag_kind<Operation>(completion.user_data)) {
            case Operation::accept:
                if (completion.res >= 0) connect(completion.res);
                if ((completion.flags & IORING_CQE_F_MORE) == 0) accept();
                break;
            case Operation::connect:
                if (completion.res < 0) {
                    ::close(ends_[descriptor].other);
                    ::close(static_cast<int>(descriptor));
                } else {
                    receive(descriptor);
                    receive(static_cast<unsigned>(ends_[descriptor].other));
                }
                break;
            case Operation::receive:
                if (completion.res > 0) {
                    send(descriptor, static_cast<uint32_t>(completion.res));
                    receive(descriptor);
                } else {
                    end(descriptor);
                }
                break;
            case Operation::send:
                // It failed; the receive behind it is cancelled, and ends this direction.
                ::shutdown(ends_[descriptor].other, SHUT_RDWR);
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

    void connect(int client) {
        const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;
        if (server < 0) {
            ::close(client);
            return;
        }
        ::setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        for (const auto& [from, to] : {std::pair(client, server), std::pair(server, client)}) {
            End& end = ends_[from];
            if (end.memory == nullptr) end.memory = bench::aligned_memory(piece_);
            end.other = to;
            end.over = false;
        }
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_CONNECT;
        entry->fd = server;
        entry->addr = reinterpret_cast<uint64_t>(&target_);
        entry->off = sizeof target_;
        entry->user_data = tag(Operation::connect, static_cast<unsigned>(server));
    }

    void receive(unsigned descriptor) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_RECV;
        entry->fd = static_cast<int>(descriptor);
        entry->addr = reinterpret_cast<uint64_t>(ends_[descriptor].memory);
        entry->len = piece_;
        entry->user_data = tag(Operation::receive, descriptor);
    }

    void send(unsigned descriptor, uint32_t bytes) {
        io_uring_sqe* entry = ring_.next();
        entry->opcode = IORING_OP_SEND;
        entry->fd = ends_[descriptor].other;
        entry->addr = reinterpret_cast<uint64_t>(ends_[descriptor].memory);
        entry->len = bytes;
        entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        entry->flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
        entry->user_data = tag(Operation::send, descriptor);
    }

    // Both directions over, both descriptors go.
    void end(unsigned descriptor) {
        End& from = ends_[descriptor];
        from.over = true;
        ::shutdown(from.other, SHUT_WR);
        if (!ends_[from.other].over) return;
        ::close(from.other);
        ::close(static_cast<int>(descriptor));
    }

    bench::RawRing ring_;
    unsigned piece_;
    End* ends_;
    sockaddr_in target_{};
    int listener_;
};

}  // namespace

int main(int count, char** arguments) {
    Proxy(bench::parse_options(count, arguments)).run();
}
