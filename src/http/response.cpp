#include <ferrule/assert.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/http/session.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/log.hpp>

#include "http/characters.hpp"
#include "http/exchange.hpp"
#include "http/serve_service.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>
#include <utility>

namespace ferrule::inline v0::http {

namespace {

constexpr std::string_view end_of_line = "\r\n";
constexpr std::string_view version = "HTTP/1.1 ";
constexpr std::string_view length_name = "Content-Length: ";
constexpr std::string_view close_line = "Connection: close\r\n";
constexpr std::string_view keep_alive_line = "Connection: keep-alive\r\n";
// These are as long as each other: a length that is not known at first leaves room for what takes its place.
constexpr std::string_view length_later = "Content-Length:           ";
constexpr std::string_view is_chunked = "Transfer-Encoding: chunked";
static_assert(length_later.size() == is_chunked.size());

/// Lines but those of headers: the status with its reason, the date, the length, and what becomes of the connection.
constexpr std::size_t own_lines_bytes = 64 + 37 + 38 + 24 + 2;
/// The longest reason that a status may have.
constexpr std::size_t reason_bytes_max = 48;
/// A body up to here is copied behind its head; a larger one goes to the stream by itself.
constexpr std::size_t copied_bytes_max = 4096;

/// `0000002a` and a line's end: a chunk that is open leaves so much room for its size.
constexpr std::size_t chunk_digits = 8;
constexpr std::size_t chunk_head_bytes = chunk_digits + end_of_line.size();
constexpr std::string_view last_chunk = "0\r\n";
static_assert(chunk_head_bytes + end_of_line.size() + last_chunk.size() + end_of_line.size() <=
              detail::Output::slack_bytes);

void write_chunk_head(char* at, std::size_t size) noexcept {
    static constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t place = chunk_digits; place != 0; --place, size >>= 4) at[place - 1] = digits[size & 15];
    std::memcpy(at + chunk_digits, end_of_line.data(), end_of_line.size());
}

char* put(char* at, std::string_view text) noexcept {
    if (text.empty()) return at;  // it may be nowhere
    std::memcpy(at, text.data(), text.size());
    return at + text.size();
}

char* put_number(char* at, std::uint64_t number) noexcept {
    return std::to_chars(at, at + 20, number).ptr;
}

char* put_line(char* at, std::string_view name, std::string_view value) noexcept {
    at = put(put(put(at, name), ": "), value);
    return put(at, end_of_line);
}

std::span<const std::byte> bytes_of(std::string_view text) noexcept {
    return std::as_bytes(std::span{text});
}

std::string quoted(std::string_view name) {
    std::string text = "the field `";
    for (const char letter : name.substr(0, 64)) text += letter >= ' ' && letter <= '~' ? letter : '?';
    return text + '`';
}

/// Those that the server sets itself.
bool is_managed(std::string_view name) noexcept {
    switch (name.size()) {
        case 4:
            return same_name(name, "date");
        case 7:
            return same_name(name, "upgrade") || same_name(name, "trailer");
        case 10:
            return same_name(name, "connection") || same_name(name, "keep-alive");
        case 14:
            return same_name(name, "content-length");
        case 17:
            return same_name(name, "transfer-encoding");
        default:
            return false;
    }
}

/// Those that say where a message ends, whom it is for or from, or how it is to be read (RFC 9110, section 6.5.1).
bool belongs_in_front(std::string_view name) noexcept {
    switch (known_field_of(name)) {
        case KnownField::authorization:
        case KnownField::cache_control:
        case KnownField::content_encoding:
        case KnownField::content_range:
        case KnownField::content_type:
        case KnownField::cookie:
        case KnownField::expires:
        case KnownField::host:
        case KnownField::location:
        case KnownField::proxy_authenticate:
        case KnownField::proxy_authorization:
        case KnownField::retry_after:
        case KnownField::set_cookie:
        case KnownField::te:
        case KnownField::vary:
        case KnownField::www_authenticate:
            return true;
        default:
            return false;
    }
}

}  // namespace

// ---- what comes before the body ----

void Response::check_not_begun(const char* call) const {
    if (form_ != Form::none) [[unlikely]]
        throw std::logic_error(std::string(call) + ": the response has begun");
}

