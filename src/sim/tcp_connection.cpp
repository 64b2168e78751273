#include <ferrule/assert.hpp>

#include "sim/tcp_connection.hpp"
#include "sim/tcp_socket.hpp"

#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::uint64_t ns_per_second = 1'000'000'000;
// The retransmission timer's limits, and how often Linux tries: tcp_syn_retries, tcp_synack_retries, and
// tcp_retries2 with the wait after the last.
constexpr std::uint64_t first_retry_ns = 200'000'000;
constexpr std::uint64_t longest_retry_ns = 120 * ns_per_second;
constexpr std::uint32_t syn_retries = 6;
constexpr std::uint32_t syn_ack_retries = 5;
constexpr std::uint8_t data_retries = 16;
// How long the neighbour of an address that nobody has is asked for.
constexpr std::uint64_t no_neighbour_ns = 3 * ns_per_second;
constexpr std::uint64_t longest_stall_ns = 5 * ns_per_second;
constexpr std::uint64_t longest_close_delay_ns = 10'000'000;
constexpr std::uint32_t smallest_window = 1024;
constexpr std::uint32_t smallest_send_buffer = 2048;

constexpr std::uint32_t readable = POLLIN | POLLRDNORM;
constexpr std::uint32_t writable = POLLOUT | POLLWRNORM;

std::uint32_t draw_size(Random& random, std::uint32_t least, std::uint32_t most) {
    // Every order of magnitude is as likely as the other.
    const auto steps = static_cast<std::uint32_t>(std::bit_width(most / least));
    const std::uint32_t size = least << random.below(steps);
    return std::min(size, most);
}

bool has_room(std::uint64_t used, std::uint32_t send_buffer) noexcept {
    // sk_stream_is_writeable: a third is free.
    return used < send_buffer && (send_buffer - used) * 2 >= used;
}

}  // namespace

TcpConnection::TcpConnection(Network& network) : network_(network), world_(network.world()) {
    next_ = network_.first_connection_;
    if (next_ != nullptr) next_->previous_ = this;
    network_.first_connection_ = this;
    ++network_.connections_;
}

TcpConnection::~TcpConnection() {
    for (Stream& stream : streams_) {
        const std::uint64_t left = stream.bytes.last() - stream.bytes.first();
        network_.accounts_.lost += left;
        if (left != 0 && !aborted_) world_.finding("a TCP connection ended in order, and bytes of it never arrived");
    }
    if (next_ != nullptr) next_->previous_ = previous_;
    (previous_ != nullptr ? previous_->next_ : network_.first_connection_) = next_;
    --network_.connections_;
}

template <auto Handler>
void TcpConnection::at(std::uint64_t time_ns, Side side) {
    hold();
    world_.at(time_ns, [this, side] {
        (this->*Handler)(side);
        drop();
    });
}

// One way from `side` to the other.
template <auto Handler>
void TcpConnection::after_latency(Side side) {
    at<Handler>(world_.now_ns() + network_.draw_latency_ns(*end(side).host, *end(other(side)).host), side);
}

// ---- The handshake.

TcpConnection& TcpConnection::open(Host& host, TcpSocket& socket, PortClaim& claim, const TcpBuffers& buffers) {
    auto& connection = *new TcpConnection(host.network());
    End& client = connection.end(Side::client);
    client.host = &host;
    client.socket = &socket;
    client.claim.take(claim);
    client.state = TcpState::connecting;
    connection.resize(Side::client, buffers);
    connection.end(Side::server).host = host.network().find(host, client.claim.remote.address);
    connection.world_.trace("tcp connect", client.claim.local.port, client.claim.remote.port);
    connection.send_syn(Side::client);
    return connection;
}

