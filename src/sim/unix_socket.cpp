#include "sim/descriptors.hpp"
#include "sim/internet_address.hpp"
#include "sim/unix_socket.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <expected>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::uint32_t readable = POLLIN | POLLRDNORM;
constexpr std::uint32_t writable = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr std::uint8_t receive_shut = 1;
constexpr std::uint8_t send_shut = 2;
constexpr std::uint8_t all_shut = receive_shut | send_shut;
// net.core.wmem_default, net.core.somaxconn, net.unix.max_dgram_qlen.
constexpr std::uint32_t default_send_buffer = 212'992;
constexpr std::uint32_t largest_backlog = 4096;
constexpr std::size_t datagram_limit = 10;
constexpr socklen_t path_offset = offsetof(sockaddr_un, sun_path);
constexpr unsigned new_socket_mode = S_IFSOCK | 0755;
constexpr unsigned permission_bits = 07777;
// SCM_MAX_FD.
constexpr std::size_t rights_max = 253;
// One user and one process for all of a machine.
constexpr ucred everybody = {.pid = 1, .uid = 0, .gid = 0};
constexpr ucred nobody = {.pid = 0, .uid = static_cast<uid_t>(-1), .gid = static_cast<gid_t>(-1)};

bool is_abstract(const SocketAddress& address) noexcept {
    return address.size() > path_offset && reinterpret_cast<const sockaddr_un*>(address.data())->sun_path[0] == '\0';
}

std::string key_of(const SocketAddress& address) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(address.data());
    std::string key(local->sun_path, address.size() - path_offset);
    if (!is_abstract(address)) key.resize(std::strlen(key.c_str()));
    return key;
}

SocketAddress address_of(const std::string& key) {
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    std::memcpy(local.sun_path, key.data(), key.size());
    const bool abstract = key.front() == '\0';
    const auto size = static_cast<socklen_t>(path_offset + key.size() + (abstract ? 0 : 1));
    return *SocketAddress::from(reinterpret_cast<const sockaddr*>(&local), size);
}

SocketAddress unnamed() {
    const sockaddr_un local{.sun_family = AF_UNIX, .sun_path = {}};
    return *SocketAddress::from(reinterpret_cast<const sockaddr*>(&local), path_offset);
}

// unix_validate_addr and unix_mkname of Linux: a path is cut at its end.
std::expected<SocketAddress, int> given(const sockaddr* address, socklen_t length) {
    if (length <= path_offset || length > sizeof(sockaddr_un) || address->sa_family != AF_UNIX) {
        return std::unexpected(-EINVAL);
    }
    const auto whole = SocketAddress::from(address, length);
    if (!whole) return std::unexpected(-EINVAL);
    const std::string key = key_of(*whole);
    // A path as long as the field has no end of its own, and the kernel's copy is a byte longer.
    if (key.empty() || key.size() == sizeof(sockaddr_un::sun_path)) return std::unexpected(-EINVAL);
    return address_of(key);
}

// __scm_send of Linux: the files whose descriptors are sent, or -errno. Credentials are not modelled.
std::expected<std::vector<std::shared_ptr<File>>, int> rights_of(const Ancillary& with) {
    std::vector<std::shared_ptr<File>> files;
    msghdr header{};
    header.msg_control = with.control.data();
    header.msg_controllen = with.control.size();
    for (const cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
         control = CMSG_NXTHDR(&header, const_cast<cmsghdr*>(control))) {
        const auto at = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(control) - with.control.data());
        if (control->cmsg_len < sizeof *control || control->cmsg_len > with.control.size() - at)
            return std::unexpected(-EINVAL);
        if (control->cmsg_level != SOL_SOCKET) continue;
        if (control->cmsg_type != SCM_RIGHTS) return std::unexpected(-EINVAL);
        const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (files.size() + count > rights_max) return std::unexpected(-EINVAL);
        for (std::size_t index = 0; index < count; ++index) {
            int descriptor = -1;
            std::memcpy(&descriptor, CMSG_DATA(control) + index * sizeof descriptor, sizeof descriptor);
            auto file = with.descriptors != nullptr ? with.descriptors->get(descriptor) : nullptr;
            if (file == nullptr) return std::unexpected(-EBADF);
            files.push_back(std::move(file));
        }
    }
    return files;
}

