#include <ferrule/ring/error.hpp>
#include <ferrule/server/inherited_sockets.hpp>
#include <ferrule/server/options.hpp>

#include "server/environment.hpp"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ferrule::inline v0 {
namespace {

// sd_listen_fds(3): SD_LISTEN_FDS_START.
constexpr int first_descriptor = 3;
// More than a process may have open (nr_open of Linux is at most this), so that the sum below cannot overflow.
constexpr std::uint64_t descriptors_max = 1u << 30;
// What sd_listen_fds_with_names(3) says of a socket without a name.
constexpr std::string_view no_name = "unknown";

[[noreturn]] void refuse(const std::string& what) {
    throw StartError(what, system_error(EINVAL));
}

std::vector<std::string> names_of(std::string_view text) {
    std::vector<std::string> names;
    for (;;) {
        const std::size_t end = text.find(':');
        names.emplace_back(text.substr(0, end));
        if (end == text.npos) return names;
        text.remove_prefix(end + 1);
    }
}

}  // namespace

std::vector<InheritedSocket> take_inherited_sockets(Kernel& kernel) {
    const auto process = environment_variable(kernel, "LISTEN_PID");
    const auto count = environment_variable(kernel, "LISTEN_FDS");
    const auto names = environment_variable(kernel, "LISTEN_FDNAMES");
    for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) {
        if (const int result = kernel.clear_environment(variable); result < 0)
            throw StartError(std::string("unset ") + variable, system_error(-result));
    }
    if (!process || !count) return {};
    const auto owner = whole_number(*process);
    if (!owner) refuse("LISTEN_PID=" + *process + ": it is not the number of a process");
    // A parent's, who did not remove them.
    if (*owner != static_cast<std::uint64_t>(kernel.process_identity())) return {};
    const auto sockets = whole_number(*count);
    if (!sockets || *sockets > descriptors_max) refuse("LISTEN_FDS=" + *count + ": it is not a number of descriptors");

    std::vector<InheritedSocket> taken;
    for (int descriptor = first_descriptor; taken.size() != *sockets; ++descriptor) {
        if (const int result = kernel.set_close_on_exec(descriptor); result < 0) {
            const auto code = system_error(-result);
            throw StartError(
                "LISTEN_FDS=" + *count + ": descriptor " + std::to_string(descriptor) + ": " + code.message(), code);
        }
        taken.push_back({descriptor, std::string(no_name)});
    }
    if (!names) return taken;
    std::vector<std::string> given = names_of(*names);
    if (taken.empty() && *names == "") return taken;
    if (given.size() != taken.size())
        refuse("LISTEN_FDNAMES=" + *names + ": not as many names as LISTEN_FDS says, " + *count);
    for (std::size_t index = 0; index < taken.size(); ++index) taken[index].name = std::move(given[index]);
    return taken;
}

}  // namespace ferrule::inline v0
