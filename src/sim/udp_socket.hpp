#pragma once

#include "sim/datagram_ports.hpp"
#include "sim/file.hpp"
#include "sim/network.hpp"
#include "sim/socket_options.hpp"

#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <optional>

namespace ferrule::inline v0::sim {

/// A UDP socket of a simulated machine.
class UdpSocket final : public File {
public:
    /// `family`: AF_INET or AF_INET6.
    UdpSocket(Host& host, int family) noexcept : host_(host), family_(family) {}
    ~UdpSocket() override;

    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    std::int64_t read(std::span<std::byte> into) noexcept override { return receive(into, 0); }
    std::int64_t write(std::span<const std::byte> from) noexcept override { return send(from, 0); }
    std::int64_t receive(std::span<std::byte> into, int flags) noexcept override;
    std::int64_t send(std::span<const std::byte> from, int flags) noexcept override;
    std::int64_t send_message(std::span<const std::byte> from, const Ancillary& with, int flags) noexcept override;
    std::int64_t receive_message(std::span<std::byte> into, Ancillary& with, int flags) noexcept override;
    std::expected<std::shared_ptr<File>, int> accept(sockaddr* address, socklen_t* length) noexcept override;
    int connect(const sockaddr* address, socklen_t length) noexcept override;
    int bind(const sockaddr* address, socklen_t length) noexcept override;
    int listen(int backlog) noexcept override;
    int shutdown(int how) noexcept override;
    int set_option(int level, int name, const void* value, socklen_t length) noexcept override;
    int get_option(int level, int name, void* value, socklen_t* length) noexcept override;
    int socket_name(sockaddr* address, socklen_t* length) noexcept override;
    int peer_name(sockaddr* address, socklen_t* length) noexcept override;
    [[nodiscard]] bool is_socket() const noexcept override { return true; }
    void released() noexcept override;

    // For the table of ports and for what arrives.
    [[nodiscard]] int family() const noexcept { return family_; }
    [[nodiscard]] bool v6_only() const noexcept { return v6_only_; }
    [[nodiscard]] const InternetAddress& local() const noexcept { return local_; }
    [[nodiscard]] const std::optional<InternetAddress>& remote() const noexcept { return remote_; }
    [[nodiscard]] const SocketLevelOptions& options() const noexcept { return options_; }
    [[nodiscard]] bool bound() const noexcept { return local_.port != 0; }
    void deliver(Datagram datagram);
    /// Nobody has the port that it was connected to.
    void refused();
    /// Bytes of it are not under way any more.
    void arrived(std::size_t bytes) noexcept;

    std::shared_ptr<DatagramGroup> group;

private:
    friend DatagramPorts;

    /// What the control messages of a send say.
    struct Sending {
        std::optional<InternetAddress> source;
        std::uint8_t traffic_class = 0;
        std::uint32_t segment_bytes = 0;
    };

    [[nodiscard]] std::uint32_t send_buffer() const noexcept;
    [[nodiscard]] std::uint32_t receive_buffer() const noexcept;
    [[nodiscard]] std::expected<InternetAddress, int> destination(const Ancillary& with) const noexcept;
    [[nodiscard]] std::expected<InternetAddress, int> source_to(const InternetAddress& to) const noexcept;
    int read_control(std::span<const std::byte> control, bool ipv4, Sending& sending) const noexcept;
    void tell(const Datagram& datagram, Ancillary& with) const noexcept;
    void queue(Datagram datagram);
    [[nodiscard]] bool join(const Datagram& datagram);
    int bind_any() noexcept;
    int set_internet_option(int level, int name, const void* value, socklen_t length) noexcept;
    int get_internet_option(int level, int name, void* value, socklen_t* length) const noexcept;
    /// The flag that a socket option of IP or IPv6 sets; null when it is none.
    [[nodiscard]] bool* flag_of(int level, int name) noexcept;

    Host& host_;
    int family_;
    SocketLevelOptions options_;
    InternetAddress local_;
    std::optional<InternetAddress> remote_;
    std::deque<Datagram> received_;
    std::uint64_t received_cost_ = 0;
    std::uint64_t under_way_ = 0;
    std::uint64_t last_arrival_ns_ = 0;
    std::uint64_t bursts_ = 0;
    int error_ = 0;
    std::uint32_t segment_bytes_ = 0;
    std::uint8_t traffic_class_ = 0;
    std::uint8_t shut_ = 0;
    bool address_chosen_ = false;  ///< bind(2) named an address
    bool port_chosen_ = false;     ///< or a port
    bool v6_only_ = false;
    bool tells_destination_ = false;
    bool tells_destination6_ = false;
    bool tells_class_ = false;
    bool tells_class6_ = false;
    bool joins_ = false;
    bool ended_ = false;
};

}  // namespace ferrule::inline v0::sim