void let_go(const std::vector<std::shared_ptr<File>>& files) noexcept {
    for (const auto& file : files) file->release();
}

}  // namespace

// ---- Names.

UnixSocket* UnixNames::find(const SocketAddress& address, bool* exists) const {
    const auto found = entries_.find(key_of(address));
    if (exists != nullptr) *exists = found != entries_.end();
    return found != entries_.end() ? found->second.socket : nullptr;
}

int UnixNames::bind(const SocketAddress& address, UnixSocket& socket) {
    const bool added = entries_.emplace(key_of(address), Entry{&socket, new_socket_mode}).second;
    return added ? 0 : -EADDRINUSE;
}

SocketAddress UnixNames::autobind(UnixSocket& socket) {
    for (;;) {
        char digits[8];
        std::snprintf(digits, sizeof digits, "%05x", next_automatic_++ & 0xfffff);
        const std::string key = std::string(1, '\0') + digits;
        if (entries_.emplace(key, Entry{&socket, new_socket_mode}).second) return address_of(key);
    }
}

void UnixNames::forget(const SocketAddress& address, const UnixSocket& socket) noexcept {
    const auto found = entries_.find(key_of(address));
    if (found == entries_.end() || found->second.socket != &socket) return;
    if (is_abstract(address)) {
        entries_.erase(found);
    } else {
        found->second.socket = nullptr;
    }
}

int UnixNames::unlink(const char* path) {
    return *path != '\0' && entries_.erase(path) != 0 ? 0 : -ENOENT;
}

int UnixNames::status(const char* path, unsigned* mode) const {
    const auto found = entries_.find(std::string_view(path));
    if (*path == '\0' || found == entries_.end()) return -ENOENT;
    *mode = found->second.mode;
    return 0;
}

int UnixNames::change_mode(const char* path, unsigned mode) {
    const auto found = entries_.find(std::string_view(path));
    if (*path == '\0' || found == entries_.end()) return -ENOENT;
    found->second.mode = (found->second.mode & ~permission_bits) | (mode & permission_bits);
    return 0;
}

// ---- Sockets.

UnixSocket::~UnixSocket() {
    released();
}

void UnixSocket::released() noexcept {
    if (std::exchange(ended_, true)) return;
    end_listening();
    if (name_.family() == AF_UNIX) host_.unix_names().forget(name_, *this);
    std::uint64_t lost = input_.last() - input_.first();
    input_.drop(lost);
    for (const Rights& rights : std::exchange(rights_, {})) let_go(rights.files);
    const bool unread = lost != 0;
    while (!datagrams_.empty()) {
        lost += datagrams_.front().bytes.size();
        take_datagram();
    }
    host_.network().accounts().lost += lost;
    if (type_ == SOCK_STREAM && peer_ != nullptr) {
        UnixSocket& other = *std::exchange(peer_, nullptr);
        other.peer_ = nullptr;
        other.shut_ = all_shut;
        if (unread) other.error_ = ECONNRESET;
        other.notify(other.readiness());
    }
    leave_peer();
    for (UnixSocket* sender : std::exchange(senders_, {})) {
        sender->peer_ = nullptr;
        sender->peer_gone_ = true;
        sender->notify(writable);
    }
}

void UnixSocket::end_listening() noexcept {
    if (!std::exchange(listening_, false)) return;
    for (const auto& socket : std::exchange(waiting_, {})) {
        UnixSocket* client = socket->peer_;
        socket->released();
        if (client == nullptr) continue;
        client->error_ = ECONNRESET;
        client->notify(client->readiness());
    }
    for (const auto& refused : std::exchange(refused_, {})) {
        if (const auto socket = refused.lock()) socket->notify(POLLOUT);
    }
}

