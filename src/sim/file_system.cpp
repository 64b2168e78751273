#include <ferrule/assert.hpp>

#include "sim/file_system.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ferrule::inline v0::sim {
namespace {

constexpr std::size_t name_max = 255;
constexpr std::size_t path_max = 4096;
constexpr int links_max = 40;
constexpr std::uint32_t permission_bits = 07777;
constexpr std::uint64_t ns_per_second = 1'000'000'000;
constexpr std::uint64_t block_bytes = 512;
// A page of a fast disk, and a busy one.
constexpr std::uint64_t disk_ns_min = 50'000;
constexpr std::uint64_t disk_ns_max = 10'000'000;
// CLOCK_REALTIME when a simulation begins, and its CLOCK_MONOTONIC: 2026-01-01 00:00 UTC.
constexpr std::uint64_t realtime_start_ns = 1'767'225'600'000'000'000;
constexpr std::uint64_t monotonic_start_ns = 1'000'000'000'000;

constexpr std::uint64_t known_flags = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_DIRECTORY | O_NOFOLLOW |
                                      O_CLOEXEC | O_NONBLOCK | O_PATH | O_NOCTTY | O_LARGEFILE | O_NOATIME;
constexpr std::uint64_t known_resolve =
    RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT;

/// As getdents64(2) writes it, up to the name.
struct RawEntry {
    std::uint64_t inode;
    std::int64_t offset;
    std::uint16_t length;
    std::uint8_t type;
};
constexpr std::size_t entry_name_offset = 19;

}  // namespace

std::uint64_t draw_disk_ns(World& world) {
    return world.random().between(disk_ns_min, disk_ns_max);
}

// ---- What is on the disk, and in memory of it.

bool Inode::is_directory() const noexcept {
    return (mode_ & S_IFMT) == S_IFDIR;
}

bool Inode::is_link() const noexcept {
    return (mode_ & S_IFMT) == S_IFLNK;
}

bool Inode::is_regular() const noexcept {
    return (mode_ & S_IFMT) == S_IFREG;
}

void Inode::permissions(std::uint32_t bits) noexcept {
    mode_ = (mode_ & ~permission_bits) | (bits & permission_bits);
}

void Inode::write(std::uint64_t offset, std::span<const std::byte> from, std::uint64_t now_ns) {
    if (from.empty()) return;
    if (offset + from.size() > bytes_.size()) resize(offset + from.size(), now_ns);
    std::memcpy(bytes_.data() + offset, from.data(), from.size());
    load(offset, from.size());
    modified_ns_ = now_ns;
}

void Inode::resize(std::uint64_t size, std::uint64_t now_ns) {
    bytes_.resize(size);
    cached_.resize(pages(size), true);
    modified_ns_ = now_ns;
}

std::uint64_t Inode::cached(std::uint64_t offset, std::uint64_t length) const noexcept {
    const std::uint64_t end = std::min<std::uint64_t>(offset + length, bytes_.size());
    std::uint64_t at = offset;
    while (at < end && cached_[at / page_bytes]) at = (at / page_bytes + 1) * page_bytes;
    return std::min(at, std::max(end, offset)) - offset;
}

std::uint64_t Inode::cached_bytes(std::uint64_t offset, std::uint64_t length) const noexcept {
    const std::uint64_t touched = pages(offset + length) - offset / page_bytes;
    std::uint64_t count = 0;
    for (std::uint64_t page = offset / page_bytes; page < std::min(pages(offset + length), pages(bytes_.size()));
         ++page) {
        if (cached_[page]) ++count;
    }
    return count == touched ? length : std::min(count * page_bytes, length - 1);
}

void Inode::load(std::uint64_t offset, std::uint64_t length) noexcept {
    const std::uint64_t end = std::min<std::uint64_t>(offset + length, bytes_.size());
    for (std::uint64_t page = offset / page_bytes; page < pages(end); ++page) cached_[page] = true;
}

void Inode::drop_pages() noexcept {
    cached_.assign(cached_.size(), false);
}