void TcpConnection::resize(Side side, const TcpBuffers& buffers) {
    const NetworkOptions& options = network_.options();
    std::uint32_t& send_buffer = from(side).send_buffer;
    std::uint32_t& window = from(other(side)).receive_window;
    if (buffers.send_buffer != 0) {
        send_buffer = std::max(buffers.send_buffer, smallest_send_buffer);
    } else if (send_buffer == 0) {
        send_buffer = draw_size(world_.random(), options.send_buffer_min_bytes, options.send_buffer_max_bytes);
    }
    if (buffers.receive_window != 0) {
        window = std::max(buffers.receive_window, smallest_window);
    } else if (window == 0) {
        window = draw_size(world_.random(), options.receive_window_min_bytes, options.receive_window_max_bytes);
    }
}

void TcpConnection::send_syn(Side) {
    if (end(Side::client).state != TcpState::connecting) return;
    if (end(Side::server).host == nullptr) {
        at<&TcpConnection::no_such_host>(world_.now_ns() + no_neighbour_ns, Side::client);
    } else if (world_.fault(Fault::packet_lost)) {
        retry_syn();
    } else {
        after_latency<&TcpConnection::syn_arrives>(Side::client);
    }
}

void TcpConnection::retry_syn() {
    const std::uint64_t wait_ns = ns_per_second << syn_retries_;
    if (syn_retries_ == syn_retries) {
        at<&TcpConnection::give_up_connecting>(world_.now_ns() + wait_ns, Side::client);
    } else {
        ++syn_retries_;
        at<&TcpConnection::send_syn>(world_.now_ns() + wait_ns, Side::client);
    }
}

void TcpConnection::give_up_connecting(Side) {
    if (end(Side::client).state == TcpState::connecting) close_end(Side::client, ETIMEDOUT);
}

void TcpConnection::no_such_host(Side) {
    if (end(Side::client).state == TcpState::connecting) close_end(Side::client, EHOSTUNREACH);
}

void TcpConnection::refused(Side) {
    reset_received(Side::client);
}

void TcpConnection::syn_arrives(Side) {
    End& client = end(Side::client);
    End& server = end(Side::server);
    if (client.state != TcpState::connecting) return;
    if (!network_.reachable(*client.host, *server.host)) {
        retry_syn();
        return;
    }
    if (server.state == TcpState::none) {
        TcpSocket* listener = server.host->ports().select(client.claim.remote, client.claim.local);
        if (listener == nullptr) {
            after_latency<&TcpConnection::refused>(Side::server);
            return;
        }
        if (listener->queue().full()) {
            world_.trace("tcp backlog full", client.claim.remote.port);
            retry_syn();
            return;
        }
        listener_ = listener;
        queue_ = &listener->queue();
        server.state = TcpState::requested;
        resize(Side::server, listener->buffers());
        next_queued_ = queue_->first_request;
        if (next_queued_ != nullptr) next_queued_->previous_queued_ = this;
        queue_->first_request = this;
        hold();
    }
    after_latency<&TcpConnection::syn_ack_arrives>(Side::server);
}

void TcpConnection::syn_ack_arrives(Side) {
    End& client = end(Side::client);
    if (!network_.reachable(*end(Side::server).host, *client.host)) {
        if (client.state == TcpState::connecting) retry_syn();
        return;
    }
    if (client.state == TcpState::closed) {
        send_reset(Side::client);
        return;
    }
    const bool first = client.state == TcpState::connecting;
    client.state = TcpState::established;
    Stream& stream = from(Side::client);
    stream.last_arrival_ns = std::max(
        stream.last_arrival_ns, world_.now_ns() + network_.draw_latency_ns(*client.host, *end(Side::server).host));
    at<&TcpConnection::ack_arrives>(stream.last_arrival_ns, Side::client);
    if (!first) return;
    world_.trace("tcp connected", client.claim.local.port, client.claim.remote.port);
    transmit(Side::client);
    tell(Side::client, writable);
}

void TcpConnection::ack_arrives(Side) {
    if (end(Side::server).state != TcpState::established) complete_request(false);
}