void UnixSocket::leave_peer() noexcept {
    if (peer_ == nullptr || type_ == SOCK_STREAM) return;
    auto& senders = peer_->senders_;
    senders.erase(std::find(senders.begin(), senders.end(), this));
    peer_ = nullptr;
}

std::uint32_t UnixSocket::send_buffer() const noexcept {
    return options_.send_buffer != 0 ? options_.send_buffer : default_send_buffer;
}

std::uint64_t UnixSocket::unread_by_peer() const noexcept {
    if (type_ == SOCK_DGRAM) return unread_datagrams_ ? *unread_datagrams_ : 0;
    return peer_ != nullptr ? peer_->input_.last() - peer_->input_.first() : 0;
}

bool UnixSocket::has_input() const noexcept {
    return input_.last() != input_.first() || !datagrams_.empty() || !waiting_.empty();
}

int UnixSocket::take_error() noexcept {
    return std::exchange(error_, 0);
}

// unix_poll and unix_dgram_poll of Linux: a quarter of the buffer counts as full.
std::uint32_t UnixSocket::readiness() const noexcept {
    std::uint32_t events = 0;
    if (error_ != 0) events |= POLLERR;
    if (shut_ == all_shut) events |= POLLHUP;
    if ((shut_ & receive_shut) != 0) events |= POLLRDHUP | readable;
    if (has_input()) events |= readable;
    if (type_ == SOCK_STREAM && !connected_ && !listening_) events |= POLLHUP;
    const bool full =
        type_ == SOCK_DGRAM && peer_ != nullptr && peer_->peer_ != this && peer_->datagrams_.size() > datagram_limit;
    if (!listening_ && !full && unread_by_peer() * 4 <= send_buffer()) events |= writable;
    return events;
}

int UnixSocket::bind(const sockaddr* address, socklen_t length) noexcept {
    if (length == path_offset && address->sa_family == AF_UNIX) {
        if (name_.family() != AF_UNIX) name_ = host_.unix_names().autobind(*this);
        return 0;
    }
    const auto name = given(address, length);
    if (!name) return name.error();
    if (name_.family() == AF_UNIX) return -EINVAL;
    if (const int result = host_.unix_names().bind(*name, *this); result < 0) return result;
    name_ = *name;
    return 0;
}

int UnixSocket::listen(int backlog) noexcept {
    if (type_ != SOCK_STREAM) return -EOPNOTSUPP;
    if (name_.family() != AF_UNIX || connected_) return -EINVAL;
    backlog_ = std::min(static_cast<std::uint32_t>(backlog), largest_backlog);
    listening_ = true;
    return 0;
}

int UnixSocket::connect(const sockaddr* address, socklen_t length) noexcept {
    if (type_ == SOCK_DGRAM && length >= sizeof(sa_family_t) && address->sa_family == AF_UNSPEC) {
        leave_peer();
        connected_ = peer_gone_ = false;
        return 0;
    }
    const auto to = given(address, length);
    if (!to) return to.error();
    bool exists = false;
    UnixSocket* found = host_.unix_names().find(*to, &exists);
    if (found == nullptr) return exists || is_abstract(*to) ? -ECONNREFUSED : -ENOENT;
    if (found->type_ != type_) return -EPROTOTYPE;
    return type_ == SOCK_DGRAM ? connect_datagram(*found) : connect_stream(*found);
}

int UnixSocket::connect_datagram(UnixSocket& other) {
    leave_peer();
    peer_ = &other;
    peer_name_ = other.name_;
    other.senders_.push_back(this);
    connected_ = true;
    peer_gone_ = false;
    return 0;
}

