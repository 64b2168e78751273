// The epoll twin of raw_uring: level-triggered, one receive per event, one send for all that the receive held.
#include "answer.hpp"

#include <fcntl.h>
#include <sys/epoll.h>

namespace {

constexpr unsigned events_per_wait = 512;
constexpr size_t buffer_bytes = 16384;

// State of one descriptor.
struct Connection {
    uint32_t owed;    // bytes of answers that the socket had no room for
    uint16_t offset;  // where in an answer the next byte lies
    uint8_t matched;  // progress in CRLF CRLF
};

class Epoll {
public:
    explicit Epoll(const bench::PeerOptions& options)
        : options_(options),
          listener_(bench::listen_on(options)),
          epoll_(epoll_create1(EPOLL_CLOEXEC)),
          connections_(static_cast<Connection*>(std::calloc(bench::descriptor_limit, sizeof(Connection)))) {
        // Accepting goes on until the queue is empty.
        fcntl(listener_, F_SETFL, O_NONBLOCK);
        watch(EPOLL_CTL_ADD, listener_, EPOLLIN);
    }

    [[noreturn]] void run() {
        epoll_event events[events_per_wait];
        while (true) {
            const int ready = epoll_wait(epoll_, events, events_per_wait, -1);
            for (int index = 0; index < ready; ++index) {
                const int descriptor = events[index].data.fd;
                if (descriptor == listener_) {
                    accept_all();
                } else if ((events[index].events & EPOLLOUT) != 0) {
                    send_owed(descriptor);
                } else {
                    serve(descriptor);
                }
            }
        }
    }

private:
    void watch(int operation, int descriptor, uint32_t interest) const {
        epoll_event event{};
        event.events = interest;
        event.data.fd = descriptor;
        epoll_ctl(epoll_, operation, descriptor, &event);
    }

    void accept_all() {
        while (true) {
            const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (descriptor < 0) return;
            if (static_cast<unsigned>(descriptor) >= bench::descriptor_limit) {
                close(descriptor);
                continue;
            }
            connections_[descriptor] = {};
            // With TCP_DEFER_ACCEPT the request is there already, and a served connection is never watched.
            if (options_.deferred && serve(descriptor)) continue;
            watch(EPOLL_CTL_ADD, descriptor, connections_[descriptor].owed != 0 ? EPOLLOUT : EPOLLIN);
        }
    }

    // Reads once and answers. True when it closed the connection.
    bool serve(int descriptor) {
        static char buffer[buffer_bytes];
        const ssize_t received = recv(descriptor, buffer, sizeof buffer, 0);
        if (received < 0 && errno == EAGAIN) return false;
        if (received <= 0) {
            close(descriptor);
            return true;
        }
        Connection& connection = connections_[descriptor];
        const unsigned heads = bench::count_heads(buffer, static_cast<size_t>(received), connection.matched);
        if (heads == 0) return false;
        connection.owed += heads * static_cast<uint32_t>(bench::answer.size());
        if (!send_some(descriptor, connection)) return true;
        // Reading waits until the answers have left.
        if (connection.owed != 0) watch(EPOLL_CTL_MOD, descriptor, EPOLLOUT);
        return false;
    }

    void send_owed(int descriptor) {
        Connection& connection = connections_[descriptor];
        if (send_some(descriptor, connection) && connection.owed == 0) watch(EPOLL_CTL_MOD, descriptor, EPOLLIN);
    }

    // Sends what is owed until the socket is full. False when it closed the connection.
    bool send_some(int descriptor, Connection& connection) const {
        while (connection.owed != 0) {
            const size_t block = bench::answers().size() - connection.offset;
            const size_t bytes = connection.owed < block ? connection.owed : block;
            const ssize_t sent = send(descriptor, bench::answers().data() + connection.offset, bytes, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno == EAGAIN) return true;
                close(descriptor);
                return false;
            }
            connection.owed -= static_cast<uint32_t>(sent);
            connection.offset =
                static_cast<uint16_t>((connection.offset + static_cast<size_t>(sent)) % bench::answer.size());
        }
        if (!options_.churn) return true;
        close(descriptor);
        return false;
    }

    bench::PeerOptions options_;
    int listener_;
    int epoll_;
    Connection* connections_;
};

}  // namespace

int main(int count, char** arguments) {
    Epoll(bench::parse_options(count, arguments)).run();
}