bool TcpConnection::complete_request(bool with_data) {
    End& client = end(Side::client);
    End& server = end(Side::server);
    if (server.state == TcpState::closed) {
        // The listener has closed, or the request was given up: nobody knows this connection.
        send_reset(Side::server);
        return false;
    }
    const bool deferred = !with_data && request_retries_ < queue_->deferred;
    if (deferred || queue_->full() || !network_.reachable(*client.host, *server.host)) {
        start_request_timer();
        return false;
    }
    if (next_queued_ != nullptr) next_queued_->previous_queued_ = previous_queued_;
    (previous_queued_ != nullptr ? previous_queued_->next_queued_ : queue_->first_request) = next_queued_;
    next_queued_ = nullptr;
    previous_queued_ = queue_->last;
    (queue_->last != nullptr ? queue_->last->next_queued_ : queue_->first) = this;
    queue_->last = this;
    ++queue_->count;
    server.claim.join(listener_->claim(), client.claim.remote, client.claim.local);
    server.state = TcpState::established;
    world_.trace("tcp arrived", server.claim.local.port, server.claim.remote.port);
    listener_->notify(readable);
    return true;
}

void TcpConnection::start_request_timer() {
    if (request_timer_runs_) return;
    request_timer_runs_ = true;
    at<&TcpConnection::request_timer>(world_.now_ns() + (ns_per_second << request_retries_), Side::server);
}

// The SYN-ACK is sent again, and the client acknowledges it again.
void TcpConnection::request_timer(Side) {
    request_timer_runs_ = false;
    if (end(Side::server).state != TcpState::requested) return;
    ++request_retries_;
    if (request_retries_ > std::max(syn_ack_retries, queue_->deferred)) {
        forget_request();
    } else {
        complete_request(false);
    }
}

void TcpConnection::forget_request() noexcept {
    if (next_queued_ != nullptr) next_queued_->previous_queued_ = previous_queued_;
    (previous_queued_ != nullptr ? previous_queued_->next_queued_ : queue_->first_request) = next_queued_;
    next_queued_ = previous_queued_ = nullptr;
    queue_ = nullptr;
    listener_ = nullptr;
    End& server = end(Side::server);
    server.state = TcpState::closed;
    server.orphan = true;
    aborted_ = true;
    drop();
}

TcpConnection* TcpConnection::accept(AcceptQueue& queue) noexcept {
    TcpConnection* connection = queue.first;
    if (connection == nullptr) return nullptr;
    queue.first = connection->next_queued_;
    (queue.first != nullptr ? queue.first->previous_queued_ : queue.last) = nullptr;
    --queue.count;
    connection->next_queued_ = nullptr;
    connection->queue_ = nullptr;
    connection->listener_ = nullptr;
    return connection;
}

void TcpConnection::abandon(AcceptQueue& queue) {
    while (queue.first_request != nullptr) queue.first_request->forget_request();
    while (TcpConnection* connection = accept(queue)) {
        End& server = connection->end(Side::server);
        server.orphan = true;
        connection->drop_unread(Side::server);
        if (server.state == TcpState::established) connection->abort(Side::server);
        connection->drop();
    }
}

// ---- What the sockets ask for.

std::int64_t TcpConnection::send(Side side, std::span<const std::byte> bytes) {
    End& sender = end(side);
    Stream& stream = from(side);
    if (sender.error != 0 || sender.send_shut || sender.state == TcpState::closed) {
        const int error = take_error(side);
        return error != 0 ? -error : -EPIPE;
    }
    if (sender.state == TcpState::connecting) return -EAGAIN;
    if (bytes.empty()) return 0;
    const std::uint64_t used = stream.bytes.last() - stream.acknowledged;
    if (used >= stream.send_buffer) {
        stream.full = true;
        return -EAGAIN;
    }
    std::size_t size = std::min<std::size_t>(bytes.size(), stream.send_buffer - used);
    if (size > 1 && world_.fault(Fault::short_send)) size = 1 + world_.random().below(size - 1);
    stream.bytes.append(bytes.first(size));
    network_.accounts_.sent += size;
    if (!has_room(used + size, stream.send_buffer)) stream.full = true;
    transmit(side);
    return static_cast<std::int64_t>(size);
}

