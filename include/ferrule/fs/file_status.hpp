#pragma once

#include <ferrule/version.hpp>

#include <chrono>
#include <cstdint>

namespace ferrule::inline v0 {

/// What a name in a filesystem stands for.
enum class FileType : std::uint8_t {
    unknown,  ///< not told, or none of these
    regular,
    directory,
    symbolic_link,
    block_device,
    character_device,
    fifo,
    socket,
};

/// What statx(2) tells of a file.
struct FileStatus {
    /// Wall-clock time with nanoseconds, as filesystems keep it.
    using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

    FileType type = FileType::unknown;
    std::uint32_t permissions = 0;  ///< the mode's permission bits, set-id and sticky included
    std::uint64_t size = 0;         ///< bytes
    std::uint64_t blocks = 0;       ///< of 512 bytes, that it takes up
    std::uint64_t inode = 0;        ///< its number within the device
    std::uint64_t device = 0;       ///< major number in the upper 32 bits, minor in the lower
    std::uint32_t links = 0;        ///< names that it has
    std::uint32_t user = 0;         ///< owner
    std::uint32_t group = 0;        ///< owning group
    std::uint32_t block_bytes = 0;  ///< what reads and writes are best a multiple of
    Time modified{};                ///< when its bytes were last changed
    Time changed{};                 ///< when its bytes or what is told here were last changed

    /// Whether it is a regular file: what can be served.
    [[nodiscard]] bool regular() const noexcept { return type == FileType::regular; }
    /// Whether it is a directory.
    [[nodiscard]] bool directory() const noexcept { return type == FileType::directory; }
};

}  // namespace ferrule::inline v0
