#include "sim/front_end.hpp"

#include <fcntl.h>
#include <linux/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ferrule::inline v0::sim {

// Reads and writes of whatever has them, and what is done with paths.

namespace {

constexpr std::uint64_t no_position = ~std::uint64_t{0};
constexpr std::uint32_t status_flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;

}  // namespace

// The path and how it is opened are copied when the entry is consumed.
int FrontEnd::read_path(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    if (entry.buf_index != 0 || entry.splice_fd_in != 0) return -EINVAL;
    if ((entry.flags & abi::entry_fixed_file) != 0) return -EBADF;
    const auto* const path = reinterpret_cast<const char*>(entry.addr);
    request.message = std::make_unique<MessageHeader>();
    MessageHeader& message = *request.message;
    if (path != nullptr) message.path = path;
    if (entry.opcode == abi::Operation::statx) {
        message.name = {reinterpret_cast<std::byte*>(entry.off), sizeof(struct ::statx)};
        request.at_worker = true;
        return 0;
    }
    if (path == nullptr) return -EFAULT;
    if (entry.len < sizeof message.how) return -EINVAL;
    const auto* const how = reinterpret_cast<const std::byte*>(entry.off);
    // What a newer program says must be nothing.
    const std::span<const std::byte> rest{how + sizeof message.how, entry.len - sizeof message.how};
    if (std::ranges::any_of(rest, [](std::byte byte) { return byte != std::byte{}; })) return -E2BIG;
    std::memcpy(&message.how, how, sizeof message.how);
    request.at_worker = (message.how.flags & (O_CREAT | O_TRUNC)) != 0 || world_.random().one_in(2);
    return 0;
}

// A worker waits for the disk; the request's memory is the kernel's meanwhile.
FrontEnd::Outcome FrontEnd::to_disk(Request& request) {
    request.at_disk = true;
    start_at_worker(request, draw_disk_ns(world_));
    return Outcome::waits;
}

FrontEnd::Outcome FrontEnd::read(Request& request) {
    File& file = *request.file;
    const std::uint64_t offset = request.entry.off;
    const std::size_t length = request.message != nullptr ? request.message->length : request.entry.len;
    if (!request.at_disk && file.waits_for_disk(offset, length)) return to_disk(request);
    const std::span<std::byte> into = room_of(request);
    const std::int64_t got = offset == no_position ? file.read(into) : file.read_at(into, offset, true);
    if (got == -EAGAIN) return Outcome::again;
    if (got > 0 && request.message != nullptr) scatter(request, static_cast<std::size_t>(got), {});
    return finish(request, static_cast<std::int32_t>(got));
}

FrontEnd::Outcome FrontEnd::write(Request& request) {
    File& file = *request.file;
    const std::uint64_t offset = request.entry.off;
    // Some file systems cannot write without waiting.
    if (!file.pollable() && !request.at_disk && world_.random().one_in(2)) return to_disk(request);
    const std::span<const std::byte> from = gather(request);
    const std::int64_t put = offset == no_position ? file.write(from) : file.write_at(from, offset);
    if (put == -EAGAIN) return Outcome::again;
    return finish(request, static_cast<std::int32_t>(put));
}

FrontEnd::Outcome FrontEnd::synchronise(Request& request) {
    if (!request.at_disk) return to_disk(request);
    return finish(request, request.file->synchronise());
}

FrontEnd::Outcome FrontEnd::open(Request& request) {
    const MessageHeader& message = *request.message;
    const std::shared_ptr<File> from = request.entry.fd == AT_FDCWD ? nullptr : descriptors_.get(request.entry.fd);
    if (from == nullptr && request.entry.fd != AT_FDCWD && !message.path.starts_with('/')) {
        return finish(request, -EBADF);
    }
    if (descriptors_.full()) return finish(request, -EMFILE);
    if (paths_ == nullptr) return finish(request, -ENOENT);
    auto opened = paths_->open(from.get(), message.path, message.how);
    if (!opened) return finish(request, opened.error());
    return finish(request, descriptors_.install(std::move(*opened)));
}

FrontEnd::Outcome FrontEnd::tell_status(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    MessageHeader& message = *request.message;
    if ((entry.statx_flags & ~status_flags) != 0) return finish(request, -EINVAL);
    const std::shared_ptr<File> from = entry.fd == AT_FDCWD ? nullptr : descriptors_.get(entry.fd);
    if (from == nullptr && entry.fd != AT_FDCWD && !message.path.starts_with('/')) return finish(request, -EBADF);
    if (message.path.empty() && (entry.statx_flags & AT_EMPTY_PATH) == 0) return finish(request, -ENOENT);
    if (paths_ == nullptr) return finish(request, -ENOENT);
    struct ::statx status {};
    const bool follows = (entry.statx_flags & AT_SYMLINK_NOFOLLOW) == 0;
    const int result = paths_->status(from.get(), message.path, follows, status);
    if (result < 0) return finish(request, result);
    for (Claim& claim : message.claims) ownership_.open(claim);
    std::memcpy(message.name.data(), &status, sizeof status);
    return finish(request, 0);
}

}  // namespace ferrule::inline v0::sim
