#include "net/resolver_state.hpp"

#include <algorithm>
#include <cerrno>

namespace ferrule::inline v0 {

namespace {

/// What is read of a file. Lists of blocked hosts can be long, and each look at them stops the reactor.
constexpr std::size_t file_bytes_max = 1u << 20;
constexpr std::size_t file_bytes_first = 4096;

std::uint64_t nanoseconds(std::chrono::nanoseconds time) noexcept {
    return time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0;
}

}  // namespace

/// Whether there is another text now. A file that is not there is empty; one that cannot be read stays as it was.
bool Resolver::State::read_file(const std::string& path, std::string& text) {
    if (path.empty()) return false;
    std::string fresh(std::max(file_bytes_first, text.size() + 1), '\0');
    for (;;) {
        const ssize_t size = reactor.kernel().read_file(path.c_str(), fresh.data(), fresh.size());
        if (size < 0 && size != -ENOENT && size != -ENOTDIR) return false;
        const auto length = static_cast<std::size_t>(std::max<ssize_t>(size, 0));
        if (length < fresh.size() || fresh.size() >= file_bytes_max) {
            fresh.resize(std::min(length, file_bytes_max));
            break;
        }
        fresh.resize(std::min(fresh.size() * 4, file_bytes_max));
    }
    // A line that was cut is none.
    if (fresh.size() == file_bytes_max) fresh.resize(fresh.rfind('\n') + 1);
    if (fresh == text) return false;
    text = std::move(fresh);
    return true;
}

void Resolver::State::look_at_files() {
    const std::uint64_t now_ns = reactor.kernel().monotonic_ns();
    const bool is_first = settings == nullptr;
    if (!is_first && now_ns < next_look_ns) return;
    next_look_ns = now_ns + nanoseconds(options.file_interval);
    const bool may_reload = is_first || settings->may_reload;
    const bool other_servers = may_reload && read_file(options.resolv_conf, resolv_conf_text);
    if (is_first || other_servers) {
        make_settings();
        // Another network may have other answers.
        if (!is_first) cache.clear();
    }
    const bool other_hosts = read_file(options.hosts, hosts_text);
    if (other_hosts) hosts = HostTable::read(hosts_text, reactor.kernel());
    if (!is_first && (other_servers || other_hosts)) counters.reloads.add();
}

void Resolver::State::make_settings() {
    ResolvConf conf = read_resolv_conf(resolv_conf_text, reactor.kernel());
    auto made = std::make_shared<Settings>();
    for (const Address& address : options.servers.empty() ? conf.servers : options.servers)
        made->servers.push_back({.address = address});
    for (const std::string& domain : options.search ? *options.search : conf.search) {
        if (const auto name = DnsName::parse(domain)) {
            made->search.push_back(*name);
        } else {
            conf.notes.push_back("search \"" + domain + "\": " + std::string(name.error()));
        }
    }
    made->dots = options.dots.value_or(conf.dots);
    made->timeout = options.timeout.value_or(conf.timeout);
    made->attempts = options.attempts.value_or(conf.attempts);
    made->rotate = options.rotate.value_or(conf.rotate);
    made->use_tcp = options.use_tcp.value_or(conf.use_tcp);
    made->wants_ipv4 = options.families != ResolverFamilies::ipv6;
    made->wants_ipv6 =
        options.families == ResolverFamilies::ipv6 || (options.families == ResolverFamilies::both && !conf.only_ipv4);
    made->may_reload = conf.may_reload;
    made->notes = std::move(conf.notes);
    settings = std::move(made);
}

}  // namespace ferrule::inline v0
