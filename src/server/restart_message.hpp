#pragma once

#include <ferrule/net/address.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ferrule::inline v0 {

/// What a server and the one that takes over from it say to each other, over a Unix stream socket: messages of one
/// size, as both have them in memory, since they run on one machine.
///
/// ```
///   the new one                           the old one
///   hello ─────────────────────────────►  may it? else refusal, and it goes on serving
///                                  ◄────  offer, with the socket that restarts are asked for at
///                                  ◄────  socket, with a descriptor: count times
///   ... starts all its reactors ...       (an end here: it goes on serving)
///   taken, for each port ──────────────►
///   ready: it accepts ─────────────────►  accepts no more from what is taken, then drains
///                                  ◄────  handed over
/// ```
///
/// `hello` and `refusal`, and the place of `kind` and of the versions, are the same in every version.
struct RestartMessage {
    enum class Kind : std::uint16_t { none, hello, refusal, offer, socket, taken, ready, handed_over };

    static constexpr std::uint64_t magic_number = 0x65'6c'75'72'72'65'66'01;
    static constexpr std::uint16_t version = 1;             ///< the only one so far
    static constexpr std::uint32_t flag_chosen = 1;         ///< the port was chosen by the system
    static constexpr std::uint32_t flag_order_unknown = 2;  ///< the port has sockets of other processes

    std::uint64_t magic = magic_number;
    std::uint16_t version_least = version;
    std::uint16_t version_most = version;
    Kind kind = Kind::none;
    std::uint16_t port = 0;    ///< socket, taken: the number of a port of the old server
    std::uint32_t count = 0;   ///< offer: how many `socket` follow
    std::int32_t process = 0;  ///< hello, offer: whose
    std::uint32_t flags = 0;   ///< socket
    std::uint32_t address_size = 0;
    std::array<std::byte, 128> address{};  ///< socket: what it is bound to
    std::array<char, 256> text{};          ///< refusal: the reason, ended by a zero

    void set_address(const Address& bound) noexcept;
    /// None for what is no address.
    [[nodiscard]] Address bound_address() const noexcept;
    void set_text(std::string_view reason) noexcept;
    [[nodiscard]] std::string_view reason() const noexcept;
};
static_assert(sizeof(RestartMessage) == 416);

/// Why a message is not what was due, in words; empty when it is. Of a refusal, its reason.
std::string fault_of(const RestartMessage& message, RestartMessage::Kind due);

}  // namespace ferrule::inline v0
