#pragma once

#include <ferrule/sim/socket.hpp>
#include <ferrule/sim/socket_address.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0::sim {

class File;
class Machine;
class World;

/// A UDP socket that a simulated peer has: a name server, a client, somebody hostile. As Socket: for processes of the
/// simulation, blocking in virtual time.
///
///     auto socket = sim::DatagramSocket::open(machine, machine.ipv4(53));
///     while (auto question = socket->receive()) socket->send(question->from, answer_to(question->bytes));
///
/// Destroying it closes it.
class FERRULE_EXPORT DatagramSocket {
public:
    /// What has come.
    struct Received {
        std::string bytes;
        SocketAddress from;
    };

    DatagramSocket(DatagramSocket&& other) noexcept;
    DatagramSocket& operator=(DatagramSocket&& other) noexcept;
    ~DatagramSocket();

    /// Bound to an address of the machine; port 0: the kernel chooses one (address() has it). The errors of bind(2).
    static std::expected<DatagramSocket, std::error_code> open(Machine& machine, const SocketAddress& address);

    /// connect(2): only what comes from there is received, and a port that nobody has is told with connection_refused.
    std::error_code connect(const SocketAddress& to);
    /// Sends one datagram. message_size when it is too long, resource_unavailable_try_again never: it waits for room.
    std::error_code send(const SocketAddress& to, std::string_view bytes);
    /// To whom it is connected.
    std::error_code send(std::string_view bytes);
    /// The next one; timed_out when none has come in time, connection_refused.
    std::expected<Received, std::error_code> receive(std::uint64_t time_limit_ns = no_time_limit);
    void close() noexcept;
    [[nodiscard]] bool is_open() const noexcept { return file_ != nullptr; }
    [[nodiscard]] SocketAddress address() const;

    /// A datagram from `machine` that says it came from somebody else. Nothing is told when it does not arrive.
    static void forge(Machine& machine, const SocketAddress& from, const SocketAddress& to, std::string_view bytes);

private:
    DatagramSocket(World& world, std::shared_ptr<File> file) noexcept;
    std::error_code send_to(const SocketAddress* to, std::string_view bytes);

    World* world_;
    std::shared_ptr<File> file_;
};

}  // namespace ferrule::inline v0::sim
