#pragma once

#include "sim/byte_ring.hpp"
#include "sim/file.hpp"
#include "sim/network.hpp"
#include "sim/socket_options.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ferrule::inline v0::sim {

class UnixSocket;

/// The Unix socket names of a host: paths, as far as a file system has to have them, and abstract names.
class UnixNames {
public:
    /// What a socket of this address would meet; null when nobody is bound there. `*exists` says whether there is a
    /// path.
    [[nodiscard]] UnixSocket* find(const SocketAddress& address, bool* exists = nullptr) const;
    /// 0 or -EADDRINUSE.
    int bind(const SocketAddress& address, UnixSocket& socket);
    /// A free abstract name of five hexadecimal digits: unix(7), autobind.
    SocketAddress autobind(UnixSocket& socket);
    /// The socket is gone: an abstract name goes with it, a path stays.
    void forget(const SocketAddress& address, const UnixSocket& socket) noexcept;

    int unlink(const char* path);
    int status(const char* path, unsigned* mode) const;
    int change_mode(const char* path, unsigned mode);

private:
    struct Entry {
        UnixSocket* socket;
        unsigned mode;
    };

    // By what the kernel is given: abstract names begin with a zero byte.
    std::map<std::string, Entry, std::less<>> entries_;
    std::uint32_t next_automatic_ = 0;
};

/// A Unix socket of a simulated machine, stream or datagram. What is sent is there at once: nothing travels. Streams
/// carry descriptors, too.
class UnixSocket final : public File {
public:
    /// `type`: SOCK_STREAM or SOCK_DGRAM.
    UnixSocket(Host& host, int type) noexcept : host_(host), type_(type) {}
    ~UnixSocket() override;

    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    std::int64_t read(std::span<std::byte> into) noexcept override { return receive(into, 0); }
    std::int64_t write(std::span<const std::byte> from) noexcept override { return send(from, 0); }
    std::int64_t receive(std::span<std::byte> into, int flags) noexcept override;
    std::int64_t send(std::span<const std::byte> from, int flags) noexcept override;
    std::int64_t send_message(std::span<const std::byte> from, const Ancillary& with, int flags) noexcept override;
    std::int64_t receive_message(std::span<std::byte> into, Ancillary& with, int flags) noexcept override;
    [[nodiscard]] bool nonempty() const noexcept override { return has_input(); }
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
    [[nodiscard]] bool is_stream() const noexcept override { return type_ == SOCK_STREAM; }
    void released() noexcept override;

private:
    [[nodiscard]] bool has_input() const noexcept;
    /// The bytes that it has sent and nobody has received yet.
    [[nodiscard]] std::uint64_t unread_by_peer() const noexcept;
    [[nodiscard]] std::uint32_t send_buffer() const noexcept;
    int connect_stream(UnixSocket& listener);
    int connect_datagram(UnixSocket& other);
    std::int64_t send_stream(std::span<const std::byte> from, std::vector<std::shared_ptr<File>> rights = {});
    std::int64_t send_datagram(std::span<const std::byte> from);
    std::int64_t receive_stream(std::span<std::byte> into, int flags, Ancillary& with);
    void give_rights(std::uint64_t before, bool stay, Ancillary& with);
    std::int64_t receive_datagram(std::span<std::byte> into, int flags);
    int take_error() noexcept;
    void take_datagram() noexcept;
    void leave_peer() noexcept;
    void end_listening() noexcept;

    Host& host_;
    int type_;
    SocketLevelOptions options_;
    SocketAddress name_;
    bool listening_ = false;
    bool connected_ = false;
    /// The datagram socket that it was connected to is gone; the next send says so.
    bool peer_gone_ = false;
    bool ended_ = false;
    std::uint8_t shut_ = 0;
    int error_ = 0;
    std::uint32_t backlog_ = 0;

    // The peer outlives a reference only as a name: who is released takes itself out of the others.
    UnixSocket* peer_ = nullptr;
    SocketAddress peer_name_;
    /// Datagram sockets that are connected to this one.
    std::vector<UnixSocket*> senders_;
    /// Of a listener: connections that nobody has accepted; and who was refused for want of room.
    std::deque<std::shared_ptr<UnixSocket>> waiting_;
    std::vector<std::weak_ptr<File>> refused_;

    ByteRing input_;
    /// Descriptors that came with the bytes from one offset of `input_` to another (SCM_RIGHTS): files that are in use
    /// by them, for the first receive of one of these bytes.
    struct Rights {
        std::uint64_t first;
        std::uint64_t last;
        std::vector<std::shared_ptr<File>> files;
    };
    std::deque<Rights> rights_;
    struct Datagram {
        std::vector<std::byte> bytes;
        std::shared_ptr<std::uint64_t> unread_of_sender;
    };
    std::deque<Datagram> datagrams_;
    /// Bytes of the datagrams that this one has sent and nobody has received yet; outlives it with them.
    std::shared_ptr<std::uint64_t> unread_datagrams_;
};

}  // namespace ferrule::inline v0::sim