int UnixSocket::connect_stream(UnixSocket& listener) {
    if (!listener.listening_ || (listener.shut_ & receive_shut) != 0) return -ECONNREFUSED;
    if (connected_) return -EISCONN;
    if (listening_) return -EINVAL;
    if (listener.waiting_.size() > listener.backlog_) {
        listener.refused_.push_back(weak_from_this());
        return -EAGAIN;
    }
    auto accepted = std::make_shared<UnixSocket>(host_, type_);
    accepted->peer_ = this;
    accepted->connected_ = true;
    accepted->peer_name_ = name_.family() == AF_UNIX ? name_ : unnamed();
    accepted->name_ = listener.name_;
    peer_ = accepted.get();
    peer_name_ = listener.name_;
    connected_ = true;
    listener.waiting_.push_back(std::move(accepted));
    listener.notify(readable);
    return 0;
}

std::expected<std::shared_ptr<File>, int> UnixSocket::accept(sockaddr* address, socklen_t* length) noexcept {
    if (type_ != SOCK_STREAM) return std::unexpected(-EOPNOTSUPP);
    if (!listening_) return std::unexpected(-EINVAL);
    // Linux says EINVAL to who waits, and it would be useless to wait: a non-blocking call gets EAGAIN there.
    if (waiting_.empty()) return std::unexpected((shut_ & receive_shut) != 0 ? -EINVAL : -EAGAIN);
    std::shared_ptr<UnixSocket> socket = std::move(waiting_.front());
    waiting_.pop_front();
    for (const auto& refused : std::exchange(refused_, {})) {
        if (const auto client = refused.lock()) client->notify(POLLOUT);
    }
    if (address != nullptr) {
        const int result = copy_address(socket->peer_name_, address, length);
        if (result < 0) return std::unexpected(result);
    }
    return socket;
}

std::int64_t UnixSocket::send(std::span<const std::byte> from, int flags) noexcept {
    if ((flags & MSG_OOB) != 0) return -EOPNOTSUPP;
    return type_ == SOCK_DGRAM ? send_datagram(from) : send_stream(from);
}

std::int64_t UnixSocket::send_message(std::span<const std::byte> from, const Ancillary& with, int flags) noexcept {
    // A stream does not go elsewhere, and datagrams without a connection, or with descriptors, are not modelled.
    if (type_ == SOCK_STREAM && with.name_length != 0) return connected_ ? -EISCONN : -EOPNOTSUPP;
    if (with.name_length != 0) return -EOPNOTSUPP;
    if (type_ != SOCK_STREAM || with.control.empty()) return File::send_message(from, with, flags);
    auto rights = rights_of(with);
    if (!rights) return rights.error();
    return (flags & MSG_OOB) != 0 ? -EOPNOTSUPP : send_stream(from, std::move(*rights));
}

std::int64_t UnixSocket::send_stream(std::span<const std::byte> from, std::vector<std::shared_ptr<File>> rights) {
    if (!connected_) return -ENOTCONN;
    if ((shut_ & send_shut) != 0 || peer_ == nullptr) return -EPIPE;
    if (from.empty()) return 0;
    const std::uint64_t used = unread_by_peer();
    if (used >= send_buffer()) return -EAGAIN;
    std::size_t size = std::min<std::size_t>(from.size(), send_buffer() - used);
    World& world = host_.network().world();
    if (size > 1 && world.fault(Fault::short_send)) size = 1 + world.random().below(size - 1);
    if (!rights.empty()) {
        const std::uint64_t first = peer_->input_.last();
        for (const auto& file : rights) file->acquire();
        peer_->rights_.push_back({first, first + size, std::move(rights)});
    }
    peer_->input_.append(from.first(size));
    host_.network().accounts().sent += size;
    peer_->notify(readable);
    return static_cast<std::int64_t>(size);
}