std::int64_t TcpConnection::receive(Side side, std::span<std::byte> into, int flags) {
    End& receiver = end(side);
    Stream& stream = from(other(side));
    if (into.empty()) return 0;
    const std::uint64_t there = stream.delivered - stream.bytes.first();
    if (there == 0) {
        if (receiver.finished) return 0;
        if (receiver.error != 0) return -take_error(side);
        if (receiver.receive_shut) return 0;
        return -EAGAIN;
    }
    std::size_t size = std::min<std::uint64_t>(into.size(), there);
    if (size > 1 && world_.fault(Fault::short_receive)) size = 1 + world_.random().below(size - 1);
    // With MSG_TRUNC, TCP throws away instead of copying: tcp(7).
    if ((flags & MSG_TRUNC) == 0) stream.bytes.copy(into.first(size));
    if ((flags & MSG_PEEK) == 0) {
        stream.bytes.drop(size);
        network_.accounts_.received += size;
        consumed(side);
    }
    return static_cast<std::int64_t>(size);
}

std::uint64_t TcpConnection::unread(Side side) const noexcept {
    const Stream& stream = streams_[index(other(side))];
    return stream.delivered - stream.bytes.first();
}

bool TcpConnection::input_finished(Side side) const noexcept {
    return streams_[index(other(side))].finish_delivered;
}

// tcp_poll of Linux.
std::uint32_t TcpConnection::readiness(Side side) const noexcept {
    const End& self = ends_[index(side)];
    const Stream& out = streams_[index(side)];
    std::uint32_t events = 0;
    if (self.state == TcpState::closed || (self.receive_shut && self.send_shut)) events |= POLLHUP;
    if (self.receive_shut) events |= readable | POLLRDHUP;
    if (self.state != TcpState::connecting) {
        if (unread(side) != 0) events |= readable;
        if (self.send_shut || has_room(out.bytes.last() - out.acknowledged, out.send_buffer)) events |= writable;
    }
    if (self.error != 0) events |= POLLERR;
    return events;
}

int TcpConnection::take_error(Side side) noexcept {
    return std::exchange(end(side).error, 0);
}

int TcpConnection::shutdown(Side side, int how) {
    End& self = end(side);
    if (self.state == TcpState::connecting) {
        close_end(side, 0);
        return 0;
    }
    if (self.state == TcpState::closed) return -ENOTCONN;
    if (how != SHUT_WR) self.receive_shut = true;
    if (how != SHUT_RD && !self.send_shut) {
        self.send_shut = true;
        from(side).finish_wanted = true;
        transmit(side);
    }
    tell(side, readiness(side));
    return 0;
}

void TcpConnection::release(Side side, bool reset) {
    End& self = end(side);
    self.socket = nullptr;
    self.reset_wanted = reset;
    if (self.state == TcpState::established && world_.fault(Fault::close_delayed)) {
        at<&TcpConnection::finish_release>(world_.now_ns() + world_.random().between(1, longest_close_delay_ns), side);
    } else {
        finish_release(side);
    }
    drop();
}

void TcpConnection::finish_release(Side side) {
    End& self = end(side);
    self.orphan = true;
    const bool left_unread = unread(side) != 0;
    drop_unread(side);
    if (self.state == TcpState::connecting) {
        close_end(side, 0);
    } else if (self.state == TcpState::established) {
        if (left_unread || self.reset_wanted) {
            abort(side);
        } else {
            self.receive_shut = true;
            if (!self.send_shut) {
                self.send_shut = true;
                from(side).finish_wanted = true;
                transmit(side);
            }
        }
    }
}

void TcpConnection::detach(Side side) noexcept {
    FERRULE_ASSERT(end(side).state == TcpState::closed);
    end(side).socket = nullptr;
    end(side).orphan = true;
    drop_unread(side);
    drop();
}

// ---- What travels.

