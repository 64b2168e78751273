#include <ferrule/http/session.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/scope.hpp>

#include "http/exchange.hpp"
#include "http/serve_service.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

namespace ferrule::inline v0::http::detail {

namespace {

Reactor& current_reactor() {
    Reactor* reactor = Reactor::current();
    if (reactor == nullptr) throw std::logic_error("http::serve: called on a thread that is no reactor's");
    return *reactor;
}

/// Throws std::invalid_argument, which names the option.
void check(const ServeOptions& options) {
    static_cast<void>(RequestParser(options.limits));
    static_cast<void>(ChunkedDecoder(options.limits));
    if (options.pipeline_limit == 0) throw std::invalid_argument("ServeOptions::pipeline_limit is 0");
    if (options.server.size() > ServeOptions::server_bytes_max || !is_field_value(options.server))
        throw std::invalid_argument("ServeOptions::server is no value of a field, or too long");
}

std::string_view text_of(ReadResult& received) noexcept {
    return received.contiguous().text();
}

/// A head that lies in two pieces is put together of so much of the second at first.
constexpr std::size_t joined_bytes_min = 2048;

Counter* refusals_of(ServeCounters& counters, Status status) noexcept {
    switch (status) {
        case Status::bad_request:
            return &counters.refusals_400;
        case Status::request_timeout:
            return &counters.refusals_408;
        case Status::length_required:
            return &counters.refusals_411;
        case Status::content_too_large:
            return &counters.refusals_413;
        case Status::uri_too_long:
            return &counters.refusals_414;
        case Status::expectation_failed:
            return &counters.refusals_417;
        case Status::request_header_fields_too_large:
            return &counters.refusals_431;
        case Status::not_implemented:
            return &counters.refusals_501;
        case Status::service_unavailable:
            return &counters.refusals_503;
        case Status::http_version_not_supported:
            return &counters.refusals_505;
        default:
            return nullptr;
    }
}

void count_response(ServeCounters& counters, Status status) noexcept {
    const std::uint16_t code = code_of(status);
    if (code < 300) [[likely]] {
        (code >= 200 ? counters.responses_2xx : counters.responses_1xx).add();
    } else {
        (code < 400 ? counters.responses_3xx : code < 500 ? counters.responses_4xx : counters.responses_5xx).add();
    }
}

}  // namespace

// ---- the connection ----

Session::Session(Environment& inherited, const ServeOptions& options)
    : output_(*this),
      options_(&options),
      service_(&ServeService::of(current_reactor())),
      inherited_(&inherited),
      scope_(scope_here(inherited)),
      environment_{&scope_, &service_->reactor(), inherited.trace} {
    check(options);
    timer_.route = service_->timer_route();
    beside_.ended = &beside_ended;
    service_->connection_begins();
}

Session::~Session() {
    if (exchange_ != nullptr) ServeService::discard_exchange(exchange_);
    if (timer_.armed()) service_->reactor().timers().disarm(timer_);
    service_->connection_ends();
}

void Session::take_exchange() {
    exchange_ = service_->take_exchange(*this, options_->limits);
    request_ = &exchange_->request;
    response_ = &exchange_->response;
}

/// No request is there, nor the beginning of one.
void Session::give_back_exchange() noexcept {
    service_->keep_exchange(std::exchange(exchange_, nullptr));
    request_ = nullptr;
    response_ = nullptr;
}

SharedBytes& Session::shared_body() noexcept {
    return exchange_->shared_body;
}

void Session::abandon() noexcept {
    service_->counters.aborts.add();
    aborts_ = closing_ = true;
}

// ---- what has come ----

void Session::begin(ByteSequence received) {
    deadline_ns_ = 0;
    answered_ = 0;
    draining_ = draining();
    show(received);
}

/// The view is the first piece of it.
void Session::show(ByteSequence there) noexcept {
    const Slice first = *there.begin();
    view_ = first.text().data();
    view_bytes_ = first.size();
    offset_ = 0;
    view_is_all_ = first.size() == there.size();
}

/// There is no view until the next piece is asked for.
void Session::drop_view() noexcept {
    view_bytes_ = offset_ = 0;
    view_is_all_ = false;
}

/// The view is used up: the next piece of what is there. False: there is none.
bool Session::next_view() {
    if (view_is_all_) return false;
    if (view_bytes_ != 0) consume(view_bytes_, view_bytes_);
    drop_view();
    const ByteSequence there = buffered();
    if (!there) return false;
    show(there);
    return true;
}

/// The view ends within a head: with more of what is there behind it. False: that is all.
bool Session::extend_view() {
    if (offset_ != 0) consume(offset_, offset_);
    const std::size_t bytes = view_bytes_ - std::exchange(offset_, 0);
    const ByteSequence there = buffered();
    if (there.size() == bytes) {
        show(there);
        return false;
    }
    const Slice joined =
        there.contiguous(std::min(there.size(), bytes + std::max<std::size_t>(bytes, joined_bytes_min)));
    if (joined.empty()) {
        refuse(Status::service_unavailable, "there is no memory for the request");
        return false;
    }
    view_ = joined.text().data();
    view_bytes_ = joined.size();
    view_is_all_ = joined.size() == there.size();
    return true;
}

bool Session::next_request() {
    if (closing_) [[unlikely]]
        return false;
    if (exchange_ == nullptr) take_exchange();
    for (;;) {
        if (offset_ == view_bytes_ && !next_view()) return false;
        if (answered_ >= options_->pipeline_limit ||
            (answered_ != 0 && output_.window_bytes() + unsent() > options_->staged_limit)) [[unlikely]]
            return false;
        const std::string_view bytes{view_ + offset_, view_bytes_ - offset_};
        switch (exchange_->parser.parse(bytes, exchange_->fields())) {
            case ParseState::complete:
                return begin_request(bytes);
            case ParseState::incomplete:
                partial_head_ = true;
                if (!extend_view()) return false;
                break;
            case ParseState::refused:
                partial_head_ = false;
                refuse(exchange_->parser.refusal());
                return false;
        }
    }
}

bool Session::begin_request(std::string_view bytes) {
    Exchange& exchange = *exchange_;
    const RequestParser& parser = exchange.parser;
    partial_head_ = false;
    head_due_ns_ = 0;
    ++requests_;
    request_->head_ = RequestHead(bytes, parser, exchange.fields());
    response_->discards_ = parser.method() == Method::head;
    const std::size_t head_size = parser.head_size();
    request_end_ = offset_ + head_size;
    const BodyFraming framing = parser.framing();
    if (framing != BodyFraming::none) {
        if (!begin_body(bytes)) return false;
    } else if (parser.wants_upgrade() || parser.method() == Method::connect) [[unlikely]] {
        // What is behind the head may be for another protocol.
        if (!keep_head(head_size)) return false;
    }
    const std::string_view target = request_->target();
    if (std::memchr(target.data(), '%', target.size()) != nullptr && !request_->decode_path()) [[unlikely]] {
        refuse(Status::bad_request, "the path has an escape that means nothing");
        return false;
    }
    return true;
}

bool Session::begin_body(std::string_view bytes) {
    Exchange& exchange = *exchange_;
    const RequestParser& parser = exchange.parser;
    Body& body = exchange.body;
    const std::size_t head_size = parser.head_size();
    body.credit_ns = nanoseconds(options_->body_rate_window);
    body.continue_wanted = parser.expects_continue();
    if (parser.framing() == BodyFraming::length) {
        const std::uint64_t length = parser.content_length();
        if (length > options_->body_limit) {
            refuse(Status::content_too_large, "the body is too large");
            return false;
        }
        if (length <= bytes.size() - head_size) {
            body.state = Body::State::in_place;
            body.piece = bytes.substr(head_size, length);
            body.continue_wanted = false;
            request_end_ += length;
            service_->counters.body_bytes.add(length);
            return true;
        }
        body.state = Body::State::length;
        body.remaining = length;
        return keep_head(head_size);
    }
    if (options_->length_required) {
        refuse(Status::length_required, "the body does not say its length");
        return false;
    }
    body.state = Body::State::chunked;
    body.decoder.emplace(options_->limits);
    return keep_head(head_size);
}

/// The head stays where it is while what is behind it is read.
bool Session::keep_head(std::size_t head_size) {
    if (offset_ != 0) consume(offset_, offset_);
    exchange_->head = take(head_size);
    drop_view();
    if (!exchange_->head) {
        refuse(Status::service_unavailable, "there is no memory for the request");
        return false;
    }
    request_->head_ = RequestHead(text_of(exchange_->head), exchange_->parser, exchange_->fields());
    if (exchange_->body.state == Body::State::chunked && options_->keep_trailers)
        exchange_->body.trailers = request_->memory(options_->limits.trailer_bytes);
    return true;
}

void Session::refuse(Refusal refusal) {
    refuse(status_of(refusal), text_of(refusal));
}

/// There is no handler for this. Earlier requests are answered, and nothing comes behind it.
void Session::refuse(Status status, std::string_view why) {
    if (Counter* counter = refusals_of(service_->counters, status)) counter->add();
    closing_ = true;
    exchange_->body.state = Body::State::failed;  // nobody knows what else comes
    answer_error(status, why);
    static_cast<void>(output_.finish());
}

/// In the place of a response of which nothing is made.
void Session::answer_error(Status status, std::string_view why) {
    response_->forget();
    response_->discards_ = exchange_->parser.method() == Method::head;
    response_->status_ = status;
    response_->header("Content-Type", "text/plain; charset=utf-8");
    const std::span<char> body = request_->memory(why.size() + 1);
    std::copy(why.begin(), why.end(), body.begin());
    body.back() = '\n';
    response_->send(std::string_view{body.data(), body.size()});
    count_response(service_->counters, status);
}

bool Session::end_batch() {
    output_.commit();
    if (closing_) return false;
    if (!partial_head_) {
        if (offset_ != 0 || view_bytes_ != 0) consume(offset_, offset_);
        give_back_exchange();
        return unsent() != 0;
    }
    consume(offset_, offset_ + buffered().size());
    const std::size_t waits = unsent();
    if (waits == 0 || waits > options_->staged_limit) return waits != 0;
    // The rest of it is probably on its way, and its answer leaves with these when it comes in this pass.
    flush_beside();
    return false;
}

void Session::read_ended() {
    closing_ = true;
    const EndReason reason = end_reason();
    const bool late = expired_ || reason == EndReason::deadline;
    if (!partial_head_) {
        if (late) service_->counters.idle_timeouts.add();
        return;
    }
    if (late) {
        refuse(Status::request_timeout, "the request did not come in time");
    } else if (reason == EndReason::end_of_stream) {
        refuse(Status::bad_request, "the request has no end");
    } else if (reason == EndReason::limit) {
        refuse(Status::service_unavailable, "there is no memory for the request");
    }
}

// ---- handlers ----

Environment& Session::handler_environment(Environment& inherited) noexcept {
    return options_->handler_timeout.count() > 0 ? environment_ : inherited;
}

void Session::handler_waits() {
    service_->counters.handlers.add();
    handler_waits_ = true;
    if (upgraded_) return;
    output_.wait(response_->ended());
    if (options_->handler_timeout.count() > 0) {
        handler_due_ns_ = service_->reactor().now_ns() + nanoseconds(options_->handler_timeout);
        set_deadline(deadline_ns_ != 0 ? std::min(deadline_ns_, handler_due_ns_) : handler_due_ns_);
    }
    if (unsent() != 0) flush_beside();
}

void Session::handler_failed(std::exception_ptr failure) noexcept {
    service_->counters.failures.add();
    service_->reactor().fault(std::move(failure));
    if (upgraded_) return;
    try {
        if (response_->restart()) {
            response_->status_ = Status::internal_server_error;
            response_->send("the handler has failed\n");
            return;
        }
    } catch (...) {
        // There is no memory to say so.
    }
    abandon();
}

bool Session::finish_request() {
    const bool refused = handler_waits_ && handler_waited();
    if (failed_ || upgraded_ || aborts_) [[unlikely]] {
        if (!upgraded_ && !aborts_) abandon();  // nobody is to take what has left for the whole
        return true;
    }
    Exchange& exchange = *exchange_;
    if (refused) [[unlikely]] {
        // It has been answered.
    } else if (exchange.body.state == Body::State::failed) [[unlikely]] {
        body_failed();
    } else {
        response_->end();
        count_response(service_->counters, response_->status_);
    }
    if (aborts_) [[unlikely]]
        return true;
    ++answered_;
    if (!closing_ && !body_read()) [[unlikely]]
        return false;
    if (!output_.finish() || exchange.shared_body || response_->end_waits_) [[unlikely]]
        return false;
    next_exchange();
    return true;
}

/// Whether it was answered for, because it took too long and had not begun to.
bool Session::handler_waited() {
    handler_waits_ = false;
    service_->counters.handlers.subtract();
    deadline_ns_ = 0;
    const bool late = std::exchange(handler_due_ns_, 0) != 0 && expired_;
    if (!late) return false;
    service_->counters.handler_timeouts.add();
    closing_ = true;
    if (upgraded_ || aborts_ || response_->begun()) return false;
    refuse(Status::service_unavailable, "the answer took too long");
    return true;
}

Task<> Session::finish_slowly() {
    if (!closing_ && !body_read()) {
        auto skipping = finish_body();
        co_await std::move(skipping);
    }
    auto pushing = push_output(false);
    auto pushed = co_await std::move(pushing);
    if (pushed && response_->end_waits_) {
        static_cast<void>(response_->end_chunks());
        auto rest = push_output(false);
        pushed = co_await std::move(rest);
    }
    if (!pushed) {
        abandon();
        co_return;
    }
    static_cast<void>(output_.finish());
    exchange_->shared_body.reset();
    if (!closing_) next_exchange();
}

/// The answer is made, and the body has not been read. Its end waits for that of the body: a proxy that has the one may
/// take the connection for free, whatever it owes of the other, and what comes next would be read as the rest of the
/// body (HAProxy 2.6 does). Where it cannot wait, nothing is read behind it.
Task<> Session::finish_body() {
    const Exchange& exchange = *exchange_;
    if (exchange.body.continue_wanted || output_.left() || exchange.shared_body || response_->end_waits_) {
        // Nobody knows whether the body comes, or the answer has left.
        closing_ = true;
        co_return;
    }
    output_.wait(false);
    if (unsent() != 0) flush_beside();
    auto skipping = skip_body();
    co_await std::move(skipping);
}

/// Reads what the handler has left of the body.
Task<> Session::skip_body() {
    std::uint64_t skipped = 0;
    while (!closing_ && !body_read()) {
        if (!piece_at_hand()) {
            auto waiting = wait_for_piece();
            co_await std::move(waiting);
        }
        skipped += std::exchange(exchange_->body.piece, {}).size();
        consume_piece();
        if (skipped > options_->unread_limit || exchange_->body.state == Body::State::failed) closing_ = true;
    }
}

/// This one is answered.
void Session::next_exchange() noexcept {
    Exchange& exchange = *exchange_;
    if (exchange.head) [[unlikely]] {
        consume_piece();
        if (exchange.body.in_message) end_message();
        exchange.body = Body{};
        exchange.head.reset();
        drop_view();
    } else {
        offset_ = request_end_;
    }
    exchange.parser.reset();
    if (exchange.body.state != Body::State::complete) exchange.body.state = Body::State::complete;
    exchange.body.piece = {};
    request_->restart();
    response_->forget();
}

bool Session::closes_behind(bool whole) noexcept {
    const Body& body = exchange_->body;
    if (output_.waited()) draining_ = draining();
    if (!request_->head_.parser().keep_alive() || response_->close_wanted_ || draining_ || expired_ ||
        requests_ == options_->requests_per_connection)
        closing_ = true;
    // Of a body that nobody reads any more.
    if (whole && body.state != Body::State::complete && body.state != Body::State::in_place &&
        (body.continue_wanted || (body.state == Body::State::length && body.remaining > options_->unread_limit)))
        closing_ = true;
    return closing_;
}

bool Session::client_may_send() const noexcept {
    return exchange_ != nullptr && (exchange_->parser.keep_alive() || !body_read());
}

// ---- flushes beside the loop ----

void Session::refuse_second_flush() {
    throw std::logic_error("a second flush of a response while one is awaited");
}

void Session::flush_beside() {
    if (beside_.runs) return;
    beside_.task = flush_aside();
    beside_.runs = true;
    beside_.task.start_observed(*inherited_, beside_);
}

void Session::stop_beside() noexcept {
    beside_.task = {};
    beside_.runs = false;
}

std::coroutine_handle<> Session::beside_ended(ferrule::detail::Completion& completion, PromiseBase&, bool) noexcept {
    auto& beside = static_cast<Beside&>(completion);
    beside.runs = false;
    if (beside.waiter) return std::exchange(beside.waiter, nullptr);
    return std::noop_coroutine();
}

// ---- deadlines ----

void Session::set_deadline(std::uint64_t due_ns) {
    deadline_ns_ = due_ns;
    if (armed_ns_ != 0 && armed_ns_ <= due_ns) [[likely]]
        return;
    service_->reactor().timers().arm(timer_, due_ns);
    armed_ns_ = due_ns;
}

void Session::on_due() noexcept {
    armed_ns_ = 0;
    if (deadline_ns_ == 0) return;
    if (service_->reactor().now_ns() < deadline_ns_) {
        try {
            set_deadline(deadline_ns_);
            return;
        } catch (const std::bad_alloc&) {
            // It is early then.
        }
    }
    expired_ = true;
    scope_.cancel(CancelReason::deadline);
}

void Session::wait_for_request() {
    const std::uint64_t now_ns = service_->reactor().now_ns();
    if (!partial_head_) {
        if (options_->idle_timeout.count() > 0) set_deadline(now_ns + nanoseconds(options_->idle_timeout));
        return;
    }
    if (options_->head_timeout.count() <= 0) return;
    if (head_due_ns_ == 0) head_due_ns_ = now_ns + nanoseconds(options_->head_timeout);
    set_deadline(head_due_ns_);
}

}  // namespace ferrule::inline v0::http::detail