void Inode::tell(struct ::statx& status) const noexcept {
    status = {};
    status.stx_mask = STATX_BASIC_STATS;
    status.stx_blksize = page_bytes;
    status.stx_nlink = 1;
    status.stx_mode = static_cast<std::uint16_t>(mode_);
    status.stx_ino = number_;
    status.stx_size = is_directory() ? page_bytes : bytes_.size();
    status.stx_blocks = pages(status.stx_size) * (page_bytes / block_bytes);
    const std::uint64_t time_ns = realtime_start_ns + (modified_ns_ - monotonic_start_ns);
    status.stx_mtime.tv_sec = static_cast<std::int64_t>(time_ns / ns_per_second);
    status.stx_mtime.tv_nsec = static_cast<std::uint32_t>(time_ns % ns_per_second);
    status.stx_atime = status.stx_ctime = status.stx_btime = status.stx_mtime;
}

// ---- Paths.

FileSystem::FileSystem(World& world, std::uint64_t disk_bytes) : world_(world), disk_bytes_(disk_bytes) {
    root_ = made(S_IFDIR | 0755);
}

std::shared_ptr<Inode> FileSystem::made(std::uint32_t mode) {
    return std::make_shared<Inode>(numbers_++, mode, world_.now_ns());
}

bool FileSystem::take(std::uint64_t bytes) noexcept {
    if (bytes > disk_bytes_ - used_bytes_) return false;
    used_bytes_ += bytes;
    return true;
}

/// Where a walk is: the directories from its root down.
struct FileSystem::Walk {
    std::vector<std::shared_ptr<Inode>> way;
    std::size_t floor = 0;  ///< the directory that it may not leave upwards
    std::uint64_t resolve = 0;
    int links = 0;
    std::shared_ptr<Inode> found;
    std::string name;
    bool missing = false;
};

// One name. Afterwards `way` ends with the directory that has it, or with itself when it is a directory in the middle.
int FileSystem::step(Walk& walk, std::string_view name, bool last, bool follows) {
    if (name.size() > name_max) return -ENAMETOOLONG;
    walk.found = nullptr;
    walk.name = name;
    if (name == ".") {
        walk.found = walk.way.back();
        return 0;
    }
    if (name == "..") {
        if (walk.way.size() - 1 > walk.floor) {
            walk.way.pop_back();
        } else if ((walk.resolve & RESOLVE_BENEATH) != 0) {
            return -EXDEV;
        }
        walk.found = walk.way.back();
        return 0;
    }
    const auto child = walk.way.back()->children.find(name);
    if (child == walk.way.back()->children.end()) {
        walk.missing = true;
        return last ? 0 : -ENOENT;
    }
    const std::shared_ptr<Inode> found = child->second;
    if (found->is_link() && (follows || !last)) {
        if ((walk.resolve & RESOLVE_NO_SYMLINKS) != 0 || ++walk.links > links_max) return -ELOOP;
        const std::string target = found->bytes();
        std::string_view left = target;
        if (left.starts_with('/')) {
            if ((walk.resolve & RESOLVE_BENEATH) != 0) return -EXDEV;
            walk.way.resize(walk.floor + 1);
            walk.found = walk.way.back();
        }
        while (!left.empty()) {
            const std::size_t slash = left.find('/');
            const std::string_view part = left.substr(0, slash);
            left = slash == std::string_view::npos ? std::string_view{} : left.substr(slash + 1);
            if (part.empty()) continue;
            const bool is_last = last && left.find_first_not_of('/') == std::string_view::npos;
            if (const int result = step(walk, part, is_last, true); result < 0) return result;
        }
        return 0;
    }
    walk.found = found;
    if (last) return 0;
    if (!found->is_directory()) return -ENOTDIR;
    walk.way.push_back(found);
    return 0;
}