// How much of `limit` bytes goes in one segment; `cut` is the burst's chance.
std::uint64_t TcpConnection::draw_length(std::uint64_t limit, std::uint64_t cut) {
    if (limit > 1 && world_.fault(Fault::small_segment)) return 1;
    const NetworkOptions& options = network_.options();
    if (cut >= options.cut_percent) return limit;
    if ((cut & 1) == 0) return std::min<std::uint64_t>(limit, options.maximum_segment_bytes);
    return 1 + world_.random().below(std::min<std::uint64_t>(limit, options.maximum_segment_bytes));
}

void TcpConnection::transmit(Side side) {
    End& sender = end(side);
    Stream& stream = from(side);
    if (sender.state != TcpState::established || stream.reset_sent) return;
    if (stream.sent != stream.bytes.last() && stream.segment_count < data_segments) {
        const std::uint64_t cut = world_.random().below(100);
        do {
            const std::uint64_t allowed = stream.bytes.first() + stream.receive_window;
            if (stream.sent >= allowed) {
                stream.window_closed = true;
                break;
            }
            const std::uint64_t limit = std::min(stream.bytes.last() - stream.sent, allowed - stream.sent);
            stream.sent += draw_length(limit, cut);
            push(side, {.end = stream.sent});
        } while (stream.sent != stream.bytes.last() && stream.segment_count < data_segments);
    }
    if (stream.finish_wanted && !stream.finish_sent && stream.sent == stream.bytes.last()) {
        stream.finish_sent = true;
        push(side, {.end = stream.sent, .finish = true});
    }
}

void TcpConnection::push(Side side, const Segment& segment) {
    Stream& stream = from(side);
    FERRULE_ASSERT(stream.segment_count < all_segments);
    std::uint64_t arrival_ns = world_.now_ns() + network_.draw_latency_ns(*end(side).host, *end(other(side)).host);
    if (!segment.reset) {
        if (world_.fault(Fault::packet_lost)) arrival_ns += first_retry_ns;
        if (world_.fault(Fault::peer_stalls)) arrival_ns += world_.random().between(1, longest_stall_ns);
    }
    stream.last_arrival_ns = std::max(stream.last_arrival_ns, arrival_ns);
    Segment& place = stream.segments[(stream.first_segment + stream.segment_count) % all_segments];
    place = segment;
    place.arrival_ns = stream.last_arrival_ns;
    ++stream.segment_count;
    schedule_delivery(side);
}

void TcpConnection::schedule_delivery(Side side) {
    Stream& stream = from(side);
    if (stream.delivery_scheduled || stream.segment_count == 0) return;
    stream.delivery_scheduled = true;
    at<&TcpConnection::deliver>(stream.segments[stream.first_segment].arrival_ns, side);
}

void TcpConnection::deliver(Side side) {
    Stream& stream = from(side);
    stream.delivery_scheduled = false;
    const std::uint64_t before = stream.delivered;
    const bool was_finished = stream.finish_delivered;
    while (stream.segment_count != 0 && stream.segments[stream.first_segment].arrival_ns <= world_.now_ns()) {
        if (!deliver_first(side)) break;
    }
    if (stream.delivered != before || stream.finish_delivered != was_finished) {
        End& receiver = end(other(side));
        if (receiver.state != TcpState::closed) {
            acknowledge(side);
            transmit(side);
        }
        world_.trace("tcp delivered", end(side).claim.local.port, end(other(side)).claim.local.port,
                     static_cast<std::int64_t>(stream.delivered - before));
        // A FIN changes the state, and that wakes everybody.
        tell(other(side), stream.finish_delivered != was_finished ? readiness(other(side)) : readable);
        close_both_if_finished();
    }
    schedule_delivery(side);
}