void Response::status(Status status) {
    check_not_begun("Response::status");
    if (code_of(status) < 200 || code_of(status) > 599)
        throw std::invalid_argument("Response::status: " + std::to_string(code_of(status)) + " is no final status");
    status_ = status;
    said_ = true;
}

/// The value as it is sent.
std::string_view Response::checked(std::string_view name, std::string_view value, bool behind) {
    if (!is_token(name)) throw InvalidField(quoted(name) + " has a name that is no token");
    if (is_managed(name) || (behind && belongs_in_front(name)))
        throw InvalidField(quoted(name) + (is_managed(name) ? " is set by the server" : " cannot be a trailer"));
    return checked_value(name, value);
}

std::string_view Response::checked_value(std::string_view name, std::string_view value) {
    const std::string_view sent = trimmed(value);
    if (!is_field_value(sent)) [[unlikely]]
        throw InvalidField(quoted(name) + " has a control character in its value");
    return sent;
}

void Response::add_line(Lines& lines, std::string_view name, std::string_view value) {
    const std::size_t bytes = name.size() + value.size() + 4;
    if (headers_.size + trailers_.size + bytes > headers_bytes_max) [[unlikely]]
        throw std::length_error("more headers than a response may have");
    if (bytes > lines.capacity - lines.size) {
        const std::size_t capacity = std::max<std::size_t>(lines.size + bytes, std::size_t{lines.capacity} * 2);
        char* larger = session_->request().memory(capacity).data();
        if (lines.size != 0) std::memcpy(larger, lines.data, lines.size);
        lines.data = larger;
        lines.capacity = static_cast<std::uint32_t>(capacity);
    }
    put_line(lines.data + lines.size, name, value);
    lines.size += static_cast<std::uint32_t>(bytes);
}

void Response::header(std::string_view name, std::string_view value) {
    check_not_begun("Response::header");
    add_header(name, checked(name, value, false));
}

void Response::content_type(std::string_view type) {
    check_not_begun("Response::content_type");
    constexpr std::string_view name = "Content-Type";
    add_header(name, checked_value(name, type));
}

void Response::add_header(std::string_view name, std::string_view value) {
    if (headers_.data == nullptr) headers_ = {first_lines_.data(), 0, static_cast<std::uint32_t>(first_lines_.size())};
    add_line(headers_, name, value);
    said_ = true;
}

bool Response::trailer(std::string_view name, std::string_view value) {
    const std::string_view sent = checked(name, value, true);
    if (session_->request().version() == Version::http_1_0 || measured_) return false;
    if (form_ != Form::none && form_ != Form::chunked) return false;
    add_line(trailers_, name, sent);
    said_ = true;
    return true;
}

void Response::content_length(std::uint64_t bytes) {
    check_not_begun("Response::content_length");
    measured_ = said_ = true;
    length_ = bytes;
}

bool Response::informational(Status status, std::initializer_list<Field> fields) {
    check_not_begun("Response::informational");
    if (!is_informational(status) || status == Status::continue_)
        throw std::invalid_argument("Response::informational: " + std::to_string(code_of(status)) + " is none");
    std::size_t bytes = version.size() + 3 + reason_bytes_max + 2 * end_of_line.size() + 1;
    for (const Field& field : fields) bytes += field.name.size() + checked(field.name, field.value, false).size() + 4;
    if (session_->request().version() == Version::http_1_0) return false;
    const std::span<char> memory = session_->request().memory(bytes);
    char* at = put(memory.data(), version);
    at = put(put_number(at, code_of(status)), " ");
    at = put(put(at, reason_of(status)), end_of_line);
    for (const Field& field : fields) at = put_line(at, field.name, trimmed(field.value));
    at = put(at, end_of_line);
    session_->output_.commit();
    const std::string_view text{memory.data(), static_cast<std::size_t>(at - memory.data())};
    if (session_->writable() < text.size() || !session_->write(bytes_of(text))) return false;
    session_->service_->counters.responses_1xx.add();
    return true;
}

