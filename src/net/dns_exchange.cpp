#include <ferrule/reactor/deadline.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/dns_exchange.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// Messages that do not match which are ignored before UDP is given up: a forger needs many, a confused network few.
constexpr unsigned strangers_max = 16;

/// A socket for one exchange. All its operations have ended when it goes.
class ExchangeSocket {
public:
    ExchangeSocket(Kernel& kernel, const Address& server, int type)
        : kernel_(kernel), number_(kernel.socket(server.data()->sa_family, type | SOCK_CLOEXEC, 0)) {}
    ExchangeSocket(const ExchangeSocket&) = delete;
    ExchangeSocket& operator=(const ExchangeSocket&) = delete;
    ~ExchangeSocket() {
        if (number_ >= 0) kernel_.close(number_);
    }
    /// The descriptor, or -errno.
    [[nodiscard]] int number() const noexcept { return number_; }

private:
    Kernel& kernel_;
    int number_;
};

/// How an operation that ended with this negative result ends the exchange.
DnsOutcome failure(const Reactor& reactor, int result) {
    DnsOutcome outcome;
    outcome.error = -result;
    // Nothing but the time of the exchange and the end of the reactor cancels it.
    if (result == -ECANCELED) {
        outcome.end =
            reactor.root_environment.scope->cancelled() ? DnsOutcome::End::cancelled : DnsOutcome::End::timed_out;
    }
    return outcome;
}

DnsOutcome replied(DnsReply reply) {
    return {DnsOutcome::End::replied, 0, std::move(reply)};
}

DnsOutcome malformed() {
    DnsReply reply;
    reply.kind = DnsReplyKind::malformed;
    return replied(std::move(reply));
}

Task<DnsOutcome> exchange_datagrams(Reactor& reactor, DnsExchange& exchange, const DnsQuestion& question, int socket,
                                    ResolverCounters& counters) {
    auto sending = reactor.submit("send to a name server", [&](abi::SubmissionEntry& entry) {
        const auto query = exchange.query_bytes();
        prepare::send(entry, socket, query.data(), static_cast<std::uint32_t>(query.size()), MSG_NOSIGNAL);
    });
    const OperationResult sent = co_await sending;
    if (sent.result < 0) co_return failure(reactor, sent.result);
    for (unsigned strangers = 0; strangers < strangers_max; ++strangers) {
        auto receiving = reactor.submit("receive from a name server", [&](abi::SubmissionEntry& entry) {
            prepare::receive(entry, socket, exchange.datagram.data(), DnsExchange::datagram_bytes, 0);
        });
        const OperationResult received = co_await receiving;
        if (received.result < 0) co_return failure(reactor, received.result);
        const auto size = static_cast<std::size_t>(received.result);
        DnsReply reply = read_dns_reply(std::span(exchange.datagram).first(size), exchange.query_bytes(), question);
        if (reply.kind == DnsReplyKind::foreign) {
            counters.strangers.add();
            continue;
        }
        if (reply.kind == DnsReplyKind::wrong_case) {
            // Whoever guessed the id would guess the letters next.
            counters.strangers.add();
            break;
        }
        if (size == DnsExchange::datagram_bytes) reply.kind = DnsReplyKind::truncated;
        co_return replied(std::move(reply));
    }
    DnsOutcome outcome;
    outcome.end = DnsOutcome::End::unbelievable;
    co_return outcome;
}

/// Sends or receives all of it. 0, or the negative result that ended it; -EPIPE: the peer's end came first.
Task<int> transfer(Reactor& reactor, int socket, std::byte* data, std::size_t size, bool is_sending) {
    for (std::size_t done = 0; done < size;) {
        auto moving = reactor.submit(is_sending ? "send to a name server" : "receive from a name server",
                                     [&](abi::SubmissionEntry& entry) {
                                         const auto rest = static_cast<std::uint32_t>(size - done);
                                         if (is_sending) {
                                             prepare::send(entry, socket, data + done, rest, MSG_NOSIGNAL);
                                         } else {
                                             prepare::receive(entry, socket, data + done, rest, 0);
                                         }
                                     });
        const OperationResult moved = co_await moving;
        if (moved.result < 0) co_return moved.result;
        if (moved.result == 0) co_return -EPIPE;
        done += static_cast<std::size_t>(moved.result);
    }
    co_return 0;
}

Task<DnsOutcome> exchange_stream(Reactor& reactor, DnsExchange& exchange, const DnsQuestion& question, int socket,
                                 Address server) {
    auto connecting = reactor.submit("connect to a name server", [&](abi::SubmissionEntry& entry) {
        prepare::connect(entry, socket, server.data(), server.size());
    });
    const OperationResult connected = co_await connecting;
    if (connected.result < 0) co_return failure(reactor, connected.result);
    auto sending =
        transfer(reactor, socket, exchange.query.data(), DnsExchange::length_bytes + exchange.query_size, true);
    const int sent = co_await sending;
    if (sent < 0) co_return failure(reactor, sent);
    exchange.stream.resize(DnsExchange::length_bytes);
    auto receiving_length = transfer(reactor, socket, exchange.stream.data(), exchange.stream.size(), false);
    const int has_length = co_await receiving_length;
    if (has_length < 0) co_return failure(reactor, has_length);
    exchange.stream.resize(std::to_integer<std::size_t>(exchange.stream[0]) << 8 |
                           std::to_integer<std::size_t>(exchange.stream[1]));
    auto receiving = transfer(reactor, socket, exchange.stream.data(), exchange.stream.size(), false);
    const int received = co_await receiving;
    if (received < 0) co_return failure(reactor, received);
    DnsReply reply = read_dns_reply(exchange.stream, exchange.query_bytes(), question);
    // A connection has one question: what does not answer it is wrong, and there is nothing that holds more.
    if (reply.kind == DnsReplyKind::foreign || reply.kind == DnsReplyKind::wrong_case ||
        reply.kind == DnsReplyKind::truncated) {
        co_return malformed();
    }
    co_return replied(std::move(reply));
}

}  // namespace

void DnsExchange::prepare(const DnsQuestion& question, const DnsQueryOptions& options) noexcept {
    query_size = write_dns_query(std::span(query).subspan<length_bytes>(), question, options);
    query[0] = std::byte(query_size >> 8);
    query[1] = std::byte(query_size & 0xff);
}

Task<DnsOutcome> ask_by_udp(Reactor& reactor, DnsExchange& exchange, const DnsQuestion& question, Address server,
                            std::chrono::nanoseconds timeout, ResolverCounters& counters) {
    const ExchangeSocket socket(reactor.kernel(), server, SOCK_DGRAM);
    if (socket.number() < 0) co_return failure(reactor, socket.number());
    // Nothing is sent by it: the socket gets its random port, and takes nothing from anybody else. It does not block.
    if (const int connected = reactor.kernel().connect(socket.number(), server.data(), server.size()); connected < 0)
        co_return failure(reactor, connected);
    auto asking = with_deadline(exchange_datagrams(reactor, exchange, question, socket.number(), counters), timeout);
    co_return co_await asking;
}

Task<DnsOutcome> ask_by_tcp(Reactor& reactor, DnsExchange& exchange, const DnsQuestion& question, Address server,
                            std::chrono::nanoseconds timeout, ResolverCounters& counters) {
    counters.tcp_questions.add();
    const ExchangeSocket socket(reactor.kernel(), server, SOCK_STREAM);
    if (socket.number() < 0) co_return failure(reactor, socket.number());
    auto asking = with_deadline(exchange_stream(reactor, exchange, question, socket.number(), server), timeout);
    co_return co_await asking;
}

}  // namespace ferrule::inline v0
