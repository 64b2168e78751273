#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "admin/admin_core.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <exception>
#include <optional>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::size_t head_bytes_max = 8192;
/// Of an answer, so much at a time is handed to the connection.
constexpr std::size_t part_bytes = 64u << 10;
constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
constexpr std::string_view head_end = "\r\n\r\n";

std::string_view reason_of(unsigned status) noexcept {
    switch (status) {
        case 200:
            return "OK";
        case 400:
            return "Bad Request";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 421:
            return "Misdirected Request";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 503:
            return "Service Unavailable";
        case 505:
            return "HTTP Version Not Supported";
        default:
            return "Unknown";
    }
}

/// A time as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
std::string http_date(std::uint64_t realtime_ns) {
    static constexpr std::array<const char*, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const auto seconds = static_cast<std::time_t>(realtime_ns / nanoseconds_per_second);
    std::tm parts{};
    if (::gmtime_r(&seconds, &parts) == nullptr) return "Thu, 01 Jan 1970 00:00:00 GMT";
    std::array<char, 64> text;
    std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                  days[static_cast<std::size_t>(parts.tm_wday)], parts.tm_mday,
                  months[static_cast<std::size_t>(parts.tm_mon)], parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                  parts.tm_sec);
    return text.data();
}

std::string head_of(const AdminAnswer& answer, bool keep_alive, std::uint64_t realtime_ns) {
    std::string head = "HTTP/1.1 " + std::to_string(answer.status) + ' ';
    head += reason_of(answer.status);
    head += "\r\nDate: " + http_date(realtime_ns);
    head += "\r\nContent-Type: " + answer.content_type;
    head += "\r\nContent-Length: " + std::to_string(answer.body.size());
    if (answer.status == 405) head += "\r\nAllow: GET, HEAD";
    head += "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff";
    if (!keep_alive) head += "\r\nConnection: close";
    head += head_end;
    return head;
}

/// What the bytes that have come are: a request, or why they are none.
struct Taken {
    std::size_t bytes = 0;
    std::expected<RequestHead, RequestFault> request;
};

/// Nothing while the head has no end.
std::optional<Taken> take_request(const ByteSequence& received) {
    const std::size_t end = received.find(head_end);
    const std::size_t bytes = end == ByteSequence::npos ? received.size() : end + head_end.size();
    if (bytes > head_bytes_max)
        return Taken{bytes, std::unexpected(RequestFault{431, "a request has at most 8192 bytes"})};
    if (end == ByteSequence::npos) return std::nullopt;
    const Slice head = received.contiguous(bytes);
    if (head.empty()) return Taken{bytes, std::unexpected(RequestFault{503, "there is no memory"})};
    return Taken{bytes, parse_request_head({reinterpret_cast<const char*>(head.data()), head.size()})};
}

AdminAnswer refusal(const RequestFault& fault) {
    return {fault.status, "text/plain; charset=utf-8", std::string(fault.reason) + '\n'};
}

/// Writes it all. False when the peer does not take it.
Task<bool> write_parts(Connection& connection, std::string head, std::string body) {
    connection.write(head);
    for (std::size_t at = 0; at < body.size(); at += part_bytes) {
        connection.write(std::string_view(body).substr(at, part_bytes));
        const auto flushed = co_await connection.flush();
        if (!flushed) co_return false;
    }
    const auto flushed = co_await connection.flush();
    co_return flushed.has_value();
}

}  // namespace

Task<> AdminPort::Core::serve(Connection connection) {
    BufferedReader reader{connection};
    while (auto received = co_await reader.read()) {
        auto taken = take_request(received);
        if (!taken) continue;
        if (!taken->request) {
            const AdminAnswer answer = refusal(taken->request.error());
            connection.write(head_of(answer, false, kernel_.realtime_ns()) + answer.body);
            co_return;  // what was written goes out; what else the peer sends is dropped
        }
        reader.advance(taken->bytes);
        const bool goes_on = co_await answer_one(connection, std::move(*taken->request));
        if (!goes_on) co_return;
    }
    if (reader.end_reason() == EndReason::deadline && !reader.buffered().empty()) {
        const AdminAnswer answer = refusal({408, "the request did not come in time"});
        connection.write(head_of(answer, false, kernel_.realtime_ns()) + answer.body);
    }
}

Task<bool> AdminPort::Core::answer_one(Connection& connection, RequestHead request) {
    AdminAnswer answer;
    try {
        auto making = this->answer(connection.reactor(), request);
        answer = co_await std::move(making);
    } catch (const std::exception& failure) {
        answer = {500, "text/plain; charset=utf-8", std::string(failure.what()) + '\n'};
    } catch (...) {
        answer = {500, "text/plain; charset=utf-8", "an exception of unknown type\n"};
    }
    const bool keep_alive = request.keep_alive && !connection.draining();
    std::string head = head_of(answer, keep_alive, kernel_.realtime_ns());
    std::string body = request.head_only ? std::string() : std::move(answer.body);
    auto writing = with_deadline(write_parts(connection, std::move(head), std::move(body)), options_.answer_timeout);
    const bool written = co_await std::move(writing);
    if (!written) connection.abort();
    co_return written&& keep_alive;
}

}  // namespace ferrule::inline v0