std::int64_t UnixSocket::send_datagram(std::span<const std::byte> from) {
    if ((shut_ & send_shut) != 0) return -EPIPE;
    if (std::exchange(peer_gone_, false)) {
        connected_ = false;
        return -ECONNREFUSED;
    }
    if (peer_ == nullptr) return -ENOTCONN;
    if (from.size() > send_buffer()) return -EMSGSIZE;
    if ((peer_->shut_ & receive_shut) != 0) return -EPIPE;
    const bool full = peer_ != this && peer_->peer_ != this && peer_->datagrams_.size() > datagram_limit;
    if (full || unread_by_peer() >= send_buffer()) return -EAGAIN;
    if (!unread_datagrams_) unread_datagrams_ = std::make_shared<std::uint64_t>(0);
    *unread_datagrams_ += from.size();
    peer_->datagrams_.push_back({{from.begin(), from.end()}, unread_datagrams_});
    host_.network().accounts().sent += from.size();
    peer_->notify(readable);
    return static_cast<std::int64_t>(from.size());
}

std::int64_t UnixSocket::receive(std::span<std::byte> into, int flags) noexcept {
    if ((flags & MSG_OOB) != 0) return -EOPNOTSUPP;
    Ancillary nowhere;
    return type_ == SOCK_DGRAM ? receive_datagram(into, flags) : receive_stream(into, flags, nowhere);
}

// The sender's name comes with its bytes.
std::int64_t UnixSocket::receive_message(std::span<std::byte> into, Ancillary& with, int flags) noexcept {
    if (type_ == SOCK_DGRAM || (flags & MSG_OOB) != 0) return receive(into, flags);
    const std::int64_t got = receive_stream(into, flags, with);
    if (got > 0 && peer_name_.family() == AF_UNIX && peer_name_.size() > path_offset) {
        with.name_length = peer_name_.size();
        std::memcpy(&with.name, peer_name_.data(), peer_name_.size());
    }
    return got;
}

// scm_detach_fds of Linux: what came with bytes before that offset is given numbers, as many as there are and as there
// is room for.
void UnixSocket::give_rights(std::uint64_t before, bool stay, Ancillary& with) {
    if (rights_.empty() || rights_.front().first >= before) return;
    const std::vector<std::shared_ptr<File>> files = stay ? rights_.front().files : std::move(rights_.front().files);
    const std::size_t room = with.control.size() <= CMSG_LEN(0) ? 0 : (with.control.size() - CMSG_LEN(0)) / sizeof(int);
    std::size_t given = 0;
    while (given < files.size() && given < room) {
        const int descriptor = with.descriptors->install(files[given]);
        if (descriptor < 0) break;
        std::memcpy(with.control.data() + CMSG_LEN(given * sizeof descriptor), &descriptor, sizeof descriptor);
        ++given;
    }
    if (given != files.size()) with.flags |= MSG_CTRUNC;
    if (given != 0) {
        cmsghdr header{};
        header.cmsg_len = CMSG_LEN(given * sizeof(int));
        header.cmsg_level = SOL_SOCKET;
        header.cmsg_type = SCM_RIGHTS;
        std::memcpy(with.control.data(), &header, sizeof header);
        with.control_length = std::min(CMSG_SPACE(given * sizeof(int)), with.control.size());
    }
    if (stay) return;
    rights_.pop_front();
    let_go(files);
}

std::int64_t UnixSocket::receive_stream(std::span<std::byte> into, int flags, Ancillary& with) {
    if (!connected_) return -EINVAL;
    if (into.empty()) return 0;
    const std::uint64_t there = input_.last() - input_.first();
    if (there == 0) {
        if (error_ != 0) return -take_error();
        return (shut_ & receive_shut) != 0 ? 0 : -EAGAIN;
    }
    std::size_t size = std::min<std::uint64_t>(into.size(), there);
    World& world = host_.network().world();
    if (size > 1 && world.fault(Fault::short_receive)) size = 1 + world.random().below(size - 1);
    // A receive ends behind the piece that descriptors have come with.
    if (!rights_.empty() && rights_.front().first < input_.first() + size)
        size = std::min<std::uint64_t>(size, rights_.front().last - input_.first());
    input_.copy(into.first(size));
    give_rights(input_.first() + size, (flags & MSG_PEEK) != 0, with);
    if ((flags & MSG_PEEK) != 0) return static_cast<std::int64_t>(size);
    // Who wants more than there is looks at what is behind it, and an error that is there is not told again.
    if ((flags & MSG_WAITALL) != 0 && size == there && size < into.size()) take_error();
    const bool was_full = peer_ != nullptr && (peer_->readiness() & POLLOUT) == 0;
    input_.drop(size);
    host_.network().accounts().received += size;
    if (was_full && (peer_->readiness() & POLLOUT) != 0) peer_->notify(writable);
    return static_cast<std::int64_t>(size);
}