std::size_t Response::head_bound() const noexcept {
    return own_lines_bytes + session_->options_->server.size() + 10 + headers_.size + trailers_.size + 16;
}

/// Says which trailers there will be.
char* Response::put_trailer_names(char* at) const noexcept {
    std::string_view lines{trailers_.data, trailers_.size};
    at = put(at, "Trailer: ");
    while (!lines.empty()) {
        at = put(put(at, lines.substr(0, lines.find(':'))), ", ");
        lines.remove_prefix(lines.find(end_of_line) + end_of_line.size());
    }
    return put(at - 2, end_of_line);
}

/// Writes status and headers, for which there is room.
void Response::put_head(Length length, std::uint64_t bytes) {
    detail::Session& session = *session_;
    detail::Output& output = session.output_;
    char* const begin = output.at();
    char* at = begin;
    const std::string_view ok = session.service_->ok_lines();
    if (status_ == Status::ok) [[likely]] {
        at = put(at, ok);
    } else {
        at = put(put_number(put(at, version), code_of(status_)), " ");
        at = put(put(at, reason_of(status_)), end_of_line);
        at = put(at, session.service_->date_line());
    }
    if (!session.options_->server.empty()) at = put_line(at, "Server", session.options_->server);
    if (headers_.size != 0) at = put(at, {headers_.data, headers_.size});
    // Whoever answers piece by piece may still be reading.
    const bool whole = length == Length::exact && !measured_;
    const bool closes = session.closes_behind(whole) || length == Length::until_close;
    switch (length) {
        case Length::exact:
            if (has_no_body(status_)) break;
            at = put(put_number(put(at, length_name), bytes), end_of_line);
            break;
        case Length::later:
            length_at_ = static_cast<std::uint32_t>(at - output.response());
            at = put(put(at, length_later), end_of_line);
            break;
        case Length::chunked:
            at = put(put(at, is_chunked), end_of_line);
            if (trailers_.size != 0) at = put_trailer_names(at);
            break;
        case Length::until_close:
            session.closing_ = true;
            break;
    }
    if (closes) {
        at = put(at, close_line);
    } else if (session.request().version() == Version::http_1_0) {
        at = put(at, keep_alive_line);
    }
    at = put(at, end_of_line);
    output.advance(static_cast<std::size_t>(at - begin));
    body_at_ = static_cast<std::uint32_t>(at - output.response());
}

// ---- a body that is there as a whole ----

/// The head of such a body, with room behind it for so much as is copied there. Whether the body itself follows.
bool Response::begin_send(std::size_t bytes, std::size_t copied) {
    check_not_begun("Response::send");
    if (trailers_.size != 0) throw std::logic_error("Response::send: trailers are for a body that is written");
    if (measured_ && length_ != bytes) throw std::logic_error("Response::send: a body of another length");
    const bool resets = status_ == Status::reset_content;
    const bool follows = !discards_ && !has_no_body(status_) && !resets;
    const bool room = session_->output_.reserve(head_bound() + (follows ? copied : 0));
    FERRULE_ASSERT(room);
    put_head(Length::exact, resets ? 0 : bytes);
    form_ = Form::sent;
    return follows;
}

/// Whether the stream takes so many bytes behind the head now.
bool Response::takes_apart(std::size_t bytes) {
    detail::Output& output = session_->output_;
    output.commit();
    return (!output.in_block() || output.push()) && session_->writable() >= bytes;
}

void Response::send(std::string_view body) {
    const bool is_copied = body.size() <= copied_bytes_max;
    if (!begin_send(body.size(), is_copied ? body.size() : 0)) return;
    if (is_copied) {
        session_->output_.put(body);
    } else if (takes_apart(body.size()) && session_->write(bytes_of(body))) {
        session_->output_.wrote();
    } else {
        // It is written as there is room, when the handler has ended and the bytes may be gone.
        session_->exchange_->shared_body = SharedBytes::copy(body);
    }
}

void Response::send(const SharedBytes& body) {
    if (body.size() <= copied_bytes_max) {
        send(body.slice().text());
    } else if (begin_send(body.size(), 0)) {
        if (takes_apart(body.size()) && session_->write_shared(body)) {
            session_->output_.wrote();
        } else {
            session_->exchange_->shared_body = body;
        }
    }
}

