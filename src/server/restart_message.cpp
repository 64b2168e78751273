#include "server/restart_message.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace ferrule::inline v0 {

void RestartMessage::set_address(const Address& bound) noexcept {
    address_size = bound.size();
    std::memcpy(address.data(), bound.data(), std::min<std::size_t>(address_size, address.size()));
}

Address RestartMessage::bound_address() const noexcept {
    if (address_size > address.size()) return {};
    sockaddr_storage storage{};
    std::memcpy(&storage, address.data(), address_size);
    const auto bound = Address::from(reinterpret_cast<const sockaddr*>(&storage), address_size);
    return bound ? *bound : Address{};
}

void RestartMessage::set_text(std::string_view reason) noexcept {
    text = {};
    std::ranges::copy(reason.substr(0, text.size() - 1), text.begin());
}

std::string_view RestartMessage::reason() const noexcept {
    return {text.data(), static_cast<std::size_t>(std::ranges::find(text, '\0') - text.begin())};
}

std::string fault_of(const RestartMessage& message, RestartMessage::Kind due) {
    if (message.magic != RestartMessage::magic_number) return "what it says belongs to no take-over";
    const auto versions = [](unsigned least, unsigned most) {
        return least == most ? "version " + std::to_string(least)
                             : "versions " + std::to_string(least) + " to " + std::to_string(most);
    };
    if (message.kind == RestartMessage::Kind::refusal) return "it refuses: " + std::string(message.reason());
    if (message.version_least > RestartMessage::version || message.version_most < RestartMessage::version) {
        return "it speaks " + versions(message.version_least, message.version_most) + " of the take-over, this one " +
               versions(RestartMessage::version, RestartMessage::version);
    }
    if (message.kind == due) return {};
    return "it says " + std::to_string(static_cast<unsigned>(message.kind)) + " where " +
           std::to_string(static_cast<unsigned>(due)) + " was due";
}

}  // namespace ferrule::inline v0