std::int64_t UnixSocket::receive_datagram(std::span<std::byte> into, int flags) {
    if (datagrams_.empty()) {
        if (error_ != 0) return -take_error();
        return (shut_ & receive_shut) != 0 ? 0 : -EAGAIN;
    }
    const auto& bytes = datagrams_.front().bytes;
    const std::size_t whole = bytes.size();
    const std::size_t size = std::min(into.size(), whole);
    if (size != 0) std::memcpy(into.data(), bytes.data(), size);
    if ((flags & MSG_PEEK) == 0) {
        host_.network().accounts().received += size;
        host_.network().accounts().lost += whole - size;
        take_datagram();
        for (UnixSocket* sender : senders_) sender->notify(writable);
    }
    return static_cast<std::int64_t>((flags & MSG_TRUNC) != 0 ? whole : size);
}

void UnixSocket::take_datagram() noexcept {
    *datagrams_.front().unread_of_sender -= datagrams_.front().bytes.size();
    datagrams_.pop_front();
}

int UnixSocket::shutdown(int how) noexcept {
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
    const auto mode = static_cast<std::uint8_t>(how + 1);
    shut_ |= mode;
    if (type_ == SOCK_STREAM && peer_ != nullptr) {
        // The other's sending is this one's receiving.
        if ((mode & receive_shut) != 0) peer_->shut_ |= send_shut;
        if ((mode & send_shut) != 0) peer_->shut_ |= receive_shut;
        peer_->notify(peer_->readiness());
    }
    notify(readiness());
    return 0;
}

int UnixSocket::set_option(int level, int name, const void* value, socklen_t length) noexcept {
    if (value == nullptr) return -EFAULT;
    if (level != SOL_SOCKET) return -EOPNOTSUPP;
    if (name == SO_REUSEPORT) return -EOPNOTSUPP;
    return options_.set(name, value, length);
}

int UnixSocket::get_option(int level, int name, void* value, socklen_t* length) noexcept {
    if (value == nullptr || length == nullptr) return -EFAULT;
    if (level != SOL_SOCKET) return -EOPNOTSUPP;
    switch (name) {
        case SO_TYPE:
            return give_option(type_, value, length);
        case SO_DOMAIN:
            return give_option(AF_UNIX, value, length);
        case SO_PROTOCOL:
            return give_option(0, value, length);
        case SO_ACCEPTCONN:
            return give_option(listening_ ? 1 : 0, value, length);
        case SO_ERROR:
            return give_option(take_error(), value, length);
        case SO_PEERCRED: {
            const ucred& peer = connected_ ? everybody : nobody;
            *length = std::min<socklen_t>(*length, sizeof peer);
            std::memcpy(value, &peer, *length);
            return 0;
        }
        case SO_SNDBUF:
            return give_option(static_cast<int>(send_buffer()), value, length);
        case SO_RCVBUF:
            if (options_.receive_buffer == 0) {
                return give_option(static_cast<int>(default_send_buffer), value, length);
            }
            return options_.get(name, value, length);
        default:
            return options_.get(name, value, length);
    }
}

int UnixSocket::socket_name(sockaddr* address, socklen_t* length) noexcept {
    return copy_address(name_.family() == AF_UNIX ? name_ : unnamed(), address, length);
}

int UnixSocket::peer_name(sockaddr* address, socklen_t* length) noexcept {
    if (!connected_) return -ENOTCONN;
    return copy_address(peer_name_.family() == AF_UNIX ? peer_name_ : unnamed(), address, length);
}

}  // namespace ferrule::inline v0::sim
