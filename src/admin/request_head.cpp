#include <ferrule/net/address.hpp>

#include "admin/request_head.hpp"

#include <algorithm>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::string_view line_end = "\r\n";

bool is_token_letter(char letter) noexcept {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           (letter != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(letter) != std::string_view::npos);
}

bool is_token(std::string_view text) noexcept {
    return !text.empty() && std::all_of(text.begin(), text.end(), is_token_letter);
}

bool is_visible(char letter) noexcept {
    return letter > ' ' && letter < '\x7f';
}

// A field's value: anything but control characters; what is above ASCII is opaque (RFC 9110, section 5.5).
bool is_value(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), [](char letter) {
        const auto byte = static_cast<unsigned char>(letter);
        return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
    });
}

bool same_letters(std::string_view text, std::string_view lower_case) noexcept {
    return std::equal(text.begin(), text.end(), lower_case.begin(), lower_case.end(), [](char one, char other) {
        return (one >= 'A' && one <= 'Z' ? static_cast<char>(one - 'A' + 'a') : one) == other;
    });
}

std::string_view trimmed(std::string_view text) noexcept {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Whether a list of tokens has this one.
bool has_token(std::string_view list, std::string_view token) noexcept {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        if (same_letters(trimmed(list.substr(0, comma)), token)) return true;
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
}

std::unexpected<RequestFault> refuse(unsigned status, std::string_view reason) {
    return std::unexpected(RequestFault{status, reason});
}

std::expected<RequestHead, RequestFault> parse_request_line(std::string_view line) {
    const std::size_t first = line.find(' ');
    const std::size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
    if (second == std::string_view::npos || line.find(' ', second + 1) != std::string_view::npos)
        return refuse(400, "the request line is not a method, a target and a version");
    const std::string_view method = line.substr(0, first);
    const std::string_view target = line.substr(first + 1, second - first - 1);
    const std::string_view version = line.substr(second + 1);
    if (!is_token(method)) return refuse(400, "the method is not a token");
    if (!target.starts_with('/') || !std::all_of(target.begin(), target.end(), is_visible))
        return refuse(400, "the target is not a path");
    if (version != "HTTP/1.1" && version != "HTTP/1.0") {
        const bool another = version.size() == 8 && version.starts_with("HTTP/");
        return another ? refuse(505, "the version is not HTTP/1.1 or HTTP/1.0") : refuse(400, "there is no version");
    }
    if (method != "GET" && method != "HEAD") return refuse(405, "only GET and HEAD");
    RequestHead request;
    const std::size_t question = std::min(target.find('?'), target.size());
    request.path = target.substr(0, question);
    request.query = target.substr(std::min(question + 1, target.size()));
    request.head_only = method == "HEAD";
    request.keep_alive = version == "HTTP/1.1";
    return request;
}

}  // namespace

std::expected<RequestHead, RequestFault> parse_request_head(std::string_view text) {
    std::size_t end = text.find(line_end);
    if (end == std::string_view::npos) return refuse(400, "the head has no end");
    const std::string_view request_line = text.substr(0, end);
    if (!is_value(request_line)) return refuse(400, "the request line has control characters");
    auto request = parse_request_line(request_line);
    if (!request) return request;
    const bool is_1_1 = request->keep_alive;
    bool has_host = false;
    text.remove_prefix(end + line_end.size());
    while (!text.starts_with(line_end)) {
        end = text.find(line_end);
        if (end == std::string_view::npos) return refuse(400, "the head has no end");
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end + line_end.size());
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
            return refuse(400, "a header line is not a name, a colon and a value");
        const std::string_view name = line.substr(0, colon);
        const std::string_view value = trimmed(line.substr(colon + 1));
        if (!is_value(value)) return refuse(400, "a header has control characters");
        if (same_letters(name, "host")) {
            if (std::exchange(has_host, true)) return refuse(400, "there are two Host headers");
            request->host = value;
        } else if (same_letters(name, "content-length")) {
            if (value != "0") return refuse(400, "a request has no body here");
        } else if (same_letters(name, "transfer-encoding")) {
            return refuse(400, "a request has no body here");
        } else if (same_letters(name, "connection")) {
            if (has_token(value, "close")) request->keep_alive = false;
            // Of HTTP/1.0 no connection is kept: who asks for it gets an answer that ends with it.
        }
    }
    if (is_1_1 && !has_host) return refuse(400, "there is no Host header");
    return request;
}

bool names_an_address(std::string_view host) {
    if (host.empty()) return true;
    std::string_view name = host;
    if (name.starts_with('[')) {
        const std::size_t bracket = name.find(']');
        if (bracket == std::string_view::npos) return false;
        name = name.substr(1, bracket - 1);
    } else if (const std::size_t colon = name.find(':'); colon != std::string_view::npos) {
        name = name.substr(0, colon);
    }
    if (same_letters(name, "localhost")) return true;
    // What Address::parse reads beside addresses, and what would make it ask the system.
    if (name.empty() || name == "*" || name.starts_with("unix:") || name.find('%') != std::string_view::npos)
        return false;
    return Address::parse(name, 0).has_value();
}

}  // namespace ferrule::inline v0
