// Asio as its documentation would write this server, with answers to pipelined requests joined in one write.
// Built once on epoll and once on io_uring.
#include "answer.hpp"

#include <asio.hpp>

#include <memory>

namespace {

using asio::error_code;
using asio::ip::tcp;

constexpr size_t buffer_bytes = 4096;
static_assert(bench::answers_per_send >= buffer_bytes / 4, "one receive never holds more heads than one write answers");

class Session : public std::enable_shared_from_this<Session> {
public:
    Session(tcp::socket socket, bool churn) : socket_(std::move(socket)), churn_(churn) {}

    void read() {
        socket_.async_read_some(asio::buffer(buffer_),
                                [self = shared_from_this()](const error_code& error, size_t bytes) {
                                    if (!error) self->answer(bytes);
                                });
    }

private:
    void answer(size_t bytes) {
        const unsigned heads = bench::count_heads(buffer_, bytes, matched_);
        if (heads == 0) {
            read();
            return;
        }
        asio::async_write(socket_, asio::buffer(bench::answers().data(), heads * bench::answer.size()),
                          [self = shared_from_this()](const error_code& error, size_t) {
                              if (!error && !self->churn_) self->read();
                          });
    }

    tcp::socket socket_;
    bool churn_;
    uint8_t matched_ = 0;
    char buffer_[buffer_bytes];
};

class Listener {
public:
    Listener(asio::io_context& context, const bench::PeerOptions& options)
        : acceptor_(context, tcp::v4(), bench::listen_on(options)), churn_(options.churn) {}

    void accept() {
        acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
            if (!error) std::make_shared<Session>(std::move(socket), churn_)->read();
            accept();
        });
    }

private:
    tcp::acceptor acceptor_;
    bool churn_;
};

}  // namespace

int main(int count, char** arguments) {
    const bench::PeerOptions options = bench::parse_options(count, arguments);
    asio::io_context context(1);
    Listener listener(context, options);
    listener.accept();
    context.run();
}