// ---- a body that is made piece by piece ----

/// The first bytes of it are here, so many.
void Response::begin_body(std::size_t bytes) {
    if (has_no_body(status_) || status_ == Status::reset_content) discards_ = true;
    if (discards_) {
        form_ = Form::gathered;
        return;
    }
    if (measured_ || trailers_.size != 0) {
        begin_stream();
        return;
    }
    detail::Output& output = session_->output_;
    const std::size_t wanted = head_bound() + bytes;
    const bool room = output.reserve(wanted <= detail::Output::piece_bytes_max ? wanted : head_bound());
    FERRULE_ASSERT(room);
    put_head(Length::later, 0);
    form_ = Form::gathered;
}

/// A body that is not gathered, from its beginning.
void Response::begin_stream() {
    detail::Output& output = session_->output_;
    const bool room = output.reserve(head_bound());
    FERRULE_ASSERT(room);
    if (measured_) {
        put_head(Length::exact, length_);
        form_ = Form::measured;
    } else if (session_->request().version() == Version::http_1_0) {
        put_head(Length::until_close, 0);
        form_ = Form::until_close;
    } else {
        put_head(Length::chunked, 0);
        form_ = Form::chunked;
    }
    if (!discards_) output.move_to_block();
}

/// It was gathered and cannot be any longer: its length will not be known.
void Response::become_streamed() {
    detail::Output& output = session_->output_;
    output.move_to_block();
    char* const length = output.response() + length_at_;
    if (session_->request().version() == Version::http_1_0) {
        // Nothing is said of a length, and the line behind it says that the connection ends here.
        char* rest = length + length_later.size() + end_of_line.size();
        char* into = length;
        if (std::memcmp(rest, keep_alive_line.data(), keep_alive_line.size()) == 0) {
            rest += keep_alive_line.size();
            into = put(into, close_line);
        }
        std::memmove(into, rest, static_cast<std::size_t>(output.at() - rest));
        output.retreat(static_cast<std::size_t>(rest - into));
        session_->closing_ = true;
        form_ = Form::until_close;
        return;
    }
    std::memcpy(length, is_chunked.data(), is_chunked.size());
    form_ = Form::chunked;
    // What was gathered is the first chunk.
    char* const body = output.response() + body_at_;
    const auto gathered = static_cast<std::size_t>(output.at() - body);
    std::memmove(body + chunk_head_bytes, body, gathered);
    output.advance(chunk_head_bytes);
    chunk_at_ = body_at_;
    chunk_open_ = true;
}

void Response::open_chunk() noexcept {
    detail::Output& output = session_->output_;
    chunk_at_ = static_cast<std::uint32_t>(output.response_bytes());
    output.advance(chunk_head_bytes);
    chunk_open_ = true;
}

void Response::seal_chunk() noexcept {
    if (!chunk_open_) return;
    chunk_open_ = false;
    detail::Output& output = session_->output_;
    const std::size_t size = output.response_bytes() - chunk_at_ - chunk_head_bytes;
    if (size == 0) {
        output.retreat(chunk_head_bytes);
        return;
    }
    write_chunk_head(output.response() + chunk_at_, size);
    output.put(end_of_line);
}

/// Counts bytes of the body.
void Response::count(std::size_t bytes) {
    if (measured_ && bytes > length_ - written_)
        throw std::logic_error("Response::write: more than its content length");
    written_ += bytes;
}

bool Response::write(std::string_view text) {
    if (ended()) throw std::logic_error("Response::write: the response has ended");
    if (form_ == Form::none) begin_body(text.size());
    if (discards_) {
        count(text.size());
        return true;
    }
    if (form_ == Form::gathered) {
        if (session_->output_.reserve(text.size())) {
            session_->output_.put(text);
            return true;
        }
        become_streamed();
    }
    if (measured_ && text.size() > length_ - written_) count(text.size());
    write_refused_ = !write_streamed(text);
    if (write_refused_) return false;
    count(text.size());
    return true;
}

