#include "http/authority.hpp"
#include "http/characters.hpp"

namespace ferrule::inline v0::http {

namespace {

constexpr std::uint32_t port_max = 65'535;

bool is_ipv4(std::string_view text) noexcept {
    for (unsigned part = 0; part < 4; ++part) {
        if (part > 0) {
            if (text.empty() || text.front() != '.') return false;
            text.remove_prefix(1);
        }
        unsigned value = 0;
        std::size_t digits = 0;
        for (; digits < text.size() && is(digit_character, text[digits]); ++digits) {
            if (digits == 3) return false;
            value = value * 10 + digit_value(text[digits]);
        }
        if (digits == 0 || value > 255 || (digits > 1 && text.front() == '0')) return false;
        text.remove_prefix(digits);
    }
    return text.empty();
}

// RFC 3986, section 3.2.2: eight groups, of which `::` stands for one or more; the last two may be an IPv4 address.
bool is_ipv6(std::string_view text) noexcept {
    constexpr unsigned groups_of_address = 8;
    constexpr std::size_t digits_max = 4;
    unsigned groups = 0;
    bool shortened = false;
    if (text.starts_with("::")) {
        shortened = true;
        text.remove_prefix(2);
    }
    while (!text.empty()) {
        std::size_t digits = 0;
        while (digits < text.size() && digits <= digits_max && digit_value(text[digits]) <= 15) ++digits;
        if (digits < text.size() && text[digits] == '.') {
            if (!is_ipv4(text)) return false;
            groups += 2;
            break;
        }
        if (digits == 0 || digits > digits_max) return false;
        ++groups;
        text.remove_prefix(digits);
        if (text.empty()) break;
        if (text.starts_with("::")) {
            if (shortened) return false;
            shortened = true;
            text.remove_prefix(2);
        } else {
            if (text.front() != ':' || text.size() == 1) return false;
            text.remove_prefix(1);
        }
    }
    return shortened ? groups < groups_of_address : groups == groups_of_address;
}

// The length of the registered name or the IPv4 address at the front.
std::size_t name_size(std::string_view text) noexcept {
    std::size_t size = 0;
    while (size < text.size()) {
        if (is(host_character, text[size])) {
            ++size;
        } else if (text[size] == '%' && text.size() - size > 2 && digit_value(text[size + 1]) <= 15 &&
                   digit_value(text[size + 2]) <= 15) {
            size += 3;
        } else {
            break;
        }
    }
    return size;
}

}  // namespace

std::optional<Authority> parse_authority(std::string_view text) noexcept {
    std::size_t host_size;
    if (text.starts_with('[')) {
        const std::size_t bracket = text.find(']');
        if (bracket == std::string_view::npos || !is_ipv6(text.substr(1, bracket - 1))) return std::nullopt;
        host_size = bracket + 1;
    } else {
        host_size = name_size(text);
        if (host_size == 0) return std::nullopt;
    }
    Authority authority{text.substr(0, host_size), std::nullopt};
    if (host_size == text.size()) return authority;
    if (text[host_size] != ':') return std::nullopt;
    const std::string_view digits = text.substr(host_size + 1);
    std::uint32_t port = 0;
    for (const char digit : digits) {
        if (!is(digit_character, digit)) return std::nullopt;
        port = port * 10 + digit_value(digit);
        if (port > port_max) return std::nullopt;
    }
    if (!digits.empty()) authority.port = static_cast<std::uint16_t>(port);
    return authority;
}

bool same_authority(const Authority& one, const Authority& other, std::uint16_t default_port) noexcept {
    return same_name(one.host, other.host) && one.port.value_or(default_port) == other.port.value_or(default_port);
}

}  // namespace ferrule::inline v0::http
