#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/ring/kernel.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

/// The two files that say how this machine finds names: /etc/resolv.conf and /etc/hosts. Functions of their text; the
/// kernel is asked for the index of an interface that a scope names, and for nothing else.
namespace ferrule::inline v0 {

/// What resolv.conf(5) says. What is not in it has the default of that page.
struct ResolvConf {
    static constexpr std::size_t servers_max = 3;
    static constexpr std::size_t search_max = 32;
    static constexpr unsigned dots_max = 15;
    static constexpr unsigned attempts_max = 5;
    static constexpr std::chrono::seconds timeout_max{30};

    std::vector<Address> servers;  ///< never empty: 127.0.0.1 when the file names none
    std::vector<std::string> search;
    unsigned dots = 1;
    std::chrono::seconds timeout{5};
    unsigned attempts = 2;
    bool rotate = false;
    bool use_tcp = false;            ///< use-vc
    bool only_ipv4 = false;          ///< no-aaaa
    bool may_reload = true;          ///< without no-reload
    std::vector<std::string> notes;  ///< what was not heeded, and why

    bool operator==(const ResolvConf&) const = default;
};

/// Reads the text of a resolv.conf; the text of a missing one is empty.
ResolvConf read_resolv_conf(std::string_view text, Kernel& kernel);

/// The names of a hosts(5) file.
class HostTable {
public:
    /// Reads the text; lines that do not begin with an address are left out.
    static HostTable read(std::string_view text, Kernel& kernel);

    /// The addresses of the name, whatever its letters' case, in the order of the file, with port 0; null when it is
    /// not there. `name` has no dot at its end.
    [[nodiscard]] const std::vector<Address>* find(std::string_view name) const;

    [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }

private:
    std::unordered_map<std::string, std::vector<Address>> names_;
};

/// The name in lower case, without the dot at its end.
std::string host_key(std::string_view name);

}  // namespace ferrule::inline v0