bool Response::write_streamed(std::string_view text) {
    detail::Session& session = *session_;
    detail::Output& output = session.output_;
    const bool chunked = form_ == Form::chunked;
    for (;;) {
        const std::size_t needed = text.size() + (chunked && !chunk_open_ ? chunk_head_bytes : 0);
        if (needed <= output.room()) {
            if (chunked && !chunk_open_) open_chunk();
            output.put(text);
            return true;
        }
        seal_chunk();
        if (output.response_bytes() == 0) break;
        if (!output.push()) return false;
    }
    // More than the block holds.
    if (session.writable() < text.size() + chunk_head_bytes + end_of_line.size()) return false;
    char head[chunk_head_bytes];
    write_chunk_head(head, text.size());
    const bool written = (!chunked || session.write(bytes_of({head, sizeof head}))) && session.write(bytes_of(text)) &&
                         (!chunked || session.write(bytes_of(end_of_line)));
    output.wrote();
    if (!written) session.flush_failed();
    return written;
}

std::span<std::byte> Response::span(std::size_t minimum) {
    if (ended()) throw std::logic_error("Response::span: the response has ended");
    if (minimum > span_bytes_max) return {};
    minimum = std::max<std::size_t>(minimum, 1);
    if (form_ == Form::none) begin_body(minimum);
    detail::Output& output = session_->output_;
    if (discards_) {
        output.move_to_block();
        const bool room = output.reserve(minimum);
        FERRULE_ASSERT(room);
    } else if (form_ != Form::gathered || !output.reserve(minimum)) {
        if (form_ == Form::gathered) become_streamed();
        const bool chunked = form_ == Form::chunked;
        if (minimum + (chunked && !chunk_open_ ? chunk_head_bytes : 0) > output.room()) {
            seal_chunk();
            write_refused_ = !output.push();
            if (write_refused_) return {};
            const bool room = output.reserve(minimum + chunk_head_bytes);
            FERRULE_ASSERT(room);
        }
        if (chunked && !chunk_open_) open_chunk();
        write_refused_ = false;
    }
    return {reinterpret_cast<std::byte*>(output.at()), output.room()};
}

void Response::advance(std::size_t bytes) {
    if (bytes == 0) return;
    if (!begun() || ended() || bytes > session_->output_.room())
        throw std::logic_error("Response::advance: past the end of the span that was handed out");
    count(bytes);
    if (!discards_) session_->output_.advance(bytes);
}

Task<std::expected<void, std::errc>> Response::flush() {
    if (form_ == Form::none) {
        if (has_no_body(status_) || status_ == Status::reset_content) {
            send();
        } else {
            begin_stream();
        }
    }
    if (form_ == Form::gathered && !discards_) become_streamed();
    seal_chunk();
    return session_->push_output(true);
}

Task<std::expected<void, std::errc>> Response::write_all(std::span<const std::byte> bytes) {
    // What fits into the first block finds room sooner or later, however little the stream takes at a time.
    constexpr std::size_t part_bytes_max = 32u << 10;
    constexpr std::size_t part_bytes_min = 2048;
    std::size_t part_bytes = part_bytes_max;
    bool flushed_before = false;
    while (!bytes.empty()) {
        const auto part = bytes.first(std::min(bytes.size(), part_bytes));
        if (write(part)) {
            bytes = bytes.subspan(part.size());
            flushed_before = false;
            continue;
        }
        if (flushed_before && part_bytes == part_bytes_min) {
            session_->flush_failed();
            co_return std::unexpected(std::errc::no_buffer_space);
        }
        if (flushed_before) part_bytes = part_bytes_min;
        auto flushing = flush();
        const auto flushed = co_await std::move(flushing);
        if (!flushed) co_return flushed;
        flushed_before = true;
    }
    co_return std::expected<void, std::errc>{};
}

// ---- the end ----

/// What ends the chunks. False: the trailers find no room.
bool Response::end_chunks() {
    detail::Output& output = session_->output_;
    const std::size_t bytes = last_chunk.size() + trailers_.size + end_of_line.size();
    end_waits_ = trailers_.size != 0 && !output.reserve(bytes);
    if (end_waits_) return false;
    output.put(last_chunk);
    if (trailers_.size != 0) output.put({trailers_.data, trailers_.size});
    output.put(end_of_line);
    return true;
}