// False when what arrives first has to wait, or nothing is under way any more.
bool TcpConnection::deliver_first(Side side) {
    Stream& stream = from(side);
    End& receiver = end(other(side));
    const Segment segment = stream.segments[stream.first_segment];
    const bool reachable = network_.reachable(*end(side).host, *receiver.host);
    if (reachable && !segment.reset && receiver.state == TcpState::requested) {
        // Data carries the acknowledgement that the handshake waits for.
        if (!complete_request(true) && receiver.state == TcpState::requested) {
            delay_all(side);
            return false;
        }
    }
    if (!reachable && !segment.reset) {
        delay_all(side);
        return false;
    }
    stream.first_segment = static_cast<std::uint8_t>((stream.first_segment + 1) % all_segments);
    --stream.segment_count;
    stream.retries = 0;
    // A reset that nobody gets is not sent again.
    if (!reachable) return true;
    if (segment.reset) {
        reset_received(other(side));
        return true;
    }
    const std::uint64_t bytes = segment.end - stream.delivered;
    if (bytes != 0 && receiver.state == TcpState::established && world_.fault(Fault::peer_resets)) {
        reset_in_the_middle();
        return false;
    }
    stream.delivered = segment.end;
    if (receiver.state == TcpState::closed) {
        drop_unread(other(side));
        send_reset(other(side));
        return true;
    }
    if (bytes != 0 && (receiver.orphan || (receiver.receive_shut && receiver.send_shut && !receiver.finished))) {
        // Nobody can read it: TCP says so with a reset (RFC 1122, 4.2.2.13), and Linux takes one itself.
        drop_unread(other(side));
        close_end(other(side), ECONNRESET);
        send_reset(other(side));
        return true;
    }
    if (segment.finish) {
        stream.finish_delivered = true;
        receiver.finished = true;
        receiver.receive_shut = true;
    }
    return true;
}

// The path is down, or the listener has no room: what is under way is sent again later, in the same order.
void TcpConnection::delay_all(Side side) {
    Stream& stream = from(side);
    const std::uint64_t now_ns = world_.now_ns();
    if (stream.retries == 0) stream.first_retry_ns = now_ns;
    const std::uint64_t patience_ns = end(side).patience_ns;
    const bool out_of_patience = patience_ns != 0 && now_ns - stream.first_retry_ns >= patience_ns;
    if (stream.retries == data_retries || out_of_patience) {
        stream.segment_count = 0;
        aborted_ = true;
        if (end(side).state != TcpState::closed) close_end(side, ETIMEDOUT);
        return;
    }
    std::uint64_t again_ns = now_ns + std::min(first_retry_ns << stream.retries, longest_retry_ns);
    if (patience_ns != 0) again_ns = std::min(again_ns, stream.first_retry_ns + patience_ns);
    ++stream.retries;
    for (std::uint32_t at = 0; at < stream.segment_count; ++at) {
        Segment& segment = stream.segments[(stream.first_segment + at) % all_segments];
        segment.arrival_ns = std::max(segment.arrival_ns, again_ns);
    }
    stream.last_arrival_ns = std::max(stream.last_arrival_ns, again_ns);
}

// Acknowledgements travel only when somebody waits for one: the sender, whose buffer is full.
void TcpConnection::acknowledge(Side side) {
    Stream& stream = from(side);
    if (!stream.full) {
        stream.acknowledged = stream.delivered;
    } else if (!stream.acknowledgement_scheduled && stream.acknowledged != stream.delivered) {
        stream.acknowledgement_scheduled = true;
        at<&TcpConnection::acknowledgement_arrives>(
            world_.now_ns() + network_.draw_latency_ns(*end(other(side)).host, *end(side).host), side);
    }
}

void TcpConnection::acknowledgement_arrives(Side side) {
    Stream& stream = from(side);
    stream.acknowledgement_scheduled = false;
    if (end(side).state != TcpState::established) return;
    // A lost acknowledgement is made up for by the next one.
    if (!network_.reachable(*end(other(side)).host, *end(side).host)) {
        stream.acknowledgement_scheduled = true;
        at<&TcpConnection::acknowledgement_arrives>(world_.now_ns() + first_retry_ns, side);
        return;
    }
    stream.acknowledged = stream.delivered;
    if (!has_room(stream.bytes.last() - stream.acknowledged, stream.send_buffer)) return;
    stream.full = false;
    tell(side, writable);
}