std::expected<FileSystem::Place, int> FileSystem::walk(const std::shared_ptr<Inode>& from, std::string_view path,
                                                       std::uint64_t resolve, bool follows) {
    if (path.empty()) return std::unexpected(-ENOENT);
    if (path.size() >= path_max) return std::unexpected(-ENAMETOOLONG);
    if (!from->is_directory()) return std::unexpected(-ENOTDIR);
    Walk walk;
    walk.resolve = resolve;
    const bool confined = (resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0;
    if (path.starts_with('/') && (resolve & RESOLVE_BENEATH) != 0) return std::unexpected(-EXDEV);
    // The way to a directory that is not the root is not kept: nothing that is walked from there goes above it.
    walk.way = {path.starts_with('/') && !confined ? root_ : from};
    walk.found = walk.way.back();
    std::string_view left = path;
    bool ends_with_slash = false;
    while (!left.empty()) {
        const std::size_t slash = left.find('/');
        const std::string_view part = left.substr(0, slash);
        left = slash == std::string_view::npos ? std::string_view{} : left.substr(slash + 1);
        if (part.empty()) continue;
        const bool last = left.find_first_not_of('/') == std::string_view::npos;
        ends_with_slash = last && path.ends_with('/');
        if (!walk.way.back()->is_directory()) return std::unexpected(-ENOTDIR);
        if (const int result = step(walk, part, last, follows || ends_with_slash); result < 0) {
            return std::unexpected(result);
        }
        // A directory at the end of a link in the middle.
        if (!last && walk.found != nullptr && walk.found != walk.way.back()) {
            if (!walk.found->is_directory()) return std::unexpected(-ENOTDIR);
            walk.way.push_back(walk.found);
        }
    }
    if (ends_with_slash && walk.found != nullptr && !walk.found->is_directory()) return std::unexpected(-ENOTDIR);
    return Place{walk.found, walk.way.back(), walk.name};
}

std::expected<std::shared_ptr<File>, int> FileSystem::open(File* from, std::string_view path,
                                                           const struct ::open_how& how) {
    if ((how.flags & ~known_flags) != 0 || (how.resolve & ~known_resolve) != 0) return std::unexpected(-EINVAL);
    const bool creates = (how.flags & O_CREAT) != 0;
    if ((how.mode & ~std::uint64_t{permission_bits}) != 0 || (how.mode != 0 && !creates)) {
        return std::unexpected(-EINVAL);
    }
    constexpr std::uint64_t roots = RESOLVE_BENEATH | RESOLVE_IN_ROOT;
    if ((how.resolve & roots) == roots) return std::unexpected(-EINVAL);
    std::shared_ptr<Inode> start = root_;
    if (from != nullptr && !path.starts_with('/')) {
        const auto* const directory = dynamic_cast<const DiskFile*>(from);
        if (directory == nullptr) return std::unexpected(-ENOTDIR);
        start = directory->inode();
    } else if (from != nullptr && (how.resolve & roots) != 0) {
        const auto* const directory = dynamic_cast<const DiskFile*>(from);
        if (directory != nullptr) start = directory->inode();
    }
    const bool exclusive = creates && (how.flags & O_EXCL) != 0;
    auto place = walk(start, path, how.resolve, (how.flags & O_NOFOLLOW) == 0 && !exclusive);
    if (!place) return std::unexpected(place.error());
    std::shared_ptr<Inode> inode = place->inode;
    const bool opens_path = (how.flags & O_PATH) != 0;
    if (inode == nullptr) {
        if (!creates) return std::unexpected(-ENOENT);
        if (path.ends_with('/')) return std::unexpected(-EISDIR);
        inode = made(S_IFREG | (static_cast<std::uint32_t>(how.mode) & ~022u));
        place->directory->children.emplace(place->name, inode);
        return std::make_shared<DiskFile>(*this, std::move(inode), how.flags);
    }
    if (exclusive) return std::unexpected(-EEXIST);
    if (inode->is_link() && !opens_path) return std::unexpected(-ELOOP);
    if ((how.flags & O_DIRECTORY) != 0 && !inode->is_directory()) return std::unexpected(-ENOTDIR);
    auto opened = std::make_shared<DiskFile>(*this, inode, how.flags);
    if (opens_path) return opened;
    if (inode->is_directory() && (opened->writable() || creates)) return std::unexpected(-EISDIR);
    if (opened->readable() && (inode->mode() & 0400) == 0) return std::unexpected(-EACCES);
    if (opened->writable() && (inode->mode() & 0200) == 0) return std::unexpected(-EACCES);
    if ((how.flags & O_TRUNC) != 0 && opened->writable()) {
        give_back(inode->bytes().size());
        inode->resize(0, world_.now_ns());
    }
    return opened;
}

int FileSystem::status(File* from, std::string_view path, bool follows, struct ::statx& status) {
    const auto* const opened = dynamic_cast<const DiskFile*>(from);
    if (path.empty()) {
        if (opened == nullptr) return -EBADF;
        opened->inode()->tell(status);
        return 0;
    }
    if (from != nullptr && opened == nullptr && !path.starts_with('/')) return -ENOTDIR;
    const bool from_root = opened == nullptr || path.starts_with('/');
    const auto place = walk(from_root ? root_ : opened->inode(), path, 0, follows);
    if (!place) return place.error();
    if (place->inode == nullptr) return -ENOENT;
    place->inode->tell(status);
    return 0;
}

std::shared_ptr<Inode> FileSystem::find(std::string_view path) {
    const auto place = walk(root_, path, 0, true);
    return place ? place->inode : nullptr;
}

std::shared_ptr<Inode> FileSystem::make(std::string_view path, std::uint32_t mode) {
    std::shared_ptr<Inode> directory = root_;
    for (;;) {
        path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
        const std::string_view name = path.substr(0, path.find('/'));
        path.remove_prefix(name.size());
        if (name.empty() || !directory->is_directory()) return nullptr;
        const bool last = path.find_first_not_of('/') == std::string_view::npos;
        auto& child = directory->children[std::string(name)];
        if (last) {
            if (child != nullptr && child->is_directory() && (mode & S_IFMT) == S_IFDIR) return child;
            if (child != nullptr && child->is_directory()) return nullptr;
            if (child != nullptr) give_back(child->is_regular() ? child->bytes().size() : 0);
            child = made(mode);
            return child;
        }
        if (child == nullptr) child = made(S_IFDIR | 0755);
        directory = child;
    }
}

void FileSystem::put(std::string_view path, std::string_view bytes) {
    const auto inode = make(path, S_IFREG | 0644);
    FERRULE_ASSERT(inode != nullptr && take(bytes.size()));
    inode->write(0, std::as_bytes(std::span(bytes)), world_.now_ns());
}

int FileSystem::remove(std::string_view path) {
    const auto place = walk(root_, path, 0, false);
    if (!place || place->inode == nullptr) return -ENOENT;
    // Who has it open keeps it.
    if (place->inode->is_regular()) give_back(place->inode->bytes().size());
    place->directory->children.erase(place->name);
    return 0;
}

// ---- Open files.

std::uint32_t DiskFile::readiness() const noexcept {
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

bool DiskFile::readable() const noexcept {
    return (flags_ & O_PATH) == 0 && (flags_ & O_ACCMODE) != O_WRONLY;
}

bool DiskFile::writable() const noexcept {
    return (flags_ & O_PATH) == 0 && (flags_ & O_ACCMODE) != O_RDONLY;
}

std::int64_t DiskFile::read(std::span<std::byte> into) noexcept {
    const std::int64_t got = read_at(into, position_, true);
    if (got > 0) position_ += static_cast<std::uint64_t>(got);
    return got;
}

std::int64_t DiskFile::write(std::span<const std::byte> from) noexcept {
    const std::int64_t put = write_at(from, position_);
    if (put > 0) position_ += static_cast<std::uint64_t>(put);
    return put;
}

std::int64_t DiskFile::read_at(std::span<std::byte> into, std::uint64_t offset, bool waits) noexcept {
    if (!readable()) return -EBADF;
    if (inode_->is_directory()) return -EISDIR;
    if (static_cast<std::int64_t>(offset) < 0) return -EINVAL;
    World& world = files_.world();
    const std::string& bytes = inode_->bytes();
    if (!bytes.empty() && world.fault(Fault::file_shrinks)) {
        const std::uint64_t left = world.random().below(bytes.size());
        files_.give_back(bytes.size() - left);
        inode_->resize(left, world.now_ns());
    }
    if (offset >= bytes.size() || into.empty()) return 0;
    std::uint64_t size = std::min<std::uint64_t>(into.size(), bytes.size() - offset);
    if (!waits) {
        size = std::min(size, inode_->cached(offset, size));
        if (size == 0) return -EAGAIN;
    }
    if (world.fault(Fault::file_read_fails)) return -EIO;
    if (world.fault(Fault::file_read_interrupted)) return -EINTR;
    if (size > 1 && world.fault(Fault::short_file_read)) size = 1 + world.random().below(size - 1);
    std::memcpy(into.data(), bytes.data() + offset, size);
    inode_->load(offset, size);
    return static_cast<std::int64_t>(size);
}

std::int64_t DiskFile::write_at(std::span<const std::byte> from, std::uint64_t offset) noexcept {
    if (!writable()) return -EBADF;
    if (static_cast<std::int64_t>(offset) < 0) return -EINVAL;
    World& world = files_.world();
    if (from.empty()) return 0;
    const std::uint64_t size = inode_->bytes().size();
    if ((flags_ & O_APPEND) != 0) offset = size;
    std::size_t taken = from.size();
    if (taken > 1 && world.fault(Fault::short_file_write)) taken = 1 + world.random().below(taken - 1);
    const std::uint64_t grows = offset + taken > size ? offset + taken - size : 0;
    if (world.fault(Fault::disk_full) || !files_.take(grows)) return -ENOSPC;
    if (world.fault(Fault::file_write_fails)) {
        files_.give_back(grows);
        return -EIO;
    }
    inode_->write(offset, from.first(taken), world.now_ns());
    return static_cast<std::int64_t>(taken);
}

bool DiskFile::waits_for_disk(std::uint64_t offset, std::size_t length) noexcept {
    if (!readable() || !inode_->is_regular() || static_cast<std::int64_t>(offset) < 0) return false;
    if (files_.world().fault(Fault::pages_dropped)) inode_->drop_pages();
    const std::uint64_t size = inode_->bytes().size();
    if (offset >= size) return false;
    const std::uint64_t wanted = std::min<std::uint64_t>(length, size - offset);
    return inode_->cached(offset, wanted) < wanted;
}

int DiskFile::synchronise() noexcept {
    if ((flags_ & O_PATH) != 0) return -EBADF;
    return files_.world().fault(Fault::file_write_fails) ? -EIO : 0;
}

std::int64_t DiskFile::list(std::span<std::byte> into) noexcept {
    if (!readable()) return -EBADF;
    if (!inode_->is_directory()) return -ENOTDIR;
    std::size_t used = 0;
    std::uint64_t number = 0;
    const auto add = [&](std::string_view name, std::uint8_t type, std::uint64_t inode) {
        if (number++ < position_) return true;
        const std::size_t length = (entry_name_offset + name.size() + 1 + 7) & ~std::size_t{7};
        if (length > into.size() - used) return false;
        const RawEntry raw{inode, static_cast<std::int64_t>(number), static_cast<std::uint16_t>(length), type};
        std::memset(into.data() + used, 0, length);
        std::memcpy(into.data() + used, &raw, entry_name_offset);
        std::memcpy(into.data() + used + entry_name_offset, name.data(), name.size());
        used += length;
        ++position_;
        return true;
    };
    bool goes_on = add(".", DT_DIR, inode_->number()) && add("..", DT_DIR, inode_->number());
    for (auto child = inode_->children.begin(); goes_on && child != inode_->children.end(); ++child) {
        const Inode& inode = *child->second;
        const std::uint8_t type = inode.is_directory() ? DT_DIR : inode.is_link() ? DT_LNK : DT_REG;
        goes_on = add(child->first, type, inode.number());
    }
    if (used == 0 && !goes_on) return -EINVAL;
    return static_cast<std::int64_t>(used);
}

}  // namespace ferrule::inline v0::sim
