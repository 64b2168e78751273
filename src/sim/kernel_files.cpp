#include "sim/file_system.hpp"
#include "sim/kernel.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>

namespace ferrule::inline v0::sim {

// What the seam does with files.

namespace {

/// sendfile goes on in pieces of a pipe.
constexpr std::size_t piece_bytes = 64 * 1024;
constexpr std::uint32_t owner_writes = 0200;

}  // namespace

int MachineKernel::unlink(const char* path) noexcept {
    world_.spend(call_ns);
    const int result = machine_.host.unlink(path);
    return result == -ENOENT ? machine_.files.remove(path) : result;
}

int MachineKernel::status(const char* path, unsigned* mode) noexcept {
    world_.spend(call_ns);
    const int result = machine_.host.status(path, mode);
    if (result != -ENOENT) return result;
    const auto inode = machine_.files.find(path);
    if (inode == nullptr) return -ENOENT;
    *mode = inode->mode();
    return 0;
}

int MachineKernel::change_mode(const char* path, unsigned mode) noexcept {
    world_.spend(call_ns);
    const int result = machine_.host.change_mode(path, mode);
    if (result != -ENOENT) return result;
    const auto inode = machine_.files.find(path);
    if (inode == nullptr) return -ENOENT;
    inode->permissions(mode);
    return 0;
}

ssize_t MachineKernel::read_file(const char* path, void* data, std::size_t length) noexcept {
    world_.spend(call_ns);
    const auto inode = machine_.files.find(path);
    if (inode == nullptr) return -ENOENT;
    if (inode->is_directory()) return -EISDIR;
    const std::size_t taken = std::min(length, inode->bytes().size());
    if (taken != 0) std::memcpy(data, inode->bytes().data(), taken);
    return static_cast<ssize_t>(taken);
}

// What /etc/hosts says: a simulated machine has no other resolver of its own.
int MachineKernel::resolve_name(const char* name, sockaddr_storage* addresses, std::size_t capacity) noexcept {
    world_.spend(call_ns);
    const auto hosts = machine_.files.find("/etc/hosts");
    if (hosts == nullptr) return -EIO;
    std::size_t count = 0;
    std::istringstream lines{hosts->bytes()};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words{line.substr(0, line.find('#'))};
        std::string text;
        words >> text;
        const bool ipv6 = text.find(':') != std::string::npos;
        const auto address = SocketAddress::parse(ipv6 ? "[" + text + "]:0" : text + ":0");
        for (std::string known; address && words >> known;) {
            if (known != name || count == capacity) continue;
            std::memcpy(&addresses[count++], address->data(), address->size());
        }
    }
    return count != 0 ? static_cast<int>(count) : -ENOENT;
}

int MachineKernel::set_nonblocking(int fd, bool on) noexcept {
    return with_file(fd, [&](File& file) {
        file.nonblocking(on);
        return 0;
    });
}

ssize_t MachineKernel::read_directory(int fd, void* entries, std::size_t length) noexcept {
    return with_file(fd, [&](File& file) -> ssize_t {
        auto* const directory = dynamic_cast<DiskFile*>(&file);
        if (directory == nullptr) return -ENOTDIR;
        return directory->list({static_cast<std::byte*>(entries), length});
    });
}

ssize_t MachineKernel::read_cached(int fd, const iovec* pieces, int count, std::uint64_t offset) noexcept {
    return with_file(fd, [&](File& file) -> ssize_t {
        if (file.pollable()) return -EOPNOTSUPP;
        file.waits_for_disk(offset, 1);
        ssize_t done = 0;
        for (const iovec& piece : std::span(pieces, static_cast<std::size_t>(count))) {
            const std::span into(static_cast<std::byte*>(piece.iov_base), piece.iov_len);
            if (into.empty()) continue;
            for (const auto& ring : machine_.rings) ring->read_beside(into);
            const auto got = static_cast<ssize_t>(file.read_at(into, offset + static_cast<std::uint64_t>(done), false));
            if (got <= 0) return done != 0 ? done : got;
            done += got;
            if (static_cast<std::size_t>(got) < into.size()) break;
        }
        return done;
    });
}

ssize_t MachineKernel::cached_bytes(int fd, std::uint64_t offset, std::size_t length) noexcept {
    return with_file(fd, [&](File& file) -> ssize_t {
        if (machine_.options.profile == Profile::linux_6_1) return -ENOSYS;
        const auto* const disk = dynamic_cast<const DiskFile*>(&file);
        if (disk == nullptr) return -EBADF;
        const bool guarded = machine_.options.profile == Profile::linux_6_18;
        if (guarded && (disk->inode()->mode() & owner_writes) == 0) return -EPERM;
        return static_cast<ssize_t>(disk->inode()->cached_bytes(offset, length));
    });
}

ssize_t MachineKernel::send_file(int socket, int number, std::uint64_t offset, std::size_t length) noexcept {
    world_.spend(call_ns);
    const std::shared_ptr<File> to = file(socket);
    const std::shared_ptr<File> from = file(number);
    if (to == nullptr || from == nullptr) return -EBADF;
    auto* const disk = dynamic_cast<DiskFile*>(from.get());
    if (disk == nullptr || !disk->inode()->is_regular() || !to->is_socket()) return -EINVAL;
    std::vector<std::byte> piece;
    std::size_t done = 0;
    while (done < length) {
        piece.resize(std::min(length - done, piece_bytes));
        // The thread waits, and everything that it does.
        if (disk->waits_for_disk(offset + done, piece.size())) world_.spend(draw_disk_ns(world_));
        const std::int64_t got = disk->read_at(piece, offset + done, true);
        if (got <= 0) return done != 0 ? static_cast<ssize_t>(done) : static_cast<ssize_t>(got);
        const std::span<const std::byte> there = std::span(piece).first(static_cast<std::size_t>(got));
        const std::int64_t sent = to->send(there, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) return done != 0 ? static_cast<ssize_t>(done) : static_cast<ssize_t>(sent);
        done += static_cast<std::size_t>(sent);
        if (sent < got) break;
    }
    return static_cast<ssize_t>(done);
}

}  // namespace ferrule::inline v0::sim
