#pragma once

#include "sim/file.hpp"
#include "sim/world.hpp"

#include <linux/openat2.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct statx;

namespace ferrule::inline v0::sim {

/// What a path of a simulated machine leads to: a regular file with its bytes, a directory, or a symbolic link.
class Inode {
public:
    /// `mode`: S_IFREG, S_IFDIR or S_IFLNK with permission bits.
    Inode(std::uint64_t number, std::uint32_t mode, std::uint64_t now_ns) noexcept
        : number_(number), mode_(mode), modified_ns_(now_ns) {}

    [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
    [[nodiscard]] std::uint32_t mode() const noexcept { return mode_; }
    void permissions(std::uint32_t bits) noexcept;
    [[nodiscard]] bool is_directory() const noexcept;
    [[nodiscard]] bool is_link() const noexcept;
    [[nodiscard]] bool is_regular() const noexcept;

    /// Of a regular file; of a link where it leads.
    [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }
    void write(std::uint64_t offset, std::span<const std::byte> from, std::uint64_t now_ns);
    /// What is behind the end goes, or zeros come.
    void resize(std::uint64_t size, std::uint64_t now_ns);

    /// Of what the file has in this range, from its begin: how much can be read without the disk.
    [[nodiscard]] std::uint64_t cached(std::uint64_t offset, std::uint64_t length) const noexcept;
    /// How much of it is in the page cache, wherever.
    [[nodiscard]] std::uint64_t cached_bytes(std::uint64_t offset, std::uint64_t length) const noexcept;
    void load(std::uint64_t offset, std::uint64_t length) noexcept;
    void drop_pages() noexcept;

    void tell(struct ::statx& status) const noexcept;

    std::map<std::string, std::shared_ptr<Inode>, std::less<>> children;

    static constexpr std::uint64_t page_bytes = 4096;

private:
    [[nodiscard]] static std::uint64_t pages(std::uint64_t bytes) noexcept {
        return (bytes + page_bytes - 1) / page_bytes;
    }

    std::uint64_t number_;
    std::uint32_t mode_;
    std::uint64_t modified_ns_;
    std::string bytes_;
    /// By page; of each whether it is in the page cache.
    std::vector<bool> cached_;
};

/// The files of a machine, in memory: what openat2(2) walks. Everybody is their owner.
class FileSystem final : public Paths {
public:
    /// `disk_bytes`: what all files together may have.
    FileSystem(World& world, std::uint64_t disk_bytes);

    std::expected<std::shared_ptr<File>, int> open(File* from, std::string_view path,
                                                   const struct ::open_how& how) override;
    int status(File* from, std::string_view path, bool follows, struct ::statx& status) override;

    /// What a path leads to, from the root; null when there is nothing.
    [[nodiscard]] std::shared_ptr<Inode> find(std::string_view path);
    /// A new regular file, directory or link; the directories on the way are made. Null when something is in the way.
    std::shared_ptr<Inode> make(std::string_view path, std::uint32_t mode);
    /// A regular file with these bytes, all of them in the page cache; assertion when it cannot be.
    void put(std::string_view path, std::string_view bytes);
    /// 0 or -ENOENT.
    int remove(std::string_view path);

    [[nodiscard]] World& world() const noexcept { return world_; }
    /// Whether so many bytes more fit; they are taken.
    [[nodiscard]] bool take(std::uint64_t bytes) noexcept;
    void give_back(std::uint64_t bytes) noexcept { used_bytes_ -= bytes; }

private:
    struct Walk;
    /// How a walk ended: what is there, and the directory and the name that it has, or would have.
    struct Place {
        std::shared_ptr<Inode> inode;
        std::shared_ptr<Inode> directory;
        std::string name;
    };

    [[nodiscard]] std::expected<Place, int> walk(const std::shared_ptr<Inode>& from, std::string_view path,
                                                 std::uint64_t resolve, bool follows);
    int step(Walk& walk, std::string_view name, bool last, bool follows);
    [[nodiscard]] std::shared_ptr<Inode> made(std::uint32_t mode);

    World& world_;
    std::uint64_t disk_bytes_;
    std::uint64_t used_bytes_ = 0;
    std::uint64_t numbers_ = 1;
    std::shared_ptr<Inode> root_;
};

/// An open file or directory of the file system.
class DiskFile final : public File {
public:
    DiskFile(FileSystem& files, std::shared_ptr<Inode> inode, std::uint64_t flags) noexcept
        : files_(files), inode_(std::move(inode)), flags_(flags) {}

    [[nodiscard]] std::uint32_t readiness() const noexcept override;
    [[nodiscard]] bool pollable() const noexcept override { return false; }
    std::int64_t read(std::span<std::byte> into) noexcept override;
    std::int64_t write(std::span<const std::byte> from) noexcept override;
    std::int64_t read_at(std::span<std::byte> into, std::uint64_t offset, bool waits) noexcept override;
    std::int64_t write_at(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
    bool waits_for_disk(std::uint64_t offset, std::size_t length) noexcept override;
    int synchronise() noexcept override;
    std::int64_t list(std::span<std::byte> into) noexcept;

    [[nodiscard]] const std::shared_ptr<Inode>& inode() const noexcept { return inode_; }
    [[nodiscard]] bool readable() const noexcept;
    [[nodiscard]] bool writable() const noexcept;

private:
    FileSystem& files_;
    std::shared_ptr<Inode> inode_;
    std::uint64_t flags_;
    std::uint64_t position_ = 0;
};

}  // namespace ferrule::inline v0::sim