void Response::end() {
    if (form_ == Form::none) {
        static constexpr LogCause no_answer{.name = "http-no-answer", .level = LogLevel::error};
        const std::string_view target = session_->request().target();
        if (measured_ && length_ != 0 && !discards_ && !has_no_body(status_)) {
            said_ = false;
            measured_ = false;
        }
        if (trailers_.size != 0 || (said_ && measured_ && discards_)) {
            begin_stream();
        } else if (said_) {
            measured_ = false;
            send();
        } else {
            session_->service_->counters.failures.add();
            session_->service_->reactor().log.write(no_answer, "http: a handler has ended without an answer: %.*s",
                                                    static_cast<int>(std::min<std::size_t>(target.size(), 128)),
                                                    target.data());
            status_ = Status::internal_server_error;
            send("the handler has not answered\n");
        }
    }
    detail::Output& output = session_->output_;
    if (write_refused_) session_->abandon();
    switch (form_) {
        case Form::gathered:
            if (discards_) {
                const bool room = output.reserve(head_bound());
                FERRULE_ASSERT(room);
                put_head(Length::exact, status_ == Status::reset_content ? 0 : measured_ ? length_ : written_);
            } else {
                char* const behind = output.response() + length_at_ + length_later.size();
                std::size_t bytes = output.response_bytes() - body_at_;
                char* digit = behind;
                do {
                    *--digit = static_cast<char>('0' + bytes % 10);
                    bytes /= 10;
                } while (bytes != 0);
            }
            break;
        case Form::measured:
            if (!discards_ && written_ != length_) session_->abandon();
            break;
        case Form::chunked:
            if (discards_) break;
            seal_chunk();
            end_chunks();
            break;
        default:
            break;
    }
    if (form_ != Form::upgraded) form_ = Form::sent;
}

bool Response::restart() noexcept {
    if (form_ == Form::upgraded || !session_->output_.restart()) return false;
    session_->exchange_->shared_body.reset();
    forget();
    discards_ = session_->request().method() == Method::head;
    return true;
}

void Response::abandon() noexcept {
    if (!restart()) session_->abandon();
}

/// For the next request.
void Response::forget() noexcept {
    status_ = Status::ok;
    form_ = Form::none;
    said_ = close_wanted_ = discards_ = measured_ = chunk_open_ = end_waits_ = write_refused_ = false;
    length_ = written_ = 0;
    headers_ = {};
    trailers_ = {};
}

// ---- another protocol ----

void* Response::upgrade_to(std::string_view protocol, const void* key) {
    check_not_begun("Response::upgrade");
    detail::Session& session = *session_;
    Request& request = session.request();
    const bool tunnel = request.method() == Method::connect;
    if (!tunnel && !request.head().parser().wants_upgrade())
        throw std::logic_error("Response::upgrade: the request asks for none");
    if (request.has_body()) throw std::logic_error("Response::upgrade: the request has a body");
    static_cast<void>(session.stream_of(key));
    if (!tunnel && (!is_field_value(protocol) || protocol.empty()))
        throw InvalidField("Response::upgrade: the name of the protocol has a control character");
    const std::span<char> memory = request.memory(head_bound() + protocol.size() + 64);
    char* at = memory.data();
    if (tunnel) {
        at = put(at, session.service_->ok_lines());
    } else {
        at = put(at, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
        at = put(put_line(at, "Upgrade", protocol), session.service_->date_line());
    }
    if (headers_.size != 0) at = put(at, {headers_.data, headers_.size});
    at = put(at, end_of_line);
    session.output_.commit();
    static_cast<void>(session.write(bytes_of({memory.data(), static_cast<std::size_t>(at - memory.data())})));
    form_ = Form::upgraded;
    status_ = tunnel ? Status::ok : Status::switching_protocols;
    session.upgraded_ = session.closing_ = true;
    session.service_->counters.upgrades.add();
    (tunnel ? session.service_->counters.responses_2xx : session.service_->counters.responses_1xx).add();
    return session.hand_over(key);
}

}  // namespace ferrule::inline v0::http