// Linux announces a window that opens when half of it, or a segment, fits.
void TcpConnection::consumed(Side reader) {
    Stream& stream = from(other(reader));
    if (!stream.window_closed || stream.update_scheduled) return;
    const std::uint64_t allowed = stream.bytes.first() + stream.receive_window;
    const std::uint64_t opened = allowed > stream.sent ? allowed - stream.sent : 0;
    if (opened < std::min(stream.receive_window / 2, network_.options().maximum_segment_bytes)) return;
    stream.update_scheduled = true;
    at<&TcpConnection::window_opens>(
        world_.now_ns() + network_.draw_latency_ns(*end(reader).host, *end(other(reader)).host), other(reader));
}

void TcpConnection::window_opens(Side side) {
    Stream& stream = from(side);
    // The sender's probes ask again when the announcement is lost.
    if (!network_.reachable(*end(other(side)).host, *end(side).host)) {
        at<&TcpConnection::window_opens>(world_.now_ns() + first_retry_ns, side);
        return;
    }
    stream.update_scheduled = false;
    stream.window_closed = false;
    transmit(side);
}

// ---- Ends.

void TcpConnection::tell(Side side, std::uint32_t events) noexcept {
    if (end(side).socket != nullptr) end(side).socket->notify(events);
}

// A middlebox forgets the connection: both ends are told.
void TcpConnection::reset_in_the_middle() {
    aborted_ = true;
    for (const Side side : {Side::client, Side::server}) {
        Stream& stream = from(side);
        stream.segment_count = 0;
        network_.accounts_.lost += stream.bytes.last() - stream.delivered;
        stream.bytes.truncate(stream.delivered);
        stream.sent = stream.delivered;
    }
    reset_received(Side::client);
    reset_received(Side::server);
}

void TcpConnection::abort(Side side) {
    close_end(side, 0);
    send_reset(side);
}

void TcpConnection::send_reset(Side side) {
    Stream& stream = from(side);
    aborted_ = true;
    if (stream.reset_sent) return;
    stream.reset_sent = true;
    push(side, {.end = stream.sent, .reset = true});
}

// tcp_reset of Linux.
void TcpConnection::reset_received(Side side) {
    End& self = end(side);
    aborted_ = true;
    switch (self.state) {
        case TcpState::connecting:
            close_end(side, ECONNREFUSED);
            break;
        case TcpState::requested:
            forget_request();
            break;
        case TcpState::established:
            close_end(side, self.finished && !self.send_shut ? EPIPE : ECONNRESET);
            break;
        case TcpState::none:
        case TcpState::closed:
            break;
    }
}

void TcpConnection::close_end(Side side, int error) {
    End& self = end(side);
    Stream& stream = from(side);
    world_.trace("tcp closed", self.claim.local.port, self.claim.remote.port, error);
    self.state = TcpState::closed;
    self.error = error;
    self.receive_shut = self.send_shut = true;
    aborted_ = true;
    network_.accounts_.lost += stream.bytes.last() - stream.sent;
    stream.bytes.truncate(stream.sent);
    stream.finish_wanted = false;
    // What was bound by name stays the socket's.
    if (self.socket != nullptr && self.socket->bound_explicitly() && side == Side::client) {
        self.socket->claim().take(self.claim);
    } else {
        self.claim.release();
    }
    if (self.orphan) drop_unread(side);
    tell(side, readiness(side));
}

void TcpConnection::close_both_if_finished() {
    if (!from(Side::client).finish_delivered || !from(Side::server).finish_delivered) return;
    for (const Side side : {Side::client, Side::server}) {
        End& self = end(side);
        if (self.state != TcpState::established) continue;
        self.state = TcpState::closed;
        self.receive_shut = self.send_shut = true;
        self.claim.release();
        tell(side, readiness(side));
    }
}

void TcpConnection::drop_unread(Side reader) noexcept {
    Stream& stream = from(other(reader));
    const std::uint64_t left = stream.delivered - stream.bytes.first();
    if (left == 0) return;
    aborted_ = true;
    network_.accounts_.lost += left;
    stream.bytes.drop(left);
}

}  // namespace ferrule::inline v0::sim
