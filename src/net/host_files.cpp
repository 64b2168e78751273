#include "net/host_files.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

namespace ferrule::inline v0 {

namespace {

constexpr std::string_view blanks = " \t\r\f\v";
constexpr std::uint16_t dns_port = 53;

/// The next line of the text, which begins behind it afterwards.
std::string_view take_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    return line;
}

/// The next word of the line, which begins behind it afterwards; empty: none.
std::string_view take_word(std::string_view& line) {
    const std::size_t begin = line.find_first_not_of(blanks);
    if (begin == line.npos) {
        line = {};
        return {};
    }
    line.remove_prefix(begin);
    const std::string_view word = line.substr(0, line.find_first_of(blanks));
    line.remove_prefix(word.size());
    return word;
}

/// `localhost`, `*` and `unix:` mean addresses to Address::parse, but not in these files.
std::optional<Address> read_address(std::string_view word, std::uint16_t port, Kernel& kernel) {
    if (word.empty() || (!word.contains(':') && !word.contains('.')) || word.contains('[')) return std::nullopt;
    const auto address = Address::parse(word, port, kernel);
    if (!address || address->family() == AddressFamily::unix_domain) return std::nullopt;
    return *address;
}

/// The number behind the colon of an option, at most `largest`.
std::optional<unsigned> read_number(std::string_view text, unsigned largest) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (end != text.data() + text.size() || text.empty()) return std::nullopt;
    if (error == std::errc::result_out_of_range) return largest;
    if (error != std::errc{}) return std::nullopt;
    return std::min(number, largest);
}

std::string quoted(std::string_view word) {
    std::string text(1, '"');
    text += word;
    text += '"';
    return text;
}

void add_server(ResolvConf& conf, std::string_view word, Kernel& kernel) {
    const auto address = read_address(word, dns_port, kernel);
    if (!address) {
        conf.notes.push_back("nameserver " + quoted(word) + " is not an address");
    } else if (conf.servers.size() == ResolvConf::servers_max) {
        conf.notes.push_back("nameserver " + std::string(word) +
                             " is one too many: " + std::to_string(ResolvConf::servers_max) + " are asked");
    } else {
        conf.servers.push_back(*address);
    }
}

void set_search(ResolvConf& conf, std::string_view line, std::size_t count) {
    conf.search.clear();
    for (std::string_view word = take_word(line); !word.empty() && count != 0; word = take_word(line)) {
        // The root: the name alone, which is tried anyway.
        if (word == ".") continue;
        if (conf.search.size() == ResolvConf::search_max) {
            conf.notes.push_back("search: only the first " + std::to_string(ResolvConf::search_max) + " domains count");
            return;
        }
        conf.search.emplace_back(word);
        --count;
    }
}

/// Why an option of resolv.conf(5) is not heeded; empty: nobody knows it.
std::string_view reason_not_heeded(std::string_view option) {
    struct Reason {
        std::string_view option;
        std::string_view why;
    };
    static constexpr Reason reasons[] = {
        {"single-request", "each question has a socket of its own, so answers are never mixed up"},
        {"single-request-reopen", "each question has a socket of its own"},
        {"trust-ad", "the authentic-data bit is neither asked for nor used"},
        {"edns0", "it is always on"},
        {"inet6", "both families are asked for"},
        {"ip6-bytestring", "it is about reverse lookups, which are not made"},
        {"ip6-dotint", "it is about reverse lookups, which are not made"},
        {"no-ip6-dotint", "it is about reverse lookups, which are not made"},
        {"no-check-names", "names are always checked"},
        {"no-tld-query", "a name without a dot is tried as it is, behind the search list"},
        {"debug", "there is no such output"},
    };
    for (const Reason& reason : reasons) {
        if (reason.option == option) return reason.why;
    }
    return {};
}

void set_option(ResolvConf& conf, std::string_view option) {
    const std::size_t colon = option.find(':');
    const std::string_view name = option.substr(0, colon);
    const std::string_view value = colon == option.npos ? std::string_view{} : option.substr(colon + 1);
    const auto number = [&](unsigned largest) {
        const auto read = read_number(value, largest);
        if (!read) conf.notes.push_back("option " + quoted(option) + " has no number");
        return read;
    };
    if (name == "ndots") {
        conf.dots = number(ResolvConf::dots_max).value_or(conf.dots);
    } else if (name == "timeout") {
        const auto seconds = number(static_cast<unsigned>(ResolvConf::timeout_max.count()));
        if (seconds) conf.timeout = std::chrono::seconds(std::max(*seconds, 1u));
    } else if (name == "attempts") {
        const auto attempts = number(ResolvConf::attempts_max);
        if (attempts) conf.attempts = std::max(*attempts, 1u);
    } else if (name == "rotate") {
        conf.rotate = true;
    } else if (name == "use-vc") {
        conf.use_tcp = true;
    } else if (name == "no-aaaa") {
        conf.only_ipv4 = true;
    } else if (name == "no-reload") {
        conf.may_reload = false;
    } else if (const std::string_view why = reason_not_heeded(name); !why.empty()) {
        conf.notes.push_back("option " + std::string(name) + " is not heeded: " + std::string(why));
    } else {
        conf.notes.push_back("option " + quoted(option) + " is not known");
    }
}

}  // namespace

ResolvConf read_resolv_conf(std::string_view text, Kernel& kernel) {
    ResolvConf conf;
    while (!text.empty()) {
        std::string_view line = take_line(text);
        if (line.starts_with('#') || line.starts_with(';')) continue;
        const std::string_view keyword = take_word(line);
        if (keyword == "nameserver") {
            add_server(conf, take_word(line), kernel);
        } else if (keyword == "search") {
            set_search(conf, line, ResolvConf::search_max + 1);
        } else if (keyword == "domain") {
            set_search(conf, line, 1);
        } else if (keyword == "options") {
            for (std::string_view word = take_word(line); !word.empty(); word = take_word(line)) set_option(conf, word);
        } else if (keyword == "sortlist") {
            conf.notes.emplace_back("sortlist is not heeded: addresses are ordered by whether IPv6 has a route");
        } else if (!keyword.empty()) {
            conf.notes.push_back("line " + quoted(keyword) + " is not known");
        }
    }
    if (conf.servers.empty()) conf.servers.push_back(Address::loopback(dns_port));
    return conf;
}

std::string host_key(std::string_view name) {
    if (name.ends_with('.')) name.remove_suffix(1);
    std::string key(name);
    std::transform(key.begin(), key.end(), key.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + ('a' - 'A')) : letter;
    });
    return key;
}

HostTable HostTable::read(std::string_view text, Kernel& kernel) {
    HostTable table;
    while (!text.empty()) {
        std::string_view line = take_line(text);
        line = line.substr(0, line.find('#'));
        const auto address = read_address(take_word(line), 0, kernel);
        if (!address) continue;
        for (std::string_view name = take_word(line); !name.empty(); name = take_word(line)) {
            auto& addresses = table.names_[host_key(name)];
            if (std::find(addresses.begin(), addresses.end(), *address) == addresses.end())
                addresses.push_back(*address);
        }
    }
    return table;
}

const std::vector<Address>* HostTable::find(std::string_view name) const {
    const auto found = names_.find(host_key(name));
    return found != names_.end() ? &found->second : nullptr;
}

}  // namespace ferrule::inline v0
