#pragma once

#include "sim/file.hpp"
#include "sim/port_table.hpp"
#include "sim/socket_options.hpp"
#include "sim/tcp_connection.hpp"

#include <cstdint>

namespace ferrule::inline v0::sim {

/// A TCP socket of a simulated machine: unconnected, listening or one end of a connection.
class TcpSocket : public File {
public:
    /// `family`: AF_INET or AF_INET6.
    TcpSocket(Host& host, int family) noexcept : host_(host), family_(family) {}
    /// The accepted end of a connection, with what `listener` hands down.
    TcpSocket(const TcpSocket& listener, TcpConnection& connection) noexcept;
    ~TcpSocket() override;

    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    std::int64_t read(std::span<std::byte> into) noexcept override { return receive(into, 0); }
    std::int64_t write(std::span<const std::byte> from) noexcept override { return send(from, 0); }
    std::int64_t receive(std::span<std::byte> into, int flags) noexcept override;
    std::int64_t send(std::span<const std::byte> from, int flags) noexcept override;
    [[nodiscard]] bool nonempty() const noexcept override;
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
    [[nodiscard]] bool is_stream() const noexcept override { return true; }
    void released() noexcept override;

    // For connections that come.
    [[nodiscard]] AcceptQueue& queue() noexcept { return queue_; }
    [[nodiscard]] PortClaim& claim() noexcept { return claim_; }
    [[nodiscard]] TcpBuffers buffers() const noexcept;
    [[nodiscard]] bool bound_explicitly() const noexcept { return bound_explicitly_; }

private:
    [[nodiscard]] bool listening() const noexcept { return claim_.listener != nullptr; }
    int begin_connection(InternetAddress to);
    int end_of_connect() noexcept;
    int set_tcp_option(int name, const void* value, socklen_t length) noexcept;
    int get_tcp_option(int name, void* value, socklen_t* length) const noexcept;
    int attach_filter(const void* value, socklen_t length) noexcept;
    void stop_listening() noexcept;
    void forget_connection() noexcept;

    Host& host_;
    int family_;
    SocketLevelOptions options_;
    PortClaim claim_;
    AcceptQueue queue_;
    TcpConnection* connection_ = nullptr;
    Side side_ = Side::client;
    bool v6_only_ = false;
    bool bound_explicitly_ = false;
    /// IP_BIND_ADDRESS_NO_PORT: bind(2) with port 0 names an address, and connect chooses the port.
    bool binds_without_port_ = false;
    bool named_without_port_ = false;
    /// connect(2) has told how the connection came about.
    bool connect_told_ = false;
    bool ended_ = false;
    /// shutdown(2) of a socket without a connection.
    std::uint8_t shut_ = 0;

    bool no_delay_ = false;
    bool cork_ = false;
    bool quick_acknowledge_ = true;
    int keep_idle_s_ = 7200;
    int keep_interval_s_ = 75;
    int keep_count_ = 9;
    int syn_count_ = 6;
    std::uint32_t user_timeout_ms_ = 0;
};

}  // namespace ferrule::inline v0::sim
